//! What became of one frame of a stream, as Python has it.

use std::time::Duration;

use lseg_fast::{Output, stream};
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;

use crate::engine::{Made, names};
use crate::errors;

/// What became of one frame of a stream. Its arrays are its own memory, which no later frame overwrites, however many are kept; tensors
/// on a GPU hold one of the stream's places.
#[pyclass(frozen, module = "lseg_fast")]
pub struct Answer {
    /// How many frames were taken before this one.
    #[pyo3(get)]
    sequence: u64,
    /// As it was pushed.
    #[pyo3(get)]
    stamp_ns: i64,
    /// Which list of labels it was asked about; `Stream.set_labels` tells the number of each.
    #[pyo3(get)]
    epoch: u64,
    /// Of the mask's values, in their order; none where the frame has failed.
    #[pyo3(get)]
    labels: Vec<String>,
    /// Seconds from its push until the engine took it.
    #[pyo3(get)]
    waited: f64,
    /// Seconds from then until its results were there.
    #[pyo3(get)]
    computed: f64,
    /// The sum: how old the frame was, from its push.
    #[pyo3(get)]
    age: f64,
    outcome: Result<Vec<(Output, Py<PyAny>)>, PyErr>,
    /// Of a GPU: while it is held nobody else has its places.
    _held: Option<stream::Answer>,
}

/// An answer and what of it Python will have, made without the interpreter's lock.
pub struct Taken {
    answer: stream::Answer,
    made: Vec<Made>,
    labels: Vec<String>,
    /// Whether its results are on a GPU.
    is_there: bool,
}

impl Taken {
    pub fn of(answer: stream::Answer, asked: &[Output]) -> Taken {
        let (mut made, mut labels, mut is_there) = (Vec::new(), Vec::new(), false);
        if let Ok(Some(results)) = answer.on_device() {
            (labels, is_there) = (names(results.labels()), true);
            made.extend(asked.iter().map(|output| Made::on_device(results, *output)));
        } else if let Ok(results) = answer.results() {
            labels = names(results.labels());
            made.extend(asked.iter().map(|output| Made::copy(results, *output)));
        }
        Taken { answer, made, labels, is_there }
    }

    pub fn answer(self, py: Python<'_>) -> PyResult<Answer> {
        let Taken { answer, made, labels, is_there } = self;
        let array = |made: &Made| Ok((made.output, made.array(py, 0)?.unbind()));
        let outcome = match answer.results() {
            Ok(_) => Ok(made.iter().map(array).collect::<PyResult<_>>()?),
            Err(error) => Err(errors::raised(py, error)),
        };
        let seconds = |time: Duration| time.as_secs_f64();
        Ok(Answer {
            sequence: answer.sequence,
            stamp_ns: answer.stamp,
            epoch: answer.epoch,
            labels,
            waited: seconds(answer.times.waited),
            computed: seconds(answer.times.computed),
            age: seconds(answer.times.age),
            outcome,
            _held: is_there.then_some(answer),
        })
    }
}

impl Answer {
    /// An output; none where it was not asked for.
    ///
    /// # Errors
    /// Why nothing could be computed of the frame.
    fn output(&self, py: Python<'_>, output: Output) -> PyResult<Option<Py<PyAny>>> {
        let arrays = self.outcome.as_ref().map_err(|error| error.clone_ref(py))?;
        let found = arrays.iter().find(|(known, _)| *known == output);
        Ok(found.map(|(_, array)| array.clone_ref(py)))
    }
}

#[pymethods]
impl Answer {
    /// Why nothing could be computed of the frame; else none.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBaseException>> {
        self.outcome.as_ref().err().map(|error| error.value(py).clone())
    }

    #[getter]
    fn mask(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.output(py, Output::Mask)
    }

    #[getter]
    fn mask8(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.output(py, Output::Mask8)
    }

    #[getter]
    fn confidence(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.output(py, Output::Confidence)
    }

    #[getter]
    fn best(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.output(py, Output::Best)
    }

    #[getter]
    fn scores(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.output(py, Output::Scores)
    }

    #[getter]
    fn probabilities(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.output(py, Output::Probabilities)
    }

    #[getter]
    fn overlay(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.output(py, Output::Overlay)
    }

    /// The embeddings at the stream's points: float32 `[P, C]`.
    #[getter]
    fn points(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.output(py, Output::Points)
    }

    fn __repr__(&self) -> String {
        let Answer { sequence, stamp_ns, epoch, .. } = self;
        let failed = if self.outcome.is_err() { ", failed" } else { "" };
        format!("Answer(sequence={sequence}, stamp_ns={stamp_ns}, epoch={epoch}{failed})")
    }
}
