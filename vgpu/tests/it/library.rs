//! Where the virtual GPU, compiled kernels and nvcc are, and the way into the library.

#![allow(unsafe_code)]

use std::ffi::c_char;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// VGPU_LIB, or the one that cargo built beside this program.
pub fn library() -> PathBuf {
    let own = || {
        let program = std::env::current_exe().expect("this program");
        let built = program.ancestors().nth(2).map(|folder| folder.join("libvgpu_cuda.so"));
        built.expect("it lies in cargo's folder")
    };
    std::env::var_os("VGPU_LIB").map_or_else(own, PathBuf::from)
}

/// Loads it under the driver's name; false, and a message, if it is not built.
pub fn load_library() -> bool {
    static LOADED: OnceLock<bool> = OnceLock::new();
    *LOADED.get_or_init(|| {
        let library = library();
        if !library.is_file() {
            eprintln!("skipped: {} is not built", library.display());
            return false;
        }
        // SAFETY: the library's initialisers are Rust's; it stays loaded to the end of the process.
        let loaded = unsafe { libloading::Library::new(&library) };
        std::mem::forget(loaded.expect("the virtual GPU loads"));
        true
    })
}

/// A function of the library that CUDA does not have: it fills a buffer with text.
pub fn text_of(function: &[u8]) -> String {
    let mut buffer = vec![0u8; 8192];
    // SAFETY: the library is loaded; the function takes a buffer and its size and ends the text with NUL.
    unsafe {
        let library = libloading::Library::new("libcuda.so").expect("loaded already");
        let get: libloading::Symbol<unsafe extern "C" fn(*mut c_char, usize) -> u32> =
            library.get(function).expect("exported");
        assert_eq!(get(buffer.as_mut_ptr().cast(), buffer.len()), 0, "{}", String::from_utf8_lossy(function));
    }
    let end = buffer.iter().position(|&b| b == 0).expect("ends with NUL");
    String::from_utf8_lossy(&buffer[..end]).into_owned()
}

/// The sources of the kernels.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels")
}

/// Where nvcc's PTX of them lies; `None`, and a message, if there is none.
pub fn kernels_directory() -> Option<PathBuf> {
    let found = std::env::var_os("VGPU_KERNELS").map(PathBuf::from).filter(|d| d.is_dir());
    if found.is_none() {
        eprintln!("skipped: VGPU_KERNELS names no folder with nvcc's PTX of tests/kernels");
        return None;
    }
    load_library().then_some(found).flatten()
}

/// The nvcc for kernels that a test compiles itself; `None`, and a message, if there is none.
pub fn nvcc() -> Option<PathBuf> {
    let found = std::env::var_os("VGPU_NVCC").map(PathBuf::from);
    if found.is_none() {
        eprintln!("skipped: VGPU_NVCC names no nvcc");
    }
    found
}
