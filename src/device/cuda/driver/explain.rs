//! The driver's codes in words.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::ptr;

use super::out_param;
use crate::device::cuda::codes::{CallResult, Code};
use crate::device::cuda::sys;
use crate::error::Result;

/// The driver's text for a code: none for one that it does not know.
fn text(code: Code, ask: unsafe fn(u32, *mut *const c_char) -> CallResult) -> Option<String> {
    // SAFETY: a valid place for a pointer.
    let text = out_param(ptr::null(), |text| unsafe { ask(code.0, text) }).ok().filter(|text| !text.is_null())?;
    // SAFETY: the driver answers with a text of its own that stays, and ends in NUL.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// Words for a driver's error.
pub(super) fn explain(what: &str, code: Code) -> String {
    let (name, meaning) = (text(code, sys::cuGetErrorName), text(code, sys::cuGetErrorString));
    let known = match (name, meaning) {
        (Some(name), Some(meaning)) => format!("({name}): {meaning}"),
        (Some(name), None) => format!("({name})"),
        _ => "(one that this driver has no name for)".to_owned(),
    };
    let hint = code.hint().map_or_else(String::new, |hint| format!("; {hint}"));
    format!("{what}: CUDA error {} {known}{hint}", code.0)
}

/// Before there is a context.
pub(super) trait Explain<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Explain<T> for std::result::Result<T, Code> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|code| code.error(explain(&what(), code)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cuda::driver::count;

    #[test]
    fn a_code_that_the_driver_does_not_know_is_told_by_its_number() {
        if count().is_ok() {
            let text = explain("launching", Code(4711));
            assert_eq!(text, "launching: CUDA error 4711 (one that this driver has no name for)");
            let known = explain("allocating", Code(2));
            assert!(known.starts_with("allocating: CUDA error 2 (CUDA_ERROR_OUT_OF_MEMORY): "), "{known}");
        }
    }
}
