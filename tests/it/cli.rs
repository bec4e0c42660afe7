//! The real program, called as users call it, in a folder of its own.
//! One file: its tests are short, and share what they start and how they read it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lseg_fast::device::cuda::MODULES;
use tempfile::TempDir;

use crate::answer::Answer;

const COMMANDS: [&str; 10] = ["run", "stream", "embed", "text", "convert", "tokenize", "info", "plan", "eval", "bench"];

/// A folder in which the program is called.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    /// A small photo with something in it.
    fn photo(&self, name: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        let picture = image::RgbImage::from_fn(70, 50, |x, y| image::Rgb([3 * x as u8, 5 * y as u8, (x * y) as u8]));
        picture.save(self.path(name)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lseg-fast"));
        command.args(arguments).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    fn call(&self, arguments: &[&str]) -> Answer {
        Answer::of(&mut self.command(arguments))
    }

    /// As [`Folder::call`], where the virtual GPU is not to be found.
    fn call_without_virtual_gpu(&self, arguments: &[&str]) -> Answer {
        Answer::of(self.command(arguments).env_remove("LD_LIBRARY_PATH"))
    }

    /// The names in a subfolder, sorted.
    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// The repository's small model with random weights, as a published checkpoint.
fn seeded_model() -> String {
    repository_file("weights/seeded/seeded.ckpt")
}

fn repository_file(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).to_str().unwrap().to_owned()
}

fn run_on<'a>(photos: &[&'a str], model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["run"];
    arguments.extend(photos);
    arguments.extend(["--labels", "cat,wall,other", "--model", model, "--device", "cpu"]);
    arguments.extend(more);
    arguments
}

#[test]
fn every_help_has_examples() {
    let folder = Folder::new();
    assert!(folder.call(&["--help"]).done().contains("Examples:"));
    for command in COMMANDS {
        let help = folder.call(&[command, "--help"]);
        assert!(help.done().contains(&format!("Examples:\n  lseg-fast {command}")), "{help:?}");
    }
    assert!(folder.call(&["--version"]).done().starts_with("lseg-fast "));
}

#[test]
fn wrong_calls_are_exit_code_2() {
    let folder = Folder::new();
    folder.photo("a.png");
    for arguments in [
        &[][..],
        &["segment"],
        &["run"],
        &["run", "a.png"],
        &["run", "--labels", "dog"],
        &["run", "a.png", "--labels", "dog", "--nonsense"],
        &["run", "a.png", "--labels", "dog", "--save", "mask,nonsense"],
        &["run", "a.png", "--labels", "dog", "--threads", "0"],
        &["run", "a.png", "--labels", "dog", "--max-pixels", "-1"],
        &["convert", "a.ckpt"],
        &["convert", "a.ckpt", "--out", "b", "--dtype", "f64"],
        &["convert", "a.ckpt", "--out", "b", "--head-block", "nonsense"],
        &["tokenize"],
        &["info", "a.ckpt", "b.ckpt"],
        &["plan", "--labels-count", "0"],
    ] {
        let answer = folder.call(arguments);
        assert_eq!(answer.code, Some(2), "{arguments:?}: {answer:?}");
        assert!(answer.stderr.contains("Usage") || answer.stderr.contains("error: "), "{answer:?}");
        assert_eq!(answer.stdout, "");
    }
    let run = |more: &[&str]| folder.call(&[&["run", "a.png", "--labels", "dog"], more].concat());
    run(&["--size", "480"]).refused(2, &["\"480\"", "HEIGHTxWIDTH", "long:480"]);
    run(&["--device", "gpu"]).refused(2, &["\"gpu\"", "auto, cpu, cuda or cuda:N"]);
    run(&["--save", "pictures"]).refused(2, &["mask, overlay, masks, heat, confidence, scores, best"]);
}

