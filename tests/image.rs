//! Photos of every kind through the public decoder.

use std::fs;
use std::io::{Cursor, Seek, Write};
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba, RgbaImage};
use lseg_fast::Error;
use lseg_fast::image::decode::{DEFAULT_MAX_PIXELS, Photo, decode};

/// A photo file in a folder that goes when the value goes.
struct PhotoFile {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl PhotoFile {
    fn new(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("photo");
        fs::write(&path, bytes).unwrap();
        PhotoFile { _folder: folder, path }
    }

    fn decode(&self) -> lseg_fast::Result<Photo> {
        decode(&self.path, DEFAULT_MAX_PIXELS)
    }
}

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn decoded(bytes: &[u8]) -> Photo {
    PhotoFile::new(bytes).decode().unwrap()
}

/// Why the photo is refused.
fn refusal(bytes: &[u8]) -> String {
    match PhotoFile::new(bytes).decode() {
        Err(Error::Photo { reason, .. }) => reason,
        other => panic!("expected Error::Photo, got {other:?}"),
    }
}

const RED: [u8; 3] = [220, 20, 20];
const GREEN: [u8; 3] = [20, 200, 20];
const BLUE: [u8; 3] = [20, 20, 220];
const YELLOW: [u8; 3] = [220, 220, 20];

/// 64 wide, 32 high, a colour in each quarter: red and green above, blue and yellow below.
fn quarters() -> image::RgbImage {
    ImageBuffer::from_fn(64, 32, |x, y| {
        Rgb(match (x < 32, y < 16) {
            (true, true) => RED,
            (false, true) => GREEN,
            (true, false) => BLUE,
            (false, false) => YELLOW,
        })
    })
}

/// A noisy picture, so that damage meets coded data everywhere.
fn noise(width: u32, height: u32) -> image::RgbImage {
    let mut state = 7_u32;
    ImageBuffer::from_fn(width, height, |_, _| {
        Rgb(std::array::from_fn(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        }))
    })
}

/// A TIFF header with the one entry that tells the orientation, as EXIF has it.
fn exif(orientation: u8) -> Vec<u8> {
    let mut bytes = b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    bytes.extend([orientation, 0, 0, 0, 0, 0, 0]);
    bytes
}

fn jpeg_with_orientation(orientation: u8) -> Vec<u8> {
    let mut segment = b"Exif\0\0".to_vec();
    segment.extend(exif(orientation));
    let mut jpeg = encoded(quarters(), ImageFormat::Jpeg);
    let mut marker = vec![0xFF, 0xE1];
    marker.extend((segment.len() as u16 + 2).to_be_bytes());
    marker.extend(segment);
    jpeg.splice(2..2, marker);
    jpeg
}

fn png_with_orientation(orientation: u8) -> Vec<u8> {
    let picture = quarters();
    let mut bytes = Vec::new();
    let mut info = png::Info::with_size(64, 32);
    info.color_type = png::ColorType::Rgb;
    info.exif_metadata = Some(exif(orientation).into());
    let encoder = png::Encoder::with_info(&mut bytes, info).unwrap();
    encoder.write_header().unwrap().write_image_data(&picture).unwrap();
    bytes
}

/// The colours at the centres of the four quarters: above left, above right, below left, below right.
fn corners(photo: &Photo) -> [[u8; 3]; 4] {
    let at = |x: usize, y: usize| {
        let start = 3 * (y * photo.width + x);
        [photo.rgb[start], photo.rgb[start + 1], photo.rgb[start + 2]]
    };
    let (left, right, above, below) = (photo.width / 4, photo.width * 3 / 4, photo.height / 4, photo.height * 3 / 4);
    [at(left, above), at(right, above), at(left, below), at(right, below)]
}

#[test]
fn every_exif_orientation_is_honoured() {
    // EXIF 2.32, tag 0x0112: where the stored first row and first column lie in the picture seen.
    let seen = [
        (1, [RED, GREEN, BLUE, YELLOW]), // top, left
        (2, [GREEN, RED, YELLOW, BLUE]), // top, right
        (3, [YELLOW, BLUE, GREEN, RED]), // bottom, right
        (4, [BLUE, YELLOW, RED, GREEN]), // bottom, left
        (5, [RED, BLUE, GREEN, YELLOW]), // left, top
        (6, [BLUE, RED, YELLOW, GREEN]), // right, top
        (7, [YELLOW, GREEN, BLUE, RED]), // right, bottom
        (8, [GREEN, YELLOW, RED, BLUE]), // left, bottom
        (0, [RED, GREEN, BLUE, YELLOW]), // not defined: as stored
        (9, [RED, GREEN, BLUE, YELLOW]),
    ];
    for (orientation, expected) in seen {
        for bytes in [jpeg_with_orientation(orientation), png_with_orientation(orientation)] {
            let photo = decoded(&bytes);
            let size = if (5..=8).contains(&orientation) { (32, 64) } else { (64, 32) };
            assert_eq!((photo.width, photo.height), size, "orientation {orientation}");
            for (found, expected) in corners(&photo).iter().zip(expected) {
                let off = found.iter().zip(expected).map(|(&a, b)| a.abs_diff(b)).max();
                assert!(off <= Some(12), "orientation {orientation}: {found:?} for {expected:?}");
            }
        }
    }
}

