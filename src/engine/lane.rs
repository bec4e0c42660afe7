//! The flow of one camera over a network's weights: its arena, its planned frames, its frames in flight.

use std::time::Duration;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::batch::Choice;
use super::collect::{Source, collect, unscale};
use super::fork_guard::ForkGuard;
use super::label_set::{LabelSlot, Labels};
use super::label_vectors::LabelVectors;
use super::places::Places;
use super::session::{Session, last};
use super::texts::bank_bytes;
use super::types::Tap;
use super::wanted::{Results, Wanted};
use super::whole::Planned;
use super::{Network, flight};
use crate::device::cuda::Located;
use crate::device::{Calls, Device};
use crate::error::{Error, Result};
use crate::image::decode::Photo;
use crate::memory::{self, Held, Need};
use crate::model::{FrameIo, FrameShape, Output, Outputs};
use crate::ops::{Buf, Element, Linear, Picture, Stage};
use crate::pixels::{Format, HostRows, Image};
use crate::plan_report::{OpTiming, PlanOp};
use crate::protocol::{Normalisation, Size};

/// The flow of one camera over a [`Network`]'s weights. It may move between threads. Lanes of one network run beside each other
/// on a GPU; on a CPU their passes follow each other.
///
/// ```
/// use lseg_fast::{Image, Network, Options, Results, Wanted};
///
/// # fn main() -> lseg_fast::Result<()> {
/// let network = Network::load_demo(&Options::default())?;
/// let mut lane = network.lane()?;
/// lane.set_size("64x64".parse()?);
/// lane.set_labels(&network.labels(&["grass", "sky", "other"])?)?;
/// let frames: Vec<Vec<u8>> = (0..4).map(|i| vec![60 * i; 64 * 64 * 3]).collect();
/// let frame = |rgb| Image::rgb8(64, 64, rgb);
///
/// // One frame is computed while the next is brought over.
/// let mut results = Results::default();
/// let mut before = lane.submit(&frame(&frames[0]), Wanted::MASK)?;
/// for rgb in &frames[1..] {
///     let next = lane.submit(&frame(rgb), Wanted::MASK)?;
///     lane.wait_into(before, &mut results)?;
///     assert_eq!(results.mask(0).unwrap().len(), 64 * 64);
///     before = next;
/// }
/// lane.wait(before)?;
/// # Ok(())
/// # }
/// ```
pub struct Lane {
    pub(super) network: Network,
    pub(super) device: ForkGuard,
    /// Where another than the model's own was asked for.
    pub(super) size: Option<Size>,
    /// As `size`.
    pub(super) normalisation: Option<Normalisation>,
    /// Of the last frame.
    pub(super) network_size: (usize, usize),
    /// Where the next frame's labels come from.
    slot: LabelSlot,
    /// Of the last frame, and so on the device.
    labels: Option<Labels>,
    pub(super) bank: Option<Linear>,
    /// For the most labels so far.
    bank_held: Held,
    most_labels: usize,
    pub(super) vectors: LabelVectors,
    pub(super) pass: Held,
    /// The most recently used last.
    pub(super) sessions: Vec<Session>,
    /// Of the last photo in windows.
    pub(super) windows: Option<Planned>,
    pub(super) flights: flight::Flights,
    /// Where results stay on a GPU.
    pub(super) places: Places,
    /// The frames to come, where they are in CUDA memory; none where they are the host's.
    pub(super) located: Vec<Located>,
    stage_times: Vec<(&'static str, Duration)>,
    /// The format and size (width, height) of a frame that the caller writes or has written, and its memory where the device has none.
    buffered: Option<(Format, usize, usize)>,
    own_buffer: Vec<u8>,
    pub(super) choices: Vec<Choice>,
    /// The labels' colours with their weight, of the next frame with an overlay.
    pub(super) palette: Vec<[u8; 4]>,
}

impl Lane {
    pub(super) fn new(network: Network, device: Box<dyn Device>) -> Lane {
        let budget = network.memory();
        let (pass, bank_held) = (budget.holder(), budget.holder());
        let (flights, places) = (flight::Flights::new(budget.holder()), Places::new(budget));
        let vectors = LabelVectors::new(budget);
        Lane {
            network,
            device: ForkGuard::new(device),
            size: None,
            normalisation: None,
            network_size: (0, 0),
            slot: LabelSlot::default(),
            labels: None,
            bank: None,
            bank_held,
            most_labels: 0,
            vectors,
            pass,
            sessions: Vec::new(),
            windows: None,
            flights,
            places,
            located: Vec::new(),
            stage_times: Vec::with_capacity(Stage::ALL.len()),
            buffered: None,
            own_buffer: Vec::new(),
            palette: Vec::new(),
            choices: Vec::new(),
        }
    }