/// The demo model stands in, and what it is not good for is said, unless --quiet.
#[cfg(feature = "demo")]
#[test]
fn without_a_model_the_demo_model_is_used() {
    let folder = Folder::new();
    folder.photo("a.png");
    let answer = folder.call(&["run", "a.png", "--labels", "dog"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stderr.contains("clip art only") && answer.stderr.contains("--model"), "{answer:?}");
    assert_eq!(folder.names("out"), ["a.mask.png", "a.overlay.png"]);
    assert_eq!(folder.call(&["run", "a.png", "--labels", "dog", "--quiet", "--device", "cpu"]).stderr, "");
    assert_eq!(folder.call(&["plan"]).code, Some(0));
}

#[cfg(not(feature = "demo"))]
#[test]
fn without_a_model_the_way_to_one_is_told() {
    let folder = Folder::new();
    folder.photo("a.png");
    folder.call(&["run", "a.png", "--labels", "dog"]).refused(2, &["lseg-fast convert", "--model"]);
    folder.call(&["plan"]).refused(2, &["lseg-fast convert", "--model"]);
    assert_eq!(folder.names("."), ["a.png"]);
}

#[test]
fn wrong_labels_are_named() {
    let folder = Folder::new();
    folder.photo("a.png");
    folder.write("labels.txt", "# words\ndog\n\ncat\n");
    folder.write("latin.txt", b"caf\xE9\n");
    for (labels, words) in [
        ("", &["no labels"][..]),
        ("dog,,cat", &["label 2 is empty"]),
        ("dog,cat,dog", &["label 3 \"dog\" repeats", "label 1"]),
        ("@labels.txt", &["labels.txt: line 3 is empty"]),
        ("@latin.txt", &["latin.txt: line 1 is not UTF-8"]),
    ] {
        folder.call(&["run", "a.png", "--model", "m", "--labels", labels]).refused(2, words);
    }
    let missing = folder.call(&["run", "a.png", "--model", "m", "--labels", "@missing.txt"]);
    missing.refused(1, &["cannot open", "missing.txt"]);
    let long = "word ".repeat(100);
    folder.call(&["run", "a.png", "--model", &seeded_model(), "--labels", &long]).refused(2, &["tokens", "shorten"]);
}

#[test]
fn photos_of_one_stem_stop_only_themselves() {
    let folder = Folder::new();
    for name in ["x/a.png", "y/a.png", "y/a.bmp", "y/b.bmp", "empty/readme.txt"] {
        if name.ends_with("txt") { folder.write(name, "") } else { folder.photo(name) }
    }
    let run = |photos: &[&str]| folder.call(&run_on(photos, &seeded_model(), &["--save", "mask", "--size", "32x32"]));
    run(&["x/a.png", "y/a.png"])
        .refused(1, &["error: x/a.png: its results and those of y/a.png", "error: y/a.png", "a.*"]);
    assert_eq!(folder.names("out"), <[&str; 0]>::default());
    let answer = run(&["y"]);
    answer.refused(1, &["error: y/a.png", "error: y/a.bmp", "a.*"]);
    assert_eq!(answer.stderr.lines().count(), 2, "{answer:?}");
    assert_eq!(folder.names("out"), ["b.mask.png"]);
    // What an earlier run left under the name they share is none of theirs.
    folder.write("out/a.mask.png", "");
    let more = ["--save", "mask", "--size", "32x32", "--skip-existing"];
    folder.call(&run_on(&["y"], &seeded_model(), &more)).refused(1, &["error: y/a.png", "error: y/a.bmp"]);
    // One photo, asked for twice.
    assert_eq!(run(&["x", "x/a.png"]).done().matches("x/a.png: ").count(), 1);
    run(&["empty"]).refused(2, &["empty: no photo in this folder"]);
}

#[test]
fn everything_in_a_folder_that_is_a_photo_gets_a_result_or_a_line() {
    let folder = Folder::new();
    folder.photo("set/a.png");
    let jpeg = |name: &str| {
        let picture = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([6 * x as u8, 8 * y as u8, 9]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        folder.write(name, bytes.into_inner());
    };
    ["set/b.jfif", "set/c.jpe", "set/d.JPG", "set/without-ending", "set/wrong.txt"].into_iter().for_each(jpeg);
    folder.write("set/e.heic", b"\0\0\0\x18ftypheic\0\0\0\0heicmif1");
    folder.write("set/notes.txt", "dog");
    folder.write("set/.hidden.jpg", "");
    #[cfg(unix)]
    std::os::unix::fs::symlink("/nowhere/f.png", folder.path("set/f.png")).unwrap();
    #[cfg(unix)]
    assert!(Command::new("mkfifo").arg(folder.path("set/g.png")).status().unwrap().success());
    let answer = folder.call(&run_on(&["set"], &seeded_model(), &["--save", "mask", "--size", "32x32"]));
    answer.refused(1, &["e.heic", "HEIC"]);
    let expected = ["a", "b", "c", "d", "without-ending", "wrong"].map(|name| format!("{name}.mask.png"));
    assert_eq!(folder.names("out"), expected);
    #[cfg(unix)]
    answer.refused(1, &["cannot open set/f.png", "set/g.png: has a photo's name, but is a device or pipe"]);
    assert_eq!(answer.stderr.lines().count(), if cfg!(unix) { 3 } else { 1 }, "{answer:?}");
}

#[test]
fn recursion_keeps_the_tree_and_what_is_there_is_skipped() {
    let folder = Folder::new();
    ["set/a.png", "set/day1/a.png", "set/day1/noon/b.png", "set/.cache/c.png"]
        .into_iter()
        .for_each(|name| folder.photo(name));
    let flat = folder.call(&run_on(&["set"], &seeded_model(), &["--save", "mask", "--size", "32x32"]));
    flat.done();
    assert!(flat.stderr.contains("note: set: 1 folder in it passed over; --recursive"), "{flat:?}");
    assert_eq!(folder.names("out"), ["a.mask.png"]);

    let more = ["--recursive", "--save", "mask", "--size", "32x32", "--skip-existing"];
    let deep = folder.call(&run_on(&["set"], &seeded_model(), &more));
    assert!(deep.done().contains("set/day1/a.png") && !deep.stdout.contains("set/a.png"), "{deep:?}");
    assert!(deep.stderr.contains("1 of 3 photos have their results already"), "{deep:?}");
    assert_eq!(folder.names("out"), ["a.mask.png", "day1"]);
    assert_eq!(folder.names("out/day1"), ["a.mask.png", "noon"]);
    assert_eq!(folder.names("out/day1/noon"), ["b.mask.png"]);

    // With the results among the photos: none of them becomes a photo, and nothing is left to do, not even to load a model.
    let among = ["--recursive", "--save", "mask,overlay,masks", "--size", "32x32", "--skip-existing", "--out", "set"];
    folder.call(&run_on(&["set"], &seeded_model(), &among)).done();
    let again = folder.call(&run_on(&["set"], "no-model", &among));
    assert_eq!(again.done(), "");
    assert!(again.stderr.contains("3 of 3 photos have their results already"), "{again:?}");
}

#[test]
fn a_photo_comes_from_stdin_and_a_result_goes_to_stdout() {
    let folder = Folder::new();
    folder.photo("a.png");
    let model = seeded_model();
    let through = |more: &[&str]| {
        let photo = fs::File::open(folder.path("a.png")).unwrap();
        folder.command(&run_on(&["-"], &model, &[&["--size", "32x64"], more].concat())).stdin(photo).output().unwrap()
    };
    let kept = through(&[]);
    assert!(kept.status.success() && folder.names("out") == ["stdin.mask.png", "stdin.overlay.png"], "{kept:?}");

    folder
        .call(&run_on(&["a.png"], &model, &["--size", "32x64", "--out", "files", "--save", "mask,overlay,best"]))
        .done();
    for (save, file) in
        [(&[][..], "mask.png"), (&["--save", "overlay"], "overlay.png"), (&["--save", "best"], "best.npy")]
    {
        let piped = through(&[&["--out", "-"], save].concat());
        assert!(piped.status.success(), "{piped:?}");
        assert!(piped.stdout == fs::read(folder.path(&format!("files/a.{file}"))).unwrap(), "{file}");
        let said = String::from_utf8(piped.stderr).unwrap();
        assert!(said.contains("-: 70 wide, 50 high") && said.contains("share"), "{said}");
    }
    assert!(through(&["--out", "-", "-q"]).stderr.is_empty());
    let json = through(&["--out", "-", "--json"]);
    assert!(String::from_utf8(json.stderr).unwrap().contains("\"path\":\"-\""));

    let embed = ["embed", "a.png", "--model", &model, "--device", "cpu", "--size", "32x64", "--out", "files"];
    folder.call(&embed).done();
    let photo = fs::File::open(folder.path("a.png")).unwrap();
    let mut call =
        folder.command(&["embed", "-", "--model", &model, "--device", "cpu", "--size", "32x64", "--out", "-"]);
    assert_eq!(call.stdin(photo).output().unwrap().stdout, fs::read(folder.path("files/a.embed.npy")).unwrap());

    let words =
        |out| folder.call(&["text", "--labels", "cat,dog", "--model", &model, "--device", "cpu", "--out", out, "-q"]);
    words("words.npy").done();
    let mut call = folder.command(&["text", "--labels", "cat,dog", "--model", &model, "--device", "cpu", "--out", "-"]);
    assert_eq!(call.output().unwrap().stdout, fs::read(folder.path("words.npy")).unwrap());

    folder.photo("b.png");
    let run = |photos: &[&str], more: &[&str]| folder.call(&run_on(photos, &model, &[&["--out", "-"], more].concat()));
    run(&["a.png", "b.png"], &[]).refused(2, &["one result of one photo", "2 photos"]);
    run(&["."], &[]).refused(2, &["one result of one photo", "is a folder"]);
    run(&["a.png"], &["--save", "mask,overlay"]).refused(2, &["2 results", "mask.png, overlay.png"]);
    run(&["a.png"], &["--save", "masks"]).refused(2, &["3 results"]);
    let nothing = folder.call(&run_on(&["-"], &model, &[]));
    nothing.refused(1, &["standard input: an empty file"]);
    #[cfg(target_os = "linux")]
    {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = folder.command(&run_on(&["a.png"], &model, &["--out", "-"])).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write to standard output"));
    }
}

/// The pixels of a picture in the results.
fn picture(folder: &Folder, name: &str) -> image::RgbImage {
    image::open(folder.path(name)).unwrap().into_rgb8()
}

#[test]
fn each_label_has_a_binary_mask() {
    let folder = Folder::new();
    folder.photo("a.png");
    let labels =
        ["--labels", "cat,wall / \"left\",…", "--model", &seeded_model(), "--device", "cpu", "--size", "64x96"];
    let call = [&["run", "a.png", "--save", "mask,masks"][..], &labels].concat();
    folder.call(&call).done();
    let names = ["a.mask.0.cat.png", "a.mask.1.wall-left.png", "a.mask.2.label.png"];
    assert_eq!(folder.names("out"), [&names[..], &["a.mask.png"]].concat());
    let mut reader = png::Decoder::new(std::io::BufReader::new(fs::File::open(folder.path("out/a.mask.png")).unwrap()))
        .read_info()
        .unwrap();
    let mut mask = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut mask).unwrap();
    for (index, name) in (0..).zip(names) {
        let binary = image::open(folder.path("out").join(name)).unwrap();
        assert_eq!(binary.color(), image::ColorType::L8);
        let expected: Vec<u8> = mask.iter().map(|&label| if label == index { 255 } else { 0 }).collect();
        assert_eq!(binary.into_luma8().into_raw(), expected, "{name}");
    }
}

#[test]
fn the_overlay_has_the_colours_the_weight_and_the_borders_asked_for() {
    let folder = Folder::new();
    folder.photo("a.png");
    folder.write("mine.txt", "# three\n#ff0000 cat\n0 128 255\n7,8,9\n");
    let model = seeded_model();
    let run = |palette: &str, out: &str, more: &[&str]| {
        let call =
            run_on(&["a.png"], &model, &[&["--size", "32x32", "--palette", palette, "--out", out], more].concat());
        folder.call(&call).done();
        (picture(&folder, &format!("{out}/a.mask.png")), picture(&folder, &format!("{out}/a.overlay.png")))
    };
    let photo = picture(&folder, "a.png");
    let (colours, plain) = run("mine.txt", "plain", &["--alpha", "0"]);
    assert!(colours.pixels().all(|pixel| [[255, 0, 0], [0, 128, 255], [7, 8, 9]].contains(&pixel.0)));
    let (_, full) = run("mine.txt", "full", &["--alpha", "1"]);
    let (_, quarter) = run("mine.txt", "quarter", &["--alpha", "0.25"]);
    let (_, borders) = run("mine.txt", "borders", &["--alpha", "0", "--contours"]);
    for (x, y, colour) in colours.enumerate_pixels() {
        assert_eq!(plain.get_pixel(x, y), photo.get_pixel(x, y), "{x}, {y}");
        assert_eq!(full.get_pixel(x, y), colour, "{x}, {y}");
        let mixed = |i: usize| ((3 * u16::from(photo.get_pixel(x, y).0[i]) + u16::from(colour.0[i])) / 4) as u8;
        assert_eq!(quarter.get_pixel(x, y).0, [0, 1, 2].map(mixed), "{x}, {y}");
        let around =
            (x.max(1) - 1..=(x + 1).min(69)).flat_map(|x| (y.max(1) - 1..=(y + 1).min(49)).map(move |y| (x, y)));
        let border = around.into_iter().any(|(x, y)| colours.get_pixel(x, y) != colour);
        assert_eq!(borders.get_pixel(x, y), if border { colour } else { photo.get_pixel(x, y) }, "{x}, {y}");
    }
    assert!(colours.pixels().any(|pixel| pixel != colours.get_pixel(0, 0)), "one label only: nothing was tested");

    let (city, _) = run("cityscapes", "city", &[]);
    assert!(city.pixels().all(|pixel| [[128, 64, 128], [244, 35, 232], [70, 70, 70]].contains(&pixel.0)));
    let short = run_on(&["a.png"], &model, &["--palette", "two.txt", "--size", "32x32"]);
    folder.write("two.txt", "#ff0000\n#00ff00\n");
    let answer = folder.call(&short);
    assert!(answer.code == Some(0) && answer.stderr.contains("2 colours for 3 labels"), "{answer:?}");
    let call = |more: &[&str]| folder.call(&run_on(&["a.png"], &model, more));
    call(&["--alpha", "1.5"]).refused(2, &["from 0 to 1"]);
    call(&["--alpha", "NaN"]).refused(2, &["from 0 to 1"]);
    call(&["--contours", "--save", "mask"]).refused(2, &["add overlay"]);
    call(&["--palette", "nonsense"]).refused(2, &["nonsense"]);
}

/// The raw values of a PNG, its colour type and depth.
fn raw(folder: &Folder, name: &str) -> (png::ColorType, png::BitDepth, Vec<u8>) {
    let file = std::io::BufReader::new(fs::File::open(folder.path(name)).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut values = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut values).unwrap();
    (reader.info().color_type, reader.info().bit_depth, values)
}

#[test]
fn what_is_less_sure_than_the_threshold_is_unlabelled_in_every_file() {
    let folder = Folder::new();
    folder.photo("a.png");
    let model = seeded_model();
    let all = ["--save", "mask,masks,overlay,confidence", "--size", "64x96"];
    let run = |more: &[&str]| folder.call(&run_on(&["a.png"], &model, &[&all[..], more].concat()));
    run(&["--out", "plain"]).done();
    let (colour, depth, confidences) = raw(&folder, "plain/a.confidence.png");
    assert_eq!((colour, depth, confidences.len()), (png::ColorType::Grayscale, png::BitDepth::Eight, 70 * 50));
    let mut sorted = confidences.clone();
    sorted.sort_unstable();
    // Between two bytes, so that the file says which pixels are below.
    let middle = f64::from(sorted[sorted.len() / 2]) + 0.5;
    let threshold = format!("{}", middle / 255.0);
    let answer = run(&["--out", "some", "--threshold", &threshold]);
    assert_eq!(raw(&folder, "some/a.confidence.png").2, confidences);
    let [(_, _, labels), (colour, depth, mask)] =
        ["plain", "some"].map(|out| raw(&folder, &format!("{out}/a.mask.png")));
    assert_eq!((colour, depth), (png::ColorType::Indexed, png::BitDepth::Eight));
    let (photo, tinted, plain) =
        (picture(&folder, "a.png"), picture(&folder, "some/a.overlay.png"), picture(&folder, "plain/a.overlay.png"));
    for (i, label) in labels.iter().enumerate() {
        let is_sure = f64::from(confidences[i]) > middle;
        assert_eq!(mask[i], if is_sure { *label } else { 255 }, "pixel {i}");
        let (x, y) = (i as u32 % 70, i as u32 / 70);
        let own = if is_sure { plain.get_pixel(x, y) } else { photo.get_pixel(x, y) };
        assert_eq!(tinted.get_pixel(x, y), own, "pixel {i}");
    }
    for (index, name) in ["0.cat", "1.wall", "2.other"].into_iter().enumerate() {
        let (_, _, binary) = raw(&folder, &format!("some/a.mask.{name}.png"));
        let right: Vec<u8> = mask.iter().map(|label| if usize::from(*label) == index { 255 } else { 0 }).collect();
        assert_eq!(binary, right, "{name}");
    }
    let unlabelled = mask.iter().filter(|label| **label == 255).count();
    assert!(unlabelled > 100 && unlabelled < 3400, "{unlabelled} of 3500 pixels: nothing was tested");
    let share = format!("{:.1} %    255  unlabelled", unlabelled as f64 / 35.0);
    assert!(answer.done().contains(&share), "{share} in {}", answer.stdout);

    // More labels than bytes hold beside what is none.
    folder.write("many.txt", (0..256).map(|i| format!("word {i}\n")).collect::<String>());
    let call = ["run", "a.png", "--labels", "@many.txt", "--model", &model, "--device", "cpu", "--size", "32x32"];
    folder.call(&[&call[..], &["--save", "mask,overlay", "--contours", "--threshold", "1"]].concat()).done();
    let (colour, depth, values) = raw(&folder, "out/a.mask.png");
    assert_eq!((colour, depth), (png::ColorType::Grayscale, png::BitDepth::Sixteen));
    assert!(values.iter().all(|byte| *byte == 255), "no pixel is certain of one of 256 words");
    for wrong in ["1.5", "-1", "NaN", "half"] {
        run(&[&format!("--threshold={wrong}")]).refused(2, &["from 0 to 1"]);
    }
}

#[test]
fn an_output_folder_that_cannot_be_made_is_refused_at_once() {
    let folder = Folder::new();
    folder.photo("a.png");
    folder.write("file", "kept");
    for out in ["file", "file/below"] {
        folder.call(&run_on(&["a.png"], &seeded_model(), &["--out", out])).refused(1, &["cannot write", out]);
    }
    assert_eq!(fs::read_to_string(folder.path("file")).unwrap(), "kept");
    assert_eq!(folder.names("."), ["a.png", "file"]);
}

#[test]
fn a_photo_is_not_overwritten_by_its_result() {
    let folder = Folder::new();
    folder.photo("a.png");
    folder.photo("a.mask.png");
    let call = run_on(&["a.png", "a.mask.png"], "m", &["--out", "."]);
    folder.call(&call).refused(2, &["a.mask.png would overwrite a photo"]);
}

#[test]
fn a_bad_model_ends_the_call() {
    let folder = Folder::new();
    folder.photo("a.png");
    folder.write("text.safetensors", "this is no model");
    folder.write("empty.ckpt", "");
    for model in ["missing.safetensors", "text.safetensors", "empty.ckpt", "."] {
        folder.call(&run_on(&["a.png"], model, &[])).refused(1, &[model]);
        folder.call(&["info", model]).refused(1, &[model]);
        folder.call(&["convert", model, "--out", "new.safetensors"]).refused(1, &[model]);
        folder.call(&["plan", "--model", model]).refused(1, &[model]);
        folder.call(&["tokenize", "--model", model, "--", "dog"]).refused(1, &[model]);
    }
    assert!(!folder.path("new.safetensors").exists());
}

#[test]
fn tokenize_prints_one_line_of_ids() {
    let folder = Folder::new();
    // open_clip.tokenize("a photo of a dog")
    let dog = "49406 320 1125 539 320 1929 49407\n";
    assert_eq!(folder.call(&["tokenize", "--", "a photo of a dog"]).done(), dog);
    assert_eq!(folder.call(&["tokenize", "--", "a", "photo", "of a", "dog"]).done(), dog);
    assert_eq!(folder.call(&["tokenize", "--", ""]).done(), "49406 49407\n");
    // open_clip.tokenize("--x")
    assert_eq!(folder.call(&["tokenize", "--", "--x"]).done(), "49406 2432 343 49407\n");
    folder.call(&["tokenize", "--", &"dog ".repeat(76)]).refused(2, &["76 tokens", "at most 75"]);
    // The seeded model knows the first 800 tokens only, two of them its start and end.
    let small = folder.call(&["tokenize", "--model", &seeded_model(), "--", "dog"]);
    assert!(small.done().starts_with("798 ") && small.done().ends_with(" 799\n"), "{small:?}");
}

#[test]
fn a_photo_becomes_a_mask_an_overlay_and_scores() {
    let folder = Folder::new();
    folder.photo("a.png");
    let model = seeded_model();
    let answer = folder.call(&run_on(&["a.png"], &model, &["--save", "mask,overlay,scores,best", "--size", "64x96"]));
    let stdout = answer.done();
    assert_eq!(answer.stderr, "");
    assert_eq!(folder.names("out"), ["a.best.npy", "a.mask.png", "a.overlay.png", "a.scores.npy"]);
    for word in [
        "a.png: 70 wide, 50 high; network 96 wide, 64 high",
        "cat",
        "wall",
        "other",
        "decode",
        "total",
        "out/a.mask.png",
    ] {
        assert!(stdout.contains(word), "{word} is not in {stdout}");
    }
    let shares: Vec<f64> = stdout
        .lines()
        .filter_map(|line| line.split_once(" %")?.0.trim().trim_start_matches('<').parse().ok())
        .collect();
    assert_eq!(shares.len(), 3);
    assert!((shares.iter().sum::<f64>() - 100.0).abs() < 0.3, "{shares:?}");

    let mask = image::open(folder.path("out/a.mask.png")).unwrap();
    assert_eq!((mask.width(), mask.height()), (70, 50));
    let overlay = image::open(folder.path("out/a.overlay.png")).unwrap();
    assert!(overlay.width() > 70 && overlay.height() >= 50);
    let [photo, colours, tinted] =
        [image::open(folder.path("a.png")).unwrap(), mask, overlay].map(|picture| picture.into_rgb8());
    for (x, y, colour) in colours.enumerate_pixels() {
        let mean = |channel: usize| photo.get_pixel(x, y).0[channel].midpoint(colour.0[channel]);
        assert_eq!(tinted.get_pixel(x, y).0, [0, 1, 2].map(mean), "pixel {x}, {y}");
    }
    let scores = fs::read(folder.path("out/a.scores.npy")).unwrap();
    assert!(
        String::from_utf8_lossy(&scores[..128])
            .contains("'descr': '<f4', 'fortran_order': False, 'shape': (3, 64, 96)")
    );
    assert_eq!(scores.len(), 128 + 4 * 3 * 64 * 96);
    let best = fs::read(folder.path("out/a.best.npy")).unwrap();
    assert!(
        String::from_utf8_lossy(&best[..128]).contains("'descr': '<f4', 'fortran_order': False, 'shape': (50, 70)")
    );
    assert_eq!(best.len(), 128 + 4 * 50 * 70);
}

#[test]
fn under_native_mask_and_best_are_the_argmax_and_maximum_of_the_scores() {
    let folder = Folder::new();
    let picture = image::RgbImage::from_fn(96, 64, |x, y| image::Rgb([2 * x as u8, 3 * y as u8, (x * y) as u8]));
    picture.save(folder.path("b.png")).unwrap();
    folder.call(&run_on(&["b.png"], &seeded_model(), &["--size", "native", "--save", "mask,scores,best"])).done();

    let mut reader = png::Decoder::new(std::io::BufReader::new(fs::File::open(folder.path("out/b.mask.png")).unwrap()))
        .read_info()
        .unwrap();
    assert_eq!(reader.info().color_type, png::ColorType::Indexed);
    let mut mask = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut mask).unwrap();
    let array = |name: &str| -> Vec<f32> {
        let bytes = fs::read(folder.path(name)).unwrap();
        bytes[128..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let (scores, winning) = (array("out/b.scores.npy"), array("out/b.best.npy"));
    let pixels = 96 * 64;
    assert_eq!((mask.len(), scores.len(), winning.len()), (pixels, 3 * pixels, pixels));
    for (pixel, &label) in mask.iter().enumerate() {
        let of = |label: usize| scores[label * pixels + pixel];
        let best = (0..3).map(of).fold(f32::NEG_INFINITY, f32::max);
        assert!(of(usize::from(label)) >= best - 1e-4, "pixel {pixel}");
        assert!((winning[pixel] - best).abs() <= 1e-4, "pixel {pixel}");
    }
}

#[test]
fn failed_photos_are_named_and_the_others_done() {
    let folder = Folder::new();
    folder.photo("set/good.png");
    folder.photo("set/small.bmp");
    folder.write("set/text.jpg", "not a photo");
    folder.write("set/empty.png", "");
    let whole = fs::read(folder.path("set/good.png")).unwrap();
    folder.write("set/cut.png", &whole[..whole.len() / 2]);
    let answer = folder.call(&run_on(&["missing.jpg", "set"], &seeded_model(), &["--save", "mask", "--size", "64x64"]));
    answer.refused(
        1,
        &["missing.jpg", "text.jpg: not a photo", "empty.png: an empty file", "cut.png: cannot be decoded"],
    );
    assert_eq!(answer.stderr.lines().count(), 4, "{answer:?}");
    assert_eq!(folder.names("out"), ["good.mask.png", "small.mask.png"]);

    let limited = folder.call(&run_on(&["set/good.png"], &seeded_model(), &["--max-pixels", "3499"]));
    limited.refused(1, &["70×50 is 3500 pixels", "--max-pixels"]);
}

#[test]
fn cuda_without_a_gpu_is_an_error() {
    if Path::new("/dev/nvidia0").exists() {
        return;
    }
    let folder = Folder::new();
    folder.photo("a.png");
    for device in ["cuda", "cuda:1"] {
        let call = ["run", "a.png", "--labels", "dog", "--model", &seeded_model(), "--device", device];
        folder.call_without_virtual_gpu(&call).refused(2, &["CUDA"]);
    }
}

#[test]
fn convert_info_and_run_follow_each_other() {
    let folder = Folder::new();
    folder.photo("a.png");
    let model = seeded_model();
    let summary = folder.call(&["convert", &model, "--out", "new/m.safetensors"]);
    for word in ["new/m.safetensors", "preset", "custom", "tensors", "parameters", "bytes", "dropped"] {
        assert!(summary.done().contains(word), "{word} is not in {summary:?}");
    }
    assert_eq!(folder.names("new"), ["m.safetensors"]);
    let info = folder.call(&["info", "new/m.safetensors"]);
    for word in ["custom", "ViT, patch 16, width 64, blocks 4", "800 rows", "parameters", "default size"] {
        assert!(info.done().contains(word), "{word} is not in {info:?}");
    }
    folder.call(&run_on(&["a.png"], &model, &["--out", "plain", "--size", "64x96"])).done();
    folder.call(&run_on(&["a.png"], "new/m.safetensors", &["--out", "converted", "--size", "64x96"])).done();
    let mask = |out: &str| fs::read(folder.path(out).join("a.mask.png")).unwrap();
    assert_eq!(mask("plain"), mask("converted"));

    let itself = folder.call(&["convert", "new/m.safetensors", "--out", "new/../new/m.safetensors"]);
    itself.refused(2, &["is the checkpoint itself"]);
    folder.write("file", "");
    folder.call(&["convert", &model, "--out", "file/m.safetensors"]).refused(1, &["cannot write"]);
}

#[test]
fn plan_shows_operations_and_memory() {
    let folder = Folder::new();
    let model = seeded_model();
    let answer = folder.call(&["plan", "--model", &model, "--size", "long:64", "--labels-count", "7"]);
    for word in ["custom at 64x64 with 7 labels", "GFLOP", "attention", "total", "arena", "MiB", "weights"] {
        assert!(answer.done().contains(word), "{word} is not in {answer:?}");
    }
    folder.call(&["plan", "--model", &model, "--size", "native"]).refused(2, &["needs a photo"]);
    folder.call(&["plan", "--model", &model, "--size", "99999x64"]).refused(2, &["at most 32768"]);
    folder.call(&["plan", "--gpu", "h100"]).refused(2, &["--device cuda"]);
    folder.call(&["plan", "--device", "cuda", "--gpu", "v100"]).refused(2, &["h100, rtx4090, orin"]);
    if !MODULES.is_empty() {
        // From the kernels in the program: no GPU is asked.
        let compiled =
            |gpu| folder.call_without_virtual_gpu(&["plan", "--model", &model, "--device", "cuda", "--gpu", gpu]);
        let [h100, orin] = ["h100", "orin"].map(|gpu| compiled(gpu).done().to_owned());
        assert!(h100.contains("attention_full_64") && h100.contains("waves") && h100 != orin, "{h100}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = Folder::new();
    folder.photo("a.png");
    folder.photo("b.png");
    let model = seeded_model();
    let mut child = folder
        .command(&run_on(&["a.png", "b.png"], &model, &["--save", "mask", "--size", "64x64"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(stderr, "");
    assert_eq!(folder.names("out"), ["a.mask.png", "b.mask.png"]);
}

/// A name or label may control neither the terminal nor the lines.
#[test]
#[cfg(unix)]
fn what_comes_from_outside_is_printed_and_not_obeyed() {
    const HOSTILE: &str = "a\u{1b}[2J\nerror: forged \u{202e}gpj";
    const SHOWN: &str = r"a\u{1b}[2J\nerror: forged \u{202e}gpj";
    let folder = Folder::new();
    let model = seeded_model();
    let hostile = |ending: &str| format!("{HOSTILE}.{ending}");
    folder.photo("plain.png");
    fs::rename(folder.path("plain.png"), folder.path(&hostile("png"))).unwrap();
    folder.write(&format!("{HOSTILE} too.jpg"), "no photo");
    folder.write("words.txt", format!("草 e\u{301} 👩\u{200d}🌾 عشب\n{}", "long ".repeat(190)));
    let call = |arguments: &[&str]| {
        let answer = folder.call(arguments);
        for text in [&answer.stdout, &answer.stderr] {
            assert!(text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{text:?}");
            assert!(!text.contains("\nerror: forged"), "{text}");
        }
        answer
    };
    let cut = ["--long-labels", "cut", "--size", "32x32", "--model", &model, "--device", "cpu"];
    let run =
        call(&[&["run", &hostile("png"), &format!("{HOSTILE} too.jpg"), "--labels", "@words.txt"][..], &cut].concat());
    run.refused(1, &[SHOWN, "not a photo"]);
    assert!(run.stdout.contains(&format!("{SHOWN}.png: 70 wide")), "{run:?}");
    assert!(run.stdout.contains(&format!("out/{SHOWN}.mask.png")), "{run:?}");
    assert!(run.stdout.contains("草 e\u{301} 👩\u{200d}🌾 عشب"), "{run:?}");
    assert!(run.stdout.lines().all(|line| line.chars().count() < 600), "{run:?}");

    let text = ["text", "--labels", "cat", "--model", &model, "--out", &hostile("npy")];
    assert!(call(&text).done().contains(SHOWN));
    assert!(call(&["convert", &model, "--out", &hostile("safetensors")]).done().contains(SHOWN));
    assert!(call(&["info", &hostile("safetensors")]).done().contains(SHOWN));
    for wrong in [
        &["info", &hostile("none")][..],
        &["info", &format!("{HOSTILE} too.jpg")],
        &[HOSTILE],
        &["run", "a.png", "--labels", "cat", "--save", HOSTILE],
        &["run", "a.png", "--labels", "cat", "--palette", HOSTILE],
        &["run", "a.png", "--labels", HOSTILE, "--device", HOSTILE],
        &["plan", "--size", HOSTILE],
    ] {
        assert_ne!(call(wrong).code, Some(0));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_stdout_is_a_failure() {
    let folder = Folder::new();
    for arguments in [&["tokenize", "--", "dog"][..], &["--help"], &["run", "--help"], &["--version"]] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = folder.command(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("error: cannot write to standard output"), "{arguments:?}: {said}");
    }
}
