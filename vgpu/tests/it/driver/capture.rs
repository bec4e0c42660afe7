//! Captured graphs, and what spoils a capture.

use cudarc::driver::DevicePtr;
use cudarc::driver::sys::{self, CUstreamCaptureMode as CaptureMode};

use super::fixtures::*;

#[test]
fn a_captured_graph_replays_with_the_parameters_of_its_capture() {
    let Some(Captured { stream, kernel, mut x, mut y, .. }) = ready_to_capture() else { return };
    let flags = sys::CUgraphInstantiate_flags(0);
    for mode in [CaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED, THREAD_LOCAL] {
        stream.begin_capture(mode).expect("captures");
        // The factor lies on the stack and is gone when the graph runs.
        scale(&stream, &kernel, &mut y, &x, 2.0, 4).expect("captured");
        let graph = stream.end_capture(flags).expect("ends").expect("a graph");
        let mut nodes = 0;
        // SAFETY: asks for the number alone.
        assert_eq!(raw(unsafe { sys::cuGraphGetNodes(graph.cu_graph(), std::ptr::null_mut(), &mut nodes) }), 0);
        assert_eq!(nodes, 1);
        stream.memset_zeros(&mut y).expect("a fill");
        graph.upload().expect("uploads");
        assert_eq!(stream.clone_dtoh(&y).expect("a copy"), [0.0; 4], "a capture runs nothing");
        for start in [1.0, 10.0] {
            stream.memcpy_htod(&[start; 4], &mut x).expect("a copy");
            graph.launch().expect("launches");
            assert_eq!(stream.clone_dtoh(&y).expect("a copy"), [2.0 * start; 4]);
        }
    }
}

#[test]
fn a_capture_that_forks_and_joins_is_one_graph() {
    let Some(Captured { gpu, stream, kernel, x, mut y }) = ready_to_capture() else { return };
    let side = gpu.new_stream().expect("a stream");
    let mut z = stream.alloc_zeros::<f32>(4).expect("memory");
    stream.synchronize().expect("done");
    let fork = gpu.new_event(None).expect("an event");
    let join = gpu.new_event(None).expect("an event");
    for joined in [true, false] {
        stream.begin_capture(THREAD_LOCAL).expect("captures");
        fork.record(&stream).expect("records");
        side.wait(&fork).expect("joins the capture");
        scale(&side, &kernel, &mut z, &x, 3.0, 4).expect("captured");
        scale(&stream, &kernel, &mut y, &x, 2.0, 4).expect("captured");
        if joined {
            join.record(&side).expect("records");
            stream.wait(&join).expect("joins back");
        }
        let ended = stream.end_capture(sys::CUgraphInstantiate_flags(0));
        if !joined {
            assert_eq!(code(ended.map(drop)), 904);
            continue;
        }
        let graph = ended.expect("ends").expect("a graph");
        graph.launch().expect("launches");
        assert_eq!(stream.clone_dtoh(&z).expect("a copy"), [3.0, 6.0, 9.0, 12.0]);
        assert_eq!(stream.clone_dtoh(&y).expect("a copy"), [2.0, 4.0, 6.0, 8.0]);
    }
    // Events of a capture cannot be waited for outside.
    assert_eq!(code(join.synchronize()), 907);
}

#[test]
fn a_stream_tells_whether_it_is_capturing() {
    let Some(Captured { stream, kernel, x, mut y, .. }) = ready_to_capture() else { return };
    type Info = unsafe extern "C" fn(sys::CUstream, *mut u32, *mut u64, *mut usize, *mut usize, *mut usize) -> u32;
    let info: Info = super::extended::driver_function("cuStreamGetCaptureInfo_v2");
    let null = std::ptr::null_mut;
    let ask = |graph: *mut usize| {
        let (mut status, mut id) = (9, 0);
        // SAFETY: pointers to variables of living frames.
        let code = unsafe { info(stream.cu_stream(), &mut status, &mut id, graph, null(), null()) };
        (code, status, id != 0)
    };
    let mut graph = 7;
    assert_eq!((ask(&mut graph), graph), ((0, 0, false), 0));
    stream.begin_capture(THREAD_LOCAL).expect("captures");
    scale(&stream, &kernel, &mut y, &x, 1.0, 4).expect("captured");
    assert_eq!(ask(null()), (0, 1, true));
    assert_eq!(ask(&mut graph).0, 801, "the graph is not there yet");
    stream.end_capture(sys::CUgraphInstantiate_flags(0)).expect("ends").expect("a graph");
    assert_eq!(ask(null()), (0, 0, false));
}

