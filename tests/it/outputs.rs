//! Masks of bytes, confidences, thresholds and embeddings in every form: alone, together, in batches, on the CPU and on a GPU where
//! there is one.

use half::f16;
use lseg_fast::embedding::At;
use lseg_fast::image::npy::Dtype;
use lseg_fast::model::config::{HeadBlock, ImageEncoder};
use lseg_fast::{
    Alpha, DeviceChoice, EmbeddingForm, Engine, Error, Image, Layout, MapSize, Network, Options, Output, Results, Size,
    Threshold, UNLABELLED, UNLABELLED_8, Wanted,
};
use testing::cases::reference::edges;
use testing::golden::Case;
use testing::gpu::found;

const WORDS: [&str; 3] = ["cat", "a wall", "other"];
/// (width, height)
const PHOTO: (usize, usize) = (53, 41);

fn photo(seed: usize) -> Vec<u8> {
    (0..PHOTO.0 * PHOTO.1 * 3).map(|i| ((i * (2 * seed + 7)) * 7919 % 251) as u8).collect()
}

fn frame(rgb: &[u8]) -> Image<'_> {
    Image::rgb8(PHOTO.0, PHOTO.1, rgb)
}

fn load(name: &'static str, device: DeviceChoice) -> lseg_fast::Result<Engine> {
    let path = Case::open(name).folder.join("model.ckpt");
    let mut engine = Engine::load(&path, &Options { device, threads: Some(2), ..Options::default() })?;
    engine.set_size(Size::Exact { height: 32, width: 64 });
    engine.set_labels(&WORDS)?;
    Ok(engine)
}

/// Of a ViT, and of a ResNet, whose activations a GPU has at another scale.
fn engines() -> Vec<(String, Engine)> {
    let gpu = DeviceChoice::Cuda(Some(0));
    let mut all = Vec::new();
    for name in ["vit16", "resnet"] {
        all.push((format!("{name} on the CPU"), load(name, DeviceChoice::Cpu).unwrap()));
        all.extend(found(load(name, gpu)).map(|engine| (format!("{name} on a GPU"), engine)));
    }
    all
}

/// The winner's softmax at each pixel of the photo, in float64, of logits at the network's size.
fn shares(results: &Results, frame: usize) -> Vec<f64> {
    let [labels, h, w] = results.shape(Output::Scores).unwrap();
    let scores = results.values(Output::Scores, frame).unwrap();
    let pixels = (0..PHOTO.1).flat_map(|y| (0..PHOTO.0).map(move |x| (y, x)));
    let share = |(y, x): (usize, usize)| {
        let ((y0, y1, ty), (x0, x1, tx)) = (edges(y, h, PHOTO.1), edges(x, w, PHOTO.0));
        let logit = |label: usize| {
            let at = |y: usize, x: usize| f64::from(scores[(label * h + y) * w + x]);
            (1.0 - ty) * ((1.0 - tx) * at(y0, x0) + tx * at(y0, x1)) + ty * ((1.0 - tx) * at(y1, x0) + tx * at(y1, x1))
        };
        let logits: Vec<f64> = (0..labels).map(logit).collect();
        let largest = logits.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
        1.0 / logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>()
    };
    pixels.map(share).collect()
}

