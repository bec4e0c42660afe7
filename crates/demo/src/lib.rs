//! The demo model of [lseg-fast](https://crates.io/crates/lseg-fast): a small LSeg, trained on scenes of clip art and for nothing
//! else. What it is made of and what it can do: `weights/demo` and `weights/train` of the project.
//!
//! ```
//! let file = lseg_fast_demo::float16();
//! let model = safetensors::SafeTensors::deserialize(&file).unwrap();
//! assert_eq!(model.tensor("scratch.head1.weight").unwrap().shape(), [256, 64, 1, 1]);
//! ```

mod packed;

/// The model with 8 bits a weight, as a safetensors file: a matrix `X` is `X` (I8) and `X.scale` (F32, one a row), each value
/// their product; small tensors are as they were.
pub static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/demo.int8.safetensors"));

/// The model as lseg-fast loads it: a safetensors file of float16, with its configuration in the metadata. 15 MB, made anew by
/// each call, in some milliseconds.
pub fn float16() -> Vec<u8> {
    packed::unpack(PACKED).expect("the build packed it")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On every machine: what is published is what was measured (weights/demo/REPORT.md). Another model has another number.
    #[test]
    fn the_bytes_are_those_that_were_measured() {
        let mut sum = flate2::Crc::new();
        sum.update(PACKED);
        assert_eq!((PACKED.len(), sum.sum()), (7_770_608, 2_147_951_386));
    }
}
