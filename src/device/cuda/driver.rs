//! The CUDA driver: the part of its interface that the device uses, made safe. The device's `unsafe` is here, where the
//! functions are declared (`sys.rs`), and that for cuBLAS in `cublas.rs`.
//!
//! Everything goes to one stream, in order.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::codes::{Advice, Code, Left, Told};
use super::sys::{
    self, CUdevice_attribute as Attribute, CUfunction_attribute as FunctionAttribute, CUstreamCaptureMode,
};
use crate::device::Calls;
use crate::error::{Error, Result};

/// The oldest driver, as drivers count: CUDA 11.4, which is 470.
const OLDEST_DRIVER: i32 = 11_040;

/// A GPU with a context and a stream of our own. What ends one context leaves those of other engines as they are.
pub struct Gpu {
    context: sys::CUcontext,
    stream: sys::CUstream,
    info: Info,
    waiting: Waiting,
    /// What ended the context, once something has.
    lost: OnceLock<Lost>,
    /// What was queued may never end: whatever waits for it, as giving memory back does, would wait for ever.
    hangs: AtomicBool,
    queued: Waits,
    made: Made,
}

struct Lost {
    reason: String,
    advice: Advice,
}

/// How the host waits for the GPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waiting {
    /// Asleep until the GPU calls; else as the driver chooses.
    pub asleep: bool,
    /// For so long at most: the context is then lost.
    pub limit: Option<Duration>,
}

/// CU_CTX_SCHED_AUTO and CU_CTX_SCHED_BLOCKING_SYNC, CU_STREAM_NON_BLOCKING, CU_EVENT_DEFAULT.
const SCHED_AUTO: u32 = 0;
const SCHED_BLOCKING_SYNC: u32 = 4;
const STREAM_NON_BLOCKING: u32 = 1;
const EVENT_DEFAULT: u32 = 0;

/// Who waits with a limit asks again and again, as the driver itself does; from this time on, or where the core shall be free,
/// after a nap each.
const EAGER: Duration = Duration::from_millis(20);
const NAP: Duration = Duration::from_micros(100);

/// How much of what was queued has been waited for: everything queued takes a ticket, a wait ends all tickets taken before it.
#[derive(Default)]
struct Waits {
    taken: AtomicU64,
    ended: AtomicU64,
}

/// [`Calls`] as they are counted.
#[derive(Default)]
struct Made {
    allocations: AtomicU64,
    copies_in: AtomicU64,
    copies_out: AtomicU64,
    launches: AtomicU64,
    graph_launches: AtomicU64,
    synchronisations: AtomicU64,
}

fn one_more(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What a GPU is.
#[derive(Clone, Debug)]
pub struct Info {
    pub ordinal: usize,
    pub name: String,
    /// Compute capability: (8, 9) is sm_89.
    pub capability: (u32, u32),
    pub multiprocessors: u32,
    /// Bytes of shared memory that one block may ask for.
    pub shared_per_block: usize,
    pub memory: usize,
    /// GPU and CPU share their memory (Jetson).
    pub unified: bool,
    /// 13000 is CUDA 13.0: the newest that the driver knows.
    pub driver: u32,
    /// Multiprocessors' clock, and that of the memory with its bus: what peaks follow from. Each, and the cache, is 0 where the
    /// driver does not tell.
    pub clock_khz: u32,
    pub memory_clock_khz: u32,
    pub memory_bus_bits: u32,
    pub l2_bytes: usize,
    /// The virtual GPU of this project, which computes on the CPU.
    pub is_virtual: bool,
}

// SAFETY: contexts, streams and modules are handles of a driver that any thread may use; the context is made current
// on the calling thread before each use (`enter`).
unsafe impl Send for Gpu {}
// SAFETY: as above; the driver locks its own state.
unsafe impl Sync for Gpu {}

/// What the driver writes to a place.
pub(super) fn written<T>(mut place: T, ask: impl FnOnce(&mut T) -> Told) -> std::result::Result<T, Code> {
    ask(&mut place)?;
    Ok(place)
}

/// The driver's text for a code: none for one that it does not know.
fn text(code: Code, ask: unsafe fn(u32, *mut *const c_char) -> Told) -> Option<String> {
    // SAFETY: a valid place for a pointer.
    let text = written(ptr::null(), |text| unsafe { ask(code.0, text) }).ok().filter(|text| !text.is_null())?;
    // SAFETY: the driver answers with a text of its own that stays, and ends in NUL.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// Words for a driver's error.
fn explain(what: &str, code: Code) -> String {
    let (name, meaning) = (text(code, sys::cuGetErrorName), text(code, sys::cuGetErrorString));
    let known = match (name, meaning) {
        (Some(name), Some(meaning)) => format!("({name}): {meaning}"),
        (Some(name), None) => format!("({name})"),
        _ => "(one that this driver has no name for)".to_owned(),
    };
    let hint = code.hint().map_or_else(String::new, |hint| format!("; {hint}"));
    format!("{what}: CUDA error {} {known}{hint}", code.0)
}

/// Before there is a context.
trait Explain<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Explain<T> for std::result::Result<T, Code> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|code| code.error(explain(&what(), code)))
    }
}

