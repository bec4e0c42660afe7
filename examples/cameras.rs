//! Several cameras on one network: a lane and a thread for each, one set of weights in memory. Prints what a frame takes and what the
//! process holds.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use lseg_fast::{DeviceChoice, Image, Network, Options, Results, Size, Wanted};

#[derive(Parser)]
struct Arguments {
    /// A model made by `lseg-fast convert` [default: the demo model]
    #[arg(long)]
    model: Option<PathBuf>,

    #[arg(long, default_value_t = 2)]
    cameras: usize,

    /// Frames of each camera
    #[arg(long, default_value_t = 10)]
    frames: usize,

    #[arg(long, default_value = "480x480")]
    size: Size,

    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// Resident memory in MiB, where the system tells it.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().split(' ').next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let options = Options { device: arguments.device, ..Options::default() };
    let network = match &arguments.model {
        Some(model) => Network::load(model, &options)?,
        None => Network::load_demo(&options)?,
    };
    let labels = network.labels(&["person", "grass", "sky", "other"])?;
    println!("{}: {:.1} MiB with the weights and the words", network.device(), resident());
    let (width, height) = (640, 480);
    for cameras in 1..=arguments.cameras {
        let mut lanes = (0..cameras).map(|_| network.lane()).collect::<Result<Vec<_>, _>>()?;
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let threads: Vec<_> = lanes
                .iter_mut()
                .enumerate()
                .map(|(camera, lane)| {
                    let (labels, arguments) = (&labels, &arguments);
                    scope.spawn(move || {
                        lane.set_size(arguments.size);
                        lane.set_labels(labels)?;
                        let mut results = Results::default();
                        for number in 0..arguments.frames {
                            // Here a camera's driver would write.
                            let rgb = vec![(40 * camera + number) as u8; width * height * 3];
                            lane.run_into(&[Image::rgb8(width, height, &rgb)], Wanted::MASK, &mut results)?;
                        }
                        Ok::<(), lseg_fast::Error>(())
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("no camera panics"))
        })?;
        let frames = (cameras * arguments.frames) as f64;
        let milliseconds = 1e3 * begin.elapsed().as_secs_f64() / frames;
        let held = network.memory().host().held as f64 / f64::from(1 << 20);
        println!(
            "{cameras} cameras: {milliseconds:.1} ms a frame, {:.1} MiB, of which {held:.1} are counted",
            resident()
        );
    }
    Ok(())
}
