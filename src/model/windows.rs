//! A photo in windows: passes of some of them, whose maps are summed up, and what is made of the sums, some rows at a time.

use std::ops::Range;

use super::config::LOGIT_SCALE;
use super::head::Head;
use super::input::Input;
use super::{LARGEST_EMBEDDING, Model, Output, Outputs, Threshold};
use crate::ops::add_window::WORDS;
use crate::ops::cut_windows::TAPS;
use crate::ops::patchify::Normalise;
use crate::ops::{
    AddWindow, Argmax, Buf, Element, Epilogue, FormFeatures, Layout, Linear, MergeScales, Picture, PlanBuilder, Stage,
};
use crate::pixels::Format;
use crate::protocol::strips::Channels;
use crate::protocol::{self, Normalisation};

/// What scores are made with.
#[derive(Clone, Copy, Debug)]
pub enum WindowBank {
    /// Each window's map is compared with the labels, and scores are summed up.
    OfMaps(Linear),
    /// Unit vectors are summed up, and their sums multiplied by the labels' `[labels, embed_dim]`, the logit scale folded in: the same
    /// scores, as all between is linear, in less memory where there are more labels than channels.
    OfSums(Linear),
}

impl WindowBank {
    fn labels(&self) -> usize {
        match self {
            WindowBank::OfMaps(labels) | WindowBank::OfSums(labels) => labels.weight.n,
        }
    }
}

/// What such a plan is made for.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowShape {
    /// (height, width) of the 8-bit RGB photo.
    pub photo: (usize, usize),
    /// Side of a window, a multiple of 32.
    pub crop: usize,
    /// Windows of a pass, one number a kind of pass.
    pub batches: Vec<usize>,
    pub stage: protocol::Stage,
    pub doubled: bool,
    pub normalisation: Option<Normalisation>,
    /// Of all sums.
    pub pixels: usize,
    pub scales: usize,
    /// (height, width) of what is handed out at once.
    pub stripe: (usize, usize),
    /// As of [`CutWindows`](crate::ops::CutWindows) and of [`MergeScales`].
    pub density: (usize, usize),
    /// What is made of scores: [`Output::Mask`], [`Output::Best`], [`Output::Confidence`], [`Output::Scores`].
    pub outputs: Outputs,
    /// What embeddings are given out as.
    pub dtype: Element,
}

/// A kind of pass.
#[derive(Clone, Debug)]
pub struct Pass {
    pub batch: usize,
    /// What the host fills before it: of each window what its rows and columns see, and its place among the sums.
    pub seen: Buf,
    pub weights: Buf,
    pub places: Buf,
    pub steps: Range<usize>,
}

/// The buffers of such a plan.
#[derive(Clone, Debug)]
pub struct WindowIo {
    pub photo: Picture,
    /// The largest first.
    pub passes: Vec<Pass>,
    /// `[1, 1, pixels, channels]`, float32
    pub sums: Buf,
    /// Filled before `finish`: places and weights of rows, and of columns.
    pub rows: [Buf; 2],
    pub columns: [Buf; 2],
    /// `[1, rows, columns, channels]`, float32: scores, or what embeddings are made of.
    pub values: Buf,
    /// What is made of these: embeddings, or of scores what was asked for.
    pub embeddings: Option<Buf>,
    pub mask: Option<Buf>,
    pub best: Option<Buf>,
    pub confidence: Option<Buf>,
    /// `[1, 1, 1, 1]`, u32; of embeddings or of a mask.
    pub not_finite: Option<Buf>,
    pub finish: Range<usize>,
}

impl WindowIo {
    /// The largest pass that so many windows fill, at least one.
    pub fn pass_for(&self, windows: usize) -> &Pass {
        self.passes.iter().find(|pass| pass.batch <= windows).expect("there is a pass of one window")
    }
}

impl Model {
    /// Whether unit vectors are summed up for scores of so many labels: a head block is not linear.
    pub fn sums_vectors(&self, labels: usize) -> bool {
        labels > self.config.embed_dim && !self.head.has_block()
    }

