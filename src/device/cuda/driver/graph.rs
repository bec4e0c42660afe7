//! Captures of a stream, and the graphs they become.

#![allow(unsafe_code)]

use std::ptr;
use std::sync::Arc;

use super::calls::increment;
use super::gpu::Gpu;
use super::out_param;
use crate::device::cuda::codes::Code;
use crate::device::cuda::sys::{self, CUstreamCaptureMode};
use crate::error::Result;

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

impl Gpu {
    /// From here until its end what is queued is not done, but recorded. It concerns this thread's calls alone.
    pub fn capture(&self) -> Result<Capture<'_>> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: our own stream.
        let begun = unsafe { sys::cuStreamBeginCapture_v2(self.stream.raw(), mode) };
        self.check(begun, || "capturing a pass".to_owned())?;
        Ok(Capture { gpu: self, has_ended: false })
    }
}

fn end_capture(gpu: &Gpu) -> std::result::Result<sys::CUgraph, Code> {
    // SAFETY: our own stream, which is capturing, and a valid place.
    out_param(ptr::null_mut(), |graph| unsafe { sys::cuStreamEndCapture(gpu.stream.raw(), graph) })
}

impl Capture<'_> {
    /// # Errors
    /// Something was queued that cannot be captured.
    pub fn end(mut self) -> Result<Captured> {
        self.has_ended = true;
        self.gpu.check(end_capture(self.gpu), || "ending the capture of a pass".to_owned()).map(Captured)
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
        let counted = out_param(0, |nodes| unsafe { sys::cuGraphGetNodes(self.0, ptr::null_mut(), nodes) });
        gpu.check(counted, || "counting the nodes of a graph".to_owned())
    }

    /// Made ready, and brought to the GPU.
    pub fn executable(&self, gpu: &Arc<Gpu>) -> Result<Executable> {
        // SAFETY: the graph is alive; a valid place, destroyed in drop.
        let exec = out_param(ptr::null_mut(), |exec| unsafe { sys::cuGraphInstantiateWithFlags(exec, self.0, 0) });
        let exec = gpu.check(exec, || "making a graph ready".to_owned())?;
        let executable = Executable { gpu: Arc::clone(gpu), exec };
        // SAFETY: graph and stream are ours.
        let uploaded = unsafe { sys::cuGraphUpload(exec, gpu.stream.raw()) };
        gpu.check(uploaded, || "uploading a graph".to_owned())?;
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
        increment(&self.gpu.counters.graph_launches);
        self.gpu.stream.ticket();
        // SAFETY: graph and stream are ours; of its addresses as for `launch` of a kernel.
        let launched = unsafe { sys::cuGraphLaunch(self.exec, self.gpu.stream.raw()) };
        self.gpu.check(launched, || "launching a graph".to_owned())
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        let Ok(_current) = self.gpu.enter() else { return };
        // SAFETY: made by us, destroyed once; the driver ends a launch in flight first.
        let _ = unsafe { sys::cuGraphExecDestroy(self.exec) };
    }
}
