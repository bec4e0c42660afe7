//! Times by the GPU's own clock: events at the switches of stages and, where asked for, before every operation.

use std::sync::Arc;

use super::driver::{Event, Gpu};
use crate::device::Stage;
use crate::device::plan::Plan;
use crate::error::Result;

/// Switches of stages that a pass is timed by; those beyond belong to the stage before.
const SWITCHES: usize = 8;

pub struct Clock {
    gpu: Arc<Gpu>,
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
    /// Before each operation, as many as the largest plan has, and how many have begun.
    ops: Vec<Event>,
    begun: usize,
    op_seconds: Vec<f64>,
}

impl Clock {
    pub fn new(gpu: &Arc<Gpu>) -> Result<Clock> {
        Ok(Clock {
            gpu: Arc::clone(gpu),
            begin: Event::new(gpu)?,
            end: Event::new(gpu)?,
            switches: (0..SWITCHES).map(|_| Event::new(gpu)).collect::<Result<_>>()?,
            stages: Vec::with_capacity(SWITCHES),
            seconds: Default::default(),
            total: 0.0,
            replays: false,
            recording: false,
            ops: Vec::new(),
            begun: 0,
            op_seconds: Vec::new(),
        })
    }

    /// Whether each operation is timed.
    pub fn set_recording(&mut self, on: bool) {
        self.recording = on;
    }

    pub fn is_recording(&self) -> bool {
        self.recording
    }

    pub fn reserve(&mut self, plan: &Plan) -> Result<()> {
        while self.recording && self.ops.len() < plan.ops.len() {
            self.ops.push(Event::new(&self.gpu)?);
        }
        self.op_seconds.clear();
        self.op_seconds.reserve(self.ops.len());
        Ok(())
    }

    /// A pass begins, operation by operation or replayed as one.
    pub fn start(&mut self, replays: bool) -> Result<()> {
        self.stages.clear();
        self.op_seconds.clear();
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

    /// An operation begins.
    pub fn op(&mut self) -> Result<()> {
        match self.ops.get(self.begun) {
            Some(event) if self.recording => {
                self.begun += 1;
                event.record()
            }
            _ => Ok(()),
        }
    }

    pub fn finish(&self) -> Result<()> {
        self.end.record()
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
            let next = if i + 1 == self.begun { &self.end } else { &self.ops[i + 1] };
            self.op_seconds.push(next.seconds_since(&self.ops[i])?);
        }
        Ok(())
    }

    pub fn stage_seconds(&self) -> [f64; Stage::ALL.len()] {
        self.seconds
    }

    pub fn total(&self) -> f64 {
        self.total
    }

    /// Whether the last pass was replayed, so that its parts are not known.
    pub fn replays(&self) -> bool {
        self.replays
    }

    pub fn op_seconds(&self) -> &[f64] {
        &self.op_seconds
    }
}