    /// Channels of what is summed up, and of what is made of the sums.
    pub fn window_channels(&self, stage: protocol::Stage, labels: usize) -> Channels {
        let embed_dim = self.config.embed_dim;
        match stage {
            protocol::Stage::Scores if self.sums_vectors(labels) => Channels { summed: embed_dim, made: labels },
            protocol::Stage::Scores => Channels { summed: labels, made: labels },
            _ => Channels { summed: embed_dim, made: embed_dim },
        }
    }

    /// What scores of so many labels are made with, in shape alone.
    pub fn window_bank_shape(&self, labels: usize) -> WindowBank {
        if self.sums_vectors(labels) {
            return WindowBank::OfSums(Linear::of_shape(labels, self.config.embed_dim));
        }
        WindowBank::OfMaps(self.head.bank_shape(labels))
    }

    /// A photo's windows. Scores need a bank, as [`Model::sums_vectors`] tells.
    pub fn forward_windows(&self, d: &mut PlanBuilder, shape: &WindowShape, bank: Option<WindowBank>) -> WindowIo {
        let photo = d.picture("photo", Format::Rgb8, 1, shape.photo);
        d.hold(photo.buf);
        let channels = self.window_channels(shape.stage, bank.map_or(0, |bank| bank.labels())).summed;
        let sums = d.buffer("sums", [1, 1, shape.pixels, channels], Element::F32);
        d.hold(sums);
        let passes = shape.batches.iter().map(|batch| self.pass(d, shape, *batch, photo, bank, sums)).collect();

        let begin = d.steps.len();
        d.stage(Stage::Mask);
        d.scope("merged", 0);
        let (height, width) = shape.stripe;
        let mut table = |name, side, element| {
            let table = d.buffer(name, [1, shape.scales, side, 2], element);
            d.hold(table);
            table
        };
        let rows = [table("rows", height, Element::U32), table("row weights", height, Element::F32)];
        let columns = [table("columns", width, Element::U32), table("column weights", width, Element::F32)];
        let merged = d.buffer("merged", [1, height, width, channels], Element::F32);
        d.hold(merged);
        d.merge_scales(MergeScales {
            sums,
            rows: rows[0],
            row_weights: rows[1],
            columns: columns[0],
            column_weights: columns[1],
            density: shape.density.1,
            out: merged,
        });
        let finish = begin..begin;
        let mut io = WindowIo {
            photo,
            passes,
            sums,
            rows,
            columns,
            values: merged,
            embeddings: None,
            mask: None,
            best: None,
            confidence: None,
            not_finite: None,
            finish,
        };
        match shape.stage {
            protocol::Stage::Scores => {
                io.values = scores_of(d, merged, bank);
                give_labels(d, &mut io, shape.outputs);
            }
            stage => self.give_embeddings(d, &mut io, stage, shape.dtype),
        }
        io.finish = begin..d.steps.len();
        io
    }

    /// One kind of pass.
    fn pass(
        &self,
        d: &mut PlanBuilder,
        shape: &WindowShape,
        batch: usize,
        photo: Picture,
        bank: Option<WindowBank>,
        sums: Buf,
    ) -> Pass {
        let begin = d.steps.len();
        d.stage(Stage::Encoder);
        let axes = [batch, 1, 2 * shape.crop, TAPS];
        let (seen, weights) = (d.buffer("seen", axes, Element::U32), d.buffer("weights", axes, Element::F32));
        let places = d.buffer("places", [1, 1, batch, WORDS], Element::U32);
        let input = Input::Windows { photo, seen, weights, density: shape.density.0 };
        let path = self.features(d, &input, self.normalise(shape.normalisation), (shape.crop, shape.crop));
        let map = window_map(d, &self.head, path, shape.stage, bank);
        d.scope("sums", 0);
        for item in 0..batch {
            d.add_window(AddWindow { sums, map, places, item, doubled: shape.doubled });
        }
        Pass { batch, seen, weights, places, steps: begin..d.steps.len() }
    }

