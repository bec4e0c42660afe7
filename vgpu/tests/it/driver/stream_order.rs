//! Memory that one stream allocates or frees and another one uses.

use std::sync::Arc;

use cudarc::driver::sys::{self, CUdeviceptr};
use cudarc::driver::{CudaContext, CudaFunction, CudaStream};

use super::fixtures::*;

struct Two {
    gpu: Arc<CudaContext>,
    first: Arc<CudaStream>,
    second: Arc<CudaStream>,
    kernel: CudaFunction,
    /// Of cuMemAlloc: every stream may use it.
    common: CUdeviceptr,
}

const BYTES: usize = 256;

impl Two {
    fn new() -> Option<Two> {
        let gpu = context()?;
        gpu.bind_to_thread().expect("bound");
        let (first, second) = (gpu.new_stream().expect("a stream"), gpu.new_stream().expect("a stream"));
        let kernel = function(&gpu, SCALE, "scale");
        let mut common = 0;
        // SAFETY: a pointer to this frame's variable; the memory is filled at once.
        unsafe {
            assert_eq!(raw(sys::cuMemAlloc_v2(&mut common, BYTES)), 0);
            assert_eq!(raw(sys::cuMemsetD8_v2(common, 0, BYTES)), 0);
        }
        Some(Two { gpu, first, second, kernel, common })
    }

    fn allocate(&self, stream: &CudaStream) -> CUdeviceptr {
        let mut address = 0;
        // SAFETY: a pointer to this frame's variable.
        assert_eq!(raw(unsafe { sys::cuMemAllocAsync(&mut address, BYTES, stream.cu_stream()) }), 0);
        address
    }

    fn free(&self, address: CUdeviceptr, stream: &CudaStream) -> u32 {
        // SAFETY: an address is all that it takes.
        raw(unsafe { sys::cuMemFreeAsync(address, stream.cu_stream()) })
    }

    /// A kernel that writes there.
    fn write(&self, stream: &CudaStream, to: CUdeviceptr) {
        let mut launch = stream.launch_builder(&self.kernel);
        use cudarc::driver::PushKernelArg;
        launch.arg(&to).arg(&self.common).arg(&1f32).arg(&64u32);
        // SAFETY: the arguments are the kernel's; whether it may write there is what is tested.
        unsafe { launch.launch(config(1, 64)) }.expect("queued");
    }

    fn order(&self, before: &CudaStream, after: &CudaStream) {
        after.wait(&before.record_event(None).expect("an event")).expect("waits");
    }

    fn expect_fault(&self, done: &str) {
        assert_eq!(code(self.gpu.synchronize()), 700);
        let report = text_of(b"vgpu_last_fault");
        let (first, second) = (self.first.cu_stream() as usize, self.second.cu_stream() as usize);
        let expected = format!("{done} by stream {first:#x}, and stream {second:#x} uses it with no event");
        assert!(report.contains("StreamOrder") && report.contains(&expected), "{expected}: {report}");
    }
}

#[test]
fn memory_of_one_stream_is_not_anothers_without_an_event() {
    let Some(two) = Two::new() else { return };
    let memory = two.allocate(&two.first);
    two.write(&two.second, memory);
    two.expect_fault("allocated");
    assert!(text_of(b"vgpu_last_fault").contains("in scale"), "{}", text_of(b"vgpu_last_fault"));
}

#[test]
fn a_later_wait_of_the_host_does_not_order_what_was_queued_before() {
    let Some(two) = Two::new() else { return };
    let memory = two.allocate(&two.first);
    two.write(&two.second, memory);
    two.first.synchronize().expect("done");
    two.expect_fault("allocated");
}

