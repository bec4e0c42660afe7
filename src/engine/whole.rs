//! A whole photo in windows, summed up on the device and handed out some rows at a time.

use std::ops::Range;

use half::f16;

use super::collect::wide;
use super::label_set::Labels;
use super::wanted::{Results, Wanted};
use super::window_tables::{self, Sight, Tables, Window};
use super::{Lane, finite};
use crate::device::cpu::tint;
use crate::device::{Device, Program};
use crate::error::{Error, Result};
use crate::image::decode::Photo;
use crate::image::npy::Dtype;
use crate::image::resize;
use crate::memory::{self, Need};
use crate::model::windows::{Pass, WindowBank, WindowIo, WindowShape};
use crate::model::{Output, Outputs};
use crate::ops::{Buf, Element, Stage as Part};
use crate::plan;
use crate::protocol::strips::{Layout, Next, Order, Strip};
use crate::protocol::{Before, Look, Protocol, Stage};

/// Windows of a pass on a GPU, where nothing is said and they fit.
const MOST_WINDOWS: usize = 8;

/// What windows may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeOptions {
    /// Bytes of their sums, at most.
    pub memory: u64,
    /// Windows of a pass; as many as fit, up to eight on a GPU and one on a CPU, where nothing is said.
    pub batch: Option<usize>,
}

impl Default for WholeOptions {
    fn default() -> WholeOptions {
        WholeOptions { memory: 1 << 30, batch: None }
    }
}

/// A photo that is there for its windows to be computed.
pub struct Whole<'a> {
    /// Which has planned the windows.
    lane: &'a mut Lane,
    protocol: Protocol,
    layout: Layout,
    photo: (usize, usize),
    labels: Option<Labels>,
    unlabelled: bool,
    seconds: [f64; Part::ALL.len()],
    /// Of what ran as one piece.
    whole_seconds: f64,
    /// Used again from pass to pass.
    tables: Tables,
}

/// Planned windows, which the next photo takes too where it is like this one.
pub(super) struct Planned {
    /// But for its batches.
    shape: WindowShape,
    labels: usize,
    batch: Option<usize>,
    program: Program,
    io: WindowIo,
}

/// Some rows of what is handed out, of some of its columns.
pub struct Stripe<'a, 'w> {
    whole: &'a mut Whole<'w>,
    /// Which.
    pub rows: Range<usize>,
    /// Which.
    pub columns: Range<usize>,
}

