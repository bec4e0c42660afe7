//! What float16 cannot hold: told, never a result; and what it can hold at another scale is right.

use lseg_fast::{DeviceChoice, Engine, Error, Options, Size};

use crate::golden::{LIMITS, check_scores, check_vectors};
use crate::gpu::device;
use testing::cases::overflow;
use testing::golden::{Case, frame, largest};
use testing::network::Network;
use testing::results::mask_and_scores;

const HALF: f32 = 65504.0;
const ALL: [&str; 6] = ["stem", "hook1", "hook2", "hook3", "hook4", "path2"];

fn load(network: &Network, device: DeviceChoice) -> Result<Engine, Error> {
    Engine::load(&network.write(), &Options { device, threads: Some(2), ..Options::default() })
}

#[track_caller]
fn not_finite<T>(result: Result<T, Error>, words: &[&str]) -> String {
    let Err(Error::NotFinite(reason)) = result else { panic!("{:?} instead of no number", result.err()) };
    assert!(
        words.iter().chain(&["float16", "--device cpu"]).all(|word| reason.contains(word)),
        "{words:?} in {reason}"
    );
    reason
}

/// Activations of a million, which float16 ends far below: the ResNet's are held at a smaller scale. Beyond that an error,
/// in each way that a pass is run: one by one, captured, replayed.
#[test]
fn a_resnet_with_large_activations_is_right() {
    if device().is_none() {
        return;
    }
    let case = Case::open("resnet");
    let photo = case.photo(0);
    let mut network = Network::of(&case.folder.join("model.ckpt"));
    let mut cpu = load(&network, DeviceChoice::Cpu).unwrap();
    cpu.set_labels(&case.labels()).unwrap();
    let size = |cpu: &mut Engine| {
        let taps = cpu.lane_mut().inspect(&[frame(&photo)], &ALL).unwrap();
        taps.iter().map(|tap| largest(&tap.data)).fold(0.0, f32::max)
    };
    let by = (1e6 / size(&mut cpu)).log2().round().exp2();
    network.amplify(by);
    let [mut cuda, mut cpu] = [DeviceChoice::Cuda(Some(0)), DeviceChoice::Cpu].map(|device| {
        let mut engine = load(&network, device).unwrap();
        engine.set_size(Size::Native);
        engine.set_labels(&case.labels()).unwrap();
        engine
    });
    let largest_of = size(&mut cpu);
    assert!(largest_of > 10.0 * HALF, "{largest_of}");
    let [got, expected] = [&mut cuda, &mut cpu].map(|engine| mask_and_scores(engine, &frame(&photo)).unwrap());
    check_scores("amplified", &got, &expected, LIMITS.logits);
    let width = cpu.config().embed_dim;
    let [got, expected] = [&mut cuda, &mut cpu].map(|engine| engine.embed(&frame(&photo)).unwrap().data);
    check_vectors("amplified, embeddings", &got, &expected, width, &LIMITS);
    let points = [[3.0, 4.0], [20.5, 17.25]];
    let [got, expected] = [&mut cuda, &mut cpu].map(|engine| engine.embed_at(&frame(&photo), &points).unwrap());
    check_vectors("amplified, points", &got, &expected, width, &LIMITS);
    let [got, expected] =
        [&mut cuda, &mut cpu].map(|engine| engine.lane_mut().inspect(&[frame(&photo)], &ALL).unwrap());
    for (got, expected) in got.iter().zip(&expected) {
        check_vectors(&format!("amplified, {}", got.name), &got.data, &expected.data, got.shape[3], &LIMITS);
    }

    network.multiply("scratch.layer1_rn.weight", 1e3);
    let mut cuda = load(&network, DeviceChoice::Cuda(Some(0))).unwrap();
    cuda.set_labels(&case.labels()).unwrap();
    let reasons: Vec<String> =
        (0..4).map(|_| not_finite(cuda.segment(&frame(&photo)), &["pixels have no finite score"])).collect();
    assert!(reasons.iter().all(|reason| *reason == reasons[0]), "{reasons:?}");
    not_finite(cuda.embed(&frame(&photo)), &["embedding of pixel"]);
    not_finite(cuda.scores(&frame(&photo)), &["label"]);
}

/// A ViT cannot be scaled so.
#[test]
fn a_vit_with_large_activations_is_an_error() {
    if device().is_none() {
        return;
    }
    let case = Case::open("vit16");
    let photo = case.photo(0);
    let right = Network::of(&case.folder.join("model.ckpt"));
    let mut network = Network::of(&case.folder.join("model.ckpt"));
    for part in ["weight", "bias"] {
        network.multiply(&format!("pretrained.act_postprocess1.3.{part}"), 1e5);
    }
    let limit = largest(&network.tensors["pretrained.act_postprocess1.3.weight"].1);
    assert!(limit < HALF, "{limit}");
    let mut cpu = load(&network, DeviceChoice::Cpu).unwrap();
    let mut cuda = load(&network, DeviceChoice::Cuda(Some(0))).unwrap();
    for engine in [&mut cpu, &mut cuda] {
        engine.set_labels(&case.labels()).unwrap();
    }
    cpu.segment(&frame(&photo)).unwrap();
    not_finite(cuda.segment(&frame(&photo)), &["pixels have no finite score"]);
    not_finite(cuda.embed(&frame(&photo)), &["embedding of pixel"]);

    // The text tower's hidden layer.
    let mut network = right;
    for part in ["weight", "bias"] {
        network.multiply(&format!("clip_pretrained.transformer.resblocks.0.mlp.c_fc.{part}"), 1e5);
    }
    load(&network, DeviceChoice::Cpu).unwrap().set_labels(&case.labels()).unwrap();
    let mut cuda = load(&network, DeviceChoice::Cuda(Some(0))).unwrap();
    not_finite(cuda.set_labels(&case.labels()), &["text tower", &case.labels()[0]]);
}

#[test]
fn a_weight_beyond_float16_is_refused_by_its_name() {
    if device().is_none() {
        return;
    }
    let case = Case::open("vit16");
    let mut network = Network::of(&case.folder.join("model.ckpt"));
    let name = "pretrained.model.blocks.1.mlp.fc1.weight";
    for value in [65505.0, -1e30] {
        network.values(name)[1] = value;
        load(&network, DeviceChoice::Cpu).unwrap();
        not_finite(load(&network, DeviceChoice::Cuda(Some(0))), &[name, &format!("{value} at [0, 1]"), "65504"]);
    }
    network.values(name)[1] = HALF;
    load(&network, DeviceChoice::Cuda(Some(0))).unwrap();
    // What is made of a label and the head.
    let size = largest(&network.tensors["scratch.head1.weight"].1);
    network.multiply("scratch.head1.weight", 1e4 / size);
    let mut cuda = load(&network, DeviceChoice::Cuda(Some(0))).unwrap();
    not_finite(cuda.set_labels(&case.labels()), &["of the list", "scratch.head1"]);
}

#[test]
fn what_overflows_stays_no_number() {
    if let Some(mut cuda) = device() {
        overflow::check(&mut cuda);
    }
}
