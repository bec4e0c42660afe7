//! A whole photo in windows: measured; or each of its kinds of pass counted once on the virtual GPU, and its time predicted.

use std::collections::BTreeMap;

use super::frame::{Frames, Prediction, Stage, label_bank, load, predicted, texts, time, time_stages};
use super::prediction::Board;
use crate::checkpoint::Checkpoint;
use crate::device::Device;
use crate::device::cuda::{Cuda, Effort, Launched, Record};
use crate::engine::whole::{run_pass, window_shape, write_table};
use crate::engine::window_tables::{self, Sight, Tables, Window};
use crate::engine::{Engine, Wanted, WholeOptions};
use crate::error::Result;
use crate::image::decode::Photo;
use crate::model::windows::{WindowBank, WindowIo};
use crate::model::{Model, Outputs};
use crate::ops::Element;
use crate::plan;
use crate::protocol::Protocol;
use crate::protocol::strips::{Layout, Next, Order, Strip};

/// Windows of a pass where nothing is said: a large model's take the virtual GPU minutes.
const MOST_WINDOWS: usize = 2;

/// A protocol of windows and what they may take.
pub type How<'a> = (&'a Protocol, WholeOptions);

/// Photos one after the other, photo in the host's memory (of which a copy is made) to mask in the host's memory, after
/// `effort.warm_up` seconds of the same; and their stages. Labels must be set.
///
/// # Errors
/// As of [`Engine::run_whole`].
pub fn measure(
    engine: &mut Engine,
    photo: &Photo,
    (protocol, options): How<'_>,
    effort: Effort,
) -> Result<(Frames, Vec<Stage>)> {
    let mut one = |engine: &mut Engine| {
        engine.run_whole(photo.clone(), protocol, Wanted::MASK, options)?;
        Ok(())
    };
    // A device with a clock for passes as a whole has one for all of a photo's.
    let of_device = |engine: &Engine| {
        let passes = || engine.stage_times().iter().map(|(_, time)| time.as_secs_f64()).sum();
        engine.frame_seconds().map(|_| passes())
    };
    let frames = time(engine, effort, &mut |engine| one(engine).map(|()| of_device(engine)))?;
    Ok((frames, time_stages(engine, effort.runs, &mut one)?))
}

/// What is computed of a photo: of each kind of pass its last windows, and how many there are; and how often rows are handed out.
#[derive(Default)]
struct Work {
    passes: BTreeMap<usize, (u64, Vec<Window>, Strip)>,
    stripes: u64,
}

/// The mask of a photo of (height, width) in a protocol's windows, on a virtual GPU that plays this board.
///
/// # Errors
/// As of [`super::frame::predict`]; [`Error::Size`](crate::Error::Size) and [`Error::Memory`](crate::Error::Memory) as of
/// [`Layout::new`].
pub fn predict(
    checkpoint: &Checkpoint,
    cuda: &mut Cuda,
    board: &Board,
    (protocol, options): How<'_>,
    photo: (usize, usize),
    labels: usize,
) -> Result<Prediction> {
    let model = load(checkpoint, cuda)?;
    let bank = bank(&model, cuda, labels)?;
    let layout = Layout::new(protocol, photo, model.window_channels(protocol.stage, labels), options.memory)?;
    let batches = window_tables::batches(options.batch.unwrap_or(MOST_WINDOWS));
    let shape = window_shape(protocol, &layout, photo, Outputs::MASK, Element::F32, &batches);
    let (plan, io) = plan::record(cuda.activation_bytes(), &[], |d| model.forward_windows(d, &shape, Some(bank)));
    let arena_bytes = plan.arena_bytes;
    let mut program = cuda.compile(plan)?;
    let bytes: Vec<u8> = (0..io.photo.buf.len()).map(|i| (i * 31 % 251) as u8).collect();
    cuda.write(&mut program, io.photo.buf, 0, &bytes)?;
    // What the windows that are left out would have added.
    cuda.write(&mut program, io.sums, 0, &vec![0; 4 * io.sums.len()])?;
    cuda.record(Record::Counts);

    let work = work(protocol, &layout, &io);
    let mut tables = Tables::default();
    let mut launches: Vec<(Launched, u64)> = Vec::new();
    for (batch, (count, windows, strip)) in &work.passes {
        tables.fill(&Sight { protocol, photo }, &layout, strip, windows);
        run_pass(cuda, &mut program, io.pass_for(*batch), &tables)?;
        launches.extend(cuda.take_launches().into_iter().map(|launch| (launch, *count)));
    }
    let columns = window_tables::columns(protocol, &layout, &layout.strips[0]);
    write_table(cuda, &mut program, io.columns, &columns)?;
    let rows = window_tables::rows(protocol, &layout, 0..layout.stripe, layout.stripe);
    write_table(cuda, &mut program, io.rows, &rows)?;
    cuda.run_steps(&mut program, io.finish.clone())?;
    launches.extend(cuda.take_launches().into_iter().map(|launch| (launch, work.stripes)));
    Ok(predicted(&launches, cuda, board, arena_bytes))
}

fn bank(model: &Model, cuda: &mut Cuda, labels: usize) -> Result<WindowBank> {
    if !model.sums_vectors(labels) {
        return Ok(WindowBank::OfMaps(label_bank(model, cuda, labels)?));
    }
    let vectors = texts(labels, model.config.embed_dim);
    let bank = cuda.bank(labels, model.config.embed_dim, &vectors, &vec![0.0; labels])?;
    Ok(WindowBank::OfSums(cuda.set_bank(None, &bank)?))
}

fn work(protocol: &Protocol, layout: &Layout, io: &WindowIo) -> Work {
    let mut work = Work::default();
    for strip in &layout.strips {
        for next in Order::new(protocol, layout) {
            let Next::Windows(rows) = next else {
                work.stripes += 1;
                continue;
            };
            let mut windows = Vec::new();
            window_tables::windows(protocol, strip, &rows, &mut windows);
            let mut left = &windows[..];
            while !left.is_empty() {
                let batch = io.pass_for(left.len()).batch;
                let these;
                (these, left) = left.split_at(batch);
                let count = work.passes.get(&batch).map_or(0, |(count, ..)| *count);
                work.passes.insert(batch, (count + 1, these.to_vec(), strip.clone()));
            }
        }
    }
    work
}
