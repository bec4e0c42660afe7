//! With a script in the driver's place.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;

use super::super::tests::Memory;
use super::abi::{PixFormat, fourcc};
use super::*;
use crate::video::{CameraFormat, Rate};
use std::sync::Arc;

/// What the kernel does next.
enum Step {
    /// A buffer is filled: the bytes, flags as [`Filled`] has them.
    Fill {
        bytes: Vec<u8>,
        used: Option<usize>,
        damaged: bool,
        sequence: u32,
        taken: Option<i64>,
    },
    /// Nothing more, until the next wait.
    Empty,
    Silent,
    Fail(i32),
}

#[derive(Default)]
struct Script {
    formats: Vec<u32>,
    /// What each format becomes.
    answers: Vec<PixFormat>,
    /// Frames a second of each format.
    rates: Vec<(u32, Rate)>,
    now: PixFormat,
    steps: VecDeque<Step>,
    buffers: [Vec<u8>; BUFFERS as usize],
    next: usize,
    queued: Arc<Mutex<Vec<u32>>>,
    ahead: i64,
    fails_at: Option<(&'static str, i32)>,
}

impl Script {
    fn may(&self, request: &'static str) -> Result<(), Refusal> {
        match self.fails_at {
            Some((at, code)) if at == request => Err(Refusal { request, error: io::Error::from_raw_os_error(code) }),
            _ => Ok(()),
        }
    }
}

impl Driver for Script {
    fn card(&self) -> &str {
        "script"
    }

    fn formats(&mut self) -> Result<Vec<u32>, Refusal> {
        self.may("VIDIOC_ENUM_FMT")?;
        Ok(self.formats.clone())
    }

    fn format(&mut self) -> Result<PixFormat, Refusal> {
        Ok(self.now)
    }

    fn set_format(&mut self, wanted: PixFormat) -> Result<PixFormat, Refusal> {
        self.may("VIDIOC_S_FMT")?;
        let answer = self.answers.iter().find(|answer| answer.pixelformat == wanted.pixelformat);
        self.now = answer.copied().unwrap_or(wanted);
        Ok(self.now)
    }

    fn set_rate(&mut self, _: Option<Rate>) -> Result<Option<Rate>, Refusal> {
        Ok(self.rates.iter().find(|(format, _)| *format == self.now.pixelformat).map(|(_, rate)| *rate))
    }

    fn start(&mut self, buffers: u32) -> Result<(), Refusal> {
        self.may("VIDIOC_STREAMON")?;
        self.queued.lock().unwrap().extend(0..buffers);
        Ok(())
    }

    fn wait(&mut self, _: Duration) -> Result<bool, Refusal> {
        while matches!(self.steps.front(), Some(Step::Empty)) {
            self.steps.pop_front();
        }
        Ok(!matches!(self.steps.front(), Some(Step::Silent)))
    }

    fn dequeue(&mut self) -> Result<Option<Filled>, Refusal> {
        match self.steps.pop_front().unwrap_or(Step::Empty) {
            Step::Fill { bytes, used, damaged, sequence, taken } => {
                let index = self.next as u32 % BUFFERS;
                self.next += 1;
                let mut queued = self.queued.lock().unwrap();
                let at = queued.iter().position(|queued| *queued == index).expect("a buffer is queued");
                queued.remove(at);
                let used = used.unwrap_or(bytes.len());
                self.buffers[index as usize] = bytes;
                Ok(Some(Filled { index, bytes: used, damaged, sequence, taken }))
            }
            Step::Empty => Ok(None),
            Step::Silent => unreachable!("nobody waits"),
            Step::Fail(code) => Err(Refusal { request: "VIDIOC_DQBUF", error: io::Error::from_raw_os_error(code) }),
        }
    }

    fn bytes(&self, index: u32) -> &[u8] {
        &self.buffers[index as usize]
    }

    fn enqueue(&mut self, index: u32) -> Result<(), Refusal> {
        self.queued.lock().unwrap().push(index);
        Ok(())
    }

