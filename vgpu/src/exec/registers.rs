//! A warp's registers: rows of 32 lanes, which halves of them are undefined, predicates; and the loops over lanes.
//!
//! Every lane of a row is computed, then only the active lanes are kept: plain loops over fixed arrays, which the
//! compiler turns into vector instructions.

use bytemuck::{Pod, Zeroable};

use crate::fault::{BadAccess, Check};
use crate::ir::{Condition, Pred, Slot};

pub(super) type Lanes = [u32; 32];
pub(super) type WideLanes = [u64; 32];

pub(super) const ALL: u32 = u32::MAX;

/// An instruction's outcome; what went wrong is boxed, so that success costs one register.
pub(super) type Done = Result<(), Box<BadAccess>>;

/// One slot.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Row(pub Lanes);

/// A 64-bit value of each lane.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct WideRow(pub WideLanes);

/// A launch's constant slots, broadcast to rows; each index also as the first of two words.
pub(super) struct Constants {
    narrow: Vec<Row>,
    wide: Vec<WideRow>,
}

impl Constants {
    pub fn new(constants: &[u32]) -> Constants {
        let word = |i: usize| constants.get(i).copied().unwrap_or(0);
        let pair = |i: usize| word(i) as u64 | (word(i + 1) as u64) << 32;
        Constants {
            narrow: constants.iter().map(|&c| Row([c; 32])).collect(),
            wide: (0..constants.len()).map(|i| WideRow([pair(i); 32])).collect(),
        }
    }
}

/// Both bits of each lane of `lanes`: its low and its high half.
pub(super) fn halves(lanes: u32) -> u64 {
    lanes as u64 | (lanes as u64) << 32
}

/// Lanes of which some half is set.
pub(super) fn lanes_of(halves: u64) -> u32 {
    halves as u32 | (halves >> 32) as u32
}

pub(super) struct Registers<'a> {
    constants: &'a Constants,
    rows: Vec<Row>,
    /// 64-bit values, by their first slot. They have rows of their own: a slot may hold a narrow value in some lanes while
    /// others, elsewhere in the program, have a wide one there, and lanes of unlike width would overlap in memory.
    wide_rows: Vec<WideRow>,
    /// A slot's undefined halves: bit l, the low half of lane l; bit 32 + l, the high half.
    undef: Vec<u64>,
    preds: Vec<u32>,
    undef_preds: Vec<u32>,
    pub carry: u32,
}

