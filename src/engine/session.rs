//! A frame's way through a lane: planned and compiled once for its size, labels and outputs, then run again and again.

use super::{Lane, Wanted};
use crate::device::{Device, Program};
use crate::error::{Error, Result};
use crate::memory::{self, Held};
use crate::model::{FrameIo, FrameShape, Output, Outputs};
use crate::pixels::Image;
use crate::plan::{self, Plan};

/// Sessions kept for sizes and outputs seen before. A plan is small; the arena is one for all.
const SESSIONS: usize = 8;

/// A planned frame.
pub(super) struct Session {
    pub key: Key,
    pub program: Program,
    pub io: FrameIo,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub shape: FrameShape,
    pub labels: usize,
    pub outputs: Outputs,
    keep: Vec<String>,
}

impl Lane {
    /// The session of these frames, planned if it is new: the last of the list. The labels are what the frames are asked about.
    pub(super) fn prepare(&mut self, frames: &[Image<'_>], wanted: Wanted<'_>, keep: &[&str]) -> Result<()> {
        self.ready(wanted.outputs)?;
        self.plan_frames(frames, wanted, keep)
    }

    /// Has the device, and the next frame's labels on it where these outputs are about labels.
    pub(super) fn ready(&mut self, outputs: Outputs) -> Result<()> {
        self.device.check()?;
        self.take_labels(outputs)
    }

    /// As [`Lane::prepare`], of labels that were taken.
    pub(super) fn plan_frames(&mut self, frames: &[Image<'_>], wanted: Wanted<'_>, keep: &[&str]) -> Result<()> {
        let shape = self.frame_shape(frames)?;
        wanted.check(self.labels_in(wanted.outputs), shape.photo)?;
        self.palette.clear();
        self.palette.extend(wanted.palette());
        self.session(shape, wanted.outputs, keep)
    }

    pub(super) fn frame_shape(&self, frames: &[Image<'_>]) -> Result<FrameShape> {
        let first = frames.first().ok_or_else(|| Error::Size("a batch of no frames".to_owned()))?;
        let (w, h, format) = (first.width(), first.height(), first.format());
        for frame in frames {
            let (width, height) = (frame.width(), frame.height());
            if (width, height) != (w, h) {
                return Err(Error::Size(format!(
                    "a frame of {width}×{height} in a batch of {w}×{h}: one size a batch"
                )));
            }
            if frame.format() != format {
                let (one, other) = (frame.format().name(), format.name());
                return Err(Error::Size(format!("a frame of {one} in a batch of {other}: one format a batch")));
            }
            if frame.in_cuda().is_some() != first.in_cuda().is_some() {
                let what = "frames of the host's memory and of CUDA memory in a batch: one memory a batch";
                return Err(Error::Size(what.to_owned()));
            }
            frame.check()?;
        }
        let photo = (h, w);
        Ok(FrameShape {
            batch: frames.len(),
            photo,
            format,
            network: self.network_size_for(photo)?,
            normalisation: self.normalisation,
        })
    }

    /// Of a photo of (height, width).
    pub(super) fn network_size_for(&self, (height, width): (usize, usize)) -> Result<(usize, usize)> {
        match self.size {
            Some(size) => size.network_size(height, width),
            None => self.network.shared().size.models_network_size(height, width),
        }
    }

    /// Makes the session for these the last of the list, planning it if it is new.
    pub(super) fn session(&mut self, shape: FrameShape, outputs: Outputs, keep: &[&str]) -> Result<()> {
        let labels = self.labels_in(outputs);
        self.network_size = shape.network;
        let same = |key: &Key| {
            (key.shape, key.labels, key.outputs) == (shape, labels, outputs)
                && key.keep.iter().map(String::as_str).eq(keep.iter().copied())
        };
        if let Some(at) = self.sessions.iter().position(|session| same(&session.key)) {
            self.sessions[at..].rotate_left(1);
            return Ok(());
        }
        let (plan, io) = self.record(shape, outputs, keep);
        let (height, width) = shape.network;
        let with = if labels == 0 { String::new() } else { format!(" with {labels} labels") };
        let resized = outputs.embedding.at.resized(&shape).filter(|_| outputs.has(Output::Embedding));
        let at = resized.map_or(String::new(), |(h, w)| format!(" with embeddings at {h}×{w}"));
        let what = format!("this model at {height}×{width}{with}{at}");
        let program = self.compile(plan, &what)?;
        let keep = keep.iter().map(|name| (*name).to_owned()).collect();
        if self.sessions.len() == SESSIONS {
            self.sessions.remove(0);
        }
        self.sessions.push(Session { key: Key { shape, labels, outputs, keep }, program, io });
        Ok(())
    }

    /// A frame's plan, which is `what`, ready to run.
    pub(super) fn compile(&mut self, plan: Plan, what: &str) -> Result<Program> {
        let Lane { network, device, pass, .. } = self;
        let compiled =
            network.shared().or_with_retired(|| compile(&mut **device, pass, plan.clone(), what, memory::FOR_PASS));
        if compiled.is_err() && self.pass.is_empty() {
            // What the other sessions and the windows had was given up for this one.
            self.sessions.clear();
            self.windows = None;
        }
        compiled
    }

    /// Frames as a plan.
    pub(super) fn record(&self, shape: FrameShape, outputs: Outputs, keep: &[&str]) -> (Plan, FrameIo) {
        let network = self.network.shared();
        let bank = self.bank.filter(|_| outputs.need_labels());
        plan::record(network.activation, keep, |d| network.model.forward(d, shape, bank.as_ref(), outputs))
    }
}

/// The session in use.
pub(super) fn last(sessions: &mut [Session]) -> &mut Session {
    sessions.last_mut().expect("the session in use is the last")
}

/// A plan ready to run, with memory for passes, which are `what`; `ways` say what to do where there is too little.
///
/// # Errors
/// [`Error::Memory`]; whatever the device answers, and then nothing is held.
pub(super) fn compile(device: &mut dyn Device, held: &mut Held, plan: Plan, what: &str, ways: &str) -> Result<Program> {
    held.grow(what, memory::of_pass(&plan, device.pass_need(&plan)), ways)?;
    device.compile(plan).inspect_err(|_| held.release())
}
