//! What a PyTorch file's root holds beside the state dict, as values.

use std::collections::BTreeMap;

use crate::Value;
use crate::items::{carried_count, carried_entries, dict_object, entries, find};
use crate::limits::{MAX_DEPTH, MAX_SETTINGS};
use crate::pickle::{Id, Node, Object, Pickle};
use crate::printable::shortened;
use crate::torch::is_tensor;

/// Lightning's; it is read first, so that nothing else takes its room.
const FIRST: &str = "hyper_parameters";

/// The root's entries that are neither tensors nor the state dict.
pub(crate) fn read(pickle: &Pickle, state_dict: Id) -> BTreeMap<String, Value> {
    let root = entries(pickle, pickle.root).unwrap_or_default();
    let mut reader = Reader { pickle, left: MAX_SETTINGS };
    let mut settings = BTreeMap::new();
    if let Some(id) = find(pickle, &root, FIRST) {
        settings.insert(FIRST.to_owned(), reader.value(id, 0));
    }
    for &(key, id) in root.iter().filter(|(_, id)| *id != state_dict && !is_tensor(pickle, *id)) {
        let Some(name) = pickle.text(key).filter(|name| *name != FIRST) else { continue };
        if !reader.has_room(1, 0) {
            break;
        }
        settings.insert(name.to_owned(), reader.value(id, 0));
    }
    settings
}

struct Reader<'a> {
    pickle: &'a Pickle<'a>,
    /// Values that may still be made.
    left: usize,
}

impl Reader<'_> {
    fn value(&mut self, id: Id, depth: usize) -> Value {
        match self.pickle.node(id) {
            Node::None => Value::None,
            Node::Bool(value) => Value::Bool(*value),
            Node::Int(value) => Value::Int(*value),
            Node::Float(value) => Value::Float(*value),
            Node::Str(_) => self.pickle.text(id).map_or_else(|| self.other(id), |text| Value::Text(text.to_owned())),
            Node::List(members) | Node::Tuple(members) if self.has_room(members.len(), depth) => {
                Value::List(members.iter().map(|&member| self.value(member, depth + 1)).collect())
            }
            Node::Dict(_) | Node::Object(_) if self.has_room(carried_count(self.pickle, id), depth) => {
                self.carried(id, depth)
            }
            _ => self.other(id),
        }
    }

    /// A dict, or an object that carries what one would.
    fn carried(&mut self, id: Id, depth: usize) -> Value {
        let mut entries = BTreeMap::new();
        for (key, value) in carried_entries(self.pickle, id) {
            let Some(name) = self.pickle.text(key) else { continue };
            entries.insert(name.to_owned(), self.value(value, depth + 1));
        }
        let Node::Object(object) = self.pickle.node(id) else { return Value::Dict(entries) };
        let is_dict = dict_object(self.pickle, id).is_some();
        let hides = if is_dict { has_unread(self.pickle, object) } else { !is_empty(self.pickle, object) };
        // One that has contents, but not in a form that is understood here, hides them.
        if entries.is_empty() && hides {
            self.other(id)
        } else if is_dict {
            Value::Dict(entries)
        } else {
            Value::Object { class: self.class(id), entries }
        }
    }

    /// Whether so many values more may be made in something at this depth; they are counted.
    fn has_room(&mut self, count: usize, depth: usize) -> bool {
        if depth >= MAX_DEPTH || count > self.left {
            return false;
        }
        self.left -= count;
        true
    }

    fn other(&self, id: Id) -> Value {
        Value::Other(self.class(id))
    }

    fn class(&self, id: Id) -> String {
        shortened(&self.pickle.class_name(id))
    }
}

/// Whether an object was made of nothing and given nothing.
fn is_empty(pickle: &Pickle, object: &Object) -> bool {
    object.items.is_empty() && object.state.is_none() && pickle.tuple(object.args).is_some_and(<[Id]>::is_empty)
}

/// Whether a dict class's instance was made of, or given, what only its code could read.
fn has_unread(pickle: &Pickle, object: &Object) -> bool {
    let is_unread = |id: &Id| matches!(pickle.node(*id), Node::Object(_) | Node::Persistent(_) | Node::Other(_));
    let Some(args) = pickle.tuple(object.args) else { return true };
    args.iter().chain(&object.state).any(is_unread)
}
