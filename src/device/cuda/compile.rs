//! From a plan to launches: for each step its kernels, their grids and their parameters' bytes, for a GPU of known limits on
//! which everything has its place. It needs no GPU.

use std::fmt;

use bytemuck::{NoUninit, Zeroable};

use super::ACTIVATION_BYTES;
use super::driver::{self, TensorMap, TensorMapSpec};
use super::memory::{self, Weights};
use super::modules::{self, KernelId};
use super::split_k::{SplitK, Workspace};
use super::tiles::{Config, Family, GpuLimits, Tiling};
use crate::error::{Error, Result};
use crate::ops::{Buf, Matrix, Rows, Step, Vector};
use crate::plan::Plan;

/// The largest parameter struct, in words of eight bytes.
const PARAM_WORDS: usize = 80;

/// One launch, ready to be queued.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Launch {
    pub kernel: KernelId,
    pub grid: [u32; 3],
    /// Of a product or a convolution.
    pub tiling: Option<Tiling>,
    params: [u64; PARAM_WORDS],
}

impl Launch {
    /// The kernel's parameter, a struct, as bytes.
    pub fn params(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.params)[..self.kernel.params]
    }

    /// How often a GPU's multiprocessors must be filled with its blocks.
    pub fn waves(&self, gpu: GpuLimits) -> f64 {
        let modules::Kernel { threads, registers, static_shared, spec, .. } = *self.kernel;
        let resident = gpu.arch.resident(threads, registers, static_shared + spec.shared);
        self.blocks() as f64 / (gpu.multiprocessors as f64 * f64::from(resident))
    }

    pub fn config(&self) -> Option<Config> {
        self.tiling.map(|tiling| tiling.config)
    }

    /// Of an operation that two families compute.
    pub fn family(&self) -> Option<Family> {
        self.config().map(Config::family).or_else(|| self.kernel.family())
    }

    pub fn blocks(&self) -> u64 {
        self.grid.iter().map(|n| u64::from(*n)).product()
    }
}

/// The launches of a plan, step by step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Launches {
    all: Vec<Launch>,
    /// For each step, where the next one's begin.
    ends: Vec<usize>,
    /// What they need of the device's workspace.
    workspace_bytes: usize,
}

impl Launches {
    pub fn workspace_bytes(&self) -> usize {
        self.workspace_bytes
    }

    pub fn of_step(&self, step: usize) -> &[Launch] {
        let begin = step.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.all[begin..self.ends[step]]
    }
}

/// Choices that are made for the device, to try what it would not choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forced {
    /// The tile and parts of products and convolutions that have a kernel for that tile.
    pub config: Option<Config>,
    /// The family of their kernels, and of attention's; of it, the quickest by the model.
    pub family: Option<Family>,
    /// Queries of a block of attention.
    pub queries: Option<usize>,
    /// Attention with some exponentials as polynomials, where its kernel has such a sibling.
    pub polynomial: bool,
}

/// A GPU, and where everything lies on it.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub limits: GpuLimits,
    /// The arena's address.
    pub arena: u64,
    pub workspace: Workspace,
    /// None where nothing has a place: a GPU that is not there.
    pub weights: Option<&'a Weights>,
    pub forced: Forced,
}

impl Target<'_> {
    /// A GPU that is not there, on which everything lies at 0.
    pub fn absent(limits: GpuLimits) -> Self {
        Target { limits, arena: 0, workspace: Workspace::default(), weights: None, forced: Forced::default() }
    }
}

/// Why a GPU does not compute an operation as it is, in a sentence; the CPU does.
pub type Refused = std::result::Result<(), String>;

/// All launches of a plan on a GPU.
///
/// # Errors
/// [`Error::Device`]: an operation that no kernel here computes, or more blocks than a grid has.
pub fn compile(plan: &Plan, target: Target<'_>) -> Result<Launches> {
    let launches = Vec::with_capacity(plan.steps.len() + 1);
    let mut to = Assembler { target, plan, step: 0, workspace_bytes: 0, launches };
    let mut ends = Vec::with_capacity(plan.steps.len());
    for (i, step) in plan.steps.iter().enumerate() {
        to.step = i;
        super::launches(&step.op, &mut to)
            .map_err(|why| Error::Device(format!("{}: {why}; the CPU computes it: pass --device cpu", step.op)))?;
        ends.push(to.launches.len());
    }
    Ok(Launches { all: to.launches, ends, workspace_bytes: to.workspace_bytes })
}

/// Takes the operations' launches.
pub struct Assembler<'a> {
    target: Target<'a>,
    plan: &'a Plan,
    step: usize,
    workspace_bytes: usize,
    launches: Vec<Launch>,
}

