//! The CUDA driver: the part of its interface that the device uses, made safe. The device's `unsafe` is here, and that for
//! cuBLAS in `cublas.rs`.
//!
//! Everything goes to one stream, in order. Every function called exists in the driver of CUDA 11.4.

use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{
    self, CUdevice_attribute as Attribute, CUfunction_attribute as FunctionAttribute, CUgraphInstantiate_flags,
    CUresult, CUstreamCaptureMode,
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
    /// What ended the context, once something has.
    lost: OnceLock<String>,
    queued: Waits,
    made: Made,
}

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
    /// Multiprocessors' clock, and that of the memory with its bus: what peaks follow from.
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

/// Words for a driver's error.
fn explain(what: &str, error: DriverError) -> String {
    let text = |found: std::result::Result<&CStr, DriverError>| {
        found.map_or_else(|_| "no name".to_owned(), |text| text.to_string_lossy().into_owned())
    };
    let (name, meaning) = (text(error.error_name()), text(error.error_string()));
    format!("{what}: CUDA error {} ({name}): {meaning}", error.0 as u32)
}

/// Before there is a context.
trait Explain<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Explain<T> for std::result::Result<T, DriverError> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::Device(explain(&what(), error)))
    }
}

/// What to do when a context has ended. The driver's documentation says of these errors that they leave the process in an
/// inconsistent state, and that it must be started again to use CUDA.
const ANOTHER: &str = "make a new one, and start the process again where that fails (CUDA's documentation asks for it)";

/// Whether the context answers every later call with this error.
fn ends_context(error: DriverError) -> bool {
    matches!(
        error.0,
        CUresult::CUDA_ERROR_DEINITIALIZED
            | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
            | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
            | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
            | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUresult::CUDA_ERROR_ASSERT
            | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
            | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUresult::CUDA_ERROR_INVALID_PC
            | CUresult::CUDA_ERROR_LAUNCH_FAILED
            | CUresult::CUDA_ERROR_UNKNOWN
    )
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

fn start() -> Result<usize> {
    if !is_present() {
        return Err(Error::Device("there is no libcuda on this machine (install NVIDIA's driver)".to_owned()));
    }
    let mut version = 0;
    // SAFETY: a valid place for an int; this may be asked before the driver is started.
    unsafe { sys::cuDriverGetVersion(&mut version) }
        .result()
        .map_err(|error| unfit("asking for the driver's version", error))?;
    if version < OLDEST_DRIVER {
        let found = format!("the driver is for CUDA {}.{}", version / 1000, version % 1000 / 10);
        return Err(Error::Device(format!("{found}, and one for CUDA 11.4 (470) or newer is needed")));
    }
    result::init().map_err(|error| unfit("starting the CUDA driver", error))?;
    let count = result::device::get_count().during(|| "counting the CUDA devices".to_owned())?;
    usize::try_from(count)
        .ok()
        .filter(|count| *count > 0)
        .ok_or(Error::Device("the CUDA driver finds no device".to_owned()))
}

/// A driver that does not even start: which file it is tells the most.
fn unfit(what: &str, error: DriverError) -> Error {
    let file = file().unwrap_or_else(|| "a file that is not known".to_owned());
    let advice = if error.0 == CUresult::CUDA_ERROR_STUB_LIBRARY {
        ", the toolkit's stub, which is for linking alone: take its folder out of LD_LIBRARY_PATH"
    } else {
        ""
    };
    Error::Device(format!("{} (libcuda was found as {file}{advice})", explain(what, error)))
}

fn device(ordinal: usize) -> Result<sys::CUdevice> {
    let count = count()?;
    if ordinal >= count {
        let s = if count == 1 { "" } else { "s" };
        return Err(Error::Device(format!("this machine has {count} CUDA device{s}, from 0: there is no {ordinal}")));
    }
    result::device::get(ordinal as i32).during(|| format!("looking for CUDA device {ordinal}"))
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
        let mut popped = std::ptr::null_mut();
        // SAFETY: `enter` pushed it on this thread. A context that is lost cannot be popped with success; nobody minds.
        let _ = unsafe { sys::cuCtxPopCurrent_v2(&mut popped) };
    }
}

impl Gpu {
    /// The GPU of this number, ready for work.
    ///
    /// # Errors
    /// As [`info`]; one that refuses a context.
    pub fn open(ordinal: usize) -> Result<Arc<Gpu>> {
        let device = device(ordinal)?;
        let info = Info::of(ordinal, device)?;
        let what = || format!("making a context on CUDA device {ordinal}, {}", info.name);
        let mut context = std::ptr::null_mut();
        // SAFETY: a valid device and a valid place; destroyed in drop.
        unsafe { sys::cuCtxCreate_v2(&mut context, 0, device) }.result().during(what)?;
        let (stream, lost) = (std::ptr::null_mut(), OnceLock::new());
        let mut gpu = Gpu { context, stream, info, lost, queued: Waits::default(), made: Made::default() };
        // The new context is current on this thread: so that `Current` takes it away.
        let current = Current { _gpu: &gpu, _thread: PhantomData };
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
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
        if let Some(reason) = self.lost.get() {
            let Info { ordinal, name, .. } = &self.info;
            let what = format!("this engine was lost to an earlier error on cuda:{ordinal}, {name}: {ANOTHER}");
            return Err(Error::Device(format!("{what}; the error was: {reason}")));
        }
        self.push()
    }

