//! A pickle that is nothing but a dict of lists of texts, such as a data set's list of photos by class.

use std::collections::BTreeMap;

use crate::limits::{MAX_OBJECTS, MAX_PICKLE};
use crate::pickle::{Fault, Id, Node, Pickle};
use crate::printable::shortened;

/// Reads a pickled dict from whole numbers to lists of texts. A pickle that asks for anything else, such as a class or
/// a call, is refused as a whole; nothing is executed.
///
/// # Errors
/// What is wrong with the pickle, in words that fit behind a file's name.
pub fn read(bytes: &[u8]) -> Result<BTreeMap<i64, Vec<String>>, String> {
    let pickle = Pickle::read(bytes).map_err(|fault| match fault {
        Fault::Truncated => "ends in the middle of its pickle; it is cut short or no pickle".to_owned(),
        Fault::Malformed(reason) => format!("is no pickle that is read: {reason}"),
    })?;
    if let Some(other) = (0..).zip(pickle.nodes()).find(|(_, node)| !is_plain(node)) {
        let class = shortened(&pickle.class_name(other.0));
        return Err(format!("asks for {class}; expected a dict of lists of texts alone, and nothing is executed"));
    }
    let Node::Dict(items) = pickle.node(pickle.root) else {
        let class = shortened(&pickle.class_name(pickle.root));
        return Err(format!("holds an object of class {class}; expected a dict of lists of texts"));
    };
    let (mut lists, mut room) = (BTreeMap::new(), Room { texts: MAX_OBJECTS, bytes: MAX_PICKLE });
    for &(key, list) in items {
        let (Node::Int(key), Node::List(members)) = (pickle.node(key), pickle.node(list)) else {
            return Err("has an entry that is no whole number with a list".to_owned());
        };
        let texts = members.iter().map(|&member| room.text(&pickle, member)).collect::<Result<_, _>>()?;
        lists.insert(*key, texts);
    }
    Ok(lists)
}

/// What is left of the limits: a pickle can repeat one list millions of times in a few bytes each.
struct Room {
    texts: usize,
    bytes: u64,
}

impl Room {
    fn text(&mut self, pickle: &Pickle, id: Id) -> Result<String, String> {
        let text = pickle.text(id).ok_or("has a list with a member that is no text")?;
        let left = self.texts.checked_sub(1).zip(self.bytes.checked_sub(text.len() as u64));
        (self.texts, self.bytes) = left.ok_or("has more texts than are read")?;
        Ok(text.to_owned())
    }
}

fn is_plain(node: &Node) -> bool {
    match node {
        Node::Global(..) | Node::Object(_) | Node::Persistent(_) | Node::Other(_) => false,
        Node::None | Node::Bool(_) | Node::Int(_) | Node::Float(_) | Node::Str(_) | Node::Bytes(_) => true,
        Node::List(_) | Node::Tuple(_) | Node::Dict(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// pickle.dumps({1: ["a", "b"], 300: [], 2: ["a"]}, 3)
    const LISTS: &[u8] =
        b"\x80\x03}q\x00(K\x01]q\x01(X\x01\x00\x00\x00aq\x02X\x01\x00\x00\x00bq\x03eM,\x01]q\x04K\x02]q\x05h\x02au.";

    #[test]
    fn a_dict_of_lists_is_read() {
        let lists = read(LISTS).unwrap();
        let expected = [(1, vec!["a", "b"]), (2, vec!["a"]), (300, vec![])];
        assert!(
            lists.iter().map(|(key, list)| (*key, list.iter().map(String::as_str).collect::<Vec<_>>())).eq(expected)
        );
    }

    #[test]
    fn anything_else_is_refused_and_nothing_executed() {
        for (bytes, words) in [
            (&b"cos\nsystem\n(S'touch x'\ntR."[..], "asks for os.system"),
            (b"}(K\x01]cos\nsystem\nau.", "asks for os.system"),
            (b"]K\x01a.", "class list"),
            (b"}(K\x01K\x02u.", "no whole number with a list"),
            (b"}(K\x01]K\x02au.", "no text"),
            (&LISTS[..20], "cut short"),
            (b"hello", "no pickle"),
            (b"", "cut short"),
        ] {
            let refusal = read(bytes).unwrap_err();
            assert!(refusal.contains(words), "{refusal}");
        }
    }

    /// Small pickles of one list or text many times over.
    #[test]
    fn repeated_lists_are_limited() {
        let long = [&b"X\x00\x04\x00\x00"[..], &[b'a'; 1024]].concat();
        let mut bytes = [&b"]q\x00("[..], &long, b"q\x01"].concat();
        bytes.extend(b"h\x01".repeat(70_000));
        bytes.extend(b"e}(K\x01h\x00u.");
        assert_eq!(read(&bytes).unwrap_err(), "has more texts than are read");
    }
}
