//! Whole photos as people run LSeg, against plain PyTorch in float64: tests/golden/README.md, "Whole photos".

use lseg_fast::checkpoint::Checkpoint;
use lseg_fast::image::decode::Photo;
use lseg_fast::image::resize;
use lseg_fast::{DeviceChoice, Engine, Options, WholeOptions};
use testing::files::root;
use testing::golden::{distance, largest, range};
use testing::protocols::{Case, Expected, Map, cases, engine};

fn on_cpu(network: &'static str) -> Engine {
    engine(network, &Options { device: DeviceChoice::Cpu, threads: Some(2), ..Options::default() })
}

/// 5e-4 of the scores' range; 1e-3 of each channel's own scale, or a tenth of the middle one's.
fn check(case: &Case, map: &Map) -> Result<(), String> {
    let Expected { pixels, values, mask } = case.expected();
    let [d, height, width] = case.shape();
    if (map.size, map.values.len()) != ((height, width), d * height * width) {
        return Err(format!("{}: {:?}, expected {d}×{height}×{width}", case.name, map.size));
    }
    let got = map.at(&pixels);
    let Some(mask) = mask else { return check_channels(&case.name, &got, &values, d) };
    let (error, range) = (distance(&got, &values), range(&values));
    if error > 5e-4 * range {
        return Err(format!("{}: off by {error} of range {range}", case.name));
    }
    let labels = map.mask.as_ref().expect("scores have a mask");
    let wrong = pixels.iter().zip(&mask).zip(values.chunks_exact(d)).filter(|(([y, x], label), scores)| {
        let mut sorted = scores.to_vec();
        sorted.sort_by(f32::total_cmp);
        let is_decided = d == 1 || sorted[d - 1] - sorted[d - 2] > 5e-4 * range;
        is_decided && usize::from(labels[y * width + x]) != **label
    });
    match wrong.count() {
        0 => Ok(()),
        count => Err(format!("{}: {count} decided pixels have another label", case.name)),
    }
}

fn check_channels(name: &str, got: &[f32], expected: &[f32], d: usize) -> Result<(), String> {
    let channel = |values: &[f32], k: usize| -> Vec<f32> { values.iter().skip(k).step_by(d).copied().collect() };
    let mut scales: Vec<f32> = (0..d).map(|k| largest(&channel(expected, k))).collect();
    scales.sort_by(f32::total_cmp);
    let floor = 0.1 * scales[(d - 1) / 2];
    for k in 0..d {
        let (got, expected) = (channel(got, k), channel(expected, k));
        let (error, scale) = (distance(&got, &expected), largest(&expected).max(floor));
        if error > 1e-3 * scale {
            return Err(format!("{name}, channel {k}: off by {error} at scale {scale}"));
        }
    }
    Ok(())
}

