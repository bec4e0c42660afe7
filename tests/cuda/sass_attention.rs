//! The machine code of kernels/sm90/attention.cu: that softmax and products overlap as the kernel is written, which ptxas decides.

use std::collections::BTreeSet;

use lseg_fast::device::cuda::Kernel;
use regex::Regex;

use crate::sass::{
    ARITHMETIC, Instruction, Line, MOST_BETWEEN, PRODUCT_DEPTH, STAGE, Tools, complaints_of_registers, count,
    instructions, main_loop, text,
};

const MODULE: &str = "sm90/attention";
/// What else a tile needs: turns, maxima, exponentials, sums, halves.
const SOFTMAX: &[&str] =
    &["BAR", "FMNMX", "FFMA", "FADD", "FMUL", "MUFU", "F2FP", "SHFL", "FSETP", "FSEL", "STS", "ULEA", "USHF"];

const SECTION: &str = "
## Attention

Of `kernels/sm90/attention.cu` it holds, for a whole tile of keys:

- the scores' and the weighted values' products are asked for one after the other, with nothing but arithmetic of descriptors between;
- the first wait (`DEPBAR`) is for the scores alone; all exponentials are made before the second, for the values, so that they run
  beside them;
- no other tensor instructions, no global or local memory, no fences.

*Registers* at the launch, of each thread; *HGMMA*: of scores and of values in the loop, and all; *beside*: exponentials between the two waits.

| kernel | registers | shared KiB | HGMMA of scores | of values | all | between | MUFU beside | loop | all |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
";

/// A tile's code, by what stands in it.
struct Tile<'a> {
    all: Vec<&'a Instruction>,
    body: Vec<&'a Instruction>,
    scores: String,
    values: String,
}

