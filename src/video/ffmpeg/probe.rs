//! What ffprobe says of a file or URL.

use std::ffi::OsString;
use std::time::Duration;

use serde_json::Value;

use super::address::Address;
use super::child::{Patience, Programs, Running};
use crate::error::{Error, Result};
use crate::pixels::{Yuv, YuvMatrix, YuvRange};
use crate::video::rate::Rate;

/// Nothing is said of a stream, and no frame decoded, before some seconds of it were seen.
pub const TO_LOOK: Duration = Duration::from_secs(10);
/// Bytes that are taken of its answer.
const MOST_SAID: usize = 1 << 20;

/// What is known of a video before its first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Pixels of a row as ffmpeg gives frames, upright.
    pub width: u64,
    /// Rows.
    pub height: u64,
    /// As ffmpeg gives frames to what takes none at other times.
    pub rate: Option<Rate>,
    /// What its luma and chroma mean, or are best made to mean.
    pub yuv: Yuv,
    /// Whether it has an end.
    pub has_length: bool,
    /// Whether this ffmpeg knows `-fps_mode` (5.1), which took the place of `-vsync`.
    pub knows_fps_mode: bool,
}

/// Asks; of what is elsewhere for at most `patience` and 10 s.
///
/// # Errors
/// [`Error::Video`]: no ffprobe, nothing there, no video in it.
pub fn probe(address: &Address, programs: &Programs, patience: Duration) -> Result<Probe> {
    let shown = address.shown();
    let wrong = |what: String| Error::Video(format!("{shown}: {}", address.hide(&what)));
    let patience = patience + TO_LOOK;
    let watched = address.is_url().then_some(Patience { first: patience, later: patience });
    let mut running = Running::start(&programs.ffprobe, arguments(address), false, watched)?;
    let mut text = vec![0; MOST_SAID];
    let count = running.read(&mut text, || {}).map_err(|e| wrong(format!("ffprobe: {e}")))?;
    let ended = running.end().map_err(|e| wrong(format!("ffprobe: {e}")))?;
    if ended.silent {
        return Err(wrong(format!("nothing came for {} s", patience.as_secs_f64())));
    }
    if !ended.status.success() {
        return Err(wrong(if ended.said.is_empty() { format!("ffprobe: {}", ended.status) } else { ended.said }));
    }
    let answer = serde_json::from_slice(&text[..count]).map_err(|e| wrong(format!("ffprobe's answer: {e}")))?;
    parse(&answer).map_err(wrong)
}

fn arguments(address: &Address) -> Vec<OsString> {
    const WANTED: &str = "stream=width,height,r_frame_rate,avg_frame_rate,color_range,color_space:stream_tags=rotate:\
                          stream_side_data=rotation:format=duration";
    let fixed =
        ["-v", "error", "-of", "json", "-show_program_version", "-select_streams", "V:0", "-show_entries", WANTED];
    fixed.into_iter().map(OsString::from).chain(address.input()).collect()
}

fn parse(answer: &Value) -> Result<Probe, String> {
    let stream = &answer["streams"][0];
    let size = |name: &str| stream[name].as_u64().filter(|size| *size > 0);
    let (Some(width), Some(height)) = (size("width"), size("height")) else {
        return Err("no video in it".to_owned());
    };
    let (width, height) = if is_on_its_side(stream) { (height, width) } else { (width, height) };
    let has_length = number(&answer["format"]["duration"]).is_some_and(|seconds| seconds > 0.0);
    let knows_fps_mode = knows_fps_mode(answer["program_version"]["version"].as_str().unwrap_or_default());
    Ok(Probe { width, height, rate: rate(stream), yuv: yuv(stream), has_length, knows_fps_mode })
}

/// A number, which may stand there as text.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

/// Whether ffmpeg turns it by a quarter.
fn is_on_its_side(stream: &Value) -> bool {
    let of_frames =
        stream["side_data_list"].as_array().and_then(|all| all.iter().find_map(|data| number(&data["rotation"])));
    let degrees = of_frames.or_else(|| number(&stream["tags"]["rotate"])).unwrap_or(0.0);
    // What is nearly a quarter is one for ffmpeg; other angles keep the size.
    (degrees.rem_euclid(180.0) - 90.0).abs() < 1.0
}