fn check_network(network: &'static str) {
    let mut engine = on_cpu(network);
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in cases().iter().filter(|case| case.network == network) {
        let map = case.compute(&mut engine, WholeOptions::default());
        wrong.extend(check(case, &map).err());
        count += 1;
    }
    assert!(count > 10 && wrong.is_empty(), "{} of {count} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn presets_on_vit32_are_pytorchs() {
    check_network("vit32");
}

#[test]
fn presets_on_the_resnet_are_pytorchs() {
    check_network("resnet");
}

#[test]
fn presets_on_vit16_are_pytorchs() {
    check_network("vit16");
}

/// Columns in strips, so narrow that windows are computed again: the same values but for what the order of sums changes.
#[test]
fn strips_change_nothing() {
    let mut engine = on_cpu("vit32");
    for name in ["eval_vit32", "app_vit32"] {
        let cases = cases();
        let case = cases.iter().find(|case| case.name == name).unwrap();
        let whole = case.compute(&mut engine, WholeOptions::default());
        for (memory, batch) in [(1 << 20, None), (200 << 10, None), (1 << 30, Some(3))] {
            let strips = case.compute(&mut engine, WholeOptions { memory, batch });
            check(case, &strips).unwrap();
            let error = distance(&strips.values, &whole.values);
            assert!(error < 1e-4 * range(&whole.values), "{name}, {memory} bytes: {error}");
        }
    }
}

/// Photos of one size take one plan: the second, after another of its kind, has the first one's bits.
#[test]
fn a_plan_serves_again() {
    let mut engine = on_cpu("vit16");
    let cases = cases();
    let case = |name: &str| cases.iter().find(|case| case.name == name).unwrap();
    let first = case("vlmaps_vit16").compute(&mut engine, WholeOptions::default());
    for between in ["vlmaps_vit16", "openscene_vit16", "eval_150_labels_vit16"] {
        check(case(between), &case(between).compute(&mut engine, WholeOptions::default())).unwrap();
        let again = case("vlmaps_vit16").compute(&mut engine, WholeOptions::default());
        assert!(again.values.iter().zip(&first.values).all(|(a, b)| a.to_bits() == b.to_bits()), "after {between}");
    }
}

/// More labels than channels and no head block: vectors are summed up in the place of scores. A label's scores are those it has in a
/// list so short that scores are, in strips too.
#[test]
fn labels_beyond_the_channels_have_the_same_scores() {
    let (mut engine, mut cases) = (on_cpu("vit16"), cases());
    let case = cases.iter_mut().find(|case| case.name == "eval_150_labels_vit16").unwrap();
    let channels = engine.config().embed_dim;
    let all = std::mem::take(&mut case.labels);
    let mut compute = |labels: &[String], memory| {
        case.labels = labels.to_vec();
        case.compute(&mut engine, WholeOptions { memory, batch: Some(1) })
    };
    for memory in [1 << 30, 1 << 20] {
        let many = compute(&all, memory);
        for (i, few) in all.chunks(channels).enumerate() {
            let few = compute(few, 1 << 30);
            let d = few.values.len() / (few.size.0 * few.size.1);
            let of_many = many.values.chunks_exact(all.len()).flat_map(|pixel| &pixel[i * channels..][..d]);
            let of_many: Vec<f32> = of_many.copied().collect();
            let error = distance(&of_many, &few.values);
            assert!(error < 1e-4 * range(&many.values), "labels from {}, {memory} bytes: {error}", i * channels);
        }
        // As many other words take the same plan.
        let backwards: Vec<String> = all.iter().rev().cloned().collect();
        let other = compute(&backwards, memory);
        let turned: Vec<f32> =
            other.values.chunks_exact(all.len()).flat_map(|pixel| pixel.iter().rev()).copied().collect();
        assert!(distance(&turned, &many.values) < 1e-4 * range(&many.values), "{memory} bytes");
    }
}

/// The comparison can fail: another preset's result on the same photo.
#[test]
fn another_preset_is_noticed() {
    let (mut engine, cases) = (on_cpu("vit32"), cases());
    let case = cases.iter().find(|case| case.name == "eval_vit32").unwrap();
    let mut map = case.compute(&mut engine, WholeOptions::default());
    let (height, width) = map.size;
    let d = map.values.len() / (height * width);
    map.values.rotate_left(d);
    assert!(check(case, &map).is_err());
}

#[test]
fn bytes_are_resized_as_pillow_and_opencv_do_it() {
    let file = Checkpoint::open(&root().join("tests/golden/protocols/resize.safetensors")).unwrap();
    let photo = |name: &str| {
        let [height, width, 3] = file.info(name).unwrap().shape[..] else { panic!("{name} is RGB") };
        let mut rgb = Vec::new();
        file.read_raw(name, &mut rgb).unwrap();
        Photo { width, height, rgb }
    };
    type Resize = fn(&Photo, (usize, usize)) -> Photo;
    for (library, count, resize) in [("pillow", 20, resize::pillow as Resize), ("opencv", 8, resize::opencv)] {
        for i in 0..count {
            let (from, to) = (photo(&format!("{library}/{i}/photo")), photo(&format!("{library}/{i}/resized")));
            let got = resize(&from, (to.height, to.width));
            let (from, size) = ((from.height, from.width), (to.height, to.width));
            assert_eq!((got.height, got.width), size);
            assert!(got.rgb == to.rgb, "{library} {i}: {from:?} to {size:?}");
        }
    }
}
