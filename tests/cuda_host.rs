//! What users see of the CUDA device beside its results: which device is chosen and why, what happens when something is
//! missing, runs out or breaks, and that a replayed frame is the frame. On the virtual GPU (`cargo xtask test` has it) or a
//! real one; without either, and without kernels in the build, the tests say that they are skipped.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lseg_fast::device::cuda::{Cuda, Effort, IMAGES, Record};
use lseg_fast::device::plan::{self, Plan};
use lseg_fast::device::{Buf, Calls, Device, Element, Epilogue, Executor, LayerNorm, Linear, Matrix, Upload, Vector};
use lseg_fast::{Alpha, DeviceChoice, Engine, Error, Extras, Frame, Options, Segmentation, Segmented, Size, Wait};

mod support_gpu;

/// Whether there is a GPU to test, real or virtual.
fn is_there() -> bool {
    support_gpu::found(Cuda::new(0)).is_some()
}

/// Where the project lies: LSEG_TEST_ROOT where this program was moved elsewhere, as to a machine with a GPU.
fn repository_file(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("LSEG_TEST_ROOT").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())).join(name)
}

/// The same of lseg-fast itself.
fn program() -> PathBuf {
    std::env::var_os("LSEG_TEST_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_lseg-fast").into()).into()
}

// ---- Passes of two operations on the device itself.

const WIDTH: usize = 64;

/// LayerNorm, then a product.
struct Small {
    norm: LayerNorm,
    linear: Linear,
}

/// A plan of [`Small`] for some rows, with its input and output.
struct Planned {
    plan: Plan,
    rows: usize,
    x: Buf,
    out: Buf,
}

fn pattern(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + seed * 104_729) % 251) as f32 / 125.0 - 1.0).collect()
}

impl Small {
    fn new(cuda: &mut Cuda, outputs: usize) -> Small {
        let ones = cuda.vector(&[1.0; WIDTH]).unwrap();
        let zeros = cuda.vector(&[0.0; WIDTH]).unwrap();
        let weight = cuda.matrix(outputs, WIDTH, &pattern(outputs * WIDTH, 1)).unwrap();
        let norm = LayerNorm { weight: ones, bias: zeros, eps: 1e-5 };
        Small { norm, linear: Linear { weight, bias: None } }
    }

    fn forward(&self, d: &mut dyn Device, rows: usize) -> (Buf, Buf) {
        let x = d.buffer("x", [1, 1, rows, WIDTH], Element::F32);
        d.input(x);
        let normed = d.buffer("normed", x.shape, Element::Activation);
        d.layer_norm(x, &self.norm, normed);
        let out = d.buffer("out", [1, 1, rows, self.linear.weight.n], Element::F32);
        d.gemm(normed.all(), &self.linear, Epilogue::NONE, out.all());
        d.output(out);
        (x, out)
    }

    fn plan(&self, cuda: &mut Cuda, rows: usize) -> Planned {
        let mut bufs = None;
        let plan = plan::record(cuda.activation_bytes(), &[], |d| bufs = Some(self.forward(d, rows)));
        let (x, out) = bufs.unwrap();
        cuda.reserve(&plan).unwrap();
        Planned { x: plan.placed(x), out: plan.placed(out), plan, rows }
    }

    fn run(&self, cuda: &mut Cuda, planned: &Planned, seed: usize) -> lseg_fast::Result<Vec<u32>> {
        cuda.write(&planned.plan, planned.x, 0, bytemuck::cast_slice(&pattern(planned.x.len(), seed)))?;
        cuda.run(&planned.plan, &mut |d| {
            self.forward(d, planned.rows);
        })?;
        let mut bits = vec![0u32; planned.out.len()];
        cuda.read(&planned.plan, planned.out, 0, bytemuck::cast_slice_mut(&mut bits))?;
        Ok(bits)
    }
}

fn difference(before: Calls, after: Calls) -> Calls {
    Calls {
        allocations: after.allocations - before.allocations,
        copies_in: after.copies_in - before.copies_in,
        copies_out: after.copies_out - before.copies_out,
        launches: after.launches - before.launches,
        graph_launches: after.graph_launches - before.graph_launches,
        graph_nodes: after.graph_nodes,
        synchronisations: after.synchronisations - before.synchronisations,
    }
}

/// One launch and one wait: the two kernels and the two copies are nodes.
const REPLAYED: Calls = Calls {
    allocations: 0,
    copies_in: 0,
    copies_out: 0,
    launches: 0,
    graph_launches: 1,
    graph_nodes: 4,
    synchronisations: 1,
};

