//! A pass as one graph: captured once, then replayed with one launch.
//!
//! The ritual: the pass has run eagerly before (all that is loaded lazily is there) and the stream is empty; capture, check,
//! instantiate, upload. A graph holds addresses: whoever moves memory that it uses must forget it.

use std::sync::Arc;

use super::driver::{Executable, Gpu};
use crate::error::Result;

pub struct Graph {
    executable: Executable,
    nodes: usize,
}

impl Graph {
    /// Captures what `pass` queues.
    ///
    /// # Errors
    /// Those of `pass`; a call in it that cannot be captured.
    pub fn capture(gpu: &Arc<Gpu>, pass: impl FnOnce() -> Result<()>) -> Result<Graph> {
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