/// Whether the driver is installed.
pub fn is_present() -> bool {
    // SAFETY: only looks for the library.
    unsafe { sys::is_culib_present() }
}

/// The file that the driver was loaded from, where the system tells.
pub fn file() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let named = |path: &&str| path.rsplit('/').next().is_some_and(|name| name.starts_with("libcuda.so"));
    // "7f…-7f… r--p 00000000 08:01 1234   /usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06"
    maps.lines().filter_map(|line| Some(&line[line.find('/')?..])).find(named).map(str::to_owned)
}

/// Starts the driver, however often it is called; the number of GPUs.
///
/// # Errors
/// No driver, one that is too old, or one that finds no GPU.
pub fn count() -> Result<usize> {
    start().map_err(|error| unusable(&error.to_string()))
}

/// What a whole machine, or a build, lacks.
pub fn unusable(reason: &str) -> Error {
    Error::Device(format!("no CUDA device can be used: {reason}"))
}

/// The process that started the driver.
static STARTED_IN: OnceLock<u32> = OnceLock::new();

fn start() -> Result<usize> {
    if !is_present() {
        return Err(Error::Device("there is no libcuda on this machine (install NVIDIA's driver)".to_owned()));
    }
    let this = std::process::id();
    // A child has the driver's memory, but nothing of what stands behind it.
    if *STARTED_IN.get_or_init(|| this) != this {
        let what = "the process that this one was forked from has begun to use CUDA, which a child cannot go on with: start \
                    processes by other means (Python: multiprocessing's start method spawn)";
        return Err(Error::Device(what.to_owned()));
    }
    if let Some(name) = sys::missing() {
        let found = format!("the driver ({}) has no {name}", file_or_unknown());
        return Err(Error::Device(format!("{found}, and one for CUDA 11.4 (470) or newer is needed")));
    }
    // SAFETY: a valid place for an int; this may be asked before the driver is started.
    let version = written(0, |version| unsafe { sys::cuDriverGetVersion(version) })
        .map_err(|code| unfit("asking for the driver's version", code))?;
    if version < OLDEST_DRIVER {
        let found = format!("the driver is for CUDA {}.{}", version / 1000, version % 1000 / 10);
        return Err(Error::Device(format!("{found}, and one for CUDA 11.4 (470) or newer is needed")));
    }
    // SAFETY: it takes no pointer, and may be called again.
    unsafe { sys::cuInit(0) }.map_err(|code| unfit("starting the CUDA driver", code))?;
    // SAFETY: a valid place for an int.
    let count = written(0, |count| unsafe { sys::cuDeviceGetCount(count) });
    usize::try_from(count.during(|| "counting the CUDA devices".to_owned())?)
        .ok()
        .filter(|count| *count > 0)
        .ok_or(Error::Device("the CUDA driver finds no device".to_owned()))
}

fn file_or_unknown() -> String {
    file().unwrap_or_else(|| "a file that is not known".to_owned())
}

/// A driver that does not even start: which file it is tells the most.
fn unfit(what: &str, code: Code) -> Error {
    let advice = if code == Code::STUB_LIBRARY {
        ", the toolkit's stub, which is for linking alone: take its folder out of LD_LIBRARY_PATH"
    } else {
        ""
    };
    code.error(format!("{} (libcuda was found as {}{advice})", explain(what, code), file_or_unknown()))
}

fn device(ordinal: usize) -> Result<sys::CUdevice> {
    let count = count()?;
    if ordinal >= count {
        let s = if count == 1 { "" } else { "s" };
        return Err(Error::Device(format!("this machine has {count} CUDA device{s}, from 0: there is no {ordinal}")));
    }
    // SAFETY: a valid place for a device.
    written(0, |device| unsafe { sys::cuDeviceGet(device, ordinal as i32) })
        .during(|| format!("looking for CUDA device {ordinal}"))
}

/// The GPU of this number, as it describes itself.
///
/// # Errors
/// As [`count`]; no such GPU.
pub fn info(ordinal: usize) -> Result<Info> {
    Info::of(ordinal, device(ordinal)?)
}

/// While it lives, the context is current on this thread; then the one before is again.
pub struct Current<'a> {
    _gpu: &'a Gpu,
    /// Of this thread alone.
    _thread: PhantomData<*const ()>,
}

impl Drop for Current<'_> {
    fn drop(&mut self) {
        let mut popped = ptr::null_mut();
        // SAFETY: `enter` pushed it on this thread. A context that is lost cannot be popped with success; nobody minds.
        let _ = unsafe { sys::cuCtxPopCurrent_v2(&mut popped) };
    }
}

