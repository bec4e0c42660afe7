//! Frames through the engine.

use std::time::Duration;

use lseg_fast::device::Calls;
use lseg_fast::{
    Alpha, DeviceChoice, Engine, Error, Image, Options, Output, Results, Segmentation, Size, Wait, Wanted,
};

use testing::files::root;

use super::{REPLAYED, difference, is_there};

const LABELS: [&str; 3] = ["cat", "a wall", "other"];

fn engine(device: DeviceChoice) -> Engine {
    engine_with(device, None)
}

/// With so much memory allowed.
fn engine_with(device: DeviceChoice, memory: Option<u64>) -> Engine {
    let model = root().join("tests/golden/vit16/model.ckpt");
    let mut engine = Engine::load(&model, &Options { device, threads: Some(2), memory, ..Options::default() }).unwrap();
    engine.set_labels(&LABELS).unwrap();
    engine.set_size(Size::Exact { height: 32, width: 64 });
    engine
}

fn photo(seed: usize) -> Vec<u8> {
    (0..40 * 20 * 3).map(|i| ((i + seed * 31) * 7919 % 251) as u8).collect()
}

fn frame(rgb: &[u8]) -> Image<'_> {
    Image::rgb8(40, 20, rgb)
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
    let mut eager: Vec<Results> = Vec::new();
    for i in 0..6 {
        let (photo, colours) = (photo(i % 2), [[0, 130, 255], [200, 10, 91], [i as u8, 7, 180]]);
        let before = engine.device_calls();
        let wanted = Wanted::of(&[Output::Scores, Output::Best]).overlay(&colours, Alpha::default());
        let got = engine.run(&[frame(&photo)], wanted).unwrap();
        let asked = difference(before, engine.device_calls());
        let mask = got.mask(0).unwrap();
        assert_eq!(mask, alone[i % 2].mask);
        let tint = |(i, byte): (usize, &u8)| byte.midpoint(colours[usize::from(mask[i / 3])][i % 3]);
        let tinted: Vec<u8> = photo.iter().enumerate().map(tint).collect();
        assert_eq!(got.overlay(0), Some(&*tinted));
        if i > 1 {
            let nodes = asked.graph_nodes;
            assert_eq!(asked, Calls { graph_nodes: nodes, ..REPLAYED });
            for output in [Output::Best, Output::Scores] {
                assert_eq!(got.values(output, 0), eager[i % 2].values(output, 0));
            }
        } else {
            eager.push(got);
        }
    }
    let mut cpu = self::engine(DeviceChoice::Cpu);
    let best = |results: &Results| results.values(Output::Best, 0).unwrap().to_vec();
    let right = cpu.run(&[frame(&photo(0))], Wanted::of(&[Output::Best])).unwrap();
    let (got, expected) = (best(&eager[0]), best(&right));
    let largest = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    assert!(got.len() == 40 * 20 && got.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 0.01 * largest));
}

/// A frame written straight into the engine's memory is the frame; another frame takes its place, which is told.
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
            engine.frame_buffer(lseg_fast::Format::Rgb8, 40, 20).unwrap().copy_from_slice(&photos[i % 2]);
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
        engine.frame_buffer(lseg_fast::Format::Rgb8, 40, 20).unwrap().copy_from_slice(&photos[1]);
        // Known words leave it, and plan anew where they are more.
        engine.set_labels(&LABELS[..2]).unwrap();
        let two = engine.segment(&frame(&photos[1])).unwrap();
        engine.set_labels(&LABELS).unwrap();
        engine.frame_buffer(lseg_fast::Format::Rgb8, 40, 20).unwrap().copy_from_slice(&photos[1]);
        engine.set_labels(&LABELS[..2]).unwrap();
        engine.segment_buffered(&mut got).unwrap();
        assert_eq!(got, two, "{device:?}");
        // New words pass the text tower, which has a device of its own.
        engine.set_labels(&["something new", "other"]).unwrap();
        engine.segment_buffered(&mut got).unwrap();
        assert_eq!(got, engine.segment(&frame(&photos[1])).unwrap(), "{device:?}");
        for (width, height) in [(0, 20), (40, 0), (usize::MAX, 2)] {
            let reason = engine.frame_buffer(lseg_fast::Format::Rgb8, width, height).unwrap_err().to_string();
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
            let wanted = Wanted::of(&[Output::Scores]).overlay(&palette, alpha);
            engine.run(&[frame(&photo)], wanted).unwrap()
        });
        let (mask, right) = (got.mask(0).unwrap(), expected.mask(0).unwrap());
        let same = mask.iter().zip(right).filter(|(got, right)| got == right).count();
        assert!(same * 100 >= 90 * right.len(), "{count} labels: {same} of {} pixels agree", right.len());
        let tint = |(i, byte): (usize, &u8)| {
            let colour = palette[usize::from(mask[i / 3])][i % 3];
            ((1.0 - alpha) * f64::from(*byte) + alpha * f64::from(colour)).floor() as u8
        };
        let tinted: Vec<u8> = photo.iter().enumerate().map(tint).collect();
        assert_eq!(got.overlay(0), Some(&*tinted), "{count} labels");
        assert_eq!(cuda.segment(&frame(&photo)).unwrap().mask, mask);
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
    let error = engine.run(&[frame(&photo); 64], Wanted::MASK).unwrap_err();
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
    let model = root().join("tests/golden/vit16/model.ckpt");
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
