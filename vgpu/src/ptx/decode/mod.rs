//! Instructions → operations. One file a family; this one holds what they share: operands, modifiers, emission.

mod arith;
mod bits;
mod bulk;
mod compare;
mod control;
mod convert;
mod lower;
mod mbarrier;
mod memory;
mod mma;
mod operands;
mod packed;
mod special;
mod warp;
mod wgmma;
mod wmma;

use super::LoadError;
use super::ast::{Function, Instruction, Operand, RegType, Statement, Variable};
use super::constants::Constants;
use super::layout::{Layout, ModuleTable};
use super::scope::{Labels, NewRegister, Place, Scopes, Symbol};
use super::source::Sources;
use super::virtual_code::{PredRef, Register, SlotRef, Span, VirtualCode, VirtualInst};
use crate::ir::{Op, Space, Ty};
use crate::mem::{LOCAL_START, SHARED_START};
use operands::is_sink;
use std::collections::HashMap;

/// Instructions of one kernel with every call put in place. More is taken for runaway nesting of calls.
const MOST_INSTRUCTIONS: usize = 1 << 20;
/// Bytes of local memory that any device gives a thread.
const MOST_LOCAL: usize = 512 << 10;
/// Places that the tables of all `brx` of one kernel name together: their number times the tables' length can be the text's
/// length squared.
const MOST_TARGETS: usize = 1 << 18;
/// Calls within calls.
const MOST_CALLS: usize = 64;

/// A kernel's instructions and the memory that its variables take.
pub struct Decoded {
    pub virtual_code: VirtualCode,
    pub shared_bytes: usize,
    pub dynamic_align: usize,
    pub local_bytes: usize,
}

/// Decodes the body of an entry whose parameters lie at `params`.
pub fn decode<'a>(
    function: &'a Function<'a>,
    params: &[usize],
    table: &ModuleTable<'a>,
    sources: &Sources,
    constants: &mut Constants,
) -> Result<Decoded> {
    let mut decoder = Decoder {
        table,
        sources,
        constants,
        virtual_code: VirtualCode::default(),
        shared: Layout::default(),
        local: Layout::default(),
        dynamic_align: None,
        placed: HashMap::new(),
        frames: Vec::new(),
        slots: Vec::new(),
        preds: Vec::new(),
        widen: Vec::new(),
        guard: None,
        line: function.line,
        source: None,
        targets: 0,
    };
    let bound =
        function.params.iter().zip(params).map(|(param, &at)| (param.name, Symbol::Variable(Place::Param(at as u64))));
    decoder.body(function, bound.collect(), None)?;
    decoder.line = function.line;
    decoder.guard = None;
    decoder.emit(Op::Exit)?;
    if decoder.local.bytes > MOST_LOCAL {
        return decoder.syntax(format!("{} bytes of local memory, a thread has {MOST_LOCAL}", decoder.local.bytes));
    }
    Ok(Decoded {
        virtual_code: decoder.virtual_code,
        shared_bytes: decoder.shared.bytes,
        dynamic_align: decoder.dynamic_align.unwrap_or(16),
        local_bytes: decoder.local.bytes,
    })
}

/// The body that is being decoded: the kernel's, or a function's put in the place of a call.
struct Frame<'a> {
    name: &'a str,
    scopes: Scopes<'a>,
    labels: Labels<'a>,
    /// Number of the innermost open scope.
    scope: u32,
    /// Scopes opened and not closed, in order.
    next_scope: u32,
    /// Where `ret` goes; `None`: the kernel ends.
    end: Option<u32>,
}

/// A register to be widened once the instruction has written its temporary.
struct Widen {
    to: Ty,
    from: Ty,
    temporary: u32,
    register: u32,
}

pub(super) struct Decoder<'m, 'a> {
    table: &'m ModuleTable<'a>,
    sources: &'m Sources,
    constants: &'m mut Constants,
    virtual_code: VirtualCode,
    shared: Layout,
    local: Layout,
    dynamic_align: Option<usize>,
    /// The module's `.shared` variables that this kernel names.
    placed: HashMap<&'a str, Place>,
    frames: Vec<Frame<'a>>,
    /// Operands of the instruction being built.
    slots: Vec<SlotRef>,
    preds: Vec<PredRef>,
    widen: Vec<Widen>,
    guard: Option<(u32, bool)>,
    line: u32,
    source: Option<(u32, u32)>,
    /// Labels of the tables of all `brx` so far.
    targets: usize,
}

