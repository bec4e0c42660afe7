//! A model's weights on a device, which lanes share, and the text tower that makes labels for them.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fork_guard::{self, ForkGuard};
use super::label_set::{self, Labels};
use super::texts::TextTower;
use super::types::{LabelOptions, Options};
use super::{Lane, placement, templates};
use crate::checkpoint::Checkpoint;
use crate::demo;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::labels::{self, List};
use crate::memory::{self, Budget, Held};
use crate::model::config::Config;
use crate::model::detect::{HeadBlockOverride, detect};
use crate::model::weights::Loader;
use crate::model::{Model, head};
use crate::protocol::Size;
use crate::tokenizer::Tokenizer;

/// Text features kept for words that come back.
const TEXTS: usize = 16_384;
/// Labels that may wait to be given back before there is no room for more of them.
const RETIRED: usize = 64;

/// A model's weights on a device: once in memory, however many [`Lane`]s segment with them. It is shared between threads as it is.
///
/// ```
/// use lseg_fast::{Image, Network, Options, Wanted};
///
/// # fn main() -> lseg_fast::Result<()> {
/// let network = Network::load_demo(&Options::default())?;
/// let labels = network.labels(&["grass", "sky", "other"])?;
/// let rgb = vec![120; 64 * 64 * 3];
/// // Two cameras on one set of weights, each on a thread of its own.
/// std::thread::scope(|scope| {
///     for _camera in 0..2 {
///         let mut lane = network.lane()?;
///         lane.set_size("64x64".parse()?);
///         lane.set_labels(&labels)?;
///         let frame = Image::rgb8(64, 64, &rgb);
///         scope.spawn(move || lane.run(&[frame], Wanted::MASK).unwrap().mask(0).unwrap().len());
///     }
///     Ok(())
/// })
/// # }
/// ```
pub struct Network(Arc<Shared>);

impl Clone for Network {
    /// Another handle of the same.
    fn clone(&self) -> Network {
        Network(Arc::clone(&self.0))
    }
}

/// What all lanes of a network use.
pub(super) struct Shared {
    /// No other network of this process has it.
    pub id: u64,
    pub model: Model,
    pub description: String,
    pub note: Option<String>,
    /// Of the model itself.
    pub size: Size,
    pub budget: Budget,
    pub tokenizer: Tokenizer,
    /// Bytes of one activation.
    pub activation: usize,
    epochs: AtomicU64,
    /// Of which lanes' devices are siblings; it computes nothing, so that nobody waits for it.
    seed: Mutex<ForkGuard>,
    tower: Mutex<TextTower>,
    /// Labels that no frame is asked about any more. To give their memory back waits for frames: so it is done where others are
    /// made, or where there is too little.
    retired: Mutex<Vec<Labels>>,
    /// The process that made it.
    process: u32,
    _weights: Held,
}

impl Network {
    /// Loads a converted `.safetensors` or a published checkpoint onto a device.
    ///
    /// # Errors
    /// A file that is missing, damaged or no LSeg; a tensor of the wrong shape or type, or with values that are no finite
    /// numbers; a device that is not there or is in use; [`Error::Memory`] where the weights need more than is free or
    /// allowed; [`Error::NotFinite`] for weights beyond float16 on a GPU that was asked for.
    pub fn load(path: &Path, options: &Options) -> Result<Network> {
        Self::from_checkpoint(&Checkpoint::open(path)?, options)
    }

    /// Loads the small model that is part of the program ([`demo`]).
    ///
    /// # Errors
    /// [`Error::NoModel`] where the build left it out; a device that is not there.
    pub fn load_demo(options: &Options) -> Result<Network> {
        Self::from_checkpoint(&demo::checkpoint()?, options)
    }

