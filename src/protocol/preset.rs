//! The ways in which people run LSeg over whole photos, each a named value.
//!
//! What each of them does was read in its published code: LSeg's own evaluation (lseg_module.py and PyTorch-Encoding's
//! `MultiEvalModule`), its notebook, app and few-shot evaluation; VLMaps, OpenScene, Feature 3DGS, lseg-minimal, LSM.

use super::whole::{At, Base, Before, Crop, Flip, Look, Normalisation, Protocol, Stage, Windows};
use super::{STEP, Size};
use crate::{Error, Result};

/// The six scales of LSeg's evaluation.
const SCALES: [f64; 6] = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75];
/// Those of its Cityscapes form.
const CITYSCAPES: [f64; 7] = [0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25];

/// A named way.
pub struct Preset {
    /// As `--preset` takes it.
    pub name: &'static str,
    /// Other names of the same.
    pub also: &'static [&'static str],
    /// Whose it is, in a few words.
    pub about: &'static str,
    /// What it does.
    pub protocol: Protocol,
}

impl Preset {
    /// All of them.
    pub fn all() -> Vec<Preset> {
        let preset = |name, about, protocol| Preset { name, also: &[], about, protocol };
        let evaluation = |base, crop, scales: &[f64]| Protocol {
            look: Look::Windows(Windows {
                base: Base::Pixels(base),
                crop: Crop::Pixels(crop),
                stride: None,
                scales: scales.to_vec(),
                flip: Flip::Sum,
            }),
            ..Protocol::default()
        };
        let published = evaluation(520, 480, &SCALES);
        let once = |height, width| Protocol { look: Look::Once(Size::Exact { height, width }), ..Protocol::default() };
        let features = |look, stage, at| Protocol { look, stage, at, ..Protocol::default() };
        let none = Normalisation { mean: [0.0; 3], std: [1.0; 3] };
        vec![
            preset("native", "one pass at the model's own size", Protocol::default()),
            Preset { also: &["notebook"], ..preset("lseg-eval", "test_lseg.py and the notebook", published.clone()) },
            preset("lseg-eval-citys", "the same for Cityscapes", evaluation(2048, 768, &CITYSCAPES)),
            preset(
                "app",
                "lseg_app.py",
                Protocol { before: Before::Float { size: (360, 480), corners: false, wider_than: 0 }, ..published },
            ),
            preset(
                "zero-shot",
                "test_lseg_zs.py, of PASCAL-5i, COCO-20i and FSS-1000",
                Protocol { before: Before::Pillow((480, 480)), ..once(480, 480) },
            ),
            preset(
                "vlmaps",
                "VLMaps' lseg_utils.py",
                features(
                    Look::Windows(Windows {
                        base: Base::Pixels(520),
                        crop: Crop::Pixels(480),
                        stride: None,
                        scales: vec![1.0],
                        flip: Flip::None,
                    }),
                    Stage::Scaled,
                    At::Scale,
                ),
            ),
            preset(
                "openscene",
                "OpenScene's lseg_utils.py",
                Protocol {
                    doubled: false,
                    ..features(
                        Look::Windows(Windows {
                            base: Base::Photo(2),
                            crop: Crop::Base,
                            stride: None,
                            scales: vec![1.0],
                            flip: Flip::Sum,
                        }),
                        Stage::Unit,
                        At::Scale,
                    )
                },
            ),
            preset(
                "feature3dgs",
                "Feature 3DGS's encode_images.py",
                Protocol {
                    before: Before::Float { size: (360, 480), corners: true, wider_than: 480 },
                    ..features(
                        Look::Windows(Windows {
                            base: Base::Pixels(520),
                            crop: Crop::Pixels(480),
                            stride: None,
                            scales: vec![0.75, 1.0, 1.25, 1.75],
                            flip: Flip::Mean,
                        }),
                        Stage::Raw,
                        At::Photo,
                    )
                },
            ),
            Preset {
                also: &["conceptfusion"],
                ..preset(
                    "lseg-minimal",
                    "lseg-minimal, as ConceptFusion takes it",
                    Protocol {
                        before: Before::OpenCv((480, 640)),
                        normalisation: Some(none),
                        stage: Stage::Raw,
                        doubled: false,
                        at: At::Scale,
                        ..once(480, 640)
                    },
                )
            },
            preset(
                "lsm",
                "LSM, with the size open (--crop)",
                Protocol {
                    normalisation: Some(Normalisation { mean: [0.5; 3], std: [0.5; 3] }),
                    stage: Stage::Raw,
                    doubled: false,
                    at: At::Scale,
                    ..once(256, 256)
                },
            ),
        ]
    }

