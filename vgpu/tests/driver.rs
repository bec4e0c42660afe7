//! The driver as a cudarc program sees it, through the real library, with PTX written by hand.
//!
//! Every test has a context of its own, which it may kill. Those that need another device, or that look at stderr, run
//! themselves again in a child process.

#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_void};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, OnceLock};

use cudarc::driver::sys::{self, CUresult, CUstreamCaptureMode as CaptureMode};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DriverError, LaunchConfig, PushKernelArg, result,
};
use cudarc::nvrtc::Ptx;

/// y[i] = a·x[i] for i < n.
const SCALE: &str = r"
.version 7.4
.target sm_80
.address_size 64

.visible .entry scale(.param .u64 y, .param .u64 x, .param .f32 a, .param .u32 n)
{
    .reg .pred %p<2>;
    .reg .f32 %f<4>;
    .reg .b32 %r<6>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [y];
    ld.param.u64 %rd2, [x];
    ld.param.f32 %f1, [a];
    ld.param.u32 %r2, [n];
    mov.u32 %r3, %ctaid.x;
    mov.u32 %r4, %ntid.x;
    mov.u32 %r5, %tid.x;
    mad.lo.s32 %r1, %r3, %r4, %r5;
    setp.ge.s32 %p1, %r1, %r2;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd3, %rd2;
    mul.wide.s32 %rd4, %r1, 4;
    add.s64 %rd5, %rd3, %rd4;
    ld.global.f32 %f2, [%rd5];
    mul.f32 %f3, %f2, %f1;
    cvta.to.global.u64 %rd6, %rd1;
    add.s64 %rd7, %rd6, %rd4;
    st.global.f32 [%rd7], %f3;
DONE:
    ret;
}
";

/// Variables: out[0] = counter, out[1] = the bits of factor[1].
const VARIABLES: &str = r"
.version 7.4
.target sm_80
.address_size 64

.visible .global .align 4 .u32 counter = 7;
.visible .const .align 4 .f32 factor[2] = {0f40000000, 0f40400000};

.visible .entry look(.param .u64 out)
{
    .reg .b32 %r<3>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [out];
    cvta.to.global.u64 %rd2, %rd1;
    ld.global.u32 %r1, [counter];
    st.global.u32 [%rd2], %r1;
    ld.const.u32 %r2, [factor+4];
    st.global.u32 [%rd2+4], %r2;
    ret;
}
";

/// Dynamic shared memory, 1 KiB of static, and a block of at most 64 threads.
const SHARED: &str = r"
.version 7.4
.target sm_80
.address_size 64

.extern .shared .align 16 .b8 dynamic[];

.visible .entry shared_user()
.maxntid 64, 1, 1
{
    .reg .b32 %r<4>;
    .shared .align 16 .b8 fixed[1024];
    mov.u32 %r1, fixed;
    mov.u32 %r2, %tid.x;
    mad.lo.u32 %r3, %r2, 4, %r1;
    st.shared.u32 [%r3], %r2;
    ret;
}
";

/// Where it should be.
fn library() -> PathBuf {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/vgpu/libcuda.so");
    std::env::var_os("VGPU_LIB").map_or(usual, PathBuf::from)
}

/// Loads the virtual GPU under the driver's name; false, and a message, if it is not built.
fn load_library() -> bool {
    static LOADED: OnceLock<bool> = OnceLock::new();
    *LOADED.get_or_init(|| {
        let library = library();
        if !library.is_file() {
            eprintln!("skipped: {} is not built; `cargo xtask vgpu` does it", library.display());
            return false;
        }
        // SAFETY: the library's initialisers are Rust's; it stays loaded to the end of the process.
        let loaded = unsafe { libloading::Library::new(&library) };
        std::mem::forget(loaded.expect("the virtual GPU loads"));
        true
    })
}

/// A context of the test's own.
fn context() -> Option<Arc<CudaContext>> {
    load_library().then(|| {
        let context = CudaContext::new_non_primary(0, 0).expect("a context");
        // cudarc's own events would be waited for inside captures.
        // SAFETY: each test orders its streams itself.
        unsafe { context.disable_event_tracking() };
        context
    })
}

