//! Several virtual boards in one process: `VGPU_DEVICES=rtx4090,h100,orin:sched=1`.

use std::ffi::{CString, c_char};
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, DriverError, PushKernelArg, result, sys};
use cudarc::nvrtc::Ptx;

use super::fixtures::*;

const BOARDS: &[(&str, &str)] = &[("VGPU_DEVICES", "rtx4090,h100,orin,h100:sched=1")];

/// out[0] = the number of multiprocessors.
const MULTIPROCESSORS: &str = r"
.version 7.4
.target sm_80
.address_size 64

.visible .entry multiprocessors(.param .u64 out)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [out];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r1, %nsmid;
    st.global.u32 [%rd2], %r1;
    ret;
}
";

fn on(ordinal: usize) -> Arc<CudaContext> {
    assert!(load_library());
    let context = CudaContext::new_non_primary(ordinal, 0).expect("a context");
    // cudarc's own events would be waited for inside captures.
    // SAFETY: each test orders its streams itself.
    unsafe { context.disable_event_tracking() };
    context
}

/// `body` in a child process with the boards above.
fn with_boards(test: &str, body: impl FnOnce()) {
    in_child(&format!("driver::devices::{test}"), BOARDS, body);
}

#[test]
fn each_ordinal_is_a_board_of_its_own() {
    with_boards("each_ordinal_is_a_board_of_its_own", || {
        assert!(load_library());
        result::init().expect("the driver starts");
        assert_eq!(CudaContext::device_count().expect("a count"), 4);
        let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let about = |ordinal: i32| {
            let device = result::device::get(ordinal).expect("a device");
            let name = result::device::get_name(device).expect("a name");
            // SAFETY: the device is one.
            let (memory, count) = unsafe {
                (result::device::total_mem(device).expect("a size"), result::device::get_attribute(device, attribute))
            };
            (name, memory >> 30, count.expect("an attribute"))
        };
        assert_eq!(about(0), ("Virtual GPU (RTX 4090)".into(), 24, 128));
        assert_eq!(about(1), ("Virtual GPU (H100)".into(), 80, 132));
        assert_eq!(about(2), ("Virtual GPU (AGX Orin)".into(), 32, 16));
        assert_eq!(about(3), about(1));
        assert_eq!(code(result::device::get(4)), 101);
        assert_eq!(code(result::device::get(-1)), 101);
    });
}

#[test]
fn two_boards_of_one_name_are_told_apart() {
    with_boards("two_boards_of_one_name_are_told_apart", || {
        assert!(load_library());
        result::init().expect("the driver starts");
        let identity = |ordinal: i32| {
            let mut name = [0 as c_char; 16];
            let mut bus = 0;
            let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID;
            // SAFETY: a buffer with its size, and a place for the number.
            unsafe {
                assert_eq!(raw(sys::cuDeviceGetPCIBusId(name.as_mut_ptr(), 16, ordinal)), 0);
                assert_eq!(raw(sys::cuDeviceGetAttribute(&mut bus, attribute, ordinal)), 0);
            }
            let uuid = result::device::get_uuid(ordinal).expect("an id").bytes;
            let name: String = name.iter().take_while(|&&c| c != 0).map(|&c| c as u8 as char).collect();
            assert_eq!(name, format!("0000:{bus:02x}:00.0"));
            (uuid, name)
        };
        let (first, second) = (identity(1), identity(3));
        assert!(first.0 != second.0 && first.1 != second.1, "{first:?} {second:?}");
    });
}

/// A context on a board, with floats to read (all 1) and to write.
struct Board {
    gpu: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    x: CudaSlice<f32>,
    y: CudaSlice<f32>,
}

impl Board {
    fn new(ordinal: usize, n: usize) -> Board {
        let gpu = on(ordinal);
        let stream = gpu.default_stream();
        let x = stream.clone_htod(&vec![1f32; n]).expect("a copy");
        let y = stream.alloc_zeros::<f32>(n).expect("memory");
        Board { gpu, stream, x, y }
    }

    fn scale(&mut self, a: f32) -> f32 {
        let n = self.x.len() as u32;
        let kernel = function(&self.gpu, SCALE, "scale");
        scale(&self.stream, &kernel, &mut self.y, &self.x, a, n).expect("a launch");
        self.stream.clone_dtoh(&self.y).expect("a copy")[0]
    }

