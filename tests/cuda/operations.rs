//! Every operation against float64, in two schedules of the virtual GPU on two kinds of it: 132 quick multiprocessors and 16,
//! so that tiles are chosen differently for the same shapes.

use std::collections::BTreeSet;

use lseg_fast::device::cuda::{Cuda, EmbeddedModule, MODULES, Record};
use lseg_fast::ops::{Element, Op};

use crate::bounds::{Subject, complaint};
use crate::gpu::{device, open, ordinal, run_case};
use testing::cases::{awkward, long};

pub const BOARDS: [&str; 2] = ["h100:sched=0", "orin:sched=1"];

/// Whether a GPU leaves the operation to the CPU: kernels take what models have, depths and channels in whole chunks of eight and
/// heads of 64. A photo's three channels are taken as they are, though by no residual unit and no plain product.
pub fn is_refused(op: &Op) -> bool {
    let ragged = |channels: usize| !channels.is_multiple_of(8);
    match op {
        Op::Gemm(op) => ragged(op.w.weight.k),
        Op::Conv(op) => ragged(op.x.channels()) && (op.relu_in || (op.w.kernel, op.w.stride) == (1, 1)),
        Op::Polyphase(op) => ragged(op.x.channels()),
        Op::GemmNorm(op) => ragged(op.w.weight.k) || is_refused(&op.layer_norm().into()),
        Op::Readout(op) => ragged(op.levels[0].tokens.channels()),
        Op::LayerNorm(op) => !op.x.channels().is_multiple_of(4) || op.x.channels() > 1024,
        Op::Attention(op) => op.size() != 64,
        Op::Similarity(op) => ragged(op.coordinates.channels()),
        Op::Upsample(op) if op.x.element == Element::F32 => !op.x.channels().is_multiple_of(4),
        Op::Upsample(op) => ragged(op.x.channels()),
        Op::MaxPool(op) => ragged(op.x.channels()),
        _ => false,
    }
}

/// With its launches' names kept.
fn opened(ordinal: usize) -> Cuda {
    let mut cuda = open(ordinal).expect("it was there before");
    cuda.record(Record::Launches);
    cuda
}

/// Each case is right, or refused in a sentence if [`is_refused`] says so. Every kernel of the build, but for those that only
/// measure and those for 9.0 alone, is launched by some case on one of the boards. A real GPU is one kind alone: there `bench check` goes through all tiles.
#[test]
fn operations_err_as_little_as_pytorch() {
    let Some(first) = device() else { return };
    // A real GPU is what it is, and its minutes are few.
    let is_virtual = first.info().is_virtual;
    let ordinals = if is_virtual { BOARDS.map(ordinal).to_vec() } else { vec![0] };
    drop(first);
    let mut devices: Vec<Cuda> = ordinals.into_iter().map(opened).collect();
    let only = std::env::var("LSEG_CASE").unwrap_or_default();
    let (mut complaints, mut launched) = (Vec::new(), BTreeSet::new());
    for case in awkward().iter().chain(long()).filter(|case| case.name.contains(&only)) {
        let (subject, refused) = (Subject::of(case), is_refused(&case.op));
        for cuda in &mut devices {
            let complaint = match run_case(cuda, case, &subject.prepared) {
                Ok(_) if refused => Some("computed, though no kernel is said to take it".to_owned()),
                Ok(got) => complaint(&subject, &got),
                Err(reason) if refused && reason.ends_with("the CPU computes it: pass --device cpu") => None,
                Err(reason) => {
                    // Not every failure kills the device, but a new one is always alive.
                    *cuda = opened(cuda.info().ordinal);
                    Some(reason)
                }
            };
            launched.extend(cuda.take_launches().iter().map(|launch| launch.kernel));
            complaints
                .extend(complaint.map(|complaint| format!("{}, on {}: {complaint}", case.name, cuda.info().name)));
        }
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    if !is_virtual || !only.is_empty() {
        return;
    }
    // Those of warpgroups have a test of their own, which tries every one on every case.
    let is_tried = |embedded: &&EmbeddedModule| embedded.module != "probe" && !embedded.module.starts_with("sm90/");
    let operations = MODULES.iter().filter(is_tried);
    let kernels = operations.flat_map(|embedded| embedded.kernels).map(|kernel| kernel.name);
    let never: Vec<&str> = kernels.filter(|kernel| !launched.contains(kernel)).collect();
    assert!(never.is_empty(), "no case launches {never:?}");
}