    fn push(&self) -> Result<Current<'_>> {
        // SAFETY: the context lives as long as self.
        let pushed = unsafe { sys::cuCtxPushCurrent_v2(self.context) }.result();
        self.told(pushed, || "making the CUDA context current".to_owned())?;
        Ok(Current { _gpu: self, _thread: PhantomData })
    }

    /// The result, or its error in words; one that ends the context is what every later call answers with.
    fn told<T>(&self, result: std::result::Result<T, DriverError>, what: impl FnOnce() -> String) -> Result<T> {
        result.map_err(|error| {
            let reason = explain(&what(), error);
            if !ends_context(error) {
                return Error::Device(reason);
            }
            let report = last_fault().filter(|report| !report.is_empty());
            let reason = report.map_or(reason.clone(), |report| format!("{reason}: {report}"));
            let told = format!("{reason}; this engine is lost: {ANOTHER}");
            // The first is the cause of all others.
            let _ = self.lost.set(reason);
            Error::Device(told)
        })
    }

    /// Uninitialised device memory.
    ///
    /// # Errors
    /// Out of memory: says how much was asked for, and how much is free.
    pub fn allocate(self: &Arc<Self>, bytes: usize, what: &str) -> Result<Memory> {
        let _current = self.enter()?;
        one_more(&self.made.allocations);
        // SAFETY: freed in drop of Memory.
        let address = self.told(unsafe { result::malloc_sync(bytes.max(1)) }, || {
            let mib = |bytes: usize| bytes.div_ceil(1 << 20);
            let free = result::mem_get_info().map_or(0, |(free, _)| free);
            format!("{what} needs {} MiB on {}, which has {} MiB free", mib(bytes), self.info.name, mib(free))
        })?;
        Ok(Memory { gpu: Arc::clone(self), address, bytes })
    }

    /// Bytes of its memory that are free; 0 where the driver does not say.
    pub fn free(self: &Arc<Self>) -> u64 {
        let Ok(_current) = self.enter() else { return 0 };
        result::mem_get_info().map_or(0, |(free, _)| free as u64)
    }

    /// Page-locked memory of the host; `None` where it is not to be had.
    pub fn pinned(self: &Arc<Self>, bytes: usize) -> Result<Option<Pinned>> {
        let _current = self.enter()?;
        one_more(&self.made.allocations);
        // SAFETY: freed in drop of Pinned.
        let Ok(start) = (unsafe { result::malloc_host(bytes.max(1), 0) }) else { return Ok(None) };
        let start = start.cast::<u8>();
        // SAFETY: so many bytes were allocated.
        unsafe { start.write_bytes(0, bytes.max(1)) };
        Ok(Some(Pinned { gpu: Arc::clone(self), start, bytes }))
    }

    /// Loads an image: a cubin, or PTX, with a NUL at its end.
    pub fn module(self: &Arc<Self>, image: Image, bytes: &[u8]) -> std::result::Result<Arc<Module>, DriverError> {
        assert_eq!(bytes.last(), Some(&0), "images end with NUL");
        // SAFETY: the driver reads an ELF file's own length, or up to the NUL.
        let module = unsafe { result::module::load_data(bytes.as_ptr().cast()) }?;
        Ok(Arc::new(Module { gpu: Arc::clone(self), module, image }))
    }

    /// Queues a launch. The kernel's one parameter is a struct: `params` are its bytes.
    pub fn launch(&self, function: &Function, grid: [u32; 3], params: &[u8]) -> Result<()> {
        assert_eq!(params.len(), function.spec.params, "{} takes a struct of another size", function.spec.name);
        one_more(&self.made.launches);
        self.ticket();
        let (x, y, z) = (grid[0], grid[1], grid[2]);
        let mut pointers = [params.as_ptr().cast_mut().cast::<c_void>()];
        let (block, shared) = ((function.spec.threads, 1, 1), function.spec.dynamic_shared);
        // SAFETY: the driver copies the parameter, whose size is the kernel's, before it returns. What the kernel does
        // with the addresses inside is the business of the operation that computed them.
        let launched =
            unsafe { result::launch_kernel(function.function, (x, y, z), block, shared, self.stream, &mut pointers) };
        self.told(launched, || format!("launching {} on a grid of {x}×{y}×{z}", function.spec.name))
    }

    /// From here until its end what is queued is not done, but recorded. It concerns this thread's calls alone.
    pub fn capture(&self) -> Result<Capture<'_>> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: our own stream.
        let begun = unsafe { result::stream::begin_capture(self.stream, mode) };
        self.told(begun, || "capturing a pass".to_owned())?;
        Ok(Capture { gpu: self, has_ended: false })
    }

    /// Host → device, behind everything queued; waits.
    pub fn upload(&self, to: &Memory, at: usize, bytes: &[u8]) -> Result<()> {
        to.check(at, bytes.len());
        one_more(&self.made.copies_in);
        // SAFETY: in bounds; the copy has ended before the borrow does.
        let copied = unsafe { result::memcpy_htod_async(to.address + at as u64, bytes, self.stream) };
        self.told(copied, || format!("copying {} bytes to the GPU", bytes.len()))?;
        self.synchronize()
    }

    /// Device → host, behind everything queued; waits.
    pub fn download(&self, from: &Memory, at: usize, bytes: &mut [u8]) -> Result<()> {
        from.check(at, bytes.len());
        one_more(&self.made.copies_out);
        let count = bytes.len();
        // SAFETY: in bounds; the copy has ended before the borrow does.
        let copied = unsafe { result::memcpy_dtoh_async(bytes, from.address + at as u64, self.stream) };
        self.told(copied, || format!("copying {count} bytes from the GPU"))?;
        self.synchronize()
    }

    /// Fills bytes, in the order of the stream.
    pub fn fill(&self, memory: &Memory, at: usize, value: u8, count: usize) -> Result<()> {
        memory.check(at, count);
        // SAFETY: in bounds.
        let filled = unsafe { result::memset_d8_async(memory.address + at as u64, value, count, self.stream) };
        self.ticket();
        self.told(filled, || format!("filling {count} bytes on the GPU"))
    }

    /// Waits for everything queued.
    ///
    /// # Errors
    /// Whatever went wrong in a kernel since the last wait.
    pub fn synchronize(&self) -> Result<()> {
        one_more(&self.made.synchronisations);
        let before = self.queued.taken.load(Ordering::Acquire);
        // SAFETY: our own stream.
        let waited = unsafe { result::stream::synchronize(self.stream) };
        self.told(waited, || "waiting for the GPU".to_owned())?;
        self.queued.ended.fetch_max(before, Ordering::AcqRel);
        Ok(())
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
        // Modules, memory and events hold the Arc, so they are gone.
        if let (Ok(_current), false) = (self.push(), self.stream.is_null()) {
            // SAFETY: made by us, destroyed once.
            let _ = unsafe { result::stream::destroy(self.stream) };
        }
        // SAFETY: made by us, destroyed once; it need not be current.
        let _ = unsafe { sys::cuCtxDestroy_v2(self.context) };
    }
}

