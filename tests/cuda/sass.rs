//! The machine code of kernels/sm90/gemm.cu, conv.cu and gemm_norm.cu (and in sass_attention.rs of attention.cu): what ptxas makes of the embedded text for 9.0, read by nvdisasm. A stage of the main loop is its
//! products, one after the other, and little else. docs/sass.md has the counts (`LSEG_WRITE_KERNELS=1` writes it anew).

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use lseg_fast::device::cuda::{EmbeddedModule, Kernel, MODULES};
use regex::Regex;

use crate::mutants::nvcc;
use crate::sass_attention;

const MODULES_OF_PRODUCTS: [&str; 3] = ["sm90/gemm", "sm90/conv", "sm90/gemm_norm"];
/// 9.0's text.
const HOPPER: u32 = 90;
/// Depth of a product.
pub const PRODUCT_DEPTH: usize = 16;
const GROUP_THREADS: u32 = 128;
/// Bytes that tiles of shared memory are aligned to, and of a stage's two barriers.
const ALIGNMENT: usize = 1024;
const BARRIERS: usize = 16;

/// What may stand between two products: addresses, descriptors (in registers, brought to the warp's own: R2UR), loop counts and
/// predicates. All of it is issued in a clock or two and waits for nothing.
pub const ARITHMETIC: &[&str] = &[
    "IADD3", "UIADD3", "VIADD", "IMAD", "UIMAD", "LEA", "ULEA", "LOP3", "ULOP3", "SHF", "USHF", "PRMT", "MOV", "UMOV",
    "R2UR", "S2UR", "ISETP", "UISETP", "PLOP3", "UPLOP3", "VOTEU", "SEL", "USEL", "NOP",
];
/// What else a stage needs: its barriers (SYNCS), the loop.
pub const STAGE: &[&str] = &["HGMMA", "WARPGROUP", "SYNCS", "BRA", "BSSY", "BSYNC", "WARPSYNC", "YIELD"];
/// And f32 on its way into registers, or f16 that passes a ReLU.
const FLOAT: &[&str] = &["LDS", "F2FP"];
const RELU: &[&str] = &["LDSM", "HMNMX2"];
/// The most between two products: the narrowest take 32 clocks.
pub const MOST_BETWEEN: usize = 16;

/// The document is of this compiler.
const OF: &str = "release 13.0";
const INTRODUCTION: &str = "\
# The machine code of warpgroups' kernels

Written by a test (`LSEG_WRITE_KERNELS=1 cargo xtask test --test cuda sass::`): what ptxas of nvcc 13.0 makes of `kernels/sm90/gemm.cu`,
`conv.cu` and `gemm_norm.cu` for sm_90a, as nvdisasm reads it. The same test holds that of the main loop:

- a stage (64 of the depth) is four `HGMMA` of the tile's columns, which add to the same registers; by way of registers, f32 and what passes a ReLU, in
  two halves of two;
- nothing waits for the newest products: `WARPGROUP.DEPBAR` once a stage (by way of registers: a half), for the one before;
- between two products is arithmetic of descriptors alone; in the whole loop are no other tensor instructions, no global or local
  memory, no fences (`MEMBAR`, `CCTL`);
- registers are moved to the groups that multiply (`USETMAXREG`) where they are several, and in `wgmma_norm_…`.

*Registers* at the launch, of each thread; *between*: the most instructions between two products of a stage; *loop*: a stage's
instructions; *all*: the kernel's, with its epilogue for each function and type.

| kernel | registers | stages | shared KiB | HGMMA in the loop | DEPBAR in the loop | between | loop | all |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
";

pub struct Tools {
    ptxas: PathBuf,
    nvdisasm: PathBuf,
    /// What ptxas says.
    version: String,
}

