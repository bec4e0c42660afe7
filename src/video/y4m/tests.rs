use std::io::{ErrorKind, Read};

use super::super::tests::Memory;
use super::*;
use crate::video::pipe::tests::Dripping;

/// A stream of frames, each byte another.
fn stream(header: &str, frames: usize, bytes: usize) -> Vec<u8> {
    let mut stream = format!("YUV4MPEG2 {header}\n").into_bytes();
    for frame in 0..frames {
        stream.extend_from_slice(b"FRAME\n");
        stream.extend((0..bytes).map(|i| (i + 100 * frame) as u8));
    }
    stream
}

fn open(bytes: &[u8]) -> Result<Y4m<&[u8]>> {
    Y4m::new(bytes, "x.y4m", Y4mOptions::default())
}

#[track_caller]
fn refused(header: &str, words: &[&str]) {
    let Err(error) = open(&stream(header, 1, 64)) else { panic!("{header:?} is taken") };
    let error = error.to_string();
    assert!(error.starts_with("x.y4m: ") && !error.contains('\n'), "{error}");
    words.iter().for_each(|word| assert!(error.contains(word), "{word:?} is not in {error:?}"));
}

#[test]
fn frames_become_nv12() {
    let mut room = Memory::default();
    // 4×2: luma 0…7, Cb 8 9, Cr 10 11.
    let bytes = stream("W4 H2 F30000:1001 Ip A1:1 C420jpeg XYSCSS=420JPEG", 2, 12);
    let mut source = open(&bytes).unwrap();
    assert_eq!(source.describe(), "x.y4m: nv12, 4×2 at 29.97 frames a second");
    assert!(!source.is_live());
    assert!(matches!(source.next(&mut room).unwrap(), Next::Frame(Frame { stamp: 0, missed: 0 })));
    assert_eq!((room.format, room.width, room.height), (Some(Format::Nv12(Default::default())), 4, 2));
    assert_eq!(room.bytes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 9, 11]);
    assert!(matches!(source.next(&mut room).unwrap(), Next::Frame(Frame { stamp: 33_366_666, missed: 0 })));
    assert_eq!(room.bytes[8..], [108, 110, 109, 111]);
    assert!(matches!(source.next(&mut room).unwrap(), Next::End));
    assert!(matches!(source.next(&mut room).unwrap(), Next::End));
}

#[test]
fn odd_sizes_have_chroma_for_their_last_column_and_row() {
    for (width, height, planes) in [(3, 3, [9, 4]), (1, 1, [1, 1]), (5, 2, [10, 3]), (2, 5, [10, 3])] {
        let (luma, chroma) = (planes[0], planes[1]);
        let bytes = stream(&format!("W{width} H{height} F1:1 C420mpeg2"), 2, luma + 2 * chroma);
        for drop in 1..8 {
            let reader = Dripping { bytes: &bytes, drop, interrupted: false };
            let mut source = Y4m::new(reader, "x", Y4mOptions::default()).unwrap();
            let mut room = Memory::default();
            assert!(matches!(source.next(&mut room).unwrap(), Next::Frame(_)));
            assert_eq!(room.bytes.len(), Format::Nv12(Default::default()).bytes(width, height).unwrap());
            let expected: Vec<u8> =
                (0..luma).chain((0..chroma).flat_map(|i| [luma + i, luma + chroma + i])).map(|i| i as u8).collect();
            assert_eq!(room.bytes, expected);
            assert!(matches!(source.next(&mut room).unwrap(), Next::Frame(Frame { stamp: 1_000_000_000, .. })));
            assert!(matches!(source.next(&mut room).unwrap(), Next::End));
        }
    }
}

