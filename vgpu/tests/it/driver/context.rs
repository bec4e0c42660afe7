//! Contexts and handles: what a fault ends, what is refused, what is found by name.

use std::ffi::{CString, c_void};

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, DriverError, result};

use super::fixtures::*;

#[test]
fn a_fault_kills_the_context_and_no_other() {
    let Some(gpu) = context() else { return };
    let Some(other) = context() else { return };
    gpu.bind_to_thread().expect("bound");
    let stream = gpu.default_stream();
    let kernel = function(&gpu, SCALE, "scale");
    let x = stream.alloc_zeros::<f32>(64).expect("memory");
    let mut y = stream.alloc_zeros::<f32>(32).expect("memory");
    scale(&stream, &kernel, &mut y, &x, 1.0, 64).expect("queued");
    assert_eq!(code(stream.synchronize()), 700);
    let report = text_of(b"vgpu_last_fault");
    assert!(report.contains("scale") && report.contains("block (0,0,0)"), "{report}");
    // From now on everything answers so.
    assert_eq!(code(stream.alloc_zeros::<f32>(1)), 700);
    assert_eq!(code(scale(&stream, &kernel, &mut y, &x, 1.0, 1)), 700);
    assert_eq!(code(result::ctx::synchronize()), 700);
    let stream = other.new_stream().expect("the other context lives");
    assert_eq!(stream.clone_dtoh(&stream.clone_htod(&[1, 2, 3]).expect("a copy")).expect("a copy"), [1, 2, 3]);
}

#[test]
fn resetting_the_primary_context_revives_it() {
    let output = in_child("driver::context::resetting_the_primary_context_revives_it", &[], || {
        assert!(load_library());
        let gpu = CudaContext::new(0).expect("a context");
        let stream = gpu.default_stream();
        let kernel = function(&gpu, SCALE, "scale");
        let x = stream.alloc_zeros::<f32>(8).expect("memory");
        let mut y = stream.alloc_zeros::<f32>(8).expect("memory");
        scale(&stream, &kernel, &mut y, &x, 1.0, 9).expect("queued");
        assert_eq!(code(stream.synchronize()), 700);
        // SAFETY: takes the device's number.
        assert_eq!(raw(unsafe { sys::cuDevicePrimaryCtxReset_v2(0) }), 0);
        let fresh = stream.clone_htod(&[5u32]).expect("alive");
        assert_eq!(stream.clone_dtoh(&fresh).expect("a copy"), [5]);
        let kernel = function(&gpu, SCALE, "scale");
        // What was there before the reset is gone.
        scale(&stream, &kernel, &mut y, &x, 1.0, 1).expect("queued");
        assert_eq!(code(stream.synchronize()), 700);
    });
    if let Some(output) = output {
        let said = output.stderr;
        for report in ["vgpu: OutOfBounds in scale", "vgpu: UseAfterFree in scale"] {
            assert_eq!(said.matches(report).count(), 1, "one report a fault: {said}");
        }
    }
}

#[test]
fn handles_that_are_none_are_refused() {
    let Some(gpu) = context() else { return };
    gpu.bind_to_thread().expect("bound");
    let kernel = function(&gpu, SCALE, "scale");
    let event = gpu.new_event(None).expect("an event");
    let invented = 0x1234_5678_usize as *mut c_void;
    // SAFETY: what handles that are none do is what is tested.
    unsafe {
        assert_eq!(raw(sys::cuStreamSynchronize(invented.cast())), 400);
        assert_eq!(raw(sys::cuStreamSynchronize(event.cu_event().cast())), 400, "an event is no stream");
        assert_eq!(raw(sys::cuEventSynchronize(invented.cast())), 400);
        assert_eq!(raw(sys::cuModuleUnload(invented.cast())), 400);
        assert_eq!(raw(sys::cuCtxSetCurrent(invented.cast())), 201);
        assert_eq!(raw(sys::cuGraphDestroy(invented.cast())), 1);
        let none = std::ptr::null_mut();
        assert_eq!(raw(sys::cuLaunchKernel(invented.cast(), 1, 1, 1, 1, 1, 1, 0, none, none.cast(), none.cast())), 400);
        let f = kernel.cu_function();
        assert_eq!(
            raw(sys::cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, none, none.cast(), none.cast())),
            1,
            "no parameters"
        );
        let mut nulls = [none.cast::<c_void>(); 4];
        assert_eq!(raw(sys::cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, none, nulls.as_mut_ptr(), none.cast())), 1);
        assert_eq!(raw(sys::cuCtxGetDevice(none.cast())), 1);
    }
}

#[test]
fn functions_that_are_not_emulated_say_so_once() {
    let output = in_child("driver::context::functions_that_are_not_emulated_say_so_once", &[], || {
        let gpu = context().expect("built");
        gpu.bind_to_thread().expect("bound");
        let mut address = 0;
        for _ in 0..2 {
            // SAFETY: a pointer to this frame's variable.
            assert_eq!(raw(unsafe { sys::cuMemAllocManaged(&mut address, 16, 1) }), 801);
        }
    });
    if let Some(output) = output {
        let said = output.stderr;
        assert_eq!(said.matches("vgpu: cuMemAllocManaged is not emulated").count(), 1, "{said}");
    }
}

#[test]
fn functions_and_errors_are_found_by_name() {
    if !load_library() {
        return;
    }
    let find = |name: &str| {
        let name = CString::new(name).expect("text");
        let mut address = std::ptr::null_mut();
        // SAFETY: a string and a pointer to this frame's variable.
        let result = unsafe { sys::cuGetProcAddress(name.as_ptr(), &mut address, 11040, 0) };
        (raw(result), address.is_null())
    };
    assert_eq!(find("cuMemAlloc"), (0, false));
    assert_eq!(find("cuInit"), (0, false));
    assert_eq!(find("cuNothing"), (500, true));
    // Each program gets the version that it was written for.
    let place = |name: &str, version: i32| {
        let name = CString::new(name).expect("text");
        let mut address = std::ptr::null_mut();
        // SAFETY: a string and a pointer to this frame's variable.
        assert_eq!(raw(unsafe { sys::cuGetProcAddress(name.as_ptr(), &mut address, version, 0) }), 0);
        address
    };
    for (name, since) in [("cuGraphGetEdges", 12030), ("cuGraphKernelNodeGetParams", 12000)] {
        let second = place(&format!("{name}_v2"), since);
        assert!(place(name, since) == second && place(name, since - 1) != second, "{name}");
    }
    for name in
        ["cuTensorMapEncodeTiled", "cuTensorMapReplaceAddress", "cuLaunchKernelEx", "cuOccupancyMaxActiveClusters"]
    {
        assert_eq!(find(name), (0, false), "{name}");
    }
    let error = DriverError(CUresult::CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    assert_eq!(error.error_name().expect("a name").to_str(), Ok("CUDA_ERROR_STREAM_CAPTURE_ISOLATION"));
    assert!(error.error_string().is_ok());
}
