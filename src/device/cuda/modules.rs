//! The kernel modules as build.rs embedded them, and which of their images a GPU takes.

use std::io::Read;
use std::ops::Deref;
use std::sync::Arc;

use flate2::read::ZlibDecoder;

use super::codes::Code;
use super::driver::{Function, Image, Module, Stream};
use super::tiles::Family;
use super::wgmma;

use crate::error::{Error, Result};

/// What build.rs made of one kernels/*.cu or kernels/sm90/*.cu.
pub struct EmbeddedModule {
    /// "gemm" for kernels/gemm.cu, "sm90/gemm" for kernels/sm90/gemm.cu
    pub module: &'static str,
    /// By architecture: 80 is sm_80, 90 is sm_90a.
    pub cubins: &'static [(u32, Packed)],
    /// For GPUs and drivers that take none of these: 80 is compute_80, for all of them, 90 is compute_90a, for 9.0 alone.
    pub ptx: &'static [(u32, Packed)],
    pub kernels: &'static [Kernel],
}

/// An image as the program holds it: its length in eight bytes, then a zlib stream.
pub struct Packed(&'static [u8]);

impl Packed {
    /// The image, and a NUL behind it: the driver looks for the end of PTX.
    pub fn unpacked(&self) -> Vec<u8> {
        let (length, stream) = self.0.split_first_chunk().expect("build.rs writes the length");
        let mut image = Vec::with_capacity(u64::from_le_bytes(*length) as usize + 1);
        ZlibDecoder::new(stream).read_to_end(&mut image).expect("build.rs writes whole streams");
        image.push(0);
        image
    }
}

/// A kernel as its PTX declares it, and the most that ptxas gave it on any of the architectures built for.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    pub name: &'static str,
    /// Threads of a block, by its launch bound.
    pub threads: u32,
    /// Bytes of its parameter.
    pub params: usize,
    pub registers: u32,
    /// Bytes known at compile time.
    pub static_shared: u32,
    /// Bytes in local memory; the build fails where there are any.
    pub spills: u32,
    pub spec: Spec,
}

/// What a kernel declares of itself (kernels/spec.cuh).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// Bytes of shared memory that a launch adds.
    pub shared: u32,
    /// Rows and columns of the output that a block makes (rows, pixels, queries; columns, channels, labels): 0 where it is not by
    /// tiles.
    pub rows: usize,
    pub columns: usize,
    /// Depth of a stage (products), keys of a step (attention), values that a thread takes at once (chunks, vectors, pairs),
    /// pixels taken together (strips).
    pub step: usize,
    /// The most channels or features that it serves, or taps along a side of its filter; 0: any.
    pub most: usize,
    /// Values or bytes of a block's or warp's own memory, where the host cuts work to fit.
    pub room: usize,
    /// Which of the kernels of its file it is beside that: flags of `variant`.
    pub variant: u32,
    /// Blocks of a cluster, along x; 0: none.
    pub cluster: u32,
    /// Parts of the depth that blocks of a cluster sum up together; 0: it has no such blocks.
    pub parts: u32,
    /// Columns that each of these stores, and rows of a warpgroup, in whose boxes it does.
    pub own: usize,
    pub group: u32,
}

include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// sm_90a, compute_90a.
const HOPPER: u32 = 90;
/// The folder of the kernels for it alone.
const HOPPER_FOLDER: &str = "sm90/";

impl EmbeddedModule {
    /// Whether every GPU can have it.
    fn is_for_all(&self) -> bool {
        self.ptx.iter().any(|(level, _)| *level != HOPPER)
    }
}

/// A kernel of the program: its place in [`MODULES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelId {
    module: usize,
    kernel: usize,
}

impl KernelId {
    /// Which of two families it is of; none of an operation that has one.
    pub fn family(self) -> Option<Family> {
        let of_hopper = |embedded: &EmbeddedModule| embedded.module.strip_prefix(HOPPER_FOLDER);
        let own = &MODULES[self.module];
        match of_hopper(own) {
            Some(_) => Some(Family::Warpgroups),
            None => MODULES.iter().any(|other| of_hopper(other) == Some(own.module)).then_some(Family::Warps),
        }
    }
}

impl Deref for KernelId {
    type Target = Kernel;

    fn deref(&self) -> &Kernel {
        &MODULES[self.module].kernels[self.kernel]
    }
}

/// The kernels of kernels/`module`.cu; none in a build without nvcc.
pub fn kernels(module: &str) -> impl Iterator<Item = KernelId> + use<> {
    let found = MODULES.iter().position(|embedded| embedded.module == module);
    found
        .into_iter()
        .flat_map(|module| (0..MODULES[module].kernels.len()).map(move |kernel| KernelId { module, kernel }))
}

/// Every kernel, loaded on one GPU.
pub struct Library {
    modules: Vec<LoadedModule>,
    /// As [`MODULES`] has them; none of a module that is not loaded, and of one that was replaced what it has.
    functions: Vec<Vec<Option<Function>>>,
}

/// A module as a GPU has it.
#[derive(Clone, Debug)]
pub struct LoadedModule {
    /// "gemm" for kernels/gemm.cu, "sm90/gemm" for kernels/sm90/gemm.cu
    pub module: &'static str,
    pub image: Image,
    /// The machine code for this GPU that the driver did not take, and its error, where the image is PTX for that reason.
    pub refused: Option<String>,
}

