//! Data sets as their archives lay them out: which photos, masks and words they are, and what is said where something
//! is missing.

use super::*;

/// The list of labels as LSeg has it, and as the archive of photos has it.
const LSEG_LIST: &str = "Idx,Ratio,Train,Val,Stuff,Name\n1,0.1,9,9,1,wall;brick\n2,0.1,9,9,1,building\n3,0.1,9,9,1,sky\n4,0.1,9,9,1,wall;a\n";
const ADE_LIST: &str = "Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t0.1\t9\t9\t1\twall, brick\n\
    2\t0.1\t9\t9\t1\tbuilding\n3\t0.1\t9\t9\t1\tsky\n4\t0.1\t9\t9\t1\twall, a\n";

/// Right predictions, and the names and values of the photos.
fn judged(folder: &Folder, data: &str, expected: &[(&str, &[u16])], labels: &[&str]) {
    let report = folder.call(&format!("--data {data} --predictions predictions --json")).json();
    assert_eq!((&report["photos"], &report["pixel_accuracy"]), (&expected.len().into(), &1.0.into()), "{report}");
    let words: Vec<&str> = report["labels"].as_array().unwrap().iter().map(|l| l["label"].as_str().unwrap()).collect();
    assert_eq!(words[..labels.len()], *labels);
    let names: String = expected.iter().map(|(name, _)| format!("{name}\n")).collect();
    assert_eq!(folder.call(&format!("--data {data} --list")).done(), names);
    for label in report["labels"].as_array().unwrap() {
        let value = label["index"].as_u64().unwrap() as u16;
        let pixels = expected.iter().flat_map(|(_, values)| *values).filter(|other| **other == value).count();
        assert_eq!(label["pixels"], pixels, "{label}");
    }
}

/// Eight photos with masks of these values, and predictions of the labels that they stand for; 9 for what is left out.
fn written(folder: &Folder, photo: impl Fn(usize) -> [String; 3], ids: &[(u16, u16)]) -> Vec<(String, Vec<u16>)> {
    let (values, labels): (Vec<u16>, Vec<u16>) = ids.iter().copied().unzip();
    let one = |seed: usize| {
        let [name, photo, mask] = photo(seed);
        folder.photo(&photo, seed);
        folder.mask(&mask, WIDTH, &super::values(seed, &values));
        let labels = super::values(seed, &labels);
        // Where nothing is true, anything may be said.
        let said: Vec<u16> = labels.iter().map(|label| if *label == u16::MAX { 0 } else { *label }).collect();
        folder.mask(&format!("predictions/{name}.png"), WIDTH, &said);
        (name, labels)
    };
    (0..8).map(one).collect()
}

fn borrowed(photos: &[(String, Vec<u16>)]) -> Vec<(&str, &[u16])> {
    photos.iter().map(|(name, values)| (name.as_str(), &values[..])).collect()
}

const NONE: u16 = u16::MAX;

#[test]
fn ade20k_has_its_label_one_below_the_mask() {
    let folder = Folder::new();
    let name = |i: usize| format!("ADE_val_{i:08}");
    let files = |i: usize| {
        let [photos, masks] =
            ["images", "annotations"].map(|kind| format!("ade/ADEChallengeData2016/{kind}/validation"));
        [name(i), format!("{photos}/{}.jpg", name(i)), format!("{masks}/{}.png", name(i))]
    };
    let photos = written(&folder, files, &[(0, NONE), (1, 0), (2, 1), (3, 2)]);
    folder.call("--data ade20k:ade --list").refused_once(2, &["ade: no objectInfo150.txt", "--labels"]);
    folder.write("ade/ADEChallengeData2016/objectInfo150.txt", ADE_LIST);
    judged(&folder, "ade20k:ade", &borrowed(&photos), &["wall", "building", "sky"]);
    folder.write("ade/ADEChallengeData2016/objectInfo150.txt", LSEG_LIST);
    for data in ["ade20k:ade", "ade20k:ade/ADEChallengeData2016 --labels wall,building,sky"] {
        judged(&folder, data, &borrowed(&photos), &["wall", "building", "sky"]);
    }
    let few = folder.call("--data ade20k:ade --labels wall,building --predictions predictions");
    assert!(few.stderr.contains("ADE_val_00000000.png: id 3 ("), "{few:?}");
    // Of a word that is there twice, as in the published list, the first has every pixel.
    let own = folder.call(&format!("--data ade20k:ade {} --json", model())).json();
    let few = folder.call(&format!("--data ade20k:ade --labels wall,building,sky {} --json", model())).json();
    assert_eq!(own["labels"].as_array().unwrap()[..3], few["labels"].as_array().unwrap()[..]);
    assert_eq!((&own["labels"][3]["label"], &own["labels"][3]["predicted"]), (&"wall".into(), &0.into()));
    let typed = "--data ade20k:ade --labels @ade/ADEChallengeData2016/objectInfo150.txt";
    assert_eq!(folder.call(&format!("{typed} {} --json", model())).json(), own);
    folder.call("--data ade20k:ade --labels wall,sky,wall").refused_once(2, &["label 3 \"wall\" repeats"]);
    folder.write("ade/ADEChallengeData2016/objectInfo150.txt", "wall\nsky\n");
    folder.call("--data ade20k:ade").refused_once(2, &["objectInfo150.txt: expected a table"]);
}

