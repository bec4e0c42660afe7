//! Tokens → [`Module`]. No recursion: scopes stay brackets in the flow of statements.
//! One file: one pass over the tokens, a function a kind of statement.

use super::LoadError;
use super::ast::{Function, Init, Instruction, Module, Operand, Position, RegType, Statement, Value, Variable};
use super::lex::{Placed, Token, tokens};
use crate::ir::{Space, Ty};

/// More bytes than any device has: sizes beyond it are mistakes.
const MOST_BYTES: u64 = 1 << 40;
/// The most bytes of an initialiser.
const MOST_INIT: usize = 1 << 28;

/// The name of a type, as registers, variables and instructions have it.
pub fn data_type(name: &str) -> Option<Ty> {
    Some(match name {
        "b8" | "u8" => Ty::U8,
        "b16" | "u16" => Ty::U16,
        "b32" | "u32" => Ty::U32,
        "b64" | "u64" => Ty::U64,
        "s8" => Ty::S8,
        "s16" => Ty::S16,
        "s32" => Ty::S32,
        "s64" => Ty::S64,
        "f16" => Ty::F16,
        "f16x2" => Ty::F16x2,
        "bf16" => Ty::Bf16,
        "bf16x2" => Ty::Bf16x2,
        "f32" => Ty::F32,
        "f64" => Ty::F64,
        "e4m3" => Ty::E4m3,
        "e5m2" => Ty::E5m2,
        "e4m3x2" => Ty::E4m3x2,
        "e5m2x2" => Ty::E5m2x2,
        "tf32" => Ty::Tf32,
        _ => return None,
    })
}

fn variable_space(name: &str) -> Option<Space> {
    Some(match name {
        "global" => Space::Global,
        "const" => Space::Const,
        "shared" => Space::Shared,
        "local" => Space::Local,
        "param" => Space::Param,
        _ => return None,
    })
}

/// Parses a whole module.
pub fn parse(text: &str) -> Result<Module<'_>, LoadError> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0 };
    let mut module = Module::default();
    while !parser.is_end() {
        parser.top_level(&mut module)?;
    }
    if module.target == 0 {
        return Err(LoadError::Syntax { line: parser.line(), what: "the module has no `.target`".to_owned() });
    }
    Ok(module)
}

struct Parser<'a> {
    tokens: Vec<Placed<'a>>,
    at: usize,
}

fn show(token: Option<Token<'_>>) -> String {
    match token {
        None => "the end of the text".to_owned(),
        Some(Token::Name(name)) => format!("`{name}`"),
        Some(Token::Dotted(name)) => format!("`.{name}`"),
        Some(Token::Int(value)) => format!("`{value}`"),
        Some(Token::F32(bits)) => format!("`0f{bits:08X}`"),
        Some(Token::F64(bits)) => format!("`0d{bits:016X}`"),
        Some(Token::Text(text)) => format!("\"{text}\""),
        Some(Token::Punct(byte)) => format!("`{}`", char::from(byte)),
    }
}