impl Library {
    /// Each module as machine code where the GPU and its driver take it, else as PTX; by its name from `replaced` instead. Modules
    /// for other GPUs, and for newer drivers, are left out.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device): a GPU or driver too old.
    pub fn load(stream: &Arc<Stream>, replaced: &[(&str, &str)]) -> Result<Library> {
        let (mut modules, mut functions) = (Vec::new(), Vec::new());
        for embedded in MODULES {
            let loader = Loader { stream, replaced };
            let Some((module, refused)) = loader.module(embedded)? else {
                functions.push(Vec::new());
                continue;
            };
            modules.push(LoadedModule { module: embedded.module, image: module.image(), refused });
            let given = replaced.iter().find(|(name, _)| *name == embedded.module).map(|(_, ptx)| ptx);
            let is_there = |kernel: &Kernel| given.is_none_or(|ptx| ptx.contains(&format!(".entry {}(", kernel.name)));
            let function = |kernel| is_there(kernel).then(|| module.function(stream, kernel)).transpose();
            functions.push(embedded.kernels.iter().map(function).collect::<Result<_>>()?);
        }
        Ok(Library { modules, functions })
    }

    /// Whether the kernels of warpgroups are loaded.
    pub fn has_warpgroups(&self) -> bool {
        self.modules.iter().any(|loaded| loaded.module == wgmma::MODULE)
    }

    /// Whether kernels wait for the launch before them, so that they may overlap it.
    pub fn waits(&self) -> bool {
        self.functions.iter().flatten().flatten().any(Function::waits)
    }

    pub fn modules(&self) -> &[LoadedModule] {
        &self.modules
    }

    /// # Errors
    /// The PTX that replaces its module has no such kernel.
    pub fn function(&self, kernel: KernelId) -> Result<&Function> {
        let found = self.functions[kernel.module].get(kernel.kernel).and_then(Option::as_ref);
        found.ok_or_else(|| Error::Device(format!("the PTX that was given has no kernel {}", kernel.name)))
    }
}

struct Loader<'a> {
    stream: &'a Arc<Stream>,
    /// PTX in the place of some modules' images.
    replaced: &'a [(&'a str, &'a str)],
}

impl Loader<'_> {
    /// The module, and which machine code the driver refused although it should fit; none of one that is not for this GPU and
    /// driver.
    fn module(&self, embedded: &'static EmbeddedModule) -> Result<Option<(Arc<Module>, Option<String>)>> {
        if let Some((name, ptx)) = self.replaced.iter().find(|(name, _)| *name == embedded.module) {
            let ended = [ptx.as_bytes(), &[0]].concat();
            let module = self
                .stream
                .module(Image::Ptx, level_of(ptx), &ended)
                .map_err(|code| self.stream.failed(code, &format!("loading the PTX given for {name}.cu")))?;
            return Ok(Some((module, None)));
        }
        let (mut refused, mut last) = (None, None);
        for (image, level, packed) in self.candidates(embedded) {
            match self.stream.module(image, level, &packed.unpacked()) {
                Ok(module) => return Ok(Some((module, refused))),
                Err(code) if !code.refuses_image() => {
                    let what = format!("loading the kernels of {}.cu ({image})", embedded.module);
                    return Err(self.stream.failed(code, &what));
                }
                Err(code) => {
                    last = Some(code);
                    if image != Image::Ptx {
                        refused = Some(format!("{image}: CUDA error {}", code.0));
                    }
                }
            }
        }
        match last.filter(|_| embedded.is_for_all()) {
            Some(code) => Err(self.too_old(embedded, code)),
            None => Ok(None),
        }
    }

    fn too_old(&self, embedded: &EmbeddedModule, code: Code) -> Error {
        let (info, name) = (self.stream.info(), embedded.module);
        let (major, minor) = info.capability;
        let version = format!("{}.{}", info.driver / 1000, info.driver % 1000 / 10);
        let need = "a GPU of compute capability 8.0 and a driver for CUDA 11.4 (470) or newer are needed";
        let has = format!("{} has compute capability {major}.{minor} and a driver for CUDA {version}", info.name);
        self.stream.failed(code, &format!("loading the kernels of {name}.cu (PTX): {has}, and {need}"))
    }

    /// The images that should fit, best first, each with what it was compiled for.
    fn candidates(&self, embedded: &'static EmbeddedModule) -> impl Iterator<Item = (Image, u32, &'static Packed)> {
        let (major, minor) = self.stream.info().capability;
        // Code runs on its own architecture and later ones of the same major number; Hopper's, which is sm_90a, on its own alone.
        let fits = move |arch: u32| arch / 10 == major && (arch % 10 == minor || arch % 10 < minor && arch != HOPPER);
        let cubin = embedded.cubins.iter().filter(move |(arch, _)| fits(*arch)).max_by_key(|(arch, _)| *arch);
        let texts = embedded.ptx.iter().rev().filter(move |(level, _)| *level != HOPPER || fits(HOPPER));
        let cubin = cubin.map(|(arch, packed)| (Image::Cubin(*arch), *arch, packed));
        cubin.into_iter().chain(texts.map(|(level, packed)| (Image::Ptx, *level, packed)))
    }
}

/// 90 of a text with `.target sm_90a`; 0 of one without.
fn level_of(ptx: &str) -> u32 {
    let target = ptx.split_once("\n.target sm_").map_or("", |(_, target)| target);
    target.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
