//! What users see of the CUDA device beside its results: which device is chosen and why, what happens when something is
//! missing, runs out or breaks, and that a replayed frame is the frame. On the virtual GPU (`cargo xtask test` has it) or a
//! real one; without either, and without kernels in the build, the tests say that they are skipped.

mod engine;
mod failures;
mod lost;
mod moved;
mod passes;
mod program;
mod refused;
mod small;
#[path = "../support_gpu/mod.rs"]
mod support_gpu;

use std::path::PathBuf;

use lseg_fast::device::Calls;
use lseg_fast::device::cuda::Cuda;

/// Whether there is a GPU to test, real or virtual.
fn is_there() -> bool {
    support_gpu::found(Cuda::new(0)).is_some()
}

fn is_virtual() -> bool {
    is_there() && Cuda::new(0).unwrap().info().is_virtual
}

/// Where the project lies: LSEG_TEST_ROOT where this program was moved elsewhere, as to a machine with a GPU.
fn repository_file(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("LSEG_TEST_ROOT").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())).join(name)
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
