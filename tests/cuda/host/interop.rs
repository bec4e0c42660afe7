//! Frames between this engine and another user of the GPU: images from its memory, masks to its kernels, in the order that events
//! give and no other. The other writes its image by a kernel that is late, and takes the image's and the mask's memory again as soon
//! as it may.

#![allow(unsafe_code)]

use lseg_fast::device::Calls;
use lseg_fast::{
    ContextKind, DeviceChoice, DeviceResults, DeviceTensor, Engine, Error, Format, Image, Options, Output, Plane,
    Results, Size, TensorElement, Wanted,
};

use testing::files::root;
use testing::process::{alone, peak_mib};

use super::caller::{Bytes, Caller};
use super::{difference, has, is_there, is_virtual, schedules};

const WIDTH: usize = 41;
const HEIGHT: usize = 27;
const PIXELS: usize = WIDTH * HEIGHT;

fn engine_in(context: ContextKind, ordinal: usize) -> Engine {
    let device = DeviceChoice::Cuda(Some(ordinal));
    let options = Options { device, threads: Some(1), context, ..Options::default() };
    let mut engine = Engine::load(&root().join("tests/golden/vit16/model.ckpt"), &options).unwrap();
    engine.set_labels(&["cat", "a wall", "other"]).unwrap();
    engine.set_size(Size::Exact { height: 32, width: 64 });
    engine
}

fn engine(ordinal: usize) -> Engine {
    engine_in(ContextKind::Primary, ordinal)
}

/// Of a seed, RGB without padding.
fn rgb(seed: usize) -> Vec<u8> {
    (0..3 * PIXELS).map(|i| ((i * (2 * seed + 3)) * 7919 % 251) as u8).collect()
}

/// The same rows, so many bytes from one to the next.
fn padded(bytes: &[u8], row: usize, pitch: usize) -> Vec<u8> {
    bytes.chunks(row).flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0xEE, pitch - row.len()))).collect()
}

fn packed_image(address: u64, stream: u64) -> Image<'static> {
    pitched_image(address, 3 * WIDTH, stream)
}

fn pitched_image(address: u64, pitch: usize, stream: u64) -> Image<'static> {
    // SAFETY: the tests' memory and streams live longer.
    unsafe { Image::cuda(Format::Rgb8, WIDTH, HEIGHT, &[(address, pitch)], stream) }
}

/// What the host's path makes of each seed.
fn expected(engine: &mut Engine, seeds: usize) -> Vec<Vec<u16>> {
    let mut masks: Vec<Vec<u16>> = Vec::new();
    for seed in 0..seeds {
        masks.push(engine.segment(&Image::rgb8(WIDTH, HEIGHT, &rgb(seed))).unwrap().mask);
    }
    assert!((1..seeds).all(|seed| masks[seed] != masks[seed - 1]), "each photo has a mask of its own");
    masks
}

fn wide(bytes: &[u8]) -> Vec<u16> {
    bytes.iter().map(|byte| u16::from(*byte)).collect()
}

fn mask(results: &DeviceResults) -> &DeviceTensor {
    results.tensor(Output::Mask).unwrap()
}

fn read(tensor: &DeviceTensor) -> Vec<u16> {
    let mut bytes = vec![0; tensor.bytes()];
    tensor.read(&mut bytes).unwrap();
    wide(&bytes)
}

/// A mask copied by a kernel of the caller's.
fn consume<'a>(caller: &'a Caller, tensor: &DeviceTensor, stream: u64) -> Bytes<'a> {
    let taken = caller.memory(tensor.bytes());
    // SAFETY: the stream lives longer.
    unsafe { tensor.follow(stream) }.unwrap();
    caller.copy(taken.address, tensor.address(), tensor.bytes(), stream);
    taken
}

const SEEDS: usize = 5;

/// The streams on which a caller may be: its own, and CUDA's default ones.
fn streams(caller: &Caller) -> [u64; 4] {
    [caller.stream(), 0, 1, 2]
}

/// All pairs of these; on the virtual GPU, which is slow, a quarter of them in each schedule, and all of them in any four.
fn pairs(of: [usize; 3], streams: [u64; 4], schedule: usize) -> impl Iterator<Item = (usize, u64)> {
    let is_chosen = move |i: usize, j: usize| !is_virtual() || (i + j + schedule).is_multiple_of(streams.len());
    (0..of.len() * streams.len())
        .map(move |pair| (pair / streams.len(), pair % streams.len()))
        .filter(move |(i, j)| is_chosen(*i, *j))
        .map(move |(i, j)| (of[i], streams[j]))
}

