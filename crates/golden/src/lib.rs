//! The golden networks of [lseg-fast](https://crates.io/crates/lseg-fast), for its `bench check`: small networks of every kind in
//! the published format, with random weights from a seed, a photo each, and what PyTorch makes of it in float64.
//!
//! ```
//! for (name, files) in lseg_fast_golden::NETWORKS {
//!     let sizes: Vec<String> = files.iter().map(|(file, bytes)| format!("{file}: {} bytes", bytes.len())).collect();
//!     println!("{name}: {}", sizes.join(", "));
//!     assert_eq!(files.len(), 4);
//! }
//! ```

/// A file's name and its bytes.
pub type File = (&'static str, &'static [u8]);

macro_rules! network {
    ($name:literal) => {
        network!($name: "model.ckpt", "photo_0.png", "case.json", "expected_0.safetensors")
    };
    ($name:literal: $($file:literal),*) => {
        ($name, &[$(($file, include_bytes!(concat!("../networks/", $name, "/", $file)))),*])
    };
}

/// Each network's name and files: the checkpoint `model.ckpt`, the photo `photo_0.png`, its labels in `case.json`, and PyTorch's
/// `scores` in `expected_0.safetensors`.
pub static NETWORKS: &[(&str, &[File])] =
    &[network!("vit16"), network!("vit32"), network!("resnet"), network!("vit16_relu")];
