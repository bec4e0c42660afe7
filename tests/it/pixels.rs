//! Pictures of every format: the same colours give the same results, padding is nobody's, a batch is its frames, what cannot be a
//! picture is refused; and the colours that ffmpeg sees in the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use lseg_fast::{
    Alpha, DeviceChoice, Engine, Error, Format, Image, Options, Output, Plane, PlaneSize, Result, Results,
    Segmentation, Wanted,
};
use serde_json::Value;
use testing::gpu::found;

const COLOURS: [[u8; 3]; 3] = [[9, 200, 30], [0, 0, 255], [120, 7, 90]];
/// (width, height)
const SIZES: [(usize, usize); 4] = [(37, 23), (1, 1), (2, 9), (64, 32)];
/// Each name, and the other meanings of luma and chroma.
const FORMATS: [&str; 13] = [
    "rgb8",
    "bgr8",
    "rgba8",
    "bgra8",
    "mono8",
    "nv12",
    "nv12:full",
    "nv12:bt709",
    "yuyv",
    "yuyv:full",
    "yuyv:bt709:full",
    "rgb_f32",
    "rgb_f16",
];

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn engine(device: DeviceChoice) -> Result<Engine> {
    let options = Options { device, threads: Some(2), ..Options::default() };
    let mut engine = Engine::load(&golden("vit16/model.ckpt"), &options)?;
    engine.set_size("32x32".parse()?);
    engine.set_labels(&["cat", "sky", "other"])?;
    Ok(engine)
}

/// On the CPU, and on a GPU where there is one.
fn engines() -> Vec<Engine> {
    let cpu = engine(DeviceChoice::Cpu).unwrap();
    [cpu].into_iter().chain(found(engine(DeviceChoice::Cuda(Some(0))))).collect()
}

