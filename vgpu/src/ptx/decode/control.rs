//! Jumps, ends, calls. A call's function is put in its place: its parameters are local memory of the caller.

use super::{Decoder, MOST_CALLS, MOST_TARGETS, Modifiers, Result, count_error, exactly};
use crate::ir::{Op, Ty};
use crate::ptx::ast::{Function, Instruction, Operand, Value, Variable};
use crate::ptx::scope::{Place, Symbol};

pub fn decode<'a>(d: &mut Decoder<'_, 'a>, i: &'a Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    match i.opcode {
        "bra" => {
            m.take("uni");
            let target = jump(d, i)?;
            d.emit(Op::Bra { target })
        }
        "brx" => table(d, i, m),
        "ret" => {
            m.take("uni");
            let [] = exactly(i)?;
            match d.frames.last().and_then(|frame| frame.end) {
                Some(target) => d.emit(Op::Bra { target }),
                None => d.emit(Op::Exit),
            }
        }
        "exit" => {
            let [] = exactly(i)?;
            d.emit(Op::Exit)
        }
        "trap" => {
            let [] = exactly(i)?;
            d.emit(Op::Trap)
        }
        "call" => {
            m.take("uni");
            call(d, i)
        }
        _ => hint(d, i, m),
    }
}

fn jump<'a>(d: &Decoder<'_, 'a>, i: &Instruction<'a>) -> Result<u32> {
    match exactly(i)? {
        [Operand::Value(Value::Name(name, 0))] => d.label(name),
        _ => d.syntax("`bra` takes a label"),
    }
}

fn table<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    d.need(m.take("idx"), i, "idx")?;
    m.take("uni");
    let [a, Operand::Value(Value::Name(name, 0))] = exactly(i)? else {
        return d.syntax("`brx.idx` takes a register and a table of labels");
    };
    let found = d.frames.last().and_then(|frame| frame.labels.table(frame.scope, name));
    let Some((_, labels)) = found else {
        return d.syntax(format!("the table of labels `{name}` is not in this function"));
    };
    d.targets += labels.len();
    if d.targets > MOST_TARGETS {
        return d.unknown(format!("the tables of a kernel's jumps have at most {MOST_TARGETS} labels together"));
    }
    let targets = labels.iter().map(|label| d.label(label)).collect::<Result<Box<[u32]>>>()?;
    let a = d.source(a, Ty::U32)?;
    d.emit(Op::Brx { targets, a })
}

/// `nanosleep`, `pmevent`, `setmaxnreg`, `griddepcontrol`: nothing that the results depend on.
fn hint(d: &mut Decoder<'_, '_>, i: &Instruction<'_>, m: &mut Modifiers<'_>) -> Result<()> {
    let known: &[&str] = match i.opcode {
        "nanosleep" => &["u32"],
        "pmevent" => &["mask"],
        "setmaxnreg" => &["inc", "dec", "sync", "aligned", "u32"],
        _ => &["wait", "launch_dependents"],
    };
    while m.take_if(|name| known.contains(&name)).is_some() {}
    d.emit(Op::Nop)
}

fn call<'a>(d: &mut Decoder<'_, 'a>, i: &'a Instruction<'a>) -> Result<()> {
    let (returns, name, arguments): (&[Value<'a>], &'a str, &[Value<'a>]) = match i.operands.as_slice() {
        [Operand::Value(Value::Name(name, 0))] => (&[], name, &[]),
        [Operand::Value(Value::Name(name, 0)), Operand::List(arguments)] => (&[], name, arguments),
        [Operand::List(returns), Operand::Value(Value::Name(name, 0))] => (returns, name, &[]),
        [Operand::List(returns), Operand::Value(Value::Name(name, 0)), Operand::List(arguments)] => {
            (returns, name, arguments)
        }
        [Operand::List(_), Operand::Value(_), ..] | [Operand::Value(_), ..] => {
            return d.unknown("calls through a register");
        }
        _ => return Err(count_error(i, "a function and lists as")),
    };
    if name == "__assertfail" {
        return d.emit(Op::Trap);
    }
    let Some(&function) = d.table.functions.get(name) else {
        return match d.find(name)? {
            Some(_) => d.unknown("calls through a register"),
            None => d.unknown(format!("the function `{name}`, which the module does not declare")),
        };
    };
    if function.body.is_none() {
        return d.unknown(format!("the function `{name}`, which this module only declares"));
    }
    if function.is_entry {
        return d.syntax("a kernel cannot be called");
    }
    if d.frames.len() > MOST_CALLS || d.frames.iter().any(|frame| frame.name == name) {
        return d.unknown("calls that recur, or nest too deeply");
    }
    let mut bound = bind(d, &function.params, arguments)?;
    bound.extend(bind(d, &function.returns, returns)?);
    inline(d, function, bound)
}

/// The function's names for the caller's `.param` variables.
fn bind<'a>(d: &mut Decoder<'_, 'a>, params: &'a [Variable<'a>], given: &[Value<'a>]) -> Result<Vec<(&'a str, Place)>> {
    if params.len() != given.len() {
        return d.syntax(format!("the function takes {} values here, found {}", params.len(), given.len()));
    }
    let mut bound = Vec::with_capacity(params.len());
    for (param, value) in params.iter().zip(given) {
        let Value::Name(name, 0) = value else {
            return d.unknown("arguments other than `.param` variables");
        };
        match d.find(name)? {
            Some(Symbol::Variable(place @ Place::Local(_))) => bound.push((param.name, place)),
            Some(_) => return d.unknown("arguments other than `.param` variables"),
            None => return d.undeclared(name),
        }
    }
    Ok(bound)
}

fn inline<'a>(d: &mut Decoder<'_, 'a>, function: &'a Function<'a>, bound: Vec<(&'a str, Place)>) -> Result<()> {
    let (line, source, guard) = (d.line, d.source, d.guard.take());
    let end = d.new_label();
    if let Some((id, negate)) = guard {
        d.guard = Some((id, !negate));
        d.emit(Op::Bra { target: end })?;
        d.guard = None;
    }
    d.body(function, bound, Some(end))?;
    d.place_label(end);
    (d.line, d.source, d.guard) = (line, source, guard);
    Ok(())
}

impl Decoder<'_, '_> {
    fn new_label(&mut self) -> u32 {
        self.virtual_code.labels.push(u32::MAX);
        self.virtual_code.labels.len() as u32 - 1
    }

    fn place_label(&mut self, label: u32) {
        let here = self.virtual_code.code.len() as u32;
        if let Some(place) = self.virtual_code.labels.get_mut(label as usize) {
            *place = here;
        }
    }
}
