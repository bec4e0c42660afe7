//! `run --save heat`: pictures of each label's scores, held against the scores' own file.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use image::RgbImage;
use lseg_fast::device::cuda::Cuda;
use serde_json::Value;
use tempfile::TempDir;
use testing::gpu::found;

/// Viridis' ends.
const DARKEST: [u8; 3] = [68, 1, 84];
const LIGHTEST: [u8; 3] = [253, 231, 37];

struct Folder(TempDir);

impl Folder {
    /// With a photo `a.png` that has something in it.
    fn new(width: u32, height: u32) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        let disc = |x: u32, y: u32| (x as i32 - 30).pow(2) + (y as i32 - 25).pow(2) < 200;
        let colour = |x, y| if disc(x, y) { [220, 30, 30] } else { [40, 100 + x as u8, 2 * y as u8] };
        RgbImage::from_fn(width, height, |x, y| image::Rgb(colour(x, y))).save(folder.path("a.png")).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &str) -> Output {
        self.run_on("cpu", arguments)
    }

    fn run_on(&self, device: &str, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lseg-fast"));
        command.args("run a.png --labels dog,tall/grass,other -q --device".split(' ')).args([device, "--save"]);
        command.args(arguments.split(' ')).current_dir(self.0.path()).stdin(Stdio::null()).output().unwrap()
    }

    #[track_caller]
    fn done(&self, arguments: &str) -> Output {
        self.done_on("cpu", arguments)
    }

    #[track_caller]
    fn done_on(&self, device: &str, arguments: &str) -> Output {
        let output = self.run_on(device, arguments);
        assert!(output.status.success(), "{arguments}: {output:?}");
        output
    }

    #[track_caller]
    fn refused(&self, arguments: &str, words: &[&str]) {
        let output = self.run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{arguments}: {stderr}");
        assert!(!self.path("out").exists(), "{arguments}");
    }

    fn heat(&self, name: &str) -> RgbImage {
        image::open(self.path(&format!("out/a.heat.{name}.png"))).unwrap().into_rgb8()
    }

    /// The values of a file of scores, one list a label.
    fn scores(&self) -> Vec<Vec<f32>> {
        const HEADER: usize = 128;
        let values: Vec<f32> =
            bytemuck::pod_collect_to_vec(&fs::read(self.path("out/a.scores.npy")).unwrap()[HEADER..]);
        values.chunks_exact(values.len() / NAMES.len()).map(<[f32]>::to_vec).collect()
    }
}

const NAMES: [&str; 3] = ["0.dog", "1.tall-grass", "2.other"];

fn luma(colour: [u8; 3]) -> u32 {
    let [red, green, blue] = colour.map(u32::from);
    299 * red + 587 * green + 114 * blue
}

fn ends(scores: &[f32]) -> (f32, f32) {
    scores.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), score| (low.min(*score), high.max(*score)))
}

/// The part of a picture that is the photo has one colour for each of 256 levels from `low` to `high`, lighter from
/// level to level: by green, as rounding to bytes takes some of the rest back.
#[track_caller]
fn check(picture: &RgbImage, scores: &[f32], width: usize, (low, high): (f32, f32)) {
    let mut colours = [None; 256];
    for (i, score) in scores.iter().enumerate() {
        let place = 255.0 * ((score - low) / (high - low)).clamp(0.0, 1.0);
        // Between two levels either may be meant.
        if (place.fract() - 0.5).abs() < 1e-3 {
            continue;
        }
        let colour = picture.get_pixel((i % width) as u32, (i / width) as u32).0;
        let level = &mut colours[place.round() as usize];
        assert_eq!(*level.get_or_insert(colour), colour, "pixel {i}, score {score}");
    }
    let seen: Vec<[u8; 3]> = colours.into_iter().flatten().collect();
    assert!(seen.len() > 20, "{} levels: nothing was tested", seen.len());
    assert!(seen.windows(2).all(|two| two[0][1] <= two[1][1]), "{seen:?}");
    assert!(colours[0].is_none_or(|colour| colour == DARKEST) && colours[255].is_none_or(|colour| colour == LIGHTEST));
}

