//! A frame allocates nothing and float16 weights take half the memory: counted by the allocator, over all threads.

#![allow(unsafe_code)]

use std::path::Path;
use std::time::Duration;

use lseg_fast::checkpoint::Checkpoint;
use lseg_fast::convert::{self, TargetDtype, convert};
use lseg_fast::demo;
use lseg_fast::embedding::At;
use lseg_fast::image::npy::Dtype;
use lseg_fast::model::detect::{HeadBlockOverride, detect};
use lseg_fast::plan_report::plan;
use lseg_fast::stream::{Policy, Stream, StreamOptions};
use lseg_fast::tokenizer::Tokenizer;
use lseg_fast::{
    Alpha, DeviceChoice, EmbeddingForm, Engine, Format, Image, Layout, MapSize, Network, Options, Output, Results,
    Segmentation, Size, Threshold, Wanted,
};
use testing::gpu::found;
use testing::process::alone;

use crate::allocator::{allocations, taken, watch};

/// The queue through which a pass enters the thread pool (rayon's, over crossbeam-deque) is a list of blocks of 63
/// entries: every 63rd pass it takes its next block, whatever the model and the frame.
const QUEUE_BLOCK: (usize, usize) = (63, 1536);

/// An engine may move to another thread.
const _: () = {
    const fn moves<T: Send>() {}
    moves::<Engine>();
};

/// Only words that the engine has not seen pass the text tower.
fn known_labels_cost_nothing(model: &str, engine: &mut Engine) {
    let mut time = |labels: &[&str]| {
        engine.set_labels(labels).unwrap();
        engine.text_time()
    };
    assert_eq!(time(&["other", "cat"]), Duration::ZERO, "{model}");
    assert!(time(&["cat", "a wall", "a new word", "other"]) > Duration::ZERO, "{model}");
    assert_eq!(time(&["cat", "a wall", "other"]), Duration::ZERO, "{model}");
}

/// Most weights of a ViT stay as the file has them; the rest are folded and composed convolutions, norms and positions.
fn a_float16_file_takes_half_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vit16/model.ckpt");
    let checkpoint = Checkpoint::open(&path).unwrap();
    let config = detect(&checkpoint, &HeadBlockOverride::default()).unwrap();
    let [(half, parameters), (float, _)] = [TargetDtype::F16, TargetDtype::F32].map(|dtype| {
        let out = folder.path().join("model.safetensors");
        let options = convert::Options { out: out.clone(), dtype };
        let summary = convert(&checkpoint, &config, &options, &mut |_, _| {}).unwrap();
        let options = Options { device: DeviceChoice::Cpu, threads: Some(2), ..Options::default() };
        let (_engine, held, _) = taken(|| Engine::load(&out, &options).unwrap());
        (held, summary.parameters as usize)
    });
    assert!(half + 3 * (2 * parameters) / 4 < float, "{half} and {float} bytes for {parameters} parameters");
}

/// The budget's numbers are what is taken: not less, and not much more.
fn the_budget_counts_what_is_taken() {
    const MB: usize = 1 << 20;
    let checkpoint = demo::checkpoint().unwrap();
    let config = detect(&checkpoint, &HeadBlockOverride::default()).unwrap();
    // The words' tables are no part of it.
    let (_tokenizer, words, _) = taken(|| Tokenizer::new(config.text.vocab, config.text.context).unwrap());
    let options = Options { device: DeviceChoice::Cpu, threads: Some(2), ..Options::default() };
    let held = |engine: &Engine| engine.memory().host().held as usize;

    let (mut engine, live, peak) = taken(|| Engine::load_demo(&options).unwrap());
    let weights = held(&engine);
    assert!((weights * 8 / 10..weights + MB).contains(&(live - words)), "{live} - {words} for {weights}");
    let report = plan(&checkpoint, &config, (480, 640), 3, DeviceChoice::Cpu, None).unwrap();
    let counted = (report.weight_bytes + report.loading_bytes) as usize;
    assert!(peak - words <= counted + MB, "{peak} - {words} for {counted}");

    let labels: Vec<String> = (0..200).map(|i| format!("label {i}")).collect();
    let ((), live, _) = taken(|| engine.set_labels(&labels).unwrap());
    let all = held(&engine) - weights;
    assert!((all / 2..all + MB).contains(&live), "{live} for {all}, labels and the text tower's arena");

    engine.set_size(Size::Exact { height: 480, width: 640 });
    let (width, height) = (2000, 1500);
    let rgb = vec![99; width * height * 3];
    let wanted = Wanted::of(&[Output::Best]).overlay(&[[9; 3]; 200], Alpha::default());
    let frame = Image::rgb8(width, height, &rgb);
    let before = held(&engine);
    let (_results, live, peak) = taken(|| engine.run(&[frame], wanted).unwrap());
    let (more, results) = (held(&engine) - before, width * height * (2 + 3 + 4));
    assert!((more * 9 / 10..more + MB).contains(&(live - results)), "{live} - {results} for {more}");
    assert!(peak <= more + results + MB, "{peak} for {more} and {results}");
}

