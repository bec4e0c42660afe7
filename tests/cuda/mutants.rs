//! Kernels broken on purpose: each planned mistake, `mutant(n)` in kernels/, is compiled in (-DMUTANT=n) and must be
//! reported by the virtual GPU, differ from float64, or show in its counts. docs/mutants.md says what catches which; a test
//! holds the two together (`LSEG_WRITE_MUTANTS=1` writes it anew).

use std::collections::btree_map::Entry;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use lseg_fast::device::cuda::{Config, Cuda, Family, Forced, MODULES, Record, configs};
use lseg_fast::device::{Device, Upload};
use lseg_fast::ops::{Element, Epilogue, Linear, Op, conv, layer_norm};
use lseg_fast::plan;
use regex::Regex;

use crate::bounds::{Subject, complaint};
use crate::gpu::{open, ordinal, run_case, virtual_device};
use crate::host::small::{Layers, Small, WIDTH, pattern};
use crate::operations::is_refused;
use testing::cases::{Case, awkward};

/// Shared memory that collides: seen in the counts alone.
const CONFLICTS: &str = "bank conflicts";
const NOTHING: &str = "nothing";
/// nvcc takes half a gigabyte each.
const AT_A_TIME: usize = 2;

/// By schedule. A loop that a mutant makes endless ends soon.
pub const BOARDS: [&str; 4] = [
    "rtx4090:sched=0:limit=100000000",
    "rtx4090:sched=1:limit=100000000",
    "h100:sched=0:limit=100000000",
    "h100:sched=1:limit=100000000",
];
/// The kernels for compute capability 9.0 alone.
const HOPPER: &str = "sm90/";
/// How a mistake's description ends that shows there alone, in a kernel for all.
const ON_HOPPER: &str = "(9.0)";

/// A planned mistake and the kernel file through which it is tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mutant {
    /// "gemm.cu", "gemm_mainloop.cuh", "sm90/gemm.cu"
    file: String,
    number: u32,
    module: String,
    description: String,
}

fn kernels() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

