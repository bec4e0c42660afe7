//! What a forward pass does, written down: the forward lists call a [`PlanBuilder`], which computes nothing.
//!
//! Each operation's verb (`d.gemm(x, w, epilogue, out)`) stands in its own room.

use super::tensor::{Buf, Element};
use super::{Op, Operand};

/// The parts of a frame whose times are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Text,
    Encoder,
    Decoder,
    Head,
    Mask,
}

impl Stage {
    pub const ALL: [Stage; 5] = [Stage::Text, Stage::Encoder, Stage::Decoder, Stage::Head, Stage::Mask];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Text => "text tower",
            Stage::Encoder => "image encoder",
            Stage::Decoder => "decoder",
            Stage::Head => "head",
            Stage::Mask => "mask",
        }
    }
}

/// An operation and where in the network it stands.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub op: Op,
    /// ("block", 3)
    pub scope: (&'static str, usize),
    pub stage: Stage,
}

/// A buffer as the forward pass asked for it.
#[derive(Clone, Debug)]
pub struct Declared {
    pub name: &'static str,
    pub shape: [usize; 4],
    pub element: Element,
    /// Steps before it.
    pub since: usize,
}

/// Records a forward pass. Every call names its buffers: inputs, weights, then the output.
#[derive(Debug)]
pub struct PlanBuilder {
    pub(crate) buffers: Vec<Declared>,
    pub(crate) steps: Vec<Step>,
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
    /// What stays from before the first step to the end.
    pub(crate) held: Vec<usize>,
    scope: (&'static str, usize),
    stage: Stage,
}

impl Default for PlanBuilder {
    fn default() -> Self {
        let (buffers, steps) = (Vec::new(), Vec::new());
        let (inputs, outputs, held) = (Vec::new(), Vec::new(), Vec::new());
        PlanBuilder { buffers, steps, inputs, outputs, held, scope: ("", 0), stage: Stage::Encoder }
    }
}

impl PlanBuilder {
    /// The next buffer of this pass.
    pub fn buffer(&mut self, name: &'static str, shape: [usize; 4], element: Element) -> Buf {
        self.buffers.push(Declared { name, shape, element, since: self.steps.len() });
        Buf { index: self.buffers.len() - 1, offset: 0, shape, element }
    }

    /// Everything after this belongs to `stage`, for times.
    pub fn stage(&mut self, stage: Stage) {
        self.stage = stage;
    }

    /// Everything after this belongs to `name` `index`, for reports.
    pub fn scope(&mut self, name: &'static str, index: usize) {
        self.scope = (name, index);
    }

    /// The host fills `buf` before the pass.
    pub fn input(&mut self, buf: Buf) {
        self.inputs.push(buf.index);
    }

    /// The host reads `buf` after the pass: it stays alive until the end.
    pub fn output(&mut self, buf: Buf) {
        if !self.outputs.contains(&buf.index) {
            self.outputs.push(buf.index);
        }
    }

    /// `buf` lives from before the first step to the end, whatever runs in between.
    pub fn hold(&mut self, buf: Buf) {
        self.held.push(buf.index);
    }

    /// The next operation. Shapes are preconditions: the model derives them all from one checked configuration.
    pub fn push(&mut self, op: impl Into<Op>) {
        let op = op.into();
        if let Err(wrong) = op.check().and_then(|()| apart(op)) {
            panic!("{op}: {wrong}");
        }
        self.steps.push(Step { op, scope: self.scope, stage: self.stage });
    }
}

/// No operation reads what it writes, unless it works in place.
fn apart(mut op: Op) -> Result<(), String> {
    let (mut read, mut written) = (Vec::new(), Vec::new());
    op.operands(&mut |operand| match operand {
        Operand::Read(buf) => read.push(buf.index),
        Operand::Write(buf) | Operand::Update(buf) => written.push(buf.index),
        Operand::Matrix(_) | Operand::Vector(_) => {}
    });
    match written.iter().enumerate().find(|(i, buf)| read.contains(buf) || written[..*i].contains(buf)) {
        Some((_, buf)) => {
            Err(format!("buffer {buf} is written beside another use of it; outputs have buffers of their own"))
        }
        None => Ok(()),
    }
}
