//! What `--json` prints against the tables of docs/json.md: every documented field is there, with its type, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use lseg_fast::device::cuda::{Cuda, MODULES};
use serde_json::Value;
use tempfile::TempDir;
use testing::gpu::found;

fn repository_file(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).to_str().unwrap().to_owned()
}

fn model() -> String {
    repository_file("weights/seeded/seeded.ckpt")
}

/// A folder with a photo, a file that is none, and points.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let picture = image::RgbImage::from_fn(40, 33, |x, y| image::Rgb([6 * x as u8, 7 * y as u8, (x * y) as u8]));
    picture.save(folder.path().join("a.png")).unwrap();
    fs::write(folder.path().join("bad.png"), "no photo").unwrap();
    fs::write(folder.path().join("p.csv"), "x,y\n1,2\n").unwrap();
    folder
}

fn call(folder: &TempDir, arguments: &str) -> Output {
    command(folder, arguments).output().unwrap()
}

/// On the boards that it chooses itself, where it does.
fn command(folder: &TempDir, arguments: &str) -> Command {
    let model = model();
    let arguments = arguments.split_whitespace().map(|word| if word == "MODEL" { &model } else { word });
    let mut command = Command::new(env!("CARGO_BIN_EXE_lseg-fast"));
    command.args(arguments).current_dir(folder.path()).stdin(Stdio::null());
    command.env_remove("VGPU_DEVICE").env_remove("VGPU_DEVICES");
    command
}

/// The objects that were printed, one a line.
fn objects(output: &Output) -> Vec<Value> {
    let stdout = std::str::from_utf8(&output.stdout).unwrap();
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Field → type, of what the tables say about a command; those whose meaning begins with a word of `without` are left out.
fn documented(command: &str, without: &[&str]) -> BTreeMap<String, String> {
    let text = fs::read_to_string(repository_file("docs/json.md")).unwrap();
    let section = text.split("\n## ").find_map(|section| section.strip_prefix(&format!("{command}\n"))).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.filter_map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let optional = without.iter().any(|word| cells[3].starts_with(word));
        (!optional).then(|| (cells[1].trim_matches('`').to_owned(), cells[2].to_owned()))
    })
    .collect()
}

/// Field → types seen. An empty list is seen as itself, without elements.
fn fields(value: &Value, at: &str, seen: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let kind = match value {
        Value::Object(map) => {
            let prefix = if at.is_empty() { String::new() } else { format!("{at}.") };
            return map.iter().for_each(|(key, value)| fields(value, &format!("{prefix}{key}"), seen));
        }
        Value::Array(list) if list.is_empty() => "empty",
        Value::Array(list) => return list.iter().for_each(|value| fields(value, &format!("{at}[]"), seen)),
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
    };
    seen.entry(at.to_owned()).or_default().insert(kind);
}

#[track_caller]
fn check(folder: &TempDir, arguments: &str, without: &[&str]) -> Value {
    let objects = printed(folder, arguments);
    let [object] = &objects[..] else { panic!("{arguments}: one object expected, {objects:?}") };
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let command = words[..if words[0] == "bench" { 2 } else { 1 }].join(" ");
    check_fields(std::slice::from_ref(object), &command, without);
    object.clone()
}

/// The objects that a call printed, which must have done all.
#[track_caller]
fn printed(folder: &TempDir, arguments: &str) -> Vec<Value> {
    let output = call(folder, &format!("--json {arguments}"));
    assert_eq!(output.status.code(), Some(0), "{arguments}: {output:?}");
    objects(&output)
}

/// All that these objects have is what a section of the document says, and the other way round. A field that may be null is
/// seen as what it was, and documented as "null or" the other.
#[track_caller]
fn check_fields(objects: &[Value], section: &str, without: &[&str]) {
    let mut seen = BTreeMap::new();
    objects.iter().for_each(|object| fields(object, "", &mut seen));
    let documented = documented(section, without);
    let seen: BTreeMap<String, String> = seen
        .into_iter()
        .map(|(field, mut kinds)| {
            if let Some(other) = documented.get(&field).and_then(|kinds| kinds.strip_prefix("null or ")) {
                kinds.remove("null");
                let kinds: Vec<&str> = if kinds.is_empty() { vec![other] } else { kinds.into_iter().collect() };
                return (field, format!("null or {}", kinds.join(" or ")));
            }
            (field, kinds.into_iter().collect::<Vec<_>>().join(" or "))
        })
        .collect();
    assert_eq!(seen, documented, "{section}");
}

