//! Times by the GPU's own clock: events at the switches of stages and, where asked for, before every step.

use std::sync::Arc;

use super::driver::{Event, Stream};
use crate::device::Times;
use crate::error::Result;
use crate::ops::Stage;

/// Switches of stages that a pass is timed by; those beyond belong to the stage before.
const SWITCHES: usize = 8;

pub struct Clock {
    stream: Arc<Stream>,
    begin: Event,
    end: Event,
    /// Where each stage begins, and which it is.
    switches: Vec<Event>,
    stages: Vec<Stage>,
    seconds: [f64; Stage::ALL.len()],
    /// Of the whole pass.
    total: f64,
    replays: bool,
    recording: bool,
    /// Before each step, and how many have begun.
    steps: Vec<Event>,
    begun: usize,
    step_seconds: Vec<f64>,
}

impl Clock {
    pub fn new(stream: &Arc<Stream>) -> Result<Clock> {
        Ok(Clock {
            stream: Arc::clone(stream),
            begin: Event::new(stream)?,
            end: Event::new(stream)?,
            switches: (0..SWITCHES).map(|_| Event::new(stream)).collect::<Result<_>>()?,
            stages: Vec::with_capacity(SWITCHES),
            seconds: Default::default(),
            total: 0.0,
            replays: false,
            recording: false,
            steps: Vec::new(),
            begun: 0,
            step_seconds: Vec::new(),
        })
    }

    /// Whether each step is timed.
    pub fn set_recording(&mut self, on: bool) {
        self.recording = on;
    }

    pub fn is_recording(&self) -> bool {
        self.recording
    }

    /// A pass begins, step by step or replayed as one.
    pub fn start(&mut self, replays: bool) -> Result<()> {
        self.stages.clear();
        self.step_seconds.clear();
        self.begun = 0;
        self.replays = replays;
        self.begin.record()
    }

    pub fn stage(&mut self, stage: Stage) -> Result<()> {
        match self.switches.get(self.stages.len()) {
            Some(event) if self.stages.last() != Some(&stage) => {
                self.stages.push(stage);
                event.record()
            }
            _ => Ok(()),
        }
    }

    /// A step begins.
    pub fn step(&mut self) -> Result<()> {
        if !self.recording {
            return Ok(());
        }
        if self.begun == self.steps.len() {
            self.steps.push(Event::new(&self.stream)?);
        }
        self.begun += 1;
        self.steps[self.begun - 1].record()
    }

    pub fn finish(&self) -> Result<()> {
        self.end.record()
    }

    /// The end of the pass.
    pub fn end(&self) -> &Event {
        &self.end
    }

    /// Once the pass has been waited for.
    pub fn read(&mut self) -> Result<()> {
        self.seconds = Default::default();
        self.total = self.end.seconds_since(&self.begin)?;
        for (i, stage) in self.stages.iter().enumerate() {
            let next = if i + 1 == self.stages.len() { &self.end } else { &self.switches[i + 1] };
            self.seconds[*stage as usize] += next.seconds_since(&self.switches[i])?;
        }
        for i in 0..self.begun {
            let next = if i + 1 == self.begun { &self.end } else { &self.steps[i + 1] };
            self.step_seconds.push(next.seconds_since(&self.steps[i])?);
        }
        Ok(())
    }

    /// Of the last pass.
    pub fn times(&self) -> Times<'_> {
        Times { stages: self.seconds, whole: self.replays.then_some(self.total), steps: &self.step_seconds }
    }
}
