//! One fault after the other: the report says what and where, and the clean twin of the same kernel passes.

#![allow(unsafe_code)]

use std::path::Path;

use cudarc::driver::PushKernelArg;
use vgpu_cuda::fault::Check;
use vgpu_cuda::mem::{LOCAL_START, SHARED_START, SHARED_WINDOW};

use super::gpu::{Gpu, Refused, launch_config};
use crate::children::in_children;
use crate::library::{kernels_directory, sources};

/// Words of `in` and `out`, and their bytes.
const WORDS: usize = 256;
const END: i64 = 4 * WORDS as i64;

/// What the host does before the faulty launch.
#[derive(Clone, Copy, PartialEq)]
enum Host {
    Nothing,
    Frees,
    LeavesUndefined,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// Bytes from the start of `in` or `out`.
    In(i64),
    Out(i64),
    /// Of the block's shared or the thread's local memory.
    Shared(u64),
    Local(u64),
    Exactly(u64),
    /// In none, or in a place that the test cannot know.
    Anywhere,
}

#[derive(Clone, Copy)]
struct Case {
    kernel: &'static str,
    /// `None`: the faulty launch is none and must pass.
    check: Option<Check>,
    block: u32,
    warp: u32,
    lanes: u32,
    at: At,
    blocks: u32,
    threads: u32,
    dynamic_shared: u32,
    host: Host,
}

const ALL: u32 = u32::MAX;
/// Races, bytes in flight and wrong windows are told of the first byte that shows them.
const FIRST: u32 = 1;

/// All lanes of one warp.
const WARP: Case = Case {
    kernel: "",
    check: None,
    block: 0,
    warp: 0,
    lanes: ALL,
    at: At::Anywhere,
    blocks: 1,
    threads: 32,
    dynamic_shared: 0,
    host: Host::Nothing,
};

const fn fault(kernel: &'static str, check: Check, lanes: u32, at: At) -> Case {
    Case { kernel, check: Some(check), lanes, at, ..WARP }
}