impl Gpu {
    /// The GPU of this number, ready for work.
    ///
    /// # Errors
    /// As [`info`]; one that refuses a context.
    pub fn open(ordinal: usize, waiting: Waiting) -> Result<Arc<Gpu>> {
        let device = device(ordinal)?;
        let info = Info::of(ordinal, device)?;
        let flags = if waiting.asleep { SCHED_BLOCKING_SYNC } else { SCHED_AUTO };
        // SAFETY: a valid device and a valid place; destroyed in drop.
        let context = written(ptr::null_mut(), |context| unsafe { sys::cuCtxCreate_v2(context, flags, device) })
            .during(|| format!("making a context on CUDA device {ordinal}, {}", info.name))?;
        let mut gpu = Gpu {
            context,
            stream: ptr::null_mut(),
            info,
            waiting,
            lost: OnceLock::new(),
            hangs: AtomicBool::new(false),
            queued: Waits::default(),
            made: Made::default(),
        };
        // The new context is current on this thread: so that `Current` takes it away.
        let current = Current { _gpu: &gpu, _thread: PhantomData };
        // SAFETY: a valid place; destroyed in drop.
        let stream = written(ptr::null_mut(), |stream| unsafe { sys::cuStreamCreate(stream, STREAM_NON_BLOCKING) });
        drop(current);
        gpu.stream = stream.during(|| "making a CUDA stream".to_owned())?;
        Ok(Arc::new(gpu))
    }

    pub fn info(&self) -> &Info {
        &self.info
    }

    /// What the driver was asked to do so far.
    pub fn calls(&self) -> Calls {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Calls {
            allocations: read(&self.made.allocations),
            copies_in: read(&self.made.copies_in),
            copies_out: read(&self.made.copies_out),
            launches: read(&self.made.launches),
            graph_launches: read(&self.made.graph_launches),
            graph_nodes: 0,
            synchronisations: read(&self.made.synchronisations),
        }
    }

    /// The stream as other libraries of NVIDIA's take it.
    pub fn raw_stream(&self) -> *mut c_void {
        self.stream.cast()
    }