#[test]
fn every_command_prints_the_documented_fields() {
    let folder = folder();
    let run = "run a.png --labels cat,dog --size 32x64 --save mask,overlay,masks,heat,scores,best -q --model MODEL";
    let object = check(&folder, run, &["with `--timings`", "with `--threshold`", "with `--preset`"]);
    assert_eq!((&object["height"], &object["network_width"]), (&33.into(), &64.into()));
    let shares = object["labels"].as_array().unwrap().iter().map(|label| label["share"].as_f64().unwrap());
    assert!((shares.sum::<f64>() - 1.0).abs() < 1e-9);
    for file in object["files"].as_array().unwrap() {
        assert!(folder.path().join(file["path"].as_str().unwrap()).is_file(), "{file}");
    }
    fs::create_dir(folder.path().join("frames")).unwrap();
    fs::copy(folder.path().join("a.png"), folder.path().join("frames/a.png")).unwrap();
    let stream = "stream frames --labels cat,dog --size 32x64 --out m --save mask,overlay -q --model MODEL";
    let objects = printed(&folder, stream);
    check_fields(&objects[..1], "stream", &["with `--threshold`", "where it failed"]);
    check_fields(&objects[1..], "stream: the end", &[]);
    let more = run.replace("best", "best,confidence");
    let object = check(&folder, &format!("{more} --timings --threshold 0.5"), &["with `--preset`"]);
    let labelled = object["labels"].as_array().unwrap().iter().map(|label| label["share"].as_f64().unwrap());
    let unlabelled = object["unlabelled"]["share"].as_f64().unwrap();
    assert!((labelled.sum::<f64>() + unlabelled - 1.0).abs() < 1e-9 && object["unlabelled"]["value"] == 255);
    check(&folder, "embed a.png --size 32x64 --model MODEL -q", &["with `--preset`", "with `--pca`"]);
    let object = check(&folder, "embed a.png --size 32x64 --pca 3 --model MODEL -q", &["with `--preset`"]);
    assert_eq!(object["shape"], serde_json::json!([3, 16, 32]));
    assert_eq!((&object["channels"], &object["projection"]["channels"]), (&3.into(), &64.into()));
    let points = "embed a.png --points p.csv --normalize --dtype f16 --model MODEL -q";
    let object = check(&folder, points, &["with `--preset`", "with `--pca`"]);
    assert_eq!((&object["at"], &object["normalized"]), (&"points".into(), &true.into()));
    assert_eq!(object["shape"], serde_json::json!([1, 64]));
    check(&folder, "text --labels cat,dog --template a{} --out x.npy --model MODEL -q", &[]);
    let object = check(&folder, "tokenize -- dog", &[]);
    assert_eq!(object["ids"], serde_json::json!([49406, 1929, 49407]));
    check(&folder, "convert MODEL --out m.safetensors", &[]);
    check(&folder, "info MODEL", &["resnet:", "demo model:", "with `--verify`"]);
    check(&folder, "info MODEL --verify", &["resnet:", "demo model:"]);
    check(&folder, "plan --model MODEL --size 64x64", &["with `--gpu`"]);
    let windows = "run a.png --labels cat,dog --crop 32 --save mask,scores,masks -q --model MODEL";
    let object = check(&folder, windows, &["with `--timings`", "with `--threshold`"]);
    assert_eq!((&object["preset"], &object["mask_height"]), (&"windows".into(), &33.into()));
    let object = check(&folder, "embed a.png --crop 32 --model MODEL -q", &["with `--pca`"]);
    assert_eq!(object["shape"], serde_json::json!([64, 33, 40]));
    check_fields(&printed(&folder, "info --preset lseg-eval"), "info --preset", &[]);
    let mut planned = printed(&folder, "plan --preset lseg-eval --photo 640x480 --model MODEL");
    let of_pass = planned[0]["plan"].take();
    assert!(of_pass["operations"].as_array().is_some_and(|operations| operations.len() > 20));
    assert_eq!((&planned[0]["passes"], &planned[0]["out"]), (&36.into(), &serde_json::json!([480, 640])));
    planned[0].as_object_mut().unwrap().remove("plan");
    check_fields(&planned, "plan --preset", &["one pass"]);
    for name in ["photos", "masks"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        image::GrayImage::new(40, 33).save(folder.path().join(name).join("a.png")).unwrap();
    }
    let eval = "eval --data folders --images photos --masks masks --labels cat,dog";
    let eval_small = format!("{eval} --size 32x32 --model MODEL -q");
    let object = check(&folder, &eval_small, &["episodes:", "where not", "with `--"]);
    assert_eq!((&object["photos"], &object["labelled"]), (&1.into(), &(40 * 33).into()));
    fs::create_dir_all(folder.path().join("fss/cat")).unwrap();
    fs::create_dir_all(folder.path().join("fss/splits/fss")).unwrap();
    fs::write(folder.path().join("fss/splits/fss/test.txt"), "cat\n").unwrap();
    for name in ["1.jpg", "1.png"] {
        image::GrayImage::new(40, 33).save(folder.path().join("fss/cat").join(name)).unwrap();
    }
    let episodes = "eval --data fss-1000:fss --size 32x32 --model MODEL -q";
    let object = check(&folder, episodes, &["labels:", "where not", "with `--"]);
    assert_eq!(object["classes"][0]["label"], "cat");
    let extra = format!("{eval_small} --extra sky");
    check(&folder, &extra, &["episodes:", "where not", "with `--other-words`"]);
    let others = format!("{eval_small} --other-words a,me");
    check(&folder, &others, &["labels", "episodes:", "where not", "with `--extra`"]);
    let listed = printed(&folder, &format!("{eval} --list"));
    check_fields(&listed, "eval --list", &[]);
    if MODULES.is_empty() {
        eprintln!("skipped: no kernels were built, so that no plan shows any");
    } else {
        // Large enough for a product whose blocks share columns.
        let on = |gpu: &str| format!("plan --model MODEL --size 2048x2048 --device cuda --gpu {gpu}");
        let plan = check(&folder, &on("h100"), &[]);
        assert_eq!(plan["products"], "products: warpgroups (wgmma) of sm_90a");
        let launches =
            plan["operations"].as_array().unwrap().iter().filter_map(|op| op["launches"].as_array()).flatten();
        let clusters: Vec<&Value> = launches.filter(|launch| launch["cluster"].is_array()).collect();
        assert!(clusters.iter().all(|launch| launch["kernel"].as_str().unwrap().starts_with("wgmma")), "{clusters:?}");
        let plan = check(&folder, &on("rtx4090"), &["with `--gpu`: of a cluster"]);
        assert_eq!(plan["products"], "products: warps (mma.sync)");
        let said = call(&folder, &on("h100"));
        assert!(
            String::from_utf8(said.stdout)
                .unwrap()
                .contains("\nproducts: warpgroups (wgmma) of sm_90a\nlaunches overlap")
        );
    }
}

