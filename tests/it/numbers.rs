//! Numbers that are none, or none any more: in weights, in what is made of them, in results. Nobody is given one.

use std::path::Path;
use std::process::Command;

use lseg_fast::device::cpu::Cpu;
use lseg_fast::model::config::{Activation, HeadBlock, HeadBlockKind, ImageEncoder};
use lseg_fast::model::required;
use lseg_fast::{DeviceChoice, Engine, Error, Image, Options, Output, Wanted};
use testing::cases::overflow;
use testing::network::Network;

const LABELS: [&str; 2] = ["cat", "dog"];

fn vit() -> Network {
    let image = ImageEncoder::Vit { patch: 16, dim: 8, depth: 4, heads: 2, mlp: 6, grid: 2, hooks: [0, 1, 2, 3] };
    Network::tiny(image, HeadBlock::NONE)
}

fn resnet() -> Network {
    let image = ImageEncoder::Resnet { stem: 2, blocks: [1, 2, 1, 1], planes: [1, 1, 2, 2] };
    Network::tiny(image, HeadBlock { kind: HeadBlockKind::Depthwise, depth: 2, activation: Activation::Tanh })
}

fn load(network: &Network) -> Result<Engine, Error> {
    Engine::load(&network.write(), &Options { device: DeviceChoice::Cpu, threads: Some(1), ..Options::default() })
}

/// The model is refused with a message that has all of `words`.
#[track_caller]
fn refused(network: &Network, words: &[&str]) {
    let Err(error) = load(network) else { panic!("a model is loaded that should be refused for {words:?}") };
    let error = error.to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{words:?} in {error}");
    assert!(!error.contains('\n') && !error.ends_with('.'), "{error}");
}

#[track_caller]
fn not_finite<T>(result: Result<T, Error>, words: &[&str]) {
    match result {
        Err(Error::NotFinite(reason)) => {
            assert!(words.iter().all(|word| reason.contains(word)), "{words:?} in {reason}")
        }
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("a result that is no number is a success"),
    }
}

