//! What the device says of itself, and how the library is found.

use cudarc::driver::sys;
use cudarc::driver::{CudaContext, result};
use cudarc::nvrtc::Ptx;

use super::fixtures::*;

#[test]
fn the_device_is_that_of_the_profile() {
    let output = in_child("driver::device::the_device_is_that_of_the_profile", &[("VGPU_DEVICE", "orin")], || {
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
        let said = output.stderr;
        assert!(said.contains("PTX version 8.6 is newer than the 8.5"), "{said}");
    }
}

#[test]
fn every_profile_emulates_its_generation() {
    for (device, major, minor, shared) in
        [("a100", 8, 0, 163), ("h100", 9, 0, 227), ("rtx4090", 8, 9, 99), ("orin", 8, 7, 163), ("blackwell", 12, 0, 99)]
    {
        in_child("driver::device::every_profile_emulates_its_generation", &[("VGPU_DEVICE", device)], || {
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
    }
}

#[test]
fn the_loader_finds_it_by_path_and_preloaded() {
    let test = "driver::device::the_loader_finds_it_by_path_and_preloaded";
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("libcuda.so");
    std::os::unix::fs::symlink(library(), &file).expect("a link");
    let (directory, file) = (directory.path().to_string_lossy(), file.to_string_lossy());
    for setting in [("LD_LIBRARY_PATH", directory.as_ref()), ("LD_PRELOAD", file.as_ref())] {
        in_child(test, &[setting], || {
            let gpu = CudaContext::new(0).expect("cudarc found the library by itself");
            assert_eq!(gpu.name().expect("a name"), "Virtual GPU (RTX 4090)");
        });
    }
}

#[test]
fn an_unknown_setting_names_the_choices() {
    let output = in_child("driver::device::an_unknown_setting_names_the_choices", &[("VGPU_DEVICE", "v100")], || {
        assert!(load_library());
        assert_eq!(code(result::init()), 1);
        assert_eq!(code(result::device::get_count()), 3);
    });
    if let Some(output) = output {
        let said = output.stderr;
        assert!(said.contains("VGPU_DEVICE=v100") && said.contains("a100, h100, rtx4090, orin, blackwell"), "{said}");
    }
}
