//! Streams and events: the order that CUDA promises, and no other.

use std::ffi::c_void;

use cudarc::driver::sys;

use super::fixtures::*;

#[test]
fn streams_run_when_waited_for_and_events_order_them() {
    let Some(gpu) = context() else { return };
    let (first, second) = (gpu.new_stream().expect("a stream"), gpu.new_stream().expect("a stream"));
    let source = first.clone_htod(&[7u32; 8]).expect("a copy");
    first.synchronize().expect("done");
    let mut middle = first.alloc_zeros::<u32>(8).expect("memory");
    first.synchronize().expect("done");
    let mut end = second.alloc_zeros::<u32>(8).expect("memory");
    // Without an event the second stream does not see the first one's copy.
    first.memcpy_dtod(&source, &mut middle).expect("queued");
    second.memcpy_dtod(&middle, &mut end).expect("queued");
    assert_eq!(second.clone_dtoh(&end).expect("a copy"), [0; 8]);
    // With one it does.
    let event = first.record_event(None).expect("an event");
    assert!(!event.try_is_complete().expect("asked"), "nobody has waited for it");
    assert!(event.try_is_complete().expect("asked"), "asking made progress");
    first.memcpy_dtod(&source, &mut middle).expect("queued");
    second.wait(&first.record_event(None).expect("an event")).expect("waits");
    second.memcpy_dtod(&middle, &mut end).expect("queued");
    assert_eq!(second.clone_dtoh(&end).expect("a copy"), [7; 8]);

    let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
    let start = first.record_event(timed).expect("an event");
    let stop = first.record_event(timed).expect("an event");
    stop.synchronize().expect("done");
    assert!(start.elapsed_ms(&stop).expect("a time") >= 0.0);
    let untimed = first.record_event(None).expect("an event");
    assert_eq!(code(start.elapsed_ms(&untimed)), 400);
}

#[test]
fn the_legacy_default_stream_waits_for_blocking_streams_and_they_for_it() {
    let Some(gpu) = context() else { return };
    gpu.bind_to_thread().expect("bound");
    let mut blocking = std::ptr::null_mut();
    let (mut a, mut b) = (0, 0);
    let mut host = [0u32; 4];
    // SAFETY: all pointers are to this frame's variables, all sizes theirs; the handles are made here.
    unsafe {
        assert_eq!(raw(sys::cuStreamCreate(&mut blocking, 0)), 0);
        assert_eq!(raw(sys::cuMemAlloc_v2(&mut a, 16)), 0);
        assert_eq!(raw(sys::cuMemAlloc_v2(&mut b, 16)), 0);
        assert_eq!(raw(sys::cuMemsetD32Async(a, 1, 4, blocking)), 0);
        assert_eq!(raw(sys::cuMemcpyDtoDAsync_v2(b, a, 16, std::ptr::null_mut())), 0);
        assert_eq!(raw(sys::cuMemsetD32Async(a, 2, 4, blocking)), 0);
        // Waiting for the last runs the copy before it, and that the fill before it.
        assert_eq!(raw(sys::cuStreamSynchronize(blocking)), 0);
        assert_eq!(raw(sys::cuMemcpyDtoH_v2(host.as_mut_ptr().cast(), b, 16)), 0);
        assert_eq!(host, [1; 4]);
        assert_eq!(raw(sys::cuMemcpyDtoH_v2(host.as_mut_ptr().cast(), a, 16)), 0);
        assert_eq!(host, [2; 4]);
        // A stream's query says "not ready" of work that nobody waited for, then does it.
        assert_eq!(raw(sys::cuMemsetD32Async(a, 3, 4, blocking)), 0);
        assert_eq!(raw(sys::cuStreamQuery(blocking)), 600);
        assert_eq!(raw(sys::cuStreamQuery(blocking)), 0);
        assert_eq!(raw(sys::cuStreamDestroy_v2(blocking)), 0);
        assert_eq!(raw(sys::cuStreamSynchronize(blocking)), 400);
    }
}

#[test]
fn a_host_function_runs_in_order_and_must_not_use_the_driver() {
    let Some(gpu) = context() else { return };
    let stream = gpu.new_stream().expect("a stream");
    unsafe extern "C" fn note(seen: *mut c_void) {
        let mut count = 0;
        // SAFETY: `seen` is the test's variable, which lives until the stream is synchronised.
        unsafe { *seen.cast::<u32>() = 1 + raw(sys::cuDeviceGetCount(&mut count)) };
    }
    let mut seen = 0u32;
    // SAFETY: the function's argument lives until the stream is synchronised.
    unsafe {
        assert_eq!(raw(sys::cuLaunchHostFunc(stream.cu_stream(), Some(note), (&raw mut seen).cast())), 0);
        assert_eq!((&raw const seen).read_volatile(), 0);
        stream.synchronize().expect("done");
        assert_eq!((&raw const seen).read_volatile(), 801);
    }
}