impl Lane {
    /// Makes a photo ready to be computed in a protocol's windows; without an embedding's type scores are taken. The photo's memory is
    /// free from then on.
    ///
    /// # Errors
    /// As [`Lane::run`]; [`Error::Size`] for a protocol without windows, and for windows that cannot be cut;
    /// [`Error::Memory`] where a column's sums take more than is allowed.
    pub fn whole(
        &mut self,
        photo: Photo,
        protocol: &Protocol,
        wanted: Wanted<'_>,
        dtype: Option<Dtype>,
        options: WholeOptions,
    ) -> Result<Whole<'_>> {
        let mut protocol = protocol.clone();
        protocol.stage = match (dtype, protocol.stage) {
            (None, _) => Stage::Scores,
            (Some(_), Stage::Scores) => Stage::Unit,
            (Some(_), stage) => stage,
        };
        // Scores are about labels, whether or not a mask is made of them.
        let (outputs, about) = match dtype {
            None => (wanted.outputs, Outputs::MASK),
            Some(_) => (Outputs::default(), Outputs::default()),
        };
        self.ready(about)?;
        let photo = resized(photo, &protocol);
        let size = (photo.height, photo.width);
        let labels = self.labels_in(about);
        let channels = self.network.shared().model.window_channels(protocol.stage, labels);
        let layout = Layout::new(&protocol, size, channels, options.memory)?;
        if layout.grids.is_empty() {
            return Err(Error::Size("a protocol of one pass has no windows: take it with run".to_owned()));
        }
        wanted.check(self.labels_in(outputs), layout.out)?;
        let crop = protocol.crop(&layout.grids);
        self.network_size = (crop, crop);
        let element = if dtype == Some(Dtype::F16) { Element::F16 } else { Element::F32 };
        let shape = WindowShape {
            normalisation: protocol.normalisation.or(self.normalisation),
            ..window_shape(&protocol, &layout, size, outputs, element, &[])
        };
        let bank = self.window_bank(about)?;
        self.plan_windows(shape, bank, labels, options.batch)?;
        self.forget_buffer();
        let (device, Planned { program, io, .. }) = self.planned();
        device.write(program, io.photo.buf, 0, &photo.rgb)?;
        drop(photo);
        let labels = self.current_labels(about);
        let (unlabelled, seconds) = (outputs.threshold.is_some(), [0.0; Part::ALL.len()]);
        let (whole_seconds, tables) = (0.0, Tables::default());
        let (lane, photo) = (self, size);
        Ok(Whole { lane, protocol, layout, photo, labels, unlabelled, seconds, whole_seconds, tables })
    }

    /// As many windows a pass as were asked for or as fit, and passes of half as many and so on for what is left.
    fn plan_windows(
        &mut self,
        shape: WindowShape,
        bank: Option<WindowBank>,
        labels: usize,
        batch: Option<usize>,
    ) -> Result<()> {
        let is_same = |planned: &Planned| (&planned.shape, planned.labels, planned.batch) == (&shape, labels, batch);
        if self.windows.as_ref().is_some_and(is_same) {
            return Ok(());
        }
        self.windows = None;
        let largest = if self.cuda_stream().is_some() { MOST_WINDOWS } else { 1 };
        let mut size = batch.unwrap_or(largest).max(1);
        loop {
            let batches = window_tables::batches(size);
            match self.compile_windows(&WindowShape { batches, ..shape.clone() }, bank) {
                Err(Error::Memory(_)) if batch.is_none() && size > 1 => size /= 2,
                compiled => {
                    let (program, io) = compiled?;
                    self.windows = Some(Planned { shape, labels, batch, program, io });
                    return Ok(());
                }
            }
        }
    }

    /// What scores are made with, where they are asked for, on the device.
    fn window_bank(&mut self, about: Outputs) -> Result<Option<WindowBank>> {
        let model = &self.network.shared().model;
        let (Some(bank), Some(labels)) = (self.bank, self.current_labels(about)) else { return Ok(None) };
        if model.sums_vectors(labels.names().len()) {
            return Ok(Some(WindowBank::OfSums(self.vectors.take(&mut *self.device, &labels)?)));
        }
        Ok(Some(WindowBank::OfMaps(bank)))
    }

    fn compile_windows(&mut self, shape: &WindowShape, bank: Option<WindowBank>) -> Result<(Program, WindowIo)> {
        let network = self.network.shared();
        let (plan, io) = plan::record(network.activation, &[], |d| network.model.forward_windows(d, shape, bank));
        let what = format!("{} windows of {1}×{1} and their sums", shape.batches[0], shape.crop);
        Ok((self.compile(plan, &what)?, io))
    }

    /// What computes windows that are planned.
    fn planned(&mut self) -> (&mut dyn Device, &mut Planned) {
        (&mut *self.device, self.windows.as_mut().expect("windows are planned before they are computed"))
    }

    /// As [`Lane::run_photo`], of a photo that is taken as a protocol says: its mask, the winners' scores and confidences, an overlay.
    ///
    /// # Errors
    /// As [`Lane::run`] and [`Lane::whole`]; [`Error::Size`] for outputs that windows do not have.
    pub fn run_whole(
        &mut self,
        photo: Photo,
        protocol: &Protocol,
        wanted: Wanted<'_>,
        options: WholeOptions,
    ) -> Result<Results> {
        let (size, own) = (self.size, self.normalisation);
        match &protocol.look {
            Look::Windows(_) => return self.run_windows(photo, protocol, wanted, options, &mut |_| Ok(())),
            Look::Native => {}
            Look::Once(size) => self.size = Some(*size),
        }
        self.normalisation = protocol.normalisation.or(own);
        let results = self.run_photo(resized(photo, protocol), wanted);
        (self.size, self.normalisation) = (size, own);
        results
    }

    /// As [`Lane::run_whole`], of a protocol of windows, whose stripes `watch` sees as they come.
    ///
    /// # Errors
    /// As [`Lane::run_whole`]; whatever `watch` gives.
    pub fn run_windows(
        &mut self,
        photo: Photo,
        protocol: &Protocol,
        wanted: Wanted<'_>,
        options: WholeOptions,
        watch: &mut dyn FnMut(&mut Stripe<'_, '_>) -> Result<()>,
    ) -> Result<Results> {
        let others = [Output::Scores, Output::Probabilities, Output::Embedding, Output::Points, Output::Mask8];
        if let Some(output) = others.into_iter().find(|output| wanted.has(*output)) {
            let what = format!("windows make no {output:?} of a whole photo in memory: take Lane::whole's stripes");
            return Err(Error::Size(what));
        }
        let mut held = self.network.memory().holder();
        let own = protocol.out_size((photo.height, photo.width), &protocol.grids((photo.height, photo.width))?);
        let need = Need { host: host_bytes(own, (photo.height, photo.width), wanted), ..Need::default() };
        held.hold("what a photo in windows yields", need, memory::FOR_PASS)?;
        let picture = wanted.has(Output::Overlay).then(|| Photo { rgb: photo.rgb.clone(), ..photo });
        let mut results = Results::default();
        let mut whole = self.whole(photo, protocol, wanted, None, options)?;
        let (height, width) = whole.size();
        let mut mask = vec![0u16; height * width];
        let mut best = vec![0.0; if wanted.has(Output::Best) { height * width } else { 0 }];
        let mut confidence = vec![0u8; if wanted.has(Output::Confidence) { height * width } else { 0 }];
        whole.each(&mut |stripe| {
            stripe.mask(&mut mask, width)?;
            stripe.best(&mut best, width)?;
            stripe.confidence(&mut confidence, width)?;
            watch(stripe)
        })?;
        results.labels = whole.labels.clone();
        if let Some(picture) = picture {
            let picture = if (picture.height, picture.width) == (height, width) {
                picture
            } else {
                resize::opencv(&picture, (height, width))
            };
            let mut rgb = picture.rgb;
            tint(&mask, &wanted.palette().collect::<Vec<_>>(), &mut rgb);
            results.put(Output::Overlay, [height, width, 3], |data| data.u8 = rgb);
        }
        results.put(Output::Mask, [height, width, 1], |data| data.u16 = mask);
        if !best.is_empty() {
            results.put(Output::Best, [height, width, 1], |data| data.f32 = best);
        }
        if !confidence.is_empty() {
            results.put(Output::Confidence, [height, width, 1], |data| data.u8 = confidence);
        }
        Ok(results)
    }
}

