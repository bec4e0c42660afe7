//! What the objects of a PyTorch pickle mean: which dict is the state dict, which calls are tensors, what the
//! hyper-parameters say. Both file formats (zip and before 1.6) share it; they differ in where storages lie.

use std::collections::VecDeque;

use safetensors::Dtype;

use super::layout::{Extent, Layout, MAX_DIMENSIONS, element_size};
use super::pickle::{Id, Node, Object, Pickle};
use super::{HyperParameter, HyperParameters, is_networks, printable};

/// More entries than this are no model's; a pickle can repeat one tensor millions of times in a few bytes each.
const MAX_ENTRIES: usize = 100_000;

/// A dict class is called with a default's maker and a dict, an object's state is its dict and its slots.
const MAX_PARTS: usize = 2;

/// A storage as its persistent id names it: `("storage", class, key, device, elements[, view])`.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    pub dtype: Dtype,
    pub key: String,
    /// Elements of the whole storage.
    pub count: u64,
    /// A part of the storage that an old file's tensors share: first element and number of elements.
    pub view: Option<(u64, u64)>,
}

impl Storage {
    /// Bytes of the whole storage.
    pub fn bytes(&self) -> Option<u64> {
        self.count.checked_mul(element_size(self.dtype) as u64)
    }
}

/// A tensor as its rebuilding call describes it.
#[derive(Debug)]
pub(super) struct TensorCall {
    pub storage: Storage,
    /// The elements' type: the storage's, or one of its own over untyped bytes.
    dtype: Dtype,
    /// First element in the storage, and elements from one index to the next.
    start: u64,
    shape: Vec<usize>,
    strides: Vec<u64>,
}

impl TensorCall {
    /// The tensor in the file, once it is known where its storage lies.
    pub fn layout(self, storage: Extent) -> Result<Layout, String> {
        let storage = match self.storage.view {
            None => storage,
            Some((first, count)) => {
                let size = element_size(self.storage.dtype) as u64;
                let (first, len) = (first.checked_mul(size), count.checked_mul(size));
                let inside =
                    first.zip(len).filter(|(first, len)| first.checked_add(*len).is_some_and(|end| end <= storage.len));
                let (first, len) = inside.ok_or("it views bytes outside its storage")?;
                Extent { offset: storage.offset + first, len }
            }
        };
        Layout::strided(self.dtype, self.shape, &self.strides, self.start, storage)
    }
}

/// A value of the state dict.
#[derive(Debug)]
pub(super) enum Value {
    Tensor(TensorCall),
    /// No tensor; the name of its class.
    Inert(String),
}

