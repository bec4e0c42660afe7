//! Declarations of variables, with their first values.

use super::{Parser, data_type};
use crate::ir::{Space, Ty};
use crate::ptx::LoadError;
use crate::ptx::ast::{Init, Variable};
use crate::ptx::lex::Token;

/// More bytes than any device has: sizes beyond it are mistakes.
const MOST_BYTES: u64 = 1 << 40;
/// The most bytes of an initialiser.
const MOST_INIT: usize = 1 << 28;

pub(super) fn variable_space(name: &str) -> Option<Space> {
    Some(match name {
        "global" => Space::Global,
        "const" => Space::Const,
        "shared" => Space::Shared,
        "local" => Space::Local,
        "param" => Space::Param,
        _ => return None,
    })
}

impl<'a> Parser<'a> {
    /// `.space .align 4 .b8 a[5] = {…}, b`, without the `;`.
    pub(super) fn variables(&mut self, is_extern: bool, add: &mut dyn FnMut(Variable<'a>)) -> Result<(), LoadError> {
        let (space, ty, align) = self.variable_head()?;
        loop {
            add(self.variable(space, ty, align, is_extern)?);
            if !self.take(b',') {
                return Ok(());
            }
        }
    }

    /// Space, element type and alignment.
    pub(super) fn variable_head(&mut self) -> Result<(Space, Ty, usize), LoadError> {
        let mut space = None;
        let mut ty = None;
        let mut align = None;
        let mut vector = 1;
        while let Some(Token::Dotted(word)) = self.peek() {
            self.at += 1;
            match word {
                "align" => align = Some(self.alignment()?),
                // Parameters that are pointers: `.ptr .global .align 16`.
                "ptr" => self.pointer_note()?,
                "v2" => vector = 2,
                "v4" => vector = 4,
                _ => {
                    if let Some(found) = data_type(word) {
                        ty = Some(found);
                    } else if let (Some(found), None) = (variable_space(word), space) {
                        space = Some(found);
                    } else {
                        self.at -= 1;
                        return self.unknown(format!("`.{word}` in a declaration"));
                    }
                }
            }
        }
        match (space, ty) {
            (Some(space), Some(ty)) if vector == 1 => Ok((space, ty, align.unwrap_or(ty.bytes()))),
            (Some(_), Some(_)) => self.unknown("variables of a vector type"),
            _ => self.expected("a space and a type"),
        }
    }

    fn alignment(&mut self) -> Result<usize, LoadError> {
        let value = self.unsigned()?;
        if value.is_power_of_two() && value <= 1 << 16 {
            return Ok(value as usize);
        }
        self.at -= 1;
        self.expected("an alignment, a power of two")
    }

    fn pointer_note(&mut self) -> Result<(), LoadError> {
        while let Some(Token::Dotted(word)) = self.peek() {
            match word {
                "global" | "shared" | "const" | "local" => self.at += 1,
                "align" => {
                    self.at += 1;
                    self.alignment()?;
                }
                _ => break,
            }
        }
        Ok(())
    }

    pub(super) fn variable(
        &mut self,
        space: Space,
        ty: Ty,
        align: usize,
        is_extern: bool,
    ) -> Result<Variable<'a>, LoadError> {
        let (line, at) = (self.line(), self.at);
        let name = self.name()?;
        let mut count = 1u64;
        let mut open = false;
        while self.take(b'[') {
            if self.take(b']') {
                open = true;
                continue;
            }
            let length = self.unsigned()?;
            count = count.saturating_mul(length);
            self.need(b']')?;
        }
        let init = if self.take(b'=') { self.initialiser()? } else { Vec::new() };
        if open {
            count = init.len() as u64;
        }
        let bytes = count.saturating_mul(ty.bytes() as u64);
        if bytes > MOST_BYTES {
            return Err(LoadError::Syntax { line, what: format!("`{name}` has {bytes} bytes, more than any device") });
        }
        if init.len() as u64 > count {
            let what = format!("`{name}` has {count} elements and {} initial values", init.len());
            return Err(LoadError::Syntax { line, what });
        }
        Ok(Variable {
            line,
            at,
            name,
            space,
            is_extern,
            bytes: bytes as usize,
            align,
            element: ty.bytes(),
            init,
            register: None,
        })
    }

    /// `5` or `{1, 2, name+8, generic(name)}`; inner braces group only.
    fn initialiser(&mut self) -> Result<Vec<Init<'a>>, LoadError> {
        let mut found = Vec::new();
        if !self.is(b'{') {
            found.push(self.initial_value()?);
            return Ok(found);
        }
        let mut depth = 0usize;
        loop {
            if self.take(b'{') {
                depth += 1;
                continue;
            }
            if self.take(b'}') {
                depth -= 1;
            } else {
                found.push(self.initial_value()?);
                if found.len() > MOST_INIT {
                    return self.error("too many initial values");
                }
            }
            if depth == 0 {
                return Ok(found);
            }
            if !self.take(b',') && !self.is(b'}') {
                return self.expected("`,` or `}`");
            }
        }
    }

    fn initial_value(&mut self) -> Result<Init<'a>, LoadError> {
        if self.peek() == Some(Token::Name("generic")) && self.peek_second() == Some(Token::Punct(b'(')) {
            self.at += 2;
            let name = self.name()?;
            self.need(b')')?;
            let offset = self.sum_tail()?;
            return Ok(Init::Generic(name, offset));
        }
        Ok(Init::Value(self.value()?))
    }
}
