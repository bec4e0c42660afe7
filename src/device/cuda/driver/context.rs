//! The context: whatever an engine has on a GPU belongs to it, and ends with it.

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::explain::{Explain, explain};
use super::info::Info;
use super::out_param;
use super::start::device;
use super::virtual_gpu::last_fault;
use crate::device::cuda::codes::{Advice, CallResult, Code, ContextState};
use crate::device::cuda::sys;
use crate::error::{Error, Result};

/// CU_CTX_SCHED_AUTO and CU_CTX_SCHED_BLOCKING_SYNC.
const SCHED_AUTO: u32 = 0;
const SCHED_BLOCKING_SYNC: u32 = 4;

/// A context of our own. What ends one leaves those of other engines as they are.
pub(super) struct Context {
    raw: sys::CUcontext,
    info: Info,
    /// What ended it, once something has.
    lost: OnceLock<Lost>,
    /// What was queued may never end: whatever waits for it, as giving memory back does, would wait for ever.
    hangs: AtomicBool,
}

struct Lost {
    reason: String,
    advice: Advice,
}

/// While it lives, the context is current on this thread; then the one before is again.
pub struct Current<'a> {
    _context: PhantomData<&'a Context>,
    /// Of this thread alone.
    _thread: PhantomData<*const ()>,
}

impl Current<'_> {
    fn new() -> Self {
        Current { _context: PhantomData, _thread: PhantomData }
    }
}

impl Drop for Current<'_> {
    fn drop(&mut self) {
        let mut popped = ptr::null_mut();
        // SAFETY: `push` or `open` made it current on this thread. A context that is lost cannot be popped with success; nobody
        // minds.
        let _ = unsafe { sys::cuCtxPopCurrent_v2(&mut popped) };
    }
}

impl Context {
    /// On the GPU of this number; while `then` runs it is current on this thread. `asleep`: whoever waits for the GPU sleeps.
    pub(super) fn open<T>(ordinal: usize, asleep: bool, then: impl FnOnce() -> Result<T>) -> Result<(Context, T)> {
        let device = device(ordinal)?;
        let info = Info::of(ordinal, device)?;
        let flags = if asleep { SCHED_BLOCKING_SYNC } else { SCHED_AUTO };
        // SAFETY: a valid device and a valid place; destroyed in drop.
        let raw = out_param(ptr::null_mut(), |context| unsafe { sys::cuCtxCreate_v2(context, flags, device) })
            .during(|| format!("making a context on CUDA device {ordinal}, {}", info.name))?;
        let context = Context { raw, info, lost: OnceLock::new(), hangs: AtomicBool::new(false) };
        // A new context is current on this thread: so that `Current` takes it away.
        let current = Current::new();
        let made = then();
        drop(current);
        Ok((context, made?))
    }

    pub(super) fn info(&self) -> &Info {
        &self.info
    }

    /// # Errors
    /// An earlier error ended it.
    pub(super) fn check(&self) -> Result<()> {
        let Some(Lost { reason, advice }) = self.lost.get() else { return Ok(()) };
        let Info { ordinal, name, .. } = &self.info;
        let what = format!("this engine was lost to an earlier error on cuda:{ordinal}, {name}: {}", advice.words());
        Err(Error::Lost(format!("{what}; the error was: {reason}")))
    }

    /// Makes it current on this thread.
    pub(super) fn push(&self) -> std::result::Result<Current<'_>, Code> {
        // SAFETY: the context lives as long as self.
        unsafe { sys::cuCtxPushCurrent_v2(self.raw) }?;
        Ok(Current::new())
    }

    /// The error of a call that answered with this code. One that ends the context is what every later call answers with; where the
    /// code does not say, `ask` asks the context.
    pub(super) fn failed(&self, code: Code, what: &str, ask: impl FnOnce() -> CallResult) -> Error {
        let reason = explain(what, code);
        match context_state(code, ask) {
            ContextState::Lost(advice) => {
                let report = last_fault().filter(|report| !report.is_empty());
                self.lose(report.map_or(reason.clone(), |report| format!("{reason}: {report}")), advice)
            }
            ContextState::Usable | ContextState::Unknown => code.error(reason),
        }
    }

    /// It has ended.
    pub(super) fn lose(&self, reason: String, advice: Advice) -> Error {
        let message = format!("{reason}; this engine is lost: {}", advice.words());
        // The first is the cause of all others.
        let _ = self.lost.set(Lost { reason, advice });
        Error::Lost(message)
    }

    pub(super) fn hangs(&self) -> bool {
        self.hangs.load(Ordering::Acquire)
    }

    /// What was queued has not ended in time.
    pub(super) fn hang(&self) {
        self.hangs.store(true, Ordering::Release);
    }
}

/// What the context is after this code.
fn context_state(code: Code, ask: impl FnOnce() -> CallResult) -> ContextState {
    match code.context_state() {
        ContextState::Unknown if ask().is_err_and(Code::means_the_context_is_lost) => {
            ContextState::Lost(Advice::Process)
        }
        ContextState::Unknown => ContextState::Usable,
        known => known,
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // What the GPU may still be at cannot be taken from it: the context is left to the process's end.
        if self.hangs() {
            return;
        }
        // SAFETY: made by us, destroyed once; it need not be current.
        let _ = unsafe { sys::cuCtxDestroy_v2(self.raw) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cuda::codes;
    use crate::device::cuda::driver::{Gpu, Waiting};

    /// The flags that the driver has for the context of a GPU waited for like that; none without a GPU.
    fn flags(waiting: Waiting) -> Option<u32> {
        let gpu = Gpu::open(0, waiting).ok()?;
        let _current = gpu.enter().unwrap();
        // SAFETY: the library is loaded, and the function's type is that of NVIDIA's header.
        let ask = unsafe { *sys::culib().get::<unsafe extern "C" fn(*mut u32) -> u32>(b"cuCtxGetFlags\0").unwrap() };
        // SAFETY: a valid place, and a current context.
        Some(out_param(0, |flags| codes::check(unsafe { ask(flags) })).unwrap())
    }

    #[test]
    fn a_context_is_asked_to_block_where_that_was_chosen() {
        let [as_it_likes, asleep] = [false, true].map(|asleep| flags(Waiting { asleep, limit: None }));
        let Some((as_it_likes, asleep)) = as_it_likes.zip(asleep) else {
            eprintln!("skipped: there is no GPU");
            return;
        };
        assert_eq!((as_it_likes & 7, asleep & 7), (SCHED_AUTO, SCHED_BLOCKING_SYNC));
    }
}