    /// Whose weights it uses.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The network's input size for the frames to come; the model's own until this is called, which may have 2,048 a side
    /// at most.
    pub fn set_size(&mut self, size: Size) {
        self.size = Some(size);
    }

    /// As it was set; none where it is the model's own.
    pub fn size(&self) -> Option<Size> {
        self.size
    }

    /// The mean and standard deviation of the frames to come; the model's own where none is said.
    pub fn set_normalisation(&mut self, normalisation: Option<Normalisation>) {
        self.normalisation = normalisation;
    }

    /// As it was set; none where it is the model's own.
    pub fn normalisation(&self) -> Option<Normalisation> {
        self.normalisation
    }

    /// (height, width) of the network's input of the last frame; 0 before there was one.
    pub fn network_size(&self) -> (usize, usize) {
        self.network_size
    }

    /// The labels of the frames to come.
    ///
    /// # Errors
    /// [`Error::Foreign`] for labels of another network.
    pub fn set_labels(&mut self, labels: &Labels) -> Result<()> {
        self.check_labels(labels)?;
        self.slot.set(labels.clone());
        Ok(())
    }

    /// Where this lane finds its labels: for another thread that changes them while frames run.
    ///
    /// ```
    /// use lseg_fast::{Image, Network, Options, Wanted};
    ///
    /// # fn main() -> lseg_fast::Result<()> {
    /// let network = Network::load_demo(&Options::default())?;
    /// let mut lane = network.lane()?;
    /// lane.set_size("64x64".parse()?);
    /// lane.set_labels(&network.labels(&["grass", "other"])?)?;
    /// let (slot, words) = (lane.label_slot(), network.clone());
    /// let user = std::thread::spawn(move || words.labels(&["a dog", "other"]).map(|labels| slot.set(labels)));
    /// let rgb = vec![90; 64 * 64 * 3];
    /// let frame = [Image::rgb8(64, 64, &rgb)];
    /// lane.run(&frame, Wanted::MASK)?; // about either list, whole
    /// user.join().unwrap()?;
    /// let results = lane.run(&frame, Wanted::MASK)?;
    /// assert_eq!(results.labels().unwrap().names(), ["a dog", "other"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn label_slot(&self) -> LabelSlot {
        self.slot.clone()
    }