#[test]
fn confidence_is_the_softmax_of_the_winner_at_the_photos_pixel() {
    let photos = [photo(0), photo(1)];
    let frames = photos.each_ref().map(|rgb| frame(rgb));
    for (at, mut engine) in engines() {
        let wanted = Wanted::of(&[Output::Mask, Output::Mask8, Output::Confidence, Output::Best, Output::Scores]);
        let all = engine.run(&frames, wanted).unwrap();
        let plain = engine.run(&frames, Wanted::of(&[Output::Best])).unwrap();
        for i in 0..2 {
            let wide: Vec<u16> = all.mask8(i).unwrap().iter().map(|label| u16::from(*label)).collect();
            assert_eq!(all.mask(i).unwrap(), wide, "{at}");
            assert_eq!((all.mask(i), all.values(Output::Best, i)), (plain.mask(i), plain.values(Output::Best, i)));
            let (shares, bytes) = (shares(&all, i), all.confidence(i).unwrap());
            let off = shares.iter().zip(bytes).map(|(share, byte)| (255.0 * share - f64::from(*byte)).abs());
            assert!(off.fold(0.0, f64::max) < 0.51, "{at}");
            assert!(bytes.iter().any(|byte| *byte != bytes[0]), "{at}: one confidence only, nothing was tested");
        }
        // Alone they are the same, and nothing else is there.
        for output in [Output::Mask8, Output::Confidence] {
            let mut alone = engine.run(&frames, Wanted::of(&[output])).unwrap();
            let there = Output::ALL.map(|output| alone.shape(output).is_some());
            assert_eq!(there, Output::ALL.map(|other| other == output), "{at}");
            assert_eq!(
                (alone.mask8(0), alone.confidence(1)),
                match output {
                    Output::Mask8 => (all.mask8(0), None),
                    _ => (None, all.confidence(1)),
                }
            );
            assert_eq!(alone.shape(output), Some([PHOTO.1, PHOTO.0, 1]));
            for none in [2, usize::MAX] {
                assert_eq!((alone.mask8(none), alone.confidence(none)), (None, None), "{at}: there is no frame {none}");
            }
            let taken = if output == Output::Mask8 { alone.take_masks8() } else { alone.take_confidences() };
            assert_eq!((taken.len(), alone.shape(output)), (2 * PHOTO.0 * PHOTO.1, None));
        }
        // One frame, and a submitted one.
        let wanted = Wanted::of(&[Output::Mask8, Output::Confidence]);
        let one = engine.run(&frames[..1], wanted).unwrap();
        let ticket = engine.lane_mut().submit(&frames[0], wanted).unwrap();
        let submitted = engine.lane_mut().wait(ticket).unwrap();
        assert_eq!((one.mask8(0), one.confidence(0)), (submitted.mask8(0), submitted.confidence(0)), "{at}");
    }
}

#[test]
fn one_label_is_certain() {
    for (at, mut engine) in engines() {
        engine.set_labels(&WORDS[..1]).unwrap();
        let wanted = Wanted::of(&[Output::Mask8, Output::Confidence]).threshold(Threshold::new(1.0).unwrap());
        let results = engine.run(&[frame(&photo(0))], wanted).unwrap();
        assert!(results.confidence(0).unwrap().iter().all(|byte| *byte == 255), "{at}");
        assert!(results.mask8(0).unwrap().iter().all(|label| *label == 0), "{at}");
    }
}

