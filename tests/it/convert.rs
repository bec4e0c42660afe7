//! Recognising a model and converting it: what is told, what is kept, what is refused.

use std::collections::BTreeSet;
use std::path::Path;

use lseg_fast::checkpoint::{Checkpoint, Dtype};
use lseg_fast::convert::{Options, Summary, TargetDtype, convert};
use lseg_fast::model::config::{Activation, Config, HeadBlock, HeadBlockKind, ImageEncoder, METADATA_KEY, TextTower};
use lseg_fast::model::detect::{HeadBlockOverride, detect};
use lseg_fast::model::required;
use lseg_fast::plan_report::plan;
use lseg_fast::{DeviceChoice, Engine, Error, Options as EngineOptions};
use testing::checkpoint::*;
use testing::models::*;

fn converted(checkpoint: &Checkpoint, config: &Config, out: &Path, dtype: TargetDtype) -> Result<Summary, Error> {
    convert(checkpoint, config, &Options { out: out.to_owned(), dtype }, &mut |_, _| {})
}

fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let mut values = Vec::new();
    checkpoint.read_f32(name, &checkpoint.info(name).unwrap().shape, &mut values).unwrap();
    values
}

/// `tensors` as a safetensors file without a stated configuration.
fn stranger(tensors: &[Tensor]) -> Checkpoint {
    open_bytes(&safetensors(tensors, None)).unwrap()
}

#[test]
fn a_resnet_checkpoint_is_told_from_shapes_and_hyper_parameters() {
    let config = detect(&open("lightning.ckpt"), &HeadBlockOverride::default()).unwrap();
    let expected = Config {
        preset: "custom".to_owned(),
        image: ImageEncoder::Resnet { stem: 4, blocks: [1; 4], planes: [2, 3, 4, 5] },
        reassemble: [8, 12, 16, 20],
        features: 4,
        text: TextTower { vocab: 514, context: 7, width: 64, layers: 1, heads: 1, mlp: 8 },
        embed_dim: 8,
        head_block: HeadBlock { kind: HeadBlockKind::Bottleneck, depth: 2, activation: Activation::Lrelu },
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        default_size: "long:480".to_owned(),
    };
    assert_eq!(config, expected);
}

#[test]
fn a_vit_checkpoint_is_told_from_shapes() {
    let config = detect(&open("lightning_vit.ckpt"), &HeadBlockOverride::default()).unwrap();
    let image = ImageEncoder::Vit { patch: 16, dim: 64, depth: 4, heads: 1, mlp: 8, grid: 2, hooks: [0, 1, 2, 3] };
    assert_eq!(config.image, image);
    assert_eq!((config.preset.as_str(), config.reassemble), ("custom", [4, 6, 8, 10]));
    assert_eq!((config.mean, config.std, config.head_block), ([0.5; 3], [0.5; 3], HeadBlock::NONE));
}

/// The published models have their names; their tensors are described, without data, by a file with a hole.
#[test]
fn published_models_are_told_by_name() {
    let vit_l =
        ImageEncoder::Vit { patch: 16, dim: 1024, depth: 24, heads: 16, mlp: 4096, grid: 24, hooks: [5, 11, 17, 23] };
    let vit_b =
        ImageEncoder::Vit { patch: 32, dim: 768, depth: 12, heads: 12, mlp: 3072, grid: 12, hooks: [2, 5, 8, 11] };
    let resnet = ImageEncoder::Resnet { stem: 64, blocks: [3, 4, 23, 3], planes: [64, 128, 256, 512] };
    let large = [256, 512, 1024, 1024];
    for (preset, image, reassemble, width) in [
        ("vitl16", vit_l.clone(), large, 512),
        ("vitb32", vit_b, [96, 192, 384, 768], 512),
        ("rn50x16_vitl16", vit_l.clone(), large, 768),
        ("rn50x4_vitl16", vit_l, large, 640),
        ("rn101", resnet, [256, 512, 1024, 2048], 512),
    ] {
        let mut config = detect(&open("lightning.ckpt"), &HeadBlockOverride::default()).unwrap();
        config.image = image;
        config.reassemble = reassemble;
        config.features = 256;
        config.text = TextTower { vocab: 49408, context: 77, width, layers: 12, heads: width / 64, mlp: 4 * width };
        config.embed_dim = width;
        config.head_block = HeadBlock::NONE;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hole.safetensors");
        hole(&path, &config);
        let told = detect(&Checkpoint::open(&path).unwrap(), &HeadBlockOverride::default()).unwrap();
        assert_eq!(told.preset, preset);
        assert_eq!(told.image, config.image);
        assert_eq!(told.text, config.text);
        if preset == "vitl16" {
            let checkpoint = Checkpoint::open(&path).unwrap();
            let on_gpu = plan(&checkpoint, &told, (480, 480), 5, DeviceChoice::Cuda(None), None).unwrap();
            assert!(on_gpu.ops.len() <= 220, "{} operations, each a node of the graph", on_gpu.ops.len());
            assert!(on_gpu.arena_bytes <= 80 << 20, "{} bytes of arena", on_gpu.arena_bytes);
        }

        // One more block in the text tower, and it is none of them.
        config.text.layers = 13;
        hole(&path, &config);
        assert_eq!(detect(&Checkpoint::open(&path).unwrap(), &HeadBlockOverride::default()).unwrap().preset, "custom");
    }
}

