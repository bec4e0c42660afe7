//! Wrong calls and bad files, each in one line that names the file or the flag.

use super::*;

/// A photo, its mask and a right prediction.
fn one() -> Folder {
    let folder = Folder::new();
    folder.photo("photos/a.png", 0);
    folder.mask("masks/a.png", WIDTH, &values(0, &[0, 1]));
    folder.mask("predictions/a.png", WIDTH, &values(0, &[0, 1]));
    folder
}

const CALL: &str = "--data folders --images photos --masks masks --labels cat,dog";

fn judged() -> String {
    format!("{CALL} --predictions predictions")
}

#[test]
fn wrong_calls_name_the_flag() {
    let folder = one();
    folder.call("").refused_once(2, &["--data is missing"]);
    folder.call("--data folders --images photos --masks masks").refused_once(2, &["--labels is missing"]);
    folder.call("--data folders --masks masks --labels a").refused_once(2, &["--images is missing"]);
    folder.call("--data folders --images photos --labels a").refused_once(2, &["--masks is missing"]);
    folder.call("--data voc:. --masks masks").refused_once(2, &["--images and --masks", "folders"]);
    folder.call("--data nonsense:x").refused_once(2, &["'--data <KIND:DIR>'"]);
    folder.call(&format!("{CALL} --ignore x")).refused_once(2, &["--ignore"]);
    folder.call(&format!("{CALL} --limit 0")).refused_once(2, &["--limit"]);
    let alone = folder.call(&format!("{CALL} --shard 1/2"));
    assert!(alone.code == Some(2) && alone.stderr.contains("--state"), "{alone:?}");
    folder.call(&format!("{CALL} --shard 3/2 --state s")).refused_once(2, &["--shard"]);
    folder.call(&format!("{} --model m", judged())).refused_once(2, &["--model", "--predictions"]);
    let words: Vec<String> = (0..4097).map(|i| format!("{}\n", name(i))).collect();
    folder.write("words.txt", words.concat());
    let many = CALL.replace("cat,dog", "@words.txt");
    folder.call(&format!("{many} --confusion c.csv {}", model())).refused_once(2, &["c.csv", "4097 words", "4096"]);
    folder.call(&format!("{} --confusion c.txt", judged())).refused_once(2, &["c.txt", ".npy, .csv or .png"]);
    folder.call(&CALL.replace("cat,dog", "cat,dog,cat")).refused_once(2, &["label 3 \"cat\" repeats", "label 1"]);
    let long = "word-".repeat(99);
    let refusal = folder.call(&format!("{} {}", CALL.replace("cat,dog", &format!("cat,{long}")), model()));
    refusal.refused_once(2, &["label 2", "tokens", "shorten"]);
    folder.call(&CALL.replace("photos", "none")).refused_once(1, &["cannot list none"]);
}

#[test]
fn photos_and_masks_must_be_pairs() {
    let folder = one();
    for i in 0..7 {
        folder.photo(&format!("photos/more{i}.jpg"), i);
    }
    let words = ["photos", "without a mask", "more0, more1, more2, more3, more4 and 2 more"];
    folder.call(&judged()).refused_once(2, &words);
    fs::remove_dir_all(folder.path("photos")).unwrap();
    fs::create_dir(folder.path("photos")).unwrap();
    folder.call(&judged()).refused_once(2, &["photos: no photo"]);
    folder.photo("photos/a.png", 0);
    folder.mask("masks/b.png", WIDTH, &[0; WIDTH]);
    folder.call(&judged()).refused_once(2, &["masks: masks without a photo", ": b;"]);
    fs::remove_file(folder.path("masks/b.png")).unwrap();
    folder.photo("photos/a.jpg", 0);
    folder.call(&judged()).refused_once(2, &["a.jpg", "a.png", "one name"]);
}

