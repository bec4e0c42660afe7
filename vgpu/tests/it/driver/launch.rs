//! Launches: results, counts, limits, parameters.

use cudarc::driver::sys;
use cudarc::driver::{DevicePtr, LaunchConfig};

use super::fixtures::*;

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
    let name = "driver::launch::counts_are_appended_as_json";
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
    if output.is_some() {
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
    let output = in_child(
        "driver::launch::a_trace_shows_the_first_warp_instruction_by_instruction",
        &[("VGPU_TRACE", "1")],
        || {
            let gpu = context().expect("built");
            let stream = gpu.default_stream();
            let kernel = function(&gpu, SCALE, "scale");
            let x = stream.clone_htod(&(0..100).map(|i| i as f32).collect::<Vec<f32>>()).expect("a copy");
            let mut y = stream.alloc_zeros::<f32>(100).expect("memory");
            scale(&stream, &kernel, &mut y, &x, 0.5, 100).expect("a launch");
            stream.synchronize().expect("done");
        },
    );
    let Some(output) = output else { return };
    let said = output.stderr;
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
