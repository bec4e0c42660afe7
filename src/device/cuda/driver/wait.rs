//! How the host waits for the GPU.

use std::thread;
use std::time::{Duration, Instant};

use super::calls::increment;
use super::gpu::Gpu;
use crate::device::cuda::codes::{Advice, Code};
use crate::error::Result;

/// How the host waits for the GPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waiting {
    /// Asleep until the GPU calls; else as the driver chooses.
    pub asleep: bool,
    /// For so long at most: the context is then lost.
    pub limit: Option<Duration>,
}

/// Who waits with a limit asks again and again, as the driver itself does; from this time on, or where the core shall be free,
/// after a pause each.
const SPIN: Duration = Duration::from_millis(20);
const POLL_INTERVAL: Duration = Duration::from_micros(100);

impl Gpu {
    /// Waits for everything queued.
    ///
    /// # Errors
    /// Whatever went wrong in a kernel since the last wait; more time than the limit.
    pub fn synchronize(&self) -> Result<()> {
        match self.waiting.limit {
            None => self.synchronize_without_limit(),
            Some(limit) => self.wait(|| self.ask_until(limit)),
        }
    }

    pub(super) fn synchronize_without_limit(&self) -> Result<()> {
        self.wait(|| self.check(self.stream.synchronize(), || "waiting for the GPU".to_owned()))
    }

    /// Before a copy of memory that is only borrowed, and so cannot be left to the GPU when the time is over: what may hang is
    /// waited for first.
    pub(super) fn settle(&self) -> Result<()> {
        if self.waiting.limit.is_some() && !self.stream.is_idle() { self.synchronize() } else { Ok(()) }
    }

    fn wait(&self, waited: impl FnOnce() -> Result<()>) -> Result<()> {
        increment(&self.counters.synchronisations);
        self.stream.end_tickets(waited)
    }

    fn ask_until(&self, limit: Duration) -> Result<()> {
        let begin = Instant::now();
        loop {
            // Before the question: that this thread was kept from asking is not the GPU's fault.
            let waited = begin.elapsed();
            let answer = self.stream.query();
            if answer != Err(Code::NOT_READY) {
                return self.check(answer, || "waiting for the GPU".to_owned());
            }
            if waited >= limit || self.context.hangs() {
                self.context.hang();
                let reason = format!("the GPU has not finished a pass in {} s", limit.as_secs_f64());
                return Err(self.context.lose(reason, Advice::Leave));
            }
            if self.waiting.asleep || waited >= SPIN {
                thread::sleep(POLL_INTERVAL.min(limit - waited));
            } else {
                thread::yield_now();
            }
        }
    }
}
