//! What is done with each kind of a stranger's file. The fuzz targets (fuzz/) and tests/it/regressions.rs share these
//! entries: what the one finds, the other keeps. Every input must end in a result or in an error that can be shown.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use lseg_fast::checkpoint::{Checkpoint, Dtype, TensorInfo};
use lseg_fast::eval::ids::{self, Limits};
use lseg_fast::eval::map;
use lseg_fast::eval::truth::Label;
use lseg_fast::image::decode;
use lseg_fast::image::overlay::overlay;
use lseg_fast::image::palette::Palette;
use lseg_fast::model::config::{Config, METADATA_KEY};
use lseg_fast::model::detect::{HeadBlockOverride, detect};
use lseg_fast::model::required;
use lseg_fast::points::Points;
use lseg_fast::tokenizer::Tokenizer;
use lseg_fast::{DeviceChoice, Engine, Image, Options, Output, Size, Wanted, labels};
use torch_file::limits::{MAX_OBJECTS, MAX_REPEATED_BYTES, MAX_SHARING};

use crate::stranger::{LARGEST_TENSOR, MOST_ELEMENTS, around, shown};

/// Bytes of a safetensors file of which only the header is given. The file is sparse.
const LARGEST_DATA: u64 = 1 << 30;

/// What an engine may hold, and bytes of weights that are written out for one: those of a larger model are a sparse file's
/// zeros, and such a model is refused for its size.
const ENGINE_MEMORY: u64 = 64 << 20;
const WRITTEN_WEIGHTS: usize = 4 << 20;

thread_local! {
    static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a folder for the inputs");
}

/// A file with these bytes in it, then zeros up to `len`. The next call replaces it.
fn file(bytes: &[u8], len: u64) -> PathBuf {
    let path = FOLDER.with(|folder| folder.path().join("input"));
    let mut file = File::create(&path).expect("a file");
    file.write_all(bytes).expect("room");
    file.set_len(len).expect("room");
    path
}

fn written(bytes: &[u8]) -> PathBuf {
    file(bytes, bytes.len() as u64)
}

/// A whole file: PyTorch's zip, the format before it, or safetensors.
pub fn checkpoint(bytes: &[u8]) {
    use_checkpoint(&written(bytes));
}

/// The objects (`data.pkl`) of a PyTorch zip that is right in all else.
pub fn pickle(bytes: &[u8]) {
    use_checkpoint(&written(&around(bytes)));
}

/// A safetensors header, our configuration in it or not; its tensors are zeros.
pub fn config(header: &[u8]) {
    let described = serde_json::from_slice::<safetensors::tensor::Metadata>(header).map_or(0, |m| m.data_len() as u64);
    let bytes = [&(header.len() as u64).to_le_bytes(), header].concat();
    let len = bytes.len() as u64 + described.min(LARGEST_DATA);
    use_checkpoint(&file(&bytes, len));
}

/// A file of labels, on to the token ids.
pub fn labels(bytes: &[u8]) {
    static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::new(49_408, 77).expect("CLIP's own sizes"));
    if let Ok(typed) = std::str::from_utf8(bytes) {
        shown(labels::parse(typed.trim_start_matches('@')));
    }
    let Some(labels) = shown(labels::parse(&format!("@{}", written(bytes).display()))) else { return };
    assert!(labels.len() > 0 && labels.texts().all(|label| !label.is_empty()));
    for label in labels.texts() {
        if let Some(ids) = shown(TOKENIZER.encode(label)) {
            assert!((2..=77).contains(&ids.len()) && ids.iter().all(|&id| id < 49_408));
        }
    }
}

/// A file of points, on to the check against a photo's size.
pub fn points(bytes: &[u8]) {
    let Some(points) = shown(Points::read(&written(bytes))) else { return };
    assert!(!points.values().is_empty() && points.values().iter().flatten().all(|value| value.is_finite()));
    if shown(points.check(480, 640)).is_some() {
        assert!(points.values().iter().all(|[x, y]| (-0.5..=639.5).contains(x) && (-0.5..=479.5).contains(y)));
    }
}