fn function(context: &Arc<CudaContext>, ptx: &str, name: &str) -> CudaFunction {
    context.load_module(Ptx::from_src(ptx)).expect("the module loads").load_function(name).expect("the kernel is there")
}

fn config(grid: u32, block: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (grid, 1, 1), block_dim: (block, 1, 1), shared_mem_bytes: 0 }
}

/// y = a·x, queued.
fn scale(
    stream: &Arc<CudaStream>,
    function: &CudaFunction,
    y: &mut CudaSlice<f32>,
    x: &CudaSlice<f32>,
    a: f32,
    n: u32,
) -> Result<(), DriverError> {
    let mut launch = stream.launch_builder(function);
    launch.arg(y).arg(x).arg(&a).arg(&n);
    // SAFETY: the arguments are the kernel's; what it does with them is what is tested.
    unsafe { launch.launch(config(n.div_ceil(64), 64)) }.map(drop)
}

fn code<T>(result: Result<T, DriverError>) -> u32 {
    result.err().map_or(0, |DriverError(code)| code as u32)
}

fn raw(result: CUresult) -> u32 {
    result as u32
}

/// Runs `body` in a child process with an environment; the parent gets its output.
fn in_child(test: &str, environment: &[(&str, &str)], body: impl FnOnce()) -> Option<Output> {
    if std::env::var("VGPU_TEST_CHILD").as_deref() == Ok(test) {
        body();
        return None;
    }
    if !load_library() {
        return None;
    }
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child.args(["--exact", test, "--nocapture", "--test-threads=1"]).env("VGPU_TEST_CHILD", test);
    child.env_remove("LD_LIBRARY_PATH").env_remove("VGPU_DEVICE");
    Some(child.envs(environment.iter().copied()).output().expect("the child starts"))
}

fn stderr(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "the child failed: {text}{}", String::from_utf8_lossy(&output.stdout));
    text
}

/// A function of the library that CUDA does not have: it fills a buffer with text.
fn text_of(function: &[u8]) -> String {
    let mut buffer = vec![0u8; 4096];
    // SAFETY: the library is loaded; the function takes a buffer and its size and ends the text with NUL.
    unsafe {
        let library = libloading::Library::new("libcuda.so").expect("loaded already");
        let get: libloading::Symbol<unsafe extern "C" fn(*mut c_char, usize) -> u32> =
            library.get(function).expect("exported");
        assert_eq!(get(buffer.as_mut_ptr().cast(), buffer.len()), 0);
    }
    let end = buffer.iter().position(|&b| b == 0).expect("ends with NUL");
    String::from_utf8_lossy(&buffer[..end]).into_owned()
}

#[test]
fn the_device_is_that_of_the_profile() {
    let output = in_child("the_device_is_that_of_the_profile", &[("VGPU_DEVICE", "orin")], || {
        let gpu = context().expect("built");
        assert_eq!(gpu.name().expect("a name"), "Virtual GPU (AGX Orin)");
        assert_eq!(gpu.compute_capability().expect("a capability"), (8, 7));
        assert_eq!(gpu.total_mem().expect("a size"), 32 << 30);
        let attribute = |a| gpu.attribute(a).expect("an attribute");
        use sys::CUdevice_attribute::*;
        assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT), 16);
        assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_INTEGRATED), 1);
        assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN), 163 << 10);
        assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY), 0);
        assert_eq!(CudaContext::device_count().expect("a count"), 1);
        assert_eq!(code(CudaContext::new(1)), 101);
        // PTX that the driver of JetPack 6 does not know.
        let newer = SCALE.replace(".version 7.4", ".version 8.6");
        assert_eq!(code(gpu.load_module(Ptx::from_src(newer))), 222);
    });
    if let Some(output) = output {
        assert!(stderr(&output).contains("PTX version 8.6 is newer than the 8.5"), "{}", stderr(&output));
    }
}