/// ffmpeg's own guess: the rate that all its times are multiples of, unless that is the clock's and no camera's.
fn rate(stream: &Value) -> Option<Rate> {
    let read = |name: &str| stream[name].as_str()?.parse::<Rate>().ok();
    match (read("r_frame_rate"), read("avg_frame_rate")) {
        (Some(base), Some(mean)) if base.per_second() > 210.0 && mean.per_second() < 70.0 => Some(mean),
        (base, mean) => base.or(mean),
    }
}

/// Where nothing is said, what ffmpeg takes it for when it makes RGB of it.
fn yuv(stream: &Value) -> Yuv {
    let matrix = match stream["color_space"].as_str().unwrap_or_default() {
        "" | "unknown" | "reserved" | "gbr" | "bt470bg" | "smpte170m" | "fcc" => YuvMatrix::Bt601,
        // Others are made into this one.
        _ => YuvMatrix::Bt709,
    };
    let range = if stream["color_range"] == "pc" { YuvRange::Full } else { YuvRange::Video };
    Yuv { matrix, range }
}

/// Of a version such as 5.1.9-0+deb12u1; what is no number is newer.
fn knows_fps_mode(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('n').split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|number| number.parse::<u32>().ok());
    match (number(), number()) {
        (Some(major), minor) => (major, minor.unwrap_or(0)) >= (5, 1),
        (None, _) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(stream: Value) -> Result<Probe, String> {
        parse(&json!({ "streams": [stream], "program_version": { "version": "5.1.9-0+deb12u1" } }))
    }

    #[test]
    fn a_quarter_turn_exchanges_the_sides() {
        let size = |side_data: Value, tags: Value| {
            let probe = of(json!({ "width": 4, "height": 2, "side_data_list": side_data, "tags": tags })).unwrap();
            (probe.width, probe.height)
        };
        let turned = |degrees: Value| size(json!([{ "x": 1 }, { "rotation": degrees }]), json!({}));
        for degrees in [json!(90), json!(-90), json!(270), json!(89.6), json!("-90"), json!(-270.4)] {
            assert_eq!(turned(degrees), (2, 4));
        }
        for degrees in [json!(0), json!(180), json!(-180), json!(45), json!(null), json!("x")] {
            assert_eq!(turned(degrees), (4, 2));
        }
        assert_eq!(size(Value::Null, json!({ "rotate": "90" })), (2, 4));
        assert_eq!(size(Value::Null, Value::Null), (4, 2));
    }

    #[test]
    fn colours_are_what_is_said() {
        let yuv = |space: Value, range: Value| {
            of(json!({ "width": 4, "height": 2, "color_space": space, "color_range": range })).unwrap().yuv
        };
        let high = Yuv { matrix: YuvMatrix::Bt709, range: YuvRange::Video };
        assert_eq!(yuv(json!("bt709"), json!("tv")), high);
        assert_eq!(yuv(json!("bt2020nc"), Value::Null), high);
        assert_eq!(yuv(json!("smpte170m"), json!("pc")), Yuv { range: YuvRange::Full, ..Yuv::default() });
        assert_eq!(yuv(Value::Null, Value::Null), Yuv::default());
        assert_eq!(yuv(json!("unknown"), json!("unknown")), Yuv::default());
    }

    #[test]
    fn rates_are_ffmpegs_own() {
        let rate = |base: &str, mean: &str| {
            of(json!({ "width": 4, "height": 2, "r_frame_rate": base, "avg_frame_rate": mean })).unwrap().rate
        };
        assert_eq!(rate("30000/1001", "30000/1001"), Rate::new(30000, 1001));
        assert_eq!(rate("90000/1", "25/1"), Rate::new(25, 1));
        assert_eq!(rate("240/1", "240/1"), Rate::new(240, 1));
        assert_eq!(rate("0/0", "25/1"), Rate::new(25, 1));
        assert_eq!(rate("0/0", "0/0"), None);
    }

    #[test]
    fn what_has_no_video_is_told() {
        for answer in
            [json!({}), json!({ "streams": [] }), json!({ "streams": [{ "width": 0, "height": 2 }] }), json!([])]
        {
            assert_eq!(parse(&answer).unwrap_err(), "no video in it");
        }
    }

    #[test]
    fn versions_are_told_apart() {
        for version in ["5.1", "5.1.9-0+deb12u1", "6.0", "n7.1", "N-118000-gabc", "", "2024-01-01-git", "8"] {
            assert!(knows_fps_mode(version), "{version}");
        }
        for version in ["4.4.2-0ubuntu0.22.04.1", "5.0.1", "3.4", "n4.2"] {
            assert!(!knows_fps_mode(version), "{version}");
        }
    }
}