const CASES: &[Case] = {
    use Check::*;
    &[
        fault("global_load_past_end", OutOfBounds, 0xffff_0000, At::In(END)),
        fault("global_load_before_start", OutOfBounds, 0x0000_000f, At::In(-16)),
        fault("global_store_past_end", OutOfBounds, 0xffff_fff0, At::Out(END)),
        fault("global_atomic_past_end", OutOfBounds, 0xffff_fffe, At::In(END)),
        fault("null_pointer", OutOfBounds, ALL, At::Exactly(0)),
        Case { host: Host::Frees, ..fault("use_after_free", UseAfterFree, ALL, At::In(0)) },
        fault("shared_store_past_end", OutOfBounds, 0xffff_0000, At::Shared(256)),
        Case { dynamic_shared: 128, ..fault("dynamic_shared_past_end", OutOfBounds, 1 << 31, At::Shared(128)) },
        fault("local_load_past_end", OutOfBounds, ALL, At::Local(32)),
        fault("misaligned_load", Misaligned, ALL, At::In(2)),
        fault("misaligned_vector", Misaligned, ALL, At::In(4)),
        fault("misaligned_shared", Misaligned, ALL, At::Shared(1)),
        // The PTX manual leaves open what `cvta` makes of such a pointer, so that the load is the fault, in every lane, and
        // the address is of no memory. A driver tells misuse of a space by 700 or 717; 700 is what both cases below give.
        fault("global_taken_for_shared", AddressSpace, ALL, At::Anywhere),
        Case { kernel: "pointer_kind_asked_first", ..WARP },
        fault("shared_taken_for_global", AddressSpace, ALL, At::Exactly(SHARED_WINDOW + SHARED_START)),
        //
        fault("undefined_register_added", Uninitialised, ALL, At::Anywhere),
        fault("undefined_register_as_address", Uninitialised, ALL, At::Anywhere),
        fault("undefined_register_compared", Uninitialised, 0xffff_ff00, At::Anywhere),
        fault("undefined_predicate_branch", Uninitialised, ALL, At::Anywhere),
        Case { host: Host::LeavesUndefined, ..fault("undefined_global_added", Uninitialised, ALL, At::Anywhere) },
        Case { kernel: "undefined_global_copied", host: Host::LeavesUndefined, ..WARP },
        fault("undefined_global_in_atomic", Uninitialised, FIRST, At::Out(0)),
        fault("undefined_shared_multiplied", Uninitialised, 1 << 4, At::Anywhere),
        Case { kernel: "undefined_shared_copied", ..WARP },
        fault("undefined_local_added", Uninitialised, ALL, At::Anywhere),
        // Row 9 is row 1 of the second matrix: lanes 4 to 7 hold it.
        fault("undefined_shared_in_mma", Uninitialised, 0x0000_00f0, At::Anywhere),
        //
        Case { warp: 1, threads: 64, ..fault("shared_store_without_barrier", SharedRace, FIRST, At::Shared(128)) },
        Case { warp: 1, threads: 64, ..fault("shared_reuse_without_barrier", SharedRace, 1 << 31, At::Shared(0)) },
        Case { warp: 1, threads: 64, ..fault("shared_syncwarp_for_syncthreads", SharedRace, FIRST, At::Shared(128)) },
        fault("shared_lanes_without_syncwarp", SharedRace, FIRST, At::Shared(4)),
        fault("shared_lanes_reuse_without_syncwarp", SharedRace, FIRST, At::Shared(0)),
        fault("shared_lanes_shuffle_for_syncwarp", SharedRace, FIRST, At::Shared(4)),
        fault("shared_lanes_of_another_half", SharedRace, FIRST, At::Shared(64)),
        fault("matrix_without_syncwarp", SharedRace, FIRST, At::Shared(0)),
        fault("async_without_syncwarp", SharedRace, FIRST, At::Shared(16)),
        Case { kernel: "lanes_in_order", ..WARP },
        fault("shared_lanes_collide", SharedRace, 0b11, At::Shared(0)),
        Case { block: 1, blocks: 2, ..fault("global_stores_race", GlobalRace, 1 << 3, At::Out(0)) },
        Case { block: 1, blocks: 2, ..fault("global_load_races", GlobalRace, FIRST, At::In(0)) },
        Case { block: 1, blocks: 2, ..fault("global_plain_and_atomic", GlobalRace, 1, At::In(0)) },
        Case { block: 1, blocks: 2, ..fault("global_atomic_of_block_scope", GlobalRace, 1, At::In(0)) },
        Case { block: 1, blocks: 2, ..fault("global_fence_of_block_scope", GlobalRace, 1, At::Out(0)) },
        fault("read_only_load_of_written", NonCoherentRead, FIRST, At::In(0)),
        //
        fault("barrier_in_divergent_code", Barrier, 0x0000_ffff, At::Anywhere),
        Case { threads: 64, ..fault("barriers_deadlock", Barrier, ALL, At::Anywhere) },
        fault("shuffle_by_a_non_member", Membership, 0xffff_0000, At::Anywhere),
        fault("shuffles_at_two_places", Membership, 0x0000_ffff, At::Anywhere),
        // To hardware it is undefined. The report names the instruction, so the lanes are those that wait there; the one
        // that does not come is in its text.
        fault("mma_in_divergent_code", Membership, ALL ^ 1 << 7, At::Anywhere),
        fault("trapped", Trap, 1 << 2, At::Anywhere),
        fault("endless", Trap, ALL, At::Anywhere),
        //
        fault("async_load_in_flight", AsyncInFlight, FIRST, At::Shared(0)),
        fault("async_wait_for_too_few", AsyncInFlight, FIRST, At::Shared(256)),
        fault("async_store_in_flight", AsyncInFlight, FIRST, At::Shared(0)),
        fault("async_pending_at_exit", AsyncPending, ALL, At::Anywhere),
        fault("async_past_end", OutOfBounds, 0xffff_0000, At::In(END)),
        fault("async_misaligned", Misaligned, ALL, At::In(4)),
        Case { warp: 1, threads: 64, ..fault("async_without_barrier", SharedRace, FIRST, At::Shared(0)) },
    ]
};

/// The file of the kernel, and the line of its mistake if it has one.
fn place(kernel: &str) -> (String, Option<u32>) {
    for entry in std::fs::read_dir(sources()).expect("the kernels") {
        let path = entry.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("text");
        if text.contains(&format!("FAULT_KERNEL({kernel})")) {
            let marked = text.lines().position(|l| l.ends_with(&format!("// fault: {kernel}")));
            let name = path.file_stem().and_then(|n| n.to_str()).expect("a name").to_string();
            return (name, marked.map(|l| l as u32 + 1));
        }
    }
    panic!("no file of faults has the kernel {kernel}");
}