#[test]
fn what_is_less_sure_than_the_threshold_has_no_label() {
    let (rgb, colours) = (photo(3), [[255, 0, 10], [0, 255, 20], [3, 2, 255]]);
    let frame = frame(&rgb);
    for (at, mut engine) in engines() {
        let wanted = Wanted::of(&[Output::Mask, Output::Mask8, Output::Confidence, Output::Scores, Output::Best]);
        let wanted = wanted.overlay(&colours, Alpha::default());
        let plain = engine.run(&[frame], wanted).unwrap();
        let (labels, shares) = (plain.mask(0).unwrap(), shares(&plain, 0));
        let mut sorted = shares.clone();
        sorted.sort_by(f64::total_cmp);
        let mut before = 0;
        for threshold in [0.0, sorted[sorted.len() / 3], sorted[sorted.len() / 2], 1.0] {
            let results = engine.run(&[frame], wanted.threshold(Threshold::new(threshold).unwrap())).unwrap();
            let (mask, bytes) = (results.mask(0).unwrap(), results.mask8(0).unwrap());
            for pixel in 0..mask.len() {
                let has_none = mask[pixel] == UNLABELLED;
                assert_eq!(bytes[pixel] == UNLABELLED_8, has_none, "{at}, {threshold}: pixel {pixel}");
                let share = shares[pixel];
                assert!((share - threshold).abs() < 1e-4 || has_none == (share < threshold), "{at}: {share}");
                let tinted = &results.overlay(0).unwrap()[3 * pixel..][..3];
                if has_none {
                    assert_eq!(tinted, &rgb[3 * pixel..][..3], "{at}, {threshold}: pixel {pixel}");
                } else {
                    assert_eq!((mask[pixel], u16::from(bytes[pixel])), (labels[pixel], labels[pixel]), "{at}");
                    assert_eq!(
                        tinted,
                        &plain.overlay(0).unwrap()[3 * pixel..][..3],
                        "{at}, {threshold}: pixel {pixel}"
                    );
                }
            }
            let unlabelled = mask.iter().filter(|label| **label == UNLABELLED).count();
            assert!(unlabelled >= before && (threshold > 0.0 || unlabelled == 0), "{at}, {threshold}: {unlabelled}");
            before = unlabelled;
            assert_eq!(results.confidence(0), plain.confidence(0), "{at}");
            assert_eq!(results.values(Output::Best, 0), plain.values(Output::Best, 0), "{at}");
            let segmentation = testing::results::segmentation(&results, 0);
            let sum = segmentation.shares(3).iter().sum::<f64>() + segmentation.unlabelled();
            assert!((sum - 1.0).abs() < 1e-9);
        }
        assert!(before > 0, "{at}: every pixel is certain, nothing was tested");
    }
    assert!([-0.1, 1.1, f64::NAN].map(Threshold::new).iter().all(Option::is_none));
}

/// A value of the mask is left for what has no label.
#[test]
fn masks_hold_every_label_and_none() {
    for (at, mut engine) in engines() {
        let words: Vec<String> = (0..257).map(|i| format!("word {i}")).collect();
        let threshold = Threshold::new(0.005).unwrap();
        for count in [255, 256, 257] {
            engine.set_labels(&words[..count]).unwrap();
            let colours: Vec<[u8; 3]> = (0..count).map(|i| [i as u8, (i / 3) as u8, 9]).collect();
            let wanted = Wanted::MASK.overlay(&colours, Alpha::new(1.0).unwrap());
            let rgb = photo(1);
            let plain = engine.run(&[frame(&rgb)], wanted).unwrap();
            let some = engine.run(&[frame(&rgb)], wanted.threshold(threshold)).unwrap();
            let pixels = plain.mask(0).unwrap().iter().zip(some.mask(0).unwrap()).enumerate();
            for (i, (label, kept)) in pixels {
                assert!(kept == label || *kept == UNLABELLED, "{at}, {count} labels: {label} became {kept}");
                let own = if *kept == UNLABELLED { &rgb[3 * i..][..3] } else { &colours[usize::from(*label)][..] };
                assert_eq!(&some.overlay(0).unwrap()[3 * i..][..3], own, "{at}, {count} labels");
            }
            for (with, most) in [(false, 256), (true, 255)] {
                let bytes = Wanted::of(&[Output::Mask8]);
                let bytes = if with { bytes.threshold(threshold) } else { bytes };
                match engine.run(&[frame(&rgb)], bytes) {
                    Ok(results) => assert!(results.mask8(0).is_some() && count <= most, "{at}"),
                    Err(Error::Labels(reason)) => {
                        assert!(count > most && reason.contains(&format!("{most} at most")), "{reason}")
                    }
                    Err(other) => panic!("another error: {other}"),
                }
            }
        }
    }
}

