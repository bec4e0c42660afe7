//! Results as tensors, which other libraries take without a copy.

#![allow(unsafe_code)]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lseg_fast::{DeviceTensor, TensorElement};
use pyo3::exceptions::{PyAttributeError, PyBufferError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyTuple};

use crate::array::{Element, as_array};
use crate::dlpack::{self, Outgoing};
use crate::errors;
use crate::outputs::Host;

/// A result: contiguous memory, which lives as long as the tensor or anything that was made of it, whatever becomes of the engine.
#[pyclass(frozen, module = "lseg_fast")]
pub struct Tensor {
    shape: Vec<usize>,
    element: Element,
    state: Mutex<State>,
}

struct State {
    /// None once it was released.
    memory: Option<Memory>,
    /// Its address was told by an interface that keeps the tensor, not the memory: so it stays until the tensor goes.
    told: Option<Memory>,
}

#[derive(Clone)]
enum Memory {
    /// From this byte on.
    Host(Arc<Host>, usize),
    /// The same, in a GPU's memory.
    Cuda(Arc<DeviceTensor>, usize),
}

/// How a GPU's values are called here.
fn element(tensor: &DeviceTensor) -> Element {
    match tensor.element() {
        TensorElement::U8 => Element::U8,
        TensorElement::U16 => Element::U16,
        TensorElement::F16 => Element::F16,
        TensorElement::F32 => Element::F32,
    }
}

impl Memory {
    fn address(&self) -> usize {
        match self {
            Memory::Host(host, at) => host.address + at,
            Memory::Cuda(result, at) => result.address() as usize + at,
        }
    }

    /// DLPack's (kind, number).
    fn device(&self) -> (i32, i32) {
        match self {
            Memory::Host(..) => (dlpack::CPU, 0),
            Memory::Cuda(result, _) => (dlpack::CUDA, result.ordinal() as i32),
        }
    }
}

impl Tensor {
    /// A frame's values, the one numbered `frame`, of the results of several.
    pub fn of_host(host: Arc<Host>, shape: Vec<usize>, frame: usize) -> Tensor {
        let element = host.element;
        let at = frame * shape.iter().product::<usize>() * element.bytes();
        Tensor::new(Memory::Host(host, at), shape, element)
    }

    /// The same of results in a GPU's memory.
    pub fn on_device(result: Arc<DeviceTensor>, shape: Vec<usize>, frame: usize) -> Tensor {
        let element = element(&result);
        let at = frame * shape.iter().product::<usize>() * element.bytes();
        Tensor::new(Memory::Cuda(result, at), shape, element)
    }

    fn new(memory: Memory, shape: Vec<usize>, element: Element) -> Tensor {
        Tensor { shape, element, state: Mutex::new(State { memory: Some(memory), told: None }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self, py: Python<'_>) -> PyResult<Memory> {
        let memory = self.state().memory.clone();
        memory.ok_or_else(|| errors::new(py, "Error", "the tensor was released: it has no memory any more".to_owned()))
    }

    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// A copy in the host's memory.
    fn copied(&self, py: Python<'_>) -> PyResult<Memory> {
        let memory = self.memory(py)?;
        let copied = py.detach(|| match &memory {
            Memory::Host(host, at) => {
                let copy = Host::zeros(self.element, self.len());
                // SAFETY: both have the tensor's bytes from there on, and live; the copy is nobody else's yet.
                unsafe {
                    let from = std::ptr::with_exposed_provenance::<u8>(host.address + at);
                    copy.bytes_mut(self.bytes()).copy_from_slice(std::slice::from_raw_parts(from, self.bytes()));
                }
                Ok(Memory::Host(Arc::new(copy), 0))
            }
            Memory::Cuda(result, at) => {
                let bytes = result.bytes();
                let copy = Host::zeros(self.element, bytes / self.element.bytes());
                // SAFETY: it has so many bytes, and is nobody else's yet.
                result.read(unsafe { copy.bytes_mut(bytes) })?;
                Ok(Memory::Host(Arc::new(copy), *at))
            }
        });
        copied.map_err(|error| errors::raised(py, &error))
    }

    fn bytes(&self) -> usize {
        self.len() * self.element.bytes()
    }

    /// Has a stream of the consumer's wait for a result on a GPU: -1 none, 1 or nothing the legacy default stream.
    fn order(&self, py: Python<'_>, memory: &Memory, stream: Option<i64>) -> PyResult<()> {
        let Memory::Cuda(result, _) = memory else { return Ok(()) };
        let stream = match stream.unwrap_or(1) {
            -1 => return Ok(()),
            stream @ 1.. => stream as u64,
            other => {
                let what = format!(
                    "stream {other}: expected -1 (none), 1 (the legacy default stream), 2 (the thread's) or a handle"
                );
                return Err(PyBufferError::new_err(what));
            }
        };
        // SAFETY: the protocol's consumer says that it is a stream of this device, and keeps it while it uses the tensor.
        unsafe { result.follow(stream) }.map_err(|error| errors::raised(py, &error))
    }

    /// The memory, whose address is told to somebody who will keep this tensor for it.
    fn told(&self, py: Python<'_>) -> PyResult<Memory> {
        let memory = self.memory(py)?;
        self.state().told = Some(memory.clone());
        Ok(memory)
    }

    fn is_on_host(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(matches!(self.memory(py)?, Memory::Host(..)))
    }
}

#[pymethods]
impl Tensor {
    /// The length of each axis.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.shape)
    }

    /// "uint8", "uint16", "float16" or "float32".
    #[getter]
    fn dtype(&self) -> &'static str {
        self.element.name()
    }

