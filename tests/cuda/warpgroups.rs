//! Products on warpgroups (kernels/sm90): every tile on every case that it takes, at sizes that are ragged against all of them, in
//! four schedules of the virtual GPU: copies and products as early and as late as they may be, warps in other orders.

use lseg_fast::device::cuda::{Config, Cuda, Forced, Record, configs};
use lseg_fast::ops::{Element, Op};

use crate::bounds::{Subject, complaint};
use crate::gpu::{device, open, ordinal, run_case};
use crate::operations::is_refused;
use testing::cases::{Case, awkward};

pub const BOARDS: [&str; 4] = ["h100:sched=0", "h100:sched=1", "h100:sched=2", "h100:sched=3"];

fn takes(op: &Op) -> Option<Element> {
    match op {
        op if is_refused(op) => None,
        Op::Gemm(op) => Some(op.x.buf.element),
        Op::Conv(op) if (op.w.kernel, op.w.stride, op.relu_in) == (1, 1, false) => Some(op.x.element),
        Op::ConvTranspose(op) => Some(op.x.element),
        _ => None,
    }
}

/// What is wrong with a case by this tile; none where the device takes another for it, for what its shape needs.
fn complaint_of(cuda: &mut Cuda, subject: &Subject, case: &Case, config: Config) -> Option<Option<String>> {
    cuda.force(Forced { config: Some(config), ..Forced::default() });
    let got = run_case(cuda, case, &subject.prepared);
    if cuda.take_launches().first().is_none_or(|launch| launch.config != Some(config)) && got.is_ok() {
        return None;
    }
    Some(match got {
        Ok(got) => complaint(subject, &got),
        Err(report) => {
            *cuda = opened(cuda.info().ordinal);
            Some(report)
        }
    })
}

fn opened(ordinal: usize) -> Cuda {
    let mut cuda = open(ordinal).expect("it was there before");
    cuda.record(Record::Launches);
    cuda
}

#[test]
fn every_tile_is_right_in_every_schedule() {
    let Some(first) = device() else { return };
    let is_virtual = first.info().is_virtual;
    drop(first);
    let ordinals = if is_virtual { BOARDS.map(ordinal).to_vec() } else { vec![0] };
    let mut devices: Vec<Cuda> = ordinals.into_iter().map(opened).collect();
    let only = std::env::var("LSEG_CASE").unwrap_or_default();
    let mut complaints = Vec::new();
    let mut comparisons = vec![0; configs(Element::Activation).count() + configs(Element::F32).count()];
    for case in awkward().iter().filter(|case| case.name.contains(&only)) {
        let Some(element) = takes(&case.op) else { continue };
        let subject = Subject::of(case);
        let skipped = if element == Element::F32 { configs(Element::Activation).count() } else { 0 };
        for (i, config) in configs(element).enumerate().filter(|(_, config)| config.tile.is_of_warpgroups()) {
            for (cuda, board) in devices.iter_mut().zip(BOARDS) {
                let Some(complaint) = complaint_of(cuda, &subject, case, config) else { continue };
                comparisons[skipped + i] += 1;
                complaints.extend(complaint.map(|what| format!("{} by {config:?} on {board}: {what}", case.name)));
            }
        }
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    if is_virtual && only.is_empty() {
        let all = configs(Element::Activation).chain(configs(Element::F32));
        let never: Vec<Config> = all
            .zip(comparisons)
            .filter(|(config, n)| config.tile.is_of_warpgroups() && *n < 8)
            .map(|(c, _)| c)
            .collect();
        assert!(never.is_empty(), "too few cases by {never:?}");
    }
}
