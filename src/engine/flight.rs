//! Frames in flight: one is computed while the next is brought over.

use std::sync::Arc;

use super::collect::{Source, collect};
use super::frame_buffer::FrameBuffer;
use super::label_set::Labels;
use super::lane::HostInputs;
use super::places::User;
use super::session::{Session, last};
use super::{DeviceResults, Lane, Results, Wanted};
use crate::device::cuda::HostMemory;
use crate::device::{Elsewhere, FrameMemory, SLOTS};
use crate::error::{Error, Result};
use crate::memory::{self, Held};
use crate::model::{FrameIo, Output};
use crate::pixels::Image;
use crate::plan::Plan;

/// A frame that was submitted. Where it is dropped, the frame's results are.
#[derive(Debug)]
#[must_use = "the frame's results are had by Lane::wait"]
pub struct Ticket {
    slot: usize,
    /// Of the slot. The slot knows by it that the ticket is still there.
    token: Arc<()>,
}

/// A lane's frames in flight.
pub(super) struct Flights {
    slots: [Slot; SLOTS],
    /// How many so far left their results on the device.
    left: u64,
    /// What all slots take.
    held: Held,
}

impl Flights {
    pub fn new(held: Held) -> Flights {
        Flights { slots: Default::default(), left: 0, held }
    }
}

#[derive(Default)]
struct Slot {
    token: Arc<()>,
    flight: Option<Flight>,
}

/// A pass in flight.
#[expect(clippy::large_enum_variant, reason = "there are two, and a box would be allocated in each frame")]
enum Flight {
    /// What reading its results takes, whatever became of its session.
    Awaited { plan: Arc<Plan>, io: FrameIo, labels: Option<Labels> },
    /// Its results stay on the device; which of these it is.
    Left(u64),
}

impl Lane {
    /// Gives a frame to the device and returns before it is computed: on a GPU it is brought over while the one before is
    /// computed. Two frames may be in flight; the CPU computes one when it is waited for, or when the next comes.
    ///
    /// # Errors
    /// As [`Lane::run`]; [`Error::Busy`] where two frames are in flight already.
    pub fn submit(&mut self, frame: &Image<'_>, wanted: Wanted<'_>) -> Result<Ticket> {
        self.submit_from(From::Images(std::slice::from_ref(frame)), wanted)
    }

    /// As [`Lane::submit`], of a frame in memory that [`Lane::frame_buffers`] has made: a GPU takes it from there. It is not to be
    /// written before the frame was waited for.
    pub(crate) fn submit_buffer(&mut self, buffer: &FrameBuffer, wanted: Wanted<'_>) -> Result<Ticket> {
        self.submit_from(From::Buffer(buffer, &[buffer.image()?]), wanted)
    }

    fn submit_from(&mut self, from: From<'_>, wanted: Wanted<'_>) -> Result<Ticket> {
        self.locate(from.frames())?;
        let slot = self.free_slot()?;
        self.prepare(from.frames(), wanted, &[])?;
        let labels = self.current_labels(wanted.outputs);
        self.queue(slot, from, wanted, None)?;
        let Session { program, io, .. } = last(&mut self.sessions);
        let Slot { token, flight } = &mut self.flights.slots[slot];
        *flight = Some(Flight::Awaited { plan: program.shared_plan(), io: *io, labels });
        Ok(Ticket { slot, token: Arc::clone(token) })
    }

    /// Whether a frame has been computed, so that waiting for it takes no time. A CPU computes it only then.
    ///
    /// # Errors
    /// [`Error::Lost`] and [`Error::Device`] where a GPU fails.
    pub fn is_done(&self, ticket: &Ticket) -> Result<bool> {
        self.device.check()?;
        self.device.is_finished(ticket.slot)
    }