    fn multiprocessors(&self) -> u32 {
        let kernel = function(&self.gpu, MULTIPROCESSORS, "multiprocessors");
        let out = self.stream.alloc_zeros::<u32>(1).expect("memory");
        let mut launch = self.stream.launch_builder(&kernel);
        launch.arg(&out);
        // SAFETY: the kernel takes one pointer to one word.
        unsafe { launch.launch(config(1, 1)) }.expect("a launch");
        self.stream.clone_dtoh(&out).expect("a copy")[0]
    }

    /// Bytes that its context's last launch loaded.
    fn loaded(&self) -> u64 {
        self.gpu.bind_to_thread().expect("bound");
        let counts: serde_json::Value = serde_json::from_str(&text_of(b"vgpu_last_counts")).expect("counts are JSON");
        counts["counts"]["global_load_bytes"].as_u64().expect("a number")
    }
}

#[test]
fn contexts_on_two_boards_take_turns() {
    with_boards("contexts_on_two_boards_take_turns", || {
        let (mut small, mut large) = (Board::new(2, 100), Board::new(1, 1000));
        for turn in 1..4 {
            assert_eq!((small.scale(turn as f32), large.scale(10.0)), (turn as f32, 10.0));
            // The counts are those of the context that is asked, whoever launched last.
            assert_eq!((small.loaded(), large.loaded()), (400, 4000));
        }
        assert_eq!((small.multiprocessors(), large.multiprocessors()), (16, 132));
        assert_eq!((small.loaded(), large.loaded()), (0, 0));
        let ordinal = |board: &Board| {
            board.gpu.bind_to_thread().expect("bound");
            let mut device = -1;
            // SAFETY: a pointer to this frame's variable.
            assert_eq!(raw(unsafe { sys::cuCtxGetDevice(&mut device) }), 0);
            device
        };
        assert_eq!((ordinal(&small), ordinal(&large)), (2, 1));
    });
}

#[test]
fn each_context_has_its_devices_limits() {
    with_boards("each_context_has_its_devices_limits", || {
        let (ada, orin) = (on(0), on(2));
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let blocks = |gpu: &Arc<CudaContext>| {
            let kernel = function(gpu, SHARED, "shared_user");
            let most = code(kernel.set_attribute(attribute, 99 << 10));
            let blocks = kernel.occupancy_max_active_blocks_per_multiprocessor(64, 0, None).expect("a number");
            (most, blocks)
        };
        assert_eq!((blocks(&ada), blocks(&orin)), ((1, 24), (0, 16)));
        // The age of the driver: JetPack 6 does not know this PTX.
        let newer = SCALE.replace(".version 7.4", ".version 8.6");
        let load = |gpu: &Arc<CudaContext>| code(gpu.load_module(Ptx::from_src(newer.clone())));
        assert_eq!((load(&ada), load(&orin)), (0, 222));
        let version = |gpu: &Arc<CudaContext>| {
            gpu.bind_to_thread().expect("bound");
            let mut version = 0;
            // SAFETY: a pointer to this frame's variable.
            assert_eq!(raw(unsafe { sys::cuDriverGetVersion(&mut version) }), 0);
            version
        };
        assert_eq!((version(&ada), version(&orin)), (13000, 12060));
        // Memory of one is not taken from the other.
        let room = |gpu: &Arc<CudaContext>| gpu.mem_get_info().expect("numbers");
        let before = room(&orin);
        let held = ada.default_stream().alloc_zeros::<u8>(1 << 20).expect("memory");
        assert_eq!((room(&orin), room(&ada).1), (before, 24 << 30));
        drop(held);
    });
}

/// Odd schedules run the stream that was made last first.
#[test]
fn a_board_of_the_list_has_a_schedule_of_its_own() {
    with_boards("a_board_of_the_list_has_a_schedule_of_its_own", || {
        let last = |ordinal: usize| {
            let gpu = on(ordinal);
            let out = gpu.default_stream().alloc_zeros::<u32>(1).expect("memory");
            let address = out.device_ptr(&gpu.default_stream()).0;
            gpu.synchronize().expect("done");
            let streams = [gpu.new_stream().expect("a stream"), gpu.new_stream().expect("a stream")];
            for (value, stream) in (1..).zip(&streams) {
                // SAFETY: one word is allocated.
                assert_eq!(raw(unsafe { sys::cuMemsetD32Async(address, value, 1, stream.cu_stream()) }), 0);
            }
            gpu.synchronize().expect("done");
            let mut host = [0];
            gpu.default_stream().memcpy_dtoh(&out, &mut host).expect("a copy");
            host[0]
        };
        assert_eq!((last(1), last(3)), (2, 1));
    });
}

