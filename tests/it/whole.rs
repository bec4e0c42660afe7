//! Presets, windows and feature files as users call them.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use lseg_fast::Engine;
use lseg_fast::checkpoint::Checkpoint;
use lseg_fast::image::npy;
use tempfile::TempDir;
use testing::files::root;

/// A folder with a photo of 60×44, and the seeded model's path.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let picture = image::RgbImage::from_fn(60, 44, |x, y| image::Rgb([4 * x as u8, 5 * y as u8, (x * y) as u8]));
    picture.save(folder.path().join("a.png")).unwrap();
    folder
}

fn model() -> PathBuf {
    root().join("weights/seeded/seeded.ckpt")
}

fn call(folder: &TempDir, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lseg-fast"));
    command.args(arguments.split_whitespace()).arg("--model").arg(model()).arg("--device").arg("cpu");
    command.current_dir(folder.path()).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn done(folder: &TempDir, arguments: &str) {
    let output = call(folder, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn refused(folder: &TempDir, arguments: &str, words: &[&str]) {
    let output = call(folder, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments}: {stderr}");
    assert!(words.iter().all(|word| stderr.contains(word)), "{arguments}: {stderr}");
    assert_eq!(stderr.lines().filter(|line| line.starts_with("error")).count(), 1, "{arguments}: {stderr}");
    assert!(!folder.path().join("out").exists() || fs::read_dir(folder.path().join("out")).unwrap().count() == 0);
}

/// A NumPy file of float32: its shape and values.
fn array(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let length = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..length]).unwrap();
    assert!(header.contains("<f4"), "{header}");
    let shape = header.split(['(', ')']).nth(1).unwrap().split(',').filter_map(|n| n.trim().parse().ok()).collect();
    (shape, bytemuck::pod_collect_to_vec(&bytes[length..]))
}

#[test]
fn scores_that_are_written_in_pieces_make_the_mask() {
    let folder = folder();
    for (windows, strips) in
        [("--crop 32 --stride 20", "--memory 1GiB"), ("--crop 32 --flip sum --scales 0.5,1", "--memory 60K")]
    {
        let saved = "--save mask,scores,best,confidence,overlay,masks";
        done(&folder, &format!("run a.png --labels cat,dog,sky -q {windows} {strips} {saved}"));
        let out = folder.path().join("out");
        let (shape, scores) = array(&out.join("a.scores.npy"));
        assert_eq!(shape, [3, 44, 60]);
        let (_, best) = array(&out.join("a.best.npy"));
        let mask = image::open(out.join("a.mask.0.cat.png")).unwrap().into_luma8();
        let pixels = 44 * 60;
        for i in 0..pixels {
            let all = [scores[i], scores[pixels + i], scores[2 * pixels + i]];
            let largest = all.iter().copied().fold(f32::MIN, f32::max);
            assert_eq!(best[i].to_bits(), largest.to_bits(), "{windows}, {i}");
            assert_eq!(mask.as_raw()[i] == 255, all[0] == largest, "{windows}, {i}");
        }
        fs::remove_dir_all(out).unwrap();
    }
}

/// What `.pt` files are: a zip of stored files with right checksums, whose values are the NumPy file's.
#[test]
fn feature_files_hold_the_same_values() {
    let folder = folder();
    let out = folder.path().join("out");
    let windows = "embed a.png -q --crop 32 --scales 1,1.5";
    done(&folder, windows);
    let (shape, values) = array(&out.join("a.embed.npy"));
    let [c, h, w] = shape[..] else { panic!("{shape:?}") };
    assert_eq!((c, h, w), (64, 44, 60));
    for (memory, name) in [("1GiB", "one strip"), ("600K", "strips")] {
        done(&folder, &format!("{windows} --memory {memory} --format pt"));
        let mut zip = zip::ZipArchive::new(fs::File::open(out.join("a.embed.pt")).unwrap()).unwrap();
        let mut bytes = Vec::new();
        // Its checksum is compared at the end.
        zip.by_name("archive/data/0").unwrap().read_to_end(&mut bytes).unwrap();
        let torch: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        let error = torch.iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(torch.len() == values.len() && error < 1e-4, "{name}: {error}");
    }
    done(&folder, &format!("{windows} --format safetensors --layout hwc"));
    let file = Checkpoint::open(&out.join("a.embed.safetensors")).unwrap();
    let mut last = Vec::new();
    file.read_f32("features", &[h, w, c], &mut last).unwrap();
    let first = (0..c * h * w).map(|i| last[i % (h * w) * c + i / (h * w)]);
    assert!(first.eq(values.iter().copied()));
    done(&folder, &format!("{windows} --layout nchw"));
    assert_eq!(array(&out.join("a.embed.npy")), (vec![1, c, h, w], values.clone()));

    // Points between pixels are means of the map's.
    fs::write(folder.path().join("p.csv"), "x,y\n10,7\n10.5,7\n59,43\n").unwrap();
    done(&folder, &format!("{windows} --points p.csv"));
    let (shape, points) = array(&out.join("a.embed.npy"));
    assert_eq!(shape, [3, c]);
    let at = |k: usize, y: usize, x: usize| values[(k * h + y) * w + x];
    for k in 0..c {
        let expected = [at(k, 7, 10), 0.5 * (at(k, 7, 10) + at(k, 7, 11)), at(k, 43, 59)];
        for (i, expected) in expected.into_iter().enumerate() {
            assert!((points[i * c + k] - expected).abs() < 1e-4, "{k}, {i}");
        }
    }
}

#[test]
fn presets_have_their_users_names_and_forms() {
    let folder = folder();
    let out = folder.path().join("out");
    // Its 64 channels are 330 KB.
    let axes = fs::File::create(folder.path().join("axes.npy")).unwrap();
    npy::write(axes, &[5, 64], &[0.125_f32; 5 * 64]).unwrap();
    for (preset, name) in [
        ("feature3dgs", "a_fmap_64x44x60.pt"),
        ("feature3dgs --project axes.npy --max-output 30K", "a_fmap_5x44x60.pt"),
        ("openscene", "a.pt"),
        ("lsm --crop 32", "a.pt"),
        ("lsm --crop 64 --format npy", "a.npy"),
    ] {
        done(&folder, &format!("embed a.png -q --preset {preset}"));
        assert!(out.join(name).is_file(), "{preset}: {:?}", fs::read_dir(&out).unwrap().collect::<Vec<_>>());
        fs::remove_dir_all(&out).unwrap();
    }
    done(&folder, "run a.png --labels cat,dog -q --preset lsm --crop 64");
    assert!(out.join("a.mask.png").is_file());
}

/// Said alone they change one pass, of any size; the model's own change nothing.
#[test]
fn mean_and_std_are_the_callers() {
    let folder = folder();
    let written = |arguments: &str| {
        done(&folder, &format!("embed a.png --size 64x64 -q {arguments}"));
        fs::read(folder.path().join("out/a.embed.npy")).unwrap()
    };
    let own = written("--at photo");
    assert_eq!(written("--at photo --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5"), own);
    assert_ne!(written("--at photo --mean 0.4,0.5,0.5 --std 0.5,0.5,0.5"), own);
}

/// The native preset is what there is without any, to the bit.
#[test]
fn native_is_one_pass() {
    let folder = folder();
    let written = |arguments: &str| {
        done(&folder, &format!("run a.png --labels cat,dog --save scores -q {arguments}"));
        fs::read(folder.path().join("out/a.scores.npy")).unwrap()
    };
    assert_eq!(written(""), written("--preset native"));
    assert_eq!(written("--size 64x64"), written("--preset native --size 64x64"));
}

#[test]
fn what_cannot_be_done_is_named() {
    let folder = folder();
    let run = |more: &str, words: &[&str]| refused(&folder, &format!("run a.png --labels cat,dog -q {more}"), words);
    run("--crop 50", &["--crop 50", "multiple of 32"]);
    run("--crop 64 --stride 0", &["--stride 0"]);
    run("--crop 64 --stride 65", &["--stride 65", "64"]);
    run("--scales 1,-1", &["--scales", "-1"]);
    run("--scales 1,1", &["--scales", "twice"]);
    run("--base 30000 --scales 2", &["--base 30000", "32768"]);
    run("--preset lseg-eval --size 480x480", &["--preset lseg-eval", "--size"]);
    run("--preset lseg-eval --crop 512", &["lseg-eval", "crop 480", "--crop 512"]);
    run("--preset lseg-eva", &["lseg-eva", "lseg-eval"]);
    run("--preset feature3dgs", &["feature3dgs", "embed"]);
    run("--crop 32 --save probabilities", &["--save probabilities"]);
    run("--crop 32 --timings", &["--timings"]);
    run("--mean 0,0,0", &["--mean", "--std"]);
    run("--crop 32 --memory 100", &["--memory"]);
    run("--crop 32 --save scores --max-output 1K", &["--max-output", "a.png"]);
    run("--size 64x64 --save scores --max-output 1K", &["--max-output", "a.png"]);
    run("--templates clip81", &["clip81", "clip80"]);
    let embed = |more: &str, words: &[&str]| refused(&folder, &format!("embed a.png -q {more}"), words);
    embed("--preset vlmaps --at photo", &["vlmaps", "--at"]);
    embed("--at photo --format pt", &["--at", "--format"]);
    embed("--crop 32 --max-output 10K", &["--max-output", "--dtype f16"]);
    embed("--max-output 1K", &["--max-output"]);
    embed("--preset feature3dgs --skip-existing", &["--skip-existing"]);
}

/// Vectors of published template lists, as plain PyTorch has them; VLMaps' means keep their length.
#[test]
fn template_lists_are_pytorchs() {
    let file = Checkpoint::open(&root().join("tests/golden/protocols/templates.safetensors")).unwrap();
    for network in ["vit32", "resnet", "vit16"] {
        let mut engine: Engine = testing::protocols::engine(network, &lseg_fast::Options::default());
        let labels = engine.labels().to_vec();
        for name in ["clip80", "vlmaps63", "openscene"] {
            engine.set_template_list(&lseg_fast::TemplateList::named(name).unwrap()).unwrap();
            engine.set_labels(&labels).unwrap();
            let got = engine.label_embeddings();
            let mut expected = Vec::new();
            let shape = [labels.len(), got.len() / labels.len()];
            file.read_f32(&format!("{network}/{name}"), &shape, &mut expected).unwrap();
            let error = testing::golden::distance(&got, &expected);
            assert!(error <= 1e-4 * testing::golden::largest(&expected), "{network}, {name}: {error}");
            let length = got[..shape[1]].iter().map(|v| v * v).sum::<f32>().sqrt();
            assert_eq!((length - 1.0).abs() < 1e-4, name != "vlmaps63", "{network}, {name}: {length}");
        }
    }
}

#[test]
fn another_label_is_appended_once() {
    let folder = folder();
    for (labels, count) in [("cat,dog", 3), ("cat,other", 2)] {
        let output = call(&folder, &format!("run a.png --size 32x32 --labels {labels} --other other --json -q"));
        let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let all = object["labels"].as_array().unwrap();
        assert_eq!((all.len(), &all[count - 1]["label"]), (count, &"other".into()));
    }
    refused_labels(&folder);
}

fn refused_labels(folder: &TempDir) {
    let output = call(folder, "run a.png --size 32x32 --labels other,cat --other other -q");
    assert_eq!(output.status.code(), Some(2));
}

/// Words by the ten thousand, in one pass and in windows.
#[test]
fn any_number_of_labels_works() {
    let folder = folder();
    for count in [1, 2, 150, 1000, 10_000] {
        let words: String = (0..count).map(|i| format!("thing {i}\n")).collect();
        fs::write(folder.path().join("words.txt"), words).unwrap();
        for how in ["--size 32x32", "--crop 32 --memory 64M"] {
            done(&folder, &format!("run a.png --labels @words.txt --save mask -q {how}"));
            let decoder = png::Decoder::new(std::io::BufReader::new(
                fs::File::open(folder.path().join("out/a.mask.png")).unwrap(),
            ));
            let depth = decoder.read_info().unwrap().info().bit_depth;
            let expected = if count > 256 { png::BitDepth::Sixteen } else { png::BitDepth::Eight };
            assert_eq!((depth, count), (expected, count), "{how}");
        }
    }
}

/// Times of the passes add up to no more than the call took.
#[test]
fn times_are_of_this_photo() {
    let folder = folder();
    let start = std::time::Instant::now();
    let output = call(&folder, "run a.png --labels cat,dog --crop 32 --scales 1,2,3 --flip sum --json -q");
    let took = 1000.0 * start.elapsed().as_secs_f64();
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let stages = object["stages"].as_array().unwrap().iter().map(|stage| stage["milliseconds"].as_f64().unwrap());
    let sum = stages.sum::<f64>();
    assert!(sum > 0.0 && sum <= took, "{sum} of {took} ms");
}
