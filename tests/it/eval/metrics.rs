//! The numbers: against scikit-learn's and torchmetrics', and the same in every form in which they are given.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::*;

/// tests/golden/metrics.json, written by metrics.py beside it.
fn cases() -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics.json");
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<u16> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as u16).collect()
}

/// A case's files, and the call that judges its predictions.
fn written(case: &Value) -> (Folder, String) {
    let folder = Folder::new();
    let width = case["width"].as_u64().unwrap() as usize;
    let names = ["masks", "predictions"];
    for name in names {
        for (photo, values) in case[name].as_array().unwrap().iter().enumerate() {
            folder.mask(&format!("{name}/p{photo}.png"), width, &numbers(values));
        }
    }
    let photos = case["masks"].as_array().unwrap().len();
    (0..photos).for_each(|photo| folder.photo(&format!("photos/p{photo}.png"), photo));
    let ids = numbers(&case["ids"]);
    folder.write("words.txt", (0..ids.len()).map(|i| format!("word {}\n", name(i))).collect::<String>());
    let map = ids.iter().enumerate().map(|(i, id)| format!("{id} word {}\n", name(i)));
    folder.write("map.txt", map.collect::<String>());
    let call = format!(
        "--data folders --images photos --masks masks --labels @words.txt --map map.txt --ignore {} \
         --predictions predictions",
        case["ignored"]
    );
    (folder, call)
}

#[track_caller]
fn near(found: &Value, expected: &Value, what: &str, tolerance: f64) {
    let [found, expected] = [found, expected].map(|value| value.as_f64().unwrap_or_else(|| panic!("{what}: {value}")));
    assert!((found - expected).abs() <= tolerance, "{what}: {found}, expected {expected}");
}

#[test]
fn metrics_are_those_of_scikit_learn_and_torchmetrics() {
    for case in cases() {
        let (folder, call) = written(&case);
        let report = folder.call(&format!("{call} --json")).json();
        for metric in ["pixel_accuracy", "mean_iou", "frequency_weighted_iou"] {
            near(&report[metric], &case[metric], &format!("{}: {metric}", case["name"]), 1e-12);
        }
        // torchmetrics computes in float32.
        near(&report["mean_iou_present"], &case["mean_iou_present"], "mean_iou_present", 1e-6);
        let labels = report["labels"].as_array().unwrap();
        assert_eq!(labels.len(), case["iou"].as_array().unwrap().len());
        for (label, expected) in labels.iter().zip(case["iou"].as_array().unwrap()) {
            let absent = label["pixels"] == 0 && label["predicted"] == 0;
            assert_eq!(label["iou"].is_null(), absent, "{label}");
            let found = if absent { Value::from(0.0) } else { label["iou"].clone() };
            near(&found, expected, "IoU", 1e-12);
        }
    }
}

#[test]
fn the_confusion_matrix_is_scikit_learns_in_every_form() {
    for case in cases() {
        let (folder, call) = written(&case);
        let labels = case["labels"].as_u64().unwrap() as usize;
        let mut expected = vec![0_u64; labels * labels];
        for cell in case["confusion"].as_array().unwrap() {
            let [row, column, count] = [0, 1, 2].map(|i| cell[i].as_u64().unwrap());
            expected[row as usize * labels + column as usize] = count;
        }
        for form in ["npy", "csv", "png"] {
            folder.call(&format!("{call} --confusion c.{form}")).done();
        }
        let npy = fs::read(folder.path("c.npy")).unwrap();
        let header = String::from_utf8_lossy(&npy[..128]).into_owned();
        assert!(header.contains(&format!("'<u8', 'fortran_order': False, 'shape': ({labels}, {labels})")), "{header}");
        let counts = npy[npy.len() - 8 * expected.len()..].chunks_exact(8);
        let counts: Vec<u64> = counts.map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect();
        assert_eq!(counts, expected);

        let mut table = csv::Reader::from_path(folder.path("c.csv")).unwrap();
        let heads: Vec<String> = table.headers().unwrap().iter().map(str::to_owned).collect();
        assert_eq!((heads.len(), &*heads[1]), (labels + 1, "word a"));
        let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
        let cells = rows.iter().flat_map(|row| row.iter().skip(1)).map(|cell| cell.parse::<u64>().unwrap());
        assert_eq!(cells.collect::<Vec<_>>(), expected);

        let picture = image::open(folder.path("c.png")).unwrap().into_luma8();
        let cell = picture.width() as usize / labels;
        let middle = |i: usize| picture.get_pixel((i % labels * cell) as u32, (i / labels * cell) as u32).0[0];
        for (i, count) in expected.iter().enumerate() {
            let row: u64 = expected[i / labels * labels..][..labels].iter().sum();
            assert_eq!(middle(i), (255.0 * *count as f64 / row.max(1) as f64).round() as u8);
        }
    }
}

/// In the order of the photos, with the same pixels right as in all.
#[test]
fn the_table_of_photos_adds_up() {
    let case = &cases()[0];
    let (folder, call) = written(case);
    let report = folder.call(&format!("{call} --json --per-photo p.csv")).json();
    let mut table = csv::Reader::from_path(folder.path("p.csv")).unwrap();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    assert_eq!(rows.iter().map(|row| &row[0]).collect::<Vec<_>>(), ["p0", "p1", "p2"]);
    let sum = |column: usize| rows.iter().map(|row| row[column].parse::<f64>().unwrap()).sum::<f64>();
    assert_eq!(sum(2), report["labelled"].as_f64().unwrap());
    near(&Value::from(sum(3) / sum(2)), &case["pixel_accuracy"], "accuracy", 1e-12);
    let own = |row: &csv::StringRecord| row[3].parse::<f64>().unwrap() / row[2].parse::<f64>().unwrap();
    rows.iter().for_each(|row| assert_eq!(row[4], format!("{:.6}", own(row))));
}

