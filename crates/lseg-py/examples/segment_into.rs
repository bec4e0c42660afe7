//! The engine's own call, timed from within, as a C library: what benches/overhead.py takes from the time of Python's call.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::time::Instant;

use lseg_fast::{DeviceChoice, Engine, Image, Options, Segmentation};

/// An engine, and the memory of its masks.
pub struct Caller(Engine, Segmentation);

/// An engine on one thread of the CPU that sees frames at 32×32, with the labels "dog", "grass" and "other"; null where the file
/// cannot be loaded.
///
/// # Safety
/// `path` ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char) -> *mut Caller {
    // SAFETY: the caller's.
    let path = unsafe { CStr::from_ptr(path) }.to_string_lossy();
    let options = Options { device: DeviceChoice::Cpu, threads: Some(1), ..Options::default() };
    let made = Engine::load(path.as_ref().as_ref(), &options).and_then(|mut engine| {
        engine.set_size("32x32".parse()?);
        engine.set_labels(&["dog", "grass", "other"])?;
        Ok(engine)
    });
    made.map_or(std::ptr::null_mut(), |engine| Box::into_raw(Box::new(Caller(engine, Segmentation::default()))))
}

/// Nanoseconds of `Engine::segment_into`; 0 where it fails.
///
/// # Safety
/// `caller` is of [`open`], in use by one thread; `rgb` has `height · width · 3` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segment_into(caller: *mut Caller, rgb: *const u8, width: usize, height: usize) -> u64 {
    // SAFETY: the caller's.
    let (Caller(engine, segmentation), rgb) =
        unsafe { (&mut *caller, std::slice::from_raw_parts(rgb, width * height * 3)) };
    let begin = Instant::now();
    match engine.segment_into(&Image::rgb8(width, height, rgb), segmentation) {
        Ok(()) => begin.elapsed().as_nanos() as u64,
        Err(_) => 0,
    }
}
