//! What orders the warps of a block, its lanes and the blocks: kernels that lack it are reported in every order of events,
//! with the places of both accesses; their twins in none.

#![allow(unsafe_code)]

use std::path::Path;

use cudarc::driver::PushKernelArg;

use super::gpu::{Gpu, Refused, launch_config};
use crate::children::in_children;
use crate::library::{kernels_directory, sources};

struct Case {
    kernel: &'static str,
    check: &'static str,
    blocks: u32,
    threads: u32,
}

const fn case(kernel: &'static str, check: &'static str, blocks: u32, threads: u32) -> Case {
    Case { kernel, check, blocks, threads }
}

const CASES: &[Case] = &[
    case("block_stores_and_reads", "GlobalRace", 1, 64),
    case("block_stores_collide", "GlobalRace", 1, 64),
    case("block_reuses_too_early", "GlobalRace", 1, 64),
    case("block_counts_without_atomics", "GlobalRace", 1, 64),
    case("block_flag_without_fence", "GlobalRace", 1, 64),
    case("lock_of_blocks_without_fence", "GlobalRace", 2, 32),
    case("lock_of_warps_without_fence", "GlobalRace", 1, 64),
    case("lock_in_shared_without_fence", "SharedRace", 1, 64),
    case("lock_without_any_fence", "GlobalRace", 2, 32),
    case("syncwarp_without_the_reader", "SharedRace", 1, 32),
    case("syncwarp_of_two_sets", "SharedRace", 1, 32),
    case("syncwarp_without_the_writer", "SharedRace", 1, 32),
    case("syncwarp_once_for_two_steps", "SharedRace", 1, 32),
];

const WORDS: usize = 256;

fn launch(kernels: &Path, case: &Case, faulty: bool) -> Result<(), Refused> {
    let gpu = Gpu::new();
    let function = gpu.kernel(&kernels.join("faults_order.ptx"), case.kernel, 0);
    let input = gpu.upload(&[0u32; WORDS]).leak();
    let output = gpu.undefined::<u32>(WORDS).leak();
    let fault = i32::from(faulty);
    let mut launch = gpu.stream.launch_builder(&function);
    launch.arg(&input).arg(&output).arg(&fault);
    gpu.run(launch, launch_config((case.blocks, 1, 1), case.threads, 0)).map(drop)
}

/// Lines of the source inside the kernel, by number.
fn lines_of(kernel: &str) -> std::ops::Range<usize> {
    let text = std::fs::read_to_string(sources().join("faults_order.cu")).expect("the source");
    let start = text.lines().position(|l| l.contains(&format!("FAULT_KERNEL({kernel})"))).expect("the kernel");
    let length = text.lines().skip(start).position(|l| l == "}").expect("its end");
    start + 1..start + length + 1
}

/// The source lines that a report names: of the access at fault, and of the other.
fn named_lines(report: &str) -> Vec<usize> {
    let parts = report.split("faults_order.cu:").skip(1);
    parts.filter_map(|rest| rest.split(';').next()?.parse().ok()).collect()
}

#[test]
fn what_nothing_orders_is_reported_with_both_places() {
    let Some(kernels) = kernels_directory() else { return };
    let seeds = ["0", "1", "2", "3", "4", "5", "6", "7"].map(|seed| [("VGPU_SCHED", seed), ("VGPU_LIMIT", "1000000")]);
    let settings: Vec<&[(&str, &str)]> = seeds.iter().map(|s| &s[..]).collect();
    in_children("cuda::order::what_nothing_orders_is_reported_with_both_places", &settings, || {
        let mut wrong = Vec::new();
        for case in CASES {
            if let Err(refused) = launch(&kernels, case, false) {
                wrong.push(format!("{}: the clean twin was refused: {refused:?}", case.kernel));
            }
            let Err(refused) = launch(&kernels, case, true) else {
                wrong.push(format!("{}: nothing was reported", case.kernel));
                continue;
            };
            let report = refused.report;
            let lines = named_lines(&report);
            let inside = lines_of(case.kernel);
            let as_expected = report.starts_with(&format!("{} in {}: ", case.check, case.kernel))
                && lines.len() == 2
                && lines.iter().all(|line| inside.contains(line))
                && report.contains("; the other access: at ");
            if !as_expected {
                wrong.push(format!("{}: {lines:?} of {inside:?} in {report}", case.kernel));
            }
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    });
}