impl Assembler<'_> {
    pub fn limits(&self) -> GpuLimits {
        self.target.limits
    }

    pub fn forced(&self) -> Forced {
        self.target.forced
    }

    /// The step whose launches are made, and those behind it.
    pub fn current(&self) -> &Step {
        &self.plan.steps[self.step]
    }

    pub fn behind(&self) -> &[Step] {
        &self.plan.steps[self.step + 1..]
    }

    /// Where a buffer lies on the GPU.
    pub fn address(&self, buf: Buf) -> u64 {
        self.target.arena + buf.offset as u64
    }

    /// 0 where there is none.
    pub fn optional_address(&self, buf: Option<Buf>) -> u64 {
        buf.map_or(0, |buf| self.address(buf))
    }

    /// Where the rows of the first batch item begin; those of the next are `buf.rows() · buf.channels()` values further.
    pub fn rows_address(&self, rows: Rows) -> u64 {
        let value = rows.buf.element.bytes(ACTIVATION_BYTES);
        self.address(rows.buf) + (rows.first * rows.buf.channels() * value) as u64
    }

    pub fn matrix(&self, matrix: Matrix) -> memory::Matrix {
        let address = self.target.weights.map_or(0, |weights| weights.matrix(matrix.index));
        memory::Matrix { address, stride: memory::stride(matrix.k) }
    }

    pub fn vector(&self, vector: Vector) -> u64 {
        self.target.weights.map_or(0, |weights| weights.vector(vector.index))
    }

    /// 0 where there is none.
    pub fn optional_vector(&self, vector: Option<Vector>) -> u64 {
        vector.map_or(0, |vector| self.vector(vector))
    }

    /// Where the blocks of a product that is cut in parts meet: in a place of the arena that nothing else has during this step, or
    /// where there is none in the device's workspace.
    pub fn split_k(&mut self, tiling: &Tiling) -> SplitK {
        let (parts, bytes) = (tiling.config.parts, tiling.partial_sums());
        if parts == 1 {
            return SplitK::whole();
        }
        let place = self.plan.gap(self.step, bytes).map(|offset| self.target.arena + offset as u64);
        if place.is_none() {
            self.workspace_bytes = self.workspace_bytes.max(bytes);
        }
        self.target.workspace.split_k(place, parts)
    }

    /// What a kernel is told of a tensor for bulk copies; nothing of one on a GPU that is not there.
    pub fn tensor_map(&self, spec: &TensorMapSpec<'_>) -> std::result::Result<TensorMap, String> {
        match self.target.weights {
            Some(_) => driver::encode(spec).map_err(|error| error.to_string()),
            None => Ok(TensorMap::zeroed()),
        }
    }

    /// The kernel of this name in the file that is named as it.
    pub fn kernel(&self, name: &str) -> std::result::Result<KernelId, String> {
        self.find(name, |kernel| kernel.name == name)
    }

    /// The first kernel of kernels/`module`.cu that does.
    pub fn find(&self, module: &str, does: impl Fn(&KernelId) -> bool) -> std::result::Result<KernelId, String> {
        modules::kernels(module).find(does).ok_or_else(|| format!("no kernel of {module}.cu takes it"))
    }

    /// The kernel of kernels/`module`.cu that serves at least so many channels, and fewest.
    pub fn narrowest(&self, module: &str, channels: usize) -> std::result::Result<KernelId, String> {
        let all = || modules::kernels(module).filter(|kernel| kernel.spec.most > 0);
        all().filter(|kernel| kernel.spec.most >= channels).min_by_key(|kernel| kernel.spec.most).ok_or_else(|| {
            let most = all().map(|kernel| kernel.spec.most).max().unwrap_or(0);
            format!("{channels} channels, and a GPU takes {most} at most")
        })
    }

    pub fn launch<P: NoUninit>(&mut self, kernel: KernelId, grid: [usize; 3], params: &P) -> Refused {
        self.launch_tiled(kernel, grid, params, None)
    }

    /// The same of a product's kernel.
    pub fn launch_tiled<P: NoUninit>(
        &mut self,
        kernel: KernelId,
        grid: [usize; 3],
        params: &P,
        tiling: Option<Tiling>,
    ) -> Refused {
        let modules::Kernel { name, params: bytes, .. } = *kernel;
        assert_eq!(bytes, size_of::<P>(), "the parameter of {name} differs between kernel and host");
        let [Ok(x), Ok(y), Ok(z)] = grid.map(u32::try_from) else {
            return Err(format!("{name} would need a grid of {grid:?} blocks; try a smaller size"));
        };
        let mut words = [0; PARAM_WORDS];
        bytemuck::cast_slice_mut(&mut words)[..bytes].copy_from_slice(bytemuck::bytes_of(params));
        self.launches.push(Launch { kernel, grid: [x, y, z], tiling, params: words });
        Ok(())
    }
}

impl fmt::Display for Launch {
    /// "gemm_128x128_half on 8×24×1"
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.grid;
        write!(f, "{} on {x}×{y}×{z}", self.kernel.name)
    }
}
