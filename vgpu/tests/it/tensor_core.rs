//! `hw` mode against results captured on real GPUs: every bit of every product.
//!
//! VGPU_TENSOR_CORE_DATA names the directory of the captures (NAME_a.txt … NAME_d.txt: operands as hex bits of float32,
//! addend and result as binary digits).

use std::fs;
use std::path::Path;

use vgpu_cuda::exec::tensor_core::{F16, dot};
use vgpu_cuda::profile::TensorCore;

const AMPERE: TensorCore = TensorCore { group: 8, extra_bits: 1 };
const HOPPER: TensorCore = TensorCore { group: 16, extra_bits: 2 };

fn lines(directory: &Path, name: &str, part: &str) -> Vec<String> {
    let path = directory.join(format!("{name}_{part}.txt"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(str::to_string).filter(|line| !line.trim().is_empty()).collect()
}

/// A row of float32 bits in hex, as f16 bits.
fn operands(line: &str) -> Vec<u32> {
    let half = |word: &str| {
        let bits = u32::from_str_radix(word.trim_start_matches("0x"), 16).expect("hex");
        let value = f32::from_bits(bits);
        let half = half::f16::from_f32(value);
        assert!(half.to_f32().to_bits() == bits || value.is_nan(), "{word} is no f16 value");
        half.to_bits() as u32
    };
    line.split([' ', ',', '\t']).filter(|word| !word.is_empty()).map(half).collect()
}

#[test]
fn captured_products_bit_for_bit() {
    let Some(directory) = std::env::var_os("VGPU_TENSOR_CORE_DATA") else {
        eprintln!("skipped: VGPU_TENSOR_CORE_DATA names no directory of captured tensor-core results");
        return;
    };
    let mut products = 0;
    for (name, core) in
        [("A100", AMPERE), ("A2", AMPERE), ("Ada", AMPERE), ("L40S", AMPERE), ("H100", HOPPER), ("H200", HOPPER)]
    {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|part| lines(Path::new(&directory), name, part));
        assert!(a.len() == d.len() && b.len() == d.len() && c.len() == d.len(), "{name}: files of unlike length");
        let mut wrong = 0;
        for i in 0..d.len() {
            let (x, y) = (operands(&a[i]), operands(&b[i]));
            assert_eq!(x.len(), core.group, "{name} line {}", i + 1);
            let binary = |line: &str| u32::from_str_radix(line.trim(), 2).expect("binary digits");
            let (got, want) = (dot(core, F16, &x, &y, binary(&c[i])), binary(&d[i]));
            if got != want && !(f32::from_bits(got).is_nan() && f32::from_bits(want).is_nan()) {
                wrong += 1;
                if wrong == 1 {
                    eprintln!("{name} line {}: {got:08x}, captured {want:08x}", i + 1);
                }
            }
        }
        assert_eq!(wrong, 0, "{name}: {wrong} of {} differ", d.len());
        products += d.len();
    }
    assert_eq!(products, 30_000);
}