impl NewRegister for VirtualCode {
    fn register(&mut self, ty: RegType) -> Symbol {
        match ty {
            RegType::Pred => {
                self.predicates.push(false);
                Symbol::Predicate(self.predicates.len() as u32 - 1)
            }
            RegType::Data(ty) => {
                let bytes = ty.bytes() as u8;
                self.registers.push(Register { bytes, is_temporary: false });
                Symbol::Register(self.registers.len() as u32 - 1, bytes)
            }
        }
    }
}

type Result<T> = std::result::Result<T, LoadError>;

/// The modifiers of an instruction, each to be taken by somebody.
pub(super) struct Modifiers<'i> {
    all: &'i [&'i str],
    taken: u64,
}

impl<'i> Modifiers<'i> {
    pub fn take(&mut self, name: &str) -> bool {
        self.take_if(|found| found == name).is_some()
    }

    /// The first modifier not yet taken for which `choose` is true.
    fn take_if(&mut self, choose: impl Fn(&str) -> bool) -> Option<&'i str> {
        let (index, &name) =
            self.all.iter().enumerate().find(|&(index, name)| self.taken >> index & 1 == 0 && choose(name))?;
        self.taken |= 1 << index;
        Some(name)
    }

    /// The first that the table has.
    pub fn choose<T: Copy>(&mut self, table: &[(&str, T)]) -> Option<T> {
        let name = self.take_if(|found| table.iter().any(|(name, _)| *name == found))?;
        table.iter().find(|(known, _)| *known == name).map(|&(_, value)| value)
    }

    /// The first that names a type.
    pub fn ty(&mut self) -> Option<Ty> {
        self.take_if(|name| super::parse::data_type(name).is_some()).and_then(super::parse::data_type)
    }

    fn rest(&self) -> Option<&'i str> {
        self.all.iter().enumerate().find(|(index, _)| self.taken >> index & 1 == 0).map(|(_, &name)| name)
    }
}

/// The operands of an instruction that has exactly N.
pub(super) fn exactly<'i, 'a, const N: usize>(i: &'i Instruction<'a>) -> Result<&'i [Operand<'a>; N]> {
    i.operands.as_slice().try_into().map_err(|_| count_error(i, &N.to_string()))
}

pub(super) fn count_error(i: &Instruction<'_>, expected: &str) -> LoadError {
    let what = format!("`{}` takes {expected} operands, found {}", i.opcode, i.operands.len());
    LoadError::Syntax { line: i.line, what }
}

