//! What a stream counts and measures. Nothing is allocated; the engine's thread alone writes times.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Parts of an octave: a value is known to 1/16 of itself.
const PARTS: usize = 16;
/// From a microsecond to an hour.
const OCTAVES: usize = 32;
const BINS: usize = PARTS * OCTAVES;

/// How often a time was seen: in bins that are a sixteenth of an octave wide, from one microsecond to an hour.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    bins: [u32; BINS],
    count: u64,
    most: Duration,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { bins: [0; BINS], count: 0, most: Duration::ZERO }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| self.quantile(share));
        write!(f, "{} times: p50 {p50:?}, p90 {p90:?}, p99 {p99:?}, most {:?}", self.count, self.most)
    }
}

/// Where a time is counted.
fn bin_of(time: Duration) -> usize {
    let microseconds = time.as_secs_f64() * 1e6;
    ((microseconds.max(1.0).log2() * PARTS as f64) as usize).min(BINS - 1)
}

/// The time at which a bin ends.
fn end_of(bin: usize) -> Duration {
    Duration::from_secs_f64(((bin + 1) as f64 / PARTS as f64).exp2() / 1e6)
}

impl Histogram {
    pub(crate) fn add(&mut self, time: Duration) {
        self.add_times(time, 1);
    }

    fn add_times(&mut self, time: Duration, times: u32) {
        let bin = &mut self.bins[bin_of(time)];
        *bin = bin.saturating_add(times);
        self.count += u64::from(times);
        self.most = self.most.max(time);
    }

    /// Each bin that is not empty: where it ends, and how many are in it.
    fn filled(&self) -> impl Iterator<Item = (Duration, u32)> {
        let bins = self.bins.iter().enumerate().filter(|(_, count)| **count > 0);
        bins.map(|(bin, count)| (end_of(bin).min(self.most), *count))
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest, exactly.
    pub fn most(&self) -> Duration {
        self.most
    }

    /// The time that this share of them (0 to 1) does not exceed, to a sixteenth of an octave (4 %), rounded up; zero of none.
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        let reaches = |(_, count): &(Duration, u32)| {
            seen += u64::from(*count);
            seen >= rank
        };
        self.filled().find(reaches).map_or(Duration::ZERO, |(end, _)| end)
    }

    /// Of how far values lie from their median, as [`Histogram::quantile`].
    pub fn deviation(&self, share: f64) -> Duration {
        let median = self.quantile(0.5);
        let mut deviations = Histogram::default();
        for (value, count) in self.filled() {
            deviations.add_times(value.abs_diff(median), count);
        }
        deviations.quantile(share)
    }
}

/// What became of the frames of a stream, and how long it took. `pushed = done + replaced + stale + failed + in_flight`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames that were given.
    pub pushed: u64,
    /// Frames that were computed.
    pub done: u64,
    /// Frames in whose place a newer one was computed.
    pub replaced: u64,
    /// Frames that were not computed because they had waited for longer than `stale_after`, or the stream was stopped.
    pub stale: u64,
    /// Frames of which nothing could be computed; each one's answer says why.
    pub failed: u64,
    /// Frames that wait or are computed just now.
    pub in_flight: u64,
    /// Answers (of those that are done or failed) in whose place a newer one came before anybody took them.
    pub unread: u64,
    /// How often the engine was made anew.
    pub restarts: u64,
    /// From a frame's push to its answer.
    pub age: Histogram,
    /// From when a frame was taken to its answer.
    pub computed: Histogram,
    /// From an answer to the next.
    pub interval: Histogram,
}

/// Counted by several threads.
#[derive(Default)]
pub struct Counters {
    pub pushed: AtomicU64,
    pub replaced: AtomicU64,
    pub stale: AtomicU64,
    pub done: AtomicU64,
    pub failed: AtomicU64,
    pub restarts: AtomicU64,
    times: Mutex<Times>,
}

#[derive(Default)]
struct Times {
    age: Histogram,
    computed: Histogram,
    interval: Histogram,
    last: Option<Instant>,
}

pub fn increment(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::AcqRel);
}

impl Counters {
    /// An answer has just come of a frame that was computed.
    pub fn note(&self, age: Duration, computed: Duration, now: Instant) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.age.add(age);
        times.computed.add(computed);
        if let Some(last) = times.last.replace(now) {
            times.interval.add(now.saturating_duration_since(last));
        }
    }

    /// All of them, with how many answers nobody took.
    pub fn stats(&self, unread: u64) -> Stats {
        // What came of frames is read before how many there are: none is counted that was not pushed.
        let [done, replaced, stale, failed] =
            [&self.done, &self.replaced, &self.stale, &self.failed].map(|counter| counter.load(Ordering::Acquire));
        let pushed = self.pushed.load(Ordering::Acquire);
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        Stats {
            pushed,
            done,
            replaced,
            stale,
            failed,
            in_flight: pushed - (done + replaced + stale + failed),
            unread,
            restarts: self.restarts.load(Ordering::Acquire),
            age: times.age,
            computed: times.computed,
            interval: times.interval,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_right_to_a_sixteenth_of_an_octave() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        (1..=10_000).for_each(|i| histogram.add(Duration::from_micros(i)));
        for share in [0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let (right, got) = (share * 1e-2, histogram.quantile(share).as_secs_f64());
            assert!((right..right * 1.05 + 1e-6).contains(&got), "{share}: {got} for {right}");
        }
        assert_eq!((histogram.count(), histogram.most()), (10_000, Duration::from_millis(10)));
        histogram.add(Duration::from_secs(1_000_000));
        histogram.add(Duration::ZERO);
        assert_eq!(histogram.quantile(1.0), Duration::from_secs(1_000_000).min(Duration::from_secs_f64(4294.967296)));
    }

    #[test]
    fn deviations_are_from_the_median() {
        let mut histogram = Histogram::default();
        (0..99).for_each(|_| histogram.add(Duration::from_millis(10)));
        histogram.add(Duration::from_millis(30));
        assert!(histogram.deviation(0.9) < Duration::from_micros(2));
        let most = histogram.deviation(1.0).as_secs_f64();
        assert!((0.019..0.0205).contains(&most), "{most}");
    }
}