    fn ahead(&self) -> i64 {
        self.ahead
    }
}

fn pix(letters: &[u8; 4], width: u32, height: u32, bytesperline: u32) -> PixFormat {
    PixFormat { width, height, pixelformat: fourcc(letters), field: 1, bytesperline, ..PixFormat::default() }
}

fn script(pix: PixFormat, steps: Vec<Step>) -> Script {
    let (formats, steps) = (vec![pix.pixelformat], steps.into());
    Script { formats, answers: vec![pix], steps, ahead: 1_000_000, ..Script::default() }
}

fn fill(bytes: &[u8], sequence: u32) -> Step {
    Step::Fill { bytes: bytes.to_vec(), used: None, damaged: false, sequence, taken: Some(i64::from(sequence)) }
}

fn start(script: Script, options: &CameraOptions) -> Result<Camera> {
    Camera::start(Box::new(script), Path::new("/dev/video0"), options)
}

fn open(script: Script) -> Camera {
    start(script, &CameraOptions { newest: false, ..CameraOptions::default() }).unwrap()
}

#[track_caller]
fn frame(camera: &mut Camera, room: &mut Memory) -> Frame {
    match camera.next(room).unwrap() {
        Next::Frame(frame) => frame,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn corrupt(camera: &mut Camera) -> String {
    match camera.next(&mut Memory::default()).unwrap() {
        Next::Corrupt(what) => what,
        other => panic!("{other:?}"),
    }
}

const GREY: [u8; 2] = [1, 2];

#[test]
fn rows_come_without_what_pads_them() {
    // NV12 of 4×2 in rows of 6, then 3×3 in rows of 4.
    let mut camera = open(script(pix(b"NV12", 4, 2, 6), vec![fill(b"0123..4567..abcd", 0)]));
    assert_eq!(camera.describe(), "/dev/video0 (script): nv12, 4×2");
    assert!(camera.is_live());
    let mut room = Memory::default();
    assert_eq!(frame(&mut camera, &mut room), Frame { stamp: 1_000_000, missed: 0 });
    assert_eq!(
        (room.format, room.bytes.as_slice()),
        (Some(Format::Nv12(Default::default())), b"01234567abcd".as_slice())
    );

    let mut camera = open(script(pix(b"NV12", 3, 3, 4), vec![fill(b"012.345.678.abcdefgh...", 0)]));
    frame(&mut camera, &mut room);
    assert_eq!(room.bytes, b"012345678abcdefgh");
    let mut camera = open(script(pix(b"YUYV", 3, 2, 12), vec![fill(b"01234567....89abcdef....", 0)]));
    frame(&mut camera, &mut room);
    assert_eq!(room.bytes, b"0123456789abcdef");
    // Left unsaid.
    let mut camera = open(script(pix(b"BGR3", 1, 2, 0), vec![fill(b"012345", 0)]));
    frame(&mut camera, &mut room);
    assert_eq!((room.format, room.bytes.as_slice()), (Some(Format::Bgr8), b"012345".as_slice()));

    let wrong = start(script(pix(b"RGB3", 4, 2, 11), vec![]), &CameraOptions::default()).err().unwrap().to_string();
    assert!(wrong.contains("11 bytes from row to row: a row takes 12"), "{wrong}");
}

#[test]
fn damage_is_told_and_the_next_frame_is_whole() {
    let short = Step::Fill { bytes: vec![0; 16], used: Some(1), damaged: false, sequence: 0, taken: None };
    let empty = Step::Fill { bytes: vec![0; 16], used: Some(0), damaged: false, sequence: 1, taken: None };
    let damaged = Step::Fill { bytes: GREY.to_vec(), used: None, damaged: true, sequence: 2, taken: None };
    let lying = Step::Fill { bytes: vec![0; 1], used: Some(99), damaged: false, sequence: 3, taken: None };
    let script = script(pix(b"GREY", 2, 1, 2), vec![short, empty, damaged, lying, fill(&GREY, 6)]);
    let queued = script.queued.clone();
    let mut camera = open(script);
    assert_eq!(corrupt(&mut camera), "/dev/video0: frame 0 of the driver's count: 1 bytes of 2");
    assert!(corrupt(&mut camera).contains("frame 1 of the driver's count: 0 bytes of 2"));
    assert!(corrupt(&mut camera).contains("the driver says that it is damaged"));
    assert!(corrupt(&mut camera).contains("1 bytes of 2"));
    // Those that were lost meanwhile are told with it.
    assert_eq!(frame(&mut camera, &mut Memory::default()).missed, 2);
    assert_eq!(queued.lock().unwrap().len(), BUFFERS as usize);
}

#[test]
fn gaps_of_the_drivers_count_are_missed_frames() {
    let steps = [7, 8, 11, 11, 3, 4, u32::MAX, 0, 2].map(|sequence| fill(&GREY, sequence));
    let mut camera = open(script(pix(b"GREY", 2, 1, 2), steps.into()));
    let missed: Vec<u64> = (0..9).map(|_| frame(&mut camera, &mut Memory::default()).missed).collect();
    // A count that begins again says nothing, one that runs over goes on.
    assert_eq!(missed, [0, 0, 2, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn the_newest_is_taken_and_those_before_it_are_counted_apart() {
    let steps =
        vec![fill(b"aa", 0), fill(b"bb", 1), fill(b"cc", 4), Step::Empty, fill(b"dd", 5), Step::Empty, fill(b"ee", 6)];
    let options = CameraOptions::default();
    let script = script(pix(b"GREY", 2, 1, 2), steps);
    let queued = script.queued.clone();
    let mut camera = start(script, &options).unwrap();
    let mut room = Memory::default();
    assert_eq!(frame(&mut camera, &mut room), Frame { stamp: 1_000_004, missed: 2 });
    assert_eq!((room.bytes.as_slice(), options.passed_over.load(Ordering::Relaxed)), (b"cc".as_slice(), 2));
    assert_eq!(frame(&mut camera, &mut room), Frame { stamp: 1_000_005, missed: 0 });
    assert_eq!(room.bytes, b"dd");
    assert_eq!(frame(&mut camera, &mut room).missed, 0);
    assert_eq!((queued.lock().unwrap().len(), options.passed_over.load(Ordering::Relaxed)), (BUFFERS as usize, 2));
}

#[test]
fn a_driver_quicker_than_its_reader_does_not_hold_it() {
    let steps = (0..20).map(|sequence| fill(&GREY, sequence)).collect();
    let mut camera = start(script(pix(b"GREY", 2, 1, 2), steps), &CameraOptions::default()).unwrap();
    assert_eq!(frame(&mut camera, &mut Memory::default()).stamp, 1_000_003);
    assert_eq!(frame(&mut camera, &mut Memory::default()).stamp, 1_000_007);
}

#[test]
fn a_driver_with_another_clock_has_the_time_of_coming() {
    let step = Step::Fill { bytes: GREY.to_vec(), used: None, damaged: false, sequence: 0, taken: None };
    let mut camera = open(script(pix(b"GREY", 2, 1, 2), vec![step]));
    let before = now();
    assert!((before..=now() + 1_000_000_000).contains(&frame(&mut camera, &mut Memory::default()).stamp));
}

#[test]
fn a_room_that_refuses_keeps_no_buffer() {
    let script = script(pix(b"GREY", 2, 1, 2), vec![fill(&GREY, 0), fill(&GREY, 1)]);
    let queued = script.queued.clone();
    let mut camera = open(script);
    let mut room = Memory { refuse: 1, ..Memory::default() };
    assert!(matches!(camera.next(&mut room), Err(Error::Memory(_))));
    assert_eq!(queued.lock().unwrap().len(), BUFFERS as usize);
    frame(&mut camera, &mut room);
}

#[test]
fn losses_and_silence_are_explained() {
    let lost = |step: Step| {
        let mut camera = open(script(pix(b"GREY", 2, 1, 2), vec![step]));
        let error = camera.next(&mut Memory::default()).unwrap_err();
        assert!(matches!(error, Error::Video(_)));
        error.to_string()
    };
    for code in [libc::ENODEV, libc::EIO, libc::ENXIO] {
        let error = lost(Step::Fail(code));
        assert!(error.starts_with("/dev/video0: VIDIOC_DQBUF: ") && error.contains("unplugged"), "{error}");
    }
    assert!(lost(Step::Silent).contains("no frame for 5 s"));
    let refused = |at: (&'static str, i32)| {
        let script = Script { fails_at: Some(at), ..script(pix(b"GREY", 2, 1, 2), vec![]) };
        start(script, &CameraOptions::default()).err().unwrap().to_string()
    };
    for (request, code, words) in [
        ("VIDIOC_S_FMT", libc::EBUSY, "another program uses it"),
        ("VIDIOC_S_FMT", libc::EINVAL, "--camera-format"),
        ("VIDIOC_STREAMON", libc::ENOSPC, "USB port"),
        ("VIDIOC_STREAMON", libc::ENOMEM, "smaller --camera-size"),
        ("VIDIOC_ENUM_FMT", libc::ENOTTY, "not a camera"),
        ("VIDIOC_ENUM_FMT", libc::EACCES, "group video"),
        ("VIDIOC_ENUM_FMT", libc::EPROTO, "Protocol error"),
    ] {
        let error = refused((request, code));
        assert!(error.starts_with(&format!("/dev/video0: {request}: ")) && error.contains(words), "{error}");
        assert!(!error.contains('\n'));
    }
}

/// The camera's description with these formats and answers.
fn chosen(formats: &[&[u8; 4]], answers: Vec<PixFormat>, options: CameraOptions) -> Result<String, String> {
    let rates = vec![(fourcc(b"YUYV"), Rate::new(5, 1).unwrap()), (fourcc(b"MJPG"), Rate::new(30, 1).unwrap())];
    let formats = formats.iter().map(|letters| fourcc(letters)).collect();
    let now = pix(b"YUYV", 640, 480, 1280);
    let script = Script { formats, answers, rates, now, ..Script::default() };
    match start(script, &options) {
        Ok(camera) => Ok(camera.describe().replace("/dev/video0 (script): ", "")),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn formats_are_preferred_in_order() {
    let all = [b"MJPG", b"GREY", b"BGR3", b"RGB3", b"YUYV", b"NV12", b"H264"];
    let auto = |formats: &[&[u8; 4]]| chosen(formats, vec![], CameraOptions::default()).unwrap();
    assert_eq!(auto(&all), "nv12, 640×480");
    assert_eq!(auto(&all[..5]), "yuyv, 640×480 at 5 frames a second");
    assert_eq!(auto(&all[..4]), "rgb8, 640×480");
    assert_eq!(auto(&all[..3]), "bgr8, 640×480");
    assert_eq!(auto(&all[..2]), "mono8, 640×480");
    assert_eq!(auto(&all[..1]), "mjpeg, 640×480 at 30 frames a second");
    let only = CameraOptions { format: CameraFormat::Mjpeg, ..CameraOptions::default() };
    assert_eq!(chosen(&all, vec![], only.clone()).unwrap(), "mjpeg, 640×480 at 30 frames a second");
    let error = chosen(&all[1..], vec![], only).unwrap_err();
    assert_eq!(error, "/dev/video0: expected mjpeg; it gives GREY, BGR3, RGB3, YUYV, NV12, H264");
    assert!(chosen(&[], vec![], CameraOptions::default()).unwrap_err().contains("it gives no format at all"));
}

#[test]
fn a_format_in_the_wanted_size_and_rate_goes_before_a_better_one() {
    let wanted = |size, rate| CameraOptions { size, rate: Rate::new(rate, 1), ..CameraOptions::default() };
    let both: [&[u8; 4]; 2] = [b"YUYV", b"MJPG"];
    assert!(chosen(&both, vec![], wanted(Some((1920, 1080)), 30)).unwrap().starts_with("mjpeg, 1920×1080 at 30"));
    assert!(chosen(&both, vec![], wanted(Some((1920, 1080)), 5)).unwrap().starts_with("yuyv, 1920×1080 at 5"));
    // None in the wanted rate: the first.
    assert!(chosen(&both, vec![], wanted(None, 60)).unwrap().starts_with("yuyv, 640×480 at 5"));
    // None in both: the size matters more.
    let answers = vec![pix(b"MJPG", 800, 600, 0)];
    assert!(chosen(&both, answers, wanted(Some((1920, 1080)), 30)).unwrap().starts_with("yuyv, 1920×1080 at 5"));
    // What the driver makes of it is what is said.
    let answers = vec![pix(b"YUYV", 800, 600, 1600)];
    assert!(chosen(&both[..1], answers, wanted(Some((1920, 1080)), 30)).unwrap().starts_with("yuyv, 800×600 at 5"));
}

#[test]
fn colours_are_the_drivers() {
    let of = |letters: &[u8; 4], colorspace, ycbcr_enc, quantization| {
        let answer =
            PixFormat { colorspace, ycbcr_enc, quantization, private: abi::PRIV_MAGIC, ..pix(letters, 640, 480, 1280) };
        chosen(&[letters], vec![answer], CameraOptions::default())
    };
    let yuyv = |colorspace, encoding, quantization| {
        of(b"YUYV", colorspace, encoding, quantization).unwrap().replace(", 640×480 at 5 frames a second", "")
    };
    assert_eq!(yuyv(0, 0, 0), "yuyv");
    assert_eq!(yuyv(8, 0, 0), "yuyv", "a webcam's sRGB");
    assert_eq!(yuyv(8, 0, 1), "yuyv:full");
    assert_eq!(yuyv(3, 0, 0), "yuyv:bt709");
    assert_eq!(yuyv(3, 1, 2), "yuyv");
    assert_eq!(yuyv(7, 0, 0), "yuyv:full");
    assert_eq!(yuyv(1, 2, 1), "yuyv:bt709:full");
    for (colorspace, encoding) in [(10, 0), (2, 0), (0, 6), (0, 8)] {
        assert!(of(b"YUYV", colorspace, encoding, 0).unwrap_err().contains("neither BT.601 nor BT.709"));
    }
    assert!(of(b"RGB3", 8, 0, 2).unwrap_err().contains("rgb8: its values are 16 to 235"));
    // Without the magic number what follows it is not meant.
    let answer = PixFormat { ycbcr_enc: 2, quantization: 1, ..pix(b"YUYV", 640, 480, 1280) };
    assert!(chosen(&[b"YUYV"], vec![answer], CameraOptions::default()).unwrap().starts_with("yuyv, "));
    // One that is not read here is passed over for one that is.
    let answer = PixFormat { colorspace: 10, ..pix(b"NV12", 640, 480, 640) };
    assert!(chosen(&[b"NV12", b"GREY"], vec![answer], CameraOptions::default()).unwrap().starts_with("mono8, "));
    let fields = PixFormat { field: 7, ..pix(b"NV12", 640, 480, 640) };
    assert!(chosen(&[b"NV12"], vec![fields], CameraOptions::default()).unwrap_err().contains("fields come apart"));
}

#[test]
fn frames_of_jpegs_are_decoded_and_bad_ones_told() {
    let mut jpeg = Vec::new();
    let grey = image::RgbImage::from_pixel(8, 8, image::Rgb([100; 3]));
    image::codecs::jpeg::JpegEncoder::new(&mut jpeg).encode_image(&grey).unwrap();
    let whole = jpeg.len();
    // Cameras leave what is behind it as it was.
    jpeg.extend([0; 50]);
    let cut = Step::Fill { bytes: jpeg.clone(), used: Some(whole / 2), damaged: false, sequence: 1, taken: None };
    let mut camera = open(script(pix(b"MJPG", 8, 8, 0), vec![fill(&jpeg, 0), cut, fill(b"", 2)]));
    let mut room = Memory::default();
    frame(&mut camera, &mut room);
    assert_eq!((room.format, room.width, room.height), (Some(Format::Rgb8), 8, 8));
    assert!(room.bytes.iter().all(|value| value.abs_diff(100) < 3));
    assert!(corrupt(&mut camera).contains("frame 1 of the driver's count: JPEG: "));
    assert!(corrupt(&mut camera).contains("empty"));
}

#[test]
fn names_of_formats_are_read() {
    for name in ["auto", "nv12", "yuyv", "rgb8", "bgr8", "mono8", "mjpeg"] {
        assert!(name.parse::<CameraFormat>().is_ok(), "{name}");
    }
    assert!("h264".parse::<CameraFormat>().unwrap_err().to_string().contains("expected auto, nv12"));
}
