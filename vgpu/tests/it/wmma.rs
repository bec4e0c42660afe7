//! `wmma`: every shape, type and layout against the sum of products, all exact.

use crate::lab::{OPTIONS, run_ptx};
use crate::random::Random;

#[derive(Clone, Copy, Debug)]
struct Case {
    shape: [usize; 3],
    /// Of the factors, of the sum.
    types: [&'static str; 2],
    /// Registers of a, b, c.
    registers: [usize; 3],
}

const CASES: [Case; 13] = [
    Case { shape: [16, 16, 16], types: ["f16", "f32"], registers: [8, 8, 8] },
    Case { shape: [32, 8, 16], types: ["f16", "f32"], registers: [8, 8, 8] },
    Case { shape: [8, 32, 16], types: ["f16", "f32"], registers: [8, 8, 8] },
    Case { shape: [16, 16, 16], types: ["f16", "f16"], registers: [8, 8, 4] },
    Case { shape: [32, 8, 16], types: ["f16", "f16"], registers: [8, 8, 4] },
    Case { shape: [8, 32, 16], types: ["f16", "f16"], registers: [8, 8, 4] },
    Case { shape: [16, 16, 16], types: ["bf16", "f32"], registers: [4, 4, 8] },
    Case { shape: [32, 8, 16], types: ["bf16", "f32"], registers: [8, 2, 8] },
    Case { shape: [8, 32, 16], types: ["bf16", "f32"], registers: [2, 8, 8] },
    Case { shape: [16, 16, 8], types: ["tf32", "f32"], registers: [4, 4, 8] },
    Case { shape: [16, 16, 16], types: ["s8", "s32"], registers: [2, 2, 8] },
    Case { shape: [32, 8, 16], types: ["s8", "s32"], registers: [4, 1, 8] },
    Case { shape: [8, 32, 16], types: ["s8", "s32"], registers: [1, 4, 8] },
];

fn encode(ty: &str, value: i32) -> Vec<u8> {
    match ty {
        "f16" => half::f16::from_f32(value as f32).to_le_bytes().to_vec(),
        "bf16" => half::bf16::from_f32(value as f32).to_le_bytes().to_vec(),
        "f32" | "tf32" => (value as f32).to_le_bytes().to_vec(),
        "s8" => (value as i8).to_le_bytes().to_vec(),
        _ => value.to_le_bytes().to_vec(),
    }
}

fn decode(ty: &str, bytes: &[u8]) -> i32 {
    match ty {
        "f16" => half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32() as i32,
        "f32" => f32::from_le_bytes(bytes[..4].try_into().unwrap()) as i32,
        _ => i32::from_le_bytes(bytes[..4].try_into().unwrap()),
    }
}

fn list(prefix: &str, count: usize) -> String {
    format!("{{{}}}", (0..count).map(|i| format!("%{prefix}{i}")).collect::<Vec<_>>().join(","))
}

/// A matrix in memory: elements from one row (column) to the next, by rows or by columns.
struct Place {
    rows: usize,
    columns: usize,
    by_rows: bool,
    stride: usize,
}

impl Place {
    fn new(rows: usize, columns: usize, by_rows: bool, extra: usize) -> Place {
        Place { rows, columns, by_rows, stride: extra + if by_rows { columns } else { rows } }
    }

    fn at(&self, row: usize, column: usize) -> usize {
        if self.by_rows { row * self.stride + column } else { column * self.stride + row }
    }

    fn layout(&self) -> &'static str {
        if self.by_rows { "row" } else { "col" }
    }
}

/// Bytes of each matrix's area.
const AREA: usize = 4096;

