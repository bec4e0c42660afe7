//! Races between the warps of one block in global memory.
//!
//! Only lines that the block has written are looked at, so that data which is only read costs nothing: what was read before
//! the first write is not known (in another order of the warps the write comes first, and the race shows). Accesses are
//! noted as they come, and put in order by line when one meets a line that another warp wrote, or may have: as long as
//! every warp keeps to its own lines there is nothing to compare. A barrier of all warps orders everything before it.

use super::blocks::Own;
use super::lines::LINE;
use super::order::Kind;
use super::warps::Warps;
use crate::fault::Earlier;
use std::collections::HashMap;

/// Accesses that wait to be put in order, at most; of more, the older half is forgotten.
const NOTES: usize = 1 << 16;

/// When and by whom an access is made.
#[derive(Clone, Copy, Default)]
pub(super) struct Now {
    pub warp: u8,
    /// The instruction.
    pub at: u32,
    /// See [`Warps`].
    pub time: u32,
}

/// An access to `count` lines from the line `first` on (counted from address 0), of the bytes `mask` of each.
#[derive(Clone, Copy)]
struct Note {
    first: u64,
    count: u32,
    mask: u16,
    kind: Kind,
    now: Now,
    own: Own,
    /// Whether other warps may have accessed them since what is ordered before.
    is_open: bool,
}

#[derive(Clone, Copy)]
struct Touch {
    mask: u16,
    kind: Kind,
    now: Now,
}

/// What an access met: bytes of a line that another warp touched.
pub(super) struct Meeting {
    /// The first byte.
    pub address: u64,
    pub wrote: bool,
    /// What the access at hand does.
    pub writes: bool,
    pub other: Earlier,
}

#[derive(Default)]
pub(super) struct Inside {
    notes: Vec<Note>,
    /// The last accesses of each line, those of a warp in the order in which they happened last.
    lines: HashMap<u64, Vec<Touch>>,
    /// Some line may have been accessed by several warps since the last barrier of all.
    careful: bool,
    /// The last barrier of all that was seen.
    full: u32,
}

impl Inside {
    /// An access to `count` lines from `first` on; `own`: who wrote them before. Whether it is time to [`Self::settle`].
    #[inline]
    pub fn note(&mut self, first: u64, count: u32, mask: u16, kind: Kind, own: Own, now: Now) -> bool {
        let is_open = own == Own::Another || (own == Own::Mine && self.careful);
        if self.notes.len() >= NOTES {
            self.notes.drain(..NOTES / 2);
        }
        self.notes.push(Note { first, count, mask, kind, now, own, is_open });
        self.careful |= own == Own::Another;
        is_open
    }

    /// Puts in order what was noted; the first race that shows.
    pub fn settle(&mut self, warps: &Warps) -> Result<(), Meeting> {
        let full = warps.full();
        let mut notes = std::mem::take(&mut self.notes);
        if self.full != full {
            self.full = full;
            self.lines.clear();
            notes.retain(|note| note.now.time > full);
            self.careful = notes.iter().any(|note| note.own == Own::Another);
        }
        for note in notes.drain(..) {
            for line in note.first..note.first + u64::from(note.count) {
                let touches = self.lines.entry(line).or_default();
                if note.is_open {
                    meet(touches, &note, line, warps)?;
                }
                let Note { mask, kind, now, .. } = note;
                touches.retain(|t| t.now.warp != now.warp || t.kind != kind || t.mask & !mask != 0);
                touches.push(Touch { mask, kind, now });
            }
        }
        self.notes = notes;
        Ok(())
    }
}

fn meet(touches: &[Touch], note: &Note, line: u64, warps: &Warps) -> Result<(), Meeting> {
    let (kind, mask, me) = (note.kind, note.mask, note.now.warp);
    // All accesses of one address by atomics and the like have one order: those before this warp's last are ordered.
    let coherent = |t: &Touch| t.kind.relaxed() && t.now.warp == me && t.mask & mask == mask;
    let coherent = touches.iter().rposition(coherent).unwrap_or(0);
    let races = |(i, t): &(usize, &Touch)| {
        t.mask & mask != 0
            && kind.conflicts(t.kind)
            && !(t.kind.relaxed() && *i < coherent)
            && !warps.knows(me.into(), t.now.warp.into(), t.now.time)
    };
    let Some((_, t)) = touches.iter().enumerate().find(races) else { return Ok(()) };
    Err(Meeting {
        address: line * LINE + u64::from((t.mask & mask).trailing_zeros()),
        wrote: t.kind.writes(),
        writes: kind.writes(),
        other: Earlier { pc: t.now.at, block: None, warp: Some(t.now.warp.into()) },
    })
}