    /// Loads an open checkpoint onto a device.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub fn from_checkpoint(checkpoint: &Checkpoint, options: &Options) -> Result<Network> {
        let config = detect(checkpoint, &HeadBlockOverride::default())?;
        let size = config
            .default_size
            .parse()
            .map_err(|e| Error::config(checkpoint.path(), format!("default_size of its configuration: {e}")))?;
        let tokenizer = Tokenizer::new(config.text.vocab, config.text.context)?;
        let mut shapes = Loader::shapes(checkpoint);
        let in_shape = Model::load(&config, &mut shapes)?;
        let (model, placed) = placement::load_on_device(options, (&in_shape, &shapes), |device| {
            Model::load(&config, &mut Loader::new(checkpoint, device))
        })?;
        checkpoint.unchanged()?;
        let placement::Placed { device, weights, note } = placed;
        static NETWORKS: AtomicU64 = AtomicU64::new(0);
        let budget = weights.budget();
        Ok(Network(Arc::new(Shared {
            id: NETWORKS.fetch_add(1, Ordering::Relaxed),
            model,
            description: device.describe(),
            note,
            size,
            tokenizer,
            activation: device.activation_bytes(),
            epochs: AtomicU64::new(1),
            tower: Mutex::new(TextTower::new(ForkGuard::new(device.sibling()?), &budget)),
            seed: Mutex::new(ForkGuard::new(device)),
            retired: Mutex::new(Vec::with_capacity(RETIRED)),
            budget,
            process: std::process::id(),
            _weights: weights,
        })))
    }

    /// A flow of frames of its own over these weights. It has no labels yet.
    ///
    /// # Errors
    /// [`Error::Device`], [`Error::Lost`] or [`Error::Memory`] where a GPU does not give what a lane needs.
    pub fn lane(&self) -> Result<Lane> {
        Ok(Lane::new(self.clone(), self.another_device()?))
    }

    /// What the model is made of.
    pub fn config(&self) -> &Config {
        &self.0.model.config
    }

    /// "cpu, 2 threads"
    pub fn device(&self) -> &str {
        &self.0.description
    }

    /// Why the choice of the device fell as it did, where that needs saying.
    pub fn note(&self) -> Option<&str> {
        self.0.note.as_deref()
    }

    /// How much memory this network may have and holds: weights, and the lanes' arenas and labels. Photos can ask it for room.
    pub fn memory(&self) -> &Budget {
        &self.0.budget
    }

    /// These words for lanes of this network. Words that were encoded before cost nothing again.
    ///
    /// # Errors
    /// [`Error::Labels`] for an empty list, more than 65,535 labels, an empty label or one with a line end, a label in which
    /// the text tower sees nothing or the same as in another, and a label longer than the text tower's context.
    /// [`Error::NotFinite`] for a label that the text tower makes no finite numbers of, and [`Error::Memory`] where they need more
    /// than is free or allowed. [`Error::Device`] and [`Error::Lost`] where a GPU fails.
    pub fn labels<S: AsRef<str>>(&self, labels: &[S]) -> Result<Labels> {
        self.labels_of(&labels::checked(labels)?, &LabelOptions::default(), &mut |_, _| ())
    }

    /// As [`Network::labels`], of a list whose errors name the places in its file, with templates and long labels as `options`
    /// say. Of the texts that were not encoded before, `progress` is told how many are done and how many they are, every so often;
    /// it must not ask this network for labels or text features itself.
    ///
    /// # Errors
    /// As [`Network::labels`]; [`Error::Template`] for a template without a `{}`, and for more or longer texts in templates than
    /// are read.
    pub fn labels_of(
        &self,
        list: &List,
        options: &LabelOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Labels> {
        let Shared { model, tokenizer, budget, .. } = &*self.0;
        self.0.check_process()?;
        self.0.give_back_retired();
        let mut tower = self.tower();
        let texts = templates::fill(options, list)?;
        let unknown = tower.tokens_of_unknown(tokenizer, &texts)?;
        let notes = tower.check_tokens(tokenizer, list, options, &texts, &unknown)?;
        let what = format!("a list of {} labels", texts.len());
        let mut held = budget.holder();
        held.hold(&what, tower.need_of_labels(model, texts.len()), memory::FOR_LABELS)?;
        tower.hold_texts(model, unknown.len(), &what)?;
        let encoded = tower.encode_unknown(&self.0, &texts, unknown, progress);
        // Where it failed there are fewer than were expected.
        tower.hold_texts(model, 0, &what)?;
        let text_time = encoded?;
        let features = tower.features_of(&texts, options);
        let keeps_length = options.keeps_length && !options.templates.is_empty();
        let limit = tower.device.largest_weight();
        let head::Bank { rows, offsets } = model.head.bank(&features, keeps_length, limit)?;
        let bank = tower.device.bank(offsets.len(), model.config.features, &rows, &offsets)?;
        if tower.texts.len() > TEXTS {
            let current: HashSet<&String> = texts.iter().flatten().collect();
            tower.texts.retain(|text, _| current.contains(text));
        }
        Ok(Labels::new(label_set::Inner {
            network: self.0.id,
            epoch: self.0.epochs.fetch_add(1, Ordering::Relaxed),
            names: list.texts().map(str::to_owned).collect(),
            notes,
            features,
            keeps_length,
            embed_dim: model.config.embed_dim,
            bank,
            text_time,
            _held: held,
        }))
    }

    /// Whether this is the process that loaded it: for those who lock what they hold beside it, which in a forked child nobody may be
    /// left to open.
    ///
    /// # Errors
    /// [`Error::Device`] in a process that was forked from that one.
    pub fn check_process(&self) -> Result<()> {
        self.0.check_process()
    }

    /// The text tower's output for a text that has been encoded (a label, or a template filled in): `embed_dim` values, not
    /// normalised. It waits while a list is encoded.
    pub fn text_features(&self, text: &str) -> Option<Vec<f32>> {
        self.0.check_process().ok()?;
        self.tower().texts.get(text).map(|text| text.features.to_vec())
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Who panicked with it left whole texts behind: those that are encoded are put there at the end.
    fn tower(&self) -> MutexGuard<'_, TextTower> {
        self.0.tower.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device over the weights, for one lane.
    fn another_device(&self) -> Result<Box<dyn Device>> {
        self.0.check_process()?;
        self.0.or_with_retired(|| self.0.seed.lock().unwrap_or_else(PoisonError::into_inner).sibling())
    }
}

impl Shared {
    /// Takes labels that a lane has done with. Whoever has the last of them leaves them here for the next who makes labels.
    pub fn retire(&self, labels: Option<Labels>) {
        let Some(labels) = labels.filter(Labels::is_last) else { return };
        let mut retired = self.retired();
        if retired.len() < RETIRED {
            retired.push(labels);
        }
    }

    /// `take`, and once more where there is too little memory while labels wait to be given back.
    pub fn or_with_retired<T>(&self, mut take: impl FnMut() -> Result<T>) -> Result<T> {
        match take() {
            Err(Error::Memory(_)) if self.give_back_retired() => take(),
            taken => taken,
        }
    }

    /// Whether there were any.
    fn give_back_retired(&self) -> bool {
        let mut retired = std::mem::replace(&mut *self.retired(), Vec::with_capacity(RETIRED));
        let were_there = !retired.is_empty();
        retired.clear();
        were_there
    }

    fn retired(&self) -> MutexGuard<'_, Vec<Labels>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before any of its locks is waited for, which nobody may be left to open.
    ///
    /// # Errors
    /// This is another process.
    fn check_process(&self) -> Result<()> {
        fork_guard::check(self.process)
    }
}