/// What the device was asked for while `f` ran.
fn calls<T>(cuda: &mut Cuda, f: impl FnOnce(&mut Cuda) -> T) -> (T, Calls) {
    let before = cuda.calls();
    let result = f(cuda);
    (result, difference(before, cuda.calls()))
}

#[test]
fn a_pass_that_comes_again_is_replayed_and_gives_the_same_bits() {
    if !is_there() {
        return;
    }
    let (mut eager, mut cuda) = (Cuda::new(0).unwrap(), Cuda::new(0).unwrap());
    eager.record_times(true);
    let (small, same) = (Small::new(&mut cuda, 48), Small::new(&mut eager, 48));
    let (planned, planned_eager) = (small.plan(&mut cuda, 37), same.plan(&mut eager, 37));
    for seed in 0..5 {
        let (got, asked) = calls(&mut cuda, |cuda| small.run(cuda, &planned, seed).unwrap());
        let (expected, one_by_one) = calls(&mut eager, |cuda| same.run(cuda, &planned_eager, seed).unwrap());
        assert_eq!(got, expected, "input {seed}");
        assert_eq!((one_by_one.launches, one_by_one.graph_launches), (2, 0));
        match seed {
            0 => assert_eq!((asked.launches, asked.graph_launches), (2, 0), "the first runs operation by operation"),
            1 => assert_eq!(asked.graph_launches, 1, "the second is captured and replayed"),
            _ => assert_eq!(asked, REPLAYED, "input {seed}"),
        }
        assert_eq!(eager.op_seconds().len(), 2);
        assert_eq!(cuda.whole_seconds().is_some(), seed > 0);
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
    let small = Small::new(&mut cuda, 16);
    let planned = small.plan(&mut cuda, 20);
    small.run(&mut cuda, &planned, 1).unwrap();
    let effort = |runs| Effort { warm_up: 0.0, runs };
    let cold = |cuda: &mut Cuda, runs| {
        let forward = &mut |d: &mut dyn Device| {
            small.forward(d, planned.rows);
        };
        cuda.time_cold(&planned.plan, effort(runs), forward).unwrap()
    };
    // The first one makes and fills the memory that empties the cache.
    cold(&mut cuda, 1);
    for record in [Record::Nothing, Record::Launches] {
        cuda.record(record);
        let (seconds, asked) = calls(&mut cuda, |cuda| cold(cuda, 7));
        assert_eq!((seconds.len(), asked.synchronisations, asked.launches), (7, 7, 3 * 7), "{record:?}");
        // Two operations, and what empties the cache, which is no operation's.
        assert_eq!(cuda.take_launches().len(), if record == Record::Launches { 2 * 7 } else { 0 });
    }
    let mut turns = Vec::new();
    let mut graph = |cuda: &mut Cuda, runs| {
        let forward = &mut |d: &mut dyn Device, turn| {
            turns.push(turn);
            small.forward(d, planned.rows);
        };
        cuda.time_in_graph(&planned.plan, 5, effort(runs), forward).unwrap()
    };
    let waits: Vec<u64> = [1, 8].map(|runs| calls(&mut cuda, |cuda| graph(cuda, runs)).1.synchronisations).to_vec();
    assert_eq!(waits[1] - waits[0], 7, "one wait a run");
    assert_eq!(turns, [0, 0, 1, 2, 3, 4, 0, 0, 1, 2, 3, 4], "one pass before, then the graph's");
    assert!(cuda.sm_mhz().unwrap() > 0.0);
    // The passes leave what a pass leaves.
    assert_eq!(small.run(&mut cuda, &planned, 1).unwrap(), small.run(&mut cuda, &planned, 1).unwrap());
}

#[test]
fn graphs_do_not_outlive_what_they_point_to() {
    if !is_there() {
        return;
    }
    let mut cuda = Cuda::new(0).unwrap();
    let mut small = Small::new(&mut cuda, 16);
    let planned = small.plan(&mut cuda, 20);
    let run = |cuda: &mut Cuda, small: &Small| small.run(cuda, &planned, 3).unwrap();
    let fresh = |weights: &[f32]| {
        let mut cuda = Cuda::new(0).unwrap();
        let mut small = Small::new(&mut cuda, 16);
        small.linear.weight = cuda.replace_matrix(small.linear.weight, 16, WIDTH, weights).unwrap();
        let planned = small.plan(&mut cuda, 20);
        small.run(&mut cuda, &planned, 3).unwrap()
    };
    (0..3).for_each(|_| drop(run(&mut cuda, &small)));

    // Other values in the same place: the graph stays and sees them.
    let other = pattern(16 * WIDTH, 9);
    small.linear.weight = cuda.replace_matrix(small.linear.weight, 16, WIDTH, &other).unwrap();
    let (got, asked) = calls(&mut cuda, |cuda| run(cuda, &small));
    assert_eq!(asked, REPLAYED);
    assert_eq!(got, fresh(&other));

    // The weight moves to a larger place, and another allocation may take the old one.
    let larger = pattern(4096 * WIDTH, 5);
    let large = cuda.replace_matrix(small.linear.weight, 4096, WIDTH, &larger).unwrap();
    cuda.matrix(16, WIDTH, &[f32::NAN; 16 * WIDTH]).unwrap();
    small.linear.weight = Matrix { n: 16, ..large };
    assert_eq!(run(&mut cuda, &small), fresh(&larger[..16 * WIDTH]));
    (0..3).for_each(|_| drop(run(&mut cuda, &small)));

    // The arena moves.
    let wide = small.plan(&mut cuda, 5000);
    small.run(&mut cuda, &wide, 3).unwrap();
    assert_eq!(run(&mut cuda, &small), fresh(&larger[..16 * WIDTH]));
    assert_eq!(run(&mut cuda, &small), fresh(&larger[..16 * WIDTH]));
}

#[test]
fn more_passes_than_graphs_are_kept_still_run() {
    if !is_there() {
        return;
    }
    let mut cuda = Cuda::new(0).unwrap();
    let small = Small::new(&mut cuda, 16);
    let plans: Vec<Planned> = (1..=12).map(|rows| small.plan(&mut cuda, rows)).collect();
    let mut first: Vec<Vec<u32>> = Vec::new();
    for round in 0..4 {
        for (i, planned) in plans.iter().enumerate() {
            let got = small.run(&mut cuda, planned, i).unwrap();
            match first.get(i) {
                Some(first) => assert_eq!(got, *first, "round {round}, plan {i}"),
                None => first.push(got),
            }
        }
    }
}

/// The kernels of a module, each of which writes where nothing is allocated.
fn broken(module: &str) -> String {
    let images = IMAGES.iter().find(|images| images.module == module).unwrap();
    let kernels = images.kernels.iter().map(|kernel| {
        let (name, params, threads) = (kernel.name, kernel.params, kernel.threads);
        format!(
            ".visible .entry {name}(.param .align 8 .b8 {name}_param_0[{params}])\n.maxntid {threads}, 1, 1\n{{\n\
             .reg .b64 %rd<2>;\n.reg .b32 %r<2>;\nmov.u64 %rd1, 4096;\nmov.u32 %r1, 7;\nst.global.u32 [%rd1], %r1;\n\
             ret;\n}}\n"
        )
    });
    format!(".version 7.4\n.target sm_80\n.address_size 64\n{}", kernels.collect::<String>())
}

/// Set in the process that the faulting kernel has for itself.
const ALONE: &str = "LSEG_TEST_FAULT";

/// In a process of its own: CUDA's documentation says that such an error leaves the whole process inconsistent, so on a real GPU no
/// other test may stand beside it.
#[test]
fn a_faulting_kernel_loses_its_engine_and_no_other() {
    if !is_there() {
        return;
    }
    if std::env::var_os(ALONE).is_none() {
        let mut alone = Command::new(std::env::current_exe().unwrap());
        alone.args(["--exact", "a_faulting_kernel_loses_its_engine_and_no_other", "--nocapture"]).env(ALONE, "1");
        let output = alone.output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let ptx = broken("layer_norm");
    let (mut other, mut lost) = (Cuda::new(0).unwrap(), Cuda::with_ptx(0, &[("layer_norm", &ptx)]).unwrap());
    let (small, broken) = (Small::new(&mut other, 16), Small::new(&mut lost, 16));
    let (planned, planned_broken) = (small.plan(&mut other, 8), broken.plan(&mut lost, 8));
    let expected = small.run(&mut other, &planned, 0).unwrap();

    let error = broken.run(&mut lost, &planned_broken, 0).unwrap_err();
    assert!(matches!(error, Error::Lost(_)));
    let reason = error.to_string();
    let words = ["700", "CUDA_ERROR_ILLEGAL_ADDRESS", "make a new one", "a pass of 2 operations", "layer_norm 8×64"];
    for word in words.into_iter().chain(other.info().is_virtual.then_some("OutOfBounds in layer_norm")) {
        assert!(reason.contains(word), "{word:?} is not in {reason}");
    }
    // Whatever is asked of it later has the same answer, and what caused it.
    let later = [
        broken.run(&mut lost, &planned_broken, 0).unwrap_err(),
        lost.reserve(&planned_broken.plan).unwrap_err(),
        lost.vector(&[1.0]).unwrap_err(),
    ];
    assert!(later.iter().all(|error| matches!(error, Error::Lost(_))));
    for error in later.map(|error| error.to_string()) {
        assert!(error.contains("lost to an earlier error") && error.contains("ILLEGAL_ADDRESS"), "{error}");
    }
    assert_eq!(small.run(&mut other, &planned, 0).unwrap(), expected);
    drop(lost);
    let mut new = Cuda::new(0).unwrap();
    let small = Small::new(&mut new, 16);
    let planned = small.plan(&mut new, 8);
    assert_eq!(small.run(&mut new, &planned, 0).unwrap(), expected);
}

#[test]
fn devices_move_between_threads_and_work_beside_each_other() {
    if !is_there() {
        return;
    }
    let mut cuda = Cuda::new(0).unwrap();
    let small = Small::new(&mut cuda, 16);
    let planned = small.plan(&mut cuda, 8);
    let expected: Vec<_> = (0..4).map(|seed| small.run(&mut cuda, &planned, seed).unwrap()).collect();
    // Made here, used there, dropped there.
    std::thread::scope(|scope| {
        let (small, planned, expected) = (&small, &planned, &expected);
        scope.spawn(move || {
            for (seed, expected) in expected.iter().enumerate() {
                assert_eq!(small.run(&mut cuda, planned, seed).unwrap(), *expected);
            }
        });
        scope.spawn(move || {
            let mut cuda = Cuda::new(0).unwrap();
            let small = Small::new(&mut cuda, 16);
            let planned = small.plan(&mut cuda, 8);
            for (seed, expected) in expected.iter().enumerate() {
                assert_eq!(small.run(&mut cuda, &planned, seed).unwrap(), *expected);
            }
        });
    });
}

#[test]
fn an_empty_weight_is_no_trouble() {
    if !is_there() {
        return;
    }
    let mut cuda = Cuda::new(0).unwrap();
    let empty: Vector = cuda.vector(&[]).unwrap();
    assert_eq!(cuda.replace_vector(empty, &[1.0; 1000]).unwrap().len, 1000);
}

// ---- The engine.

const LABELS: [&str; 3] = ["cat", "a wall", "other"];

fn engine(device: DeviceChoice) -> Engine {
    engine_with(device, None)
}

/// With so much memory allowed.
fn engine_with(device: DeviceChoice, memory: Option<u64>) -> Engine {
    let model = repository_file("tests/golden/vit16/model.ckpt");
    let mut engine = Engine::load(&model, &Options { device, threads: Some(2), memory, ..Options::default() }).unwrap();
    engine.set_labels(&LABELS).unwrap();
    engine.set_size(Size::Exact { height: 32, width: 64 });
    engine
}

fn photo(seed: usize) -> Vec<u8> {
    (0..40 * 20 * 3).map(|i| ((i + seed * 31) * 7919 % 251) as u8).collect()
}

fn frame(rgb: &[u8]) -> Frame<'_> {
    Frame { width: 40, height: 20, rgb }
}

const FIRST: DeviceChoice = DeviceChoice::Cuda(Some(0));

#[test]
fn a_replayed_frame_is_one_launch() {
    if !is_there() {
        return;
    }
    let mut engine = engine(FIRST);
    let photos = [photo(0), photo(1)];
    let mut segmentation = Segmentation::default();
    let mut masks: Vec<Vec<u16>> = Vec::new();
    for i in 0..6 {
        let before = engine.device_calls();
        engine.segment_into(&frame(&photos[i % 2]), &mut segmentation).unwrap();
        let asked = difference(before, engine.device_calls());
        if i > 1 {
            let nodes = asked.graph_nodes;
            assert_eq!(asked, Calls { graph_nodes: nodes, ..REPLAYED });
            assert!(nodes > 20, "{nodes} nodes");
            assert_eq!(segmentation.mask, masks[i % 2], "a replayed frame is the frame, and sees no other");
            assert_eq!(engine.stage_times().len(), 1);
        } else {
            masks.push(segmentation.mask.clone());
        }
    }

    // Other words, as many as before: the graph stays.
    let words = ["a road", "the sky", "a tree"];
    engine.set_labels(&words).unwrap();
    let before = engine.device_calls();
    let got = engine.segment(&frame(&photos[0])).unwrap();
    assert_eq!(difference(before, engine.device_calls()).launches, 0);
    let mut fresh = self::engine(FIRST);
    fresh.set_labels(&words).unwrap();
    assert_eq!(got, fresh.segment(&frame(&photos[0])).unwrap());

    // More words, and back again.
    let many: Vec<String> = (0..70).map(|i| format!("word {i}")).collect();
    engine.set_labels(&many).unwrap();
    fresh.set_labels(&many).unwrap();
    assert_eq!(engine.segment(&frame(&photos[1])).unwrap(), fresh.segment(&frame(&photos[1])).unwrap());
    engine.set_labels(&LABELS).unwrap();
    for _ in 0..3 {
        assert_eq!(engine.segment(&frame(&photos[1])).unwrap().mask, masks[1]);
    }
}

/// Scores, the best ones and the overlay; the CPU has nearly the same best scores.
#[test]
fn what_comes_beside_the_mask_is_replayed_too() {
    if !is_there() {
        return;
    }
    let mut engine = engine(FIRST);
    let alone = [0, 1].map(|seed| engine.segment(&frame(&photo(seed))).unwrap());
    let mut eager: Vec<Segmented> = Vec::new();
    for i in 0..6 {
        let (photo, colours) = (photo(i % 2), [[0, 130, 255], [200, 10, 91], [i as u8, 7, 180]]);
        let before = engine.device_calls();
        let extras = Extras { scores: true, best: true, colours: Some(&colours), ..Extras::default() };
        let got = engine.segment_with(&frame(&photo), extras).unwrap();
        let asked = difference(before, engine.device_calls());
        assert_eq!(got.segmentation, alone[i % 2]);
        let tint = |(i, byte): (usize, &u8)| byte.midpoint(colours[usize::from(got.segmentation.mask[i / 3])][i % 3]);
        let tinted: Vec<u8> = photo.iter().enumerate().map(tint).collect();
        assert_eq!(got.overlay.as_ref(), Some(&tinted));
        if i > 1 {
            let nodes = asked.graph_nodes;
            assert_eq!(asked, Calls { graph_nodes: nodes, ..REPLAYED });
            assert_eq!((&got.best, &got.scores), (&eager[i % 2].best, &eager[i % 2].scores));
        } else {
            eager.push(got);
        }
    }
    let mut cpu = self::engine(DeviceChoice::Cpu);
    let extras = Extras { best: true, ..Extras::default() };
    let best = |segmented: &Segmented| segmented.best.clone().unwrap();
    let (got, expected) = (best(&eager[0]), best(&cpu.segment_with(&frame(&photo(0)), extras).unwrap()));
    let largest = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    assert!(got.len() == 40 * 20 && got.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 0.01 * largest));
}

