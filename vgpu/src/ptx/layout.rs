//! Where a module's variables and parameters lie, and their first bytes.

use super::LoadError;
use super::ast::{Function, Init, Module, Statement, Value, Variable};
use super::scope::Place;
use crate::ir;
use crate::ir::Space;
use crate::mem::CONST_WINDOW;
use std::collections::{HashMap, HashSet};

/// Bytes taken one after the other.
#[derive(Clone, Copy, Default)]
pub struct Layout {
    pub bytes: usize,
}

impl Layout {
    /// Offset of the next `bytes`; `None` if that is more than can be.
    pub fn add(&mut self, bytes: usize, align: usize) -> Option<usize> {
        let offset = self.bytes.checked_next_multiple_of(align.max(1))?;
        self.bytes = offset.checked_add(bytes).filter(|&end| end <= 1 << 40)?;
        Some(offset)
    }
}

/// What the module declares, by name.
#[derive(Default)]
pub struct ModuleTable<'a> {
    /// `.global` and `.const` variables.
    pub places: HashMap<&'a str, Place>,
    /// `.shared` variables of the module: each kernel that names one has its own.
    pub shared: HashMap<&'a str, &'a Variable<'a>>,
    pub functions: HashMap<&'a str, &'a Function<'a>>,
    /// `.global` and `.const` variables inside functions, by [`Variable::at`].
    pub inner: HashMap<usize, Place>,
    /// `.extern` variables without a definition.
    pub missing: HashSet<&'a str>,
}

/// The module's names and variables, with the bytes of both banks.
pub struct Laid<'a> {
    pub table: ModuleTable<'a>,
    pub variables: Vec<ir::Variable>,
    pub global_bytes: usize,
    pub const_bytes: usize,
}

