//! From a mask's ids to labels.

use std::path::Path;

use super::ids::{self, Ids, Limits};
use crate::Result;

/// Different ids of a mask of 16 bits.
const IDS: usize = 1 << 16;

/// What an id says of its pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// The index of the label that is true.
    Is(u16),
    /// The pixel counts nowhere.
    Ignored,
    /// No label has this id.
    Unknown,
}

/// How a mask is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    /// The label of each id.
    Table(Vec<Label>),
    /// Of an episode: label 1 where the mask has its class's id, label 0 elsewhere.
    Class {
        /// The class's.
        id: u16,
        /// Which id counts nowhere.
        ignored: Option<u16>,
    },
    /// Label 1 where a picture is brighter than half, label 0 elsewhere.
    Bright,
}

impl Truth {
    /// A table in which no id is known.
    pub fn none() -> Truth {
        Truth::Table(vec![Label::Unknown; IDS])
    }

    /// The same, where the ids have these labels.
    pub fn with(mut self, ids: impl IntoIterator<Item = (u16, Label)>) -> Truth {
        if let Truth::Table(table) = &mut self {
            ids.into_iter().for_each(|(id, label)| table[usize::from(id)] = label);
        }
        self
    }

    /// The same without labels: what is ignored stays so.
    pub fn without_labels(mut self) -> Truth {
        if let Truth::Table(table) = &mut self {
            table.iter_mut().filter(|label| **label != Label::Ignored).for_each(|label| *label = Label::Unknown);
        }
        self
    }

    /// The same, where ids without a label are ignored.
    pub fn ignoring_the_rest(mut self) -> Truth {
        if let Truth::Table(table) = &mut self {
            table.iter_mut().filter(|label| **label == Label::Unknown).for_each(|label| *label = Label::Ignored);
        }
        self
    }

    /// The same, where ids without a label have `label`.
    pub fn with_rest(mut self, label: u16) -> Truth {
        if let Truth::Table(table) = &mut self {
            table.iter_mut().filter(|other| **other == Label::Unknown).for_each(|other| *other = Label::Is(label));
        }
        self
    }

    /// The mask's ids.
    ///
    /// # Errors
    /// As [`ids::read`] and [`ids::read_grey`].
    pub fn read(&self, mask: &Path, limits: Limits) -> Result<Ids> {
        match self {
            Truth::Table(_) | Truth::Class { .. } => ids::read(mask, limits),
            Truth::Bright => ids::read_grey(mask, limits),
        }
    }

    /// What `id` says.
    pub fn label(&self, id: u16) -> Label {
        match self {
            Truth::Table(table) => table[usize::from(id)],
            Truth::Class { ignored, .. } if *ignored == Some(id) => Label::Ignored,
            Truth::Class { id: class, .. } => Label::Is((id == *class).into()),
            Truth::Bright => Label::Is((id >= 128).into()),
        }
    }
}
