//! A pass as one graph: captured once, then replayed with one launch.
//!
//! The ritual: the pass has run eagerly before (all that is loaded lazily is there) and the stream is empty; capture, check,
//! instantiate, upload. A graph holds addresses, of the GPU's memory and of page-locked memory: whoever moves memory that it
//! uses must forget it.

use std::sync::Arc;

use super::driver::{Executable, Stream};
use crate::device::Calls;
use crate::error::{Error, Result};

pub struct Graph {
    executable: Executable,
    nodes: usize,
    /// Of its edges, those that let a kernel begin before the one before it has ended.
    programmatic_edges: usize,
}

impl Graph {
    /// Captures what `pass` queues.
    ///
    /// # Errors
    /// Those of `pass`; something in it that cannot be captured, or that is neither launch nor copy.
    pub fn capture(stream: &Arc<Stream>, pass: impl FnOnce() -> Result<()>) -> Result<Graph> {
        let capture = stream.capture()?;
        let before = stream.calls();
        pass()?;
        let after = stream.calls();
        let captured = capture.end()?;
        let (queued, nodes) = (queued(&after) - queued(&before), captured.nodes(stream)?);
        if nodes != queued {
            return Err(Error::Device(format!("a captured pass of {queued} launches and copies has {nodes} nodes")));
        }
        // As many as there were launches that may overlap, by what drivers document; a driver that makes other edges of them computes
        // the same, one after the other, and whoever measures sees the number.
        let programmatic_edges = captured.programmatic_edges(stream)?.unwrap_or(0);
        Ok(Graph { nodes, programmatic_edges, executable: captured.executable(stream)? })
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
        let (nodes, programmatic_edges) = (captured.nodes(stream)?, 0);
        Ok(Graph { nodes, programmatic_edges, executable: captured.executable(stream)? })
    }

    /// Queues the whole pass.
    pub fn launch(&self) -> Result<()> {
        self.executable.launch()
    }

    pub fn nodes(&self) -> usize {
        self.nodes
    }

    pub fn programmatic_edges(&self) -> usize {
        self.programmatic_edges
    }
}

/// Launches and copies.
fn queued(calls: &Calls) -> usize {
    (calls.launches + calls.copies_in + calls.copies_out + calls.copies_within) as usize
}
