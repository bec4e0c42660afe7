//! Result folders, whole ones and spoilt ones, into a repository.

use std::fs;
use std::path::{Path, PathBuf};

use gpu_run::import::{self, Import};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("xtask-import-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn import(from: &Path, into: &Folder, dry: bool, rates: bool) -> Result<Vec<String>, String> {
    Import { from, root: &into.0, dry, rates }.run()
}

#[test]
fn the_page_is_what_the_runs_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let expected = import::page(root).unwrap();
    let found = fs::read_to_string(root.join("docs/gpu.md")).unwrap();
    assert!(found == expected, "docs/gpu.md is not what benches/runs says: `cargo xtask import` writes it anew");
}

#[test]
fn without_a_run_the_page_says_so() {
    let into = Folder::new("none");
    import::write_page(&into.0).unwrap();
    assert!(into.read("docs/gpu.md").contains("Nothing has run on silicon yet"));
}

#[test]
fn a_rehearsal_stays_out_of_the_repository() {
    let into = Folder::new("dry");
    let reason = import(&data("dry"), &into, false, false).unwrap_err();
    assert!(reason.contains("--dry-ok"), "{reason}");
    import(&data("dry"), &into, true, false).unwrap();
    let run = fs::read_dir(into.0.join("benches/runs")).unwrap().next().unwrap().unwrap().path();
    assert!(run.join("result.jsonl").is_file() && run.join("gpu.md").is_file());
    let page = into.read("docs/gpu.md");
    for words in
        ["## Correctness", "bench check", "tests host", "## A frame against PyTorch", "lseg-fast", "layer_norm", "hbm"]
    {
        assert!(page.contains(words), "{words:?} is not in {page}");
    }
}

/// tests/data/made_up with as much of boards.json as matters.
fn made_up(name: &str) -> Folder {
    let into = Folder::new(name);
    let board = |name: &str, ghz: &str| {
        format!(
            "{{\"name\":\"{name}\",\"capability\":[9,0],\"multiprocessors\":1,\"ghz\":{ghz},\"l2_gb_per_s\":1,\"memory_gb_per_s\":1,\
             \"launch_us\":1,\"overlapped_launch_us\":1,\"fill_clocks\":1,\"source\":\"estimates\"}}"
        )
    };
    into.write("src/bench/boards.json", &format!("[{},{}]", board("orin", "1.30"), board("h100", "1.83")));
    into
}

#[test]
fn every_number_of_a_run_stands_in_its_row() {
    let into = made_up("rows");
    import(&data("made_up"), &into, false, false).unwrap();
    let page = into.read("docs/gpu.md");
    for row in [
        "| [2026-01-02-h100-80gb-hbm3](../benches/runs/2026-01-02-h100-80gb-hbm3/gpu.md) | NVIDIA H100 80GB HBM3 | cut off before its end |",
        "| driver | for CUDA 13.0 |",
        "| kernels run as | cubin sm_90 (1 modules) |",
        "| products | warpgroups (wgmma) of sm_90a |",
        "| launches | launches overlap: programmatic edges |",
        "| nvidia-smi | NVIDIA H100 80GB HBM3, 580.95.05 |",
        "| 2 correct | FAILED | 50.0 | bench check: exit code 1: gemm is wrong |",
        "| bench check | FAILED | 90 cases, 30 kernels, 4 networks, failed: gemm 901×1024 \\| odd | exit code 1: gemm is wrong |",
        "| agreement | ok | largest error of the scores 0.220 % of their range, masks equal in 99.700 %, where decided in 100.000 %, \
         PyTorch's in half 0.200 % |  |",
        "| racecheck | 2 | FAILED | 2 errors |",
        // Medians of three rounds, the worst round's tails; against compile, the fastest of PyTorch's.
        "| lseg-fast | mask | 2.500 | 2.700 | 2.800 | 2.700 | 2.900 | 3.000 | 1.06 | 900 | – | – | 1980 |",
        "| compile-max | mask | – | – | – | – | – | – | – | 0 | – | absent: not ready | – |",
        "| gemm 901×1024 · 1024→4096 gelu | warpgroups | wgmma_128x128_c2_p2 | cubin sm_90 | 128×128 / 2 | 2×2 | 256×1×1 | 1e-4 | 9.50 | \
         9.75 | 794.9 | 80 % tensor cores | 15.50 | 14.00 | 10.00 | 0.95 |",
        "| gemm 901×1024 · 1024→4096 gelu | warps, not chosen | gemm_128x64_half | cubin sm_90 | 128×64 / 2 | – | 16×8×2 | 2e-4 | 12.50 | 12.50 | 604.1 | \
         61 % tensor cores | 15.50 | 14.00 | 10.00 | 1.25 |",
        "| argmax | – | argmax | cubin sm_90 | 128×64 / 2 | – | 16×8×2 | 2e-4 | – | – | 604.1 | 61 % tensor cores | – | 0.00 | – | – |",
        "| sdpa 901x16x64 | flash | 21.50 |",
        "| gemm 901×1024 · 1024→4096 | gemm_128x64_half | 12.50 | gemm_128x128_half / 2 | 10.00 | 1.25 | 4 | 1 |",
        "| hbm | image cubin sm_90, mb 1073.7, what read | 3000.000 | 3000.000 | 3000.000 | GB/s | 1980 |",
        "| clusters | cluster 16 | – | – | – | absent: no such cluster fits | – |",
        "| SM clock, MHz | 345 | 345 | 1980 |",
        "2 lines of result.jsonl could not be read.",
    ] {
        assert!(page.contains(row), "{row:?} is not in {page}");
    }
}

