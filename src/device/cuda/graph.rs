//! A pass as one graph: captured once, then replayed with one launch.
//!
//! The ritual: the pass has run eagerly before (all that is loaded lazily is there) and the stream is empty; capture, check,
//! instantiate, upload. A graph holds addresses, of the GPU's memory and of page-locked memory: whoever moves memory that it
//! uses must forget it.

use std::sync::Arc;

use super::driver::{Executable, Gpu};
use crate::error::{Error, Result};

pub struct Graph {
    executable: Executable,
    nodes: usize,
}

impl Graph {
    /// Captures what `pass` queues.
    ///
    /// # Errors
    /// Those of `pass`; something in it that cannot be captured, or that is neither launch nor copy.
    pub fn capture(gpu: &Arc<Gpu>, pass: impl FnOnce() -> Result<()>) -> Result<Graph> {
        gpu.synchronize()?;
        let capture = gpu.capture()?;
        let before = queued(gpu);
        pass()?;
        let queued = queued(gpu) - before;
        let captured = capture.end()?;
        let nodes = captured.nodes(gpu)?;
        if nodes != queued {
            return Err(Error::Device(format!("a captured pass of {queued} launches and copies has {nodes} nodes")));
        }
        Ok(Graph { nodes, executable: captured.executable(gpu)? })
    }

    /// Captures what another library queues beside us.
    ///
    /// # Errors
    /// Those of `pass`; something in it that cannot be captured.
    #[cfg(feature = "bench")]
    pub fn capture_foreign(gpu: &Arc<Gpu>, pass: impl FnOnce() -> Result<()>) -> Result<Graph> {
        gpu.synchronize()?;
        let capture = gpu.capture()?;
        pass()?;
        let captured = capture.end()?;
        Ok(Graph { nodes: captured.nodes(gpu)?, executable: captured.executable(gpu)? })
    }

    /// Queues the whole pass.
    pub fn launch(&self) -> Result<()> {
        self.executable.launch()
    }

    pub fn nodes(&self) -> usize {
        self.nodes
    }
}

/// Launches and copies so far.
fn queued(gpu: &Gpu) -> usize {
    let calls = gpu.calls();
    (calls.launches + calls.copies_in + calls.copies_out) as usize
}
