//! Operands of the instruction that is being built: registers, constants, addresses, predicates.

use super::{Decoder, Result, Widen, arith};
use crate::ir::{Address, Condition, Op, Pred, Slot, Space, Ty};
use crate::ptx::ast::{Operand, Value};
use crate::ptx::scope::{Place, Symbol};
use crate::ptx::virtual_code::{PredRef, Register, SlotRef};

/// The names of a vector's elements.
const ELEMENTS: [[&str; 2]; 4] = [["x", "r"], ["y", "g"], ["z", "b"], ["w", "a"]];

impl<'a> Decoder<'_, 'a> {
    pub(super) fn push(&mut self, reference: SlotRef) -> Slot {
        self.slots.push(reference);
        Slot((self.slots.len() - 1) as u16)
    }

    pub(super) fn push_pred(&mut self, id: u32, is_write: bool) -> Pred {
        self.preds.push(PredRef { id, is_write });
        Pred((self.preds.len() - 1) as u16)
    }

    pub(super) fn constant(&mut self, value: u64, bytes: usize) -> Result<Slot> {
        let slot = self.constants.sized(value, bytes, self.line)?;
        Ok(self.push(SlotRef::Constant(slot)))
    }

    /// A register of the decoder's own. Its number, for [`Self::read`] and [`Self::write`].
    pub(super) fn temporary(&mut self, bytes: usize) -> u32 {
        self.virtual_code.registers.push(Register { bytes: bytes as u8, is_temporary: true });
        self.virtual_code.registers.len() as u32 - 1
    }

    pub(super) fn temporary_predicate(&mut self) -> u32 {
        self.virtual_code.predicates.push(true);
        self.virtual_code.predicates.len() as u32 - 1
    }

    pub(super) fn read(&mut self, register: u32) -> Slot {
        self.push(SlotRef::Read(register))
    }

    pub(super) fn write(&mut self, register: u32) -> Slot {
        self.push(SlotRef::Write(register))
    }

    /// Emits other instructions before the one that is being built.
    pub(super) fn aside<T>(&mut self, build: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let slots = std::mem::take(&mut self.slots);
        let preds = std::mem::take(&mut self.preds);
        let widen = std::mem::take(&mut self.widen);
        let result = build(self);
        self.slots = slots;
        self.preds = preds;
        self.widen = widen;
        result
    }

    pub(super) fn value(&self, operand: &Operand<'a>) -> Result<Value<'a>> {
        match operand {
            Operand::Value(value) => Ok(*value),
            _ => self.syntax("expected a register or a number"),
        }
    }

    /// A source of exactly `ty`'s size.
    pub(super) fn source(&mut self, operand: &Operand<'a>, ty: Ty) -> Result<Slot> {
        let value = self.value(operand)?;
        self.source_value(value, ty.bytes())
    }

    pub(super) fn source_value(&mut self, value: Value<'a>, bytes: usize) -> Result<Slot> {
        match value {
            Value::Int(value) => self.constant(value, bytes),
            Value::F32(bits) if bytes == 4 => self.constant(u64::from(bits), 4),
            Value::F64(bits) if bytes == 8 => self.constant(bits, 8),
            Value::F64(bits) if bytes == 4 => self.constant(u64::from((f64::from_bits(bits) as f32).to_bits()), 4),
            Value::F32(_) | Value::F64(_) => self.syntax(format!("a float constant where {bytes} bytes are expected")),
            Value::Member(name, member) => match self.element(name, member)? {
                Some((id, size)) if size == bytes => Ok(self.read(id)),
                Some((_, size)) => {
                    self.syntax(format!("`{name}.{member}` has {size} bytes where {bytes} are expected"))
                }
                None => self.special(name, Some(member), bytes),
            },
            Value::Name(name, offset) => match self.find(name)? {
                Some(Symbol::Register(id, size)) if usize::from(size) == bytes && offset == 0 => Ok(self.read(id)),
                Some(Symbol::Register(..)) if offset != 0 => {
                    self.syntax(format!("`{name}` is a register: a sum is not a value"))
                }
                Some(Symbol::Register(_, size)) => {
                    self.syntax(format!("`{name}` has {size} bytes where {bytes} are expected"))
                }
                Some(Symbol::Predicate(_)) => self.syntax(format!("`{name}` is a predicate, expected a value")),
                Some(Symbol::Vector(..)) => self.syntax(format!("`{name}` is a vector, expected one value")),
                Some(Symbol::Variable(place)) => self.address_of(place, offset, bytes),
                None => self.special(name, None, bytes),
            },
        }
    }

    /// The register of a vector's element, and its bytes.
    pub(super) fn element(&mut self, name: &'a str, member: &str) -> Result<Option<(u32, usize)>> {
        let Some(Symbol::Vector(first, bytes, count)) = self.find(name)? else { return Ok(None) };
        let index = ELEMENTS.iter().position(|names| names.contains(&member));
        match index.filter(|&index| index < usize::from(count)) {
            Some(index) => Ok(Some((first + index as u32, usize::from(bytes)))),
            None => self.syntax(format!("`{name}` has no element `{member}`")),
        }
    }

    /// The values of an operand in braces, or of the vector that it names.
    pub(super) fn vector(&mut self, operand: &Operand<'a>) -> Result<Option<Vec<Value<'a>>>> {
        Ok(match operand {
            Operand::Vector(values) => Some(values.clone()),
            Operand::Value(Value::Name(name, 0)) => match self.find(name)? {
                Some(Symbol::Vector(_, _, count)) => {
                    Some(ELEMENTS[..usize::from(count)].iter().map(|names| Value::Member(name, names[0])).collect())
                }
                _ => None,
            },
            _ => None,
        })
    }

    /// The address of a variable as a value.
    pub(super) fn address_of(&mut self, place: Place, offset: i64, bytes: usize) -> Result<Slot> {
        if bytes < 4 {
            return self.syntax(format!("an address does not fit into {bytes} bytes"));
        }
        match place {
            Place::Global(_) | Place::Const(_) if bytes < 8 => {
                self.syntax("an address of global memory does not fit into 4 bytes")
            }
            Place::Global(at) => {
                let slot = self.constants.global_address(at.wrapping_add_signed(offset), self.line)?;
                Ok(self.push(SlotRef::Constant(slot)))
            }
            Place::Const(at) | Place::Shared(at) | Place::Local(at) | Place::Param(at) => {
                self.constant(at.wrapping_add_signed(offset), bytes)
            }
            Place::DynamicShared if bytes == 4 => Ok(self.push(SlotRef::DynamicShared(offset))),
            Place::DynamicShared => {
                let narrow = self.temporary(4);
                self.aside(|d| {
                    let a = d.push(SlotRef::DynamicShared(offset));
                    let to = d.write(narrow);
                    d.emit(Op::Mov { wide: false, d: to, a })
                })?;
                self.widened(narrow, Ty::U64, Ty::U32)
            }
        }
    }

    /// A temporary with `register` converted.
    pub(super) fn widened(&mut self, register: u32, to: Ty, from: Ty) -> Result<Slot> {
        let result = self.temporary(to.bytes());
        self.aside(|d| {
            let a = d.read(register);
            let to_slot = d.write(result);
            d.emit(Op::Cvt { to, from, mode: arith::PLAIN, d: to_slot, a })
        })?;
        Ok(self.read(result))
    }

    /// A source of `ty` whose register may be wider: its low part counts (`st`, `cvt`).
    pub(super) fn wide_source(&mut self, value: Value<'a>, ty: Ty) -> Result<Slot> {
        if let Value::Name(name, 0) = value
            && let Some(Symbol::Register(id, bytes)) = self.find(name)?
            && usize::from(bytes) > ty.bytes()
        {
            return if bytes == 8 { self.widened(id, Ty::U32, Ty::U64) } else { Ok(self.read(id)) };
        }
        let bytes = if ty.bytes() == 1 && matches!(value, Value::Int(_)) { 4 } else { ty.bytes() };
        self.source_value(value, bytes)
    }

    /// A destination of exactly `ty`'s size.
    pub(super) fn dest(&mut self, operand: &Operand<'a>, ty: Ty) -> Result<Slot> {
        let (id, bytes) = self.register(self.value(operand)?)?;
        if bytes != ty.bytes() {
            return self.syntax(format!("the destination has {bytes} bytes where {} are expected", ty.bytes()));
        }
        Ok(self.write(id))
    }

    /// As [`Self::dest`]; `None` is the sink `_`.
    pub(super) fn dest_or_sink(&mut self, operand: &Operand<'a>, ty: Ty) -> Result<Option<Slot>> {
        if is_sink(operand) { Ok(None) } else { self.dest(operand, ty).map(Some) }
    }

    pub(super) fn register(&mut self, value: Value<'a>) -> Result<(u32, usize)> {
        match value {
            Value::Name(name, 0) => match self.find(name)? {
                Some(Symbol::Register(id, bytes)) => Ok((id, usize::from(bytes))),
                Some(_) => self.syntax(format!("`{name}` is not a data register")),
                None => self.undeclared(name),
            },
            Value::Member(name, member) => match self.element(name, member)? {
                Some(found) => Ok(found),
                None => self.syntax(format!("`{name}.{member}` is not a data register")),
            },
            _ => self.syntax("expected a register"),
        }
    }

    /// A destination that may be wider than `ty` (`ld`, `cvt`): the value is extended by `ty`'s sign to the register's
    /// size. `to_word`: the operation itself extends to 32 bits.
    pub(super) fn wide_dest(&mut self, value: Value<'a>, ty: Ty, to_word: bool) -> Result<Slot> {
        let (id, bytes) = self.register(value)?;
        if bytes < ty.bytes() {
            return self.syntax(format!("the destination has {bytes} bytes where {} are expected", ty.bytes()));
        }
        let signed = matches!(ty, Ty::S8 | Ty::S16 | Ty::S32);
        let by_itself = match bytes {
            8 => ty.bytes() == 8,
            4 => ty.bytes() == 4 || to_word || !signed,
            _ => ty.bytes() == bytes || !signed,
        };
        if by_itself {
            return Ok(self.write(id));
        }
        let temporary = self.temporary(4);
        // Of what the operation extends to 32 bits only the last step is left.
        let from = match (to_word && bytes == 8, signed) {
            (true, true) => Ty::S32,
            (true, false) => Ty::U32,
            _ => ty,
        };
        let to = match (bytes, signed) {
            (8, true) => Ty::S64,
            (8, false) => Ty::U64,
            (4, _) => Ty::S32,
            _ => Ty::S16,
        };
        self.widen.push(Widen { to, from, temporary, register: id });
        Ok(self.write(temporary))
    }

    pub(super) fn pred_dest(&mut self, name: &'a str) -> Result<Pred> {
        let id = self.predicate(name)?;
        Ok(self.push_pred(id, true))
    }

    pub(super) fn pred_dest_of(&mut self, operand: &Operand<'a>) -> Result<Pred> {
        match operand {
            Operand::Value(Value::Name(name, 0)) => self.pred_dest(name),
            _ => self.syntax("expected a predicate"),
        }
    }

    /// `p`, `!p`, or a number (0 is false).
    pub(super) fn condition(&mut self, operand: &Operand<'a>) -> Result<Condition> {
        match operand {
            Operand::Value(Value::Name(name, 0)) => {
                let id = self.predicate(name)?;
                Ok(Condition { pred: self.push_pred(id, false), negate: false })
            }
            Operand::Not(name) => {
                let id = self.predicate(name)?;
                Ok(Condition { pred: self.push_pred(id, false), negate: true })
            }
            Operand::Value(Value::Int(value)) => {
                let id = self.temporary_predicate();
                self.aside(|d| {
                    let to = d.push_pred(id, true);
                    d.emit(Op::PredConst { d: to, value: *value != 0 })
                })?;
                Ok(Condition { pred: self.push_pred(id, false), negate: false })
            }
            _ => self.syntax("expected a predicate"),
        }
    }

    /// `d|p`, or `d` alone.
    pub(super) fn dest_and_pred(&mut self, operand: &Operand<'a>, ty: Ty) -> Result<(Slot, Option<Pred>)> {
        match operand {
            Operand::Pair(d, p) => {
                let slot = self.dest(&Operand::Value(Value::Name(d, 0)), ty)?;
                Ok((slot, Some(self.pred_dest(p)?)))
            }
            _ => Ok((self.dest(operand, ty)?, None)),
        }
    }

    /// An address and the space that it really lies in: parameters of calls are local memory.
    pub(super) fn address(&mut self, operand: &Operand<'a>, space: Space) -> Result<(Address, Space)> {
        let Operand::Memory { base, offset } = operand else {
            return self.syntax("expected an address in brackets");
        };
        let in_call = self.frames.len() > 1;
        let register_space = if space == Space::Param && in_call { Space::Local } else { space };
        let Some(name) = base else {
            return Ok((Address { base: None, narrow: false, offset: *offset }, register_space));
        };
        match self.find(name)? {
            Some(Symbol::Register(id, 8)) => {
                let base = Some(self.read(id));
                Ok((Address { base, narrow: false, offset: *offset }, register_space))
            }
            Some(Symbol::Register(id, 4)) if !matches!(space, Space::Generic | Space::Global) => {
                let base = Some(self.read(id));
                Ok((Address { base, narrow: true, offset: *offset }, register_space))
            }
            Some(Symbol::Register(_, bytes)) => {
                self.syntax(format!("`{name}` has {bytes} bytes and is no address of this space"))
            }
            Some(Symbol::Predicate(_) | Symbol::Vector(..)) => {
                self.syntax(format!("`{name}` is a predicate or a vector, expected an address"))
            }
            Some(Symbol::Variable(place)) => self.variable_address(name, place, *offset, space),
            None => self.undeclared(name),
        }
    }

    pub(super) fn variable_address(
        &mut self,
        name: &str,
        place: Place,
        offset: i64,
        space: Space,
    ) -> Result<(Address, Space)> {
        let fixed = |at: u64| Address { base: None, narrow: false, offset: (at as i64).wrapping_add(offset) };
        match (place, space) {
            (Place::Global(at), Space::Global | Space::Generic) => {
                let slot = self.constants.global_address(at, self.line)?;
                let base = Some(self.push(SlotRef::Constant(slot)));
                Ok((Address { base, narrow: false, offset }, space))
            }
            // A variable named in a generic access says itself where it lies.
            (Place::DynamicShared, Space::Shared | Space::SharedCluster | Space::Generic) => {
                let base = Some(self.push(SlotRef::DynamicShared(0)));
                let space = if space == Space::Generic { Space::Shared } else { space };
                Ok((Address { base, narrow: true, offset }, space))
            }
            (Place::Shared(at), Space::Generic) => Ok((fixed(at), Space::Shared)),
            (Place::Shared(at), Space::Shared | Space::SharedCluster) => Ok((fixed(at), space)),
            (Place::Const(at), Space::Const) => Ok((fixed(at), space)),
            (Place::Param(at), Space::Param) => Ok((fixed(at), space)),
            (Place::Local(at), Space::Local | Space::Param | Space::Generic) => Ok((fixed(at), Space::Local)),
            _ => self.syntax(format!("`{name}` does not lie in this instruction's space")),
        }
    }

    /// An address of `space`; a generic one in a register is converted first, which checks that it lies there.
    pub(super) fn converted_address(&mut self, operand: &Operand<'a>, space: Space) -> Result<Address> {
        let Operand::Memory { base: Some(name), offset } = operand else {
            return self.syntax("expected a generic address in a register");
        };
        let converted = self.temporary(8);
        self.aside(|d| {
            let a = d.source_value(Value::Name(name, 0), 8)?;
            let to = d.write(converted);
            d.emit(Op::Cvta { space, to_generic: false, d: to, a })
        })?;
        Ok(Address { base: Some(self.read(converted)), narrow: false, offset: *offset })
    }
}

pub(super) fn is_sink(operand: &Operand<'_>) -> bool {
    matches!(operand, Operand::Value(Value::Name("_", 0)))
}
