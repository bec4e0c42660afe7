//! The engine: objects of Python in, the engine's calls without the interpreter's lock, arrays out.

#![allow(unsafe_code)]

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use lseg_fast::image::palette::{Palette, palette};
use lseg_fast::stream::StreamOptions;
use lseg_fast::{
    Alpha, DeviceResults, DeviceTensor, Error, Format, Image, LabelOptions, Labels, Network, Output, Results, Wanted,
    labels,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::array::{self, Element, Keep, Room, as_array};
use crate::errors;
use crate::image::{Picture, Ready, pictures};
use crate::lent::Lent;
use crate::options::{self, AnySize, Texts};
use crate::outputs::{self, Host};
use crate::stream::Stream;
use crate::tensor::Tensor;

/// Results that may be held on a GPU at once.
const PLACES: usize = 4;

/// A model, ready to segment. Threads may share one: their frames follow each other.
#[pyclass(frozen, module = "lseg_fast")]
pub struct Engine {
    network: Network,
    /// The CUDA stream that it computes on; none on a CPU.
    stream: Option<u64>,
    lent: Lent,
    inner: Mutex<Inner>,
}

struct Inner {
    engine: lseg_fast::Engine,
    /// Whose memory serves again where results are copied.
    results: Results,
    frames: u64,
    /// As it was set, or the model's.
    size: String,
}

/// Images as they were given.
struct Input {
    pictures: Vec<Picture>,
    /// Whether a list of results is expected, though it be of one.
    many: bool,
    /// Dropped with the interpreter's lock, when the frame is done.
    keep: Arc<Vec<Keep>>,
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (model=None, device="auto", *, threads=None, context="auto", memory=None))]
    fn new(
        py: Python<'_>,
        model: Option<PathBuf>,
        device: &str,
        threads: Option<usize>,
        context: &str,
        memory: Option<u64>,
    ) -> PyResult<Engine> {
        let options = options::engine(py, device, threads, context, memory)?;
        let loaded = py.detach(|| match &model {
            Some(path) => lseg_fast::Engine::load(path, &options),
            None => lseg_fast::Engine::load_demo(&options),
        });
        let mut engine = loaded.map_err(|error| errors::raised(py, &error))?;
        engine.set_device_places(PLACES);
        let (network, size) = (engine.network().clone(), engine.config().default_size.clone());
        let inner = Inner { engine, results: Results::default(), frames: 0, size };
        Ok(Engine { network, stream: inner.engine.cuda_stream(), lent: Lent::default(), inner: Mutex::new(inner) })
    }

    /// The labels that were set last, in the order of the mask's values.
    #[getter]
    fn labels(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.with(py, |inner| Ok(inner.engine.labels().to_vec()))
    }

    /// The words to look for, and texts around them such as "a photo of a {}", whose mean stands for a word.
    #[pyo3(signature = (labels, templates=None))]
    fn set_labels(&self, py: Python<'_>, labels: Texts, templates: Option<Texts>) -> PyResult<()> {
        let (labels, templates) = (labels.list(), templates.map_or_else(Vec::new, Texts::list));
        self.with(py, |inner| {
            inner.engine.set_templates(&templates)?;
            inner.engine.set_labels(&labels)
        })
    }

    /// The size at which the network sees an image: "native", "480x640" (height, width) or "long:480".
    #[getter]
    fn size(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |inner| Ok(inner.size.clone()))
    }

    /// Also a number, of the longer side, and a tuple of height and width.
    #[setter]
    fn set_size(&self, py: Python<'_>, size: AnySize) -> PyResult<()> {
        let size = size.size(py)?;
        self.with(py, |inner| {
            inner.engine.set_size(size);
            inner.size = size.to_string();
            Ok(())
        })
    }

    /// "cpu, 2 threads"
    #[getter]
    fn device(&self) -> &str {
        self.network.device()
    }

    /// The length of an embedding: the dimension that pixels and words share.
    #[getter]
    fn embed_dim(&self) -> usize {
        self.network.config().embed_dim
    }

    /// Each pixel's label, and what else of one pass is asked for.
    #[pyo3(signature = (image, *, format=None, outputs=None, threshold=None, out=None, on_device=false))]
    #[expect(clippy::too_many_arguments, reason = "Python's keywords")]
    fn segment<'py>(
        &self,
        py: Python<'py>,
        image: &Bound<'py, PyAny>,
        format: Option<&str>,
        outputs: Option<Texts>,
        threshold: Option<f64>,
        out: Option<Bound<'py, PyAny>>,
        on_device: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let asked = outputs.map_or_else(|| Ok(vec![Output::Mask]), |names| outputs::named(py, &names.list()))?;
        let input = self.look(image, format)?;
        let mut wanted = Wanted::of(&asked);
        if let Some(threshold) = threshold {
            wanted = wanted.threshold(options::threshold(py, threshold)?);
        }
        if let Some(out) = out {
            let [output] = asked[..] else {
                return Err(errors::input(py, "out takes one output: name one, or leave out away"));
            };
            self.fill(py, &input, wanted, output, &out, on_device)?;
            return Ok(out);
        }
        let (made, labels) = self.make(py, &input, wanted, &asked, on_device)?;
        input.each(py, |frame| {
            if let [made] = &made[..] {
                return made.array(py, frame);
            }
            let all = made.iter().map(|made| Ok((made.output, made.array(py, frame)?.unbind())));
            Ok(Bound::new(py, outputs::result(labels.clone(), all.collect::<PyResult<_>>()?))?.into_any())
        })
    }

    /// The pixels' embeddings; on the device where the image is there, unless `on_device` says otherwise.
    #[pyo3(signature = (
        image, *, at="half", dtype="float16", layout="chw", normalize=false, format=None, out=None, on_device=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python's keywords")]
    fn embed<'py>(
        &self,
        py: Python<'py>,
        image: &Bound<'py, PyAny>,
        at: &str,
        dtype: &str,
        layout: &str,
        normalize: bool,
        format: Option<&str>,
        out: Option<Bound<'py, PyAny>>,
        on_device: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let input = self.look(image, format)?;
        let wanted = Wanted::default().embedding(options::form(py, at, dtype, layout, normalize)?);
        if let Some(out) = out {
            self.fill(py, &input, wanted, Output::Embedding, &out, on_device == Some(true))?;
            return Ok(out);
        }
        let on_device = on_device.unwrap_or_else(|| input.is_in_cuda());
        let (made, _) = self.make(py, &input, wanted, &[Output::Embedding], on_device)?;
        input.each(py, |frame| Ok(Bound::new(py, made[0].tensor(frame))?.into_any()))
    }

    /// The embeddings at points (x, y) of the image, in its pixels, the centre of pixel 0 at 0: float32 `[P, C]`.
    #[pyo3(signature = (image, points, *, format=None))]
    fn embed_at<'py>(
        &self,
        py: Python<'py>,
        image: &Bound<'py, PyAny>,
        points: &Bound<'py, PyAny>,
        format: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let points = options::points(points)?;
        let input = self.look(image, format)?;
        let channels = self.embed_dim();
        let host = match points.is_empty() {
            true => Host::of(Vec::<f32>::new(), Element::F32),
            false => self.run(py, &input, Wanted::default().at_points(&points), |results| {
                Ok(Host::take(results, Output::Points))
            })?,
        };
        let host = Arc::new(host);
        input.each(py, |frame| {
            let tensor = Tensor::of_host(Arc::clone(&host), vec![points.len(), channels], frame);
            as_array(Bound::new(py, tensor)?.as_any())
        })
    }

    /// The embeddings of words, as pixels are compared with them: float32 `[N, C]` of unit length. The labels stay as they are.
    #[pyo3(signature = (words, templates=None))]
    fn text<'py>(&self, py: Python<'py>, words: Texts, templates: Option<Texts>) -> PyResult<Bound<'py, PyAny>> {
        let words = words.list();
        let options =
            LabelOptions { templates: templates.map_or_else(Vec::new, Texts::list), ..LabelOptions::default() };
        let embeddings = py.detach(|| {
            let list = labels::checked(&words)?;
            Ok(self.network.labels_of(&list, &options, &mut |_, _| ())?.embeddings())
        });
        let host = Host::of(embeddings.map_err(|error| errors::raised(py, &error))?, Element::F32);
        let tensor = Tensor::of_host(Arc::new(host), vec![words.len(), self.embed_dim()], 0);
        as_array(Bound::new(py, tensor)?.as_any())
    }

    /// A camera's flow of its own over these weights, about the labels and at the size that are set now.
    #[pyo3(signature = (
        *, policy="newest", queue=4, outputs=None, points=None, threshold=None, on_device=false, wait="block",
        realtime=None, cpus=None, stale_after=None, pool=4
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python's keywords")]
    fn stream(
        &self,
        py: Python<'_>,
        policy: &str,
        queue: usize,
        outputs: Option<Texts>,
        points: Option<Bound<'_, PyAny>>,
        threshold: Option<f64>,
        on_device: bool,
        wait: &str,
        realtime: Option<i64>,
        cpus: Option<Vec<usize>>,
        stale_after: Option<f64>,
        pool: usize,
    ) -> PyResult<Stream> {
        let mut asked = outputs.map_or_else(|| Ok(vec![Output::Mask]), |names| outputs::named(py, &names.list()))?;
        let mut wanted = Wanted::of(&asked);
        if let Some(threshold) = threshold {
            wanted = wanted.threshold(options::threshold(py, threshold)?);
        }
        let points = points.map_or_else(|| Ok(Vec::new()), |points| options::points(&points))?;
        if !points.is_empty() {
            asked.push(Output::Points);
        }
        let options = StreamOptions {
            policy: options::policy(py, policy, queue)?,
            overlay: asked.contains(&Output::Overlay).then(|| (Palette::default(), Alpha::default())),
            wanted,
            points,
            on_device,
            wait: options::waiting(py, wait)?,
            realtime: Some(options::realtime(py, realtime, cpus)?),
            stale_after: stale_after.map(|after| options::seconds(py, "stale_after", after)).transpose()?,
            pool,
            ..StreamOptions::default()
        };
        self.with(py, |inner| Stream::start(&inner.engine, options, asked))
    }

    /// What the engine did and holds.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (frames, size, seconds, stages) = self.with(py, |inner| {
            let Inner { engine, frames, .. } = inner;
            let stages: Vec<_> = engine.stage_times().iter().map(|(name, time)| (*name, time.as_secs_f64())).collect();
            Ok((*frames, engine.lane().network_size(), engine.frame_seconds(), stages))
        })?;
        let memory = self.network.memory();
        let stats = PyDict::new(py);
        stats.set_item("frames", frames)?;
        stats.set_item("network_size", size)?;
        stats.set_item("frame_seconds", seconds)?;
        stats.set_item("stage_seconds", stages.into_iter().collect::<std::collections::BTreeMap<_, _>>())?;
        stats.set_item("host_memory_held", memory.host().held)?;
        stats.set_item("device_memory_held", memory.device().map(|usage| usage.held))?;
        stats.set_item("note", self.network.note())?;
        Ok(stats)
    }

    fn __repr__(&self) -> String {
        format!("Engine({})", self.network.device())
    }
}