/// Bytes of no pattern.
fn bytes(count: usize, seed: usize) -> Vec<u8> {
    let mut state = seed as u64 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn floats(values: impl Iterator<Item = f32>) -> Vec<u8> {
    values.flat_map(f32::to_le_bytes).collect()
}

fn halves(values: impl Iterator<Item = f32>) -> Vec<u8> {
    values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect()
}

/// Any picture, packed.
fn picture(format: Format, (width, height): (usize, usize), seed: usize) -> Vec<u8> {
    let count = format.bytes(width, height).unwrap();
    let numbers = || bytes(3 * width * height, seed).into_iter().map(|byte| f32::from(byte) / 255.0);
    match format {
        Format::RgbF32 => floats(numbers()),
        Format::RgbF16 => halves(numbers()),
        _ => bytes(count, seed),
    }
}

/// Everything of a frame, as bits.
#[derive(Debug, PartialEq)]
struct Bits {
    mask: Vec<u16>,
    overlay: Vec<u8>,
    embedding: Vec<u32>,
}

fn bits(engine: &mut Engine, image: &Image<'_>) -> Bits {
    let wanted = Wanted::MASK.and(Output::Embedding).overlay(&COLOURS, Alpha::default());
    let mut results = engine.run(&[*image], wanted).unwrap();
    let embedding = results.take_values(Output::Embedding).into_iter().map(f32::to_bits).collect();
    Bits { mask: results.take_masks(), overlay: results.take_overlays(), embedding }
}

/// The picture's own colours, as bytes: an overlay of no weight.
fn colours(engine: &mut Engine, image: &Image<'_>) -> Vec<u8> {
    let wanted = Wanted::MASK.overlay(&COLOURS, Alpha::new(0.0).unwrap());
    engine.run(&[*image], wanted).unwrap().take_overlays()
}

fn embedding(engine: &mut Engine, image: &Image<'_>) -> Vec<f32> {
    engine.run(&[*image], Wanted::of(&[Output::Embedding])).unwrap().take_values(Output::Embedding)
}

/// The largest difference, in parts of the largest value.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = a.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    a.iter().zip(b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

/// The same colours in another format.
fn as_format(format: Format, size: (usize, usize), rgb: &[u8]) -> Vec<u8> {
    let pixels = || rgb.chunks_exact(3);
    let planes = || (0..3).flat_map(|c| pixels().map(move |pixel| f32::from(pixel[c]) / 255.0));
    match format {
        Format::Rgb8 => rgb.to_vec(),
        Format::Bgr8 => pixels().flat_map(|p| [p[2], p[1], p[0]]).collect(),
        // The fourth byte is anything.
        Format::Rgba8 => pixels().flat_map(|p| [p[0], p[1], p[2], p[1] ^ 0x5a]).collect(),
        Format::Bgra8 => pixels().flat_map(|p| [p[2], p[1], p[0], p[1] ^ 0x5a]).collect(),
        Format::RgbF32 => floats(planes()),
        Format::RgbF16 => halves(planes()),
        Format::Mono8 => pixels().map(|p| p[1]).collect(),
        Format::Nv12(_) => {
            let mut all: Vec<u8> = pixels().map(|p| p[1]).collect();
            all.resize(format.bytes(size.0, size.1).unwrap(), 128);
            all
        }
        Format::Yuyv(_) => {
            let mut all = vec![128; format.bytes(size.0, size.1).unwrap()];
            let row = 4 * size.0.div_ceil(2);
            pixels().enumerate().for_each(|(i, p)| all[i / size.0 * row + i % size.0 * 2] = p[1]);
            all
        }
    }
}

#[test]
fn the_same_colours_give_the_same_bits() {
    for engine in &mut engines() {
        for size in SIZES {
            let (width, height) = size;
            let coloured = bytes(3 * width * height, width);
            let grey: Vec<u8> = coloured.chunks_exact(3).flat_map(|pixel| [pixel[1]; 3]).collect();
            let in_colour = ["bgr8", "rgba8", "bgra8"].map(|name| (name, &coloured));
            let of_grey =
                ["mono8", "nv12:full", "nv12:bt709:full", "yuyv:full", "yuyv:bt709:full"].map(|name| (name, &grey));
            for (name, rgb) in in_colour.into_iter().chain(of_grey) {
                let format = name.parse().unwrap();
                let expected = bits(engine, &Image::rgb8(width, height, rgb));
                let other = as_format(format, size, rgb);
                let got = bits(engine, &Image::packed(format, width, height, &other));
                assert!(got == expected, "{name}, {width}×{height}, on {}", engine.device());
            }
            for format in [Format::RgbF32, Format::RgbF16] {
                let expected = embedding(engine, &Image::rgb8(width, height, &coloured));
                let other = as_format(format, size, &coloured);
                let image = Image::packed(format, width, height, &other);
                let off = difference(&expected, &embedding(engine, &image));
                // The CPU makes the same float32 of a byte.
                let is_exact = format == Format::RgbF32 && engine.device().starts_with("cpu");
                let most = if is_exact { 0.0 } else { 0.01 };
                assert!(off <= most, "{format}, {width}×{height}, on {}: {off}", engine.device());
                assert_eq!(colours(engine, &image), coloured, "{format} on {}", engine.device());
            }
        }
    }
}

/// The picture with rows that are `more` bytes longer, of that value, but for the last.
fn padded(sizes: &[PlaneSize], packed: &[u8], more: usize, poison: u8) -> Vec<(Vec<u8>, usize)> {
    let mut rest = packed;
    let plane = |size: &PlaneSize| {
        let (rows, after) = rest.split_at(size.row * size.rows);
        rest = after;
        let padding = vec![poison; more];
        (rows.chunks_exact(size.row).collect::<Vec<_>>().join(&padding[..]), size.row + more)
    };
    sizes.iter().filter(|size| size.rows > 0).map(plane).collect()
}

#[test]
fn padding_is_nobodys() {
    for engine in &mut engines() {
        // Each takes a second on the virtual GPU.
        let sizes = if engine.device().starts_with("cpu") { &SIZES[..] } else { &SIZES[..1] };
        for (format, (width, height)) in FORMATS.iter().flat_map(|name| sizes.iter().map(move |size| (name, *size))) {
            let format: Format = format.parse().unwrap();
            let packed = picture(format, (width, height), 3);
            let expected = bits(engine, &Image::packed(format, width, height, &packed));
            for (more, poison) in [(0, 0), (1, 0x00), (1, 0xff), (27, 0xff)] {
                let planes = padded(&format.planes(width, height).unwrap(), &packed, more, poison);
                let planes: Vec<Plane<'_>> =
                    planes.iter().map(|(bytes, pitch)| Plane { bytes, pitch: *pitch }).collect();
                let image = Image::of_planes(format, width, height, &planes);
                let what =
                    format!("{format}, {width}×{height}, {more} bytes of {poison} a row, on {}", engine.device());
                assert!(bits(engine, &image) == expected, "{what}");
                let mut copy = vec![0; packed.len()];
                image.copy_into(&mut copy).unwrap();
                assert!(copy == packed, "{what}");
            }
        }
    }
}

#[test]
fn a_batch_is_its_frames() {
    let (width, height) = SIZES[0];
    for engine in &mut engines() {
        for format in FORMATS.map(|name| name.parse::<Format>().unwrap()) {
            let packed = [0, 1, 2].map(|seed| picture(format, (width, height), seed));
            let planes = padded(&format.planes(width, height).unwrap(), &packed[1], 5, 0xff);
            let planes: Vec<Plane<'_>> = planes.iter().map(|(bytes, pitch)| Plane { bytes, pitch: *pitch }).collect();
            let of = |i: usize| Image::packed(format, width, height, &packed[i]);
            let batch = [of(0), Image::of_planes(format, width, height, &planes), of(2)];
            let wanted = Wanted::of(&[Output::Embedding]).overlay(&COLOURS, Alpha::new(0.0).unwrap());
            let results = engine.run(&batch, wanted).unwrap();
            let mut embeddings = Vec::new();
            for (i, image) in batch.iter().enumerate() {
                assert_eq!(results.overlay(i).unwrap(), colours(engine, image), "{format} on {}", engine.device());
                let alone = embedding(engine, image);
                let off = difference(&alone, results.values(Output::Embedding, i).unwrap());
                assert!(off < 0.01, "{format}, frame {i}, on {}: {off}", engine.device());
                embeddings.push(alone);
            }
            let apart = difference(&embeddings[0], &embeddings[1]).min(difference(&embeddings[1], &embeddings[2]));
            assert!(apart > 0.05, "{format}: frames that are told apart by {apart}");
        }
    }
}

#[test]
fn a_frame_buffer_takes_every_format() {
    let (width, height) = SIZES[0];
    for engine in &mut engines() {
        for format in FORMATS.map(|name| name.parse::<Format>().unwrap()) {
            let packed = picture(format, (width, height), 5);
            let expected = engine.segment(&Image::packed(format, width, height, &packed)).unwrap();
            let buffer = engine.frame_buffer(format, width, height).unwrap();
            assert_eq!(buffer.len(), format.bytes(width, height).unwrap(), "{format}");
            buffer.copy_from_slice(&packed);
            let mut got = Segmentation::default();
            engine.segment_buffered(&mut got).unwrap();
            assert!(got == expected, "{format} on {}", engine.device());
        }
    }
}

/// A picture, and what ffmpeg makes RGB of it.
struct Converted {
    format: Format,
    picture: Vec<u8>,
    rgb: Vec<u8>,
}

/// The cases of tests/golden/formats/, and their width and height.
fn ffmpegs() -> (usize, usize, Vec<Converted>) {
    let read = |name: &str| fs::read(golden("formats").join(name)).unwrap();
    let about: Value = serde_json::from_slice(&read("cases.json")).unwrap();
    let number = |name: &str| about[name].as_u64().unwrap() as usize;
    let case = |case: &Value| {
        let text = |name: &str| case[name].as_str().unwrap();
        let format = text("format").parse().unwrap();
        Converted { format, picture: read(text("picture")), rgb: read(text("rgb")) }
    };
    (number("width"), number("height"), about["cases"].as_array().unwrap().iter().map(case).collect())
}

/// Within a level of 255; with another matrix or range, nowhere near.
#[test]
fn colours_are_ffmpegs() {
    let (width, height, cases) = ffmpegs();
    assert_eq!(cases.len(), 4 + 2 * 4);
    for engine in &mut engines() {
        for Converted { format, picture, rgb } in &cases {
            let mut off = |format: Format| {
                let got = colours(engine, &Image::packed(format, width, height, picture));
                assert_eq!(got.len(), rgb.len());
                got.iter().zip(rgb).filter(|(a, b)| a.abs_diff(**b) > 1).count()
            };
            assert_eq!(off(*format), 0, "{format}");
            let Some(yuv) = format.yuv() else { continue };
            let name = format.name();
            let others =
                ["", ":full", ":bt709", ":bt709:full"].map(|of| format!("{name}{of}").parse::<Format>().unwrap());
            for other in others.into_iter().filter(|other| other.yuv() != Some(yuv)) {
                let wrong = off(other);
                assert!(wrong > rgb.len() / 4, "{format} as {other}: {wrong} of {} colours are off", rgb.len());
            }
        }
    }
}

/// What lies outside of 0–1 is taken as it is, and tinted as the nearest; what is no number has no result.
#[test]
fn numbers_beyond_white_and_black() {
    let (width, height) = (32, 32);
    let of = |value: f32| floats(std::iter::repeat_n(value, 3 * width * height));
    for engine in &mut engines() {
        let mut embed = |value: f32| {
            let bytes = of(value);
            embedding(engine, &Image::packed(Format::RgbF32, width, height, &bytes))
        };
        let (white, brighter) = (embed(1.0), embed(1.5));
        assert!(difference(&white, &brighter) > 0.01);
        for (value, byte) in [(1.5, 255), (-0.5, 0), (0.5, 128)] {
            let bytes = of(value);
            let image = Image::packed(Format::RgbF32, width, height, &bytes);
            assert!(colours(engine, &image).iter().all(|colour| *colour == byte), "{value}");
        }
        for value in [f32::NAN, f32::INFINITY] {
            let bytes = of(value);
            let error = engine.segment(&Image::packed(Format::RgbF32, width, height, &bytes)).unwrap_err();
            assert!(matches!(error, Error::NotFinite(_)), "{error}");
        }
    }
}

/// Why a frame is refused: a line without a full stop.
fn refusal(result: Result<Results>) -> String {
    let error = result.expect_err("it is no picture");
    assert!(matches!(error, Error::Size(_)), "{error:?}");
    let message = error.to_string();
    assert!(!message.contains('\n') && !message.ends_with('.'), "{message}");
    message
}

#[test]
fn what_is_no_picture_is_refused() {
    static SOME: [u8; 4096] = [0; 4096];
    let (nv12, float) = (Format::Nv12(Default::default()), Format::RgbF32);
    let huge = usize::MAX;
    let packed = |format, width, height, bytes: usize| Image::packed(format, width, height, &SOME[..bytes]);
    let of = |format, width, height, planes: &[Plane<'static>]| Image::of_planes(format, width, height, planes);
    let part = |bytes: usize, pitch: usize| Plane { bytes: &SOME[..bytes], pitch };
    let refused = [
        (packed(Format::Rgb8, 4, 2, 23), "a frame of 4×2 with 23 bytes: expected 24 of rgb8 without padding"),
        (packed(Format::Bgra8, 4, 2, 33), "a frame of 4×2 with 33 bytes: expected 32 of bgra8 without padding"),
        (packed(nv12, 5, 3, 15), "a frame of 5×3 with 15 bytes: expected 27 of nv12 without padding"),
        (packed(float, 1, 1, 0), "a frame of 1×1 with 0 bytes: expected 12 of rgb_f32 without padding"),
        (packed(Format::Rgb8, 0, 2, 0), "a frame of 0×2 has no pixels: at least one is needed"),
        (packed(nv12, 2, 0, 0), "a frame of 2×0 has no pixels: at least one is needed"),
        (of(nv12, 0, 0, &[]), "a frame of 0×0 has no pixels: at least one is needed"),
        (packed(Format::Rgb8, huge, 1, 9), "is larger than memory"),
        (packed(Format::Mono8, huge / 2, 3, 9), "is larger than memory"),
        (packed(nv12, huge, huge, 9), "is larger than memory"),
        (packed(nv12, huge, 1, 9), "is larger than memory"),
        (packed(Format::Yuyv(Default::default()), huge, 1, 9), "is larger than memory"),
        (packed(float, huge / 8, 1, 9), "is larger than memory"),
        (packed(Format::Mono8, huge, 1, 9), "with 9 bytes: expected 18446744073709551615 of mono8"),
        (of(Format::Rgb8, 4, 2, &[part(24, 11)]), "whose plane 0 has 11 bytes from row to row: a row takes 12"),
        (
            of(Format::Rgb8, 4, 2, &[part(27, 16)]),
            "whose plane 0 has 27 bytes: 2 rows of 12 bytes, 16 from one to the next, take more",
        ),
        (of(Format::Rgb8, 4, 3, &[part(99, huge)]), "whose plane 0 has 99 bytes: 3 rows of 12 bytes"),
        (
            of(nv12, 5, 3, &[part(15, 5), part(11, 6)]),
            "whose plane 1 has 11 bytes: 2 rows of 6 bytes, 6 from one to the next, take more",
        ),
        (of(nv12, 5, 3, &[part(15, 5), part(12, 5)]), "whose plane 1 has 5 bytes from row to row: a row takes 6"),
        (of(nv12, 5, 3, &[part(99, 5)]), "with 1 plane: nv12 has 2"),
        (of(Format::Rgb8, 4, 2, &[]), "with 0 planes: rgb8 has 1"),
        (of(float, 1, 1, &[part(4, 4); 2]), "with 2 planes: rgb_f32 has 3"),
        (of(float, 1, 1, &[part(4, 4); 7]), "with 7 planes: rgb_f32 has 3"),
    ];
    for engine in &mut engines() {
        for (image, why) in &refused {
            let message = refusal(engine.run(&[*image], Wanted::MASK));
            assert!(message.contains(why), "{message}\nnot {why}");
            assert_eq!(image.copy_into(&mut [0; 24]).unwrap_err().to_string(), message);
        }
        let good = [packed(Format::Rgb8, 4, 2, 24), packed(Format::Bgr8, 4, 2, 24)];
        let message = refusal(engine.run(&good, Wanted::MASK));
        assert!(message.contains("bgr8") && message.contains("rgb8"), "{message}");
        engine.run(&good[..1], Wanted::MASK).unwrap();
        for (format, width, height) in [(nv12, huge, huge), (nv12, 0, 4), (float, 1 << 62, 2), (Format::Rgb8, 1, 0)] {
            let message = refusal(engine.frame_buffer(format, width, height).map(|_| Results::default()));
            assert!(message.contains("at least one pixel"), "{message}");
        }
    }
    let message = packed(Format::Rgb8, 4, 2, 24).copy_into(&mut [0; 23]).unwrap_err().to_string();
    assert_eq!(message, "room for 23 bytes: a frame of 24 is copied there");
}