/// A file of colours, on to the colours of more labels than it has.
pub fn palette(bytes: &[u8]) {
    let Some(palette) = shown(Palette::parse(&written(bytes).display().to_string())) else { return };
    let colours = palette.colours(300);
    assert!(colours.len() == 300 && palette.made_up(300) < 300);
    let made_up = &colours[300 - palette.made_up(300)..];
    assert!(made_up.iter().all(|colour| colours.iter().filter(|other| *other == colour).count() == 1));
}

/// Labels, one a line, drawn beside a photo.
pub fn legend(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let labels: Vec<String> = text.lines().map(str::to_owned).collect();
    let photo = decode::Photo { width: 64, height: 48, rgb: vec![0; 3 * 64 * 48] };
    let (colours, shares) = (vec![[200, 0, 0]; labels.len()], vec![0.5; labels.len()]);
    let picture = overlay(&photo, &labels, &colours, &shares).expect("parts that match");
    assert_eq!(picture.rgb.len(), 3 * picture.width * picture.height);
}

/// A photo of at most 65,536 pixels.
pub fn photo(bytes: &[u8]) {
    let Some(photo) = shown(decode::decode(&written(bytes), 1 << 16)) else { return };
    assert!((1..=1 << 16).contains(&(photo.width * photo.height)));
    assert_eq!(photo.rgb.len(), 3 * photo.width * photo.height);
}

/// A mask of ids of at most 65,536 pixels.
pub fn mask(bytes: &[u8]) {
    let limits = Limits { max_pixels: 1 << 16, ask: &|_| Ok(()) };
    let Some(mask) = shown(ids::read(&written(bytes), limits)) else { return };
    assert!(mask.width * mask.height <= 1 << 16 && mask.values.len() == mask.width * mask.height);
}

/// A file that says which value of a mask has which label.
pub fn map(bytes: &[u8]) {
    let words = ["road", "tall grass", "other"].map(str::to_owned);
    let Some(map) = shown(map::read(&written(bytes), &words)) else { return };
    assert!(map.values().all(|label| matches!(label, Label::Is(0..3))));
}

/// A data set's list of photos as a pickle.
pub fn split(bytes: &[u8]) {
    let Some(lists) = shown(torch_file::lists::read(bytes)) else { return };
    assert!(lists.values().map(Vec::len).sum::<usize>() <= MAX_OBJECTS);
}

/// A model in our own form, through loading, labels and a frame: the configuration's JSON, a NUL, a byte that chooses the
/// weights' type, and the values that they repeat. What comes out is finite, or an error says that it is not.
pub fn engine(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|&b| b == 0) else { return };
    let Ok(json) = std::str::from_utf8(&bytes[..end]) else { return };
    let Ok(config) = Config::from_json(json) else { return };
    let (dtype, values) = values(&bytes[end + 1..]);
    let Some((file_bytes, len)) = model(&config, json, dtype, &values) else { return };
    let path = file(&file_bytes, len);
    let options =
        Options { device: DeviceChoice::Cpu, threads: Some(1), memory: Some(ENGINE_MEMORY), ..Options::default() };
    let Some(mut engine) = shown(Engine::load(&path, &options)) else { return };
    assert!(len <= ENGINE_MEMORY, "{len} bytes of weights in {ENGINE_MEMORY}");
    engine.set_size(Size::Exact { height: 32, width: 32 });
    let rgb: Vec<u8> = (0..32 * 32 * 3).map(|i| (i * 7919 % 251) as u8).collect();
    let frame = Image::rgb8(32, 32, &rgb);
    if let Some(map) = shown(engine.embed(&frame)) {
        assert!(map.data.iter().all(|value| value.is_finite()), "an embedding that is no number");
    }
    if shown(engine.set_labels(&["dog", "tree", "other"])).is_none() {
        return;
    }
    assert!(engine.label_embeddings().iter().all(|value| value.is_finite()), "a label that is no number");
    let wanted = Wanted::of(&[Output::Scores, Output::Best]);
    let Some(results) = shown(engine.run(&[frame], wanted)) else { return };
    assert!(results.mask(0).expect("the best scores are the mask's").iter().all(|&label| label < 3));
    let best = results.values(Output::Best, 0).expect("it was asked for");
    assert!(best.iter().all(|value| value.is_finite()), "a winner that is no number");
}