/// A file keeps the blocks behind the last hook, though nothing is computed with them; and what serves twice is listed once.
#[test]
fn every_block_of_the_encoder_is_listed_once() {
    let mut config = foreign().0;
    config.image = ImageEncoder::Vit { patch: 16, dim: 64, depth: 6, heads: 1, mlp: 4, grid: 2, hooks: [0, 1, 2, 3] };
    config.reassemble = [4, 6, 8, 10];
    let names: Vec<String> = required(&config).into_iter().map(|tensor| tensor.name).collect();
    let last = |i: usize| names.iter().position(|name| *name == format!("pretrained.model.blocks.{i}.mlp.fc2.bias"));
    assert!((1..6).all(|i| last(i) == last(i - 1).map(|at| at + 12)), "{names:?}");
    assert_eq!(last(6), None);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

/// A safetensors file of all of a model's tensors in float16, whose data is a hole in the file.
fn hole(path: &Path, config: &Config) {
    let mut at = 0;
    let mut header = serde_json::Map::new();
    for spec in required(config) {
        let end = at + 2 * spec.shape.iter().product::<usize>();
        header.insert(spec.name, serde_json::json!({"dtype": "F16", "shape": spec.shape, "data_offsets": [at, end]}));
        at = end;
    }
    let header = serde_json::to_vec(&header).unwrap();
    std::fs::write(path, [&(header.len() as u64).to_le_bytes(), header.as_slice()].concat()).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len((8 + header.len() + at) as u64).unwrap();
}

#[test]
fn a_head_block_needs_to_be_told() {
    // A plain state dict with a head block and no hyper-parameters.
    let plain = open("state_dict_legacy.pt");
    let message = detect(&plain, &HeadBlockOverride::default()).unwrap_err().to_string();
    assert!(
        message.contains("--head-block") && message.contains("--depth") && message.contains("--activation"),
        "{message}"
    );
    let flags = HeadBlockOverride {
        head_block: Some(HeadBlockKind::Depthwise),
        depth: Some(3),
        activation: Some(Activation::Tanh),
    };
    let told = HeadBlock { kind: HeadBlockKind::Depthwise, depth: 3, activation: Activation::Tanh };
    assert_eq!(detect(&plain, &flags).unwrap().head_block, told);
    for incomplete in
        [HeadBlockOverride { depth: None, ..flags.clone() }, HeadBlockOverride { activation: None, ..flags.clone() }]
    {
        let message = detect(&plain, &incomplete).unwrap_err().to_string();
        assert!(message.contains("--depth"), "{message}");
    }

    // Flags count more than hyper-parameters, one by one.
    let lightning = open("lightning.ckpt");
    assert_eq!(detect(&lightning, &flags).unwrap().head_block, told);
    let one = HeadBlockOverride { activation: Some(Activation::Relu), ..HeadBlockOverride::default() };
    let mixed = HeadBlock { kind: HeadBlockKind::Bottleneck, depth: 2, activation: Activation::Relu };
    assert_eq!(detect(&lightning, &one).unwrap().head_block, mixed);
    let none = HeadBlockOverride { head_block: Some(HeadBlockKind::None), ..HeadBlockOverride::default() };
    assert_eq!(detect(&lightning, &none).unwrap().head_block, HeadBlock::NONE);

    // A file without one.
    let without = open("lightning_vit.ckpt");
    let message = detect(&without, &flags).unwrap_err().to_string();
    assert!(message.contains("has none"), "{message}");
    assert!(detect(&without, &none).is_ok());
}

#[test]
fn what_cannot_be_told_is_refused_with_its_reason() {
    let (_, tensors) = foreign();
    let refused = |change: &dyn Fn(&mut Vec<Tensor>), expected: &str| {
        let mut tensors = tensors.clone();
        change(&mut tensors);
        let message = detect(&stranger(&tensors), &HeadBlockOverride::default()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message} (expected: {expected})");
    };
    let without = |name: &'static str| move |t: &mut Vec<Tensor>| t.retain(|x| x.0 != name);
    refused(&without("scratch.head1.bias"), "tensor scratch.head1.bias [3] is missing");
    refused(&without("pretrained.layer2.0.bn1.weight"), "pretrained.layer2.0.bn1.weight [1] is missing");
    refused(&without("pretrained.layer1.0.weight"), "is no LSeg checkpoint");
    refused(
        &|t| {
            let weight = t.iter_mut().find(|x| x.0 == "scratch.head1.weight").unwrap();
            weight.2 = vec![3, 1, 2, 1];
        },
        "tensor scratch.head1.weight: expected float [3, 2, 1, 1], found F16 [3, 1, 2, 1]",
    );
    refused(
        &|t| {
            let bias = t.iter_mut().find(|x| x.0 == "scratch.head1.bias").unwrap();
            bias.1 = Dtype::I16;
        },
        "expected float [3], found I16 [3]",
    );
    refused(&|t| t.iter_mut().for_each(|x| x.2.insert(0, 1)), "a tensor of 4 dimensions");

    // Widths and depths from which heads and hooks do not follow.
    let mut narrow_text = narrow();
    narrow_text.head_block = HeadBlock::NONE;
    let message = detect(&stranger(&model(&narrow_text)), &HeadBlockOverride::default()).unwrap_err().to_string();
    assert!(message.contains("width 4") && message.contains("divisible by 64"), "{message}");

    let vit = |patch, dim, depth| {
        let mut config = foreign().0;
        config.image = ImageEncoder::Vit { patch, dim, depth, heads: 1, mlp: 4, grid: 2, hooks: [0, 1, 2, 3] };
        model(&config)
    };
    let told = |tensors: Vec<Tensor>| detect(&stranger(&tensors), &HeadBlockOverride::default());
    assert!(told(vit(32, 64, 4)).is_ok());
    let message = told(vit(16, 64, 6)).unwrap_err().to_string();
    assert!(message.contains("6 blocks") && message.contains("divisible by 4"), "{message}");
    let message = told(vit(16, 32, 4)).unwrap_err().to_string();
    assert!(message.contains("width 32") && message.contains("divisible by 64"), "{message}");
    let mut tensors = vit(16, 64, 4);
    let proj = tensors.iter_mut().find(|x| x.0.ends_with("patch_embed.proj.weight")).unwrap();
    proj.2 = vec![64, 3, 8, 8];
    proj.3.truncate(4 * 64 * 3 * 8 * 8);
    let message = told(tensors).unwrap_err().to_string();
    assert!(message.contains("8 pixels") && message.contains("16 or 32"), "{message}");
}

#[test]
fn our_own_file_states_its_configuration_and_may_hold_any() {
    let config = narrow();
    let file =
        |config: &Config| safetensors(&model(&narrow()), Some((METADATA_KEY, serde_json::to_string(config).unwrap())));
    assert_eq!(detect(&open_bytes(&file(&config)).unwrap(), &HeadBlockOverride::default()).unwrap(), config);

    let refused = |change: &dyn Fn(&mut Config), expected: &str| {
        let mut config = narrow();
        change(&mut config);
        let message =
            detect(&open_bytes(&file(&config)).unwrap(), &HeadBlockOverride::default()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message} (expected: {expected})");
    };
    let vit = |patch, heads, hooks| {
        move |config: &mut Config| {
            config.image = ImageEncoder::Vit { patch, dim: 6, depth: 4, heads, mlp: 4, grid: 2, hooks };
        }
    };
    refused(&vit(24, 2, [0, 1, 2, 3]), "patch is 24");
    refused(&vit(16, 4, [0, 1, 2, 3]), "image.heads is 4, a divisor of image.dim (6)");
    refused(&vit(16, 2, [0, 1, 1, 3]), "image.hooks are [0, 1, 1, 3]");
    refused(&vit(16, 2, [0, 1, 2, 4]), "below the depth 4");
    refused(&vit(16, 2, [0, 1, 2, 3]), "pretrained.model.patch_embed.proj.weight");
    refused(&|c| c.features = 0, "features is 0");
    refused(&|c| c.embed_dim = usize::MAX, "embed_dim is 18446744073709551615");
    refused(&|c| c.text.heads = 0, "text.heads is 0");
    refused(&|c| c.text.heads = 3, "text.heads is 3, a divisor of text.width (4)");
    refused(&|c| c.text.vocab = 513, "text.vocab is 513");
    refused(&|c| c.text.layers = usize::MAX, "text.layers");
    refused(&|c| c.text.layers = 3, "resblocks.2.ln_1.weight [4] is missing");
    refused(&|c| c.std[1] = 0.0, "std from 0.001 to 1000");
    refused(&|c| c.reassemble[2] = 9, "stage 3 of the image encoder has 8 channels");
    refused(&|c| c.preset = "\u{1b}[31mred".to_owned(), "preset is expected");
    refused(&|c| c.head_block.depth = usize::MAX, "head_block.depth");

    let bytes = safetensors(&model(&narrow()), Some((METADATA_KEY, "{\"preset\": 3}".to_owned())));
    let message = detect(&open_bytes(&bytes).unwrap(), &HeadBlockOverride::default()).unwrap_err().to_string();
    assert!(message.contains("configuration cannot be read"), "{message}");
}

#[test]
fn converting_keeps_values_types_and_configuration() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["lightning.ckpt", "lightning_vit.ckpt"] {
        let checkpoint = open(name);
        let config = detect(&checkpoint, &HeadBlockOverride::default()).unwrap();
        let out = folder.path().join("new/folder").join(name);
        let mut calls = Vec::new();
        let options = Options { out: out.clone(), dtype: TargetDtype::Source };
        let summary = convert(&checkpoint, &config, &options, &mut |done, total| calls.push((done, total))).unwrap();

        let result = Checkpoint::open(&out).unwrap();
        assert_eq!(detect(&result, &HeadBlockOverride::default()).unwrap(), config);
        let specs = required(&config);
        assert_eq!(result.names().count(), specs.len());
        let mut bytes = 0;
        for spec in &specs {
            assert_eq!(result.info(&spec.name), checkpoint.info(&spec.name), "{}", spec.name);
            let (mut a, mut b) = (Vec::new(), Vec::new());
            result.read_raw(&spec.name, &mut a).unwrap();
            checkpoint.read_raw(&spec.name, &mut b).unwrap();
            assert_eq!(a, b, "{}", spec.name);
            bytes += a.len() as u64;
        }
        assert_eq!(summary.tensors, specs.len());
        assert_eq!(summary.bytes, std::fs::metadata(&out).unwrap().len());
        assert_eq!(summary.parameters, specs.iter().map(|s| s.shape.iter().product::<usize>() as u64).sum::<u64>());
        assert_eq!(calls.last(), Some(&(bytes, bytes)));
        assert!(calls.is_sorted());
        assert_eq!(folder_entries(out.parent().unwrap()).iter().filter(|n| n.starts_with('.')).count(), 0);
    }
}