    /// Makes the context current on this thread. All other calls need it.
    ///
    /// # Errors
    /// A context that an earlier error ended.
    pub fn enter(&self) -> Result<Current<'_>> {
        if let Some(Lost { reason, advice }) = self.lost.get() {
            let Info { ordinal, name, .. } = &self.info;
            let what =
                format!("this engine was lost to an earlier error on cuda:{ordinal}, {name}: {}", advice.words());
            return Err(Error::Lost(format!("{what}; the error was: {reason}")));
        }
        self.push()
    }

    fn push(&self) -> Result<Current<'_>> {
        // SAFETY: the context lives as long as self.
        let pushed = unsafe { sys::cuCtxPushCurrent_v2(self.context) };
        self.told(pushed, || "making the CUDA context current".to_owned())?;
        Ok(Current { _gpu: self, _thread: PhantomData })
    }

    /// The result, or its error in words; one that ends the context is what every later call answers with.
    fn told<T>(&self, result: std::result::Result<T, Code>, what: impl FnOnce() -> String) -> Result<T> {
        result.map_err(|code| self.failed(code, &what()))
    }

    /// The error of a call that answered with this code.
    pub fn failed(&self, code: Code, what: &str) -> Error {
        let reason = explain(what, code);
        match self.left(code) {
            Left::Nothing(advice) => {
                let report = last_fault().filter(|report| !report.is_empty());
                self.lose(report.map_or(reason.clone(), |report| format!("{reason}: {report}")), advice)
            }
            Left::Context | Left::Unknown => code.error(reason),
        }
    }

    /// What the context is after this code: where the code does not say, the context does.
    fn left(&self, code: Code) -> Left {
        if code.left() != Left::Unknown {
            return code.left();
        }
        // SAFETY: our own stream; a question that waits for nothing. A capture that it spoils has failed already.
        let answer = unsafe { sys::cuStreamQuery(self.stream) };
        if answer.is_err_and(Code::tells_of_an_end) { Left::Nothing(Advice::Process) } else { Left::Context }
    }

    /// The context has ended.
    fn lose(&self, reason: String, advice: Advice) -> Error {
        let told = format!("{reason}; this engine is lost: {}", advice.words());
        // The first is the cause of all others.
        let _ = self.lost.set(Lost { reason, advice });
        Error::Lost(told)
    }

    /// Uninitialised device memory.
    ///
    /// # Errors
    /// Out of memory: says how much was asked for, and how much is free.
    pub fn allocate(self: &Arc<Self>, bytes: usize, what: &str) -> Result<Memory> {
        let _current = self.enter()?;
        one_more(&self.made.allocations);
        // SAFETY: a valid place; freed in drop of Memory.
        let address = written(0, |address| unsafe { sys::cuMemAlloc_v2(address, bytes.max(1)) });
        let address = self.told(address, || {
            let (need, free) = ((bytes as u64).div_ceil(1 << 20), self.free().div_ceil(1 << 20));
            format!("{what} needs {need} MiB on {}, which has {free} MiB free", self.info.name)
        })?;
        Ok(Memory { gpu: Arc::clone(self), address, bytes })
    }

    /// Bytes of its memory that are free; 0 where the driver does not say.
    pub fn free(&self) -> u64 {
        let Ok(_current) = self.enter() else { return 0 };
        let mut all = 0;
        // SAFETY: two valid places.
        written(0, |free| unsafe { sys::cuMemGetInfo_v2(free, &mut all) }).map_or(0, |free| free as u64)
    }

    /// Page-locked memory of the host; `None` where it is not to be had.
    pub fn pinned(self: &Arc<Self>, bytes: usize) -> Result<Option<Pinned>> {
        let _current = self.enter()?;
        one_more(&self.made.allocations);
        // SAFETY: a valid place; freed in drop of Pinned.
        let start = written(ptr::null_mut(), |start| unsafe { sys::cuMemHostAlloc(start, bytes.max(1), 0) });
        let Ok(start) = start else { return Ok(None) };
        let start = start.cast::<u8>();
        // SAFETY: so many bytes were allocated.
        unsafe { start.write_bytes(0, bytes.max(1)) };
        Ok(Some(Pinned { gpu: Arc::clone(self), start, bytes }))
    }

    /// Loads an image: a cubin, or PTX, with a NUL at its end.
    pub fn module(self: &Arc<Self>, image: Image, bytes: &[u8]) -> std::result::Result<Arc<Module>, Code> {
        assert_eq!(bytes.last(), Some(&0), "images end with NUL");
        let image_start = bytes.as_ptr().cast();
        // SAFETY: the driver reads an ELF file's own length, or up to the NUL.
        let module = written(ptr::null_mut(), |module| unsafe { sys::cuModuleLoadData(module, image_start) })?;
        Ok(Arc::new(Module { gpu: Arc::clone(self), module, image }))
    }

    /// Queues a launch. The kernel's one parameter is a struct: `params` are its bytes.
    pub fn launch(&self, function: &Function, grid: [u32; 3], params: &[u8]) -> Result<()> {
        assert_eq!(params.len(), function.spec.params, "{} takes a struct of another size", function.spec.name);
        one_more(&self.made.launches);
        self.ticket();
        let (x, y, z) = (grid[0], grid[1], grid[2]);
        let mut pointers = [params.as_ptr().cast_mut().cast::<c_void>()];
        let (function, Spec { name, threads, dynamic_shared, .. }) = (function.function, function.spec);
        // SAFETY: the driver copies the parameter, whose size is the kernel's, before it returns. What the kernel does
        // with the addresses inside is the business of the operation that computed them.
        let launched = unsafe {
            let (params, extra) = (pointers.as_mut_ptr(), ptr::null_mut());
            sys::cuLaunchKernel(function, x, y, z, threads, 1, 1, dynamic_shared, self.stream, params, extra)
        };
        self.told(launched, || format!("launching {name} on a grid of {x}×{y}×{z}"))
    }

    /// From here until its end what is queued is not done, but recorded. It concerns this thread's calls alone.
    pub fn capture(&self) -> Result<Capture<'_>> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: our own stream.
        let begun = unsafe { sys::cuStreamBeginCapture_v2(self.stream, mode) };
        self.told(begun, || "capturing a pass".to_owned())?;
        Ok(Capture { gpu: self, has_ended: false })
    }

    /// Host → device, behind everything queued; waits.
    pub fn upload(&self, to: &Memory, at: usize, bytes: &[u8]) -> Result<()> {
        to.check(at, bytes.len());
        self.settle()?;
        one_more(&self.made.copies_in);
        let (to, from) = (to.address + at as u64, bytes.as_ptr().cast());
        // SAFETY: in bounds; the copy has ended before the borrow does.
        let copied = unsafe { sys::cuMemcpyHtoDAsync_v2(to, from, bytes.len(), self.stream) };
        self.told(copied, || format!("copying {} bytes to the GPU", bytes.len()))?;
        self.synchronize_without_limit()
    }

    /// Device → host, behind everything queued; waits.
    pub fn download(&self, from: &Memory, at: usize, bytes: &mut [u8]) -> Result<()> {
        from.check(at, bytes.len());
        self.settle()?;
        one_more(&self.made.copies_out);
        let (to, from) = (bytes.as_mut_ptr().cast(), from.address + at as u64);
        // SAFETY: in bounds; the copy has ended before the borrow does.
        let copied = unsafe { sys::cuMemcpyDtoHAsync_v2(to, from, bytes.len(), self.stream) };
        self.told(copied, || format!("copying {} bytes from the GPU", bytes.len()))?;
        self.synchronize_without_limit()
    }

    /// Before a copy of memory that is only borrowed, and so cannot be left to the GPU when the time is over: what may hang is
    /// waited for first.
    fn settle(&self) -> Result<()> {
        if self.waiting.limit.is_some() && !self.is_idle() { self.synchronize() } else { Ok(()) }
    }

    /// Fills bytes, in the order of the stream.
    pub fn fill(&self, memory: &Memory, at: usize, value: u8, count: usize) -> Result<()> {
        memory.check(at, count);
        // SAFETY: in bounds.
        let filled = unsafe { sys::cuMemsetD8Async(memory.address + at as u64, value, count, self.stream) };
        self.ticket();
        self.told(filled, || format!("filling {count} bytes on the GPU"))
    }

    /// Waits for everything queued.
    ///
    /// # Errors
    /// Whatever went wrong in a kernel since the last wait; more time than the limit.
    pub fn synchronize(&self) -> Result<()> {
        match self.waiting.limit {
            None => self.synchronize_without_limit(),
            Some(limit) => self.wait(|| self.ask_until(limit)),
        }
    }

    fn synchronize_without_limit(&self) -> Result<()> {
        // SAFETY: our own stream.
        self.wait(|| self.told(unsafe { sys::cuStreamSynchronize(self.stream) }, || "waiting for the GPU".to_owned()))
    }

    fn wait(&self, waited: impl FnOnce() -> Result<()>) -> Result<()> {
        one_more(&self.made.synchronisations);
        let before = self.queued.taken.load(Ordering::Acquire);
        waited()?;
        self.queued.ended.fetch_max(before, Ordering::AcqRel);
        Ok(())
    }

    fn ask_until(&self, limit: Duration) -> Result<()> {
        let begin = Instant::now();
        loop {
            // Before the question: that this thread was kept from asking is not the GPU's fault.
            let waited = begin.elapsed();
            // SAFETY: our own stream.
            let answer = unsafe { sys::cuStreamQuery(self.stream) };
            if answer != Err(Code::NOT_READY) {
                return self.told(answer, || "waiting for the GPU".to_owned());
            }
            if waited >= limit || self.hangs() {
                self.hangs.store(true, Ordering::Release);
                let reason = format!("the GPU has not finished a pass in {} s", limit.as_secs_f64());
                return Err(self.lose(reason, Advice::Leave));
            }
            if self.waiting.asleep || waited >= EAGER {
                thread::sleep(NAP.min(limit - waited));
            } else {
                thread::yield_now();
            }
        }
    }

    fn hangs(&self) -> bool {
        self.hangs.load(Ordering::Acquire)
    }

    /// Something is queued.
    fn ticket(&self) {
        self.queued.taken.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether everything queued has been waited for.
    fn is_idle(&self) -> bool {
        self.queued.taken.load(Ordering::Acquire) == self.queued.ended.load(Ordering::Acquire)
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // What the GPU may still be at cannot be taken from it: the context is left to the process's end.
        if self.hangs() {
            return;
        }
        // Modules, memory and events hold the Arc, so they are gone.
        if let (Ok(_current), false) = (self.push(), self.stream.is_null()) {
            // SAFETY: made by us, destroyed once.
            let _ = unsafe { sys::cuStreamDestroy_v2(self.stream) };
        }
        // SAFETY: made by us, destroyed once; it need not be current.
        let _ = unsafe { sys::cuCtxDestroy_v2(self.context) };
    }
}

