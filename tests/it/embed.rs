//! `embed`, `text` and templates as users call them: against plain PyTorch's values and plain bilinear resizing.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use half::f16;
use lseg_fast::bench::matmul::Matmul;
use lseg_fast::checkpoint::Checkpoint;
use lseg_fast::{DeviceChoice, Engine, Error, Image, Options, Size};
use tempfile::TempDir;

const GOLDEN: &str = "vit16";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(GOLDEN).join(name)
}

fn case() -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(golden("case.json")).unwrap()).unwrap()
}

fn labels() -> Vec<String> {
    serde_json::from_value(case()["labels"].clone()).unwrap()
}

/// Shape and values as plain PyTorch has them.
fn expected(name: &str) -> Array {
    let file = Checkpoint::open(&golden("expected_0.safetensors")).unwrap();
    let shape = file.info(name).unwrap().shape.clone();
    let mut data = Vec::new();
    file.read_f32(name, &shape, &mut data).unwrap();
    Array { shape, data }
}

#[derive(Debug, PartialEq)]
struct Array {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Array {
    fn read(path: &Path) -> Array {
        let bytes = fs::read(path).unwrap();
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let length = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let header = std::str::from_utf8(&bytes[10..length]).unwrap();
        let shape = header.split(['(', ')']).nth(1).unwrap().split(',').map(str::trim).filter(|n| !n.is_empty());
        let shape: Vec<usize> = shape.map(|n| n.parse().unwrap()).collect();
        let data: Vec<f32> = if header.contains("<f4") {
            bytes[length..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        } else {
            assert!(header.contains("<f2"), "{header}");
            bytes[length..].as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()
        };
        assert_eq!(data.len(), shape.iter().product::<usize>());
        Array { shape, data }
    }

    fn largest(&self) -> f32 {
        self.data.iter().fold(0.0, |a, b| a.max(b.abs()))
    }

    /// Every value within `tolerance`, and the same shape.
    #[track_caller]
    fn near(&self, other: &Array, tolerance: f32) {
        assert_eq!(self.shape, other.shape);
        let worst = self.data.iter().zip(&other.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= tolerance && !self.data.iter().any(|v| v.is_nan()), "off by {worst}, allowed {tolerance}");
    }

    /// The vector at pixel (y, x) of a map.
    fn vector(&self, y: usize, x: usize) -> Vec<f32> {
        let [c, h, w] = self.shape[..] else { panic!("a map expected") };
        (0..c).map(|k| self.data[(k * h + y) * w + x]).collect()
    }
}

fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

fn unit(vector: &[f32]) -> Vec<f32> {
    vector.iter().map(|v| (f64::from(*v) / length(vector)) as f32).collect()
}

/// Plain bilinear resizing in float64 of each channel, by PyTorch's two conventions.
fn resized(map: &Array, (to_h, to_w): (usize, usize), align_corners: bool) -> Array {
    let [c, h, w] = map.shape[..] else { panic!("a map expected") };
    let position = |i: usize, from: usize, to: usize| {
        let at = if align_corners {
            i as f64 * (from - 1) as f64 / (to - 1) as f64
        } else {
            ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0)
        };
        let low = (at as usize).min(from - 1);
        (low, (low + 1).min(from - 1), at - low as f64)
    };
    let mut data = Vec::with_capacity(c * to_h * to_w);
    for k in 0..c {
        let value = |y: usize, x: usize| f64::from(map.data[(k * h + y) * w + x]);
        for i in 0..to_h {
            for j in 0..to_w {
                let ((y0, y1, ty), (x0, x1, tx)) = (position(i, h, to_h), position(j, w, to_w));
                let upper = (1.0 - tx) * value(y0, x0) + tx * value(y0, x1);
                let lower = (1.0 - tx) * value(y1, x0) + tx * value(y1, x1);
                data.push(((1.0 - ty) * upper + ty * lower) as f32);
            }
        }
    }
    Array { shape: vec![c, to_h, to_w], data }
}

/// A folder with the golden photo as `a.png` and another size of it as `b.png`.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(golden("photo_0.png"), folder.path().join("a.png")).unwrap();
        let photo = image::open(golden("photo_0.png")).unwrap();
        photo.resize_exact(53, 71, image::imageops::FilterType::Triangle).save(folder.path().join("b.png")).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn call(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lseg-fast"));
        command.args(arguments).arg("--model").arg(golden("model.ckpt")).args(["--device", "cpu"]);
        command.current_dir(self.0.path()).stdin(Stdio::null()).output().unwrap()
    }