#[test]
fn the_predictions_take_over_what_was_measured() {
    let into = made_up("rates");
    import(&data("made_up"), &into, false, true).unwrap();
    let rates = into.read("benches/runs/2026-01-02-h100-80gb-hbm3/rates.json");
    let rates: serde_json::Value = serde_json::from_str(&rates).unwrap();
    assert_eq!((&rates["name"], &rates["multiprocessors"]), (&"h100".into(), &132.into()));
    // 660 TFLOP/s on 132 multiprocessors at 1.97 GHz.
    for (name, value) in [
        ("ghz", 1.97),
        ("tensor_flop", 2538.0),
        ("l2_gb_per_s", 7000.0),
        ("memory_gb_per_s", 3000.0),
        ("launch_us", 1.23),
        ("overlapped_launch_us", 0.5),
        ("fill_clocks", 1601.0),
    ] {
        assert_eq!(rates[name], value, "{name}");
    }
    let boards = into.read("src/bench/boards.json");
    let boards: serde_json::Value = serde_json::from_str(&boards).unwrap();
    assert_eq!((&boards[0]["ghz"], &boards[0]["source"]), (&1.3.into(), &"estimates".into()));
    assert!(boards[0].get("tensor_flop").is_none(), "it was not measured");
    assert_eq!((&boards[1]["ghz"], &boards[1]["tensor_flop"]), (&1.97.into(), &2538.0.into()));
    assert_eq!(boards[1]["overlapped_launch_us"], 0.5);
    assert!(boards[1]["source"].as_str().unwrap().contains("2026-01-02"));
}

#[test]
fn the_same_run_comes_once_and_another_beside_it() {
    let into = made_up("twice");
    for _ in 0..2 {
        import(&data("made_up"), &into, false, false).unwrap();
    }
    let other = Folder::new("other");
    let text = fs::read_to_string(data("made_up").join("result.jsonl")).unwrap();
    other.write("result.jsonl", &text.lines().take(12).map(|line| format!("{line}\n")).collect::<String>());
    let large: String = (0..200_000).map(|i| format!("line {i}\n")).collect();
    other.write("log.txt", &large);
    import(&other.0, &into, false, false).unwrap();
    let mut runs: Vec<_> = fs::read_dir(into.0.join("benches/runs")).unwrap().map(|e| e.unwrap().file_name()).collect();
    runs.sort();
    assert_eq!(runs, ["2026-01-02-h100-80gb-hbm3", "2026-01-02-h100-80gb-hbm3-2"]);
    let second = into.0.join("benches/runs").join(&runs[1]);
    assert!(second.join("log.txt.gz").is_file() && !second.join("log.txt").exists());
    assert!(!second.join("rates.json").exists(), "not all rates were measured");
    assert!(into.read("docs/gpu.md").contains("The newest, 2026-01-02-h100-80gb-hbm3-2"));
}

#[test]
fn what_is_no_result_folder_is_refused() {
    let (into, from) = (Folder::new("into"), Folder::new("from"));
    assert!(import(&from.0, &into, false, false).unwrap_err().contains("result.jsonl"));
    from.write(
        "result.jsonl",
        "{\"stage\":0,\"name\":\"begin\",\"ok\":true,\"data\":{\"date\":\"../../../../etc\"}}\n",
    );
    assert!(import(&from.0, &into, false, false).unwrap_err().contains("no date"));
    from.write(
        "result.jsonl",
        "{\"stage\":0,\"name\":\"begin\",\"ok\":true,\"data\":{\"date\":\"2026-01-02T00:00:00Z\"}}\n",
    );
    assert!(import(&from.0, &into, false, false).unwrap_err().contains("names no GPU"));
    assert!(!into.0.join("benches").exists());
}
