//! The engine against plain PyTorch in float64 on small seeded networks: text features, every tap, scores and masks.
//! What the cases are and what agreement means: tests/golden/README.md.

use lseg_fast::checkpoint::Checkpoint;
use lseg_fast::convert::{self, convert};
use lseg_fast::model::config::{Activation, HeadBlockKind};
use lseg_fast::model::detect::{HeadBlockOverride, detect};
use lseg_fast::{Alpha, DeviceChoice, Engine, Error, Image, Options, Output, Wanted};
use testing::golden::{Array, Case, distance, frame, item, largest, range};
use testing::results::{mask_and_scores, masks, scores, segmentation};

const TAPS: [&str; 7] = ["hook1", "hook2", "hook3", "hook4", "head1", "logits", "scores"];

/// 1e-3 of each channel's own scale. Tokens `[t, d]` have their channels last.
fn check_tap(what: &str, got: &Array, expected: &Array) {
    assert_eq!(got.shape, expected.shape, "{what}");
    let columns = |a: &Array| -> Vec<Vec<f32>> {
        match a.shape[..] {
            [_, d] => (0..d).map(|k| a.data.iter().skip(k).step_by(d).copied().collect()).collect(),
            _ => a.channels().map(<[f32]>::to_vec).collect(),
        }
    };
    let (got, expected) = (columns(got), columns(expected));
    let mut scales: Vec<f32> = expected.iter().map(|channel| largest(channel)).collect();
    scales.sort_by(f32::total_cmp);
    let floor = 0.1 * scales[(scales.len() - 1) / 2];
    for (k, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let (error, scale) = (distance(got, expected), largest(expected).max(floor));
        assert!(error <= 1e-3 * scale, "{what}, channel {k}: off by {error} at scale {scale}");
    }
}

fn check_scores(what: &str, got: &Array, expected: &Array) {
    assert_eq!(got.shape, expected.shape, "{what}");
    let (error, range) = (distance(&got.data, &expected.data), range(&expected.data));
    assert!(error <= 5e-4 * range, "{what}: off by {error} of range {range}");
}

/// Share of the decided pixels (two best scores apart by more than 5e-4 of the range) with the same label.
fn agreement(mask: &[u16], expected: &[u8], scores: &Array) -> f64 {
    let (labels, pixels) = (scores.shape[0], expected.len());
    let margin = 5e-4 * range(&scores.data);
    let (mut decided, mut same) = (0u32, 0u32);
    for i in 0..pixels {
        let mut at: Vec<f32> = (0..labels).map(|label| scores.data[label * pixels + i]).collect();
        at.sort_by(f32::total_cmp);
        if at[labels - 1] - at[labels - 2] > margin {
            decided += 1;
            same += u32::from(mask[i] == u16::from(expected[i]));
        }
    }
    assert!(decided as usize > pixels * 9 / 10, "nine pixels in ten are decided");
    f64::from(same) / f64::from(decided)
}