/// A frame written straight into the engine's memory is the frame; other frames and words take its place, which is told.
#[test]
fn frames_may_be_written_where_the_device_takes_them() {
    let devices = [DeviceChoice::Cpu, FIRST];
    for device in devices.into_iter().filter(|device| *device == DeviceChoice::Cpu || is_there()) {
        let mut engine = engine(device);
        let photos = [photo(0), photo(1)];
        let masks = photos.each_ref().map(|photo| engine.segment(&frame(photo)).unwrap());
        let mut got = Segmentation::default();
        assert!(engine.segment_buffered(&mut got).unwrap_err().to_string().contains("holds no frame"));
        for i in 0..6 {
            engine.frame_buffer(40, 20).unwrap().copy_from_slice(&photos[i % 2]);
            let before = engine.device_calls();
            engine.segment_buffered(&mut got).unwrap();
            assert_eq!(got, masks[i % 2], "{device:?}");
            let asked = difference(before, engine.device_calls());
            assert!(i < 2 || (asked.copies_in, asked.allocations) == (0, 0), "{asked:?}");
        }
        // Again, without writing.
        engine.segment_buffered(&mut got).unwrap();
        assert_eq!(got, masks[1]);
        engine.segment(&frame(&photos[0])).unwrap();
        assert!(engine.segment_buffered(&mut got).is_err(), "another frame was seen");
        engine.frame_buffer(40, 20).unwrap().copy_from_slice(&photos[1]);
        // Known words leave it, and plan anew where they are more.
        engine.set_labels(&LABELS[..2]).unwrap();
        let two = engine.segment(&frame(&photos[1])).unwrap();
        engine.set_labels(&LABELS).unwrap();
        engine.frame_buffer(40, 20).unwrap().copy_from_slice(&photos[1]);
        engine.set_labels(&LABELS[..2]).unwrap();
        engine.segment_buffered(&mut got).unwrap();
        assert_eq!(got, two, "{device:?}");
        engine.set_labels(&["something new", "other"]).unwrap();
        assert!(engine.segment_buffered(&mut got).is_err(), "the text tower took its place");
        for (width, height) in [(0, 20), (40, 0), (usize::MAX, 2)] {
            let reason = engine.frame_buffer(width, height).unwrap_err().to_string();
            assert!(reason.contains("at least one pixel"), "{reason}");
        }
    }
}

