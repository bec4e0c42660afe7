//! What the virtual GPU of this project tells beyond CUDA.

#![allow(unsafe_code)]
#![cfg_attr(not(feature = "bench"), allow(dead_code, reason = "some of it is for measuring alone"))]

use std::ffi::{CString, c_char};

use super::explain::Explain;
use super::start::is_present;
use crate::device::cuda::codes::check;
use crate::device::cuda::sys;
use crate::error::{Error, Result};

const LAST_COUNTS: &[u8] = b"vgpu_last_counts";
const LAST_FAULT: &[u8] = b"vgpu_last_fault";
const SET_DEVICES: &[u8] = b"vgpu_set_devices";

type TextFunction = unsafe extern "C" fn(*mut c_char, usize) -> u32;
type ListFunction = unsafe extern "C" fn(*const c_char) -> u32;

/// Whether it stands in for a GPU.
pub(super) fn is_here() -> bool {
    // SAFETY: the function's type.
    unsafe { symbol::<TextFunction>(LAST_COUNTS) }.is_some()
}

/// A function that the virtual GPU has beyond CUDA's. The library must be there.
///
/// # Safety
/// `F` is the function's type, as the virtual GPU has it.
unsafe fn symbol<F: Copy>(name: &[u8]) -> Option<F> {
    // SAFETY: the library is one that the driver's functions come from; the type is the caller's word.
    unsafe { sys::culib().get::<F>(name).ok().map(|symbol| *symbol) }
}

fn text(name: &[u8]) -> Option<String> {
    // SAFETY: both functions that are asked for here have this type.
    let function = unsafe { symbol::<TextFunction>(name) }?;
    let mut text = vec![0u8; 16 << 10];
    // SAFETY: the function writes at most `size` bytes, the last a NUL.
    let code = unsafe { function(text.as_mut_ptr().cast(), text.len()) };
    let end = text.iter().position(|byte| *byte == 0).filter(|_| code == 0)?;
    String::from_utf8(text[..end].to_vec()).ok()
}

/// Makes the virtual GPU play these boards, `h100,orin:sched=1`, as cuda:0, cuda:1, …, whatever the environment says; whether there
/// is a virtual GPU. It comes before all else that is done with CUDA in this process.
///
/// # Errors
/// A list that is none; the driver is started already.
pub fn set_virtual_devices(list: &str) -> Result<bool> {
    if !is_present() {
        return Ok(false);
    }
    // SAFETY: the function's type.
    let Some(function) = (unsafe { symbol::<ListFunction>(SET_DEVICES) }) else { return Ok(false) };
    let wrong = |_| Error::Device(format!("{list:?}: expected a list of boards, and found a NUL in it"));
    let text = CString::new(list).map_err(wrong)?;
    // SAFETY: a string, which the function copies.
    check(unsafe { function(text.as_ptr()) }).during(|| format!("making the virtual GPU play {list}")).map(|()| true)
}

/// What the last launch did, as the virtual GPU counts it (JSON); `None` on a real GPU.
pub fn last_counts() -> Option<String> {
    text(LAST_COUNTS)
}

/// What the virtual GPU found wrong in a kernel of this thread's context; empty while all is well, `None` on a real GPU.
pub fn last_fault() -> Option<String> {
    text(LAST_FAULT)
}