#[test]
fn forbidden_calls_spoil_the_capture() {
    let Some(Captured { gpu, stream, kernel, x, mut y }) = ready_to_capture() else { return };
    let relaxed = CaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
    let flags = sys::CUgraphInstantiate_flags(0);
    let outside = gpu.new_event(None).expect("an event");
    outside.record(&stream).expect("records");
    let mut address = 0;
    let mut word = [0u8; 4];
    let x_address = x.device_ptr(&stream).0;
    // SAFETY: pointers to this frame's variables, with their sizes.
    let attempts: [(&str, u32, &mut dyn FnMut() -> u32); 6] = [
        ("synchronising the stream", 900, &mut || code(stream.synchronize())),
        ("synchronising the context", 900, &mut || code(gpu.synchronize())),
        ("querying the stream", 900, &mut || raw(unsafe { sys::cuStreamQuery(stream.cu_stream()) })),
        ("allocating", 900, &mut || raw(unsafe { sys::cuMemAlloc_v2(&mut address, 4) })),
        ("a synchronous copy", 900, &mut || {
            // SAFETY: four bytes of room.
            raw(unsafe { sys::cuMemcpyDtoH_v2(word.as_mut_ptr().cast(), x_address, 4) })
        }),
        ("an event from outside", 905, &mut || code(stream.wait(&outside))),
    ];
    for (what, expected, attempt) in attempts {
        stream.begin_capture(THREAD_LOCAL).expect("captures");
        assert_eq!(attempt(), expected, "{what}");
        let status = stream.capture_status().expect("a status");
        assert_eq!(status, sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_INVALIDATED, "{what}");
        assert_eq!(code(scale(&stream, &kernel, &mut y, &x, 1.0, 4)), 901, "{what}");
        assert_eq!(code(stream.end_capture(flags).map(drop)), 901, "{what}");
        stream.synchronize().unwrap_or_else(|e| panic!("{what}: the stream is usable again: {e}"));
    }
    // A relaxed capture lets the program allocate.
    stream.begin_capture(relaxed).expect("captures");
    // SAFETY: a pointer to this frame's variable.
    assert_eq!(raw(unsafe { sys::cuMemAlloc_v2(&mut address, 4) }), 0);
    scale(&stream, &kernel, &mut y, &x, 1.0, 4).expect("captured");
    stream.end_capture(flags).expect("ends").expect("a graph");
    // Ends that do not fit their beginning.
    assert_eq!(code(stream.end_capture(flags).map(drop)), 401);
    assert_eq!(code(gpu.default_stream().begin_capture(THREAD_LOCAL)), 900);
}

#[test]
fn a_global_capture_forbids_other_threads_too() {
    in_child("driver::capture::a_global_capture_forbids_other_threads_too", &[], || {
        let Captured { gpu, stream, .. } = ready_to_capture().expect("built");
        let elsewhere = || {
            let gpu = gpu.clone();
            let thread = std::thread::spawn(move || {
                gpu.bind_to_thread().expect("bound");
                let mut address = 0;
                // SAFETY: a pointer to this frame's variable.
                raw(unsafe { sys::cuMemAlloc_v2(&mut address, 4) })
            });
            thread.join().expect("the thread ends")
        };
        let flags = sys::CUgraphInstantiate_flags(0);
        stream.begin_capture(THREAD_LOCAL).expect("captures");
        assert_eq!(elsewhere(), 0);
        stream.end_capture(flags).expect("ends");
        stream.begin_capture(CaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).expect("captures");
        assert_eq!(elsewhere(), 900);
        assert_eq!(code(stream.end_capture(flags).map(drop)), 901);
    });
}

#[test]
fn the_legacy_stream_may_not_be_used_beside_a_capturing_blocking_stream() {
    let Some(gpu) = context() else { return };
    gpu.bind_to_thread().expect("bound");
    let mut blocking = std::ptr::null_mut();
    let mut graph = std::ptr::null_mut();
    let mut address = 0;
    // SAFETY: all pointers are to this frame's variables; the handles are made here.
    unsafe {
        assert_eq!(raw(sys::cuStreamCreate(&mut blocking, 0)), 0);
        assert_eq!(raw(sys::cuMemAlloc_v2(&mut address, 4)), 0);
        assert_eq!(raw(sys::cuStreamBeginCapture_v2(blocking, THREAD_LOCAL)), 0);
        assert_eq!(raw(sys::cuMemsetD8Async(address, 0, 4, std::ptr::null_mut())), 906);
        assert_eq!(raw(sys::cuStreamEndCapture(blocking, &mut graph)), 901);
        assert!(graph.is_null());
    }
}
