//! What users see of the CUDA device beside its results: which device is chosen and why, what happens when something is
//! missing, runs out or breaks, and that a replayed frame is the frame.

mod engine;
mod failures;
mod lost;
mod moved;
mod passes;
mod program;
mod refused;
mod small;

use lseg_fast::device::Calls;

use crate::gpu::device;

/// Whether there is a GPU to test, real or virtual.
fn is_there() -> bool {
    device().is_some()
}

fn is_virtual() -> bool {
    device().is_some_and(|cuda| cuda.info().is_virtual)
}

/// One launch and one wait: the two kernels of a small pass and its two copies are nodes.
const REPLAYED: Calls = Calls {
    allocations: 0,
    copies_in: 0,
    copies_out: 0,
    launches: 0,
    graph_launches: 1,
    graph_nodes: 4,
    synchronisations: 1,
};

fn difference(before: Calls, after: Calls) -> Calls {
    Calls {
        allocations: after.allocations - before.allocations,
        copies_in: after.copies_in - before.copies_in,
        copies_out: after.copies_out - before.copies_out,
        launches: after.launches - before.launches,
        graph_launches: after.graph_launches - before.graph_launches,
        graph_nodes: after.graph_nodes,
        synchronisations: after.synchronisations - before.synchronisations,
    }
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}