/// On the virtual GPU; without it the test says that it is skipped.
#[test]
fn bench_prints_the_documented_fields() {
    let Some(gpu) = found(Cuda::new(0)) else { return };
    if !gpu.info().is_virtual {
        eprintln!("skipped: {} is no virtual GPU", gpu.info().name);
        return;
    }
    drop(gpu);
    let folder = folder();
    check(&folder, "bench device", &["on a GPU"]);
    let verdict = check(&folder, "bench check --case take_rows|vit16$", &["where not"]);
    assert_eq!((&verdict["cases"], &verdict["networks"], &verdict["kernels"]), (&3.into(), &1.into(), &1.into()));

    let [heading, case] = &printed(&folder, "bench kernels --case take_rows")[..] else { panic!("one case") };
    check_fields(std::slice::from_ref(heading), "bench kernels", &["on a GPU"]);
    check_fields(
        std::slice::from_ref(case),
        "bench kernels, a case",
        &["on a GPU", "timed", "products", "of a cluster", "where a rival"],
    );
    assert_eq!((&case["kernels"][0]["name"], &case["local_bytes"]), (&"take_rows".into(), &0.into()));
    // The way of a real GPU, where times would mean something.
    let timed = printed(&folder, "bench kernels --rehearse --case ^gemm\\b");
    check_fields(&timed[1..], "bench kernels, a case", &["on a GPU", "counted", "of a cluster", "where a rival"]);
    let swept = printed(&folder, "bench kernels --rehearse --sweep --case ^gemm\\b");
    check_fields(&swept[1..], "bench kernels --sweep, a configuration", &["of a cluster"]);
    let chosen = |object: &&Value| object["chosen"] == true && object["ok"] == true;
    assert!(swept.len() > 4 && swept[1..].iter().filter(chosen).count() == 1, "{swept:?}");
    let checked = printed(&folder, "bench kernels --check-only --case take_rows");
    check_fields(
        &checked[1..],
        "bench kernels, a case",
        &["on a GPU", "timed", "counted", "products", "of a cluster", "where a rival"],
    );
    let wrong = call(&folder, "bench kernels --cublas");
    assert_eq!((wrong.status.code(), wrong.stdout.len()), (Some(2), 0));

    let rehearsed = "bench frame --rehearse --size 32x64 --model MODEL --runs 2 --warm-up 0";
    check(&folder, rehearsed, &["predicted", "in windows"]);
    let frame = check(&folder, "bench frame --size 32x64 --model MODEL", &["timed", "in windows"]);
    assert!(frame["predicted"]["assumptions"].as_str().unwrap().starts_with("model prediction, not measured"));
    let boards = frame["predicted"]["boards"].as_array().unwrap().iter();
    let sums: Vec<(f64, f64)> = boards
        .map(|board| {
            let kernels = board["kernels"].as_array().unwrap().iter();
            let sum: f64 = kernels.map(|kernel| kernel["microseconds"].as_f64().unwrap()).sum();
            (board["milliseconds"].as_f64().unwrap(), sum / 1e3)
        })
        .collect();
    assert!(sums.len() == 3 && sums.iter().all(|(all, sum)| (all - sum).abs() < 1e-9 && *all > 0.0), "{sums:?}");
    // Three cameras' frames in one pass: once over the weights.
    let three = check(&folder, "bench frame --size 32x64 --model MODEL --batch 3", &["timed", "in windows"]);
    let first = |report: &Value| report["predicted"]["boards"][0]["milliseconds"].as_f64().unwrap();
    assert!(first(&frame) < first(&three) && first(&three) < 3.0 * first(&frame), "{three}");
    let rehearsed = format!("{rehearsed} --batch 2");
    check(&folder, &rehearsed, &["predicted", "in windows", "timed, one frame on a GPU"]);
    // Three windows by two, each mirrored too: a pass adds one after the other.
    let windows = "bench frame --photo a.png --base 64 --crop 32 --flip sum --model MODEL";
    check(
        &folder,
        &format!("{windows} --rehearse --runs 2 --warm-up 0"),
        &["predicted", "timed, one pass on a GPU", "timed, one frame on a GPU"],
    );
    for batch in 1..4 {
        let photo = check(&folder, &format!("{windows} --batch-windows {batch}"), &["timed"]);
        for board in photo["predicted"]["boards"].as_array().unwrap() {
            let kernels = board["kernels"].as_array().unwrap();
            let launches = |name| kernels.iter().find(|kernel| kernel["kernel"] == name).unwrap()["launches"].as_u64();
            let passes = launches("cut_windows").unwrap();
            assert_eq!((launches("add_window"), passes), (Some(12), [12, 6, 4][batch - 1]), "{batch}");
        }
    }
    let said = call(&folder, "bench frame --size 32x64 --model MODEL");
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("model prediction, not measured") && said.contains("rtx4090: "), "{said}");
    let refused = call(&folder, "bench kernels --case nothing_has_this_name");
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(2), 0));
}

