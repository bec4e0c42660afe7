//! Images whose planes lie anywhere in CUDA memory, and frames of both memories beside each other.

#![allow(unsafe_code)]

use lseg_fast::{
    ContextKind, DeviceChoice, DeviceResults, Engine, Error, Format, Image, Options, Output, Progress, Size, Wanted,
};

use std::sync::mpsc::channel;

use testing::files::root;

use super::caller::{Bytes, Caller};
use super::{difference, is_there, is_virtual};

const WIDTH: usize = 41;
const HEIGHT: usize = 27;
const PIXELS: usize = WIDTH * HEIGHT;

fn engine() -> Engine {
    let (device, context) = (DeviceChoice::Cuda(Some(0)), ContextKind::Primary);
    let options = Options { device, threads: Some(1), context, ..Options::default() };
    let mut engine = Engine::load(&root().join("tests/golden/vit16/model.ckpt"), &options).unwrap();
    engine.set_labels(&["cat", "a wall", "other"]).unwrap();
    engine.set_size(Size::Exact { height: 32, width: 64 });
    engine
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 7919 % 251) as u8).collect()
}

fn cuda(format: Format, planes: &[(u64, usize)], stream: u64) -> Image<'static> {
    // SAFETY: the tests' memory and streams live longer.
    unsafe { Image::cuda(format, WIDTH, HEIGHT, planes, stream) }
}

/// Planes one behind the other are one copy, in allocations of their own one each, and in any order they are the picture.
#[test]
fn planes_lie_together_or_apart() {
    if !is_there() {
        return;
    }
    let mut engine = engine();
    let caller = Caller::new(0, is_virtual());
    let values: Vec<f32> = bytes(3 * PIXELS).iter().map(|byte| f32::from(*byte) / 255.0).collect();
    let planes: Vec<&[u8]> = values.chunks(PIXELS).map(bytemuck::cast_slice).collect();
    let (pitch, size) = (4 * WIDTH, 4 * PIXELS as u64);
    let together = caller.bytes(&planes.concat());
    let apart: Vec<Bytes<'_>> = planes.iter().map(|plane| caller.bytes(plane)).collect();
    let backwards = caller.bytes(&planes.iter().rev().copied().collect::<Vec<_>>().concat());
    let at = |start: u64, order: [u64; 3]| order.map(|plane| (start + plane * size, pitch));
    let wanted = Wanted::of(&[Output::Scores]);
    let right = engine.run(&[Image::packed(Format::RgbF32, WIDTH, HEIGHT, &planes.concat())], wanted).unwrap();
    for (planes, copies) in [
        (at(together.address, [0, 1, 2]), 1),
        ([0, 1, 2].map(|i: usize| (apart[i].address, pitch)), 3),
        (at(backwards.address, [2, 1, 0]), 3),
    ] {
        let image = cuda(Format::RgbF32, &planes, caller.stream());
        for _ in 0..3 {
            let before = engine.device_calls();
            let results = engine.run(&[image], wanted).unwrap();
            assert_eq!(difference(before, engine.device_calls()).copies_within, copies);
            assert_eq!(results.values(Output::Scores, 0), right.values(Output::Scores, 0));
        }
    }
}

#[test]
fn cameras_of_both_memories_are_run_one_by_one() {
    if !is_there() {
        return;
    }
    let mut engine = engine();
    let caller = Caller::new(0, is_virtual());
    let rgb = bytes(3 * PIXELS);
    let photo = caller.bytes(&rgb);
    let images = [Image::rgb8(WIDTH, HEIGHT, &rgb), cuda(Format::Rgb8, &[(photo.address, 3 * WIDTH)], caller.stream())];
    let right = engine.segment(&images[0]).unwrap().mask;
    let network = engine.network().clone();
    let labels = network.labels(&["cat", "a wall", "other"]).unwrap();
    let mut lanes = [network.lane().unwrap(), network.lane().unwrap()];
    for lane in &mut lanes {
        lane.set_labels(&labels).unwrap();
        lane.set_size(Size::Exact { height: 32, width: 64 });
    }
    for images in [images, [images[1], images[0]]] {
        let results = network.run_batch(&mut lanes.each_mut(), &images, Wanted::MASK).unwrap();
        assert!(results.iter().all(|results| results.mask(0).unwrap() == right));
    }
    // In one pass they cannot be.
    assert!(matches!(engine.run(&images, Wanted::MASK), Err(Error::Size(_))));
}

/// Whoever only wants to know when an image is its own again holds no result, and may outlive the engine.
#[test]
fn a_frame_s_progress_holds_none_of_its_places() {
    if !is_there() {
        return;
    }
    let mut engine = engine();
    let caller = Caller::new(0, is_virtual());
    let photo = caller.bytes(&bytes(3 * PIXELS));
    let image = cuda(Format::Rgb8, &[(photo.address, 3 * WIDTH)], caller.stream());
    let mut frame = || engine.run_on_device(&[image], Wanted::MASK).unwrap().progress();
    let all: Vec<Progress> = (0..6).map(|_| frame()).collect();
    assert!(all.iter().all(|progress| progress.wait().is_ok() && progress.is_done().unwrap()), "{all:?}");
    let last = frame();
    drop(engine);
    last.wait().unwrap();
    assert!(last.is_done().unwrap());
}

/// Nobody takes untouched memory for the picture.
#[test]
fn no_bytes_are_copied_of_what_the_host_does_not_have() {
    let image = cuda(Format::Rgb8, &[(0x1000, 3 * WIDTH)], 0);
    let mut room = vec![9; 3 * PIXELS];
    let error = image.copy_into(&mut room).unwrap_err();
    assert!(matches!(&error, Error::Device(what) if what.contains("CUDA memory")), "{error}");
    assert!(room.iter().all(|byte| *byte == 9));
}

/// Whoever holds a result reads its own frame, while others are dropped and their places taken.
#[test]
fn results_are_dropped_on_other_threads_while_frames_go_on() {
    if !is_there() {
        return;
    }
    let mut engine = engine();
    let caller = Caller::new(0, is_virtual());
    let stream = caller.stream();
    let photos = [bytes(3 * PIXELS), bytes(3 * PIXELS).into_iter().rev().collect::<Vec<u8>>()];
    let images = photos.each_ref().map(|rgb| Image::rgb8(WIDTH, HEIGHT, rgb));
    let right = images.map(|image| engine.run(&[image], Wanted::of(&[Output::Mask8])).unwrap().take_masks8());
    assert!(right[0] != right[1]);
    std::thread::scope(|scope| {
        let users = [(); 3].map(|()| {
            let (give, take) = channel::<(usize, DeviceResults)>();
            let right = &right;
            scope.spawn(move || {
                for (frame, results) in take {
                    let tensor = results.tensor(Output::Mask8).unwrap().clone();
                    if frame % 3 == 0 {
                        // SAFETY: the stream lives longer.
                        unsafe { tensor.follow(stream) }.unwrap();
                    }
                    drop(results);
                    let mut room = vec![0; tensor.bytes()];
                    tensor.read(&mut room).unwrap();
                    assert!(room == right[frame % 2], "frame {frame}");
                }
            });
            give
        });
        let (mut frame, mut busy) = (0, 0);
        while frame < 120 {
            match engine.run_on_device(&[images[frame % 2]], Wanted::of(&[Output::Mask8])) {
                Ok(results) => {
                    users[frame % 3].send((frame, results)).unwrap();
                    frame += 1;
                }
                Err(Error::Busy(_)) => {
                    busy += 1;
                    std::thread::yield_now();
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(busy > 0, "places were never all held, nothing was tested");
    });
}