#[test]
fn what_is_dropped_is_told_in_groups() {
    let folder = tempfile::tempdir().unwrap();
    let dropped = |name: &str| {
        let checkpoint = open(name);
        let config = detect(&checkpoint, &HeadBlockOverride::default()).unwrap();
        converted(&checkpoint, &config, &folder.path().join("m"), TargetDtype::Source).unwrap().dropped
    };
    let group = |name: &str, count| (name.to_owned(), count);
    assert_eq!(
        dropped("lightning_vit.ckpt"),
        [
            group("*.num_batches_tracked", 14),
            group("clip_pretrained.logit_scale", 1),
            group("clip_pretrained.visual.*", 2),
            group("pretrained.model.head.*", 2),
            group("pretrained.model.norm.*", 2),
            group("scratch.refinenet4.resConfUnit1.*", 12),
        ]
    );
    assert!(dropped("lightning.ckpt").contains(&group("*.num_batches_tracked", 14 + 17)));
}

#[test]
fn types_are_converted_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = open("lightning.ckpt");
    let config = detect(&checkpoint, &HeadBlockOverride::default()).unwrap();
    for dtype in [TargetDtype::F16, TargetDtype::F32] {
        let out = folder.path().join("m");
        converted(&checkpoint, &config, &out, dtype).unwrap();
        let result = Checkpoint::open(&out).unwrap();
        for spec in required(&config) {
            let statistic = spec.name.contains("running_");
            let narrow = dtype == TargetDtype::F16 && !statistic;
            assert_eq!(result.info(&spec.name).unwrap().dtype, if narrow { Dtype::F16 } else { Dtype::F32 });
            let mut expected = values(&checkpoint, &spec.name);
            if narrow {
                expected.iter_mut().for_each(|x| *x = half::f16::from_f32(*x).to_f32());
            }
            assert_eq!(values(&result, &spec.name), expected, "{}", spec.name);
        }
    }
}

