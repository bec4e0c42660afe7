//! What is said of each frame, and of all.

use std::time::Duration;

use serde::Serialize;

use crate::engine::{self, Results};
use crate::error::Error;
use crate::image::{self, legend::percent};
use crate::stream::{Answer, Histogram, Stats};

use super::super::result::{SavedFile, Share, Unlabelled, milliseconds, shown};
use super::super::table::{Align, Table};
use super::capture::Counted;

/// One frame.
#[derive(Serialize)]
pub struct FrameReport {
    /// How many frames came before it.
    frame: u64,
    stamp_ns: i64,
    /// The number of the list of labels that it was asked about.
    epoch: u64,
    age_ms: f64,
    waited_ms: f64,
    compute_ms: f64,
    /// Frames left out so far for newer ones.
    replaced: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<Share>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unlabelled: Option<Unlabelled>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<SavedFile>,
}

impl FrameReport {
    pub fn new(
        answer: &Answer,
        results: &Results,
        replaced: u64,
        files: Vec<SavedFile>,
        has_threshold: bool,
    ) -> FrameReport {
        let names = results.labels().map_or(&[][..], |labels| labels.names());
        let mask = results.mask(0).unwrap_or_default();
        let shares = engine::shares(mask, names.len()).into_iter().zip(names).enumerate();
        let labels = shares.map(|(index, (share, label))| Share { index, label: label.clone(), share }).collect();
        let unlabelled = has_threshold
            .then(|| Unlabelled { value: image::mask::unlabelled(names.len()), share: engine::unlabelled(mask) });
        FrameReport { labels, unlabelled, files, ..FrameReport::of(answer, replaced) }
    }

    pub fn failed(answer: &Answer, error: &Error, replaced: u64) -> FrameReport {
        FrameReport { error: Some(error.to_string()), ..FrameReport::of(answer, replaced) }
    }

    fn of(answer: &Answer, replaced: u64) -> FrameReport {
        let times = answer.times;
        FrameReport {
            frame: answer.sequence,
            stamp_ns: answer.stamp,
            epoch: answer.epoch,
            age_ms: milliseconds(times.age),
            waited_ms: milliseconds(times.waited),
            compute_ms: milliseconds(times.computed),
            replaced,
            error: None,
            labels: Vec::new(),
            unlabelled: None,
            files: Vec::new(),
        }
    }

    /// One line; of a frame with files their names.
    pub fn render(&self) -> String {
        let FrameReport { frame, age_ms, replaced, labels, error, files, .. } = self;
        let what = match (error, &files[..]) {
            (Some(error), _) => error.clone(),
            (None, []) => labels
                .iter()
                .map(|share| format!("{} {}", share.label, percent(share.share)))
                .collect::<Vec<_>>()
                .join(", "),
            (None, files) => files.iter().map(|file| shown(&file.path)).collect::<Vec<_>>().join(" "),
        };
        format!("frame {frame}: {age_ms:.1} ms old, {replaced} left out; {what}\n")
    }
}

/// All frames.
#[derive(Serialize)]
pub struct Summary {
    summary: Counts,
    seconds: f64,
    frames_per_second: f64,
    age_ms: Spread,
    compute_ms: Spread,
    /// How far the time from an answer to the next is from its median.
    jitter_ms: Spread,
}

/// What became of the frames that were taken from the source: pushed = done + replaced + stale + failed.
#[derive(Serialize)]
struct Counts {
    pushed: u64,
    done: u64,
    replaced: u64,
    stale: u64,
    failed: u64,
    /// Done, but a newer answer came before anybody could write them.
    unread: u64,
    /// Damaged, so that they were not pushed.
    corrupt: u64,
    /// Lost by the camera or its driver.
    missed: u64,
    /// Whole, but a newer one waited behind them in the camera's memory.
    passed_over: u64,
    /// Written, or told.
    delivered: u64,
    reconnections: u64,
    restarts: u64,
}

#[derive(Serialize)]
struct Spread {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Spread {
    fn of(time: impl Fn(f64) -> Duration) -> Spread {
        let [p50, p90, p99, p999, max] = [0.5, 0.9, 0.99, 0.999, 1.0].map(|share| milliseconds(time(share)));
        Spread { p50, p90, p99, p999, max }
    }

    fn cells(&self) -> [String; 5] {
        [self.p50, self.p90, self.p99, self.p999, self.max].map(|time| format!("{time:.2}"))
    }
}

impl Summary {
    pub fn new(stats: &Stats, counted: &Counted, delivered: u64, time: Duration) -> Summary {
        let Stats { pushed, done, replaced, stale, failed, unread, restarts, age, computed, interval, .. } = stats;
        let summary = Counts {
            pushed: *pushed,
            done: *done,
            replaced: *replaced,
            stale: *stale,
            failed: *failed,
            unread: *unread,
            corrupt: counted.corrupt(),
            missed: counted.missed(),
            passed_over: counted.passed_over(),
            delivered,
            reconnections: counted.reconnections(),
            restarts: *restarts,
        };
        let quantiles = |histogram: &Histogram| Spread::of(|share| histogram.quantile(share));
        Summary {
            summary,
            seconds: time.as_secs_f64(),
            frames_per_second: delivered as f64 / time.as_secs_f64().max(1e-9),
            age_ms: quantiles(age),
            compute_ms: quantiles(computed),
            jitter_ms: Spread::of(|share| interval.deviation(share)),
        }
    }

    pub fn render(&self) -> String {
        let Counts { pushed, done, delivered, .. } = self.summary;
        let mut text =
            format!("{pushed} frames, {done} computed, {delivered} given out, {:.1} a second", self.frames_per_second);
        let Counts { replaced, stale, failed, unread, corrupt, missed, passed_over, reconnections, restarts, .. } =
            self.summary;
        let others = [
            (replaced, "left out for newer ones"),
            (stale, "too old"),
            (failed, "failed"),
            (unread, "computed and given out to nobody"),
            (corrupt, "damaged"),
            (missed, "lost by the source"),
            (passed_over, "left in the camera's memory for newer ones"),
            (reconnections, "times opened again"),
            (restarts, "engines made anew"),
        ];
        others
            .iter()
            .filter(|(count, _)| *count > 0)
            .for_each(|(count, what)| text.push_str(&format!("; {count} {what}")));
        let mut table = Table::headed(
            [Align::Left, Align::Right, Align::Right, Align::Right, Align::Right, Align::Right],
            ["ms", "p50", "p90", "p99", "p99.9", "max"],
        );
        for (name, spread) in [("age", &self.age_ms), ("compute", &self.compute_ms), ("jitter", &self.jitter_ms)] {
            let [p50, p90, p99, p999, max] = spread.cells();
            table.row([name.to_owned(), p50, p90, p99, p999, max]);
        }
        format!("{text}\n{}", table.render())
    }
}
