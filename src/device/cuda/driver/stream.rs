//! A stream: everything queued goes to one, in order.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::sync::Arc;

use super::calls::Counters;
use super::context::{Context, Current};
use super::info::Info;
use super::queue::Queue;
use crate::device::cuda::codes::Code;
use crate::error::{Error, Result};

/// A stream of our own in a context.
pub struct Stream {
    pub(super) context: Arc<Context>,
    pub(super) queue: Arc<Queue>,
    /// Of all streams of one device.
    pub(super) counters: Arc<Counters>,
}

impl Stream {
    /// The first stream of a device.
    ///
    /// # Errors
    /// A context that an earlier error ended, or that refuses a stream.
    pub fn new(context: &Arc<Context>) -> Result<Arc<Stream>> {
        Self::counted(context, Arc::default())
    }

    /// Another of the same device: what it is asked for is counted with this one's.
    ///
    /// # Errors
    /// As [`Stream::new`].
    pub fn another(&self) -> Result<Arc<Stream>> {
        Self::counted(&self.context, Arc::clone(&self.counters))
    }

    fn counted(context: &Arc<Context>, counters: Arc<Counters>) -> Result<Arc<Stream>> {
        context.check_alive()?;
        // There is no stream yet whose state could be asked for.
        let failed = |code, what| context.failed(code, what, || Ok(()));
        let _current = context.push().map_err(|code| failed(code, "making the CUDA context current"))?;
        let queue = Arc::new(Queue::new().map_err(|code| failed(code, "making a CUDA stream"))?);
        context.add(&queue);
        Ok(Arc::new(Stream { context: Arc::clone(context), queue, counters }))
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub fn info(&self) -> &Info {
        self.context.info()
    }

    /// The stream as other libraries of NVIDIA's take it.
    pub fn raw_stream(&self) -> *mut c_void {
        self.queue.raw().cast()
    }

    /// Makes the context current on this thread. All other calls need it.
    ///
    /// # Errors
    /// A context that an earlier error ended.
    pub fn enter(&self) -> Result<Current<'_>> {
        self.context.check_alive()?;
        self.check(self.context.push(), || "making the CUDA context current".to_owned())
    }

    /// As [`Stream::enter`], so that something can be given back; `None` where nothing is left of it, or none of it can be waited for.
    pub fn enter_to_free(&self) -> Option<Current<'_>> {
        self.context.enter_to_free()
    }

    /// The result, or its error in words; one that ends the context is what every later call answers with.
    pub(super) fn check<T>(&self, result: std::result::Result<T, Code>, what: impl FnOnce() -> String) -> Result<T> {
        result.map_err(|code| self.failed(code, &what()))
    }

    /// The error of a call that answered with this code.
    pub fn failed(&self, code: Code, what: &str) -> Error {
        self.context.failed(code, what, || self.queue.query())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.context.hangs() {
            return;
        }
        // Whoever frees memory later looks for what may use it among the streams that are left.
        let _current = self.context.push();
        if !self.queue.is_idle() {
            let _ = self.context.wait_for(&self.queue);
        }
        self.context.remove(&self.queue);
        // A stream that hangs is left to the process's end, as its context is.
        if !self.context.hangs() {
            self.queue.destroy();
        }
    }
}
