//! PTX of one architecture alone (sm_90a): where it loads, and where a fat binary's other texts stand in.

use std::process::Command;

use cudarc::driver::{PushKernelArg, sys};
use cudarc::nvrtc::Ptx;

use super::extended::on_h100;
use super::fixtures::*;
use crate::children::in_children;
use crate::library::nvcc;

#[test]
fn ptx_of_one_architecture_alone_loads_there() {
    on_h100("driver::architectures::ptx_of_one_architecture_alone_loads_there", &[&[]], |gpu| {
        for target in ["sm_90a", "sm_90", "sm_80"] {
            gpu.load_module(Ptx::from_src(SCALE.replace("sm_80", target))).unwrap_or_else(|e| panic!("{target}: {e}"));
        }
    });
}

#[test]
fn and_nowhere_else() {
    let test = "driver::architectures::and_nowhere_else";
    let said = in_children(test, &[&[("VGPU_DEVICE", "blackwell")], &[("VGPU_DEVICE", "a100")]], || {
        let gpu = context().expect("built");
        assert_eq!(code(gpu.load_module(Ptx::from_src(SCALE.replace("sm_80", "sm_90a")))), 209);
    });
    if let [newer, older] = said.as_slice() {
        let alone = "its target is sm_90a: of that architecture alone, and the device's compute capability is 12.0";
        assert!(newer.stderr.contains(alone), "{}", newer.stderr);
        assert!(older.stderr.contains("sm_90 does not run on a device of compute capability 8.0"), "{}", older.stderr);
    }
}

/// Which of its images a fat binary of nvcc's runs: out = 100 times the architecture, and 1 for one that is for nothing else.
const WHICH: &str = r#"
extern "C" __global__ void which(unsigned *out) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    *out = __CUDA_ARCH__ + 1;
#else
    *out = __CUDA_ARCH__;
#endif
}
"#;

#[test]
fn a_fat_binary_of_nvcc_gives_each_device_its_own() {
    let Some(nvcc) = nvcc() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let (source, packed) = (directory.path().join("which.cu"), directory.path().join("which.fatbin"));
    std::fs::write(&source, WHICH).expect("written");
    let hopper = ["-gencode", "arch=compute_90a,code=[sm_90a,compute_90a]"];
    let others = ["-gencode", "arch=compute_90,code=compute_90", "-gencode", "arch=compute_80,code=compute_80"];
    let packed_name = packed.to_str().expect("a name").to_owned();
    // Inside a child nothing is compiled again: it finds the file's name in its environment.
    let given = std::env::var("VGPU_TEST_FATBIN").ok();
    if given.is_none() {
        let compiler =
            Command::new(nvcc).args(["-fatbin", "-o"]).args([&packed, &source]).args(hopper).args(others).output();
        let compiler = compiler.expect("nvcc starts");
        assert!(compiler.status.success(), "{}", String::from_utf8_lossy(&compiler.stderr));
    }
    let settings =
        [("h100", "901"), ("a100", "800"), ("rtx4090", "800"), ("blackwell", "900")].map(|(device, expected)| {
            [("VGPU_DEVICE", device), ("VGPU_TEST_EXPECTED", expected), ("VGPU_TEST_FATBIN", packed_name.as_str())]
        });
    let test = "driver::architectures::a_fat_binary_of_nvcc_gives_each_device_its_own";
    in_children(test, &settings.each_ref().map(|setting| setting.as_slice()), || {
        let gpu = context().expect("built");
        let stream = gpu.default_stream();
        let module = gpu.load_module(Ptx::from_file(given.expect("set for children"))).expect("loads");
        let kernel = module.load_function("which").expect("is there");
        let mut out = stream.alloc_zeros::<u32>(1).expect("memory");
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&mut out);
        // SAFETY: the kernel takes one pointer to a word.
        unsafe { launch.launch(config(1, 1)) }.expect("a launch");
        let found = stream.clone_dtoh(&out).expect("a copy")[0];
        assert_eq!(Ok(found.to_string()), std::env::var("VGPU_TEST_EXPECTED"));
    });
}

#[test]
fn a_device_tells_what_compute_capability_9_0_brought() {
    let test = "driver::architectures::a_device_tells_what_compute_capability_9_0_brought";
    in_children(test, &[&[("VGPU_DEVICE", "h100")], &[("VGPU_DEVICE", "a100")]], || {
        let gpu = context().expect("built");
        let expected = if gpu.compute_capability().expect("a capability") == (9, 0) { [1, 4, 1] } else { [0, 1, 0] };
        // CLUSTER_LAUNCH, MEM_SYNC_DOMAIN_COUNT, TENSOR_MAP_ACCESS_SUPPORTED.
        let attribute = |number: u32| {
            type Get = unsafe extern "C" fn(*mut i32, u32, i32) -> u32;
            let mut value = -7;
            let get: Get = super::extended::driver_function("cuDeviceGetAttribute");
            // SAFETY: a pointer to this frame's variable.
            assert_eq!(unsafe { get(&mut value, number, 0) }, 0);
            value
        };
        assert_eq!([120, 126, 127].map(attribute), expected);
        let cooperative = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH;
        assert_eq!(gpu.attribute(cooperative).expect("an attribute"), 1);
    });
}
