//! What is said in words: devices, contexts, sizes, formats, outputs.

use std::time::Duration;

use lseg_fast::image::npy::Dtype;
use lseg_fast::stream::{Policy, Realtime, Waiting};
use lseg_fast::{ContextKind, EmbeddingForm, Format, Layout, MapSize, Options, Size, Threshold};
use pyo3::prelude::*;

use crate::errors;

/// The options of an engine.
pub fn engine(
    py: Python<'_>,
    device: &str,
    threads: Option<usize>,
    context: &str,
    memory: Option<u64>,
) -> PyResult<Options> {
    let context = match context {
        // Where the arrays of all others are at home.
        "auto" | "primary" => ContextKind::Primary,
        "own" => ContextKind::Own,
        other => return Err(errors::input(py, format!("context {other:?}: expected auto, own or primary"))),
    };
    let device = device.parse().map_err(|error| errors::raised(py, &error))?;
    Ok(Options { device, threads, memory, context, ..Options::default() })
}

/// A size as it may be given.
#[derive(FromPyObject)]
pub enum AnySize {
    /// "native", "480x640", "long:480"
    Text(String),
    /// The longer side.
    Long(usize),
    /// Height and width.
    Exact(usize, usize),
}

impl AnySize {
    pub fn size(self, py: Python<'_>) -> PyResult<Size> {
        let text = match self {
            AnySize::Text(text) => text,
            AnySize::Long(side) => format!("long:{side}"),
            AnySize::Exact(height, width) => format!("{height}x{width}"),
        };
        text.parse().map_err(|error| errors::raised(py, &error))
    }
}

/// A list of texts; one text is a list of one.
#[derive(FromPyObject)]
pub enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    pub fn list(self) -> Vec<String> {
        match self {
            Texts::One(text) => vec![text],
            Texts::Many(texts) => texts,
        }
    }
}

/// The format of a name.
///
/// # Errors
/// `lseg_fast.errors.InputError` for a name that is not known.
pub fn format(py: Python<'_>, name: Option<&str>) -> PyResult<Option<Format>> {
    name.map(|name| name.parse().map_err(|error| errors::raised(py, &error))).transpose()
}

/// The form of embeddings.
///
/// # Errors
/// `lseg_fast.errors.InputError` for words that are not known.
pub fn form(py: Python<'_>, at: &str, dtype: &str, layout: &str, normalise: bool) -> PyResult<EmbeddingForm> {
    let at = match at {
        "half" => MapSize::Half,
        "full" => MapSize::Full,
        "photo" => MapSize::Photo,
        other => return Err(errors::input(py, format!("at {other:?}: expected half, full or photo"))),
    };
    let dtype = match dtype {
        "float16" => Dtype::F16,
        "float32" => Dtype::F32,
        other => return Err(errors::input(py, format!("dtype {other:?}: expected float16 or float32"))),
    };
    let layout = match layout {
        "chw" => Layout::Chw,
        "hwc" => Layout::Hwc,
        other => return Err(errors::input(py, format!("layout {other:?}: expected chw or hwc"))),
    };
    Ok(EmbeddingForm { at, dtype, layout, normalise })
}

/// # Errors
/// `lseg_fast.errors.InputError` for what is not within 0 and 1.
pub fn threshold(py: Python<'_>, threshold: f64) -> PyResult<Threshold> {
    let wrong = || errors::input(py, format!("threshold {threshold}: expected a confidence within 0 and 1"));
    Threshold::new(threshold).ok_or_else(wrong)
}

/// Which frames of a stream are computed.
///
/// # Errors
/// `lseg_fast.errors.InputError` for a word that is not known.
pub fn policy(py: Python<'_>, policy: &str, queue: usize) -> PyResult<Policy> {
    match policy {
        "newest" => Ok(Policy::Newest),
        "every" => Ok(Policy::Every { queue }),
        other => Err(errors::input(py, format!("policy {other:?}: expected newest or every"))),
    }
}

/// How a stream's thread waits.
///
/// # Errors
/// `lseg_fast.errors.InputError` for a word that is not known.
pub fn waiting(py: Python<'_>, wait: &str) -> PyResult<Waiting> {
    match wait {
        "block" => Ok(Waiting::Block),
        "yield" => Ok(Waiting::Yield),
        "spin" => Ok(Waiting::Spin),
        other => Err(errors::input(py, format!("wait {other:?}: expected block, yield or spin"))),
    }
}

/// What the system shall do for a stream's thread.
///
/// # Errors
/// `lseg_fast.errors.InputError` for a priority that is none.
pub fn realtime(py: Python<'_>, priority: Option<i64>, cpus: Option<Vec<usize>>) -> PyResult<Realtime> {
    let known = |priority: i64| u8::try_from(priority).ok().filter(|priority| (1..=99).contains(priority));
    let given = priority.map(|priority| {
        known(priority).ok_or_else(|| errors::input(py, format!("realtime {priority}: expected a priority of 1 to 99")))
    });
    let (priority, cpus) = (given.transpose()?.unwrap_or(0), cpus.unwrap_or_default());
    Ok(Realtime { priority, cpus, ..Realtime::default() })
}

/// A time in seconds.
///
/// # Errors
/// `lseg_fast.errors.InputError` for one that is negative or no number.
pub fn seconds(py: Python<'_>, name: &str, seconds: f64) -> PyResult<Duration> {
    if seconds.is_nan() || seconds < 0.0 {
        return Err(errors::input(py, format!("{name} {seconds}: expected seconds, 0 or more")));
    }
    // Beyond half the age of the universe it is all the same.
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// Points (x, y): an array of NumPy, or what it makes one of.
///
/// # Errors
/// `lseg_fast.errors.InputError` for what is not `[P, 2]` of numbers.
pub fn points(points: &Bound<'_, PyAny>) -> PyResult<Vec<[f32; 2]>> {
    let py = points.py();
    let expected = "points: expected [P, 2], (x, y) of each";
    let numpy = py.import("numpy")?;
    let array = numpy
        .call_method1("asarray", (points, "float32"))
        .map_err(|error| errors::input(py, format!("{expected} ({error})")))?;
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    if shape == [0] {
        return Ok(Vec::new());
    }
    if shape.len() != 2 || shape[1] != 2 {
        return Err(errors::input(py, format!("{expected}, found shape {shape:?}")));
    }
    let bytes: Vec<u8> = array.call_method0("tobytes")?.extract()?;
    Ok(bytemuck::pod_collect_to_vec(&bytes))
}
