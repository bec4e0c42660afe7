//! A context on the virtual GPU.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::c_char;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cudarc::driver::sys::CUfunction_attribute;
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, DriverError, LaunchArgs, LaunchConfig,
};
use cudarc::nvrtc::Ptx;
use half::f16;

pub const SCHEDULES: &[&[(&str, &str)]] = &[&[("VGPU_SCHED", "0")], &[("VGPU_SCHED", "1")]];

pub use crate::children::{in_children, nvcc};

/// Where nvcc's PTX of vgpu/tests/kernels lies; `None`, and a message, if there is none.
pub fn kernels_directory() -> Option<PathBuf> {
    let found = std::env::var_os("VGPU_KERNELS").map(PathBuf::from).filter(|d| d.is_dir());
    if found.is_none() || library().is_none() {
        eprintln!("skipped: VGPU_KERNELS names no compiled kernels; `cargo xtask test` makes them");
        return None;
    }
    found
}

fn library() -> Option<PathBuf> {
    std::env::var_os("VGPU_LIB").map(PathBuf::from).filter(|l| l.is_file())
}

/// A context of its own, which a fault may kill.
pub struct Gpu {
    context: Arc<CudaContext>,
    pub stream: Arc<CudaStream>,
    library: libloading::Library,
}

/// Why a launch did not end well: the driver's code, and the virtual GPU's report.
#[derive(Debug)]
pub struct Refused {
    pub code: u32,
    pub report: String,
}

/// The counts of one launch, by their names in the JSON; `instructions` flattened.
pub type Counts = BTreeMap<String, u64>;

impl Gpu {
    pub fn new() -> Gpu {
        let path = library().expect("VGPU_LIB was looked at before");
        // SAFETY: the library's initialisers are Rust's.
        let library = unsafe { libloading::Library::new(path) }.expect("the virtual GPU loads");
        let context = CudaContext::new_non_primary(0, 0).expect("a context");
        let stream = context.default_stream();
        Gpu { context, stream, library }
    }

    pub fn load(&self, image: Ptx) -> Result<Arc<CudaModule>, DriverError> {
        self.context.load_module(image)
    }

    /// The kernel `name` of the module, ready for `dynamic_shared` bytes.
    pub fn kernel(&self, module: &Path, name: &str, dynamic_shared: u32) -> CudaFunction {
        let loaded = self.load(Ptx::from_file(module));
        let module = loaded.unwrap_or_else(|e| panic!("{}: {e}", module.display()));
        let kernel = module.load_function(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        kernel.set_attribute(attribute, dynamic_shared as i32).expect("the device has as much shared memory");
        kernel
    }

    pub fn upload<T: cudarc::driver::DeviceRepr>(&self, values: &[T]) -> CudaSlice<T> {
        self.stream.clone_htod(values).expect("a copy")
    }

    pub fn upload_halves(&self, values: &[f16]) -> CudaSlice<u16> {
        self.upload(&values.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
    }

    /// Memory that nobody wrote.
    pub fn undefined<T: cudarc::driver::DeviceRepr>(&self, count: usize) -> CudaSlice<T> {
        // SAFETY: any bits are a value of the integers and floats that tests ask for.
        unsafe { self.stream.alloc(count) }.expect("memory")
    }

    pub fn download_halves(&self, values: &CudaSlice<u16>) -> Vec<f16> {
        let bits = self.stream.clone_dtoh(values).expect("a copy");
        bits.into_iter().map(f16::from_bits).collect()
    }

    /// Launches and waits.
    pub fn run(&self, mut launch: LaunchArgs<'_>, config: LaunchConfig) -> Result<Counts, Refused> {
        // SAFETY: the arguments are the kernel's; what it does with them is what is tested.
        let launched = unsafe { launch.launch(config) }.map(drop);
        match launched.and_then(|()| self.stream.synchronize()) {
            Ok(()) => Ok(flatten(&self.text(b"vgpu_last_counts"))),
            Err(DriverError(code)) => Err(Refused { code: code as u32, report: self.text(b"vgpu_last_fault") }),
        }
    }

    /// A function of the library that CUDA does not have: it fills a buffer with text.
    fn text(&self, function: &[u8]) -> String {
        let mut buffer = vec![0u8; 8192];
        // SAFETY: the function takes a buffer and its size and ends the text with NUL.
        unsafe {
            let get: libloading::Symbol<unsafe extern "C" fn(*mut c_char, usize) -> u32> =
                self.library.get(function).expect("exported");
            assert_eq!(get(buffer.as_mut_ptr().cast(), buffer.len()), 0, "{}", String::from_utf8_lossy(function));
        }
        let end = buffer.iter().position(|&b| b == 0).expect("ends with NUL");
        String::from_utf8_lossy(&buffer[..end]).into_owned()
    }
}

fn flatten(json: &str) -> Counts {
    let value: serde_json::Value = serde_json::from_str(json).expect("counts are JSON");
    let mut counts = Counts::new();
    for (name, count) in value["counts"].as_object().expect("an object of counts") {
        match count.as_object() {
            Some(inner) => counts.extend(inner.iter().filter_map(|(n, c)| Some((n.clone(), c.as_u64()?)))),
            None => counts.extend(count.as_u64().map(|c| (name.clone(), c))),
        }
    }
    counts
}

pub fn launch_config(grid: (u32, u32, u32), threads: u32, dynamic_shared: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: grid, block_dim: (threads, 1, 1), shared_mem_bytes: dynamic_shared }
}
