//! What the objects of a PyTorch pickle mean: which calls are tensors, in which storages. Both file formats (zip and before 1.6)
//! share it; they differ in where storages lie.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use crate::items::entries;
use crate::layout::{Extent, Layout};
use crate::limits::{MAX_DIMENSIONS, MAX_ENTRIES, MAX_PARAMETERS};
use crate::pickle::{Id, Node, Object, Pickle};
use crate::printable::shortened;
use crate::search::{Refusal, find_state_dict};
use crate::{Dtype, Options, elements};

/// A storage as its persistent id names it: `("storage", class, key, device, elements[, view])`.
#[derive(Clone, Debug)]
pub(crate) struct Storage<'a> {
    /// `None` for quantised and complex128 elements, of which no tensor is read.
    pub dtype: Option<Dtype>,
    /// Bytes of an element.
    pub size: u64,
    pub key: Cow<'a, str>,
    /// Elements of the whole storage.
    pub count: u64,
    /// A part of the storage that an old file's tensors share: first element and number of elements.
    pub view: Option<(u64, u64)>,
}

impl Storage<'_> {
    /// Bytes of the whole storage.
    pub fn bytes(&self) -> Option<u64> {
        self.count.checked_mul(self.size)
    }
}

/// A tensor as its rebuilding call describes it.
#[derive(Debug)]
pub(crate) struct TensorCall<'a> {
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
                let size = self.storage.size;
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
pub(crate) enum Entry<'a> {
    Tensor(TensorCall<'a>),
    /// No tensor; the name of its class.
    Other(Arc<str>),
}

/// A state dict's node, and its entries by name.
pub(crate) struct StateDict<'a> {
    pub id: Id,
    pub entries: Vec<(&'a str, Entry<'a>)>,
}

/// The entries of the dict that the options ask for.
pub(crate) fn state_dict<'a>(pickle: &'a Pickle, options: &Options) -> Result<StateDict<'a>, Refusal> {
    let id = find_state_dict(pickle, options)?;
    let items = entries(pickle, id).unwrap_or_default();
    if items.len() > MAX_ENTRIES {
        return Err(format!("its state dict has more than {MAX_ENTRIES} entries; save the model alone").into());
    }
    // Each key once, the last: names then take no more room than they have in the file.
    let mut seen = HashSet::new();
    // And each class's name once: all entries may have one class.
    let mut classes: HashSet<Arc<str>> = HashSet::new();
    let mut entries = Vec::new();
    for (key, value) in items.into_iter().rev().filter(|(key, _)| seen.insert(*key)) {
        let Some(name) = pickle.text(key) else { continue };
        let mut entry = entry(pickle, value).map_err(|reason| format!("tensor {}: {reason}", shortened(name)))?;
        if let Entry::Other(class) = &mut entry {
            match classes.get(class) {
                Some(known) => *class = known.clone(),
                None => drop(classes.insert(class.clone())),
            }
        }
        entries.push((name, entry));
    }
    entries.reverse();
    Ok(StateDict { id, entries })
}

/// Whether a value is a call that makes a tensor.
pub(crate) fn is_tensor(pickle: &Pickle, id: Id) -> bool {
    matches!(pickle.node(id), Node::Object(object) if rebuilding(pickle, object).is_some())
}

/// What follows `torch._utils._rebuild_` in the name of the function that makes an object.
fn rebuilding<'a>(pickle: &'a Pickle, object: &Object) -> Option<&'a [u8]> {
    let (module, name) = pickle.global(object.class)?;
    name.strip_prefix(b"_rebuild_").filter(|_| module == b"torch._utils")
}

/// The storages that any object names, in the order of their first naming. An error ends them.
pub(crate) fn storages<'a>(pickle: &'a Pickle) -> impl Iterator<Item = Result<Storage<'a>, String>> {
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