/// Embeddings at a photo's size are many times what all else of a frame is: no more than a piece of them is ever there.
fn resized_embeddings_are_never_whole() {
    const MB: usize = 1 << 20;
    let options = Options { device: DeviceChoice::Cpu, threads: Some(2), ..Options::default() };
    let mut engine = Engine::load_demo(&options).unwrap();
    engine.set_size(Size::Exact { height: 96, width: 128 });
    let (width, height) = (1600, 1200);
    let rgb = vec![99; width * height * 3];
    let held = |engine: &Engine| engine.memory().host().held as usize;
    let before = held(&engine);
    let mut whole = 0;
    let ((), live, peak) = taken(|| {
        let frame = Image::rgb8(width, height, &rgb);
        let mut resized = engine.embed_resized(&frame, At::Photo, Dtype::F32, true).unwrap();
        whole = 4 * resized.shape().iter().product::<usize>();
        resized.write(&mut std::io::sink()).unwrap().unwrap();
    });
    let more = held(&engine) - before;
    assert!(peak <= more + 2 * MB && 3 * more < whole, "{peak} for {more} of {whole}");
    assert!(live <= more + MB, "{live} for {more}");
}

// Another test beside it would be counted too.
#[test]
fn frames_allocate_nothing_and_float16_takes_half() {
    alone("allocations::frames_allocate_nothing_and_float16_takes_half", || {
        watch();
        the_budget_counts_what_is_taken();
        resized_embeddings_are_never_whole();
        a_float16_file_takes_half_the_memory();
        frames_after_the_first_allocate_nothing();
        replayed_frames_on_a_gpu_allocate_nothing();
        further_outputs_allocate_nothing();
        streams_allocate_nothing();
    });
}

/// From push to the answer's end, whichever frames are computed, with words that change, on both devices.
fn streams_allocate_nothing() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vit16/model.ckpt");
    let load = |device| Network::load(&path, &Options { device, threads: Some(2), ..Options::default() });
    let networks = [Some(load(DeviceChoice::Cpu).unwrap()), found(load(DeviceChoice::Cuda(Some(0))))];
    let (width, height) = (75, 41);
    let rgb: Vec<u8> = (0..width * height * 3).map(|i| (i * 7919 % 251) as u8).collect();
    let frame = Image::rgb8(width, height, &rgb);
    for network in networks.into_iter().flatten() {
        for policy in [Policy::Newest, Policy::Every { queue: 2 }] {
            let labels = network.labels(&["cat", "a wall", "other"]).unwrap();
            let size = Some(Size::Exact { height: 32, width: 64 });
            let stream =
                Stream::start(&network, Some(&labels), StreamOptions { policy, size, ..StreamOptions::default() })
                    .unwrap();
            let take = || {
                let answer = stream.recv(Duration::from_secs(60)).unwrap().expect("a frame was pushed");
                assert!(answer.results().is_ok());
            };
            let two = || {
                stream.push(&frame, 1).unwrap();
                let mut slot = stream.slot(Format::Rgb8, width, height).unwrap().expect("there is room for two");
                slot.bytes().copy_from_slice(&rgb);
                slot.push(2).unwrap();
                take();
                // Of the newest one may have been replaced.
                while stream.stats().in_flight > 0 {
                    std::thread::yield_now();
                }
                std::thread::sleep(Duration::from_millis(2));
                while let Some(answer) = stream.poll() {
                    assert!(answer.results().is_ok());
                }
            };
            (0..8).for_each(|_| two());
            let (count, largest) = allocations(|| (0..20).for_each(|_| two()));
            let (_, block) = QUEUE_BLOCK;
            let device = network.device();
            assert!(
                count <= 1 && largest <= block,
                "{device}, {policy:?}: {count} allocations of up to {largest} bytes"
            );
            stream.stop().unwrap();
        }
    }
}