#[test]
fn every_profile_plays_its_generation() {
    for (device, major, minor, shared) in
        [("a100", 8, 0, 163), ("h100", 9, 0, 227), ("rtx4090", 8, 9, 99), ("orin", 8, 7, 163), ("blackwell", 12, 0, 99)]
    {
        let output = in_child("every_profile_plays_its_generation", &[("VGPU_DEVICE", device)], || {
            if std::env::var("VGPU_DEVICE").as_deref() != Ok(device) {
                return;
            }
            let gpu = context().expect("built");
            assert_eq!(gpu.compute_capability().expect("a capability"), (major, minor));
            let limit = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
            assert_eq!(gpu.attribute(limit).expect("an attribute"), shared << 10);
            // PTX of its own generation loads, of the next one not.
            let load = |target: i32| {
                let text = SCALE.replace("sm_80", &format!("sm_{target}"));
                code(gpu.load_module(Ptx::from_src(text)))
            };
            assert_eq!((load(10 * major + minor), load(10 * major + minor + 1)), (0, 209));
            let stream = gpu.default_stream();
            let kernel = function(&gpu, SCALE, "scale");
            let x = stream.clone_htod(&[1.0f32, 2.0, 3.0]).expect("memory");
            let mut y = stream.alloc_zeros::<f32>(3).expect("memory");
            scale(&stream, &kernel, &mut y, &x, 2.0, 3).expect("a launch");
            assert_eq!(stream.clone_dtoh(&y).expect("a copy"), [2.0, 4.0, 6.0]);
        });
        output.iter().for_each(|output| drop(stderr(output)));
    }
}

#[test]
fn the_loader_finds_it_by_path_and_preloaded() {
    let test = "the_loader_finds_it_by_path_and_preloaded";
    let library = library();
    let directory = library.parent().expect("a directory").to_string_lossy().into_owned();
    let file = library.to_string_lossy().into_owned();
    for setting in [("LD_LIBRARY_PATH", directory.as_str()), ("LD_PRELOAD", file.as_str())] {
        let output = in_child(test, &[setting], || {
            let gpu = CudaContext::new(0).expect("cudarc found the library by itself");
            assert_eq!(gpu.name().expect("a name"), "Virtual GPU (RTX 4090)");
        });
        output.iter().for_each(|output| drop(stderr(output)));
    }
}

#[test]
fn an_unknown_setting_names_the_choices() {
    let output = in_child("an_unknown_setting_names_the_choices", &[("VGPU_DEVICE", "v100")], || {
        assert!(load_library());
        assert_eq!(code(result::init()), 1);
        assert_eq!(code(result::device::get_count()), 3);
    });
    if let Some(output) = output {
        let said = stderr(&output);
        assert!(said.contains("VGPU_DEVICE=v100") && said.contains("a100, h100, rtx4090, orin, blackwell"), "{said}");
    }
}

