//! `lseg_fast._native`: the engine as Python's classes. It translates and decides nothing: objects that hold images become
//! [`lseg_fast::Image`], results become tensors, errors become exceptions.

mod answer;
mod array;
mod dlpack;
mod engine;
mod errors;
mod image;
mod lent;
mod options;
mod outputs;
mod stream;
mod tensor;

use pyo3::prelude::*;

/// The engine, its results and what the build is; `lseg_fast` has them for users.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::answer::Answer;
    #[pymodule_export]
    use super::engine::Engine;
    #[pymodule_export]
    use super::outputs::Result;
    #[pymodule_export]
    use super::stream::Stream;
    #[pymodule_export]
    use super::tensor::Tensor;
    use lseg_fast::build;
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    /// Of the build: its version, the commit it is of, whether it has CUDA kernels, and for which architectures.
    #[pyfunction]
    fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let info = PyDict::new(py);
        info.set_item("version", build::VERSION)?;
        info.set_item("commit", build::COMMIT)?;
        info.set_item("kernels", build::kernels().is_some())?;
        info.set_item("archs", build::kernels().unwrap_or_default())?;
        Ok(info)
    }
}