/// The last value of every tensor that a model needs, as NaN or as infinity.
#[test]
fn a_weight_that_is_no_number_is_refused_by_its_name() {
    for mut network in [vit(), resnet()] {
        load(&network).unwrap();
        for (i, spec) in required(&network.config).into_iter().enumerate() {
            let last: Vec<String> = spec.shape.iter().map(|size| (size - 1).to_string()).collect();
            let place = format!("[{}]", last.join(", "));
            let (value, word) = [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")][i % 2];
            let right = std::mem::replace(network.values(&spec.name).last_mut().unwrap(), value);
            refused(&network, &[&format!("tensor {}:", spec.name), &place, word, "damaged"]);
            *network.values(&spec.name).last_mut().unwrap() = right;
        }
    }
}

#[test]
fn a_batch_norm_without_a_root_is_refused() {
    let mut network = resnet();
    let name = "pretrained.layer2.1.bn2.running_var";
    for value in [-1.0, -1e-5] {
        network.values(name)[0] = value;
        refused(&network, &[name, "variances above", &format!("{value} at [0]")]);
    }
    // A root, but not a finite quotient.
    network.values(name)[0] = -9.99e-6;
    load(&network).unwrap();
    network.values("pretrained.layer2.1.bn2.weight")[0] = 1e38;
    refused(&network, &["pretrained.layer2.1.conv2.weight", "inf"]);
}

/// Finite each, but not multiplied out.
#[test]
fn weights_that_become_none_together_are_refused() {
    for name in ["scratch.layer1_rn.weight", "scratch.layer3_rn.weight", "pretrained.act_postprocess4.4.weight"] {
        let mut network = vit();
        network.multiply(name, 1e38);
        refused(&network, &[name, "with what follows folded in", "damaged"]);
    }
}

#[test]
fn a_configuration_that_makes_no_image_is_refused() {
    let mut network = vit();
    for (mean, std) in [(0.5, 1e-45), (0.5, 1e-30), (0.5, 1e30), (0.5, 0.0), (1e30, 0.5), (0.5, -0.5)] {
        (network.config.mean[1], network.config.std[2]) = (mean, std);
        refused(&network, &["mean", "std", "are expected"]);
    }
    for std in [1.0, 1.0 / 255.0] {
        (network.config.mean, network.config.std) = ([0.0; 3], [std; 3]);
        load(&network).unwrap();
    }
}

/// Finite weights, and a frame that is none: in the image's encoder behind a LayerNorm, in the decoder, in the head.
#[test]
fn a_frame_that_is_no_number_is_an_error() {
    let frame = Image::rgb8(40, 30, &[77; 40 * 30 * 3]);
    let large = [
        ("pretrained.model.pos_embed", 1e30),
        ("pretrained.model.blocks.2.mlp.fc2.weight", 1e38),
        ("scratch.layer4_rn.weight", 1e38),
        ("scratch.head1.bias", 1e30),
    ];
    for (name, by) in large {
        let mut network = vit();
        network.multiply(name, by);
        let mut engine = load(&network).unwrap();
        engine.set_labels(&LABELS).unwrap();
        let words = ["1200 of 1200 pixels", "damaged"];
        not_finite(engine.segment(&frame), &words);
        not_finite(engine.run(&[frame], Wanted::of(&[Output::Best])), &words);
        not_finite(engine.run(&[frame, frame], Wanted::MASK), &["2400 of 2400 pixels"]);
        engine.frame_buffer(lseg_fast::Format::Rgb8, 40, 30).unwrap().fill(9);
        not_finite(engine.segment_buffered(&mut Default::default()), &words);
        not_finite(engine.scores(&frame), &["label \"cat\"", "damaged"]);
        not_finite(engine.embed(&frame), &["embedding", "damaged"]);
        not_finite(engine.embed_at(&frame, &[[3.0, 4.0]]), &["embedding", "damaged"]);
        // Whoever looks inside sees what there is.
        assert!(!engine.lane_mut().inspect(&[frame], &["scores"]).unwrap()[0].data[0].is_finite());
    }
}

#[test]
fn a_label_that_is_no_number_is_an_error() {
    let mut network = vit();
    let mut engine = load(&network).unwrap();
    engine.set_labels(&LABELS).unwrap();
    network.multiply("clip_pretrained.positional_embedding", 1e30);
    let mut broken = load(&network).unwrap();
    not_finite(broken.set_labels(&LABELS), &["\"cat\"", "damaged"]);
    assert!(broken.labels().is_empty());
    // Its own numbers are finite, but not beside the head's.
    let mut network = vit();
    network.multiply("scratch.head1.weight", 3e37);
    network.multiply("scratch.refinenet1.out_conv.weight", 10.0);
    let mut broken = load(&network).unwrap();
    not_finite(broken.set_labels(&LABELS), &["label 1 of the list", "scratch.head1"]);
}

/// A sum of squares that float32 cannot hold is no length.
#[test]
fn what_overflows_stays_no_number() {
    overflow::check(&mut Cpu::new(Some(1)).unwrap());
}

#[test]
fn the_program_says_so_and_writes_nothing() {
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vit16/photo_0.png");
    let (mut nan, mut large) = (vit(), vit());
    nan.values("pretrained.model.blocks.1.attn.qkv.weight")[5] = f32::NAN;
    large.multiply("scratch.layer4_rn.weight", 1e38);
    let calls: [(&Network, &[&str], &str); 4] = [
        (&nan, &["run", "--labels", "cat,dog"], "blocks.1.attn.qkv.weight"),
        (&nan, &["embed"], "blocks.1.attn.qkv.weight"),
        (&large, &["run", "--labels", "cat,dog"], "pixels have no finite score"),
        (&large, &["embed"], "embedding of pixel"),
    ];
    for (network, arguments, word) in calls {
        let out = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lseg-fast"));
        command.args(arguments).args(["--device", "cpu", "--model"]).arg(network.write());
        let output = command.arg("--out").arg(out.path()).arg(&photo).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && stderr.contains("error: ") && stderr.contains(word), "{word}: {stderr}");
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "{word}: something was written");
    }
}
