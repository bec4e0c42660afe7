//! Lanes of one network: bits as engines of their own have, words swapped whole, frames in flight, and what goes wrong beside them.
//! It is one file because its tests share a tiny network and what is right of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lseg_fast::image::npy::Dtype;
use lseg_fast::{
    DeviceChoice, EmbeddingForm, Engine, Error, Image, LabelSlot, Labels, Lane, Layout, MapSize, Network, Options,
    Output, Result, Results, Segmentation, Size, Threshold, Ticket, Wanted,
};
use rayon::prelude::*;
use testing::gpu::found;

const WORDS: [&[&str]; 4] = [&["cat", "dog"], &["sky", "cat", "sea"], &["dog", "cat"], &["a", "b", "c", "d", "e"]];
const COLOURS: [[u8; 3]; 5] = [[9, 200, 30], [0, 0, 255], [120, 7, 90], [255, 255, 0], [1, 2, 3]];
const FORM: EmbeddingForm =
    EmbeddingForm { at: MapSize::Photo, dtype: Dtype::F16, layout: Layout::Chw, normalise: true };
const POINTS: [[f32; 2]; 2] = [[3.0, 4.5], [18.0, 0.0]];
const SIZES: [Size; 2] = [Size::Exact { height: 32, width: 32 }, Size::Exact { height: 32, width: 64 }];
/// Much for what these networks need, little for what they are asked for in error.
const MEMORY: u64 = 256 << 20;
/// (width, height), and what the bytes are made of.
const PHOTOS: [(usize, usize, usize); 4] = [(24, 20, 1), (24, 20, 5), (33, 17, 3), (20, 31, 11)];

fn options(device: DeviceChoice) -> Options {
    Options { device, threads: Some(2), ..Options::default() }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vit16/model.ckpt")
}

/// A few thousand weights, so that a frame takes a fraction of a millisecond; on a GPU the smallest that its kernels compute.
fn tiny(device: DeviceChoice) -> Result<Network> {
    if device != DeviceChoice::Cpu {
        return Network::load(&golden(), &Options { memory: Some(MEMORY), ..options(device) });
    }
    let network = testing::network::Network::varied();
    Network::load(&network.write(), &Options { memory: Some(MEMORY), ..options(device) })
}

fn rgb((width, height, seed): (usize, usize, usize)) -> Vec<u8> {
    (0..width * height * 3).map(|i| ((i * (2 * seed + 1)) * 7919 % 251) as u8).collect()
}

fn frame((width, height, _): (usize, usize, usize), rgb: &[u8]) -> Image<'_> {
    Image::rgb8(width, height, rgb)
}

/// The CPU, and a GPU where there is one.
fn devices() -> Vec<DeviceChoice> {
    let gpu = DeviceChoice::Cuda(Some(0));
    let is_there = found(tiny(gpu)).is_some();
    [DeviceChoice::Cpu, gpu].into_iter().take(1 + usize::from(is_there)).collect()
}

/// Any outputs, by a number below [`ALL_WANTED`]; with overlays, of so many labels.
fn wanted(number: usize, labels: usize) -> Wanted<'static> {
    match number {
        0 => Wanted::MASK,
        1 => Wanted::of(&[Output::Scores]),
        2 => Wanted::of(&[Output::Embedding]),
        3 => Wanted::of(&[Output::Best, Output::Probabilities]).overlay(&COLOURS[..labels], Default::default()),
        4 => Wanted::of(&[Output::Mask8, Output::Confidence]).threshold(Threshold::new(0.4).unwrap()).embedding(FORM),
        _ => Wanted::MASK.at_points(&POINTS),
    }
}

const ALL_WANTED: usize = 6;

/// Everything of some results, as bits.
type Bits = Vec<(Output, [usize; 3], Vec<u32>)>;

fn bits(results: &Results) -> Bits {
    let each = |output: Output| {
        let values: Vec<u32> = (0..results.frames())
            .flat_map(|frame| match output {
                Output::Mask => results.mask(frame).unwrap().iter().map(|label| u32::from(*label)).collect::<Vec<_>>(),
                Output::Overlay => results.overlay(frame).unwrap().iter().map(|byte| u32::from(*byte)).collect(),
                Output::Mask8 => results.mask8(frame).unwrap().iter().map(|label| u32::from(*label)).collect(),
                Output::Confidence => results.confidence(frame).unwrap().iter().map(|byte| u32::from(*byte)).collect(),
                _ if results.halves(output, frame).is_some() => {
                    results.halves(output, frame).unwrap().iter().map(|half| u32::from(half.to_bits())).collect()
                }
                _ => results.values(output, frame).unwrap().iter().map(|value| value.to_bits()).collect(),
            })
            .collect();
        Some((output, results.shape(output)?, values))
    };
    Output::ALL.into_iter().filter(|output| results.shape(*output).is_some()).filter_map(each).collect()
}

