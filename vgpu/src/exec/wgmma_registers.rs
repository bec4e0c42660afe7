//! Registers of unfinished warpgroup products: nobody else may touch them, and wgmma.fence must lie between other
//! instructions' writes and a product.

use super::registers::Done;
use crate::fault::{BadAccess, Check, Earlier};
use crate::ir::{Accumulator, Kernel, Slot, Wgmma, WgmmaA};

/// Not written since the last fence.
const NEVER: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct State {
    /// Unfinished products that write it, and that read it as a; the last of them.
    results: u32,
    rows: u32,
    product: u32,
    /// The instruction that wrote it otherwise, and the shape and the instruction of the product that used it as d: since the
    /// fence of that number.
    fence: u32,
    written: u32,
    shape: Option<Shape>,
    shaped: u32,
}

const FRESH: State = State { results: 0, rows: 0, product: 0, fence: 0, written: NEVER, shape: None, shaped: 0 };

/// Products of one shape may follow each other in the same d.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    n: u16,
    depth: u8,
    acc: Accumulator,
}

impl Shape {
    fn of(w: &Wgmma) -> Shape {
        Shape { n: w.n, depth: w.a_type.depth() as u8, acc: w.acc }
    }
}

/// Of one warp.
pub(super) struct Watched {
    states: Vec<State>,
    /// Fences so far.
    fences: u32,
}

/// Registers of a.
fn rows(w: &Wgmma) -> impl Iterator<Item = Slot> + '_ {
    let slots: &[Slot] = match &w.a {
        WgmmaA::Registers(slots) => slots,
        WgmmaA::Shared(_) => &[],
    };
    slots.iter().copied().filter(|slot| !slot.is_constant())
}

impl Watched {
    pub fn new(kernel: &Kernel) -> Watched {
        Watched { states: vec![FRESH; kernel.slots], fences: 0 }
    }

    pub fn reset(&mut self) {
        self.states.fill(FRESH);
        self.fences = 0;
    }

    pub fn fence(&mut self) {
        self.fences += 1;
    }

    /// The state of a slot, of which nothing is known from before the last fence.
    fn state(&mut self, slot: Slot) -> &mut State {
        let state = &mut self.states[slot.index()];
        if state.fence != self.fences {
            (state.fence, state.written, state.shape) = (self.fences, NEVER, None);
        }
        state
    }

    /// Another instruction touches a slot.
    pub fn touch(&mut self, warp: usize, pc: u32, slot: Slot, writes: bool) -> Done {
        let state = self.state(slot);
        if state.results != 0 || (writes && state.rows != 0) {
            let (does, what) = match (writes, state.results != 0) {
                (false, _) => ("reads", "results"),
                (true, true) => ("writes", "results"),
                (true, false) => ("writes", "rows of a"),
            };
            let detail = format!("{does} a register of the {what} of a wgmma that is not waited for");
            return Err(fault(warp, state.product, detail));
        }
        if writes {
            state.written = pc;
        }
        Ok(())
    }

    /// A product begins.
    pub fn begin(&mut self, warp: usize, pc: u32, w: &Wgmma) -> Done {
        if self.fences == 0 {
            let detail = "the warp's first wgmma, and no wgmma.fence before it: it needs wgmma.fence".to_string();
            return Err(fault(warp, pc, detail));
        }
        let shape = Shape::of(w);
        for &slot in w.d.iter() {
            let state = self.state(slot);
            if state.rows != 0 {
                let detail = "results in a register that an unfinished wgmma reads as a".to_string();
                return Err(fault(warp, state.product, detail));
            }
            if state.written != NEVER {
                return Err(unfenced(warp, state.written, "of its sums"));
            }
            if state.shape.is_some_and(|last| last != shape) {
                let detail = "sums in registers that a wgmma of another shape used: it needs wgmma.fence".to_string();
                return Err(fault(warp, state.shaped, detail));
            }
        }
        for slot in rows(w) {
            let state = self.state(slot);
            if state.results != 0 {
                let detail = "a in a register of the results of an unfinished wgmma".to_string();
                return Err(fault(warp, state.product, detail));
            }
            if state.written != NEVER {
                return Err(unfenced(warp, state.written, "of a"));
            }
        }
        for &slot in w.d.iter() {
            let state = self.state(slot);
            state.results += 1;
            (state.product, state.shape, state.shaped) = (pc, Some(shape), pc);
        }
        for slot in rows(w) {
            let state = self.state(slot);
            state.rows += 1;
            state.product = pc;
        }
        Ok(())
    }

    /// It ends.
    pub fn end(&mut self, w: &Wgmma) {
        w.d.iter().for_each(|slot| self.states[slot.index()].results -= 1);
        rows(w).for_each(|slot| self.states[slot.index()].rows -= 1);
    }

    /// Whether an unfinished product writes the slot.
    pub fn is_pending(&self, slot: Slot) -> bool {
        self.states[slot.index()].results != 0
    }
}

#[cold]
fn unfenced(warp: usize, written: u32, what: &str) -> Box<BadAccess> {
    fault(warp, written, format!("another instruction wrote a register {what} before: it needs wgmma.fence"))
}

#[cold]
fn fault(warp: usize, pc: u32, detail: String) -> Box<BadAccess> {
    let other = Some(Earlier { pc, block: None, warp: Some(warp as u32) });
    Box::new(BadAccess { check: Check::WgmmaRegisters, lanes: u32::MAX, address: None, detail, other })
}