/// Of a device's name.
const LONGEST_NAME: usize = 256;

impl Info {
    fn of(ordinal: usize, device: sys::CUdevice) -> Result<Info> {
        let during = || format!("asking CUDA device {ordinal} what it is");
        // SAFETY: a valid device and a valid place.
        let ask = |attribute| written(0, |value| unsafe { sys::cuDeviceGetAttribute(value, attribute, device) });
        let get = |attribute| ask(attribute).during(during);
        // Only measurements need it: a GPU that does not tell works as well.
        let optional = |attribute| ask(attribute).unwrap_or(0);
        // SAFETY: a valid device and a valid place.
        let memory = written(0, |bytes| unsafe { sys::cuDeviceTotalMem_v2(bytes, device) }).during(during)?;
        // SAFETY: a valid place for an int.
        let driver = written(0, |version| unsafe { sys::cuDriverGetVersion(version) }).during(during)?;
        let name = written([0u8; LONGEST_NAME], |name| {
            // SAFETY: a valid device and so many bytes of room.
            unsafe { sys::cuDeviceGetName(name.as_mut_ptr().cast(), LONGEST_NAME as i32, device) }
        });
        let name = name.during(during)?;
        let name = CStr::from_bytes_until_nul(&name).map_or_else(|_| "a GPU".into(), CStr::to_string_lossy);
        Ok(Info {
            ordinal,
            name: name.into_owned(),
            capability: (
                get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? as u32,
                get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)? as u32,
            ),
            multiprocessors: get(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32,
            shared_per_block: get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as usize,
            memory,
            unified: get(Attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED)? != 0,
            driver: driver as u32,
            clock_khz: optional(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE) as u32,
            memory_clock_khz: optional(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE) as u32,
            memory_bus_bits: optional(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH) as u32,
            l2_bytes: optional(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE) as usize,
            is_virtual: virtual_symbol(b"vgpu_last_counts").is_some(),
        })
    }
}

