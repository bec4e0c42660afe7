//! What a frame yields: by name, as memory of the host, as arrays.

#![allow(unsafe_code)]

use bytemuck::{cast_slice, pod_collect_to_vec};
use half::f16;
use lseg_fast::{Error, Output, Results};
use pyo3::prelude::*;

use crate::array::{Element, Room};
use crate::errors;

/// The outputs of `segment`, in the order of [`Result`]'s.
const NAMES: [(&str, Output); 7] = [
    ("mask", Output::Mask),
    ("mask8", Output::Mask8),
    ("confidence", Output::Confidence),
    ("best", Output::Best),
    ("scores", Output::Scores),
    ("probabilities", Output::Probabilities),
    ("overlay", Output::Overlay),
];

/// The outputs that are named.
///
/// # Errors
/// `lseg_fast.errors.InputError` for no name, and for one that is not known.
pub fn named(py: Python<'_>, names: &[String]) -> PyResult<Vec<Output>> {
    let known = || NAMES.map(|(name, _)| name).join(", ");
    if names.is_empty() {
        return Err(errors::input(py, format!("no outputs: expected some of {}", known())));
    }
    let find = |name: &String| {
        let found = NAMES.iter().find(|(known, _)| known == name).map(|(_, output)| *output);
        found.ok_or_else(|| errors::input(py, format!("output {name:?}: expected some of {}", known())))
    };
    names.iter().map(find).collect()
}

/// Results in the host's memory, which is theirs who asked.
pub struct Host {
    /// Of the first value; whoever has it may write there.
    pub address: usize,
    pub element: Element,
    _owner: Box<dyn Send + Sync>,
}

impl Host {
    /// All frames' values of an output, given away.
    pub fn take(results: &mut Results, output: Output) -> Host {
        match output {
            Output::Mask => Host::of(results.take_masks(), Element::U16),
            Output::Mask8 => Host::of(results.take_masks8(), Element::U8),
            Output::Confidence => Host::of(results.take_confidences(), Element::U8),
            Output::Overlay => Host::of(results.take_overlays(), Element::U8),
            _ if results.halves(output, 0).is_some() => Host::of(results.take_halves(output), Element::F16),
            _ => Host::of(results.take_values(output), Element::F32),
        }
    }

    /// The first frame's values of an output.
    pub fn copy(results: &Results, output: Output) -> Host {
        let (element, bytes) = values(results, output, 0);
        match element {
            Element::U8 => Host::of(bytes.to_vec(), element),
            Element::U16 => Host::of(pod_collect_to_vec::<u8, u16>(bytes), element),
            Element::F16 => Host::of(pod_collect_to_vec::<u8, f16>(bytes), element),
            Element::F32 => Host::of(pod_collect_to_vec::<u8, f32>(bytes), element),
        }
    }

    /// Its first bytes.
    ///
    /// # Safety
    /// It has so many, and nobody else knows them.
    #[expect(clippy::mut_from_ref, reason = "the memory is behind an address")]
    pub unsafe fn bytes_mut(&self, bytes: usize) -> &mut [u8] {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(self.address), bytes) }
    }

    /// So many values that are all 0.
    pub fn zeros(element: Element, count: usize) -> Host {
        match element {
            Element::U8 => Host::of(vec![0u8; count], element),
            Element::U16 => Host::of(vec![0u16; count], element),
            Element::F16 => Host::of(vec![f16::ZERO; count], element),
            Element::F32 => Host::of(vec![0f32; count], element),
        }
    }

    /// These values, of the type that `element` tells.
    pub fn of<T: Send + Sync + 'static>(mut values: Vec<T>, element: Element) -> Host {
        assert_eq!(size_of::<T>(), element.bytes(), "values of another type");
        Host { address: values.as_mut_ptr().expose_provenance(), element, _owner: Box::new(values) }
    }
}

/// A frame's array of an output: without an axis that only keeps others apart.
pub fn shape(results: &Results, output: Output) -> Vec<usize> {
    trimmed(output, results.shape(output).expect("what was wanted is there"))
}