/// On a real GPU, or the virtual one, whose own allocations are not counted.
fn replayed_frames_on_a_gpu_allocate_nothing() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vit16/model.ckpt");
    let device = DeviceChoice::Cuda(Some(0));
    let Some(mut engine) = found(Engine::load(&path, &Options { device, threads: None, ..Options::default() })) else {
        return;
    };
    engine.set_labels(&["cat", "a wall", "other"]).unwrap();
    engine.set_size(Size::Exact { height: 32, width: 64 });
    let (width, height) = (75, 41);
    let rgb: Vec<u8> = (0..width * height * 3).map(|i| (i * 7919 % 251) as u8).collect();
    let frame = Image::rgb8(width, height, &rgb);
    let mut segmentation = Segmentation::default();
    (0..2).for_each(|_| engine.segment_into(&frame, &mut segmentation).unwrap());
    let (count, largest) =
        allocations(|| (0..10).for_each(|_| engine.segment_into(&frame, &mut segmentation).unwrap()));
    assert_eq!(count, 0, "of up to {largest} bytes");

    let before = engine.device_calls().allocations;
    let (count, largest) = submitted(&mut engine, &frame, 10);
    assert_eq!(count, 0, "submitted: of up to {largest} bytes");
    assert_eq!(engine.device_calls().allocations - before, SLOTS_MEMORY, "of the driver, all by the first frames");
    frames_between_kernels_allocate_nothing(&mut engine, &frame);
}

/// Confidences, masks with a threshold and embeddings in both layouts, on both devices.
fn further_outputs_allocate_nothing() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vit16/model.ckpt");
    let load = |device| Engine::load(&path, &Options { device, threads: Some(2), ..Options::default() });
    let engines = [Some(load(DeviceChoice::Cpu).unwrap()), found(load(DeviceChoice::Cuda(Some(0))))];
    let (width, height) = (75, 41);
    let rgb: Vec<u8> = (0..width * height * 3).map(|i| (i * 7919 % 251) as u8).collect();
    let (frame, colours) = (Image::rgb8(width, height, &rgb), [[1, 2, 3], [40, 50, 60], [7, 8, 9]]);
    let masks = Wanted::of(&[Output::Mask8, Output::Confidence, Output::Best]).threshold(Threshold::new(0.5).unwrap());
    for mut engine in engines.into_iter().flatten() {
        engine.set_labels(&["cat", "a wall", "other"]).unwrap();
        engine.set_size(Size::Exact { height: 32, width: 64 });
        for layout in [Layout::Hwc, Layout::Chw] {
            let form = EmbeddingForm { at: MapSize::Photo, dtype: Dtype::F16, layout, normalise: true };
            let wanted = masks.overlay(&colours, Alpha::default()).embedding(form);
            let mut results = Results::default();
            let mut run = || engine.run_into(&[frame], wanted, &mut results).unwrap();
            (0..3).for_each(|_| run());
            let (count, largest) = allocations(|| (0..20).for_each(|_| run()));
            let (_, block) = QUEUE_BLOCK;
            assert!(count <= 1 && largest <= block, "{layout:?}: {count} allocations of up to {largest} bytes");
        }
    }
}