fn read(file: &str) -> String {
    let path = kernels().join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The file and every header that it includes.
fn sources(file: &str) -> BTreeMap<String, String> {
    let include = Regex::new(r#"(?m)^#include "([^"]+)""#).unwrap();
    let mut found = BTreeMap::new();
    let mut open = vec![file.to_owned()];
    while let Some(file) = open.pop() {
        if let Entry::Vacant(place) = found.entry(file) {
            let folder = Path::new(place.key()).parent().map(Path::to_path_buf).unwrap_or_default();
            let text = read(place.key());
            let text = place.insert(text);
            open.extend(include.captures_iter(text).map(|c| included(&folder, &c[1])));
        }
    }
    found
}

/// A header as a file of this folder names it, as nvcc finds it: there, or else in kernels/.
fn included(folder: &Path, name: &str) -> String {
    let beside = folder.join(name);
    let path = if kernels().join(&beside).is_file() { beside } else { PathBuf::from(name) };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.to_str().expect("names are text").split('/') {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// "// Mutants: 1 no barrier, 2 no limit of rows." over one or more lines of comment.
fn descriptions(text: &str) -> BTreeMap<u32, String> {
    let lines = text.lines().skip_while(|line| !line.contains("Mutants:"));
    let comment = lines.map_while(|line| line.trim().strip_prefix("//")).map(str::trim).collect::<Vec<_>>().join(" ");
    let Some((_, list)) = comment.split_once("Mutants:") else { return BTreeMap::new() };
    let number = Regex::new(r"(?:^|[,;.] )\s*(\d+):? ").unwrap();
    let starts: Vec<_> = number.captures_iter(list).map(|c| (c.get(0).unwrap(), c[1].parse().unwrap())).collect();
    let ends = starts.iter().skip(1).map(|(next, _)| next.start()).chain([list.len()]);
    let item = |((start, n), end): (&(regex::Match<'_>, u32), usize)| {
        (*n, list[start.end()..end].trim().trim_end_matches(['.', ',', ';']).to_owned())
    };
    starts.iter().zip(ends).map(item).collect()
}

/// Every mutant that is tried through these kernel files; those of a header are tried through the first that includes it, gemm where
/// that does, or the one that its description ends with: "swizzle left out (conv)".
fn mutants(only: &str) -> Vec<Mutant> {
    let used = Regex::new(r"\bmutant\((\d+)\)").unwrap();
    let mut modules: Vec<&str> = MODULES.iter().map(|embedded| embedded.module).collect();
    let base = |module: &str| module.trim_start_matches(HOPPER).to_owned();
    modules.sort_by_key(|module| (module.starts_with(HOPPER), base(module) != "gemm", *module));
    let is_tried_by = |module: &str, description: &str| {
        let named = |other: &&&str| description.ends_with(&format!("({})", base(other)));
        modules.iter().find(named).is_none_or(|named| base(named) == base(module))
    };
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for module in modules.iter().copied() {
        let sources = sources(&format!("{module}.cu"));
        let mut owners: BTreeMap<u32, &str> = BTreeMap::new();
        for (file, text) in sources.iter().filter(|(file, _)| *file != "common.cuh") {
            let described = descriptions(text);
            let numbers: BTreeSet<u32> = used.captures_iter(text).map(|c| c[1].parse().unwrap()).collect();
            assert!(
                numbers.iter().eq(described.keys()),
                "{file} has the mutants {numbers:?} and describes {:?}",
                described.keys()
            );
            for (number, description) in described {
                let other = owners.insert(number, file);
                assert_eq!(other, None, "mutant {number} is in {file} too, which {module}.cu includes");
                if is_tried_by(module, &description) && seen.insert((file.clone(), number)) {
                    all.push(Mutant { file: file.clone(), number, module: module.to_owned(), description });
                }
            }
        }
    }
    all.retain(|mutant| mutant.module.contains(only));
    all.sort();
    all
}

impl Mutant {
    /// Its PTX, compiled when the sources are other than last time.
    fn compile(&self, nvcc: &Path, into: &Path) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        (sources(&format!("{}.cu", self.module)), nvcc).hash(&mut hasher);
        let arch = if self.is_on_hopper() { "compute_90a" } else { "compute_80" };
        let name = self.module.replace('/', "-");
        let ptx = into.join(format!("{name}-{arch}-{}-{:016x}.ptx", self.number, hasher.finish()));
        if !ptx.is_file() {
            let part = ptx.with_extension(format!("{}.part", std::process::id()));
            let mut compile = Command::new(nvcc);
            compile.args(["-ptx", "-std=c++17", "-lineinfo", "-O3"]).arg(format!("-arch={arch}"));
            compile.arg("-I").arg(kernels()).arg(format!("-DMUTANT={}", self.number));
            compile.arg(kernels().join(format!("{}.cu", self.module))).arg("-o").arg(&part);
            let output = compile.output().expect("nvcc starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            fs::rename(&part, &ptx).expect("its place");
        }
        ptx
    }

    fn is_on_hopper(&self) -> bool {
        self.module.starts_with(HOPPER) || self.description.ends_with(ON_HOPPER)
    }

    /// Whether the case is computed by its module.
    fn concerns(&self, case: &Case) -> bool {
        let (operation, module) = (case.op.name(), self.module.trim_start_matches(HOPPER));
        operation == module && !is_refused(&case.op)
    }

    /// How a case is computed by its kernels: as the device chooses, or by each of those for 9.0 alone that are compiled with
    /// mistakes.
    fn ways(&self, case: &Case, ptx: &str) -> Vec<Forced> {
        if !self.module.starts_with(HOPPER) {
            return vec![Forced::default()];
        }
        if let Op::Attention(op) = &case.op {
            let way = |polynomial| Forced { family: Some(Family::Warpgroups), polynomial, ..Forced::default() };
            return [false, true].map(way).into_iter().filter(|way| !way.polynomial || !op.causal).collect();
        }
        if matches!(case.op, Op::GemmNorm(_)) {
            return vec![Forced { family: Some(Family::Warpgroups), ..Forced::default() }];
        }
        let element = match &case.op {
            Op::Gemm(op) => op.x.buf.element,
            _ => Element::Activation,
        };
        let own = MODULES.iter().find(|embedded| embedded.module == self.module).expect("its module").kernels;
        let is_compiled = |config: &Config| {
            let mut kernels = own.iter().filter(|kernel| kernel.tile() == config.tile);
            kernels.any(|kernel| ptx.contains(&format!(".entry {}(", kernel.name)))
        };
        let forced = |config| Forced { config: Some(config), ..Forced::default() };
        configs(element).filter(is_compiled).map(forced).collect()
    }

    /// What catches it, in schedule 0 or else in schedule 1.
    fn tried(&self, ptx: &str, subjects: &mut Subjects) -> String {
        let [usual @ .., in_order, shuffled] = BOARDS.map(ordinal);
        let [in_order, shuffled] = if self.is_on_hopper() { [in_order, shuffled] } else { usual };
        self.caught(ptx, in_order, subjects)
            .or_else(|| Some(format!("{}, in schedule 1", self.caught(ptx, shuffled, subjects)?)))
            .unwrap_or_else(|| NOTHING.to_owned())
    }

    /// What catches it on a device: a check's name, "difference", [`CONFLICTS`]; `None` if nothing does.
    fn caught(&self, ptx: &str, ordinal: usize, subjects: &mut Subjects) -> Option<String> {
        let mut collided = Vec::new();
        let mut broken = Cuda::with_ptx(ordinal, &[(&self.module, ptx)]).expect("a mutant loads");
        broken.record(Record::Counts);
        let mut cases: Vec<_> = awkward().iter().enumerate().filter(|(_, case)| self.concerns(case)).collect();
        cases.sort_by_key(|(_, case)| if self.module.starts_with(HOPPER) { case.op.flop() } else { 0 });
        for (i, case, way) in
            cases.into_iter().flat_map(|(i, case)| self.ways(case, ptx).into_iter().map(move |way| (i, case, way)))
        {
            let subject = subjects.get(i);
            broken.force(way);
            match run_case(&mut broken, case, &subject.prepared) {
                // A kernel that takes what the forced one does not, and has no mistake.
                Err(report) if report.contains("has no kernel") => {}
                Err(report) => return Some(check_of(&report).to_owned()),
                Ok(got) if complaint(subject, &got).is_some() => return Some("difference".to_owned()),
                Ok(_) => collided.push((i, way, conflicts(&mut broken))),
            }
        }
        if let Some(report) = self.module.starts_with(HOPPER).then(|| chained(&self.module, &mut broken)).flatten() {
            return Some(check_of(&report).to_owned());
        }
        let collides = collided.into_iter().any(|(i, way, conflicts)| conflicts > subjects.conflicts(ordinal, i, way));
        collides.then(|| CONFLICTS.to_owned())
    }
}

/// What is reported of launches that may overlap.
fn chained(module: &str, broken: &mut Cuda) -> Option<String> {
    // Where launches are recorded each is waited for, and none overlaps.
    broken.record(Record::Nothing);
    let mut small = match module.trim_start_matches(HOPPER) {
        "attention" => around_attention(broken, 16),
        "gemm_norm" => of_norms(broken, 16),
        "conv" => {
            force_smallest(broken);
            of_convolutions(broken, 2)
        }
        _ => of_products(broken),
    };
    small.run(broken, 0).err().map(|error| error.to_string())
}

/// LayerNorm, a product of its result, attention, and a product of that, all on warpgroups.
pub fn around_attention(cuda: &mut Cuda, rows: usize) -> Small {
    let layers = Layers::new(cuda, 3 * WIDTH);
    cuda.force(Forced { family: Some(Family::Warpgroups), ..Forced::default() });
    let (plan, [x, out]) = plan::record(cuda.activation_bytes(), &[], |d| {
        let x = d.buffer("x", [1, 1, rows, WIDTH], Element::F32);
        d.input(x);
        let [normed, mixed] = ["normed", "mixed"].map(|name| d.buffer(name, x.shape, Element::Activation));
        let [qkv, out] = [("qkv", Element::Activation), ("out", Element::F32)]
            .map(|(name, element)| d.buffer(name, [1, 1, rows, 3 * WIDTH], element));
        d.layer_norm(x, &layers.norm, normed);
        d.gemm(normed.all(), &layers.linear, Epilogue::NONE, qkv.all());
        d.attention(qkv, 1, false, mixed);
        d.gemm(mixed.all(), &layers.linear, Epilogue::NONE, out.all());
        d.output(out);
        [x, out]
    });
    Small { program: cuda.compile(plan).expect("the kernels take it"), x, out }
}

/// LayerNorm, a product of its result onto the stream and its norm, and both once more.
pub fn of_norms(cuda: &mut Cuda, rows: usize) -> Small {
    const WIDTH: usize = 512;
    let [weight, bias] = [1.0, 0.0].map(|value| cuda.vector(&[value; WIDTH]).unwrap());
    let norm = layer_norm::Weights { weight, bias, eps: 1e-5 };
    let weight = cuda.matrix(WIDTH, WIDTH, &pattern(WIDTH * WIDTH, 1)).unwrap();
    let linear = Linear { weight, bias: None };
    cuda.force(Forced { family: Some(Family::Warpgroups), ..Forced::default() });
    let (plan, [x, out]) = plan::record(cuda.activation_bytes(), &[], |d| {
        let shape = [1, 1, rows, WIDTH];
        let [x, stream, out] = ["x", "stream", "out"].map(|name| d.buffer(name, shape, Element::F32));
        let [normed, again, last] = ["normed", "again", "last"].map(|name| d.buffer(name, shape, Element::Activation));
        d.input(x);
        d.layer_norm(x, &norm, normed);
        d.gemm_norm(normed, &linear, x, &norm, (stream, again));
        d.gemm_norm(again, &linear, stream, &norm, (out, last));
        d.output(out);
        [x, out]
    });
    Small { program: cuda.compile(plan).expect("the kernels take it"), x, out }
}

/// The smallest tile of warpgroups, which products and convolutions have.
fn force_smallest(broken: &mut Cuda) {
    let config = configs(Element::Activation).find(|config| config.tile.is_of_warpgroups() && config.tile.rows == 64);
    broken.force(Forced { config, ..Forced::default() });
}

/// LayerNorm, up to three convolutions behind each other, each of which adds the input and the result of the one before, the third of which
/// begins with a ReLU, and a product.
pub fn of_convolutions(cuda: &mut Cuda, convolutions: usize) -> Small {
    let (layers, depth) = (Layers::new(cuda, WIDTH), 9 * WIDTH);
    let weight = cuda.matrix(WIDTH, depth, &pattern(WIDTH * depth, 2)).expect("weights");
    let three = conv::Weights { weight, bias: None, kernel: 3, stride: 1, pad: 1 };
    let (plan, [x, out]) = plan::record(cuda.activation_bytes(), &[], |d| {
        let shape = [1, 19, 9, WIDTH];
        let [x, out] = ["x", "out"].map(|name| d.buffer(name, shape, Element::F32));
        d.input(x);
        let mut newest = d.buffer("normed", shape, Element::Activation);
        d.layer_norm(x, &layers.norm, newest);
        let mut epilogue = Epilogue::NONE;
        for (name, relu) in [("first", false), ("second", false), ("third", true)].into_iter().take(convolutions) {
            let next = d.buffer(name, shape, Element::Activation);
            d.conv(newest, &three, relu, epilogue, next);
            (epilogue, newest) = (Epilogue::add(newest.all()).and_add(next.all()), next);
        }
        d.gemm(newest.all(), &layers.linear, Epilogue::NONE, out.all());
        d.output(out);
        [x, out]
    });
    Small { program: cuda.compile(plan).expect("the kernels take it"), x, out }
}

/// LayerNorm, a product of its result, and another onto that one's.
fn of_products(broken: &mut Cuda) -> Small {
    let (rows, layers) = (16, Layers::new(broken, WIDTH));
    force_smallest(broken);
    let (plan, [x, out]) = plan::record(broken.activation_bytes(), &[], |d| {
        let x = d.buffer("x", [1, 1, rows, WIDTH], Element::F32);
        d.input(x);
        let [normed, first, out] = [("normed", Element::Activation), ("first", Element::F32), ("out", Element::F32)]
            .map(|(name, element)| d.buffer(name, x.shape, element));
        d.layer_norm(x, &layers.norm, normed);
        d.gemm(normed.all(), &layers.linear, Epilogue::NONE, first.all());
        d.gemm(normed.all(), &layers.linear, Epilogue::add(first.all()), out.all());
        d.output(out);
        [x, out]
    });
    Small { program: broken.compile(plan).expect("the kernels take it"), x, out }
}

/// "SharedRace" of "waiting for the GPU: CUDA error 719 (…): unspecified launch failure: SharedRace in …".
fn check_of(report: &str) -> &str {
    let what = report.split_once(" in ").map_or(report, |(what, _)| what);
    what.rsplit(": ").next().unwrap_or(what)
}

fn conflicts(device: &mut Cuda) -> u64 {
    device.take_launches().iter().map(|launch| launch.counts.shared_conflicts).sum()
}

/// Cases with what they must yield and how the right kernels collide in shared memory, computed once.
#[derive(Default)]
struct Subjects {
    subjects: BTreeMap<usize, Subject>,
    /// By device, case and way.
    conflicts: BTreeMap<(usize, usize, String), u64>,
}

impl Subjects {
    fn get(&mut self, case: usize) -> &Subject {
        self.subjects.entry(case).or_insert_with(|| Subject::of(&awkward()[case]))
    }

    fn conflicts(&mut self, ordinal: usize, case: usize, way: Forced) -> u64 {
        let key = (ordinal, case, format!("{way:?}"));
        if let Some(known) = self.conflicts.get(&key) {
            return *known;
        }
        let mut right = open(ordinal).expect("it was there before");
        right.record(Record::Counts);
        right.force(way);
        run_case(&mut right, &awkward()[case], &self.get(case).prepared).expect("the right kernel is right");
        let conflicts = conflicts(&mut right);
        self.conflicts.insert(key, conflicts);
        conflicts
    }
}

/// The PTX of a module of kernels/ with a mistake of every kernel (kernels/common.cuh), or for 0 with none, for 9.0 or for all;
/// `None`, and a message, without nvcc.
pub fn of_every_kernel(number: u32, module: &str, on_hopper: bool) -> Option<String> {
    let description = if on_hopper { ON_HOPPER } else { "" }.to_owned();
    let mutant = Mutant { file: "common.cuh".to_owned(), number, module: module.to_owned(), description };
    Some(fs::read_to_string(mutant.compile(&nvcc()?, &folder())).expect("compiled"))
}

/// Where their PTX is kept.
fn folder() -> PathBuf {
    let into = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    fs::create_dir_all(&into).expect("a directory");
    into
}

/// The nvcc that compiles them; `None`, and a message, if there is none.
pub fn nvcc() -> Option<PathBuf> {
    let found = std::env::var_os("LSEG_NVCC").map(PathBuf::from);
    if found.is_none() {
        eprintln!("skipped: LSEG_NVCC names no nvcc; `cargo xtask test` sets it");
    }
    found
}

fn compile_all(mutants: &[Mutant], nvcc: &Path, into: &Path) {
    let waiting = Mutex::new(mutants.iter());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(mutant) = { waiting.lock().expect("no panic").next() } {
                    mutant.compile(nvcc, into);
                }
            });
        }
    });
}