#[test]
fn a_kernel_of_ptx_text_computes() {
    let Some(gpu) = context() else { return };
    let stream = gpu.default_stream();
    let kernel = function(&gpu, SCALE, "scale");
    let x: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let x_device = stream.clone_htod(&x).expect("a copy");
    let mut y = stream.alloc_zeros::<f32>(1000).expect("memory");
    scale(&stream, &kernel, &mut y, &x_device, 0.5, 1000).expect("a launch");
    let y = stream.clone_dtoh(&y).expect("a copy");
    assert!(y.iter().zip(&x).all(|(y, x)| *y == 0.5 * x), "{y:?}");
    let counts = text_of(b"vgpu_last_counts");
    assert!(counts.contains(r#""kernel":"scale""#) && counts.contains(r#""global_load_bytes":4000"#), "{counts}");
}

#[test]
fn counts_are_appended_as_json() {
    let name = "counts_are_appended_as_json";
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("counts.json");
    let output = in_child(name, &[("VGPU_COUNTS", file.to_str().expect("a name"))], || {
        let gpu = context().expect("built");
        let stream = gpu.default_stream();
        let kernel = function(&gpu, SCALE, "scale");
        let x = stream.alloc_zeros::<f32>(100).expect("memory");
        let mut y = stream.alloc_zeros::<f32>(100).expect("memory");
        for _ in 0..2 {
            scale(&stream, &kernel, &mut y, &x, 2.0, 100).expect("a launch");
        }
        stream.synchronize().expect("done");
    });
    if let Some(output) = output {
        stderr(&output);
        let lines = std::fs::read_to_string(&file).expect("written");
        let launches: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(launches.len(), 2);
        assert_eq!(launches[1]["kernel"], "scale");
        assert_eq!(launches[1]["grid"], serde_json::json!([2, 1, 1]));
        assert_eq!(launches[1]["counts"]["global_store_bytes"], 400);
    }
}

#[test]
fn a_trace_shows_the_first_warp_instruction_by_instruction() {
    let output = in_child("a_trace_shows_the_first_warp_instruction_by_instruction", &[("VGPU_TRACE", "1")], || {
        let gpu = context().expect("built");
        let stream = gpu.default_stream();
        let kernel = function(&gpu, SCALE, "scale");
        let x = stream.clone_htod(&(0..100).map(|i| i as f32).collect::<Vec<f32>>()).expect("a copy");
        let mut y = stream.alloc_zeros::<f32>(100).expect("memory");
        scale(&stream, &kernel, &mut y, &x, 0.5, 100).expect("a launch");
        stream.synchronize().expect("done");
    });
    let Some(output) = output else { return };
    let said = stderr(&output);
    let lines = || SCALE.lines().zip(1..).map(|(text, number)| (text.trim(), format!(" line {number:5} ffffffff ")));
    let is_executed = |text: &str| text.ends_with(';') && !text.starts_with(['.', '@']);
    for (text, place) in lines().filter(|(text, _)| is_executed(text)) {
        assert_eq!(said.lines().filter(|line| line.contains(&place)).count(), 1, "{text} in {said}");
    }
    let (_, product) = lines().find(|(text, _)| text.starts_with("mul.f32")).expect("it multiplies");
    let shown = said.lines().find(|line| line.contains(&product)).unwrap_or_default();
    // 0, ½, 1, 1½
    assert!(shown.ends_with(": 00000000 3f000000 3f800000 3fc00000"), "{shown}");
}

/// cuModuleLoadDataEx with an error log.
fn load_with_log(image: &[u8]) -> (u32, String) {
    let mut log = [0u8; 512];
    let mut module = std::ptr::null_mut();
    let mut options =
        [sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values = [log.as_mut_ptr().cast::<c_void>(), log.len() as *mut c_void];
    // SAFETY: the options and their values are two each; the log is as long as told.
    let result = unsafe {
        sys::cuModuleLoadDataEx(&mut module, image.as_ptr().cast(), 2, options.as_mut_ptr(), values.as_mut_ptr())
    };
    let written = values[1] as usize as u32 as usize;
    (raw(result), String::from_utf8_lossy(&log[..written]).into_owned())
}

#[test]
fn images_that_do_not_load_say_why() {
    let Some(gpu) = context() else { return };
    let load = |text: &str| code(gpu.load_module(Ptx::from_src(text)));
    assert_eq!(load(&SCALE.replace("ld.param.f32 %f1", "ld.param.f32 %%")), 218);
    assert_eq!(load(&SCALE.replace("mul.f32", "frobnicate.f32")), 218);
    assert_eq!(load(&SCALE.replace(".version 7.4", ".version 9.7")), 222);
    assert_eq!(load(&SCALE.replace("sm_80", "sm_100")), 209);
    let (result, log) =
        load_with_log(CString::new(SCALE.replace("mul.f32", "frobnicate.f32")).expect("text").as_bytes_with_nul());
    let line = 1 + SCALE.lines().position(|l| l.contains("mul.f32")).expect("a line");
    assert_eq!(result, 218);
    assert!(log.contains(&format!("line {line}")) && log.contains("frobnicate"), "{log}");
    let (result, log) = load_with_log(b"\x7fELF\x02\x01\x01\0");
    assert_eq!(result, 209);
    assert!(log.contains("cubin"), "{log}");
    let (result, log) = load_with_log(CString::new(SCALE).expect("text").as_bytes_with_nul());
    assert_eq!((result, log.as_str()), (0, ""));
    assert_eq!(code(gpu.load_module(Ptx::from_file("/nowhere/kernel.ptx"))), 301);
    let module = gpu.load_module(Ptx::from_src(SCALE)).expect("loads");
    assert_eq!(code(module.load_function("scal")), 500);
}

/// A fat binary with PTX and something like a cubin, as nvcc lays it out.
fn fatbin(entries: &[(u16, u32, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, architecture, payload) in entries {
        let mut header = [0u8; 64];
        header[0..2].copy_from_slice(&kind.to_le_bytes());
        header[4..8].copy_from_slice(&64u32.to_le_bytes());
        header[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        header[28..32].copy_from_slice(&architecture.to_le_bytes());
        body.extend(header);
        body.extend(*payload);
    }
    let mut container = 0xba55_ed50_u32.to_le_bytes().to_vec();
    container.extend([1, 0, 16, 0]);
    container.extend((body.len() as u64).to_le_bytes());
    container.extend(body);
    container
}

#[test]
fn a_fat_binary_gives_its_ptx() {
    let Some(gpu) = context() else { return };
    let newer = SCALE.replace("sm_80", "sm_100");
    let container = fatbin(&[(2, 89, b"\x7fELF"), (1, 80, SCALE.as_bytes()), (1, 100, newer.as_bytes())]);
    let module = gpu.load_module(Ptx::from_binary(container)).expect("loads");
    let kernel = module.load_function("scale").expect("is there");
    assert_eq!(kernel.ptx_version().expect("an attribute"), 80);
    assert_eq!(code(gpu.load_module(Ptx::from_binary(fatbin(&[(2, 89, b"\x7fELF")])))), 209);
}

#[test]
fn what_nvcc_packs_loads() {
    let (Some(directory), Some(gpu)) = (std::env::var_os("VGPU_KERNELS").map(PathBuf::from), context()) else {
        eprintln!("skipped: VGPU_KERNELS names no compiled kernels; `cargo xtask test` makes them");
        return;
    };
    for file in ["layer_norm.ptx", "layer_norm.fatbin", "layer_norm.compressed.fatbin"] {
        let name = directory.join(file);
        let module = gpu.load_module(Ptx::from_file(name.to_str().expect("a name")));
        module.unwrap_or_else(|e| panic!("{file}: {e}"));
    }
}

#[test]
fn variables_can_be_read_and_written_by_name() {
    let Some(gpu) = context() else { return };
    let stream = gpu.default_stream();
    let module = gpu.load_module(Ptx::from_src(VARIABLES)).expect("loads");
    let kernel = module.load_function("look").expect("is there");
    let mut out = stream.alloc_zeros::<u32>(2).expect("memory");
    let look = |out: &mut CudaSlice<u32>| {
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&mut *out);
        // SAFETY: the kernel takes one pointer to two words.
        unsafe { launch.launch(config(1, 1)) }.expect("a launch");
        stream.clone_dtoh(out).expect("a copy")
    };
    assert_eq!(look(&mut out), [7, 3f32.to_bits()]);
    let mut counter = module.get_global("counter", &stream).expect("is there");
    stream.memcpy_htod(&9u32.to_le_bytes(), &mut counter).expect("a copy");
    let mut factor = module.get_global("factor", &stream).expect("is there");
    assert_eq!(factor.len(), 8);
    stream.memcpy_htod(&5f32.to_le_bytes(), &mut factor.slice_mut(4..)).expect("a copy");
    assert_eq!(look(&mut out), [9, 5f32.to_bits()]);
    assert_eq!(code(module.get_global("nothing", &stream)), 500);
}

#[test]
fn launches_beyond_the_limits_are_refused_at_once() {
    let Some(gpu) = context() else { return };
    let stream = gpu.default_stream();
    let kernel = function(&gpu, SHARED, "shared_user");
    // SAFETY: the kernel takes no arguments.
    let launch = |config| code(unsafe { stream.launch_builder(&kernel).launch(config) });
    assert_eq!(launch(config(1, 64)), 0);
    assert_eq!(launch(config(0, 64)), 1);
    assert_eq!(launch(config(1, 1025)), 1);
    assert_eq!(launch(LaunchConfig { grid_dim: (1, 65536, 1), ..config(1, 64) }), 1);
    assert_eq!(launch(LaunchConfig { block_dim: (1, 1, 65), ..config(1, 1) }), 1);
    assert_eq!(launch(config(1, 65)), 701);

    let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    assert_eq!(kernel.shared_size_bytes().expect("an attribute"), 1024);
    assert_eq!(kernel.get_attribute(attribute).expect("an attribute"), 47 << 10);
    let with = |bytes| launch(LaunchConfig { shared_mem_bytes: bytes, ..config(1, 64) });
    assert_eq!(with(47 << 10), 0);
    assert_eq!(with((47 << 10) + 1), 1);
    assert_eq!(code(kernel.set_attribute(attribute, 98 << 10)), 0);
    assert_eq!(with(98 << 10), 0);
    assert_eq!(code(kernel.set_attribute(attribute, (98 << 10) + 1)), 1);
    // A refused launch is not sticky.
    stream.synchronize().expect("alive");
}

#[test]
fn occupancy_follows_threads_and_shared_memory() {
    let Some(gpu) = context() else { return };
    let kernel = function(&gpu, SHARED, "shared_user");
    let blocks = |shared| kernel.occupancy_max_active_blocks_per_multiprocessor(64, shared, None).expect("a number");
    // RTX 4090: 24 blocks at most; 100 KiB of shared memory, 1 KiB static and 1 KiB reserved for each block.
    assert_eq!(blocks(0), 24);
    assert_eq!(blocks(48 << 10), 2);
    let free = kernel.occupancy_available_dynamic_smem_per_block(2, 64).expect("a number");
    assert_eq!(free, 48 << 10);
}

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
fn freed_memory_is_refused_by_copies_and_caught_in_kernels() {
    let Some(gpu) = context() else { return };
    let stream = gpu.default_stream();
    let kernel = function(&gpu, SCALE, "scale");
    let x = stream.alloc_zeros::<f32>(64).expect("memory");
    let y = stream.alloc_zeros::<f32>(64).expect("memory");
    let address = x.device_ptr(&stream).0;
    let y_address = y.device_ptr(&stream).0;
    drop(x);
    stream.synchronize().expect("freed");
    // SAFETY: the host's side is 4 bytes; the device's side is what is tested.
    unsafe {
        let mut word = [0u8; 4];
        assert_eq!(raw(sys::cuMemcpyDtoH_v2(word.as_mut_ptr().cast(), address, 4)), 1);
        assert_eq!(raw(sys::cuMemcpyDtoH_v2(word.as_mut_ptr().cast(), y_address + 253, 4)), 1);
        assert_eq!(raw(sys::cuMemFree_v2(address)), 1);
        assert_eq!(raw(sys::cuMemFree_v2(0x1234)), 1);
        assert_eq!(raw(sys::cuMemFree_v2(0)), 0);
    }
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&y_address).arg(&address).arg(&1f32).arg(&64u32);
    // SAFETY: the arguments are the kernel's; the freed one is what is tested.
    unsafe { launch.launch(config(1, 64)) }.expect("queued");
    assert_eq!(code(stream.synchronize()), 700);
    assert!(text_of(b"vgpu_last_fault").contains("UseAfterFree"), "{}", text_of(b"vgpu_last_fault"));
}

#[test]
fn resetting_the_primary_context_revives_it() {
    let output = in_child("resetting_the_primary_context_revives_it", &[], || {
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
        let said = stderr(&output);
        for report in ["vgpu: OutOfBounds in scale", "vgpu: UseAfterFree in scale"] {
            assert_eq!(said.matches(report).count(), 1, "one report a fault: {said}");
        }
    }
}

#[test]
fn memory_runs_out_at_the_size_of_the_profile() {
    let Some(gpu) = context() else { return };
    let stream = gpu.default_stream();
    // SAFETY: never touched.
    let most = unsafe { stream.alloc::<u8>(25 << 30) };
    assert_eq!(code(most), 2);
    let (free, total) = gpu.mem_get_info().expect("numbers");
    assert!(total == 24 << 30 && free <= total);
}

#[test]
fn a_download_to_pinned_memory_is_poison_until_waited_for() {
    let Some(gpu) = context() else { return };
    let stream = gpu.new_stream().expect("a stream");
    let device = stream.clone_htod(&[1u32, 2, 3, 4]).expect("a copy");
    // SAFETY: overwritten by the download.
    let mut pinned = unsafe { gpu.alloc_pinned::<u32>(4) }.expect("memory");
    let raw_host = pinned.as_mut_ptr().expect("a pointer");
    let address = device.device_ptr(&stream).0;
    // SAFETY: both sides are 16 bytes and live to the end of the test.
    unsafe {
        assert_eq!(raw(sys::cuMemcpyDtoHAsync_v2(raw_host.cast(), address, 16, stream.cu_stream())), 0);
        assert_eq!(std::slice::from_raw_parts(raw_host, 4), [0xcdcd_cdcd; 4]);
        stream.synchronize().expect("done");
        assert_eq!(std::slice::from_raw_parts(raw_host, 4), [1, 2, 3, 4]);
        // An upload takes what is there when the stream gets to it, not when it was asked for.
        assert_eq!(raw(sys::cuMemcpyHtoDAsync_v2(address, raw_host.cast(), 16, stream.cu_stream())), 0);
        raw_host.write(9);
    }
    assert_eq!(stream.clone_dtoh(&device).expect("a copy"), [9, 2, 3, 4]);
}

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

/// The mode of the tests' captures: global ones would forbid the other tests' threads to allocate.
const THREAD_LOCAL: CaptureMode = CaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;

/// y = 2·x captured once.
struct Captured {
    gpu: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    kernel: CudaFunction,
    x: CudaSlice<f32>,
    y: CudaSlice<f32>,
}

fn ready_to_capture() -> Option<Captured> {
    let gpu = context()?;
    let stream = gpu.new_stream().expect("a stream");
    let kernel = function(&gpu, SCALE, "scale");
    let x = stream.clone_htod(&[1f32, 2.0, 3.0, 4.0]).expect("a copy");
    let y = stream.alloc_zeros::<f32>(4).expect("memory");
    stream.synchronize().expect("done");
    Some(Captured { gpu, stream, kernel, x, y })
}

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
    let output = in_child("a_global_capture_forbids_other_threads_too", &[], || {
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
    output.iter().for_each(|output| drop(stderr(output)));
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
fn parameters_may_come_in_a_buffer() {
    let Some(Captured { stream, kernel, x, y, .. }) = ready_to_capture() else { return };
    let mut buffer = Vec::new();
    buffer.extend(y.device_ptr(&stream).0.to_le_bytes());
    buffer.extend(x.device_ptr(&stream).0.to_le_bytes());
    buffer.extend(4f32.to_le_bytes());
    buffer.extend(4u32.to_le_bytes());
    let launch = |buffer: &[u8]| {
        let mut size = buffer.len();
        // CU_LAUNCH_PARAM_BUFFER_POINTER, CU_LAUNCH_PARAM_BUFFER_SIZE, CU_LAUNCH_PARAM_END.
        let mut extra = [
            std::ptr::without_provenance_mut(1),
            buffer.as_ptr().cast_mut().cast(),
            std::ptr::without_provenance_mut(2),
            (&raw mut size).cast(),
            std::ptr::null_mut(),
        ];
        let f = kernel.cu_function();
        // SAFETY: the list and the buffer live through the call.
        raw(unsafe {
            sys::cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, stream.cu_stream(), std::ptr::null_mut(), extra.as_mut_ptr())
        })
    };
    assert_eq!(launch(&buffer), 0);
    assert_eq!(stream.clone_dtoh(&y).expect("a copy"), [4.0, 8.0, 12.0, 16.0]);
    assert_eq!(launch(&buffer[..20]), 1);
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

#[test]
fn rows_of_a_two_dimensional_copy_keep_their_pitch() {
    let Some(gpu) = context() else { return };
    let stream = gpu.new_stream().expect("a stream");
    let device = stream.alloc_zeros::<u8>(12).expect("memory");
    let source = [1u8, 2, 3, 4, 5, 6];
    let copy = sys::CUDA_MEMCPY2D {
        srcXInBytes: 0,
        srcY: 0,
        srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
        srcHost: source.as_ptr().cast(),
        srcDevice: 0,
        srcArray: std::ptr::null_mut(),
        srcPitch: 3,
        dstXInBytes: 1,
        dstY: 1,
        dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        dstHost: std::ptr::null_mut(),
        dstDevice: device.device_ptr(&stream).0,
        dstArray: std::ptr::null_mut(),
        dstPitch: 4,
        WidthInBytes: 2,
        Height: 2,
    };
    // SAFETY: the source holds two rows of three bytes, the destination three of four.
    assert_eq!(raw(unsafe { sys::cuMemcpy2DAsync_v2(&copy, stream.cu_stream()) }), 0);
    let rows = stream.clone_dtoh(&device).expect("a copy");
    assert_eq!(rows, [0, 0, 0, 0, 0, 1, 2, 0, 0, 4, 5, 0]);
}

#[test]
fn mapped_host_memory_is_what_the_kernel_sees() {
    let Some(Captured { gpu, stream, kernel, .. }) = ready_to_capture() else { return };
    gpu.bind_to_thread().expect("bound");
    let mut host = std::ptr::null_mut();
    let mut view = 0;
    // SAFETY: 32 bytes are allocated, as eight floats: x, then y.
    unsafe {
        assert_eq!(raw(sys::cuMemHostAlloc(&mut host, 32, 2)), 0);
        assert_eq!(raw(sys::cuMemHostGetDevicePointer_v2(&mut view, host, 0)), 0);
        let floats = host.cast::<f32>();
        for i in 0..4 {
            floats.add(i).write(i as f32);
        }
        let mut launch = stream.launch_builder(&kernel);
        let (y, a, n) = (view + 16, 2f32, 4u32);
        launch.arg(&y).arg(&view).arg(&a).arg(&n);
        launch.launch(config(1, 32)).expect("a launch");
        stream.synchronize().expect("done");
        assert_eq!(std::slice::from_raw_parts(floats.add(4), 4), [0.0, 2.0, 4.0, 6.0]);
        assert_eq!(raw(sys::cuMemFreeHost(host)), 0);
        assert_eq!(raw(sys::cuMemFreeHost(host)), 1);
    }
}

#[test]
fn functions_that_are_not_played_say_so_once() {
    let output = in_child("functions_that_are_not_played_say_so_once", &[], || {
        let gpu = context().expect("built");
        gpu.bind_to_thread().expect("bound");
        let mut address = 0;
        for _ in 0..2 {
            // SAFETY: a pointer to this frame's variable.
            assert_eq!(raw(unsafe { sys::cuMemAllocManaged(&mut address, 16, 1) }), 801);
        }
    });
    if let Some(output) = output {
        let said = stderr(&output);
        assert_eq!(said.matches("vgpu: cuMemAllocManaged is not played").count(), 1, "{said}");
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
    let error = DriverError(CUresult::CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    assert_eq!(error.error_name().expect("a name").to_str(), Ok("CUDA_ERROR_STREAM_CAPTURE_ISOLATION"));
    assert!(error.error_string().is_ok());
}
