//! Kernels that may begin before the kernel before them has ended: in streams and in graphs. And a graph's kernel nodes.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys::{self, CUdeviceptr, CUfunction, CUgraph, CUgraphExec, CUgraphNode};
use cudarc::driver::{CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr};

use super::extended::*;
use super::fixtures::*;

/// One source, and a result for each launch: launches that overlap share nothing that they write.
struct Bench {
    stream: Arc<CudaStream>,
    kernel: CudaFunction,
    _memory: CudaSlice<f32>,
    start: CUdeviceptr,
}

const N: u32 = 64;

impl Bench {
    fn new(gpu: &Arc<CudaContext>) -> Bench {
        let stream = gpu.new_stream().expect("a stream");
        let kernel = function(gpu, SCALE, "scale");
        let memory = stream.clone_htod(&[1f32; 16 * N as usize]).expect("a copy");
        stream.synchronize().expect("done");
        let start = memory.device_ptr(&stream).0;
        Bench { stream, kernel, _memory: memory, start }
    }

    fn part(&self, place: u64) -> CUdeviceptr {
        self.start + place * 4 * u64::from(N)
    }

    /// Part 0 times `a` into part `to`.
    fn launch_on(&self, stream: &CudaStream, to: u64, a: f32, attributes: &[Attribute]) {
        assert_eq!(scale_with(stream, &self.kernel, (self.part(to), self.part(0)), a, N, attributes), 0);
    }

    fn launch(&self, to: u64, attributes: &[Attribute]) {
        self.launch_on(&self.stream, to, 2.0, attributes);
    }

    /// The first value of a part.
    fn value(&self, place: u64) -> f32 {
        self.stream.synchronize().expect("done");
        let mut value = 0f32;
        // SAFETY: four bytes of this frame.
        let code = unsafe { sys::cuMemcpyDtoH_v2((&raw mut value).cast(), self.part(place), 4) };
        assert_eq!(raw(code), 0);
        value
    }
}

fn programmatic() -> [Attribute; 1] {
    [attribute(PROGRAMMATIC, &[1])]
}

/// Whether each launch could overlap another one, by what VGPU_COUNTS got.
fn overlaps(file: &std::path::Path) -> Vec<bool> {
    let text = std::fs::read_to_string(file).expect("written");
    let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["overlaps"] != 0;
    text.lines().map(line).collect()
}

#[test]
fn a_programmatic_launch_may_overlap_the_kernel_before_it_in_its_stream() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("counts.json");
    let test = "driver::programmatic::a_programmatic_launch_may_overlap_the_kernel_before_it_in_its_stream";
    let said = on_h100(test, &[&[("VGPU_COUNTS", file.to_str().expect("a name"))]], |gpu| {
        let bench = Bench::new(&gpu);
        let stream = bench.stream.cu_stream();
        bench.launch(1, &programmatic()); // Nothing is before it.
        bench.launch(2, &programmatic());
        bench.launch(3, &[]);
        bench.launch(4, &[attribute(PROGRAMMATIC, &[0])]);
        // SAFETY: a part of the bench's memory.
        assert_eq!(raw(unsafe { sys::cuMemsetD32Async(bench.part(5), 0, 4, stream) }), 0);
        bench.launch(6, &programmatic()); // Behind a fill.
        let event = bench.stream.record_event(None).expect("an event");
        bench.launch(7, &programmatic()); // An event's record is nothing to wait for.
        bench.stream.wait(&event).expect("waits");
        bench.launch(8, &programmatic()); // A wait is.
        bench.launch(9, &programmatic());
        bench.stream.synchronize().expect("done");
        bench.launch(10, &programmatic()); // The host has seen the end of all before it.
        bench.stream.synchronize().expect("done");
    });
    if !said.is_empty() {
        let expected = [false, true, false, false, false, true, false, true, false];
        assert_eq!(overlaps(&file), expected);
    }
}

