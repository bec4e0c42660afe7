//! Streams: queues that are executed as late as the host lets them, in the order that CUDA promises and no other.
//!
//! An item waits for the one before it in its stream and for those named in `after`: an event's record, or the legacy
//! default stream's (and blocking streams') work where CUDA's implicit synchronisation says so.

use std::collections::VecDeque;

use super::boundary::{Callback, HostFunction, In, Out, StreamFunction};
use super::capture::Capture;
use super::context::Context;
use super::error::{Code, Outcome, fail};
use super::event::{Event, Recorded};
use super::handle::Handle;
use super::stream_order::Withheld;
use super::work::Work;
use super::{Machine, driver_functions};

/// The first `count` items that a stream got.
pub type Point = (Handle<Stream>, u64);

pub struct Stream {
    pub context: Handle<Context>,
    /// Whether it and the legacy default stream wait for each other.
    pub blocking: bool,
    priority: i32,
    queue: VecDeque<Item>,
    issued: u64,
    done: u64,
    /// Launches that a kernel behind what was executed last may overlap.
    unfinished: Vec<u16>,
    /// The capture that it is part of, and the nodes that its next one depends on.
    pub capture: Option<Handle<Capture>>,
    pub tips: Vec<usize>,
    /// The capture's node that it got last itself.
    pub own_tip: Option<usize>,
    /// Destroyed by the program; goes when its work is done.
    closed: bool,
}

/// One piece of work of a stream.
pub struct Item {
    pub after: Vec<Point>,
    work: Work,
    /// A kernel that may begin before the kernel before it has ended.
    overlaps: bool,
    /// Memory that it must not touch.
    pub withheld: Vec<Withheld>,
}

impl Stream {
    pub fn new(context: Handle<Context>, blocking: bool, priority: i32) -> Stream {
        Stream {
            context,
            blocking,
            priority,
            queue: VecDeque::new(),
            issued: 0,
            done: 0,
            unfinished: Vec::new(),
            capture: None,
            tips: Vec::new(),
            own_tip: None,
            closed: false,
        }
    }

    /// Forgets what is queued.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.done = self.issued;
    }

    pub fn hangs(&self) -> bool {
        self.queue.iter().any(|item| matches!(item.work, Work::Hang))
    }

    pub fn issued(&self) -> u64 {
        self.issued
    }

    fn is_idle(&self) -> bool {
        self.done == self.issued
    }

    /// What is queued, of those of its items that come after the first `from` and among the first `to`.
    pub fn pending(&self, from: u64, to: u64) -> impl Iterator<Item = &Item> {
        let place = |count: u64| count.saturating_sub(self.done) as usize;
        self.queue.iter().take(place(to)).skip(place(from))
    }

    /// What is queued after its first `from` items.
    pub fn pending_after(&mut self, from: u64) -> impl Iterator<Item = &mut Item> {
        self.queue.iter_mut().skip(from.saturating_sub(self.done) as usize)
    }

    /// Whether this work may begin before what is queued before it has ended: a launch that says so, behind a launch.
    fn lets_overlap(&self, work: &Work) -> bool {
        let mut before = self.queue.iter().rev().map(|item| &item.work);
        let before = before.find(|work| !matches!(work, Work::Record { .. } | Work::Allocated));
        matches!((before, work), (Some(Work::Launch(_)), Work::Launch(launch)) if launch.attributes.programmatic)
    }
}

/// CU_STREAM_LEGACY and CU_STREAM_PER_THREAD.
const LEGACY: usize = 1;
const PER_THREAD: usize = 2;
/// CU_STREAM_NON_BLOCKING
const NON_BLOCKING: u32 = 1;

impl Machine {
    /// The stream behind what a program gave as one, its context alive.
    pub(super) fn stream(&mut self, given: Handle<Stream>) -> Outcome<Handle<Stream>> {
        match given.0 {
            0 | LEGACY => {
                let context = self.current()?;
                Ok(self.contexts.get(context)?.default_stream)
            }
            PER_THREAD => {
                let context = self.current()?;
                let key = (context.0, std::thread::current().id());
                if let Some(&stream) = self.thread_streams.get(&key) {
                    return Ok(stream);
                }
                let stream = self.streams.insert(Stream::new(context, true, 0));
                self.thread_streams.insert(key, stream);
                Ok(stream)
            }
            _ => {
                let stream = self.streams.get(given)?;
                if stream.closed {
                    return fail(Code::INVALID_HANDLE, format!("{given:?} given as a stream was destroyed"));
                }
                self.check_alive(stream.context)?;
                Ok(given)
            }
        }
    }

    pub(super) fn is_legacy(&self, stream: Handle<Stream>, context: Handle<Context>) -> bool {
        self.contexts.find(context).is_some_and(|c| c.default_stream == stream)
    }