/// `space`: of the loads of a and b. The sums are doubled before they are stored, element by element.
fn check(case: Case, layouts: [bool; 3], space: &str, extra: usize) {
    let Case { shape: [m, n, k], types: [factor, sum], registers: [ra, rb, rc] } = case;
    let places =
        [Place::new(m, k, layouts[0], extra), Place::new(k, n, layouts[1], extra), Place::new(m, n, layouts[2], extra)];
    let mut random = Random(7 + m as u64);
    let mut memory = vec![0u8; 3 * AREA];
    let mut values = Vec::new();
    for (i, place) in places.iter().enumerate() {
        let ty = if i == 2 { sum } else { factor };
        let mut matrix = vec![vec![0; place.columns]; place.rows];
        for (row, line) in matrix.iter_mut().enumerate() {
            for (column, value) in line.iter_mut().enumerate() {
                *value = (random.next() % 7) as i32 - 3;
                let bytes = encode(ty, *value);
                memory[i * AREA + place.at(row, column) * bytes.len()..][..bytes.len()].copy_from_slice(&bytes);
            }
        }
        values.push(matrix);
    }
    let name = format!("m{m}n{n}k{k}");
    let [a, b, c] = &places;
    // No stride is said where it is the matrix's own.
    let stride = |place: &Place| if extra == 0 { String::new() } else { format!(", {}", place.stride) };
    let signature = if factor == "f16" { format!("{sum}.{sum}") } else { format!("{sum}.{factor}.{factor}.{sum}") };
    let double: String = (0..rc)
        .map(|i| match sum {
            "f16" => format!("add.f16x2 %d{i}, %d{i}, %d{i};\n"),
            "f32" => format!("mov.b32 %x, %d{i}; add.f32 %x, %x, %x; mov.b32 %d{i}, %x;\n"),
            _ => format!("add.s32 %d{i}, %d{i}, %d{i};\n"),
        })
        .collect();
    let (from, copy) = match space {
        ".shared" => (
            "%sa",
            "mov.u32 %i, %laneid; shl.b32 %i, %i, 4;\nL: cvt.u64.u32 %t, %i; add.u64 %t, %t, %in; ld.global.v4.u32 {%v0,%v1,%v2,%v3}, [%t]; \
             add.u32 %j, %i, %sa; st.shared.v4.u32 [%j], {%v0,%v1,%v2,%v3}; add.u32 %i, %i, 512; setp.lt.u32 %p, %i, 8192; @%p bra L; \
             bar.sync 0;\n",
        ),
        _ => ("%in", ""),
    };
    let text = format!(
        ".version 8.0\n.target sm_90\n.address_size 64\n.entry k(.param .u64 in, .param .u64 out) {{\n.reg .b64 %in, %out, %t;\n\
         .reg .b32 %a<9>, %b<9>, %c<9>, %d<9>, %sa, %i, %j, %v<4>;\n.reg .f32 %x;\n.reg .pred %p;\n.shared .align 32 .b8 sm[8192];\n\
         ld.param.u64 %in, [in];\nld.param.u64 %out, [out];\nmov.u32 %sa, sm;\n{copy}\
         wmma.load.a.sync.aligned.{}.{name}{space}.{factor} {}, [{from}]{};\n\
         wmma.load.b.sync.aligned.{}.{name}{space}.{factor} {}, [{from}+{AREA}]{};\n\
         wmma.load.c.sync.aligned.{}.{name}.global.{sum} {}, [%in+{}]{};\n\
         wmma.mma.sync.aligned.{}.{}.{name}.{signature} {}, {}, {}, {};\n{double}\
         wmma.store.d.sync.aligned.{}.{name}.global.{sum} [%out], {}{};\nret;\n}}\n",
        a.layout(),
        list("a", ra),
        stride(a),
        b.layout(),
        list("b", rb),
        stride(b),
        c.layout(),
        list("c", rc),
        2 * AREA,
        stride(c),
        a.layout(),
        b.layout(),
        list("d", rc),
        list("a", ra),
        list("b", rb),
        list("c", rc),
        c.layout(),
        list("d", rc),
        stride(c),
    );
    let words: Vec<u32> = memory.chunks_exact(4).map(|w| u32::from_le_bytes(w.try_into().unwrap())).collect();
    let out = run_ptx(&text, &words, AREA / 4, &OPTIONS).unwrap_or_else(|fault| panic!("{case:?}: {fault}"));
    let bytes: Vec<u8> = out.into_iter().flat_map(u32::to_le_bytes).collect();
    let size = encode(sum, 0).len();
    for row in 0..m {
        for column in 0..n {
            let product: i32 = (0..k).map(|i| values[0][row][i] * values[1][i][column]).sum();
            let found = decode(sum, &bytes[c.at(row, column) * size..]);
            let expected = 2 * (product + values[2][row][column]);
            assert_eq!(found, expected, "{case:?} {layouts:?} {space}: row {row}, column {column}");
        }
    }
}

#[test]
fn products_of_every_shape_type_and_layout() {
    for case in CASES {
        for bits in 0..8 {
            let layouts = [bits & 1 == 0, bits & 2 == 0, bits & 4 == 0];
            check(case, layouts, ".global", 16);
            check(case, layouts, "", 0);
        }
    }
}

#[test]
fn factors_from_shared_memory() {
    for case in CASES {
        check(case, [true, false, true], ".shared", 16);
        check(case, [false, true, false], ".shared", 0);
    }
}

/// A result may lie in the registers of the addend, and of the factors.
#[test]
fn a_result_over_its_sources() {
    let load = |matrix: &str, base: usize| {
        format!(
            "wmma.load.{matrix}.sync.aligned.row.m16n16k16.global.f16 {{{}}}, [%in], 16;\n",
            (base..base + 8).map(|i| format!("%r{i}")).collect::<Vec<_>>().join(",")
        )
    };
    let names =
        |base: usize| format!("{{{}}}", (base..base + 8).map(|i| format!("%r{i}")).collect::<Vec<_>>().join(","));
    let run = |to: usize| {
        let text = format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.entry k(.param .u64 in, .param .u64 out) {{\n.reg .b64 %in, %out;\n\
             .reg .b32 %r<32>;\nld.param.u64 %in, [in];\nld.param.u64 %out, [out];\n{}{}\
             wmma.load.c.sync.aligned.row.m16n16k16.global.f32 {}, [%in+512], 16;\n\
             wmma.mma.sync.aligned.row.row.m16n16k16.f32.f32 {}, {}, {}, {};\n\
             wmma.store.d.sync.aligned.row.m16n16k16.global.f32 [%out], {}, 16;\nret;\n}}\n",
            load("a", 0),
            load("b", 8),
            names(16),
            names(to),
            names(0),
            names(8),
            names(16),
            names(to),
        );
        let mut random = Random(3);
        let small = |random: &mut Random| half::f16::from_f32((random.next() % 5) as f32).to_bits() as u32;
        let mut words: Vec<u32> = (0..128).map(|_| small(&mut random) | small(&mut random) << 16).collect();
        words.extend((0..256).map(|_| ((random.next() % 9) as f32).to_bits()));
        run_ptx(&text, &words, 256, &OPTIONS).unwrap_or_else(|fault| panic!("{fault}"))
    };
    let apart = run(24);
    assert!(apart.iter().any(|&bits| bits != 0));
    for over in [0, 8, 16] {
        assert_eq!(run(over), apart, "{over}");
    }
}