impl<'a> Parser<'a> {
    fn is_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|placed| placed.token)
    }

    fn peek_second(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at + 1).map(|placed| placed.token)
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |placed| placed.line)
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn error<T>(&self, what: impl Into<String>) -> Result<T, LoadError> {
        Err(LoadError::Syntax { line: self.line(), what: what.into() })
    }

    fn expected<T>(&self, what: &str) -> Result<T, LoadError> {
        self.error(format!("expected {what}, found {}", show(self.peek())))
    }

    fn unknown<T>(&self, what: impl Into<String>) -> Result<T, LoadError> {
        Err(LoadError::Unknown { line: self.line(), text: String::new(), what: what.into() })
    }

    fn is(&self, byte: u8) -> bool {
        self.peek() == Some(Token::Punct(byte))
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.is(byte);
        if found {
            self.at += 1;
        }
        found
    }

    fn need(&mut self, byte: u8) -> Result<(), LoadError> {
        if self.take(byte) { Ok(()) } else { self.expected(&format!("`{}`", char::from(byte))) }
    }

    fn name(&mut self) -> Result<&'a str, LoadError> {
        match self.peek() {
            Some(Token::Name(name)) => {
                self.at += 1;
                Ok(name)
            }
            _ => self.expected("a name"),
        }
    }

    fn unsigned(&mut self) -> Result<u64, LoadError> {
        match self.peek() {
            Some(Token::Int(value)) => {
                self.at += 1;
                Ok(value)
            }
            _ => self.expected("a number"),
        }
    }

    fn small(&mut self) -> Result<u32, LoadError> {
        let line = self.line();
        let value = self.unsigned()?;
        u32::try_from(value)
            .map_err(|_| LoadError::Syntax { line, what: format!("{value} is too large a number here") })
    }

    fn take_dotted(&mut self, name: &str) -> bool {
        let found = self.peek() == Some(Token::Dotted(name));
        if found {
            self.at += 1;
        }
        found
    }

    fn top_level(&mut self, module: &mut Module<'a>) -> Result<(), LoadError> {
        let Some(Token::Dotted(directive)) = self.peek() else {
            return self.expected("a directive");
        };
        match directive {
            "version" => {
                self.at += 1;
                module.version = self.version()?;
            }
            "target" => {
                self.at += 1;
                module.target = self.target()?;
            }
            "address_size" => {
                self.at += 1;
                if self.peek() != Some(Token::Int(64)) {
                    return self.unknown("addresses have 64 bits");
                }
                self.at += 1;
            }
            "file" => {
                self.at += 1;
                let file = self.file()?;
                module.files.push(file);
            }
            "section" => self.skip_section()?,
            "pragma" => self.skip_statement()?,
            "loc" => {
                self.at += 1;
                self.location()?;
            }
            _ => self.declaration(module)?,
        }
        Ok(())
    }

    /// `9.0` lexes as a decimal number; no minor version had two digits.
    fn version(&mut self) -> Result<(u32, u32), LoadError> {
        let line = self.line();
        match self.next() {
            Some(Token::F64(bits)) => {
                let value = f64::from_bits(bits);
                let tenths = (value * 10.0).round();
                if (0.0..=990.0).contains(&tenths) {
                    let tenths = tenths as u32;
                    return Ok((tenths / 10, tenths % 10));
                }
            }
            Some(Token::Int(value)) => {
                if let Ok(major) = u32::try_from(value) {
                    return Ok((major, 0));
                }
            }
            _ => {}
        }
        Err(LoadError::Syntax { line, what: "expected a version like `9.0`".to_owned() })
    }

    /// `sm_80`, `sm_90a`, `sm_80, debug`
    fn target(&mut self) -> Result<u32, LoadError> {
        let line = self.line();
        let name = self.name()?;
        let digits = name.strip_prefix("sm_").unwrap_or("");
        let digits = digits.strip_suffix(['a', 'f']).unwrap_or(digits);
        let Some(number) = digits.parse::<u32>().ok().filter(|&number| number > 0) else {
            return Err(LoadError::Syntax { line, what: format!("expected a target like `sm_80`, found `{name}`") });
        };
        while self.take(b',') {
            match self.name()? {
                "debug" => {}
                other => return self.unknown(format!("the target option `{other}`")),
            }
        }
        Ok(number)
    }

    /// `1 "path"`, with a time and size behind.
    fn file(&mut self) -> Result<(u64, &'a str), LoadError> {
        let number = self.unsigned()?;
        let Some(Token::Text(path)) = self.next() else {
            self.at -= 1;
            return self.expected("a path in quotes");
        };
        while self.take(b',') {
            self.unsigned()?;
        }
        Ok((number, path))
    }

    /// `.section name { … }`: debug information, not read.
    fn skip_section(&mut self) -> Result<(), LoadError> {
        self.at += 1;
        match self.next() {
            Some(Token::Dotted(name)) if name.starts_with("debug_") || name.starts_with("nv_debug") => {}
            Some(Token::Name(name)) if name.starts_with("debug_") => {}
            _ => {
                self.at -= 1;
                return self.unknown("sections other than debug information");
            }
        }
        self.need(b'{')?;
        let mut depth = 1usize;
        while depth > 0 {
            match self.next() {
                Some(Token::Punct(b'{')) => depth += 1,
                Some(Token::Punct(b'}')) => depth -= 1,
                Some(_) => {}
                None => return self.expected("the section's end `}`"),
            }
        }
        Ok(())
    }

    fn skip_statement(&mut self) -> Result<(), LoadError> {
        loop {
            match self.next() {
                Some(Token::Punct(b';')) => return Ok(()),
                Some(Token::Punct(b'{' | b'}')) | None => {
                    self.at -= 1;
                    return self.expected("`;`");
                }
                Some(_) => {}
            }
        }
    }

    /// A function or a variable, with its linkage.
    fn declaration(&mut self, module: &mut Module<'a>) -> Result<(), LoadError> {
        let mut is_extern = false;
        loop {
            let Some(Token::Dotted(word)) = self.peek() else {
                return self.expected("a directive");
            };
            match word {
                "extern" => is_extern = true,
                "visible" | "weak" | "common" => {}
                "entry" | "func" => {
                    self.at += 1;
                    let function = self.function(word == "entry")?;
                    module.functions.push(function);
                    return Ok(());
                }
                _ if variable_space(word).is_some() => {
                    self.variables(is_extern, &mut |variable| module.variables.push(variable))?;
                    return self.need(b';');
                }
                _ => return self.unknown(format!("the directive `.{word}`")),
            }
            self.at += 1;
        }
    }

    /// `.space .align 4 .b8 a[5] = {…}, b`, without the `;`.
    fn variables(&mut self, is_extern: bool, add: &mut dyn FnMut(Variable<'a>)) -> Result<(), LoadError> {
        let (space, ty, align) = self.variable_head()?;
        loop {
            add(self.variable(space, ty, align, is_extern)?);
            if !self.take(b',') {
                return Ok(());
            }
        }
    }

    /// Space, element type and alignment.
    fn variable_head(&mut self) -> Result<(Space, Ty, usize), LoadError> {
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

    fn variable(&mut self, space: Space, ty: Ty, align: usize, is_extern: bool) -> Result<Variable<'a>, LoadError> {
        let line = self.line();
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
        Ok(Variable { line, name, space, is_extern, bytes: bytes as usize, align, element: ty.bytes(), init })
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

    /// `(returns) name (params) directives { body }` or `;`
    fn function(&mut self, is_entry: bool) -> Result<Function<'a>, LoadError> {
        let line = self.line();
        let returns = if self.is(b'(') { self.parameters()? } else { Vec::new() };
        let name = self.name()?;
        let params = if self.is(b'(') { self.parameters()? } else { Vec::new() };
        let mut function = Function {
            line,
            name,
            is_entry,
            returns,
            params,
            max_threads: None,
            required_threads: None,
            min_blocks: None,
            body: None,
        };
        self.function_directives(&mut function)?;
        if self.take(b';') {
            return Ok(function);
        }
        self.need(b'{')?;
        function.body = Some(self.body()?);
        Ok(function)
    }

    fn parameters(&mut self) -> Result<Vec<Variable<'a>>, LoadError> {
        self.need(b'(')?;
        let mut found = Vec::new();
        while !self.take(b')') {
            if self.peek() == Some(Token::Dotted("reg")) {
                return self.unknown("function parameters in registers");
            }
            let (space, ty, align) = self.variable_head()?;
            let name = self.variable(space, ty, align, false)?;
            if space != Space::Param || !name.init.is_empty() {
                return self.error("parameters are `.param` without initial value");
            }
            found.push(name);
            if !self.take(b',') && !self.is(b')') {
                return self.expected("`,` or `)`");
            }
        }
        Ok(found)
    }

    fn function_directives(&mut self, function: &mut Function<'a>) -> Result<(), LoadError> {
        while let Some(Token::Dotted(word)) = self.peek() {
            self.at += 1;
            match word {
                "maxntid" => {
                    let [x, y, z] = self.dimensions()?;
                    function.max_threads = Some(x.saturating_mul(y).saturating_mul(z));
                }
                "reqntid" => function.required_threads = Some(self.dimensions()?),
                "minnctapersm" => function.min_blocks = Some(self.small()?),
                // Tells the assembler, changes nothing here.
                "maxnreg" | "maxnctapersm" => {
                    self.small()?;
                }
                "noreturn" => {}
                "pragma" => self.skip_statement()?,
                _ => {
                    self.at -= 1;
                    return self.unknown(format!("the directive `.{word}`"));
                }
            }
        }
        Ok(())
    }

    fn dimensions(&mut self) -> Result<[u32; 3], LoadError> {
        let mut found = [self.small()?, 1, 1];
        for next in &mut found[1..] {
            if self.take(b',') {
                *next = self.small()?;
            }
        }
        Ok(found)
    }

    /// Statements up to the `}` of the function.
    fn body(&mut self) -> Result<Vec<Statement<'a>>, LoadError> {
        let mut found = Vec::new();
        let mut depth = 1usize;
        loop {
            if self.take(b'{') {
                depth += 1;
                found.push(Statement::Open);
            } else if self.take(b'}') {
                depth -= 1;
                if depth == 0 {
                    return Ok(found);
                }
                found.push(Statement::Close);
            } else {
                self.statement(&mut found)?;
            }
        }
    }

    fn statement(&mut self, into: &mut Vec<Statement<'a>>) -> Result<(), LoadError> {
        match self.peek() {
            Some(Token::Dotted(word)) => self.inner_directive(word, into),
            Some(Token::Name(_)) if self.peek_second() == Some(Token::Punct(b':')) => self.label(into),
            Some(Token::Name(_) | Token::Punct(b'@')) => {
                into.push(Statement::Instruction(self.instruction()?));
                Ok(())
            }
            Some(Token::Punct(b';')) => {
                self.at += 1;
                Ok(())
            }
            _ => self.expected("a statement"),
        }
    }

    fn inner_directive(&mut self, word: &'a str, into: &mut Vec<Statement<'a>>) -> Result<(), LoadError> {
        match word {
            "reg" => self.registers(into),
            "loc" => {
                self.at += 1;
                let location = self.location()?;
                into.push(location);
                Ok(())
            }
            "pragma" => self.skip_statement(),
            _ => {
                let is_extern = self.take_dotted("extern");
                self.variables(is_extern, &mut |variable| into.push(Statement::Variable(variable)))?;
                self.need(b';')
            }
        }
    }

    /// `.reg .b32 a, %r<5>;`
    fn registers(&mut self, into: &mut Vec<Statement<'a>>) -> Result<(), LoadError> {
        self.at += 1;
        let Some(Token::Dotted(word)) = self.peek() else {
            return self.expected("a type");
        };
        let ty = match data_type(word) {
            Some(ty) => RegType::Data(ty),
            None if word == "pred" => RegType::Pred,
            None => return self.unknown(format!("registers of the type `.{word}`")),
        };
        self.at += 1;
        loop {
            let line = self.line();
            let name = self.name()?;
            let mut count = None;
            if self.take(b'<') {
                count = Some(self.unsigned()?);
                self.need(b'>')?;
            }
            into.push(Statement::Register { line, ty, name, count });
            if !self.take(b',') {
                return self.need(b';');
            }
        }
    }

    /// `1 30 5`, `, function_name L+8`, `, inlined_at 1 20 3`
    fn location(&mut self) -> Result<Statement<'a>, LoadError> {
        let at = self.position()?;
        let mut inlined_at = None;
        while self.take(b',') {
            match self.name()? {
                "function_name" => {
                    self.name()?;
                    self.sum_tail()?;
                }
                "inlined_at" => inlined_at = Some(self.position()?),
                _ => {
                    self.at -= 1;
                    return self.expected("`function_name` or `inlined_at`");
                }
            }
        }
        Ok(Statement::Location { at, inlined_at })
    }

    fn position(&mut self) -> Result<Position, LoadError> {
        Ok((self.unsigned()?, self.small()?, self.small()?))
    }

    fn label(&mut self, into: &mut Vec<Statement<'a>>) -> Result<(), LoadError> {
        let line = self.line();
        let name = self.name()?;
        self.need(b':')?;
        if self.take_dotted("branchtargets") {
            let mut labels = vec![self.name()?];
            while self.take(b',') {
                labels.push(self.name()?);
            }
            into.push(Statement::Targets { line, name, labels });
            return self.need(b';');
        }
        if matches!(self.peek(), Some(Token::Dotted("callprototype" | "calltargets"))) {
            return self.skip_statement();
        }
        into.push(Statement::Label { line, name });
        Ok(())
    }

    fn instruction(&mut self) -> Result<Instruction<'a>, LoadError> {
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
            if self.is(b',') {
                return self.unknown("an address of several parts, as textures, surfaces and tensors have");
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
    fn value(&mut self) -> Result<Value<'a>, LoadError> {
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
    fn sum_tail(&mut self) -> Result<i64, LoadError> {
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
