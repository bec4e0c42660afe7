//! cuBLAS, where it is installed: what our products are measured against. Nothing else calls it. The device's other
//! `unsafe` is here.

use std::ffi::{c_int, c_void};

use libloading::{Library, Symbol};

use super::driver::{Event, Gpu, Memory};
use crate::error::{Error, Result};
use std::sync::Arc;

/// x·Wᵀ: `[rows, k]` · `[n, k]`.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub rows: usize,
    pub k: usize,
    pub n: usize,
}

const LIBRARIES: &[&str] =
    &["libcublas.so.13", "libcublas.so.12", "libcublas.so.11", "libcublas.so", "cublas64_13.dll", "cublas64_12.dll"];

type Handle = *mut c_void;
type Create = unsafe extern "C" fn(*mut Handle) -> c_int;
type Destroy = unsafe extern "C" fn(Handle) -> c_int;
type SetStream = unsafe extern "C" fn(Handle, *mut c_void) -> c_int;
#[rustfmt::skip]
type GemmEx = unsafe extern "C" fn(
    Handle, c_int, c_int, c_int, c_int, c_int, *const c_void,
    *const c_void, c_int, c_int, *const c_void, c_int, c_int, *const c_void,
    *mut c_void, c_int, c_int, c_int, c_int,
) -> c_int;

// cublas_api.h and library_types.h
const NOT_TRANSPOSED: c_int = 0;
const TRANSPOSED: c_int = 1;
const FLOAT16: c_int = 2;
const COMPUTE_FLOAT32: c_int = 68;
const DEFAULT_ALGORITHM: c_int = -1;

/// The library with a handle on the GPU's stream.
pub struct Cublas {
    gpu: Arc<Gpu>,
    library: Library,
    handle: Handle,
}

impl Cublas {
    /// `None` where it is not installed, or does not take the GPU.
    pub fn open(gpu: &Arc<Gpu>) -> Option<Cublas> {
        let _current = gpu.enter().ok()?;
        // SAFETY: the initialisers of NVIDIA's library.
        let library = LIBRARIES.iter().find_map(|name| unsafe { Library::new(*name) }.ok())?;
        let mut handle = std::ptr::null_mut();
        {
            // SAFETY: the functions have the types of cublas_api.h.
            let create: Symbol<'_, Create> = unsafe { library.get(b"cublasCreate_v2") }.ok()?;
            // SAFETY: a place for the handle.
            if unsafe { create(&mut handle) } != 0 {
                return None;
            }
        }
        let cublas = Cublas { gpu: Arc::clone(gpu), library, handle };
        // SAFETY: as above; the stream lives as long as the GPU, which is kept.
        let set = unsafe { cublas.library.get::<SetStream>(b"cublasSetStream_v2") }.ok().map(|symbol| *symbol)?;
        // SAFETY: our own handle and stream.
        (unsafe { set(cublas.handle, gpu.raw_stream()) } == 0).then_some(cublas)
    }

    /// Queues the product, everything in float16 with float32 sums.
    fn product(&self, x: &Memory, w: &Memory, out: &Memory, product: Product) -> Result<()> {
        let Product { rows, k, n } = product;
        assert!(x.bytes() >= 2 * rows * k && w.bytes() >= 2 * n * k && out.bytes() >= 2 * rows * n);
        let [m, columns, depth] = [n, rows, k].map(|side| c_int::try_from(side).unwrap_or(c_int::MAX));
        let (one, zero) = (1.0f32, 0.0f32);
        let failed =
            |code: c_int| Error::Device(format!("cuBLAS refused a product of {rows}×{k} · {k}→{n}: code {code}"));
        // SAFETY: the function has the type of cublas_api.h.
        let gemm = unsafe { self.library.get::<GemmEx>(b"cublasGemmEx") }.map_err(|_| failed(-1))?;
        // SAFETY: the matrices are as large as was asserted. cuBLAS counts down the columns: our rows are its columns, so that
        // it computes out' = W'ᵀ · x'.
        #[rustfmt::skip]
        let code = unsafe {
            gemm(
                self.handle, TRANSPOSED, NOT_TRANSPOSED, m, columns, depth, (&raw const one).cast(),
                w.address() as *const c_void, FLOAT16, depth, x.address() as *const c_void, FLOAT16, depth, (&raw const zero).cast(),
                out.address() as *mut c_void, FLOAT16, m, COMPUTE_FLOAT32, DEFAULT_ALGORITHM,
            )
        };
        if code == 0 { Ok(()) } else { Err(failed(code)) }
    }

    /// Seconds of `runs` products on zeros, `flush` filled before each.
    pub fn time(&self, product: Product, flush: &Memory, warm_up: usize, runs: usize) -> Result<Vec<f64>> {
        let _current = self.gpu.enter()?;
        let Product { rows, k, n } = product;
        let [x, w, out] = [rows * k, n * k, rows * n].map(|values| self.gpu.allocate(2 * values, "cuBLAS's product"));
        let (x, w, out) = (x?, w?, out?);
        for memory in [&x, &w, &out] {
            self.gpu.fill(memory, 0, 0, memory.bytes())?;
        }
        let (start, end) = (Event::new(&self.gpu)?, Event::new(&self.gpu)?);
        let mut seconds = Vec::with_capacity(runs);
        for i in 0..warm_up + runs {
            self.gpu.fill(flush, 0, 0, flush.bytes())?;
            start.record()?;
            self.product(&x, &w, &out, product)?;
            end.record()?;
            self.gpu.synchronize()?;
            if i >= warm_up {
                seconds.push(end.seconds_since(&start)?);
            }
        }
        Ok(seconds)
    }
}

impl Drop for Cublas {
    fn drop(&mut self) {
        let Ok(_current) = self.gpu.enter() else { return };
        // SAFETY: the type of cublas_api.h; the handle was made by us.
        if let Ok(destroy) = unsafe { self.library.get::<Destroy>(b"cublasDestroy_v2") } {
            // SAFETY: as above, once.
            let _ = unsafe { destroy(self.handle) };
        }
    }
}