#[test]
fn lossless_formats_keep_every_pixel() {
    let picture = noise(13, 7);
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::Pnm, ImageFormat::WebP] {
        let photo = decoded(&encoded(picture.clone(), format));
        assert_eq!((photo.width, photo.height), (13, 7));
        assert_eq!(&photo.rgb, picture.as_raw(), "{format:?}");
    }
}

#[test]
fn transparency_is_composed_on_white() {
    let pixels = [[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 200, 128], [255, 0, 255, 1]];
    let picture = RgbaImage::from_raw(4, 1, pixels.concat()).unwrap();
    // c·a + 255·(1 − a), rounded.
    let expected = [[10, 20, 30], [255, 255, 255], [127, 177, 227], [255, 254, 255]].concat();
    assert_eq!(decoded(&encoded(picture, ImageFormat::Png)).rgb, expected);

    let grey = ImageBuffer::<LumaA<u8>, _>::from_raw(2, 1, vec![40, 255, 40, 0]).unwrap();
    assert_eq!(decoded(&encoded(grey, ImageFormat::Png)).rgb, [40, 40, 40, 255, 255, 255]);

    let deep = ImageBuffer::<Rgba<u16>, _>::from_raw(1, 1, vec![0, 0x6464, 0xC8C8, 0x8080]).unwrap();
    assert_eq!(decoded(&encoded(deep, ImageFormat::Png)).rgb, [127, 177, 227]);
}

#[test]
fn grey_and_deep_pixels_become_8_bit_rgb() {
    let grey = ImageBuffer::<Luma<u8>, _>::from_raw(2, 1, vec![0, 77]).unwrap();
    for format in [ImageFormat::Png, ImageFormat::Tiff, ImageFormat::Pnm] {
        assert_eq!(decoded(&encoded(grey.clone(), format)).rgb, [0, 0, 0, 77, 77, 77]);
    }
    let deep = ImageBuffer::<Luma<u16>, _>::from_raw(3, 1, vec![0xFFFF, 77 * 257, 0]).unwrap();
    assert_eq!(decoded(&encoded(deep, ImageFormat::Png)).rgb, [255, 255, 255, 77, 77, 77, 0, 0, 0]);
    let deep = ImageBuffer::<Rgb<u16>, _>::from_raw(1, 1, vec![1 << 8, 0x8000, 0xFF00]).unwrap();
    assert_eq!(decoded(&encoded(deep, ImageFormat::Png)).rgb, [1, 128, 254]);
}

#[test]
fn palettes_and_single_bits_become_rgb() {
    let encode = |colour, depth, palette: &'static [u8], transparency: Option<&'static [u8]>, data: &[u8]| {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 3, 1);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if colour == png::ColorType::Indexed {
            encoder.set_palette(palette);
        }
        if let Some(transparency) = transparency {
            encoder.set_trns(transparency);
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    };
    let palette: &[u8] = &[1, 2, 3, 40, 50, 60, 7, 8, 9];
    let indexed =
        |transparency, data: &[u8], depth| encode(png::ColorType::Indexed, depth, palette, transparency, data);
    let expected = [7, 8, 9, 1, 2, 3, 40, 50, 60];
    assert_eq!(decoded(&indexed(None, &[2, 0, 1], png::BitDepth::Eight)).rgb, expected);
    assert_eq!(decoded(&indexed(None, &[0b1000_0100], png::BitDepth::Two)).rgb, expected);
    let transparent = indexed(Some(&[255, 0]), &[2, 0, 1], png::BitDepth::Eight);
    assert_eq!(decoded(&transparent).rgb, [7, 8, 9, 1, 2, 3, 255, 255, 255]);
    let bits = encode(png::ColorType::Grayscale, png::BitDepth::One, &[], None, &[0b0110_0000]);
    assert_eq!(decoded(&bits).rgb, [0, 0, 0, 255, 255, 255, 255, 255, 255]);
}

