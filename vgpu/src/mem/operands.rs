//! Factors of warpgroup products in shared memory: where a descriptor says that they lie, and the checks of reading them.
//!
//! Layouts: PTX ISA, "Asynchronous Warpgroup Level Matrix Shared Memory Layout". In units of 16 bytes (`chunk`: T elements)
//! a factor is made of *atoms* of 8 × W chunks, W = 1, 2, 4 or 8 by the swizzle:
//! - along k (K-major): row r of an atom lies at 16·W·r, the chunks of k one after the other (W = 1: `leading` apart), and
//!   the next eight rows `stride` further;
//! - along the rows (MN-major, 16-bit elements): the W chunks of one k one after the other, the next k 16·W further, the
//!   next eight `stride` further, and the next W chunks `leading` further (W = 1: `stride` and `leading` change places).
//!
//! The address that comes out is swizzled: its bits from 4 on are xored with those from 7 on, log2 W of them.

use std::rc::Rc;

use super::agents::{MAX_WARPS, Met, agent_name};
use super::lines::LINE;
use super::order::Kind;
use super::pins::{Ended, LineSet};
use super::shared::row_request;
use super::{SHARED_START, SharedMemory};
use crate::fault::{BadAccess, Check, Earlier};

/// Rows of a block: 8 rows of 16 bytes, in lines.
const BLOCK: u64 = 8;

/// A matrix descriptor of wgmma, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    start: u64,
    leading: u64,
    stride: u64,
    base: u64,
    /// Chunks of a swizzled row: 1 (no swizzle), 2, 4 or 8.
    width: u64,
}

impl Descriptor {
    pub fn new(bits: u64) -> Descriptor {
        let field = |low: u32| (bits >> low & 0x3fff) << 4;
        let width = [1, 8, 4, 2][(bits >> 62) as usize];
        Descriptor { start: field(0), leading: field(16), stride: field(32), base: bits >> 49 & 7, width }
    }

    /// Addresses of the 16-byte rows of blocks `blocks` (8 rows of the matrix each) × the two halves of k, eight each; of
    /// MN-major factors a block's rows are eight k, else eight rows of the matrix.
    pub fn rows(&self, mn_major: bool, blocks: std::ops::Range<u64>) -> impl Iterator<Item = u64> + '_ {
        let Descriptor { leading, stride, width, .. } = *self;
        blocks.flat_map(move |block| {
            (0..2).flat_map(move |half| {
                let first = match (mn_major, width) {
                    (false, 1) => block * stride + half * leading,
                    (false, _) => block * stride + half * LINE,
                    (true, 1) => block * stride + half * leading,
                    (true, _) => block % width * LINE + block / width * leading + half * stride,
                };
                (0..BLOCK).map(move |row| self.swizzled(self.start + first + row * LINE * width))
            })
        })
    }

    fn swizzled(&self, address: u64) -> u64 {
        let row = (address >> 7).wrapping_sub(self.base) & (self.width - 1);
        address ^ row << 4
    }

    /// What the hardware asks of a descriptor for `blocks` blocks.
    pub fn check(&self, mn_major: bool, blocks: u64) -> Result<(), String> {
        let Descriptor { start, leading, stride, base, width } = *self;
        if width == 1 {
            return Ok(());
        }
        let (row, atom) = (LINE * width, LINE * width * BLOCK);
        // A pattern that begins at a multiple of the atom, as bulk copies write it, has no base offset, wherever the factor begins
        // in it.
        let first = start - start % row;
        if base != 0 && (first >> 7).wrapping_sub(base) & (width - 1) != 0 {
            return Err(format!(
                "the atom at {first:#x} of a factor with {row}-byte swizzle is not where its base offset {base} says"
            ));
        }
        let across = if mn_major { blocks.min(width) } else { 2 };
        if start % row / LINE + across > width {
            return Err(format!("a factor from {start:#x} on leaves its {row}-byte swizzled rows"));
        }
        let used = match mn_major {
            false => [(stride, blocks > 1, "stride"), (0, false, "")],
            true => [(stride, true, "stride"), (leading, blocks > width, "leading")],
        };
        match used.iter().find(|(offset, is_used, _)| *is_used && offset % atom != 0) {
            Some((offset, _, name)) => Err(format!(
                "the {name} byte offset {offset:#x} of a factor with {row}-byte swizzle is no multiple of {atom}"
            )),
            None => Ok(()),
        }
    }
}