#[test]
fn two_lanes_are_two_engines_to_the_bit() {
    let model = golden();
    for device in devices() {
        let engine = |words: &[&str], size| {
            let mut engine = Engine::load(&model, &options(device)).unwrap();
            engine.set_labels(words).unwrap();
            engine.set_size(size);
            engine
        };
        let network = Network::load(&model, &options(device)).unwrap();
        let mut pairs: Vec<(Lane, Engine)> = (0..2)
            .map(|i| {
                let mut lane = network.lane().unwrap();
                lane.set_labels(&network.labels(WORDS[i]).unwrap()).unwrap();
                lane.set_size(SIZES[i]);
                (lane, engine(WORDS[i], SIZES[i]))
            })
            .collect();
        for round in 0..4 {
            for (i, (lane, engine)) in pairs.iter_mut().enumerate() {
                let (photo, what) = (PHOTOS[(round + i) % PHOTOS.len()], wanted(round, WORDS[i].len()));
                let bytes = rgb(photo);
                let [got, right] =
                    [lane, engine.lane_mut()].map(|lane| lane.run(&[frame(photo, &bytes)], what).unwrap());
                assert_eq!(bits(&got), bits(&right), "{device:?}, lane {i}, round {round}");
            }
        }
    }
}

#[test]
fn lanes_run_on_threads_of_their_own() {
    for device in devices() {
        let network = tiny(device).unwrap();
        std::thread::scope(|scope| {
            for words in WORDS {
                let network = network.clone();
                scope.spawn(move || {
                    let mut lane = network.lane().unwrap();
                    lane.set_size(SIZES[0]);
                    lane.set_labels(&network.labels(words).unwrap()).unwrap();
                    let run =
                        |lane: &mut Lane, photo| bits(&lane.run(&[frame(photo, &rgb(photo))], Wanted::MASK).unwrap());
                    let right = PHOTOS.map(|photo| run(&mut lane, photo));
                    for i in 0..40 {
                        assert_eq!(run(&mut lane, PHOTOS[i % 4]), right[i % 4], "{device:?}, {words:?}");
                    }
                });
            }
        });
    }
}

/// A thread of a pool does the pool's other work while it waits: here another lane's frame, and another list of words.
#[test]
fn lanes_run_from_the_callers_own_pool() {
    let (done, over) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let network = tiny(DeviceChoice::Cpu).unwrap();
        let labels = network.labels(WORDS[0]).unwrap();
        let mut lanes = [(); 6].map(|()| network.lane().unwrap());
        let bytes = rgb(PHOTOS[0]);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        for _ in 0..20 {
            pool.install(|| {
                lanes.par_iter_mut().for_each(|lane| {
                    lane.set_labels(&labels).unwrap();
                    lane.run(&[frame(PHOTOS[0], &bytes)], Wanted::MASK).unwrap();
                });
                WORDS.par_iter().for_each(|words| drop(network.labels(words).unwrap()));
            });
        }
        done.send(()).unwrap();
    });
    over.recv_timeout(Duration::from_secs(60)).expect("nobody waits for himself");
}

