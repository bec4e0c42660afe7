//! What a file says beside its tensors, as plain values.

use std::collections::BTreeMap;

/// A value of a pickle that is no tensor.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `None`
    None,
    /// `True` or `False`
    Bool(bool),
    /// A whole number of at most 64 bits.
    Int(i64),
    /// A number with a point.
    Float(f64),
    /// A text of at most [`MAX_TEXT`](crate::limits::MAX_TEXT) bytes.
    Text(String),
    /// A list or a tuple.
    List(Vec<Value>),
    /// What a dict (or an `OrderedDict`, a `defaultdict`) holds under texts; of a repeated key, the last.
    Dict(BTreeMap<String, Value>),
    /// An object that carries names with values, such as an `argparse.Namespace` or Lightning's `AttributeDict`.
    #[non_exhaustive]
    Object {
        /// `module.name` of its class, as the file calls it. It was not imported.
        class: String,
        /// Its attributes and items.
        entries: BTreeMap<String, Value>,
    },
    /// Anything else by its class's name: a tensor, a call, an object that hides what it holds, and what is beyond a
    /// [limit](crate::limits).
    Other(String),
}

impl Value {
    /// The value under `name` in a dict or an object.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Dict(entries) | Value::Object { entries, .. } => entries.get(name),
            _ => None,
        }
    }

    /// `True` or `False`.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// A whole number.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// A number, whole or not.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// A text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The members of a list or a tuple.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(members) => Some(members),
            _ => None,
        }
    }

    /// The Python type's name, or that of an object's class.
    pub fn class(&self) -> &str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Text(_) => "str",
            Value::List(_) => "list",
            Value::Dict(_) => "dict",
            Value::Object { class, .. } | Value::Other(class) => class,
        }
    }
}
