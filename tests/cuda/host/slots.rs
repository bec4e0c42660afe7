//! Submitted passes: two in flight, each from and to memory of its own.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use lseg_fast::device::cuda::{ContextOptions, Cuda, Wait, Waiting};
use lseg_fast::device::{Calls, Device, Upload};
use lseg_fast::{Error, Result};

use super::small::{Layers, Small, WIDTH, bank, calls, pattern};
use super::{REPLAYED, failing, has, is_there, is_virtual, schedules};
use crate::gpu::ordinal;

const INPUTS: usize = 7;

/// The time that a pass is given where one hangs; the others need a thousandth of it.
const PASS: Duration = Duration::from_secs(1);

/// A device, a pass of it, and what [`Device::run`] makes of each input.
fn subject(ordinal: usize) -> (Cuda, Small, Vec<Vec<u32>>) {
    let mut cuda = Cuda::new(ordinal).unwrap();
    let layers = Layers::new(&mut cuda, 16);
    let mut same = layers.compile(&mut cuda, 20);
    let expected = (0..INPUTS).map(|seed| same.run(&mut cuda, seed).unwrap()).collect();
    let small = layers.compile(&mut cuda, 20);
    (cuda, small, expected)
}

/// All inputs, two in flight. `hastens`: in between the device waits for the stream that computes, and for no other.
fn pipelined(cuda: &mut Cuda, small: &mut Small, hastens: bool) -> Result<Vec<Vec<u32>>> {
    pipeline(cuda, small, hastens, Small::submit)
}

/// As [`pipelined`], submitted in this way: (slot, seed).
fn pipeline(
    cuda: &mut Cuda,
    small: &mut Small,
    hastens: bool,
    mut submit: impl FnMut(&mut Small, &mut Cuda, usize, usize) -> Result<()>,
) -> Result<Vec<Vec<u32>>> {
    let mut results = Vec::new();
    submit(small, cuda, 0, 0)?;
    for seed in 1..INPUTS {
        submit(small, cuda, seed % 2, seed)?;
        if hastens {
            cuda.vector(&[1.0])?;
        }
        results.push(small.finish(cuda, (seed - 1) % 2)?);
    }
    results.push(small.finish(cuda, (INPUTS - 1) % 2)?);
    Ok(results)
}

#[test]
fn two_passes_in_flight_see_their_own_inputs_and_outputs() {
    for ordinal in schedules() {
        let (mut cuda, mut small, expected) = subject(ordinal);
        for hastens in [false, true, false] {
            assert_eq!(pipelined(&mut cuda, &mut small, hastens).unwrap(), expected, "device {ordinal}, {hastens}");
        }
        // In the other order.
        for seed in 0..INPUTS - 1 {
            small.submit(&mut cuda, 0, seed).unwrap();
            small.submit(&mut cuda, 1, seed + 1).unwrap();
            assert_eq!(small.finish(&mut cuda, 1).unwrap(), expected[seed + 1], "device {ordinal}");
            assert_eq!(small.finish(&mut cuda, 0).unwrap(), expected[seed], "device {ordinal}");
        }
    }
}

/// As [`pipelined`], each input in memory of its own, which goes round as a stream's does.
fn pipelined_memory(cuda: &mut Cuda, small: &mut Small, hastens: bool) -> Result<Vec<Vec<u32>>> {
    let allocator = cuda.frame_allocator()?;
    let mut memory = (0..3).map(|_| allocator.allocate(4 * small.x.len())).collect::<Result<Vec<_>>>()?;
    pipeline(cuda, small, hastens, |small, cuda, slot, seed| {
        small.submit_memory(cuda, slot, &mut memory[seed % 3], seed)
    })
}