    /// The preset of this name.
    ///
    /// # Errors
    /// [`Error::Size`] where there is none.
    pub fn named(name: &str) -> Result<Preset> {
        let all = Preset::all();
        let names: Vec<&str> = all.iter().flat_map(Preset::names).collect();
        let names = names.join(", ");
        let found = all.into_iter().find(|preset| preset.names().any(|own| own == name));
        found.ok_or_else(|| Error::Size(format!("preset \"{name}\": expected one of {names}")))
    }

    /// Its name and its others.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.also.iter().copied())
    }
}

/// What a caller may say of windows himself, beside a preset or without one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Knobs {
    /// The longer side of the photo at scale 1, pixels.
    pub base: Option<usize>,
    /// The windows' side, pixels.
    pub crop: Option<usize>,
    /// From window to window, pixels.
    pub stride: Option<usize>,
    /// Times the base.
    pub scales: Option<Vec<f64>>,
    /// What is done with mirrored windows.
    pub flip: Option<Flip>,
    /// Of red, green and blue in 0–1.
    pub mean: Option<[f32; 3]>,
    /// As `mean`.
    pub std: Option<[f32; 3]>,
}

impl Knobs {
    /// Whether none is said.
    pub fn is_empty(&self) -> bool {
        *self == Knobs::default()
    }

    /// Windows as these say, of a photo of its own size with no overlap other than LSeg's where they do not.
    ///
    /// # Errors
    /// [`Error::Size`] for knobs of which no windows can be cut.
    pub fn protocol(&self) -> Result<Protocol> {
        let windows = self.base.is_some() || self.crop.is_some() || self.stride.is_some();
        let windows = windows || self.scales.is_some() || self.flip.is_some();
        let cut = Windows {
            base: self.base.map_or(Base::Photo(1), Base::Pixels),
            crop: Crop::Pixels(self.crop.unwrap_or(480)),
            stride: self.stride,
            scales: self.scales.clone().unwrap_or_else(|| vec![1.0]),
            flip: self.flip.unwrap_or(Flip::None),
        };
        let look = if windows { Look::Windows(cut) } else { Protocol::default().look };
        let protocol = Protocol { look, normalisation: self.normalisation()?, ..Protocol::default() };
        protocol.check()?;
        Ok(protocol)
    }

    /// A preset with what it leaves open filled in.
    ///
    /// # Errors
    /// [`Error::Size`] that names the preset and the knob that contradicts it.
    pub fn with(&self, preset: &Preset) -> Result<Protocol> {
        let mut protocol = preset.protocol.clone();
        let contradicts = |knob: &str, given: String, own: &str| {
            let name = preset.name;
            Err(Error::Size(format!(
                "--preset {name} has {own}, which --{knob} {given} contradicts: leave one of them out"
            )))
        };
        if let (Look::Once(size), Some(crop), "lsm") = (&mut protocol.look, self.crop, preset.name) {
            if crop == 0 || !crop.is_multiple_of(STEP) {
                return Err(Error::Size(format!("--crop {crop}: expected a multiple of {STEP}, such as 480")));
            }
            *size = Size::Exact { height: crop, width: crop };
        }
        let own = |knob: &str| protocol.describe().into_iter().find(|(name, _)| *name == knob).map(|(_, text)| text);
        for (knob, given) in self.texts() {
            let found = own(knob).unwrap_or_else(|| "none".to_owned());
            let agrees = match (knob, &protocol.look) {
                ("mean" | "std", _) => protocol.normalisation.is_none() || given == found,
                ("crop", Look::Once(_)) => preset.name == "lsm",
                _ => given == found,
            };
            if !agrees {
                let own = if own(knob).is_some() { format!("{knob} {found}") } else { format!("no {knob}") };
                return contradicts(knob, given, &own);
            }
        }
        protocol.normalisation = self.normalisation()?.or(protocol.normalisation);
        Ok(protocol)
    }

