//! Python's pickle, read as data. A pickle is a program for a small stack machine; here its objects become nodes
//! of an arena, and what Python would import, call or build becomes a node that only remembers the name.
//! Nothing is executed. (Opcodes: Python's `pickletools`, protocols 0 to 5.)
//!
//! Nodes refer to each other by index, so that a list which contains itself, or a million nested tuples, cost
//! nothing to hold and nothing to drop.
//!
//! It stays one file: a table of opcodes and what each does to one stack.

use std::collections::HashMap;
use std::ops::Range;

use crate::limits::{MAX_OBJECTS, MAX_STEPS, MAX_TEXT};
use crate::printable::LONGEST;

/// Bytes of a class's name that are looked at: those of the longest text that is shown.
const SHOWN: usize = 4 * LONGEST;

/// A node's index in the arena.
pub(crate) type Id = u32;

/// A place in the pickle's bytes; strings stay there.
pub(crate) type Span = Range<usize>;

#[derive(Debug)]
pub(crate) enum Node {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Span),
    /// Bytes, or an integer of more than 64 bits (little-endian).
    Bytes(Span),
    List(Vec<Id>),
    /// Its members are always older than itself: following tuples ends.
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or function that Python would import, `module` and `name`.
    Global(Span, Span),
    /// An instance or a call's result: what was called, with what, and what was put into it afterwards.
    Object(Box<Object>),
    /// What the pickle leaves to its reader (`persistent_load`): for PyTorch, a storage.
    Persistent(Id),
    /// Something that no weight or setting is made of: a set, a bytearray.
    Other(&'static str),
}

#[derive(Debug)]
pub(crate) struct Object {
    /// Older than the object itself.
    pub class: Id,
    /// What the class's class is, and so on, to the first that is no object: kept, because a file can make chains of
    /// a million and ask for their end from everywhere.
    base: Id,
    pub args: Id,
    pub items: Vec<(Id, Id)>,
    pub state: Option<Id>,
}

/// Why a pickle cannot be read.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The bytes end before the pickle does.
    Truncated,
    Malformed(String),
}

/// A pickle's objects.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    bytes: &'a [u8],
    nodes: Vec<Node>,
    pub root: Id,
    /// Bytes that the pickle took.
    pub len: usize,
}

impl<'a> Pickle<'a> {
    /// Reads one pickle from the start of `bytes`.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut machine = Machine {
            bytes,
            at: 0,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            memoized: 0,
        };
        let root = machine.run()?;
        Ok(Pickle { bytes, len: machine.at, nodes: machine.nodes, root })
    }

    pub fn node(&self, id: Id) -> &Node {
        self.nodes.get(id as usize).unwrap_or(&Node::None)
    }

    /// The text of a string node, unless it is longer than any name.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Str(span) if span.len() <= MAX_TEXT => std::str::from_utf8(self.bytes(span)).ok(),
            _ => None,
        }
    }

    /// Whether a node is this text. (Lengths are compared first: a million keys cost no more than a million steps.)
    pub fn is_text(&self, id: Id, text: &str) -> bool {
        matches!(self.node(id), Node::Str(span) if self.bytes(span) == text.as_bytes())
    }

    /// Module and name of a class or function that Python would import.
    pub fn global(&self, id: Id) -> Option<(&[u8], &[u8])> {
        match self.node(id) {
            Node::Global(module, name) => Some((self.bytes(module), self.bytes(name))),
            _ => None,
        }
    }

    /// The members of a tuple.
    pub fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(members) => Some(members),
            _ => None,
        }
    }

    pub fn bytes(&self, span: &Span) -> &[u8] {
        self.bytes.get(span.clone()).unwrap_or_default()
    }

    /// All objects in the order of their making.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    /// `module.name` of a class or function (the start of it, where it is endless); for an object, of what made it;
    /// for plain data, its Python type.
    pub fn class_name(&self, id: Id) -> String {
        let base = match self.node(id) {
            Node::Object(object) => object.base,
            _ => id,
        };
        let plain = match self.node(base) {
            Node::Global(module, name) => {
                let start = |span| {
                    let bytes = self.bytes(span);
                    String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)])
                };
                return format!("{}.{}", start(module), start(name));
            }
            Node::Object(_) | Node::Persistent(_) => "persistent object",
            Node::None => "None",
            Node::Bool(_) => "bool",
            Node::Int(_) => "int",
            Node::Float(_) => "float",
            Node::Str(_) => "str",
            Node::Bytes(_) => "bytes",
            Node::List(_) => "list",
            Node::Tuple(_) => "tuple",
            Node::Dict(_) => "dict",
            Node::Other(what) => what,
        };
        plain.to_owned()
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack at each MARK.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// MEMOIZE numbers its entries by their count.
    memoized: u32,
}

