//! `eval`, as its users call it: on data sets that the tests make.

mod datasets;
mod episodes;
mod errors;
mod metrics;
mod state;
mod words;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use png::{BitDepth, ColorType};
use serde_json::Value;
use tempfile::TempDir;

use crate::answer::Answer;

/// Sides of the made photos.
const WIDTH: usize = 40;
const HEIGHT: usize = 32;

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

    /// A photo with something in it, another for each `seed`.
    fn photo(&self, name: &str, seed: usize) {
        self.sized_photo(name, seed, WIDTH, HEIGHT);
    }

    fn sized_photo(&self, name: &str, seed: usize, width: usize, height: usize) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        let pixel = |x: u32, y: u32| image::Rgb([5 * x as u8, 7 * y as u8, (x * y) as u8 ^ (31 * seed) as u8]);
        image::RgbImage::from_fn(width as u32, height as u32, pixel).save(self.path(name)).unwrap();
    }

    /// A mask of grey values, 16-bit where one needs that.
    fn mask(&self, name: &str, width: usize, values: &[u16]) {
        let wide = values.iter().any(|value| *value > 255);
        let bytes = |value: &u16| if wide { value.to_be_bytes().to_vec() } else { vec![*value as u8] };
        let depth = if wide { BitDepth::Sixteen } else { BitDepth::Eight };
        let data: Vec<u8> = values.iter().flat_map(bytes).collect();
        self.png(name, width, values.len() / width, (ColorType::Grayscale, depth), &data);
    }

    fn png(&self, name: &str, width: usize, height: usize, (colour, depth): (ColorType, BitDepth), data: &[u8]) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        let mut encoder = png::Encoder::new(File::create(self.path(name)).unwrap(), width as u32, height as u32);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if colour == ColorType::Indexed {
            encoder.set_palette([[9, 9, 9]; 256].concat());
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
    }

    /// Eight photos and masks of the labels 0 to 2 and of 255.
    fn tree(&self) {
        for seed in 0..8 {
            self.photo(&format!("photos/p{seed}.png"), seed);
            self.mask(&format!("masks/p{seed}.png"), WIDTH, &values(seed, &[0, 1, 2, 255]));
        }
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = testing::process::hearing(env!("CARGO_BIN_EXE_lseg-fast"));
        command.arg("eval").args(arguments.split_whitespace()).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    fn call(&self, arguments: &str) -> Answer {
        Answer::of(&mut self.command(arguments))
    }
}

/// A photo's mask: stripes of these values, another pattern for each `seed`.
fn values(seed: usize, of: &[u16]) -> Vec<u16> {
    (0..WIDTH * HEIGHT).map(|i| of[(i % WIDTH / 5 + i / WIDTH / 3 * (seed + 1) + seed) % of.len()]).collect()
}

/// A number in letters.
fn name(number: usize) -> String {
    number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
}

/// The seeded model, small, on the CPU.
fn model() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/seeded/seeded.ckpt");
    format!("--model {} --device cpu --size 32x32 -q", file.display())
}

const FOLDERS: &str = "--data folders --images photos --masks masks --labels cat,wall,other --ignore 255";
