//! Loaded images: code of kernels.

#![allow(unsafe_code)]

use std::fmt;
use std::ptr;
use std::sync::Arc;

use super::context::Context;
use super::out_param;
use super::stream::Stream;
use crate::device::cuda::codes::Code;
use crate::device::cuda::sys;

/// A loaded image.
pub struct Module {
    context: Arc<Context>,
    pub(super) module: sys::CUmodule,
    image: Image,
    level: u32,
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

impl Stream {
    /// Loads an image: a cubin, or PTX, with a NUL at its end, compiled for this compute capability (90 is 9.0).
    pub fn module(&self, image: Image, level: u32, bytes: &[u8]) -> std::result::Result<Arc<Module>, Code> {
        assert_eq!(bytes.last(), Some(&0), "images end with NUL");
        let image_start = bytes.as_ptr().cast();
        // SAFETY: the driver reads an ELF file's own length, or up to the NUL.
        let module = out_param(ptr::null_mut(), |module| unsafe { sys::cuModuleLoadData(module, image_start) })?;
        Ok(Arc::new(Module { context: Arc::clone(&self.context), module, image, level }))
    }
}

impl Module {
    pub fn image(&self) -> Image {
        self.image
    }

    /// The compute capability that its source was compiled for: 90 is 9.0.
    pub fn level(&self) -> u32 {
        self.level
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let Some(_current) = self.context.enter_to_free() else { return };
        // SAFETY: functions hold the Arc, so nobody uses it.
        let _ = unsafe { sys::cuModuleUnload(self.module) };
    }
}