type Step<T = ()> = Result<T, Fault>;

impl Machine<'_> {
    /// Runs to STOP; the result is the object on top of the stack.
    fn run(&mut self) -> Step<Id> {
        for _ in 0..MAX_STEPS {
            let start = self.at;
            let opcode = self.byte()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode).map_err(|fault| match fault {
                Fault::Malformed(reason) => Fault::Malformed(format!("{reason} (byte {start} of the pickle)")),
                Fault::Truncated => Fault::Truncated,
            })?;
        }
        Err(malformed(format!("the pickle has more than {MAX_STEPS} steps")))
    }

    fn step(&mut self, opcode: u8) -> Step {
        match opcode {
            // Framing and the stack itself.
            0x80 => {
                let version = self.byte()?;
                if version > 5 {
                    return Err(malformed(format!("pickle protocol {version} is not known (0 to 5 are)")));
                }
            }
            0x95 => {
                self.take(8)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                // As in Python, POP takes a mark where a mark is on top.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }

            // Plain values.
            b'N' => self.push(Node::None)?,
            0x88 => self.push(Node::Bool(true))?,
            0x89 => self.push(Node::Bool(false))?,
            b'I' | b'L' => self.integer_line()?,
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Node::Int(value.into()))?;
            }
            b'K' => {
                let value = self.byte()?;
                self.push(Node::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Node::Int(value.into()))?;
            }
            0x8a | 0x8b => self.long(opcode == 0x8b)?,
            b'F' => {
                let line = self.line()?;
                let value = std::str::from_utf8(self.bytes.get(line).unwrap_or_default()).ok();
                let value = value.and_then(|text| text.trim().parse().ok());
                self.push(Node::Float(value.ok_or_else(|| malformed("a float is no number"))?))?;
            }
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.push(Node::Float(value))?;
            }
            b'S' => {
                let line = self.line()?;
                // The line is a Python literal: quotes around the text.
                let text = if line.len() >= 2 { line.start + 1..line.end - 1 } else { line };
                self.push(Node::Str(text))?;
            }
            b'V' => {
                let line = self.line()?;
                self.push(Node::Str(line))?;
            }
            // Python 2's strings are what Python 3 reads as text.
            b'U' | 0x8c => self.text(1)?,
            b'T' | b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            b'C' => self.binary(1)?,
            b'B' => self.binary(4)?,
            0x8e => self.binary(8)?,
            0x96 => {
                self.sized(8)?;
                self.push(Node::Other("bytearray"))?;
            }

            // Containers.
            b')' => self.push(Node::Tuple(Vec::new()))?,
            b']' => self.push(Node::List(Vec::new()))?,
            b'}' => self.push(Node::Dict(Vec::new()))?,
            0x8f => self.push(Node::Other("set"))?,
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let first = self.stack.len().checked_sub(count).filter(|&first| first >= self.floor());
                let members = self.stack.split_off(first.ok_or_else(underflow)?);
                self.push(Node::Tuple(members))?;
            }
            b't' => {
                let members = self.pop_mark()?;
                self.push(Node::Tuple(members))?;
            }
            b'l' => {
                let members = self.pop_mark()?;
                self.push(Node::List(members))?;
            }
            b'd' => {
                let items = pairs(&self.pop_mark()?)?;
                self.push(Node::Dict(items))?;
            }
            0x91 => {
                self.pop_mark()?;
                self.push(Node::Other("frozenset"))?;
            }
            b'a' => {
                let member = self.pop()?;
                self.append(&[member])?;
            }
            b'e' => {
                let members = self.pop_mark()?;
                self.append(&members)?;
            }
            0x90 => {
                self.pop_mark()?;
                self.top()?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[(key, value)])?;
            }
            b'u' => {
                let items = pairs(&self.pop_mark()?)?;
                self.set_items(&items)?;
            }

            // The memo.
            b'p' => {
                let key = self.decimal_line()?;
                self.remember(key)?;
            }
            b'q' => {
                let key = self.byte()?.into();
                self.remember(key)?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.array()?);
                self.remember(key)?;
            }
            0x94 => {
                self.remember(self.memoized)?;
            }
            b'g' => {
                let key = self.decimal_line()?;
                self.recall(key)?;
            }
            b'h' => {
                let key = self.byte()?.into();
                self.recall(key)?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.array()?);
                self.recall(key)?;
            }

            // What Python would import, call or build.
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.push(Node::Global(module, name))?;
            }
            0x93 => {
                let name = self.pop()?;
                let module = self.pop()?;
                match (self.nodes.get(module as usize), self.nodes.get(name as usize)) {
                    (Some(Node::Str(module)), Some(Node::Str(name))) => {
                        let global = Node::Global(module.clone(), name.clone());
                        self.push(global)?;
                    }
                    _ => return Err(malformed("a class is named by something that is no text")),
                }
            }
            b'R' | 0x81 => {
                let args = self.pop()?;
                let class = self.pop()?;
                self.object(class, args)?;
            }
            0x92 => {
                self.pop()?;
                let args = self.pop()?;
                let class = self.pop()?;
                self.object(class, args)?;
            }
            b'i' => {
                let module = self.line()?;
                let name = self.line()?;
                let members = self.pop_mark()?;
                let class = self.node(Node::Global(module, name))?;
                let args = self.node(Node::Tuple(members))?;
                self.object(class, args)?;
            }
            b'o' => {
                let mut members = self.pop_mark()?;
                if members.is_empty() {
                    return Err(underflow());
                }
                let class = members.remove(0);
                let args = self.node(Node::Tuple(members))?;
                self.object(class, args)?;
            }
            b'b' => self.build()?,
            b'P' => {
                let line = self.line()?;
                let key = self.node(Node::Str(line))?;
                self.push(Node::Persistent(key))?;
            }
            b'Q' => {
                let key = self.pop()?;
                self.push(Node::Persistent(key))?;
            }

            other => return Err(malformed(format!("pickle opcode 0x{other:02x} is not one that PyTorch writes"))),
        }
        Ok(())
    }

    // Bytes.

    fn take(&mut self, count: usize) -> Step<Span> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len()).ok_or(Fault::Truncated)?;
        let span = self.at..end;
        self.at = end;
        Ok(span)
    }

    fn byte(&mut self) -> Step<u8> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let span = self.take(N)?;
        self.bytes.get(span).and_then(|bytes| bytes.try_into().ok()).ok_or(Fault::Truncated)
    }

    /// Up to the next line feed, which is passed over.
    fn line(&mut self) -> Step<Span> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|&b| b == b'\n').ok_or(Fault::Truncated)?;
        let span = self.at..self.at + len;
        self.at += len + 1;
        Ok(span)
    }

    /// A length of `width` bytes and as many bytes.
    fn sized(&mut self, width: usize) -> Step<Span> {
        let mut length = [0; 8];
        let span = self.take(width)?;
        for (to, from) in length.iter_mut().zip(self.bytes.get(span).unwrap_or_default()) {
            *to = *from;
        }
        let length = usize::try_from(u64::from_le_bytes(length)).map_err(|_| Fault::Truncated)?;
        self.take(length)
    }

    fn text(&mut self, width: usize) -> Step {
        let span = self.sized(width)?;
        self.push(Node::Str(span))
    }

    fn binary(&mut self, width: usize) -> Step {
        let span = self.sized(width)?;
        self.push(Node::Bytes(span))
    }

    /// LONG1, LONG4: a little-endian two's complement integer of any length.
    fn long(&mut self, wide: bool) -> Step {
        let span = self.sized(if wide { 4 } else { 1 })?;
        let bytes = self.bytes.get(span.clone()).unwrap_or_default();
        if bytes.len() > 8 {
            return self.push(Node::Bytes(span));
        }
        let negative = bytes.last().is_some_and(|&b| b >= 0x80);
        let mut value = [if negative { 0xff } else { 0 }; 8];
        for (to, from) in value.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.push(Node::Int(i64::from_le_bytes(value)))
    }

    /// INT, LONG: decimal digits; `00` and `01` are Python's old booleans, a trailing `L` its old long mark.
    fn integer_line(&mut self) -> Step {
        let span = self.line()?;
        let node = match self.bytes.get(span.clone()).unwrap_or_default() {
            b"00" => Node::Bool(false),
            b"01" => Node::Bool(true),
            digits => {
                let digits = digits.strip_suffix(b"L").unwrap_or(digits);
                let value = std::str::from_utf8(digits).ok().and_then(|text| text.trim().parse().ok());
                value.map_or(Node::Bytes(span), Node::Int)
            }
        };
        self.push(node)
    }

    fn decimal_line(&mut self) -> Step<u32> {
        let span = self.line()?;
        let text = self.bytes.get(span).and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.and_then(|text| text.parse().ok()).ok_or_else(|| malformed("a memo entry has no number"))
    }

    // The arena and the stack.

    fn node(&mut self, node: Node) -> Step<Id> {
        if self.nodes.len() >= MAX_OBJECTS {
            return Err(malformed(format!("the pickle has more than {MAX_OBJECTS} objects")));
        }
        self.nodes.push(node);
        Ok((self.nodes.len() - 1) as Id)
    }

    fn push(&mut self, node: Node) -> Step {
        let id = self.node(node)?;
        self.stack.push(id);
        Ok(())
    }

    /// The height that the innermost MARK protects.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Step<Id> {
        if self.stack.len() <= self.floor() {
            return Err(underflow());
        }
        self.stack.last().copied().ok_or_else(underflow)
    }

    fn pop(&mut self) -> Step<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// Everything above the innermost MARK, and the mark.
    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(underflow)?;
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, key: u32) -> Step {
        let top = self.top()?;
        self.memo.insert(key, top);
        self.memoized = self.memoized.saturating_add(1);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Step {
        let id = *self.memo.get(&key).ok_or_else(|| malformed(format!("memo entry {key} was never set")))?;
        self.stack.push(id);
        Ok(())
    }

    fn top_node(&mut self) -> Step<&mut Node> {
        let top = self.top()?;
        self.nodes.get_mut(top as usize).ok_or_else(underflow)
    }

    fn append(&mut self, members: &[Id]) -> Step {
        match self.top_node()? {
            Node::List(list) => list.extend_from_slice(members),
            // A list-like instance: nothing that is needed comes from one.
            Node::Object(_) | Node::Other(_) => {}
            _ => return Err(malformed("something is appended to what is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[(Id, Id)]) -> Step {
        match self.top_node()? {
            Node::Dict(dict) => dict.extend_from_slice(items),
            Node::Object(object) => object.items.extend_from_slice(items),
            _ => return Err(malformed("an item is set in what is no dict")),
        }
        Ok(())
    }

    /// REDUCE, NEWOBJ and their kin: a call that is not made.
    fn object(&mut self, class: Id, args: Id) -> Step {
        let base = match self.nodes.get(class as usize) {
            Some(Node::Object(class)) => class.base,
            _ => class,
        };
        self.push(Node::Object(Box::new(Object { class, base, args, items: Vec::new(), state: None })))
    }

    /// BUILD: `__setstate__`, not called.
    fn build(&mut self) -> Step {
        let state = self.pop()?;
        match self.top_node()? {
            Node::Object(object) => object.state = Some(state),
            other => *other = Node::Other("object with a state of its own"),
        }
        Ok(())
    }
}

/// Keys and values in turn.
fn pairs(flat: &[Id]) -> Step<Vec<(Id, Id)>> {
    if !flat.len().is_multiple_of(2) {
        return Err(malformed("a dict has a key without a value"));
    }
    Ok(flat.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

fn malformed(reason: impl Into<String>) -> Fault {
    Fault::Malformed(reason.into())
}

fn underflow() -> Fault {
    malformed("the pickle takes an object from an empty stack")
}