impl Tools {
    /// Beside nvcc, nvdisasm else in PATH; `None`, and a message, where one is missing.
    pub fn find() -> Option<Tools> {
        let ptxas = nvcc()?.with_file_name("ptxas");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = [ptxas.with_file_name("nvdisasm")];
        let mut places = places.into_iter().chain(std::env::split_paths(&path).map(|folder| folder.join("nvdisasm")));
        let Some(nvdisasm) = places.find(|place| place.is_file()) else {
            eprintln!("skipped: no nvdisasm beside {} or in PATH", ptxas.display());
            return None;
        };
        let version = run(Command::new(&ptxas).arg("--version"));
        Some(Tools { ptxas, nvdisasm, version })
    }

    /// The instructions and labels of each kernel; of `only` one where it is named.
    pub fn disassembled(&self, ptx: &str, only: Option<&str>) -> BTreeMap<String, Vec<Line>> {
        let mut hasher = DefaultHasher::new();
        (ptx, only, &self.ptxas, &self.version).hash(&mut hasher);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sass");
        fs::create_dir_all(&folder).expect("a directory");
        let cubin = folder.join(format!("{:016x}.cubin", hasher.finish()));
        if !cubin.is_file() {
            let (text, part) =
                (cubin.with_extension("ptx"), cubin.with_extension(format!("{}.part", std::process::id())));
            fs::write(&text, ptx).expect("its place");
            let mut assemble = Command::new(&self.ptxas);
            // As build.rs does.
            assemble.args(["-lineinfo", "-O3", "-arch", "sm_90a"]).arg(&text).arg("-o").arg(&part);
            run(assemble.args(only.iter().flat_map(|kernel| ["--entry", kernel])));
            fs::rename(&part, &cubin).expect("its place");
        }
        parsed(&run(Command::new(&self.nvdisasm).arg("-c").arg(&cubin)))
    }
}

/// What it prints.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[derive(Debug)]
pub enum Line {
    Label(String),
    Instruction(Instruction),
}

#[derive(Clone, Debug)]
pub struct Instruction {
    /// "HGMMA.64x256x16.F32"
    pub name: String,
    pub operands: String,
}

impl Instruction {
    /// "HGMMA"
    pub fn kind(&self) -> &str {
        self.name.split('.').next().unwrap_or_default()
    }

    pub fn is(&self, name: &str) -> bool {
        self.name.starts_with(name)
    }

    /// The last of the products that are waited for together.
    pub fn ends_group(&self) -> bool {
        self.is("HGMMA") && self.operands.contains("gsb0")
    }

    fn target(&self) -> Option<&str> {
        let (_, label) = self.operands.split_once("`(").filter(|_| self.is("BRA"))?;
        label.split(')').next()
    }
}

/// What nvdisasm prints: sections ".text.NAME:" of labels ".L_x_1:" and instructions "/*0a40*/ @!P0 BRA `(.L_x_1) ;".
fn parsed(listing: &str) -> BTreeMap<String, Vec<Line>> {
    let instruction = Regex::new(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)\s*(.*?)\s*;").unwrap();
    let mut kernels: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    let mut kernel = None;
    for line in listing.lines() {
        if let Some(name) = line.strip_prefix(".text.").and_then(|rest| rest.strip_suffix(':')) {
            kernel = Some(kernels.entry(name.to_owned()).or_default());
        } else if line.trim_start().starts_with(".section") {
            kernel = None;
        } else if let Some(kernel) = &mut kernel {
            if let Some(label) = line.strip_suffix(':').filter(|label| label.starts_with(".L_")) {
                kernel.push(Line::Label(label.to_owned()));
            } else if let Some(found) = instruction.captures(line) {
                let (name, operands) = (found[1].to_owned(), found[2].to_owned());
                kernel.push(Line::Instruction(Instruction { name, operands }));
            }
        }
    }
    kernels
}

pub fn instructions(lines: &[Line]) -> Vec<&Instruction> {
    let found = lines.iter().filter_map(|line| match line {
        Line::Instruction(instruction) => Some(instruction),
        Line::Label(_) => None,
    });
    found.collect()
}

