//! Photos of every kind through the public decoder.
//! One file: a list of formats and their oddities, each in a few lines.

use std::fs;
use std::io::{Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba, RgbaImage};
use lseg_fast::Error;
use lseg_fast::checkpoint::Checkpoint;
use lseg_fast::image::decode::{
    DEFAULT_MAX_PIXELS, HEAD, Photo, decode, decode_asking, decode_from, is_picture, is_picture_name,
};

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
        (fs::read(photos().join("scans_each_420_restarts.jpg")).unwrap(), 0),
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

/// tests/photos/, which make.py there makes.
fn photos() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos")
}

#[test]
fn every_kind_of_photo_has_the_pixels_that_others_read_of_it() {
    let list = fs::read_to_string(photos().join("right.txt")).unwrap();
    assert!(list.lines().count() > 100);
    let mut wrong = Vec::new();
    for (name, right) in list.lines().map(|line| line.split_once(' ').unwrap()) {
        let right = image::open(photos().join(right)).unwrap().into_rgb8();
        let photo = match decode(&photos().join(name), DEFAULT_MAX_PIXELS) {
            Ok(photo) => photo,
            Err(error) => {
                wrong.push(error.to_string());
                continue;
            }
        };
        if (photo.width as u32, photo.height as u32) != right.dimensions() {
            wrong.push(format!("{name}: {}×{} for {:?}", photo.width, photo.height, right.dimensions()));
            continue;
        }
        assert_eq!(photo.rgb.len(), right.as_raw().len(), "{name}");
        let off = || photo.rgb.iter().zip(right.as_raw()).map(|(&a, &b)| a.abs_diff(b));
        let (most, mean) = (off().max().unwrap(), off().map(f64::from).sum::<f64>() / photo.rgb.len() as f64);
        // JPEG decoders round differently, at three steps of their work; all other formats at most once.
        let (most_allowed, mean_allowed) = if name.ends_with(".jpg") { (6, 0.6) } else { (1, 0.5) };
        if most > most_allowed || mean > mean_allowed {
            wrong.push(format!("{name}: off by up to {most}, {mean:.2} in the mean"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_not_read_is_named_with_a_way_out() {
    let cases = [
        ("arithmetic.jpg", "a JPEG with arithmetic coding, which is not read here; convert it"),
        ("lossless.jpg", "a JPEG of the lossless process, which is not read here; convert it"),
        ("hierarchical.jpg", "a JPEG of the hierarchical process, which is not read here; convert it"),
        ("bits_12.jpg", "a JPEG of 12 bits a channel, which is not read here; convert it"),
        ("sampled_4_2_1.jpg", "a JPEG of separate scans sampled 4×1, 2×1, 1×1, which is not read here; convert it"),
        ("cfa.tif", "a camera's raw file, which is not read here; develop it"),
        ("dng_version.tif", "a camera's raw file, which is not read here; develop it"),
        ("raw_in_sub_ifd.tif", "a camera's raw file, which is not read here; develop it"),
        ("reduced_first.tif", "first picture is a reduced one of another in it"),
        ("larger_in_sub_ifd.tif", "first picture is a reduced one of another in it"),
        ("jpeg.tif", "a TIFF of JPEG-compressed parts, which is not read here; save it as JPEG or PNG"),
        ("group3.tif", "a TIFF with CCITT group 3 compression, which is not read here; save it as PNG"),
        ("ycbcr.tif", "a TIFF of YCbCr colours, which is not read here; save it as PNG"),
        ("lab.tif", "a TIFF of L*a*b* colours, which is not read here; save it as PNG"),
        ("bands.tif", "a TIFF of 6 channels, which is not read here; save it as PNG"),
        ("negative_f4.tif", "a TIFF of 32-bit floats from -0.5 to 0.5: what is white cannot be told"),
        ("negative_f8.tif", "a TIFF of 64-bit floats from -0.5 to 0.5: what is white cannot be told"),
        ("hdr.tif", "a TIFF of 32-bit floats from 0 to 6: what is white cannot be told"),
        ("nan.tif", "and some are no numbers: what is white cannot be told"),
        ("to_4095_u4.tif", "a TIFF of 32-bit unsigned integers from 0 to 4080: what is white cannot be told"),
        ("negative_i2.tif", "a TIFF of 16-bit signed integers from -100 to 155: what is white cannot be told"),
        ("short_palette.tif", "its palette has 16 entries, 48 are expected); the file is damaged"),
    ];
    for (name, expected) in cases {
        let error = decode(&photos().join("refused").join(name), DEFAULT_MAX_PIXELS).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(error.contains("damaged"), name == "short_palette.tif", "{error}");
    }
    assert_eq!(fs::read_dir(photos().join("refused")).unwrap().count(), cases.len());
}

#[test]
fn a_few_bytes_cannot_ask_for_many_passes_over_a_jpeg() {
    let is_scan = |bytes: &[u8]| bytes == [0xFF, 0xDA];
    let again = |name: &str, times: usize| {
        let mut bytes = fs::read(photos().join(name)).unwrap();
        let starts: Vec<usize> = (0..bytes.len() - 1).filter(|&at| is_scan(&bytes[at..at + 2])).collect();
        let scan = bytes[starts[0]..starts[1]].repeat(times);
        bytes.splice(starts[1]..starts[1], scan);
        refusal(&bytes)
    };
    assert!(again("scans_each_444.jpg", 1).contains("a component is coded twice"));
    assert!(again("progressive_420.jpg", 500).contains("scans, more than 500"));
}

/// An ISO media file's first box: its main brand, the others.
fn media(brand: &str, others: &str) -> Vec<u8> {
    let size = (16 + others.len()) as u32;
    [&size.to_be_bytes(), b"ftyp", brand.as_bytes(), &[0; 4], others.as_bytes(), b"\0\0\0\x08moov"].concat()
}

fn with_at(at: usize, magic: &[u8]) -> Vec<u8> {
    [vec![0; at], magic.to_vec(), vec![0; 16]].concat()
}

#[test]
fn foreign_files_are_named_by_their_content() {
    let pictures = [
        (media("heic", "mif1heic"), "a HEIC photo"),
        (media("heix", "mif1"), "a HEIC photo"),
        (media("mif1", "mif1heic"), "a HEIC photo"),
        (media("msf1", "hevc"), "a HEIC photo"),
        (media("mif1", "miaf"), "a HEIF photo"),
        (media("mif1", "mif1avif"), "an AVIF photo"),
        (media("avif", "mif1"), "an AVIF photo"),
        (media("avis", "avif"), "an AVIF photo"),
        (media("crx ", "isom"), "a camera's raw file (CR3)"),
        (b"\xFF\x0A\xFA\x1F".to_vec(), "a JPEG XL photo"),
        (b"\0\0\0\x0CJXL \r\n\x87\n\0\0\0\x14ftypjxl ".to_vec(), "a JPEG XL photo"),
        (b"\xFF\x4F\xFF\x51\0\x29".to_vec(), "a JPEG 2000 photo"),
        (b"\0\0\0\x0CjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 ".to_vec(), "a JPEG 2000 photo"),
        (b"II\xBC\x01\x08\0\0\0".to_vec(), "a JPEG XR photo"),
        (b"FUJIFILMCCD-RAW 0201".to_vec(), "a camera's raw file (RAF)"),
        (b"IIRO\x08\0\0\0".to_vec(), "a camera's raw file (ORF)"),
        (b"IIU\0\x18\0\0\0".to_vec(), "a camera's raw file (RW2)"),
        (b"FOVb\x01\0\x02\0".to_vec(), "a camera's raw file (X3F)"),
        (b"\0MRM\0\0\0\0".to_vec(), "a camera's raw file (MRW)"),
        (b"8BPS\0\x01\0\0".to_vec(), "a PSD picture"),
        (b"\x76\x2f\x31\x01\x02\0\0\0".to_vec(), "an EXR picture"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n".to_vec(), "an HDR picture"),
        (b"\0\0\x01\0\x01\0\x10\x10".to_vec(), "an ICO picture"),
        (b"qoif\0\0\0\x10\0\0\0\x10".to_vec(), "a QOI picture"),
        (b"DDS \x7c\0\0\0".to_vec(), "a DDS picture"),
        (with_at(128, b"DICM"), "a DICOM picture"),
        (b"SIMPLE  =                    T / FITS".to_vec(), "a FITS picture"),
    ];
    for (bytes, expected) in &pictures {
        let reason = refusal(bytes);
        assert!(reason.contains(expected) && reason.contains("not read here; "), "{expected}: {reason}");
        assert!(reason.contains("JPEG or PNG"), "{reason}");
        assert!(is_picture(bytes), "{expected}");
    }
    let others = [
        (media("isom", "isomiso2avc1mp41"), "an MP4 video"),
        (media("qt  ", ""), "video"),
        (media("mp42", "mif1heic"), "video"),
        (b"RIFF\0\0\0\0AVI LIST".to_vec(), "AVI video"),
        (b"%PDF-1.7\n".to_vec(), "a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n".to_vec(), "an EPS document"),
        (b"<svg xmlns=\"http://www.w3.org/2000/svg\">".to_vec(), "an SVG drawing"),
        (b"<?xml version=\"1.0\"?>\n<svg width=\"1\">".to_vec(), "an SVG drawing"),
        (b"\x93NUMPY\x01\0v\0".to_vec(), "a NumPy array"),
        (b"PK\x03\x04\x14\0".to_vec(), "ZIP archive"),
        (b"\x1f\x8b\x08\0".to_vec(), "gzip"),
        (with_at(257, b"ustar\0"), "a tar archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec(), "`git lfs pull`"),
        (b"\r\n<!doctype html><title>404</title>".to_vec(), "a web page"),
        ("x,y\n1,2\nGrün\n".as_bytes().to_vec(), "not a photo but a text file"),
        (vec![7, 1, 200, 9, 0, 250], "not a photo: its first bytes belong to no format"),
    ];
    for (bytes, expected) in &others {
        let reason = refusal(bytes);
        assert!(reason.contains(expected), "{expected}: {reason}");
        assert!(!is_picture(bytes), "{expected}");
    }
}

#[test]
fn a_photo_in_a_checkpoints_place_is_named() {
    let heic = media("heic", "mif1");
    for (bytes, expected) in [(jpeg_with_orientation(1), "is a JPEG picture; "), (heic, "is a HEIC photo; ")] {
        let error = Checkpoint::open(&PhotoFile::new(&bytes).path).err().unwrap().to_string();
        assert!(error.contains(expected) && error.contains("expected a PyTorch checkpoint"), "{error}");
    }
}

#[test]
fn pictures_are_told_by_content_and_by_name() {
    for entry in fs::read_dir(photos()).unwrap().chain(fs::read_dir(photos().join("refused")).unwrap()) {
        let path = entry.unwrap().path();
        let is_photo = !["py", "txt", ""].contains(&path.extension().map_or("", |e| e.to_str().unwrap()));
        assert_eq!(is_picture_name(&path), is_photo, "{}", path.display());
        if is_photo {
            let bytes = fs::read(&path).unwrap();
            assert!(is_picture(&bytes[..bytes.len().min(HEAD)]), "{}", path.display());
        }
    }
    let picture = noise(5, 4);
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Gif, ImageFormat::Pnm, ImageFormat::WebP] {
        assert!(is_picture(&encoded(picture.clone(), format)), "{format:?}");
    }
    for text in ["", "P1", "P3 or P4, that is the question", "BMW 320, BMW 520, BMW 2002", "MM and II", "GIF"] {
        assert!(!is_picture(text.as_bytes()), "{text}");
    }
    for name in ["a.jpg", "b.JFIF", "c.Jpe", "d.heic", "e.DNG", "é.tiff", "x.y.qoi", "folder.d/photo.CR3"] {
        assert!(is_picture_name(Path::new(name)), "{name}");
    }
    for name in ["jpg", "a.txt", "a.jpg.zip", "a.mp4", ".jpg", "a.", "labels.csv", "a.jpg/b"] {
        assert!(!is_picture_name(Path::new(name)), "{name}");
    }
}

#[test]
fn a_photo_from_a_stream_is_called_by_its_name() {
    let picture = noise(6, 5);
    let bytes = encoded(picture.clone(), ImageFormat::Png);
    let name = Path::new("standard input");
    assert_eq!(&decode_from(name, bytes.as_slice(), 30).unwrap().rgb, picture.as_raw());
    let error = decode_from(name, bytes.as_slice(), 29).unwrap_err().to_string();
    assert!(error.starts_with("standard input: 6×5 is 30 pixels"), "{error}");
    let reason = |stream: &mut dyn std::io::Read| decode_from(name, stream, 1).unwrap_err().to_string();
    let mut endless = b"\x89PNG\r\n\x1a\n".chain(std::io::repeat(0));
    assert!(reason(&mut endless).contains("more than 67 MB, too large for a photo"));
    // What no photo begins with is not read to its end.
    let mut zeros = std::io::repeat(0).take(u64::MAX);
    assert!(reason(&mut zeros).contains("not a photo"));
    assert!(zeros.limit() > u64::MAX - 10_000);
}

#[test]
#[cfg(unix)]
fn devices_are_no_photos() {
    for device in ["/dev/zero", "/dev/null"] {
        let error = decode(Path::new(device), DEFAULT_MAX_PIXELS).unwrap_err();
        assert!(matches!(&error, Error::Photo { reason, .. } if reason.contains("a device")), "{error}");
    }
}

/// The bytes that the decoder asks for, and the error when it gets none.
#[test]
fn what_a_photo_takes_is_asked_before_it_is_decoded() {
    let asked = |bytes: &[u8]| {
        let file = PhotoFile::new(bytes);
        let need = std::cell::Cell::new(0);
        let refuse = |bytes| {
            need.set(bytes);
            Err(Error::Memory("none is free".to_owned()))
        };
        let error = decode_asking(&file.path, DEFAULT_MAX_PIXELS, &refuse).unwrap_err();
        assert_eq!(error.to_string(), Error::Memory(format!("{}: none is free", file.path.display())).to_string());
        assert!(matches!(error, Error::Memory(_)), "{error:?}");
        (need.get() as usize - bytes.len()) as f64 / (40.0 * 30.0)
    };
    let picture = DynamicImage::from(noise(40, 30));
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Pnm, ImageFormat::Tiff] {
        assert_eq!(asked(&encoded(picture.clone(), format)), 3.0, "{format:?}");
    }
    assert_eq!(asked(&encoded(picture.to_luma8(), ImageFormat::Png)), 3.0);
    assert_eq!(asked(&encoded(picture.to_rgba8(), ImageFormat::Png)), 4.0);
    assert_eq!(asked(&encoded(picture.to_rgba16(), ImageFormat::Png)), 8.0);
    assert_eq!(asked(&encoded(picture.to_rgba16(), ImageFormat::Tiff)), 11.0);
    assert_eq!(asked(&encoded(picture.to_rgb32f(), ImageFormat::Tiff)), 15.0);
    assert!((3.0..8.0).contains(&asked(&encoded(picture, ImageFormat::Jpeg))));
}

/// The middles of a JPEG's scans, of those that refine others not.
fn middles(jpeg: &[u8]) -> Vec<usize> {
    let (mut middles, mut at) = (Vec::new(), 2);
    while jpeg[at + 1] != 0xD9 {
        let (marker, length) = (jpeg[at + 1], usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]])));
        let header = &jpeg[at + 4..at + 2 + length];
        at += 2 + length;
        if marker == 0xDA {
            let is_marker = |pair: &[u8]| pair[0] == 0xFF && pair[1] != 0 && !(0xD0..=0xD7).contains(&pair[1]);
            let data = jpeg[at..].windows(2).position(is_marker).unwrap();
            middles.extend((header[header.len() - 1] >> 4 == 0).then_some(at + data / 2));
            at += data;
        }
    }
    middles
}

/// A file's end behind a part of its data: a decoder that fills the rest with grey or black makes a photo of it that looks
/// whole.
#[test]
fn a_photo_whose_data_end_too_soon_is_refused_whatever_follows() {
    let closed_at = |bytes: &[u8], end: usize, trailer: &[u8]| refusal(&[&bytes[..end], trailer].concat());
    let stored = |name: &str| fs::read(photos().join(name)).unwrap();
    let coded = |bytes: &[u8]| bytes.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
    let flat = encoded(image::RgbImage::from_pixel(64, 512, Rgb(BLUE)), ImageFormat::Jpeg);
    for (bytes, what) in [
        (encoded(noise(64, 64), ImageFormat::Jpeg), "noise"),
        (flat, "flat"),
        (stored("one_scan_420.jpg"), "one_scan_420"),
        (stored("progressive_420.jpg"), "progressive_420"),
        (stored("progressive_thirds.jpg"), "progressive_thirds"),
        (stored("scans_each_420.jpg"), "scans_each_420"),
        (stored("scans_each_420_restarts.jpg"), "scans_each_420_restarts"),
        (stored("scans_each_cmyk.jpg"), "scans_each_cmyk"),
        (stored("scans_chroma_together_420.jpg"), "scans_chroma_together_420"),
    ] {
        decoded(&bytes);
        let first = coded(&bytes[..]) + 16;
        // Between the scans of a progressive file it may end: the first is the whole picture, and the others make it sharp.
        let ends: Vec<usize> = match what.starts_with("progressive") {
            false => (1..20).map(|part| first + (bytes.len() - first - 16) * part / 20).collect(),
            true => middles(&bytes),
        };
        for end in ends {
            let photo = PhotoFile::new(&[&bytes[..end], &[0xFF, 0xD9]].concat()).decode();
            assert!(matches!(photo, Err(Error::Photo { .. })), "{what}, {end} of {} bytes", bytes.len());
        }
    }

    let png = encoded(noise(24, 24), ImageFormat::Png);
    let mut short = Vec::new();
    let mut encoder = png::Encoder::new(&mut short, 24, 24);
    encoder.set_color(png::ColorType::Rgb);
    let idat = png.windows(4).position(|name| name == b"IDAT").unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_chunk(png::chunk::IDAT, &png[idat + 4..][..800]).unwrap();
    writer.finish().unwrap();
    refusal(&short);

    let gif = encoded(DynamicImage::from(noise(24, 24)).to_rgba8(), ImageFormat::Gif);
    for end in [gif.len() / 2, gif.len() - 60] {
        closed_at(&gif, end, &[0, 0x3B]);
    }
    let webp = encoded(noise(24, 24), ImageFormat::WebP);
    let mut cut = webp[..webp.len() / 2 / 2 * 2].to_vec();
    let (file, chunk) = (cut.len() as u32 - 8, cut.len() as u32 - 20);
    cut[4..8].copy_from_slice(&file.to_le_bytes());
    cut[16..20].copy_from_slice(&chunk.to_le_bytes());
    refusal(&cut);
}

/// A PNG of one colour, a few kilobytes whatever its size.
fn flat_png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fastest);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&BLUE.repeat((width * height) as usize)).unwrap();
    writer.finish().unwrap();
    bytes
}