/// What windows of a photo are planned for, so many a pass.
pub(crate) fn window_shape(
    protocol: &Protocol,
    layout: &Layout,
    photo: (usize, usize),
    outputs: Outputs,
    dtype: Element,
    batches: &[usize],
) -> WindowShape {
    WindowShape {
        photo,
        crop: protocol.crop(&layout.grids),
        batches: batches.to_vec(),
        stage: protocol.stage,
        doubled: protocol.doubled,
        normalisation: protocol.normalisation,
        pixels: layout.pixels(),
        scales: layout.grids.len(),
        stripe: (layout.stripe, layout.width()),
        density: (Sight { protocol, photo }.density(layout), layout.density()),
        outputs,
        dtype,
    }
}

/// One pass of the windows that these tables tell.
pub(crate) fn run_pass(device: &mut dyn Device, program: &mut Program, pass: &Pass, tables: &Tables) -> Result<()> {
    device.write(program, pass.seen, 0, bytemuck::cast_slice(&tables.seen))?;
    device.write(program, pass.weights, 0, bytemuck::cast_slice(&tables.weights))?;
    device.write(program, pass.places, 0, bytemuck::cast_slice(&tables.places))?;
    device.run_steps(program, pass.steps.clone())
}

/// Where rows, or columns, are seen among the sums.
pub(crate) fn write_table(
    device: &mut dyn Device,
    program: &mut Program,
    bufs: [Buf; 2],
    table: &window_tables::Table,
) -> Result<()> {
    device.write(program, bufs[0], 0, bytemuck::cast_slice(&table.places))?;
    device.write(program, bufs[1], 0, bytemuck::cast_slice(&table.weights))
}