impl<'a> Registers<'a> {
    pub fn new(constants: &'a Constants, slots: usize, preds: usize) -> Registers<'a> {
        Registers {
            constants,
            rows: vec![Row::zeroed(); slots],
            wide_rows: vec![WideRow::zeroed(); slots],
            undef: vec![u64::MAX; slots],
            preds: vec![0; preds],
            undef_preds: vec![ALL; preds],
            carry: 0,
        }
    }

    /// Everything undefined again. The values stay as they are: nothing may look at them.
    pub fn reset(&mut self) {
        self.undef.fill(u64::MAX);
        self.preds.fill(0);
        self.undef_preds.fill(ALL);
        self.carry = 0;
    }

    #[inline(always)]
    pub fn narrow(&self, slot: Slot) -> &Lanes {
        if slot.is_constant() { &self.constants.narrow[slot.index()].0 } else { &self.rows[slot.index()].0 }
    }

    #[inline(always)]
    pub fn wide(&self, slot: Slot) -> &WideLanes {
        if slot.is_constant() { &self.constants.wide[slot.index()].0 } else { &self.wide_rows[slot.index()].0 }
    }

    /// Undefined halves of a slot.
    #[inline(always)]
    pub fn undefined(&self, slot: Slot) -> u64 {
        if slot.is_constant() { 0 } else { self.undef[slot.index()] }
    }

    #[inline(always)]
    pub fn set_undefined(&mut self, slot: Slot, active: u32, undef: u64) {
        let both = halves(active);
        let old = &mut self.undef[slot.index()];
        *old = (*old & !both) | (undef & both);
    }

    /// The 32 bits of a source that is about to be used must be defined.
    #[inline(always)]
    pub fn check(&self, slot: Slot, active: u32) -> Done {
        let bad = lanes_of(self.undefined(slot)) & active;
        if bad == 0 { Ok(()) } else { Err(undefined(bad)) }
    }

    /// Whether all lanes of a slot are.
    pub fn is_defined(&self, slot: Slot) -> bool {
        self.undefined(slot) == 0
    }

    #[inline(always)]
    pub fn check_wide(&self, slot: Slot, active: u32) -> Done {
        if slot.is_constant() {
            return Ok(());
        }
        let i = slot.index();
        let bad = lanes_of(self.undef[i] | self.undef[i + 1]) & active;
        if bad == 0 { Ok(()) } else { Err(undefined(bad)) }
    }

    /// Of a source whose low half alone matters.
    pub fn check_low(&self, slot: Slot, active: u32) -> Done {
        let bad = self.undefined(slot) as u32 & active;
        if bad == 0 { Ok(()) } else { Err(undefined(bad)) }
    }

    /// Writes the active lanes; they are defined then.
    #[inline(always)]
    pub fn put(&mut self, slot: Slot, active: u32, values: &Lanes) {
        let i = slot.index();
        blend(&mut self.rows[i].0, active, values);
        self.undef[i] &= !halves(active);
    }

    #[inline(always)]
    pub fn put_wide(&mut self, slot: Slot, active: u32, values: &WideLanes) {
        blend_wide(&mut self.wide_rows[slot.index()].0, active, values);
        let both = !halves(active);
        self.undef[slot.index()] &= both;
        self.undef[slot.index() + 1] &= both;
    }

    /// Writes the active lanes with what is undefined of them.
    #[inline(always)]
    pub fn put_partly(&mut self, slot: Slot, active: u32, values: &Lanes, undef: u64) {
        blend(&mut self.rows[slot.index()].0, active, values);
        self.set_undefined(slot, active, undef);
    }

    #[inline(always)]
    pub fn put_wide_partly(&mut self, slot: Slot, active: u32, values: &WideLanes, undef: [u64; 2]) {
        blend_wide(&mut self.wide_rows[slot.index()].0, active, values);
        self.set_undefined(slot, active, undef[0]);
        self.set_undefined(Slot(slot.0 + 1), active, undef[1]);
    }

    /// A copy of a slot, undefined halves as such.
    #[inline(always)]
    pub fn copy(&mut self, d: Slot, a: Slot, active: u32) {
        let values = *self.narrow(a);
        self.put_partly(d, active, &values, self.undefined(a));
    }

    pub fn copy_wide(&mut self, d: Slot, a: Slot, active: u32) {
        let values = *self.wide(a);
        self.put_wide_partly(d, active, &values, self.undefined_wide(a));
    }

    /// Undefined halves of both slots of a 64-bit value.
    pub fn undefined_wide(&self, slot: Slot) -> [u64; 2] {
        if slot.is_constant() { [0; 2] } else { [self.undef[slot.index()], self.undef[slot.index() + 1]] }
    }

    /// The lanes of `active` for which the condition holds.
    #[inline(always)]
    pub fn condition(&self, c: Condition, active: u32) -> Result<u32, Box<BadAccess>> {
        let i = c.pred.0 as usize;
        let bad = self.undef_preds[i] & active;
        if bad != 0 {
            return Err(undefined_predicate(bad));
        }
        Ok(if c.negate { !self.preds[i] & active } else { self.preds[i] & active })
    }

    #[inline(always)]
    pub fn put_pred(&mut self, p: Pred, active: u32, values: u32) {
        let i = p.0 as usize;
        self.preds[i] = (self.preds[i] & !active) | (values & active);
        self.undef_preds[i] &= !active;
    }

    pub fn copy_pred(&mut self, d: Pred, a: Condition, active: u32) {
        let (i, from) = (d.0 as usize, a.pred.0 as usize);
        let values = if a.negate { !self.preds[from] } else { self.preds[from] };
        self.preds[i] = (self.preds[i] & !active) | (values & active);
        self.undef_preds[i] = (self.undef_preds[i] & !active) | (self.undef_preds[from] & active);
    }

    /// A predicate's lanes, for the trace.
    pub fn pred(&self, p: Pred) -> u32 {
        self.preds[p.0 as usize]
    }
}

#[cold]
fn undefined(lanes: u32) -> Box<BadAccess> {
    let detail = "an operand was never written (or was loaded from memory that never was)".to_string();
    Box::new(BadAccess { check: Check::Uninitialised, lanes, address: None, detail, other: None })
}

#[cold]
fn undefined_predicate(lanes: u32) -> Box<BadAccess> {
    let detail = "a predicate was never written".to_string();
    Box::new(BadAccess { check: Check::Uninitialised, lanes, address: None, detail, other: None })
}

#[inline(always)]
fn blend(to: &mut Lanes, active: u32, values: &Lanes) {
    if active == ALL {
        *to = *values;
        return;
    }
    for l in 0..32 {
        let keep = ((active >> l) & 1).wrapping_sub(1);
        to[l] = (to[l] & keep) | (values[l] & !keep);
    }
}

#[inline(always)]
fn blend_wide(to: &mut WideLanes, active: u32, values: &WideLanes) {
    if active == ALL {
        *to = *values;
        return;
    }
    for l in 0..32 {
        let keep = (((active >> l) & 1) as u64).wrapping_sub(1);
        to[l] = (to[l] & keep) | (values[l] & !keep);
    }
}

/// What lies in a row: 32 or 64 bits a lane.
pub(super) trait Raw: Copy + Default {
    fn row<'r>(registers: &'r Registers<'_>, slot: Slot) -> &'r [Self; 32];
    fn check(registers: &Registers<'_>, slot: Slot, active: u32) -> Done;
    fn put(registers: &mut Registers<'_>, slot: Slot, active: u32, values: &[Self; 32]);
}

impl Raw for u32 {
    #[inline(always)]
    fn row<'r>(registers: &'r Registers<'_>, slot: Slot) -> &'r Lanes {
        registers.narrow(slot)
    }
    #[inline(always)]
    fn check(registers: &Registers<'_>, slot: Slot, active: u32) -> Done {
        registers.check(slot, active)
    }
    #[inline(always)]
    fn put(registers: &mut Registers<'_>, slot: Slot, active: u32, values: &Lanes) {
        registers.put(slot, active, values);
    }
}

impl Raw for u64 {
    #[inline(always)]
    fn row<'r>(registers: &'r Registers<'_>, slot: Slot) -> &'r WideLanes {
        registers.wide(slot)
    }
    #[inline(always)]
    fn check(registers: &Registers<'_>, slot: Slot, active: u32) -> Done {
        registers.check_wide(slot, active)
    }
    #[inline(always)]
    fn put(registers: &mut Registers<'_>, slot: Slot, active: u32, values: &WideLanes) {
        registers.put_wide(slot, active, values);
    }
}

/// A number as it lies in a register. Floats that come out as NaN become the hardware's one NaN.
pub(super) trait Value: Copy {
    type Raw: Raw;
    fn read(raw: Self::Raw) -> Self;
    fn write(self) -> Self::Raw;
}

macro_rules! integer_value {
    ($($ty:ty, $bits:ty, $raw:ty);*) => {$(
        impl Value for $ty {
            type Raw = $raw;
            #[inline(always)]
            fn read(raw: $raw) -> $ty {
                raw as $ty
            }
            #[inline(always)]
            fn write(self) -> $raw {
                self as $bits as $raw
            }
        }
    )*};
}

integer_value!(u8, u8, u32; i8, u8, u32; u16, u16, u32; i16, u16, u32; u32, u32, u32; i32, u32, u32; u64, u64, u64; i64, u64, u64);

pub(super) const NAN: u32 = 0x7fff_ffff;

impl Value for f32 {
    type Raw = u32;
    #[inline(always)]
    fn read(raw: u32) -> f32 {
        f32::from_bits(raw)
    }
    #[inline(always)]
    fn write(self) -> u32 {
        if self.is_nan() { NAN } else { self.to_bits() }
    }
}

impl Value for f64 {
    type Raw = u64;
    #[inline(always)]
    fn read(raw: u64) -> f64 {
        f64::from_bits(raw)
    }
    #[inline(always)]
    fn write(self) -> u64 {
        self.to_bits()
    }
}

type Source<'r, A> = &'r [<A as Value>::Raw; 32];

/// d = f(a), lane by lane.
#[inline(never)]
pub(super) fn map1<A: Value, D: Value>(
    r: &mut Registers<'_>,
    active: u32,
    [d, a]: [Slot; 2],
    f: impl Fn(A) -> D,
) -> Done {
    A::Raw::check(r, a, active)?;
    let x: Source<A> = A::Raw::row(r, a);
    let mut out = [D::Raw::default(); 32];
    for l in 0..32 {
        out[l] = f(A::read(x[l])).write();
    }
    D::Raw::put(r, d, active, &out);
    Ok(())
}

#[inline(never)]
pub(super) fn map2<A: Value, B: Value, D: Value>(
    r: &mut Registers<'_>,
    active: u32,
    [d, a, b]: [Slot; 3],
    f: impl Fn(A, B) -> D,
) -> Done {
    A::Raw::check(r, a, active)?;
    B::Raw::check(r, b, active)?;
    let x: Source<A> = A::Raw::row(r, a);
    let y: Source<B> = B::Raw::row(r, b);
    let mut out = [D::Raw::default(); 32];
    for l in 0..32 {
        out[l] = f(A::read(x[l]), B::read(y[l])).write();
    }
    D::Raw::put(r, d, active, &out);
    Ok(())
}

#[inline(never)]
pub(super) fn map3<A: Value, B: Value, C: Value, D: Value>(
    r: &mut Registers<'_>,
    active: u32,
    [d, a, b, c]: [Slot; 4],
    f: impl Fn(A, B, C) -> D,
) -> Done {
    A::Raw::check(r, a, active)?;
    B::Raw::check(r, b, active)?;
    C::Raw::check(r, c, active)?;
    let x: Source<A> = A::Raw::row(r, a);
    let y: Source<B> = B::Raw::row(r, b);
    let z: Source<C> = C::Raw::row(r, c);
    let mut out = [D::Raw::default(); 32];
    for l in 0..32 {
        out[l] = f(A::read(x[l]), B::read(y[l]), C::read(z[l])).write();
    }
    D::Raw::put(r, d, active, &out);
    Ok(())
}