impl Engine {
    /// The engine, without the interpreter's lock, when whoever had it before has done: so that nobody waits for one with the other.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Inner) -> lseg_fast::Result<T> + Send,
    ) -> PyResult<T> {
        py.detach(|| self.locked(work)).map_err(|error| errors::raised(py, &error))
    }

    fn locked<T>(&self, work: impl FnOnce(&mut Inner) -> lseg_fast::Result<T>) -> lseg_fast::Result<T> {
        // In a forked child nobody may be left to open the lock.
        self.network.check_process()?;
        let panicked = |_: PoisonError<_>| Error::Lost("an earlier call panicked: make a new engine".to_owned());
        work(&mut *self.inner.lock().map_err(panicked)?)
    }

    /// One pass, and what is taken of its results.
    fn run<T: Send>(
        &self,
        py: Python<'_>,
        input: &Input,
        wanted: Wanted<'_>,
        take: impl FnOnce(&mut Results) -> lseg_fast::Result<T> + Send,
    ) -> PyResult<T> {
        self.with_images(py, input, wanted, |inner, images, wanted| {
            let Inner { engine, results, .. } = inner;
            engine.run_into(images, wanted, results)?;
            take(results)
        })
    }

    /// The engine with the images as it takes them, and what an overlay needs besides.
    fn with_images<T: Send>(
        &self,
        py: Python<'_>,
        input: &Input,
        wanted: Wanted<'_>,
        work: impl FnOnce(&mut Inner, &[Image<'_>], Wanted<'_>) -> lseg_fast::Result<T> + Send,
    ) -> PyResult<T> {
        let pictures = &input.pictures;
        let done = py.detach(|| {
            // SAFETY: `input` keeps the arrays.
            let ready = unsafe { Ready::new(pictures, self.network.memory()) }?;
            let images = ready.images(self.stream);
            self.locked(|inner| {
                let has_overlay = wanted.has(Output::Overlay);
                let colours = if has_overlay { palette(inner.engine.labels().len()) } else { Vec::new() };
                let wanted = if has_overlay { wanted.overlay(&colours, Alpha::default()) } else { wanted };
                let done = work(inner, &images, wanted)?;
                inner.frames += pictures.len() as u64;
                Ok(done)
            })
        });
        done.map_err(|error| errors::raised(py, &error))
    }

    /// One pass, and its outputs as memory that is the caller's, with the labels that they are about.
    fn make(
        &self,
        py: Python<'_>,
        input: &Input,
        wanted: Wanted<'_>,
        asked: &[Output],
        on_device: bool,
    ) -> PyResult<(Vec<Made>, Vec<String>)> {
        if !on_device {
            return self.run(py, input, wanted, |results| {
                let made = asked.iter().map(|output| Made::of_host(results, *output)).collect();
                Ok((made, names(results.labels())))
            });
        }
        let results =
            self.with_images(py, input, wanted, |inner, images, wanted| inner.engine.run_on_device(images, wanted))?;
        if input.is_in_cuda() {
            self.lent.keep(py, results.progress(), Arc::clone(&input.keep));
        }
        let made = asked.iter().map(|output| Made::on_device(&results, *output)).collect();
        Ok((made, names(results.labels())))
    }

    /// One pass, and an output of it into the caller's array or arrays.
    fn fill(
        &self,
        py: Python<'_>,
        input: &Input,
        wanted: Wanted<'_>,
        output: Output,
        out: &Bound<'_, PyAny>,
        on_device: bool,
    ) -> PyResult<()> {
        if on_device {
            return Err(errors::input(py, "out is of the host: leave out or on_device away"));
        }
        let rooms = match items(out) {
            Some(arrays) => arrays?.iter().map(Room::of).collect::<PyResult<Vec<_>>>()?,
            None => vec![Room::of(out)?],
        };
        // SAFETY: `out` is the caller's for the whole call.
        self.run(py, input, wanted, |results| unsafe { outputs::write(results, output, &rooms) })
    }

    /// The images that an object, or a list of objects, is.
    fn look(&self, image: &Bound<'_, PyAny>, format: Option<&str>) -> PyResult<Input> {
        let py = image.py();
        let format = options::format(py, format)?;
        let Some(images) = items(image) else {
            let (pictures, many, keep) = self.look_at(image, format)?;
            return Ok(Input { pictures, many, keep: Arc::new(vec![keep]) });
        };
        let (mut all, mut keeps) = (Vec::new(), Vec::new());
        for image in images? {
            let (pictures, many, keep) = self.look_at(&image, format)?;
            if many {
                return Err(errors::input(
                    py,
                    "a list of arrays that are several images each: expected one image each",
                ));
            }
            all.extend(pictures);
            keeps.push(keep);
        }
        Ok(Input { pictures: all, many: true, keep: Arc::new(keeps) })
    }

    fn look_at(&self, image: &Bound<'_, PyAny>, format: Option<Format>) -> PyResult<(Vec<Picture>, bool, Keep)> {
        let (array, keep) = array::look(image, self.stream.ok_or(array::ON_THE_CPU))?;
        let (pictures, many) = pictures(&array, format).map_err(|reason| errors::input(image.py(), reason))?;
        Ok((pictures, many, keep))
    }
}

