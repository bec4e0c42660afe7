//! Passes in flight. A slot has memory for the inputs and outputs of one pass, on the host and on the GPU, so that three streams work
//! beside each other: one brings a slot's inputs over, one computes in the arena, one brings outputs back. Events order them:
//!
//! - the pass takes the slot's inputs to the arena when they are there ([`Wait::Inputs`]);
//! - it overwrites the outputs of the pass before when these have left the arena ([`Wait::ArenaIsFree`]);
//! - its outputs leave the arena when it has ended ([`Wait::Pass`]).
//!
//! A slot's own memory needs no event: it is used again only when the host has waited for its pass, and so for all of its copies.
//!
//! A pass may take its first input, images, from memory that is the caller's (`callers.rs`), and leave its outputs in a [`Place`] on
//! the GPU; then the slot has neither. Or from memory of the host that is made for it ([`FrameStream`]): then only the slot's memory
//! on the GPU is used.

use std::sync::Arc;

use super::Cuda;
use super::clock::Clock;
use super::driver::{Event, Flight, Memory, Stream};
use super::host_memory::{FrameStream, HostMemory};
use super::place::Place;
use super::staging::{ALIGN, MOST, bytes, place_of, places};
use crate::device::{Elsewhere, Program, SLOTS, Times};
use crate::error::Result;
use crate::memory::Need;
use crate::ops::Buf;
use crate::plan::Plan;

/// A wait of one stream for another, which the order of a pass rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Inputs,
    ArenaIsFree,
    Pass,
    /// Of the copy of a caller's image for what the caller has queued.
    Written,
    /// Of what the caller queues later for that copy.
    Taken,
    /// Of a stream that reads a place for what comes there.
    Results,
    /// Of what comes to a place for the streams that read it before.
    Readers,
}

/// What one slot takes. `is_left`: the outputs are left on the GPU.
pub fn need(plan: &Plan, is_unified: bool, is_left: bool) -> Need {
    let [inputs, outputs] = [&plan.inputs[..], if is_left { &[] } else { &plan.outputs }].map(|list| bytes(plan, list));
    // Where the host's memory is not page-locked, outputs wait on the GPU.
    let waiting = if is_unified || outputs > MOST { outputs } else { 0 };
    Need { device: (inputs + waiting) as u64, host: (inputs + outputs) as u64, ..Need::default() }
}

/// The slots of a device.
pub struct Slots {
    up: Arc<Stream>,
    compute: Arc<Stream>,
    down: Arc<Stream>,
    slots: [Slot; SLOTS],
    /// The slot whose outputs may still lie in the arena.
    leaving: Option<usize>,
    /// For trying what happens without it.
    #[cfg(feature = "bench")]
    pub omitted: Option<Wait>,
}

struct Slot {
    input: Side,
    output: Side,
    /// The inputs are on the GPU.
    uploaded: Event,
    /// The outputs are on the host.
    received: Event,
    /// They are in their place; made when it is first needed.
    left: Option<Event>,
    clock: Clock,
    /// Dropped last: what goes before waits for it.
    pass: Pass,
}

/// Where a slot's pass is.
enum Pass {
    None,
    InFlight { plan: Arc<Plan>, is_left: bool, _flight: Flight },
    Finished(Arc<Plan>),
}

/// The inputs in a slot, the plan's first as the last: where that is elsewhere, the others lie where they ever did.
struct Inputs<'a>(&'a [usize]);

impl<'a> Inputs<'a> {
    fn all(plan: &'a Plan) -> Inputs<'a> {
        Inputs(&plan.inputs)
    }

    /// Those that come to the slot's memory on the GPU.
    fn of(plan: &'a Plan, elsewhere: &Elsewhere<'_>) -> Inputs<'a> {
        match elsewhere.images {
            None => Self::all(plan),
            Some((buf, _)) => Self::without(plan, buf),
        }
    }

