//! How a program that writes with this library ends when it is not by itself: by a signal, or for want of memory. Its
//! temporary files go first, and who started it sees what happened.

#[cfg(feature = "cli")]
mod program;

use std::cell::Cell;
use std::collections::TryReserveError;
use std::sync::mpsc;
use std::{io, thread};

#[cfg(feature = "cli")]
pub use program::{Allocator, before_signals_end, handle_signals, handle_threads_without_memory, stop_by_signals};

#[cfg(all(test, feature = "cli"))]
pub(crate) use program::end_without_memory;

/// Starts a thread and waits until it runs. One that has no memory for its first steps ends a program
/// (`handle_threads_without_memory`): so it does that before its starter comes to say something else.
///
/// # Errors
/// There is no such thread to be had.
pub(crate) fn begin_thread(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (begins, has_begun) = mpsc::channel::<()>();
    let run = move || {
        drop(begins);
        work();
    };
    thread::Builder::new().name(name).spawn(run)?;
    // Nothing comes: the channel closes.
    let _ = has_begun.recv();
    Ok(())
}

thread_local! {
    /// Whether this thread asks for memory that it can do without: a program's allocator looks.
    static CAN_FAIL: Cell<bool> = const { Cell::new(false) };
}

/// Room for `more` elements behind those in `values`, or the refusal: for sizes that a file or a call decides. (A
/// program's allocator cannot tell `Vec::try_reserve` from what does not expect to fail.)
///
/// # Errors
/// As `Vec::try_reserve_exact`.
#[expect(clippy::disallowed_methods, reason = "the one place that announces it")]
pub fn try_reserve<T>(values: &mut Vec<T>, more: usize) -> Result<(), TryReserveError> {
    CAN_FAIL.set(true);
    let reserved = values.try_reserve_exact(more);
    CAN_FAIL.set(false);
    reserved
}