/// The state dict's entries by name.
pub(super) fn state_dict(pickle: &Pickle) -> Result<Vec<(String, Value)>, String> {
    let entries = entries(pickle, network(pickle)?).unwrap_or_default();
    if entries.len() > MAX_ENTRIES {
        return Err(format!(
            "its state dict has {} entries, at most {MAX_ENTRIES} are read; save the model alone",
            entries.len()
        ));
    }
    let mut found = Vec::new();
    for (key, value) in entries {
        let Some(name) = pickle.text(key) else { continue };
        let value = value_of(pickle, value).map_err(|reason| format!("tensor {}: {reason}", printable(name)))?;
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

/// The dict that holds the network: the root's `state_dict` or the root itself; where these have none of its names, another
/// entry of the root.
fn network(pickle: &Pickle) -> Result<Id, String> {
    let root = entries(pickle, pickle.root).ok_or_else(|| {
        let class = printable(&pickle.class_name(pickle.root));
        format!(
            "holds one object of class {class}, which is not built from strangers' files; \
             a dict of tensors is expected: save model.state_dict() with torch.save"
        )
    })?;
    let state_id = find(pickle, &root, "state_dict").unwrap_or(pickle.root);
    let state = if state_id == pickle.root { Some(root) } else { entries(pickle, state_id) };
    let held = state.as_ref().and_then(|items| tensors(pickle, items));
    if held.as_ref().is_some_and(|held| held.is_networks) {
        return Ok(state_id);
    }
    let below = dicts_below(pickle);
    let networks = || below.iter().filter(|dict| dict.tensors.is_networks);
    let near: Vec<&Below> = networks().filter(|dict| dict.path.len() == 1).collect();
    match near.as_slice() {
        [] => {}
        [one] => return Ok(one.id),
        several => {
            let names: Vec<String> = several.iter().take(SHOWN).map(|dict| dict.path()).collect();
            return Err(format!("holds several networks, in its entries {}; save one of them alone", names.join(", ")));
        }
    }
    if let Some(deep) = networks().next() {
        return Err(format!("holds its network in {}, deeper than is read; save that dict alone", deep.path()));
    }
    let Some(state) = state else {
        let class = printable(&pickle.class_name(state_id));
        return Err(format!("its state_dict is an object of class {class}, a dict of tensors is expected"));
    };
    // Other tensors are read; that they are no LSeg is said where its own are missed.
    if held.is_some() || state.len() > MAX_ENTRIES {
        return Ok(state_id);
    }
    Err(match below.first() {
        Some(dict) => format!(
            "is no LSeg checkpoint: its tensors are in {}, the first of them is {}; names such as scratch.head1.weight are \
             expected",
            dict.path(),
            printable(&dict.tensors.first)
        ),
        None => format!(
            "holds no tensors{}; a dict of tensors is expected: save model.state_dict() with torch.save",
            what_is_there(pickle, &state)
        ),
    })
}

/// `, only epoch (int), model (lseg.Net)`
fn what_is_there(pickle: &Pickle, items: &[(Id, Id)]) -> String {
    let named = items.iter().filter_map(|&(key, value)| Some((pickle.text(key)?, pickle.class_name(value))));
    let shown = named.take(SHOWN).map(|(name, class)| format!("{} ({})", printable(name), printable(&class)));
    let shown = shown.collect::<Vec<_>>().join(", ");
    if shown.is_empty() { shown } else { format!(", only {shown}") }
}

/// Entries that a message names.
const SHOWN: usize = 5;

/// Dicts inside dicts are looked at to this depth, and to this many items, of one dict and of all of them together: a pickle
/// can repeat one dict millions of times.
const MAX_DEPTH: usize = 4;
const MAX_LOOKED_AT: usize = 100_000;

/// What tensors a dict holds.
struct Tensors {
    first: String,
    /// Whether some have LSeg's names.
    is_networks: bool,
}

/// A dict with tensors below the root.
struct Below {
    /// The keys that lead there.
    path: Vec<String>,
    id: Id,
    tensors: Tensors,
}

impl Below {
    fn path(&self) -> String {
        printable(&self.path.join("."))
    }
}

fn tensors(pickle: &Pickle, items: &[(Id, Id)]) -> Option<Tensors> {
    if items.len() > MAX_ENTRIES {
        return None;
    }
    let mut tensors =
        items.iter().filter(|(_, value)| is_tensor(pickle, *value)).filter_map(|(key, _)| pickle.text(*key));
    let first = tensors.next()?;
    let is_networks = is_networks(first) || tensors.any(is_networks);
    Some(Tensors { first: first.to_owned(), is_networks })
}

/// The dicts with tensors below the root, nearest first.
fn dicts_below(pickle: &Pickle) -> Vec<Below> {
    let mut found = Vec::new();
    let mut left = MAX_LOOKED_AT;
    let mut queue = VecDeque::from([(Vec::new(), pickle.root)]);
    while let Some((path, id)) = queue.pop_front() {
        let items = entries(pickle, id).unwrap_or_default();
        if path.len() < MAX_DEPTH {
            for &(key, id) in items.iter().take(MAX_LOOKED_AT) {
                let Some(name) = pickle.text(key) else { continue };
                let Some(rest) = item_count(pickle, id).and_then(|count| left.checked_sub(count + 1)) else { continue };
                left = rest;
                queue.push_back((path.iter().cloned().chain([name.to_owned()]).collect(), id));
            }
        }
        if !path.is_empty()
            && let Some(tensors) = tensors(pickle, &items)
        {
            found.push(Below { path, id, tensors });
        }
    }
    found
}

/// How many items [`entries`] would look through.
fn item_count(pickle: &Pickle, id: Id) -> Option<usize> {
    if let Node::Dict(items) = pickle.node(id) {
        return Some(items.len());
    }
    let object = dict_object(pickle, id)?;
    let args = pickle.tuple(object.args).unwrap_or_default().iter().take(MAX_PARTS);
    let given = args.map(|&arg| match pickle.node(arg) {
        Node::Dict(items) => items.len(),
        Node::List(list) => list.len(),
        _ => 0,
    });
    Some(object.items.len() + given.sum::<usize>())
}

/// Whether a value is a call that makes a tensor.
fn is_tensor(pickle: &Pickle, id: Id) -> bool {
    matches!(pickle.node(id), Node::Object(object) if pickle.class_name(object.class).starts_with("torch._utils._rebuild_"))
}

/// Lightning's `hyper_parameters`: a dict, or an object that carries one.
pub(super) fn hyper_parameters(pickle: &Pickle) -> HyperParameters {
    let root = entries(pickle, pickle.root).unwrap_or_default();
    let Some(id) = find(pickle, &root, "hyper_parameters") else { return HyperParameters::default() };
    let entries = carried_entries(pickle, id);
    let get = |name| {
        find(pickle, &entries, name).map(|id| match (pickle.node(id), pickle.text(id)) {
            (Node::Int(value), _) => HyperParameter::Number(*value),
            (_, Some(text)) => HyperParameter::Text(text.to_owned()),
            _ => HyperParameter::Inert(printable(&pickle.class_name(id))),
        })
    };
    let found = HyperParameters {
        arch_option: get("arch_option"),
        block_depth: get("block_depth"),
        activation: get("activation"),
    };
    // An object that has contents, but not in a form that is understood here, hides them all.
    let opaque = match pickle.node(id) {
        Node::Dict(_) | Node::None => false,
        Node::Object(object) => {
            let empty = object.items.is_empty()
                && object.state.is_none()
                && pickle.tuple(object.args).is_some_and(<[Id]>::is_empty);
            !empty && (entries.is_empty() || found == HyperParameters::default())
        }
        _ => true,
    };
    if !opaque {
        return found;
    }
    let inert = Some(HyperParameter::Inert(printable(&pickle.class_name(id))));
    HyperParameters { arch_option: inert.clone(), block_depth: inert.clone(), activation: inert }
}

/// The storages that any object names, in the order of their first naming.
pub(super) fn storages(pickle: &Pickle) -> impl Iterator<Item = Result<Storage, String>> {
    pickle.nodes().filter_map(|node| match node {
        Node::Persistent(id) if is_storage(pickle, *id) => Some(storage(pickle, *id)),
        _ => None,
    })
}

/// The items of a dict or of one of Python's own dict classes; of a repeated key, the last counts.
fn entries(pickle: &Pickle, id: Id) -> Option<Vec<(Id, Id)>> {
    if let Node::Dict(items) = pickle.node(id) {
        return Some(items.clone());
    }
    let object = dict_object(pickle, id)?;
    let mut items = constructor_items(pickle, object.args);
    items.extend_from_slice(&object.items);
    Some(items)
}

/// An instance of one of Python's own dict classes.
fn dict_object<'a>(pickle: &'a Pickle, id: Id) -> Option<&'a Object> {
    let Node::Object(object) = pickle.node(id) else { return None };
    let class = pickle.class_name(object.class);
    let known = ["collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict"];
    known.contains(&class.as_str()).then_some(object)
}