/// float64 becomes float32, bfloat16 stays; both, and a mix of widths, start at multiples of their size.
#[test]
fn every_tensor_is_aligned() {
    let mut tensors = model(&narrow());
    for (i, (_, dtype, _, bytes)) in tensors.iter_mut().enumerate() {
        let floats: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        (*dtype, *bytes) = match i % 3 {
            0 => (Dtype::F64, floats.iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect()),
            1 => (Dtype::BF16, floats.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect()),
            _ => (Dtype::F32, bytes.clone()),
        };
    }
    let checkpoint = stranger(&tensors);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("m");
    converted(&checkpoint, &narrow(), &out, TargetDtype::Source).unwrap();
    let bytes = std::fs::read(&out).unwrap();
    let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header % 8, 0);
    for (i, (name, dtype, ..)) in tensors.iter().enumerate() {
        let info = metadata.info(name).unwrap();
        assert_eq!(info.data_offsets.0 % (info.dtype.bitsize() / 8), 0, "{name}");
        assert_eq!(info.dtype, if i % 3 == 0 { Dtype::F32 } else { *dtype }, "{name}");
    }
    assert_eq!(detect(&Checkpoint::open(&out).unwrap(), &HeadBlockOverride::default()).unwrap(), narrow());
}

#[test]
fn values_beyond_float16_are_refused_by_name() {
    let mut tensors = model(&narrow());
    let bias = tensors.iter_mut().find(|x| x.0 == "scratch.head1.bias").unwrap();
    bias.3 = [1.0f32, -70000.0, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let checkpoint = stranger(&tensors);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("m.safetensors");
    let message = converted(&checkpoint, &narrow(), &out, TargetDtype::F16).unwrap_err().to_string();
    assert!(
        message.contains("scratch.head1.bias") && message.contains("-70000") && message.contains("65504"),
        "{message}"
    );
    assert_eq!(folder_entries(folder.path()), [""; 0]);
    assert!(converted(&checkpoint, &narrow(), &out, TargetDtype::Source).is_ok());
}

/// float64 holds what float32 does not.
#[test]
fn values_beyond_float32_are_refused_by_name() {
    let mut tensors = model(&narrow());
    let bias = tensors.iter_mut().find(|x| x.0 == "scratch.head1.bias").unwrap();
    (bias.1, bias.3) = (Dtype::F64, [1.0, -1e300, 2.0].iter().flat_map(|x: &f64| x.to_le_bytes()).collect());
    let checkpoint = stranger(&tensors);
    let folder = tempfile::tempdir().unwrap();
    for dtype in [TargetDtype::Source, TargetDtype::F32, TargetDtype::F16] {
        let error = converted(&checkpoint, &narrow(), &folder.path().join("m"), dtype).unwrap_err();
        assert!(matches!(error, Error::Tensor { .. }), "{error}");
        let (message, type_) = (error.to_string(), if dtype == TargetDtype::F16 { "float16" } else { "float32" });
        assert!(message.contains("scratch.head1.bias") && message.contains("found -1e300"), "{message}");
        assert!(message.contains(&format!("within {type_}'s range")), "{message}");
    }
    assert_eq!(folder_entries(folder.path()), [""; 0]);
}

/// A model that loads.
const SEEDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/seeded/seeded.ckpt");

/// A flipped bit in a weight: the zip's checksum tells.
#[test]
fn a_damaged_storage_is_not_converted() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(SEEDED).unwrap();
    let config = detect(&Checkpoint::open(SEEDED.as_ref()).unwrap(), &HeadBlockOverride::default()).unwrap();
    let places: Vec<_> = zip_places(&bytes).into_iter().filter(|(name, _)| name.contains("/data/")).collect();
    let on_cpu = EngineOptions { device: DeviceChoice::Cpu, ..EngineOptions::default() };
    let (mut refused, mut loaded) = (0, 0);
    for (_, place) in &places {
        let mut bytes = bytes.clone();
        bytes[place.start] ^= 0x10;
        let checkpoint = open_bytes(&bytes).unwrap();
        loaded += usize::from(Engine::from_checkpoint(&checkpoint, &on_cpu).is_ok());
        match converted(&open_bytes(&bytes).unwrap(), &config, &folder.path().join("m"), TargetDtype::F16) {
            Ok(_) => {}
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("checksum"), "{error}");
            }
        }
    }
    // All that the model needs (and some more is in the file).
    assert_eq!(refused, required(&config).len());
    assert_eq!(loaded, places.len() - refused);
}