type TextFunction = unsafe extern "C" fn(*mut c_char, usize) -> u32;

/// A function that the virtual GPU has beyond CUDA's.
fn virtual_symbol(name: &[u8]) -> Option<TextFunction> {
    // SAFETY: the library is loaded already (the driver was started); the symbol's type is what the virtual GPU says.
    unsafe { sys::culib().get::<TextFunction>(name).ok().map(|symbol| *symbol) }
}

fn virtual_text(name: &[u8]) -> Option<String> {
    let function = virtual_symbol(name)?;
    let mut text = vec![0u8; 16 << 10];
    // SAFETY: the function writes at most `size` bytes, the last a NUL.
    let code = unsafe { function(text.as_mut_ptr().cast(), text.len()) };
    let end = text.iter().position(|byte| *byte == 0).filter(|_| code == 0)?;
    String::from_utf8(text[..end].to_vec()).ok()
}

/// What the last launch did, as the virtual GPU counts it (JSON); `None` on a real GPU.
pub fn last_counts() -> Option<String> {
    virtual_text(b"vgpu_last_counts")
}

/// What the virtual GPU found wrong in a kernel of this thread's context; empty while all is well, `None` on a real GPU.
pub fn last_fault() -> Option<String> {
    virtual_text(b"vgpu_last_fault")
}

/// Device memory.
pub struct Memory {
    gpu: Arc<Gpu>,
    address: u64,
    bytes: usize,
}

impl Memory {
    pub fn address(&self) -> u64 {
        self.address
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn check(&self, at: usize, count: usize) {
        assert!(
            at <= self.bytes && count <= self.bytes - at,
            "{count} bytes at {at} of an allocation of {}",
            self.bytes
        );
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Of a lost context nothing is left to free.
        let Ok(_current) = self.gpu.enter() else { return };
        // A kernel of the stream may still use it.
        let _ = self.gpu.synchronize();
        // SAFETY: allocated by us, freed once.
        let _ = unsafe { sys::cuMemFree_v2(self.address) };
    }
}

/// Page-locked memory of the host. It is looked at only while nothing is queued, so no copy is ever in flight meanwhile.
pub struct Pinned {
    gpu: Arc<Gpu>,
    start: *mut u8,
    bytes: usize,
}

// SAFETY: the memory is its own, as a Vec's is.
unsafe impl Send for Pinned {}

impl Pinned {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its bytes, once everything queued has ended.
    pub fn slice(&self) -> Result<&[u8]> {
        self.wait()?;
        // SAFETY: so many bytes, initialised when they were allocated; no copy is in flight, and only this object's owner can
        // queue another.
        Ok(unsafe { std::slice::from_raw_parts(self.start, self.bytes) })
    }

    /// As [`Pinned::slice`].
    pub fn slice_mut(&mut self) -> Result<&mut [u8]> {
        self.wait()?;
        // SAFETY: as for `slice`.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) })
    }

    fn wait(&self) -> Result<()> {
        if self.gpu.is_idle() { Ok(()) } else { self.gpu.synchronize() }
    }

    /// Host → device: `count` bytes from `place` on, queued.
    pub fn send(&mut self, place: usize, to: &Memory, at: usize, count: usize) -> Result<()> {
        self.check(place, count);
        to.check(at, count);
        one_more(&self.gpu.made.copies_in);
        self.gpu.ticket();
        let to = to.address + at as u64;
        // SAFETY: in bounds of an allocation that is looked at only when the copy has ended, and not freed before (drop waits).
        let copied = unsafe { sys::cuMemcpyHtoDAsync_v2(to, self.start.add(place).cast(), count, self.gpu.stream) };
        self.gpu.told(copied, || format!("copying {count} bytes to the GPU"))
    }

    /// Device → host: `count` bytes to `place` on, queued.
    pub fn receive(&mut self, place: usize, from: &Memory, at: usize, count: usize) -> Result<()> {
        self.check(place, count);
        from.check(at, count);
        one_more(&self.gpu.made.copies_out);
        self.gpu.ticket();
        let from = from.address + at as u64;
        // SAFETY: as for `send`.
        let copied = unsafe { sys::cuMemcpyDtoHAsync_v2(self.start.add(place).cast(), from, count, self.gpu.stream) };
        self.gpu.told(copied, || format!("copying {count} bytes from the GPU"))
    }

    fn check(&self, place: usize, count: usize) {
        assert!(
            place <= self.bytes && count <= self.bytes - place,
            "{count} bytes at {place} of {} page-locked ones",
            self.bytes
        );
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A copy may be in flight for ever: the memory is left to it.
        if self.gpu.hangs() {
            return;
        }
        let Ok(_current) = self.gpu.push() else { return };
        if self.gpu.synchronize().is_err() && self.gpu.hangs() {
            return;
        }
        // SAFETY: allocated by us, freed once, and no copy is in flight.
        let _ = unsafe { sys::cuMemFreeHost(self.start.cast()) };
    }
}

/// A point of the stream, and when it was reached.
pub struct Event {
    event: sys::CUevent,
    gpu: Arc<Gpu>,
}

// SAFETY: as for modules.
unsafe impl Send for Event {}

impl Event {
    pub fn new(gpu: &Arc<Gpu>) -> Result<Event> {
        let _current = gpu.enter()?;
        // SAFETY: a valid place; destroyed in drop.
        let event = written(ptr::null_mut(), |event| unsafe { sys::cuEventCreate(event, EVENT_DEFAULT) });
        Ok(Event { event: gpu.told(event, || "making a CUDA event".to_owned())?, gpu: Arc::clone(gpu) })
    }

