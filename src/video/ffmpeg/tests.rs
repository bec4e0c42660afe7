//! With programs of the shell in the place of ffmpeg and ffprobe; tests/it/video.rs has the real ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::super::tests::Memory;
use super::*;

/// An ffprobe that finds 2×2 pixels (as RGB 12 bytes), and an ffmpeg that is this script.
fn programs(folder: &Path, format: &str, ffmpeg: &str) -> Programs {
    let answer = format!(
        r#"{{"streams":[{{"width":2,"height":2,"r_frame_rate":"25/1","avg_frame_rate":"25/1"}}],"format":{{{format}}}}}"#
    );
    let write = |name: &str, script: &str| {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    Programs { ffprobe: write("ffprobe", &format!("echo '{answer}'")), ffmpeg: write("ffmpeg", ffmpeg) }
}

fn open(address: &Address, format: &str, script: &str) -> (tempfile::TempDir, Ffmpeg) {
    let folder = tempfile::tempdir().unwrap();
    let programs = programs(folder.path(), format, script);
    let patience = Duration::from_millis(500);
    let options = FfmpegOptions { decoded: Decoded::Rgb8, programs, patience, ..FfmpegOptions::default() };
    let source = Ffmpeg::open(address, &options).unwrap();
    (folder, source)
}

fn live() -> Address {
    Address::url("rtsp://me:secret@camera/1").unwrap()
}

fn file() -> Address {
    Address::File("film.mp4".into())
}

#[track_caller]
fn frame(source: &mut Ffmpeg) -> Frame {
    match source.next(&mut Memory::default()).unwrap() {
        Next::Frame(frame) => frame,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn lost(source: &mut Ffmpeg) -> String {
    let error = source.next(&mut Memory::default()).unwrap_err().to_string();
    assert!(matches!(source.next(&mut Memory::default()), Ok(Next::End)));
    error
}

#[track_caller]
fn corrupt(source: &mut Ffmpeg) -> String {
    match source.next(&mut Memory::default()).unwrap() {
        Next::Corrupt(what) => what,
        other => panic!("{other:?}"),
    }
}

const FRAME: &str = "printf abcdefghijkl";

#[test]
fn a_file_ends_by_itself_or_with_what_ffmpeg_said() {
    let (_folder, mut source) = open(&file(), "", &format!("{FRAME}; {FRAME}"));
    assert_eq!(source.describe(), "film.mp4: rgb8, 2×2 at 25 frames a second");
    assert!(!source.is_live());
    assert_eq!([frame(&mut source).stamp, frame(&mut source).stamp], [0, 40_000_000]);
    assert!(matches!(source.next(&mut Memory::default()), Ok(Next::End)));

    let (_folder, mut source) = open(&file(), "", &format!("{FRAME}; printf abc; echo no disk >&2; exit 3"));
    frame(&mut source);
    assert_eq!(lost(&mut source), "film.mp4: ffmpeg ended after 1 frames (exit status: 3: no disk)");

    let (_folder, mut source) = open(&file(), "", &format!("{FRAME}; kill -9 $$"));
    frame(&mut source);
    assert!(lost(&mut source).contains("signal: 9"));

    let (_folder, mut source) = open(&file(), "", &format!("{FRAME}; echo File ended prematurely >&2"));
    frame(&mut source);
    assert_eq!(corrupt(&mut source), "film.mp4: File ended prematurely");
    assert!(matches!(source.next(&mut Memory::default()), Ok(Next::End)));

    let (_folder, mut source) = open(&file(), "", "exit 0");
    assert_eq!(lost(&mut source), "film.mp4: no frame in it");
}

#[test]
fn a_stream_is_lost_however_it_ends() {
    let (_folder, mut source) = open(&live(), "", &format!("{FRAME}; printf abc; kill -9 $$"));
    assert!(source.is_live());
    assert!((frame(&mut source).stamp - super::super::rate::now()).abs() < 60_000_000_000);
    let what = corrupt(&mut source);
    assert!(what.starts_with("rtsp://me:***@camera/1: frame 1: 9 of its 12 bytes are missing"), "{what}");
    assert!(lost(&mut source).contains("ffmpeg ended (signal: 9"));

    let (_folder, mut source) = open(&live(), "", FRAME);
    frame(&mut source);
    assert_eq!(lost(&mut source), "rtsp://me:***@camera/1: the stream ended");

    let (_folder, mut source) = open(&live(), "", "echo rtsp://me:secret@camera/1: 401 >&2; exit 1");
    assert_eq!(lost(&mut source), "rtsp://me:***@camera/1: ffmpeg ended (exit status: 1: rtsp://me:***@camera/1: 401)");

    let (_folder, mut source) = open(&live(), "", &format!("{FRAME}; exec sleep 600"));
    frame(&mut source);
    assert_eq!(lost(&mut source), "rtsp://me:***@camera/1: nothing came for 0.5 s");
}

#[test]
fn what_has_an_end_is_not_live_though_it_is_elsewhere() {
    let film = Address::url("http://host/film.mp4").unwrap();
    let (_folder, mut source) = open(&film, r#""duration":"12.5""#, FRAME);
    assert!(!source.is_live());
    assert_eq!(frame(&mut source).stamp, 0);
    assert!(matches!(source.next(&mut Memory::default()), Ok(Next::End)));
    assert!(open(&film, "", FRAME).1.is_live());
}

#[test]
fn sizes_are_looked_at_before_anything_is_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let programs = programs(folder.path(), "", "exit 1");
    let options = FfmpegOptions { max_pixels: 3, programs, ..FfmpegOptions::default() };
    let error = Ffmpeg::open(&file(), &options).err().unwrap().to_string();
    assert!(error.contains("2×2 is 4 pixels, more than the 3 allowed"), "{error}");
}

#[test]
fn an_ffprobe_that_fails_is_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let mut programs = programs(folder.path(), "", "exit 1");
    let refused = |programs: &Programs, address: &Address| {
        let patience = Duration::from_millis(300);
        let options = FfmpegOptions { programs: programs.clone(), patience, ..FfmpegOptions::default() };
        Ffmpeg::open(address, &options).err().unwrap().to_string()
    };
    let script = |text: &str| fs::write(folder.path().join("ffprobe"), format!("#!/bin/sh\n{text}\n")).unwrap();
    script("echo one >&2; echo film.mp4: moov atom not found >&2; exit 1");
    assert_eq!(refused(&programs, &file()), "film.mp4: film.mp4: moov atom not found");
    script("exit 4");
    assert_eq!(refused(&programs, &file()), "film.mp4: ffprobe: exit status: 4");
    script("echo '{'");
    assert!(refused(&programs, &file()).starts_with("film.mp4: ffprobe's answer: "));
    script("echo '{}'");
    assert_eq!(refused(&programs, &file()), "film.mp4: no video in it");
    script("exec sleep 600");
    assert_eq!(refused(&programs, &live()), "rtsp://me:***@camera/1: nothing came for 10.3 s");
    programs.ffprobe = "/nowhere/ffprobe".into();
    assert!(refused(&programs, &file()).starts_with("/nowhere/ffprobe is not installed"));
}

#[test]
fn arguments_are_a_list_and_the_source_is_never_an_option() {
    let known = Probe {
        width: 2,
        height: 2,
        rate: Rate::new(30000, 1001),
        yuv: Yuv { matrix: YuvMatrix::Bt709, range: YuvRange::Full },
        has_length: true,
        knows_fps_mode: true,
    };
    let text = |address: &Address, known: &Probe, decoded, live| {
        arguments(address, known, decoded, live).join(std::ffi::OsStr::new(" ")).into_string().unwrap()
    };
    let nv12 = text(&Address::File("-y".into()), &known, Decoded::Nv12, false);
    assert_eq!(
        nv12,
        "-nostdin -loglevel error -protocol_whitelist file -i file:-y -map 0:V:0 -f rawvideo -r 30000/1001 \
         -vf scale=in_range=pc:out_range=pc:out_color_matrix=bt709 -pix_fmt nv12 pipe:1"
    );
    assert!(
        text(&live(), &known, Decoded::Rgb8, true).ends_with("-f rawvideo -fps_mode passthrough -pix_fmt rgb24 pipe:1")
    );
    let old = Probe { knows_fps_mode: false, rate: None, ..known };
    assert!(
        text(&file(), &old, Decoded::Rgb8, false).ends_with("-f rawvideo -vsync passthrough -pix_fmt rgb24 pipe:1")
    );
}

#[test]
fn a_room_that_refuses_loses_no_frame() {
    let (_folder, mut source) = open(&file(), "", FRAME);
    let mut room = Memory { refuse: 1, ..Memory::default() };
    assert!(matches!(source.next(&mut room), Err(Error::Memory(_))));
    assert!(matches!(source.next(&mut room), Ok(Next::Frame(_))));
    assert_eq!(room.bytes, b"abcdefghijkl");
}