    /// As [`Lane::run`], whose results stay on the GPU; returns before they are computed. They lie in a place of their own, which
    /// no frame overwrites while anybody holds one of them, and there are two places unless [`Lane::set_device_places`] says
    /// otherwise. Two frames may be in flight, submitted ones among them: a third waits for the first of those whose results stay
    /// on the GPU. What went wrong in the pass, and that a mask's winning scores or embeddings are no finite numbers, is told when
    /// the results are waited for or read; at scores without a mask nobody looks.
    ///
    /// ```no_run
    /// use lseg_fast::{ContextKind, DeviceChoice, Engine, Image, Options, Output, Wanted};
    ///
    /// # fn main() -> lseg_fast::Result<()> {
    /// // The context that PyTorch, CuPy and CUDA's runtime library have their memory in.
    /// let options =
    ///     Options { device: DeviceChoice::Cuda(Some(0)), context: ContextKind::Primary, ..Options::default() };
    /// let mut engine = Engine::load_demo(&options)?;
    /// engine.set_labels(&["grass", "sky", "other"])?;
    /// let rgb = vec![120; 64 * 48 * 3];
    /// let results = engine.run_on_device(&[Image::rgb8(64, 48, &rgb)], Wanted::MASK)?;
    /// let mask = results.tensor(Output::Mask).unwrap();
    /// assert_eq!(mask.shape(), [1, 48, 64, 1]);
    /// // A kernel may be given `mask.address()`, on a stream that `mask.follow` has told; or the host waits.
    /// let mut labels = vec![0; mask.bytes()];
    /// mask.read(&mut labels)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Lane::run`], but what is told later; [`Error::Busy`] where results are held in all places, and where two frames are in
    /// flight whose tickets wait; [`Error::Device`] on a CPU.
    pub fn run_on_device(&mut self, frames: &[Image<'_>], wanted: Wanted<'_>) -> Result<DeviceResults> {
        self.leave_on_device(From::Images(frames), wanted)
    }

    /// As [`Lane::run_on_device`], of a frame as [`Lane::submit_buffer`] takes it.
    pub(crate) fn run_buffer_on_device(&mut self, buffer: &FrameBuffer, wanted: Wanted<'_>) -> Result<DeviceResults> {
        self.leave_on_device(From::Buffer(buffer, &[buffer.image()?]), wanted)
    }

    fn leave_on_device(&mut self, from: From<'_>, wanted: Wanted<'_>) -> Result<DeviceResults> {
        self.locate(from.frames())?;
        if self.cuda_stream().is_none() {
            let device = self.device.describe();
            let what = format!("this engine is on {device}, and results stay on a GPU alone: take them with run");
            return Err(Error::Device(what));
        }
        self.places.check()?;
        // A mask is the same whoever reads it, and so is its program.
        let brings_vectors = wanted.has(Output::Embedding) || wanted.has(Output::Points);
        let outputs = if brings_vectors { wanted.outputs.on_device() } else { wanted.outputs };
        let wanted = Wanted { outputs, ..wanted };
        let slot = self.free_slot()?;
        self.prepare(from.frames(), wanted, &[])?;
        let labels = self.current_labels(wanted.outputs);
        let Lane { sessions, places, device, .. } = &mut *self;
        let Session { program, io, .. } = last(sessions);
        let (plan, io) = (program.shared_plan(), *io);
        let user = places.take(&mut **device, &plan, &io)?;
        self.queue(slot, from, wanted, Some(&user))?;
        let Flights { slots, left, .. } = &mut self.flights;
        *left += 1;
        slots[slot].flight = Some(Flight::Left(*left));
        Ok(DeviceResults::new(user, &plan, &io, labels))
    }

    /// How many frames' results may be held on the GPU at once, one at least. Each takes memory of the network's budget when it is
    /// first used.
    pub fn set_device_places(&mut self, places: usize) {
        self.places.set_most(places);
    }

    /// The CUDA stream that frames are computed on; none on a CPU. An [`Image::cuda`] whose stream it is needs no event: whoever
    /// orders a frame before this stream's work has done all. It is the lane's, and goes with it.
    pub fn cuda_stream(&self) -> Option<u64> {
        self.device.stream_handle()
    }

    /// Gives the last session's pass to the device.
    fn queue(&mut self, slot: usize, from: From<'_>, wanted: Wanted<'_>, user: Option<&User>) -> Result<()> {
        let Lane { device, sessions, flights, palette, located, .. } = self;
        let Session { program, io, .. } = last(sessions);
        let need = device.slot_need(program.plan(), user.is_some()).times(SLOTS as u64);
        if !flights.held.covers(need) {
            flights.held.grow("a second frame in flight", need, memory::FOR_PASS)?;
        }
        let memory = from.memory();
        let frames = if memory.is_some() { &[] } else { from.frames() };
        let inputs = HostInputs { frames, points: wanted.points, palette };
        inputs.each(io, |buf, first, rows| {
            rows.copy_into(&mut device.slot_input(program, slot, buf)?[first..]);
            Ok(())
        })?;
        let images = (!located.is_empty()).then_some((io.photo.buf, &**located));
        let place = user.map(|user| &user.place().memory);
        device.submit(program, slot, &Elsewhere { images, place, host: memory.map(|memory| (io.photo.buf, memory)) })
    }

    /// Waits for a frame, and no other; what it yields.
    ///
    /// # Errors
    /// As [`Lane::run`]; [`Error::Foreign`] for a ticket of another lane, whose frame then has no ticket any more.
    pub fn wait(&mut self, ticket: Ticket) -> Result<Results> {
        let mut results = Results::default();
        self.wait_into(ticket, &mut results)?;
        Ok(results)
    }

    /// As [`Lane::wait`], into memory that is used again.
    ///
    /// # Errors
    /// As [`Lane::wait`].
    pub fn wait_into(&mut self, ticket: Ticket, results: &mut Results) -> Result<()> {
        results.clear();
        self.device.check()?;
        let Slot { token, flight } = &mut self.flights.slots[ticket.slot];
        let Some(Flight::Awaited { plan, io, labels }) = flight.take_if(|_| Arc::ptr_eq(token, &ticket.token)) else {
            return Err(Error::Foreign("the ticket is of another lane: wait for it there".to_owned()));
        };
        self.device.finish(ticket.slot)?;
        let source = Source::Slot(ticket.slot, &plan);
        collect(self.network.shared(), &mut *self.device, &source, &io, labels, results)?;
        self.note_times();
        Ok(())
    }

    /// A slot with no frame in flight, or with one whose results nobody can ask for any more, or the first of those whose results
    /// stay on the device.
    fn free_slot(&mut self) -> Result<usize> {
        self.device.check()?;
        let slots = &mut self.flights.slots;
        if let Some(free) = slots.iter().position(|slot| slot.flight.is_none()) {
            return Ok(free);
        }
        let forgotten = slots.iter().position(Slot::is_forgotten);
        let first = || (0..SLOTS).filter(|at| slots[*at].left().is_some()).min_by_key(|at| slots[*at].left());
        let Some(slot) = forgotten.or_else(first) else {
            return Err(Error::Busy(format!("{SLOTS} frames are in flight already: wait for one of them first")));
        };
        if let Some(Flight::Awaited { labels, .. }) = slots[slot].flight.take() {
            self.network.shared().retire(labels);
        }
        match self.device.finish(slot) {
            Err(Error::Lost(reason)) => return Err(Error::Lost(reason)),
            Ok(()) => self.note_times(),
            // What was wrong with it nobody wants to know any more, or is told when the results are waited for.
            Err(_) => {}
        }
        Ok(slot)
    }
}

/// Where a submitted pass takes its frames from.
#[derive(Clone, Copy)]
enum From<'a> {
    Images(&'a [Image<'a>]),
    /// One frame, and the same as an image.
    Buffer(&'a FrameBuffer, &'a [Image<'a>; 1]),
}

impl<'a> From<'a> {
    fn frames(self) -> &'a [Image<'a>] {
        match self {
            From::Images(frames) => frames,
            From::Buffer(_, frame) => frame,
        }
    }

    /// Where a GPU takes the one frame from.
    fn memory(self) -> Option<&'a HostMemory> {
        match self {
            From::Buffer(buffer, _) => match buffer.memory()? {
                FrameMemory::Cuda(memory) => Some(memory),
                FrameMemory::Plain(_) => None,
            },
            From::Images(_) => None,
        }
    }
}

impl Slot {
    /// Its ticket is gone.
    fn is_forgotten(&self) -> bool {
        matches!(self.flight, Some(Flight::Awaited { .. })) && Arc::strong_count(&self.token) == 1
    }

    /// Which of those it is whose results stay on the device.
    fn left(&self) -> Option<u64> {
        match self.flight {
            Some(Flight::Left(number)) => Some(number),
            _ => None,
        }
    }
}
