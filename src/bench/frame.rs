//! A whole frame: photo on the host to mask on the host, measured; or its kernels counted on the virtual GPU and their times
//! predicted.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use super::kernels::quantiles;
use super::prediction::Board;
use crate::checkpoint::Checkpoint;
use crate::device::cuda::{Cuda, Effort, Launched, Record};
use crate::device::{Device, Upload};
use crate::engine::{Engine, Results, Segmentation, Wanted};
use crate::error::{Error, Result};
use crate::model::detect::{HeadBlockOverride, detect};
use crate::model::weights::Loader;
use crate::model::{FrameShape, Model, Outputs, head};
use crate::ops::Linear;
use crate::pixels::{Format, Image};
use crate::plan;

/// Frames whose stages are told apart.
const STAGED: usize = 10;
/// Frames before those that count, whatever the time: planned, then captured, then replayed.
const FEWEST: usize = 4;

/// Milliseconds over some frames.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Spread {
    /// `None` of no times.
    fn of(seconds: &mut [f64]) -> Option<Spread> {
        let (median, p99) = quantiles(seconds);
        Some(Spread { p50: 1e3 * median, p99: 1e3 * p99, max: 1e3 * seconds.last()? })
    }
}

/// Times of whole frames.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Frames {
    /// Photo in the host's memory to mask in the host's memory, by the host's clock.
    pub host: Spread,
    /// Of that the device's part with its copies, by the device's own clock; where it has one for a frame as a whole.
    pub gpu: Option<Spread>,
    pub frames: usize,
    /// A GPU's clock just after.
    pub sm_mhz: Option<f64>,
}

/// Part of a frame.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    pub name: &'static str,
    pub median_ms: f64,
    pub p99_ms: f64,
}

/// Frames one after the other, after `effort.warm_up` seconds of the same. Labels must be set. `buffered`: the photo is written
/// to [`Engine::frame_buffer`] once, before, as a camera would do while the frame before is computed.
///
/// # Errors
/// As for [`Engine::segment`].
pub fn measure(engine: &mut Engine, frame: &Image<'_>, effort: Effort, buffered: bool) -> Result<Frames> {
    let mut segmentation = Segmentation::default();
    if buffered {
        let buffer = engine.frame_buffer(frame.format(), frame.width(), frame.height())?;
        frame.copy_into(buffer)?;
    }
    time(engine, effort, &mut |engine| {
        match buffered {
            true => engine.segment_buffered(&mut segmentation)?,
            false => engine.segment_into(frame, &mut segmentation)?,
        }
        Ok(engine.frame_seconds())
    })
}

/// As [`measure`], of `batch` frames in one pass: the times are the pass's.
///
/// # Errors
/// As for [`Engine::run`].
pub fn measure_batch(engine: &mut Engine, frame: &Image<'_>, batch: usize, effort: Effort) -> Result<Frames> {
    let (frames, mut results) = (vec![*frame; batch], Results::default());
    time(engine, effort, &mut |engine| {
        engine.run_into(&frames, Wanted::MASK, &mut results)?;
        Ok(engine.frame_seconds())
    })
}

/// As [`stages`], of `batch` frames in one pass.
///
/// # Errors
/// As for [`Engine::run`].
pub fn stages_of_batch(engine: &mut Engine, frame: &Image<'_>, batch: usize, runs: usize) -> Result<Vec<Stage>> {
    let (frames, mut results) = (vec![*frame; batch], Results::default());
    time_stages(engine, runs, &mut |engine| engine.run_into(&frames, Wanted::MASK, &mut results))
}

/// As [`measure`], of what `one` does, which tells the device's own seconds of it.
pub(super) fn time(
    engine: &mut Engine,
    effort: Effort,
    one: &mut dyn FnMut(&mut Engine) -> Result<Option<f64>>,
) -> Result<Frames> {
    let begin = Instant::now();
    let mut warm = 0;
    while warm < FEWEST || begin.elapsed().as_secs_f64() < effort.warm_up {
        one(engine)?;
        warm += 1;
    }
    let (mut host, mut gpu) = (Vec::with_capacity(effort.runs), Vec::with_capacity(effort.runs));
    for _ in 0..effort.runs {
        let begin = Instant::now();
        let of_device = one(engine)?;
        host.push(begin.elapsed().as_secs_f64());
        gpu.extend(of_device);
    }
    let sm_mhz = engine.clock_mhz()?;
    let host = Spread::of(&mut host).ok_or_else(|| Error::Device("no frame was asked for".to_owned()))?;
    Ok(Frames { host, gpu: Spread::of(&mut gpu), frames: effort.runs, sm_mhz })
}

/// The stages of some frames, operation by operation, which takes longer than a replayed frame.
///
/// # Errors
/// As for [`Engine::segment`].
pub fn stages(engine: &mut Engine, frame: &Image<'_>, runs: usize) -> Result<Vec<Stage>> {
    let mut segmentation = Segmentation::default();
    time_stages(engine, runs, &mut |engine| engine.segment_into(frame, &mut segmentation))
}

