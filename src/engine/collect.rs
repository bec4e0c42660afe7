//! What comes out of a pass: from the device into the caller's memory, and whether it is numbers.

use super::finite;
use super::label_set::Labels;
use super::network::Shared;
use super::wanted::{Array, Data, Results};
use crate::device::{Device, Program};
use crate::error::Result;
use crate::model::{FrameIo, Output, UNLABELLED, UNLABELLED_8, scale};
use crate::ops::{Buf, Element};
use crate::plan::Plan;

/// Where a pass left its outputs.
pub(super) enum Source<'a> {
    /// In its program's buffers.
    Pass(&'a Program),
    /// In a slot, of a pass of this plan.
    Slot(usize, &'a Plan),
}

impl Source<'_> {
    fn memory<'a>(&self, device: &'a dyn Device, buf: Buf) -> Result<Option<&'a [u8]>> {
        match self {
            Source::Pass(program) => device.output_memory(program, buf),
            Source::Slot(slot, plan) => device.slot_output(plan, *slot, buf).map(Some),
        }
    }

    fn read(&self, device: &mut dyn Device, buf: Buf, into: &mut [u8]) -> Result<()> {
        match self {
            Source::Pass(program) => device.read(program, buf, 0, into),
            Source::Slot(slot, plan) => {
                into.copy_from_slice(device.slot_output(plan, *slot, buf)?);
                Ok(())
            }
        }
    }

    fn values<T: bytemuck::Pod>(&self, device: &mut dyn Device, buf: Buf, values: &mut Vec<T>) -> Result<()> {
        values.resize(buf.len(), T::zeroed());
        self.read(device, buf, bytemuck::cast_slice_mut(values))
    }
}

/// All outputs of a pass.
///
/// # Errors
/// [`Error::NotFinite`](crate::Error::NotFinite); whatever the device answers.
pub(super) fn collect(
    network: &Shared,
    device: &mut dyn Device,
    source: &Source<'_>,
    io: &FrameIo,
    labels: Option<Labels>,
    results: &mut Results,
) -> Result<()> {
    finite::check_counts(network, io, |place| {
        let mut count = [0u32];
        source.read(device, place, bytemuck::cast_slice_mut(&mut count))?;
        Ok(count[0])
    })?;
    for output in Output::ALL {
        let Some(buf) = io.output(output) else { continue };
        let array = &mut results.arrays[output as usize];
        let [_, shape @ ..] = buf.shape;
        array.shape = shape;
        read(device, source, output, buf, io.unlabelled, &mut array.data)?;
        // Of what the pass has counted no value is wrong.
        if !io.counts_of(output) {
            check(network, output, labels.as_ref(), array)?;
        }
    }
    for output in Output::ALL {
        let element = io.output(output).map(|buf| if output == Output::Mask { Element::U16 } else { buf.element });
        results.arrays[output as usize].element = element;
    }
    results.frames = io.photo.buf.batch();
    network.retire(std::mem::replace(&mut results.labels, labels));
    Ok(())
}

fn read(
    device: &mut dyn Device,
    source: &Source<'_>,
    output: Output,
    buf: Buf,
    unlabelled: bool,
    data: &mut Data,
) -> Result<()> {
    match (output, buf.element) {
        (Output::Mask, Element::U8) => widen_mask(device, source, buf, unlabelled, &mut data.u16),
        (_, Element::U8) => source.values(device, buf, &mut data.u8),
        (_, Element::U16) => source.values(device, buf, &mut data.u16),
        (_, Element::F16) => source.values(device, buf, &mut data.f16),
        _ => source.values(device, buf, &mut data.f32),
    }
}

/// A label of a mask of bytes in one of words.
#[inline(always)]
pub(super) fn wide(byte: u8, unlabelled: bool) -> u16 {
    if unlabelled && byte == UNLABELLED_8 { UNLABELLED } else { u16::from(byte) }
}

/// A mask of bytes as one of words, in which what is `unlabelled` has another value.
fn widen_mask(
    device: &mut dyn Device,
    source: &Source<'_>,
    mask: Buf,
    unlabelled: bool,
    labels: &mut Vec<u16>,
) -> Result<()> {
    let wide = |byte| wide(byte, unlabelled);
    labels.resize(mask.len(), 0);
    if let Some(bytes) = source.memory(device, mask)? {
        labels.iter_mut().zip(bytes).for_each(|(label, byte)| *label = wide(*byte));
        return Ok(());
    }
    // Into the second half of the labels' own memory, then over it from the front: a byte is read before it is overwritten.
    let pixels = labels.len();
    if let Err(error) = source.read(device, mask, &mut bytemuck::cast_slice_mut(labels)[pixels..]) {
        // What is there now is no mask.
        labels.clear();
        return Err(error);
    }
    for i in 0..pixels {
        labels[i] = wide(bytemuck::cast_slice::<u16, u8>(labels)[pixels + i]);
    }
    Ok(())
}

/// Brings values to what the network defines, and refuses what is none.
fn check(network: &Shared, output: Output, labels: Option<&Labels>, array: &mut Array) -> Result<()> {
    match (output, labels) {
        (Output::Embedding | Output::Points, _) => {
            unscale(network, "head1", &mut array.data.f32);
            finite::check_embeddings(network, &array.data.f32, 0)
        }
        (Output::Scores | Output::Probabilities, Some(labels)) => {
            let [_, height, width] = array.shape;
            finite::check_scores(network, labels.names(), &array.data.f32, height * width)
        }
        _ => Ok(()),
    }
}

/// Values of the buffer of this name as the network defines them.
pub(super) fn unscale(network: &Shared, buffer: &str, data: &mut [f32]) {
    let scale = network.model.scale;
    if scale != 1.0 && scale::scales(buffer) {
        data.iter_mut().for_each(|value| *value /= scale);
    }
}