#[test]
fn copies_fills_and_frees_are_uses_too() {
    type Use = fn(&Two, CUdeviceptr);
    let uses: [Use; 3] = [
        // SAFETY: the device's side is what is tested.
        |two, memory| unsafe {
            let stream = two.second.cu_stream();
            assert_eq!(raw(sys::cuMemcpyDtoDAsync_v2(memory, two.common, BYTES, stream)), 0);
        },
        // SAFETY: the device's side is what is tested.
        |two, memory| unsafe { assert_eq!(raw(sys::cuMemsetD8Async(memory, 0, 4, two.second.cu_stream())), 0) },
        |two, memory| assert_eq!(two.free(memory, &two.second), 0),
    ];
    for make in uses {
        let Some(two) = Two::new() else { return };
        let memory = two.allocate(&two.first);
        make(&two, memory);
        two.expect_fault("allocated");
    }
}

#[test]
fn memory_that_a_stream_frees_must_be_done_with_elsewhere() {
    // Queued before the free, and behind it.
    for early in [true, false] {
        let Some(two) = Two::new() else { return };
        let memory = two.allocate(&two.first);
        two.order(&two.first, &two.second);
        if early {
            two.write(&two.second, memory);
        }
        assert_eq!(two.free(memory, &two.first), 0);
        if !early {
            two.write(&two.second, memory);
        }
        // The use runs first: what is wrong is the order that nothing ensures.
        assert_eq!(code(two.second.synchronize()), 700);
        two.expect_fault("freed");
    }
}

#[test]
fn events_the_host_and_the_default_stream_order_streams() {
    let Some(two) = Two::new() else { return };
    // An event; a chain of two events over a third stream.
    let memory = two.allocate(&two.first);
    two.order(&two.first, &two.second);
    two.write(&two.second, memory);
    let third = two.gpu.new_stream().expect("a stream");
    two.order(&two.second, &third);
    assert_eq!(two.free(memory, &third), 0);
    two.gpu.synchronize().expect("no fault");
    // The host: it waited for the stream, or for an event behind the allocation.
    let memory = two.allocate(&two.first);
    two.first.synchronize().expect("done");
    two.write(&two.second, memory);
    two.second.synchronize().expect("no fault");
    assert_eq!(two.free(memory, &two.first), 0);
    let memory = two.allocate(&two.first);
    two.first.record_event(None).expect("an event").synchronize().expect("done");
    two.write(&two.second, memory);
    two.gpu.synchronize().expect("no fault");
    // Streams of the test's own wait for the default stream, and it for them.
    let default = two.gpu.default_stream();
    let mut blocking = std::ptr::null_mut();
    let mut memory = 0;
    // SAFETY: pointers to this frame's variables; the stream is made here.
    unsafe {
        assert_eq!(raw(sys::cuStreamCreate(&mut blocking, 0)), 0);
        assert_eq!(raw(sys::cuMemAllocAsync(&mut memory, BYTES, blocking)), 0);
        two.write(&default, memory);
        assert_eq!(raw(sys::cuMemsetD8Async(memory, 0, BYTES, blocking)), 0);
        assert_eq!(raw(sys::cuMemFreeAsync(memory, default.cu_stream())), 0);
    }
    two.gpu.synchronize().expect("no fault");
    // A kernel that has nothing to do with the memory.
    let memory = two.allocate(&two.first);
    two.write(&two.second, two.common);
    assert_eq!(two.free(memory, &two.first), 0);
    two.gpu.synchronize().expect("no fault");
}

#[test]
fn a_graph_uses_memory_when_it_is_launched() {
    for ordered in [true, false] {
        let Some(two) = Two::new() else { return };
        let memory = two.allocate(&two.first);
        two.first.begin_capture(THREAD_LOCAL).expect("captures");
        two.write(&two.first, memory);
        let graph = two.first.end_capture(sys::CUgraphInstantiate_flags(0)).expect("ends").expect("a graph");
        if ordered {
            two.order(&two.first, &two.second);
        }
        // SAFETY: the graph lives to the end of the loop's body.
        let launched = unsafe { sys::cuGraphLaunch(graph.cu_graph_exec(), two.second.cu_stream()) };
        assert_eq!(raw(launched), 0);
        if ordered {
            two.gpu.synchronize().expect("no fault");
        } else {
            two.expect_fault("allocated");
        }
    }
}