#[test]
fn images_from_cuda_memory_are_the_hosts_frames_in_every_schedule() {
    for (schedule, ordinal) in schedules().into_iter().enumerate() {
        let mut engine = engine(ordinal);
        let expected = expected(&mut engine, SEEDS);
        let caller = Caller::new(ordinal, is_virtual());
        for (pitch, stream) in pairs([3 * WIDTH, 3 * WIDTH + 5, 256], streams(&caller), schedule) {
            let what = format!("device {ordinal}, pitch {pitch}, stream {stream:#x}");
            let sources: Vec<Bytes<'_>> =
                (0..SEEDS).map(|seed| caller.bytes(&padded(&rgb(seed), 3 * WIDTH, pitch))).collect();
            let photo = caller.memory(sources[0].len);
            let image = pitched_image(photo.address, pitch, stream);
            let lane = engine.lane_mut();
            let mut before = None;
            for (seed, source) in sources.iter().enumerate() {
                caller.copy(photo.address, source.address, photo.len, stream);
                let ticket = lane.submit(&image, Wanted::MASK).unwrap();
                // The memory is the caller's again.
                caller.fill(photo.address, 7, photo.len, stream);
                if seed % 2 == 1 {
                    caller.wait(stream);
                }
                if let Some((ticket, seed)) = before.replace((ticket, seed)) {
                    let results: Results = lane.wait(ticket).unwrap();
                    assert_eq!(results.mask(0).unwrap(), expected[seed], "{what}, submitted {seed}");
                }
                // Run, beside the one in flight.
                caller.copy(photo.address, source.address, photo.len, stream);
                let results = lane.run(&[image], Wanted::MASK).unwrap();
                caller.fill(photo.address, 9, photo.len, stream);
                assert_eq!(results.mask(0).unwrap(), expected[seed], "{what}, run {seed}");
            }
            let (ticket, seed) = before.unwrap();
            assert_eq!(lane.wait(ticket).unwrap().mask(0).unwrap(), expected[seed], "{what}");
        }
    }
}