/// On a GPU with warpgroups a product has a row for each family of kernels, the device's choice first, checked, counted and timed
/// alike; an operation without a choice has one. A sweep tries both, of float inputs too.
#[test]
fn bench_kernels_shows_both_families_of_products() {
    let Some(gpu) = found(Cuda::new(0)) else { return };
    if !gpu.info().is_virtual {
        eprintln!("skipped: {} is no virtual GPU", gpu.info().name);
        return;
    }
    let folder = folder();
    let on = |board: &str, arguments: &str| {
        let mut command = command(&folder, &format!("--json bench kernels {arguments}"));
        let output = command.env("VGPU_DEVICES", board).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments}: {output:?}");
        objects(&output)
    };
    let families = |rows: &[Value]| -> Vec<(bool, String)> {
        let row = |row: &Value| (row["chosen"] == true, row["family"].as_str().unwrap_or_default().to_owned());
        rows.iter().map(row).collect()
    };
    let (warps, warpgroups) = ("warps".to_owned(), "warpgroups".to_owned());
    for arguments in ["--rehearse --case ^gemm\\b", "--rehearse --check-only"] {
        let printed = on("h100", arguments);
        assert_eq!(printed[0]["products"], "products: warpgroups (wgmma) of sm_90a");
        let mut names: Vec<&str> = printed[1..].iter().map(|row| row["name"].as_str().unwrap()).collect();
        names.dedup();
        let mut pairs = 0;
        for name in names {
            let rows: Vec<Value> = printed[1..].iter().filter(|row| row["name"] == name).cloned().collect();
            let found = families(&rows);
            assert!(found[0].0, "{name}: {rows:?}");
            match &found[..] {
                [_] => assert_ne!(found[0].1, "warpgroups", "{name}"),
                [first, second] => {
                    let mut both = [first.1.clone(), second.1.clone()];
                    both.sort();
                    assert!(!second.0 && both == [warpgroups.clone(), warps.clone()], "{name}: {rows:?}");
                    pairs += 1;
                }
                _ => panic!("{name}: {rows:?}"),
            }
        }
        assert!(pairs > 0, "{arguments}: {printed:?}");
    }
    let timed = on("h100", "--rehearse --case ^gemm\\b");
    assert!(timed[1..].iter().all(|row| row["frame_like"]["median_us"].as_f64().unwrap() > 0.0), "{timed:?}");
    let older = on("h100:driver=11080", "--rehearse --case ^gemm\\b");
    assert_eq!(older[0]["products"], "products: warps (mma.sync), for the driver is older than CUDA 12.0");
    assert_eq!(families(&older[1..]), [(true, warps.clone())]);
    let swept = on("h100", "--rehearse --sweep --case ^gemm\\b");
    check_fields(&swept[1..], "bench kernels --sweep, a configuration", &[]);
    let found = families(&swept[1..]);
    assert!(found.contains(&(false, warps.clone())) || found.contains(&(true, warps)), "{swept:?}");
    assert!(found.iter().filter(|(_, family)| *family == warpgroups).count() > 4, "{swept:?}");
}

