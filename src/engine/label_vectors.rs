//! The labels' own vectors on a lane's device, by which sums of unit vectors are multiplied. Frames do without: their bank has the
//! model's last product in it.

use super::label_set::Labels;
use crate::device::Device;
use crate::error::Result;
use crate::memory::{self, Budget, Held, Need};
use crate::model::config::LOGIT_SCALE;
use crate::ops::{Linear, Weight};

/// Those of the last list that was asked for.
pub(super) struct LabelVectors {
    held: Held,
    lie: Option<Linear>,
    /// The list's number, once they are there.
    epoch: Option<u64>,
}

impl LabelVectors {
    pub fn new(budget: &Budget) -> LabelVectors {
        LabelVectors { held: budget.holder(), lie: None, epoch: None }
    }

    /// Has them on the device: `[labels, embed_dim]`, the logit scale folded in, offsets of zero.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory); as of [`Device::set_bank`].
    pub fn take(&mut self, device: &mut dyn Device, labels: &Labels) -> Result<Linear> {
        if let (Some(lie), true) = (self.lie, self.epoch == Some(labels.epoch())) {
            return Ok(lie);
        }
        let mut rows = labels.embeddings();
        let n = labels.names().len();
        let k = rows.len() / n;
        let bytes = device.weight_bytes(&[Weight::Matrix { n, k, halves: false }, Weight::Vector(n)]);
        // While they are brought there they are there twice.
        let need = Need { device: 2 * bytes, transient: size_of_val(&*rows) as u64, ..Need::default() };
        self.held.grow(&format!("the vectors of {n} labels"), need, memory::FOR_LABELS)?;
        rows.iter_mut().for_each(|value| *value *= LOGIT_SCALE);
        self.epoch = None;
        let bank = device.bank(n, k, &rows, &vec![0.0; n])?;
        let lie = device.set_bank(self.lie, &bank)?;
        (self.lie, self.epoch) = (Some(lie), Some(labels.epoch()));
        Ok(lie)
    }
}
