//! Videos through the real ffmpeg. Where it is not installed, each test says so and ends.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use lseg_fast::video::{
    Address, Decoded, Encoder, Ffmpeg, FfmpegOptions, Frame, Next, Programs, Rate, Room, Source, SourceOptions, Y4m,
    Y4mOptions, Y4mWriter, open,
};
use lseg_fast::{Error, Format, Result};

fn has_ffmpeg() -> bool {
    let has = |program| {
        Command::new(program).arg("-version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let both = has("ffmpeg") && has("ffprobe");
    if !both {
        println!("left out: ffmpeg is not installed");
    }
    both
}

/// Runs ffmpeg with these arguments in a folder.
#[track_caller]
fn ffmpeg(folder: &Path, arguments: &str) {
    let mut command = Command::new("ffmpeg");
    command.current_dir(folder).args(["-nostdin", "-loglevel", "error", "-y"]).args(arguments.split_whitespace());
    let said = command.output().unwrap();
    assert!(said.status.success(), "{arguments}: {}", String::from_utf8_lossy(&said.stderr));
}

#[derive(Default)]
struct Memory {
    format: Option<Format>,
    size: (usize, usize),
    bytes: Vec<u8>,
}

impl Room for Memory {
    fn frame(&mut self, format: Format, width: usize, height: usize) -> Result<&mut [u8]> {
        (self.format, self.size) = (Some(format), (width, height));
        self.bytes.resize(format.bytes(width, height).unwrap(), 0);
        Ok(&mut self.bytes)
    }
}

/// All frames to the end.
#[track_caller]
fn all(source: &mut dyn Source) -> Vec<(Frame, Vec<u8>)> {
    let (mut frames, mut room) = (Vec::new(), Memory::default());
    loop {
        match source.next(&mut room).unwrap() {
            Next::Frame(frame) => frames.push((frame, room.bytes.clone())),
            Next::Corrupt(what) => panic!("{what}"),
            Next::End => return frames,
        }
    }
}

fn decoded(path: &Path, decoded: Decoded) -> Ffmpeg {
    let options = FfmpegOptions { decoded, ..FfmpegOptions::default() };
    Ffmpeg::open(&Address::File(path.to_owned()), &options).unwrap()
}

/// The pictures `p1.png`, `p2.png`, … of a folder, as RGB.
fn pngs(folder: &Path, count: usize) -> Vec<Vec<u8>> {
    let png = |i| image::open(folder.join(format!("p{i}.png"))).unwrap().into_rgb8().into_raw();
    (1..=count).map(png).collect()
}

const CLIP: &str = "-f lavfi -i testsrc2=s=322x182:r=30000/1001 -frames:v 12 -pix_fmt yuv420p";

#[test]
fn rgb_frames_are_the_bytes_of_ffmpegs_own_pictures() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    ffmpeg(folder.path(), &format!("{CLIP} clip.mp4"));
    ffmpeg(folder.path(), "-i clip.mp4 p%d.png");
    let mut source = decoded(&at("clip.mp4"), Decoded::Rgb8);
    assert!(source.describe().ends_with("clip.mp4: rgb8, 322×182 at 29.97 frames a second"), "{}", source.describe());
    assert!(!source.is_live());
    let frames = all(&mut source);
    let (stamps, bytes): (Vec<i64>, Vec<Vec<u8>>) =
        frames.into_iter().map(|(frame, bytes)| (frame.stamp, bytes)).unzip();
    let rate = Rate::new(30000, 1001).unwrap();
    assert_eq!(stamps, (0..12).map(|i| rate.stamp(i)).collect::<Vec<_>>());
    assert!(bytes == pngs(folder.path(), 12), "frames differ from pictures");
}

#[test]
fn nv12_is_what_the_video_has_in_its_own_range() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (tags, format) in [
        ("", "nv12"),
        ("-colorspace bt709 -color_range tv", "nv12:bt709"),
        ("-colorspace smpte170m -color_range pc -vf scale=out_range=pc", "nv12:full"),
        ("-colorspace bt709 -color_range pc -vf scale=out_range=pc:out_color_matrix=bt709", "nv12:bt709:full"),
    ] {
        ffmpeg(folder.path(), &format!("{CLIP} {tags} clip.mp4"));
        // The planes as they were coded.
        ffmpeg(folder.path(), "-i clip.mp4 -c:v copy -f h264 clip.h264");
        ffmpeg(folder.path(), "-i clip.mp4 -vf extractplanes=y -f rawvideo luma");
        let mut source = decoded(&folder.path().join("clip.mp4"), Decoded::Nv12);
        let frames = all(&mut source);
        let mut room = Memory::default();
        let _ = decoded(&folder.path().join("clip.mp4"), Decoded::Nv12).next(&mut room).unwrap();
        assert_eq!(room.format.unwrap().to_string(), format);
        let luma: Vec<u8> = frames.iter().flat_map(|(_, bytes)| &bytes[..322 * 182]).copied().collect();
        assert!(luma == fs::read(folder.path().join("luma")).unwrap(), "{format}: luma is not the video's own");
    }
}