/// Of what VGPU_DEVICES and VGPU_DEVICE name, in the order of the predictions, with the same numbers; where that is nothing, it
/// says so.
#[test]
fn bench_frame_predicts_for_the_boards_that_are_there() {
    let Some(gpu) = found(Cuda::new(0)) else { return };
    if !gpu.info().is_virtual {
        eprintln!("skipped: {} is no virtual GPU", gpu.info().name);
        return;
    }
    let folder = folder();
    let on = |boards: &[(&str, &str)]| {
        let mut command = command(&folder, "bench frame --size 32x64 --model MODEL --json");
        command.envs(boards.iter().copied()).output().unwrap()
    };
    let predicted =
        |boards: &[(&str, &str)]| objects(&on(boards))[0]["predicted"]["boards"].as_array().unwrap().clone();
    let all = predicted(&[]);
    let names: Vec<&Value> = all.iter().map(|board| &board["gpu"]).collect();
    assert_eq!(names, ["h100", "rtx4090", "orin"]);
    assert_eq!(predicted(&[("VGPU_DEVICES", "orin,a100,h100,h100:sched=1")]), [all[0].clone(), all[2].clone()]);
    assert_eq!(predicted(&[("VGPU_DEVICE", "rtx4090")]), all[1..2]);
    let none = on(&[("VGPU_DEVICE", "a100")]);
    let said = String::from_utf8(none.stderr).unwrap();
    assert!(none.status.code() == Some(2) && none.stdout.is_empty(), "{:?}: {said}", none.status);
    assert!(said.contains("predictions are for h100, rtx4090, orin") && said.contains("VGPU_DEVICES"), "{said}");
}

#[test]
fn a_resnet_has_the_documented_fields_too() {
    let resnet = repository_file("tests/golden/resnet/model.ckpt");
    check(&folder(), &format!("info {resnet}"), &["vit:", "demo model:", "with `--verify`"]);
}