/// Frames from either memory whose results stay on the GPU, and frames from the GPU's memory that are run. The image there is an
/// overlay that stays.
fn frames_between_kernels_allocate_nothing(engine: &mut Engine, frame: &Image<'_>) {
    let (width, height) = (frame.width(), frame.height());
    engine.set_device_places(3);
    let wanted = Wanted::MASK.overlay(&[[200, 30, 90]; 3], Alpha::default());
    let source = engine.run_on_device(std::slice::from_ref(frame), wanted).unwrap();
    let (photo, stream) = (source.tensor(Output::Overlay).unwrap(), engine.cuda_stream().unwrap());
    // SAFETY: the tensor and the engine's stream live longer.
    let image = unsafe { Image::cuda(Format::Rgb8, width, height, &[(photo.address(), 3 * width)], stream) };
    let mut results = Results::default();
    for frame in [frame, &image] {
        let mut one = || {
            let frames = std::slice::from_ref(frame);
            let held = engine.run_on_device(frames, Wanted::MASK).unwrap();
            let mask = held.tensor(Output::Mask).unwrap().clone();
            drop(held);
            engine.run_into(frames, Wanted::MASK, &mut results).unwrap();
            mask.wait().unwrap();
        };
        (0..6).for_each(|_| one());
        let (count, largest) = allocations(|| (0..10).for_each(|_| one()));
        assert_eq!(count, 0, "of up to {largest} bytes");
    }
}

/// Driver allocations of two slots: each has its inputs on the host and on the GPU, and its outputs on the host.
const SLOTS_MEMORY: u64 = 2 * 3;

/// Allocations of so many frames and the largest, each submitted before the one before is waited for; with words that change. The
/// first few, which plan and allocate, do not count.
fn submitted(engine: &mut Engine, frame: &Image<'_>, frames: usize) -> (usize, usize) {
    let lists = [["cat", "a wall", "other"], ["other", "cat", "a wall"]];
    let labels = lists.map(|list| engine.network().labels(&list).unwrap());
    let lane = engine.lane_mut();
    let mut results = Results::default();
    let mut before = Some(lane.submit(frame, Wanted::MASK).unwrap());
    let mut one = |i: usize| {
        lane.set_labels(&labels[i % 2]).unwrap();
        let next = lane.submit(frame, Wanted::MASK).unwrap();
        lane.wait_into(before.replace(next).unwrap(), &mut results).unwrap();
    };
    (0..6).for_each(&mut one);
    let counted = allocations(|| (0..frames).for_each(&mut one));
    lane.wait(before.unwrap()).unwrap();
    counted
}

fn frames_after_the_first_allocate_nothing() {
    for model in ["vit16", "resnet"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(model).join("model.ckpt");
        let mut engine =
            Engine::load(&path, &Options { device: DeviceChoice::Cpu, threads: Some(2), ..Options::default() })
                .unwrap();
        engine.set_labels(&["cat", "a wall", "other"]).unwrap();
        assert!(engine.text_time() > Duration::ZERO, "{model}");
        known_labels_cost_nothing(model, &mut engine);
        engine.set_size(Size::Exact { height: 32, width: 64 });
        let (width, height) = (75, 41);
        let rgb: Vec<u8> = (0..width * height * 3).map(|i| (i * 7919 % 251) as u8).collect();
        let frame = Image::rgb8(width, height, &rgb);
        let mut segmentation = Segmentation::default();

        let (first, _) = allocations(|| engine.segment_into(&frame, &mut segmentation).unwrap());
        assert!(first > 10, "{model}: the first frame plans and allocates, yet {first} allocations were counted");

        let mut last: Option<usize> = None;
        for i in 0..130 {
            let (count, largest) = allocations(|| engine.segment_into(&frame, &mut segmentation).unwrap());
            if count > 0 {
                let (period, block) = QUEUE_BLOCK;
                let queue = count == 1 && largest <= block && last.is_none_or(|last| i - last >= period);
                assert!(queue, "{model}, frame {i}: {count} allocations of up to {largest} bytes");
                last = Some(i);
            }
        }
        assert_eq!(segmentation.mask.len(), width * height);

        let (count, largest) = submitted(&mut engine, &frame, 20);
        let (_, block) = QUEUE_BLOCK;
        assert!(count <= 1 && largest <= block, "{model}, submitted: {count} allocations of up to {largest} bytes");
    }
}
