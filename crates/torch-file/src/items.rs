//! The items that a pickle's objects carry: dicts, Python's own dict classes, objects with a `__dict__`.

use crate::limits::MAX_ENTRIES;
use crate::pickle::{Id, Node, Object, Pickle};

/// A dict class is called with a default's maker and a dict, an object's state is its dict and its slots.
const MAX_PARTS: usize = 2;

/// How many items [`entries`] would look through.
pub(crate) fn item_count(pickle: &Pickle, id: Id) -> Option<usize> {
    if let Node::Dict(items) = pickle.node(id) {
        return Some(items.len());
    }
    let object = dict_object(pickle, id)?;
    Some(object.items.len() + given_count(pickle, object.args))
}

/// How many items [`carried_entries`] would look through.
pub(crate) fn carried_count(pickle: &Pickle, id: Id) -> usize {
    let Node::Object(object) = pickle.node(id) else { return item_count(pickle, id).unwrap_or(0) };
    let state = object.state.map_or(0, |state| match pickle.tuple(state) {
        Some(parts) => parts.iter().take(MAX_PARTS).filter_map(|&part| item_count(pickle, part)).sum(),
        None => item_count(pickle, state).unwrap_or(0),
    });
    object.items.len() + given_count(pickle, object.args) + state
}

/// Items given to a dict's constructor.
fn given_count(pickle: &Pickle, args: Id) -> usize {
    let args = pickle.tuple(args).unwrap_or_default().iter().take(MAX_PARTS);
    let given = args.map(|&arg| match pickle.node(arg) {
        Node::Dict(items) => items.len(),
        Node::List(list) => list.len(),
        _ => 0,
    });
    given.sum()
}

/// The items of a dict or of one of Python's own dict classes; of a repeated key, the last counts. Where there are more
/// than [`MAX_ENTRIES`], one more than those: whoever needs them all looks at their number.
pub(crate) fn entries(pickle: &Pickle, id: Id) -> Option<Vec<(Id, Id)>> {
    if let Node::Dict(items) = pickle.node(id) {
        return Some(items.iter().copied().take(MAX_ENTRIES + 1).collect());
    }
    let object = dict_object(pickle, id)?;
    let items = constructor_items(pickle, object.args).chain(object.items.iter().copied());
    Some(items.take(MAX_ENTRIES + 1).collect())
}

/// An instance of one of Python's own dict classes.
pub(crate) fn dict_object<'a>(pickle: &'a Pickle, id: Id) -> Option<&'a Object> {
    let Node::Object(object) = pickle.node(id) else { return None };
    match pickle.global(object.class)? {
        (b"collections", b"OrderedDict" | b"defaultdict") | (b"builtins" | b"__builtin__", b"dict") => Some(object),
        _ => None,
    }
}

/// The items of whatever carries some: a dict, a dict class's instance, an object with a `__dict__`.
pub(crate) fn carried_entries(pickle: &Pickle, id: Id) -> Vec<(Id, Id)> {
    let Node::Object(object) = pickle.node(id) else {
        return entries(pickle, id).unwrap_or_default();
    };
    let mut items: Vec<(Id, Id)> = constructor_items(pickle, object.args).take(MAX_ENTRIES).collect();
    // The state is the `__dict__`, or a pair of it and the slots.
    if let Some(state) = object.state {
        match pickle.tuple(state) {
            Some(parts) => {
                for &part in parts.iter().take(MAX_PARTS) {
                    items.extend(entries(pickle, part).unwrap_or_default());
                }
            }
            None => items.extend(entries(pickle, state).unwrap_or_default()),
        }
    }
    items.extend(object.items.iter().take(MAX_ENTRIES));
    items
}

/// Items given to a dict's constructor: dicts, or lists of pairs (as Python 2 wrote an OrderedDict).
fn constructor_items<'a>(pickle: &'a Pickle, args: Id) -> impl Iterator<Item = (Id, Id)> + 'a {
    let args = pickle.tuple(args).unwrap_or_default().iter().take(MAX_PARTS);
    args.flat_map(move |&arg| {
        let (items, pairs): (&[(Id, Id)], &[Id]) = match pickle.node(arg) {
            Node::Dict(items) => (items, &[]),
            Node::List(pairs) => (&[], pairs),
            _ => (&[], &[]),
        };
        items.iter().copied().chain(pairs.iter().filter_map(move |&pair| as_item(pickle, pair)))
    })
}

fn as_item(pickle: &Pickle, pair: Id) -> Option<(Id, Id)> {
    match pickle.node(pair) {
        Node::List(pair) | Node::Tuple(pair) => match pair.as_slice() {
            &[key, value] => Some((key, value)),
            _ => None,
        },
        _ => None,
    }
}

pub(crate) fn find(pickle: &Pickle, entries: &[(Id, Id)], name: &str) -> Option<Id> {
    entries.iter().rev().find(|(key, _)| pickle.is_text(*key, name)).map(|(_, value)| *value)
}