/// The peak memory of the program in bytes, measured when it has done a photo of this size and waits for another.
#[cfg(target_os = "linux")]
fn peak(width: u32, height: u32, arguments: &[&str]) -> f64 {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let photo = PhotoFile::new(&flat_png(width, height));
    let mut child = Command::new(env!("CARGO_BIN_EXE_lseg-fast"))
        .args([
            "run",
            "--json",
            "-q",
            "--device",
            "cpu",
            "--threads",
            "2",
            "--size",
            "64x64",
            "--labels",
            "dog,sky",
            "--model",
        ])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/seeded/seeded.ckpt"))
        .args(arguments)
        .args([&photo.path, Path::new("-")])
        .arg("--out")
        .arg(photo.path.with_extension("out"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut report = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut report).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(report.contains("overlay.png"), "{report}");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    1024.0 * line.trim().trim_end_matches(" kB").parse::<f64>().unwrap()
}

/// The photo and its mask in the engine (3 + 1), the mask in 16 bits (2) and the overlay (3); it was 21. With borders a byte
/// more.
#[test]
#[cfg(target_os = "linux")]
fn a_photo_takes_nine_bytes_a_pixel_to_segment() {
    for (arguments, most) in [(&[][..], 9.0), (&["--contours"], 10.0)] {
        let (small, large) = (peak(2000, 1000, arguments), peak(4000, 3000, arguments));
        let per_pixel = (large - small) / 10e6;
        assert!(per_pixel < most + 0.3, "{arguments:?}: {per_pixel:.2} bytes a pixel");
    }
}

/// Neither a row nor a pixel of a photo may cost much. A million rows of one pixel are nothing; the 64 million that are
/// allowed are tried where LSEG_LONG_TESTS is set (half a minute; it was many).
#[test]
fn narrow_and_wide_photos_take_as_long_as_others() {
    let long = std::env::var_os("LSEG_LONG_TESTS").is_some();
    let (pixels, seconds) = if long { (64_000_000, 120) } else { (2_000_000, 10) };
    for (width, height) in [(1, pixels), (pixels, 1)] {
        let photo = PhotoFile::new(&flat_png(width, height));
        let start = std::time::Instant::now();
        let status = std::process::Command::new(env!("CARGO_BIN_EXE_lseg-fast"))
            .args([
                "run",
                "-q",
                "--device",
                "cpu",
                "--labels",
                "dog,sky,sea,tree,house",
                "--save",
                "mask,overlay,masks",
                "--model",
            ])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/seeded/seeded.ckpt"))
            .arg(&photo.path)
            .arg("--out")
            .arg(photo.path.with_extension("out"))
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        assert!(start.elapsed().as_secs() < seconds, "{width}×{height}: {:?}", start.elapsed());
        let results = fs::read_dir(photo.path.with_extension("out")).unwrap();
        for result in results.map(|entry| entry.unwrap()) {
            assert!(result.metadata().unwrap().len() < 1 << 24, "{:?}", result.path());
            assert_eq!(image::image_dimensions(result.path()).unwrap(), (width, height));
        }
    }
}
