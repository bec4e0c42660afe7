//! A frame's way through the engine: planned and compiled once for its size, labels and outputs, then run again and again.

use std::time::Duration;

use super::{Engine, Frame};
use crate::device::Program;
use crate::error::{Error, Result};
use crate::memory::{self, Part};
use crate::model::{FrameIo, FrameShape, Outputs};
use crate::ops::{Stage, similarity};
use crate::plan::{self, Plan};

/// Sessions kept for sizes and outputs seen before. A plan is small; the arena is one for all.
const SESSIONS: usize = 8;

/// What a pass takes in beside frames.
#[derive(Clone, Copy, Default)]
pub(super) struct HostInputs<'a> {
    pub points: &'a [[f32; 2]],
    pub palette: &'a [[u8; 4]],
}

/// A planned frame.
pub(super) struct Session {
    pub key: Key,
    pub program: Program,
    pub io: FrameIo,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    shape: FrameShape,
    labels: usize,
    outputs: Outputs,
    keep: Vec<String>,
}

impl Engine {
    /// Plans if this is new, then one pass: photos in, operations, nothing out yet.
    pub(super) fn run(&mut self, frames: &[Frame<'_>], outputs: Outputs, keep: &[&str]) -> Result<FrameIo> {
        self.run_with_inputs(frames, HostInputs::default(), outputs, keep)
    }

    /// As [`Engine::run`], with `outputs.points` points, the same for every photo, and a palette where the outputs need one.
    pub(super) fn run_with_inputs(
        &mut self,
        frames: &[Frame<'_>],
        inputs: HostInputs<'_>,
        outputs: Outputs,
        keep: &[&str],
    ) -> Result<FrameIo> {
        self.write_inputs(frames, inputs, outputs, keep)?;
        self.run_session()
    }

    /// Plans if this is new, and brings over what a pass takes in.
    pub(super) fn write_inputs(
        &mut self,
        frames: &[Frame<'_>],
        inputs: HostInputs<'_>,
        outputs: Outputs,
        keep: &[&str],
    ) -> Result<()> {
        let bank = self.bank_for(outputs)?;
        let shape = self.frame_shape(frames)?;
        self.session(shape, bank, outputs, keep)?;
        self.buffered = None;
        let Session { program, io, .. } = self.sessions.last_mut().expect("the session in use is the last");
        if let Some(place) = io.palette {
            self.device.write(program, place, 0, inputs.palette.as_flattened())?;
        }
        let bytes = shape.photo.0 * shape.photo.1 * 3;
        for (b, frame) in frames.iter().enumerate() {
            self.device.write(program, io.photo, b * bytes, frame.rgb)?;
            if let Some(place) = io.points {
                self.device.write(
                    program,
                    place,
                    b * size_of_val(inputs.points),
                    bytemuck::cast_slice(inputs.points),
                )?;
            }
        }
        Ok(())
    }

    /// The labels' bank where these outputs need one.
    pub(super) fn bank_for(&self, outputs: Outputs) -> Result<Option<similarity::Weights>> {
        let bank = self.bank.filter(|_| !self.labels.is_empty() && (outputs.mask || outputs.scores));
        if bank.is_none() && (outputs.mask || outputs.scores) {
            return Err(Error::Labels("no labels are set; call set_labels first".to_owned()));
        }
        Ok(bank)
    }

    /// One pass of the last session, whose inputs are written.
    pub(super) fn run_session(&mut self) -> Result<FrameIo> {
        let session = self.sessions.last_mut().expect("the session in use is the last");
        self.device.run(&mut session.program)?;
        self.stage_times.clear();
        let times = self.device.times();
        let timed = |stage: &Stage| (stage.name(), Duration::from_secs_f64(times.stages[*stage as usize]));
        match times.whole {
            Some(whole) => self.stage_times.push(("frame", Duration::from_secs_f64(whole))),
            None => self.stage_times.extend(Stage::ALL[1..].iter().map(timed)),
        }
        Ok(session.io)
    }

    fn frame_shape(&self, frames: &[Frame<'_>]) -> Result<FrameShape> {
        let first = frames.first().ok_or_else(|| Error::Size("a batch of no frames".to_owned()))?;
        for frame in frames {
            let (Frame { width, height, rgb }, expected) = (frame, first.width.checked_mul(first.height));
            if (*width, *height) != (first.width, first.height) {
                let (w, h) = (first.width, first.height);
                return Err(Error::Size(format!(
                    "a frame of {width}×{height} in a batch of {w}×{h}: one size a batch"
                )));
            }
            if expected.and_then(|pixels| pixels.checked_mul(3)) != Some(rgb.len()) || rgb.is_empty() {
                let found = rgb.len();
                let need = "width × height × 3 bytes of RGB, at least one pixel";
                return Err(Error::Size(format!("a frame of {width}×{height} with {found} bytes: expected {need}")));
            }
        }
        let photo = (first.height, first.width);
        Ok(FrameShape { batch: frames.len(), photo, network: self.network_size(photo)? })
    }

    /// Of a photo of (height, width).
    pub(super) fn network_size(&self, (height, width): (usize, usize)) -> Result<(usize, usize)> {
        if self.is_own_size {
            return self.size.models_network_size(height, width);
        }
        self.size.network_size(height, width)
    }

    /// Makes the session for this frame the last of the list, planning it if it is new.
    pub(super) fn session(
        &mut self,
        shape: FrameShape,
        bank: Option<similarity::Weights>,
        outputs: Outputs,
        keep: &[&str],
    ) -> Result<()> {
        self.device.check()?;
        let labels = bank.map_or(0, |bank| bank.labels.weight.n);
        let same = |key: &Key| {
            (key.shape, key.labels, key.outputs) == (shape, labels, outputs)
                && key.keep.iter().map(String::as_str).eq(keep.iter().copied())
        };
        if let Some(at) = self.sessions.iter().position(|session| same(&session.key)) {
            self.sessions[at..].rotate_left(1);
            return Ok(());
        }
        let activation = self.device.activation_bytes();
        let (plan, io) = plan::record(activation, keep, |d| self.model.forward(d, shape, bank.as_ref(), outputs));
        let (height, width) = shape.network;
        let with = if labels == 0 { String::new() } else { format!(" with {labels} labels") };
        let program = self.compile(plan, &format!("this model at {height}×{width}{with}"), memory::FOR_PASS)?;
        let keep = keep.iter().map(|name| (*name).to_owned()).collect();
        if self.sessions.len() == SESSIONS {
            self.sessions.remove(0);
        }
        self.sessions.push(Session { key: Key { shape, labels, outputs, keep }, program, io });
        Ok(())
    }

    /// A plan ready to run, with memory for passes, which are `what`; `ways` say what to do where there is too little.
    pub(super) fn compile(&mut self, plan: Plan, what: &str, ways: &str) -> Result<Program> {
        let need = memory::of_pass(&plan, self.device.pass_need(&plan));
        self.budget.hold(Part::Pass, what, need, ways)?;
        let compiled = self.device.compile(plan);
        if compiled.is_err() {
            // What the other sessions had was given up for this one.
            self.sessions.clear();
            self.budget.release(Part::Pass);
        }
        compiled
    }
}
