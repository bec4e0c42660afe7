//! Devices over the same weights.

use lseg_fast::device::cuda::{Cuda, GpuLimits, Target, compile};
use lseg_fast::device::{Calls, Device, Upload};
use lseg_fast::model::config::{Config, HeadBlock, ImageEncoder, TextTower};
use lseg_fast::model::weights::Loader;
use lseg_fast::model::{FrameShape, Model, Outputs};
use lseg_fast::plan;

use super::small::{Layers, Small, WIDTH, bank, calls, pattern};
use super::{REPLAYED, is_there, schedules};

/// What a device of its own makes of 20 rows and these weights.
fn fresh(rows: &[f32], seed: usize) -> Vec<u32> {
    let mut cuda = Cuda::new(0).unwrap();
    Layers::with_bank(&mut cuda, rows).compile(&mut cuda, 20).run(&mut cuda, seed).unwrap()
}

fn rows(seed: usize) -> Vec<f32> {
    pattern(16 * WIDTH, seed)
}

/// A device with a bank, and two siblings of it.
fn family(ordinal: usize) -> (Layers, Cuda, [Cuda; 2]) {
    let mut cuda = Cuda::new(ordinal).unwrap();
    let layers = Layers::with_bank(&mut cuda, &rows(1));
    let siblings = [cuda.another().unwrap(), cuda.another().unwrap()];
    (layers, cuda, siblings)
}

#[test]
fn weights_are_once_in_memory_and_results_the_same_bits() {
    if !is_there() {
        return;
    }
    let mut cuda = Cuda::new(0).unwrap();
    let layers = Layers::with_bank(&mut cuda, &rows(1));
    let (mut sibling, asked) = calls(&mut cuda, |cuda| cuda.another().unwrap());
    assert_eq!(asked, Calls { graph_nodes: 0, ..Calls::default() }, "each counts its own");
    assert_eq!(sibling.calls().allocations, 1, "counters of products cut in parts, and nothing else");
    let mut small = [layers.compile(&mut cuda, 20), layers.compile(&mut sibling, 20)];
    assert_eq!(sibling.calls().allocations, 1 + 3, "the arena and page-locked memory for both ways");
    for seed in 0..4 {
        let expected = fresh(&rows(1), seed);
        for (small, cuda) in small.iter_mut().zip([&mut cuda, &mut sibling]) {
            let (got, asked) = small.counted(cuda, seed);
            assert_eq!(got, expected);
            assert!(seed < 2 || asked == REPLAYED, "{asked:?}");
        }
    }
    // It outlives the one that it was made of.
    drop(cuda);
    assert_eq!(small[1].run(&mut sibling, 0).unwrap(), fresh(&rows(1), 0));
}

#[test]
fn what_a_device_takes_in_later_is_its_own() {
    if !is_there() {
        return;
    }
    let (layers, mut cuda, [mut one, mut two]) = family(0);
    let mut small = [&mut cuda, &mut one, &mut two].map(|cuda| layers.compile(cuda, 20));
    // Weights at the same place of their lists.
    let added = [(&mut one, 2), (&mut two, 3)].map(|(cuda, seed)| {
        let bank = bank(cuda, &rows(seed));
        let linear = cuda.set_bank(None, &bank).unwrap();
        let got = Layers { linear, ..Layers::new(cuda, 16) }.compile(cuda, 20).run(cuda, 0).unwrap();
        assert_eq!(got, fresh(&rows(seed), 0));
        linear
    });
    assert_eq!(added[0], added[1]);
    // The shared bank, replaced in one of them by what another sibling made, once and again.
    for seed in [4, 5] {
        let bank = bank(&two, &rows(seed));
        one.set_bank(Some(layers.linear), &bank).unwrap();
        drop(bank);
        assert_eq!(small[1].run(&mut one, 0).unwrap(), fresh(&rows(seed), 0));
        assert_eq!(small[0].run(&mut cuda, 0).unwrap(), fresh(&rows(1), 0));
        assert_eq!(small[2].run(&mut two, 0).unwrap(), fresh(&rows(1), 0));
    }
    // Its place is the device's own from the first time on.
    let bank = bank(&cuda, &rows(6));
    let (_, asked) = calls(&mut one, |one| one.set_bank(Some(layers.linear), &bank).unwrap());
    assert_eq!((asked.allocations, asked.copies_within, asked.synchronisations), (0, 2, 0));
    assert_eq!(small[1].run(&mut one, 0).unwrap(), fresh(&rows(6), 0));
}

#[test]
#[should_panic(expected = "the device that made it")]
fn a_bank_is_of_no_use_to_a_stranger() {
    if !is_there() {
        panic!("skipped, for the device that made it is not there");
    }
    let (one, mut two) = (Cuda::new(0).unwrap(), Cuda::new(0).unwrap());
    let bank = bank(&one, &rows(1));
    let _ = two.set_bank(None, &bank);
}