    /// Here, behind everything queued.
    pub fn record(&self) -> Result<()> {
        // SAFETY: event and stream are ours and of one context.
        let recorded = unsafe { sys::cuEventRecord(self.event, self.gpu.stream) };
        self.gpu.told(recorded, || "recording a CUDA event".to_owned())
    }

    /// Seconds from an earlier event; both must have been reached.
    pub fn seconds_since(&self, earlier: &Event) -> Result<f64> {
        // SAFETY: two events of one context, and a valid place.
        let elapsed = written(0.0f32, |elapsed| unsafe { sys::cuEventElapsedTime(elapsed, earlier.event, self.event) });
        let milliseconds = self.gpu.told(elapsed, || "reading the time between CUDA events".to_owned())?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let Ok(_current) = self.gpu.enter() else { return };
        // SAFETY: made by us, destroyed once.
        let _ = unsafe { sys::cuEventDestroy_v2(self.event) };
    }
}

/// A capture that has begun; dropping it ends it, so that the stream never stays capturing.
pub struct Capture<'a> {
    gpu: &'a Gpu,
    has_ended: bool,
}

/// What was captured.
pub struct Captured(sys::CUgraph);

/// A graph that can be launched.
pub struct Executable {
    gpu: Arc<Gpu>,
    exec: sys::CUgraphExec,
}

// SAFETY: as for modules.
unsafe impl Send for Executable {}

fn end_capture(gpu: &Gpu) -> std::result::Result<sys::CUgraph, Code> {
    // SAFETY: our own stream, which is capturing, and a valid place.
    written(ptr::null_mut(), |graph| unsafe { sys::cuStreamEndCapture(gpu.stream, graph) })
}

impl Capture<'_> {
    /// # Errors
    /// Something was queued that cannot be captured.
    pub fn end(mut self) -> Result<Captured> {
        self.has_ended = true;
        self.gpu.told(end_capture(self.gpu), || "ending the capture of a pass".to_owned()).map(Captured)
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            // Whoever left the capture has the reason. A spoiled capture may answer with null.
            drop(end_capture(self.gpu).ok().filter(|graph| !graph.is_null()).map(Captured));
        }
    }
}

impl Captured {
    pub fn nodes(&self, gpu: &Gpu) -> Result<usize> {
        // SAFETY: the graph is alive; without a list only the number is written.
        let counted = written(0, |nodes| unsafe { sys::cuGraphGetNodes(self.0, ptr::null_mut(), nodes) });
        gpu.told(counted, || "counting the nodes of a graph".to_owned())
    }

    /// Made ready, and brought to the GPU.
    pub fn executable(&self, gpu: &Arc<Gpu>) -> Result<Executable> {
        // SAFETY: the graph is alive; a valid place, destroyed in drop.
        let exec = written(ptr::null_mut(), |exec| unsafe { sys::cuGraphInstantiateWithFlags(exec, self.0, 0) });
        let exec = gpu.told(exec, || "making a graph ready".to_owned())?;
        let executable = Executable { gpu: Arc::clone(gpu), exec };
        // SAFETY: graph and stream are ours.
        let uploaded = unsafe { sys::cuGraphUpload(exec, gpu.stream) };
        gpu.told(uploaded, || "uploading a graph".to_owned())?;
        Ok(executable)
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        // SAFETY: made by a capture, destroyed once; what was instantiated of it lives on.
        let _ = unsafe { sys::cuGraphDestroy(self.0) };
    }
}

impl Executable {
    /// Queues all of it. The addresses that it was captured with must still be what they were.
    pub fn launch(&self) -> Result<()> {
        one_more(&self.gpu.made.graph_launches);
        self.gpu.ticket();
        // SAFETY: graph and stream are ours; of its addresses as for `launch` of a kernel.
        let launched = unsafe { sys::cuGraphLaunch(self.exec, self.gpu.stream) };
        self.gpu.told(launched, || "launching a graph".to_owned())
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        let Ok(_current) = self.gpu.enter() else { return };
        // SAFETY: made by us, destroyed once; the driver ends a launch in flight first.
        let _ = unsafe { sys::cuGraphExecDestroy(self.exec) };
    }
}

/// A loaded image.
pub struct Module {
    gpu: Arc<Gpu>,
    module: sys::CUmodule,
    image: Image,
}

