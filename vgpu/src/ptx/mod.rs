//! PTX text → [`Program`]: lexed, parsed, decoded; virtual registers compacted into slots by liveness.
//!
//! What is not known: textures and surfaces, 16-bit integers in pairs, calls through
//! registers, recursion, and the functions of the device's runtime but `vprintf` and `__assertfail` (`malloc`). Calls of a module's own functions are put in place.
//!
//! Taken without effect, since nothing that is checked depends on them: caching hints of loads and stores (the list is in
//! `decode/memory.rs`), `.uni`, `.pragma`, `.maxnreg`, `prefetch`, `discard`,
//! `nanosleep`, `pmevent`, `createpolicy` (its policy is zero).

mod ast;
mod asynchronous;
mod constants;
mod decode;
mod layout;
mod lex;
mod liveness;
mod operands;
mod parse;
mod regalloc;
mod scope;
mod source;
mod uniform_guards;
mod virtual_code;

use crate::ir::{Condition, Inst, Kernel, Op, Pred, Program, Slot};
use crate::mem::SHARED_START;
use ast::Function;
use constants::Constants;
use decode::Decoded;
use layout::{Laid, parameters};
use source::Sources;
use virtual_code::{SlotRef, VirtualCode};

/// Why a module does not load. The driver answers 218 (invalid PTX), 222 (newer than the driver) or 200/209.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The text is not PTX as the language defines it.
    #[error("line {line}: {what}")]
    Syntax { line: u32, what: String },
    /// An instruction, modifier or directive that this virtual GPU does not know. Never skipped.
    #[error("line {line}: `{text}` is not known to the virtual GPU: {what}")]
    Unknown { line: u32, text: String, what: String },
    /// `.version` above what the driver takes.
    #[error("PTX version {}.{} is newer than the {}.{} that the driver of this profile knows", found.0, found.1, newest.0, newest.1)]
    Version { found: (u32, u32), newest: (u32, u32) },
    /// `.target` above the device's compute capability.
    #[error("PTX for sm_{target} does not run on a device of compute capability {major}.{minor}")]
    Target { target: u32, major: u32, minor: u32 },
}

/// Parses and decodes a module. Whether the device may run it is for [`check_version`] and [`check_target`].
pub fn load(text: &str) -> Result<Program, LoadError> {
    load_module(text).map_err(|error| with_text(error, text))
}

/// `.version` against the newest that a driver takes.
pub fn check_version(program: &Program, newest: (u32, u32)) -> Result<(), LoadError> {
    if program.version <= newest { Ok(()) } else { Err(LoadError::Version { found: program.version, newest }) }
}

/// `.target` against a device's compute capability.
pub fn check_target(program: &Program, major: u32, minor: u32) -> Result<(), LoadError> {
    let target = program.target;
    if target <= major.saturating_mul(10).saturating_add(minor) {
        Ok(())
    } else {
        Err(LoadError::Target { target, major, minor })
    }
}

/// The most characters of a line that an error repeats.
const MOST_TEXT: usize = 120;

/// Adds the line's own text to an error that has none yet.
fn with_text(error: LoadError, text: &str) -> LoadError {
    match error {
        LoadError::Unknown { line, what, .. } => {
            let found = text.lines().nth((line as usize).saturating_sub(1)).unwrap_or("").trim();
            LoadError::Unknown { line, text: found.chars().take(MOST_TEXT).collect(), what }
        }
        other => other,
    }
}

fn load_module(text: &str) -> Result<Program, LoadError> {
    let module = parse::parse(text)?;
    let Laid { table, variables, global_bytes, const_bytes } = layout::lay_out(&module)?;
    let sources = Sources::new(&module.files, &module.functions);
    let mut constants = Constants::default();
    let mut kernels: Vec<Kernel> = Vec::new();
    for function in module.functions.iter().filter(|function| function.is_entry && function.body.is_some()) {
        let (params, param_bytes) = parameters(function)?;
        let offsets: Vec<usize> = params.iter().map(|param| param.offset).collect();
        let decoded = decode::decode(function, &offsets, &table, &sources, &mut constants)?;
        let kernel = Kernel { params, param_bytes, ..finish(function, decoded, &mut constants)? };
        kernels.push(kernel);
    }
    Ok(Program {
        version: module.version,
        target: module.target,
        exact_target: module.exact_target,
        kernels,
        variables,
        global_bytes,
        const_bytes,
        constants: constants.words,
        relocations: constants.relocations,
        files: module.files.iter().map(|(_, path)| (*path).to_owned()).collect(),
    })
}

