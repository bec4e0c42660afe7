//! Puts the 8-bit model into the build: packed from the float16 file where that is (in the project's repository), else as this
//! package brings it (`cargo xtask` wrote it there).

use std::path::{Path, PathBuf};

#[path = "src/packed.rs"]
mod packed;

const FLOAT16: &str = "../../weights/demo/demo.safetensors";
const READY: &str = "demo.int8.safetensors";

fn main() {
    // A package has cargo's copy of its manifest; what lies above it is somebody else's.
    let is_packed_here = !Path::new("Cargo.toml.orig").exists() && Path::new(FLOAT16).exists();
    for input in [if is_packed_here { FLOAT16 } else { READY }, "build.rs", "src/packed.rs"] {
        println!("cargo:rerun-if-changed={input}");
    }
    let read = |path| std::fs::read(path).unwrap_or_else(|e| panic!("{path} cannot be read: {e}"));
    let model = match is_packed_here {
        true => packed::pack(&read(FLOAT16)).unwrap_or_else(|e| panic!("{FLOAT16} cannot be packed: {e}")),
        false => read(READY),
    };
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    std::fs::write(out.join(READY), model).expect("OUT_DIR can be written");
}