/// The shortest way back around such a product.
pub fn main_loop<'a>(lines: &'a [Line], product: &str) -> Vec<&'a Instruction> {
    let mut labels: BTreeMap<&str, usize> = BTreeMap::new();
    let mut found: &[Line] = &[];
    for (end, line) in lines.iter().enumerate() {
        match line {
            Line::Label(label) => drop(labels.insert(label, end)),
            Line::Instruction(branch) => {
                let Some(begin) = branch.target().and_then(|label| labels.get(label)) else { continue };
                let body = &lines[*begin..=end];
                let multiplies = instructions(body).iter().any(|one| one.is(product));
                if multiplies && (found.is_empty() || body.len() < found.len()) {
                    found = body;
                }
            }
        }
    }
    instructions(found)
}

/// How many instructions stand between each two products of a group, and those that may not.
fn between<'a>(body: &[&'a Instruction]) -> (usize, BTreeSet<&'a str>) {
    let (mut most, mut others, mut since) = (0, BTreeSet::new(), None);
    for one in body {
        if one.is("HGMMA") {
            most = most.max(since.unwrap_or(0));
            since = if one.ends_group() { None } else { Some(0) };
        } else if let Some(n) = &mut since {
            *n += 1;
            if !ARITHMETIC.contains(&one.kind()) {
                others.insert(one.name.as_str());
            }
        }
    }
    (most, others)
}

/// Whose sums become a LayerNorm's: twice as many registers as sums.
fn is_norm(kernel: &Kernel) -> bool {
    kernel.name.starts_with("wgmma_norm_")
}

/// What keeps a kernel's registers in place: none in memory, and where several groups multiply some given to them.
pub fn complaints_of_registers(kernel: &Kernel, all: &[&Instruction]) -> Vec<String> {
    let mut wrong = Vec::new();
    let local: Vec<&str> =
        all.iter().map(|one| one.name.as_str()).filter(|n| n.starts_with("LDL") || n.starts_with("STL")).collect();
    if !local.is_empty() {
        wrong.push(format!("{}: local memory: {local:?}", kernel.name));
    }
    let moves = ["USETMAXREG.DEALLOC", "USETMAXREG.TRY_ALLOC"].map(|name| count(all, name));
    let expected = if kernel.threads > 2 * GROUP_THREADS || is_norm(kernel) { [1, 1] } else { [0, 0] };
    if moves != expected {
        wrong.push(format!("{}: registers given away and taken {moves:?} times in place of {expected:?}", kernel.name));
    }
    wrong
}

fn is_float(kernel: &Kernel) -> bool {
    kernel.name.ends_with("_float")
}

/// What takes a stage into registers; nothing of kernels whose products read it where it is.
fn by_registers(kernel: &Kernel) -> &'static [&'static str] {
    match kernel.name {
        name if name.ends_with("_float") => FLOAT,
        name if name.ends_with("_relu") => RELU,
        _ => &[],
    }
}

pub fn count(body: &[&Instruction], name: &str) -> usize {
    body.iter().filter(|one| one.is(name)).count()
}

