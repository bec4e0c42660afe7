//! What a file, a photo or a call wants is asked for before it is taken: small files that want gigabytes are refused at once,
//! with what is needed, what is free and what to do. The binary runs under limits that end it where it takes the memory first.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use half::f16;
use lseg_fast::checkpoint::{Checkpoint, Dtype};
use lseg_fast::device::cuda::Cuda;
use lseg_fast::memory::Usage;
use lseg_fast::model::config::{Config, HeadBlock, ImageEncoder, METADATA_KEY, TextTower};
use lseg_fast::model::required;
use lseg_fast::{DeviceChoice, Engine, Error, Image, Options, Size};
use testing::checkpoint::{safetensors, tensor, text, torch_zip};
use testing::gpu::found;
use testing::models::{self, narrow};

/// Address space that every call has: 700 MB, of which the program itself and its threads' stacks are 350.
const KIB: u64 = 700_000;

/// The demo model, whose weights are 45 MiB on the CPU.
const DEMO: &str = "weights/demo/demo.safetensors";

struct Folder(tempfile::TempDir);

struct Answer {
    output: Output,
    took: Duration,
}

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        image::RgbImage::new(40, 30).save(folder.path("a.png")).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// The program under a limit of its address space, on the CPU unless the arguments say otherwise.
    fn call(&self, kib: u64, arguments: &[&str]) -> Answer {
        self.call_in(&format!("ulimit -v {kib}"), arguments)
    }

    /// The program, after what a shell does first.
    fn call_in(&self, first: &str, arguments: &[&str]) -> Answer {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{first} && exec \"$@\""), "sh", env!("CARGO_BIN_EXE_lseg-fast")]);
        command.args(arguments).current_dir(&self.0);
        if !arguments.contains(&"--device") && ["run", "embed"].contains(&arguments[0]) {
            command.args(["--device", "cpu"]);
        }
        let begin = Instant::now();
        // glibc sets 64 MiB of addresses aside for each thread that asks, more or fewer from run to run.
        let output = command.env("MALLOC_ARENA_MAX", "1").output().unwrap();
        Answer { output, took: begin.elapsed() }
    }

    /// A pass over the photo with a model.
    fn run(&self, kib: u64, model: &Path, more: &[&str]) -> Answer {
        let run = ["run", "a.png", "--labels", "a,b", "--model", model.to_str().unwrap()];
        self.call(kib, &[&run, more].concat())
    }
}

impl Answer {
    fn error(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).unwrap()
    }

    /// With a sentence that has all of this in it, and before anything large was done.
    fn refused(&self, words: &[&str]) {
        let error = self.error();
        // A size is the call's, memory the machine's.
        let code = if words.iter().any(|word| word.contains("the model's own size")) { 2 } else { 1 };
        assert_eq!(self.output.status.code(), Some(code), "{error}");
        let last = error.lines().last().unwrap_or_default();
        assert!(words.iter().all(|word| last.contains(word)), "{words:?}: {error}");
        assert!(self.took < Duration::from_secs(3), "{:?}: {error}", self.took);
    }

    fn done(&self) {
        assert!(self.output.status.success(), "{:?} {}", self.output.status, self.error());
    }
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(DEMO)
}