#[test]
fn a_captured_programmatic_launch_makes_a_programmatic_edge() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |schedule: &str| directory.path().join(format!("counts.{schedule}.json"));
    let test = "driver::programmatic::a_captured_programmatic_launch_makes_a_programmatic_edge";
    let files = ["0", "1"].map(|schedule| file(schedule).to_str().expect("a name").to_owned());
    let settings = [
        [("VGPU_SCHED", "0"), ("VGPU_COUNTS", files[0].as_str())],
        [("VGPU_SCHED", "1"), ("VGPU_COUNTS", files[1].as_str())],
    ];
    let said = on_h100(test, &settings.each_ref().map(|setting| setting.as_slice()), |gpu| {
        let bench = Bench::new(&gpu);
        let side = gpu.new_stream().expect("a stream");
        let (fork, join) = (gpu.new_event(None).expect("an event"), gpu.new_event(None).expect("an event"));
        bench.stream.begin_capture(THREAD_LOCAL).expect("captures");
        bench.launch(1, &[]); // Node 0.
        fork.record(&bench.stream).expect("records");
        bench.launch(2, &programmatic()); // Node 1, after 0.
        side.wait(&fork).expect("joins the capture");
        bench.launch_on(&side, 3, 2.0, &programmatic()); // Node 2, after 0 by an event.
        join.record(&side).expect("records");
        bench.stream.wait(&join).expect("joins back");
        bench.launch(4, &programmatic()); // Node 3, after 1, and after 2 by an event.
        let graph = bench.stream.end_capture(sys::CUgraphInstantiate_flags(0)).expect("ends").expect("a graph");
        let (found, lossy) = edges(graph.cu_graph());
        let nodes = nodes_of(graph.cu_graph());
        let (plain, early) = ([0, 0, 0], [1, 0, 1]);
        let expected = [(0, 1, early), (0, 2, plain), (1, 3, early), (2, 3, plain)];
        let expected: Vec<_> = expected.map(|(from, to, kind)| (nodes[from], nodes[to], kind)).into();
        assert_eq!(found, expected);
        assert_eq!(lossy, 402, "the kinds would be lost");
        check_neighbours(&nodes);
        graph.launch().expect("launches");
        assert_eq!([1, 2, 3, 4].map(|part| bench.value(part)), [2.0; 4]);
    });
    if !said.is_empty() {
        assert_eq!(overlaps(&file("0")), [false, true, false, true]);
        // The other branch first: its kernel stands between two that overlap.
        assert_eq!(overlaps(&file("1")), [false, false, true, true]);
    }
}

fn nodes_of(graph: CUgraph) -> Vec<CUgraphNode> {
    let mut nodes = [std::ptr::null_mut(); 8];
    let mut count = nodes.len();
    // SAFETY: room for eight.
    assert_eq!(raw(unsafe { sys::cuGraphGetNodes(graph, nodes.as_mut_ptr(), &mut count) }), 0);
    nodes[..count].to_vec()
}

/// Of the graph above: what node 3 comes after, and what comes after node 0.
fn check_neighbours(nodes: &[CUgraphNode]) {
    type Neighbours = unsafe extern "C" fn(CUgraphNode, *mut CUgraphNode, *mut [u8; 8], *mut usize) -> u32;
    for (name, node, expected, kinds) in
        [("cuGraphNodeGetDependencies_v2", 3, [1, 2], [1, 0]), ("cuGraphNodeGetDependentNodes_v2", 0, [1, 2], [1, 0])]
    {
        let (mut found, mut data, mut count) = ([std::ptr::null_mut(); 4], [[9u8; 8]; 4], 4);
        // SAFETY: room for four.
        let code = unsafe {
            driver_function::<Neighbours>(name)(nodes[node], found.as_mut_ptr(), data.as_mut_ptr(), &mut count)
        };
        assert_eq!((code, count), (0, 2), "{name}");
        assert_eq!(found[..2], expected.map(|node: usize| nodes[node]), "{name}");
        assert_eq!([data[0][2], data[1][2]], kinds, "{name}");
    }
}

#[test]
fn before_compute_capability_9_0_kernels_of_a_stream_never_overlap() {
    let Some(gpu) = context() else { return };
    let bench = Bench::new(&gpu);
    bench.stream.begin_capture(THREAD_LOCAL).expect("captures");
    bench.launch(1, &[]);
    bench.launch(2, &programmatic());
    let graph = bench.stream.end_capture(sys::CUgraphInstantiate_flags(0)).expect("ends").expect("a graph");
    let (found, lossless) = edges(graph.cu_graph());
    assert_eq!((found.len(), found[0].2, lossless), (1, [0, 0, 0], 0));
}

