//! A context on the virtual GPU.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cudarc::driver::sys::CUfunction_attribute;
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, DriverError, LaunchArgs, LaunchConfig,
};
use cudarc::nvrtc::Ptx;
use half::f16;

use crate::library::{load_library, text_of};

/// A context of its own, which a fault may kill.
pub struct Gpu {
    context: Arc<CudaContext>,
    pub stream: Arc<CudaStream>,
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
        assert!(load_library());
        let context = CudaContext::new_non_primary(0, 0).expect("a context");
        let stream = context.default_stream();
        Gpu { context, stream }
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

    pub fn download_floats(&self, values: &CudaSlice<f32>) -> Vec<f64> {
        self.stream.clone_dtoh(values).expect("a copy").into_iter().map(f64::from).collect()
    }

    /// Launches and waits.
    pub fn run(&self, mut launch: LaunchArgs<'_>, config: LaunchConfig) -> Result<Counts, Refused> {
        // SAFETY: the arguments are the kernel's; what it does with them is what is tested.
        let launched = unsafe { launch.launch(config) }.map(drop);
        match launched.and_then(|()| self.stream.synchronize()) {
            Ok(()) => Ok(flatten(&text_of(b"vgpu_last_counts"))),
            Err(DriverError(code)) => Err(Refused { code: code as u32, report: text_of(b"vgpu_last_fault") }),
        }
    }
}

pub fn flatten(json: &str) -> Counts {
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