#[test]
fn layouts_and_ranges_are_what_the_header_says() {
    let format = |header: &str| open(&stream(header, 1, 12)).unwrap().format.to_string();
    for layout in ["", " C420", " C420jpeg", " C420mpeg2", " C420paldv", " C420 XCOLORRANGE=LIMITED", " Ip", " I?"] {
        assert_eq!(format(&format!("W4 H2 F25:1{layout}")), "nv12");
    }
    assert_eq!(format("W4 H2 F25:1 C420jpeg XCOLORRANGE=FULL XYSCSS=420JPEG"), "nv12:full");
    assert_eq!(format("W4 H2 F25:1 Cmono"), "mono8");
    assert_eq!(format("W4 H2 F25:1 Cmono XCOLORRANGE=FULL"), "mono8");
    let options = Y4mOptions { matrix: YuvMatrix::Bt709, ..Y4mOptions::default() };
    let bytes = stream("W4 H2 F25:1", 1, 12);
    assert_eq!(Y4m::new(&bytes[..], "x", options).unwrap().format.to_string(), "nv12:bt709");

    let bytes = stream("W4 H2 F25:1 Cmono", 1, 8);
    let (mut source, mut room) = (open(&bytes).unwrap(), Memory::default());
    assert!(matches!(source.next(&mut room).unwrap(), Next::Frame(_)));
    assert_eq!(room.bytes, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert!(matches!(source.next(&mut room).unwrap(), Next::End));
}

#[test]
fn what_is_not_taken_is_refused_by_name() {
    for layout in ["422", "444", "444alpha", "411", "410", "420p10", "mono16", "420jpeg2", "", "rgb"] {
        refused(&format!("W4 H2 F25:1 C{layout}"), &[&format!("its pixels are {layout}"), "-pix_fmt yuv420p"]);
    }
    for interlacing in ["t", "b", "m", ""] {
        refused(&format!("W4 H2 F25:1 I{interlacing}"), &["interlaced", "yadif"]);
    }
    refused("H2 F25:1", &["no width"]);
    refused("W4 F25:1", &["no height"]);
    refused("W4 H2", &["no rate", "-r 30"]);
    for rate in ["0:1", "25:0", "0:0", "25", "-1:1", "x:y", "25:1:1", "", "99999999999:1"] {
        refused(&format!("W4 H2 F{rate}"), &[&format!("its rate is {rate:?}"), "-r 30"]);
    }
    for size in ["0", "-4", "+4", "x", "", "4294967296", "4.0"] {
        refused(&format!("W{size} H2 F25:1"), &["its width is", "expected pixels"]);
        refused(&format!("W4 H{size} F25:1"), &["its height is", "expected pixels"]);
    }
    refused("W4294967295 H4294967295 F25:1", &["4294967295×4294967295", "more than the"]);
    refused("W100000 H100000 F25:1", &["10000000000 pixels", "--max-pixels"]);
    refused("W4 H2 F25:1 Cmono XCOLORRANGE=LIMITED", &["16 to 235", "out_range=full"]);
    refused("W4 H2 F25:1 XCOLORRANGE=WIDE\x1b", &["\"WIDE\\", "FULL or LIMITED"]);
    refused(&"X".repeat(2000), &["longer than 1024 bytes"]);
}

#[test]
fn what_is_no_stream_is_told_by_its_first_bytes() {
    let refused = |bytes: &[u8]| open(bytes).err().unwrap().to_string();
    assert!(refused(b"").contains("nothing came; expected YUV4MPEG2"));
    assert!(refused(b"\x89PNG\r\n\x1a\n").contains("begins with"));
    assert!(refused(b"YUV4MPEG2W4 H2 F1:1\n").contains("begins with \"YUV4MPEG2W4 H2 F\""));
    assert!(refused(b"YUV4MPEG2 W4 H2 F1:1").contains("cut off"));
    assert!(refused(b"YUV4MPEG2\n").contains("no width"));
    assert!(refused(b"YUV4MPEG2 W4 H2 F1:1 X\xff\n").contains("no text"));
    assert!(refused(&[b'a'; 5000]).contains("begins with \"aaaaaaaaaaaaaaaa\""));
}

#[test]
fn whichever_byte_is_the_last_the_end_is_told() {
    let whole = stream("W3 H2 F2:1", 2, 10);
    let header = whole.iter().position(|c| *c == b'\n').unwrap() + 1;
    for length in 0..whole.len() {
        let cut = &whole[..length];
        if length < header {
            assert!(open(cut).is_err(), "{length}");
            continue;
        }
        let (mut source, mut room) = (open(cut).unwrap(), Memory::default());
        let (frames, rest) = ((length - header) / 16, (length - header) % 16);
        for _ in 0..frames {
            assert!(matches!(source.next(&mut room).unwrap(), Next::Frame(_)), "{length}");
        }
        if rest > 0 {
            let Next::Corrupt(what) = source.next(&mut room).unwrap() else { panic!("{length} bytes are no damage") };
            assert!(what.contains(&format!("frame {frames}: ")) && what.contains("cut off"), "{what}");
            let missing = format!("{} of its 10 bytes", 16 - rest);
            assert!(rest < 6 || what.contains(&missing), "{what}: {missing}");
        }
        assert!(matches!(source.next(&mut room).unwrap(), Next::End), "{length}");
    }
}

#[test]
fn parameters_of_a_frame_are_passed_over_and_bounded() {
    let with = |line: &[u8]| [b"YUV4MPEG2 W1 H1 F1:1\n".as_slice(), line, b"abc"].concat();
    let mut room = Memory::default();
    let bytes = with(b"FRAME Ip XCOMMENT\n");
    assert!(matches!(open(&bytes).unwrap().next(&mut room).unwrap(), Next::Frame(_)));
    assert_eq!(room.bytes, b"abc");
    let bytes = with(&[b"FRAME ".as_slice(), &[b'x'; 2000], b"\n"].concat());
    let error = open(&bytes).unwrap().next(&mut room).unwrap_err().to_string();
    assert!(error.contains("the line at byte 21 is longer than 1024"), "{error}");
    for garbage in [b"FRAMEX".as_slice(), b"frame\n", b"FRA\n", b"\0"] {
        let bytes = with(garbage);
        let mut source = open(&bytes).unwrap();
        let error = source.next(&mut room).unwrap_err().to_string();
        assert!(error.contains("at byte 21 a frame was expected"), "{error}");
        assert!(matches!(source.next(&mut room).unwrap(), Next::End));
    }
}

#[test]
fn a_frame_that_had_no_room_is_there_when_it_is_asked_for_again() {
    let bytes = stream("W4 H2 F1:1", 1, 12);
    let mut source = open(&bytes).unwrap();
    let mut room = Memory { refuse: 1, ..Memory::default() };
    assert!(matches!(source.next(&mut room), Err(Error::Memory(_))));
    assert!(matches!(source.next(&mut room).unwrap(), Next::Frame(_)));
    assert_eq!(room.bytes[..4], [0, 1, 2, 3]);
    assert!(matches!(source.next(&mut room).unwrap(), Next::End));
}

#[test]
fn a_pipe_that_breaks_is_an_error_and_then_the_end() {
    struct Breaking<'a>(&'a [u8]);
    impl Read for Breaking<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() { Err(ErrorKind::ConnectionReset.into()) } else { self.0.read(room) }
        }
    }
    let bytes = stream("W4 H2 F1:1", 1, 5);
    let mut source = Y4m::new(Breaking(&bytes), "x", Y4mOptions::default()).unwrap();
    let mut room = Memory::default();
    assert!(source.next(&mut room).unwrap_err().to_string().starts_with("x: cannot be read: "));
    assert!(matches!(source.next(&mut room).unwrap(), Next::End));
}

#[test]
fn a_live_stream_has_the_time_of_day() {
    let bytes = stream("W4 H2 F1:1", 1, 12);
    let mut source = Y4m::new(&bytes[..], "x", Y4mOptions { live: true, ..Y4mOptions::default() }).unwrap();
    assert!(source.is_live());
    let before = crate::video::rate::now();
    let Next::Frame(frame) = source.next(&mut Memory::default()).unwrap() else { panic!("there is a frame") };
    assert!((before..=crate::video::rate::now()).contains(&frame.stamp));
}
