//! Kernels, variables and modules.

use super::arith::Cmp;
use super::memory::Space;
use super::op::Op;
use super::value::{Condition, Slot};

#[derive(Clone, Debug, PartialEq)]
pub struct Inst {
    pub op: Op,
    /// Executed by the lanes for which it holds.
    pub guard: Option<Condition>,
    /// Line of the PTX text, from 1.
    pub line: u32,
    /// Place in the CUDA source: index into [`Program::files`] and line, where `.loc` told.
    pub source: Option<(u32, u32)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Bytes from the start of the parameter block.
    pub offset: usize,
    pub size: usize,
}

/// Slots that an instruction reads (false) and writes (true).
pub type SlotUses = Box<[(Slot, bool)]>;

/// One `.entry`.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub name: String,
    pub code: Vec<Inst>,
    pub params: Vec<Param>,
    /// Bytes of the whole parameter block.
    pub param_bytes: usize,
    /// Slots and predicates of a warp.
    pub slots: usize,
    pub preds: usize,
    /// Bytes of static shared memory, which lies first; dynamic shared memory follows, aligned to `dynamic_align`.
    pub shared_bytes: usize,
    pub dynamic_align: usize,
    /// Bytes of local memory a thread.
    pub local_bytes: usize,
    /// `.maxntid`, product of the three; `.reqntid` is given exactly.
    pub max_threads: Option<u32>,
    pub required_threads: Option<[u32; 3]>,
    /// `.reqnctapercluster`, given exactly; `.explicitcluster` alone: the launch must say it.
    pub required_cluster: Option<[u32; 3]>,
    pub explicit_cluster: bool,
    /// `.maxclusterrank`
    pub max_cluster: Option<u32>,
    /// `.minnctapersm`
    pub min_blocks: Option<u32>,
    /// An estimate of hardware registers a thread: the most 32-bit values alive at once. ptxas decides the truth.
    pub registers: u32,
    /// Whether blocks may communicate (global atomics, fences of GPU scope, volatile or relaxed accesses).
    pub communicates: bool,
    /// Guarded instructions, in order, whose guard a parameter alone decides.
    pub uniform_guards: Vec<(u32, ParameterTest)>,
    /// Which slots of `wgmma`'s results and factors, which no other register shares, each other instruction (in order)
    /// reads (false) or writes (true). Empty without `wgmma`.
    pub asynchronous: Vec<(u32, SlotUses)>,
}

/// A guard that compares 32 bits of the parameters with a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterTest {
    /// Bytes from the start of the parameter block.
    pub offset: usize,
    /// One of the ordered forms.
    pub cmp: Cmp,
    pub signed: bool,
    pub value: u32,
    /// The guard holds where the comparison does not.
    pub negate: bool,
}

impl ParameterTest {
    /// Whether the guard holds in a launch with these parameters; `None`: that is not known.
    pub fn holds(&self, params: &[u8]) -> Option<bool> {
        let bytes = params.get(self.offset..)?.first_chunk::<4>()?;
        let found = u32::from_le_bytes(*bytes);
        let order = if self.signed { (found as i32).cmp(&(self.value as i32)) } else { found.cmp(&self.value) };
        let is_true = match self.cmp {
            Cmp::Eq => order.is_eq(),
            Cmp::Ne => order.is_ne(),
            Cmp::Lt => order.is_lt(),
            Cmp::Le => order.is_le(),
            Cmp::Gt => order.is_gt(),
            Cmp::Ge => order.is_ge(),
            _ => return None,
        };
        Some(is_true != self.negate)
    }
}

/// A `.global` or `.const` variable: where the module's loader put it.
#[derive(Clone, Debug)]
pub struct Variable {
    pub name: String,
    pub space: Space,
    pub bytes: usize,
    pub align: usize,
    /// Initial bytes; shorter than `bytes`: the rest is zero. Variables without an initialiser are zero too.
    pub init: Vec<u8>,
    /// Bytes from the start of its bank (all `.global` variables lie in one allocation, `.const` ones in one bank).
    pub offset: usize,
    /// Addresses among the initial bytes: (place in `init`, bytes from the start of the bank of `.global` variables). The
    /// loader writes 8 bytes there: the bank's address plus them.
    pub pointers: Vec<(usize, u64)>,
}

/// A module.
#[derive(Clone, Debug)]
pub struct Program {
    /// `.version` as (major, minor), `.target` as its number (80), and whether it is of that architecture alone (`sm_90a`).
    pub version: (u32, u32),
    pub target: u32,
    pub exact_target: bool,
    pub kernels: Vec<Kernel>,
    pub variables: Vec<Variable>,
    /// Bytes of the two banks of variables.
    pub global_bytes: usize,
    pub const_bytes: usize,
    /// Constant slots (a 64-bit constant takes two, low then high word).
    pub constants: Vec<u32>,
    /// Constants that hold the address of a `.global` variable: (first of two slots, bytes from the bank's start).
    /// The loader adds the bank's address.
    pub relocations: Vec<(usize, u64)>,
    /// Source files of `.file`, by position; `Inst::source` points here.
    pub files: Vec<String>,
}
