//! cuBLAS and cuBLASLt, where they are installed: what our products are measured against. Nothing else calls them. The
//! device's other `unsafe` is here.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;

use half::f16;

use super::codes::{CallResult, Code};
use super::cublas_sys::{blas, lt};
use super::driver::{Memory, Stream, out_param};
use super::graph::Graph;
use super::probe::{Effort, Rival, replayed};
use crate::error::{Error, Result};

/// out = func(x·Wᵀ + bias + residual): `[rows, k]` · `[n, k]`. With a residual, it and the output are float32.
#[derive(Clone, Copy, Debug)]
pub struct LibraryGemm {
    pub rows: usize,
    pub k: usize,
    pub n: usize,
    pub residual: bool,
    pub gelu: bool,
}

/// What NVIDIA's libraries may use between their kernels.
const WORKSPACE: usize = 32 << 20;
/// Algorithms of cuBLASLt that are tried.
const ALGORITHMS: usize = 8;
/// Seconds and runs that each is tried for.
const TRIAL: Effort = Effort { warm_up: 0.01, runs: 5 };

/// Handles of both libraries on the GPU's stream.
pub struct Cublas {
    stream: Arc<Stream>,
    blas: blas::cublasHandle_t,
    lt: lt::cublasLtHandle_t,
    workspace: Memory,
}

// SAFETY: handles may move between threads; they are used by one at a time, with the context current.
unsafe impl Send for Cublas {}

/// cublasStatus_t of cuBLASLt where it has no algorithm for a product.
const NOT_SUPPORTED: Code = Code(15);

/// The libraries' own numbers, which are not the driver's.
fn refused(what: &str, code: Code) -> Error {
    let name = match code.0 {
        1 => "not initialised",
        3 => "no memory",
        7 => "invalid value",
        8 => "architecture mismatch",
        11 => "mapping error",
        13 => "execution failed",
        14 => "internal error",
        15 => "not supported",
        16 => "licence error",
        _ => "a status of a newer version",
    };
    Error::Device(format!("{what}: cublasStatus_t {} ({name})", code.0))
}

trait Refuse<T> {
    fn refused(self, what: &str) -> Result<T>;
}

impl<T> Refuse<T> for std::result::Result<T, Code> {
    fn refused(self, what: &str) -> Result<T> {
        self.map_err(|code| refused(what, code))
    }
}

impl Cublas {
    /// The GPU's context must be current.
    ///
    /// # Errors
    /// Libraries that are not there, or do not take the GPU.
    pub fn open(stream: &Arc<Stream>) -> Result<Cublas> {
        // SAFETY: only looks for the libraries.
        if !unsafe { blas::is_culib_present() && lt::is_culib_present() } {
            let how = "put the folder with libcublas.so and libcublasLt.so into LD_LIBRARY_PATH (links to libcublas.so.13 and \
                       libcublasLt.so.13 will do)";
            return Err(Error::Device(format!("cuBLAS is not found: {how}")));
        }
        if let Some(name) = blas::missing().or_else(lt::missing) {
            return Err(Error::Device(format!(
                "the cuBLAS that is found has no {name}: version 11.4 or newer is needed"
            )));
        }
        let workspace = stream.allocate(WORKSPACE, "cuBLAS's workspace")?;
        // SAFETY: a valid place; destroyed in drop.
        let handle = out_param(ptr::null_mut(), |handle| unsafe { blas::cublasCreate_v2(handle) });
        let mut cublas = Cublas {
            stream: Arc::clone(stream),
            blas: handle.refused("starting cuBLAS")?,
            lt: ptr::null_mut(),
            workspace,
        };
        let (stream, place) = (stream.raw_stream().cast(), cublas.workspace.address() as *mut c_void);
        // SAFETY: our own handle and stream, which lives as long as the GPU, which is kept; so does the workspace.
        let set = unsafe {
            blas::cublasSetStream_v2(cublas.blas, stream)
                .and_then(|()| blas::cublasSetWorkspace_v2(cublas.blas, place, WORKSPACE))
        };
        set.refused("giving cuBLAS its stream")?;
        // SAFETY: a valid place; destroyed in drop.
        let lt = out_param(ptr::null_mut(), |handle| unsafe { lt::cublasLtCreate(handle) });
        cublas.lt = lt.refused("starting cuBLASLt")?;
        Ok(cublas)
    }
}

