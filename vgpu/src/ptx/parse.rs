//! Tokens → [`Module`]. No recursion: scopes stay brackets in the flow of statements.

mod instructions;
mod variables;

use super::LoadError;
use super::ast::{Function, Module, Position, RegType, Statement, Variable};
use super::lex::{Placed, Token, tokens};
use crate::ir::{Space, Ty};
use variables::variable_space;

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
                (module.target, module.exact_target) = self.target()?;
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
    fn target(&mut self) -> Result<(u32, bool), LoadError> {
        let line = self.line();
        let name = self.name()?;
        let digits = name.strip_prefix("sm_").unwrap_or("");
        let exact = digits.strip_suffix('a');
        let digits = exact.or(digits.strip_suffix('f')).unwrap_or(digits);
        let Some(number) = digits.parse::<u32>().ok().filter(|&number| number > 0) else {
            return Err(LoadError::Syntax { line, what: format!("expected a target like `sm_80`, found `{name}`") });
        };
        while self.take(b',') {
            match self.name()? {
                "debug" => {}
                other => return self.unknown(format!("the target option `{other}`")),
            }
        }
        Ok((number, exact.is_some()))
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

    /// `(returns) name (params) directives { body }` or `;`
    fn function(&mut self, is_entry: bool) -> Result<Function<'a>, LoadError> {
        let line = self.line();
        let returns = if self.is(b'(') { self.parameters(is_entry)? } else { Vec::new() };
        let name = self.name()?;
        let params = if self.is(b'(') { self.parameters(is_entry)? } else { Vec::new() };
        let mut function = Function {
            line,
            name,
            is_entry,
            returns,
            params,
            max_threads: None,
            required_threads: None,
            min_blocks: None,
            required_cluster: None,
            explicit_cluster: false,
            max_cluster: None,
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

    /// `.b32 a`, behind `.reg`.
    fn register_parameter(&mut self) -> Result<Variable<'a>, LoadError> {
        while self.take_dotted("align") {
            self.unsigned()?;
        }
        let register = Some(self.register_type()?);
        let (line, at) = (self.line(), self.at);
        let name = self.name()?;
        let (space, is_extern, init) = (Space::Param, false, Vec::new());
        Ok(Variable { line, at, name, space, is_extern, bytes: 0, align: 1, element: 1, init, register })
    }

    fn register_type(&mut self) -> Result<RegType, LoadError> {
        let Some(Token::Dotted(word)) = self.peek() else {
            return self.expected("a type");
        };
        let ty = match data_type(word) {
            Some(ty) => RegType::Data(ty),
            None if word == "pred" => RegType::Pred,
            None => return self.unknown(format!("registers of the type `.{word}`")),
        };
        self.at += 1;
        Ok(ty)
    }

    fn parameters(&mut self, is_entry: bool) -> Result<Vec<Variable<'a>>, LoadError> {
        self.need(b'(')?;
        let mut found = Vec::new();
        while !self.take(b')') {
            if !is_entry && self.take_dotted("reg") {
                found.push(self.register_parameter()?);
                if !self.take(b',') && !self.is(b')') {
                    return self.expected("`,` or `)`");
                }
                continue;
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
                "reqnctapercluster" => function.required_cluster = Some(self.dimensions()?),
                "explicitcluster" => function.explicit_cluster = true,
                "maxclusterrank" => function.max_cluster = Some(self.small()?),
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
        let elements = match self.peek() {
            Some(Token::Dotted("v2")) => 2,
            Some(Token::Dotted("v4")) => 4,
            _ => 1,
        };
        self.at += usize::from(elements > 1);
        let ty = self.register_type()?;
        if elements > 1 && ty == RegType::Pred {
            return self.error("predicates have no vectors");
        }
        loop {
            let line = self.line();
            let name = self.name()?;
            let mut count = None;
            if self.take(b'<') {
                count = Some(self.unsigned()?);
                self.need(b'>')?;
                if elements > 1 {
                    return self.unknown("numbered registers of a vector type");
                }
            }
            into.push(Statement::Register { line, ty, name, count, elements });
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
}
