//! The context: whatever engines have on a GPU belongs to one, and ends with it.

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::explain::{Explain, explain};
use super::flight::Flights;
use super::info::Info;
use super::out_param;
use super::queue::Queue;
use super::start::device;
use super::virtual_gpu::last_fault;
use super::wait::Waiting;
use crate::device::cuda::codes::{Advice, CallResult, Code, ContextState};
use crate::device::cuda::sys;
use crate::error::{Error, Result};

/// CU_CTX_SCHED_AUTO and CU_CTX_SCHED_BLOCKING_SYNC.
const SCHED_AUTO: u32 = 0;
const SCHED_BLOCKING_SYNC: u32 = 4;

/// Whose context an engine, or a network with its lanes, works in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContextKind {
    /// One of its own: what ends it leaves other engines and libraries as they are.
    #[default]
    Own,
    /// The GPU's primary one, which CUDA's runtime library and all that build on it share in a process: their memory and streams
    /// are its own. An error that ends it ends all of them, and whoever joins them before the last has released it.
    Primary,
}

/// How a context is made and waited for.
#[derive(Clone, Copy, Debug, Default)]
pub struct ContextOptions {
    pub kind: ContextKind,
    pub waiting: Waiting,
}

/// A context, shared by the devices that work in it.
pub struct Context {
    raw: sys::CUcontext,
    device: sys::CUdevice,
    options: ContextOptions,
    info: Info,
    /// What ended it, once something has.
    lost: OnceLock<Lost>,
    /// What was queued may never end: whatever waits for it, as giving memory back does, would wait for ever.
    hangs: AtomicBool,
    /// The process that made it. In one that was forked from it nothing stands behind its handles.
    process: u32,
    /// Of all streams that live.
    queues: Mutex<Vec<Arc<Queue>>>,
    /// Of all its devices.
    pub(super) flights: Flights,
}

// SAFETY: contexts, streams and modules are handles of a driver that any thread may use; the context is made current
// on the calling thread before each use (`enter`).
unsafe impl Send for Context {}
// SAFETY: as above; the driver locks its own state.
unsafe impl Sync for Context {}

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
        // SAFETY: `push` or `create` made it current on this thread. A context that is lost cannot be popped with success; nobody
        // minds.
        let _ = unsafe { sys::cuCtxPopCurrent_v2(&mut popped) };
    }
}

impl Context {
    /// On the GPU of this number.
    ///
    /// # Errors
    /// As [`super::info`]; a GPU that refuses a context.
    pub fn open(ordinal: usize, options: ContextOptions) -> Result<Arc<Context>> {
        let device = device(ordinal)?;
        let info = Info::of(ordinal, device)?;
        let raw = match options.kind {
            ContextKind::Own => create(device, options.waiting.asleep),
            ContextKind::Primary => retain(device),
        };
        let raw = raw.during(|| format!("making a context on CUDA device {ordinal}, {}", info.name))?;
        let (lost, hangs, queues, flights) = Default::default();
        let process = std::process::id();
        Ok(Arc::new(Context { raw, device, options, info, lost, hangs, process, queues, flights }))
    }

    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The handle, as the driver tells whose memory is.
    pub(super) fn address(&self) -> usize {
        self.raw.addr()
    }

    pub(super) fn options(&self) -> ContextOptions {
        self.options
    }

    /// # Errors
    /// An earlier error ended it.
    pub(super) fn check_alive(&self) -> Result<()> {
        let Some(Lost { reason, advice }) = self.lost.get() else { return Ok(()) };
        let Info { ordinal, name, .. } = &self.info;
        let what =
            format!("this engine was lost to an earlier error on cuda:{ordinal}, {name}: {}", self.words(*advice));
        Err(Error::Lost(format!("{what}; the error was: {reason}")))
    }

