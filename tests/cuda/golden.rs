//! Whole models of every kind: the CUDA device against the CPU device, on the small golden networks.

use half::f16;
use lseg_fast::embedding::At;
use lseg_fast::image::decode::Photo;
use lseg_fast::image::npy::Dtype;
use lseg_fast::model::config::{Activation, HeadBlockKind};
use lseg_fast::model::detect::HeadBlockOverride;
use lseg_fast::{DeviceChoice, Engine, Options, Scores, Segmentation};

use crate::gpu::device;
use testing::golden::{Case, distance, frame, range};
use testing::results::{mask_and_scores, masks};

const HOOKS: [&str; 4] = ["hook1", "hook2", "hook3", "hook4"];

/// How far the GPU's results may be from the CPU's.
pub struct Limits {
    /// The largest error of a logit, over their range. Pixels are decided whose two best labels differ by more.
    pub logits: f32,
    /// ‖difference‖ / ‖vectors‖.
    vectors: f64,
    /// The least of all vectors.
    cosine: f64,
}

pub const LIMITS: Limits = Limits { logits: 0.01, vectors: 0.01, cosine: 0.9995 };
/// Of the network with planted outliers, whose decoder takes differences of large values: what half precision makes of it in
/// PyTorch (tests/golden/half_network.py).
const OUTLIERS: Limits = Limits { logits: 0.161, vectors: 0.144, cosine: 0.905 };

/// The same model on the CPU and on the GPU.
struct Pair {
    case: Case,
    cpu: Engine,
    cuda: Engine,
}

