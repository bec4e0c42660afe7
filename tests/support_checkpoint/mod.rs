//! Files for the checkpoint tests: the committed ones and ones built here byte by byte.
#![allow(dead_code)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lseg_fast::Error;
use lseg_fast::checkpoint::{Checkpoint, Dtype};
use lseg_fast::model::config::{Activation, Config, HeadBlock, HeadBlockKind, ImageEncoder, TextTower};
use lseg_fast::model::required;

/// Name, type, shape and little-endian elements.
pub type Tensor = (String, Dtype, Vec<usize>, Vec<u8>);

/// A file made by tests/golden/checkpoint_fixtures.py.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoint").join(name)
}

pub fn open(name: &str) -> Checkpoint {
    Checkpoint::open(&fixture(name)).unwrap()
}

/// Writes `bytes` into a fresh folder and opens them.
pub fn open_bytes(bytes: &[u8]) -> Result<Checkpoint, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    Checkpoint::open(&path)
}

/// The message with which these bytes are refused.
pub fn refusal(bytes: &[u8]) -> String {
    match open_bytes(bytes) {
        Ok(checkpoint) => panic!("was opened: {:?}", checkpoint.names().collect::<Vec<_>>()),
        Err(error) => error.to_string(),
    }
}

/// A pre-1.6 PyTorch file around a pickle of objects (without PROTO and STOP) and its float32 storages.
pub fn legacy(objects: &[u8], storages: &[(&str, &[f32])]) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    file.extend(b"\x80\x02M\xe9\x03.");
    file.extend(b"\x80\x02}(X\x0d\x00\x00\x00little_endian\x88u.");
    file.extend(b"\x80\x02");
    file.extend(objects);
    file.extend(b".\x80\x02](");
    for (key, _) in storages {
        file.extend(text(key));
    }
    file.extend(b"e.");
    for (_, values) in storages {
        file.extend((values.len() as u64).to_le_bytes());
        file.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    }
    file
}

/// A zip as PyTorch writes it, with a pickle of objects and float32 storages.
pub fn torch_zip(pickle: &[u8], storages: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let entries = storages.iter().map(|(key, bytes)| (format!("m/data/{key}"), bytes.as_slice()));
    for (name, bytes) in [("m/data.pkl".to_owned(), pickle)].into_iter().chain(entries) {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// BINUNICODE.
pub fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

/// The shortest opcode that holds any i64: LONG1 of 8 bytes.
pub fn int(value: i64) -> Vec<u8> {
    [b"\x8a\x08".as_slice(), &value.to_le_bytes()].concat()
}

/// The pickled call that rebuilds a tensor over a float32 storage.
pub fn tensor(key: &str, count: i64, start: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let tuple =
        |numbers: &[i64]| [b"(".to_vec(), numbers.iter().flat_map(|&n| int(n)).collect(), b"t".to_vec()].concat();
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text(key),
        text("cpu"),
        int(count),
        b"tQ".to_vec(),
        int(start),
        tuple(shape),
        tuple(strides),
        b"\x89}tR".to_vec(),
    ]
    .concat()
}

/// A pickled dict of one entry.
pub fn dict(key: &str, value: &[u8]) -> Vec<u8> {
    [b"}".to_vec(), text(key), value.to_vec(), b"s".to_vec()].concat()
}

/// A safetensors file of given tensors.
pub fn safetensors(tensors: &[Tensor], metadata: Option<(&str, String)>) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.clone(), safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let metadata = metadata.map(|(key, value)| [(key.to_owned(), value)].into());
    safetensors::serialize(views, metadata).unwrap()
}

/// All tensors of a model with small numbers in them, as float32; no variance is below 0.
pub fn model(config: &Config) -> Vec<Tensor> {
    let tensors = required(config).into_iter().enumerate().map(|(i, spec)| {
        let count: usize = spec.shape.iter().product();
        let is_variance = spec.name.ends_with(".running_var");
        let value = |j| ((i + 3 * j) % 17) as f32 * 0.125 - 1.0;
        let value = |j| if is_variance { value(j) + 1.0 } else { value(j) };
        let values = (0..count).flat_map(|j| value(j).to_le_bytes());
        (spec.name, Dtype::F32, spec.shape.clone(), values.collect())
    });
    tensors.collect()
}

/// A ResNet model of a few thousand parameters; only our own files may be so narrow.
pub fn narrow() -> Config {
    Config {
        preset: "custom".to_owned(),
        image: ImageEncoder::Resnet { stem: 2, blocks: [1, 2, 1, 1], planes: [1, 1, 2, 2] },
        reassemble: [4, 4, 8, 8],
        features: 2,
        text: TextTower { vocab: 514, context: 5, width: 4, layers: 2, heads: 2, mlp: 6 },
        embed_dim: 3,
        head_block: HeadBlock { kind: HeadBlockKind::Depthwise, depth: 2, activation: Activation::Tanh },
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        default_size: "32x64".to_owned(),
    }
}

/// A ResNet model that is told from shapes: a text tower of one head, float16 throughout.
pub fn foreign() -> (Config, Vec<Tensor>) {
    let mut config = narrow();
    config.text = TextTower { vocab: 514, context: 5, width: 64, layers: 1, heads: 1, mlp: 6 };
    config.head_block = HeadBlock::NONE;
    config.default_size = "long:480".to_owned();
    let mut tensors = model(&config);
    for (_, dtype, _, bytes) in &mut tensors {
        *dtype = Dtype::F16;
        let floats = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        *bytes = floats.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect();
    }
    (config, tensors)
}

/// A dict of these entries: keys with their values, both pickled.
pub fn dict_of(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(key, value)| [key.as_slice(), value].concat()).collect();
    [b"}(".as_slice(), &entries, b"u"].concat()
}

/// BINPUT and BINGET of memo entry `n`.
pub fn put(n: u8, value: &[u8]) -> Vec<u8> {
    [value, &[b'q', n]].concat()
}

pub fn get(n: u8) -> Vec<u8> {
    vec![b'h', n]
}

/// The time that this thread's processor takes for something: other tests beside it do not count. (Where the system does
/// not tell, the time that passes.)
pub fn cpu_time<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let (cpu, started) = (thread_time(), Instant::now());
    let result = work();
    let took = cpu.zip(thread_time()).map_or(started.elapsed(), |(before, after)| after - before);
    (result, took)
}

/// In steps of a hundredth second.
fn thread_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").ok()?;
    // The name, in parentheses, may have spaces.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(10 * ticks))
}

/// Where the bytes of each of a zip's entries lie.
pub fn zip_places(bytes: &[u8]) -> Vec<(String, std::ops::Range<usize>)> {
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let places = (0..zip.len()).map(|i| {
        let entry = zip.by_index_raw(i).unwrap();
        let start = entry.data_start().unwrap() as usize;
        (entry.name().unwrap().into_owned(), start..start + entry.size() as usize)
    });
    places.collect()
}
