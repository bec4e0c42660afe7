//! `info`: what a model is made of.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::checkpoint::Checkpoint;
use crate::checksum::{Checksum, verify};
use crate::demo;
use crate::model::config::{Config, HeadBlockKind, ImageEncoder};
use crate::protocol::preset::Preset;
use clap::Args;
use serde::Serialize;

use super::common::read_config;
use super::print::Printer;
use super::result::{path, shown};
use super::table::{Align, Table, grouped, mib};
use super::{Failure, Outcome};

/// Show a model's configuration, parameters and bytes.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// A model made by `lseg-fast convert`, or a published checkpoint [default: the demo model in this program]
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,

    /// Describe a preset of run and embed instead: lseg-eval, vlmaps …
    #[arg(long, value_name = "NAME", conflicts_with_all = ["model", "verify"])]
    preset: Option<String>,

    /// Read all of it: compare its checksums, see whether each value is a number
    ///
    /// A model made by `lseg-fast convert` has a checksum of the whole file, a PyTorch zip (.ckpt, .pt) one of each tensor;
    /// other files have none. Damage ends with an error and exit code 1.
    #[arg(long)]
    verify: bool,
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast info
  lseg-fast info lseg.safetensors --verify
  lseg-fast info demo_e200.ckpt
  lseg-fast info --preset lseg-eval";

#[derive(Serialize)]
struct Report {
    #[serde(serialize_with = "path")]
    model: PathBuf,
    config: Config,
    /// Of all that is in the file.
    tensors: u64,
    parameters: u64,
    bytes: u64,
    /// What the file says of its training, licences and limits.
    about: BTreeMap<String, String>,
    /// With `--verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<&'static str>,
}

/// A way of `run` and `embed` to take whole photos.
#[derive(Serialize)]
struct Described {
    preset: &'static str,
    also: Vec<&'static str>,
    about: &'static str,
    protocol: Vec<Part>,
}

#[derive(Serialize)]
struct Part {
    what: &'static str,
    how: String,
}

fn describe(name: &str, printer: &mut Printer) -> Result<Outcome, Failure> {
    let preset = Preset::named(name).map_err(|error| Failure::call(error.to_string()))?;
    let report = Described {
        preset: preset.name,
        also: preset.also.to_vec(),
        about: preset.about,
        protocol: preset.protocol.describe().into_iter().map(|(what, how)| Part { what, how }).collect(),
    };
    printer.print(&report, |report| {
        let mut table = Table::new([Align::Left, Align::Left]);
        report.protocol.iter().for_each(|Part { what, how }| table.row([(*what).into(), how.clone()]));
        let also = if report.also.is_empty() { String::new() } else { format!(" (also {})", report.also.join(", ")) };
        format!("{}{also}: {}\n{}", report.preset, report.about, table.render())
    })?;
    Ok(Outcome::Done)
}

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    if let Some(name) = &arguments.preset {
        return describe(name, printer);
    }
    let (checkpoint, config) = read_config(arguments.model.as_deref())?;
    let (tensors, parameters, bytes) = totals(&checkpoint);
    let about = demo::about(&checkpoint).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let checksum = match arguments.verify.then(|| verify(&checkpoint, &config)).transpose()? {
        None => None,
        Some(Checksum::Verified) => Some("verified"),
        Some(Checksum::Missing) => Some("missing"),
    };
    let report = Report { model: checkpoint.path().to_owned(), config, tensors, parameters, bytes, about, checksum };
    printer.print(&report, render)?;
    Ok(Outcome::Done)
}

fn render(report: &Report) -> String {
    let Report { model, config, tensors, parameters, bytes, about, checksum } = report;
    let mut table = Table::new([Align::Left, Align::Left]);
    let mut line = |name: &str, value: String| table.row([name.into(), value]);
    line("preset", config.preset.clone());
    line("image encoder", image_encoder(&config.image));
    line("reassemble", join(&config.reassemble));
    line("features", config.features.to_string());
    let text = &config.text;
    line("text tower", format!("width {}, layers {}, heads {}, MLP {}", text.width, text.layers, text.heads, text.mlp));
    line("tokens", format!("{} rows, context {}", grouped(text.vocab as u64), text.context));
    line("embedding", config.embed_dim.to_string());
    line("head block", head_block(config));
    line("mean", join(&config.mean));
    line("std", join(&config.std));
    line("default size", config.default_size.clone());
    line("tensors", grouped(*tensors));
    line("parameters", grouped(*parameters));
    line("bytes", format!("{} ({})", grouped(*bytes), mib(*bytes)));
    if let Some(checksum) = checksum {
        line("checksum", format!("{checksum}; every value is a number"));
    }
    let about: String = about.iter().map(|(key, value)| format!("\n{}:\n{}\n", plain(key), plain(value))).collect();
    format!("{}\n{}{about}", shown(model), table.render())
}

/// A stranger's text on a terminal: lines stay, other control characters do not.
fn plain(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

fn image_encoder(encoder: &ImageEncoder) -> String {
    match encoder {
        ImageEncoder::Vit { patch, dim, depth, heads, mlp, grid, hooks } => format!(
            "ViT, patch {patch}, width {dim}, blocks {depth}, heads {heads}, MLP {mlp}, grid {grid}×{grid}, hooks {}",
            join(hooks)
        ),
        ImageEncoder::Resnet { stem, blocks, planes } => {
            format!("ResNet, stem {stem}, blocks {}, planes {}", join(blocks), join(planes))
        }
    }
}

fn head_block(config: &Config) -> String {
    let block = &config.head_block;
    let kind = match block.kind {
        HeadBlockKind::None => return "none".into(),
        HeadBlockKind::Bottleneck => "bottleneck",
        HeadBlockKind::Depthwise => "depthwise",
    };
    format!("{kind}, {} times, {}", block.depth.max(1), format!("{:?}", block.activation).to_lowercase())
}

/// (tensors, parameters, bytes) of all that is in the file.
fn totals(checkpoint: &Checkpoint) -> (u64, u64, u64) {
    checkpoint.names().filter_map(|name| checkpoint.info(name)).fold(
        (0, 0, 0_u64),
        |(tensors, parameters, bytes), info| {
            let elements = info.shape.iter().fold(1_u64, |n, &d| n.saturating_mul(d as u64));
            let size = elements.saturating_mul(info.dtype.bitsize() as u64) / 8;
            (tensors + 1, elements.saturating_add(parameters), bytes.saturating_add(size))
        },
    )
}

fn join(values: &[impl ToString]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