    /// "cpu", or "cuda:0".
    #[getter]
    fn device(&self, py: Python<'_>) -> PyResult<String> {
        Ok(match self.memory(py)?.device() {
            (dlpack::CPU, _) => "cpu".to_owned(),
            (_, number) => format!("cuda:{number}"),
        })
    }

    /// An array of NumPy: of this memory where it is the host's, else of a copy.
    fn numpy<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (tensor, py) = (slf.get(), slf.py());
        if tensor.is_on_host(py)? {
            return as_array(slf.as_any());
        }
        let copy = Tensor::new(tensor.copied(py)?, tensor.shape.clone(), tensor.element);
        as_array(Bound::new(py, copy)?.as_any())
    }

    /// Gives the memory back before the tensor goes. What was made of it by DLPack keeps it; where its address was told by an array
    /// interface (`numpy()`), it stays until the tensor goes.
    fn release(&self) {
        let memory = self.state().memory.take();
        drop(memory);
    }

    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<i64>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let own = self.memory(py)?;
        let device = dl_device.unwrap_or(own.device());
        let is_elsewhere = device != own.device();
        if is_elsewhere && device.0 != dlpack::CPU {
            let what = format!(
                "DLPack device {device:?}: the tensor is on {:?}, and goes there or to the CPU, (1, 0)",
                own.device()
            );
            return Err(PyBufferError::new_err(what));
        }
        if is_elsewhere && copy == Some(false) {
            return Err(PyBufferError::new_err("copy=False: the tensor is on a GPU, and another device takes a copy"));
        }
        if !is_elsewhere && copy == Some(true) && matches!(own, Memory::Cuda(..)) {
            return Err(PyBufferError::new_err(
                "copy=True: on a GPU the tensor itself is lent, or a copy on the CPU, (1, 0)",
            ));
        }
        let is_copied = is_elsewhere || copy == Some(true);
        let memory = if is_copied { self.copied(py)? } else { own };
        if !is_copied {
            self.order(py, &memory, stream)?;
        }
        let versioned = max_version.is_some_and(|(major, _)| major >= 1);
        let outgoing = Outgoing {
            address: memory.address(),
            device,
            element: self.element,
            shape: self.shape.clone(),
            is_copied,
            owner: memory,
        };
        dlpack::export(py, outgoing, versioned)
    }

    fn __dlpack_device__(&self, py: Python<'_>) -> PyResult<(i32, i32)> {
        Ok(self.memory(py)?.device())
    }

    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        if !self.is_on_host(py)? {
            return Err(PyAttributeError::new_err("the tensor is on a GPU: numpy() copies it"));
        }
        self.interface(py)
    }

    /// Version 3. Its stream is the legacy default one, which waits for the result; the tensor is to be kept until what other
    /// streams do with it is done.
    #[getter]
    fn __cuda_array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        if self.is_on_host(py)? {
            return Err(PyAttributeError::new_err(
                "the tensor is in the host's memory: __array_interface__ tells where",
            ));
        }
        let interface = self.interface(py)?;
        self.order(py, &self.memory(py)?, Some(1))?;
        interface.set_item(intern!(py, "stream"), 1)?;
        Ok(interface)
    }

    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "dtype"), dtype)?;
        keywords.set_item(intern!(py, "copy"), copy)?;
        py.import("numpy")?.call_method("array", (Tensor::numpy(slf)?,), Some(&keywords))
    }

    fn __len__(&self) -> PyResult<usize> {
        self.shape.first().copied().ok_or_else(|| PyTypeError::new_err("a tensor without axes has no length"))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let device = self.device(py).unwrap_or_else(|_| "released".to_owned());
        format!("Tensor({:?}, {}, {device})", self.shape, self.element.name())
    }
}

impl Tensor {
    /// What both array interfaces have, with the address told.
    fn interface<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let memory = self.told(py)?;
        let interface = PyDict::new(py);
        interface.set_item(intern!(py, "shape"), PyTuple::new(py, &self.shape)?)?;
        interface.set_item(intern!(py, "typestr"), self.element.code())?;
        interface.set_item(intern!(py, "data"), (memory.address(), false))?;
        interface.set_item(intern!(py, "version"), 3)?;
        Ok(interface)
    }
}