/// What is wrong with a kernel's code, in words.
fn complaints(kernel: &Kernel, lines: &[Line]) -> Vec<String> {
    let (all, body, mut wrong) = (instructions(lines), main_loop(lines, "HGMMA"), Vec::new());
    let mut hold = |holds: bool, what: String| {
        if !holds {
            wrong.push(format!("{}: {what}", kernel.name));
        }
    };
    let (products, spec) = (count(&body, "HGMMA"), kernel.spec);
    let a_stage = spec.step / PRODUCT_DEPTH;
    hold(
        products > 0 && products.is_multiple_of(a_stage),
        format!("{products} products in the loop, {a_stage} a stage"),
    );
    let outside = count(&all, "HGMMA") - products;
    // A first stage of its own, which begins the sums.
    let is_first_stage = is_norm(kernel) && outside == a_stage;
    hold(outside == 0 || is_first_stage, format!("{outside} products outside the loop"));
    let shape = format!("HGMMA.64x{}x{PRODUCT_DEPTH}.F32", spec.columns);
    hold(count(&body, &shape) == products, format!("not all products are {shape}"));
    let sums = |one: &Instruction| {
        let operands: Vec<&str> = one.operands.split(", ").collect();
        let [sum, .., added] = operands.iter().filter(|o| o.starts_with('R')).collect::<Vec<_>>()[..] else {
            return "none".to_owned();
        };
        format!("{sum} of {added}")
    };
    let of_products: BTreeSet<String> = body.iter().filter(|one| one.is("HGMMA")).map(|one| sums(one)).collect();
    let stays = of_products.first().and_then(|sums| sums.split_once(" of ")).is_some_and(|(sum, added)| sum == added);
    hold(of_products.len() == 1 && stays, format!("sums move: {of_products:?}"));

    let groups = products / if by_registers(kernel).is_empty() { a_stage } else { 2 };
    for name in ["WARPGROUP.ARRIVE", "WARPGROUP.DEPBAR"] {
        let n = count(&body, name);
        hold(n <= groups, format!("{n} {name} for {groups} groups of products"));
    }
    let ends = body.iter().filter(|one| one.ends_group()).count();
    hold(ends == groups, format!("{ends} groups of products in place of {groups}"));
    let waits_for_all = body.iter().any(|one| one.is("WARPGROUP.DEPBAR") && one.operands.ends_with("0x0"));
    hold(!waits_for_all, "the loop waits for its newest products".to_owned());

    let (most, others) = between(&body);
    hold(others.is_empty(), format!("between products are {others:?}"));
    hold(most <= MOST_BETWEEN, format!("{most} instructions between two products"));
    let known = |kind: &str| [ARITHMETIC, STAGE, by_registers(kernel)].concat().contains(&kind);
    let strange: BTreeSet<&str> = body.iter().filter(|one| !known(one.kind())).map(|one| one.name.as_str()).collect();
    hold(strange.is_empty(), format!("in the loop are {strange:?}"));
    wrong.extend(complaints_of_registers(kernel, &all));
    wrong
}

/// The module, and its text; `None`, and a message, in a build without.
pub fn text(module: &str) -> Option<(&'static EmbeddedModule, String)> {
    let Some(module) = MODULES.iter().find(|embedded| embedded.module == module) else {
        eprintln!("skipped: built without CUDA kernels");
        return None;
    };
    let (_, packed) = module.ptx.iter().find(|(level, _)| *level == HOPPER)?;
    let text = String::from_utf8(packed.unpacked()).expect("PTX is text");
    Some((module, text.trim_end_matches('\0').to_owned()))
}

/// A line of the document.
fn row(kernel: &Kernel, lines: &[Line]) -> String {
    let (body, spec) = (main_loop(lines, "HGMMA"), kernel.spec);
    let values = if is_float(kernel) { 4 } else { 2 };
    let stage = spec.step * (values * spec.rows + 2 * spec.columns) + BARRIERS;
    // Each row's mean and squares, of every block.
    let statistics = if is_norm(kernel) { 8 * spec.cluster as usize * spec.rows } else { 0 };
    let room = spec.shared as usize - ALIGNMENT - statistics;
    assert!(room.is_multiple_of(stage), "{}: {room} bytes are no number of stages of {stage}", kernel.name);
    let cells = [
        kernel.registers as usize,
        room / stage,
        (spec.shared as usize).div_ceil(1024),
        count(&body, "HGMMA"),
        count(&body, "WARPGROUP.DEPBAR"),
        between(&body).0,
        body.len(),
        instructions(lines).len(),
    ];
    format!("| `{}` | {} |\n", kernel.name, cells.map(|cell| cell.to_string()).join(" | "))
}