/// One submits while others run: what each queues is done whenever the GPU likes.
#[test]
fn siblings_take_turns_on_one_thread() {
    for ordinal in schedules() {
        let (layers, mut cuda, [mut one, mut two]) = family(ordinal);
        let mut small = [&mut cuda, &mut one, &mut two].map(|cuda| layers.compile(cuda, 20));
        let expected: Vec<Vec<u32>> = (0..6).map(|seed| small[0].run(&mut cuda, seed).unwrap()).collect();
        let [_, first, second] = &mut small;
        for seed in 0..5 {
            first.submit(&mut one, 0, seed).unwrap();
            second.submit(&mut two, 1, seed + 1).unwrap();
            // What the others have in flight is nothing to it, nor is memory that comes and goes.
            drop(bank(&cuda, &rows(seed)));
            assert_eq!(layers.compile(&mut cuda, 20 + seed).run(&mut cuda, seed).unwrap().len(), (20 + seed) * 16);
            assert_eq!(second.finish(&mut two, 1).unwrap(), expected[seed + 1], "device {ordinal}, input {seed}");
            assert_eq!(first.finish(&mut one, 0).unwrap(), expected[seed], "device {ordinal}, input {seed}");
        }
    }
}

#[test]
fn siblings_work_on_threads_of_their_own() {
    for ordinal in schedules() {
        let (layers, mut cuda, siblings) = family(ordinal);
        let mut small = layers.compile(&mut cuda, 20);
        let expected: Vec<Vec<u32>> = (0..6).map(|seed| small.run(&mut cuda, seed).unwrap()).collect();
        std::thread::scope(|scope| {
            let (expected, layers) = (&expected, &layers);
            for mut cuda in siblings {
                scope.spawn(move || {
                    // A new program each time: one captures while the other gives memory back.
                    for round in 0..3 {
                        let mut small: Small = layers.compile(&mut cuda, 20);
                        for (seed, expected) in expected.iter().enumerate() {
                            assert_eq!(small.run(&mut cuda, seed).unwrap(), *expected, "round {round}");
                            small.submit(&mut cuda, seed % 2, seed).unwrap();
                            let bank = bank(&cuda, &rows(1));
                            cuda.set_bank(Some(layers.linear), &bank).unwrap();
                            drop(bank);
                            assert_eq!(small.finish(&mut cuda, seed % 2).unwrap(), *expected, "round {round}");
                        }
                        cuda.matrix(16, WIDTH, &rows(round)).unwrap();
                    }
                });
            }
        });
    }
}

pub fn vitl16() -> Config {
    Config {
        preset: "vitl16".to_owned(),
        image: ImageEncoder::Vit {
            patch: 16,
            dim: 1024,
            depth: 24,
            heads: 16,
            mlp: 4096,
            grid: 24,
            hooks: [5, 11, 17, 23],
        },
        reassemble: [256, 512, 1024, 1024],
        features: 256,
        text: TextTower { vocab: 49_408, context: 77, width: 512, layers: 12, heads: 8, mlp: 2048 },
        embed_dim: 512,
        head_block: HeadBlock::NONE,
        mean: [0.5; 3],
        std: [0.5; 3],
        default_size: "long:480".to_owned(),
    }
}

/// At the model's own size and a few labels, whose scores are small. Beside the weights and the text tower's device, which are there
/// once, a lane has its arena, in whose gaps products that are cut in parts meet, and a few counters.
#[test]
fn a_second_lane_of_the_real_model_takes_a_twentieth_of_the_memory() {
    if !is_there() {
        return;
    }
    let (cuda, mut list) = (Cuda::new(0).unwrap(), Loader::list());
    let model = Model::load(&vitl16(), &mut list).unwrap();
    let shape = FrameShape {
        batch: 1,
        photo: (480, 480),
        format: lseg_fast::Format::Rgb8,
        network: (480, 480),
        normalisation: None,
    };
    let bank = model.head.bank_shape(5);
    let (plan, _) = plan::record(2, &[], |d| model.forward(d, shape, Some(&bank), Outputs::MASK));
    let weights = cuda.weight_bytes(list.weights());
    for gpu in [GpuLimits::absent((9, 0), 132), GpuLimits::absent((8, 9), 128), GpuLimits::absent((8, 7), 16)] {
        let launches = compile(&plan, Target::absent(gpu)).unwrap();
        assert_eq!(launches.workspace_bytes(), 0, "{gpu:?}: every product that is cut in parts has room in the arena");
        let lane = plan.arena_bytes + 4 * gpu.most_split_tiles();
        let share = lane as f64 / (weights + lane as u64) as f64;
        assert!(share < 0.05, "{gpu:?}: {lane} bytes beside {weights} of weights are {share}");
    }
}