impl SharedMemory {
    /// The lines of a factor's rows.
    pub fn operand_lines(&self, rows: impl Iterator<Item = u64>) -> Result<Box<[u32]>, BadAccess> {
        let end = SHARED_START + self.size() as u64;
        rows.map(|address| {
            if address >= SHARED_START && address + LINE <= end {
                return Ok(((address - SHARED_START) / LINE) as u32);
            }
            let detail = format!(
                "a factor's 16 bytes at {address:#x}, outside the block's {} bytes of shared memory at {SHARED_START:#x}",
                self.size()
            );
            let address = Some(address);
            Err(BadAccess { check: Check::OutOfBounds, lanes: u32::MAX, address, detail, other: None })
        })
        .collect()
    }

    /// An asynchronous read of whole lines that `warp` asks for.
    pub fn check_operand(&self, warp: usize, set: &LineSet) -> Result<(), BadAccess> {
        let mut seen = set.seen.borrow_mut();
        // The warps of a warpgroup read the same b, mostly with nothing written between.
        if seen.changes != self.changes() {
            seen.changes = self.changes();
            seen.undefined = set.lines().iter().copied().find(|&line| self.defined[line as usize] != 0xffff);
            self.races.heads(set.lines(), &mut seen.heads);
        }
        self.races.check_reads(&seen.heads, warp).map_err(|(line, met)| self.operand_fault(line, met))?;
        let Some(line) = seen.undefined else { return Ok(()) };
        let byte = (!self.defined[line as usize]).trailing_zeros();
        let address = Some(SHARED_START + LINE * u64::from(line) + u64::from(byte));
        let detail = "a factor in shared memory that was never written".to_string();
        Err(BadAccess { check: Check::Uninitialised, lanes: u32::MAX, address, detail, other: None })
    }

    #[cold]
    fn operand_fault(&self, line: usize, met: Met) -> BadAccess {
        let address = SHARED_START + LINE * line as u64;
        match met {
            Met::Clash(clash) => {
                let addresses = [address; 32];
                let bad = self.clash(&row_request(&addresses, 0), line, clash, Kind::Read);
                BadAccess { lanes: u32::MAX, ..bad }
            }
            Met::Unproxied { agent, at } => {
                let warp = ((agent as usize) < MAX_WARPS).then_some(agent);
                let name = agent_name(agent);
                let detail = format!("a factor that {name} wrote, and no fence.proxy.async lies between");
                let other = Some(Earlier { pc: at, block: None, warp });
                BadAccess { check: Check::ProxyFence, lanes: u32::MAX, address: Some(address), detail, other }
            }
        }
    }

    /// fence.proxy.async by the warp: what is ordered before its generic accesses is so before asynchronous ones, too.
    pub fn fence_proxy(&mut self, warp: usize) {
        self.races.fence_proxy(warp);
    }

    /// The bytes of lines, one after the other.
    pub fn gather(&self, lines: &[u32], into: &mut [[u32; 4]]) {
        for (into, &line) in into.iter_mut().zip(lines) {
            *into = self.lines[line as usize];
        }
    }

    /// Grows with every change of the bytes and of who wrote them.
    pub fn changes(&self) -> u64 {
        self.changes + self.races.mixings
    }

    /// Whether the lines hold these bytes.
    pub fn holds(&self, lines: &[u32], bytes: &[[u32; 4]]) -> bool {
        lines.iter().zip(bytes).all(|(&line, bytes)| self.lines[line as usize] == *bytes)
    }

    /// An asynchronous read of the lines begins, which `agent` asked for at the instruction `at`: until somebody sees that it
    /// `ended` nobody may write them. `what` names it in reports.
    pub fn pin(&mut self, set: &Rc<LineSet>, agent: usize, at: u32, what: &'static str, ended: &Ended) {
        self.pins.pin(set.clone(), agent, at, what, ended.clone());
    }

    /// `agent` sees the reads end; a later write that is not ordered after this is a race.
    pub fn end_reads(&mut self, ended: &Ended, agent: usize) {
        self.pins.end(ended, agent, &self.races);
    }

    /// A write of some lines from the first to the last of `span`, by `agent`.
    #[inline(always)]
    pub(super) fn check_pins(
        &self,
        agent: usize,
        span: impl FnOnce() -> (u32, u32),
        is_written: impl Fn(u32) -> bool,
    ) -> Result<(), BadAccess> {
        if self.pins.is_empty() {
            return Ok(());
        }
        self.pins.check_write(agent, span(), is_written, &self.races)
    }
}
