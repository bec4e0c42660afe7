//! The kernels of an image, and how one is launched.

#![allow(unsafe_code)]

use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::Arc;

use super::calls::increment;
use super::module::{Image, Module};
use super::out_param;
use super::stream::Stream;
use crate::device::cuda::codes::check;
use crate::device::cuda::modules::Kernel;
use crate::device::cuda::sys::{self, CUfunction_attribute as FunctionAttribute, LaunchAttribute, LaunchConfig};
use crate::error::{Error, Result};

/// The compute capability from which on kernels are compiled with what waits for the launch before.
const WAITING_LEVEL: u32 = 90;

/// A kernel, ready to launch.
#[derive(Clone)]
pub struct Function {
    function: sys::CUfunction,
    kernel: &'static Kernel,
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
    pub fn function(self: &Arc<Self>, stream: &Stream, kernel: &'static Kernel) -> Result<Function> {
        let name = CString::new(kernel.name).expect("kernels' names have no NUL");
        // SAFETY: a loaded module, a valid place, and a text that ends in NUL.
        let found =
            out_param(ptr::null_mut(), |found| unsafe { sys::cuModuleGetFunction(found, self.module, name.as_ptr()) });
        let function = stream.check(found, || format!("looking for the kernel {}", kernel.name))?;
        let set = |attribute, value: u32| {
            // SAFETY: a function of a loaded module.
            unsafe { sys::cuFuncSetAttribute(function, attribute, value as i32) }
        };
        let shared = kernel.spec.shared;
        if shared > 0 {
            let done = set(FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared);
            stream.check(done, || format!("{} needs {shared} bytes of shared memory a block", kernel.name))?;
        }
        // The same division of first-level cache and shared memory for every kernel: a multiprocessor changes it only when
        // nothing runs there, so that kernels of different wishes could not overlap.
        let done = set(FunctionAttribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 100);
        stream.check(done, || format!("dividing the first-level cache for {}", kernel.name))?;
        let get = |attribute| {
            // SAFETY: as above, and a valid place.
            let found = out_param(0, |value| unsafe { sys::cuFuncGetAttribute(value, attribute, function) });
            stream.check(found, || format!("asking what {} needs", kernel.name)).map(|value| value as u32)
        };
        Ok(Function {
            function,
            kernel,
            registers: get(FunctionAttribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            static_shared: get(FunctionAttribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?,
            module: Arc::clone(self),
        })
    }
}

impl Function {
    pub fn image(&self) -> Image {
        self.module.image()
    }

    /// Whether it waits for the launch before it (`grid_wait` of kernels/ptx.cuh), so that it may begin before that has ended.
    pub fn waits(&self) -> bool {
        self.module.level() >= WAITING_LEVEL
    }

    pub fn registers(&self) -> u32 {
        self.registers
    }

    pub fn static_shared(&self) -> u32 {
        self.static_shared
    }
}

impl Stream {
    /// Queues a launch. The kernel's one parameter is a struct: `params` are its bytes. One that `overlaps` may begin before the
    /// kernel that was queued before it has ended: its kernel waits for that before it touches memory
    /// ([`Function::waits`]).
    pub fn launch(&self, function: &Function, grid: [u32; 3], params: &[u8], overlaps: bool) -> Result<()> {
        assert_eq!(params.len(), function.kernel.params, "{} takes a struct of another size", function.kernel.name);
        assert!(!overlaps || function.waits(), "{} would not wait", function.kernel.name);
        increment(&self.counters.launches);
        if overlaps {
            increment(&self.counters.overlapping);
        }
        self.queue.ticket();
        let (x, y, z) = (grid[0], grid[1], grid[2]);
        let mut pointers = [params.as_ptr().cast_mut().cast::<c_void>()];
        let (function, Kernel { name, threads, spec, .. }) = (function.function, function.kernel);
        let (params, extra, stream) = (pointers.as_mut_ptr(), ptr::null_mut(), self.queue.raw());
        let mut attributes = [LaunchAttribute::overlaps(); 2];
        let mut attribute_count = usize::from(overlaps);
        if spec.cluster > 1 {
            attributes[attribute_count] = LaunchAttribute::cluster(spec.cluster);
            attribute_count += 1;
        }
        let launched = if attribute_count == 0 {
            // SAFETY: the driver copies the parameter, whose size is the kernel's, before it returns. What the kernel does
            // with the addresses inside is the business of the operation that computed them.
            unsafe { sys::cuLaunchKernel(function, x, y, z, *threads, 1, 1, spec.shared, stream, params, extra) }
        } else {
            let Some(launch) = sys::newer().cuLaunchKernelEx else {
                return Err(Error::Device(format!("launching {name} needs a driver for CUDA 11.8 or newer")));
            };
            let config = LaunchConfig {
                grid,
                block: [*threads, 1, 1],
                dynamic_shared: spec.shared,
                stream,
                attributes: attributes.as_ptr(),
                attribute_count: attribute_count as u32,
            };
            // SAFETY: as above, and the attributes live until it returns.
            check(unsafe { launch(&raw const config, function, params, extra) })
        };
        self.check(launched, || format!("launching {name} on a grid of {x}×{y}×{z}"))
    }
}
