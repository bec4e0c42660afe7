//! A pass as one graph: captured once, then replayed with one launch.
//!
//! The ritual: the pass has run eagerly before (all that is loaded lazily is there) and the stream is empty; capture, check,
//! instantiate, upload. A graph holds addresses, of the GPU's memory and of page-locked memory: whoever moves memory that it
//! uses must forget it.

use std::sync::Arc;

use super::driver::{Executable, Stream};
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
    pub fn capture(stream: &Arc<Stream>, pass: impl FnOnce() -> Result<()>) -> Result<Graph> {
        let capture = stream.capture()?;
        let before = queued(stream);
        pass()?;
        let queued = queued(stream) - before;
        let captured = capture.end()?;
        let nodes = captured.nodes(stream)?;
        if nodes != queued {
            return Err(Error::Device(format!("a captured pass of {queued} launches and copies has {nodes} nodes")));
        }
        Ok(Graph { nodes, executable: captured.executable(stream)? })
    }

    /// Captures what another library queues beside us.
    ///
    /// # Errors
    /// Those of `pass`; something in it that cannot be captured.
    #[cfg(feature = "bench")]
    pub fn capture_foreign(stream: &Arc<Stream>, pass: impl FnOnce() -> Result<()>) -> Result<Graph> {
        let capture = stream.capture()?;
        pass()?;
        let captured = capture.end()?;
        Ok(Graph { nodes: captured.nodes(stream)?, executable: captured.executable(stream)? })
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
fn queued(stream: &Stream) -> usize {
    let calls = stream.calls();
    (calls.launches + calls.copies_in + calls.copies_out + calls.copies_within) as usize
}