impl Input {
    /// Whether all of it is in a GPU's memory.
    fn is_in_cuda(&self) -> bool {
        self.pictures.iter().all(Picture::is_in_cuda)
    }

    /// The result of a frame, or a list of all frames'.
    fn each<'py>(
        &self,
        py: Python<'py>,
        mut result: impl FnMut(usize) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if !self.many {
            return result(0);
        }
        let all = (0..self.pictures.len()).map(result).collect::<PyResult<Vec<_>>>()?;
        Ok(PyList::new(py, all)?.into_any())
    }
}

/// All frames' values of an output, in memory that is the caller's.
pub struct Made {
    pub output: Output,
    /// Of one frame.
    shape: Vec<usize>,
    memory: MadeIn,
}

enum MadeIn {
    Host(Arc<Host>),
    Cuda(Arc<DeviceTensor>),
}

impl Made {
    /// A copy of the first frame's.
    pub fn copy(results: &Results, output: Output) -> Made {
        let shape = outputs::shape(results, output);
        Made { output, shape, memory: MadeIn::Host(Arc::new(Host::copy(results, output))) }
    }

    fn of_host(results: &mut Results, output: Output) -> Made {
        let shape = outputs::shape(results, output);
        Made { output, shape, memory: MadeIn::Host(Arc::new(Host::take(results, output))) }
    }