#[test]
fn cityscapes_has_its_19_train_ids() {
    let folder = Folder::new();
    let files = |i: usize| {
        let city = ["frankfurt", "munster"][i / 4];
        let name = format!("{city}/{city}_00000{i}_000019");
        for other in ["color", "instanceIds"] {
            folder.write(&format!("c/gtFine/val/{name}_gtFine_{other}.png"), "not to be read");
        }
        let photo = format!("c/leftImg8bit/val/{name}_leftImg8bit.png");
        [name.clone(), photo, format!("c/gtFine/val/{name}_gtFine_labelIds.png")]
    };
    let photos = written(&folder, files, &[(7, 0), (33, 18), (3, NONE), (24, 11), (0, NONE), (31, 16)]);
    judged(&folder, "cityscapes:c", &borrowed(&photos), &["road", "sidewalk", "building", "wall"]);
    folder.call("--data cityscapes:c --labels road,sky").refused_once(2, &["2 labels for a data set of 19", "road"]);
    // With a map other words are looked for; what is left out stays so.
    folder.write("map.txt", "7 ground\n24 person\n31 thing\n33 thing\n");
    let call = format!("--data cityscapes:c --labels ground,person,thing --map map.txt {} --json", model());
    let report = folder.call(&call).json();
    let of = |ids: &[u16]| photos.iter().flat_map(|(_, values)| values).filter(|value| ids.contains(value)).count();
    let pixels: Vec<&Value> = (0..3).map(|label| &report["labels"][label]["pixels"]).collect();
    assert_eq!(pixels, [of(&[0]), of(&[11]), of(&[16, 18])]);
    assert_eq!(report["labelled"], of(&[0, 11, 16, 18]));
}

#[test]
fn voc_has_background_first_and_leaves_borders_out() {
    let folder = Folder::new();
    let files = |i: usize| {
        let name = format!("2007_00000{i}");
        [name.clone(), format!("voc/JPEGImages/{name}.jpg"), format!("voc/SegmentationClass/{name}.png")]
    };
    let photos = written(&folder, files, &[(0, 0), (1, 1), (20, 20), (255, NONE)]);
    let list = |names: &[&str]| folder.write("voc/ImageSets/Segmentation/val.txt", names.join("\r\n") + "\r\n");
    let (photos, dropped) = (&photos[..7], &photos[7]);
    list(&photos.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
    judged(&folder, "voc:voc", &borrowed(photos), &["background", "aeroplane", "bicycle"]);
    fs::rename(folder.path("voc/SegmentationClass"), folder.path("voc/SegmentationClassAug")).unwrap();
    judged(&folder, "voc:voc", &borrowed(photos), &["background"]);
    list(&["2007_000000", "", "2007_000099"]);
    folder
        .call("--data voc:voc --list")
        .refused_once(2, &["val.txt: names 2007_000099", "JPEGImages/2007_000099.jpg is not there"]);
    list(&["../../2007_000000"]);
    folder.call("--data voc:voc --list").refused_once(2, &["val.txt: names ../../2007", "out of the data set"]);
    fs::remove_file(folder.path(&format!("voc/SegmentationClassAug/{}.png", dropped.0))).unwrap();
    list(&[&dropped.0]);
    folder.call("--data voc:voc --list").refused_once(2, &["val.txt: names", "SegmentationClassAug", "is not there"]);
    folder.write("voc/ImageSets/Segmentation/val.txt", "\n\n");
    folder.call("--data voc:voc --list").refused_once(2, &["val.txt: no line"]);
    folder.write("voc/ImageSets/Segmentation/val.txt", b"\xff\xfe");
    folder.call("--data voc:voc --list").refused_once(2, &["val.txt: not UTF-8"]);
    fs::remove_dir_all(folder.path("voc/SegmentationClassAug")).unwrap();
    folder.call("--data voc:voc --list").refused_once(2, &["voc: neither SegmentationClass nor"]);
    folder.call("--data voc:none").refused_once(2, &["none: neither"]);
}
