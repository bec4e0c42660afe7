//! The runner on tools that only pretend (tests/fake), with faults planted in them one by one: each is reported, and
//! the rest goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

const FAKES: [&str; 7] = ["lseg-fast", "python3", "nvcc", "nvidia-smi", "compute-sanitizer", "ncu", "tests"];

/// A bundle and a machine around it, in a folder of its own.
struct Machine {
    folder: PathBuf,
}

impl Machine {
    fn new(name: &str) -> Machine {
        let folder = std::env::temp_dir().join(format!("xtask-runner-{}-{name}", std::process::id()));
        let machine = Machine { folder };
        let fakes = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake");
        let compiler = ("nvcc", machine.folder.join("tools/g++"));
        for (fake, place) in FAKES.iter().map(|fake| (*fake, machine.place(fake))).chain([compiler]) {
            install(&fakes.join(fake), &place);
        }
        install(Path::new(env!("CARGO_BIN_EXE_stages")), &machine.folder.join("bundle/bin/stages"));
        fs::create_dir_all(machine.folder.join("bundle/gpu")).unwrap();
        fs::write(machine.folder.join("bundle/commit.txt"), "0123456789abcdef\n").unwrap();
        fs::create_dir_all(machine.folder.join("bundle/wheel")).unwrap();
        fs::write(machine.folder.join("bundle/wheel/lseg_fast-0.0.0-cp310-abi3-any.whl"), "").unwrap();
        machine
    }

    fn place(&self, fake: &str) -> PathBuf {
        self.folder.join(match fake {
            "lseg-fast" | "tests" => format!("bundle/bin/{fake}"),
            tool => format!("tools/{tool}"),
        })
    }

    fn without(self, fake: &str) -> Machine {
        fs::remove_file(self.place(fake)).unwrap();
        self
    }

    fn out(&self) -> PathBuf {
        self.folder.join("results")
    }

    fn command(&self, fault: &str) -> Command {
        let mut command = Command::new(self.folder.join("bundle/bin/stages"));
        command.arg("--out").arg(self.out());
        // The real sh, sed and others are needed; a real nvcc must not be found.
        command.env("PATH", format!("{}:/usr/bin:/bin", self.folder.join("tools").display()));
        command.env("FAULT", fault).env("PIDS", self.folder.join("pids")).env("TMPDIR", &self.folder);
        for variable in ["OUT", "STAGES", "LSEG_NVCC", "LSEG_PYTHON", "LSEG_PATIENCE", "LD_LIBRARY_PATH"] {
            command.env_remove(variable);
        }
        command
    }

    fn run(&self, fault: &str, change: impl FnOnce(&mut Command)) -> Ran {
        let mut command = self.command(fault);
        change(&mut command);
        let output = command.output().unwrap();
        Ran { records: self.records(), output }
    }

