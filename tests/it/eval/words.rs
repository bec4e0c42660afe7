//! Words that are nowhere true, and words for the rest.

use super::*;

/// Pixels of a mask's file.
fn pixels(folder: &Folder, name: &str) -> Vec<u8> {
    let file = std::io::BufReader::new(File::open(folder.path(name)).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    pixels
}

/// The values of all masks, and what `run` says with these labels.
fn truth_and_masks(folder: &Folder, labels: &str) -> Vec<(u16, u8)> {
    let mut run = Command::new(env!("CARGO_BIN_EXE_lseg-fast"));
    run.args(["run", "photos", "--labels", labels, "--save", "mask"]).args(model().split_whitespace());
    assert_eq!(Answer::of(run.current_dir(folder.path(""))).code, Some(0));
    let pairs = (0..8).flat_map(|i| {
        let said = pixels(folder, &format!("out/p{i}.mask.png"));
        values(i, &[0, 1, 2, 255]).into_iter().zip(said).collect::<Vec<_>>()
    });
    pairs.filter(|(value, _)| *value != 255).collect()
}

#[test]
fn extra_words_take_their_pixels_and_are_no_labels() {
    let folder = Folder::new();
    folder.tree();
    let pairs = truth_and_masks(&folder, "cat,wall,other,sky,sea");
    let call = format!("{FOLDERS} {} --extra sky,sea --json --confusion c.npy", model());
    let report = folder.call(&call).json();
    let count = |is: &dyn Fn(u16, u8) -> bool| pairs.iter().filter(|(value, said)| is(*value, *said)).count();
    assert_eq!(report["labels"].as_array().unwrap().len(), 3);
    for (index, word) in [(3, "sky"), (4, "sea")] {
        let extra = &report["extra"][index - 3];
        assert_eq!(
            (&extra["word"], &extra["predicted"]),
            (&word.into(), &count(&|_, said| usize::from(said) == index).into())
        );
    }
    for label in 0..3_u16 {
        let inter = count(&|value, said| value == label && u16::from(said) == label);
        let union = count(&|value, said| value == label || u16::from(said) == label);
        let iou = report["labels"][usize::from(label)]["iou"].as_f64().unwrap();
        assert!((iou - inter as f64 / union as f64).abs() < 1e-12, "{iou}");
    }
    let matrix = fs::read(folder.path("c.npy")).unwrap();
    assert!(String::from_utf8_lossy(&matrix).contains("'shape': (3, 5)"));
    // In predictions too.
    let judged = folder.call(&format!("{FOLDERS} --predictions out --extra sky,sea --json"));
    assert_eq!(judged.json()["extra"], report["extra"]);
    folder.call(&format!("{FOLDERS} --extra sky,wall")).refused_once(2, &["label 5 \"wall\" repeats", "label 2"]);
}

#[test]
fn each_word_for_the_rest_has_its_own_numbers() {
    let folder = Folder::new();
    folder.tree();
    let call = FOLDERS.replace("cat,wall,other", "cat,wall");
    let report = folder.call(&format!("{call} {} --other-words me,other --json --per-photo p.csv", model())).json();
    for (index, word) in ["me", "other"].iter().enumerate() {
        let pairs = truth_and_masks(&folder, &format!("cat,wall,{word}"));
        let of = |label: u16| {
            let inter = pairs.iter().filter(|(value, said)| *value == label && u16::from(*said) == label).count();
            let union = pairs.iter().filter(|(value, said)| *value == label || u16::from(*said) == label).count();
            (inter as f64, union as f64, pairs.iter().filter(|(value, _)| *value == label).count() as f64)
        };
        let [cat, wall, rest] = [0, 1, 2].map(of);
        let found = &report["other_words"][index];
        assert_eq!(found["word"], *word);
        for (metric, expected) in [
            ("mean_iou", (cat.0 / cat.1 + wall.0 / wall.1) / 2.0),
            ("rest_iou", rest.0 / rest.1),
            ("rest_recall", rest.0 / rest.2),
        ] {
            let found = found[metric].as_f64().unwrap();
            assert!((found - expected).abs() < 1e-12, "{word}: {metric}: {found}, expected {expected}");
        }
    }
    assert_eq!(report["photos"], 16);
    let rows = fs::read_to_string(folder.path("p.csv")).unwrap();
    assert!(rows.lines().nth(2).unwrap().starts_with("p0,other,"), "{rows}");
    folder.call(&format!("{call} --other-words cat")).refused_once(2, &["label 3 \"cat\" repeats"]);
    let both = folder.call(&format!("{call} --other-words a --extra b"));
    assert!(both.code == Some(2) && both.stderr.contains("--extra"), "{both:?}");
}
