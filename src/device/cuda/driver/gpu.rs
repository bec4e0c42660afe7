//! A GPU: one context and one stream of it.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::sync::Arc;

use super::calls::Counters;
use super::context::{Context, Current};
use super::info::Info;
use super::stream::Stream;
use super::wait::Waiting;
use crate::device::cuda::codes::Code;
use crate::error::{Error, Result};

/// A GPU with a context and a stream of our own.
pub struct Gpu {
    pub(super) context: Context,
    pub(super) stream: Stream,
    pub(super) waiting: Waiting,
    pub(super) counters: Counters,
}

// SAFETY: contexts, streams and modules are handles of a driver that any thread may use; the context is made current
// on the calling thread before each use (`enter`).
unsafe impl Send for Gpu {}
// SAFETY: as above; the driver locks its own state.
unsafe impl Sync for Gpu {}

impl Gpu {
    /// The GPU of this number, ready for work.
    ///
    /// # Errors
    /// As [`super::info`]; one that refuses a context.
    pub fn open(ordinal: usize, waiting: Waiting) -> Result<Arc<Gpu>> {
        let (context, stream) = Context::open(ordinal, waiting.asleep, Stream::new)?;
        Ok(Arc::new(Gpu { context, stream, waiting, counters: Counters::default() }))
    }

    pub fn info(&self) -> &Info {
        self.context.info()
    }

    /// The stream as other libraries of NVIDIA's take it.
    pub fn raw_stream(&self) -> *mut c_void {
        self.stream.raw().cast()
    }

    /// Makes the context current on this thread. All other calls need it.
    ///
    /// # Errors
    /// A context that an earlier error ended.
    pub fn enter(&self) -> Result<Current<'_>> {
        self.context.check()?;
        self.push()
    }

    pub(super) fn push(&self) -> Result<Current<'_>> {
        self.check(self.context.push(), || "making the CUDA context current".to_owned())
    }

    /// The result, or its error in words; one that ends the context is what every later call answers with.
    pub(super) fn check<T>(&self, result: std::result::Result<T, Code>, what: impl FnOnce() -> String) -> Result<T> {
        result.map_err(|code| self.failed(code, &what()))
    }

    /// The error of a call that answered with this code.
    pub fn failed(&self, code: Code, what: &str) -> Error {
        self.context.failed(code, what, || self.stream.query())
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // A stream that hangs is left to the process's end, as its context is.
        if self.context.hangs() {
            return;
        }
        // Modules, memory and events hold the Arc, so they are gone; the context goes after this.
        if let Ok(_current) = self.context.push() {
            self.stream.destroy();
        }
    }
}