#[test]
fn frames_are_taken_from_memory_that_others_filled() {
    for ordinal in schedules() {
        let (mut cuda, mut small, expected) = subject(ordinal);
        for hastens in [false, true, false] {
            let got = pipelined_memory(&mut cuda, &mut small, hastens).unwrap();
            assert_eq!(got, expected, "device {ordinal}, {hastens}");
        }
        // Beside passes whose inputs lie in the slot, on another thread, and after its device.
        small.submit(&mut cuda, 0, 1).unwrap();
        let allocator = cuda.frame_allocator().unwrap();
        let mut memory =
            std::thread::scope(|scope| scope.spawn(|| allocator.allocate(4 * small.x.len()).unwrap()).join().unwrap());
        small.submit_memory(&mut cuda, 1, &mut memory, 2).unwrap();
        assert!(memory.slice().unwrap().iter().any(|byte| *byte != 0));
        assert_eq!(small.finish(&mut cuda, 0).unwrap(), expected[1]);
        assert_eq!(small.finish(&mut cuda, 1).unwrap(), expected[2]);
        assert!(cuda.is_finished(1).unwrap());
        drop((small, cuda));
        memory.slice_mut().unwrap().fill(7);
        if !is_virtual() {
            continue;
        }
        for wait in [Wait::Inputs, Wait::ArenaIsFree, Wait::Pass] {
            let is_wrong = |hastens| {
                let (mut cuda, mut small, expected) = subject(ordinal);
                cuda.omit(Some(wait)).unwrap();
                pipelined_memory(&mut cuda, &mut small, hastens).map_or(true, |got| got != expected)
            };
            assert!([false, true].into_iter().any(is_wrong), "{wait:?} is missed by nobody on device {ordinal}");
        }
    }
}

/// One copy each way, one within, one graph; nothing is allocated.
#[test]
fn a_frame_from_such_memory_is_a_few_calls() {
    if !is_there() {
        return;
    }
    let (mut cuda, mut small, expected) = subject(0);
    pipelined_memory(&mut cuda, &mut small, false).unwrap();
    let mut memory = cuda.frame_allocator().unwrap().allocate(4 * small.x.len()).unwrap();
    let frame = Calls { copies_in: 1, copies_within: 1, copies_out: 1, graph_nodes: 2, records: 4, ..REPLAYED };
    for (seed, expected) in expected.into_iter().enumerate() {
        let (got, asked) = calls(&mut cuda, |cuda| {
            small.submit_memory(cuda, 0, &mut memory, seed).unwrap();
            small.finish(cuda, 0).unwrap()
        });
        assert_eq!((got, asked), (expected, Calls { waits: 2, ..frame }));
    }
}

/// Each of the waits between the streams is needed: without it some order that CUDA allows gives other results, or reads what nobody
/// has written.
#[test]
fn without_any_of_its_waits_a_submitted_pass_is_wrong() {
    if !is_virtual() {
        return;
    }
    for wait in [Wait::Inputs, Wait::ArenaIsFree, Wait::Pass] {
        for ordinal in schedules() {
            let is_wrong = |hastens| {
                let (mut cuda, mut small, expected) = subject(ordinal);
                cuda.omit(Some(wait)).unwrap();
                pipelined(&mut cuda, &mut small, hastens).map_or(true, |got| got != expected)
            };
            assert!([false, true].into_iter().any(is_wrong), "{wait:?} is missed by nobody on device {ordinal}");
        }
    }
}

/// No allocation, and each copy, launch, record and wait that there must be.
#[test]
fn a_submitted_frame_is_a_few_calls() {
    if !is_there() {
        return;
    }
    let (mut cuda, mut small, expected) = subject(0);
    pipelined(&mut cuda, &mut small, false).unwrap();
    let frame = Calls { copies_in: 1, copies_within: 1, copies_out: 1, graph_nodes: 2, records: 4, ..REPLAYED };
    let (got, asked) = calls(&mut cuda, |cuda| {
        small.submit(cuda, 0, 3).unwrap();
        small.finish(cuda, 0).unwrap()
    });
    assert_eq!((got, asked), (expected[3].clone(), Calls { waits: 2, ..frame }), "alone");
    small.submit(&mut cuda, 0, 0).unwrap();
    for seed in 1..INPUTS {
        let (got, asked) = calls(&mut cuda, |cuda| {
            small.submit(cuda, seed % 2, seed).unwrap();
            small.finish(cuda, (seed - 1) % 2).unwrap()
        });
        assert_eq!((got, asked), (expected[seed - 1].clone(), Calls { waits: 3, ..frame }), "behind another");
    }
    small.finish(&mut cuda, (INPUTS - 1) % 2).unwrap();
    // Those that are run have what they had.
    small.run(&mut cuda, 1).unwrap();
    assert_eq!(small.counted(&mut cuda, 2), (expected[2].clone(), REPLAYED));
}