/// As [`shape`], of what the engine says of an output.
pub fn trimmed(output: Output, [first, second, third]: [usize; 3]) -> Vec<usize> {
    match output {
        Output::Mask | Output::Mask8 | Output::Confidence | Output::Best => vec![first, second],
        Output::Points => vec![second, third],
        _ => vec![first, second, third],
    }
}

/// A frame's values of an output, and what they are.
fn values(results: &Results, output: Output, frame: usize) -> (Element, &[u8]) {
    let values = match output {
        Output::Mask => results.mask(frame).map(|values| (Element::U16, cast_slice(values))),
        Output::Mask8 => results.mask8(frame).map(|values| (Element::U8, values)),
        Output::Confidence => results.confidence(frame).map(|values| (Element::U8, values)),
        Output::Overlay => results.overlay(frame).map(|values| (Element::U8, values)),
        _ => {
            let halves = || results.halves(output, frame).map(|values| (Element::F16, cast_slice(values)));
            results.values(output, frame).map(|values| (Element::F32, cast_slice(values))).or_else(halves)
        }
    };
    values.expect("what was wanted is there")
}

/// Copies an output into the caller's arrays: one a frame, or one of all.
///
/// # Safety
/// The arrays live.
///
/// # Errors
/// [`Error::Size`] where their shape or type is not the output's.
pub unsafe fn write(results: &Results, output: Output, rooms: &[Room]) -> lseg_fast::Result<()> {
    let (frames, shape) = (results.frames(), shape(results, output));
    let all: Vec<usize> = [frames].into_iter().chain(shape.iter().copied()).collect();
    let is_one_of_all = rooms.len() == 1 && (frames != 1 || rooms[0].has_shape(&all));
    if !is_one_of_all && rooms.len() != frames {
        let found = rooms.len();
        return Err(Error::Size(format!(
            "out has {found} arrays for {frames} images: give one an image, or one of all"
        )));
    }
    for frame in 0..frames {
        let (element, bytes) = values(results, output, frame);
        let (room, at, expected) = match is_one_of_all {
            true => (&rooms[0], frame * bytes.len(), &all),
            false => (&rooms[frame], 0, &shape),
        };
        room.check(element, expected).map_err(Error::Size)?;
        // SAFETY: the caller's.
        unsafe { room.write(at, bytes) };
    }
    Ok(())
}

/// What `segment` yields where several outputs were asked for; what was not is None.
#[pyclass(frozen, get_all, module = "lseg_fast")]
pub struct Result {
    mask: Option<Py<PyAny>>,
    mask8: Option<Py<PyAny>>,
    confidence: Option<Py<PyAny>>,
    best: Option<Py<PyAny>>,
    scores: Option<Py<PyAny>>,
    probabilities: Option<Py<PyAny>>,
    overlay: Option<Py<PyAny>>,
    /// Of the mask's values, in their order.
    labels: Vec<String>,
}

/// [`Result`] of these arrays.
pub fn result(labels: Vec<String>, arrays: Vec<(Output, Py<PyAny>)>) -> Result {
    let mut result = Result {
        mask: None,
        mask8: None,
        confidence: None,
        best: None,
        scores: None,
        probabilities: None,
        overlay: None,
        labels,
    };
    for (output, array) in arrays {
        let field = match output {
            Output::Mask => &mut result.mask,
            Output::Mask8 => &mut result.mask8,
            Output::Confidence => &mut result.confidence,
            Output::Best => &mut result.best,
            Output::Scores => &mut result.scores,
            Output::Probabilities => &mut result.probabilities,
            Output::Overlay => &mut result.overlay,
            Output::Embedding | Output::Points => continue,
        };
        *field = Some(array);
    }
    result
}

#[pymethods]
impl Result {
    fn __repr__(&self) -> String {
        let there = [
            ("mask", &self.mask),
            ("mask8", &self.mask8),
            ("confidence", &self.confidence),
            ("best", &self.best),
            ("scores", &self.scores),
            ("probabilities", &self.probabilities),
            ("overlay", &self.overlay),
        ];
        let names: Vec<&str> = there.iter().filter(|(_, array)| array.is_some()).map(|(name, _)| *name).collect();
        format!("Result of {} labels: {}", self.labels.len(), names.join(", "))
    }
}