#[test]
fn memory_of_another_device_is_a_fault_and_its_copies_are_refused() {
    let output =
        in_child("driver::devices::memory_of_another_device_is_a_fault_and_its_copies_are_refused", BOARDS, || {
            let (a, b) = (Board::new(0, 64), Board::new(1, 64));
            let (of_a, of_b) = (a.x.device_ptr(&a.stream).0, b.y.device_ptr(&b.stream).0);
            a.stream.synchronize().expect("done");
            b.stream.synchronize().expect("done");
            let mut word = [0u8; 4];
            b.gpu.bind_to_thread().expect("bound");
            // SAFETY: the host's side is 4 bytes; the device's side is what is tested.
            unsafe {
                assert_eq!(raw(sys::cuMemcpyDtoH_v2(word.as_mut_ptr().cast(), of_a, 4)), 1);
                assert_eq!(raw(sys::cuMemcpyDtoD_v2(of_b, of_a, 4)), 1);
                assert_eq!(raw(sys::cuMemsetD8_v2(of_a, 0, 4)), 1);
                assert_eq!(raw(sys::cuMemFree_v2(of_a)), 1);
                // Whose it is can be asked from anywhere.
                let mut ordinal = -1;
                let attribute = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL;
                assert_eq!(raw(sys::cuPointerGetAttribute((&raw mut ordinal).cast(), attribute, of_a)), 0);
                assert_eq!(ordinal, 0);
            }
            let kernel = function(&b.gpu, SCALE, "scale");
            let mut launch = b.stream.launch_builder(&kernel);
            launch.arg(&of_b).arg(&of_a).arg(&1f32).arg(&64u32);
            // SAFETY: the arguments are the kernel's; the other device's memory is what is tested.
            unsafe { launch.launch(config(1, 64)) }.expect("queued");
            assert_eq!(code(b.stream.synchronize()), 700);
            let report = text_of(b"vgpu_last_fault");
            assert!(report.contains("that is memory of device 0, the launch is on device 1"), "{report}");
            // The other board lives.
            assert_eq!(a.stream.clone_dtoh(&a.x).expect("a copy"), [1f32; 64]);
        });
    if let Some(output) = output {
        let said = output.stderr;
        assert!(said.contains("memory of device 0 is used on device 1; devices have no peers"), "{said}");
    }
}

#[test]
fn kernels_streams_and_graphs_stay_on_their_device() {
    with_boards("kernels_streams_and_graphs_stay_on_their_device", || {
        let (mut a, b) = (Board::new(0, 4), Board::new(1, 4));
        let foreign = function(&b.gpu, SCALE, "scale");
        let on_a = a.gpu.new_stream().expect("a stream");
        let on_b = b.gpu.new_stream().expect("a stream");
        let mut launch = on_a.launch_builder(&foreign);
        launch.arg(&a.y).arg(&a.x).arg(&1f32).arg(&4u32);
        // SAFETY: the arguments are the kernel's; the foreign kernel is what is tested.
        assert_eq!(code(unsafe { launch.launch(config(1, 4)) }), 400);
        let kernel = function(&a.gpu, SCALE, "scale");
        a.stream.synchronize().expect("done");
        on_a.begin_capture(THREAD_LOCAL).expect("captures");
        scale(&on_a, &kernel, &mut a.y, &a.x, 3.0, 4).expect("captured");
        let graph = on_a.end_capture(sys::CUgraphInstantiate_flags(0)).expect("ends").expect("a graph");
        // SAFETY: the graph and the stream live; that they do not fit is what is tested.
        assert_eq!(raw(unsafe { sys::cuGraphLaunch(graph.cu_graph_exec(), on_b.cu_stream()) }), 1);
        graph.launch().expect("launches");
        assert_eq!(on_a.clone_dtoh(&a.y).expect("a copy"), [3f32; 4]);
        // Of contexts of two devices an event still orders the streams.
        let event = on_a.record_event(None).expect("an event");
        // SAFETY: both live.
        let waits = unsafe { sys::cuStreamWaitEvent(on_b.cu_stream(), event.cu_event(), 0) };
        assert_eq!((raw(waits), code(on_b.synchronize())), (0, 0));
    });
}