/// Everything about one case: a batch of both photos where both have expected values.
fn check(name: &'static str, flags: &HeadBlockOverride) {
    let (case, folder) = (Case::open(name), tempfile::tempdir().unwrap());
    let mut engine = case.engine(flags, folder.path(), 2);

    let photos = [case.photo(0), case.photo(1)];
    let batch = if case.folder.join("expected_1.safetensors").exists() { 2 } else { 1 };
    let frames: Vec<Image<'_>> = photos[..batch].iter().map(frame).collect();
    let taps = engine.lane_mut().inspect(&frames, &TAPS).unwrap();
    let masks = masks(&mut engine, &frames).unwrap();
    for (b, mask) in masks.iter().enumerate() {
        let expected = case.expected(b);
        for (i, label) in case.labels().iter().enumerate() {
            let (text, want) = (engine.network().text_features(label).unwrap(), &expected["text"]);
            let want_row = &want.data[i * want.shape[1]..][..want.shape[1]];
            let error = distance(&text, want_row);
            assert!(error <= 1e-4 * largest(&want.data), "{name}: text features of {label:?} off by {error}");
        }
        for tap in &taps {
            let what = format!("{name}, photo {b}, {}", tap.name);
            let got = item(tap, b, case.step(&tap.name));
            match tap.name.as_str() {
                "logits" => check_scores(&what, &got, &expected["logits_half"]),
                "scores" => check_scores(&what, &got, &expected["scores"]),
                other => check_tap(&what, &got, &expected[other]),
            }
        }
        let share = agreement(&mask.mask, &case.expected_mask(b), &expected["scores"]);
        assert!(share >= 0.9999, "{name}, photo {b}: {share} of the decided pixels agree");
    }

    // The comparison can fail: the other photo, or this one upside down, is far outside the bounds.
    let mut flipped = case.photo(0);
    flipped.rgb.reverse();
    for wrong in [&photos[1], &flipped] {
        let expected = case.expected(0);
        let (mask, scores) = mask_and_scores(&mut engine, &frame(wrong)).unwrap();
        let error = distance(&scores.data, &expected["scores"].data);
        assert!(error > 0.2 * range(&expected["scores"].data), "{name}: a wrong photo gives nearly the same scores");
        let share = agreement(&mask.mask, &case.expected_mask(0), &expected["scores"]);
        assert!(share < 0.8, "{name}: a wrong photo gives {share} of the same mask");
    }
}

#[test]
fn vit16_equals_pytorch() {
    check("vit16", &HeadBlockOverride::default());
}

#[test]
fn vit32_with_bottleneck_in_a_batch_equals_pytorch() {
    check("vit32", &HeadBlockOverride::default());
}

#[test]
fn resnet_with_depthwise_equals_pytorch() {
    check("resnet", &HeadBlockOverride::default());
}

fn relu_flags(depth: usize) -> HeadBlockOverride {
    HeadBlockOverride {
        head_block: Some(HeadBlockKind::Depthwise),
        depth: Some(depth),
        activation: Some(Activation::Relu),
    }
}

#[test]
fn vit16_with_outliers_and_large_attention_logits_equals_pytorch() {
    check("vit16_relu", &relu_flags(0));
}

/// `block_depth` applies the one block again, with the activation in between.
#[test]
fn a_head_block_of_depth_two_equals_pytorch() {
    let (case, folder) = (Case::open("vit16_relu"), tempfile::tempdir().unwrap());
    let mut engine = case.engine(&relu_flags(2), folder.path(), 2);
    let scores = engine.scores(&frame(&case.photo(0))).unwrap();
    let rows = scores.data.chunks_exact(scores.width).step_by(4).flatten().copied().collect();
    let got = Array { shape: vec![scores.labels, scores.height / 4, scores.width], data: rows };
    check_scores("vit16_relu, depth 2", &got, &case.expected(0)["scores_depth2_rows4"]);
}

/// Frames do not see each other, nor does the number of threads change a bit.
#[test]
fn the_same_frame_gives_the_same_bits() {
    let (case, folder) = (Case::open("vit32"), tempfile::tempdir().unwrap());
    let photos = [case.photo(0), case.photo(1)];
    let mut engine = case.engine(&HeadBlockOverride::default(), folder.path(), 1);
    let first = engine.scores(&frame(&photos[0])).unwrap();
    let other = engine.scores(&frame(&photos[1])).unwrap();
    assert_ne!(first, other);
    assert_eq!(engine.scores(&frame(&photos[0])).unwrap(), first);
    let mut threaded = case.engine(&HeadBlockOverride::default(), folder.path(), 3);
    assert_eq!(threaded.scores(&frame(&photos[0])).unwrap(), first);
}