#[test]
fn who_never_submits_pays_nothing_and_slots_only_grow() {
    if !is_there() {
        return;
    }
    let mut cuda = Cuda::new(0).unwrap();
    let layers = Layers::new(&mut cuda, 16);
    let [mut small, mut large] = [20, 300].map(|rows| layers.compile(&mut cuda, rows));
    let expected = [small.run(&mut cuda, 0).unwrap(), large.run(&mut cuda, 1).unwrap()];
    let before = cuda.calls().allocations;
    small.run(&mut cuda, 0).unwrap();
    assert_eq!(cuda.calls().allocations, before);
    for (round, allocations) in [(0, 3 + 3), (1, 3 + 3), (2, 0)] {
        // Each slot has memory for inputs on the host and on the GPU and for outputs on the host, and the larger pass takes it anew.
        let (got, asked) = calls(&mut cuda, |cuda| {
            small.submit(cuda, round % 2, 0).unwrap();
            let first = small.finish(cuda, round % 2).unwrap();
            large.submit(cuda, round % 2, 1).unwrap();
            [first, large.finish(cuda, round % 2).unwrap()]
        });
        assert_eq!((got, asked.allocations), (expected.clone(), allocations), "round {round}");
    }
}

#[test]
fn passes_of_other_plans_and_runs_wait_for_what_is_in_flight() {
    for ordinal in schedules() {
        let (mut cuda, mut small, expected) = subject(ordinal);
        let layers = Layers::new(&mut cuda, 16);
        // The arena grows while a pass is in flight.
        for rows in [300, 900] {
            small.submit(&mut cuda, 0, 1).unwrap();
            let mut large = layers.compile(&mut cuda, rows);
            large.submit(&mut cuda, 1, 2).unwrap();
            assert_eq!(small.finish(&mut cuda, 0).unwrap(), expected[1], "device {ordinal}, {rows} rows");
            let submitted = large.finish(&mut cuda, 1).unwrap();
            assert_eq!(submitted, large.run(&mut cuda, 2).unwrap(), "device {ordinal}, {rows} rows");
        }
        // One is run while two are in flight; its input was there before them.
        let mut other = layers.compile(&mut cuda, 20);
        for _ in 0..3 {
            let input = pattern(other.x.len(), 5);
            cuda.write(&mut other.program, other.x, 0, bytemuck::cast_slice(&input)).unwrap();
            small.submit(&mut cuda, 0, 3).unwrap();
            small.submit(&mut cuda, 1, 4).unwrap();
            cuda.run(&mut other.program).unwrap();
            let mut got = vec![0u32; other.out.len()];
            cuda.read(&other.program, other.out, 0, bytemuck::cast_slice_mut(&mut got)).unwrap();
            assert_eq!(got, expected[5], "device {ordinal}");
            assert_eq!(small.finish(&mut cuda, 0).unwrap(), expected[3], "device {ordinal}");
            assert_eq!(small.finish(&mut cuda, 1).unwrap(), expected[4], "device {ordinal}");
        }
    }
}

#[test]
fn a_pass_in_flight_keeps_its_bank() {
    for ordinal in schedules() {
        let mut cuda = Cuda::new(ordinal).unwrap();
        let rows = |seed| pattern(16 * WIDTH, seed);
        let layers = Layers::with_bank(&mut cuda, &rows(0));
        let mut small = layers.compile(&mut cuda, 20);
        let larger = [rows(2), pattern(100 * WIDTH, 9)].concat();
        let expected = [rows(0), rows(1), larger.clone()].map(|rows| {
            let bank = bank(&cuda, &rows);
            cuda.set_bank(Some(layers.linear), &bank).unwrap();
            small.run(&mut cuda, 0).unwrap()
        });
        for before in [0, 1] {
            // In its place, then to a larger one.
            let banks = [rows(0), rows(1), larger.clone()].map(|rows| bank(&cuda, &rows));
            cuda.set_bank(Some(layers.linear), &banks[before]).unwrap();
            small.submit(&mut cuda, 0, 0).unwrap();
            cuda.set_bank(Some(layers.linear), &banks[before + 1]).unwrap();
            drop(banks);
            small.submit(&mut cuda, 1, 0).unwrap();
            assert_eq!(small.finish(&mut cuda, 0).unwrap(), expected[before], "device {ordinal}");
            assert_eq!(small.finish(&mut cuda, 1).unwrap(), expected[before + 1], "device {ordinal}");
        }
    }
}