/// A state dict's value: a tensor, a parameter around one, or something else.
fn entry<'a>(pickle: &'a Pickle, outer: Id) -> Result<Entry<'a>, String> {
    let mut id = outer;
    let other = |id| Ok(Entry::Other(shortened(&pickle.class_name(id)).into()));
    for _ in 0..=MAX_PARAMETERS {
        let Node::Object(object) = pickle.node(id) else { return other(id) };
        let Some(args) = pickle.tuple(object.args) else { return other(id) };
        match (rebuilding(pickle, object), args) {
            (Some(b"parameter" | b"parameter_with_state"), &[data, ..]) => id = data,
            (Some(b"tensor" | b"tensor_v2"), _) => return tensor(pickle, args, None),
            (Some(b"tensor_v3"), &[_, _, _, _, _, _, dtype, ..]) => {
                return match pickle.global(dtype).and_then(named_dtype) {
                    Some(dtype) => tensor(pickle, args, Some(dtype)),
                    None => other(dtype),
                };
            }
            (Some(b"tensor_v3"), _) => return Err("its call has too few arguments".to_owned()),
            _ => return other(id),
        }
    }
    other(outer)
}

/// `(storage, first element, sizes, strides, …)`.
fn tensor<'a>(pickle: &'a Pickle, args: &[Id], dtype: Option<Dtype>) -> Result<Entry<'a>, String> {
    let &[storage_id, start, shape, strides, ..] = args else {
        return Err("its call has too few arguments".to_owned());
    };
    let Node::Persistent(storage_id) = *pickle.node(storage_id) else {
        return Ok(Entry::Other(shortened(&pickle.class_name(storage_id)).into()));
    };
    if !is_storage(pickle, storage_id) {
        return Ok(Entry::Other("a persistent object that is no storage".into()));
    }
    // A storage of a type that is not read (quantised, complex128): named by its class.
    if let Some(class) = unread_storage_class(pickle, storage_id) {
        return Ok(Entry::Other(class.into()));
    }
    let storage = storage(pickle, storage_id)?;
    let dtype = dtype.or(storage.dtype).ok_or("its elements' type is not known")?;
    let start = whole(pickle, start).ok_or("its first element is no whole number")?;
    let shape = numbers(pickle, shape, "sizes")?
        .into_iter()
        .map(|d| usize::try_from(d).map_err(|_| format!("a size of {d} is more than this machine can address")))
        .collect::<Result<_, _>>()?;
    let strides = numbers(pickle, strides, "strides")?;
    Ok(Entry::Tensor(TensorCall { dtype, storage, start, shape, strides }))
}

fn is_storage(pickle: &Pickle, id: Id) -> bool {
    pickle.tuple(id).and_then(|parts| parts.first()).is_some_and(|&kind| pickle.is_text(kind, "storage"))
}

fn unread_storage_class(pickle: &Pickle, id: Id) -> Option<String> {
    let class = *pickle.tuple(id)?.get(1)?;
    let dtype = pickle.global(class).and_then(storage_elements).and_then(|(dtype, _)| dtype);
    dtype.is_none().then(|| shortened(&pickle.class_name(class)))
}

fn storage<'a>(pickle: &'a Pickle, id: Id) -> Result<Storage<'a>, String> {
    let parts = pickle.tuple(id).unwrap_or_default();
    let &[_, class, key, _, count, ref rest @ ..] = parts else {
        return Err(format!("a storage is named by {} values, 5 are expected", parts.len()));
    };
    let (dtype, size) = pickle.global(class).and_then(storage_elements).ok_or_else(|| {
        let class = shortened(&pickle.class_name(class));
        format!("storages of {class} are not known; save the model again with PyTorch 1.6 or newer")
    })?;
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
    Ok(Storage { dtype, size, key, count, view })
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

/// The element type of a storage class, `torch.FloatStorage` or `torch.cuda.FloatStorage`, and its size in bytes: before 1.6,
/// where a storage lies depends on the sizes of all before it, also of types that are not read.
fn storage_elements((module, name): (&[u8], &[u8])) -> Option<(Option<Dtype>, u64)> {
    if module != b"torch" && !module.starts_with(b"torch.") {
        return None;
    }
    let dtype = match name {
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
        b"QInt8Storage" | b"QUInt8Storage" | b"QUInt4x2Storage" | b"QUInt2x4Storage" => return Some((None, 1)),
        b"QInt32Storage" => return Some((None, 4)),
        b"ComplexDoubleStorage" => return Some((None, 16)),
        _ => return None,
    };
    Some((Some(dtype), elements::size(dtype) as u64))
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