#[test]
fn masks_that_stay_on_the_gpu_are_the_hosts_in_every_schedule() {
    for (schedule, ordinal) in schedules().into_iter().enumerate() {
        let mut engine = engine(ordinal);
        let expected = expected(&mut engine, SEEDS);
        let caller = Caller::new(ordinal, is_virtual());
        // So many held at once, none, one and two; then each place is used again at once.
        for (held, stream) in pairs([0, 1, 2], streams(&caller), schedule) {
            let what = format!("device {ordinal}, stream {stream:#x}, {held} held");
            let sources: Vec<Bytes<'_>> = (0..SEEDS).map(|seed| caller.bytes(&rgb(seed))).collect();
            let photo = caller.memory(sources[0].len);
            let image = packed_image(photo.address, stream);
            let mut taken: Vec<(Bytes<'_>, usize)> = Vec::new();
            let mut hold: Vec<DeviceResults> = Vec::new();
            for round in 0..2 * SEEDS {
                let seed = round % SEEDS;
                let results = if round % 3 == 2 {
                    engine.run_on_device(&[Image::rgb8(WIDTH, HEIGHT, &rgb(seed))], Wanted::MASK).unwrap()
                } else {
                    caller.copy(photo.address, sources[seed].address, photo.len, stream);
                    let results = engine.run_on_device(&[image], Wanted::MASK).unwrap();
                    caller.fill(photo.address, 7, photo.len, stream);
                    results
                };
                taken.push((consume(&caller, mask(&results), stream), seed));
                hold.push(results);
                if hold.len() == 2 && held == 2 {
                    let (refused, at) = (engine.run_on_device(&[image], Wanted::MASK), hold.len() - 1);
                    assert!(matches!(refused, Err(Error::Busy(_))), "{what}");
                    assert_eq!(read(mask(&hold[at])), expected[seed], "{what}");
                }
                if hold.len() > held.min(1) {
                    drop(hold.remove(0));
                }
            }
            drop(hold);
            for (at, (taken, seed)) in taken.iter().enumerate() {
                assert_eq!(wide(&taken.read(stream)), expected[*seed], "{what}, frame {at}");
            }
        }
    }
}

/// Tickets, runs and results that stay, with images of either memory, one among the other.
#[test]
fn all_ways_go_together() {
    for ordinal in schedules() {
        let mut engine = engine(ordinal);
        let expected = expected(&mut engine, SEEDS);
        let caller = Caller::new(ordinal, is_virtual());
        let stream = caller.stream();
        let sources: Vec<Bytes<'_>> = (0..SEEDS).map(|seed| caller.bytes(&rgb(seed))).collect();
        let hosts: Vec<Vec<u8>> = (0..SEEDS).map(rgb).collect();
        let host = |seed: usize| Image::rgb8(WIDTH, HEIGHT, &hosts[seed]);
        let cuda = |seed: usize| packed_image(sources[seed].address, stream);
        let lane = engine.lane_mut();
        for round in 0..4 {
            let (a, b, c, d) = (round % SEEDS, (round + 1) % SEEDS, (round + 2) % SEEDS, (round + 3) % SEEDS);
            let ticket = lane.submit(&if round % 2 == 0 { host(a) } else { cuda(a) }, Wanted::MASK).unwrap();
            let first = lane.run_on_device(&[if round < 2 { cuda(b) } else { host(b) }], Wanted::MASK).unwrap();
            assert_eq!(lane.run(&[cuda(c)], Wanted::MASK).unwrap().mask(0).unwrap(), expected[c]);
            // In the slot of the one before it.
            let second = lane.run_on_device(&[host(d)], Wanted::MASK).unwrap();
            assert!(matches!(lane.run_on_device(&[host(d)], Wanted::MASK), Err(Error::Busy(_))));
            assert_eq!(lane.wait(ticket).unwrap().mask(0).unwrap(), expected[a], "device {ordinal}");
            assert_eq!(lane.run(&[host(a)], Wanted::MASK).unwrap().mask(0).unwrap(), expected[a]);
            assert_eq!(read(mask(&first)), expected[b], "device {ordinal}");
            assert_eq!(read(mask(&second)), expected[d], "device {ordinal}");
            assert_eq!(second.labels().unwrap().names(), ["cat", "a wall", "other"]);
        }
        // Both slots are tickets': there is nobody else to wait for.
        let tickets = [0, 1].map(|seed| lane.submit(&cuda(seed), Wanted::MASK).unwrap());
        assert!(matches!(lane.run_on_device(&[cuda(2)], Wanted::MASK), Err(Error::Busy(_))));
        assert_eq!(lane.run(&[cuda(2)], Wanted::MASK).unwrap().mask(0).unwrap(), expected[2]);
        for (seed, ticket) in tickets.into_iter().enumerate() {
            assert_eq!(lane.wait(ticket).unwrap().mask(0).unwrap(), expected[seed], "device {ordinal}");
        }
    }
}

/// Every output, of a batch.
#[test]
fn all_outputs_stay_as_they_come() {
    if !is_there() {
        return;
    }
    let mut engine = engine(0);
    let caller = Caller::new(0, is_virtual());
    let sources: Vec<Bytes<'_>> = (0..2).map(|seed| caller.bytes(&rgb(seed))).collect();
    let hosts: Vec<Vec<u8>> = (0..2).map(rgb).collect();
    let host: Vec<Image<'_>> = hosts.iter().map(|rgb| Image::rgb8(WIDTH, HEIGHT, rgb)).collect();
    let cuda = [(0, caller.stream()), (1, 0)].map(|(seed, stream)| packed_image(sources[seed].address, stream));
    let colours = [[10, 200, 30], [0, 0, 255], [90, 90, 90]];
    let wanted = Wanted::of(&[Output::Best, Output::Scores, Output::Probabilities, Output::Embedding])
        .at_points(&[[3.0, 4.5], [20.25, 7.0]])
        .overlay(&colours, Default::default());
    let right = engine.run(&host, wanted).unwrap();
    let same = engine.run(&cuda, wanted).unwrap();
    let left = engine.run_on_device(&cuda, wanted).unwrap();
    left.wait().unwrap();
    assert_eq!(left.frames(), 2);
    for output in Output::ALL.into_iter().filter(|output| right.shape(*output).is_some()) {
        let tensor = left.tensor(output).unwrap();
        let mut bytes = vec![0; tensor.bytes()];
        tensor.read(&mut bytes).unwrap();
        assert_eq!(tensor.shape()[0], 2);
        assert_eq!(tensor.shape()[1..], right.shape(output).unwrap(), "{output:?}");
        for frame in 0..2 {
            let part = &bytes[frame * bytes.len() / 2..(frame + 1) * bytes.len() / 2];
            match (output, tensor.element()) {
                (Output::Mask, TensorElement::U8) => {
                    assert_eq!(wide(part), right.mask(frame).unwrap());
                    assert_eq!(right.mask(frame), same.mask(frame));
                }
                (Output::Overlay, TensorElement::U8) => {
                    assert_eq!(part, right.overlay(frame).unwrap());
                    assert_eq!(right.overlay(frame), same.overlay(frame));
                }
                (_, TensorElement::F32) => {
                    let values: Vec<f32> = bytemuck::pod_collect_to_vec(part);
                    assert!(values == right.values(output, frame).unwrap(), "{output:?} of frame {frame}");
                    assert!(right.values(output, frame) == same.values(output, frame), "{output:?} of frame {frame}");
                }
                (_, element) => panic!("{output:?} of {element:?}"),
            }
        }
    }
    assert!(matches!(mask(&left).read(&mut [0; 3]), Err(Error::Size(_))));
    assert!(left.tensor(Output::Mask).is_some() && engine.run_on_device(&cuda, Wanted::MASK).is_ok());
    // A batch is in one memory.
    let error = engine.run(&[host[0], cuda[1]], Wanted::MASK).unwrap_err();
    has(&error.to_string(), &["CUDA memory", "one memory a batch"]);
}

/// What the other ways in make of an image in CUDA memory.
#[test]
fn every_way_in_takes_it() {
    if !is_there() {
        return;
    }
    let mut engine = engine(0);
    let caller = Caller::new(0, is_virtual());
    let (host, source) = (rgb(1), caller.bytes(&rgb(1)));
    let images = [Image::rgb8(WIDTH, HEIGHT, &host), packed_image(source.address, caller.stream())];
    let inspected = images.map(|image| engine.lane_mut().inspect(&[image], &["tokens", "path1"]).unwrap());
    assert!(inspected[0] == inspected[1]);
    let resized = images.map(|image| {
        let mut npy = Vec::new();
        let (at, dtype) = (lseg_fast::embedding::At::Photo, lseg_fast::image::npy::Dtype::F32);
        engine.embed_resized(&image, at, dtype, true).unwrap().write(&mut npy).unwrap().unwrap();
        npy
    });
    assert!(resized[0] == resized[1] && resized[0].len() > 128);
    let network = engine.network().clone();
    let labels = network.labels(&["cat", "a wall", "other"]).unwrap();
    let mut lanes = [network.lane().unwrap(), network.lane().unwrap()];
    for lane in &mut lanes {
        lane.set_labels(&labels).unwrap();
        lane.set_size(Size::Exact { height: 32, width: 64 });
    }
    let [one, two] = &mut lanes;
    let batch = network.run_batch(&mut [one, two], &[images[1]; 2], Wanted::MASK).unwrap();
    let right = engine.segment(&images[0]).unwrap().mask;
    assert!(batch.iter().all(|results| results.mask(0).unwrap() == right));
}

#[test]
fn an_image_that_cannot_be_taken_is_refused_in_words() {
    if !is_virtual() {
        return;
    }
    let mut engine = engine(0);
    let (caller, other) = (Caller::new(0, true), Caller::new(1, true));
    let stream = caller.stream();
    let (short, elsewhere, host) = (caller.memory(12), other.memory(3 * PIXELS), rgb(0));
    let refused = |engine: &mut Engine, image: Image<'_>, words: &[&str]| {
        for error in [
            engine.run(&[image], Wanted::MASK).unwrap_err(),
            engine.lane_mut().submit(&image, Wanted::MASK).map(drop).unwrap_err(),
            engine.run_on_device(&[image], Wanted::MASK).map(drop).unwrap_err(),
        ] {
            has(&error.to_string(), words);
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    };
    let need = (3 * PIXELS).to_string();
    refused(&mut engine, packed_image(short.address, stream), &["12 bytes are there", &need]);
    refused(&mut engine, packed_image(short.address + 4, stream), &["8 bytes are there", &need]);
    refused(&mut engine, packed_image(elsewhere.address, stream), &["memory of cuda:1", "cuda:0"]);
    refused(&mut engine, packed_image(host.as_ptr().expose_provenance() as u64, stream), &["host memory"]);
    refused(&mut engine, packed_image(0, stream), &["host memory"]);
    refused(&mut engine, pitched_image(short.address, usize::MAX / 2, stream), &["beyond all memory"]);
    refused(&mut engine, pitched_image(short.address, 3 * WIDTH - 1, stream), &["a row takes"]);
    // The last row needs no padding.
    let photo = caller.memory(3 * PIXELS + 10 * (HEIGHT - 1));
    caller.fill(photo.address, 5, photo.len, stream);
    engine.run(&[pitched_image(photo.address, 3 * WIDTH + 10, stream)], Wanted::MASK).unwrap();
    refused(&mut engine, pitched_image(photo.address, 3 * WIDTH + 11, stream), &["are there"]);

    let mut own = engine_in(ContextKind::Own, 0);
    let error = own.run(&[packed_image(photo.address, stream)], Wanted::MASK).unwrap_err();
    has(&error.to_string(), &["a context of its own", "ContextKind::Primary"]);
    let options = Options { device: DeviceChoice::Cpu, threads: Some(1), ..Options::default() };
    let mut cpu = Engine::load(&root().join("tests/golden/vit16/model.ckpt"), &options).unwrap();
    cpu.set_labels(&["cat"]).unwrap();
    let error = cpu.run(&[packed_image(photo.address, stream)], Wanted::MASK).unwrap_err();
    has(&error.to_string(), &["cpu, 1 thread", "no image from CUDA memory"]);
    let error = cpu.run_on_device(&[Image::rgb8(WIDTH, HEIGHT, &host)], Wanted::MASK).unwrap_err();
    has(&error.to_string(), &["cpu, 1 thread", "stay on a GPU alone"]);
    assert_eq!(cpu.cuda_stream(), None);
}

/// Neither the first frame, which allocates, nor a later one harms a capture that is in progress.
#[test]
fn a_stream_that_is_captured_is_refused_and_stays_so() {
    if is_there() {
        // While it lasts, other threads may neither allocate nor wait.
        alone("host::interop::a_stream_that_is_captured_is_refused_and_stays_so", refuse_captured);
    }
}

fn refuse_captured() {
    let mut engine = engine(0);
    let caller = Caller::new(0, is_virtual());
    let photo = caller.bytes(&rgb(0));
    let image = packed_image(photo.address, caller.stream());
    for round in 0..4 {
        caller.captured(|| {
            for error in [
                engine.run(&[image], Wanted::MASK).unwrap_err(),
                engine.lane_mut().submit(&image, Wanted::MASK).map(drop).unwrap_err(),
                engine.run_on_device(&[image], Wanted::MASK).map(drop).unwrap_err(),
            ] {
                has(&error.to_string(), &["being captured", "before the capture"]);
            }
        });
        let results = engine.run_on_device(&[image], Wanted::MASK).unwrap();
        caller.captured(|| {
            // SAFETY: the stream lives longer.
            let error = unsafe { mask(&results).follow(caller.stream()) }.unwrap_err();
            has(&error.to_string(), &["being captured"]);
        });
        let taken = consume(&caller, mask(&results), caller.stream());
        let right = read(mask(&results));
        // Dropped in a capture: the place waits for the whole context when it is used again.
        caller.captured(|| drop(results));
        engine.set_device_places(1);
        let mut other = engine.run_on_device(&[Image::rgb8(WIDTH, HEIGHT, &rgb(1 + round))], Wanted::MASK);
        other.as_mut().unwrap().wait().unwrap();
        assert_eq!(wide(&taken.read(caller.stream())), right, "round {round}");
    }
}

/// What the driver is asked for once all is warm: of images from CUDA memory and of results that stay there.
#[test]
fn a_frame_between_kernels_is_a_few_calls() {
    if !is_there() {
        return;
    }
    let mut engine = engine(0);
    let caller = Caller::new(0, is_virtual());
    let photo = caller.bytes(&rgb(0));
    let ours = engine.cuda_stream().unwrap();
    for pitch in [3 * WIDTH, 3 * WIDTH - 3 * WIDTH % 4 + 4] {
        let photo = if pitch == 3 * WIDTH { &photo } else { &caller.bytes(&padded(&rgb(0), 3 * WIDTH, pitch)) };
        for (stream, events) in [(caller.stream(), 1), (ours, 0)] {
            let image = pitched_image(photo.address, pitch, stream);
            for _ in 0..4 {
                engine.run(&[image], Wanted::MASK).unwrap();
                drop([(); 2].map(|()| engine.run_on_device(&[image], Wanted::MASK).unwrap()));
                let ticket = engine.lane_mut().submit(&image, Wanted::MASK).unwrap();
                engine.lane_mut().wait(ticket).unwrap();
            }
            let counted = |engine: &mut Engine, what: &mut dyn FnMut(&mut Engine)| {
                let before = engine.device_calls();
                what(engine);
                Calls { graph_nodes: 0, ..difference(before, engine.device_calls()) }
            };
            // The mask, and how many of its pixels are no numbers.
            let outputs = 2;
            let frame = Calls { copies_within: 1, graph_launches: 1, ..Calls::default() };
            let run = counted(&mut engine, &mut |engine| drop(engine.run(&[image], Wanted::MASK).unwrap()));
            let asked =
                Calls { copies_out: outputs, records: 2 + 2 * events, waits: 2 * events, synchronisations: 1, ..frame };
            assert_eq!(run, asked, "run");
            let submitted = counted(&mut engine, &mut |engine| {
                let ticket = engine.lane_mut().submit(&image, Wanted::MASK).unwrap();
                engine.lane_mut().wait(ticket).unwrap();
            });
            let asked = Calls {
                copies_out: outputs,
                records: 3 + 2 * events,
                waits: 1 + 2 * events,
                synchronisations: 1,
                ..frame
            };
            assert_eq!(submitted, asked, "submit");
            // Both slots are free: the host waits for nothing at all.
            let tickets = [(); 2].map(|()| engine.lane_mut().submit(&image, Wanted::MASK).unwrap());
            tickets.into_iter().for_each(|ticket| drop(engine.lane_mut().wait(ticket).unwrap()));
            let mut left = Vec::new();
            for _ in 0..2 {
                let on_device = counted(&mut engine, &mut |engine| {
                    left.push(engine.run_on_device(&[image], Wanted::MASK).unwrap())
                });
                let asked = Calls { copies_within: 1 + outputs, records: 4 + 2 * events, waits: 2 * events, ..frame };
                assert_eq!(on_device, asked, "run_on_device");
            }
            left.iter().for_each(|results| results.wait().unwrap());
            drop(left);
            // A third waits for the first one's slot, and for no other.
            let third = counted(&mut engine, &mut |engine| drop(engine.run_on_device(&[image], Wanted::MASK).unwrap()));
            assert_eq!((third.synchronisations, third.allocations, third.copies_in), (1, 0, 0));
            engine.run(&[image], Wanted::MASK).unwrap();
        }
    }
}

/// Rows of the host that are not staged are one copy.
#[test]
fn padded_rows_of_the_host_are_one_copy_where_memory_is_shared() {
    if !is_virtual() {
        return;
    }
    let mut engine = engine(crate::gpu::ordinal("orin:sched=1"));
    let pitch = 3 * WIDTH + 9;
    let (rgb, padded) = (rgb(2), padded(&rgb(2), 3 * WIDTH, pitch));
    let right = engine.segment(&Image::rgb8(WIDTH, HEIGHT, &rgb)).unwrap().mask;
    let image = Image::of_planes(Format::Rgb8, WIDTH, HEIGHT, &[Plane { bytes: &padded, pitch }]);
    for _ in 0..3 {
        let before = engine.device_calls();
        assert_eq!(engine.segment(&image).unwrap().mask, right);
        assert_eq!(difference(before, engine.device_calls()).copies_in, 1);
    }
}

/// Tensors are dropped wherever they are, and live on when all else is gone.
#[test]
fn tensors_outlive_their_engine_and_go_on_any_thread() {
    if !is_there() {
        return;
    }
    let caller = Caller::new(0, is_virtual());
    let photo = caller.bytes(&rgb(1));
    let image = packed_image(photo.address, caller.stream());
    let mut engine = engine(0);
    let expected = expected(&mut engine, 2);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            let results = engine.run_on_device(&[image], Wanted::MASK).unwrap();
            let tensor = mask(&results).clone();
            drop(results);
            let (caller, expected) = (&caller, &expected);
            let stream = caller.stream();
            let read = scope.spawn(move || {
                let both = [tensor.clone(), tensor];
                // SAFETY: the stream lives longer.
                unsafe { both[0].follow(stream) }.unwrap();
                assert_eq!(read(&both[1]), expected[1]);
            });
            read.join().unwrap();
        }
    });
    let results = engine.run_on_device(&[image], Wanted::MASK).unwrap();
    let tensor = mask(&results).clone();
    let held = engine.network().memory().clone();
    drop((results, engine));
    // Its memory is in the network's budget still, alone.
    assert!(held.device().is_none_or(|usage| usage.held >= tensor.bytes() as u64));
    assert_eq!(wide(&consume(&caller, &tensor, caller.stream()).read(caller.stream())), expected[1]);
    assert_eq!(read(&tensor), expected[1]);
    std::thread::spawn(move || drop(tensor)).join().unwrap();
    assert!(held.device().is_none_or(|usage| usage.held == 0), "{:?}", held.device());
}

