//! The kernels' images as build.rs embedded them, and which of them a GPU takes.

use std::cell::RefCell;
use std::io::Read;
use std::sync::Arc;

use flate2::read::ZlibDecoder;

use super::driver::{Function, Gpu, Image, Module, Spec};
use crate::error::Result;

/// What build.rs made of one kernels/*.cu.
pub struct Images {
    /// "gemm" for kernels/gemm.cu
    pub module: &'static str,
    /// By architecture (80 is sm_80).
    pub cubins: &'static [(u32, Packed)],
    /// For GPUs and drivers that take none of these.
    pub ptx: Packed,
    pub kernels: &'static [Resources],
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
pub struct Resources {
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
}

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// Loads modules on one GPU.
pub struct Library<'a> {
    gpu: &'a Arc<Gpu>,
    /// PTX in the place of some modules' images.
    replaced: &'a [(&'a str, &'a str)],
    loaded: RefCell<Vec<LoadedModule>>,
}

/// A module as a GPU has it.
#[derive(Clone, Debug)]
pub struct LoadedModule {
    /// "gemm" for kernels/gemm.cu
    pub module: &'static str,
    pub image: Image,
    /// The machine code for this GPU that the driver did not take, and its error, where the image is PTX for that reason.
    pub refused: Option<String>,
}

/// The kernels of one module.
pub struct Loaded {
    module: Arc<Module>,
    images: &'static Images,
}

impl<'a> Library<'a> {
    pub fn new(gpu: &'a Arc<Gpu>, replaced: &'a [(&'a str, &'a str)]) -> Library<'a> {
        Library { gpu, replaced, loaded: RefCell::new(Vec::new()) }
    }

    /// What was loaded so far, and as what.
    pub fn into_loaded(self) -> Vec<LoadedModule> {
        self.loaded.into_inner()
    }

    /// The module of kernels/`name`.cu: as machine code where the GPU and its driver take it, else as PTX.
    pub fn load(&self, name: &str) -> Result<Loaded> {
        let images = IMAGES.iter().find(|images| images.module == name).expect("every module is built");
        let (module, refused) = self.module(images)?;
        self.loaded.borrow_mut().push(LoadedModule { module: images.module, image: module.image(), refused });
        Ok(Loaded { module, images })
    }

    /// The module, and which machine code the driver refused although it should fit.
    fn module(&self, images: &Images) -> Result<(Arc<Module>, Option<String>)> {
        if let Some((name, ptx)) = self.replaced.iter().find(|(name, _)| *name == images.module) {
            let ended = [ptx.as_bytes(), &[0]].concat();
            let module = self
                .gpu
                .module(Image::Ptx, &ended)
                .map_err(|code| self.gpu.failed(code, &format!("loading the PTX given for {name}.cu")))?;
            return Ok((module, None));
        }
        let (major, minor) = self.gpu.info().capability;
        // Code runs on its own architecture and later ones of the same major number.
        let fits = |arch: u32| arch / 10 == major && arch % 10 <= minor;
        let best = images.cubins.iter().filter(|(arch, _)| fits(*arch)).max_by_key(|(arch, _)| *arch);
        let mut refused = None;
        if let Some((arch, cubin)) = best {
            match self.gpu.module(Image::Cubin(*arch), &cubin.unpacked()) {
                Ok(module) => return Ok((module, None)),
                Err(code) if code.refuses_image() => refused = Some(format!("cubin sm_{arch}: CUDA error {}", code.0)),
                Err(code) => {
                    let what = format!("loading the kernels of {}.cu (cubin sm_{arch})", images.module);
                    return Err(self.gpu.failed(code, &what));
                }
            }
        }
        let module = self.gpu.module(Image::Ptx, &images.ptx.unpacked()).map_err(|code| {
            let (info, name) = (self.gpu.info(), images.module);
            let what = format!("loading the kernels of {name}.cu (PTX)");
            if !code.refuses_image() {
                return self.gpu.failed(code, &what);
            }
            let version = format!("{}.{}", info.driver / 1000, info.driver % 1000 / 10);
            let need = "a GPU of compute capability 8.0 and a driver for CUDA 11.4 (470) or newer are needed";
            let has = format!("{} has compute capability {major}.{minor} and a driver for CUDA {version}", info.name);
            self.gpu.failed(code, &format!("{what}: {has}, and {need}"))
        })?;
        Ok((module, refused))
    }
}

impl Loaded {
    /// The kernel `name`, whose parameter is a `P`, for blocks with `dynamic_shared` bytes of shared memory.
    pub fn function<P>(&self, name: &str, dynamic_shared: u32) -> Result<Function> {
        let found = self.images.kernels.iter().find(|kernel| kernel.name == name);
        let kernel = found.unwrap_or_else(|| panic!("{}.cu has no kernel {name}", self.images.module));
        assert_eq!(kernel.params, size_of::<P>(), "the parameter of {name} differs between kernel and host");
        let Resources { name, threads, params, .. } = *kernel;
        self.module.function(Spec { name, threads, params, dynamic_shared })
    }
}
