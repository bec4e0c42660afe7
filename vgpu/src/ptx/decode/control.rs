//! Jumps, ends, calls. A call's function is put in its place: its parameters are local memory of the caller.

use super::{Decoder, MOST_CALLS, MOST_TARGETS, Modifiers, Result, count_error, exactly};
use crate::ir::{Address, Condition, GridDependency, Op, Order, Space, Ty};
use crate::ptx::ast::{Function, Instruction, Operand, Value, Variable};
use crate::ptx::scope::{NewRegister, Place, Symbol};

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
        "setmaxnreg" => max_registers(d, i, m),
        "griddepcontrol" => grid_dependency(d, i, m),
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

/// `nanosleep`, `pmevent`: nothing that the results depend on.
fn hint(d: &mut Decoder<'_, '_>, i: &Instruction<'_>, m: &mut Modifiers<'_>) -> Result<()> {
    m.take(if i.opcode == "nanosleep" { "u32" } else { "mask" });
    d.emit(Op::Nop)
}

fn max_registers(d: &mut Decoder<'_, '_>, i: &Instruction<'_>, m: &mut Modifiers<'_>) -> Result<()> {
    let increase = m.take("inc");
    d.need(increase || m.take("dec"), i, "inc")?;
    for name in ["sync", "aligned", "u32"] {
        d.need(m.take(name), i, name)?;
    }
    match exactly(i)? {
        [Operand::Value(Value::Int(count @ 24..=256))] if count.is_multiple_of(8) => {
            d.emit(Op::MaxRegisters { count: *count as u32, increase })
        }
        _ => d.syntax("`setmaxnreg` takes a multiple of 8 from 24 to 256"),
    }
}

fn grid_dependency(d: &mut Decoder<'_, '_>, i: &Instruction<'_>, m: &mut Modifiers<'_>) -> Result<()> {
    let known = [("wait", GridDependency::Wait), ("launch_dependents", GridDependency::LaunchDependents)];
    let [] = exactly(i)?;
    match m.choose(&known) {
        Some(what) => d.emit(Op::GridDependency(what)),
        None => d.unknown("this kind of `griddepcontrol`"),
    }
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
    if d.table.functions.get(name).is_none_or(|function| function.body.is_none()) {
        match name {
            "vprintf" => return print(d, returns, arguments),
            "__assertfail" => return assertion(d, arguments),
            _ => {}
        }
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
    inline(d, function, bound, (arguments, returns))
}

/// What a function knows its parameter or result by.
struct Bound<'a> {
    name: &'a str,
    symbol: Symbol,
}

/// A `.param` variable of the caller.
fn local<'a>(d: &mut Decoder<'_, 'a>, value: &Value<'a>) -> Result<u64> {
    match value {
        Value::Name(name, 0) => match d.find(name)? {
            Some(Symbol::Variable(Place::Local(at))) => Ok(at),
            Some(_) => d.unknown("arguments other than `.param` variables"),
            None => d.undeclared(name),
        },
        _ => d.unknown("arguments other than `.param` variables"),
    }
}

/// Loads an argument of one of the runtime's functions.
fn argument<'a>(d: &mut Decoder<'_, 'a>, value: &Value<'a>, ty: Ty) -> Result<u32> {
    let at = local(d, value)?;
    let register = d.temporary(ty.bytes());
    let slot = d.write(register);
    let a = Address { base: None, narrow: false, offset: at as i64 };
    d.emit(Op::Ld { space: Space::Local, order: Order::Weak, ty, d: Box::new([Some(slot)]), a })?;
    Ok(register)
}

fn print<'a>(d: &mut Decoder<'_, 'a>, returns: &[Value<'a>], arguments: &[Value<'a>]) -> Result<()> {
    let [format, values] = arguments else {
        return d.syntax(format!("`vprintf` takes 2 values, found {}", arguments.len()));
    };
    let (format, values) = (argument(d, format, Ty::U64)?, argument(d, values, Ty::U64)?);
    let result = d.temporary(4);
    let (format, arguments) = (d.read(format), d.read(values));
    let to = d.write(result);
    d.emit(Op::Printf { d: Some(to), format, arguments })?;
    match returns {
        [] => Ok(()),
        [value] => {
            let at = local(d, value)?;
            let b = d.read(result);
            let a = Address { base: None, narrow: false, offset: at as i64 };
            d.emit(Op::St { space: Space::Local, order: Order::Weak, ty: Ty::U32, a, b: Box::new([b]) })
        }
        _ => d.syntax("`vprintf` returns one value"),
    }
}