/// What is asked for beside the mask changes nothing of it, and what is not asked for is not there.
#[test]
fn extras_come_beside_the_same_mask() {
    let (case, folder) = (Case::open("vit16"), tempfile::tempdir().unwrap());
    let mut engine = case.engine(&HeadBlockOverride::default(), folder.path(), 2);
    let photo = case.photo(0);
    let frame = frame(&photo);
    let colours = vec![[200, 100, 0]; case.labels().len()];
    let mask = engine.segment(&frame).unwrap();
    let all = Wanted::of(&Output::ALL).overlay(&colours, Alpha::default()).at_points(&[[3.0, 4.0]]);
    let all = engine.run(&[frame], all).unwrap();
    assert_eq!(segmentation(&all, 0), mask);
    let [scores, probabilities] = [Output::Scores, Output::Probabilities].map(|output| scores(&all, output, 0));
    assert_eq!(scores, engine.scores(&frame).unwrap());
    let pixels = scores.height * scores.width;
    for pixel in 0..pixels {
        let at =
            |values: &[f32]| values.iter().skip(pixel).step_by(pixels).map(|v| f64::from(*v)).collect::<Vec<f64>>();
        let (scores, got) = (at(&scores.data), at(&probabilities.data));
        let sum: f64 = scores.iter().map(|score| score.exp()).sum();
        let off = scores.iter().zip(&got).map(|(score, got)| (score.exp() / sum - got).abs()).fold(0.0, f64::max);
        assert!(off < 2e-6 && (got.iter().sum::<f64>() - 1.0).abs() < 1e-5, "pixel {pixel}: off by {off}");
    }
    assert_eq!(all.values(Output::Best, 0).unwrap().len(), mask.mask.len());
    assert_eq!(all.values(Output::Embedding, 0).unwrap(), engine.embed(&frame).unwrap().data);
    assert_eq!(all.values(Output::Points, 0).unwrap(), engine.embed_at(&frame, &[[3.0, 4.0]]).unwrap());
    let tinted: Vec<u8> =
        photo.rgb.iter().zip(colours.as_flattened().iter().cycle()).map(|(a, b)| a.midpoint(*b)).collect();
    assert_eq!(all.overlay(0).unwrap(), tinted);
    let none = engine.run(&[frame], Wanted::MASK).unwrap();
    assert_eq!(segmentation(&none, 0), mask);
    assert_eq!(
        Output::ALL.map(|output| none.shape(output).is_some()),
        Output::ALL.map(|output| output == Output::Mask)
    );
    let reason = engine.run(&[frame], Wanted::MASK.overlay(&colours[1..], Alpha::default())).unwrap_err();
    assert!(matches!(reason, Error::Labels(_)), "{reason}");
    let reason = engine.run(&[frame], Wanted::of(&[Output::Points])).unwrap_err();
    assert!(matches!(reason, Error::Points(_)), "{reason}");
}

/// A float16 file is the model that the float32 file of the same values is, to the bit.
#[test]
fn a_float16_file_is_computed_as_float32() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["vit16", "resnet"] {
        let case = Case::open(name);
        let mut from = case.folder.join("model.ckpt");
        let [half, float] = [convert::TargetDtype::F16, convert::TargetDtype::F32].map(|dtype| {
            let checkpoint = Checkpoint::open(&from).unwrap();
            from = folder.path().join(format!("{name}.{dtype:?}"));
            let config = detect(&checkpoint, &HeadBlockOverride::default()).unwrap();
            convert(&checkpoint, &config, &convert::Options { out: from.clone(), dtype }, &mut |_, _| {}).unwrap();
            let mut engine =
                Engine::load(&from, &Options { device: DeviceChoice::Cpu, threads: Some(2), ..Options::default() })
                    .unwrap();
            engine.set_labels(&case.labels()).unwrap();
            let photo = case.photo(0);
            let taps = engine.lane_mut().inspect(&[frame(&photo)], &TAPS).unwrap();
            (engine.label_embeddings(), taps.into_iter().map(|tap| (tap.name, tap.data)).collect::<Vec<_>>())
        });
        assert!(half.0 == float.0, "{name}: label embeddings");
        assert_eq!(half.1.len(), float.1.len());
        for ((tap, half), (_, float)) in half.1.iter().zip(&float.1) {
            assert!(half == float && half.iter().all(|value| value.is_finite()), "{name}: {tap}");
        }
    }
}