/// The 8-bit photo as a protocol resizes it.
fn resized(photo: Photo, protocol: &Protocol) -> Photo {
    match protocol.before {
        Before::Pillow(size) => resize::pillow(&photo, size),
        Before::OpenCv(size) => resize::opencv(&photo, size),
        Before::Nothing | Before::Float { .. } => photo,
    }
}

/// What these results of (height, width) take on the host, and a copy of the photo of an overlay.
fn host_bytes((height, width): (usize, usize), photo: (usize, usize), wanted: Wanted<'_>) -> u64 {
    let each = |output, bytes| if wanted.has(output) { bytes } else { 0 };
    let bytes = 2 + each(Output::Best, 4) + each(Output::Confidence, 1) + each(Output::Overlay, 3);
    let copy = each(Output::Overlay, 3) * (photo.0 * photo.1) as u64;
    bytes * (height * width) as u64 + copy
}

impl Whole<'_> {
    /// (height, width) of what is handed out.
    pub fn size(&self) -> (usize, usize) {
        self.layout.out
    }

    /// Channels of what is handed out: labels, or the embeddings' own.
    pub fn channels(&self) -> usize {
        self.io().values.channels()
    }

    /// Strips of columns that it comes in.
    pub fn strips(&self) -> usize {
        self.layout.strips.len()
    }

    /// Of the network that are computed, mirrored ones among them.
    pub fn passes(&self) -> usize {
        self.layout.windows() * window_tables::flip(&self.protocol).passes()
    }

    /// Computes all windows, and hands out all stripes: strip by strip from the left, each from top to bottom.
    ///
    /// # Errors
    /// As [`Lane::run`]; whatever `take` gives.
    pub fn each(&mut self, take: &mut dyn FnMut(&mut Stripe<'_, '_>) -> Result<()>) -> Result<()> {
        let mut windows = Vec::new();
        for strip in self.layout.strips.clone() {
            let table = window_tables::columns(&self.protocol, &self.layout, &strip);
            self.write(self.io().columns, &table)?;
            let order: Vec<Next> = Order::new(&self.protocol, &self.layout).collect();
            for next in order {
                match next {
                    Next::Windows(rows) => {
                        windows.clear();
                        window_tables::windows(&self.protocol, &strip, &rows, &mut windows);
                        self.add(&strip, &windows)?;
                    }
                    Next::Rows(rows) => {
                        self.finish(&rows)?;
                        take(&mut Stripe { whole: self, rows, columns: strip.columns.clone() })?;
                    }
                }
            }
        }
        self.lane.set_stage_times(&self.seconds, self.whole_seconds);
        Ok(())
    }

    fn io(&self) -> &WindowIo {
        &self.lane.windows.as_ref().expect("windows are planned before they are computed").io
    }

    fn write(&mut self, bufs: [Buf; 2], table: &window_tables::Table) -> Result<()> {
        let (device, Planned { program, .. }) = self.lane.planned();
        write_table(device, program, bufs, table)
    }

    /// Passes of these windows, as many at once as there are passes for.
    fn add(&mut self, strip: &Strip, mut windows: &[Window]) -> Result<()> {
        while !windows.is_empty() {
            let these;
            (these, windows) = windows.split_at(self.io().pass_for(windows.len()).batch);
            self.pass(strip, these)?;
        }
        Ok(())
    }

    fn pass(&mut self, strip: &Strip, windows: &[Window]) -> Result<()> {
        let Whole { lane, protocol, layout, photo, tables, .. } = self;
        tables.fill(&Sight { protocol, photo: *photo }, layout, strip, windows);
        let (device, Planned { program, io, .. }) = lane.planned();
        run_pass(device, program, io.pass_for(windows.len()), tables)?;
        self.note_times();
        Ok(())
    }

    /// Brings some rows to where they are read.
    fn finish(&mut self, rows: &Range<usize>) -> Result<()> {
        let table = window_tables::rows(&self.protocol, &self.layout, rows.clone(), self.layout.stripe);
        self.write(self.io().rows, &table)?;
        let (device, Planned { program, io, .. }) = self.lane.planned();
        device.run_steps(program, io.finish.clone())?;
        let mut count = [0u32];
        if let Some(place) = io.not_finite {
            device.read(program, place, 0, bytemuck::cast_slice_mut(&mut count))?;
        }
        let of = io.embeddings.or(io.mask).unwrap_or(io.values);
        let output = if io.embeddings.is_some() { Output::Embedding } else { Output::Mask };
        self.note_times();
        finite::check_windows(self.lane.network.shared(), output, of, count[0])
    }

    fn note_times(&mut self) {
        let times = self.lane.device.times();
        self.whole_seconds += times.whole.unwrap_or(0.0);
        self.seconds.iter_mut().zip(times.stages).for_each(|(sum, stage)| *sum += stage);
    }
}