#[test]
fn the_first_frame_of_an_animation_is_taken() {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
    for colour in [[255, 0, 0, 255], [0, 0, 255, 255]] {
        encoder.encode_frame(image::Frame::new(RgbaImage::from_pixel(5, 4, Rgba(colour)))).unwrap();
    }
    drop(encoder);
    let photo = decoded(&bytes);
    assert_eq!((photo.width, photo.height), (5, 4));
    assert_eq!(photo.rgb, [255, 0, 0].repeat(20));
}

#[test]
fn a_file_that_is_no_photo_is_refused_by_reason() {
    assert!(refusal(b"").contains("empty file"));
    assert!(refusal(b"dog,grass,other\n").contains("not a photo") && refusal(b"x").contains("JPEG, PNG"));
    assert!(refusal(b"\0\0\0\x1CftypavifXXXXXXXX").contains("AVIF photos are not read"));
    assert!(matches!(decode(Path::new("/does/not/exist.jpg"), 1), Err(Error::Io { .. })));
    assert!(matches!(decode(Path::new("/"), 1), Err(Error::Io { .. })));
}

#[test]
fn a_cut_photo_is_refused_wherever_it_ends() {
    let mut exif_inside = jpeg_with_orientation(6);
    exif_inside.extend(b"trailing bytes after the picture are allowed");
    decoded(&exif_inside);

    let tail = 12; // PNG's empty IEND chunk: with it missing the picture is still whole
    for (bytes, tail) in [
        (encoded(noise(24, 24), ImageFormat::Jpeg), 0),
        (jpeg_with_orientation(6), 0),
        (encoded(noise(24, 24), ImageFormat::Png), tail),
        (encoded(noise(24, 24), ImageFormat::Bmp), 0),
        (encoded(noise(24, 24), ImageFormat::Pnm), 0),
    ] {
        let file = PhotoFile::new(&bytes);
        file.decode().unwrap();
        // From the longest on, so that the file need only be shortened: each length near the ends, every 13th between.
        let cut = fs::File::options().write(true).open(&file.path).unwrap();
        for length in (0..bytes.len() - tail).rev() {
            if length % 13 == 0 || length < 64 || length + tail + 64 > bytes.len() {
                cut.set_len(length as u64).unwrap();
                assert!(matches!(file.decode(), Err(Error::Photo { .. })), "{length} of {} bytes", bytes.len());
            }
        }
    }
}

#[test]
fn the_size_is_checked_before_anything_is_decoded() {
    let file = PhotoFile::new(&encoded(noise(10, 10), ImageFormat::Png));
    assert!(decode(&file.path, 100).is_ok());
    let error = decode(&file.path, 99).unwrap_err().to_string();
    assert!(error.contains("10×10 is 100 pixels") && error.contains("--max-pixels"), "{error}");

    // A header that promises 1.6 billion pixels, followed by next to nothing.
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 40_000, 40_000);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Sixteen);
    encoder.write_header().unwrap().write_chunk(png::chunk::IDAT, &[0x78, 0x01]).unwrap();
    assert!(refusal(&bytes).contains("1600000000 pixels, more than the 64000000 allowed"));
}

#[test]
fn damaged_photos_are_errors_or_photos_but_never_panics() {
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let formats = [
        (ImageFormat::Jpeg, 500),
        (ImageFormat::Png, 500),
        (ImageFormat::WebP, 100),
        (ImageFormat::Bmp, 100),
        (ImageFormat::Tiff, 100),
        (ImageFormat::Gif, 100),
        (ImageFormat::Pnm, 100),
    ];
    for (format, count) in formats {
        let whole = encoded(noise(20, 20), format);
        let file = PhotoFile::new(&whole);
        let mut damaged = fs::File::options().write(true).open(&file.path).unwrap();
        let mut refused = 0;
        for _ in 0..count {
            let mut bytes = whole.clone();
            for _ in 0..1 + random(4) {
                // Headers are a small part of the file and hold most of what can go wrong.
                let at = if random(2) == 0 { random(bytes.len()) } else { random(bytes.len().min(64)) };
                bytes[at] = random(256) as u8;
            }
            // In place: writing a new file each time costs far more than decoding it.
            damaged.rewind().unwrap();
            damaged.write_all(&bytes).unwrap();
            match decode(&file.path, 1_000_000) {
                Ok(photo) => assert_eq!(photo.rgb.len(), 3 * photo.width * photo.height),
                Err(error) => {
                    assert!(matches!(error, Error::Photo { .. }), "{error}");
                    refused += 1;
                }
            }
        }
        assert!(refused > count / 10, "{format:?}: {refused} of {count} refused");
    }
}