    #[track_caller]
    fn embed(&self, photo: &str, more: &[&str]) -> Array {
        let output = self.call(&[&["embed", photo], more].concat());
        assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]), "{output:?}");
        Array::read(&self.path("out").join(photo.replace(".png", ".embed.npy")))
    }

    #[track_caller]
    fn text(&self, more: &[&str]) -> Array {
        let labels = labels().join(",");
        let output = self.call(&[&["text", "--labels", &labels, "--out", "new/x.npy"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        Array::read(&self.path("new/x.npy"))
    }
}

#[track_caller]
fn refused(output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(words.iter().all(|word| stderr.contains(word)) && !stderr.contains("panicked"), "{stderr}");
}

#[test]
fn half_is_pytorchs_head1() {
    let (map, expected) = (Folder::new().embed("a.png", &["--size", "native"]), expected("head1"));
    let step = case()["channel_step"]["head1"].as_u64().unwrap_or(1) as usize;
    let pixels = map.shape[1] * map.shape[2];
    let kept = map.data.chunks_exact(pixels).step_by(step).flatten().copied().collect();
    let kept = Array { shape: vec![map.shape[0].div_ceil(step), map.shape[1], map.shape[2]], data: kept };
    kept.near(&expected, 1e-3 * expected.largest());
}

#[test]
fn full_and_photo_are_plain_bilinear_resizings() {
    let folder = Folder::new();
    // A photo whose size is the network's, and one that is larger in one direction and smaller in the other.
    for (photo, size, (height, width)) in [("a.png", "native", (64, 96)), ("b.png", "96x32", (71, 53))] {
        let half = folder.embed(photo, &["--size", size]);
        let tolerance = 1e-5 * half.largest();
        let full = folder.embed(photo, &["--size", size, "--at", "full"]);
        let doubled = resized(&half, (2 * half.shape[1], 2 * half.shape[2]), true);
        full.near(&doubled, tolerance);
        let at_photo = folder.embed(photo, &["--size", size, "--at", "photo"]);
        at_photo.near(&resized(&doubled, (height, width), false), tolerance);
    }
}

/// What the golden photo is at another size, as `name`.
fn put_photo(folder: &Folder, name: &str, (width, height): (u32, u32)) {
    let photo = image::open(golden("photo_0.png")).unwrap();
    photo.resize_exact(width, height, image::imageops::FilterType::Triangle).save(folder.path(name)).unwrap();
}

#[test]
fn a_photo_smaller_than_the_map_is_a_plain_bilinear_resizing() {
    let folder = Folder::new();
    for (name, size) in [("c.png", (7, 11)), ("d.png", (1, 1)), ("e.png", (3, 200))] {
        put_photo(&folder, name, size);
        let half = folder.embed(name, &["--size", "96x64"]);
        let doubled = resized(&half, (2 * half.shape[1], 2 * half.shape[2]), true);
        let at_photo = folder.embed(name, &["--size", "96x64", "--at", "photo"]);
        at_photo.near(&resized(&doubled, (size.1 as usize, size.0 as usize), false), 1e-5 * half.largest());
    }
}

/// The device makes 32 MiB at a time: here 7 channels of 64, so that the last piece has one. Only some planes are read back.
#[test]
fn channels_that_fill_no_whole_number_of_pieces_are_all_written() {
    let (folder, (width, height)) = (Folder::new(), (1201, 907));
    put_photo(&folder, "c.png", (width, height));
    let half = folder.embed("c.png", &["--size", "32x64"]);
    let [channels, h, w] = half.shape[..] else { panic!("a map expected") };
    let plane = (width * height * 4) as usize;
    let at_once = (32 << 20) / plane;
    assert!(channels > at_once && channels % at_once != 0);
    let output = folder.call(&["embed", "c.png", "--size", "32x64", "--at", "photo"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut file = fs::File::open(folder.path("out/c.embed.npy")).unwrap();
    assert_eq!(file.metadata().unwrap().len() as usize, 128 + channels * plane);
    for channel in [0, at_once - 1, at_once, channels - 2, channels - 1] {
        let mut bytes = vec![0; plane];
        file.seek(SeekFrom::Start((128 + channel * plane) as u64)).unwrap();
        file.read_exact(&mut bytes).unwrap();
        let data = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let got = Array { shape: vec![1, height as usize, width as usize], data };
        let map = Array { shape: vec![1, h, w], data: half.data[channel * h * w..][..h * w].to_vec() };
        let doubled = resized(&map, (2 * h, 2 * w), true);
        got.near(&resized(&doubled, (height as usize, width as usize), false), 1e-5 * half.largest());
    }
}

#[test]
fn standard_output_gets_the_files_bytes() {
    let folder = Folder::new();
    for at in ["half", "full", "photo"] {
        for more in [&["--dtype", "f32"][..], &["--dtype", "f16"], &["--normalize"], &["--dtype", "f16", "--normalize"]]
        {
            let how = [&["--size", "64x96", "--at", at], more].concat();
            folder.embed("b.png", &how);
            let piped = folder.call(&[&["embed", "b.png", "--out", "-"], &how[..]].concat());
            assert_eq!(piped.status.code(), Some(0), "{piped:?}");
            assert!(piped.stdout == fs::read(folder.path("out/b.embed.npy")).unwrap(), "{how:?}");
        }
    }
}

#[test]
fn points_are_the_photo_sized_map_and_between_its_pixels_bilinear() {
    let folder = Folder::new();
    // The whole grid of pixels, then between them, then beyond the outermost centres.
    let mut points: Vec<(f32, f32)> = (0..71).flat_map(|y| (0..53).map(move |x| (x as f32, y as f32))).collect();
    points.extend([(0.5, 0.0), (3.25, 7.75), (51.9, 69.1), (-0.5, 3.0), (52.5, 70.5)]);
    let lines: String = points.iter().map(|(x, y)| format!("{x},{y}\r\n")).collect();
    fs::write(folder.path("p.csv"), format!("\u{FEFF}x, y\r\n{lines}")).unwrap();
    let map = folder.embed("b.png", &["--size", "96x32", "--at", "photo"]);
    let samples = folder.embed("b.png", &["--size", "96x32", "--points", "p.csv"]);
    let channels = map.shape[0];
    let wanted = points.iter().flat_map(|(x, y)| {
        let (x, y) = (x.clamp(0.0, 52.0), y.clamp(0.0, 70.0));
        let (x0, y0, tx, ty) = (x as usize, y as usize, x.fract(), y.fract());
        let corner = |dy: usize, dx: usize| map.vector((y0 + dy).min(70), (x0 + dx).min(52));
        let (a, b, c, d) = (corner(0, 0), corner(0, 1), corner(1, 0), corner(1, 1));
        (0..channels)
            .map(|k| (1.0 - ty) * ((1.0 - tx) * a[k] + tx * b[k]) + ty * ((1.0 - tx) * c[k] + tx * d[k]))
            .collect::<Vec<_>>()
    });
    let wanted = Array { shape: vec![points.len(), channels], data: wanted.collect() };
    samples.near(&wanted, 1e-5 * map.largest());

    let half = folder.embed("b.png", &["--size", "96x32", "--points", "p.csv", "--dtype", "f16", "--normalize"]);
    assert!(half.data.chunks_exact(channels).all(|vector| (length(vector) - 1.0).abs() < 1e-3));
}

#[test]
fn normalised_vectors_have_length_one_and_keep_their_direction() {
    let folder = Folder::new();
    for at in ["half", "full", "photo"] {
        let plain = folder.embed("b.png", &["--size", "64x64", "--at", at]);
        let normal = folder.embed("b.png", &["--size", "64x64", "--at", at, "--normalize"]);
        assert_eq!(plain.shape, normal.shape);
        for (y, x) in (0..normal.shape[1]).flat_map(|y| (0..normal.shape[2]).map(move |x| (y, x))) {
            let pairs = unit(&plain.vector(y, x)).into_iter().zip(normal.vector(y, x));
            assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-5), "{at}, {y}, {x}");
        }
    }
}

#[test]
fn float16_is_the_nearest_to_float32() {
    let folder = Folder::new();
    let single = folder.embed("a.png", &["--size", "64x64", "--at", "photo"]);
    let half = folder.embed("a.png", &["--size", "64x64", "--at", "photo", "--dtype", "f16"]);
    let rounded = single.data.iter().map(|v| f16::from_f32(*v).to_f32()).collect();
    assert_eq!(half, Array { shape: single.shape, data: rounded });
}

/// The golden model as a safetensors file whose first embedding channel is shifted by `bias`.
fn shifted_model(folder: &Folder, bias: f32) -> PathBuf {
    let (out, checkpoint) = (folder.path("m.safetensors"), golden("model.ckpt"));
    let mut convert = Command::new(env!("CARGO_BIN_EXE_lseg-fast"));
    assert!(convert.arg("convert").arg(checkpoint).arg("--out").arg(&out).status().unwrap().success());
    let mut bytes = fs::read(&out).unwrap();
    let start = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    let tensor = &header["scratch.head1.bias"];
    assert_eq!(tensor["dtype"], "F32");
    let at = start + tensor["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[at..at + 4].copy_from_slice(&bias.to_le_bytes());
    fs::write(&out, bytes).unwrap();
    out
}

#[test]
fn what_float16_cannot_hold_is_named_and_not_written() {
    let folder = Folder::new();
    fs::write(folder.path("p.csv"), "x,y\n3,4\n").unwrap();
    let model = shifted_model(&folder, 1e6);
    let call = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lseg-fast"));
        command.args(["embed", "a.png", "--size", "32x32", "--device", "cpu", "--model"]).arg(&model).args(more);
        command.current_dir(folder.0.path()).stdin(Stdio::null()).output().unwrap()
    };
    for how in [&["--at", "photo"], &["--points", "p.csv"]] {
        let output = call(&[&how[..], &["--dtype", "f16"]].concat());
        refused(&output, 1, &["a.png: ", "has the value ", "65504", "--dtype f32"]);
        assert!(!folder.path("out/a.embed.npy").exists());
        for held in [&["--dtype", "f32"][..], &["--dtype", "f16", "--normalize"]] {
            assert_eq!(call(&[&how[..], held].concat()).status.code(), Some(0));
            fs::remove_file(folder.path("out/a.embed.npy")).unwrap();
        }
    }
}

#[test]
fn wrong_points_and_points_outside_are_named() {
    let folder = Folder::new();
    fs::write(folder.path("p.csv"), "x,y\n0,0\n80,5\n").unwrap();
    // a.png is 96 wide, b.png 53: one is done, the other named with the line.
    let call = ["embed", "a.png", "b.png", "--points", "p.csv", "--size", "32x32"];
    refused(&folder.call(&call), 1, &["b.png: ", "p.csv: line 3: (80, 5)", "53×71"]);
    assert_eq!(Array::read(&folder.path("out/a.embed.npy")).shape[0], 2);
    assert!(!folder.path("out/b.embed.npy").exists());

    fs::write(folder.path("wrong.csv"), "x,y\n0,zero\n").unwrap();
    refused(&folder.call(&["embed", "a.png", "--points", "wrong.csv"]), 2, &["wrong.csv: line 2", "0,zero"]);
    refused(&folder.call(&["embed", "a.png", "--points", "none.csv"]), 1, &["none.csv"]);
    refused(&folder.call(&["embed", "a.png", "--points", "p.csv", "--at", "full"]), 2, &["--at", "--points"]);
}

#[test]
fn folders_are_taken_and_a_bad_photo_does_not_stop_the_rest() {
    let folder = Folder::new();
    fs::write(folder.path("aa.jpg"), "no photo").unwrap();
    refused(&folder.call(&["embed", ".", "--size", "32x32"]), 1, &["aa.jpg: not a photo"]);
    let mut names: Vec<_> = fs::read_dir(folder.path("out")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.embed.npy", "b.embed.npy"]);
}

#[test]
fn text_is_pytorchs_normalised() {
    let (got, mut want) = (Folder::new().text(&[]), expected("text"));
    let channels = want.shape[1];
    want.data = want.data.chunks_exact(channels).flat_map(unit).collect();
    got.near(&want, 1e-4);
    assert!(got.data.chunks_exact(channels).all(|row| (length(row) - 1.0).abs() < 1e-6));
}

#[test]
fn templates_are_the_normalised_mean_of_normalised_texts() {
    let folder = Folder::new();
    let one = |template: &str| folder.text(&["--template", template]);
    let (first, second, bare) = (one("a photo of a {}"), one("{} and {}"), one("{}"));
    assert_eq!(bare, folder.text(&[]));
    let both = folder.text(&["--template", "a photo of a {}", "--template", "{} and {}"]);
    let mean: Vec<f32> = first.data.iter().zip(&second.data).map(|(a, b)| (a + b) / 2.0).collect();
    let channels = both.shape[1];
    let wanted = Array { shape: both.shape.clone(), data: mean.chunks_exact(channels).flat_map(unit).collect() };
    both.near(&wanted, 1e-6);
    // And they differ from each other, so that a template that is ignored would show.
    let apart = |a: &Array, b: &Array| a.data.iter().zip(&b.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart(&first, &bare) > 1e-2 && apart(&first, &second) > 1e-2);
    let wrong = folder.call(&["text", "--labels", "cat", "--template", "a photo", "--out", "y.npy"]);
    refused(&wrong, 2, &["\"a photo\" has no {}"]);
}

fn engine() -> Engine {
    let options = Options { device: DeviceChoice::Cpu, threads: Some(1), ..Options::default() };
    let mut engine = Engine::load(&golden("model.ckpt"), &options).unwrap();
    engine.set_size(Size::Exact { height: 32, width: 64 });
    engine
}

const RGB: [u8; 20 * 10 * 3] = [77; 20 * 10 * 3];
const FRAME: Image<'static> = Image::rgb8(20, 10, &RGB);

#[test]
fn the_scores_follow_from_embeddings_and_the_labels_in_their_templates() {
    let mut engine = engine();
    engine.set_templates(&["a {}".into(), "{} here".into()]).unwrap();
    engine.set_labels(&["cat", "wall"]).unwrap();
    let logits = engine.lane_mut().inspect(&[FRAME], &["logits"]).unwrap().remove(0).data;
    let (map, labels) = (engine.embed(&FRAME).unwrap(), engine.label_embeddings());
    for (pixel, logits) in map.data.chunks_exact(map.channels).zip(logits.chunks_exact(2)) {
        for (label, logit) in labels.chunks_exact(map.channels).zip(logits) {
            let cosine: f32 = unit(pixel).iter().zip(label).map(|(a, b)| a * b).sum();
            assert!((cosine / 0.07 - logit).abs() < 1e-3, "{} for {logit}", cosine / 0.07);
        }
    }
    assert!(matches!(engine.set_templates(&["no place".into()]), Err(Error::Template(_))));
}

#[test]
fn embeddings_need_no_labels_and_points_their_photo() {
    let mut engine = engine();
    assert!(matches!(engine.segment(&FRAME), Err(Error::Labels(_))));
    let map = engine.embed(&FRAME).unwrap();
    assert_eq!((map.height, map.width, map.data.len()), (16, 32, 16 * 32 * map.channels));
    assert!(engine.embed_at(&FRAME, &[]).unwrap().is_empty());
    for point in [[19.6, 0.0], [0.0, -0.6], [f32::NAN, 0.0]] {
        let error = engine.embed_at(&FRAME, &[[0.0, 0.0], point]).unwrap_err();
        assert!(matches!(&error, Error::Points(what) if what.contains("point 1")), "{error}");
    }
}

/// The table has one time an operation, and only where asked for.
#[test]
fn operations_are_timed_where_asked_for() {
    let mut engine = engine();
    engine.set_labels(&["cat"]).unwrap();
    engine.segment(&FRAME).unwrap();
    assert!(engine.timings().is_empty());
    let mut matmul = Matmul::new(&mut engine).unwrap();
    let rate = matmul.rate(&mut engine).unwrap();
    assert!(rate > 1e7, "{rate}");
    assert!(matmul.rate(&mut engine).unwrap() >= rate, "the fastest of both calls counts");
    engine.record_times(true);
    engine.segment(&FRAME).unwrap();
    let timings = engine.timings();
    assert_eq!(timings.last().map(|timing| timing.op.op), Some("argmax"));
    let (sum, stages): (f64, f64) = (
        timings.iter().map(|timing| timing.seconds).sum(),
        engine.stage_times().iter().map(|(_, time)| time.as_secs_f64()).sum(),
    );
    // A stage's time is cut to nanoseconds. Below, only a machine that sleeps between two operations could be in the way.
    assert!(sum <= stages + 1e-6 && sum > 0.2 * stages, "{sum} of {stages}");
    engine.record_times(false);
    engine.segment(&FRAME).unwrap();
    assert!(engine.timings().is_empty());
}
