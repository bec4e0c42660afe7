//! Times of a pass: wall time by stage and, where asked for, by step.

use std::time::Instant;

use crate::device::Times;
use crate::ops::Stage;

#[derive(Default)]
pub struct Clock {
    pub recording: bool,
    /// The stage of the step that runs, and since when it does.
    current: Option<(Stage, Instant)>,
    stage_seconds: [f64; Stage::ALL.len()],
    step_seconds: Vec<f64>,
}

impl Clock {
    /// A pass of so many steps is to begin.
    pub fn reset(&mut self, steps: usize) {
        self.stage_seconds = Default::default();
        self.step_seconds.clear();
        if self.recording {
            self.step_seconds.reserve(steps);
        }
    }

    /// A step ends, if one ran, and the next begins, if there is one.
    pub fn step(&mut self, next: Option<Stage>) {
        let now = Instant::now();
        if let Some((stage, since)) = self.current.take() {
            let seconds = now.duration_since(since).as_secs_f64();
            self.stage_seconds[stage as usize] += seconds;
            if self.recording {
                self.step_seconds.push(seconds);
            }
        }
        self.current = next.map(|stage| (stage, now));
    }

    pub fn times(&self) -> Times<'_> {
        Times { stages: self.stage_seconds, whole: None, steps: &self.step_seconds }
    }
}