/// Masks of up to 256 labels travel as bytes, those of more as 16 bits: both devices agree, at the border too.
#[test]
fn masks_hold_every_label() {
    if !is_there() {
        return;
    }
    let [mut cpu, mut cuda] = [DeviceChoice::Cpu, FIRST].map(engine);
    let photo = photo(0);
    for (count, alpha) in [(256, 0.5), (257, 0.25), (300, 1.0)] {
        let words: Vec<String> = (0..count).map(|i| format!("word {i}")).collect();
        let palette: Vec<[u8; 3]> = (0..count).map(|i| [i as u8, (i / 3) as u8, (i / 7) as u8]).collect();
        let [got, expected] = [&mut cuda, &mut cpu].map(|engine| {
            engine.set_labels(&words).unwrap();
            let alpha = Alpha::new(alpha).unwrap();
            let extras = Extras { colours: Some(&palette), alpha, scores: true, ..Extras::default() };
            engine.segment_with(&frame(&photo), extras).unwrap()
        });
        let (mask, right) = (&got.segmentation.mask, &expected.segmentation.mask);
        let same = mask.iter().zip(right).filter(|(got, right)| got == right).count();
        assert!(same * 100 >= 90 * right.len(), "{count} labels: {same} of {} pixels agree", right.len());
        let tint = |(i, byte): (usize, &u8)| {
            let colour = palette[usize::from(mask[i / 3])][i % 3];
            ((1.0 - alpha) * f64::from(*byte) + alpha * f64::from(colour)).floor() as u8
        };
        let tinted: Vec<u8> = photo.iter().enumerate().map(tint).collect();
        assert_eq!(got.overlay.as_ref(), Some(&tinted), "{count} labels");
        assert_eq!(cuda.segment(&frame(&photo)).unwrap(), got.segmentation);
    }
}

