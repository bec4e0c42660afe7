#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    // Loaded, or refused in one line.
    if let Err(error) = vgpu_cuda::ptx::load(text) {
        let said = error.to_string();
        assert!(!said.contains('\n') && said.len() < 8192, "{said}");
    }
});