/// What is spoilt, how, and the words of the refusal.
type Spoil<'a> = (&'static str, &'a dyn Fn(), &'a [&'a str]);

/// The others are measured, and it is told which failed.
#[test]
fn a_bad_file_fails_alone() {
    let folder = one();
    for name in ["b", "c"] {
        folder.photo(&format!("photos/{name}.png"), 1);
        for kind in ["masks", "predictions"] {
            folder.mask(&format!("{kind}/{name}.png"), WIDTH, &values(1, &[0, 1]));
        }
    }
    let good = std::fs::read(folder.path("masks/b.png")).unwrap();
    let grey = (ColorType::Rgb, BitDepth::Eight);
    let spoils: [Spoil; 8] = [
        ("mask", &|| folder.mask("masks/b.png", 8, &[0; 32]), &["masks/b.png", "8×4", "40×32"]),
        (
            "mask",
            &|| folder.mask("masks/b.png", WIDTH, &values(0, &[0, 1, 9, 70])),
            &["masks/b.png: id 9 (", "1 more ids"],
        ),
        ("mask", &|| folder.png("masks/b.png", 2, 2, grey, &[7; 12]), &["masks/b.png", "colours", "indexed"]),
        ("mask", &|| folder.write("masks/b.png", "no mask"), &["masks/b.png", "cannot be read as a mask"]),
        (
            "mask",
            &|| folder.write("masks/b.png", &good[..good.len() / 2]),
            &["masks/b.png", "cannot be read as a mask"],
        ),
        ("mask", &|| folder.write("masks/b.png", ""), &["masks/b.png", "cannot be read as a mask"]),
        (
            "prediction",
            &|| folder.mask("predictions/b.png", WIDTH, &values(0, &[0, 255])),
            &["predictions/b.png: id 255 ("],
        ),
        (
            "prediction",
            &|| fs::remove_file(folder.path("predictions/b.png")).unwrap(),
            &["b.png: no prediction", "b.mask.png"],
        ),
    ];
    for (kind, spoil, words) in spoils {
        spoil();
        let answer = folder.call(&format!("{} --json", judged()));
        answer.refused_once(1, words);
        let report: Value = serde_json::from_str(&answer.stdout).unwrap();
        assert_eq!((&report["photos"], &report["pixel_accuracy"]), (&2.into(), &1.0.into()), "{kind}: {report}");
        assert_eq!((&report["failed"][0]["photo"], report["failed"].as_array().unwrap().len()), (&"b".into(), 1));
        assert!(answer.stderr.contains(report["failed"][0]["error"].as_str().unwrap()));
        folder.write("masks/b.png", &good);
        folder.write("predictions/b.png", &good);
    }
    folder.call(&judged()).done();
    folder.call(&format!("{} --max-pixels 99", judged())).code.filter(|code| *code == 1).unwrap();
    folder.write("photos/b.png", "no photo");
    folder.call(&format!("{CALL} {}", model())).refused_once(1, &["photos/b.png", "not a photo"]);
    folder.sized_photo("photos/b.png", 1, 8, 4);
    folder.call(&format!("{CALL} {}", model())).refused_once(1, &["masks/b.png", "40×32", "photos/b.png", "8×4"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_told_and_leaves_nothing() {
    let folder = one();
    for flag in ["--confusion c/c.npy", "--per-photo c/p.csv", "--state c/s"] {
        folder.write("c", "a file, in which nothing can be written");
        folder.call(&format!("{} {flag}", judged())).refused_once(1, &["cannot write c/"]);
    }
    let masks = folder.call(&format!("{CALL} {} --save-masks c", model()));
    masks.refused_once(1, &["cannot write c/a.mask.png"]);
    // As on a full disk, the photos behind it are not begun.
    let program = env!("CARGO_BIN_EXE_lseg-fast");
    let script = format!("ulimit -f 0 && exec '{program}' eval {CALL} {} --save-masks own", model());
    let answer = Answer::of(Command::new("sh").args(["-c", &script]).current_dir(folder.path("")));
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stderr.contains("cannot write own/a.mask.png") && answer.stderr.contains("not done"), "{answer:?}");
    assert_eq!(fs::read_dir(folder.path("own")).unwrap().count(), 0);
    folder.call(&format!("{} --per-photo /dev/full", judged())).refused_once(1, &["cannot write /dev/full"]);
}