/// CUDA_KERNEL_NODE_PARAMS_v2
#[repr(C)]
struct NodeParams {
    function: CUfunction,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    each: *mut *mut c_void,
    extra: *mut *mut c_void,
    kernel: usize,
    context: usize,
}

#[test]
fn parameters_and_attributes_of_a_kernel_node_can_be_read_and_changed() {
    let test = "driver::programmatic::parameters_and_attributes_of_a_kernel_node_can_be_read_and_changed";
    on_h100(test, &[&[], &[("VGPU_SCHED", "1")]], |gpu| {
        type Get = unsafe extern "C" fn(CUgraphNode, *mut NodeParams) -> u32;
        type Set = unsafe extern "C" fn(CUgraphNode, *const NodeParams) -> u32;
        type SetExec = unsafe extern "C" fn(CUgraphExec, CUgraphNode, *const NodeParams) -> u32;
        type Attribute = unsafe extern "C" fn(CUgraphNode, u32, *mut [u32; 16]) -> u32;
        let bench = Bench::new(&gpu);
        bench.stream.begin_capture(THREAD_LOCAL).expect("captures");
        bench.launch(1, &[attribute(CLUSTER, &[1, 1, 1]), attribute(8, &[u32::MAX])]);
        let graph = bench.stream.end_capture(sys::CUgraphInstantiate_flags(0)).expect("ends").expect("a graph");
        let node = nodes_of(graph.cu_graph())[0];
        let mut params: NodeParams = NodeParams {
            function: std::ptr::null_mut(),
            grid: [0; 3],
            block: [0; 3],
            shared: 9,
            each: std::ptr::null_mut(),
            extra: std::ptr::null_mut(),
            kernel: 9,
            context: 9,
        };
        // SAFETY: the structures are this frame's; the node gives four pointers to values that it keeps.
        unsafe {
            assert_eq!(driver_function::<Get>("cuGraphKernelNodeGetParams_v2")(node, &mut params), 0);
            assert_eq!((params.function, params.grid, params.block), (bench.kernel.cu_function(), [1; 3], [64, 1, 1]));
            assert_eq!(params.each.read().cast::<u64>().read(), bench.part(1));
            assert_eq!(params.each.add(2).read().cast::<f32>().read(), 2.0);
            let (mut y, mut x, mut a, mut n) = (bench.part(2), bench.part(0), 3f32, N);
            let mut each: [*mut c_void; 4] =
                [(&raw mut y).cast(), (&raw mut x).cast(), (&raw mut a).cast(), (&raw mut n).cast()];
            params.each = each.as_mut_ptr();
            let set_exec: SetExec = driver_function("cuGraphExecKernelNodeSetParams_v2");
            assert_eq!(set_exec(graph.cu_graph_exec(), node, &params), 0);
            graph.launch().expect("launches");
            assert_eq!([1, 2].map(|part| bench.value(part)), [1.0, 3.0], "the node wrote elsewhere");
            let set: Set = driver_function("cuGraphKernelNodeSetParams_v2");
            let mut five = 5f32;
            params.each.add(2).write((&raw mut five).cast());
            assert_eq!(set(node, &params), 0);
            graph.launch().expect("launches");
            assert_eq!(bench.value(2), 3.0, "the executable graph is one of its own");
            params.block = [2048, 1, 1];
            assert_eq!((set(node, &params), set_exec(graph.cu_graph_exec(), node, &params)), (1, 1));

            let get: Attribute = driver_function("cuGraphKernelNodeGetAttribute");
            let change: Attribute = driver_function("cuGraphKernelNodeSetAttribute");
            let mut value = [7u32; 16];
            assert_eq!((get(node, CLUSTER, &mut value), value[..3].to_vec()), (0, vec![1, 1, 1]));
            assert_eq!((get(node, 8, &mut value), value[0]), (0, u32::MAX));
            assert_eq!((get(node, COOPERATIVE, &mut value), value[0]), (0, 0));
            assert_eq!(change(node, CLUSTER, &mut [2; 16]), 912, "one block is no cluster of eight");
            assert_eq!(change(node, COOPERATIVE, &mut [1; 16]), 0);
            assert_eq!((get(node, COOPERATIVE, &mut value), value[0]), (0, 1));
            assert_eq!([get(node, PROGRAMMATIC, &mut value), get(node, 99, &mut value)], [1, 1], "none of a node");
        }
    });
}
