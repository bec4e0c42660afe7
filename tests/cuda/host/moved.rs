//! Weights and the arena may move between two passes: programs that hold their addresses see it.

use lseg_fast::device::cuda::Cuda;
use lseg_fast::device::{Calls, Device, Upload};

use super::small::{Layers, Small, WIDTH, bank, calls, pattern};
use super::{REPLAYED, is_there};

/// Inputs before something moves, and after it: what was left from before is not taken for right.
const BEFORE: usize = 3;
const AFTER: usize = 4;

/// What a device of its own makes of 20 rows and these weights.
fn fresh(weights: &[f32], seed: usize) -> Vec<u32> {
    let mut cuda = Cuda::new(0).unwrap();
    let layers = Layers::with_bank(&mut cuda, weights);
    layers.compile(&mut cuda, 20).run(&mut cuda, seed).unwrap()
}

/// Runs it until it is replayed; the result.
fn replayed(cuda: &mut Cuda, small: &mut Small, seed: usize) -> Vec<u32> {
    (0..2).for_each(|_| drop(small.run(cuda, seed).unwrap()));
    let (got, asked) = small.counted(cuda, seed);
    assert_eq!(asked, REPLAYED);
    got
}

#[test]
fn graphs_do_not_outlive_what_they_point_to() {
    if !is_there() {
        return;
    }
    let mut cuda = Cuda::new(0).unwrap();
    let layers = Layers::with_bank(&mut cuda, &pattern(16 * WIDTH, 1));
    let mut small = layers.compile(&mut cuda, 20);
    replayed(&mut cuda, &mut small, BEFORE);

    // Other values in the same place: the graph stays and sees them, and nobody waits.
    let other = pattern(16 * WIDTH, 9);
    let made = bank(&cuda, &other);
    let (set, asked) = calls(&mut cuda, |cuda| cuda.set_bank(Some(layers.linear), &made).unwrap());
    assert_eq!(
        (set, asked),
        (layers.linear, Calls { copies_within: 2, graph_nodes: asked.graph_nodes, ..Calls::default() })
    );
    // The copy is queued: its source stays until it has happened.
    drop(made);
    assert_eq!(small.counted(&mut cuda, BEFORE), (fresh(&other, BEFORE), REPLAYED));

    // The weight moves to a larger place, and another allocation may take the old one.
    let larger = pattern(4096 * WIDTH, 5);
    let made = bank(&cuda, &larger);
    assert_eq!(cuda.set_bank(Some(layers.linear), &made).unwrap().weight.n, 4096);
    cuda.matrix(16, WIDTH, &[f32::NAN; 16 * WIDTH]).unwrap();
    let [before, after] = [BEFORE, AFTER].map(|seed| fresh(&larger[..16 * WIDTH], seed));
    assert_eq!(small.run(&mut cuda, BEFORE).unwrap(), before);
    assert_eq!(replayed(&mut cuda, &mut small, BEFORE), before);

    // The arena moves.
    layers.compile(&mut cuda, 5000).run(&mut cuda, BEFORE).unwrap();
    assert_eq!(small.run(&mut cuda, AFTER).unwrap(), after);
    assert_eq!(small.run(&mut cuda, BEFORE).unwrap(), before);
}

#[test]
fn programs_that_do_not_use_what_moved_keep_their_graphs() {
    if !is_there() {
        return;
    }
    let mut cuda = Cuda::new(0).unwrap();
    let rows = pattern(16 * WIDTH, 1);
    let [labels, others] = [(), ()].map(|()| Layers::with_bank(&mut cuda, &rows));
    let (mut user, mut other) = (labels.compile(&mut cuda, 20), others.compile(&mut cuda, 20));
    replayed(&mut cuda, &mut user, BEFORE);
    replayed(&mut cuda, &mut other, BEFORE);

    let larger = pattern(4096 * WIDTH, 5);
    let made = bank(&cuda, &larger);
    cuda.set_bank(Some(labels.linear), &made).unwrap();
    assert_eq!(other.counted(&mut cuda, AFTER), (fresh(&pattern(16 * WIDTH, 1), AFTER), REPLAYED));

    let (got, asked) = user.counted(&mut cuda, AFTER);
    assert_eq!(got, fresh(&larger[..16 * WIDTH], AFTER));
    assert_eq!((asked.launches, asked.graph_launches), (2, 1), "it is captured again");
    assert_eq!(user.counted(&mut cuda, AFTER), (got, REPLAYED));
}

/// Programs that have not run, that have run once and that are replayed, each of which a larger one follows.
#[test]
fn programs_run_on_when_the_arena_has_grown() {
    if !is_there() {
        return;
    }
    let mut cuda = Cuda::new(0).unwrap();
    let layers = Layers::new(&mut cuda, 16);
    let [before, after] = [BEFORE, AFTER].map(|seed| fresh(&pattern(16 * WIDTH, 1), seed));
    for passes in 0..4 {
        let mut small = layers.compile(&mut cuda, 20);
        (0..passes).for_each(|_| assert_eq!(small.run(&mut cuda, BEFORE).unwrap(), before));
        layers.compile(&mut cuda, 1000 << passes);
        assert_eq!(small.run(&mut cuda, AFTER).unwrap(), after, "{passes} passes before the arena grew");
        assert_eq!(replayed(&mut cuda, &mut small, BEFORE), before, "{passes} passes before the arena grew");
    }
}

/// The arena stays: what follows gives out more and computes less.
#[test]
fn programs_run_on_when_page_locked_memory_has_grown() {
    if !is_there() {
        return;
    }
    let mut cuda = Cuda::new(0).unwrap();
    let (layers, wide) = (Layers::new(&mut cuda, 16), Layers::new(&mut cuda, 256));
    let large = layers.compile(&mut cuda, 5000);
    let mut small = layers.compile(&mut cuda, 20);
    replayed(&mut cuda, &mut small, BEFORE);

    let follows = wide.compile(&mut cuda, 1100);
    assert!(follows.program.plan().arena_bytes < large.program.plan().arena_bytes);
    assert!(follows.out.len() > large.out.len());
    assert_eq!(small.run(&mut cuda, AFTER).unwrap(), fresh(&pattern(16 * WIDTH, 1), AFTER));
    assert_eq!(replayed(&mut cuda, &mut small, BEFORE), fresh(&pattern(16 * WIDTH, 1), BEFORE));
}