impl Drop for Cublas {
    fn drop(&mut self) {
        let Ok(_current) = self.stream.enter() else { return };
        if !self.lt.is_null() {
            // SAFETY: made by us, destroyed once.
            let _ = unsafe { lt::cublasLtDestroy(self.lt) };
        }
        // SAFETY: made by us, destroyed once.
        let _ = unsafe { blas::cublasDestroy_v2(self.blas) };
    }
}

/// A product's operands, with weights for each pass of a graph.
pub struct GemmOperands {
    stream: Arc<Stream>,
    gemm: LibraryGemm,
    x: Memory,
    weights: Vec<Memory>,
    /// Of the output's type.
    bias: Memory,
    /// float32
    residual: Memory,
    /// float16, or float32 beside a residual.
    out: Memory,
}

/// Seeded values in [−1, 1): a GPU multiplies zeros quicker than numbers.
fn values(count: usize, seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count).map(move |_| {
        // xorshift64 (Marsaglia 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}

fn uploaded<T: bytemuck::NoUninit>(stream: &Arc<Stream>, values: &[T]) -> Result<Memory> {
    let bytes: &[u8] = bytemuck::cast_slice(values);
    let memory = stream.allocate(bytes.len(), "cuBLAS's product")?;
    stream.upload(&memory, 0, bytes)?;
    Ok(memory)
}

impl GemmOperands {
    pub fn new(stream: &Arc<Stream>, gemm: LibraryGemm, passes: usize) -> Result<GemmOperands> {
        let LibraryGemm { rows, k, n, residual, .. } = gemm;
        let halves = |count, seed| values(count, seed).map(f16::from_f32).collect::<Vec<_>>();
        let weight: Vec<f16> = values(n * k, 2).map(|v| f16::from_f32(v / (k as f32).sqrt())).collect();
        let added: Vec<f32> = values(rows * n, 4).collect();
        Ok(GemmOperands {
            stream: Arc::clone(stream),
            gemm,
            x: uploaded(stream, &halves(rows * k, 1))?,
            weights: (0..passes).map(|_| uploaded(stream, &weight)).collect::<Result<_>>()?,
            bias: if residual {
                uploaded(stream, &values(n, 3).collect::<Vec<f32>>())?
            } else {
                uploaded(stream, &halves(n, 3))?
            },
            residual: uploaded(stream, &added)?,
            out: stream.allocate(rows * n * if residual { 4 } else { 2 }, "cuBLAS's product")?,
        })
    }

    /// Times of one product, those of cuBLASLt by the quickest algorithm.
    pub fn time(&self, cublas: &Cublas, effort: Effort) -> Result<Rival> {
        let plain = self.in_graph(effort, |weight| self.plain(cublas, weight))?;
        let fused = Fused::new(cublas, self)?;
        let mut best: Option<(f64, &lt::Heuristic)> = None;
        for algorithm in &fused.algorithms {
            // One that refuses to run is out of the race.
            let Ok(mut seconds) = self.in_graph(TRIAL, |weight| fused.queue(weight, algorithm)) else { continue };
            seconds.sort_by(f64::total_cmp);
            let median = seconds[seconds.len() / 2];
            if best.is_none_or(|(quickest, _)| median < quickest) {
                best = Some((median, algorithm));
            }
        }
        let lt = match best {
            Some((_, algorithm)) => self.in_graph(effort, |weight| fused.queue(weight, algorithm))?,
            None => Vec::new(),
        };
        Ok(Rival { cublas: plain, lt, algorithms: fused.algorithms.len() })
    }

    fn in_graph(&self, effort: Effort, queue: impl Fn(&Memory) -> Result<()>) -> Result<Vec<f64>> {
        queue(&self.weights[0])?;
        self.stream.synchronize()?;
        let graph = Graph::capture_foreign(&self.stream, || self.weights.iter().try_for_each(&queue))?;
        let passes = self.weights.len() as f64;
        Ok(replayed(&self.stream, &graph, effort)?.into_iter().map(|seconds| seconds / passes).collect())
    }

    /// The product alone, float16 with float32 sums.
    fn plain(&self, cublas: &Cublas, weight: &Memory) -> Result<()> {
        let LibraryGemm { rows, k, n, residual, .. } = self.gemm;
        let [m, columns, depth] = [n, rows, k].map(|side| c_int::try_from(side).unwrap_or(c_int::MAX));
        let (one, zero) = (1.0f32, 0.0f32);
        let (transposed, not) = (blas::cublasOperation_t::CUBLAS_OP_T, blas::cublasOperation_t::CUBLAS_OP_N);
        let (half, float) = (blas::cudaDataType::CUDA_R_16F, blas::cudaDataType::CUDA_R_32F);
        // SAFETY: the matrices are as large as `new` made them. cuBLAS counts down the columns: our rows are its columns, so
        // that it computes out' = W'ᵀ · x'.
        let queued = unsafe {
            blas::cublasGemmEx(
                cublas.blas,
                transposed,
                not,
                m,
                columns,
                depth,
                (&raw const one).cast(),
                weight.address() as *const c_void,
                half,
                depth,
                self.x.address() as *const c_void,
                half,
                depth,
                (&raw const zero).cast(),
                self.out.address() as *mut c_void,
                if residual { float } else { half },
                m,
                blas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                blas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        queued.refused(&format!("cuBLAS refused a product of {rows}×{k} · {k}→{n}"))
    }
}

/// The product with its epilogue, as cuBLASLt takes it.
struct Fused<'a> {
    cublas: &'a Cublas,
    operands: &'a GemmOperands,
    operation: lt::cublasLtMatmulDesc_t,
    /// Of W, x and out; null before they are made.
    layouts: [lt::cublasLtMatrixLayout_t; 3],
    algorithms: Vec<lt::Heuristic>,
}

const DESCRIBING: &str = "describing a product to cuBLASLt";

impl<'a> Fused<'a> {
    fn new(cublas: &'a Cublas, operands: &'a GemmOperands) -> Result<Fused<'a>> {
        let LibraryGemm { rows, k, n, residual, .. } = operands.gemm;
        let (half, float) = (lt::cudaDataType::CUDA_R_16F, lt::cudaDataType::CUDA_R_32F);
        let out = if residual { float } else { half };
        let compute = lt::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        // SAFETY: a valid place; destroyed in drop.
        let operation =
            out_param(ptr::null_mut(), |operation| unsafe { lt::cublasLtMatmulDescCreate(operation, compute, float) });
        let layouts = [ptr::null_mut(); 3];
        let mut fused =
            Fused { cublas, operands, operation: operation.refused(DESCRIBING)?, layouts, algorithms: Vec::new() };
        for (place, (element, rows, columns)) in
            fused.layouts.iter_mut().zip([(half, k, n), (half, k, rows), (out, n, rows)])
        {
            // SAFETY: a valid place; destroyed in drop.
            let made =
                unsafe { lt::cublasLtMatrixLayoutCreate(place, element, rows as u64, columns as u64, rows as i64) };
            made.refused(DESCRIBING)?;
        }
        fused.describe()?;
        fused.search()?;
        Ok(fused)
    }

    fn describe(&self) -> Result<()> {
        use lt::cublasLtMatmulDescAttributes_t as Attribute;
        let set = |attribute, value: *const c_void, bytes: usize| {
            // SAFETY: our own description; the value is so many bytes.
            unsafe { lt::cublasLtMatmulDescSetAttribute(self.operation, attribute, value, bytes) }.refused(DESCRIBING)
        };
        let transposed = blas::cublasOperation_t::CUBLAS_OP_T as i32;
        set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, (&raw const transposed).cast(), size_of::<i32>())?;
        let epilogue = if self.operands.gemm.gelu {
            lt::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_GELU_BIAS
        } else {
            lt::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS
        } as u32;
        set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, (&raw const epilogue).cast(), size_of::<u32>())?;
        let bias = self.operands.bias.address();
        set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, (&raw const bias).cast(), size_of::<u64>())
    }

    fn search(&mut self) -> Result<()> {
        const SEARCHING: &str = "asking cuBLASLt for algorithms";
        // SAFETY: a valid place; destroyed below.
        let preference = out_param(ptr::null_mut(), |place| unsafe { lt::cublasLtMatmulPreferenceCreate(place) });
        let preference = preference.refused(SEARCHING)?;
        let asked = self.ask(preference);
        // SAFETY: made by us, destroyed once.
        let _ = unsafe { lt::cublasLtMatmulPreferenceDestroy(preference) };
        match asked {
            // It has none for such a product.
            Err(NOT_SUPPORTED) => Ok(()),
            asked => asked.refused(SEARCHING),
        }
    }

    fn ask(&mut self, preference: lt::cublasLtMatmulPreference_t) -> CallResult {
        let most = lt::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        let [w, x, out] = self.layouts;
        let (mut found, mut count, workspace) = (Vec::with_capacity(ALGORITHMS), 0, WORKSPACE);
        // SAFETY: our own descriptions, all alive; room for so many results, of which `count` are written.
        unsafe {
            let (value, bytes) = ((&raw const workspace).cast(), size_of::<usize>());
            lt::cublasLtMatmulPreferenceSetAttribute(preference, most, value, bytes)?;
            lt::cublasLtMatmulAlgoGetHeuristic(
                self.cublas.lt,
                self.operation,
                w,
                x,
                out,
                out,
                preference,
                ALGORITHMS as c_int,
                found.as_mut_ptr(),
                &mut count,
            )?;
            found.set_len(usize::try_from(count).unwrap_or(0).min(ALGORITHMS));
        }
        self.algorithms = found;
        Ok(())
    }

    fn queue(&self, weight: &Memory, algorithm: &lt::Heuristic) -> Result<()> {
        let operands = self.operands;
        let (one, beta) = (1.0f32, if operands.gemm.residual { 1.0f32 } else { 0.0 });
        let [w, x, out] = self.layouts;
        let c = if operands.gemm.residual { &operands.residual } else { &operands.out };
        // SAFETY: the matrices are as large as their layouts say; all descriptions are alive.
        let queued = unsafe {
            lt::cublasLtMatmul(
                self.cublas.lt,
                self.operation,
                (&raw const one).cast(),
                weight.address() as *const c_void,
                w,
                operands.x.address() as *const c_void,
                x,
                (&raw const beta).cast(),
                c.address() as *const c_void,
                out,
                operands.out.address() as *mut c_void,
                out,
                &raw const algorithm.algorithm,
                self.cublas.workspace.address() as *mut c_void,
                WORKSPACE,
                operands.stream.raw_stream().cast(),
            )
        };
        queued.refused("a product by cuBLASLt")
    }
}

impl Drop for Fused<'_> {
    fn drop(&mut self) {
        // SAFETY: made by us, destroyed once.
        unsafe {
            let _ = lt::cublasLtMatmulDescDestroy(self.operation);
            for layout in self.layouts.into_iter().filter(|layout| !layout.is_null()) {
                let _ = lt::cublasLtMatrixLayoutDestroy(layout);
            }
        }
    }
}