/// Runs the twin; also where `in` and `out` were.
fn launch(kernels: &Path, case: &Case, faulty: bool) -> (Result<(), Refused>, u64, u64) {
    let gpu = Gpu::new();
    let function = gpu.kernel(&kernels.join(format!("{}.ptx", place(case.kernel).0)), case.kernel, case.dynamic_shared);
    let host = if faulty { case.host } else { Host::Nothing };
    let words: Vec<u32> = (0..WORDS as u32).collect();
    let input = if host == Host::LeavesUndefined { gpu.undefined(WORDS) } else { gpu.upload(&words) }.leak();
    let output = gpu.undefined::<u32>(WORDS).leak();
    gpu.stream.synchronize().expect("ready");
    if host == Host::Frees {
        // SAFETY: allocated above, freed nowhere else.
        unsafe { cudarc::driver::result::free_sync(input) }.expect("freed");
    }
    let fault = i32::from(faulty);
    let mut launch = gpu.stream.launch_builder(&function);
    launch.arg(&input).arg(&output).arg(&fault);
    let result = gpu.run(launch, launch_config((case.blocks, 1, 1), case.threads, case.dynamic_shared));
    (result.map(drop), input, output)
}

/// The part of a report between two words.
fn part<'a>(report: &'a str, before: &str, after: &str) -> &'a str {
    let start = report.rfind(before).map(|i| i + before.len());
    let rest = start.map(|i| &report[i..]).unwrap_or_default();
    rest.split(after).next().unwrap_or_default()
}

fn address(at: At, input: u64, output: u64) -> Option<u64> {
    match at {
        At::In(offset) => Some(input.wrapping_add_signed(offset)),
        At::Out(offset) => Some(output.wrapping_add_signed(offset)),
        At::Shared(offset) => Some(SHARED_START + offset),
        At::Local(offset) => Some(LOCAL_START + offset),
        At::Exactly(address) => Some(address),
        At::Anywhere => None,
    }
}

/// What of the report is not as expected.
fn deviations(case: &Case, check: Check, refused: &Refused, input: u64, output: u64) -> Vec<String> {
    let report = &refused.report;
    let mut wrong = Vec::new();
    let mut expect = |what: &str, found: &str, expected: String| {
        if found != expected {
            wrong.push(format!("{}: {what} {found:?}, expected {expected:?} in: {report}", case.kernel));
        }
    };
    expect("code", &refused.code.to_string(), check.code().to_string());
    let what = report.split(": ").next().unwrap_or_default();
    expect("check and kernel", what, format!("{check:?} in {}", case.kernel));
    let (file, line) = place(case.kernel);
    if let Some(line) = line {
        let source = report.split("; the other access: ").next().unwrap_or_default();
        let source = part(source, "; at ", ";");
        let source = source.rsplit('/').next().unwrap_or_default();
        expect("source", source, format!("{file}.cu:{line}"));
    }
    // The other access of a race, or the copy in flight, is told of as well.
    let (report, other) = report.split_once("; the other access: ").unwrap_or((report, ""));
    let is_of_two =
        matches!(check, Check::SharedRace | Check::GlobalRace | Check::NonCoherentRead | Check::AsyncInFlight);
    if is_of_two && case.kernel != "shared_lanes_collide" {
        // cp.async is written in a header.
        let in_file = other.contains(&format!("{file}.cu:")) || other.contains("instructions.cuh:");
        let found = other.starts_with("at ") && in_file && other.contains(" warp ");
        expect("other access", if found { "named" } else { other }, "named".to_string());
    }
    expect("block", part(report, "; block ", " "), format!("({},0,0)", case.block));
    if case.kernel != "endless" {
        expect("warp", part(report, " warp ", " "), case.warp.to_string());
        expect("lanes", part(report, " lanes ", ";"), format!("{:#010x}", case.lanes));
    }
    if let Some(address) = address(case.at, input, output) {
        expect("address", part(report, "; address ", ";"), format!("{address:#x}"));
    }
    wrong
}

