//! Few-shot data sets: which episodes there are, and their metrics against a loop that is written out here.

use std::collections::BTreeMap;

use super::*;

/// `pickle.dumps` of a dict from class to photos, of protocol 3.
fn pickled(lists: &BTreeMap<u8, Vec<String>>) -> Vec<u8> {
    let mut bytes = b"\x80\x03}(".to_vec();
    for (class, names) in lists {
        bytes.extend([b'K', *class, b']', b'(']);
        for name in names {
            bytes.extend([&b"X"[..], &(name.len() as u32).to_le_bytes(), name.as_bytes()].concat());
        }
        bytes.push(b'e');
    }
    bytes.extend(b"u.");
    bytes
}

/// A made-up split: of class c so many photos, with small masks.
fn coco(folder: &Folder, fold: u8) {
    let mut lists = BTreeMap::new();
    for class in (0..20).map(|v| fold + 4 * v) {
        let name = |photo: usize| format!("val2014/COCO_val2014_{class:03}{photo:09}.jpg");
        let names: Vec<String> = (0..usize::from(class) * 7 % 11 + 1).map(name).collect();
        for (photo, name) in names.iter().enumerate() {
            folder.sized_photo(&format!("coco/COCO2014/{name}"), photo, 8, 4);
            let stem = name.strip_suffix(".jpg").unwrap();
            let mask: Vec<u16> = (0..32).map(|i| if (i + photo) % 3 == 0 { u16::from(class) + 1 } else { 0 }).collect();
            folder.mask(&format!("coco/COCO2014/annotations/{stem}.png"), 8, &mask);
        }
        lists.insert(class, names);
    }
    folder.write(&format!("coco/splits/coco/val/fold{fold}.pkl"), pickled(&lists));
}

/// numpy.random.seed(0), then for each episode choice(classes, 1, replace=False) and choice(photos, 1, replace=False),
/// of NumPy 2.4.6: the first episodes, and a sum over all of them.
#[test]
fn coco_has_numpys_episodes() {
    let folder = Folder::new();
    for (fold, first, sum) in [
        (0, [(72, 5), (68, 1), (76, 0), (4, 6), (24, 0), (20, 1), (4, 6), (8, 0)], 1_944_890_157_usize),
        (3, [(75, 5), (71, 2), (75, 5), (31, 8), (55, 0), (31, 5), (27, 1), (11, 0)], 2_057_405_003),
    ] {
        coco(&folder, fold);
        let listed = folder.call(&format!("--data coco-20i:coco --fold {fold} --list"));
        let episodes: Vec<(usize, usize)> = listed
            .done()
            .lines()
            .map(|line| {
                let (class, name) = line.split_once('\t').unwrap();
                let number = name.strip_prefix(&format!("val2014/COCO_val2014_{class:0>3}")).unwrap();
                (class.parse().unwrap(), number.strip_suffix(".jpg").unwrap().parse().unwrap())
            })
            .collect();
        assert_eq!((episodes.len(), &episodes[..8]), (1000, &first[..]));
        assert_eq!((1..).zip(&episodes).map(|(i, (class, photo))| i * (class * 100 + photo)).sum::<usize>(), sum);
    }
    let report = folder.call(&format!("--data coco-20i:coco --fold 3 --limit 8 {} --json", model())).json();
    assert_eq!((&report["photos"], &report["labelled"]), (&8.into(), &(8 * 32).into()));
    let classes = report["classes"].as_array().unwrap();
    let episodes: Vec<u64> = classes.iter().map(|class| class["episodes"].as_u64().unwrap()).collect();
    assert_eq!((classes.len(), episodes.iter().sum::<u64>(), episodes[18]), (20, 8, 2));
    assert_eq!((&classes[18]["class"], &classes[18]["label"]), (&75.into(), &"vase".into()));
}

#[test]
fn a_pickle_is_data_alone() {
    let folder = Folder::new();
    coco(&folder, 1);
    let list = "coco/splits/coco/val/fold1.pkl";
    let good = fs::read(folder.path(list)).unwrap();
    let call = "--data coco-20i:coco --fold 1 --list";
    folder.call(call).done();
    for (bytes, words) in [
        (b"cos\nsystem\n(S'touch executed'\ntR.".to_vec(), &["os.system", "nothing is executed"][..]),
        ([&good[..good.len() - 1], b"cos\nsystem\n(S'touch executed'\ntR0."].concat(), &["os.system"]),
        (good[..good.len() / 2].to_vec(), &["cut short"]),
        (b"}.".to_vec(), &["has no photo"]),
        (b"no pickle".to_vec(), &["no pickle"]),
        (pickled(&BTreeMap::from_iter((0..80).map(|c| (c, vec!["../a.jpg".to_owned()])))), &["../a.jpg", "out of"]),
        (pickled(&BTreeMap::from_iter((0..80).map(|c| (c, vec!["a.jpg".to_owned()])))), &["a.jpg", "is not there"]),
    ] {
        folder.write(list, bytes);
        folder.call(call).refused_once(2, &[&["fold1.pkl"], words].concat());
    }
    assert!(!folder.path("executed").exists());
    folder.call("--data coco-20i:coco --fold 2 --list").refused_once(1, &["fold2.pkl"]);
}

