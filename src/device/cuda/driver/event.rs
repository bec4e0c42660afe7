//! Points of a stream, and the time between them.

#![allow(unsafe_code)]

use std::ptr;
use std::sync::Arc;

use super::gpu::Gpu;
use super::out_param;
use crate::device::cuda::sys;
use crate::error::Result;

/// CU_EVENT_DEFAULT.
const DEFAULT: u32 = 0;

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
        let event = out_param(ptr::null_mut(), |event| unsafe { sys::cuEventCreate(event, DEFAULT) });
        Ok(Event { event: gpu.check(event, || "making a CUDA event".to_owned())?, gpu: Arc::clone(gpu) })
    }

    /// Here, behind everything queued.
    pub fn record(&self) -> Result<()> {
        // SAFETY: event and stream are ours and of one context.
        let recorded = unsafe { sys::cuEventRecord(self.event, self.gpu.stream.raw()) };
        self.gpu.check(recorded, || "recording a CUDA event".to_owned())
    }

    /// Seconds from an earlier event; both must have been reached.
    pub fn seconds_since(&self, earlier: &Event) -> Result<f64> {
        // SAFETY: two events of one context, and a valid place.
        let elapsed =
            out_param(0.0f32, |elapsed| unsafe { sys::cuEventElapsedTime(elapsed, earlier.event, self.event) });
        let milliseconds = self.gpu.check(elapsed, || "reading the time between CUDA events".to_owned())?;
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