fn forms() -> Vec<EmbeddingForm> {
    let mut forms = Vec::new();
    for at in [MapSize::Half, MapSize::Full, MapSize::Photo] {
        for dtype in [Dtype::F32, Dtype::F16] {
            for layout in [Layout::Hwc, Layout::Chw] {
                forms.extend([false, true].map(|normalise| EmbeddingForm { at, dtype, layout, normalise }));
            }
        }
    }
    forms
}

/// What the files that `embed` writes have, channels first.
fn written(engine: &mut Engine, frame: &Image<'_>, form: EmbeddingForm) -> (Vec<f32>, [usize; 3]) {
    let mut file = Vec::new();
    let shape = match form.at {
        MapSize::Half => {
            let map = engine.embed(frame).unwrap();
            map.write(&mut file, form.dtype, form.normalise).unwrap();
            [map.channels, map.height, map.width]
        }
        at => {
            let at = if at == MapSize::Full { At::Full } else { At::Photo };
            let mut resized = engine.embed_resized(frame, at, form.dtype, form.normalise).unwrap();
            resized.write(&mut file).unwrap().unwrap();
            resized.shape()
        }
    };
    let values = match form.dtype {
        Dtype::F32 => bytemuck::pod_collect_to_vec::<u8, f32>(&file[128..]),
        Dtype::F16 => bytemuck::pod_collect_to_vec::<u8, f16>(&file[128..]).into_iter().map(f16::to_f32).collect(),
    };
    (values, shape)
}

/// A frame's embedding, channels first.
fn planes(results: &Results, frame: usize, form: EmbeddingForm) -> (Vec<f32>, [usize; 3]) {
    let values: Vec<f32> = match form.dtype {
        Dtype::F32 => results.values(Output::Embedding, frame).unwrap().to_vec(),
        Dtype::F16 => results.halves(Output::Embedding, frame).unwrap().iter().copied().map(f16::to_f32).collect(),
    };
    let shape = results.shape(Output::Embedding).unwrap();
    assert_eq!(values.len(), shape.iter().product::<usize>());
    match (form.layout, shape) {
        (Layout::Chw, _) => (values, shape),
        (Layout::Hwc, [h, w, c]) => {
            ((0..c).flat_map(|k| values.iter().skip(k).step_by(c)).copied().collect(), [c, h, w])
        }
    }
}

/// Half the network's size to the bit; larger ones to a rounding, of which a GPU makes other ones where it fuses.
#[test]
fn embeddings_are_the_files_in_every_form() {
    let photos = [photo(0), photo(5)];
    let frames = photos.each_ref().map(|rgb| frame(rgb));
    for (at, mut engine) in engines() {
        let is_gpu = at.ends_with("GPU");
        for form in forms() {
            let both = engine.run(&frames, Wanted::default().embedding(form)).unwrap();
            for (i, frame) in frames.iter().enumerate() {
                let alone = engine.run(std::slice::from_ref(frame), Wanted::default().embedding(form)).unwrap();
                let ((got, shape), (right, whole)) = (planes(&alone, 0, form), written(&mut engine, frame, form));
                assert_eq!(shape, whole, "{at}, {form:?}");
                let largest = right.iter().fold(0.0f32, |a, b| a.max(b.abs()));
                let near = |got: &[f32], bound: f32| {
                    let off = got.iter().zip(&right).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(got.len() == right.len() && off <= bound * largest, "{at}, {form:?}: off by {off}");
                };
                let rounding = if form.dtype == Dtype::F16 { 1e-3 } else { 2e-6 };
                let is_exact = !is_gpu || (form.at == MapSize::Half && !form.normalise);
                near(&got, if is_exact { 0.0 } else { rounding });
                if is_exact && form.at == MapSize::Half {
                    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                    assert!(bits(&got) == bits(&right), "{at}, {form:?}: other bits");
                }
                // A batch's products may be cut into other tiles.
                near(&planes(&both, i, form).0, if is_gpu { 0.01 } else { 0.0 });
            }
            assert!(both.values(Output::Embedding, 0).is_some() == (form.dtype == Dtype::F32));
            assert!(both.halves(Output::Embedding, 0).is_some() == (form.dtype == Dtype::F16));
        }
    }
}

