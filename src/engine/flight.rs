//! Frames in flight: one is computed while the next is brought over.

use std::sync::Arc;

use super::collect::{Source, collect};
use super::label_set::Labels;
use super::lane::HostInputs;
use super::session::{Session, last};
use super::{Frame, Lane, Results, Wanted};
use crate::device::SLOTS;
use crate::error::{Error, Result};
use crate::memory::{self, Held};
use crate::model::FrameIo;
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
    /// What all slots take.
    held: Held,
}

impl Flights {
    pub fn new(held: Held) -> Flights {
        Flights { slots: Default::default(), held }
    }
}

#[derive(Default)]
struct Slot {
    token: Arc<()>,
    flight: Option<Flight>,
}

/// What reading a pass's results takes, whatever became of its session.
struct Flight {
    plan: Arc<Plan>,
    io: FrameIo,
    labels: Option<Labels>,
}

impl Lane {
    /// Gives a frame to the device and returns before it is computed: on a GPU it is brought over while the one before is
    /// computed. Two frames may be in flight; the CPU computes one when it is waited for, or when the next comes.
    ///
    /// # Errors
    /// As [`Lane::run`]; [`Error::Busy`] where two frames are in flight already.
    pub fn submit(&mut self, frame: &Frame<'_>, wanted: Wanted<'_>) -> Result<Ticket> {
        let frames = std::slice::from_ref(frame);
        let slot = self.free_slot()?;
        self.prepare(frames, wanted, &[])?;
        let labels = self.current_labels(wanted.outputs);
        let Lane { device, sessions, flights, palette, .. } = self;
        let Session { program, io, .. } = last(sessions);
        let need = device.slot_need(program.plan()).times(SLOTS as u64);
        if !flights.held.covers(need) {
            flights.held.grow("a second frame in flight", need, memory::FOR_PASS)?;
        }
        let inputs = HostInputs { frames, points: wanted.points, palette };
        inputs.each(io, |buf, first, bytes| {
            device.slot_input(program, slot, buf)?[first..first + bytes.len()].copy_from_slice(bytes);
            Ok(())
        })?;
        device.submit(program, slot)?;
        let Slot { token, flight } = &mut flights.slots[slot];
        *flight = Some(Flight { plan: program.shared_plan(), io: *io, labels });
        Ok(Ticket { slot, token: Arc::clone(token) })
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
        let Some(flight) = flight.take_if(|_| Arc::ptr_eq(token, &ticket.token)) else {
            return Err(Error::Foreign("the ticket is of another lane: wait for it there".to_owned()));
        };
        self.device.finish(ticket.slot)?;
        let Flight { plan, io, labels } = flight;
        let source = Source::Slot(ticket.slot, &plan);
        collect(self.network.shared(), &mut *self.device, &source, &io, labels, results)?;
        self.note_times();
        Ok(())
    }

    /// A slot with no frame in flight, or with one whose results nobody can ask for any more.
    fn free_slot(&mut self) -> Result<usize> {
        self.device.check()?;
        let slots = &mut self.flights.slots;
        if let Some(free) = slots.iter().position(|slot| slot.flight.is_none()) {
            return Ok(free);
        }
        let Some(forgotten) = slots.iter().position(|slot| Arc::strong_count(&slot.token) == 1) else {
            return Err(Error::Busy(format!("{SLOTS} frames are in flight already: wait for one of them first")));
        };
        let flight = slots[forgotten].flight.take();
        self.network.shared().retire(flight.and_then(|flight| flight.labels));
        match self.device.finish(forgotten) {
            Err(Error::Lost(reason)) => Err(Error::Lost(reason)),
            // What was wrong with it nobody wants to know any more.
            _ => Ok(forgotten),
        }
    }
}