#[test]
fn one_device_and_a_list_of_devices_are_not_given_together() {
    let test = "driver::devices::one_device_and_a_list_of_devices_are_not_given_together";
    let both = &[("VGPU_DEVICE", "h100"), ("VGPU_DEVICES", "h100,orin")];
    let output = in_child(test, both, || {
        assert!(load_library());
        assert_eq!(code(result::init()), 1);
    });
    if let Some(output) = output {
        let said = output.stderr;
        assert!(said.contains("VGPU_DEVICE and VGPU_DEVICES are both set"), "{said}");
    }
}

/// vgpu_set_devices
fn set_devices(list: &str) -> u32 {
    let list = CString::new(list).expect("text");
    // SAFETY: the library is loaded; the function takes a string.
    unsafe {
        let library = libloading::Library::new("libcuda.so").expect("loaded already");
        let set: libloading::Symbol<unsafe extern "C" fn(*const c_char) -> u32> =
            library.get(b"vgpu_set_devices").expect("exported");
        set(list.as_ptr())
    }
}

#[test]
fn a_program_may_choose_its_devices_before_it_starts_the_driver() {
    let test = "driver::devices::a_program_may_choose_its_devices_before_it_starts_the_driver";
    in_child(test, &[("VGPU_DEVICE", "a100")], || {
        assert!(load_library());
        assert_eq!(set_devices("orin,v100"), 1);
        assert_eq!(set_devices("orin,blackwell"), 0);
        assert_eq!(code(result::init()), 0);
        assert_eq!(CudaContext::device_count().expect("a count"), 2);
        assert_eq!(result::device::get_name(1).map_err(|DriverError(code)| code), Ok("Virtual GPU (sm_120)".into()));
        assert_eq!(set_devices("orin"), 401);
    });
}

#[test]
fn pools_and_page_locked_memory_stay_on_their_device() {
    with_boards("pools_and_page_locked_memory_stay_on_their_device", || {
        let (a, b) = (on(0), on(1));
        let (mut of_a, mut of_b, mut made) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        let (mut host, mut view, mut address) = (std::ptr::null_mut(), 0, 0);
        // SAFETY: an all-zero description is one; the fields that matter follow.
        let mut properties: sys::CUmemPoolProps = unsafe { std::mem::zeroed() };
        properties.allocType = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
        properties.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
        properties.location.id = 1;
        let none = std::ptr::null_mut();
        // SAFETY: all pointers are to this frame's variables; the handles are made here.
        unsafe {
            assert_eq!(raw(sys::cuDeviceGetDefaultMemPool(&mut of_a, 0)), 0);
            assert_eq!(raw(sys::cuDeviceGetDefaultMemPool(&mut of_b, 1)), 0);
            assert_ne!(of_a, of_b);
            assert_eq!(raw(sys::cuMemPoolCreate(&mut made, &properties)), 0);
            assert_eq!(raw(sys::cuDeviceSetMemPool(0, made)), 1);
            assert_eq!(raw(sys::cuDeviceSetMemPool(1, made)), 0);
            a.bind_to_thread().expect("bound");
            assert_eq!(raw(sys::cuMemAllocFromPoolAsync(&mut address, 4, made, none)), 1);
            assert_eq!(raw(sys::cuMemHostAlloc(&mut host, 4, 2)), 0);
            b.bind_to_thread().expect("bound");
            assert_eq!(raw(sys::cuMemAllocFromPoolAsync(&mut address, 4, made, none)), 0);
            assert_eq!(raw(sys::cuMemHostGetDevicePointer_v2(&mut view, host, 0)), 1);
            assert_eq!(raw(sys::cuMemPoolDestroy(made)), 0);
            let mut now = none.cast();
            assert_eq!(raw(sys::cuDeviceGetMemPool(&mut now, 1)), 0);
            assert_eq!(now, of_b);
        }
    });
}