/// Grey of 1 to 16 bits and indexed: the same ids.
#[test]
fn every_kind_of_mask_gives_its_ids() {
    let folder = Folder::new();
    folder.photo("photos/a.png", 0);
    let values: Vec<u16> = (0..WIDTH * HEIGHT).map(|i| (i * i % 7 % 2) as u16).collect();
    folder.mask("predictions/a.mask.png", WIDTH, &values);
    let packed = |bits: usize| -> Vec<u8> {
        let byte = |chunk: &[u16]| chunk.iter().fold(0_u16, |byte, value| byte << bits | value) as u8;
        values.chunks(8 / bits).map(byte).collect()
    };
    let wide: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
    let call = "--data folders --images photos --masks masks --labels cat,dog --predictions predictions --json";
    for (colour, depth, data) in [
        (ColorType::Grayscale, BitDepth::One, packed(1)),
        (ColorType::Grayscale, BitDepth::Two, packed(2)),
        (ColorType::Grayscale, BitDepth::Four, packed(4)),
        (ColorType::Grayscale, BitDepth::Eight, packed(8)),
        (ColorType::Grayscale, BitDepth::Sixteen, wide),
        (ColorType::Indexed, BitDepth::Four, packed(4)),
        (ColorType::Indexed, BitDepth::Eight, packed(8)),
    ] {
        folder.png("masks/a.png", WIDTH, HEIGHT, (colour, depth), &data);
        let report = folder.call(call).json();
        assert_eq!(
            (&report["pixel_accuracy"], &report["mean_iou"]),
            (&1.0.into(), &1.0.into()),
            "{colour:?} {depth:?}"
        );
        assert_eq!(report["labelled"], WIDTH * HEIGHT);
    }
}

/// Several values of one label are one: its IoU is of their union. What has no label counts only where it is told so.
#[test]
fn a_label_of_several_values_is_their_union() {
    let folder = Folder::new();
    folder.photo("photos/a.png", 0);
    let half = |low: u16, high: u16| [vec![low; WIDTH * HEIGHT / 2], vec![high; WIDTH * HEIGHT / 2]].concat();
    let mut truth = half(3, 9);
    truth[..WIDTH].fill(77);
    folder.mask("masks/a.png", WIDTH, &truth);
    folder.mask("predictions/a.png", WIDTH, &vec![1; WIDTH * HEIGHT]);
    folder.write("map.txt", "# animals\n3 animal\n9,animal\n\n4\tplant\n");
    let call =
        "--data folders --images photos --masks masks --labels plant,animal --map map.txt --predictions predictions";
    folder.call(call).refused_once(1, &["masks/a.png", "id 77 (40 pixels)", "2 labels", "--ignore"]);
    for more in ["--ignore 77", "--ignore rest"] {
        let report = folder.call(&format!("{call} --json {more}")).json();
        assert_eq!((&report["labels"][1]["iou"], &report["labels"][0]["iou"]), (&1.0.into(), &Value::Null));
        assert_eq!((&report["mean_iou"], &report["mean_iou_present"]), (&0.5.into(), &1.0.into()));
    }
    for (map, words) in [
        ("3 beast\n", &["line 1", "beast", "--labels"][..]),
        ("3 plant\n\n3 animal\n", &["line 3", "repeats"]),
        ("70000 plant\n", &["line 1", "0 to 65535"]),
        ("", &["no line"]),
    ] {
        folder.write("map.txt", map);
        folder.call(call).refused_once(2, &[&["map.txt"], words].concat());
    }
}

/// The engine's masks and the same masks from their files.
#[test]
fn the_engines_masks_are_judged_as_files_are() {
    let folder = Folder::new();
    folder.tree();
    let own = folder.call(&format!("{FOLDERS} {} --save-masks own --json", model()));
    let files = folder.call(&format!("{FOLDERS} --predictions own --json"));
    assert_eq!(own.done(), files.done());
    assert_eq!(own.json()["photos"], 8);
    let text = folder.call(&format!("{FOLDERS} --predictions own"));
    let mean = format!("{:.2}", 100.0 * own.json()["mean_iou"].as_f64().unwrap());
    assert!(text.done().lines().any(|line| line.contains(&mean) && line.contains("as published")), "{text:?}");
    // As `run` does it.
    let mut run = Command::new(env!("CARGO_BIN_EXE_lseg-fast"));
    run.args(["run", "photos", "--labels", "cat,wall,other", "--save", "mask"]).args(model().split_whitespace());
    assert_eq!(Answer::of(run.current_dir(folder.path(""))).code, Some(0));
    for i in 0..8 {
        let [run, own] = ["out", "own"].map(|out| image::open(folder.path(&format!("{out}/p{i}.mask.png"))).unwrap());
        assert_eq!(run.into_rgb8().dimensions(), own.into_rgb8().dimensions());
    }
    let of_run = folder.call(&format!("{FOLDERS} --predictions out --json"));
    assert_eq!(own.done(), of_run.done());
}

#[test]
fn photos_are_listed_and_limited() {
    let folder = Folder::new();
    folder.tree();
    assert_eq!(folder.call(&format!("{FOLDERS} --list --limit 3")).done(), "p0\np1\np2\n");
    let report = folder.call(&format!("{FOLDERS} --limit 3 --predictions masks --json")).json();
    assert_eq!((&report["photos"], &report["pixel_accuracy"]), (&3.into(), &1.0.into()));
}