    /// Every line of result.jsonl is whole, whatever has happened.
    fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.out().join("result.jsonl")).unwrap();
        assert!(text.ends_with('\n'), "{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// By another process: what this one had open for writing, a child of another test's would hold, and nobody could run
/// it.
fn install(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

struct Ran {
    records: Vec<Value>,
    output: Output,
}

impl Ran {
    #[track_caller]
    fn ends(&self, code: i32, verdict: &str) {
        let said = format!("{}{}", stdout(&self.output), String::from_utf8_lossy(&self.output.stderr));
        assert_eq!(self.output.status.code(), Some(code), "{said}");
        let last = self.records.last().unwrap();
        assert_eq!((&last["name"], &last["data"]["verdict"]), (&"end".into(), &verdict.into()), "{said}");
    }

    #[track_caller]
    fn record(&self, stage: u64, name: &str) -> &Value {
        let found = self.records.iter().find(|record| record["stage"] == stage && record["name"] == name);
        found.unwrap_or_else(|| panic!("no record {stage} {name}: {}", stdout(&self.output)))
    }

    #[track_caller]
    fn failed(&self, stage: u64, name: &str, why: &str) {
        let record = self.record(stage, name);
        assert_eq!(record["ok"], false, "{record}");
        assert!(record["why"].as_str().is_some_and(|said| said.contains(why)), "{record}");
    }

    #[track_caller]
    fn stages(&self, expected: &[u64]) {
        let ended = self.records.iter().filter(|record| record["name"] == "stage");
        assert_eq!(ended.map(|record| record["stage"].as_u64().unwrap()).collect::<Vec<_>>(), expected);
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn nine_stages_on_a_machine_that_has_everything() {
    let machine = Machine::new("whole");
    let ran = machine.run("", |_| ());
    ran.ends(0, "passed");
    ran.stages(&[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let mut files: Vec<_> = fs::read_dir(machine.out()).unwrap().map(|e| e.unwrap().file_name()).collect();
    files.sort();
    let expected = [
        "clocks.csv",
        "log.txt",
        "ncu.csv",
        "result.jsonl",
        "sanitizer.txt",
        "sweep.jsonl",
        "torch.json",
        "wgmma_bits.bin",
    ];
    assert_eq!(files, expected);
    let frames: Vec<&Value> = ran.records.iter().filter(|record| record["name"] == "frame").collect();
    // Ours (from two places), eager, graph and compile in three rounds, compile-max once; then embeddings, ours and PyTorch's best.
    assert_eq!(frames.len(), 3 * 5 + 1 + 3 * 2, "{frames:#?}");
    assert!(frames.iter().any(|frame| frame["data"]["who"] == "graph" && frame["data"]["what"] == "embed"));
    assert_eq!(ran.record(4, "agreement")["data"]["agreement"], 0.997);
    assert_eq!(ran.record(1, "micro")["data"]["median"], 3000.5);
    assert_eq!(ran.record(2, "wheel: PyTorch, CuPy")["data"]["passed"], 6);
    let text = stdout(&ran.output);
    let table: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("== ")).collect();
    assert!((10..=60).contains(&table.len()), "{text}");
    assert!(table.contains(&"verdict: passed"), "{text}");
    // Nothing stays behind in the folder for temporary files.
    let left = fs::read_dir(&machine.folder).unwrap().map(|e| e.unwrap().file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().starts_with("lseg-stages")));
}

#[test]
fn a_stage_that_hangs_is_ended_with_all_that_it_started() {
    let machine = Machine::new("hang");
    let begun = Instant::now();
    let ran = machine.run("hang", |command| {
        command.env("STAGES", "2").env("LSEG_PATIENCE", "0.05");
    });
    assert!(begun.elapsed() < Duration::from_secs(10));
    ran.ends(1, "failed");
    ran.failed(2, "bench check", "limit of 1.8 s");
    assert_eq!(ran.record(2, "tests host")["ok"], true);
    let process = fs::read_to_string(machine.folder.join("pids")).unwrap();
    assert!(!is_running(process.trim()), "{process}");
}

/// Whether it still runs in a moment: an ended process dies in its own time, and stays in the table until it is asked
/// about.
fn is_running(process: &str) -> bool {
    let until = Instant::now() + Duration::from_secs(2);
    let now = || {
        let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        status.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
    };
    while now() && Instant::now() < until {
        thread::sleep(Duration::from_millis(10));
    }
    now()
}

#[test]
fn what_is_not_correct_fails_the_run_and_ends_nothing() {
    let machine = Machine::new("wrong");
    let ran = machine.run("wrong", |command| {
        command.env("STAGES", "2,3 5");
    });
    ran.ends(1, "failed");
    ran.stages(&[0, 2, 3, 5]);
    ran.failed(2, "bench check", "gemm is wrong");
    assert_eq!(ran.record(2, "bench check")["data"]["failures"][0]["name"], "gemm 901×1024");
    let ran = machine.run("skipped", |command| {
        command.env("STAGES", "2");
    });
    ran.ends(1, "failed");
    ran.failed(2, "tests results", "no test passed");
    let ran = machine.run("wheel", |command| {
        command.env("STAGES", "2");
    });
    ran.ends(1, "failed");
    ran.failed(2, "wheel: places", "exit code 3");
    assert_eq!(ran.record(2, "wheel: errors")["ok"], true);
    fs::remove_dir_all(machine.folder.join("bundle/wheel")).unwrap();
    let ran = machine.run("", |command| {
        command.env("STAGES", "2");
    });
    ran.ends(1, "failed");
    ran.failed(2, "wheel", "bundle/wheel");
    let ran = machine.run("agree", |command| {
        command.env("STAGES", "4");
    });
    ran.ends(1, "failed");
    ran.failed(4, "agreement", "exit code 1");
    assert_eq!(ran.record(4, "agreement")["data"]["error"], 0.0022);
}

#[test]
fn tools_that_are_not_there_are_recorded() {
    let machine = ["nvcc", "nvidia-smi", "ncu"].into_iter().fold(Machine::new("bare"), Machine::without);
    let ran = machine.run("torch", |command| {
        command.env("STAGES", "1 2 4 5 7");
    });
    // Nothing was compared with PyTorch: that is no pass.
    ran.ends(1, "failed");
    ran.stages(&[0, 1, 2, 4, 5, 7]);
    for (stage, name) in
        [(0, "nvidia-smi"), (0, "clocks.csv"), (1, "build micro"), (7, "ncu"), (0, "prepare"), (4, "frame torch")]
    {
        assert_eq!(ran.record(stage, name)["missing"], true, "{name}");
    }
    assert_eq!(ran.record(4, "frame lseg-fast")["ok"], true);
    assert_eq!(ran.record(5, "kernel")["ok"], true);
    let failed = ran.records.last().unwrap()["data"]["failed"].to_string();
    assert!(failed.contains("4 agreement: no PyTorch") && !failed.contains("nvcc"), "{failed}");
}

#[test]
fn numbers_that_are_none_do_not_spoil_the_file() {
    let machine = Machine::new("nan");
    let ran = machine.run("nan", |command| {
        command.env("STAGES", "5");
    });
    ran.ends(0, "passed");
    let said = |record: &Value| record["why"].as_str().is_some_and(|why| why.starts_with("no JSON"));
    assert!(ran.records.iter().any(|record| record["name"] == "kernel" && said(record)));
    ran.failed(5, "bench kernels", "1 lines");
    assert!(ran.records.iter().any(|record| record["data"]["frame_like"]["median_us"] == 12.5));
}

#[test]
fn a_contender_that_dies_leaves_the_others() {
    let machine = Machine::new("dies");
    let ran = machine.run("frame", |command| {
        command.env("STAGES", "4");
    });
    ran.ends(0, "passed");
    // The first of ours to be asked in the first round.
    ran.failed(4, "frame lseg-fast mask-buffered", "ended");
    assert_eq!(ran.record(4, "frame torch")["data"]["rounds"], 3 * 3 + 3);
}

#[test]
fn a_toolkit_s_stub_of_the_driver_is_taken_out_of_the_way() {
    let machine = Machine::new("stub");
    let stubs = machine.folder.join("cuda/lib64/stubs");
    fs::create_dir_all(&stubs).unwrap();
    fs::write(stubs.join("libcuda.so"), "").unwrap();
    // One that only what it answers gives away.
    let misnamed = machine.folder.join("linking");
    fs::create_dir_all(&misnamed).unwrap();
    fs::write(misnamed.join("libcuda.so"), "stub").unwrap();
    let ran = machine.run("", |command| {
        command
            .env("STAGES", "0")
            .env("LD_LIBRARY_PATH", format!("{}:{}:/elsewhere", stubs.display(), misnamed.display()));
    });
    ran.ends(0, "passed");
    let left_out = &ran.record(0, "libraries")["data"]["stubs_left_out"];
    assert_eq!([&left_out[0], &left_out[1]], [stubs.to_str().unwrap(), misnamed.to_str().unwrap()]);
    let file = ran.record(0, "device")["data"]["driver_file"].as_str().unwrap();
    assert!(file.contains("/elsewhere") && !file.contains("stubs"), "{file}");
}

#[test]
fn a_rehearsal_needs_the_virtual_gpu_and_excuses_what_is_missing() {
    let machine = ["nvidia-smi", "ncu", "compute-sanitizer"].into_iter().fold(Machine::new("dry"), Machine::without);
    let output = machine.command("").arg("--dry").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cargo xtask vgpu"));
    fs::create_dir_all(machine.folder.join("vgpu")).unwrap();
    fs::write(machine.folder.join("vgpu/libcuda.so"), "").unwrap();
    let ran = machine.run("torch", |command| {
        command.arg("--dry");
    });
    ran.ends(0, "passed");
    assert_eq!(ran.records[0]["data"]["dry"], true);
    assert!(ran.record(0, "device")["data"]["driver_file"].as_str().unwrap().contains("/vgpu"));
    // What goes wrong in a rehearsal fails it, whichever stage it is in.
    let ran = machine.run("nan", |command| {
        command.arg("--dry").env("STAGES", "5");
    });
    ran.ends(1, "failed");
}

#[test]
fn the_bundle_runs_wherever_it_is_moved_to() {
    let machine = Machine::new("moved");
    let there = machine.folder.join("a folder/with spaces");
    fs::create_dir_all(there.parent().unwrap()).unwrap();
    fs::rename(machine.folder.join("bundle"), &there).unwrap();
    let mut command = Command::new(there.join("bin/stages"));
    let given = machine.command("");
    command.args(given.get_args()).env("STAGES", "2").current_dir("/");
    for (name, value) in given.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let ran = Ran { output: command.env("STAGES", "2").output().unwrap(), records: machine.records() };
    ran.ends(0, "passed");
    // A runner without its bundle says what it misses.
    let alone = Command::new(env!("CARGO_BIN_EXE_stages")).arg("--out").arg(machine.out()).output().unwrap();
    assert_eq!(alone.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&alone.stderr).contains("cargo xtask bundle"));
}

/// A run that hangs in stage 2.
fn begin(machine: &Machine) -> Child {
    let run = machine.command("hang").env("STAGES", "2 3").stdout(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while !machine.folder.join("pids").exists() && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
    }
    run
}

#[test]
fn killing_it_in_the_middle_leaves_what_it_knew() {
    let machine = Machine::new("killed");
    let mut run = begin(&machine);
    run.kill().unwrap();
    run.wait().unwrap();
    let records = machine.records();
    assert!(records.iter().any(|record| record["name"] == "device"), "{records:?}");
    assert!(records.iter().all(|record| record["name"] != "end"));
    // Nobody was left to end it.
    let process = fs::read_to_string(machine.folder.join("pids")).unwrap();
    Command::new("sh").args(["-c", &format!("kill -s KILL {}", process.trim())]).status().unwrap();
}

#[test]
fn it_goes_on_when_nobody_listens() {
    let machine = Machine::new("unread");
    let mut run = machine.command("").env("STAGES", "2").stdout(Stdio::piped()).spawn().unwrap();
    drop(run.stdout.take());
    assert_eq!(run.wait().unwrap().code(), Some(0));
    assert_eq!(machine.records().last().unwrap()["data"]["verdict"], "passed");
}

#[test]
fn an_interruption_ends_everything_and_is_recorded() {
    let machine = Machine::new("interrupted");
    let mut run = begin(&machine);
    Command::new("sh").args(["-c", &format!("kill -s INT {}", run.id())]).status().unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    let records = machine.records();
    assert_eq!(records.last().unwrap()["data"]["verdict"], "interrupted");
    let process = fs::read_to_string(machine.folder.join("pids")).unwrap();
    assert!(!is_running(process.trim()));
}
