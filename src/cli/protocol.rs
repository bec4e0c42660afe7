//! How whole photos are taken: a preset, or windows as the call says.

use bytesize::ByteSize;
use clap::{Args, ValueEnum};

use super::Failure;
use super::common::PhotoArguments;
use crate::engine::{Engine, WholeOptions};
use crate::protocol::preset::{Knobs, Preset};
use crate::protocol::{self, Look, Normalisation, Protocol, Stage};

/// In how many passes a photo is seen, and how they merge.
#[derive(Args)]
pub struct ProtocolArguments {
    /// Take photos as people's code does: lseg-eval, lseg-eval-citys, notebook, app, zero-shot, vlmaps, openscene, feature3dgs,
    /// lseg-minimal, conceptfusion, lsm or native; lseg-fast info --preset NAME tells what one does [default: native, one pass]
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,

    /// Windows instead of one pass: the photo's longer side at scale 1, in pixels [default: its own]
    #[arg(long, value_name = "PIXELS")]
    base: Option<usize>,

    /// Windows: their side, a multiple of 32 [default: 480]
    #[arg(long, value_name = "PIXELS")]
    crop: Option<usize>,

    /// Windows: from one to the next [default: two thirds of --crop]
    #[arg(long, value_name = "PIXELS")]
    stride: Option<usize>,

    /// Windows: at these multiples of --base, whose results are added [default: 1]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    scales: Option<Vec<f64>>,

    /// Windows: see each mirrored too, and add both results or take their mean [default: none]
    #[arg(long, value_enum, value_name = "HOW")]
    flip: Option<Flip>,

    /// The mean of red, green and blue that is subtracted, 0 to 1, such as 0.5,0.5,0.5 [default: the model's]
    #[arg(long, value_name = "R,G,B", value_parser = three)]
    mean: Option<[f32; 3]>,

    /// The standard deviation that is divided by [default: the model's]
    #[arg(long, value_name = "R,G,B", value_parser = three)]
    std: Option<[f32; 3]>,

    /// Windows that the network sees at once [default: as many as fit, up to 8 on a GPU; 1 on a CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    batch_windows: Option<u16>,

    /// The most memory for the sums of windows, such as 512M; a photo that needs more is computed in strips
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    memory: ByteSize,
}

/// What is done with mirrored windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Flip {
    Sum,
    Mean,
    None,
}

fn three(text: &str) -> Result<[f32; 3], String> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    let numbers = numbers.ok().filter(|numbers| numbers.iter().all(|number| number.is_finite()));
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| "expected three numbers with commas, such as 0.5,0.5,0.5".to_owned())
}

/// A way that is not the native one.
pub struct Chosen {
    /// The preset's, or "windows".
    pub name: String,
    pub protocol: Protocol,
    pub options: WholeOptions,
}

impl ProtocolArguments {
    /// What was chosen; none for one pass at the model's size, as it is without any of these.
    pub fn resolve(&self, photos: &PhotoArguments) -> Result<Option<Chosen>, Failure> {
        self.beside(photos.has_size())
    }

    /// As [`ProtocolArguments::resolve`], beside a `--size` or none.
    pub fn beside(&self, has_size: bool) -> Result<Option<Chosen>, Failure> {
        if let Some(name) = self.preset.as_deref().filter(|name| *name != "native" && has_size) {
            return Err(Failure::call(format!(
                "--preset {name} has sizes of its own: leave --size out, or the preset"
            )));
        }
        let chosen = self.chosen()?;
        if has_size && chosen.as_ref().is_some_and(|chosen| matches!(chosen.protocol.look, Look::Windows(_))) {
            return Err(Failure::call(
                "windows have sizes of their own: leave --size out, or --base, --crop and the like",
            ));
        }
        Ok(chosen)
    }

    /// The same where there are no photos.
    pub fn chosen(&self) -> Result<Option<Chosen>, Failure> {
        let knobs = self.knobs();
        let call = |error: crate::Error| Failure::call(error.to_string());
        let (name, protocol) = match &self.preset {
            None if knobs.is_empty() => return Ok(None),
            None => ("windows".to_owned(), knobs.protocol().map_err(call)?),
            Some(name) => {
                let preset = Preset::named(name).map_err(call)?;
                (name.clone(), knobs.with(&preset).map_err(call)?)
            }
        };
        // One pass at the model's size: what is said of mean and std the engine knows.
        if protocol.look == Look::Native {
            return Ok(None);
        }
        let options = WholeOptions { memory: self.memory.as_u64(), batch: self.batch_windows.map(usize::from) };
        Ok(Some(Chosen { name, protocol, options }))
    }

    /// Mean and std, put on the engine where they are said.
    pub fn set(&self, engine: &mut Engine) -> Result<(), Failure> {
        engine.lane_mut().set_normalisation(self.normalisation()?);
        Ok(())
    }

    /// Those.
    pub fn normalisation(&self) -> Result<Option<Normalisation>, Failure> {
        self.knobs().normalisation().map_err(|error| Failure::call(error.to_string()))
    }

    pub fn has_preset(&self) -> bool {
        self.preset.is_some()
    }

    fn knobs(&self) -> Knobs {
        let flip = self.flip.map(|flip| match flip {
            Flip::Sum => protocol::Flip::Sum,
            Flip::Mean => protocol::Flip::Mean,
            Flip::None => protocol::Flip::None,
        });
        let scales = self.scales.clone();
        Knobs { base: self.base, crop: self.crop, stride: self.stride, scales, flip, mean: self.mean, std: self.std }
    }
}

impl Chosen {
    /// For what is made of labels' scores: embeddings of any length, merged, have none of one pass.
    pub fn for_scores(self) -> Result<Chosen, Failure> {
        if self.protocol.stage == Stage::Raw && matches!(self.protocol.look, Look::Windows(_)) {
            return Err(Failure::call(format!(
                "--preset {} merges embeddings, not scores: take it with lseg-fast embed, or choose lseg-eval here",
                self.name
            )));
        }
        Ok(self)
    }

    pub fn has_windows(&self) -> bool {
        matches!(self.protocol.look, Look::Windows(_))
    }
}
