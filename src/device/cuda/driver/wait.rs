//! How the host waits for the GPU.

use std::thread;
use std::time::{Duration, Instant};

use super::calls::increment;
use super::context::{Context, ContextKind};
use super::queue::Queue;
use super::stream::Stream;
use crate::device::cuda::codes::{Advice, CallResult, Code};
use crate::error::Result;

/// How the host waits for the GPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waiting {
    /// Asleep until the GPU calls; else as the driver chooses.
    pub asleep: bool,
    /// For so long at most for each pass that is in flight in the context, and once where none is: the context is then lost.
    pub limit: Option<Duration>,
}

/// Who waits with a limit asks again and again, as the driver itself does; from this time on, or where the core shall be free,
/// after a pause each.
const SPIN: Duration = Duration::from_millis(20);
const POLL_INTERVAL: Duration = Duration::from_micros(100);

/// What a wait is called in errors.
const WAITING: &str = "waiting for the GPU";

impl Stream {
    /// Waits for everything queued.
    ///
    /// # Errors
    /// Whatever went wrong in a kernel since the last wait; more time than the limit.
    pub fn synchronize(&self) -> Result<()> {
        increment(&self.counters.synchronisations);
        self.context.wait_for(&self.queue)
    }

    /// The same for as long as it takes.
    pub(super) fn synchronize_without_limit(&self) -> Result<()> {
        increment(&self.counters.synchronisations);
        self.context.wait_without_limit(&self.queue)
    }

    /// Waits for everything that anybody has queued in the context, which is current.
    ///
    /// # Errors
    /// As [`Stream::synchronize`].
    pub fn synchronize_context(&self) -> Result<()> {
        increment(&self.counters.synchronisations);
        self.check(self.context.synchronize(), || WAITING.to_owned())
    }

    /// Before a copy of memory that is only borrowed, and so cannot be left to the GPU when the time is over: what may hang is
    /// waited for first.
    pub(super) fn settle(&self) -> Result<()> {
        let is_limited = self.context.options().waiting.limit.is_some();
        if is_limited && !self.queue.is_idle() { self.synchronize() } else { Ok(()) }
    }
}

impl Context {
    /// Waits for everything queued there.
    pub(super) fn wait_for(&self, queue: &Queue) -> Result<()> {
        queue.end_tickets(|| self.wait(|| queue.query(), || queue.synchronize()))
    }

    fn wait_without_limit(&self, queue: &Queue) -> Result<()> {
        queue.end_tickets(|| self.wait_until(None, || queue.query(), || queue.synchronize()))
    }

    /// Waits for everything that is queued on any stream: memory that they may use is about to go. The context is current.
    pub(super) fn settle(&self) {
        for queue in self.queues() {
            // What is wrong, those will hear who use the stream.
            let _ = self.wait_from_outside(&queue);
        }
    }

    fn wait_from_outside(&self, queue: &Queue) -> Result<()> {
        let mark = queue.mark(self.options().waiting.asleep);
        // A question might spoil a capture: where the code does not say how the context is, the next call will.
        let marked = mark.map_err(|code| self.failed(code, WAITING, || Ok(())))?;
        let Some(mark) = marked else { return Ok(()) };
        self.wait(|| mark.query(), || mark.synchronize())
    }

    /// Waits in the way that was chosen: `query` asks whether it is over, `block` returns when it is.
    pub(super) fn wait(&self, query: impl Fn() -> CallResult, block: impl FnOnce() -> CallResult) -> Result<()> {
        self.wait_until(self.options().waiting.limit, query, block)
    }

    fn wait_until(
        &self,
        limit: Option<Duration>,
        query: impl Fn() -> CallResult,
        block: impl FnOnce() -> CallResult,
    ) -> Result<()> {
        let answer = if limit.is_none() && !self.polls() { block() } else { self.ask(limit, &query)? };
        answer.map_err(|code| self.failed(code, WAITING, query))
    }

    /// Whether the host must sleep by itself: how a primary context's waits are done is not ours to choose.
    fn polls(&self) -> bool {
        let options = self.options();
        options.kind == ContextKind::Primary && options.waiting.asleep
    }

    /// Asks until there is an answer.
    fn ask(&self, limit: Option<Duration>, query: impl Fn() -> CallResult) -> Result<CallResult> {
        let begin = Instant::now();
        // Those that end meanwhile have taken their time as well.
        let mut most = 1;
        loop {
            most = most.max(self.flights.count());
            let whole = limit.map(|limit| limit.saturating_mul(most));
            // Before the question: that this thread was kept from asking is not the GPU's fault.
            let waited = begin.elapsed();
            let answer = query();
            if answer != Err(Code::NOT_READY) {
                return Ok(answer);
            }
            if let Some((limit, whole)) = limit.zip(whole).filter(|(_, whole)| waited >= *whole || self.hangs()) {
                self.hang();
                return Err(self.lose(too_long(limit, whole, most), Advice::Leave));
            }
            if self.options().waiting.asleep || waited >= SPIN {
                thread::sleep(whole.map_or(POLL_INTERVAL, |whole| POLL_INTERVAL.min(whole - waited)));
            } else {
                thread::yield_now();
            }
        }
    }
}

/// `whole`: the limit for as many passes as were in flight.
fn too_long(limit: Duration, whole: Duration, passes: u32) -> String {
    let reason = format!("the GPU has not finished a pass in {} s", limit.as_secs_f64());
    if passes == 1 { reason } else { format!("{reason}, nor {passes} in {} s", whole.as_secs_f64()) }
}
