//! Passes of two operations on the device itself: run one by one, replayed, timed, on several threads.

use std::panic::AssertUnwindSafe;

use lseg_fast::device::cuda::{Cuda, Effort, Record};
use lseg_fast::device::{Device, Program};

use super::small::{Layers, Small, WIDTH, bank, calls, pattern};
use super::{REPLAYED, is_there};

#[test]
fn a_pass_that_comes_again_is_replayed_and_gives_the_same_bits() {
    if !is_there() {
        return;
    }
    let (mut eager, mut cuda) = (Cuda::new(0).unwrap(), Cuda::new(0).unwrap());
    eager.record_times(true);
    let mut small = Layers::new(&mut cuda, 48).compile(&mut cuda, 37);
    let mut same = Layers::new(&mut eager, 48).compile(&mut eager, 37);
    for seed in 0..5 {
        let (got, asked) = small.counted(&mut cuda, seed);
        let (expected, one_by_one) = same.counted(&mut eager, seed);
        assert_eq!(got, expected, "input {seed}");
        assert_eq!((one_by_one.launches, one_by_one.graph_launches), (2, 0));
        match seed {
            0 => assert_eq!((asked.launches, asked.graph_launches), (2, 0), "the first runs operation by operation"),
            1 => assert_eq!(asked.graph_launches, 1, "the second is captured and replayed"),
            _ => assert_eq!(asked, REPLAYED, "input {seed}"),
        }
        assert_eq!(eager.times().steps.len(), 2);
        assert_eq!(cuda.times().whole.is_some(), seed > 0);
    }
}

/// What is timed must not wait for the host in between: a launch is recorded without waiting for it, and each run, of one pass or
/// of a graph of many, is waited for once, at its end.
#[test]
fn nothing_waits_between_the_events_of_a_measurement() {
    if !is_there() {
        return;
    }
    let mut cuda = Cuda::new(0).unwrap();
    let layers = Layers::new(&mut cuda, 16);
    let mut small = layers.compile(&mut cuda, 20);
    small.run(&mut cuda, 1).unwrap();
    let effort = |runs| Effort { warm_up: 0.0, runs };
    // The first one makes and fills the memory that empties the cache.
    cuda.time_cold(&mut small.program, effort(1)).unwrap();
    for record in [Record::Nothing, Record::Launches] {
        cuda.record(record);
        let (seconds, asked) = calls(&mut cuda, |cuda| cuda.time_cold(&mut small.program, effort(7)).unwrap());
        assert_eq!((seconds.len(), asked.synchronisations, asked.launches), (7, 7, 3 * 7), "{record:?}");
        // Two operations, and what empties the cache, which is no operation's.
        assert_eq!(cuda.take_launches().len(), if record == Record::Launches { 2 * 7 } else { 0 });
    }
    let mut programs: Vec<Program> = (0..5).map(|_| layers.compile(&mut cuda, 20).program).collect();
    let waits = [1, 8].map(|runs| {
        let (seconds, asked) = calls(&mut cuda, |cuda| cuda.time_in_graph(&mut programs, effort(runs)).unwrap());
        assert_eq!((seconds.len(), asked.graph_launches), (runs, runs as u64));
        assert_eq!(asked.launches, 2 + 5 * 2, "one pass before, then the graph's");
        asked.synchronisations
    });
    assert_eq!(waits[1] - waits[0], 7, "one wait a run");
    assert_eq!(cuda.take_launches().len(), 2 * 2, "those of the graphs are not recorded");
    assert!(cuda.sm_mhz().unwrap() > 0.0);
    // The passes leave what a pass leaves.
    assert_eq!(small.run(&mut cuda, 1).unwrap(), small.run(&mut cuda, 1).unwrap());
}

/// However many there are.
#[test]
fn every_program_keeps_its_graph() {
    if !is_there() {
        return;
    }
    let mut cuda = Cuda::new(0).unwrap();
    let layers = Layers::new(&mut cuda, 16);
    let mut programs: Vec<Small> = (1..=12).map(|rows| layers.compile(&mut cuda, rows)).collect();
    let mut first: Vec<Vec<u32>> = Vec::new();
    for round in 0..4 {
        for (i, program) in programs.iter_mut().enumerate() {
            let (got, asked) = program.counted(&mut cuda, i);
            match first.get(i) {
                Some(first) => assert_eq!(got, *first, "round {round}, program {i}"),
                None => first.push(got),
            }
            assert!(round < 2 || asked == REPLAYED, "round {round}, program {i}: {asked:?}");
        }
    }
}

#[test]
fn devices_move_between_threads_and_work_beside_each_other() {
    if !is_there() {
        return;
    }
    let mut cuda = Cuda::new(0).unwrap();
    let mut small = Layers::new(&mut cuda, 16).compile(&mut cuda, 8);
    let expected: Vec<_> = (0..4).map(|seed| small.run(&mut cuda, seed).unwrap()).collect();
    // Made here, used there, dropped there.
    std::thread::scope(|scope| {
        let expected = &expected;
        scope.spawn(move || {
            for (seed, expected) in expected.iter().enumerate() {
                assert_eq!(small.run(&mut cuda, seed).unwrap(), *expected);
            }
        });
        scope.spawn(move || {
            let mut cuda = Cuda::new(0).unwrap();
            let mut small = Layers::new(&mut cuda, 16).compile(&mut cuda, 8);
            for (seed, expected) in expected.iter().enumerate() {
                assert_eq!(small.run(&mut cuda, seed).unwrap(), *expected);
            }
        });
    });
}

/// Its addresses are that device's.
#[test]
fn a_program_runs_on_no_other_device() {
    if !is_there() {
        return;
    }
    let (mut cuda, mut other) = (Cuda::new(0).unwrap(), Cuda::new(0).unwrap());
    let [mut small, mut same] = [&mut cuda, &mut other].map(|cuda| Layers::new(cuda, 16).compile(cuda, 8));
    let expected = small.run(&mut cuda, 0).unwrap();
    assert!(std::panic::catch_unwind(AssertUnwindSafe(|| small.run(&mut other, 0))).is_err());
    assert_eq!(small.run(&mut cuda, 0).unwrap(), expected);
    assert_eq!(same.run(&mut other, 0).unwrap(), expected);
}

#[test]
fn an_empty_bank_is_no_trouble() {
    if !is_there() {
        return;
    }
    let mut cuda = Cuda::new(0).unwrap();
    let empty = cuda.bank(0, WIDTH, &[], &[]).unwrap();
    let empty = cuda.set_bank(None, &empty).unwrap();
    assert_eq!(empty.weight.n, 0);
    let bank = bank(&cuda, &pattern(1000 * WIDTH, 1));
    assert_eq!(cuda.set_bank(Some(empty), &bank).unwrap().weight.n, 1000);
}