#[test]
fn a_ticket_is_for_its_frame_and_its_lane() {
    for device in devices() {
        let network = tiny(device).unwrap();
        let (mut lane, mut other) = (network.lane().unwrap(), network.lane().unwrap());
        let labels = network.labels(WORDS[0]).unwrap();
        [&mut lane, &mut other].into_iter().for_each(|lane| lane.set_labels(&labels).unwrap());
        let bytes = PHOTOS.map(rgb);
        let frames: Vec<Image<'_>> = PHOTOS.into_iter().zip(&bytes).map(|(photo, rgb)| frame(photo, rgb)).collect();
        let right: Vec<Bits> = frames.iter().map(|frame| bits(&other.run(&[*frame], Wanted::MASK).unwrap())).collect();

        // In the other order than they were given in.
        let (first, second) =
            (lane.submit(&frames[0], Wanted::MASK).unwrap(), lane.submit(&frames[1], Wanted::MASK).unwrap());
        assert!(matches!(lane.submit(&frames[2], Wanted::MASK), Err(Error::Busy(_))));
        assert_eq!(bits(&lane.wait(second).unwrap()), right[1], "{device:?}");
        // A frame that is not submitted, of another size, comes between.
        assert_eq!(bits(&lane.run(&[frames[2]], Wanted::MASK).unwrap()), right[2], "{device:?}");
        assert_eq!(bits(&lane.wait(first).unwrap()), right[0], "{device:?}");

        // Another lane's ticket is told, and both go on.
        let ticket = lane.submit(&frames[3], Wanted::MASK).unwrap();
        let told = other.wait(ticket).unwrap_err().to_string();
        assert!(told.contains("of another lane"), "{told}");
        // Nobody has these tickets any more: their slots are free.
        for _ in 0..5 {
            drop(lane.submit(&frames[0], Wanted::MASK).unwrap());
        }
        let ticket = lane.submit(&frames[1], Wanted::MASK).unwrap();
        assert_eq!(bits(&lane.wait(ticket).unwrap()), right[1], "{device:?}");

        // Errors leave nothing in flight.
        let short = Image::rgb8(frames[0].width(), frames[0].height(), &bytes[0][1..]);
        for _ in 0..3 {
            assert!(matches!(lane.submit(&short, Wanted::MASK), Err(Error::Size(_))));
        }
        let ticket = lane.submit(&frames[0], Wanted::MASK).unwrap();
        lane.set_labels(&network.labels(WORDS[1]).unwrap()).unwrap();
        let next = lane.submit(&frames[0], Wanted::MASK).unwrap();
        let (before, after) = (lane.wait(ticket).unwrap(), lane.wait(next).unwrap());
        assert_eq!(bits(&before), right[0], "{device:?}: words of a frame in flight stay");
        assert_eq!((before.labels().unwrap().names(), after.labels().unwrap().names().len()), (labels.names(), 3));
    }
}

/// On a GPU, where it is quicker, the first lane computes for all; with other words or sizes each computes its own.
#[test]
fn frames_of_several_lanes_may_be_a_batch() {
    for device in devices() {
        let network = tiny(device).unwrap();
        let mut lanes = [(); 3].map(|()| network.lane().unwrap());
        let labels = network.labels(WORDS[1]).unwrap();
        lanes.iter_mut().for_each(|lane| lane.set_labels(&labels).unwrap());
        let bytes = [PHOTOS[0], PHOTOS[1], PHOTOS[0]].map(rgb);
        let frames = bytes.each_ref().map(|rgb| frame(PHOTOS[0], rgb));
        let wanted = Wanted::MASK.and(Output::Embedding);
        let right: Vec<Results> =
            lanes.iter_mut().zip(frames).map(|(lane, frame)| lane.run(&[frame], wanted).unwrap()).collect();
        let asked = |lanes: &[Lane; 3]| lanes.each_ref().map(|lane| lane.device_calls());
        let together = |lanes: &mut [Lane; 3]| {
            let before = asked(lanes);
            let results = network.run_batch(&mut lanes.each_mut(), &frames, wanted).unwrap();
            for (got, right) in results.iter().zip(&right) {
                assert_eq!(got.labels().unwrap().epoch(), right.labels().unwrap().epoch());
                assert_eq!(got.shape(Output::Embedding), right.shape(Output::Embedding));
                let [got, right] = [got, right].map(|results| results.values(Output::Embedding, 0).unwrap());
                let off = got.iter().zip(right).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off < 1e-2, "{device:?}: off by {off}");
            }
            let worked =
                before.iter().zip(asked(lanes)).map(|(before, after)| before.synchronisations < after.synchronisations);
            worked.collect::<Vec<bool>>()
        };
        let is_gpu = device != DeviceChoice::Cpu;
        assert_eq!(together(&mut lanes), [is_gpu, false, false], "one batch");
        lanes[2].label_slot().set(network.labels(WORDS[1]).unwrap());
        let before = asked(&lanes);
        let results = network.run_batch(&mut lanes.each_mut(), &frames, wanted).unwrap();
        assert_ne!(
            results[2].labels().unwrap().epoch(),
            results[0].labels().unwrap().epoch(),
            "each has its own words"
        );
        assert!(!is_gpu || before.iter().zip(asked(&lanes)).all(|(before, after)| *before != after));

        let one = network.run_batch(&mut lanes.each_mut(), &frames[..2], wanted).unwrap_err().to_string();
        assert!(one.contains("2 frames for 3 lanes"), "{one}");
        let mut other = tiny(device).unwrap().lane().unwrap();
        let foreign =
            network.run_batch(&mut [&mut lanes[0], &mut other], &frames[..2], wanted).unwrap_err().to_string();
        assert!(foreign.contains("another network"), "{foreign}");
        assert!(network.run_batch(&mut [], &[], wanted).unwrap().is_empty());
        // Frames that are none are told, before anything is planned of them.
        lanes.iter_mut().for_each(|lane| lane.set_labels(&labels).unwrap());
        let endless = Image::rgb8(1 << 40, 1 << 40, &[]);
        let told = network.run_batch(&mut lanes.each_mut(), &[endless; 3], Wanted::MASK).unwrap_err();
        assert!(matches!(told, Error::Size(_)), "{told}");
        let told = network.run_batch(&mut lanes.each_mut(), &frames, Wanted::of(&[Output::Points])).unwrap_err();
        assert!(matches!(told, Error::Points(_)), "{told}");
    }
}