    /// Those that are said, as the description of a protocol has them.
    fn texts(&self) -> Vec<(&'static str, String)> {
        let numbers = |values: &[f32; 3]| values.map(|value| value.to_string()).join(" ");
        let all = [
            ("base", self.base.map(|base| base.to_string())),
            ("crop", self.crop.map(|crop| crop.to_string())),
            ("stride", self.stride.map(|stride| stride.to_string())),
            ("scales", self.scales.as_deref().map(super::whole::join)),
            ("flip", self.flip.map(|flip| flip.name().to_owned())),
            ("mean", self.mean.as_ref().map(numbers)),
            ("std", self.std.as_ref().map(numbers)),
        ];
        all.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
    }

    /// Mean and standard deviation, where they are said.
    ///
    /// # Errors
    /// [`Error::Size`] where one is said alone, or a deviation is not above 0.
    pub fn normalisation(&self) -> Result<Option<Normalisation>> {
        match (self.mean, self.std) {
            (None, None) => Ok(None),
            (Some(mean), Some(std)) if std.iter().all(|std| *std > 0.0 && std.is_finite()) => {
                Ok(Some(Normalisation { mean, std }))
            }
            (Some(_), Some(_)) => Err(Error::Size("--std: expected three numbers above 0, such as 0.5 0.5 0.5".into())),
            _ => Err(Error::Size("--mean and --std belong together: give both, three numbers each".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_has_names_of_its_own_and_can_be_done() {
        let all = Preset::all();
        let mut names: Vec<&str> = all.iter().flat_map(Preset::names).collect();
        assert_eq!(names.len(), 12);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 12);
        for preset in &all {
            preset.protocol.check().unwrap();
            for name in preset.names() {
                assert_eq!(Preset::named(name).unwrap().protocol, preset.protocol);
            }
        }
        assert!(Preset::named("eval").err().unwrap().to_string().contains("lseg-eval"));
    }

    #[test]
    fn a_knob_that_contradicts_names_both() {
        let refused = |name: &str, knobs: Knobs| knobs.with(&Preset::named(name).unwrap()).unwrap_err().to_string();
        let knobs = Knobs { crop: Some(512), ..Knobs::default() };
        let error = refused("lseg-eval", knobs.clone());
        assert!(error.contains("--preset lseg-eval has crop 480") && error.contains("--crop 512"), "{error}");
        let error = refused("zero-shot", knobs);
        assert!(error.contains("zero-shot") && error.contains("--crop 512"), "{error}");
        let error = refused("vlmaps", Knobs { flip: Some(Flip::Sum), ..Knobs::default() });
        assert!(error.contains("flip none") && error.contains("--flip sum"), "{error}");
        let error = refused("native", Knobs { base: Some(520), ..Knobs::default() });
        assert!(error.contains("has no base"), "{error}");
        let error = refused("lseg-minimal", Knobs { mean: Some([0.5; 3]), std: Some([0.5; 3]), ..Knobs::default() });
        assert!(error.contains("mean"), "{error}");

        let same = Knobs { crop: Some(480), scales: Some(SCALES.to_vec()), flip: Some(Flip::Sum), ..Knobs::default() };
        let preset = Preset::named("lseg-eval").unwrap();
        assert_eq!(same.with(&preset).unwrap(), preset.protocol);
        let open = Knobs { crop: Some(256), ..Knobs::default() };
        let lsm = open.with(&Preset::named("lsm").unwrap()).unwrap();
        assert_eq!(lsm.look, Look::Once(Size::Exact { height: 256, width: 256 }));
    }
}