    /// What these outputs of some frames of one size are. All come of one pass.
    ///
    /// # Errors
    /// [`Error::Labels`] where an output is about labels and there are none, or other than there are colours; [`Error::Foreign`]
    /// where the labels in its slot are another network's; [`Error::Points`] for a point outside the frame; [`Error::Size`] for a frame without pixels, of more bytes than pixels, or too large, for no
    /// frames, and for frames of different sizes; [`Error::Memory`] where it needs more than is free or allowed;
    /// [`Error::NotFinite`] where a result is no finite number, or an embedding's value beyond 10¹⁶; [`Error::Device`] and
    /// [`Error::Lost`] where a GPU fails.
    pub fn run(&mut self, frames: &[Image<'_>], wanted: Wanted<'_>) -> Result<Results> {
        let mut results = Results::default();
        self.run_into(frames, wanted, &mut results)?;
        Ok(results)
    }

    /// As [`Lane::run`], into memory that is used again: from the second frame of a size on nothing is allocated, but for a
    /// 1.5 KB block of the thread pool's queue every 63 frames.
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn run_into(&mut self, frames: &[Image<'_>], wanted: Wanted<'_>, results: &mut Results) -> Result<()> {
        results.clear();
        self.locate(frames)?;
        self.ready(wanted.outputs)?;
        self.run_planned(frames, wanted, results)
    }

    /// As [`Lane::run_into`], about the labels that were taken.
    pub(super) fn run_planned(
        &mut self,
        frames: &[Image<'_>],
        wanted: Wanted<'_>,
        results: &mut Results,
    ) -> Result<()> {
        self.plan_frames(frames, wanted, &[])?;
        self.write_inputs(frames, wanted)?;
        self.run_session(results)
    }

    /// Of several passes together, seconds of each stage, and of passes that ran as one piece.
    pub(super) fn set_stage_times(&mut self, times: &[f64; Stage::ALL.len()], whole: f64) {
        self.stage_times.clear();
        if whole > 0.0 {
            let all = whole + times.iter().sum::<f64>();
            return self.stage_times.push(("frame", Duration::from_secs_f64(all)));
        }
        let timed = |stage: &Stage| (stage.name(), Duration::from_secs_f64(times[*stage as usize]));
        self.stage_times.extend(Stage::ALL[1..].iter().map(timed));
    }

    /// As [`Lane::run`], of a photo that is given away: its memory is free before the pass begins. With an overlay that is 9
    /// bytes a pixel on the CPU in the place of 12 (and 4 of them the lane's own).
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn run_photo(&mut self, photo: Photo, wanted: Wanted<'_>) -> Result<Results> {
        let Photo { width, height, rgb } = photo;
        let frames = [Image::rgb8(width, height, &rgb)];
        self.locate(&frames)?;
        self.prepare(&frames, wanted, &[])?;
        self.write_inputs(&frames, wanted)?;
        drop(rgb);
        let mut results = Results::default();
        self.run_session(&mut results)?;
        Ok(results)
    }

    /// Memory for the next frame, [`Format::bytes`] bytes. On a GPU it is what the device takes frames from, so that a
    /// camera's driver or a decoder that writes there saves a copy; the CPU copies it as any frame. What is in it stays until this
    /// lane sees another frame; its mask comes by [`Lane::run_buffered`].
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn frame_buffer(&mut self, format: Format, width: usize, height: usize) -> Result<&mut [u8]> {
        let (photo, bytes) = self.buffer_session(format, width, height)?;
        self.buffered = Some((format, width, height));
        let program = &mut last(&mut self.sessions).program;
        if self.device.input_memory(program, photo)?.is_some() {
            return Ok(self.device.input_memory(program, photo)?.expect("it was there"));
        }
        self.own_buffer.resize(bytes, 0);
        Ok(&mut self.own_buffer)
    }

    /// The mask of the frame in [`Lane::frame_buffer`].
    ///
    /// # Errors
    /// As [`Lane::run`]; [`Error::Size`] where no frame is there, or another was seen meanwhile.
    pub fn run_buffered(&mut self, results: &mut Results) -> Result<()> {
        results.clear();
        let Some((format, width, height)) = self.buffered else {
            let what = "the frame buffer holds no frame: call frame_buffer and fill it (other frames take its place)";
            return Err(Error::Size(what.to_owned()));
        };
        let (photo, _) = self.buffer_session(format, width, height)?;
        let program = &mut last(&mut self.sessions).program;
        if self.device.input_memory(program, photo)?.is_none() {
            self.device.write(program, photo, 0, &self.own_buffer)?;
        }
        self.run_session(results)
    }

    /// Another frame takes its place.
    pub(super) fn forget_buffer(&mut self) {
        self.buffered = None;
    }

    /// The session of a mask of one such frame: its photo and the photo's bytes.
    fn buffer_session(&mut self, format: Format, width: usize, height: usize) -> Result<(Buf, usize)> {
        let bytes = format.bytes(width, height).filter(|bytes| *bytes > 0);
        let bytes = bytes.ok_or_else(|| {
            Error::Size(format!("a frame of {width}×{height}: at least one pixel, and fewer than memory has"))
        })?;
        self.ready(Outputs::MASK)?;
        let photo = (height, width);
        let shape = FrameShape {
            batch: 1,
            photo,
            format,
            network: self.network_size_for(photo)?,
            normalisation: self.normalisation,
        };
        self.session(shape, Outputs::MASK, &[])?;
        Ok((last(&mut self.sessions).io.photo.buf, bytes))
    }

    /// Runs a batch and reads the floating-point buffers of these names (`lseg-fast plan` lists them), every one of a name in
    /// the order of the pass. For tests and for looking inside.
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn inspect(&mut self, frames: &[Image<'_>], names: &[&str]) -> Result<Vec<Tap>> {
        let wanted = Wanted::of(&[Output::Mask, Output::Scores, Output::Embedding]);
        self.locate(frames)?;
        self.prepare(frames, wanted, names)?;
        self.write_inputs(frames, wanted)?;
        let Lane { device, sessions, network, .. } = self;
        let program = &mut last(sessions).program;
        device.run(program)?;
        let bufs: Vec<(&str, Buf)> =
            names.iter().flat_map(|name| program.plan().named(name).map(|buf| (*name, buf))).collect();
        let read = |(name, buf): (&str, Buf)| {
            let mut data = vec![0.0; buf.len()];
            if buf.element == Element::Activation && device.activation_bytes() == size_of::<f16>() {
                let mut halves = vec![f16::ZERO; buf.len()];
                device.read(program, buf, 0, bytemuck::cast_slice_mut(&mut halves))?;
                halves.convert_to_f32_slice(&mut data);
            } else {
                device.read(program, buf, 0, bytemuck::cast_slice_mut(&mut data))?;
            }
            unscale(network.shared(), name, &mut data);
            Ok(Tap { name: name.to_owned(), shape: buf.shape, data })
        };
        bufs.into_iter().map(read).collect()
    }

    /// Time of each stage of the frame that was computed last, by the device's clock. A GPU replays a frame of a size, labels and outputs
    /// that it has seen twice as one piece, of which only the whole is known: "frame".
    pub fn stage_times(&self) -> &[(&'static str, Duration)] {
        &self.stage_times
    }

    /// Seconds of the last frame by the device's own clock, its copies included, where it ran as one piece.
    pub fn frame_seconds(&self) -> Option<f64> {
        self.device.times().whole
    }

    /// The clock of the GPU's multiprocessors in MHz, just after the last frame; none on a CPU.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn clock_mhz(&mut self) -> Result<Option<f64>> {
        self.device.check()?;
        self.device.clock_mhz()
    }

    /// Whether the frames to come measure each operation ([`Lane::timings`]).
    pub fn record_times(&mut self, on: bool) {
        self.sessions.clear();
        self.device.record_times(on);
    }

    /// Each operation of the last frame with its time, as executed; empty where times were not recorded.
    pub fn timings(&self) -> Vec<OpTiming> {
        let steps = self.sessions.last().map_or(&[][..], |session| &session.program.plan().steps);
        // Another pass (the matmul rate) may have come after the frame.
        let seconds =
            Some(self.device.times().steps).filter(|seconds| seconds.len() == steps.len()).unwrap_or_default();
        let activation = self.device.activation_bytes();
        let timing = |(step, seconds): (_, &f64)| OpTiming { op: PlanOp::of(step, activation), seconds: *seconds };
        steps.iter().zip(seconds).map(timing).collect()
    }

    /// What the device asked of its driver since it was made; nothing on the CPU.
    pub fn device_calls(&self) -> Calls {
        self.device.calls()
    }

    /// The device, for passes that are no frames. They may take the memory of frames that were planned, which are forgotten.
    #[cfg(feature = "bench")]
    pub(crate) fn device_for_passes(&mut self) -> Result<&mut dyn Device> {
        self.device.check()?;
        Ok(&mut *self.device)
    }

    /// Where the device takes these frames from. It comes before all else: of a stream that somebody captures, hardly any call of
    /// the driver leaves the capture whole.
    pub(super) fn locate(&mut self, frames: &[Image<'_>]) -> Result<()> {
        self.device.check()?;
        self.located.clear();
        for frame in frames {
            self.located.extend(self.device.locate(frame)?);
        }
        Ok(())
    }

    /// Brings over what a pass of the last session takes in.
    fn write_inputs(&mut self, frames: &[Image<'_>], wanted: Wanted<'_>) -> Result<()> {
        self.buffered = None;
        let Lane { device, sessions, palette, located, .. } = self;
        let Session { program, io, .. } = last(sessions);
        let inputs = HostInputs { frames, points: wanted.points, palette };
        inputs.each(io, |buf, first, rows| device.write_rows(program, buf, first, rows))?;
        if located.is_empty() { Ok(()) } else { device.write_images(program, io.photo.buf, located) }
    }

    /// One pass of the last session, whose inputs are written, and what it yields.
    fn run_session(&mut self, results: &mut Results) -> Result<()> {
        let Lane { network, device, sessions, labels, .. } = self;
        let Session { program, io, key } = last(sessions);
        device.run(program)?;
        let labels = labels.clone().filter(|_| key.outputs.need_labels());
        collect(network.shared(), &mut **device, &Source::Pass(program), io, labels, results)?;
        self.note_times();
        Ok(())
    }

    /// Of the pass that has just been waited for.
    pub(super) fn note_times(&mut self) {
        self.stage_times.clear();
        let times = self.device.times();
        let timed = |stage: &Stage| (stage.name(), Duration::from_secs_f64(times.stages[*stage as usize]));
        match times.whole {
            Some(whole) => self.stage_times.push(("frame", Duration::from_secs_f64(whole))),
            None => self.stage_times.extend(Stage::ALL[1..].iter().map(timed)),
        }
    }

    /// Has the labels of the next frame on the device, where these outputs are about labels.
    pub(super) fn take_labels(&mut self, outputs: Outputs) -> Result<()> {
        if !outputs.need_labels() {
            return Ok(());
        }
        let none = || Error::Labels("no labels are set; call set_labels first".to_owned());
        let next = self.slot.get().ok_or_else(none)?;
        self.check_labels(&next)?;
        if self.labels.as_ref().is_some_and(|labels| labels.epoch() == next.epoch()) {
            return Ok(());
        }
        self.hold_bank(&next)?;
        // Where this fails half-way, neither the old labels are there nor the new.
        self.network.shared().retire(self.labels.take());
        self.bank = Some(self.device.set_bank(self.bank, next.bank())?);
        self.labels = Some(next);
        Ok(())
    }

    /// Memory for a lane's own copy of the bank, which a GPU has; it never shrinks.
    fn hold_bank(&mut self, labels: &Labels) -> Result<()> {
        let network = self.network.shared();
        let count = labels.names().len();
        if network.activation != size_of::<f16>() || count <= self.most_labels {
            return Ok(());
        }
        let need = Need { device: 2 * bank_bytes(&*self.device, &network.model, count), ..Need::default() };
        self.bank_held.grow(&format!("a list of {count} labels"), need, memory::FOR_LABELS)?;
        self.most_labels = count;
        Ok(())
    }

    pub(super) fn current_labels(&self, outputs: Outputs) -> Option<Labels> {
        self.labels.clone().filter(|_| outputs.need_labels())
    }

    /// How many labels these outputs are about.
    pub(super) fn labels_in(&self, outputs: Outputs) -> usize {
        self.labels.as_ref().filter(|_| outputs.need_labels()).map_or(0, |labels| labels.names().len())
    }

    fn check_labels(&self, labels: &Labels) -> Result<()> {
        if labels.network() == self.network.shared().id {
            return Ok(());
        }
        let what = "the labels are of another network than the lane; make them by Network::labels of its own";
        Err(Error::Foreign(what.to_owned()))
    }
}

/// What a pass takes in.
pub(super) struct HostInputs<'a> {
    pub frames: &'a [Image<'a>],
    pub points: &'a [[f32; 2]],
    pub palette: &'a [[u8; 4]],
}

impl HostInputs<'_> {
    /// Each piece with its buffer and its place there, in bytes. Images in CUDA memory are no pieces of the host's.
    pub fn each(&self, io: &FrameIo, mut write: impl FnMut(Buf, usize, &HostRows<'_>) -> Result<()>) -> Result<()> {
        for (b, frame) in self.frames.iter().enumerate() {
            write_image(frame, io.photo, b, &mut write)?;
        }
        if let Some(place) = io.palette {
            write(place, 0, &HostRows::whole(self.palette.as_flattened()))?;
        }
        let Some(place) = io.points else { return Ok(()) };
        let points = HostRows::whole(bytemuck::cast_slice(self.points));
        (0..io.photo.buf.batch()).try_for_each(|b| write(place, b * size_of_val(self.points), &points))
    }
}

/// Copies a picture of the host, the one numbered `item` of its batch, to its place: planes, and rows without what pads them.
pub(super) fn write_image(
    image: &Image<'_>,
    photo: Picture,
    item: usize,
    mut write: impl FnMut(Buf, usize, &HostRows<'_>) -> Result<()>,
) -> Result<()> {
    let mut place = item * photo.bytes();
    for rows in image.host_rows(&image.check()?) {
        write(photo.buf, place, &rows)?;
        place += rows.size.row * rows.size.rows;
    }
    Ok(())
}
