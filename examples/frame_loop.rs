//! One frame after another through the library, at another program's word: lseg-fast's side of `benches/compare_cpu.py`.
//!
//! Prints `ready` when the model is loaded and the labels are encoded. Then each line on stdin is an order: `frame`
//! segments the photo once more and prints the seconds that took, `mask FILE` writes the last frame's mask (16-bit
//! little-endian, row by row) and prints its height and width. Ends with stdin.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use lseg_fast::image::decode::{DEFAULT_MAX_PIXELS, decode};
use lseg_fast::{DeviceChoice, Engine, Image, Options, Segmentation, Size, labels};

#[derive(Parser)]
struct Arguments {
    /// A model made by `lseg-fast convert`, or a published checkpoint
    #[arg(long)]
    model: PathBuf,

    #[arg(long)]
    photo: PathBuf,

    /// As `lseg-fast run` takes them: "a,b" or @FILE
    #[arg(long)]
    labels: String,

    #[arg(long, default_value = "native")]
    size: Size,

    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,

    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut engine = Engine::load(
        &arguments.model,
        &Options { device: arguments.device, threads: arguments.threads, ..Options::default() },
    )?;
    engine.set_size(arguments.size);
    engine.set_list(&labels::parse(&arguments.labels)?)?;
    let photo = decode(&arguments.photo, DEFAULT_MAX_PIXELS)?;
    let frame = Image::rgb8(photo.width, photo.height, &photo.rgb);
    println!("ready");

    let mut segmentation = Segmentation::default();
    for order in io::stdin().lock().lines() {
        let order = order?;
        match order.split_once(' ') {
            None if order == "frame" => {
                let start = Instant::now();
                engine.segment_into(&frame, &mut segmentation)?;
                println!("{}", start.elapsed().as_secs_f64());
            }
            Some(("mask", file)) => {
                let bytes: Vec<u8> = segmentation.mask.iter().flat_map(|label| label.to_le_bytes()).collect();
                fs::write(file, bytes)?;
                println!("{} {}", segmentation.height, segmentation.width);
            }
            _ => return Err(format!("order {order:?}: expected frame or mask FILE").into()),
        }
    }
    Ok(())
}