#[test]
fn an_engine_is_made_of_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.ckpt");
    std::fs::copy(SEEDED, &path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let on_cpu = EngineOptions { device: DeviceChoice::Cpu, ..EngineOptions::default() };
    Engine::from_checkpoint(&checkpoint, &on_cpu).unwrap();
    // A file's time has steps of some milliseconds.
    std::thread::sleep(std::time::Duration::from_millis(30));
    std::fs::write(&path, std::fs::read(&path).unwrap()).unwrap();
    let message = Engine::from_checkpoint(&checkpoint, &on_cpu).err().unwrap().to_string();
    assert!(message.contains("was written to while it was read"), "{message}");
}

#[test]
fn a_failed_conversion_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("m.safetensors");
    std::fs::write(&out, "former").unwrap();
    let mut tensors = model(&narrow());
    tensors.retain(|x| x.0 != "scratch.head1.bias");
    let error = converted(&stranger(&tensors), &narrow(), &out, TargetDtype::Source).unwrap_err();
    assert!(matches!(error, Error::MissingTensor { .. }), "{error}");
    assert_eq!(std::fs::read(&out).unwrap(), b"former");
    assert_eq!(folder_entries(folder.path()), ["m.safetensors"]);

    // The file is written to while it is converted: it is as long, and each of its tensors could be read.
    let source = folder.path().join("source");
    let bytes = safetensors(&model(&narrow()), None);
    std::fs::write(&source, &bytes).unwrap();
    let checkpoint = Checkpoint::open(&source).unwrap();
    let options = Options { out: out.clone(), dtype: TargetDtype::F32 };
    // A file's time has steps of some milliseconds.
    std::thread::sleep(std::time::Duration::from_millis(30));
    let overwrite = |_, _| std::fs::write(&source, &bytes).unwrap();
    let message = convert(&checkpoint, &narrow(), &options, &mut { overwrite }).unwrap_err().to_string();
    assert!(message.contains("was written to while it was read"), "{message}");
    assert_eq!(std::fs::read(&out).unwrap(), b"former");

    // The file is cut while it is converted.
    std::fs::write(&source, &bytes).unwrap();
    let checkpoint = Checkpoint::open(&source).unwrap();
    let shorten = |_, _| std::fs::OpenOptions::new().write(true).open(&source).unwrap().set_len(20_000).unwrap();
    let options = Options { out: out.clone(), dtype: TargetDtype::F32 };
    let message = convert(&checkpoint, &narrow(), &options, &mut { shorten }).unwrap_err().to_string();
    assert!(message.contains("cut short"), "{message}");
    assert_eq!(std::fs::read(&out).unwrap(), b"former");
    assert_eq!(folder_entries(folder.path()), ["m.safetensors", "source"]);
}

#[test]
fn targets_that_cannot_be_written_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = stranger(&model(&narrow()));
    let message = converted(&checkpoint, &narrow(), folder.path(), TargetDtype::Source).unwrap_err().to_string();
    assert!(message.contains("cannot write") && message.contains("not a regular file"), "{message}");
    std::fs::write(folder.path().join("file"), "").unwrap();
    let below = folder.path().join("file/m.safetensors");
    let error = converted(&checkpoint, &narrow(), &below, TargetDtype::Source).unwrap_err();
    assert!(matches!(error, Error::Output { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn the_result_is_an_ordinary_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (out, plain) = (folder.path().join("m"), folder.path().join("plain"));
    converted(&stranger(&model(&narrow())), &narrow(), &out, TargetDtype::Source).unwrap();
    std::fs::write(&plain, "").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&out), mode(&plain));
}

fn folder_entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