#[test]
fn main_loops_are_products_and_little_else() {
    let Some(tools) = Tools::find() else { return };
    let (mut wrong, mut rows) = (Vec::new(), String::new());
    for module in MODULES_OF_PRODUCTS {
        let Some((module, ptx)) = text(module) else { return };
        let code = tools.disassembled(&ptx, None);
        for kernel in module.kernels {
            let lines = code.get(kernel.name).unwrap_or_else(|| panic!("no code of {}", kernel.name));
            wrong.extend(complaints(kernel, lines));
            rows += &row(kernel, lines);
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    if tools.version.contains(OF) {
        hold(&(INTRODUCTION.to_owned() + &rows + &sass_attention::section(&tools)));
    }
}

/// Compares it with the document.
fn hold(page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sass.md");
    if std::env::var_os("LSEG_WRITE_KERNELS").is_some() {
        fs::write(&path, page).expect("the document's place");
    }
    let document = fs::read_to_string(&path).unwrap_or_default();
    let other: Vec<&str> = page.lines().filter(|line| !document.lines().any(|held| held == *line)).collect();
    assert!(page == document, "docs/sass.md differs (LSEG_WRITE_KERNELS=1 writes it); it lacks:\n{other:#?}");
}

/// What would slow the products is complained of: in each text one thing is changed.
#[test]
fn what_slows_products_is_complained_of() {
    const BROKEN: [(&str, &str, &str, &str, &str); 8] = [
        (
            "each product waited for",
            "wgmma_64x64",
            r"(wgmma\.mma_async[^;]*;)",
            "$1\nwgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;",
            "waits for its newest products",
        ),
        (
            "a sum read between products, which ptxas has wait for each other",
            "wgmma_64x64",
            r"(wgmma\.mma_async\S* \{(%f\d+),[^;]*;)",
            "$1\nadd.f32 $2, $2, $2;",
            "FADD",
        ),
        (
            "global memory in the loop",
            "wgmma_64x64",
            r"(wgmma\.wait_group\.sync\.aligned 1;)",
            "$1\n{.reg .b64 a; .reg .b32 b; mov.u64 a, 64; ld.volatile.global.b32 b, [a];}",
            "LDG",
        ),
        (
            "another tensor instruction",
            "wgmma_64x64",
            r"(wgmma\.wait_group\.sync\.aligned 1;)",
            "$1\n{.reg .b32 a, d, e; .reg .b64 p; mov.b32 a, %tid.x; mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {d, e}, \
             {a, a}, {a}, {a, a}; mov.u64 p, 64; st.volatile.shared.b32 [p], d;}",
            "HMMA",
        ),
        (
            "a stage given back for the whole GPU to see",
            "wgmma_128x64_c2",
            r"arrive\.release\.cta\.shared::cluster",
            "arrive.release.cluster.shared::cluster",
            "MEMBAR",
        ),
        (
            "the L1 cache emptied in each stage",
            "wgmma_64x64",
            r"try_wait\.parity\.acquire\.cta",
            "try_wait.parity.acquire.cluster",
            "CCTL",
        ),
        (
            "no registers moved",
            "wgmma_128x64",
            r"setmaxnreg\.[^;]*;",
            "",
            "registers given away and taken [0, 0] times",
        ),
        (
            "registers of a ReLU waited for with the newest products",
            "wgmma_conv_128x128_p2_relu",
            r"wgmma\.wait_group\.sync\.aligned 1;",
            "wgmma.wait_group.sync.aligned 0;",
            "waits for its newest products",
        ),
    ];
    let [Some(of_gemm), Some(of_conv), _] = MODULES_OF_PRODUCTS.map(text) else { return };
    let Some(tools) = Tools::find() else { return };
    for (what, name, place, replacement, expected) in BROKEN {
        let (module, ptx) = if name.contains("_conv_") { &of_conv } else { &of_gemm };
        let kernel = module.kernels.iter().find(|kernel| kernel.name == name).expect("it is there");
        let broken = Regex::new(place).unwrap().replace_all(ptx, replacement);
        assert_ne!(broken, *ptx, "{what}: nothing was changed");
        let complaints = complaints(kernel, &tools.disassembled(&broken, Some(name))[name]);
        assert!(complaints.iter().any(|said| said.contains(expected)), "{what} is not complained of: {complaints:#?}");
    }
}
