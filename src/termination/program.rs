//! What a program does at its start for a good end: the signals' handlers, the allocator, and what a thread's start needs.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::CAN_FAIL;
#[cfg(unix)]
use super::begin_thread;
use crate::atomic_file::temporary;

/// The file of Rust's library which gives a thread the stack that its signals' handlers use, and panics where it cannot.
const STACKS_OF_SIGNALS: &str = "stack_overflow.rs";

/// Bytes of such a stack, about.
const STACK_OF_SIGNALS: usize = 16 << 10;

thread_local! {
    /// Whether this thread ends the process.
    static IS_ENDING: Cell<bool> = const { Cell::new(false) };
}

/// What is done before a signal ends the process.
static LAST_WORK: Mutex<Option<Box<dyn Fn() + Send>>> = Mutex::new(None);

/// For programs: `work` is done before a signal ends the process, such as keeping what was computed. It must end soon, and
/// wait for nothing that the process may hold for long.
pub fn before_signals_end(work: impl Fn() + Send + 'static) {
    *LAST_WORK.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(work));
}

/// What SIGINT and SIGTERM do instead of ending the process, once.
static STOP: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

/// For programs that run until they are told to stop: the first SIGINT or SIGTERM calls `stop`, which must return soon, and the
/// program ends by itself. The next one ends it as any other.
pub fn stop_by_signals(stop: impl FnOnce() + Send + 'static) {
    *STOP.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(stop));
}

/// Whether the program ends by itself now.
fn stops() -> bool {
    let stop = STOP.lock().unwrap_or_else(PoisonError::into_inner).take();
    stop.map(|stop| stop()).is_some()
}

fn last_work() {
    if let Some(work) = &*LAST_WORK.lock().unwrap_or_else(PoisonError::into_inner) {
        work();
    }
}

/// For programs, to be called once at their start.
///
/// SIGINT, SIGTERM, SIGHUP and SIGQUIT, each unless it is ignored (as by `nohup`, or in a script's background): the
/// program [stops by itself](stop_by_signals) where it said how; else its [last work](before_signals_end) is done, temporary files are removed, then the process dies of that signal. A shell's loop ends by Ctrl-C only where it sees
/// that. SIGXFSZ is ignored: writing beyond `ulimit -f` is then an error as a full disk is.
#[cfg(unix)]
pub fn handle_signals() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    // SAFETY: the signal is ignored; there is no handler that could do anything wrong.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    // Without the thread, or its pipe, all works as well: the signals then keep what they did.
    let _ = begin_thread("signals".to_owned(), || {
        let handled = [SIGINT, SIGTERM, SIGHUP, SIGQUIT].into_iter().filter(|signal| !is_ignored(*signal));
        let Ok(mut signals) = Signals::new(handled) else { return };
        for signal in signals.forever() {
            if matches!(signal, SIGINT | SIGTERM) && stops() {
                continue;
            }
            last_work();
            let _no_new_file = temporary::remove_all();
            let _ = emulate_default_handler(signal);
        }
    });
}

#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: zeros are a valid `sigaction`, and without a new one the call only reads the old one into it.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut old) == 0 && old.sa_sigaction == libc::SIG_IGN
    }
}

/// For programs, to be called once at their start: Ctrl-C removes the temporary files.
#[cfg(windows)]
pub fn handle_signals() {
    let end = || {
        if stops() {
            return;
        }
        last_work();
        let _no_new_file = temporary::remove_all();
        std::process::exit(1)
    };
    // SAFETY: Windows runs the handler on a thread of its own, which may wait and allocate.
    let _ = unsafe { signal_hook::low_level::register(signal_hook::consts::SIGINT, end) };
}

/// A program's global allocator: where memory is refused, the process says so in one sentence, removes its temporary files
/// and ends with exit code 1. (Rust's own end is a signal.) Only [`try_reserve`](super::try_reserve) gets the refusal back.
pub struct Allocator<A = System>(pub A);

// SAFETY: every call goes to the other allocator as it came, and its answer is given back.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Allocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        granted(unsafe { self.0.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        granted(unsafe { self.0.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promised.
        granted(unsafe { self.0.realloc(place, layout, size) }, size)
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { self.0.dealloc(place, layout) }
    }
}

/// For programs, to be called once at their start: a thread that starts without memory for its signals' stack ends the process
/// as [`Allocator`] does. (Rust's own end is an abort: the thread panics before anything of it could catch that, and whoever
/// started it is not asked.)
pub fn handle_threads_without_memory() {
    let others = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let is_of_the_start = panic.location().is_some_and(|place| place.file().ends_with(STACKS_OF_SIGNALS));
        if is_of_the_start {
            end_without_memory(STACK_OF_SIGNALS);
        }
        others(panic);
    }));
}

fn granted(place: *mut u8, bytes: usize) -> *mut u8 {
    if place.is_null() && !CAN_FAIL.get() {
        end_without_memory(bytes);
    }
    place
}

/// Nothing in here takes memory, but for the removal of a file with a very long path.
#[cold]
pub(crate) fn end_without_memory(bytes: usize) -> ! {
    static ENDS: AtomicBool = AtomicBool::new(false);
    if IS_ENDING.replace(true) {
        exit();
    }
    if ENDS.swap(true, Ordering::AcqRel) {
        // Another thread is at it.
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    }
    let mut sentence = [0; 256];
    let mut rest = &mut sentence[..];
    let mib = bytes.div_ceil(1 << 20);
    let _ = writeln!(
        rest,
        "error: out of memory: {mib} MiB more were needed and refused; a smaller --size, smaller photos, fewer labels or \
         --threads need less"
    );
    let unused = rest.len();
    say(&sentence[..sentence.len() - unused]);
    temporary::try_remove_all();
    exit()
}

/// Past Rust's standard error, which this thread may be in the midst of using.
#[cfg(unix)]
fn say(sentence: &[u8]) {
    let _ = rustix::io::write(rustix::stdio::stderr(), sentence);
}

#[cfg(windows)]
fn say(sentence: &[u8]) {
    let _ = std::io::stderr().write_all(sentence);
}

/// At once: what the other threads do, and what libraries want to do at the end, may need memory too.
fn exit() -> ! {
    signal_hook::low_level::exit(1)
}
