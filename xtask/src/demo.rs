//! The demo model's file that its package brings: git has the float16 one alone.

use gpu_run::Outcome;

use super::Places;

/// Where `crates/demo/Cargo.toml` includes it.
const FILE: &str = "crates/demo/demo.int8.safetensors";

/// Puts it there, as this build made it of the float16 file. To be called before `cargo package`.
pub fn write(places: &Places) -> Outcome {
    let path = places.root.join(FILE);
    std::fs::write(&path, lseg_fast_demo::PACKED).map_err(|e| format!("{}: {e}", path.display()))
}
