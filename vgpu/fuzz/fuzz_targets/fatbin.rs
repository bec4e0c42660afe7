#![no_main]

libfuzzer_sys::fuzz_target!(|container: &[u8]| {
    for capability in [75, 80, 90, 120] {
        match vgpu_cuda::driver::fat_binary_ptx(container, capability) {
            Ok(text) => drop(vgpu_cuda::ptx::load(&text)),
            Err(said) => assert!(!said.contains('\n') && said.len() < 8192, "{said}"),
        }
    }
});