    pub fn on_device(results: &DeviceResults, output: Output) -> Made {
        let tensor = results.tensor(output).expect("what was wanted is there").clone();
        let [_, shape @ ..] = tensor.shape();
        let shape = outputs::trimmed(output, shape);
        Made { output, shape, memory: MadeIn::Cuda(Arc::new(tensor)) }
    }

    fn tensor(&self, frame: usize) -> Tensor {
        match &self.memory {
            MadeIn::Host(host) => Tensor::of_host(Arc::clone(host), self.shape.clone(), frame),
            MadeIn::Cuda(result) => Tensor::on_device(Arc::clone(result), self.shape.clone(), frame),
        }
    }

    /// An array of NumPy of what is on the host, the tensor itself of what is not.
    pub fn array<'py>(&self, py: Python<'py>, frame: usize) -> PyResult<Bound<'py, PyAny>> {
        let tensor = Bound::new(py, self.tensor(frame))?.into_any();
        match self.memory {
            MadeIn::Host(_) => as_array(&tensor),
            MadeIn::Cuda(_) => Ok(tensor),
        }
    }
}

/// Of no labels none.
pub fn names(labels: Option<&Labels>) -> Vec<String> {
    labels.map_or_else(Vec::new, |labels| labels.names().to_vec())
}

/// What a list or a tuple has in it.
fn items<'py>(object: &Bound<'py, PyAny>) -> Option<PyResult<Vec<Bound<'py, PyAny>>>> {
    let is_list = object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>();
    is_list.then(|| object.try_iter()?.collect())
}