/// The items of whatever carries some: a dict, a dict class's instance, an object with a `__dict__`.
fn carried_entries(pickle: &Pickle, id: Id) -> Vec<(Id, Id)> {
    let Node::Object(object) = pickle.node(id) else {
        return entries(pickle, id).unwrap_or_default();
    };
    let mut items = constructor_items(pickle, object.args);
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
    items.extend_from_slice(&object.items);
    items
}

/// Items given to a dict's constructor: dicts, or lists of pairs (as Python 2 wrote an OrderedDict).
fn constructor_items(pickle: &Pickle, args: Id) -> Vec<(Id, Id)> {
    let mut items = Vec::new();
    for &arg in pickle.tuple(args).unwrap_or_default().iter().take(MAX_PARTS) {
        match pickle.node(arg) {
            Node::Dict(dict) => items.extend_from_slice(dict),
            Node::List(list) => {
                for &pair in list {
                    let (Node::List(pair) | Node::Tuple(pair)) = pickle.node(pair) else { continue };
                    if let &[key, value] = pair.as_slice() {
                        items.push((key, value));
                    }
                }
            }
            _ => {}
        }
    }
    items
}

fn find(pickle: &Pickle, entries: &[(Id, Id)], name: &str) -> Option<Id> {
    entries.iter().rev().find(|(key, _)| pickle.text(*key) == Some(name)).map(|(_, value)| *value)
}

/// A state dict's value: a tensor, a parameter around one, or something inert.
fn value_of(pickle: &Pickle, mut id: Id) -> Result<Value, String> {
    loop {
        let inert = || Ok(Value::Inert(printable(&pickle.class_name(id))));
        let Node::Object(object) = pickle.node(id) else { return inert() };
        let Some(args) = pickle.tuple(object.args) else { return inert() };
        match pickle.class_name(object.class).as_str() {
            // The arguments of a call are older than the call: this ends.
            "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => match args.first() {
                Some(&data) if data < id => id = data,
                _ => return inert(),
            },
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" => return tensor(pickle, args, None),
            "torch._utils._rebuild_tensor_v3" => {
                let Some(&dtype) = args.get(6) else { return Err("its call has too few arguments".to_owned()) };
                let name = pickle.class_name(dtype);
                return match named_dtype(&name) {
                    Some(dtype) => tensor(pickle, args, Some(dtype)),
                    None => Ok(Value::Inert(printable(&name))),
                };
            }
            _ => return inert(),
        }
    }
}

