//! Modules: images of every form, and their variables.

use std::ffi::{CString, c_void};

use cudarc::driver::sys;
use cudarc::driver::{CudaSlice, PushKernelArg};
use cudarc::nvrtc::Ptx;

use super::fixtures::*;
use crate::library::kernels_directory;

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
    let (Some(directory), Some(gpu)) = (kernels_directory(), context()) else { return };
    for file in ["standardise.ptx", "standardise.fatbin", "standardise.compressed.fatbin"] {
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