    /// Gives work to a stream; to its graph if it is capturing.
    pub(super) fn submit(&mut self, stream: Handle<Stream>, work: Work) -> Outcome {
        if self.streams.get(stream)?.capture.is_some() {
            return self.capture_work(stream, work);
        }
        self.refuse_implicit(stream)?;
        self.enqueue(stream, work, Vec::new())
    }

    /// Queues it behind `after`, and behind what CUDA's default stream implies.
    pub(super) fn enqueue(&mut self, stream: Handle<Stream>, work: Work, mut after: Vec<Point>) -> Outcome {
        let context = self.streams.get(stream)?.context;
        if self.is_legacy(stream, context) {
            let blocking = self.streams.iter().filter(|(_, s)| s.context == context && s.blocking && !s.is_idle());
            after.extend(blocking.filter(|&(other, _)| other != stream).map(|(other, s)| (other, s.issued)));
        } else if self.streams.get(stream)?.blocking {
            let legacy = self.contexts.get(context)?.default_stream;
            after.extend(self.streams.find(legacy).filter(|s| !s.is_idle()).map(|s| (legacy, s.issued)));
        }
        let withheld = self.withheld(stream, &after);
        let queue = self.streams.get_mut(stream)?;
        let overlaps = queue.lets_overlap(&work);
        queue.queue.push_back(Item { after, work, overlaps, withheld });
        queue.issued += 1;
        Ok(())
    }

    pub(super) fn is_done(&self, (stream, count): Point) -> bool {
        self.streams.find(stream).is_none_or(|s| s.done >= count)
    }

    /// Executes a stream up to a point, and of the others what that waits for.
    pub(super) fn run_to(&mut self, point: Point) -> Outcome {
        let mut pending = vec![point];
        while let Some(&(stream, count)) = pending.last() {
            let Some(queue) = self.streams.find(stream).filter(|s| s.done < count) else {
                pending.pop();
                continue;
            };
            let Some(item) = queue.queue.front() else {
                pending.pop();
                continue;
            };
            if let Some(&first) = item.after.iter().find(|&&p| !self.is_done(p)) {
                pending.push(first);
                continue;
            }
            if matches!(item.work, Work::Hang) {
                return Err(Code::HUNG.into());
            }
            let context = queue.context;
            if let Some(queue) = self.streams.find_mut(stream)
                && let Some(item) = queue.queue.pop_front()
            {
                queue.done += 1;
                let unfinished = if item.overlaps { std::mem::take(&mut queue.unfinished) } else { Vec::new() };
                self.execute_item(stream, context, &item, &unfinished)?;
            }
        }
        self.streams.retain(|s| !(s.closed && s.is_idle()));
        Ok(())
    }

    fn execute_item(
        &mut self,
        stream: Handle<Stream>,
        context: Handle<Context>,
        item: &Item,
        unfinished: &[u16],
    ) -> Outcome {
        self.hide(context, stream, &item.withheld);
        let result = self.execute(context, &item.work, unfinished);
        self.device_of(context)?.memory.give_back();
        let left = result?;
        if let Some(queue) = self.streams.find_mut(stream)
            && !matches!(item.work, Work::Record { .. } | Work::Allocated)
        {
            queue.unfinished = left;
        }
        Ok(())
    }

    pub(super) fn run_stream(&mut self, stream: Handle<Stream>) -> Outcome {
        self.run_to((stream, self.streams.get(stream)?.issued))
    }

    /// Executes everything of a context. The order of independent streams follows the schedule's seed.
    pub(super) fn run_context(&mut self, context: Handle<Context>) -> Outcome {
        let mut points: Vec<Point> =
            self.streams.iter().filter(|(_, s)| s.context == context).map(|(h, s)| (h, s.issued)).collect();
        if self.device_of(context)?.options.schedule % 2 == 1 {
            points.reverse();
        }
        points.into_iter().try_for_each(|point| self.run_to(point))
    }

    fn new_stream(&mut self, answer: &Out<Handle<Stream>>, flags: u32, priority: i32) -> Outcome {
        let context = self.current()?;
        if flags & !NON_BLOCKING != 0 {
            return fail(Code::INVALID_VALUE, format!("stream flags {flags:#x} are not known"));
        }
        if answer.is_null() {
            return fail(Code::INVALID_VALUE, "null pointer where the stream should go");
        }
        let stream = Stream::new(context, flags & NON_BLOCKING == 0, priority.clamp(-5, 0));
        answer.write(self.streams.insert(stream))
    }
}

