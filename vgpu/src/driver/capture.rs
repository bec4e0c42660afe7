//! Stream capture: streams that record their work into a graph, and the calls that must not be made meanwhile.
//!
//! What CUDA forbids spoils the capture: the call is refused with the code that names why, and the end of the capture
//! answers 901.

use std::cell::Cell;
use std::thread::ThreadId;

use super::boundary::Out;
use super::context::Context;
use super::error::{Code, Outcome, fail};
use super::graph::{Edge, Graph, Node};
use super::handle::Handle;
use super::stream::Stream;
use super::work::Work;
use super::{Machine, driver_functions};

pub struct Capture {
    pub context: Handle<Context>,
    mode: Mode,
    thread: ThreadId,
    origin: Handle<Stream>,
    nodes: Vec<Node>,
    spoiled: bool,
}

/// CUstreamCaptureMode: whose calls are forbidden while a capture lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Global,
    ThreadLocal,
    Relaxed,
}

impl Mode {
    fn from_number(number: u32) -> Outcome<Mode> {
        match number {
            0 => Ok(Mode::Global),
            1 => Ok(Mode::ThreadLocal),
            2 => Ok(Mode::Relaxed),
            _ => fail(Code::INVALID_VALUE, format!("capture mode {number} is not known")),
        }
    }
}

thread_local! {
    /// cuThreadExchangeStreamCaptureMode
    static THREAD_MODE: Cell<Mode> = const { Cell::new(Mode::Global) };
}

/// CUstreamCaptureStatus
const NONE: u32 = 0;
const ACTIVE: u32 = 1;
const INVALIDATED: u32 = 2;

impl Machine {
    pub(super) fn invalidate(&mut self, capture: Handle<Capture>) {
        if let Some(capture) = self.captures.find_mut(capture) {
            capture.spoiled = true;
        }
    }

    fn spoil<T>(&mut self, capture: Handle<Capture>, code: Code, what: &str) -> Outcome<T> {
        self.invalidate(capture);
        fail(code, what)
    }

    /// 901 if the capture is already spoiled.
    pub(super) fn check_capture(&self, capture: Handle<Capture>) -> Outcome {
        if self.captures.get(capture)?.spoiled {
            return fail(Code::STREAM_CAPTURE_INVALIDATED, "the capture was spoiled by an earlier call");
        }
        Ok(())
    }

    /// Work given to a capturing stream: a node after those that the stream stands at.
    pub(super) fn capture_work(&mut self, stream: Handle<Stream>, work: Work) -> Outcome {
        let queue = self.streams.get_mut(stream)?;
        let Some(handle) = queue.capture else {
            return fail(Code::ILLEGAL_STATE, "the stream is not capturing");
        };
        let (tips, own) = (queue.tips.clone(), queue.own_tip);
        self.check_capture(handle)?;
        let capture = self.captures.get_mut(handle)?;
        let node = capture.nodes.len();
        let is_launch = |node: usize| matches!(capture.nodes[node].work, Work::Launch(_));
        let overlaps = matches!(&work, Work::Launch(launch) if launch.attributes.programmatic);
        // The attribute is about the kernel before it in its stream; what an event brought is waited for as ever.
        let edge = |&from: &usize| Edge { from, programmatic: overlaps && own == Some(from) && is_launch(from) };
        let after = tips.iter().map(edge).collect();
        capture.nodes.push(Node { work, after });
        let queue = self.streams.get_mut(stream)?;
        (queue.tips, queue.own_tip) = (vec![node], Some(node));
        Ok(())
    }

    /// A stream waits for an event of a capture: it becomes part of it.
    pub(super) fn join_capture(&mut self, stream: Handle<Stream>, capture: Handle<Capture>, tips: &[usize]) -> Outcome {
        let Some(found) = self.captures.find(capture) else {
            return fail(Code::CAPTURED_EVENT, "the event was last recorded in a capture that has ended");
        };
        let context = found.context;
        self.check_same_device("a capture", self.device_of(context)?.ordinal, self.streams.get(stream)?.context)?;
        self.check_capture(capture)?;
        match self.streams.get(stream)?.capture {
            Some(own) if own != capture => {
                self.invalidate(own);
                return self.spoil(capture, Code::STREAM_CAPTURE_MERGE, "the event belongs to another capture");
            }
            None if self.is_legacy(stream, context) => {
                let what = "the legacy default stream cannot be captured";
                return self.spoil(capture, Code::STREAM_CAPTURE_UNSUPPORTED, what);
            }
            _ => {}
        }
        let queue = self.streams.get_mut(stream)?;
        queue.capture = Some(capture);
        for &tip in tips {
            if !queue.tips.contains(&tip) {
                queue.tips.push(tip);
            }
        }
        Ok(())
    }