impl Info {
    fn of(ordinal: usize, device: sys::CUdevice) -> Result<Info> {
        let during = || format!("asking CUDA device {ordinal} what it is");
        // SAFETY: a valid device.
        let get = |attribute| unsafe { result::device::get_attribute(device, attribute) }.during(during);
        // SAFETY: a valid device.
        let memory = unsafe { result::device::total_mem(device) }.during(during)?;
        let mut driver = 0;
        // SAFETY: a valid place for an int.
        unsafe { sys::cuDriverGetVersion(&mut driver) }.result().during(during)?;
        Ok(Info {
            ordinal,
            name: result::device::get_name(device).during(during)?,
            capability: (
                get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? as u32,
                get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)? as u32,
            ),
            multiprocessors: get(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32,
            shared_per_block: get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as usize,
            memory,
            unified: get(Attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED)? != 0,
            driver: driver as u32,
            clock_khz: get(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)? as u32,
            memory_clock_khz: get(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)? as u32,
            memory_bus_bits: get(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH)? as u32,
            l2_bytes: get(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize,
            is_virtual: virtual_symbol(b"vgpu_last_counts").is_some(),
        })
    }
}

type TextFunction = unsafe extern "C" fn(*mut std::ffi::c_char, usize) -> u32;

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
        let _ = unsafe { result::free_sync(self.address) };
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
        // SAFETY: in bounds of an allocation that is looked at only when the copy has ended, and not freed before (drop waits).
        let copied = unsafe {
            let staged = std::slice::from_raw_parts(self.start.add(place), count);
            result::memcpy_htod_async(to.address + at as u64, staged, self.gpu.stream)
        };
        self.gpu.told(copied, || format!("copying {count} bytes to the GPU"))
    }

    /// Device → host: `count` bytes to `place` on, queued.
    pub fn receive(&mut self, place: usize, from: &Memory, at: usize, count: usize) -> Result<()> {
        self.check(place, count);
        from.check(at, count);
        one_more(&self.gpu.made.copies_out);
        self.gpu.ticket();
        // SAFETY: as for `send`.
        let copied = unsafe {
            let staged = std::slice::from_raw_parts_mut(self.start.add(place), count);
            result::memcpy_dtoh_async(staged, from.address + at as u64, self.gpu.stream)
        };
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
        let Ok(_current) = self.gpu.push() else { return };
        let _ = self.gpu.synchronize();
        // SAFETY: allocated by us, freed once, and no copy is in flight.
        let _ = unsafe { result::free_host(self.start.cast()) };
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
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT);
        Ok(Event { event: gpu.told(event, || "making a CUDA event".to_owned())?, gpu: Arc::clone(gpu) })
    }

    /// Here, behind everything queued.
    pub fn record(&self) -> Result<()> {
        // SAFETY: event and stream are ours and of one context.
        let recorded = unsafe { result::event::record(self.event, self.gpu.stream) };
        self.gpu.told(recorded, || "recording a CUDA event".to_owned())
    }

    /// Seconds from an earlier event; both must have been reached.
    pub fn seconds_since(&self, earlier: &Event) -> Result<f64> {
        // SAFETY: two events of one context.
        let elapsed = unsafe { result::event::elapsed(earlier.event, self.event) };
        let milliseconds = self.gpu.told(elapsed, || "reading the time between CUDA events".to_owned())?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let Ok(_current) = self.gpu.enter() else { return };
        // SAFETY: made by us, destroyed once.
        let _ = unsafe { result::event::destroy(self.event) };
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

impl Capture<'_> {
    /// # Errors
    /// Something was queued that cannot be captured.
    pub fn end(mut self) -> Result<Captured> {
        self.has_ended = true;
        // SAFETY: our own stream, which is capturing.
        let graph = unsafe { result::stream::end_capture(self.gpu.stream) };
        self.gpu.told(graph, || "ending the capture of a pass".to_owned()).map(Captured)
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            // SAFETY: our own stream, which is capturing.
            let graph = unsafe { result::stream::end_capture(self.gpu.stream) };
            // Whoever left the capture has the reason. A spoiled capture may answer with null.
            drop(graph.ok().filter(|graph| !graph.is_null()).map(Captured));
        }
    }
}

