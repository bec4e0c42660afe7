//! The CUDA driver: the part of its interface that the device uses, made safe. The device's `unsafe` is here.
//!
//! Everything goes to one stream, in order. Nothing here is fast because of cleverness: a call is a call.

use std::ffi::{CStr, CString, c_void};
use std::mem::ManuallyDrop;
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute as Attribute, CUfunction_attribute as FunctionAttribute};

use crate::error::{Error, Result};

/// A GPU with its primary context and a stream of our own.
pub struct Gpu {
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    info: Info,
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
// on the calling thread before each use (`bind`).
unsafe impl Send for Gpu {}
// SAFETY: as above; the driver locks its own state.
unsafe impl Sync for Gpu {}

/// Words for a driver's error.
fn explain(what: &str, error: DriverError) -> Error {
    let text = |found: std::result::Result<&CStr, DriverError>| {
        found.map_or_else(|_| "no name".to_owned(), |text| text.to_string_lossy().into_owned())
    };
    let (name, meaning) = (text(error.error_name()), text(error.error_string()));
    Error::Device(format!("{what}: CUDA error {} ({name}): {meaning}", error.0 as u32))
}

trait Explain<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Explain<T> for std::result::Result<T, DriverError> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| explain(&what(), error))
    }
}

impl Gpu {
    /// The GPU of this number, ready for work.
    ///
    /// # Errors
    /// No driver, no such GPU, or one that refuses a context.
    pub fn open(ordinal: usize) -> Result<Arc<Gpu>> {
        // SAFETY: only looks for the library.
        if !unsafe { sys::is_culib_present() } {
            let need = "install NVIDIA's driver (470 or newer), or use --device cpu";
            return Err(Error::Device(format!(
                "no CUDA device can be used: there is no libcuda on this machine; {need}"
            )));
        }
        result::init().during(|| "starting the CUDA driver".to_owned())?;
        let count = result::device::get_count().during(|| "counting the CUDA devices".to_owned())?;
        if ordinal >= count as usize {
            let (s, have) = (if count == 1 { "" } else { "s" }, "this machine has");
            return Err(Error::Device(format!("there is no CUDA device {ordinal}: {have} {count} device{s}, from 0")));
        }
        let device = result::device::get(ordinal as i32).during(|| format!("CUDA device {ordinal}"))?;
        let info = Info::of(ordinal, device)?;
        // SAFETY: the device is valid; released in drop.
        let context = unsafe { result::primary_ctx::retain(device) }
            .during(|| format!("making a context on CUDA device {ordinal}, {}", info.name))?;
        let mut gpu = ManuallyDrop::new(Gpu { device, context, stream: std::ptr::null_mut(), info });
        let stream = gpu.bind().and_then(|()| {
            result::stream::create(result::stream::StreamKind::NonBlocking).during(|| "making a CUDA stream".to_owned())
        });
        match stream {
            Ok(stream) => gpu.stream = stream,
            Err(error) => {
                // SAFETY: retained above, used by nobody yet.
                let _ = unsafe { result::primary_ctx::release(device) };
                return Err(error);
            }
        }
        Ok(Arc::new(ManuallyDrop::into_inner(gpu)))
    }

    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The stream as other libraries of NVIDIA's take it.
    pub fn raw_stream(&self) -> *mut c_void {
        self.stream.cast()
    }

    /// Makes the context current on this thread; whoever was sent here from another thread needs it.
    pub fn bind(&self) -> Result<()> {
        // SAFETY: the context lives as long as self.
        unsafe { result::ctx::set_current(self.context) }.during(|| "making the CUDA context current".to_owned())
    }

    /// Uninitialised device memory.
    ///
    /// # Errors
    /// Out of memory: says how much was asked for, and how much is free.
    pub fn allocate(self: &Arc<Self>, bytes: usize, what: &str) -> Result<Memory> {
        self.bind()?;
        // SAFETY: freed in drop of Memory.
        let address = unsafe { result::malloc_sync(bytes.max(1)) }.during(|| {
            let mib = |bytes: usize| bytes.div_ceil(1 << 20);
            let free = result::mem_get_info().map_or(0, |(free, _)| free);
            format!("{what} needs {} MiB on {}, which has {} MiB free", mib(bytes), self.info.name, mib(free))
        })?;
        Ok(Memory { gpu: Arc::clone(self), address, bytes })
    }

    /// Loads an image: a cubin, or PTX with a NUL at its end.
    pub fn module(self: &Arc<Self>, image: &[u8]) -> std::result::Result<Arc<Module>, DriverError> {
        // SAFETY: the driver reads an ELF file's own length or up to the NUL; build.rs makes sure of both.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) }?;
        Ok(Arc::new(Module { gpu: Arc::clone(self), module }))
    }