/// What a question is answered with about work that was done only now, or never will be.
pub fn not_ready(done: Outcome) -> Outcome {
    match done {
        Err(failure) if failure.code != Code::HUNG => Err(failure),
        _ => Err(Code::NOT_READY.into()),
    }
}

driver_functions! {
    table table;

    fn cuStreamCreate(machine, answer: Out<Handle<Stream>>, flags: u32) {
        machine.new_stream(&answer, flags, 0)
    }

    fn cuStreamCreateWithPriority(machine, answer: Out<Handle<Stream>>, flags: u32, priority: i32) {
        machine.new_stream(&answer, flags, priority)
    }

    /// Its work is still done, whenever something waits for it. A capture that it is part of is lost.
    fn cuStreamDestroy_v2(machine, given: Handle<Stream>) {
        if given.0 <= PER_THREAD {
            return fail(Code::INVALID_HANDLE, "a default stream cannot be destroyed");
        }
        let stream = machine.stream(given)?;
        if let Some(capture) = machine.streams.get(stream)?.capture {
            machine.invalidate(capture);
        }
        let queue = machine.streams.get_mut(stream)?;
        queue.closed = true;
        if queue.is_idle() {
            machine.streams.remove(stream)?;
        }
        Ok(())
    }

    fn cuStreamSynchronize(machine, given: Handle<Stream>) {
        let stream = machine.stream(given)?;
        machine.refuse_on_capturing(stream, "synchronising a stream")?;
        machine.run_stream(stream)
    }

    /// Says "not ready" once of work that nobody waited for, and does it.
    fn cuStreamQuery(machine, given: Handle<Stream>) {
        let stream = machine.stream(given)?;
        machine.refuse_on_capturing(stream, "querying a stream")?;
        if machine.streams.get(stream)?.is_idle() {
            return Ok(());
        }
        not_ready(machine.run_stream(stream))
    }

    /// What the stream does next waits for the event's last record before this call.
    fn cuStreamWaitEvent(machine, given: Handle<Stream>, event: Handle<Event>, flags: u32) {
        let stream = machine.stream(given)?;
        if flags != 0 {
            return fail(Code::NOT_SUPPORTED, format!("flags {flags}: event nodes of graphs are not emulated"));
        }
        match machine.events.get(event)?.recorded.clone() {
            Recorded::Captured { capture, tips } => machine.join_capture(stream, capture, &tips),
            Recorded::Never => Ok(()),
            Recorded::At(point) => {
                machine.refuse_isolated(stream)?;
                machine.refuse_implicit(stream)?;
                machine.enqueue(stream, Work::Nothing, vec![point])
            }
        }
    }

    fn cuStreamGetPriority(machine, given: Handle<Stream>, priority: Out<i32>) {
        let stream = machine.stream(given)?;
        priority.write(machine.streams.get(stream)?.priority)
    }

    fn cuStreamGetFlags(machine, given: Handle<Stream>, flags: Out<u32>) {
        let stream = machine.stream(given)?;
        flags.write(if machine.streams.get(stream)?.blocking { 0 } else { NON_BLOCKING })
    }

    fn cuStreamGetCtx(machine, given: Handle<Stream>, context: Out<Handle<Context>>) {
        let stream = machine.stream(given)?;
        context.write(machine.streams.get(stream)?.context)
    }

    fn cuStreamGetId(machine, given: Handle<Stream>, id: Out<u64>) {
        let stream = machine.stream(given)?;
        id.write(stream.0 as u64)
    }

    /// No memory is bound to streams: nothing to do.
    fn cuStreamAttachMemAsync(machine, given: Handle<Stream>, _address: u64, _bytes: usize, _flags: u32) {
        machine.stream(given)?;
        Ok(())
    }

    fn cuLaunchHostFunc(machine, given: Handle<Stream>, function: Option<HostFunction>, data: usize) {
        let stream = machine.stream(given)?;
        match function {
            Some(function) => machine.submit(stream, Work::Call(Callback::host(function, data))),
            None => fail(Code::INVALID_VALUE, "no function"),
        }
    }

    fn cuStreamAddCallback(
        machine,
        given: Handle<Stream>,
        function: Option<StreamFunction>,
        data: usize,
        _flags: u32,
    ) {
        let stream = machine.stream(given)?;
        machine.refuse_on_capturing(stream, "adding a callback to a stream")?;
        match function {
            Some(function) => machine.submit(stream, Work::Call(Callback::stream(function, given.0, data))),
            None => fail(Code::INVALID_VALUE, "no function"),
        }
    }

    /// Attributes (access policy, synchronisation policy) are hints; none is kept.
    fn cuStreamSetAttribute(machine, given: Handle<Stream>, _attribute: u32, value: In<u8>) {
        machine.stream(given)?;
        value.read()?;
        Ok(())
    }
}