/// The type and the repeated values of a model's weights. Without the first byte's high bit every value is small.
fn values(bytes: &[u8]) -> (Dtype, Vec<u8>) {
    let (kind, bytes) = bytes.split_first().map_or((0, bytes), |(&kind, bytes)| (kind, bytes));
    let small = |b: &u8| f32::from(*b as i8) / 64.0;
    let (dtype, mut values): (_, Vec<u8>) = match kind % 3 {
        0 => (Dtype::F32, bytes.iter().flat_map(|b| small(b).to_le_bytes()).collect()),
        1 => (Dtype::F16, bytes.iter().flat_map(|b| half::f16::from_f32(small(b)).to_le_bytes()).collect()),
        _ => (Dtype::F64, bytes.iter().flat_map(|b| f64::from(small(b)).to_le_bytes()).collect()),
    };
    if kind & 0x80 != 0 {
        values = bytes.to_vec();
    }
    values.truncate(values.len() / 8 * 8);
    if values.is_empty() {
        values = vec![0; 8];
    }
    (dtype, values)
}

/// A safetensors file's bytes and its length: that of a large model is zeros behind its header.
fn model(config: &Config, json: &str, dtype: Dtype, values: &[u8]) -> Option<(Vec<u8>, u64)> {
    let mut at = 0usize;
    let mut tensors = Vec::new();
    for spec in required(config) {
        let count = spec.shape.iter().try_fold(dtype.bitsize() / 8, |n, &d| n.checked_mul(d))?;
        let end = at.checked_add(count).filter(|&end| end as u64 <= LARGEST_DATA)?;
        let info = safetensors::tensor::TensorInfo { dtype, shape: spec.shape, data_offsets: (at, end) };
        tensors.push((spec.name, info));
        at = end;
    }
    let metadata = Some([(METADATA_KEY.to_owned(), json.to_owned())].into());
    let header = safetensors::tensor::Metadata::new(metadata, tensors).ok()?;
    let header = serde_json::to_vec(&header).expect("strings and numbers");
    let mut bytes = [&(header.len() as u64).to_le_bytes(), header.as_slice()].concat();
    let len = bytes.len() + at;
    if at <= WRITTEN_WEIGHTS {
        bytes.extend(values.iter().cycle().take(at));
    }
    Some((bytes, len as u64))
}

fn use_checkpoint(path: &Path) {
    let Some(checkpoint) = shown(Checkpoint::open(path)) else { return };
    let bytes = std::fs::metadata(path).expect("the file").len();
    let described: u64 = checkpoint.names().filter_map(|name| checkpoint.info(name)).map(TensorInfo::bytes).sum();
    assert!(described <= MAX_SHARING * bytes + MAX_REPEATED_BYTES, "{bytes} bytes pass for {described}");
    let (mut raw, mut floats, mut read) = (Vec::new(), Vec::new(), 0);
    for name in checkpoint.names() {
        let info = checkpoint.info(name).expect("a name from the list");
        let count = info.count();
        if count > LARGEST_TENSOR || read + count > MOST_ELEMENTS {
            continue;
        }
        read += count;
        if shown(checkpoint.read_raw(name, &mut raw)).is_some() {
            assert_eq!(raw.len() as u64, info.bytes());
        }
        if shown(checkpoint.read_f32(name, &info.shape, &mut floats)).is_some() {
            assert_eq!(floats.len(), count);
        }
    }
    let Some(config) = shown(detect(&checkpoint, &HeadBlockOverride::default())) else { return };
    let json = config.to_json().expect("a configuration that was accepted");
    assert_eq!(Config::from_json(&json).expect("what was just written"), config);
    if let Some(size) = shown(config.default_size.parse::<Size>()) {
        shown(size.network_size(480, 640));
    }
}