#[test]
fn running_out_of_memory_leaves_the_engine_working() {
    if !is_there() {
        return;
    }
    // More than is free, so that the driver refuses, not the budget.
    let mut engine = engine_with(FIRST, Some(u64::MAX));
    let photo = photo(0);
    let mask = engine.segment(&frame(&photo)).unwrap();
    engine.set_size(Size::Exact { height: 32_768, width: 32_768 });
    // Hundreds of GB: more than any GPU has.
    let error = engine.segment_batch(&[frame(&photo); 64]).unwrap_err();
    assert!(matches!(error, Error::Memory(_)));
    let reason = error.to_string();
    for word in ["a frame of this size needs", "MiB free", "CUDA_ERROR_OUT_OF_MEMORY"] {
        assert!(reason.contains(word), "{word:?} is not in {reason}");
    }
    engine.set_size(Size::Exact { height: 32, width: 64 });
    for _ in 0..3 {
        assert_eq!(engine.segment(&frame(&photo)).unwrap(), mask);
    }
}

#[test]
fn engines_work_beside_each_other() {
    if !is_there() {
        return;
    }
    let photo = photo(0);
    let (mut one, mut two) = (engine(FIRST), engine(FIRST));
    let mask = one.segment(&frame(&photo)).unwrap();
    std::thread::scope(|scope| {
        for engine in [&mut one, &mut two] {
            scope.spawn(|| (0..3).for_each(|_| assert_eq!(engine.segment(&frame(&photo)).unwrap(), mask)));
        }
    });
    assert_eq!(one.segment(&frame(&photo)).unwrap(), mask);
}

