//! How a call ends: a status, and words for a failure. Nothing unwinds into C.

#![allow(unsafe_code)] // Exported names.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use lseg_fast::Error;

/// Grows by one with each change that an older program does not survive; the shared library's name ends with it.
pub const LSEG_ABI: u32 = 1;

/// How a call ended; lseg_error() has the words. Later libraries may have more of them.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum lseg_status {
    /// It did what was asked.
    LSEG_OK = 0,
    /// An argument is none: NULL, a number out of range, text that is not UTF-8, a buffer that is too small. Nothing was done.
    LSEG_INVALID = 1,
    /// The model's file cannot be read, is damaged or no LSeg; or no model was named and the library has none inside.
    LSEG_MODEL = 2,
    /// Labels, a template, points, an image or a size that the model cannot take. Nothing was done.
    LSEG_INPUT = 3,
    /// The device is not there, or failed.
    LSEG_DEVICE = 4,
    /// The device, or an earlier call, failed in a way that ended this engine: close it. Another may work.
    LSEG_LOST = 5,
    /// Another thread is inside this engine; or all places for results on the device are held: release a tensor; or the stream is
    /// closed, and takes no more frames.
    LSEG_BUSY = 6,
    /// More memory is needed than is free or was allowed.
    LSEG_NO_MEMORY = 7,
    /// A result is no finite number: the image, the model's weights or what the device can hold are at fault.
    LSEG_NOT_FINITE = 8,
    /// A fault in this library, which was caught. Later calls on the same engine answer LSEG_LOST.
    LSEG_PANIC = 9,
    /// No failure, and lseg_error() stays as it is: as many frames wait in the stream as may, and this one is not among them.
    LSEG_FULL = 10,
    /// No failure, and lseg_error() stays as it is: the stream has no answer yet, or none any more (lseg_stream_is_over).
    LSEG_EMPTY = 11,
}

use lseg_status::*;

/// Why a call failed.
#[derive(Debug)]
pub struct Failure {
    pub status: lseg_status,
    pub message: String,
}

/// An argument that is none.
pub fn invalid(message: impl Into<String>) -> Failure {
    Failure { status: LSEG_INVALID, message: message.into() }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::from(&error)
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Failure {
        let status = match error {
            Error::Io { .. }
            | Error::Checkpoint { .. }
            | Error::MissingTensor { .. }
            | Error::Tensor { .. }
            | Error::Config { .. }
            | Error::NoModel => LSEG_MODEL,
            Error::Labels(_)
            | Error::Template(_)
            | Error::Palette(_)
            | Error::Points(_)
            | Error::Size(_)
            | Error::Photo { .. } => LSEG_INPUT,
            Error::Device(_) => LSEG_DEVICE,
            Error::Lost(_) => LSEG_LOST,
            Error::Busy(_) => LSEG_BUSY,
            Error::Memory(_) => LSEG_NO_MEMORY,
            Error::NotFinite(_) => LSEG_NOT_FINITE,
            // Files that are written, tickets, lanes of other networks: nothing that C can ask for.
            _ => LSEG_PANIC,
        };
        let message = match error {
            Error::NoModel => "this library has no demo model inside: name a model in lseg_options.model".to_owned(),
            other => other.to_string(),
        };
        Failure { status, message }
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::new(CString::default());
}

/// Does a call. Its failure, or its panic, becomes this thread's last.
pub fn guarded(call: impl FnOnce() -> Result<(), Failure>) -> lseg_status {
    answered(|| call().map(|()| LSEG_OK))
}

/// As [`guarded`], of a call that answers one of several statuses where it does not fail.
pub fn answered(call: impl FnOnce() -> Result<lseg_status, Failure>) -> lseg_status {
    // What a panic leaves half-done is in an engine's mutex, which is poisoned by it.
    let failure = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(status)) => return status,
        Ok(Err(failure)) => failure,
        Err(payload) => Failure { status: LSEG_PANIC, message: format!("a fault in lseg-fast: {}", words(&*payload)) },
    };
    let text = failure.message.replace('\0', "\u{FFFD}");
    let text = CString::new(text).expect("zero bytes were replaced");
    // A thread that is ending has no last failure any more.
    let _ = LAST.try_with(|last| last.replace(text));
    failure.status
}

fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

/// Why this thread's last call that failed did so: one line of UTF-8 without a full stop, never NULL, empty before there was one.
/// It is there until this thread's next failure.
#[unsafe(no_mangle)]
pub extern "C" fn lseg_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// LSEG_ABI of the library that the program runs with.
#[unsafe(no_mangle)]
pub extern "C" fn lseg_abi() -> u32 {
    LSEG_ABI
}

/// The version of lseg-fast, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn lseg_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// The name of a status, such as "LSEG_INVALID"; "unknown" for a number that is none.
#[unsafe(no_mangle)]
pub extern "C" fn lseg_status_name(status: i32) -> *const c_char {
    const NAMES: [(lseg_status, &CStr); 12] = [
        (LSEG_OK, c"LSEG_OK"),
        (LSEG_INVALID, c"LSEG_INVALID"),
        (LSEG_MODEL, c"LSEG_MODEL"),
        (LSEG_INPUT, c"LSEG_INPUT"),
        (LSEG_DEVICE, c"LSEG_DEVICE"),
        (LSEG_LOST, c"LSEG_LOST"),
        (LSEG_BUSY, c"LSEG_BUSY"),
        (LSEG_NO_MEMORY, c"LSEG_NO_MEMORY"),
        (LSEG_NOT_FINITE, c"LSEG_NOT_FINITE"),
        (LSEG_PANIC, c"LSEG_PANIC"),
        (LSEG_FULL, c"LSEG_FULL"),
        (LSEG_EMPTY, c"LSEG_EMPTY"),
    ];
    NAMES.iter().find(|(known, _)| *known as i32 == status).map_or(c"unknown", |(_, name)| name).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> String {
        // SAFETY: the library's own text, which nobody replaces meanwhile.
        unsafe { CStr::from_ptr(lseg_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_becomes_a_status_with_its_words() {
        assert_eq!(guarded(|| panic!("no {}", "luck")), LSEG_PANIC);
        assert_eq!(last(), "a fault in lseg-fast: no luck");
        assert_eq!(guarded(|| std::panic::panic_any(7)), LSEG_PANIC);
        assert_eq!(last(), "a fault in lseg-fast: a panic without words");
        assert_eq!(guarded(|| Ok(())), LSEG_OK);
        assert_eq!(std::thread::spawn(last).join().unwrap(), "");
    }

    #[test]
    fn words_have_no_zero_byte() {
        assert_eq!(guarded(|| Err(invalid("a\0b"))), LSEG_INVALID);
        assert_eq!(last(), "a\u{FFFD}b");
    }

    #[test]
    fn each_error_has_its_status() {
        let status = |error: Error| Failure::from(error).status;
        let text = || "x".to_owned();
        assert_eq!(status(Error::NoModel), LSEG_MODEL);
        assert_eq!(status(Error::Points(text())), LSEG_INPUT);
        assert_eq!(status(Error::Device(text())), LSEG_DEVICE);
        assert_eq!(status(Error::Lost(text())), LSEG_LOST);
        assert_eq!(status(Error::Busy(text())), LSEG_BUSY);
        assert_eq!(status(Error::Memory(text())), LSEG_NO_MEMORY);
        assert_eq!(status(Error::NotFinite(text())), LSEG_NOT_FINITE);
        assert_eq!(status(Error::Foreign(text())), LSEG_PANIC);
    }
}
