//! A result folder becomes a part of the repository: `benches/runs/<date>-<gpu>/` with the files, a page and the rates
//! for the predictions, and docs/gpu.md of all runs.

pub mod rates;
mod slug;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use self::rates::{BOARDS, Rates};
use crate::results::{Results, compressed};
use crate::{Outcome, record, report};

const RUNS: &str = "benches/runs";
const PAGE: &str = "docs/gpu.md";
/// The page beside a run's files.
const OWN_PAGE: &str = "gpu.md";
const OWN_RATES: &str = "rates.json";
/// Larger files are compressed, but for the records, by which a run is told.
const LARGE: u64 = 1 << 20;
/// A result folder holds no more than that.
const FILES: [&str; 8] =
    [record::FILE, "clocks.csv", "wgmma_bits.bin", "ncu.csv", "sanitizer.txt", "sweep.jsonl", "torch.json", "log.txt"];

/// What to import, and where to.
pub struct Import<'a> {
    pub from: &'a Path,
    /// The repository, or another folder that gets the same files.
    pub root: &'a Path,
    /// Whether a rehearsal may be imported.
    pub dry: bool,
    /// Whether the predictions' table takes the rates.
    pub rates: bool,
}

impl Import<'_> {
    /// What was done, in lines.
    pub fn run(&self) -> Outcome<Vec<String>> {
        let results = Results::read(self.from)?;
        if results.is_dry() && !self.dry {
            return Err(format!(
                "{}: a rehearsal, whose numbers mean nothing; --dry-ok --out FOLDER writes its pages elsewhere",
                self.from.display()
            ));
        }
        let name = slug::name(&results)?;
        let folder = self.folder(&name)?;
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for file in FILES {
            keep(&self.from.join(file), &folder.join(file))?;
        }
        write(&folder.join(OWN_PAGE), &format!("# {name}\n\n{}", report::body(&results)))?;
        let mut said = vec![format!("wrote {}", folder.display())];
        said.push(self.rates(&results, &folder)?);
        said.push(write_page(self.root)?);
        Ok(said)
    }

    /// The same results go to the same folder; others of that day and GPU to one with a number.
    fn folder(&self, name: &str) -> Outcome<PathBuf> {
        let results = fs::read(self.from.join(record::FILE)).map_err(|e| format!("{}: {e}", self.from.display()))?;
        let numbered = (2..100).map(|number| format!("{name}-{number}"));
        for name in [name.to_owned()].into_iter().chain(numbered) {
            let folder = self.root.join(RUNS).join(name);
            if !folder.exists() || fs::read(folder.join(record::FILE)).is_ok_and(|there| there == results) {
                return Ok(folder);
            }
        }
        Err(format!("{RUNS} holds a hundred runs of {name}"))
    }

    fn rates(&self, results: &Results, folder: &Path) -> Outcome<String> {
        let rates = match Rates::of(results) {
            Ok(rates) => rates,
            Err(reason) if self.rates => return Err(reason),
            Err(reason) => return Ok(format!("no {OWN_RATES}: {reason}")),
        };
        write(&folder.join(OWN_RATES), &rates.json()?)?;
        if !self.rates {
            return Ok(format!("wrote {OWN_RATES}; --rates takes it over into {BOARDS}"));
        }
        rates.replace(&self.root.join(BOARDS))?;
        Ok(format!("{BOARDS}: {} as measured", rates.name))
    }
}

/// docs/gpu.md, of what lies in benches/runs.
pub fn write_page(root: &Path) -> Outcome<String> {
    let path = root.join(PAGE);
    write(&path, &page(root)?)?;
    Ok(format!("wrote {}", path.display()))
}

/// What docs/gpu.md should be.
pub fn page(root: &Path) -> Outcome<String> {
    let mut runs = Vec::new();
    for entry in fs::read_dir(root.join(RUNS)).into_iter().flatten() {
        let folder = entry.map_err(|e| format!("{RUNS}: {e}"))?.path();
        // Runs on a CPU have other files.
        if let (Some(name), true) =
            (folder.file_name().and_then(|name| name.to_str()), folder.join(record::FILE).is_file())
        {
            runs.push((name.to_owned(), Results::read(&folder)?));
        }
    }
    runs.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(report::page(&runs))
}

/// A copy, compressed if it is large; nothing where there is nothing.
fn keep(from: &Path, to: &Path) -> Outcome {
    let Ok(about) = fs::metadata(from) else { return Ok(()) };
    let is_large = about.len() > LARGE && !to.ends_with(record::FILE);
    let kept = if is_large { compress(from, to) } else { fs::copy(from, to).map(|_| ()) };
    kept.map_err(|e| format!("{} to {}: {e}", from.display(), to.display()))
}

fn compress(from: &Path, to: &Path) -> io::Result<()> {
    let mut encoder = GzEncoder::new(File::create(compressed(to))?, Compression::best());
    io::copy(&mut File::open(from)?, &mut encoder)?;
    encoder.finish().map(|_| ())
}

fn write(path: &Path, text: &str) -> Outcome {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(path, text));
    written.map_err(|e| format!("{}: {e}", path.display()))
}