/// A board whose GPU shares the host's memory has no page-locked slots.
#[test]
fn slots_are_plain_memory_where_none_is_page_locked() {
    if !is_virtual() {
        return;
    }
    let (mut cuda, mut small, expected) = subject(ordinal("orin:sched=1"));
    assert!(cuda.info().unified);
    assert_eq!(pipelined(&mut cuda, &mut small, true).unwrap(), expected);
    for seed in 0..3 {
        small.submit(&mut cuda, 0, seed).unwrap();
        small.submit(&mut cuda, 1, seed + 1).unwrap();
        assert_eq!(small.run(&mut cuda, seed + 2).unwrap(), expected[seed + 2]);
        assert_eq!(small.finish(&mut cuda, 1).unwrap(), expected[seed + 1]);
        assert_eq!(small.finish(&mut cuda, 0).unwrap(), expected[seed]);
    }
}

#[test]
fn times_are_those_of_the_slot_that_was_finished() {
    if !is_there() {
        return;
    }
    let (mut cuda, mut small, expected) = subject(0);
    small.submit(&mut cuda, 0, 0).unwrap();
    small.submit(&mut cuda, 1, 1).unwrap();
    small.finish(&mut cuda, 0).unwrap();
    assert!(cuda.times().whole.is_none() && cuda.times().stages.iter().sum::<f64>() > 0.0, "step by step");
    small.finish(&mut cuda, 1).unwrap();
    assert!(cuda.times().whole.is_some_and(|seconds| seconds > 0.0), "replayed");
    cuda.record_times(true);
    small.submit(&mut cuda, 0, 2).unwrap();
    assert_eq!(small.finish(&mut cuda, 0).unwrap(), expected[2]);
    assert_eq!(cuda.times().steps.len(), 2);
    small.run(&mut cuda, 0).unwrap();
    cuda.record_times(false);
    small.run(&mut cuda, 0).unwrap();
    assert!(cuda.times().steps.is_empty() && cuda.times().whole.is_some());
}

#[test]
fn a_slot_in_flight_is_not_used_again() {
    if !is_there() {
        return;
    }
    let (mut cuda, mut small, expected) = subject(0);
    small.submit(&mut cuda, 0, 0).unwrap();
    assert!(std::panic::catch_unwind(AssertUnwindSafe(|| small.submit(&mut cuda, 0, 1))).is_err());
    assert!(std::panic::catch_unwind(AssertUnwindSafe(|| cuda.finish(1))).is_err(), "nothing was submitted there");
    assert_eq!(small.finish(&mut cuda, 0).unwrap(), expected[0]);
    // Dropped while in flight.
    small.submit(&mut cuda, 0, 1).unwrap();
    small.submit(&mut cuda, 1, 1).unwrap();
}

#[test]
fn a_call_that_fails_costs_one_pass() {
    if !is_virtual() {
        return;
    }
    let failures = "cuStreamWaitEvent:7:701,cuEventSynchronize:3:701,cuMemcpyDtoDAsync_v2:8:1,cuEventRecord:60:1";
    failing("host::slots::a_call_that_fails_costs_one_pass", failures, || {
        let (mut cuda, mut small, expected) = subject(0);
        let mut failed = 0;
        for seed in (0..INPUTS).cycle().take(60) {
            let got = small.submit(&mut cuda, seed % 2, seed).and_then(|()| small.finish(&mut cuda, seed % 2));
            match got {
                Ok(got) => assert_eq!(got, expected[seed]),
                Err(error) => {
                    assert!(matches!(error, Error::Device(_)), "{error}");
                    has(&error.to_string(), &["a pass of 2 operations"]);
                    failed += 1;
                }
            }
        }
        assert_eq!(failed, 4);
    });
}