#[test]
fn every_mutant_is_caught() {
    let Some(nvcc) = nvcc() else { return };
    if virtual_device().is_none() {
        return;
    }
    let into = folder();
    let only = std::env::var("LSEG_CASE").unwrap_or_default();
    let mutants = mutants(&only);
    compile_all(&mutants, &nvcc, &into);
    let mut subjects = Subjects::default();
    let row = |mutant: &Mutant| {
        let ptx = fs::read_to_string(mutant.compile(&nvcc, &into)).expect("compiled");
        let by = mutant.tried(&ptx, &mut subjects);
        format!("| {} | {} | {} | {by} |", mutant.file, mutant.number, mutant.description)
    };
    let rows: Vec<String> = mutants.iter().map(row).collect();
    if only.is_empty() {
        write_document(&rows);
    }
    let document = fs::read_to_string(document_path()).unwrap_or_default();
    let uncaught: Vec<&String> = rows.iter().filter(|row| row.ends_with(&format!("| {NOTHING} |"))).collect();
    assert!(uncaught.is_empty(), "mutants that nothing catches:\n{uncaught:#?}");
    let missing: Vec<&String> = rows.iter().filter(|row| !document.contains(*row)).collect();
    assert!(missing.is_empty(), "docs/mutants.md lacks these rows (LSEG_WRITE_MUTANTS=1 writes it):\n{missing:#?}");
}

fn document_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/mutants.md")
}

fn write_document(rows: &[String]) {
    if std::env::var_os("LSEG_WRITE_MUTANTS").is_none() {
        return;
    }
    let head = "\
# Kernels broken on purpose

Every kernel file plans mistakes (`mutant(n)`, compiled in with `-DMUTANT=n`). Each is run on the table of cases on the virtual GPU
and must be caught: by one of its checks (named as it reports them), by a difference from float64, or by bank conflicts in its
counts. `cargo xtask test mutants` tries them all and holds this table to what it finds.

| file | mutant | mistake | caught by |
|---|---:|---|---|
";
    fs::write(document_path(), format!("{head}{}\n", rows.join("\n"))).expect("the document's place");
}
