//! A camera's flow: Python's threads push frames, take answers and change words, each without the interpreter's lock.

#![allow(unsafe_code)]

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lseg_fast::stream::{self, Pushed, Stats, StreamOptions};
use lseg_fast::{Engine, LabelOptions, Network, Output, labels};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::answer::{Answer, Taken};
use crate::array;
use crate::errors;
use crate::image::{Ready, pictures};
use crate::options::{self, Texts};

/// So long nobody looks whether a key was pressed.
const SLICE: Duration = Duration::from_millis(50);
const IN_CUDA: &str = "an image in CUDA memory: a stream takes images of the host; copy it there first (in PyTorch: .cpu()), or \
                       ask Engine.segment";

/// Frames in, answers out, computed by a thread of its own over an engine's weights. Any thread may use it, several at once.
#[pyclass(frozen, module = "lseg_fast")]
pub struct Stream {
    stream: Arc<stream::Stream>,
    network: Network,
    /// How words become labels.
    options: LabelOptions,
    asked: Vec<Output>,
}

impl Stream {
    /// Of what the engine is set to.
    pub fn start(engine: &Engine, options: StreamOptions, asked: Vec<Output>) -> lseg_fast::Result<Stream> {
        let lane = engine.lane();
        let options = StreamOptions { size: lane.size(), normalisation: lane.normalisation(), ..options };
        let labels = lane.label_slot().get();
        let stream = stream::Stream::start(engine.network(), labels.as_ref(), options)?;
        Ok(Stream {
            stream: Arc::new(stream),
            network: engine.network().clone(),
            options: engine.label_options().clone(),
            asked,
        })
    }

    /// Does a call without the interpreter's lock.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&stream::Stream) -> lseg_fast::Result<T> + Send,
    ) -> PyResult<T> {
        let done = py.detach(|| {
            // In a forked child nobody may be left to open its locks.
            self.network.check_process()?;
            call(&self.stream)
        });
        done.map_err(|error| errors::raised(py, &error))
    }

    /// An answer within so long, if there is one.
    fn take(&self, py: Python<'_>, timeout: Duration) -> PyResult<Option<Answer>> {
        let taken = self.with(py, |stream| Ok(stream.recv(timeout)?.map(|answer| Taken::of(answer, &self.asked))))?;
        taken.map(|taken| taken.answer(py)).transpose()
    }
}

#[pymethods]
impl Stream {
    /// Copies a frame and gives it to the engine; waits for nothing. Its number; none where as many wait as may.
    #[pyo3(signature = (image, stamp_ns=0, *, format=None))]
    fn push(
        &self,
        py: Python<'_>,
        image: &Bound<'_, PyAny>,
        stamp_ns: i64,
        format: Option<&str>,
    ) -> PyResult<Option<u64>> {
        let format = options::format(py, format)?;
        // What keeps it goes at the end, with the interpreter's lock.
        let (array, _keep) = array::look(image, Err(IN_CUDA))?;
        let (pictures, _) = pictures(&array, format).map_err(|reason| errors::input(py, reason))?;
        if pictures.len() != 1 {
            let found = pictures.len();
            return Err(errors::input(py, format!("an array of {found} images: push them one by one")));
        }
        let pushed = self.with(py, |stream| {
            // SAFETY: the array is kept.
            let ready = unsafe { Ready::new(&pictures, self.network.memory()) }?;
            stream.push(&ready.images(None)[0], stamp_ns)
        })?;
        Ok(match pushed {
            Pushed::Accepted(number) | Pushed::Replaced(number, _) => Some(number),
            Pushed::Full => None,
        })
    }

    /// The next answer, if there is one: of the newest the last that was computed, else in the order of the frames.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<Answer>> {
        let taken = self.with(py, |stream| Ok(stream.poll().map(|answer| Taken::of(answer, &self.asked))))?;
        taken.map(|taken| taken.answer(py)).transpose()
    }

    /// Waits for the next answer, for so many seconds at most; for ever if none are said. None where nothing came, or nothing will.
    #[pyo3(signature = (timeout=None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Answer>> {
        let timeout = timeout.map(|timeout| options::seconds(py, "timeout", timeout)).transpose()?;
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = until.map_or(SLICE, |until| until.saturating_duration_since(Instant::now()).min(SLICE));
            if let Some(answer) = self.take(py, left)? {
                return Ok(Some(answer));
            }
            py.check_signals()?;
            if self.stream.is_over() || until.is_some_and(|until| until <= Instant::now()) {
                return Ok(None);
            }
        }
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// Waits for the next answer, until nothing comes any more.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Answer>> {
        self.recv(py, None)
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// Stops it.
    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let stopped = self.with(py, stream::Stream::stop).map(|_| ());
        // What ends the block is told, whatever else is wrong.
        let is_ended_by_another = exception.get_item(0).is_ok_and(|kind| !kind.is_none());
        if is_ended_by_another { Ok(()) } else { stopped }
    }

    /// Other words from the next frame on, with the templates that the engine had when the stream began. Their number, which answers
    /// about them have as their epoch.
    fn set_labels(&self, py: Python<'_>, labels: Texts) -> PyResult<u64> {
        let labels = labels.list();
        self.with(py, |stream| stream.set_list(&labels::checked(&labels)?, &self.options))
    }

    /// What became of its frames so far; times in seconds.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        told(py, &self.with(py, |stream| Ok(stream.stats()))?)
    }

    /// No more frames: those that wait are computed, and their answers can be taken.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |stream| {
            stream.close();
            Ok(())
        })
    }

    /// Ends the stream: frames in flight are finished, those that wait are not computed. Answers that are there can still be taken.
    fn stop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        told(py, &self.with(py, stream::Stream::stop)?)
    }

    /// Whether the stream has ended and all answers are taken.
    #[getter]
    fn over(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |stream| Ok(stream.is_over()))
    }

    /// The number of the present words; 0 where there are none.
    #[getter]
    fn epoch(&self) -> u64 {
        self.stream.epoch()
    }

    /// What the system has refused of `realtime` and `cpus`, one line each.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.stream.notes().to_vec()
    }

    fn __repr__(&self) -> String {
        format!("Stream({})", self.network.device())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.network.check_process().is_err() {
            // A forked child has no such thread, for which to wait: so it is never dropped.
            return mem::forget(Arc::clone(&self.stream));
        }
        let stopped = Python::try_attach(|py| py.detach(|| self.stream.stop()));
        drop(stopped);
    }
}

fn told<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    let Stats { pushed, done, replaced, stale, failed, in_flight, unread, restarts, age, computed, interval } = stats;
    let counts = [
        ("pushed", pushed),
        ("done", done),
        ("replaced", replaced),
        ("stale", stale),
        ("failed", failed),
        ("in_flight", in_flight),
        ("unread", unread),
        ("restarts", restarts),
    ];
    let times = [
        ("age_p50", age.quantile(0.5)),
        ("age_p99", age.quantile(0.99)),
        ("age_max", age.most()),
        ("computed_p50", computed.quantile(0.5)),
        ("computed_p99", computed.quantile(0.99)),
        ("jitter_p50", interval.deviation(0.5)),
        ("jitter_p99", interval.deviation(0.99)),
    ];
    let told = PyDict::new(py);
    counts.iter().try_for_each(|(name, count)| told.set_item(*name, **count))?;
    times.iter().try_for_each(|(name, time)| told.set_item(*name, time.as_secs_f64()))?;
    Ok(told)
}