/// Many frames with none to two of them held: no memory grows, and none is free where all are held.
#[test]
fn frames_by_the_thousand_take_no_memory() {
    if is_there() {
        alone("host::interop::frames_by_the_thousand_take_no_memory", frames_by_the_thousand);
    }
}

fn frames_by_the_thousand() {
    let mut engine = engine(0);
    let caller = Caller::new(0, is_virtual());
    let photo = caller.bytes(&rgb(0));
    let image = packed_image(photo.address, caller.stream());
    // Only its copies and events are of interest: the smallest frame that there is.
    engine.set_size(Size::Exact { height: 32, width: 32 });
    let mut held: Vec<DeviceTensor> = Vec::new();
    let (mut busy, mut frames, mut warm) = (0, 0, None);
    let mut random = 7u32;
    // The virtual GPU takes 10 ms for what a GPU does in a tenth of one.
    let most = if is_virtual() { 600 } else { 10_000 };
    while frames < most {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match engine.run_on_device(&[image], Wanted::MASK) {
            Ok(results) => {
                assert!(held.len() < 2, "a place that is held was given away");
                frames += 1;
                let tensor = mask(&results).clone();
                if random >> 30 == 0 {
                    // SAFETY: the stream lives longer.
                    unsafe { tensor.follow(caller.stream()) }.unwrap();
                }
                held.push(tensor);
            }
            Err(Error::Busy(_)) => {
                assert_eq!(held.len(), 2, "no place that is free was refused");
                busy += 1;
            }
            Err(error) => panic!("{error}"),
        }
        while held.len() > (random >> 16) as usize % 3 {
            held.remove(0);
        }
        if frames == 100 {
            warm.get_or_insert_with(|| (engine.device_calls().allocations, peak_mib()));
        }
    }
    let (allocations, before) = warm.unwrap();
    assert_eq!(engine.device_calls().allocations, allocations);
    assert!(busy > most / 10, "{busy}");
    let grown = peak_mib().saturating_sub(before);
    assert!(grown < 8, "{grown} MiB in {frames} frames");
}

/// What ends the context is told by whatever is asked later, and dropping what is left is nothing.
#[test]
fn a_lost_context_is_told_by_every_result() {
    if is_virtual() {
        super::failing("host::interop::a_lost_context_is_told_by_every_result", "cuGraphLaunch:3:700!", || {
            let mut engine = engine(0);
            let image = rgb(0);
            let image = [Image::rgb8(WIDTH, HEIGHT, &image)];
            engine.set_device_places(8);
            let mut held = Vec::new();
            let error = loop {
                match engine.run_on_device(&image, Wanted::MASK) {
                    Ok(results) => held.push(results),
                    Err(error) => break error,
                }
            };
            assert!(held.len() >= 3 && matches!(error, Error::Lost(_)), "{error}");
            for results in &held {
                // SAFETY: the default stream.
                let followed = unsafe { mask(results).follow(0) };
                let read = mask(results).read(&mut [0; PIXELS]);
                for error in [results.wait(), followed, read].map(Result::unwrap_err) {
                    assert!(matches!(error, Error::Lost(_)), "{error}");
                }
            }
            assert!(matches!(engine.run_on_device(&image, Wanted::MASK), Err(Error::Lost(_))));
            drop(engine);
            drop(held);
        });
    }
}