    /// 900: the call would wait for, or ask about, work that is only being recorded.
    pub(super) fn refuse_on_capturing(&mut self, stream: Handle<Stream>, what: &str) -> Outcome {
        if let Some(capture) = self.streams.get(stream)?.capture {
            let what = format!("{what} that is capturing");
            return self.spoil(capture, Code::STREAM_CAPTURE_UNSUPPORTED, &what);
        }
        self.refuse_implicit(stream)
    }

    /// 905: a capturing stream would depend on work outside its capture.
    pub(super) fn refuse_isolated(&mut self, stream: Handle<Stream>) -> Outcome {
        if let Some(capture) = self.streams.get(stream)?.capture {
            let what = "a capturing stream waits for an event that was recorded outside the capture";
            return self.spoil(capture, Code::STREAM_CAPTURE_ISOLATION, what);
        }
        Ok(())
    }

    /// 906: the legacy default stream would wait for a capturing stream.
    pub(super) fn refuse_implicit(&mut self, stream: Handle<Stream>) -> Outcome {
        let context = self.streams.get(stream)?.context;
        if !self.is_legacy(stream, context) {
            return Ok(());
        }
        let capturing = self.streams.iter().find_map(|(_, s)| s.capture.filter(|_| s.context == context && s.blocking));
        match capturing {
            Some(capture) => {
                let what = "the legacy default stream is used while a blocking stream is capturing";
                self.spoil(capture, Code::STREAM_CAPTURE_IMPLICIT, what)
            }
            None => Ok(()),
        }
    }

    /// 900: a context is synchronised while one of its streams is capturing.
    pub(super) fn refuse_in_capture(&mut self, context: Handle<Context>, what: &str) -> Outcome {
        let capturing = self.captures.iter().find(|(_, c)| c.context == context).map(|(handle, _)| handle);
        match capturing {
            Some(capture) => {
                let what = format!("{what} while a stream is capturing");
                self.spoil(capture, Code::STREAM_CAPTURE_UNSUPPORTED, &what)
            }
            None => Ok(()),
        }
    }

    /// 900 for calls that may synchronise implicitly (allocation, synchronous copies, loading, …): forbidden by the
    /// captures of this thread, and by all global ones, as the thread's own mode has it.
    pub(super) fn refuse_unsafe(&mut self, what: &str) -> Outcome {
        let (mode, here) = (THREAD_MODE.get(), std::thread::current().id());
        if mode == Mode::Relaxed {
            return Ok(());
        }
        let forbids = |c: &Capture| match c.mode {
            Mode::Relaxed => false,
            Mode::Global => c.thread == here || mode == Mode::Global,
            Mode::ThreadLocal => c.thread == here,
        };
        let Some((capture, mode)) = self.captures.iter().find(|(_, c)| forbids(c)).map(|(h, c)| (h, c.mode)) else {
            return Ok(());
        };
        self.spoil(
            capture,
            Code::STREAM_CAPTURE_UNSUPPORTED,
            &format!("{what} is not permitted while a stream is capturing in mode {mode:?}"),
        )
    }

    fn begin_capture(&mut self, given: Handle<Stream>, mode: u32) -> Outcome {
        let stream = self.stream(given)?;
        let mode = Mode::from_number(mode)?;
        let context = self.streams.get(stream)?.context;
        if self.is_legacy(stream, context) {
            return fail(Code::STREAM_CAPTURE_UNSUPPORTED, "the legacy default stream cannot be captured");
        }
        if self.streams.get(stream)?.capture.is_some() {
            return fail(Code::ILLEGAL_STATE, "the stream is already capturing");
        }
        let thread = std::thread::current().id();
        let capture =
            self.captures.insert(Capture { context, mode, thread, origin: stream, nodes: Vec::new(), spoiled: false });
        let queue = self.streams.get_mut(stream)?;
        queue.capture = Some(capture);
        (queue.tips, queue.own_tip) = (Vec::new(), None);
        Ok(())
    }