/// The same memory, whatever was in it: no form is taken for another.
#[test]
fn results_that_serve_again_have_what_was_asked_for() {
    let (mut engine, rgb) = (load("vit16", DeviceChoice::Cpu).unwrap(), photo(2));
    let mut results = Results::default();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::F32] {
        let form = EmbeddingForm { dtype, ..EmbeddingForm::default() };
        engine.run_into(&[frame(&rgb)], Wanted::MASK.embedding(form), &mut results).unwrap();
        let of = |results: &Results| {
            [results.values(Output::Embedding, 0).is_some(), results.halves(Output::Embedding, 0).is_some()]
        };
        assert_eq!(of(&results), [dtype == Dtype::F32, dtype == Dtype::F16]);
        assert_eq!(results.mask8(0), None);
    }
    let form = EmbeddingForm { dtype: Dtype::F16, ..EmbeddingForm::default() };
    engine.run_into(&[frame(&rgb)], Wanted::default().embedding(form), &mut results).unwrap();
    let size = results.shape(Output::Embedding).unwrap().iter().product::<usize>();
    assert_eq!(results.mask(0), None);
    assert_eq!(results.take_halves(Output::Embedding).len(), size);
    assert_eq!(results.halves(Output::Embedding, 0), None);
}

/// The whole map is asked for, and told where it is too large.
#[test]
fn a_map_that_has_no_room_is_refused_with_its_size() {
    let options = Options { device: DeviceChoice::Cpu, memory: Some(300 << 20), ..Options::default() };
    let mut engine = Engine::load_demo(&options).unwrap();
    engine.set_size(Size::Exact { height: 32, width: 32 });
    let rgb = vec![9; 1920 * 1080 * 3];
    let frame = Image::rgb8(1920, 1080, &rgb);
    let form = EmbeddingForm { at: MapSize::Photo, dtype: Dtype::F16, ..EmbeddingForm::default() };
    let reason = engine.run(&[frame], Wanted::default().embedding(form)).unwrap_err();
    assert!(matches!(&reason, Error::Memory(text) if text.contains("embeddings at 1080×1920")), "{reason}");
    engine.run(&[frame], Wanted::default().embedding(EmbeddingForm { at: MapSize::Full, ..form })).unwrap();
}

/// What is no number is an error in every form, and what float16 cannot hold with the way out.
#[test]
fn embeddings_that_are_no_numbers_are_errors_in_every_form() {
    let image = ImageEncoder::Vit { patch: 16, dim: 8, depth: 4, heads: 2, mlp: 6, grid: 2, hooks: [0, 1, 2, 3] };
    for (bias, fits) in [(1e30, 0), (1e17, 0), (1e6, 1), (10.0, 2)] {
        let mut network = testing::network::Network::tiny(image.clone(), HeadBlock::NONE);
        network.values("scratch.head1.weight").fill(0.0);
        network.values("scratch.head1.bias").fill(bias);
        let options = Options { device: DeviceChoice::Cpu, threads: Some(1), ..Options::default() };
        let mut engine = Engine::over(Network::load(&network.write(), &options).unwrap()).unwrap();
        for form in forms() {
            let told = engine.run(&[frame(&photo(0))], Wanted::default().embedding(form));
            let holds = fits == 2 || (fits == 1 && (form.dtype == Dtype::F32 || form.normalise));
            match told {
                Ok(_) => assert!(holds, "{bias}, {form:?}"),
                Err(Error::NotFinite(reason)) => {
                    assert!(!holds && !reason.contains('\n'), "{bias}, {form:?}: {reason}");
                    assert!(form.dtype == Dtype::F32 || reason.contains("ask for float32"), "{reason}");
                }
                Err(other) => panic!("another error: {other}"),
            }
        }
    }
}