/// Gives slots and jumps their final numbers.
fn finish(function: &Function<'_>, decoded: Decoded, constants: &mut Constants) -> Result<Kernel, LoadError> {
    let Decoded { mut virtual_code, shared_bytes, dynamic_align, local_bytes } = decoded;
    resolve_jumps(&mut virtual_code);
    let mut lives = liveness::lives(&virtual_code)?;
    let width = |register: usize| if virtual_code.registers[register].bytes == 8 { 2 } else { 1 };
    let too_many = || LoadError::Unknown {
        line: function.line,
        text: String::new(),
        what: format!("the kernel keeps more than {} values at once", Slot::CONSTANT),
    };
    let most = usize::from(Slot::CONSTANT);
    let registers = regalloc::most_alive(&lives.registers, width, 2 * virtual_code.code.len());
    let asynchronous = asynchronous::registers(&virtual_code);
    asynchronous::keep(&mut lives, &asynchronous, virtual_code.code.len());
    let slots = regalloc::assign(&lives.registers, width, most).ok_or_else(too_many)?;
    let preds = regalloc::assign(&lives.predicates, |_| 1, most).ok_or_else(too_many)?;
    let asynchronous = asynchronous::uses(&virtual_code, &asynchronous, &slots.places);
    // Where dynamic shared memory begins, beside the constants of its addresses.
    let dynamic = SHARED_START + shared_bytes.next_multiple_of(dynamic_align) as u64;
    let uniform_guards = uniform_guards::find(&virtual_code, &constants.words);
    let code = code(virtual_code, &slots.places, &preds.places, dynamic, constants)?;
    Ok(Kernel {
        name: function.name.to_owned(),
        communicates: code.iter().any(|inst| inst.op.communicates()),
        uniform_guards,
        asynchronous,
        code,
        params: Vec::new(),
        param_bytes: 0,
        slots: slots.count,
        preds: preds.count,
        shared_bytes,
        dynamic_align,
        local_bytes,
        max_threads: function.max_threads,
        required_threads: function.required_threads,
        required_cluster: function.required_cluster,
        explicit_cluster: function.explicit_cluster,
        max_cluster: function.max_cluster,
        min_blocks: function.min_blocks,
        registers: registers as u32,
    })
}

fn resolve_jumps(virtual_code: &mut VirtualCode) {
    let mut code = std::mem::take(&mut virtual_code.code);
    for inst in &mut code {
        match &mut inst.op {
            Op::Bra { target } => *target = virtual_code.label(*target),
            Op::Brx { targets, .. } => targets.iter_mut().for_each(|target| *target = virtual_code.label(*target)),
            _ => {}
        }
    }
    virtual_code.code = code;
}

fn code(
    virtual_code: VirtualCode,
    slots: &[u16],
    preds: &[u16],
    dynamic: u64,
    constants: &mut Constants,
) -> Result<Vec<Inst>, LoadError> {
    let VirtualCode { code, slot_refs, pred_refs, .. } = virtual_code;
    let mut finished = Vec::with_capacity(code.len());
    for inst in code {
        let mut op = inst.op;
        let mut found = Vec::with_capacity(inst.slots.end - inst.slots.start);
        for reference in inst.slots.of(&slot_refs) {
            found.push(match *reference {
                SlotRef::Read(id) | SlotRef::Write(id) => Slot(slots[id as usize]),
                SlotRef::Constant(slot) => slot,
                SlotRef::DynamicShared(offset) => {
                    constants.narrow(dynamic.wrapping_add_signed(offset) as u32, inst.line)?
                }
            });
        }
        let own = inst.preds.of(&pred_refs);
        operands::visit(&mut op, &mut |slot| *slot = found[slot.0 as usize], &mut |pred| {
            *pred = Pred(preds[own[pred.0 as usize].id as usize])
        });
        let guard = inst.guard.map(|(id, negate)| Condition { pred: Pred(preds[id as usize]), negate });
        finished.push(Inst { op, guard, line: inst.line, source: inst.source });
    }
    Ok(finished)
}
