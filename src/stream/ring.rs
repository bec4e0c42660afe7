//! Who has which of a few slots: one writer at a time fills them, one reader takes them, and neither ever waits for the other. Only
//! numbers of slots pass here; the order of memory that passes with them is that of the atomics.
//!
//! *Newest*: three slots and one for each frame more that the reader has at once. One is being written, one waits, one is with the
//! reader. The writer swaps the slot that it has filled with the one that waits: what waited there and was not taken is replaced.
//!
//! *Every*: two queues of one writer and one reader each, of slots that are filled and of slots that are free.

use super::sync::{AtomicBool, AtomicUsize, Mutex, Ordering};

pub struct Ring {
    kind: Kind,
    /// Nobody takes any more: what is written from here on is taken back.
    has_ended: AtomicBool,
    /// Who takes back.
    taking_back: Mutex<()>,
}

enum Kind {
    /// The slot that waits, and whether it is [`FRESH`].
    Newest(AtomicUsize),
    Every {
        filled: Fifo,
        free: Fifo,
    },
}

/// It was filled and not taken yet. The slot's number lies above.
const FRESH: usize = 1;

/// The slots that a reader has and does not use.
pub struct Spares(Vec<usize>);

/// What became of a slot that was filled.
#[derive(Debug, PartialEq, Eq)]
pub struct Filled {
    /// The slot to be filled next, where the writer gets one for it.
    pub next: Option<usize>,
    /// It was filled before and nobody took it: `next` is that slot.
    pub is_replaced: bool,
}

impl Ring {
    /// Of `at_once + 2` slots, for a reader that has so many at once; and the slot that the writer begins with.
    pub fn newest(at_once: usize) -> (Ring, Option<usize>, Spares) {
        let mut spares = Vec::with_capacity(at_once);
        spares.extend(2..2 + at_once);
        (Ring::of(Kind::Newest(AtomicUsize::new(1 << 1))), Some(0), Spares(spares))
    }

    /// Of so many slots.
    pub fn every(slots: usize) -> (Ring, Option<usize>, Spares) {
        let (filled, free) = (Fifo::new(slots), Fifo::new(slots));
        (0..slots).for_each(|slot| free.push(slot));
        (Ring::of(Kind::Every { filled, free }), None, Spares(Vec::new()))
    }

    fn of(kind: Kind) -> Ring {
        Ring { kind, has_ended: AtomicBool::new(false), taking_back: Mutex::new(()) }
    }

    /// Writer: a slot to fill, where it has none; `None` where all are filled or taken.
    pub fn free(&self) -> Option<usize> {
        match &self.kind {
            Kind::Newest(_) => None,
            Kind::Every { free, .. } => free.pop(),
        }
    }

    /// Writer: this slot is filled, and the reader may take it.
    pub fn fill(&self, slot: usize) -> Filled {
        match &self.kind {
            Kind::Newest(waiting) => {
                let before = waiting.swap(slot << 1 | FRESH, Ordering::AcqRel);
                Filled { next: Some(before >> 1), is_replaced: before & FRESH != 0 }
            }
            Kind::Every { filled, .. } => {
                filled.push(slot);
                Filled { next: None, is_replaced: false }
            }
        }
    }

    /// Reader: the slot that waits, or has waited for longest. Of *newest* it needs a spare.
    pub fn take(&self, spares: &mut Spares) -> Option<usize> {
        match &self.kind {
            Kind::Newest(waiting) => {
                if waiting.load(Ordering::Relaxed) & FRESH == 0 {
                    return None;
                }
                let spare = spares.0.pop()?;
                // It is fresh still: only the reader takes it.
                Some(waiting.swap(spare << 1, Ordering::AcqRel) >> 1)
            }
            Kind::Every { filled, .. } => filled.pop(),
        }
    }

    /// Reader: whether a slot waits.
    pub fn has_filled(&self) -> bool {
        match &self.kind {
            Kind::Newest(waiting) => waiting.load(Ordering::Relaxed) & FRESH != 0,
            Kind::Every { filled, .. } => !filled.is_empty(),
        }
    }

    /// Reader: it has done with a slot.
    pub fn give_back(&self, spares: &mut Spares, slot: usize) {
        match &self.kind {
            Kind::Newest(_) => spares.0.push(slot),
            Kind::Every { free, .. } => free.push(slot),
        }
    }

    /// Reader: it takes nothing any more. How many slots waited.
    pub fn end(&self) -> usize {
        self.has_ended.swap(true, Ordering::AcqRel);
        self.take_back()
    }

    /// Writer, after [`Ring::fill`]: how many slots nobody will take, because the reader has ended meanwhile.
    pub fn left_behind(&self) -> usize {
        // Not a mere load: either this comes before the reader's end, which then sees what was filled, or it sees the end.
        if self.has_ended.fetch_or(false, Ordering::AcqRel) { self.take_back() } else { 0 }
    }

    /// Writer and reader may both be here, each once the reader has ended.
    fn take_back(&self) -> usize {
        let _alone = self.taking_back.lock();
        match &self.kind {
            Kind::Newest(waiting) => waiting.fetch_and(!FRESH, Ordering::AcqRel) & FRESH,
            Kind::Every { filled, .. } => std::iter::from_fn(|| filled.pop()).count(),
        }
    }
}

/// A queue of one who pushes and one who pops, with room for all that there is.
struct Fifo {
    cells: Box<[AtomicUsize]>,
    /// How many were popped and pushed so far.
    popped: AtomicUsize,
    pushed: AtomicUsize,
}

impl Fifo {
    fn new(room: usize) -> Fifo {
        let cells = (0..room).map(|_| AtomicUsize::new(0)).collect();
        Fifo { cells, popped: AtomicUsize::new(0), pushed: AtomicUsize::new(0) }
    }

    fn push(&self, slot: usize) {
        let pushed = self.pushed.load(Ordering::Relaxed);
        self.cells[pushed % self.cells.len()].store(slot, Ordering::Relaxed);
        self.pushed.store(pushed.wrapping_add(1), Ordering::Release);
    }

    fn pop(&self) -> Option<usize> {
        let popped = self.popped.load(Ordering::Relaxed);
        if popped == self.pushed.load(Ordering::Acquire) {
            return None;
        }
        let slot = self.cells[popped % self.cells.len()].load(Ordering::Relaxed);
        self.popped.store(popped.wrapping_add(1), Ordering::Release);
        Some(slot)
    }

    fn is_empty(&self) -> bool {
        self.popped.load(Ordering::Relaxed) == self.pushed.load(Ordering::Acquire)
    }
}