/// The weights, once: a second lane holds what a frame needs and no more.
#[test]
fn a_second_lane_takes_no_second_copy_of_the_weights() {
    let network = Network::load_demo(&options(DeviceChoice::Cpu)).unwrap();
    let held = || network.memory().host().held;
    let weights = held();
    let labels = network.labels(WORDS[0]).unwrap();
    let words = held();
    let lane = || {
        let mut lane = network.lane().unwrap();
        lane.set_labels(&labels).unwrap();
        lane.set_size(SIZES[0]);
        let bytes = rgb(PHOTOS[0]);
        lane.run(&[frame(PHOTOS[0], &bytes)], Wanted::MASK).unwrap();
        lane
    };
    let first = lane();
    let one = held();
    let second = lane();
    assert_eq!(held() - one, one - words, "the second takes what the first did");
    assert!((one - words) < weights / 5, "{one} - {words} beside {weights} of weights");
    drop(second);
    assert_eq!(held(), one);
    drop((first, labels));
    assert!(held() < words);
}

#[test]
fn labels_are_for_lanes_of_their_network() {
    let [network, other] = [(); 2].map(|()| tiny(DeviceChoice::Cpu).unwrap());
    let [mine, labels] = [&network, &other].map(|network| network.labels(WORDS[0]).unwrap());
    assert_eq!(mine.epoch(), labels.epoch(), "epochs are a network's own");
    let bytes = rgb(PHOTOS[0]);
    let frames = [frame(PHOTOS[0], &bytes)];
    let mut lane = network.lane().unwrap();
    let told = lane.set_labels(&labels).unwrap_err();
    assert!(matches!(&told, Error::Foreign(told) if told.contains("another network")), "{told}");
    for has_labels in [false, true] {
        if has_labels {
            lane.set_labels(&mine).unwrap();
            lane.run(&frames, Wanted::MASK).unwrap();
        }
        // By way of the slot it is told when the frame comes; the lane goes on with labels of its own.
        lane.label_slot().set(labels.clone());
        assert!(matches!(lane.run(&frames, Wanted::MASK), Err(Error::Foreign(_))), "{has_labels}");
        let mut second = network.lane().unwrap();
        second.set_labels(&mine).unwrap();
        let both = network.run_batch(&mut [&mut second, &mut lane], &[frames[0]; 2], Wanted::MASK);
        assert!(matches!(both, Err(Error::Foreign(_))), "{has_labels}");
    }
}

/// A frame gives no memory back, for which it might wait: labels that nobody has any more go when others are made.
#[test]
fn old_labels_go_beside_the_frames() {
    let network = tiny(DeviceChoice::Cpu).unwrap();
    let mut lane = network.lane().unwrap();
    let bytes = rgb(PHOTOS[0]);
    let frames = [frame(PHOTOS[0], &bytes)];
    let mut results = Results::default();
    let many: Vec<String> = (0..900).map(|i| format!("{i}")).collect();
    lane.set_labels(&network.labels(&many).unwrap()).unwrap();
    (0..2).for_each(|_| lane.run_into(&frames, Wanted::MASK, &mut results).unwrap());
    let few = network.labels(WORDS[0]).unwrap();
    lane.set_labels(&few).unwrap();
    let before = network.memory().host().held;
    for _ in 0..2 {
        lane.run_into(&frames, Wanted::MASK, &mut results).unwrap();
        assert!(network.memory().host().held >= before);
    }
    drop(network.labels(WORDS[0]).unwrap());
    assert!(network.memory().host().held < before - 900 * 8);
}

