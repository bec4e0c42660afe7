//! Frames a second, exactly, and the stamps that follow from them.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::Error;

const NANOSECONDS: u128 = 1_000_000_000;

/// Frames a second as a fraction, such as 30000/1001.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    frames: u32,
    seconds: u32,
}

impl Rate {
    /// So many frames in so many seconds; `None` where one of both is 0.
    pub fn new(frames: u32, seconds: u32) -> Option<Rate> {
        (frames > 0 && seconds > 0).then_some(Rate { frames, seconds })
    }

    /// Its frames.
    pub fn frames(self) -> u32 {
        self.frames
    }

    /// In so many seconds.
    pub fn seconds(self) -> u32 {
        self.seconds
    }

    /// Frames a second, rounded.
    pub fn per_second(self) -> f64 {
        f64::from(self.frames) / f64::from(self.seconds)
    }

    /// When a frame is shown, in nanoseconds since frame 0, rounded down. Nothing adds up: each stamp is a division of its own.
    pub fn stamp(self, index: u64) -> i64 {
        // 64 + 32 + 30 bits at most.
        let stamp = u128::from(index) * u128::from(self.seconds) * NANOSECONDS / u128::from(self.frames);
        i64::try_from(stamp).unwrap_or(i64::MAX)
    }
}

impl Default for Rate {
    /// 30.
    fn default() -> Rate {
        Rate { frames: 30, seconds: 1 }
    }
}

impl FromStr for Rate {
    type Err = Error;

    /// `30`, `29.97` (to a millionth) or `30000/1001`; a `:` may stand for the stroke.
    fn from_str(text: &str) -> Result<Rate, Error> {
        parse(text).ok_or_else(|| {
            Error::Video(format!("rate {text:?}: expected frames a second above 0, such as 30, 29.97 or 30000/1001"))
        })
    }
}

fn parse(text: &str) -> Option<Rate> {
    let whole = |text: &str| text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    if let Some((frames, seconds)) = text.split_once(['/', ':']) {
        return Rate::new(whole(frames)?, whole(seconds)?);
    }
    let (before, behind) = text.split_once('.').unwrap_or((text, ""));
    if behind.len() > 6 {
        return None;
    }
    let parts = 10u32.pow(behind.len() as u32);
    let behind = if behind.is_empty() { 0 } else { whole(behind)? };
    let frames = u64::from(whole(before)?) * u64::from(parts) + u64::from(behind);
    let shared = greatest_divisor(frames, u64::from(parts));
    Rate::new(u32::try_from(frames / shared).ok()?, (u64::from(parts) / shared) as u32)
}

fn greatest_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { greatest_divisor(b, a % b) }
}

impl fmt::Display for Rate {
    /// `30`, or `29.97` of 30000/1001.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.3}", self.per_second());
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// The time of day, in nanoseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Where a pipe's frames, which carry no stamps, get theirs from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stamps {
    /// Their index, at a known rate: of what is not live.
    Rate(Rate),
    /// The moment in which their first bytes came: since 1970 of what is live, otherwise since that of the first frame.
    Arrival { live: bool, first: Option<Instant> },
}

impl Stamps {
    /// Of a live source the time of day, of another the rate, or the time since its first frame where none is known.
    pub fn new(live: bool, rate: Option<Rate>) -> Stamps {
        match rate {
            Some(rate) if !live => Stamps::Rate(rate),
            _ => Stamps::Arrival { live, first: None },
        }
    }

    pub fn is_live(&self) -> bool {
        matches!(self, Stamps::Arrival { live: true, .. })
    }

    /// Of frame `index`, whose first bytes came just now.
    pub fn next(&mut self, index: u64) -> i64 {
        match self {
            Stamps::Rate(rate) => rate.stamp(index),
            Stamps::Arrival { live: true, .. } => now(),
            Stamps::Arrival { first, .. } => {
                let since = first.get_or_insert_with(Instant::now).elapsed();
                i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_neither_drift_nor_overflow() {
        let film = Rate::new(30000, 1001).unwrap();
        assert_eq!([0, 1, 2, 30000].map(|i| film.stamp(i)), [0, 33_366_666, 66_733_333, 1_001_000_000_000]);
        // A day, and what no film lasts.
        assert_eq!(film.stamp(30000 * 86_400), 1001 * 86_400 * 1_000_000_000);
        assert_eq!(Rate::new(1, u32::MAX).unwrap().stamp(u64::MAX), i64::MAX);
        assert_eq!(Rate::new(u32::MAX, 1).unwrap().stamp(u64::from(u32::MAX) * 3), 3_000_000_000);
    }

    #[test]
    fn rates_are_read_as_people_write_them() {
        let read = |text: &str| text.parse::<Rate>().ok().map(|rate| (rate.frames(), rate.seconds()));
        assert_eq!(read("30"), Some((30, 1)));
        assert_eq!(read("29.97"), Some((2997, 100)));
        assert_eq!(read("0.5"), Some((1, 2)));
        assert_eq!(read("30000/1001"), Some((30000, 1001)));
        assert_eq!(read("25:1"), Some((25, 1)));
        let wrong =
            ["", "0", "0/1", "1/0", "-1", "+3", "x", "1e3", "30/", "/", ".", "1.2345678", "99999999999", "5000.000001"];
        for text in wrong {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("rate {text:?}: expected frames a second")), "{error}");
        }
    }

    #[test]
    fn rates_are_shown_short() {
        let shown = |frames, seconds| Rate::new(frames, seconds).unwrap().to_string();
        assert_eq!([shown(30, 1), shown(30000, 1001), shown(1, 2), shown(100, 1)], ["30", "29.97", "0.5", "100"]);
    }
}
