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
    /// What an asynchronous operation (a bulk copy, a warpgroup product) reads or writes, and the generic proxy touched, with no
    /// fence.proxy.async between.
    ProxyFence,
    /// An `mbarrier` object used wrongly: not initialised, overrun, never completed, or waited for at the wrong phase.
    Mbarrier,
    /// Registers of an unfinished warpgroup product touched, or given to one without wgmma.fence.
    WgmmaRegisters,
    /// A warpgroup product whose four warps do not agree, or whose descriptor is not valid.
    Wgmma,
    /// A bulk copy whose addresses, sizes or tensor map are not valid.
    BulkCopy,
    /// Memory of a block of the cluster that did not start yet or has ended, or the cluster's barrier used wrongly.
    Cluster,
    /// Memory of an unfinished earlier launch used before griddepcontrol.wait.
    GridDependency,
    /// Memory that another stream allocated or freed, with nothing (an event, a wait of the host) that orders the two streams.
    StreamOrder,
    /// `setmaxnreg` that does not fit.
    MaxRegisters,
    /// A generic or converted address that lies in no window of the kind it must.
    AddressSpace,
    /// `assert` of the program failed.
    Assert,
    /// `trap`, or a launch that goes on beyond the limit of instructions.
    Trap,
}

impl Check {
    /// The driver's answer: 700 illegal address, 710 assertion, 716 misaligned address, 719 launch failure.
    pub fn code(self) -> u32 {
        match self {
            Check::OutOfBounds | Check::UseAfterFree | Check::AddressSpace | Check::StreamOrder => 700,
            Check::Assert => 710,
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
    /// The access that it met, of a race or of bytes in flight.
    pub other: Option<Earlier>,
}

/// An earlier access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Its instruction (an index of the kernel's code).
    pub pc: u32,
    /// The linear number of its block; `None`: the block at fault.
    pub block: Option<u64>,
    /// Its warp, where that is known.
    pub warp: Option<u32>,
}

/// Where something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line of the PTX text.
    pub line: u32,
    /// File and line of the CUDA source, where `-lineinfo` told.
    pub source: Option<(String, u32)>,
    /// Of the grid: x, y, z.
    pub block: [u32; 3],
    /// Of the block, where it is known.
    pub warp: Option<u32>,
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
    /// The other access, of a race or of bytes in flight.
    pub other: Option<Place>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.block;
        write!(f, "{:?} in {}: {}", self.check, self.kernel, self.detail)?;
        if let Some((file, line)) = &self.source {
            write!(f, "; at {file}:{line}")?;
        }
        write!(f, "; PTX line {}; block ({x},{y},{z}) warp {} lanes {:#010x}", self.line, self.warp, self.lanes)?;
        if let Some(address) = self.address {
            write!(f, "; address {address:#x}")?;
        }
        let Some(Place { line, source, block: [x, y, z], warp }) = &self.other else { return Ok(()) };
        write!(f, "; the other access:")?;
        if let Some((file, line)) = source {
            write!(f, " at {file}:{line};")?;
        }
        write!(f, " PTX line {line}; block ({x},{y},{z})")?;
        match warp {
            Some(warp) => write!(f, " warp {warp}"),
            None => Ok(()),
        }
    }
}
