//! Where a model computes: on the device that was chosen, with a budget that holds its weights, or on the CPU where the choice
//! is free and the GPU does not do.

use super::{DeviceChoice, Options, Wait};
use crate::device::Device;
use crate::device::cpu::Cpu;
use crate::device::cuda::{ContextOptions, Cuda, Waiting};
use crate::error::{Error, Result};
use crate::memory::{self, Budget, Held};
use crate::model::weights::Loader;
use crate::model::{FrameShape, Model, Output, Outputs};
use crate::pixels::Format;
use crate::plan::{self, Plan};

/// A device with room for a model's weights, what holds them, and why the device is another than one might expect.
pub(super) struct Placed {
    pub device: Box<dyn Device>,
    pub weights: Held,
    pub note: Option<String>,
}

/// What `load` makes of the model on the device for it; on the CPU where `auto` found a GPU whose kernels do not compute the model,
/// or whose numbers cannot hold the weights.
pub(super) fn load_on_device<T>(
    options: &Options,
    (shapes, model): (&Model, &Loader<'_>),
    load: impl FnMut(&mut dyn Device) -> Result<T>,
) -> Result<(T, Placed)> {
    let fallback = |why| on_cpu(options, model, Some(why));
    load_or_fall_back(choose(options, shapes, model)?, (options.device == DeviceChoice::Auto).then_some(fallback), load)
}

/// The smallest passes of a model: what a device computes of these it computes of all.
fn smallest_passes(model: &Model, activation_bytes: usize) -> [Plan; 2] {
    const SIDE: usize = 32;
    let (side, outputs) = ((SIDE, SIDE), Outputs::of(&[Output::Mask, Output::Scores, Output::Embedding]));
    let shape = FrameShape { batch: 1, photo: side, format: Format::Rgb8, network: side, normalisation: None };
    let bank = model.head.bank_shape(1);
    let frame = plan::record(activation_bytes, &[], |d| model.forward(d, shape, Some(&bank), outputs));
    [frame.0, plan::record(activation_bytes, &[], |d| model.text.forward(d, 1, 2)).0]
}

fn choose(options: &Options, shapes: &Model, model: &Loader<'_>) -> Result<Placed> {
    let on_gpu = |found: Result<Cuda>| {
        let cuda = found?;
        smallest_passes(shapes, cuda.activation_bytes()).iter().try_for_each(|plan| cuda.takes(plan))?;
        let emulated = cuda.info().is_virtual;
        let note = emulated.then(|| "a virtual GPU: all times are the emulation's, not a GPU's".to_owned());
        let note = note.or_else(|| cuda.refused());
        with_room(options, model, Box::new(cuda), note)
    };
    let or_cpu = |error: Error| match error {
        Error::Memory(_) => error.with(", or pass --device cpu"),
        _ if error.to_string().contains("--device cpu") => error,
        _ => error.with("; --device cpu needs none"),
    };
    let waiting = Waiting { asleep: options.wait == Wait::Block, limit: options.timeout };
    let context = ContextOptions { kind: options.context, waiting };
    match options.device {
        DeviceChoice::Cpu => on_cpu(options, model, None),
        DeviceChoice::Cuda(None) => on_gpu(Cuda::find(true, context)).map_err(or_cpu),
        DeviceChoice::Cuda(Some(ordinal)) => on_gpu(Cuda::open(ordinal, context)).map_err(or_cpu),
        DeviceChoice::Auto => {
            on_gpu(Cuda::find(false, context)).or_else(|reason| on_cpu(options, model, Some(reason.to_string())))
        }
    }
}

/// `why` not on a GPU, where one was looked for.
fn on_cpu(options: &Options, model: &Loader<'_>, why: Option<String>) -> Result<Placed> {
    let cpu = Cpu::new(options.threads)?;
    let why = why.map(|why| format!("{why}: running on the CPU"));
    let notes: Vec<String> = why.into_iter().chain(cpu.note().map(str::to_owned)).collect();
    with_room(options, model, Box::new(cpu), (!notes.is_empty()).then(|| notes.join("; ")))
}

fn with_room(
    options: &Options,
    model: &Loader<'_>,
    mut device: Box<dyn Device>,
    note: Option<String>,
) -> Result<Placed> {
    let mut weights = Budget::new(options.memory, device.own_memory()).holder();
    let need = model.need(device.weight_bytes(model.weights()));
    weights.hold("loading this model", need, memory::FOR_MODEL)?;
    device.expect(model.weights())?;
    Ok(Placed { device, weights, note })
}

/// What `load` makes of the model on the device. Where the device's numbers cannot hold it, on that of `fallback`, if there is one.
fn load_or_fall_back<T>(
    mut placed: Placed,
    fallback: Option<impl FnOnce(String) -> Result<Placed>>,
    mut load: impl FnMut(&mut dyn Device) -> Result<T>,
) -> Result<(T, Placed)> {
    match (load(&mut *placed.device), fallback) {
        (Err(Error::NotFinite(reason)), Some(fallback)) => {
            // The GPU's memory goes first: where it is the host's too, both together may not fit.
            drop(placed);
            let mut placed = fallback(reason)?;
            Ok((load(&mut *placed.device)?, placed))
        }
        (Err(Error::NotFinite(reason)), None) => Err(Error::NotFinite(format!("{reason}; pass --device cpu"))),
        (made, _) => Ok((made?, placed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(threads: usize, note: &str) -> Result<Placed> {
        let (device, note) = (Box::new(Cpu::new(Some(threads))?), Some(note.to_owned()));
        Ok(Placed { device, weights: Budget::new(None, None).holder(), note })
    }

    /// A model that the device of one thread cannot hold.
    fn load(device: &mut dyn Device) -> Result<&'static str> {
        match device.describe().as_str() {
            "cpu, 1 thread" => Err(Error::NotFinite("it ends at 65504".to_owned())),
            "cpu, 2 threads" => Ok("loaded"),
            _ => Err(Error::NoModel),
        }
    }

    #[test]
    fn a_model_that_does_not_fit_goes_to_the_fallback_device() {
        let fallback = |threads: usize| Some(move |reason: String| cpu(threads, &reason));
        let (model, placed) = load_or_fall_back(cpu(1, "as chosen").unwrap(), fallback(2), load).unwrap();
        assert_eq!((model, &*placed.device.describe()), ("loaded", "cpu, 2 threads"));
        assert_eq!(placed.note.unwrap(), "it ends at 65504");
        let (_, placed) = load_or_fall_back(cpu(2, "as chosen").unwrap(), fallback(1), load).unwrap();
        assert_eq!((&*placed.device.describe(), &*placed.note.unwrap()), ("cpu, 2 threads", "as chosen"));

        let none = None::<fn(String) -> Result<Placed>>;
        let refused = |threads| load_or_fall_back(cpu(threads, "").unwrap(), none, load).err().unwrap();
        assert_eq!(refused(1).to_string(), "it ends at 65504; pass --device cpu");
        assert!(matches!(refused(3), Error::NoModel));
    }
}