#[cfg(feature = "demo")]
#[test]
fn the_demo_model_says_where_it_comes_from() {
    let object = check(&folder(), "info", &["vit:", "with `--verify`"]);
    assert_eq!(object["model"], "embedded demo model");
}

/// The check above can fail.
#[test]
fn another_field_or_type_is_noticed() {
    let mut seen = BTreeMap::new();
    fields(&serde_json::json!({"text": 1, "ids": [1, 2.5], "more": {}, "list": []}), "", &mut seen);
    let kinds = |field: &str| seen[field].iter().copied().collect::<Vec<_>>();
    assert_eq!(kinds("text"), ["integer"]);
    assert_eq!(kinds("ids[]"), ["integer", "number"]);
    assert_eq!(kinds("list"), ["empty"]);
    assert_ne!(documented("text", &[]), documented("tokenize", &[]));
    assert!(documented("info", &[]).len() > documented("info", &["vit:", "resnet:"]).len() + 8);
}

#[test]
fn a_photo_that_fails_has_an_object_and_a_line_on_stderr() {
    let folder = folder();
    for command in ["run --labels cat", "embed"] {
        let call = call(&folder, &format!("{command} bad.png a.png none.png --size 32x32 --json -q --model MODEL"));
        assert_eq!(call.status.code(), Some(1));
        let [bad, done, none] = &objects(&call)[..] else { panic!("{call:?}") };
        assert_eq!((&bad["photo"], &done["photo"]), (&"bad.png".into(), &"a.png".into()));
        assert!(done.get("error").is_none());
        check_fields(&[bad.clone(), none.clone()], "A photo that fails", &[]);
        let stderr = String::from_utf8(call.stderr).unwrap();
        let said: Vec<String> =
            [bad, none].iter().map(|object| format!("error: {}", object["error"].as_str().unwrap())).collect();
        assert_eq!(stderr.lines().collect::<Vec<_>>(), said);
    }
}

#[test]
fn a_call_that_fails_prints_nothing_on_stdout() {
    let folder = folder();
    let wrong = call(&folder, "run a.png --labels a,a --json --model MODEL");
    assert_eq!((wrong.status.code(), wrong.stdout.len()), (Some(2), 0));
    let wrong = call(&folder, "info bad.png --json");
    assert_eq!((wrong.status.code(), wrong.stdout.len()), (Some(1), 0));
}

/// Where results have no room, the first photo of them is one too many.
#[test]
#[cfg(unix)]
fn a_run_stops_where_no_further_result_can_be_written() {
    let folder = folder();
    for i in 1..5 {
        fs::copy(folder.path().join("a.png"), folder.path().join(format!("a{i}.png"))).unwrap();
    }
    let program = env!("CARGO_BIN_EXE_lseg-fast");
    for command in ["embed", "run --labels cat,dog --save overlay"] {
        let run = "bad.png a.png a1.png a2.png a3.png a4.png --json -q --size 32x32";
        let script = format!("ulimit -f 1 && exec {program} {command} {run} --model {}", model());
        let output = Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let [_, stopped] = &objects(&output)[..] else { panic!("{output:?}") };
        assert_eq!(stopped["photo"], "a.png");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr.lines().count(), 3, "{stderr}");
        assert!(stderr.ends_with("4 of 6 photos were not done\n"), "{stderr}");
        assert_eq!(fs::read_dir(folder.path().join("out")).unwrap().count(), 0);
    }
}

#[test]
#[cfg(unix)]
fn a_path_that_is_not_unicode_is_printed_with_a_replacement() {
    use std::os::unix::ffi::OsStrExt;
    let folder = folder();
    let name = std::ffi::OsStr::from_bytes(b"caf\xE9.png");
    fs::copy(folder.path().join("a.png"), folder.path().join(name)).unwrap();
    for command in [&["run", "--labels", "cat"][..], &["embed"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_lseg-fast"))
            .args(command)
            .args(["--json", "-q", "--size", "32x32", "--model", &model()])
            .arg(name)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(objects(&output)[0]["photo"], "caf\u{FFFD}.png");
    }
    assert!(folder.path().join("out").join(std::ffi::OsStr::from_bytes(b"caf\xE9.embed.npy")).is_file());
}