#[test]
fn each_label_has_a_picture_of_its_scores() {
    let folder = Folder::new(64, 64);
    let output = folder.done("heat,scores --size native --json");
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let files = object["files"].as_array().unwrap().iter().filter(|file| file["kind"] == "heat");
    let told: Vec<_> = files.map(|file| (file["index"].as_u64().unwrap(), file["path"].clone())).collect();
    let expected = NAMES.iter().zip(0..).map(|(name, i)| (i, format!("out/a.heat.{name}.png").into()));
    assert_eq!(told, expected.collect::<Vec<_>>());
    for (name, scores) in NAMES.iter().zip(folder.scores()) {
        let picture = folder.heat(name);
        check(&picture, &scores, 64, ends(&scores));
        let largest = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap() as u32;
        let least = (0..scores.len()).min_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap() as u32;
        let at = |pixel: u32| picture.get_pixel(pixel % 64, pixel / 64).0;
        assert_eq!((at(largest), at(least)), (LIGHTEST, DARKEST), "{name}");
    }
}

/// On the right, lightest above: the values differ from label to label, and so does what is written.
#[test]
fn the_scale_is_beside_the_photo() {
    let folder = Folder::new(64, 120);
    folder.done("heat --size 64x64");
    let panels = NAMES.map(|name| {
        let picture = folder.heat(name);
        assert!(picture.width() > 80 && picture.height() == 120, "{:?}", picture.dimensions());
        image::imageops::crop_imm(&picture, 64, 0, picture.width() - 64, 120).to_image()
    });
    for panel in &panels {
        let row = |colour| panel.enumerate_pixels().find(|(.., pixel)| pixel.0 == colour).map(|(_, y, _)| y);
        let (top, bottom) = (row(LIGHTEST).unwrap(), row(DARKEST).unwrap());
        assert!(top + 20 < bottom, "{top} to {bottom}");
        let is_inked = |y: u32| (0..panel.width()).any(|x| luma(panel.get_pixel(x, y).0) < 100_000);
        assert!((0..top).any(is_inked) && (bottom + 1..120).any(is_inked), "a value is missing");
    }
    assert!(panels[0] != panels[1] && panels[1] != panels[2]);
}

#[test]
fn a_fixed_range_holds_what_is_outside_at_its_ends() {
    let folder = Folder::new(64, 64);
    folder.done("scores --size native");
    let (low, high) = ends(&folder.scores()[0]);
    let middle = |part: f32| low + part * (high - low);
    let fixed = (middle(0.25), middle(0.75));
    folder.done(&format!("heat --size native --heat-range {}:{}", fixed.0, fixed.1));
    let (scores, picture) = (&folder.scores()[0], folder.heat(NAMES[0]));
    check(&picture, scores, 64, fixed);
    for (i, score) in scores.iter().enumerate() {
        let colour = picture.get_pixel(i as u32 % 64, i as u32 / 64).0;
        assert!(*score > fixed.0 || colour == DARKEST, "{score} is below {}", fixed.0);
        assert!(*score < fixed.1 || colour == LIGHTEST, "{score} is above {}", fixed.1);
    }
    assert!(scores.iter().any(|score| *score < fixed.0) && scores.iter().any(|score| *score > fixed.1));

    folder.done("heat --size native --heat-range -1e9:1e9");
    let picture = folder.heat(NAMES[2]);
    let first = picture.get_pixel(0, 0);
    assert!((0..64).all(|i| picture.get_pixel(i, i) == first), "the scores are one in so wide a range");
}

/// At another size than the network's they are resized as the mask is: where a label's picture is lightest of all in
/// one range, the mask has the label.
#[test]
fn the_mask_is_the_lightest_picture() {
    let folder = Folder::new(90, 70);
    folder.done("scores --size 64x64");
    let all = folder.scores().concat();
    let (low, high) = ends(&all);
    folder.done(&format!("heat,mask --size 64x64 --heat-range {low}:{high}"));
    let pictures = NAMES.map(|name| folder.heat(name));
    let mut mask = png::Decoder::new(std::io::BufReader::new(fs::File::open(folder.path("out/a.mask.png")).unwrap()));
    mask.set_transformations(png::Transformations::IDENTITY);
    let mut reader = mask.read_info().unwrap();
    let mut labels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut labels).unwrap();
    assert_eq!(labels.len(), 90 * 70);
    let mut decided = 0;
    for (i, label) in labels.iter().enumerate() {
        let lumas = [0, 1, 2].map(|k: usize| luma(pictures[k].get_pixel(i as u32 % 90, i as u32 / 90).0));
        let best = (0..3).max_by_key(|k| lumas[*k]).unwrap();
        // A level more or less is no more than rounding.
        if (0..3).all(|k| k == best || lumas[k] + 3000 < lumas[best]) {
            decided += 1;
            assert_eq!(usize::from(*label), best, "pixel {i}: {lumas:?}");
        }
    }
    assert!(decided > 1000, "{decided} decided pixels: nothing was tested");
}

