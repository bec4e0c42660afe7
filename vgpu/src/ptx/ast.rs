//! A module as the parser sees it: names unresolved, scopes still as brackets in the flow of statements.

use crate::ir::{Space, Ty};

#[derive(Debug, Default)]
pub struct Module<'a> {
    pub version: (u32, u32),
    pub target: u32,
    /// `.target` of one architecture alone, `sm_90a`.
    pub exact_target: bool,
    /// `.file` number and path.
    pub files: Vec<(u64, &'a str)>,
    pub variables: Vec<Variable<'a>>,
    pub functions: Vec<Function<'a>>,
}

/// Type of a register or variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegType {
    Pred,
    Data(Ty),
}

#[derive(Clone, Debug)]
pub struct Variable<'a> {
    pub line: u32,
    /// Where in the text it is: no two have the same.
    pub at: usize,
    pub name: &'a str,
    /// `Param` for parameters of calls.
    pub space: Space,
    pub is_extern: bool,
    pub bytes: usize,
    pub align: usize,
    /// Bytes of one element.
    pub element: usize,
    pub init: Vec<Init<'a>>,
    /// A function's parameter or result in a register.
    pub register: Option<RegType>,
}

/// One element of an initialiser.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init<'a> {
    Value(Value<'a>),
    /// `generic(name)` plus bytes.
    Generic(&'a str, i64),
}

#[derive(Debug)]
pub struct Function<'a> {
    pub line: u32,
    pub name: &'a str,
    pub is_entry: bool,
    pub returns: Vec<Variable<'a>>,
    pub params: Vec<Variable<'a>>,
    pub max_threads: Option<u32>,
    pub required_threads: Option<[u32; 3]>,
    pub min_blocks: Option<u32>,
    pub required_cluster: Option<[u32; 3]>,
    pub explicit_cluster: bool,
    pub max_cluster: Option<u32>,
    /// `None`: declared only.
    pub body: Option<Vec<Statement<'a>>>,
}

/// Position of `.loc`: file number, line, column.
pub type Position = (u64, u32, u32);

#[derive(Debug)]
pub enum Statement<'a> {
    /// `{` and `}`
    Open,
    Close,
    /// `%r<5>` has a count: names `%r0` … `%r4`.
    Register {
        line: u32,
        ty: RegType,
        name: &'a str,
        count: Option<u64>,
        /// Elements of `.v2` and `.v4`; 1 without.
        elements: u8,
    },
    Variable(Variable<'a>),
    Label {
        line: u32,
        name: &'a str,
    },
    /// `name: .branchtargets a, b, …;`
    Targets {
        line: u32,
        name: &'a str,
        labels: Vec<&'a str>,
    },
    Location {
        at: Position,
        inlined_at: Option<Position>,
    },
    Instruction(Instruction<'a>),
}

#[derive(Debug)]
pub struct Instruction<'a> {
    pub line: u32,
    /// Predicate and whether it is negated.
    pub guard: Option<(&'a str, bool)>,
    pub opcode: &'a str,
    pub modifiers: Vec<&'a str>,
    pub operands: Vec<Operand<'a>>,
}

/// An immediate or a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Two's complement of 64 bits.
    Int(u64),
    F32(u32),
    F64(u64),
    /// A register, variable, label or function, plus bytes.
    Name(&'a str, i64),
    /// `%tid.x`
    Member(&'a str, &'a str),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Operand<'a> {
    Value(Value<'a>),
    /// `!%p`
    Not(&'a str),
    /// `%r|%p`
    Pair(&'a str, &'a str),
    /// `{a, b}`
    Vector(Vec<Value<'a>>),
    /// `[base + bytes]`
    Memory {
        base: Option<&'a str>,
        offset: i64,
    },
    /// `[map + bytes, {x, y}]`
    Tensor {
        base: &'a str,
        offset: i64,
        coordinates: Vec<Value<'a>>,
    },
    /// `(a, b)` of a call
    List(Vec<Value<'a>>),
}
