//! `hw` mode against results captured on real GPUs: every bit of every product.
//!
//! VGPU_TENSOR_CORE_DATA names the directory of the captures: NAME_a.txt … NAME_d.txt of f16 factors, NAME_FORMAT_a.txt … of
//! others (operands as hex bits of float32, addend and result as binary digits), NAME_FORMAT_half.txt of f16 sums. Origin:
//! north-numerical-computing/MATLAB-tensor-core, model_validation. Its float32 results of 8-bit factors on H100 and H200 are
//! those of wgmma, without addend (Validate_TC_models.m says so); its f16 results are those of mma.sync.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use vgpu_cuda::exec::tensor_core::{BF16, E4M3, E5M2, F16, Small, TF32, Terms, dot, dot_by_halves, dot_f16};
use vgpu_cuda::profile::{EightBit, Profile, TensorCore};

fn directory() -> Option<PathBuf> {
    let directory = std::env::var_os("VGPU_TENSOR_CORE_DATA").map(PathBuf::from);
    if directory.is_none() {
        eprintln!("skipped: VGPU_TENSOR_CORE_DATA names no directory of captured tensor-core results");
    }
    directory
}

fn lines(directory: &Path, name: &str, part: &str) -> Vec<String> {
    let path = directory.join(format!("{name}_{part}.txt"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(str::to_string).filter(|line| !line.trim().is_empty()).collect()
}

/// A row of float32 bits in hex, as bits of the format.
fn operands(line: &str, format: Small) -> Vec<u32> {
    let encode = |word: &str| {
        let bits = u32::from_str_radix(word.trim_start_matches("0x"), 16).expect("hex");
        let value = f64::from(f32::from_bits(bits));
        let encoded = format.encode(value);
        assert!(format.value(encoded) == value || value.is_nan(), "{word} is no value of {format:?}");
        encoded
    };
    line.split([' ', ',', '\t']).filter(|word| !word.is_empty()).map(encode).collect()
}

fn binary(line: &str) -> u32 {
    u32::from_str_radix(line.trim(), 2).expect("binary digits")
}

/// A GPU's sum of one product: terms, addend.
type Rule<'r> = &'r dyn Fn(Terms<'_>, f32) -> f32;

/// Results of one file, `part`, all of them right: how many.
fn compare(directory: &Path, name: &str, part: &str, format: Small, terms: usize, rule: Rule<'_>) -> usize {
    let [a, b, c, d] = ["a", "b", "c", part].map(|part| lines(directory, name, part));
    assert!(a.len() == d.len() && b.len() == d.len() && c.len() == d.len(), "{name}: files of unlike length");
    let mut wrong = 0;
    for i in 0..d.len() {
        let (x, y) = (operands(&a[i], format), operands(&b[i], format));
        assert_eq!(x.len(), terms, "{name} line {}", i + 1);
        let got = rule([(format, &x), (format, &y)], f32::from_bits(binary(&c[i])));
        let want = f32::from_bits(binary(&d[i]));
        if got.to_bits() != want.to_bits() && !(got.is_nan() && want.is_nan()) {
            wrong += 1;
            if wrong == 1 {
                eprintln!("{name}_{part} line {}: {got:e}, captured {want:e}", i + 1);
            }
        }
    }
    assert_eq!(wrong, 0, "{name}_{part}: {wrong} of {} differ", d.len());
    d.len()
}

fn single(core: TensorCore) -> impl Fn(Terms<'_>, f32) -> f32 {
    move |terms, c| f32::from_bits(dot(core, terms, c.to_bits()))
}

fn half(core: TensorCore) -> impl Fn(Terms<'_>, f32) -> f32 {
    move |terms, c| half::f16::from_bits(dot_f16(core, terms, half::f16::from_f32(c).to_bits())).to_f32()
}

fn profile(gpu: &str) -> Profile {
    let name = match gpu {
        "H100" | "H200" => "h100",
        "B200" => "blackwell",
        "Ada" | "L40S" => "rtx4090",
        _ => "a100",
    };
    Profile::named(name).expect("known")
}

#[test]
fn captured_products_bit_for_bit() {
    let Some(directory) = directory() else { return };
    let products = ["A100", "A2", "Ada", "L40S", "H100", "H200"].map(|gpu| {
        let core = profile(gpu).tensor_core;
        compare(&directory, gpu, "d", F16, core.group, &single(core))
    });
    assert_eq!(products.iter().sum::<usize>(), 30_000);
}

/// Formats beside f16, and f16 sums.
#[test]
fn captured_products_of_other_formats_bit_for_bit() {
    let Some(directory) = directory() else { return };
    let mut products = 0;
    let mut see = |name: &str, part: &str, format: Small, terms: usize, rule: Rule<'_>| {
        if directory.join(format!("{name}_{part}.txt")).is_file() {
            products += compare(&directory, name, part, format, terms, rule);
        }
    };
    for gpu in ["A100", "A2", "Ada", "L40S", "H100", "H200", "B200"] {
        let profile = profile(gpu);
        let core = profile.tensor_core;
        see(&format!("{gpu}_f16"), "half", F16, core.group, &half(core));
        see(&format!("{gpu}_bf16"), "d", BF16, core.group, &single(core));
        see(&format!("{gpu}_tf32"), "d", TF32, 4, &single(TensorCore { group: core.group / 2, ..core }));
        for (format, small) in [("e4m3", E4M3), ("e5m2", E5M2)] {
            let name = format!("{gpu}_{format}");
            let of_bytes = |core: TensorCore| TensorCore { group: 2 * core.group, ..core };
            let sums = |to_half: bool| -> Box<dyn Fn(Terms<'_>, f32) -> f32> {
                match profile.mma_8_bit {
                    EightBit::Native(core) if to_half => Box::new(half(of_bytes(core))),
                    EightBit::Native(core) => Box::new(single(of_bytes(core))),
                    EightBit::ByHalves => Box::new(move |terms, c| dot_by_halves(core, terms, c, to_half)),
                }
            };
            see(&name, "half", small, 32, &sums(true));
            if gpu.starts_with('H') {
                let wgmma = single(of_bytes(profile.wgmma_8_bit));
                see(&name, "d", small, 32, &move |terms, _| wgmma(terms, 0.0));
            } else {
                see(&name, "d", small, 32, &sums(false));
            }
        }
    }
    if products == 0 {
        eprintln!("skipped: {} has no captures of other formats than f16", directory.display());
        return;
    }
    println!("{products} products of other formats");
}

/// What `micro bits` (benches/gpu/micro/bits.h) wrote on a card: a line of JSON, then arrays.
struct Bits {
    head: serde_json::Value,
    raw: Vec<u8>,
}

impl Bits {
    fn read(path: &Path) -> Bits {
        let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let end = bytes.iter().position(|&byte| byte == b'\n').expect("a first line");
        Bits { head: serde_json::from_slice(&bytes[..end]).expect("JSON"), raw: bytes[end + 1..].to_vec() }
    }

    /// An array's numbers, and how many tiles, rows and columns it has; `None` where the card could not make it.
    fn array(&self, name: &str) -> Option<(Vec<u32>, [usize; 3])> {
        let array = self.head["arrays"].get(name)?;
        let number = |value: &serde_json::Value| value.as_u64().expect("a number") as usize;
        let shape = [0, 1, 2].map(|i| number(&array["shape"][i]));
        let size = match array["dtype"].as_str().expect("a type") {
            "|u1" => 1,
            "<u2" => 2,
            _ => 4,
        };
        let bytes = &self.raw[number(&array["offset"])..][..size * shape.iter().product::<usize>()];
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
        Some((bytes.chunks_exact(size).map(word).collect(), shape))
    }

    /// The name of a tile's kind.
    fn kind(&self, tile: usize) -> &str {
        let kinds = self.head["kinds"].as_array().expect("kinds");
        let first = |kind: &serde_json::Value| kind["first_tile"].as_u64().expect("a number") as usize;
        let found = kinds.iter().rev().find(|kind| first(kind) <= tile).expect("a kind");
        found["name"].as_str().expect("a name")
    }

    /// Differing sums of one way, by kind, and how many there are.
    fn compare(
        &self,
        way: &str,
        name: &str,
        format: Small,
        rule: Rule<'_>,
    ) -> Option<(usize, BTreeMap<String, usize>)> {
        let (d, [tiles, rows, columns]) = self.array(&format!("{way}.d"))?;
        let [(a, shape), (b, _), (c, _)] =
            ["a", "b", "c"].map(|part| self.array(&format!("{name}.{part}")).expect(part));
        let depth = shape[2];
        let mut wrong = BTreeMap::new();
        for (i, &want) in d.iter().enumerate() {
            let (row, column) = (i / columns, i / (rows * columns) * columns + i % columns);
            let terms = [(format, &a[row * depth..][..depth]), (format, &b[column * depth..][..depth])];
            let (got, want) = (rule(terms, f32::from_bits(c[i])), f32::from_bits(want));
            if got.to_bits() != want.to_bits() && !(got.is_nan() && want.is_nan()) {
                let kind = self.kind(i / (rows * columns));
                let count = wrong.entry(kind.to_owned()).or_insert(0);
                if *count == 0 {
                    let c = f32::from_bits(c[i]);
                    eprintln!("{way}, {kind}, number {i}, addend {c:e}: {got:e}, the card {want:e}");
                }
                *count += 1;
            }
        }
        assert_eq!(d.len(), tiles * rows * columns);
        Some((d.len(), wrong))
    }
}

/// VGPU_TENSOR_CORE_BITS names the file that `micro bits` wrote on an H100 or H200.
#[test]
fn bits_of_a_card_agree() {
    let Some(path) = std::env::var_os("VGPU_TENSOR_CORE_BITS") else {
        eprintln!("skipped: VGPU_TENSOR_CORE_BITS names no file of `micro bits`");
        return;
    };
    let (bits, hopper) = (Bits::read(Path::new(&path)), profile("H100"));
    let core = hopper.tensor_core;
    let eight = TensorCore { group: 2 * hopper.wgmma_8_bit.group, ..hopper.wgmma_8_bit };
    let mma = move |terms: Terms<'_>, c: f32| dot_by_halves(core, terms, c, false);
    let ways: [(&str, &str, Small, Rule<'_>); 5] = [
        ("mma_f16", "f16", F16, &single(core)),
        ("wgmma_f16_ss", "f16", F16, &single(core)),
        ("wgmma_f16_rs", "f16", F16, &single(core)),
        ("wgmma_e4m3_ss", "e4m3", E4M3, &single(eight)),
        ("mma_e4m3", "e4m3", E4M3, &mma),
    ];
    let found = ways.map(|(way, name, format, rule)| (way, bits.compare(way, name, format, rule)));
    for (way, result) in &found {
        match result {
            Some((count, wrong)) => println!("{way}: {} of {count} differ {wrong:?}", wrong.values().sum::<usize>()),
            None => println!("{way}: not on this card"),
        }
    }
    assert!(found.iter().any(|(_, result)| result.is_some()), "no results in {}", bits.head);
    assert!(found.iter().flat_map(|(_, result)| result).all(|(_, wrong)| wrong.is_empty()), "the model is wrong");
}