/// A PyTorch file of all of a model's tensors, each of which repeats one number.
fn repeated(config: &Config, storage: &str) -> Vec<u8> {
    let mut pickle = b"\x80\x02}".to_vec();
    for spec in required(config) {
        let shape: Vec<i64> = spec.shape.iter().map(|size| *size as i64).collect();
        let call = tensor("0", 2, 0, &shape, &vec![0; shape.len()]);
        pickle.extend(text(&spec.name));
        pickle.extend(replaced(&call, b"FloatStorage", storage.as_bytes()));
        pickle.push(b's');
    }
    pickle.push(b'.');
    torch_zip(&pickle, &[("0".to_owned(), 0.01f32.to_le_bytes().repeat(2))])
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

/// A ResNet that is told from its shapes.
fn resnet(stem: usize, blocks: usize, planes: usize) -> Config {
    let reassemble = [4 * planes, 4, 4, 4];
    Config {
        image: ImageEncoder::Resnet { stem, blocks: [blocks, 1, 1, 1], planes: [planes, 1, 1, 1] },
        reassemble,
        text: TextTower { vocab: 514, context: 5, width: 64, layers: 1, heads: 1, mlp: 6 },
        head_block: HeadBlock::NONE,
        ..narrow()
    }
}

#[test]
fn a_stem_of_20000_channels_is_refused_by_its_arena() {
    let folder = Folder::new();
    let model = folder.put("stem.ckpt", &repeated(&resnet(20_000, 1, 1), "FloatStorage"));
    assert!(std::fs::metadata(&model).unwrap().len() < 50_000);
    let answer = folder.run(KIB, &model, &["--max-memory", "2G"]);
    answer.refused(&["this model at 352×480 with 2 labels needs", " GB", "are free (of the 2.0 GB allowed)", "--size"]);
    folder.run(KIB, &model, &[]).refused(&[
        "needs",
        " GB",
        "MB are free (three quarters of what this machine has left)",
    ]);
    // The same model is a model, where the network is small.
    folder.run(2 * KIB, &model, &["--size", "32x32"]).done();
}

#[test]
fn an_embedding_of_65536_is_refused_by_its_arena() {
    let folder = Folder::new();
    let config = Config { embed_dim: 65_536, features: 1, ..resnet(2, 1, 1) };
    let model = folder.put("wide.ckpt", &repeated(&config, "FloatStorage"));
    let embed = ["embed", "a.png", "--model", model.to_str().unwrap()];
    folder.call(KIB, &[&embed[..], &["--max-memory", "2G"]].concat()).refused(&[
        "352×480 needs",
        " GB",
        "(of the 2.0 GB",
    ]);
    folder.call(KIB, &embed).refused(&["352×480 needs", " GB", "MB are free (three quarters"]);
}

#[test]
fn winograds_filters_are_counted_before_they_are_made() {
    let folder = Folder::new();
    let model = folder.put("blocks.ckpt", &repeated(&resnet(2, 300, 160), "HalfStorage"));
    let answer = folder.run(KIB, &model, &["--max-memory", "1G"]);
    answer.refused(&["loading this model needs 1.", " GB, 1.0 GB are free (of the 1.0 GB allowed)", "--max-memory"]);
    folder.run(KIB, &model, &[]).refused(&["loading this model needs 1.", "MB are free"]);
}

/// A model's own size is believed up to 2,048 a side; more is for whoever asks for it to pay.
#[test]
fn a_default_size_of_32768_is_to_be_asked_for() {
    let folder = Folder::new();
    let sized = |size: &str| {
        let config = Config { default_size: size.to_owned(), ..narrow() };
        safetensors(&models::model(&config), Some((METADATA_KEY, config.to_json().unwrap())))
    };
    let model = folder.put("large.safetensors", &sized("32768x32768"));
    for more in [&[][..], &["--max-memory", "99G"]] {
        folder.run(KIB, &model, more).refused(&["the model's own size, 32768x32768", "2048", "--size 32768x32768"]);
    }
    folder.run(KIB, &model, &["--size", "32768x32768"]).refused(&["at 32768×32768", " GB", "MB are free"]);
    folder.run(KIB, &model, &["--size", "64x64"]).done();

    let options = Options { device: DeviceChoice::Cpu, threads: Some(1), ..Options::default() };
    let native = folder.put("native.safetensors", &sized("native"));
    for (model, (width, height)) in [(model, (40, 30)), (native, (3000, 8))] {
        let mut engine = Engine::load(&model, &options).unwrap();
        engine.set_labels(&["a", "b"]).unwrap();
        let rgb = vec![0; width * height * 3];
        let frame = Image::rgb8(width, height, &rgb);
        let refused = |result: lseg_fast::Result<()>| match result {
            Err(Error::Size(message)) => assert!(message.contains("--size"), "{message}"),
            other => panic!("{other:?}"),
        };
        refused(engine.segment(&frame).map(drop));
        refused(engine.embed(&frame).map(drop));
        refused(engine.frame_buffer(lseg_fast::Format::Rgb8, width, height).map(drop));
        engine.set_size(Size::LongSide(64));
        engine.segment(&frame).unwrap();
    }
}

/// Smaller than needed refuses, larger passes, and what is refused leaves the engine as it was.
#[test]
fn the_allowed_memory_is_for_weights_labels_and_frames_together() {
    let load = |memory| {
        let options =
            Options { device: DeviceChoice::Cpu, threads: Some(2), memory: Some(memory), ..Options::default() };
        Engine::load(&demo(), &options)
    };
    let refused = |result: lseg_fast::Result<()>, what: &str| match result {
        Err(Error::Memory(message)) => assert!(message.contains(what) && message.contains("--max-memory"), "{message}"),
        other => panic!("{what}: {other:?}"),
    };
    let (width, height) = (64, 48);
    let rgb = vec![7; width * height * 3];
    let frame = Image::rgb8(width, height, &rgb);
    refused(load(40_000_000).map(drop), "loading this model needs 55.");
    let mut engine = load(60_000_000).unwrap();
    let Usage { limit, held } = engine.memory().host();
    assert!(limit == 60_000_000 && (40_000_000..55_000_000).contains(&held), "{held} of {limit}");
    assert_eq!(engine.memory().device(), None);

    engine.set_labels(&["cat", "tree"]).unwrap();
    let mask = engine.segment(&frame).unwrap();
    let begin = Instant::now();
    let words: Vec<String> = (0..10_000).map(|i| format!("word {i}")).collect();
    refused(engine.set_labels(&words), "a list of 10000 labels needs");
    assert!(begin.elapsed() < Duration::from_secs(5), "before the text tower: {:?}", begin.elapsed());
    assert_eq!(engine.labels(), ["cat", "tree"]);

    engine.set_size("512x512".parse().unwrap());
    refused(engine.segment(&frame).map(drop), "this model at 512×512 with 2 labels needs");
    refused(engine.embed(&frame).map(drop), "this model at 512×512 needs");
    engine.set_size(engine.config().default_size.parse().unwrap());
    assert_eq!(engine.segment(&frame).unwrap(), mask);
    let usage = engine.memory().host();
    assert!(held < usage.held && usage.held <= usage.limit, "{usage:?}");

    let mut roomy = load(2_000_000_000).unwrap();
    roomy.set_labels(&["cat", "tree"]).unwrap();
    roomy.set_size("512x512".parse().unwrap());
    roomy.segment(&frame).unwrap();
}

#[test]
fn sizes_of_memory_are_read() {
    let folder = Folder::new();
    let with = |memory| folder.run(KIB, &demo(), &["--max-memory", memory]);
    for (memory, allowed) in
        [("1M", "of the 1.0 MB"), ("1.5MiB", "of the 1.5 MB"), ("900k", "of the 900.0 kB"), ("7", "of the 0.0")]
    {
        with(memory).refused(&["loading this model needs", allowed]);
    }
    for memory in ["", "G", "two", "1X"] {
        let error = with(memory).error();
        assert!(error.contains("--max-memory"), "{memory}: {error}");
    }
    with("1.5GB").done();
}

/// The limit that a batch system or a shell sets, where nobody said --max-memory.
#[test]
fn a_limit_of_the_process_is_seen() {
    let folder = Folder::new();
    folder.run(KIB, &demo(), &[]).done();
    let refused = folder.run(KIB, &demo(), &["--size", "4096x4096"]);
    refused.refused(&["4096×4096", "MB are free (three quarters of what this machine has left)", "--size"]);
    folder.run(KIB / 2, &demo(), &["--size", "2048x2048"]).refused(&["needs", "MB are free"]);
}

/// A control group, where this user may make one.
#[test]
fn a_limit_of_the_control_group_is_seen() {
    const LIMIT: u64 = 300_000_000;
    let name = format!("lseg-fast-test-{}", std::process::id());
    let places = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
    let made = places.iter().find_map(|(place, file)| {
        let group = Path::new(place).join(&name);
        std::fs::create_dir(&group).ok()?;
        let limited = group.join(file).is_file() && std::fs::write(group.join(file), LIMIT.to_string()).is_ok();
        if !limited {
            let _ = std::fs::remove_dir(&group);
        }
        limited.then_some(group)
    });
    let Some(group) = made else {
        eprintln!("skipped: this user may make no control groups");
        return;
    };
    let folder = Folder::new();
    let first = format!("mkdir {0}/inner; echo $$ >{0}/inner/cgroup.procs", group.display());
    let run = ["run", "a.png", "--labels", "dog,other"];
    let small = folder.call_in(&first, &run);
    let large = folder.call_in(&first, &[&run[..], &["--size", "4096x4096"]].concat());
    for folder in [group.join("inner"), group] {
        // The kernel takes a moment to see that the process has ended.
        let begin = Instant::now();
        while std::fs::remove_dir(&folder).is_err() && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    small.done();
    large.refused(&["4096×4096", "MB are free (three quarters of what this machine has left)"]);
    let free: f64 = large.error().split(" needs ").nth(1).unwrap().split(' ').nth(2).unwrap().parse().unwrap();
    assert!((50.0..225.0).contains(&free), "{free} MB of {LIMIT} bytes, of which the weights are held");
}

/// A GPU's memory is counted by itself: its weights are halves, and no filters are transformed.
#[test]
fn a_gpus_memory_has_a_budget_of_its_own() {
    if found(Cuda::new(0)).is_none() {
        return;
    }
    let load = |memory| {
        let device = DeviceChoice::Cuda(Some(0));
        Engine::load(&demo(), &Options { device, threads: Some(2), memory, ..Options::default() })
    };
    match load(Some(10_000_000)) {
        Err(Error::Memory(message)) => {
            assert!(message.contains("loading this model needs 15.") && message.contains("--device cpu"), "{message}");
        }
        other => panic!("{:?}", other.map(|engine| engine.memory().device())),
    }
    let engine = load(Some(30_000_000)).unwrap();
    let Usage { limit, held } = engine.memory().device().unwrap();
    assert!(limit == 30_000_000 && (14_000_000..16_000_000).contains(&held), "{held} of {limit}");
    assert!(engine.memory().host().held < 1_000_000);

    let mut engine = load(None).unwrap();
    engine.set_labels(&["cat", "tree"]).unwrap();
    engine.set_size("32768x32768".parse().unwrap());
    match engine.segment(&Image::rgb8(1, 1, &[0; 3])) {
        Err(Error::Memory(message)) => assert!(message.contains("GB are free (three quarters of what "), "{message}"),
        other => panic!("{other:?}"),
    }
    engine.set_size("32x32".parse().unwrap());
    engine.segment(&Image::rgb8(1, 1, &[0; 3])).unwrap();
}

/// More threads than four a core only wait for each other.
#[test]
fn threads_are_bounded_and_a_note_says_so() {
    let folder = Folder::new();
    let most = 4 * std::thread::available_parallelism().unwrap().get();
    let run = ["run", "a.png", "--labels", "dog,other"];
    let threads = ["--threads", "1024"];
    for (first, more) in [("true", &threads[..]), ("export RAYON_NUM_THREADS=1024", &[])] {
        let answer = folder.call_in(first, &[&run[..], more].concat());
        answer.done();
        let error = answer.error();
        assert!(error.contains(&format!("1024 threads were asked for; {most} run")), "{error}");
        assert!(String::from_utf8_lossy(&answer.output.stdout).contains(&format!("cpu, {most} threads")));
        assert!(answer.took < Duration::from_secs(10), "{:?}", answer.took);
    }
    let options = Options { device: DeviceChoice::Cpu, threads: Some(1024), ..Options::default() };
    let engine = Engine::load_demo(&options).unwrap();
    assert!(engine.note().is_some_and(|note| note.contains("1024 threads")), "{:?}", engine.note());
    let engine = Engine::load_demo(&Options { threads: Some(2), ..options }).unwrap();
    assert_eq!(engine.note(), None);
}

/// Files whose float16 weights stay halves are counted as such: half the memory has to do.
#[test]
fn halves_are_counted_as_halves() {
    let config = Config { text: TextTower { vocab: 49_408, ..resnet(2, 1, 1).text }, ..resnet(2, 1, 1) };
    let tensors = models::model(&config);
    let halves = tensors.iter().map(|(name, _, shape, bytes)| {
        let floats = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        (name.clone(), Dtype::F16, shape.clone(), floats.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect())
    });
    let halves: Vec<_> = halves.collect();
    let [full, half] = [tensors, halves].map(|tensors| {
        let metadata = Some((METADATA_KEY, config.to_json().unwrap()));
        let folder = Folder::new();
        let path = folder.put("m.safetensors", &safetensors(&tensors, metadata));
        let options = Options { device: DeviceChoice::Cpu, threads: Some(1), ..Options::default() };
        let engine = Engine::from_checkpoint(&Checkpoint::open(&path).unwrap(), &options).unwrap();
        engine.memory().host().held
    });
    assert!(half < full * 11 / 20, "{half} and {full} bytes");
}