/// A limit and a sleeping host change when the GPU is asked, and nothing else.
#[test]
fn however_the_gpu_is_waited_for_a_frame_is_the_frame() {
    if !is_there() {
        return;
    }
    let photo = photo(0);
    let expected = engine(FIRST).segment(&frame(&photo)).unwrap();
    let model = repository_file("tests/golden/vit16/model.ckpt");
    for (wait, timeout) in [(Wait::Block, None), (Wait::Driver, Some(60)), (Wait::Block, Some(60))] {
        let options = Options { device: FIRST, wait, timeout: timeout.map(Duration::from_secs), ..Options::default() };
        let mut engine = Engine::load(&model, &options).unwrap();
        engine.set_labels(&LABELS).unwrap();
        engine.set_size(Size::Exact { height: 32, width: 64 });
        for _ in 0..3 {
            assert_eq!(engine.segment(&frame(&photo)).unwrap(), expected, "{wait:?}, {timeout:?}");
        }
    }
}

// ---- The program.

/// `lseg-fast run` on a small photo with `--device`: exit code, stderr and stdout in one.
fn run(device: &str, change: impl FnOnce(&mut Command)) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let picture = image::RgbImage::from_fn(70, 50, |x, y| image::Rgb([3 * x as u8, 5 * y as u8, (x * y) as u8]));
    picture.save(folder.path().join("a.png")).unwrap();
    let mut command = Command::new(program());
    command.args(["run", "a.png", "--labels", "cat,wall,other", "--size", "32x64", "--device", device, "--model"]);
    command.arg(repository_file("weights/seeded/seeded.ckpt")).current_dir(folder.path());
    change(&mut command);
    let output = command.output().unwrap();
    let text = [output.stderr, output.stdout].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code(), text)
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