/// What is done with a row: its number, its columns, their values.
pub type TakeRow<'a, T> = dyn FnMut(usize, Range<usize>, &[T]) + 'a;

impl Stripe<'_, '_> {
    /// Labels into a mask of `width` columns, each at its place.
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn mask(&mut self, mask: &mut [u16], width: usize) -> Result<()> {
        let Some(buf) = self.whole.io().mask else { return Ok(()) };
        if buf.element == Element::U16 {
            return self.put_in_place::<u16>(buf, mask, width);
        }
        let unlabelled = self.whole.unlabelled;
        self.rows_of::<u8>(buf, &mut |y, columns, row| {
            mask[y * width..][columns].iter_mut().zip(row).for_each(|(label, byte)| *label = wide(*byte, unlabelled));
        })
    }

    /// As [`Stripe::mask`], the winners' scores.
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn best(&mut self, best: &mut [f32], width: usize) -> Result<()> {
        self.whole.io().best.map_or(Ok(()), |buf| self.put_in_place(buf, best, width))
    }

    /// As [`Stripe::mask`], confidences.
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn confidence(&mut self, confidence: &mut [u8], width: usize) -> Result<()> {
        self.whole.io().confidence.map_or(Ok(()), |buf| self.put_in_place(buf, confidence, width))
    }

    /// `take(row, columns, values)` of each of its rows: scores `[columns, labels]`, or embeddings in float32 `[columns, channels]`.
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn values(&mut self, take: &mut TakeRow<'_, f32>) -> Result<()> {
        let buf = self.whole.io().embeddings.unwrap_or(self.whole.io().values);
        self.rows_of(buf, take)
    }

    /// As [`Stripe::values`], of embeddings in float16.
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn halves(&mut self, take: &mut TakeRow<'_, f16>) -> Result<()> {
        self.whole.io().embeddings.map_or(Ok(()), |buf| self.rows_of(buf, take))
    }

    fn put_in_place<T: bytemuck::Pod>(&mut self, buf: Buf, all: &mut [T], width: usize) -> Result<()> {
        self.rows_of::<T>(buf, &mut |y, columns, row| all[y * width..][columns].copy_from_slice(row))
    }

    fn rows_of<T: bytemuck::Pod>(&mut self, buf: Buf, take: &mut TakeRow<'_, T>) -> Result<()> {
        let (device, Planned { program, .. }) = self.whole.lane.planned();
        let [_, _, width, channels] = buf.shape;
        let mut values = vec![T::zeroed(); self.rows.len() * width * channels];
        device.read(program, buf, 0, bytemuck::cast_slice_mut(&mut values))?;
        for (y, row) in self.rows.clone().zip(values.chunks_exact(width * channels)) {
            take(y, self.columns.clone(), &row[..self.columns.len() * channels]);
        }
        Ok(())
    }
}