/// Photos of fold 2, in which classes 10 to 14 are tested, and predictions; 255 counts nowhere.
fn pascal(folder: &Folder) -> Vec<(usize, Vec<u16>, Vec<u16>)> {
    let mut episodes = Vec::new();
    let mut list = String::new();
    for i in 0..8 {
        let (name, class) = (format!("2007_00000{i}"), 10 + i * 3 % 4);
        let mask = values(i, &[0, class as u16 + 1, 3, 255, class as u16 + 1]);
        let said = values(i + 3, &[0, 1, 1]);
        folder.photo(&format!("voc/VOC2012/JPEGImages/{name}.jpg"), i);
        folder.mask(&format!("voc/VOC2012/SegmentationClassAug/{name}.png"), WIDTH, &mask);
        folder.mask(&format!("said/{name}__{:02}.png", class + 1), WIDTH, &said);
        list += &format!("{name}__{:02}\n", class + 1);
        episodes.push((class, mask, said));
    }
    folder.write("lists/pascal/val/fold2.txt", list);
    episodes
}

#[test]
fn pascals_metrics_are_those_of_a_plain_loop() {
    let folder = Folder::new();
    let photos = pascal(&folder);
    let call = "--data pascal-5i:voc --splits lists --fold 2";
    let listed = folder.call(&format!("{call} --list"));
    let lines: Vec<&str> = listed.done().lines().collect();
    assert_eq!((lines.len(), lines[0], lines[9], lines[999]), (1000, "2007_000000__11", "2007_000001__14", lines[7]));
    let report = folder.call(&format!("{call} --predictions said --json")).json();

    // (background, foreground) of each class.
    let mut inter = [[0.0; 2]; 5];
    let mut union = [[0.0; 2]; 5];
    for episode in 0..1000 {
        let (class, mask, said) = &photos[episode % 8];
        for (value, said) in mask.iter().zip(said) {
            if *value == 255 {
                continue;
            }
            let truth = u16::from(usize::from(*value) == class + 1);
            for side in 0..2 {
                let (is, was) = (truth == side, *said == side);
                inter[class - 10][usize::from(side)] += f64::from(u8::from(is && was));
                union[class - 10][usize::from(side)] += f64::from(u8::from(is || was));
            }
        }
    }
    let iou: Vec<f64> = (0..5).map(|class| inter[class][1] / f64::max(union[class][1], 1.0)).collect();
    let pooled = [0, 1].map(|side| {
        let sum = |of: &[[f64; 2]; 5]| of.iter().map(|class| class[side]).sum::<f64>();
        sum(&inter) / sum(&union)
    });
    let near = |found: &Value, expected: f64| {
        assert!((found.as_f64().unwrap() - expected).abs() < 1e-12, "{found} {expected}")
    };
    for (class, expected) in report["classes"].as_array().unwrap().iter().zip(&iou) {
        near(&class["iou"], *expected);
    }
    assert_eq!(report["classes"][4]["episodes"], 0);
    near(&report["folds"][0]["mean_iou"], iou.iter().sum::<f64>() / 5.0);
    near(&report["folds"][0]["fb_iou"], pooled.iter().sum::<f64>() / 2.0);
    near(&report["fb_iou"], pooled.iter().sum::<f64>() / 2.0);
    assert_eq!((&report["photos"], &report["folds"][0]["episodes"]), (&1000.into(), &1000.into()));

    // The engine looks for ["others", class] in each.
    let own = folder.call(&format!("{call} --limit 8 {} --save-masks own --json", model()));
    assert_eq!(own.done(), folder.call(&format!("{call} --limit 8 --predictions own --json")).done());
    let mut run = Command::new(env!("CARGO_BIN_EXE_lseg-fast"));
    run.args(["run", "voc/VOC2012/JPEGImages/2007_000000.jpg", "--labels", "others,diningtable", "--save", "mask"]);
    assert_eq!(Answer::of(run.args(model().split_whitespace()).current_dir(folder.path(""))).code, Some(0));
    let pixels = |name: &str| {
        let mut reader =
            png::Decoder::new(std::io::BufReader::new(File::open(folder.path(name)).unwrap())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        pixels
    };
    assert_eq!(pixels("own/2007_000000__11.mask.png"), pixels("out/2007_000000.mask.png"));
    let matrix = folder.call(&format!("{call} --predictions said --confusion c.csv --per-photo p.csv"));
    assert!(matrix.done().contains("mean"), "{matrix:?}");
    let matrix = fs::read_to_string(folder.path("c.csv")).unwrap();
    assert!(matrix.starts_with("true \\ predicted,background,foreground\nbackground,"), "{matrix}");
    let rows = fs::read_to_string(folder.path("p.csv")).unwrap();
    assert!(rows.lines().nth(1).unwrap().starts_with("2007_000000__11,diningtable,"), "{rows}");
}

#[test]
fn all_folds_are_told_apart() {
    let folder = Folder::new();
    for fold in 0..4 {
        let class = 5 * fold;
        let name = format!("2007_00000{fold}");
        folder.photo(&format!("voc/JPEGImages/{name}.jpg"), fold);
        let mask = values(fold, &[0, class as u16 + 1]);
        folder.mask(&format!("voc/SegmentationClassAug/{name}.png"), WIDTH, &mask);
        let said: Vec<u16> = mask.iter().map(|value| u16::from(*value > 0)).collect();
        folder.mask(&format!("said/{name}__{:02}.png", class + 1), WIDTH, &said);
        folder.write(&format!("voc/splits/pascal/val/fold{fold}.txt"), format!("{name}__{:02}\n", class + 1));
    }
    let report = folder.call("--data pascal-5i:voc --fold all --predictions said --json").json();
    let folds = report["folds"].as_array().unwrap();
    assert_eq!(folds.iter().map(|fold| fold["fold"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    // One of a fold's five classes has photos.
    assert!(folds.iter().all(|fold| fold["mean_iou"] == 0.2 && fold["fb_iou"] == 1.0), "{report}");
    assert_eq!((&report["mean_iou"], &report["fb_iou"], &report["photos"]), (&0.2.into(), &1.0.into(), &4000.into()));
}

#[test]
fn wrong_episodes_name_the_list() {
    let folder = Folder::new();
    pascal(&folder);
    let call = "--data pascal-5i:voc --splits lists --list";
    folder.call(call).refused_once(2, &["--fold is missing"]);
    folder.call(&format!("{call} --fold 4")).refused_once(2, &["--fold", "0, 1, 2, 3 or all"]);
    folder.call(&format!("{call} --fold 1")).refused_once(1, &["fold1.txt"]);
    folder.call(&format!("{call} --fold 2 --ignore 3")).refused_once(2, &["--map and --ignore", "episodes"]);
    folder.call(&format!("{call} --fold 2 --extra sky")).refused_once(2, &["--extra and --other-words", "episode"]);
    folder.call("--data fss-1000:x --fold 1").refused_once(2, &["--fold is not for fss-1000"]);
    folder.call("--data voc:x --fold 1").refused_once(2, &["--fold and --splits", "pascal-5i"]);
    folder.call(&format!("{call} --fold 2 --labels a,b")).refused_once(2, &["2 labels for a data set of 20"]);
    for (line, words) in [
        ("2007_000000__01", &["is no photo and class of fold 2", "2007_000033__11"][..]),
        ("2007_000000", &["is no photo and class"]),
        ("2007_000099__11", &["names 2007_000099__11", "JPEGImages/2007_000099.jpg is not there"]),
        ("../../x__11", &["leads out of the data set"]),
    ] {
        folder.write("lists/pascal/val/fold2.txt", line);
        folder.call(&format!("{call} --fold 2")).refused_once(2, &[&["fold2.txt"], words].concat());
    }
}

/// Masks are bright where the class is, in colours too.
#[test]
fn fss_has_a_class_a_folder() {
    let folder = Folder::new();
    folder.write("FSS/splits/fss/test.txt", "zebra\nabacus\n");
    let mut expected = Vec::new();
    for (number, class) in [(760, "abacus"), (761, "zebra")] {
        for photo in [1, 10, 2, 3] {
            folder.photo(&format!("FSS/FSS-1000/{class}/{photo}.jpg"), photo);
            let mask = values(photo, &[127, 128, 255, 0]);
            let rgb: Vec<u8> = mask.iter().flat_map(|value| [*value as u8; 3]).collect();
            let name = format!("FSS/FSS-1000/{class}/{photo}.png");
            folder.png(&name, WIDTH, HEIGHT, (ColorType::Rgb, BitDepth::Eight), &rgb);
            let said: Vec<u16> = mask.iter().map(|value| u16::from(*value >= 128)).collect();
            folder.mask(&format!("said/{class}/{photo}.png"), WIDTH, &said);
            expected.push(format!("{number}\t{class}/{photo}.jpg\n"));
        }
    }
    let call = "--data fss-1000:FSS";
    assert_eq!(folder.call(&format!("{call} --list")).done(), expected.concat());
    let report = folder.call(&format!("{call} --predictions said --json")).json();
    assert_eq!((&report["mean_iou"], &report["fb_iou"], &report["photos"]), (&1.0.into(), &1.0.into(), &8.into()));
    assert_eq!((&report["classes"][0]["label"], &report["classes"][1]["class"]), (&"abacus".into(), &761.into()));
    folder.call(&format!("{call} --limit 2 {}", model())).done();
    folder.write("FSS/splits/fss/test.txt", "none\n");
    folder.call(&format!("{call} --list")).refused_once(2, &["test.txt: none is no folder"]);
    folder.write("FSS/splits/fss/test.txt", "..\n");
    folder.call(&format!("{call} --list")).code.filter(|code| *code != 0).unwrap();
}