/// Gives every variable its place and its initial bytes.
pub fn lay_out<'a>(module: &'a Module<'a>) -> Result<Laid<'a>, LoadError> {
    let mut laid = Laid { table: ModuleTable::default(), variables: Vec::new(), global_bytes: 0, const_bytes: 0 };
    let (mut global, mut constant) = (Layout::default(), Layout::default());
    // With the number of the function that each lies in.
    let mut placed: Vec<(&Variable<'_>, Option<usize>)> = Vec::new();
    for variable in &module.variables {
        let bank = match variable.space {
            Space::Global => &mut global,
            Space::Const => &mut constant,
            Space::Shared => {
                laid.table.shared.insert(variable.name, variable);
                continue;
            }
            _ => return syntax(variable, "is neither `.global`, `.const` nor `.shared`"),
        };
        if variable.is_extern {
            laid.table.missing.insert(variable.name);
            continue;
        }
        let made = place(bank, variable, variable.name.to_owned())?;
        if laid.table.places.insert(variable.name, place_of(&made)).is_some() {
            return syntax(variable, "is declared twice");
        }
        laid.variables.push(made);
        placed.push((variable, None));
    }
    let mut names: Vec<HashMap<&str, Place>> = vec![HashMap::new(); module.functions.len()];
    for (number, function) in module.functions.iter().enumerate() {
        for statement in function.body.iter().flatten() {
            let Statement::Variable(variable) = statement else { continue };
            let bank = match variable.space {
                Space::Global => &mut global,
                Space::Const => &mut constant,
                _ => continue,
            };
            // The name is the function's own: the driver finds it under no other.
            let made = place(bank, variable, format!("{}.{}.{}", function.name, variable.name, variable.at))?;
            names[number].insert(variable.name, place_of(&made));
            laid.table.inner.insert(variable.at, place_of(&made));
            laid.variables.push(made);
            placed.push((variable, Some(number)));
        }
    }
    for (made, (variable, function)) in laid.variables.iter_mut().zip(placed) {
        let own = |name: &str| names.get(function?)?.get(name).copied();
        initialise(made, variable, |name| own(name).or(laid.table.places.get(name).copied()))?;
    }
    for function in &module.functions {
        let known = laid.table.functions.insert(function.name, function);
        match known {
            Some(earlier) if earlier.body.is_some() && function.body.is_none() => {
                laid.table.functions.insert(function.name, earlier);
            }
            Some(earlier) if earlier.body.is_some() => {
                let what = format!("the function `{}` is defined twice", function.name);
                return Err(LoadError::Syntax { line: function.line, what });
            }
            _ => {}
        }
    }
    laid.global_bytes = global.bytes;
    laid.const_bytes = constant.bytes;
    Ok(laid)
}

fn place(bank: &mut Layout, variable: &Variable<'_>, name: String) -> Result<ir::Variable, LoadError> {
    let Some(offset) = bank.add(variable.bytes, variable.align) else {
        return syntax(variable, "does not fit: the variables have more bytes than any device");
    };
    Ok(ir::Variable {
        name,
        space: variable.space,
        bytes: variable.bytes,
        align: variable.align,
        init: Vec::new(),
        offset,
        pointers: Vec::new(),
    })
}

fn place_of(variable: &ir::Variable) -> Place {
    let at = variable.offset as u64;
    if variable.space == Space::Global { Place::Global(at) } else { Place::Const(at) }
}

fn syntax<T>(variable: &Variable<'_>, what: &str) -> Result<T, LoadError> {
    Err(LoadError::Syntax { line: variable.line, what: format!("`{}` {what}", variable.name) })
}

fn initialise(
    made: &mut ir::Variable,
    variable: &Variable<'_>,
    find: impl Fn(&str) -> Option<Place>,
) -> Result<(), LoadError> {
    for element in &variable.init {
        let (name, offset) = match *element {
            Init::Value(Value::Int(value)) => {
                push(&mut made.init, &value.to_le_bytes(), variable.element);
                continue;
            }
            Init::Value(Value::F32(bits)) if variable.element == 4 => {
                push(&mut made.init, &bits.to_le_bytes(), 4);
                continue;
            }
            Init::Value(Value::F64(bits)) if variable.element == 8 => {
                push(&mut made.init, &bits.to_le_bytes(), 8);
                continue;
            }
            Init::Value(Value::F64(bits)) if variable.element == 4 => {
                push(&mut made.init, &(f64::from_bits(bits) as f32).to_le_bytes(), 4);
                continue;
            }
            Init::Value(Value::Name(name, offset)) | Init::Generic(name, offset) => (name, offset),
            Init::Value(_) => return syntax(variable, "has an initial value of another type"),
        };
        match find(name) {
            // Its address in its own space, or as a generic one.
            Some(Place::Const(at)) if variable.element == 8 => {
                let window = if matches!(element, Init::Generic(..)) { CONST_WINDOW } else { 0 };
                push(&mut made.init, &(window + at).wrapping_add_signed(offset).to_le_bytes(), 8);
            }
            Some(Place::Global(at)) if variable.element == 8 => {
                made.pointers.push((made.init.len(), at.wrapping_add_signed(offset)));
                push(&mut made.init, &[0; 8], 8);
            }
            _ => {
                let what = format!(
                    "`{}` begins with the address of `{name}`, no `.global` or `.const` variable",
                    variable.name
                );
                return Err(LoadError::Unknown { line: variable.line, text: String::new(), what });
            }
        }
    }
    Ok(())
}

fn push(init: &mut Vec<u8>, bytes: &[u8], count: usize) {
    init.extend_from_slice(bytes.get(..count).unwrap_or(bytes));
}

/// An entry's parameters: each one's place, and the bytes of the block.
pub fn parameters(function: &Function<'_>) -> Result<(Vec<ir::Param>, usize), LoadError> {
    let mut layout = Layout::default();
    let mut params = Vec::with_capacity(function.params.len());
    for param in &function.params {
        match layout.add(param.bytes, param.align) {
            // The most that any device takes.
            Some(offset) if layout.bytes <= 32764 => params.push(ir::Param { offset, size: param.bytes }),
            _ => return syntax(param, "lies beyond the 32764 bytes of parameters that a kernel may have"),
        }
    }
    Ok((params, layout.bytes))
}
