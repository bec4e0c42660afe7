//! Events: a point of a stream, and when it was reached.

use std::time::Instant;

use super::boundary::Out;
use super::capture::Capture;
use super::context::Context;
use super::error::{Code, Outcome, fail};
use super::handle::Handle;
use super::stream::{Point, Stream, not_ready};
use super::work::Work;
use super::{Machine, driver_functions};

pub struct Event {
    pub context: Handle<Context>,
    timed: bool,
    /// Counts the calls that recorded it.
    recording: u64,
    pub recorded: Recorded,
    /// When the newest record was executed: time of this machine, not of a GPU.
    time: Option<Instant>,
}

#[derive(Clone)]
pub enum Recorded {
    Never,
    At(Point),
    Captured { capture: Handle<Capture>, tips: Vec<usize> },
}

/// CU_EVENT_DISABLE_TIMING, and all flags that exist.
const DISABLE_TIMING: u32 = 2;
const FLAGS: u32 = 7;

impl Event {
    /// Its `recording`th record was executed; older ones are of no interest.
    pub fn happened(&mut self, recording: u64, now: Instant) {
        if recording == self.recording {
            self.time = Some(now);
        }
    }
}

impl Machine {
    /// The point to wait for, if it was ever recorded.
    fn point(&mut self, event: Handle<Event>) -> Outcome<Option<Point>> {
        let event = self.events.get(event)?;
        let (context, recorded) = (event.context, event.recorded.clone());
        self.check_alive(context)?;
        match recorded {
            Recorded::Never => Ok(None),
            Recorded::At(point) => Ok(Some(point)),
            Recorded::Captured { capture, .. } => {
                self.invalidate(capture);
                fail(Code::CAPTURED_EVENT, "the event was last recorded in a capturing stream")
            }
        }
    }

    fn record(&mut self, handle: Handle<Event>, given: Handle<Stream>) -> Outcome {
        let stream = self.stream(given)?;
        let (context, capture, tips, next) = {
            let s = self.streams.get(stream)?;
            (s.context, s.capture, s.tips.clone(), s.issued() + 1)
        };
        if self.events.get(handle)?.context != context {
            return fail(Code::INVALID_HANDLE, "event and stream belong to different contexts");
        }
        if capture.is_none() {
            self.refuse_implicit(stream)?;
        }
        let event = self.events.get_mut(handle)?;
        event.recording += 1;
        event.time = None;
        let recording = event.recording;
        if let Some(capture) = capture {
            event.recorded = Recorded::Captured { capture, tips };
            return self.check_capture(capture);
        }
        event.recorded = Recorded::At((stream, next));
        self.enqueue(stream, Work::Record { event: handle, recording }, Vec::new())
    }

    fn elapsed(&mut self, start: Handle<Event>, end: Handle<Event>) -> Outcome<f32> {
        let mut times = [None; 2];
        for (time, handle) in times.iter_mut().zip([start, end]) {
            let recorded = self.point(handle)?.is_some();
            let event = self.events.get(handle)?;
            if !event.timed {
                return fail(Code::INVALID_HANDLE, "the event was made without timing");
            }
            if !recorded {
                return fail(Code::INVALID_HANDLE, "the event was never recorded");
            }
            *time = event.time;
        }
        match times {
            [Some(start), Some(end)] if end >= start => Ok((end - start).as_secs_f32() * 1e3),
            [Some(start), Some(end)] => Ok(-(start - end).as_secs_f32() * 1e3),
            _ => Err(Code::NOT_READY.into()),
        }
    }
}

driver_functions! {
    table table;

    fn cuEventCreate(machine, answer: Out<Handle<Event>>, flags: u32) {
        let context = machine.current()?;
        if flags & !FLAGS != 0 {
            return fail(Code::INVALID_VALUE, format!("event flags {flags:#x} are not known"));
        }
        if answer.is_null() {
            return fail(Code::INVALID_VALUE, "null pointer where the event should go");
        }
        let timed = flags & DISABLE_TIMING == 0;
        answer.write(machine.events.insert(Event { context, timed, recording: 0, recorded: Recorded::Never, time: None }))
    }

    fn cuEventDestroy_v2(machine, event: Handle<Event>) {
        machine.events.remove(event)?;
        Ok(())
    }

    fn cuEventRecord(machine, event: Handle<Event>, stream: Handle<Stream>) {
        machine.record(event, stream)
    }

    fn cuEventRecordWithFlags(machine, event: Handle<Event>, stream: Handle<Stream>, flags: u32) {
        if flags != 0 {
            return fail(Code::NOT_SUPPORTED, format!("flags {flags}: event nodes of graphs are not emulated"));
        }
        machine.record(event, stream)
    }

    /// Says "not ready" once of work that nobody waited for, and does it.
    fn cuEventQuery(machine, event: Handle<Event>) {
        machine.refuse_unsafe("querying an event")?;
        match machine.point(event)? {
            Some(point) if !machine.is_done(point) => {
                not_ready(machine.run_to(point))
            }
            _ => Ok(()),
        }
    }

    fn cuEventSynchronize(machine, event: Handle<Event>) {
        machine.refuse_unsafe("synchronising with an event")?;
        match machine.point(event)? {
            Some(point) => machine.run_to(point),
            None => Ok(()),
        }
    }

    /// Milliseconds between two events, of this machine's time.
    fn cuEventElapsedTime(machine, milliseconds: Out<f32>, start: Handle<Event>, end: Handle<Event>) {
        milliseconds.write(machine.elapsed(start, end)?)
    }

    fn cuEventElapsedTime_v2(machine, milliseconds: Out<f32>, start: Handle<Event>, end: Handle<Event>) {
        milliseconds.write(machine.elapsed(start, end)?)
    }
}
