//! PyTorch's format before 1.6, not a zip: five pickles one after the other (magic number, protocol version,
//! machine, objects, storage keys), then each storage as its number of elements (8 bytes) and its raw bytes.

use std::collections::HashMap;

use crate::file::Contents;
use crate::layout::Extent;
use crate::limits::MAX_PICKLE;
use crate::pickle::{Fault, Node, Pickle};
use crate::printable::shortened;
use crate::source::Source;
use crate::torch::{self, Entry};
use crate::{Options, Result, settings};

/// 0x1950a86a20f9469cfc6c, as a pickled integer holds it.
const MAGIC_NUMBER: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL_VERSION: i64 = 1001;

/// Bytes of the file's start that are tried first; the pickles of a large model fit.
const FIRST_TRY: u64 = 1 << 20;

pub(crate) fn open(source: &Source, options: &Options) -> Result<Contents> {
    // How long the pickles are is only known once they are read.
    let mut len = FIRST_TRY;
    loop {
        let head = source.bytes(0, len.min(source.len))?;
        match contents(source, &head, options) {
            Err(Stop::Truncated) if len < source.len && len < MAX_PICKLE => len *= 2,
            Err(Stop::Truncated) => {
                return Err(source.damaged("ends in the middle of its objects; it is cut short or no checkpoint"));
            }
            Err(Stop::Failed(error)) => return Err(error),
            Ok(contents) => return Ok(contents),
        }
    }
}

enum Stop {
    /// The pickles go on after the bytes at hand.
    Truncated,
    Failed(crate::Error),
}

fn contents(source: &Source, head: &[u8], options: &Options) -> Result<Contents, Stop> {
    let damaged = |reason: String| Stop::Failed(source.damaged(reason));
    let mut at = 0;
    let mut next = || -> Result<Pickle, Stop> {
        let pickle = Pickle::read(head.get(at..).unwrap_or_default()).map_err(|fault| match fault {
            Fault::Truncated => Stop::Truncated,
            Fault::Malformed(reason) => damaged(format!("is a damaged pickle: {reason}")),
        })?;
        at += pickle.len;
        Ok(pickle)
    };

    let magic = next()?;
    match magic.node(magic.root) {
        Node::Bytes(span) if magic.bytes(span) == MAGIC_NUMBER => {}
        _ => {
            let class = shortened(&magic.class_name(magic.root));
            return Err(damaged(format!("is a Python pickle ({class}), not a checkpoint; save it with torch.save")));
        }
    }
    let version = next()?;
    if !matches!(version.node(version.root), Node::Int(PROTOCOL_VERSION)) {
        return Err(damaged("is an old PyTorch file of an unknown protocol (1001 is expected)".to_owned()));
    }
    let machine = next()?;
    if big_endian(&machine) {
        return Err(damaged(
            "was saved on a machine of byte order \"big\"; only \"little\" is read: save it again on one of those"
                .to_owned(),
        ));
    }
    let objects = next()?;
    let keys = next()?;
    let places = places(source, &objects, &keys, at as u64).map_err(Stop::Failed)?;

    let state_dict = torch::state_dict(&objects, options).map_err(|error| Stop::Failed(error.of(&source.path)))?;
    let mut contents = Contents { settings: settings::read(&objects, state_dict.id), ..Contents::default() };
    for (name, entry) in state_dict.entries {
        match entry {
            Entry::Other(class) => contents.add_other(name.to_owned(), class),
            Entry::Tensor(call) => {
                let shown = || shortened(name);
                let place = *places.get(call.storage.key.as_ref()).ok_or_else(|| {
                    damaged(format!("the storage of tensor {} is not in the file; it is damaged", shown()))
                })?;
                let layout = call
                    .layout(place)
                    .map_err(|reason| damaged(format!("tensor {}: {reason}; the file is damaged", shown())))?;
                contents.add_tensor(name.to_owned(), layout);
            }
        }
    }
    Ok(contents)
}

/// Whether the file's third pickle says so.
fn big_endian(machine: &Pickle) -> bool {
    let Node::Dict(items) = machine.node(machine.root) else { return false };
    items
        .iter()
        .any(|&(key, value)| machine.is_text(key, "little_endian") && matches!(machine.node(value), Node::Bool(false)))
}

/// Where each storage lies: they follow each other from byte `at`, in the order of the list of keys.
fn places(source: &Source, objects: &Pickle, keys: &Pickle, mut at: u64) -> Result<HashMap<String, Extent>> {
    let mut described = HashMap::new();
    for storage in torch::storages(objects) {
        let storage = storage.map_err(|reason| source.damaged(reason))?;
        described.entry(storage.key.clone()).or_insert(storage);
    }
    let Node::List(keys_in_order) = keys.node(keys.root) else {
        return Err(source.damaged("its list of storages is no list; the file is damaged"));
    };
    let mut places = HashMap::new();
    for &key in keys_in_order {
        let key = match keys.node(key) {
            Node::Int(key) => key.to_string(),
            _ => keys.text(key).unwrap_or_default().to_owned(),
        };
        // Each storage once: a list that repeats keys would walk the file for ever.
        let shown = || shortened(&key);
        let Some(storage) = described.remove(key.as_str()) else {
            return Err(source.damaged(format!("storage {} belongs to no tensor; the file is damaged", shown())));
        };
        let mut count = [0; 8];
        source.read_at(at, &mut count)?;
        let count = u64::from_le_bytes(count);
        if count != storage.count {
            return Err(source.damaged(format!(
                "storage {} has {count} elements, {} are expected; the file is damaged",
                shown(),
                storage.count
            )));
        }
        let end = storage.bytes().and_then(|len| (at + 8).checked_add(len));
        let Some(end) = end.filter(|&end| end <= source.len) else {
            return Err(source.damaged(format!(
                "storage {} of {count} elements goes beyond the file's {} bytes; it is cut short",
                shown(),
                source.len
            )));
        };
        places.insert(key, Extent { offset: at + 8, len: end - at - 8 });
        at = end;
    }
    Ok(places)
}
