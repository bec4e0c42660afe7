//! What the objects of a PyTorch pickle mean: which dict is the state dict, which calls are tensors, what the
//! hyper-parameters say. Both file formats (zip and before 1.6) share it; they differ in where storages lie.

use std::borrow::Cow;
use std::collections::HashSet;

use safetensors::Dtype;

use super::layout::{Extent, Layout, MAX_DIMENSIONS, element_size};
use super::pickle::{Id, Node, Object, Pickle};
use super::{HyperParameter, HyperParameters, is_networks, printable};

/// More entries than this are no model's; a pickle can repeat one tensor millions of times in a few bytes each.
const MAX_ENTRIES: usize = 100_000;

/// A tensor may be a parameter, and that be wrapped once more.
const MAX_PARAMETERS: usize = 2;

/// A dict class is called with a default's maker and a dict, an object's state is its dict and its slots.
const MAX_PARTS: usize = 2;

/// A storage as its persistent id names it: `("storage", class, key, device, elements[, view])`.
#[derive(Clone, Debug)]
pub(super) struct Storage<'a> {
    pub dtype: Dtype,
    pub key: Cow<'a, str>,
    /// Elements of the whole storage.
    pub count: u64,
    /// A part of the storage that an old file's tensors share: first element and number of elements.
    pub view: Option<(u64, u64)>,
}

impl Storage<'_> {
    /// Bytes of the whole storage.
    pub fn bytes(&self) -> Option<u64> {
        self.count.checked_mul(element_size(self.dtype) as u64)
    }
}

/// A tensor as its rebuilding call describes it.
#[derive(Debug)]
pub(super) struct TensorCall<'a> {
    pub storage: Storage<'a>,
    /// The elements' type: the storage's, or one of its own over untyped bytes.
    dtype: Dtype,
    /// First element in the storage, and elements from one index to the next.
    start: u64,
    shape: Vec<usize>,
    strides: Vec<u64>,
}

impl TensorCall<'_> {
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
pub(super) enum Value<'a> {
    Tensor(TensorCall<'a>),
    /// No tensor; the name of its class.
    Inert(String),
}

