//! What names mean: scopes of a function's body, each hiding the outer ones.

use super::ast::{RegType, Statement};
use std::collections::HashMap;

/// A variable's place, as an address of its space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Bytes from the start of the bank of `.global` variables.
    Global(u64),
    /// Bytes from the start of the bank of `.const` variables.
    Const(u64),
    /// In shared-space addresses.
    Shared(u64),
    /// Where dynamic shared memory begins: known when all static variables are.
    DynamicShared,
    /// In local-space addresses.
    Local(u64),
    /// Bytes from the start of the kernel's parameters.
    Param(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symbol {
    /// A virtual register and its bytes.
    Register(u32, u8),
    Predicate(u32),
    /// Neighbouring virtual registers: the first, bytes of each, how many.
    Vector(u32, u8, u8),
    Variable(Place),
}

/// `.reg .b32 %r<40>`: registers made when first named, so that a huge count costs nothing.
#[derive(Clone, Copy)]
struct Range {
    ty: RegType,
    count: u64,
}

#[derive(Default)]
struct Scope<'a> {
    names: HashMap<&'a str, Symbol>,
    ranges: HashMap<&'a str, Range>,
}

/// The open scopes of one body, innermost last.
#[derive(Default)]
pub struct Scopes<'a> {
    open: Vec<Scope<'a>>,
}

/// Makes virtual registers.
pub trait NewRegister {
    fn register(&mut self, ty: RegType) -> Symbol;
}

impl<'a> Scopes<'a> {
    pub fn enter(&mut self) {
        self.open.push(Scope::default());
    }

    pub fn leave(&mut self) {
        self.open.pop();
    }

    /// False if the scope has the name already.
    pub fn declare(&mut self, name: &'a str, symbol: Symbol) -> bool {
        self.open.last_mut().is_none_or(|scope| scope.names.insert(name, symbol).is_none())
    }

    /// False if the scope has the name already.
    pub fn declare_range(&mut self, name: &'a str, ty: RegType, count: u64) -> bool {
        self.open.last_mut().is_none_or(|scope| scope.ranges.insert(name, Range { ty, count }).is_none())
    }

    /// What `name` means here, looking outwards.
    pub fn find(&mut self, name: &'a str, make: &mut impl NewRegister) -> Option<Symbol> {
        for scope in self.open.iter_mut().rev() {
            if let Some(&symbol) = scope.names.get(name) {
                return Some(symbol);
            }
            if let Some(ty) = scope.in_range(name) {
                let symbol = make.register(ty);
                scope.names.insert(name, symbol);
                return Some(symbol);
            }
        }
        None
    }
}

impl Scope<'_> {
    /// `%r12` lies in `%r<13>`; the split between name and number may be at any digit.
    fn in_range(&self, name: &str) -> Option<RegType> {
        if self.ranges.is_empty() {
            return None;
        }
        let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
        (1..=digits).rev().find_map(|length| {
            let (prefix, number) = name.split_at_checked(name.len() - length)?;
            if number.len() > 1 && number.starts_with('0') {
                return None;
            }
            let range = self.ranges.get(prefix)?;
            (number.parse::<u64>().ok()? < range.count).then_some(range.ty)
        })
    }
}

/// Labels of a body: each scope's own, found before any instruction is decoded since jumps go forward too.
pub struct Labels<'a> {
    found: HashMap<(u32, &'a str), u32>,
    tables: HashMap<(u32, &'a str), (u32, &'a [&'a str])>,
    /// Scope that each scope lies in; the body is scope 0.
    outer: Vec<u32>,
}

impl<'a> Labels<'a> {
    /// Labels get numbers from `first` on. Errors: line and name of a label that its scope has twice.
    pub fn collect(body: &'a [Statement<'a>], first: u32) -> Result<Labels<'a>, (u32, &'a str)> {
        let mut labels = Labels { found: HashMap::new(), tables: HashMap::new(), outer: vec![0] };
        let mut scope = 0u32;
        for statement in body {
            match statement {
                Statement::Open => {
                    labels.outer.push(scope);
                    scope = (labels.outer.len() - 1) as u32;
                }
                Statement::Close => scope = labels.outer_of(scope),
                Statement::Label { line, name } => {
                    let number = first + labels.found.len() as u32;
                    if labels.found.insert((scope, name), number).is_some() {
                        return Err((*line, name));
                    }
                }
                Statement::Targets { line, name, labels: targets } => {
                    labels.tables.insert((scope, name), (*line, targets));
                }
                _ => {}
            }
        }
        Ok(labels)
    }

    pub fn count(&self) -> u32 {
        self.found.len() as u32
    }

    pub fn outer_of(&self, scope: u32) -> u32 {
        self.outer.get(scope as usize).copied().unwrap_or(0)
    }

    /// The label's number, looking outwards from `scope`.
    pub fn find(&self, scope: u32, name: &str) -> Option<u32> {
        self.outwards(scope, |scope| self.found.get(&(scope, name)).copied())
    }

    /// Line and labels of a `.branchtargets`.
    pub fn table(&self, scope: u32, name: &str) -> Option<(u32, &'a [&'a str])> {
        self.outwards(scope, |scope| self.tables.get(&(scope, name)).copied())
    }

    fn outwards<T>(&self, mut scope: u32, look: impl Fn(u32) -> Option<T>) -> Option<T> {
        loop {
            if let Some(found) = look(scope) {
                return Some(found);
            }
            if scope == 0 {
                return None;
            }
            scope = self.outer_of(scope);
        }
    }
}
