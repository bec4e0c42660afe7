//! A pass as one graph: captured once, then replayed with one launch.
//!
//! The ritual: the pass has run eagerly before (all that is loaded lazily is there), the stream is empty; capture; check;
//! instantiate; upload. A graph holds addresses: whoever moves memory that it uses must forget it.

use std::sync::Arc;

use cudarc::driver::result;
use cudarc::driver::sys::{self, CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::driver::Gpu;
use crate::error::Result;

pub struct Graph {
    gpu: Arc<Gpu>,
    exec: sys::CUgraphExec,
    nodes: usize,
}

// SAFETY: a handle that any thread may use once the context is current.
unsafe impl Send for Graph {}

/// A capture that has begun; it ends with this, so that a stream never stays capturing.
struct Capture<'a> {
    gpu: &'a Gpu,
    has_ended: bool,
}

/// What was captured.
struct Captured(sys::CUgraph);

impl<'a> Capture<'a> {
    fn begin(gpu: &'a Gpu) -> Result<Capture<'a>> {
        // Other threads' calls concern other engines.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: our own stream.
        gpu.told(unsafe { result::stream::begin_capture(gpu.stream, mode) }, || "capturing a pass".to_owned())?;
        Ok(Capture { gpu, has_ended: false })
    }

    fn end(mut self) -> Result<Captured> {
        self.has_ended = true;
        // SAFETY: our own stream, which is capturing.
        let graph = unsafe { result::stream::end_capture(self.gpu.stream) };
        self.gpu.told(graph, || "ending the capture of a pass".to_owned()).map(Captured)
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            // SAFETY: our own stream, which is capturing.
            let graph = unsafe { result::stream::end_capture(self.gpu.stream) };
            // Whoever left the capture has the reason; an answer of null is possible.
            graph.ok().filter(|graph| !graph.is_null()).map(Captured);
        }
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        // SAFETY: made by the capture, destroyed once; what was instantiated of it lives on.
        let _ = unsafe { result::graph::destroy(self.0) };
    }
}

impl Graph {
    /// Captures what `pass` queues. The context is current, and stays with this thread.
    ///
    /// # Errors
    /// Those of `pass`; a call in it that cannot be captured.
    pub fn capture(gpu: &Arc<Gpu>, pass: impl FnOnce() -> Result<()>) -> Result<Graph> {
        gpu.synchronize()?;
        let capture = Capture::begin(gpu)?;
        pass()?;
        let captured = capture.end()?;
        let mut nodes = 0;
        // SAFETY: the graph is alive; without a list of nodes only their number is written.
        let counted = unsafe { sys::cuGraphGetNodes(captured.0, std::ptr::null_mut(), &mut nodes) }.result();
        gpu.told(counted, || "counting the nodes of a graph".to_owned())?;
        // SAFETY: the graph is alive.
        let exec = unsafe { result::graph::instantiate(captured.0, CUgraphInstantiate_flags(0)) };
        let exec = gpu.told(exec, || format!("making a graph of {nodes} nodes ready"))?;
        let graph = Graph { gpu: Arc::clone(gpu), exec, nodes };
        // SAFETY: graph and stream are ours.
        let uploaded = unsafe { result::graph::upload(graph.exec, gpu.stream) };
        gpu.told(uploaded, || format!("uploading a graph of {nodes} nodes"))?;
        Ok(graph)
    }

    /// Queues the whole pass.
    pub fn launch(&self) -> Result<()> {
        self.gpu.count_graph_launch();
        // SAFETY: graph and stream are ours.
        let launched = unsafe { result::graph::launch(self.exec, self.gpu.stream) };
        self.gpu.told(launched, || format!("launching a graph of {} nodes", self.nodes))
    }

    pub fn nodes(&self) -> usize {
        self.nodes
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let Ok(_current) = self.gpu.enter() else { return };
        // SAFETY: made by us, destroyed once; a launch in flight is finished by the driver first.
        let _ = unsafe { result::graph::exec_destroy(self.exec) };
    }
}
