//! The machine's tools: where they are, or why they are not used.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::budget::Mode;
use super::places::Bundle;

/// A program that may not be there.
pub type Tool = Result<PathBuf, String>;

pub struct Tools {
    pub nvidia_smi: Tool,
    pub nvcc: Tool,
    pub ncu: Tool,
    pub compute_sanitizer: Tool,
    pub python: Tool,
}

/// Where CUDA's tools are beside PATH.
const CUDA: &str = "/usr/local/cuda/bin";
const IN_WHEELS: &str = "cuda/nvidia/cu13/bin/nvcc";

impl Tools {
    pub fn find(bundle: &Bundle, mode: Mode) -> Tools {
        let real = |name: &str| match mode {
            Mode::Real => searched(name, &[PathBuf::from(CUDA).join(name)]),
            Mode::Dry | Mode::Quick => Err(format!("{name}: of no use on a virtual GPU")),
        };
        Tools {
            nvidia_smi: real("nvidia-smi"),
            ncu: real("ncu"),
            compute_sanitizer: real("compute-sanitizer"),
            nvcc: named("LSEG_NVCC")
                .unwrap_or_else(|| searched("nvcc", &[bundle.beside(IN_WHEELS), PathBuf::from(CUDA).join("nvcc")])),
            // It needs half a minute of two cores to be loaded.
            python: match mode {
                Mode::Quick => Err("PyTorch: left out of a quick rehearsal".to_owned()),
                Mode::Real | Mode::Dry => named("LSEG_PYTHON").unwrap_or_else(|| python(bundle)),
            },
        }
    }
}

/// One that a variable insists on.
fn named(variable: &str) -> Option<Tool> {
    let path = PathBuf::from(std::env::var_os(variable).filter(|path| !path.is_empty())?);
    Some(match path.is_file() {
        true => std::path::absolute(&path).map_err(|e| format!("{variable}={}: {e}", path.display())),
        false => Err(format!("{variable}={}: there is no such file", path.display())),
    })
}

/// The repository's own environment where the bundle lies in its target folder, else the machine's.
fn python(bundle: &Bundle) -> Tool {
    let own = bundle.beside("../tests/golden/.venv/bin/python");
    if own.is_file() { Ok(own) } else { searched("python3", &[]) }
}

/// In PATH, then at these places.
fn searched(name: &str, others: &[PathBuf]) -> Tool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    let found = in_path.chain(others.iter().cloned()).find(|path| path.is_file());
    found.ok_or(format!("{name}: neither in PATH nor in {CUDA}"))
}

/// The library path of our own programs, and what was changed in it.
pub struct Libraries {
    pub path: OsString,
    /// Where cuBLAS is.
    pub cublas: Option<PathBuf>,
    /// A toolkit's stubs answer every call of the driver with an error.
    pub stubs: Vec<PathBuf>,
    pub virtual_gpu: Option<PathBuf>,
}

impl Libraries {
    pub fn find(bundle: &Bundle, mode: Mode, python: Option<&Path>, links: &Path) -> Libraries {
        let given = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let given = std::env::split_paths(&given).filter(|folder| !folder.as_os_str().is_empty());
        let (stubs, mut folders): (Vec<PathBuf>, Vec<PathBuf>) = given.partition(|folder| is_stub(folder, bundle));
        let virtual_gpu = (mode != Mode::Real).then(|| virtual_gpu(bundle, &folders)).flatten();
        if let Some(folder) = virtual_gpu.as_deref().and_then(Path::parent) {
            folders.insert(0, folder.to_path_buf());
        }
        let cublas = cublas_folders(&folders, python).into_iter().find_map(|folder| cublas_in(&folder));
        if let Some(file) = &cublas {
            folders.extend(plainly_named(file, links));
            folders.extend(file.parent().map(Path::to_path_buf));
        }
        // Folders that were in a path can be joined to one.
        let path = std::env::join_paths(&folders).unwrap_or_default();
        Libraries { path, cublas, stubs, virtual_gpu }
    }
}

/// By its name, or because the program says so of what it finds there.
fn is_stub(folder: &Path, bundle: &Bundle) -> bool {
    let is_named_so = folder.components().any(|part| part.as_os_str() == "stubs");
    is_named_so || (folder.join("libcuda.so").is_file() && answers_as_a_stub(folder, bundle))
}

fn answers_as_a_stub(folder: &Path, bundle: &Bundle) -> bool {
    let mut program = Command::new(bundle.program());
    program.args(["bench", "device"]).env("LD_LIBRARY_PATH", folder).stdin(Stdio::null());
    let said = program.output().map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
    said.is_ok_and(|said| said.contains("CUDA_ERROR_STUB_LIBRARY"))
}

/// The one that was given, else the one that was built beside the bundle.
fn virtual_gpu(bundle: &Bundle, given: &[PathBuf]) -> Option<PathBuf> {
    let beside = bundle.beside("vgpu");
    let library = |folder: &PathBuf| Some(folder.join("libcuda.so")).filter(|file| file.is_file());
    given.iter().find_map(library).or_else(|| library(&beside)).and_then(|file| std::path::absolute(file).ok())
}

/// The loader's path, PyTorch's own copy, the toolkit's.
fn cublas_folders(given: &[PathBuf], python: Option<&Path>) -> Vec<PathBuf> {
    let mut folders = given.to_vec();
    let environments =
        python.and_then(|python| python.parent()?.parent()).into_iter().chain([Path::new("/opt/torch/.venv")]);
    for lib in environments.map(|environment| environment.join("lib")) {
        for version in entries(&lib) {
            folders.extend(entries(&version.join("site-packages/nvidia")).into_iter().map(|part| part.join("lib")));
        }
    }
    folders.extend(["/usr/local/cuda/lib64", "/usr/lib/x86_64-linux-gnu"].map(PathBuf::from));
    folders
}

fn cublas_in(folder: &Path) -> Option<PathBuf> {
    ["libcublas.so.13", "libcublas.so.12"].iter().map(|name| folder.join(name)).find(|file| file.is_file())
}

/// A folder in which cuBLAS and cuBLASLt have the names without a version, under which our program looks for them: PyTorch's copies
/// have none such. Where the links cannot be made the program says that cuBLAS is not there.
fn plainly_named(cublas: &Path, links: &Path) -> Option<PathBuf> {
    let version = cublas.file_name()?.to_str()?.strip_prefix("libcublas.so.")?;
    std::fs::create_dir_all(links).ok()?;
    for library in ["libcublas.so", "libcublasLt.so"] {
        let link = links.join(library);
        if !link.exists() {
            std::os::unix::fs::symlink(cublas.with_file_name(format!("{library}.{version}")), link).ok()?;
        }
    }
    Some(links.to_path_buf())
}

/// What lies in a folder, in order; nothing where there is none.
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cublas_is_found_under_the_name_that_it_is_looked_for_by() {
        let folder = std::env::temp_dir().join(format!("lseg-cublas-{}", std::process::id()));
        let links = folder.join("links");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["libcublas.so.13", "libcublasLt.so.13"] {
            std::fs::write(folder.join(name), name).unwrap();
        }
        let found = cublas_in(&folder).unwrap();
        // Twice: a folder may be used again.
        for _ in 0..2 {
            assert_eq!(plainly_named(&found, &links).as_deref(), Some(links.as_path()));
            for name in ["libcublas.so", "libcublasLt.so"] {
                assert_eq!(std::fs::read_to_string(links.join(name)).unwrap(), format!("{name}.13"));
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