    /// Queues a launch. The kernel's one parameter is a struct: `params` are its bytes.
    pub fn launch(&self, function: &Function, grid: [u32; 3], params: &[u8]) -> Result<()> {
        assert_eq!(params.len(), function.spec.params, "{} takes a struct of another size", function.spec.name);
        let (x, y, z) = (grid[0], grid[1], grid[2]);
        let mut pointers = [params.as_ptr().cast_mut().cast::<c_void>()];
        let (block, shared) = ((function.spec.threads, 1, 1), function.spec.dynamic_shared);
        // SAFETY: the driver copies the parameter, whose size is the kernel's, before it returns. What the kernel does
        // with the addresses inside is the business of the operation that computed them.
        unsafe { result::launch_kernel(function.function, (x, y, z), block, shared, self.stream, &mut pointers) }
            .during(|| format!("launching {} on a grid of {x}×{y}×{z}", function.spec.name))
    }

    /// Host → device, in the order of the stream; the bytes may be reused at once.
    pub fn upload(&self, to: &Memory, at: usize, bytes: &[u8]) -> Result<()> {
        to.check(at, bytes.len());
        // SAFETY: in bounds; from pageable memory the driver has taken the bytes when the call returns.
        unsafe { result::memcpy_htod_async(to.address + at as u64, bytes, self.stream) }
            .during(|| format!("copying {} bytes to the GPU", bytes.len()))
    }

    /// Device → host, behind everything queued; waits.
    pub fn download(&self, from: &Memory, at: usize, bytes: &mut [u8]) -> Result<()> {
        from.check(at, bytes.len());
        let count = bytes.len();
        // SAFETY: in bounds, and the copy has ended before the borrow does.
        unsafe { result::memcpy_dtoh_async(bytes, from.address + at as u64, self.stream) }
            .during(|| format!("copying {count} bytes from the GPU"))?;
        self.synchronize()
    }

    /// Fills bytes, in the order of the stream.
    pub fn fill(&self, memory: &Memory, at: usize, value: u8, count: usize) -> Result<()> {
        memory.check(at, count);
        // SAFETY: in bounds.
        unsafe { result::memset_d8_async(memory.address + at as u64, value, count, self.stream) }
            .during(|| format!("filling {count} bytes on the GPU"))
    }

    /// Waits for everything queued.
    ///
    /// # Errors
    /// Whatever went wrong in a kernel since the last wait.
    pub fn synchronize(&self) -> Result<()> {
        // SAFETY: our own stream.
        unsafe { result::stream::synchronize(self.stream) }.during(|| format!("working on {}", self.info.name))
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let _ = self.bind();
        // SAFETY: nobody else has the stream; modules and memory hold the Arc, so they are gone.
        unsafe {
            let _ = result::stream::destroy(self.stream);
            let _ = result::primary_ctx::release(self.device);
        }
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
        // A kernel of the stream may still use it.
        let _ = self.gpu.bind().and_then(|()| self.gpu.synchronize());
        // SAFETY: allocated by us, freed once.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

/// A loaded image.
pub struct Module {
    gpu: Arc<Gpu>,
    module: sys::CUmodule,
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
    /// Its code.
    _module: Arc<Module>,
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
        let function = unsafe { result::module::get_function(self.module, name) }
            .during(|| format!("looking for the kernel {}", spec.name))?;
        if spec.dynamic_shared > 0 {
            let attribute = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: a function of a loaded module.
            unsafe { result::function::set_function_attribute(function, attribute, spec.dynamic_shared as i32) }
                .during(|| format!("{} needs {} bytes of shared memory a block", spec.name, spec.dynamic_shared))?;
        }
        Ok(Function { function, spec, _module: Arc::clone(self) })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let _ = self.gpu.bind();
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
}

/// A moment on the stream.
pub struct Event {
    gpu: Arc<Gpu>,
    event: sys::CUevent,
}

// SAFETY: a handle that any thread may use once the context is current.
unsafe impl Send for Event {}

impl Event {
    pub fn new(gpu: &Arc<Gpu>) -> Result<Event> {
        gpu.bind()?;
        let event =
            result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).during(|| "making a CUDA event".to_owned())?;
        Ok(Event { gpu: Arc::clone(gpu), event })
    }

    /// It happens when everything queued so far is done.
    pub fn record(&self) -> Result<()> {
        // SAFETY: our own event and stream.
        unsafe { result::event::record(self.event, self.gpu.stream) }.during(|| "recording a CUDA event".to_owned())
    }

    /// Seconds since an earlier one, both having happened.
    pub fn seconds_since(&self, start: &Event) -> Result<f64> {
        // SAFETY: both were made by us and live.
        let milliseconds = unsafe { result::event::elapsed(start.event, self.event) };
        Ok(f64::from(milliseconds.during(|| "measuring time by CUDA events".to_owned())?) / 1000.0)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let _ = self.gpu.bind();
        // SAFETY: made by us, destroyed once.
        let _ = unsafe { result::event::destroy(self.event) };
    }
}