impl<'a> Tile<'a> {
    fn of(kernel: &Kernel, lines: &'a [Line]) -> Tile<'a> {
        let shape = |columns: usize| format!("HGMMA.64x{columns}x{PRODUCT_DEPTH}.F32");
        let (scores, values) = (shape(kernel.spec.step), shape(kernel.spec.columns));
        Tile { all: instructions(lines), body: main_loop(lines, &scores), scores, values }
    }

    /// Where instructions of this name stand in the loop.
    fn places(&self, name: &str) -> Vec<usize> {
        self.body.iter().enumerate().filter(|(_, one)| one.is(name)).map(|(i, _)| i).collect()
    }

    /// From the first product to the last.
    fn products(&self) -> &[&'a Instruction] {
        match self.places("HGMMA")[..] {
            [first, .., last] => &self.body[first..=last],
            _ => &[],
        }
    }

    /// The most instructions between two products, and those that may not be there.
    fn between(&self) -> (usize, BTreeSet<&str>) {
        let others = self.products().iter().filter(|one| !one.is("HGMMA") && !ARITHMETIC.contains(&one.kind()));
        let gaps = self.products().split(|one| one.is("HGMMA")).map(<[_]>::len);
        (gaps.max().unwrap_or(0), others.map(|one| one.name.as_str()).collect())
    }

    /// Exponentials between the wait for the scores and that for the values.
    fn beside(&self) -> usize {
        match self.places("WARPGROUP.DEPBAR")[..] {
            [first, second] => count(&self.body[first..second], "MUFU.EX2"),
            _ => 0,
        }
    }
}

/// What is wrong with a kernel's code, in words.
fn complaints(kernel: &Kernel, lines: &[Line]) -> Vec<String> {
    let (tile, spec, mut wrong) = (Tile::of(kernel, lines), kernel.spec, Vec::new());
    let mut hold = |holds: bool, what: String| {
        if !holds {
            wrong.push(format!("{}: {what}", kernel.name));
        }
    };
    let [scores, values] = [&tile.scores, &tile.values].map(|name| count(&tile.body, name));
    let expected = [spec.columns / PRODUCT_DEPTH, spec.step / PRODUCT_DEPTH];
    hold([scores, values] == expected, format!("{scores} and {values} products in the loop in place of {expected:?}"));
    let transposed = tile.body.iter().filter(|one| one.is(&tile.values) && one.operands.contains("tnspB")).count();
    hold(transposed == values, format!("{transposed} of {values} products read values transposed"));
    let (most, others) = tile.between();
    hold(others.is_empty(), format!("between products are {others:?}"));
    hold(most <= MOST_BETWEEN, format!("{most} instructions between two products"));

    let waits: Vec<&str> =
        tile.body.iter().filter(|one| one.is("WARPGROUP.DEPBAR")).map(|one| one.operands.as_str()).collect();
    let is_in_order = matches!(waits[..], [first, second] if first.ends_with("0x1") && second.ends_with("0x0"));
    hold(is_in_order, format!("waits for products: {waits:?}"));
    let ends = tile.body.iter().filter(|one| one.ends_group()).count();
    hold(ends == 2, format!("{ends} groups of products in place of 2"));
    let (exponentials, beside) = (count(&tile.body, "MUFU.EX2"), tile.beside());
    hold(
        beside > 0 && beside == exponentials,
        format!("{beside} of {exponentials} exponentials are made beside the products"),
    );
    let known = |kind: &str| [ARITHMETIC, STAGE, SOFTMAX].concat().contains(&kind);
    let strange: BTreeSet<&str> =
        tile.body.iter().filter(|one| !known(one.kind())).map(|one| one.name.as_str()).collect();
    hold(strange.is_empty(), format!("in the loop are {strange:?}"));
    wrong.extend(complaints_of_registers(kernel, &tile.all));
    wrong
}

fn row(kernel: &Kernel, lines: &[Line]) -> String {
    let tile = Tile::of(kernel, lines);
    let cells = [
        kernel.registers as usize,
        (kernel.spec.shared as usize).div_ceil(1024),
        count(&tile.body, &tile.scores),
        count(&tile.body, &tile.values),
        count(&tile.all, "HGMMA"),
        tile.between().0,
        tile.beside(),
        tile.body.len(),
        tile.all.len(),
    ];
    format!("| `{}` | {} |\n", kernel.name, cells.map(|cell| cell.to_string()).join(" | "))
}

/// Of the document.
pub fn section(tools: &Tools) -> String {
    let (module, ptx) = text(MODULE).expect("it is built with the products'");
    let code = tools.disassembled(&ptx, None);
    SECTION.to_owned() + &module.kernels.iter().map(|kernel| row(kernel, &code[kernel.name])).collect::<String>()
}

#[test]
fn softmax_runs_beside_products() {
    let (Some((module, ptx)), Some(tools)) = (text(MODULE), Tools::find()) else { return };
    let code = tools.disassembled(&ptx, None);
    let wrong: Vec<String> = module.kernels.iter().flat_map(|kernel| complaints(kernel, &code[kernel.name])).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// What would keep it from that is complained of: in each text one thing is changed.
#[test]
fn what_slows_attention_is_complained_of() {
    const BROKEN: [(&str, &str, &str, &str); 5] = [
        ("weights not held before the wait", r"@p st\.shared\.f32 [^;]*;", "", "exponentials are made beside"),
        (
            "values waited for with the scores",
            r"wgmma\.wait_group\.sync\.aligned 1;",
            "wgmma.wait_group.sync.aligned 0;",
            "waits for products",
        ),
        (
            "each product waited for",
            r"(wgmma\.mma_async[^;]*;)",
            "$1\nwgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;",
            "groups of products in place of 2",
        ),
        (
            "global memory in the loop",
            r"(wgmma\.wait_group\.sync\.aligned 1;)",
            "$1\n{.reg .b64 a; .reg .b32 b; mov.u64 a, 64; ld.volatile.global.b32 b, [a];}",
            "LDG",
        ),
        ("no registers moved", r"setmaxnreg\.[^;]*;", "", "registers given away and taken [0, 0] times"),
    ];
    let (Some((module, ptx)), Some(tools)) = (text(MODULE), Tools::find()) else { return };
    let kernel = &module.kernels[0];
    for (what, place, replacement, expected) in BROKEN {
        let broken = Regex::new(place).unwrap().replace_all(&ptx, replacement);
        assert_ne!(broken, ptx, "{what}: nothing was changed");
        let complaints = complaints(kernel, &tools.disassembled(&broken, Some(kernel.name))[kernel.name]);
        assert!(complaints.iter().any(|said| said.contains(expected)), "{what} is not complained of: {complaints:#?}");
    }
}
