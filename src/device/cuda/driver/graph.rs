//! Captures of a stream, and the graphs they become.

#![allow(unsafe_code)]

use std::ptr;
use std::sync::Arc;

use super::calls::increment;
use super::out_param;
use super::stream::Stream;
use crate::device::cuda::codes::check;
use crate::device::cuda::sys::{self, EdgeData, PROGRAMMATIC_EDGE};
use crate::error::Result;

/// A capture that has begun; dropping it ends it, so that the stream never stays capturing.
pub struct Capture<'a> {
    stream: &'a Stream,
    has_ended: bool,
}

/// What was captured.
pub struct Captured(sys::CUgraph);

/// A graph that can be launched on its stream.
pub struct Executable {
    stream: Arc<Stream>,
    exec: sys::CUgraphExec,
}

// SAFETY: as for modules.
unsafe impl Send for Executable {}

impl Stream {
    /// Waits for everything queued; from here until its end what is queued is not done, but recorded. It concerns this thread's
    /// calls alone.
    pub fn capture(&self) -> Result<Capture<'_>> {
        self.synchronize()?;
        self.check(self.queue.begin_capture(), || "capturing a pass".to_owned())?;
        Ok(Capture { stream: self, has_ended: false })
    }
}

impl Capture<'_> {
    /// # Errors
    /// Something was queued that cannot be captured.
    pub fn end(mut self) -> Result<Captured> {
        self.has_ended = true;
        let captured = self.stream.queue.end_capture();
        self.stream.check(captured, || "ending the capture of a pass".to_owned()).map(Captured)
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            // Whoever left the capture has the reason. A spoiled capture may answer with null.
            drop(self.stream.queue.end_capture().ok().filter(|graph| !graph.is_null()).map(Captured));
        }
    }
}

impl Captured {
    pub fn nodes(&self, stream: &Stream) -> Result<usize> {
        // SAFETY: the graph is alive; without a list only the number is written.
        let counted = out_param(0, |nodes| unsafe { sys::cuGraphGetNodes(self.0, ptr::null_mut(), nodes) });
        stream.check(counted, || "counting the nodes of a graph".to_owned())
    }

    /// Edges that let a kernel begin before the one before it has ended; `None` where the driver is too old to tell.
    pub fn programmatic_edges(&self, stream: &Stream) -> Result<Option<usize>> {
        let Some(edges) = sys::newer().cuGraphGetEdges_v2 else { return Ok(None) };
        let what = || "asking for the edges of a graph".to_owned();
        let (none, no_data) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the graph is alive; without lists only the number is written.
        let counted = out_param(0, |count| check(unsafe { edges(self.0, none, none, no_data, count) }));
        let mut count = stream.check(counted, what)?;
        let (mut from, mut to) = (vec![ptr::null_mut(); count], vec![ptr::null_mut(); count]);
        let mut data = vec![EdgeData::default(); count];
        // SAFETY: the graph is alive, and each list has room for so many.
        let told = unsafe { edges(self.0, from.as_mut_ptr(), to.as_mut_ptr(), data.as_mut_ptr(), &raw mut count) };
        stream.check(check(told), what)?;
        Ok(Some(data.iter().filter(|edge| edge.kind == PROGRAMMATIC_EDGE).count()))
    }

    /// Made ready, and brought to the GPU.
    pub fn executable(&self, stream: &Arc<Stream>) -> Result<Executable> {
        // SAFETY: the graph is alive; a valid place, destroyed in drop.
        let exec = out_param(ptr::null_mut(), |exec| unsafe { sys::cuGraphInstantiateWithFlags(exec, self.0, 0) });
        let exec = stream.check(exec, || "making a graph ready".to_owned())?;
        let executable = Executable { stream: Arc::clone(stream), exec };
        // SAFETY: graph and stream are ours.
        let uploaded = unsafe { sys::cuGraphUpload(exec, stream.queue.raw()) };
        stream.check(uploaded, || "uploading a graph".to_owned())?;
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
        increment(&self.stream.counters.graph_launches);
        self.stream.queue.graph_ticket();
        // SAFETY: graph and stream are ours; of its addresses as for `launch` of a kernel.
        let launched = unsafe { sys::cuGraphLaunch(self.exec, self.stream.queue.raw()) };
        self.stream.check(launched, || "launching a graph".to_owned())
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        let Some(_current) = self.stream.context.enter_to_free() else { return };
        // SAFETY: made by us, destroyed once; the driver ends a launch in flight first.
        let _ = unsafe { sys::cuGraphExecDestroy(self.exec) };
    }
}