#[test]
fn without_a_driver_the_program_says_so() {
    // A machine with a driver finds it without help.
    let (code, text) = run("cuda", |command| {
        command.env_remove("LD_LIBRARY_PATH").env_remove("LD_PRELOAD");
    });
    if code == Some(0) {
        eprintln!("skipped: this machine has a CUDA driver");
        return;
    }
    assert_eq!(code, Some(2), "{text}");
    has(&text, &["error: no CUDA device can be used", "libcuda", "--device cpu"]);
    assert_eq!(text.contains("this build has no CUDA kernels"), IMAGES.is_empty(), "{text}");
    let (code, text) = run("auto", |command| {
        command.env_remove("LD_LIBRARY_PATH").env_remove("LD_PRELOAD");
    });
    assert_eq!(code, Some(0), "{text}");
    has(&text, &["libcuda", "running on the CPU", "cpu, "]);
}

#[test]
fn a_build_without_kernels_says_what_to_install() {
    if !IMAGES.is_empty() {
        return;
    }
    let (code, text) = run("cuda", |_| ());
    assert_eq!(code, Some(2), "{text}");
    has(&text, &["this build has no CUDA kernels", "nvcc", "LSEG_NVCC", "build again", "--device cpu"]);
}

#[test]
fn the_program_chooses_its_device() {
    if !is_there() {
        return;
    }
    let (code, text) = run("cuda:7", |_| ());
    assert_eq!(code, Some(2), "{text}");
    has(&text, &["there is no 7", "this machine has", "--device cpu"]);
    for device in ["cuda", "cuda:0"] {
        let (code, text) = run(device, |_| ());
        assert_eq!(code, Some(0), "{text}");
        has(&text, &["; cuda:0, "]);
    }
    if Cuda::new(0).unwrap().info().is_virtual {
        let (code, text) = run("auto", |_| ());
        assert_eq!(code, Some(0), "{text}");
        has(&text, &["virtual GPU", "running on the CPU", "cpu, "]);
    }
}

// ---- Failures, which the virtual GPU makes on order (VGPU_FAIL).