/// Scores of windows are read back from their file, or from one without a name.
#[test]
fn windows_have_pictures_too() {
    let folder = Folder::new(150, 110);
    for more in ["", " --memory 200KiB"] {
        folder.done(&format!("heat,scores --crop 96{more}"));
        let both = NAMES.map(|name| folder.heat(name));
        for (picture, scores) in both.iter().zip(folder.scores()) {
            assert_eq!(scores.len(), 150 * 110);
            check(picture, &scores, 150, ends(&scores));
        }
        fs::remove_dir_all(folder.path("out")).unwrap();
        folder.done(&format!("heat --crop 96{more}"));
        assert_eq!(fs::read_dir(folder.path("out")).unwrap().count(), NAMES.len());
        assert!(both == NAMES.map(|name| folder.heat(name)));
    }
    let large = folder.run("heat --crop 96 --max-output 1KiB");
    let stderr = String::from_utf8(large.stderr).unwrap();
    assert!(large.status.code() == Some(1) && stderr.contains("--max-output"), "{stderr}");
}

/// Of presets: one pass, whose scores are at half its size, and two scales of windows.
#[test]
fn presets_have_pictures_too() {
    let folder = Folder::new(150, 110);
    for preset in ["lsm --crop 96", "openscene"] {
        folder.done(&format!("heat,scores --preset {preset}"));
        for (name, scores) in NAMES.iter().zip(folder.scores()) {
            let picture = folder.heat(name);
            assert!(picture.width() > 150 && picture.height() >= 110, "{preset}: {:?}", picture.dimensions());
            if scores.len() == 150 * 110 {
                check(&picture, &scores, 150, ends(&scores));
            }
        }
        fs::remove_dir_all(folder.path("out")).unwrap();
    }
}

/// In one range, a GPU's pictures are a processor's but for what float16 changes: windows, mirrored and in strips, and one pass.
#[test]
fn a_gpu_makes_the_same_pictures() {
    if found(Cuda::new(0)).is_none() {
        return;
    }
    let folder = Folder::new(100, 70);
    for how in ["--size 64x64", "--crop 64 --flip sum --memory 200KiB"] {
        let pictures = ["cpu", "cuda"].map(|device| {
            folder.done_on(device, &format!("heat {how} --heat-range 0:40"));
            NAMES.map(|name| folder.heat(name))
        });
        let [host, gpu] = &pictures;
        for (one, other) in host.iter().zip(gpu) {
            let photo = |picture: &RgbImage| image::imageops::crop_imm(picture, 0, 0, 100, 70).to_image();
            let (one, other) = (photo(one), photo(other));
            let largest = one.as_raw().iter().zip(other.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(largest < 16, "{how}: {largest} levels");
            assert!(one.pixels().any(|pixel| pixel != one.get_pixel(0, 0)), "{how}: one colour");
        }
    }
}

#[test]
fn one_label_goes_to_standard_output() {
    let folder = Folder::new(64, 64);
    folder.refused("heat --out -", &["--out - writes one result of one photo", "3 results", "heat.0.dog.png"]);
    let output = Command::new(env!("CARGO_BIN_EXE_lseg-fast"))
        .args("run a.png --labels dog --device cpu --size 64x64 --save heat --out -".split(' '))
        .current_dir(folder.0.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let picture = image::load_from_memory(&output.stdout).unwrap();
    assert!(picture.width() > 64 && picture.height() >= 64);
}

#[test]
fn ranges_that_are_none_are_refused() {
    let folder = Folder::new(64, 64);
    for wrong in ["1", "2:1", "1:1", "a:b", "NaN:1", "0:inf", "1:2:3", ":", "-1:-2", "Own"] {
        folder.refused(&format!("heat --heat-range {wrong}"), &["--heat-range", "expected own", "10:30"]);
    }
    folder.refused("mask --heat-range own", &["--heat-range", "add heat"]);
}