/// A mask and its size belong together, whatever went wrong meanwhile.
#[test]
fn an_error_leaves_the_callers_mask_whole() {
    let mut engine = Engine::over(tiny(DeviceChoice::Cpu).unwrap()).unwrap();
    engine.set_labels(WORDS[0]).unwrap();
    let bytes = PHOTOS.map(rgb);
    let [mut first, mut second] = [(); 2].map(|()| Segmentation::default());
    engine.segment_into(&frame(PHOTOS[0], &bytes[0]), &mut first).unwrap();
    engine.segment_into(&frame(PHOTOS[2], &bytes[2]), &mut second).unwrap();
    let before = first.clone();
    let short = frame(PHOTOS[1], &bytes[1][1..]);
    assert!(engine.segment_into(&short, &mut first).is_err());
    assert_eq!(first, before);
    assert!(engine.segment_buffered(&mut first).is_err());
    assert_eq!(first, before);
    // What was there before is not taken for the result of a run that failed.
    let mut results = engine.run(&[frame(PHOTOS[0], &bytes[0])], Wanted::MASK).unwrap();
    assert!(engine.run_into(&[short], Wanted::MASK, &mut results).is_err());
    assert!(results.mask(0).is_none() && results.frames() == 0);
}

/// One step of somebody: a new list is put into the slot, or a frame is run, submitted or waited for.
#[derive(Clone, Copy, Debug)]
enum Step {
    Set(usize),
    Run,
    Submit,
    Wait,
}

/// All orders in which the steps of several, each in its own order, can happen.
fn interleavings(of: &[Vec<Step>]) -> Vec<Vec<Step>> {
    if of.iter().all(Vec::is_empty) {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for i in (0..of.len()).filter(|i| !of[*i].is_empty()) {
        let mut rest = of.to_vec();
        let first = rest[i].remove(0);
        all.extend(interleavings(&rest).into_iter().map(|mut steps| {
            steps.insert(0, first);
            steps
        }));
    }
    all
}

/// The swap of labels is one exchange of a pointer in a mutex, and a lane looks there once a frame: so these steps are all that two
/// setters and a lane can do to each other, and every order of them is tried. A frame is asked about the list that lay in the slot
/// when it began, whole: its epoch, its names and its bits belong together.
#[test]
fn whatever_the_order_a_frame_has_one_list_of_labels() {
    for device in devices() {
        let network = tiny(device).unwrap();
        let lists: Vec<Labels> = WORDS.iter().map(|words| network.labels(words).unwrap()).collect();
        let bytes = rgb(PHOTOS[0]);
        let photo = frame(PHOTOS[0], &bytes);
        let right: Vec<Bits> = lists
            .iter()
            .map(|labels| {
                let mut lane = network.lane().unwrap();
                lane.set_labels(labels).unwrap();
                bits(&lane.run(&[photo], Wanted::MASK.and(Output::Scores)).unwrap())
            })
            .collect();
        assert!((1..4).all(|i| right[i] != right[0]), "the lists give other results");
        let setters = [vec![Step::Set(1), Step::Set(2)], vec![Step::Set(3), Step::Set(0)]];
        let lane_steps = vec![Step::Submit, Step::Run, Step::Submit, Step::Wait, Step::Wait];
        let orders = interleavings(&[setters[0].clone(), setters[1].clone(), lane_steps]);
        assert_eq!(orders.len(), 756, "9! / (2! 2! 5!)");
        let mut lane = network.lane().unwrap();
        // The virtual GPU takes a hundred times as long.
        let step = if device == DeviceChoice::Cpu { 1 } else { 252 };
        for order in orders.iter().step_by(step) {
            let mut current = 0;
            lane.set_labels(&lists[0]).unwrap();
            let slot: LabelSlot = lane.label_slot();
            let mut flights: std::collections::VecDeque<(Ticket, usize)> = Default::default();
            let check = |results: &Results, list: usize| {
                let labels = results.labels().unwrap();
                assert_eq!((labels.epoch(), labels.names()), (lists[list].epoch(), lists[list].names()), "{order:?}");
                assert_eq!(bits(results), right[list], "{device:?} {order:?}");
            };
            let all = Wanted::MASK.and(Output::Scores);
            for step in order {
                match step {
                    Step::Set(list) => {
                        slot.set(lists[*list].clone());
                        current = *list;
                    }
                    Step::Run => check(&lane.run(&[photo], all).unwrap(), current),
                    Step::Submit => flights.push_back((lane.submit(&photo, all).unwrap(), current)),
                    Step::Wait => {
                        let (ticket, list) = flights.pop_front().unwrap();
                        check(&lane.wait(ticket).unwrap(), list);
                    }
                }
            }
        }
    }
}

/// Words change on another thread as fast as it can, while frames run.
#[test]
fn words_change_beside_running_frames() {
    for device in devices() {
        let network = tiny(device).unwrap();
        let mut lane = network.lane().unwrap();
        let first = network.labels(WORDS[0]).unwrap();
        lane.set_labels(&first).unwrap();
        let slot = lane.label_slot();
        let bytes = rgb(PHOTOS[0]);
        let photo = frame(PHOTOS[0], &bytes);
        let frames = if device == DeviceChoice::Cpu { 2000 } else { 6 };
        let mut other = network.lane().unwrap();
        let of = |words: &&[&str]| {
            other.set_labels(&network.labels(words).unwrap()).unwrap();
            let names: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            (names, bits(&other.run(&[photo], Wanted::MASK).unwrap()))
        };
        let right: HashMap<Vec<String>, Bits> = WORDS.iter().map(of).collect();
        std::thread::scope(|scope| {
            let frames = scope.spawn(|| {
                let (mut last, mut results) = (0, Results::default());
                for _ in 0..frames {
                    lane.run_into(&[photo], Wanted::MASK, &mut results).unwrap();
                    let labels = results.labels().unwrap();
                    assert!(labels.epoch() >= last, "epochs go up");
                    last = labels.epoch();
                    assert_eq!(bits(&results), right[labels.names()], "{device:?} {:?}", labels.names());
                }
                last
            });
            let mut i = 0;
            while !frames.is_finished() {
                slot.set(network.labels(WORDS[i % WORDS.len()]).unwrap());
                i += 1;
            }
            assert!(frames.join().unwrap() > first.epoch());
        });
    }
}

/// A stream of numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize * n) >> 31
    }
}