#[test]
fn a_video_that_lies_on_its_side_is_turned() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    ffmpeg(folder.path(), &format!("{CLIP} clip.mp4"));
    for (degrees, size) in [(90, (182, 322)), (180, (322, 182)), (270, (182, 322))] {
        ffmpeg(folder.path(), &format!("-i clip.mp4 -c copy -metadata:s:v rotate={degrees} turned.mp4"));
        ffmpeg(folder.path(), "-i turned.mp4 p%d.png");
        let mut source = decoded(&folder.path().join("turned.mp4"), Decoded::Rgb8);
        let mut room = Memory::default();
        assert!(matches!(source.next(&mut room).unwrap(), Next::Frame(_)));
        assert_eq!(room.size, size);
        assert!(room.bytes == pngs(folder.path(), 1)[0], "{degrees}°");
        let rest = all(&mut source).len();
        assert_eq!(rest, 11);
    }
}

#[test]
fn names_that_look_like_options_and_protocols_are_files() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    ffmpeg(folder.path(), &format!("{CLIP} clip.mp4"));
    for name in ["-y", "concat:a|b", "pipe:0", "%03d.mp4", "ä b.mp4"] {
        // Beside this process's folder: `./-y` would not begin with the stroke.
        let path = folder.path().join(name);
        fs::copy(folder.path().join("clip.mp4"), &path).unwrap();
        assert_eq!(all(&mut decoded(&path, Decoded::Nv12)).len(), 12, "{name}");
    }
    let error = Ffmpeg::open(&Address::File("-version".into()), &FfmpegOptions::default()).err().unwrap().to_string();
    assert!(error.contains("-version: ") && error.contains("No such file"), "{error}");
}

#[test]
fn what_is_refused_and_what_is_no_video_is_told() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let refused = |spec: &OsStr| {
        let error = open(spec.to_str().unwrap(), &SourceOptions::default()).err().unwrap();
        assert!(matches!(error, Error::Video(_)), "{error:?}");
        error.to_string()
    };
    assert!(refused("gopher://host/x".as_ref()).contains("expected a file, or a URL of http"));
    // Port 9 of this machine: nobody answers.
    let error = refused("http://user:secret@127.0.0.1:9/x.mp4".as_ref());
    assert!(error.contains("Connection refused") && !error.contains("secret"), "{error}");
    let path = folder.path().join("text.mp4");
    fs::write(&path, "this is no video").unwrap();
    assert!(refused(path.as_os_str()).contains("Invalid data"), "{}", refused(path.as_os_str()));
    ffmpeg(folder.path(), "-f lavfi -i sine=d=0.1 sound.wav");
    assert!(refused(folder.path().join("sound.wav").as_os_str()).ends_with("no video in it"));
}

#[test]
fn a_playlist_does_not_lead_elsewhere() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.m3u8");
    fs::write(&path, "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
        .unwrap();
    let error = Ffmpeg::open(&Address::File(path), &FfmpegOptions::default()).err().unwrap().to_string();
    assert!(!error.contains("refused"), "it was asked for: {error}");
}