/// `(storage, first element, sizes, strides, …)`.
fn tensor(pickle: &Pickle, args: &[Id], dtype: Option<Dtype>) -> Result<Value, String> {
    let &[storage_id, start, shape, strides, ..] = args else {
        return Err("its call has too few arguments".to_owned());
    };
    let Node::Persistent(storage_id) = *pickle.node(storage_id) else {
        return Ok(Value::Inert(printable(&pickle.class_name(storage_id))));
    };
    if !is_storage(pickle, storage_id) {
        return Ok(Value::Inert("a persistent object that is no storage".to_owned()));
    }
    // A storage of a type that no network's float is made of (quantised, complex): inert, by its class's name.
    if let Some(class) = unknown_storage_class(pickle, storage_id) {
        return Ok(Value::Inert(class));
    }
    let storage = storage(pickle, storage_id)?;
    let start = whole(pickle, start).ok_or("its first element is no whole number")?;
    let shape = numbers(pickle, shape, "sizes")?
        .into_iter()
        .map(|d| usize::try_from(d).map_err(|_| format!("a size of {d} is more than this machine can address")))
        .collect::<Result<_, _>>()?;
    let strides = numbers(pickle, strides, "strides")?;
    Ok(Value::Tensor(TensorCall { dtype: dtype.unwrap_or(storage.dtype), storage, start, shape, strides }))
}

fn is_storage(pickle: &Pickle, id: Id) -> bool {
    pickle.tuple(id).and_then(|parts| parts.first()).is_some_and(|&kind| pickle.text(kind) == Some("storage"))
}

fn unknown_storage_class(pickle: &Pickle, id: Id) -> Option<String> {
    let class = pickle.class_name(*pickle.tuple(id)?.get(1)?);
    storage_dtype(&class).is_none().then(|| printable(&class))
}

fn storage(pickle: &Pickle, id: Id) -> Result<Storage, String> {
    let parts = pickle.tuple(id).unwrap_or_default();
    let &[_, class, key, _, count, ref rest @ ..] = parts else {
        return Err(format!("a storage is named by {} values, 5 are expected", parts.len()));
    };
    let class = pickle.class_name(class);
    let dtype = storage_dtype(&class).ok_or_else(|| format!("storages of {} are not known", printable(&class)))?;
    let key = match pickle.node(key) {
        Node::Int(key) => key.to_string(),
        _ => pickle.text(key).ok_or("a storage has no name")?.to_owned(),
    };
    let count = whole(pickle, count).ok_or("a storage's size is no whole number of at least 0")?;
    let view = match rest.first().and_then(|&view| pickle.tuple(view)) {
        Some(&[_, first, count]) => {
            let (first, count) = (whole(pickle, first), whole(pickle, count));
            Some(first.zip(count).ok_or("a storage's view has no whole numbers")?)
        }
        Some(_) => return Err("a storage's view is not understood".to_owned()),
        None => None,
    };
    Ok(Storage { dtype, key, count, view })
}

/// A whole number of at least 0.
fn whole(pickle: &Pickle, id: Id) -> Option<u64> {
    match pickle.node(id) {
        Node::Int(value) => u64::try_from(*value).ok(),
        _ => None,
    }
}

/// A tuple or list of whole numbers, one a dimension (a `torch.Size` is a call around one). `what` they are.
fn numbers(pickle: &Pickle, id: Id, what: &str) -> Result<Vec<u64>, String> {
    let refused = || format!("its {what} are no whole numbers of at least 0");
    let members = match pickle.node(id) {
        Node::Object(object) => pickle.tuple(object.args).and_then(|args| args.first().copied()),
        _ => Some(id),
    };
    let (Node::Tuple(members) | Node::List(members)) = pickle.node(members.ok_or_else(refused)?) else {
        return Err(refused());
    };
    // Refused before they are collected: a million tensors may share a tuple of a million numbers.
    if members.len() > MAX_DIMENSIONS {
        return Err(format!("{} {what}; a tensor has at most {MAX_DIMENSIONS}", members.len()));
    }
    members.iter().map(|&member| whole(pickle, member).ok_or_else(refused)).collect()
}

/// The element type of a storage class, `torch.FloatStorage` or `torch.cuda.FloatStorage`.
fn storage_dtype(class: &str) -> Option<Dtype> {
    let (module, name) = class.rsplit_once('.')?;
    if module != "torch" && !module.starts_with("torch.") {
        return None;
    }
    Some(match name {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" | "UntypedStorage" | "_UntypedStorage" => Dtype::U8,
        "BoolStorage" => Dtype::BOOL,
        "ComplexFloatStorage" => Dtype::C64,
        _ => return None,
    })
}

/// `torch.float16` and its kin.
fn named_dtype(name: &str) -> Option<Dtype> {
    Some(match name.strip_prefix("torch.")? {
        "float64" => Dtype::F64,
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint64" => Dtype::U64,
        "uint32" => Dtype::U32,
        "uint16" => Dtype::U16,
        "uint8" => Dtype::U8,
        "bool" => Dtype::BOOL,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e5m2" => Dtype::F8_E5M2,
        _ => return None,
    })
}
