//! The program's constant slots: each value once.

use super::LoadError;
use crate::ir::Slot;
use std::collections::HashMap;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Narrow(u32),
    Wide(u64),
    /// Bytes from the start of the bank of `.global` variables.
    GlobalAddress(u64),
}

#[derive(Default)]
pub struct Constants {
    pub words: Vec<u32>,
    /// See [`crate::ir::Program::relocations`].
    pub relocations: Vec<(usize, u64)>,
    known: HashMap<Key, Slot>,
}

impl Constants {
    pub fn narrow(&mut self, value: u32, line: u32) -> Result<Slot, LoadError> {
        self.slot(Key::Narrow(value), &[value], line)
    }

    pub fn wide(&mut self, value: u64, line: u32) -> Result<Slot, LoadError> {
        self.slot(Key::Wide(value), &[value as u32, (value >> 32) as u32], line)
    }

    /// Of a value of `bytes` (1 to 8), cut to them.
    pub fn sized(&mut self, value: u64, bytes: usize, line: u32) -> Result<Slot, LoadError> {
        match bytes {
            8 => self.wide(value, line),
            4 => self.narrow(value as u32, line),
            2 => self.narrow(u32::from(value as u16), line),
            _ => self.narrow(u32::from(value as u8), line),
        }
    }

    pub fn global_address(&mut self, offset: u64, line: u32) -> Result<Slot, LoadError> {
        let key = Key::GlobalAddress(offset);
        if !self.known.contains_key(&key) {
            self.relocations.push((self.words.len(), offset));
        }
        self.slot(key, &[0, 0], line)
    }

    fn slot(&mut self, key: Key, words: &[u32], line: u32) -> Result<Slot, LoadError> {
        if let Some(&slot) = self.known.get(&key) {
            return Ok(slot);
        }
        let index = self.words.len();
        if index + words.len() > usize::from(Slot::CONSTANT) {
            let what = format!("a module has at most {} words of distinct constants", Slot::CONSTANT);
            return Err(LoadError::Unknown { line, text: String::new(), what });
        }
        self.words.extend_from_slice(words);
        let slot = Slot(index as u16 | Slot::CONSTANT);
        self.known.insert(key, slot);
        Ok(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_once() {
        let mut constants = Constants::default();
        let a = constants.narrow(7, 1).unwrap();
        assert_eq!(constants.narrow(7, 1).unwrap(), a);
        assert_ne!(constants.wide(7, 1).unwrap(), a);
        constants.global_address(7, 1).unwrap();
        constants.global_address(7, 1).unwrap();
        assert_eq!(constants.words, [7, 7, 0, 0, 0]);
        assert_eq!(constants.relocations, [(3, 7)]);
    }

    #[test]
    fn too_many() {
        let mut constants = Constants::default();
        let error = (0..40000).find_map(|value| constants.narrow(value, 9).err()).unwrap();
        assert!(matches!(error, LoadError::Unknown { line: 9, .. }));
    }
}