#[test]
#[cfg(unix)]
fn a_killed_ffmpeg_is_an_error_with_its_signal() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=s=1280x720:r=30 -frames:v 60 -preset ultrafast clip.mp4");
    let mut source = decoded(&folder.path().join("clip.mp4"), Decoded::Rgb8);
    let mut room = Memory::default();
    assert!(matches!(source.next(&mut room).unwrap(), Next::Frame(_)));
    assert!(Command::new("kill").args(["-9", &source.process().to_string()]).status().unwrap().success());
    let error = loop {
        match source.next(&mut room) {
            Ok(Next::Frame(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("clip.mp4: ffmpeg ended after ") && error.contains("signal: 9"), "{error}");
    assert!(matches!(source.next(&mut room).unwrap(), Next::End));

    // Dropped while ffmpeg waits for a reader, it is gone, and no zombie.
    let source = decoded(&folder.path().join("clip.mp4"), Decoded::Rgb8);
    let process = format!("/proc/{}", source.process());
    assert!(!cfg!(target_os = "linux") || Path::new(&process).exists());
    drop(source);
    assert!(!Path::new(&process).exists());
}

#[test]
fn frames_become_a_video_that_is_there_when_it_is_whole() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rate = Rate::new(25, 1).unwrap();
    let names = || {
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    for ending in ["mp4", "mkv", "webm"] {
        let path = folder.path().join(format!("a.{ending}"));
        let mut encoder = Encoder::create(&path, 63, 37, rate, &Programs::default()).unwrap();
        let colours = [[200, 30, 30], [30, 200, 30], [30, 30, 200], [128, 128, 128]];
        for colour in colours {
            encoder.write(&colour.repeat(63 * 37)).unwrap();
        }
        assert!(encoder.write(&[0; 3]).unwrap_err().to_string().contains("expected 63×37"));
        assert!(!path.exists());
        encoder.finish().unwrap();
        assert_eq!(names(), [format!("a.{ending}")]);
        let mut source = decoded(&path, Decoded::Rgb8);
        let frames = all(&mut source);
        assert_eq!((frames.len(), source.rate()), (4, Some(rate)), "{ending}");
        for ((_, bytes), colour) in frames.iter().zip(colours) {
            assert_eq!(bytes.len(), 64 * 38 * 3);
            let middle = &bytes[3 * (64 * 19 + 32)..][..3];
            assert!(
                middle.iter().zip(colour).all(|(found, wanted)| found.abs_diff(wanted) < 10),
                "{ending}: {middle:?}, {colour:?}"
            );
        }
        fs::remove_file(&path).unwrap();
    }
    // Dropped, and refused.
    let path = folder.path().join("a.mp4");
    fs::write(&path, "old").unwrap();
    let mut encoder = Encoder::create(&path, 64, 64, rate, &Programs::default()).unwrap();
    encoder.write(&[0; 64 * 64 * 3]).unwrap();
    drop(encoder);
    assert_eq!((names(), fs::read_to_string(&path).unwrap().as_str()), (vec!["a.mp4".to_owned()], "old"));
    let error = Encoder::create(&folder.path().join("a.gif"), 64, 64, rate, &Programs::default()).err().unwrap();
    assert!(error.to_string().contains("a.gif: expected a video's ending: mp4, m4v, mov, mkv, webm"), "{error}");
    // No frame: ffmpeg says so.
    let error = Encoder::create(&path, 64, 64, rate, &Programs::default()).unwrap().finish();
    assert!(error.is_ok() || error.unwrap_err().to_string().contains("a.mp4: ffmpeg could not write it"));
}

#[test]
fn what_is_written_as_yuv4mpeg2_is_read_by_ffmpeg_and_what_it_writes_here() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut out = Vec::new();
    let mut writer = Y4mWriter::new(&mut out, 5, 3, Rate::new(25, 1).unwrap()).unwrap();
    let rgb: Vec<u8> = (0..45).map(|i| (i * 53 % 256) as u8).collect();
    writer.write(&rgb).unwrap();
    fs::write(folder.path().join("a.y4m"), &out).unwrap();
    ffmpeg(folder.path(), "-i a.y4m -vf scale=sws_flags=full_chroma_int+accurate_rnd -pix_fmt rgb24 p1.png");
    let back = &pngs(folder.path(), 1)[0];
    let worst = rgb.iter().zip(back).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(worst <= 3, "{worst}: {rgb:?} {back:?}");

    for (arguments, format) in [
        ("-pix_fmt yuv420p", "nv12"),
        ("-pix_fmt yuvj420p -strict -1", "nv12:full"),
        ("-pix_fmt gray -strict -1", "mono8"),
    ] {
        ffmpeg(
            folder.path(),
            &format!("-f lavfi -i testsrc2=s=34x18:r=25 -vf format=rgb24,scale=33:17 -frames:v 3 {arguments} b.y4m"),
        );
        ffmpeg(
            folder.path(),
            &format!("-i b.y4m -f rawvideo -pix_fmt {} raw", if format == "mono8" { "gray" } else { "yuv420p" }),
        );
        let file = fs::File::open(folder.path().join("b.y4m")).unwrap();
        let mut source = Y4m::new(file, "b.y4m", Y4mOptions::default()).unwrap();
        assert_eq!(source.describe(), format!("b.y4m: {format}, 33×17 at 25 frames a second"));
        let frames = all(&mut source);
        assert_eq!(frames.len(), 3);
        let raw = fs::read(folder.path().join("raw")).unwrap();
        let need = raw.len() / 3;
        if format != "nv12:full" {
            for ((_, bytes), raw) in frames.iter().zip(raw.chunks(need)) {
                assert!(bytes[..33 * 17] == raw[..33 * 17], "{format}");
            }
        }
    }
}

/// Ends with its test, however that ends.
struct Sender(std::process::Child);

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A stream over this machine's network, whose sender ends.
#[test]
#[cfg(unix)]
fn a_stream_that_falls_silent_is_lost() {
    if !has_ffmpeg() {
        return;
    }
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("udp://127.0.0.1:{port}");
    let sent = "-nostdin -loglevel error -re -f lavfi -i testsrc2=s=160x120:r=30 -g 5 -c:v mpeg2video -f mpegts";
    let mut sender = Sender(Command::new("ffmpeg").args(sent.split(' ')).arg(&address).spawn().unwrap());
    let options = SourceOptions { patience: Some(Duration::from_secs(3)), ..SourceOptions::default() };
    let mut source = open(&address, &options).unwrap();
    assert!(source.is_live());
    let mut room = Memory::default();
    let mut last = i64::MIN;
    let mut frames = 0;
    let error = loop {
        match source.next(&mut room) {
            Ok(Next::Frame(frame)) => {
                assert!(frame.stamp >= last);
                (last, frames) = (frame.stamp, frames + 1);
                if frames == 20 {
                    sender.0.kill().unwrap();
                }
            }
            Ok(Next::Corrupt(_)) => {}
            Ok(Next::End) => panic!("a live stream has no end"),
            Err(error) => break error.to_string(),
        }
    };
    assert_eq!(room.size, (160, 120));
    assert!(frames >= 20);
    assert_eq!(error, format!("{address}: nothing came for 3 s"));
}