/// As [`stages`], of what `one` does.
pub(super) fn time_stages(
    engine: &mut Engine,
    runs: usize,
    one: &mut dyn FnMut(&mut Engine) -> Result<()>,
) -> Result<Vec<Stage>> {
    engine.record_times(true);
    let mut stages: Vec<(&'static str, Vec<f64>)> = Vec::new();
    for i in 0..1 + STAGED.min(runs) {
        one(engine)?;
        for (name, time) in engine.stage_times().iter().filter(|_| i > 0) {
            match stages.iter_mut().find(|(known, _)| known == name) {
                Some((_, seconds)) => seconds.push(time.as_secs_f64()),
                None => stages.push((*name, vec![time.as_secs_f64()])),
            }
        }
    }
    engine.record_times(false);
    let row = |(name, mut seconds): (_, Vec<f64>)| {
        let (median, p99) = quantiles(&mut seconds);
        Stage { name, median_ms: 1e3 * median, p99_ms: 1e3 * p99 }
    };
    Ok(stages.into_iter().map(row).collect())
}

/// What a frame does on one kind of GPU, and what the model makes of it.
#[derive(Clone, Debug, Serialize)]
pub struct Prediction {
    pub gpu: String,
    pub milliseconds: f64,
    pub launches: u64,
    /// Of these, those that may begin before the one before has ended.
    pub overlapping: u64,
    /// Which kernels products run on, in words.
    pub products: &'static str,
    pub arena_bytes: usize,
    /// The costliest first.
    pub kernels: Vec<Cost>,
}

/// All launches of one kernel.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cost {
    pub kernel: String,
    pub launches: u64,
    pub microseconds: f64,
    pub instructions: u64,
    pub mma_flop: u64,
    pub bank_conflicts: u64,
    pub touched_bytes: u64,
}

/// A mask-only pass of `batch` frames of the network's own size, run on a virtual GPU that plays this board.
///
/// # Errors
/// A file that is no LSeg; whatever the virtual GPU finds wrong.
pub fn predict(
    checkpoint: &Checkpoint,
    cuda: &mut Cuda,
    board: &Board,
    network: (usize, usize),
    batch: usize,
    labels: usize,
) -> Result<Prediction> {
    let model = load(checkpoint, cuda)?;
    let bank = label_bank(&model, cuda, labels)?;
    let shape = FrameShape { batch, photo: network, format: Format::Rgb8, network, normalisation: None };
    let (plan, io) =
        plan::record(cuda.activation_bytes(), &[], |d| model.forward(d, shape, Some(&bank), Outputs::MASK));
    let arena_bytes = plan.arena_bytes;
    let mut program = cuda.compile(plan)?;
    let photos: Vec<u8> = (0..io.photo.buf.len()).map(|i| (i * 31 % 251) as u8).collect();
    cuda.write(&mut program, io.photo.buf, 0, &photos)?;
    cuda.record(Record::Counts);
    cuda.run(&mut program)?;
    let launches: Vec<(Launched, u64)> = cuda.take_launches().into_iter().map(|launch| (launch, 1)).collect();
    Ok(predicted(&launches, cuda, board, arena_bytes))
}

/// The model's weights on a virtual GPU.
pub(super) fn load(checkpoint: &Checkpoint, cuda: &mut Cuda) -> Result<Model> {
    let config = detect(checkpoint, &HeadBlockOverride::default())?;
    let mut shapes = Loader::shapes(checkpoint);
    Model::load(&config, &mut shapes)?;
    cuda.expect(shapes.weights())?;
    Model::load(&config, &mut Loader::new(checkpoint, &mut *cuda))
}

/// `[labels, embed_dim]`: any words do, as what is counted does not depend on them.
pub(super) fn texts(labels: usize, embed_dim: usize) -> Vec<f32> {
    (0..labels * embed_dim).map(|i| ((i * 7919 % 101) as f32 - 50.0) / 50.0).collect()
}

/// What maps are compared with such labels by.
pub(super) fn label_bank(model: &Model, cuda: &mut Cuda, labels: usize) -> Result<Linear> {
    let texts = texts(labels, model.config.embed_dim);
    let head::Bank { rows, offsets } = model.head.bank(&texts, false, cuda.largest_weight())?;
    let bank = cuda.bank(labels, model.config.features, &rows, &offsets)?;
    cuda.set_bank(None, &bank)
}

/// Of launches that each run so many times.
pub(super) fn predicted(launches: &[(Launched, u64)], cuda: &Cuda, board: &Board, arena_bytes: usize) -> Prediction {
    let mut costs: BTreeMap<&str, Cost> = BTreeMap::new();
    for (launch, times) in launches {
        let cost = costs.entry(launch.kernel).or_default();
        cost.launches += times;
        cost.microseconds += *times as f64 * board.predict(launch);
        cost.instructions += times * launch.counts.issued;
        cost.mma_flop += times * launch.counts.mma_flop;
        cost.bank_conflicts += times * launch.counts.shared_conflicts;
        cost.touched_bytes += times * 32 * (launch.counts.unique_load_sectors + launch.counts.unique_store_sectors);
    }
    let mut kernels: Vec<Cost> =
        costs.into_iter().map(|(kernel, cost)| Cost { kernel: kernel.to_owned(), ..cost }).collect();
    kernels.sort_by(|a, b| b.microseconds.total_cmp(&a.microseconds));
    let count = |launches: &mut dyn Iterator<Item = &(Launched, u64)>| launches.map(|(_, times)| times).sum();
    Prediction {
        gpu: board.name.clone(),
        milliseconds: kernels.iter().map(|cost| cost.microseconds).sum::<f64>() / 1e3,
        launches: count(&mut launches.iter()),
        overlapping: count(&mut launches.iter().filter(|(launch, _)| launch.overlaps)),
        products: cuda.products(),
        arena_bytes,
        kernels,
    }
}
