//! What users see of the CUDA device beside its results: which device is chosen and why, what happens when something is
//! missing, runs out or breaks, and that a replayed frame is the frame.

mod caller;
mod engine;
mod failures;
mod halfway;
mod interop;
mod interop_memory;
mod interop_waits;
mod lanes;
mod lost;
mod moved;
mod passes;
mod primary;
mod program;
mod refused;
mod siblings;
mod slots;
pub mod small;
mod stream;

use std::process::Stdio;
use std::time::{Duration, Instant};

use lseg_fast::device::Calls;
use testing::process::child;

use crate::gpu::{device, ordinal};

/// Orders of streams, warps and copies in which siblings and submitted passes must work.
pub const BOARDS: [&str; 8] = [
    "rtx4090:sched=0",
    "rtx4090:sched=1",
    "rtx4090:sched=2",
    "rtx4090:sched=3",
    "rtx4090:sched=4",
    "rtx4090:sched=5",
    "rtx4090:sched=6",
    "rtx4090:sched=7",
];

/// The GPUs to test such things on, by number: a real one is what it is.
fn schedules() -> Vec<usize> {
    match device() {
        None => Vec::new(),
        Some(cuda) if cuda.info().is_virtual => BOARDS.map(ordinal).to_vec(),
        Some(_) => vec![0],
    }
}

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
    copies_within: 0,
    launches: 0,
    overlapping: 0,
    graph_launches: 1,
    graph_nodes: 4,
    programmatic_edges: 0,
    records: 2,
    waits: 0,
    synchronisations: 1,
};

/// Without which kernels may overlap, which is the board's.
fn difference(before: Calls, after: Calls) -> Calls {
    Calls {
        allocations: after.allocations - before.allocations,
        copies_in: after.copies_in - before.copies_in,
        copies_out: after.copies_out - before.copies_out,
        copies_within: after.copies_within - before.copies_within,
        launches: after.launches - before.launches,
        overlapping: 0,
        graph_launches: after.graph_launches - before.graph_launches,
        graph_nodes: after.graph_nodes,
        programmatic_edges: 0,
        records: after.records - before.records,
        waits: after.waits - before.waits,
        synchronisations: after.synchronisations - before.synchronisations,
    }
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

/// This test once more in a process in which calls of the driver fail on order.
#[track_caller]
fn failing(test: &str, failures: &str, body: impl FnOnce()) {
    if std::env::var_os("VGPU_FAIL").is_some() {
        return body();
    }
    let mut child = child(test);
    let mut child = child.env("VGPU_FAIL", failures).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("{test} does not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
