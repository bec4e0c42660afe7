//! What a launch did wrong, in words that lead to the line.

use std::fmt;

/// Each check of the virtual GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// Outside every allocation (or of the block's shared memory, the thread's local memory, the parameters).
    OutOfBounds,
    /// In an allocation that was freed.
    UseAfterFree,
    /// Not a multiple of the access's size.
    Misaligned,
    /// Undefined register or memory bytes reached arithmetic, an address, a branch or a tensor core.
    Uninitialised,
    /// Two warps touched the same shared bytes between barriers, one of them writing; or two lanes of one warp, with
    /// nothing between that orders them.
    SharedRace,
    /// Two blocks of one launch touched the same global bytes, one of them writing.
    GlobalRace,
    /// `ld.global.nc` of bytes written in the same launch.
    NonCoherentRead,
    /// A barrier reached by part of a warp, or never reached by threads it waits for.
    Barrier,
    /// A `.sync` operation whose members cannot all arrive, or that a lane outside the members executes.
    Membership,
    /// Bytes of an unfinished cp.async touched.
    AsyncInFlight,
    /// cp.async pending when the thread ends.
    AsyncPending,
    /// A generic or converted address that lies in no window of the kind it must.
    AddressSpace,
    /// `trap`, or a launch that goes on beyond the limit of instructions.
    Trap,
}

impl Check {
    /// The driver's answer: 700 illegal address, 716 misaligned address, 719 launch failure.
    pub fn code(self) -> u32 {
        match self {
            Check::OutOfBounds | Check::UseAfterFree | Check::AddressSpace => 700,
            Check::Misaligned => 716,
            _ => 719,
        }
    }
}

/// What memory knows of a bad access; the executor adds where in the program and grid it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadAccess {
    /// Which check found it.
    pub check: Check,
    /// Lanes at fault, one bit each.
    pub lanes: u32,
    /// The first byte that shows it, where there is one.
    pub address: Option<u64>,
    /// One sentence: what was expected, what was found.
    pub detail: String,
}

/// A whole report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which check found it.
    pub check: Check,
    /// The kernel's name.
    pub kernel: String,
    /// Line of the PTX text.
    pub line: u32,
    /// File and line of the CUDA source, where `-lineinfo` told.
    pub source: Option<(String, u32)>,
    /// Of the grid: x, y, z.
    pub block: [u32; 3],
    /// Of the block.
    pub warp: u32,
    /// Lanes at fault, one bit each.
    pub lanes: u32,
    /// The first byte that shows it, where there is one.
    pub address: Option<u64>,
    /// One sentence: what was expected, what was found.
    pub detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.block;
        write!(f, "{:?} in {}: {}", self.check, self.kernel, self.detail)?;
        if let Some((file, line)) = &self.source {
            write!(f, "; at {file}:{line}")?;
        }
        write!(f, "; PTX line {}; block ({x},{y},{z}) warp {} lanes {:#010x}", self.line, self.warp, self.lanes)?;
        match self.address {
            Some(address) => write!(f, "; address {address:#x}"),
            None => Ok(()),
        }
    }
}
