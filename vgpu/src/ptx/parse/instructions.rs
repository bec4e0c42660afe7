//! Instructions and their operands.

use super::Parser;
use crate::ptx::LoadError;
use crate::ptx::ast::{Instruction, Operand, Value};
use crate::ptx::lex::Token;

impl<'a> Parser<'a> {
    pub(super) fn instruction(&mut self) -> Result<Instruction<'a>, LoadError> {
        let mut guard = None;
        if self.take(b'@') {
            let negate = self.take(b'!');
            guard = Some((self.name()?, negate));
        }
        let line = self.line();
        let opcode = self.name()?;
        let mut modifiers = Vec::new();
        while let Some(Token::Dotted(word)) = self.peek() {
            self.at += 1;
            modifiers.push(word);
        }
        let mut operands = Vec::new();
        while !self.take(b';') {
            if !operands.is_empty() {
                self.need(b',')?;
            }
            operands.push(self.operand()?);
        }
        Ok(Instruction { line, guard, opcode, modifiers, operands })
    }

    fn operand(&mut self) -> Result<Operand<'a>, LoadError> {
        if self.take(b'{') {
            return Ok(Operand::Vector(self.values(b'}')?));
        }
        if self.take(b'(') {
            return Ok(Operand::List(self.values(b')')?));
        }
        if self.take(b'[') {
            let operand = self.memory()?;
            if self.take(b',') {
                return self.tensor(operand);
            }
            self.need(b']')?;
            return Ok(operand);
        }
        if self.take(b'!') {
            return Ok(Operand::Not(self.name()?));
        }
        if let (Some(Token::Name(first)), Some(Token::Punct(b'|'))) = (self.peek(), self.peek_second()) {
            self.at += 2;
            return Ok(Operand::Pair(first, self.name()?));
        }
        Ok(Operand::Value(self.value()?))
    }

    /// A tensor's coordinates, behind its map.
    fn tensor(&mut self, map: Operand<'a>) -> Result<Operand<'a>, LoadError> {
        let Operand::Memory { base: Some(base), offset } = map else {
            return self.error("a tensor's map is a register or a variable");
        };
        if !self.take(b'{') {
            return self.unknown("an address of several parts, as textures and surfaces have");
        }
        let coordinates = self.values(b'}')?;
        self.need(b']')?;
        Ok(Operand::Tensor { base, offset, coordinates })
    }

    fn values(&mut self, end: u8) -> Result<Vec<Value<'a>>, LoadError> {
        let mut found = Vec::new();
        while !self.take(end) {
            if !found.is_empty() {
                self.need(b',')?;
            }
            found.push(self.value()?);
        }
        Ok(found)
    }

    fn memory(&mut self) -> Result<Operand<'a>, LoadError> {
        Ok(match self.value()? {
            Value::Name(name, offset) => Operand::Memory { base: Some(name), offset },
            Value::Int(address) => Operand::Memory { base: None, offset: address as i64 },
            _ => return self.error("an address is a register, a variable or a number, plus a number"),
        })
    }

    /// A number, a name, or a sum of them.
    pub(super) fn value(&mut self) -> Result<Value<'a>, LoadError> {
        let negative = self.take(b'-');
        let inverted = !negative && self.take(b'~');
        match self.next() {
            Some(Token::Int(value)) => {
                let value = if negative { value.wrapping_neg() } else { value };
                let value = if inverted { !value } else { value };
                Ok(Value::Int(value.wrapping_add(self.sum_tail()? as u64)))
            }
            Some(Token::F32(bits)) if !inverted => Ok(Value::F32(bits ^ (u32::from(negative) << 31))),
            Some(Token::F64(bits)) if !inverted => Ok(Value::F64(bits ^ (u64::from(negative) << 63))),
            Some(Token::Name(name)) if !negative && !inverted => {
                if let Some(Token::Dotted(member)) = self.peek() {
                    self.at += 1;
                    return Ok(Value::Member(name, member));
                }
                Ok(Value::Name(name, self.sum_tail()?))
            }
            _ => {
                self.at -= 1;
                self.expected("a value")
            }
        }
    }

    /// `+ 8 - 4 + -2`: the rest of a sum.
    pub(super) fn sum_tail(&mut self) -> Result<i64, LoadError> {
        let mut sum = 0i64;
        loop {
            let mut negative = match self.peek() {
                Some(Token::Punct(b'+')) => false,
                Some(Token::Punct(b'-')) => true,
                _ => return Ok(sum),
            };
            self.at += 1;
            if self.take(b'-') {
                negative = !negative;
            }
            let term = self.unsigned()? as i64;
            sum = if negative { sum.wrapping_sub(term) } else { sum.wrapping_add(term) };
        }
    }
}