impl<'a> Decoder<'_, 'a> {
    /// Decodes `function`'s statements with `variables` bound to its parameters.
    fn body(&mut self, function: &'a Function<'a>, bound: Vec<(&'a str, Symbol)>, end: Option<u32>) -> Result<()> {
        let Some(statements) = &function.body else {
            return self.unknown(format!("the function `{}` has no body in this module", function.name));
        };
        let first = self.virtual_code.labels.len() as u32;
        let labels = Labels::collect(statements, first)
            .map_err(|(line, name)| LoadError::Syntax { line, what: format!("the label `{name}` is there twice") })?;
        self.virtual_code.labels.resize(first as usize + labels.count() as usize, u32::MAX);
        let mut frame = Frame { name: function.name, scopes: Scopes::default(), labels, scope: 0, next_scope: 1, end };
        frame.scopes.enter();
        self.frames.push(frame);
        for (name, symbol) in bound {
            self.declare(name, symbol)?;
        }
        for statement in statements {
            self.statement(statement)?;
        }
        self.frames.pop();
        Ok(())
    }

    fn statement(&mut self, statement: &'a Statement<'a>) -> Result<()> {
        match statement {
            Statement::Open => {
                if let Some(frame) = self.frames.last_mut() {
                    frame.scopes.enter();
                    frame.scope = frame.next_scope;
                    frame.next_scope += 1;
                }
            }
            Statement::Close => {
                if let Some(frame) = self.frames.last_mut() {
                    frame.scopes.leave();
                    frame.scope = frame.labels.outer_of(frame.scope);
                }
            }
            Statement::Register { line, ty, name, count, elements } => {
                self.line = *line;
                self.declare_register(*ty, name, *count, *elements)?;
            }
            Statement::Variable(variable) => {
                self.line = variable.line;
                let place = self.place(variable)?;
                self.declare(variable.name, Symbol::Variable(place))?;
            }
            Statement::Label { name, .. } => {
                let here = self.virtual_code.code.len() as u32;
                if let Some(number) = self.find_label(name)
                    && let Some(label) = self.virtual_code.labels.get_mut(number as usize)
                {
                    *label = here;
                }
            }
            Statement::Targets { .. } => {}
            Statement::Location { at, inlined_at } => {
                self.source = self.sources.place(*at, *inlined_at).or(self.source);
            }
            Statement::Instruction(instruction) => self.instruction(instruction)?,
        }
        Ok(())
    }

    fn instruction(&mut self, i: &'a Instruction<'a>) -> Result<()> {
        self.line = i.line;
        self.guard = match i.guard {
            None => None,
            Some((name, negate)) => Some((self.predicate(name)?, negate)),
        };
        if i.modifiers.len() > 64 {
            return self.syntax("an instruction has at most 64 modifiers");
        }
        let mut modifiers = Modifiers { all: &i.modifiers, taken: 0 };
        self.dispatch(i, &mut modifiers)?;
        match modifiers.rest() {
            None => Ok(()),
            Some(name) => self.unknown(format!("`.{name}` of `{}`", i.opcode)),
        }
    }

    fn dispatch(&mut self, i: &'a Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
        match i.opcode {
            "add" | "sub" | "addc" | "subc" | "mul" | "mad" | "madc" | "mul24" | "mad24" | "fma" | "div" | "rem"
            | "min" | "max" | "neg" | "abs" | "sad" | "copysign" | "sqrt" | "rcp" | "rsqrt" | "sin" | "cos" | "lg2"
            | "ex2" | "tanh" | "dp4a" | "dp2a" => arith::decode(self, i, m),
            "and" | "or" | "xor" | "not" | "cnot" | "shl" | "shr" | "shf" | "bfe" | "bfi" | "bfind" | "clz"
            | "popc" | "brev" | "prmt" | "lop3" | "bmsk" => bits::decode(self, i, m),
            "setp" | "set" | "selp" | "slct" => compare::decode(self, i, m),
            "mov" | "cvt" | "cvta" | "isspacep" => convert::decode(self, i, m),
            "ld" | "ldu" | "st" | "atom" | "red" | "membar" | "fence" | "cp" | "prefetch" | "prefetchu" | "discard"
            | "applypriority" | "createpolicy" => memory::decode(self, i, m),
            "ldmatrix" | "stmatrix" | "movmatrix" | "mma" => mma::decode(self, i, m),
            "mbarrier" => mbarrier::decode(self, i, m),
            "mapa" | "getctarank" => mbarrier::rank(self, i, m),
            "wmma" => wmma::decode(self, i, m),
            "wgmma" => wgmma::decode(self, i, m),
            "shfl" | "vote" | "match" | "redux" | "activemask" | "elect" | "bar" | "barrier" => {
                warp::decode(self, i, m)
            }
            "bra" | "brx" | "ret" | "exit" | "trap" | "call" | "nanosleep" | "pmevent" | "setmaxnreg"
            | "griddepcontrol" => control::decode(self, i, m),
            opcode => self.unknown(format!("the instruction `{opcode}`")),
        }
    }

    fn syntax<T>(&self, what: impl Into<String>) -> Result<T> {
        Err(LoadError::Syntax { line: self.line, what: what.into() })
    }

    /// The text of the line is added by `load`.
    fn unknown<T>(&self, what: impl Into<String>) -> Result<T> {
        Err(LoadError::Unknown { line: self.line, text: String::new(), what: what.into() })
    }

    /// A modifier that the instruction cannot be without.
    fn need(&self, found: bool, i: &Instruction<'_>, name: &str) -> Result<()> {
        if found { Ok(()) } else { self.unknown(format!("`{}` without `.{name}`", i.opcode)) }
    }

    fn need_type(&self, i: &Instruction<'_>, m: &mut Modifiers<'_>) -> Result<Ty> {
        match m.ty() {
            Some(ty) => Ok(ty),
            None => self.unknown(format!("`{}` without a type known here", i.opcode)),
        }
    }

    fn declare(&mut self, name: &'a str, symbol: Symbol) -> Result<()> {
        let is_new = self.frames.last_mut().is_none_or(|frame| frame.scopes.declare(name, symbol));
        if is_new { Ok(()) } else { self.syntax(format!("`{name}` is declared twice")) }
    }

    fn declare_register(&mut self, ty: RegType, name: &'a str, count: Option<u64>, elements: u8) -> Result<()> {
        let Some(count) = count else {
            let mut symbol = self.virtual_code.register(ty);
            if let (Symbol::Register(first, bytes), 2..) = (symbol, elements) {
                for _ in 1..elements {
                    self.virtual_code.register(ty);
                }
                symbol = Symbol::Vector(first, bytes, elements);
            }
            return self.declare(name, symbol);
        };
        let is_new = self.frames.last_mut().is_none_or(|frame| frame.scopes.declare_range(name, ty, count));
        if is_new { Ok(()) } else { self.syntax(format!("`{name}` is declared twice")) }
    }

    /// Gives a variable of a body its place.
    fn place(&mut self, variable: &Variable<'a>) -> Result<Place> {
        let fits = |offset: Option<usize>| match offset {
            Some(offset) => Ok(offset as u64),
            None => Err(LoadError::Syntax {
                line: variable.line,
                what: format!("`{}` does not fit: {} bytes", variable.name, variable.bytes),
            }),
        };
        if let Some(&place) = self.table.inner.get(&variable.at) {
            return Ok(place);
        }
        if !variable.init.is_empty() {
            return self.unknown("initialised variables that are neither `.global` nor `.const`");
        }
        Ok(match variable.space {
            Space::Shared if variable.is_extern => {
                self.dynamic_align = Some(self.dynamic_align.unwrap_or(1).max(variable.align));
                Place::DynamicShared
            }
            Space::Shared => Place::Shared(SHARED_START + fits(self.shared.add(variable.bytes, variable.align))?),
            // Parameters of calls are local memory of the thread.
            _ => Place::Local(LOCAL_START + fits(self.local.add(variable.bytes, variable.align))?),
        })
    }

    /// What a name means: of the body, then of the module.
    fn find(&mut self, name: &'a str) -> Result<Option<Symbol>> {
        if let Some(frame) = self.frames.last_mut()
            && let Some(symbol) = frame.scopes.find(name, &mut self.virtual_code)
        {
            return Ok(Some(symbol));
        }
        if let Some(&place) = self.table.places.get(name) {
            return Ok(Some(Symbol::Variable(place)));
        }
        if let Some(&place) = self.placed.get(name) {
            return Ok(Some(Symbol::Variable(place)));
        }
        if let Some(variable) = self.table.shared.get(name) {
            let place = self.place(variable)?;
            self.placed.insert(name, place);
            return Ok(Some(Symbol::Variable(place)));
        }
        if self.table.missing.contains(name) {
            return self.unknown(format!("the variable `{name}` is `.extern` and not in this module"));
        }
        Ok(None)
    }

    fn undeclared<T>(&self, name: &str) -> Result<T> {
        self.syntax(format!("`{name}` is not declared"))
    }

    fn predicate(&mut self, name: &'a str) -> Result<u32> {
        match self.find(name)? {
            Some(Symbol::Predicate(id)) => Ok(id),
            Some(_) => self.syntax(format!("`{name}` is not a predicate")),
            None => self.undeclared(name),
        }
    }

    fn find_label(&self, name: &str) -> Option<u32> {
        self.frames.last().and_then(|frame| frame.labels.find(frame.scope, name))
    }

    fn label(&self, name: &str) -> Result<u32> {
        match self.find_label(name) {
            Some(number) => Ok(number),
            None => self.syntax(format!("the label `{name}` is not in this function")),
        }
    }

    /// Ends the instruction that is being built.
    fn emit(&mut self, op: Op) -> Result<()> {
        if self.virtual_code.code.len() >= MOST_INSTRUCTIONS {
            return self.unknown(format!("a kernel has at most {MOST_INSTRUCTIONS} instructions, calls included"));
        }
        let slots = Span {
            start: self.virtual_code.slot_refs.len(),
            end: self.virtual_code.slot_refs.len() + self.slots.len(),
        };
        let preds = Span {
            start: self.virtual_code.pred_refs.len(),
            end: self.virtual_code.pred_refs.len() + self.preds.len(),
        };
        self.virtual_code.slot_refs.append(&mut self.slots);
        self.virtual_code.pred_refs.append(&mut self.preds);
        self.virtual_code.code.push(VirtualInst {
            op,
            slots,
            preds,
            guard: self.guard,
            line: self.line,
            source: self.source,
        });
        for widen in std::mem::take(&mut self.widen) {
            let a = self.read(widen.temporary);
            let d = self.write(widen.register);
            self.emit(Op::Cvt { to: widen.to, from: widen.from, mode: arith::PLAIN, d, a })?;
        }
        Ok(())
    }
}
