//! Frames of several lanes as one batch, where that is quicker than one after the other.

use super::wanted::Array;
use super::{Lane, Network, Results, Wanted};
use crate::error::{Error, Result};
use crate::model::{FrameShape, Outputs};
use crate::pixels::Image;

/// What a batch would be, and whether it is quicker than its frames one by one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    shape: FrameShape,
    labels: usize,
    outputs: Outputs,
    is_quicker: bool,
}

/// Choices that a lane remembers.
const CHOICES: usize = 16;

impl Network {
    /// One frame of each of several lanes of this network, in their order: as one batch where sizes and labels are the same and the
    /// device's own estimate says that this is quicker, else one after the other. A batch's products may be cut into other tiles, so
    /// that its numbers differ in their last bits; its times and size are the first lane's.
    ///
    /// ```
    /// use lseg_fast::{Image, Network, Options, Wanted};
    ///
    /// # fn main() -> lseg_fast::Result<()> {
    /// let network = Network::load_demo(&Options::default())?;
    /// let labels = network.labels(&["grass", "sky"])?;
    /// let (mut left, mut right) = (network.lane()?, network.lane()?);
    /// for lane in [&mut left, &mut right] {
    ///     lane.set_size("64x64".parse()?);
    ///     lane.set_labels(&labels)?;
    /// }
    /// let rgb = vec![120; 64 * 64 * 3];
    /// let frames = [Image::rgb8(64, 64, &rgb); 2];
    /// let results = network.run_batch(&mut [&mut left, &mut right], &frames, Wanted::MASK)?;
    /// assert_eq!(results[0].mask(0), results[1].mask(0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Lane::run`]; [`Error::Foreign`] for more or fewer frames than lanes, and for a lane of another network.
    pub fn run_batch(&self, lanes: &mut [&mut Lane], frames: &[Image<'_>], wanted: Wanted<'_>) -> Result<Vec<Results>> {
        if lanes.len() != frames.len() {
            let (lanes, frames) = (lanes.len(), frames.len());
            return Err(Error::Foreign(format!("{frames} frames for {lanes} lanes: give one frame a lane")));
        }
        if lanes.iter().any(|lane| lane.network.shared().id != self.shared().id) {
            let what = "a lane is of another network: give lanes that Network::lane of this one made";
            return Err(Error::Foreign(what.to_owned()));
        }
        if together(lanes, frames, wanted)? {
            let mut results = Results::default();
            match lanes[0].run_planned(frames, wanted, &mut results) {
                // One by one they may have room.
                Err(Error::Memory(_)) => lanes[0].no_batch(),
                done => {
                    done?;
                    return Ok((0..frames.len()).map(|frame| results.of(frame)).collect());
                }
            }
        }
        let alone = |(lane, frame): (&mut &mut Lane, _)| lane.run(std::slice::from_ref(frame), wanted);
        lanes.iter_mut().zip(frames).map(alone).collect()
    }
}

/// Whether the frames are run as one batch by the first lane, which then has its labels.
fn together(lanes: &mut [&mut Lane], frames: &[Image<'_>], wanted: Wanted<'_>) -> Result<bool> {
    let [first, rest @ ..] = lanes else { return Ok(false) };
    if rest.is_empty() || frames.iter().any(|frame| !frame.is_like(&frames[0])) {
        return Ok(false);
    }
    first.locate(frames)?;
    first.ready(wanted.outputs)?;
    let shape = first.frame_shape(frames)?;
    wanted.check(first.labels_in(wanted.outputs), shape.photo)?;
    let labels = first.current_labels(wanted.outputs);
    for lane in rest {
        let next = lane.label_slot().get().filter(|_| wanted.outputs.need_labels());
        let is_same = match (&labels, &next) {
            (Some(labels), Some(next)) => labels.is_same(next),
            (labels, next) => labels.is_none() && next.is_none(),
        };
        if !is_same || lane.network_size_for(shape.photo)? != shape.network {
            return Ok(false);
        }
    }
    Ok(first.is_quicker(shape, wanted.outputs))
}

impl Lane {
    fn is_quicker(&mut self, shape: FrameShape, outputs: Outputs) -> bool {
        let labels = self.labels_in(outputs);
        let same = |choice: &&Choice| (choice.shape, choice.labels, choice.outputs) == (shape, labels, outputs);
        if let Some(at) = self.choices.iter().position(|choice| same(&choice)) {
            self.choices[at..].rotate_left(1);
            return self.choices.last().is_some_and(|choice| choice.is_quicker);
        }
        let estimate = |shape| self.device.estimate(&self.record(shape, outputs, &[]).0);
        let one = estimate(FrameShape { batch: 1, ..shape });
        let is_quicker = one.is_some_and(|one| estimate(shape).is_some_and(|batch| batch < shape.batch as f64 * one));
        if self.choices.len() == CHOICES {
            self.choices.remove(0);
        }
        self.choices.push(Choice { shape, labels, outputs, is_quicker });
        is_quicker
    }
}

impl Lane {
    /// The batch that was chosen last has no room: it is not tried again.
    fn no_batch(&mut self) {
        if let Some(choice) = self.choices.last_mut() {
            choice.is_quicker = false;
        }
    }
}

impl Results {
    /// One frame's part of a batch's.
    fn of(&self, frame: usize) -> Results {
        let part = |array: &Array| {
            let size = array.shape.iter().product::<usize>();
            let mut part = Array { element: array.element, shape: array.shape, ..Array::default() };
            if array.element.is_some() {
                let (data, range) = (&array.data, frame * size..(frame + 1) * size);
                part.data.f32.extend_from_slice(data.f32.get(range.clone()).unwrap_or_default());
                part.data.f16.extend_from_slice(data.f16.get(range.clone()).unwrap_or_default());
                part.data.u16.extend_from_slice(data.u16.get(range.clone()).unwrap_or_default());
                part.data.u8.extend_from_slice(data.u8.get(range).unwrap_or_default());
            }
            part
        };
        Results { frames: 1, labels: self.labels.clone(), arrays: self.arrays.each_ref().map(part) }
    }
}
