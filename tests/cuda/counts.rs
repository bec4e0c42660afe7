//! What the kernels do at the real model's shapes, as the virtual GPU counts it.

use lseg_fast::bench::prediction::Board;
use lseg_fast::device::cuda::{Cuda, Launched, MODULES, Record};
use lseg_fast::ops::{Op, Operation};
use regex::Regex;

use crate::gpu::{open, ordinal, run_case, virtual_device};
use crate::kernels_page::{self, Page};
use crate::operations;
use testing::cases::{Case, real};

const SECTOR: u64 = 32;

/// The floating operations that belong on tensor cores: those of products, whole tokens squared for attention without a
/// mask. One row a batch item is a vector times a matrix, which reads the matrix once whatever computes it.
fn tensor_flop(op: &Op) -> u64 {
    let flop = match op {
        Op::Readout(op) => op.levels.iter().map(|level| level.patches().flop()).sum(),
        Op::GemmNorm(op) => op.gemm().flop(),
        Op::Gemm(_) | Op::Attention(_) | Op::Conv(_) | Op::Polyphase(_) => op.flop(),
        _ => 0,
    };
    flop as u64
}

/// What is wrong with an operation's launches, in words.
fn complaints(case: &Case, launches: &[Launched], l2_bytes: u64) -> Vec<String> {
    let sum = |of: fn(&Launched) -> u64| launches.iter().map(of).sum::<u64>();
    let mut wrong = Vec::new();
    let (on_tensor_cores, flop) = (sum(|l| l.counts.mma_flop), tensor_flop(&case.op));
    if on_tensor_cores < flop {
        wrong.push(format!("{on_tensor_cores} of {flop} FLOP are on tensor cores"));
    }
    let conflicts = sum(|l| l.counts.shared_conflicts);
    if conflicts > 0 {
        wrong.push(format!("{conflicts} of {} shared wavefronts are conflicts", sum(|l| l.counts.shared_wavefronts)));
    }
    let (least, sectors) = (sum(|l| l.counts.global_load_least_sectors), sum(|l| l.counts.global_load_sectors));
    // A convolution of three channels gathers them value by value.
    let gathers = launches.iter().any(|launch| launch.kernel.contains("_any"));
    if 10 * least < 9 * sectors && !gathers {
        let share = 100.0 * least as f64 / sectors as f64;
        wrong.push(format!("global loads are {share:.1} % coalesced: {sectors} sectors for what {least} hold"));
    }
    if sum(|l| l.counts.local_bytes) > 0 {
        wrong.push("there is local memory".to_owned());
    }
    let (loaded, stored) =
        (sum(|l| SECTOR * l.counts.unique_load_sectors), sum(|l| SECTOR * l.counts.unique_store_sectors));
    // What is stored beyond the output is the sums of a depth cut in parts, which is read again: it stays in the L2 cache.
    let parts = stored.saturating_sub(case.stored_bytes());
    if 2 * parts > l2_bytes {
        wrong.push(format!("{parts} bytes of partial sums do not stay in {l2_bytes} bytes of cache"));
    }
    // Of a product and its norm in two launches the second reads what the first has stored.
    let again = match case.op {
        Op::GemmNorm(op) if launches.len() > 1 => (op.out.len() * op.out.element.bytes(2)) as u64,
        _ => 0,
    };
    let touched = loaded.saturating_sub(parts + again) + stored - parts;
    let least = case.least_bytes();
    if touched as f64 > 1.15 * least as f64 {
        let share = touched as f64 / least as f64;
        wrong.push(format!("{touched} bytes are touched, {share:.2} times the least possible {least}"));
    }
    wrong
}

/// As an RTX 4090, and as an H100 where that takes another kernel: products, attention and convolutions on tensor
/// cores; no bank conflicts; global loads at least 90 % coalesced (but where the rows are aligned to nothing): sectors of 32
/// bytes against the fewest that hold the same bytes, warp by warp; no local memory; the different bytes that the launches
/// touch, but for partial sums, at most 1.15 times those of inputs, weights and output. docs/kernels.md has the counts.
#[test]
fn real_shapes_are_computed_as_planned() {
    let Some(mut cuda) = virtual_device() else { return };
    let only = std::env::var("LSEG_CASE").unwrap_or_default();
    let cases: Vec<&Case> = real().iter().filter(|case| case.name.contains(&only)).collect();
    let mut page = Page::default();
    let mut wrong = complaints_of(&mut cuda, cases.iter().copied(), &mut page);
    let mut h100 = open(ordinal(operations::BOARDS[0])).expect("it was there before");
    h100.record(Record::Counts);
    let [here, there] = ["rtx4090", "h100"].map(|name| Board::named(name).expect("boards.json has it").limits());
    let others =
        cases.into_iter().filter(|case| kernels_page::kernels(case, here) != kernels_page::kernels(case, there));
    wrong.extend(complaints_of(&mut h100, others, &mut page));
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    if only.is_empty() && std::env::var_os("VGPU_DEVICE").is_none() {
        page.hold();
    }
}

fn complaints_of(cuda: &mut Cuda, cases: impl Iterator<Item = &'static Case>, page: &mut Page) -> Vec<String> {
    let l2_bytes = cuda.info().l2_bytes as u64;
    page.begin(&cuda.info().name);
    let mut wrong = Vec::new();
    for case in cases {
        run_case(cuda, case, &case.prepare()).unwrap_or_else(|report| panic!("{}: {report}", case.name));
        let launches = cuda.take_launches();
        assert!(!launches.is_empty(), "{} launches nothing", case.name);
        let names: Vec<&str> = launches.iter().map(|launch| launch.kernel).collect();
        let complaints = complaints(case, &launches, l2_bytes);
        wrong.extend(complaints.into_iter().map(|what| format!("{} ({names:?}): {what}", case.name)));
        page.push(case, &launches);
    }
    wrong
}

/// Neither the PTX nor what ptxas made of it keeps anything in local memory.
#[test]
fn no_kernel_has_local_memory() {
    let local = Regex::new(r"\.local\b").unwrap();
    for embedded in MODULES {
        for (level, ptx) in embedded.ptx {
            let ptx = ptx.unpacked();
            let ptx = String::from_utf8_lossy(&ptx);
            let line = ptx.lines().find(|line| local.is_match(line));
            assert_eq!(line, None, "{} for compute_{level}", embedded.module);
        }
        for kernel in embedded.kernels {
            assert_eq!(kernel.spills, 0, "{} spills", kernel.name);
        }
    }
}