/// What a kernel's code was loaded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// Machine code for this architecture (90 is sm_90).
    Cubin(u32),
    /// Compiled by the driver.
    Ptx,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Image::Cubin(arch) => write!(f, "cubin sm_{arch}"),
            Image::Ptx => f.write_str("PTX"),
        }
    }
}

// SAFETY: a handle that any thread may use once the context is current.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

/// What the host knows of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub name: &'static str,
    /// Threads of a block: the kernel's launch bound.
    pub threads: u32,
    /// Bytes of its parameter, a struct.
    pub params: usize,
    pub dynamic_shared: u32,
}

/// A kernel, ready to launch.
#[derive(Clone)]
pub struct Function {
    function: sys::CUfunction,
    spec: Spec,
    /// Of a thread, and bytes of a block's shared memory that its code has of itself: as the driver says.
    registers: u32,
    static_shared: u32,
    /// Its code.
    module: Arc<Module>,
}

// SAFETY: as for modules.
unsafe impl Send for Function {}
// SAFETY: as for modules.
unsafe impl Sync for Function {}

impl Module {
    /// # Errors
    /// The image has no such kernel, or the GPU less shared memory.
    pub fn function(self: &Arc<Self>, spec: Spec) -> Result<Function> {
        let name = CString::new(spec.name).expect("kernels' names have no NUL");
        // SAFETY: a loaded module, a valid place, and a text that ends in NUL.
        let found =
            written(ptr::null_mut(), |found| unsafe { sys::cuModuleGetFunction(found, self.module, name.as_ptr()) });
        let function = self.gpu.told(found, || format!("looking for the kernel {}", spec.name))?;
        let set = |attribute, value: u32| {
            // SAFETY: a function of a loaded module.
            unsafe { sys::cuFuncSetAttribute(function, attribute, value as i32) }
        };
        if spec.dynamic_shared > 0 {
            let done = set(FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, spec.dynamic_shared);
            self.gpu
                .told(done, || format!("{} needs {} bytes of shared memory a block", spec.name, spec.dynamic_shared))?;
        }
        // The same division of first-level cache and shared memory for every kernel: a multiprocessor changes it only when
        // nothing runs there, so that kernels of different wishes could not overlap.
        let done = set(FunctionAttribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 100);
        self.gpu.told(done, || format!("dividing the first-level cache for {}", spec.name))?;
        let get = |attribute| {
            // SAFETY: as above, and a valid place.
            let found = written(0, |value| unsafe { sys::cuFuncGetAttribute(value, attribute, function) });
            self.gpu.told(found, || format!("asking what {} needs", spec.name)).map(|value| value as u32)
        };
        Ok(Function {
            function,
            spec,
            registers: get(FunctionAttribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            static_shared: get(FunctionAttribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?,
            module: Arc::clone(self),
        })
    }

    pub fn image(&self) -> Image {
        self.image
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let Ok(_current) = self.gpu.enter() else { return };
        // SAFETY: functions hold the Arc, so nobody uses it.
        let _ = unsafe { sys::cuModuleUnload(self.module) };
    }
}

impl Function {
    pub fn name(&self) -> &'static str {
        self.spec.name
    }

    pub fn spec(&self) -> Spec {
        self.spec
    }

    pub fn image(&self) -> Image {
        self.module.image
    }

    pub fn registers(&self) -> u32 {
        self.registers
    }

    pub fn static_shared(&self) -> u32 {
        self.static_shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags that the driver has for the context of a GPU waited for like that; none without a GPU.
    fn flags(waiting: Waiting) -> Option<u32> {
        let gpu = Gpu::open(0, waiting).ok()?;
        let _current = gpu.enter().unwrap();
        // SAFETY: the library is loaded, and the function's type is that of NVIDIA's header.
        let ask = unsafe { *sys::culib().get::<unsafe extern "C" fn(*mut u32) -> u32>(b"cuCtxGetFlags\0").unwrap() };
        // SAFETY: a valid place, and a current context.
        Some(written(0, |flags| super::super::codes::told(unsafe { ask(flags) })).unwrap())
    }

    #[test]
    fn a_context_is_asked_to_block_where_that_was_chosen() {
        let [as_it_likes, asleep] = [false, true].map(|asleep| flags(Waiting { asleep, limit: None }));
        let Some((as_it_likes, asleep)) = as_it_likes.zip(asleep) else {
            eprintln!("skipped: there is no GPU");
            return;
        };
        assert_eq!((as_it_likes & 7, asleep & 7), (SCHED_AUTO, SCHED_BLOCKING_SYNC));
    }

    #[test]
    fn a_code_that_the_driver_does_not_know_is_told_by_its_number() {
        if count().is_ok() {
            let told = explain("launching", Code(4711));
            assert_eq!(told, "launching: CUDA error 4711 (one that this driver has no name for)");
            let known = explain("allocating", Code(2));
            assert!(known.starts_with("allocating: CUDA error 2 (CUDA_ERROR_OUT_OF_MEMORY): "), "{known}");
        }
    }
}