/// Four photos of one size, the first operation by operation, the second captured and launched as a graph: exit code, stderr, and
/// which have a mask. A minute must do for what takes a second.
fn with_failures(failures: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    for (i, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let picture = image::RgbImage::from_fn(70, 50, |x, y| image::Rgb([3 * x as u8, 5 * y as u8, i as u8]));
        picture.save(folder.path().join(name).with_extension("png")).unwrap();
    }
    let mut command = Command::new(program());
    command.args(["run", "a.png", "b.png", "c.png", "d.png", "--labels", "cat,wall,other", "--size", "32x64"]);
    command
        .args(["--device", "cuda:0", "--save", "mask", "--model"])
        .arg(repository_file("weights/seeded/seeded.ckpt"));
    command.args(arguments).current_dir(folder.path()).env("VGPU_FAIL", failures);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("{failures} {arguments:?} does not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let has_mask = |name: &&str| folder.path().join("out").join(name).with_extension("mask.png").is_file();
    let done = ["a", "b", "c", "d"].into_iter().filter(has_mask).collect();
    (output.status.code(), String::from_utf8(output.stderr).unwrap(), done)
}

fn is_virtual() -> bool {
    is_there() && Cuda::new(0).unwrap().info().is_virtual
}

/// Also of codes that no enum of 2021 has, and of one that nobody has: after those the context is asked how it is.
#[test]
fn what_ends_an_engine_is_survived_by_a_new_one() {
    if !is_virtual() {
        return;
    }
    for (code, words) in [
        ("226", "CUDA_ERROR_CONTAINED"),
        ("721", "CUDA_ERROR_TENSOR_MEMORY_LEAK"),
        ("805", "the MPS server runs"),
        ("214", "the GPU needs a reset"),
        ("4711", "one that this driver has no name for"),
    ] {
        let (exit, text, done) = with_failures(&format!("cuGraphLaunch:1:{code}!"), &[]);
        assert_eq!((exit, &*done), (Some(0), "abcd"), "{text}");
        has(&text, &["note: b.png: ", &format!("CUDA error {code} "), words, "this engine is lost", "a new engine"]);
    }
}

#[test]
fn what_does_not_end_an_engine_costs_one_photo() {
    if !is_virtual() {
        return;
    }
    for code in ["701", "919", "4711"] {
        let (exit, text, done) = with_failures(&format!("cuGraphLaunch:1:{code}"), &[]);
        assert_eq!((exit, &*done), (Some(1), "acd"), "{text}");
        assert!(
            text.contains(&format!("error: launching a graph: CUDA error {code} ")) && !text.contains("lost"),
            "{text}"
        );
    }
}

#[test]
fn an_engine_lost_twice_ends_the_run() {
    if !is_virtual() {
        return;
    }
    let (exit, text, done) = with_failures("cuGraphLaunch:1:700!,cuGraphLaunch:2:700!", &[]);
    assert_eq!((exit, &*done), (Some(1), "ab"), "{text}");
    has(&text, &["note: b.png: ", "error: ", "1 of 4 photos were not done"]);
    // Where there is no room for a new one.
    let (exit, text, done) = with_failures("cuGraphLaunch:1:700!,cuCtxCreate_v2:2:2", &[]);
    assert_eq!((exit, &*done), (Some(1), "a"), "{text}");
    has(&text, &["no new engine", "CUDA_ERROR_OUT_OF_MEMORY", "2 of 4 photos were not done"]);
}

/// Neither the photos after it nor the end of the process wait for work that never ends.
#[test]
fn a_gpu_that_never_ends_is_left_after_the_time_given() {
    if !is_virtual() {
        return;
    }
    let (exit, text, done) = with_failures("cuGraphLaunch:1:hang", &["--timeout", "0.2"]);
    assert_eq!((exit, &*done), (Some(0), "abcd"), "{text}");
    has(&text, &["note: b.png: ", "has not finished a pass in 0.2 s", "this engine is lost"]);
    let (exit, text, done) = with_failures("cuLaunchKernel:3:hang,cuGraphLaunch:2:hang", &["--timeout", "0.2"]);
    assert!(exit != Some(0) && done.is_empty(), "{text}");
    has(&text, &["has not finished a pass in 0.2 s"]);
}

#[test]
fn a_gpu_that_is_not_to_be_had_is_told_by_its_reason() {
    if !is_virtual() {
        return;
    }
    for (failures, words) in [
        ("cuCtxCreate_v2:1:46", &["CUDA error 46 ", "in use by another process", "exclusive"][..]),
        ("cuCtxCreate_v2:1:805", &["CUDA error 805 ", "the MPS server"]),
        ("cuDeviceGetCount:1:999", &["counting the CUDA devices", "CUDA error 999 "]),
        ("cuModuleLoadData:1:2", &["loading the kernels of", "CUDA_ERROR_OUT_OF_MEMORY"]),
        ("cuMemAlloc_v2:1:2", &["MiB free", "CUDA_ERROR_OUT_OF_MEMORY"]),
    ] {
        let (exit, text, done) = with_failures(failures, &[]);
        assert!(matches!(exit, Some(1 | 2)) && done.is_empty(), "{text}");
        has(&text, words);
        has(&text, &["error: ", "--device cpu"]);
        assert!(!text.contains("capability 8.0"), "that is not what is missing: {text}");
    }
    // What the driver cannot read, it compiles; where it cannot do that either, the versions are at fault.
    let refused = (1..=40).map(|call| format!("cuModuleLoadData:{call}:222")).collect::<Vec<_>>().join(",");
    let (_, text, _) = with_failures(&refused, &[]);
    has(&text, &["CUDA error 222 ", "compute capability 8.0"]);
}

/// What only measurements need is not asked of a GPU that is to work.
#[test]
fn a_gpu_that_does_not_tell_its_clocks_works() {
    if !is_virtual() {
        return;
    }
    let untold = "cuDeviceGetAttribute:6:1,cuDeviceGetAttribute:7:1,cuDeviceGetAttribute:8:1,cuDeviceGetAttribute:9:1";
    let (exit, text, done) = with_failures(untold, &[]);
    assert_eq!((exit, &*done), (Some(0), "abcd"), "{text}");
    let mut bench = Command::new(program());
    let output = bench.args(["bench", "device", "--device", "cuda:0"]).env("VGPU_FAIL", untold).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().any(|line| line.contains("L2 cache") && line.ends_with("not known")), "{text}");
}

#[test]
fn a_time_that_is_none_is_refused() {
    for wrong in ["0", "-1", "soon", "inf", "NaN"] {
        let (exit, text) = run("cpu", |command| {
            command.arg(format!("--timeout={wrong}"));
        });
        assert_eq!(exit, Some(2), "{text}");
        has(&text, &["expected seconds above 0"]);
    }
}