    /// Those that lie in the slot's memory of the host.
    fn on_host(plan: &'a Plan, elsewhere: &Elsewhere<'_>) -> Inputs<'a> {
        match elsewhere.host {
            None => Self::of(plan, elsewhere),
            Some((buf, _)) => Self::without(plan, buf),
        }
    }

    fn without(plan: &'a Plan, first: Buf) -> Inputs<'a> {
        assert_eq!(plan.inputs.first(), Some(&first.index), "images are the first input of a plan");
        Inputs(&plan.inputs[1..])
    }

    /// Up to a buffer, which is the last of these.
    fn up_to(plan: &'a Plan, buf: Buf) -> Inputs<'a> {
        let at = plan.inputs.iter().position(|index| *index == buf.index);
        Inputs(&plan.inputs[at.expect("the buffer is an input of the plan")..])
    }

    fn bytes(&self, plan: &Plan) -> usize {
        bytes(plan, self.0)
    }

    /// Each with its place.
    fn places(&self, plan: &Plan) -> impl Iterator<Item = (usize, usize)> {
        self.0.iter().rev().scan(0, |next, index| {
            let place = *next;
            *next += plan.buffers[*index].bytes.next_multiple_of(ALIGN);
            Some((*index, place))
        })
    }
}

/// Where buffers of a pass lie outside of the arena, packed.
#[derive(Default)]
struct Side {
    host: Option<HostMemory>,
    device: Option<Memory>,
}

impl Side {
    fn reserve_device(&mut self, stream: &Stream, bytes: usize) -> Result<()> {
        if self.device.as_ref().is_none_or(|memory| memory.bytes() < bytes) {
            self.device = None;
            self.device = Some(stream.allocate(bytes, "a frame of this size")?);
        }
        Ok(())
    }

    fn device(&self) -> &Memory {
        self.device.as_ref().expect("reserve comes before every pass")
    }

    fn host(&mut self) -> &mut HostMemory {
        self.host.as_mut().expect("reserve comes before every pass")
    }
}

impl Slot {
    fn new(up: &Arc<Stream>, compute: &Arc<Stream>, down: &Arc<Stream>) -> Result<Slot> {
        Ok(Slot {
            input: Side::default(),
            output: Side::default(),
            uploaded: Event::untimed(up)?,
            received: Event::untimed(down)?,
            left: None,
            clock: Clock::new(compute)?,
            pass: Pass::None,
        })
    }

    fn is_in_flight(&self) -> bool {
        matches!(self.pass, Pass::InFlight { .. })
    }

    /// Whether the pass in flight leaves its outputs on the GPU.
    fn is_left(&self) -> bool {
        matches!(self.pass, Pass::InFlight { is_left: true, .. })
    }
}

impl Slots {
    pub fn new(compute: &Arc<Stream>) -> Result<Slots> {
        let (up, down) = (compute.another()?, compute.another()?);
        let slots = [Slot::new(&up, compute, &down)?, Slot::new(&up, compute, &down)?];
        let compute = Arc::clone(compute);
        Ok(Slots {
            up,
            compute,
            down,
            slots,
            leaving: None,
            #[cfg(feature = "bench")]
            omitted: None,
        })
    }

    /// The host's memory of an input.
    pub fn input(&mut self, plan: &Plan, slot: usize, buf: Buf) -> Result<&mut [u8]> {
        let inputs = Inputs::up_to(plan, buf);
        self.reserve_input(plan, slot, [&inputs, &inputs])?;
        let place = inputs.bytes(plan) - bytes(plan, &[buf.index]);
        Ok(&mut self.slots[slot].input.host().slice_mut()?[place..][..plan.buffers[buf.index].bytes])
    }

    /// Room for these inputs on the GPU, and for those of the host.
    fn reserve_input(&mut self, plan: &Plan, slot: usize, [inputs, on_host]: [&Inputs<'_>; 2]) -> Result<()> {
        let Slots { up, slots, .. } = self;
        let slot = &mut slots[slot];
        assert!(!slot.is_in_flight(), "a slot's pass is finished before the slot is used again");
        HostMemory::reserve(&mut slot.input.host, up, on_host.bytes(plan))?;
        slot.input.reserve_device(up, inputs.bytes(plan))
    }

    /// Plain memory would be waited for: the outputs are brought there when the host wants them, and leave the arena before.
    fn reserve_output(&mut self, plan: &Plan, slot: usize) -> Result<()> {
        let Slots { down, slots, .. } = self;
        let (output, bytes) = (&mut slots[slot].output, bytes(plan, &plan.outputs));
        HostMemory::reserve(&mut output.host, down, bytes)?;
        match output.host() {
            HostMemory::Pinned(_) => Ok(()),
            HostMemory::Plain(_) => output.reserve_device(down, bytes),
        }
    }

    /// Queues the copies of the inputs to the GPU: those in the slot, and behind them the one that is elsewhere on the host.
    fn send(&mut self, plan: &Plan, slot: usize, elsewhere: &Elsewhere<'_>) -> Result<()> {
        let Slots { up, slots, .. } = self;
        let Slot { input: Side { host, device }, uploaded, .. } = &slots[slot];
        let (Some(host), Some(device)) = (host, device) else { return Ok(()) };
        let bytes = Inputs::on_host(plan, elsewhere).bytes(plan);
        send(up, host, device, 0, bytes)?;
        if let Some((buf, memory)) = elsewhere.host {
            send(up, memory, device, bytes, plan.buffers[buf.index].bytes)?;
        }
        uploaded.record()
    }

    /// The stream that brings inputs over.
    pub fn frame_stream(&self) -> FrameStream {
        FrameStream(Arc::clone(&self.up))
    }

    /// Whether the slot's pass has ended and its outputs are where they go.
    pub fn is_finished(&self, slot: usize) -> Result<bool> {
        let Slot { output, received, left, clock, .. } = &self.slots[slot];
        match (self.slots[slot].is_left(), left, &output.host) {
            (true, Some(left), _) => left.is_reached(),
            (_, _, Some(HostMemory::Plain(_))) => clock.end().is_reached(),
            _ => received.is_reached(),
        }
    }

    /// What must have happened before the pass, with inputs in the slot or without.
    fn order(&self, slot: usize, has_inputs: bool) -> Result<()> {
        if has_inputs {
            self.follow(&self.compute, &self.slots[slot].uploaded, Wait::Inputs)?;
        }
        match self.leaving {
            Some(before) => self.follow(&self.compute, &self.slots[before].received, Wait::ArenaIsFree),
            None => Ok(()),
        }
    }

    /// Queues the copies of the inputs to their places in the arena.
    fn enter(&self, plan: &Plan, slot: usize, inputs: &Inputs<'_>, arena: &Memory) -> Result<()> {
        inputs.places(plan).try_for_each(|(index, place)| {
            let device = self.slots[slot].input.device();
            let buffer = &plan.buffers[index];
            self.compute.copy(device, place, arena, buffer.offset, buffer.bytes)
        })
    }

    /// Queues the outputs' way out of the arena, and the end of the pass.
    fn leave(&mut self, plan: &Plan, slot: usize, arena: &Memory) -> Result<()> {
        let list = || places(plan, &plan.outputs).map(|(index, place)| (&plan.buffers[index], place));
        if let HostMemory::Plain(_) = self.slots[slot].output.host() {
            let device = self.slots[slot].output.device();
            list()
                .try_for_each(|(buffer, place)| self.compute.copy(arena, buffer.offset, device, place, buffer.bytes))?;
            self.leaving = None;
            return self.slots[slot].clock.finish();
        }
        self.slots[slot].clock.finish()?;
        self.follow(&self.down, self.slots[slot].clock.end(), Wait::Pass)?;
        let Slot { output, received, .. } = &mut self.slots[slot];
        if let HostMemory::Pinned(pinned) = output.host() {
            list().try_for_each(|(buffer, place)| pinned.receive(place, arena, buffer.offset, buffer.bytes))?;
        }
        self.leaving = Some(slot);
        received.record()
    }

    /// As [`Slots::leave`], to a place on the GPU.
    fn leave_in(&mut self, place: &Place, plan: &Plan, slot: usize, arena: &Memory) -> Result<()> {
        place.fill(plan, arena, self.omits(Wait::Readers))?;
        self.leaving = None;
        let Slot { left, clock, .. } = &mut self.slots[slot];
        clock.finish()?;
        if left.is_none() {
            *left = Some(Event::untimed(&self.compute)?);
        }
        left.as_ref().map_or(Ok(()), Event::record)
    }

    fn follow(&self, stream: &Stream, event: &Event, wait: Wait) -> Result<()> {
        if self.omits(wait) { Ok(()) } else { stream.follow(event) }
    }

    #[cfg(feature = "bench")]
    fn omits(&self, wait: Wait) -> bool {
        self.omitted == Some(wait)
    }

    #[cfg(not(feature = "bench"))]
    fn omits(&self, _wait: Wait) -> bool {
        false
    }

    /// The plan of the slot's pass, which is in flight.
    fn submitted(&self, slot: usize) -> Arc<Plan> {
        match &self.slots[slot].pass {
            Pass::InFlight { plan, .. } => Arc::clone(plan),
            Pass::None | Pass::Finished(_) => panic!("a slot is finished once after its pass was submitted"),
        }
    }

    /// Waits for the slot's pass and its outputs.
    fn wait(&mut self, slot: usize, plan: &Plan) -> Result<()> {
        let Slots { down, slots, .. } = self;
        let is_left = slots[slot].is_left();
        let Slot { output: Side { host, device }, uploaded, received, left, clock, .. } = &mut slots[slot];
        match (host, device) {
            _ if is_left => left.as_ref().expect("it was recorded behind the pass").wait()?,
            (Some(HostMemory::Plain(plain)), Some(device)) => {
                down.follow(clock.end())?;
                down.download(device, 0, &mut plain[..bytes(plan, &plan.outputs)])?;
            }
            _ => received.wait()?,
        }
        if self.leaving == Some(slot) {
            self.leaving = None;
        }
        // It is, long since: from here on the host may fill the slot's memory again without asking.
        uploaded.is_reached()?;
        clock.read()
    }

    /// Waits for the passes in flight, which are still to be finished: the arena is free. Those that leave their outputs on the GPU
    /// need no wait: only the stream that computes uses the arena for them.
    fn settle(&mut self) -> Result<()> {
        if self.slots.iter().any(|slot| slot.is_in_flight() && !slot.is_left()) {
            self.compute.synchronize()?;
            self.down.synchronize()?;
            self.leaving = None;
        }
        Ok(())
    }

    /// After an error: nothing of the slot's pass stays in flight. What else is wrong, the next call will say.
    fn abandon(&mut self, slot: usize) {
        for stream in [&self.up, &self.compute, &self.down] {
            let _ = stream.synchronize();
        }
        self.leaving = None;
        self.slots[slot].pass = Pass::None;
    }

    /// Where the slot's pass, of this plan, left an output.
    pub fn output(&self, plan: &Plan, slot: usize, buf: Buf) -> Result<&[u8]> {
        let Slot { pass, output, .. } = &self.slots[slot];
        assert!(
            matches!(pass, Pass::Finished(of) if of.id == plan.id),
            "outputs are those of the slot's finished pass"
        );
        let place = place_of(plan, &plan.outputs, buf).expect("the buffer is an output of the plan");
        let host = output.host.as_ref().expect("the pass left its outputs there");
        Ok(&host.slice()?[place..][..plan.buffers[buf.index].bytes])
    }

    pub fn times(&self, slot: usize) -> Times<'_> {
        self.slots[slot].clock.times()
    }
}

/// Queues a copy of the host's first bytes to a place on the GPU.
fn send(up: &Stream, host: &HostMemory, device: &Memory, place: usize, bytes: usize) -> Result<()> {
    match host {
        _ if bytes == 0 => Ok(()),
        HostMemory::Pinned(pinned) => pinned.send(0, device, place, bytes),
        HostMemory::Plain(plain) => up.upload(device, place, &plain[..bytes]),
    }
}

impl Cuda {
    /// The slots, made when they are first used.
    pub(super) fn slots(&mut self) -> Result<&mut Slots> {
        if self.slots.is_none() {
            self.slots = Some(Box::new(Slots::new(&self.stream)?));
        }
        Ok(self.slots.as_mut().expect("they were just made"))
    }

    /// Waits for passes in flight: what is queued from here on may use the arena.
    pub(super) fn wait_for_slots(&mut self) -> Result<()> {
        self.slots.as_mut().map_or(Ok(()), |slots| slots.settle())
    }

    pub(super) fn submit_pass(&mut self, program: &mut Program, slot: usize, elsewhere: &Elsewhere<'_>) -> Result<()> {
        self.link(program)?;
        self.reserve_slot(&program.plan, slot, elsewhere)?;
        self.capture_operations(program)?;
        let mut slots = self.slots.take().expect("they were just made");
        let flight = Flight::begin(self.stream.context());
        let queued = self.queue_submitted(&mut slots, program, slot, elsewhere);
        let (plan, is_left) = (program.shared_plan(), elsewhere.place.is_some());
        match queued {
            Ok(()) => slots.slots[slot].pass = Pass::InFlight { plan, is_left, _flight: flight },
            Err(_) => slots.abandon(slot),
        }
        self.slots = Some(slots);
        queued
    }

    fn reserve_slot(&mut self, plan: &Plan, slot: usize, elsewhere: &Elsewhere<'_>) -> Result<()> {
        let (slots, inputs) = (self.slots()?, Inputs::of(plan, elsewhere));
        if !inputs.0.is_empty() {
            slots.reserve_input(plan, slot, [&inputs, &Inputs::on_host(plan, elsewhere)])?;
        }
        if elsewhere.place.is_some() { Ok(()) } else { slots.reserve_output(plan, slot) }
    }

    fn queue_submitted(
        &mut self,
        slots: &mut Slots,
        program: &mut Program,
        slot: usize,
        elsewhere: &Elsewhere<'_>,
    ) -> Result<()> {
        let plan = program.shared_plan();
        let inputs = Inputs::of(&plan, elsewhere);
        if !inputs.0.is_empty() {
            slots.send(&plan, slot, elsewhere)?;
        }
        slots.order(slot, !inputs.0.is_empty())?;
        if let Some((buf, images)) = elsewhere.images {
            self.bring(plan.placed(buf), images)?;
        }
        let clock = &mut slots.slots[slot].clock;
        clock.set_recording(self.clock.is_recording());
        clock.start(self.replays_operations(program))?;
        slots.enter(&plan, slot, &inputs, self.arena.memory())?;
        self.queue_operations(program, Some(&mut slots.slots[slot].clock))?;
        match elsewhere.place {
            None => slots.leave(&plan, slot, self.arena.memory()),
            Some(place) => {
                #[cfg(feature = "bench")]
                place.omits_results.store(self.omits(Wait::Results), std::sync::atomic::Ordering::Relaxed);
                slots.leave_in(place, &plan, slot, self.arena.memory())
            }
        }
    }

    /// The slot is free again, whatever became of its pass.
    pub(super) fn abandon_pass(&mut self, slot: usize) {
        if let Some(slots) = &mut self.slots {
            slots.abandon(slot);
        }
    }

    pub(super) fn finish_pass(&mut self, slot: usize) -> Result<()> {
        let slots = self.slots.as_mut().expect("a slot is finished after its pass was submitted");
        let plan = slots.submitted(slot);
        if let Err(error) = slots.wait(slot, &plan) {
            slots.abandon(slot);
            return Err(error.with(&format!("; it was {}", plan.describe())));
        }
        slots.slots[slot].pass = Pass::Finished(plan);
        self.timed = Some(slot);
        Ok(())
    }
}