    fn end_capture(&mut self, given: Handle<Stream>) -> Outcome<Handle<Graph>> {
        let stream = self.stream(given)?;
        let Some(handle) = self.streams.get(stream)?.capture else {
            return fail(Code::ILLEGAL_STATE, "the stream is not capturing");
        };
        let capture = self.captures.get(handle)?;
        if capture.origin != stream {
            let what = "the capture was begun on another stream";
            return self.spoil(handle, Code::STREAM_CAPTURE_UNMATCHED, what);
        }
        if capture.mode != Mode::Relaxed && capture.thread != std::thread::current().id() {
            let what = "the capture was begun by another thread";
            return self.spoil(handle, Code::STREAM_CAPTURE_WRONG_THREAD, what);
        }
        let capture = self.captures.remove(handle)?;
        let tips = self.streams.get(stream)?.tips.clone();
        for queue in self.streams.values_mut().filter(|s| s.capture == Some(handle)) {
            queue.capture = None;
            (queue.tips, queue.own_tip) = (Vec::new(), None);
        }
        if capture.spoiled {
            return fail(Code::STREAM_CAPTURE_INVALIDATED, "a forbidden call spoiled the capture");
        }
        let is_end = |node: usize| !capture.nodes.iter().any(|n| n.after.iter().any(|edge| edge.from == node));
        if (0..capture.nodes.len()).any(|node| is_end(node) && !tips.contains(&node)) {
            let what = "a stream joined the capture and its work was not joined back";
            return fail(Code::STREAM_CAPTURE_UNJOINED, what);
        }
        let device = self.device_of(capture.context)?.ordinal;
        Ok(self.new_graph(device, capture.nodes))
    }

    /// `recorded`: where the program wants the graph that is being made, and the nodes that come next.
    fn capture_info(
        &mut self,
        given: Handle<Stream>,
        status: &Out<u32>,
        id: &Out<u64>,
        recorded: [&Out<usize>; 3],
    ) -> Outcome {
        let (now, number) = self.capture_status(given)?;
        if now == ACTIVE && recorded.iter().any(|answer| !answer.is_null()) {
            return fail(Code::NOT_SUPPORTED, "the graph of a capture that is not at its end is not emulated");
        }
        recorded.iter().for_each(|answer| answer.write_if_wanted(0));
        id.write_if_wanted(number);
        status.write(now)
    }

    fn capture_status(&mut self, given: Handle<Stream>) -> Outcome<(u32, u64)> {
        let stream = self.stream(given)?;
        let Some(capture) = self.streams.get(stream)?.capture else {
            self.refuse_implicit(stream)?;
            return Ok((NONE, 0));
        };
        let spoiled = self.captures.get(capture)?.spoiled;
        Ok((if spoiled { INVALIDATED } else { ACTIVE }, capture.0 as u64))
    }
}

driver_functions! {
    table table;

    fn cuStreamBeginCapture_v2(machine, stream: Handle<Stream>, mode: u32) {
        machine.begin_capture(stream, mode)
    }

    /// The graph is null when the capture failed.
    fn cuStreamEndCapture(machine, stream: Handle<Stream>, graph: Out<Handle<Graph>>) {
        graph.write(Handle::NULL)?;
        graph.write(machine.end_capture(stream)?)
    }

    fn cuStreamIsCapturing(machine, stream: Handle<Stream>, status: Out<u32>) {
        status.write(machine.capture_status(stream)?.0)
    }

    /// Status and number; what a capture has recorded so far is not shown.
    fn cuStreamGetCaptureInfo_v2(
        machine,
        stream: Handle<Stream>,
        status: Out<u32>,
        id: Out<u64>,
        graph: Out<usize>,
        nodes: Out<usize>,
        count: Out<usize>,
    ) {
        machine.capture_info(stream, &status, &id, [&graph, &nodes, &count])
    }

    fn cuStreamGetCaptureInfo_v3(
        machine,
        stream: Handle<Stream>,
        status: Out<u32>,
        id: Out<u64>,
        graph: Out<usize>,
        nodes: Out<usize>,
        _edges: Out<usize>,
        count: Out<usize>,
    ) {
        machine.capture_info(stream, &status, &id, [&graph, &nodes, &count])
    }

    fn cuStreamGetCaptureInfo(machine, stream: Handle<Stream>, status: Out<u32>, id: Out<u64>) {
        let (now, number) = machine.capture_status(stream)?;
        id.write_if_wanted(number);
        status.write(now)
    }

    /// Exchanges the thread's mode with the given one.
    fn cuThreadExchangeStreamCaptureMode(_machine, mode: Out<u32>) {
        let new = Mode::from_number(mode.read()?)?;
        mode.write(THREAD_MODE.replace(new) as u32)
    }
}
