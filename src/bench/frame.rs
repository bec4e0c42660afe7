//! A whole frame: photo on the host to mask on the host, measured; or its kernels counted on the virtual GPU and their times
//! predicted.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::kernels::quantiles;
use super::prediction::Board;
use crate::checkpoint::Checkpoint;
use crate::device::cuda::Cuda;
use crate::device::{Executor, Upload, plan};
use crate::engine::{Engine, Frame, Segmentation};
use crate::error::Result;
use crate::model::recognise::{Flags, recognise};
use crate::model::weights::Loader;
use crate::model::{FrameShape, Model, Outputs};

/// Frames before those that count: planned, then captured, then replayed.
const WARM_UP: usize = 5;
/// Frames whose stages are told apart.
const STAGED: usize = 10;

/// Milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Times {
    pub name: String,
    pub median_ms: f64,
    pub p99_ms: f64,
}

impl Times {
    fn of(name: &str, mut seconds: Vec<f64>) -> Times {
        let (median, p99) = quantiles(&mut seconds);
        Times { name: name.to_owned(), median_ms: 1e3 * median, p99_ms: 1e3 * p99 }
    }
}

/// Photo to mask by the host's clock; then the stages by the device's, where it tells them apart. Labels must be set.
///
/// # Errors
/// As for [`Engine::segment`].
pub fn measure(engine: &mut Engine, frame: &Frame<'_>, runs: usize) -> Result<Vec<Times>> {
    let mut segmentation = Segmentation::default();
    let mut seconds = Vec::with_capacity(runs);
    for i in 0..WARM_UP + runs {
        let begin = Instant::now();
        engine.segment_into(frame, &mut segmentation)?;
        if i >= WARM_UP {
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    let mut rows = vec![Times::of("photo to mask", seconds)];
    // Operation by operation, which takes longer than the replayed frame.
    engine.record_times(true);
    let mut stages: Vec<(&'static str, Vec<f64>)> = Vec::new();
    for i in 0..1 + STAGED.min(runs) {
        engine.segment_into(frame, &mut segmentation)?;
        for (name, time) in engine.stage_times().iter().filter(|_| i > 0) {
            match stages.iter_mut().find(|(known, _)| known == name) {
                Some((_, seconds)) => seconds.push(time.as_secs_f64()),
                None => stages.push((*name, vec![time.as_secs_f64()])),
            }
        }
    }
    engine.record_times(false);
    rows.extend(stages.into_iter().map(|(name, seconds)| Times::of(name, seconds)));
    Ok(rows)
}

/// What a frame does on one kind of GPU, and what the model makes of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Prediction {
    pub gpu: String,
    pub milliseconds: f64,
    pub launches: u64,
    pub arena_bytes: usize,
    /// The costliest first.
    pub kernels: Vec<Cost>,
}

/// All launches of one kernel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    pub kernel: String,
    pub launches: u64,
    pub microseconds: f64,
    pub instructions: u64,
    pub mma_flop: u64,
    pub bank_conflicts: u64,
    pub touched_bytes: u64,
}

/// A mask-only frame of the network's own size, run on the virtual GPU that this process has.
///
/// # Errors
/// A file that is no LSeg; whatever the virtual GPU finds wrong.
pub fn predict(
    checkpoint: &Checkpoint,
    cuda: &mut Cuda,
    board: &Board,
    network: (usize, usize),
    labels: usize,
) -> Result<Prediction> {
    let config = recognise(checkpoint, &Flags::default())?;
    let mut shapes = Loader::shapes();
    Model::load(&config, &mut shapes)?;
    cuda.expect(shapes.matrices(), shapes.vectors())?;
    let model = Model::load(&config, &mut Loader::new(checkpoint, &mut *cuda))?;
    // Any words do: what is counted does not depend on them.
    let texts: Vec<f32> = (0..labels * config.embed_dim).map(|i| ((i * 7919 % 101) as f32 - 50.0) / 50.0).collect();
    let bank = model.head.upload_bank(&mut *cuda, &texts, None)?;
    let shape = FrameShape { batch: 1, photo: network, network };
    let outputs = Outputs { mask: true, ..Outputs::default() };
    let mut io = None;
    let plan = plan::record(cuda.activation_bytes(), &[], |d| io = Some(model.forward(d, shape, Some(&bank), outputs)));
    let io = io.expect("recording runs the forward pass");
    cuda.reserve(&plan)?;
    let photo: Vec<u8> = (0..io.photo.len()).map(|i| (i * 31 % 251) as u8).collect();
    cuda.write(plan.placed(io.photo), 0, &photo)?;
    cuda.record_launches();
    cuda.run(&plan, &mut |d| {
        model.forward(d, shape, Some(&bank), outputs);
    })?;
    let launches = cuda.take_launches();
    let mut costs: BTreeMap<&str, Cost> = BTreeMap::new();
    for launch in &launches {
        let cost = costs.entry(launch.kernel).or_default();
        cost.launches += 1;
        cost.microseconds += board.predict(launch);
        cost.instructions += launch.counts.issued;
        cost.mma_flop += launch.counts.mma_flop;
        cost.bank_conflicts += launch.counts.shared_conflicts;
        cost.touched_bytes += 32 * (launch.counts.unique_load_sectors + launch.counts.unique_store_sectors);
    }
    let mut kernels: Vec<Cost> =
        costs.into_iter().map(|(kernel, cost)| Cost { kernel: kernel.to_owned(), ..cost }).collect();
    kernels.sort_by(|a, b| b.microseconds.total_cmp(&a.microseconds));
    Ok(Prediction {
        gpu: board.name.to_owned(),
        milliseconds: kernels.iter().map(|cost| cost.microseconds).sum::<f64>() / 1e3,
        launches: launches.len() as u64,
        arena_bytes: plan.arena_bytes,
        kernels,
    })
}