#[test]
fn every_fault_is_reported_and_its_clean_twin_passes() {
    let Some(kernels) = kernels_directory() else { return };
    // One thread: which block comes second is then known.
    let settings: &[&[(&str, &str)]] = &[&[("VGPU_SCHED", "0"), ("VGPU_THREADS", "1"), ("VGPU_LIMIT", "100000")]];
    let said = in_children("cuda::checks::every_fault_is_reported_and_its_clean_twin_passes", settings, || {
        let mut wrong = Vec::new();
        for case in CASES {
            if let (Err(refused), ..) = launch(&kernels, case, false) {
                wrong.push(format!("{}: the clean twin was refused: {refused:?}", case.kernel));
            }
            match (launch(&kernels, case, true), case.check) {
                ((Ok(()), ..), None) => {}
                ((Ok(()), ..), Some(check)) => wrong.push(format!("{}: no {check:?} was reported", case.kernel)),
                ((Err(refused), ..), None) => wrong.push(format!("{}: refused: {refused:?}", case.kernel)),
                ((Err(refused), input, output), Some(check)) => {
                    wrong.extend(deviations(case, check, &refused, input, output));
                }
            }
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    });
    // The same reports stand on stderr, each on a line of its own.
    for said in said {
        for case in CASES.iter().filter(|c| c.check.is_some()) {
            let reported =
                said.stderr.lines().any(|l| l.starts_with("vgpu: ") && l.contains(&format!(" in {}: ", case.kernel)));
            assert!(reported, "{}: nothing on stderr", case.kernel);
        }
    }
}

/// The order of warps, blocks and lanes decides which of two sees a race, not whether it is seen.
#[test]
fn other_schedules_report_the_same_faults() {
    let Some(kernels) = kernels_directory() else { return };
    let settings: &[&[(&str, &str)]] =
        &[&[("VGPU_SCHED", "1"), ("VGPU_LIMIT", "100000")], &[("VGPU_SCHED", "2"), ("VGPU_LIMIT", "100000")]];
    in_children("cuda::checks::other_schedules_report_the_same_faults", settings, || {
        let mut wrong = Vec::new();
        for case in CASES {
            if let (Err(refused), ..) = launch(&kernels, case, false) {
                wrong.push(format!("{}: the clean twin was refused: {refused:?}", case.kernel));
            }
            let (result, ..) = launch(&kernels, case, true);
            let found = result.err().map(|r| r.report.split(": ").next().unwrap_or_default().to_string());
            let expected = case.check.map(|check| format!("{check:?} in {}", case.kernel));
            if found != expected {
                wrong.push(format!("{}: {found:?}, expected {expected:?}", case.kernel));
            }
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    });
}

/// Blocks run at the same time on several threads; which pair of them is named must not depend on it.
#[test]
fn a_race_of_blocks_is_always_told_the_same_way() {
    let Some(kernels) = kernels_directory() else { return };
    let settings: &[&[(&str, &str)]] = &[&[("VGPU_THREADS", "4")]];
    in_children("cuda::checks::a_race_of_blocks_is_always_told_the_same_way", settings, || {
        for _ in 0..10 {
            let case = Case { blocks: 8, ..fault("global_neighbours_race", Check::GlobalRace, 1, At::Out(4)) };
            let (Err(refused), _, output) = launch(&kernels, &case, true) else { panic!("no race was reported") };
            // The first to run reads the word of the second, which then writes it.
            let expected = "block 1 writes what block 0 read in this launch, and nothing orders them; at ";
            let report = refused.report;
            assert!(report.contains(expected) && report.contains("; block (1,0,0) warp 0 "), "{report}");
            assert!(report.contains(&format!("; address {:#x}; the other access: at ", output + 4)), "{report}");
            assert!(report.ends_with("; block (0,0,0) warp 0"), "{report}");
        }
    });
}

/// What a launch may not ask for is refused before it runs, with CUDA's code.
#[test]
fn launches_beyond_the_limits_are_refused() {
    let Some(kernels) = kernels_directory() else { return };
    let gpu = Gpu::new();
    let out = gpu.undefined::<u32>(WORDS);
    let zero = 0i32;
    let refused = |file: &str, name: &str, grid: (u32, u32, u32), threads: u32, shared: u32| {
        let kernel = gpu.kernel(&kernels.join(file), name, 0);
        let mut launch = gpu.stream.launch_builder(&kernel);
        // Enough for the longest list of parameters; a launch takes the first ones.
        launch.arg(&out).arg(&out).arg(&zero).arg(&zero).arg(&zero).arg(&zero).arg(&zero);
        gpu.run(launch, launch_config(grid, threads, shared)).err().map(|r| r.code)
    };
    let (invalid, resources) = (Some(1), Some(701));
    let memory = "faults_memory.ptx";
    assert_eq!(refused(memory, "use_after_free", (1, 1, 1), 1025, 0), invalid);
    assert_eq!(refused(memory, "use_after_free", (1, 1, 1), 0, 0), invalid);
    assert_eq!(refused(memory, "use_after_free", (0, 1, 1), 32, 0), invalid);
    assert_eq!(refused(memory, "use_after_free", (1, 65536, 1), 32, 0), invalid);
    // 48 KiB are the most that nobody asked for.
    assert_eq!(refused(memory, "dynamic_shared_past_end", (1, 1, 1), 32, 49153), invalid);
    // Compiled for 128 threads a block.
    assert_eq!(refused("standardise.ptx", "standardise", (1, 1, 1), 256, 0), resources);
}
