//! What error codes mean, and what the virtual GPU tells beyond CUDA.

use std::ffi::{CStr, c_char};

use super::boundary::Out;
use super::error::{Code, Outcome};
use super::{driver_functions, enter_before_init};

fn describe(
    code: u32,
    answer: &Out<*const c_char>,
    pick: impl Fn((&'static CStr, &'static CStr)) -> &'static CStr,
) -> Outcome {
    match Code(code).describe() {
        Some(texts) => answer.write(pick(texts).as_ptr()),
        None => {
            answer.write_if_wanted(std::ptr::null());
            Err(Code::INVALID_VALUE.into())
        }
    }
}

/// The code's name; allowed before cuInit.
///
/// # Safety
/// `answer` is null or valid for a write.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn cuGetErrorName(code: u32, answer: Out<*const c_char>) -> u32 {
    enter_before_init("cuGetErrorName", |_| describe(code, &answer, |(name, _)| name))
}

/// What it means; allowed before cuInit.
///
/// # Safety
/// `answer` is null or valid for a write.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn cuGetErrorString(code: u32, answer: Out<*const c_char>) -> u32 {
    enter_before_init("cuGetErrorString", |_| describe(code, &answer, |(_, text)| text))
}

driver_functions! {
    table table;

    /// Not of CUDA: the report of the fault that killed the thread's context, cut to `size` bytes with the NUL; empty if
    /// it is alive.
    fn vgpu_last_fault(machine, text: Out<c_char>, size: usize) {
        let context = machine.thread_context()?;
        let report = machine.contexts.get(context)?.fault.as_deref().unwrap_or("");
        text.write_text(report, size)
    }

    /// Not of CUDA: the counts of the thread's context's last launch that ended well, as JSON with the kernel's name;
    /// empty if there was none.
    fn vgpu_last_counts(machine, text: Out<c_char>, size: usize) {
        let context = machine.thread_context()?;
        let counts = machine.contexts.get(context)?.counts.as_ref();
        let json = counts.map(|(kernel, counts)| serde_json::json!({ "kernel": kernel, "counts": counts }).to_string());
        text.write_text(json.as_deref().unwrap_or(""), size)
    }

    /// There is no profiler.
    fn cuProfilerStart(_machine) {
        Ok(())
    }

    fn cuProfilerStop(_machine) {
        Ok(())
    }
}