/// What an engine of its own gives, once for each question.
struct Right {
    device: DeviceChoice,
    known: HashMap<(usize, usize, usize, usize), Bits>,
}

impl Right {
    fn of(&mut self, words: usize, size: usize, photo: usize, what: usize) -> &Bits {
        let device = self.device;
        self.known.entry((words, size, photo, what)).or_insert_with(|| {
            let mut engine = Engine::over(tiny(device).unwrap()).unwrap();
            engine.set_labels(WORDS[words]).unwrap();
            engine.set_size(SIZES[size]);
            let bytes = rgb(PHOTOS[photo]);
            bits(&engine.run(&[frame(PHOTOS[photo], &bytes)], wanted(what, WORDS[words].len())).unwrap())
        })
    }
}

/// A lane and what the model knows of it.
struct Modelled {
    lane: Lane,
    words: Option<usize>,
    size: usize,
    /// Ticket, and the question that it answers.
    flights: Vec<(Ticket, (usize, usize, usize, usize))>,
    results: Results,
}

/// Frames, words, sizes, outputs, lanes that are made and dropped, and everything that a caller can do wrong, in any order: each
/// result is that of a fresh engine, for its list of words.
fn random_operations(device: DeviceChoice, operations: usize, seed: u64) {
    let mut right = Right { device, known: HashMap::new() };
    let network = tiny(device).unwrap();
    let foreign = tiny(DeviceChoice::Cpu).unwrap().labels(WORDS[0]).unwrap();
    let mut lists: Vec<Labels> = WORDS.iter().map(|words| network.labels(words).unwrap()).collect();
    let (mut random, mut lanes, bytes) = (Random(seed), Vec::<Modelled>::new(), PHOTOS.map(rgb));
    for operation in 0..operations {
        let at = format!("{device:?}, seed {seed}, operation {operation}");
        if lanes.is_empty() || (lanes.len() < 3 && random.below(50) == 0) {
            let mut lane = network.lane().unwrap();
            lane.set_size(SIZES[0]);
            lanes.push(Modelled { lane, words: None, size: 0, flights: Vec::new(), results: Results::default() });
        }
        let i = random.below(lanes.len());
        let Modelled { lane, words, size, flights, results } = &mut lanes[i];
        let (photo, what) = (random.below(PHOTOS.len()), random.below(ALL_WANTED));
        let given = frame(PHOTOS[photo], &bytes[photo]);
        let asked = wanted(what, words.map_or(0, |words| WORDS[words].len()));
        let without = words.is_none() && what != 2;
        let question = (words.unwrap_or(0), *size, photo, what);
        match random.below(20) {
            0..6 => match lane.run_into(&[given], asked, results) {
                Ok(()) => {
                    assert!(!without, "{at}");
                    assert_eq!(bits(results), *right.of(question.0, question.1, photo, what), "{at}");
                    let epoch = results.labels().map(Labels::epoch);
                    assert_eq!(epoch, words.filter(|_| what != 2).map(|words| lists[words].epoch()), "{at}");
                }
                Err(error) => assert!(without && matches!(error, Error::Labels(_)), "{at}: {error}"),
            },
            6..10 => match lane.submit(&given, asked) {
                Ok(ticket) => {
                    assert!(!without && flights.len() < 2, "{at}");
                    flights.push((ticket, question));
                }
                Err(Error::Busy(_)) => assert_eq!(flights.len(), 2, "{at}"),
                Err(error) => assert!(without && matches!(error, Error::Labels(_)), "{at}: {error}"),
            },
            10..13 => {
                if !flights.is_empty() {
                    let (ticket, (words, size, photo, what)) = flights.remove(random.below(flights.len()));
                    lane.wait_into(ticket, results).unwrap();
                    assert_eq!(bits(results), *right.of(words, size, photo, what), "{at}");
                    let names = results.labels().map(Labels::names);
                    assert_eq!(names, (what != 2).then(|| lists[words].names()), "{at}");
                }
            }
            13 => {
                let list = random.below(lists.len());
                // Made anew, of words that are known; or as they were.
                if random.below(4) == 0 {
                    lists[list] = network.labels(WORDS[list]).unwrap();
                }
                for (lane, words) in lanes.iter_mut().map(|modelled| (&mut modelled.lane, &mut modelled.words)) {
                    // Others keep the old edition of the list, whose epoch is another's.
                    if *words == Some(list) {
                        lane.set_labels(&lists[list]).unwrap();
                    }
                }
                lanes[i].lane.label_slot().set(lists[list].clone());
                lanes[i].words = Some(list);
            }
            14 => {
                *size = random.below(SIZES.len());
                lane.set_size(SIZES[*size]);
            }
            15 => {
                // A lost ticket.
                if !flights.is_empty() {
                    drop(flights.remove(random.below(flights.len())));
                }
            }
            16 => {
                if random.below(8) == 0 {
                    lanes.swap_remove(i);
                }
            }
            // What goes wrong, and leaves everything as it was.
            17 => {
                let short = Image::rgb8(given.width(), given.height(), &bytes[photo][3..]);
                assert!(lane.run_into(&[short], Wanted::of(&[Output::Embedding]), results).is_err(), "{at}");
                assert!(lane.run_into(&[], Wanted::of(&[Output::Embedding]), results).is_err(), "{at}");
                assert!(lane.set_labels(&foreign).is_err(), "{at}");
            }
            18 => {
                let outside = Wanted::default().at_points(&[[1.0, 1.0], [400.0, 0.0]]);
                assert!(matches!(lane.run(&[given], outside), Err(Error::Points(_))), "{at}");
                assert!(network.labels(&["cat", " CAT "]).is_err() && network.labels(&[""]).is_err(), "{at}");
            }
            _ => {
                // More than the network may have: refused before anything is taken.
                lane.set_size(Size::Exact { height: 32_768, width: 32_768 });
                let refused = lane.run(&[given], Wanted::of(&[Output::Embedding])).unwrap_err();
                assert!(matches!(refused, Error::Memory(_)), "{at}: {refused}");
                lane.set_size(SIZES[*size]);
            }
        }
    }
}

#[test]
fn whatever_happens_results_are_a_fresh_engines() {
    let long = std::env::var_os("LSEG_LONG_TESTS").is_some();
    for device in devices() {
        let operations = match (device, long) {
            (DeviceChoice::Cpu, true) => 100_000,
            (DeviceChoice::Cpu, false) => 10_000,
            _ => 300,
        };
        random_operations(device, operations, 18);
    }
}
