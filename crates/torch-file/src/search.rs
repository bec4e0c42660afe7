//! Which of a pickle's dicts is the state dict.

use std::collections::HashSet;
use std::path::Path;

use crate::items::{entries, find, item_count};
use crate::limits::{MAX_DEPTH, MAX_ENTRIES, MAX_LOOKED_AT};
use crate::pickle::{Id, Pickle};
use crate::printable::shortened;
use crate::torch::is_tensor;
use crate::{Error, Options};

/// Entries that a message names.
const SHOWN: usize = 5;

/// Why there is no state dict to read.
pub(crate) enum Refusal {
    Refused(String),
    Elsewhere { dict: String, first: String },
}

impl Refusal {
    /// The error of a file.
    pub fn of(self, path: &Path) -> Error {
        match self {
            Refusal::Refused(reason) => Error::refused(path, reason),
            Refusal::Elsewhere { dict, first } => Error::Elsewhere { path: path.to_owned(), dict, first },
        }
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Refusal::Refused(reason)
    }
}

/// The dict that the options name; else the one that they look for.
pub(crate) fn find_state_dict(pickle: &Pickle, options: &Options) -> Result<Id, Refusal> {
    if options.keys.is_empty() { look_for(pickle, options) } else { Ok(named(pickle, &options.keys)?) }
}

/// The dict that these keys lead to.
fn named(pickle: &Pickle, keys: &[String]) -> Result<Id, String> {
    let mut id = pickle.root;
    for (i, key) in keys.iter().enumerate() {
        let inner = entries(pickle, id).and_then(|items| find(pickle, &items, key));
        id = inner.ok_or_else(|| format!("has no entry {}", shortened(&keys[..=i].join("."))))?;
    }
    if item_count(pickle, id).is_none() {
        let class = shortened(&pickle.class_name(id));
        let path = shortened(&keys.join("."));
        return Err(format!("its {path} is an object of class {class}, a dict of tensors is expected"));
    }
    Ok(id)
}

/// The root's `state_dict` or the root itself; where these have no tensor of a name that is looked for, another entry of the
/// root.
fn look_for(pickle: &Pickle, options: &Options) -> Result<Id, Refusal> {
    let root = entries(pickle, pickle.root).ok_or_else(|| {
        let class = shortened(&pickle.class_name(pickle.root));
        format!(
            "holds one object of class {class}, which is not built from strangers' files; \
             a dict of tensors is expected: save model.state_dict() with torch.save"
        )
    })?;
    let state_id = find(pickle, &root, "state_dict").unwrap_or(pickle.root);
    let state = if state_id == pickle.root { Some(root) } else { entries(pickle, state_id) };
    let held = state.as_ref().and_then(|items| tensors(pickle, items, options));
    if held.as_ref().is_some_and(|held| held.is_looked_for) {
        return Ok(state_id);
    }
    let below = Below::search(pickle, options);
    let networks = || below.dicts.iter().filter(|dict| dict.tensors.is_looked_for);
    let near: Vec<&DictBelow> = networks().filter(|dict| below.steps[dict.step].depth == 1).collect();
    match near.as_slice() {
        [] => {}
        [one] => return Ok(below.steps[one.step].id),
        several => {
            let names: Vec<String> = several.iter().take(SHOWN).map(|dict| below.path(dict)).collect();
            let names = names.join(", ");
            return Err(format!("holds several networks, in its entries {names}; save one of them alone").into());
        }
    }
    if let Some(deep) = networks().next() {
        let path = below.path(deep);
        return Err(format!("holds its network in {path}, deeper than is read; save that dict alone").into());
    }
    let Some(state) = state else {
        let class = shortened(&pickle.class_name(state_id));
        return Err(format!("its state_dict is an object of class {class}, a dict of tensors is expected").into());
    };
    // Other tensors are read: who looks for some will miss them.
    if held.is_some() || state.len() > MAX_ENTRIES {
        return Ok(state_id);
    }
    let Some(dict) = below.dicts.first() else {
        return Err(format!(
            "holds no tensors{}; a dict of tensors is expected: save model.state_dict() with torch.save",
            what_is_there(pickle, &state)
        )
        .into());
    };
    let first = shortened(pickle.text(dict.tensors.first).unwrap_or_default());
    Err(Refusal::Elsewhere { dict: below.path(dict), first })
}

/// `, only epoch (int), model (lseg.Net)`
fn what_is_there(pickle: &Pickle, items: &[(Id, Id)]) -> String {
    let named = items.iter().filter_map(|&(key, value)| Some((pickle.text(key)?, pickle.class_name(value))));
    let shown = named.take(SHOWN).map(|(name, class)| format!("{} ({})", shortened(name), shortened(&class)));
    let shown = shown.collect::<Vec<_>>().join(", ");
    if shown.is_empty() { shown } else { format!(", only {shown}") }
}

/// What tensors a dict holds.
struct Tensors {
    /// The first one's name.
    first: Id,
    /// Whether some have names that are looked for.
    is_looked_for: bool,
}

fn tensors(pickle: &Pickle, items: &[(Id, Id)], options: &Options) -> Option<Tensors> {
    let is_looked_for = |name: &str| options.is_looked_for.as_ref().is_none_or(|is| is(name));
    if items.len() > MAX_ENTRIES {
        return None;
    }
    let mut tensors = items
        .iter()
        .filter(|(_, value)| is_tensor(pickle, *value))
        .filter_map(|&(key, _)| Some((key, pickle.text(key)?)));
    let (first, name) = tensors.next()?;
    let is_looked_for = is_looked_for(name) || tensors.any(|(_, name)| is_looked_for(name));
    Some(Tensors { first, is_looked_for })
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
    fn search(pickle: &'a Pickle<'a>, options: &Options) -> Self {
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
                && let Some(tensors) = tensors(pickle, &items, options)
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
        shortened(&keys.join("."))
    }
}