impl Captured {
    pub fn nodes(&self, gpu: &Gpu) -> Result<usize> {
        let mut nodes = 0;
        // SAFETY: the graph is alive; without a list only the number is written.
        let counted = unsafe { sys::cuGraphGetNodes(self.0, std::ptr::null_mut(), &mut nodes) }.result();
        gpu.told(counted, || "counting the nodes of a graph".to_owned())?;
        Ok(nodes)
    }

    /// Made ready, and brought to the GPU.
    pub fn executable(&self, gpu: &Arc<Gpu>) -> Result<Executable> {
        // SAFETY: the graph is alive.
        let exec = unsafe { result::graph::instantiate(self.0, CUgraphInstantiate_flags(0)) };
        let exec = gpu.told(exec, || "making a graph ready".to_owned())?;
        let executable = Executable { gpu: Arc::clone(gpu), exec };
        // SAFETY: graph and stream are ours.
        let uploaded = unsafe { result::graph::upload(exec, gpu.stream) };
        gpu.told(uploaded, || "uploading a graph".to_owned())?;
        Ok(executable)
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        // SAFETY: made by a capture, destroyed once; what was instantiated of it lives on.
        let _ = unsafe { result::graph::destroy(self.0) };
    }
}

impl Executable {
    /// Queues all of it. The addresses that it was captured with must still be what they were.
    pub fn launch(&self) -> Result<()> {
        one_more(&self.gpu.made.graph_launches);
        self.gpu.ticket();
        // SAFETY: graph and stream are ours; of its addresses as for `launch` of a kernel.
        let launched = unsafe { result::graph::launch(self.exec, self.gpu.stream) };
        self.gpu.told(launched, || "launching a graph".to_owned())
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        let Ok(_current) = self.gpu.enter() else { return };
        // SAFETY: made by us, destroyed once; the driver ends a launch in flight first.
        let _ = unsafe { result::graph::exec_destroy(self.exec) };
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
        // SAFETY: a loaded module.
        let found = unsafe { result::module::get_function(self.module, name) };
        let function = self.gpu.told(found, || format!("looking for the kernel {}", spec.name))?;
        let set = |attribute, value: u32| {
            // SAFETY: a function of a loaded module.
            unsafe { result::function::set_function_attribute(function, attribute, value as i32) }
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
            // SAFETY: as above.
            let found = unsafe { result::function::get_function_attribute(function, attribute) };
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
        let _ = unsafe { result::module::unload(self.module) };
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