    /// Makes it current on this thread.
    pub(super) fn push(&self) -> std::result::Result<Current<'_>, Code> {
        // SAFETY: the context lives as long as self.
        unsafe { sys::cuCtxPushCurrent_v2(self.raw) }?;
        Ok(Current::new())
    }

    /// Waits for everything that anybody has queued in it, which is current.
    pub(super) fn synchronize(&self) -> CallResult {
        // SAFETY: it takes nothing.
        unsafe { sys::cuCtxSynchronize() }
    }

    /// Makes it current on this thread so that something of it can be given back; `None` where nothing is left of it.
    pub(super) fn enter_to_free(&self) -> Option<Current<'_>> {
        if self.hangs() {
            return None;
        }
        self.check_alive().ok()?;
        self.push().ok()
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
        let message = format!("{reason}; this engine is lost: {}", self.words(advice));
        // The first is the cause of all others.
        let _ = self.lost.set(Lost { reason, advice });
        Error::Lost(message)
    }

    fn words(&self, advice: Advice) -> &'static str {
        match self.options.kind {
            ContextKind::Own => advice.words(),
            ContextKind::Primary => advice.words_in_primary(),
        }
    }

    /// Whether nothing of it can be waited for or given back: it is left to the process's end.
    pub(super) fn hangs(&self) -> bool {
        self.hangs.load(Ordering::Acquire) || self.process != std::process::id()
    }

    /// What was queued has not ended in time.
    pub(super) fn hang(&self) {
        self.hangs.store(true, Ordering::Release);
    }

    /// A stream lives from here on.
    pub(super) fn add(&self, queue: &Arc<Queue>) {
        self.locked_queues().push(Arc::clone(queue));
    }

    /// Until here.
    pub(super) fn remove(&self, queue: &Arc<Queue>) {
        self.locked_queues().retain(|known| !Arc::ptr_eq(known, queue));
    }

    /// Those of all streams that live.
    pub(super) fn queues(&self) -> Vec<Arc<Queue>> {
        self.locked_queues().clone()
    }

    fn locked_queues(&self) -> MutexGuard<'_, Vec<Arc<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new context. `asleep`: whoever waits for the GPU sleeps.
fn create(device: sys::CUdevice, asleep: bool) -> std::result::Result<sys::CUcontext, Code> {
    let flags = if asleep { SCHED_BLOCKING_SYNC } else { SCHED_AUTO };
    // SAFETY: a valid device and a valid place; destroyed in drop of Context.
    let raw = out_param(ptr::null_mut(), |context| unsafe { sys::cuCtxCreate_v2(context, flags, device) })?;
    // A new context is current on this thread: so that `Current` takes it away.
    drop(Current::new());
    Ok(raw)
}

/// The GPU's primary context.
fn retain(device: sys::CUdevice) -> std::result::Result<sys::CUcontext, Code> {
    // SAFETY: a valid device and a valid place; given back in drop of Context.
    out_param(ptr::null_mut(), |context| unsafe { sys::cuDevicePrimaryCtxRetain(context, device) })
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
        let _ = match self.options.kind {
            // SAFETY: made by us, destroyed once; it need not be current.
            ContextKind::Own => unsafe { sys::cuCtxDestroy_v2(self.raw) },
            // SAFETY: retained by us, given back once.
            ContextKind::Primary => unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cuda::codes;

    /// The flags that the driver has for the context of a GPU waited for like that; none without a GPU.
    fn flags(waiting: Waiting) -> Option<u32> {
        let context = Context::open(0, ContextOptions { waiting, ..ContextOptions::default() }).ok()?;
        let _current = context.push().unwrap();
        // SAFETY: the library is loaded, and the function's type is that of NVIDIA's header.
        let ask = unsafe { *sys::culib().get::<unsafe extern "C" fn(*mut u32) -> u32>(b"cuCtxGetFlags\0").unwrap() };
        // SAFETY: a valid place, and a current context.
        Some(out_param(0, |flags| codes::check(unsafe { ask(flags) })).unwrap())
    }

    /// Whether the primary context of a GPU is there.
    fn is_primary_active(device: sys::CUdevice) -> bool {
        type Ask = unsafe extern "C" fn(sys::CUdevice, *mut u32, *mut i32) -> u32;
        // SAFETY: the library is loaded, and the function's type is that of NVIDIA's header.
        let ask = unsafe { *sys::culib().get::<Ask>(b"cuDevicePrimaryCtxGetState\0").unwrap() };
        let mut flags = 0;
        // SAFETY: a device, and two valid places.
        out_param(0, |active| codes::check(unsafe { ask(device, &mut flags, active) })).unwrap() != 0
    }

    /// No other test here uses it.
    #[test]
    fn the_primary_context_is_held_until_its_last_user_goes() {
        let options = ContextOptions { kind: ContextKind::Primary, ..ContextOptions::default() };
        let Ok(one) = Context::open(0, options) else {
            eprintln!("skipped: there is no GPU");
            return;
        };
        let device = device(0).unwrap();
        let two = Context::open(0, options).unwrap();
        assert!(one.raw == two.raw && is_primary_active(device));
        drop(one);
        assert!(is_primary_active(device));
        drop(two);
        assert!(!is_primary_active(device));
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