fn assertion<'a>(d: &mut Decoder<'_, 'a>, arguments: &[Value<'a>]) -> Result<()> {
    let [message, file, line, function, _size] = arguments else {
        return d.syntax(format!("`__assertfail` takes 5 values, found {}", arguments.len()));
    };
    let (message, file) = (argument(d, message, Ty::U64)?, argument(d, file, Ty::U64)?);
    let (line, function) = (argument(d, line, Ty::U32)?, argument(d, function, Ty::U64)?);
    let (message, file, line, function) = (d.read(message), d.read(file), d.read(line), d.read(function));
    d.emit(Op::AssertFail { message, file, line, function })
}

/// The function's names for the caller's `.param` variables.
fn bind<'a>(d: &mut Decoder<'_, 'a>, params: &'a [Variable<'a>], given: &[Value<'a>]) -> Result<Vec<Bound<'a>>> {
    if params.len() != given.len() {
        return d.syntax(format!("the function takes {} values here, found {}", params.len(), given.len()));
    }
    let mut bound = Vec::with_capacity(params.len());
    for (param, value) in params.iter().zip(given) {
        let symbol = match param.register {
            Some(ty) => d.virtual_code.register(ty),
            None => Symbol::Variable(Place::Local(local(d, value)?)),
        };
        bound.push(Bound { name: param.name, symbol });
    }
    Ok(bound)
}

/// An argument in a register or a number, to the function's own register.
fn pass<'a>(d: &mut Decoder<'_, 'a>, to: Symbol, value: Value<'a>) -> Result<()> {
    match to {
        Symbol::Register(id, bytes) => {
            let a = d.source_value(value, usize::from(bytes))?;
            let to = d.write(id);
            d.emit(Op::Mov { wide: bytes == 8, d: to, a })
        }
        Symbol::Predicate(id) => {
            let a = d.condition(&Operand::Value(value))?;
            let to = d.push_pred(id, true);
            d.emit(Op::PredMov { d: to, a })
        }
        _ => Ok(()),
    }
}

/// A result in the function's register, to the caller's.
fn hand_back<'a>(d: &mut Decoder<'_, 'a>, from: Symbol, value: Value<'a>) -> Result<()> {
    match from {
        _ if matches!(value, Value::Name("_", 0)) => Ok(()),
        Symbol::Register(id, bytes) => {
            let a = d.read(id);
            let (to, size) = d.register(value)?;
            if size != usize::from(bytes) {
                return d.syntax(format!("the result has {bytes} bytes, its register {size}"));
            }
            let to = d.write(to);
            d.emit(Op::Mov { wide: bytes == 8, d: to, a })
        }
        Symbol::Predicate(id) => {
            let a = Condition { pred: d.push_pred(id, false), negate: false };
            let to = d.pred_dest_of(&Operand::Value(value))?;
            d.emit(Op::PredMov { d: to, a })
        }
        _ => Ok(()),
    }
}

fn inline<'a>(
    d: &mut Decoder<'_, 'a>,
    function: &'a Function<'a>,
    bound: Vec<Bound<'a>>,
    (arguments, returns): (&[Value<'a>], &[Value<'a>]),
) -> Result<()> {
    let (line, source, guard) = (d.line, d.source, d.guard.take());
    let (end, after) = (d.new_label(), d.new_label());
    if let Some((id, negate)) = guard {
        d.guard = Some((id, !negate));
        d.emit(Op::Bra { target: after })?;
        d.guard = None;
    }
    for (parameter, &value) in bound.iter().zip(arguments) {
        pass(d, parameter.symbol, value)?;
    }
    let names = bound.iter().map(|bound| (bound.name, bound.symbol)).collect();
    d.body(function, names, Some(end))?;
    d.place_label(end);
    (d.line, d.source) = (line, source);
    for (result, &value) in bound[arguments.len()..].iter().zip(returns) {
        hand_back(d, result.symbol, value)?;
    }
    d.place_label(after);
    d.guard = guard;
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