/// The state dict's entries by name.
pub(super) fn state_dict<'a>(pickle: &'a Pickle) -> Result<Vec<(&'a str, Value<'a>)>, String> {
    let entries = entries(pickle, network(pickle)?).unwrap_or_default();
    if entries.len() > MAX_ENTRIES {
        return Err(format!("its state dict has more than {MAX_ENTRIES} entries; save the model alone"));
    }
    // Each key once, the last: names then take no more room than they have in the file.
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for (key, value) in entries.into_iter().rev().filter(|(key, _)| seen.insert(*key)) {
        let Some(name) = pickle.text(key) else { continue };
        let value = value_of(pickle, value).map_err(|reason| format!("tensor {}: {reason}", printable(name)))?;
        found.push((name, value));
    }
    found.reverse();
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
    let below = Below::search(pickle);
    let networks = || below.dicts.iter().filter(|dict| dict.tensors.is_networks);
    let near: Vec<&DictBelow> = networks().filter(|dict| below.steps[dict.step].depth == 1).collect();
    match near.as_slice() {
        [] => {}
        [one] => return Ok(below.steps[one.step].id),
        several => {
            let names: Vec<String> = several.iter().take(SHOWN).map(|dict| below.path(dict)).collect();
            return Err(format!("holds several networks, in its entries {}; save one of them alone", names.join(", ")));
        }
    }
    if let Some(deep) = networks().next() {
        return Err(format!("holds its network in {}, deeper than is read; save that dict alone", below.path(deep)));
    }
    let Some(state) = state else {
        let class = printable(&pickle.class_name(state_id));
        return Err(format!("its state_dict is an object of class {class}, a dict of tensors is expected"));
    };
    // Other tensors are read; that they are no LSeg is said where its own are missed.
    if held.is_some() || state.len() > MAX_ENTRIES {
        return Ok(state_id);
    }
    Err(match below.dicts.first() {
        Some(dict) => format!(
            "is no LSeg checkpoint: its tensors are in {}, the first of them is {}; names such as scratch.head1.weight are \
             expected",
            below.path(dict),
            printable(pickle.text(dict.tensors.first).unwrap_or_default())
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
    /// The first one's name.
    first: Id,
    /// Whether some have LSeg's names.
    is_networks: bool,
}

fn tensors(pickle: &Pickle, items: &[(Id, Id)]) -> Option<Tensors> {
    if items.len() > MAX_ENTRIES {
        return None;
    }
    let mut tensors = items
        .iter()
        .filter(|(_, value)| is_tensor(pickle, *value))
        .filter_map(|&(key, _)| Some((key, pickle.text(key)?)));
    let (first, name) = tensors.next()?;
    let is_networks = is_networks(name) || tensors.any(|(_, name)| is_networks(name));
    Some(Tensors { first, is_networks })
}

/// The dicts below the root.
struct Below<'a> {
    pickle: &'a Pickle<'a>,
    /// Nearest first; the first is the root.
    steps: Vec<Step>,
    /// Those with tensors.
    dicts: Vec<DictBelow>,
}

/// A dict and where it was found first. (Not its path: of a deep dict with many below it, each would repeat it.)
#[derive(Clone, Copy)]
struct Step {
    id: Id,
    /// The step that led here, and the key.
    from: usize,
    key: Id,
    depth: usize,
}

struct DictBelow {
    step: usize,
    tensors: Tensors,
}

impl<'a> Below<'a> {
    /// Looks into each dict once.
    fn search(pickle: &'a Pickle<'a>) -> Self {
        let mut below =
            Below { pickle, steps: vec![Step { id: pickle.root, from: 0, key: 0, depth: 0 }], dicts: Vec::new() };
        let mut left = MAX_LOOKED_AT;
        let mut seen = HashSet::from([pickle.root]);
        let mut at = 0;
        while let Some(&Step { id, depth, .. }) = below.steps.get(at) {
            let items = entries(pickle, id).unwrap_or_default();
            if depth < MAX_DEPTH {
                for &(key, id) in items.iter().take(MAX_LOOKED_AT) {
                    let rest = item_count(pickle, id).and_then(|count| left.checked_sub(count + 1));
                    let Some(rest) = rest.filter(|_| pickle.text(key).is_some() && seen.insert(id)) else { continue };
                    left = rest;
                    below.steps.push(Step { id, from: at, key, depth: depth + 1 });
                }
            }
            if depth > 0
                && let Some(tensors) = tensors(pickle, &items)
            {
                below.dicts.push(DictBelow { step: at, tensors });
            }
            at += 1;
        }
        below
    }

    /// The keys that lead to a dict.
    fn path(&self, dict: &DictBelow) -> String {
        let mut keys = Vec::new();
        let mut step = &self.steps[dict.step];
        while step.depth > 0 {
            keys.push(self.pickle.text(step.key).unwrap_or_default());
            step = &self.steps[step.from];
        }
        keys.reverse();
        printable(&keys.join("."))
    }
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
    matches!(pickle.node(id), Node::Object(object) if rebuilding(pickle, object).is_some())
}

/// What follows `torch._utils._rebuild_` in the name of the function that makes an object.
fn rebuilding<'a>(pickle: &'a Pickle, object: &Object) -> Option<&'a [u8]> {
    let (module, name) = pickle.global(object.class)?;
    name.strip_prefix(b"_rebuild_").filter(|_| module == b"torch._utils")
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

/// The storages that any object names, in the order of their first naming. An error ends them.
pub(super) fn storages<'a>(pickle: &'a Pickle) -> impl Iterator<Item = Result<Storage<'a>, String>> {
    let ids = pickle.nodes().filter_map(|node| match node {
        Node::Persistent(id) if is_storage(pickle, *id) => Some(*id),
        _ => None,
    });
    ids.enumerate().map(|(i, id)| {
        if i >= MAX_ENTRIES {
            return Err(format!("its objects name more than {MAX_ENTRIES} storages; save the model alone"));
        }
        storage(pickle, id)
    })
}

/// The items of a dict or of one of Python's own dict classes; of a repeated key, the last counts. Where there are more
/// than [`MAX_ENTRIES`], one more than those: whoever needs them all looks at their number.
fn entries(pickle: &Pickle, id: Id) -> Option<Vec<(Id, Id)>> {
    if let Node::Dict(items) = pickle.node(id) {
        return Some(items.iter().copied().take(MAX_ENTRIES + 1).collect());
    }
    let object = dict_object(pickle, id)?;
    let items = constructor_items(pickle, object.args).chain(object.items.iter().copied());
    Some(items.take(MAX_ENTRIES + 1).collect())
}

/// An instance of one of Python's own dict classes.
fn dict_object<'a>(pickle: &'a Pickle, id: Id) -> Option<&'a Object> {
    let Node::Object(object) = pickle.node(id) else { return None };
    match pickle.global(object.class)? {
        (b"collections", b"OrderedDict" | b"defaultdict") | (b"builtins" | b"__builtin__", b"dict") => Some(object),
        _ => None,
    }
}