    /// Of the image's activations.
    pub(super) fn normalise(&self, other: Option<Normalisation>) -> Normalise {
        let Normalisation { mean, std } =
            other.unwrap_or(Normalisation { mean: self.config.mean, std: self.config.std });
        Normalise { mean, std: std.map(|std| std / self.scale) }
    }

    fn give_embeddings(&self, d: &mut PlanBuilder, io: &mut WindowIo, stage: protocol::Stage, dtype: Element) {
        let out = d.buffer("formed", io.values.shape, dtype);
        let not_finite = d.buffer("not_finite", [1; 4], Element::U32);
        d.form_features(FormFeatures {
            x: io.values,
            resized: false,
            norms: None,
            // A vector's length has the scale in it already.
            factor: if stage == protocol::Stage::Raw { 1.0 / self.scale } else { 1.0 },
            limit: self.scale * LARGEST_EMBEDDING,
            layout: Layout::Hwc,
            out,
            not_finite,
        });
        (io.embeddings, io.not_finite) = (Some(out), Some(not_finite));
    }
}

/// What is taken of a pass, at half the crop.
fn window_map(d: &mut PlanBuilder, head: &Head, path: Buf, stage: protocol::Stage, bank: Option<WindowBank>) -> Buf {
    let (factor, element) = match (stage, bank) {
        (protocol::Stage::Scores, Some(WindowBank::OfMaps(bank))) => return head.scores(d, path, &bank),
        (protocol::Stage::Raw, _) => return head.embedding(d, path),
        (protocol::Stage::Scores | protocol::Stage::Unit, _) => (1.0, Element::F32),
        (protocol::Stage::Scaled, _) => (LOGIT_SCALE, Element::F16),
    };
    let map = head.embedding(d, path);
    d.scope("unit", 0);
    let [b, h, w, _] = map.shape;
    let norms = d.buffer("norms", [b, h, w, 1], Element::F32);
    let out = d.buffer("unit", map.shape, element);
    let not_finite = d.buffer("not_finite", [1; 4], Element::U32);
    // A value that is no number makes the sums none, which are counted.
    let (norms, layout, limit) = (Some(norms), Layout::Hwc, f32::MAX);
    d.form_features(FormFeatures { x: map, resized: false, norms, factor, limit, layout, out, not_finite });
    out
}

/// Of merged sums: what they are, or their products with the labels.
fn scores_of(d: &mut PlanBuilder, merged: Buf, bank: Option<WindowBank>) -> Buf {
    let Some(WindowBank::OfSums(labels)) = bank else { return merged };
    d.scope("labels", 0);
    let [_, h, w, _] = merged.shape;
    let scores = d.buffer("scores", [1, h, w, labels.weight.n], Element::F32);
    d.hold(scores);
    d.gemm(merged.all(), &labels, Epilogue::NONE, scores.all());
    scores
}

fn give_labels(d: &mut PlanBuilder, io: &mut WindowIo, wanted: Outputs) {
    if !wanted.need_mask() {
        return;
    }
    let [_, h, w, labels] = io.values.shape;
    let shape = [1, h, w, 1];
    let mask = d.buffer("mask", shape, Element::of_mask(labels, wanted.threshold.is_some()));
    let mut beside = |output, name, element| wanted.has(output).then(|| d.buffer(name, shape, element));
    let best = beside(Output::Best, "best", Element::F32);
    let confidence = beside(Output::Confidence, "confidence", Element::U8);
    let not_finite = d.buffer("not_finite", [1; 4], Element::U32);
    let threshold = wanted.threshold.map(Threshold::value);
    d.push(Argmax { logits: io.values, resized: false, mask, best, not_finite, confidence, threshold });
    (io.mask, io.best, io.confidence, io.not_finite) = (Some(mask), best, confidence, Some(not_finite));
}