/// What one of them queued never ends: all of them are lost in the time given, and nothing that is dropped waits.
#[test]
fn siblings_of_a_gpu_that_never_ends_are_lost_together() {
    if !is_virtual() {
        return;
    }
    failing("host::slots::siblings_of_a_gpu_that_never_ends_are_lost_together", "cuGraphLaunch:2:hang", || {
        let waiting = Waiting { asleep: false, limit: Some(PASS) };
        let mut cuda = Cuda::open(0, ContextOptions { waiting, ..ContextOptions::default() }).unwrap();
        let layers = Layers::new(&mut cuda, 16);
        let mut sibling = cuda.another().unwrap();
        let [mut one, mut two] = [&mut cuda, &mut sibling].map(|cuda| layers.compile(cuda, 20));
        one.submit(&mut cuda, 0, 0).unwrap();
        one.finish(&mut cuda, 0).unwrap();
        two.submit(&mut sibling, 0, 0).unwrap();
        // Replayed; then the other's replay hangs, and all streams with it.
        two.submit(&mut sibling, 1, 1).unwrap();
        one.submit(&mut cuda, 1, 1).unwrap();
        let cause = "has not finished a pass in 1 s";
        let reasons = [one.finish(&mut cuda, 1).unwrap_err(), two.finish(&mut sibling, 1).unwrap_err()];
        for error in reasons.into_iter().chain(sibling.finish(0).err()).chain(two.run(&mut sibling, 0).err()) {
            assert!(matches!(error, Error::Lost(_)), "{error}");
            has(&error.to_string(), &[cause]);
        }
        assert!(matches!(cuda.sibling().err(), Some(Error::Lost(_))));
    });
}

/// Nor does giving memory back wait for ever, whosever work it is that hangs.
#[test]
fn memory_is_given_back_in_the_time_given() {
    if !is_virtual() {
        return;
    }
    failing("host::slots::memory_is_given_back_in_the_time_given", "cuGraphLaunch:1:hang", || {
        let waiting = Waiting { asleep: true, limit: Some(PASS) };
        let mut cuda = Cuda::open(0, ContextOptions { waiting, ..ContextOptions::default() }).unwrap();
        let mut small = Layers::new(&mut cuda, 16).compile(&mut cuda, 20);
        small.submit(&mut cuda, 0, 0).unwrap();
        small.submit(&mut cuda, 1, 1).unwrap();
        // It comes after what hangs, and has nothing in flight itself.
        let sibling = cuda.another().unwrap();
        let begin = Instant::now();
        drop(sibling);
        assert!(begin.elapsed() >= 2 * PASS, "each of the two passes has its time");
        let error = small.finish(&mut cuda, 0).unwrap_err();
        assert!(matches!(error, Error::Lost(_)), "{error}");
        has(&error.to_string(), &["has not finished a pass in 1 s"]);
    });
}

/// A wait may be for all that is in flight: none of it is called hung while another takes its time.
#[test]
fn the_time_given_is_for_each_pass_in_flight() {
    if !is_virtual() {
        return;
    }
    let failures = "cuGraphLaunch:1:hang,cuGraphLaunch:3:hang";
    failing("host::slots::the_time_given_is_for_each_pass_in_flight", failures, || {
        let open = || {
            let waiting = Waiting { asleep: false, limit: Some(PASS) };
            let mut cuda = Cuda::open(0, ContextOptions { waiting, ..ContextOptions::default() }).unwrap();
            let mut small = Layers::new(&mut cuda, 16).compile(&mut cuda, 20);
            small.submit(&mut cuda, 0, 0).unwrap();
            small.finish(&mut cuda, 0).unwrap();
            small.submit(&mut cuda, 0, 0).unwrap();
            (cuda, small)
        };
        let (mut cuda, small) = open();
        let begin = Instant::now();
        let alone = small.finish(&mut cuda, 0).unwrap_err().to_string();
        assert!(begin.elapsed() >= PASS);
        assert!(alone.contains("has not finished a pass in 1 s; this engine is lost"), "{alone}");

        let (mut cuda, mut small) = open();
        small.submit(&mut cuda, 1, 1).unwrap();
        let begin = Instant::now();
        // Its own pass is the third.
        let error = cuda.run(&mut small.program).unwrap_err();
        assert!(begin.elapsed() >= 3 * PASS);
        has(&error.to_string(), &["has not finished a pass in 1 s, nor 3 in 3"]);
    });
}