/// The items of whatever carries some: a dict, a dict class's instance, an object with a `__dict__`.
fn carried_entries(pickle: &Pickle, id: Id) -> Vec<(Id, Id)> {
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

fn find(pickle: &Pickle, entries: &[(Id, Id)], name: &str) -> Option<Id> {
    entries.iter().rev().find(|(key, _)| pickle.is_text(*key, name)).map(|(_, value)| *value)
}

/// A state dict's value: a tensor, a parameter around one, or something inert.
fn value_of<'a>(pickle: &'a Pickle, outer: Id) -> Result<Value<'a>, String> {
    let mut id = outer;
    let inert = |id| Ok(Value::Inert(printable(&pickle.class_name(id))));
    for _ in 0..=MAX_PARAMETERS {
        let Node::Object(object) = pickle.node(id) else { return inert(id) };
        let Some(args) = pickle.tuple(object.args) else { return inert(id) };
        match (rebuilding(pickle, object), args) {
            (Some(b"parameter" | b"parameter_with_state"), &[data, ..]) => id = data,
            (Some(b"tensor" | b"tensor_v2"), _) => return tensor(pickle, args, None),
            (Some(b"tensor_v3"), &[_, _, _, _, _, _, dtype, ..]) => {
                return match pickle.global(dtype).and_then(named_dtype) {
                    Some(dtype) => tensor(pickle, args, Some(dtype)),
                    None => inert(dtype),
                };
            }
            (Some(b"tensor_v3"), _) => return Err("its call has too few arguments".to_owned()),
            _ => return inert(id),
        }
    }
    inert(outer)
}

/// `(storage, first element, sizes, strides, …)`.
fn tensor<'a>(pickle: &'a Pickle, args: &[Id], dtype: Option<Dtype>) -> Result<Value<'a>, String> {
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
    pickle.tuple(id).and_then(|parts| parts.first()).is_some_and(|&kind| pickle.is_text(kind, "storage"))
}

fn unknown_storage_class(pickle: &Pickle, id: Id) -> Option<String> {
    let class = *pickle.tuple(id)?.get(1)?;
    let known = pickle.global(class).and_then(storage_dtype).is_some();
    (!known).then(|| printable(&pickle.class_name(class)))
}

fn storage<'a>(pickle: &'a Pickle, id: Id) -> Result<Storage<'a>, String> {
    let parts = pickle.tuple(id).unwrap_or_default();
    let &[_, class, key, _, count, ref rest @ ..] = parts else {
        return Err(format!("a storage is named by {} values, 5 are expected", parts.len()));
    };
    let dtype = pickle
        .global(class)
        .and_then(storage_dtype)
        .ok_or_else(|| format!("storages of {} are not known", printable(&pickle.class_name(class))))?;
    let key = match pickle.node(key) {
        Node::Int(key) => key.to_string().into(),
        _ => pickle.text(key).ok_or("a storage has no name")?.into(),
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
fn storage_dtype((module, name): (&[u8], &[u8])) -> Option<Dtype> {
    if module != b"torch" && !module.starts_with(b"torch.") {
        return None;
    }
    Some(match name {
        b"DoubleStorage" => Dtype::F64,
        b"FloatStorage" => Dtype::F32,
        b"HalfStorage" => Dtype::F16,
        b"BFloat16Storage" => Dtype::BF16,
        b"LongStorage" => Dtype::I64,
        b"IntStorage" => Dtype::I32,
        b"ShortStorage" => Dtype::I16,
        b"CharStorage" => Dtype::I8,
        b"ByteStorage" | b"UntypedStorage" | b"_UntypedStorage" => Dtype::U8,
        b"BoolStorage" => Dtype::BOOL,
        b"ComplexFloatStorage" => Dtype::C64,
        _ => return None,
    })
}

/// `torch.float16` and its kin.
fn named_dtype((module, name): (&[u8], &[u8])) -> Option<Dtype> {
    if module != b"torch" {
        return None;
    }
    Some(match name {
        b"float64" => Dtype::F64,
        b"float32" => Dtype::F32,
        b"float16" => Dtype::F16,
        b"bfloat16" => Dtype::BF16,
        b"int64" => Dtype::I64,
        b"int32" => Dtype::I32,
        b"int16" => Dtype::I16,
        b"int8" => Dtype::I8,
        b"uint64" => Dtype::U64,
        b"uint32" => Dtype::U32,
        b"uint16" => Dtype::U16,
        b"uint8" => Dtype::U8,
        b"bool" => Dtype::BOOL,
        b"float8_e4m3fn" => Dtype::F8_E4M3,
        b"float8_e5m2" => Dtype::F8_E5M2,
        _ => return None,
    })
}
