//! The quick rehearsal: the bundle of what `cargo test` has built, run on the virtual GPU as it will be on a real one.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::bundle::{self, Profile};
use crate::{Outcome, Places, library};

/// At most three minutes.
pub fn run(places: &Places, nvcc: Option<&Path>) -> Outcome {
    let started = Instant::now();
    let bundle = bundle::make(places, Profile::Dev)?;
    let results = places.target.join("rehearsal");
    let mut stages = Command::new(bundle.join("run.sh"));
    stages.args(["--dry", "--quick", "--out"]).arg(&results).stdin(Stdio::null());
    stages.env("LD_LIBRARY_PATH", library::search_path(places)?).env_remove("STAGES").env_remove("LSEG_PATIENCE");
    match nvcc {
        Some(nvcc) => stages.env("LSEG_NVCC", nvcc),
        None => stages.env_remove("LSEG_NVCC"),
    };
    let output = stages.output().map_err(|e| format!("{}: {e}", bundle.join("run.sh").display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "{said}\nthe bundle's rehearsal failed ({}); see {}",
            output.status,
            results.join("log.txt").display()
        ));
    }
    eprintln!(
        "rehearsed: the bundle for a real GPU, its nine stages with small shapes on the virtual one, in {:.0} s ({})",
        started.elapsed().as_secs_f64(),
        results.display()
    );
    // Links to programs that the next build replaces.
    fs::remove_dir_all(&bundle).map_err(|e| format!("{}: {e}", bundle.display()))
}