/// `None`, and a message, where there is no GPU.
fn open(name: &'static str, flags: &HeadBlockOverride) -> Option<Pair> {
    device()?;
    let (case, folder) = (Case::open(name), tempfile::tempdir().unwrap());
    let on = |device| case.engine_on(flags, folder.path(), &Options { device, threads: Some(2), ..Options::default() });
    let (cpu, cuda) = (on(DeviceChoice::Cpu), on(DeviceChoice::Cuda(Some(0))));
    Some(Pair { case, cpu, cuda })
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// ‖got − expected‖ / ‖expected‖.
fn relative_error(got: &[f32], expected: &[f32]) -> f64 {
    let difference: Vec<f32> = got.iter().zip(expected).map(|(g, e)| g - e).collect();
    (dot(&difference, &difference) / dot(expected, expected)).sqrt()
}

/// Vectors of `width` values: little off as a whole, and none turned away.
pub fn check_vectors(what: &str, got: &[f32], expected: &[f32], width: usize, limits: &Limits) {
    assert_eq!(got.len(), expected.len(), "{what}");
    assert!(got.iter().all(|value| value.is_finite()), "{what} has values that are no numbers");
    let error = relative_error(got, expected);
    assert!(error <= limits.vectors, "{what}: relative error {error}");
    let cosines = got.chunks_exact(width).zip(expected.chunks_exact(width)).map(|(g, e)| cosine(g, e));
    let least = cosines.fold(f64::INFINITY, f64::min);
    assert!(least >= limits.cosine, "{what}: cosine {least}");
}

/// Each channel of tokens `[t, width]` by itself, so that an outlier channel hides no other: at most 10 % of its size, or of a
/// tenth of the middle channel's. float16 leaves 5 % of a small channel beside one of ×300; a channel that is lost, or another's,
/// is off by all of it.
fn check_channels(what: &str, got: &[f32], expected: &[f32], width: usize) {
    let size = |values: &[f32], channel: usize| {
        let of_channel = values.iter().skip(channel).step_by(width);
        of_channel.map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
    };
    let difference: Vec<f32> = got.iter().zip(expected).map(|(g, e)| g - e).collect();
    let sizes: Vec<f64> = (0..width).map(|channel| size(expected, channel)).collect();
    let mut sorted = sizes.clone();
    sorted.sort_by(f64::total_cmp);
    for (channel, size_of) in sizes.iter().enumerate() {
        let share = size(&difference, channel) / size_of.max(0.1 * sorted[width / 2]);
        assert!(share <= 0.1, "{what}, channel {channel}: relative error {share}");
    }
}

pub fn check_scores(what: &str, got: &(Segmentation, Scores), expected: &(Segmentation, Scores), limit: f32) {
    let range = range(&expected.1.data);
    let error = distance(&got.1.data, &expected.1.data);
    assert!(error <= limit * range, "{what}: logits are off by {error} of range {range}");
    let pixels = expected.0.mask.len();
    assert_eq!(expected.1.data.len(), expected.1.labels * pixels, "the photo has the network's size");
    let decided = |i: &usize| {
        let mut at: Vec<f32> = expected.1.data.iter().skip(*i).step_by(pixels).copied().collect();
        at.sort_by(f32::total_cmp);
        at[at.len() - 1] - at[at.len() - 2] > limit * range
    };
    let decided: Vec<usize> = (0..pixels).filter(decided).collect();
    assert!(decided.len() > pixels / 5, "{what}: {} of {pixels} pixels are decided", decided.len());
    let same = decided.iter().filter(|i| got.0.mask[**i] == expected.0.mask[**i]).count();
    let share = same as f64 / decided.len() as f64;
    assert!(share >= 0.995, "{what}: {share} of the decided pixels agree");
}

fn check(name: &'static str, flags: &HeadBlockOverride, hooks: bool, limits: &Limits) {
    let Some(Pair { case, mut cpu, mut cuda }) = open(name, flags) else { return };
    let width = cpu.config().embed_dim;
    check_vectors(&format!("{name}, labels"), &cuda.label_embeddings(), &cpu.label_embeddings(), width, &LIMITS);
    let photos = [case.photo(0), case.photo(1)];
    for (i, photo) in photos.iter().enumerate() {
        let what = format!("{name}, photo {i}");
        if hooks {
            let [got, expected] =
                [&mut cuda, &mut cpu].map(|engine| engine.lane_mut().inspect(&[frame(photo)], &HOOKS).unwrap());
            assert_eq!(got.len(), HOOKS.len());
            for (got, expected) in got.iter().zip(&expected) {
                let (what, width) = (format!("{what}, {}", got.name), got.shape[3]);
                check_vectors(&what, &got.data, &expected.data, width, &LIMITS);
                check_channels(&what, &got.data, &expected.data, width);
            }
        }
        let [got, expected] = [&mut cuda, &mut cpu].map(|engine| mask_and_scores(engine, &frame(photo)).unwrap());
        check_scores(&what, &got, &expected, limits.logits);
        let [got, expected] = [&mut cuda, &mut cpu].map(|engine| engine.embed(&frame(photo)).unwrap().data);
        check_vectors(&format!("{what}, embeddings"), &got, &expected, width, limits);
    }
    // The comparison can fail: the other photo is far outside the bounds.
    let (got, expected) = (cuda.scores(&frame(&photos[1])).unwrap(), cpu.scores(&frame(&photos[0])).unwrap());
    assert!(
        distance(&got.data, &expected.data) > limits.logits.max(0.1) * range(&expected.data),
        "{name}: a wrong photo gives the same"
    );
}

#[test]
fn vit16_equals_the_cpu() {
    check("vit16", &HeadBlockOverride::default(), true, &LIMITS);
}

#[test]
fn vit32_with_bottleneck_equals_the_cpu() {
    check("vit32", &HeadBlockOverride::default(), true, &LIMITS);
}

#[test]
fn resnet_with_depthwise_equals_the_cpu() {
    check("resnet", &HeadBlockOverride::default(), false, &LIMITS);
}

/// Outlier channels of ×300 and attention logits of ±80: hooks as everywhere.
#[test]
fn vit16_with_outliers_equals_the_cpu() {
    let relu = HeadBlockOverride {
        head_block: Some(HeadBlockKind::Depthwise),
        depth: Some(2),
        activation: Some(Activation::Relu),
    };
    check("vit16_relu", &relu, true, &OUTLIERS);
}

/// The vectors of a resized map, pixel by pixel.
fn resized(engine: &mut Engine, photo: &Photo, at: At, dtype: Dtype, normalise: bool) -> Vec<f32> {
    let mut resized = engine.embed_resized(&frame(photo), at, dtype, normalise).unwrap();
    let ([channels, height, width], mut file) = (resized.shape(), Vec::new());
    resized.write(&mut file).unwrap().unwrap();
    let values: Vec<f32> = match dtype {
        Dtype::F16 => file[128..].as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::F32 => file[128..].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
    };
    let pixels = height * width;
    assert_eq!(values.len(), channels * pixels);
    (0..values.len()).map(|i| values[i % channels * pixels + i / channels]).collect()
}

/// A transformer, and a ResNet, whose activations are scaled; pieces run on what the frame's steps left.
#[test]
fn resized_embeddings_equal_the_cpus() {
    for name in ["vit16", "resnet"] {
        let Some(Pair { case, mut cpu, mut cuda }) = open(name, &HeadBlockOverride::default()) else { return };
        let (width, photo) = (cpu.config().embed_dim, case.photo(0));
        for (at, dtype, normalise) in
            [(At::Full, Dtype::F32, false), (At::Photo, Dtype::F16, false), (At::Photo, Dtype::F16, true)]
        {
            let [got, expected] = [&mut cuda, &mut cpu].map(|engine| resized(engine, &photo, at, dtype, normalise));
            check_vectors(&format!("{name}, {at:?} {dtype:?} {normalise}"), &got, &expected, width, &LIMITS);
        }
        let other = resized(&mut cuda, &case.photo(1), At::Full, Dtype::F32, false);
        assert!(relative_error(&other, &resized(&mut cpu, &photo, At::Full, Dtype::F32, false)) > 0.1);
    }
}

/// A frame gives the same bits whatever came before it. In a batch, whose products may be cut into other tiles, it gives the
/// same labels but for pixels between two.
#[test]
fn frames_do_not_see_each_other() {
    let Some(Pair { case, mut cuda, .. }) = open("vit32", &HeadBlockOverride::default()) else { return };
    let photos = [case.photo(0), case.photo(1)];
    let first = mask_and_scores(&mut cuda, &frame(&photos[0])).unwrap();
    let other = mask_and_scores(&mut cuda, &frame(&photos[1])).unwrap();
    assert_ne!(first.1, other.1);
    assert_eq!(mask_and_scores(&mut cuda, &frame(&photos[0])).unwrap(), first);
    assert_eq!(mask_and_scores(&mut cuda, &frame(&photos[1])).unwrap(), other);
    let batch = masks(&mut cuda, &[frame(&photos[1]), frame(&photos[0])]).unwrap();
    for (got, alone) in batch.iter().zip([other.0, first.0]) {
        let same = got.mask.iter().zip(&alone.mask).filter(|(got, alone)| got == alone).count();
        assert!(same * 1000 >= 995 * alone.mask.len(), "{same} of {} pixels are the same in a batch", alone.mask.len());
    }
}
