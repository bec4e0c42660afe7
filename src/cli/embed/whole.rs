//! Embeddings of photos that are taken as a protocol says, in the files that its users read.

use std::ops::Range;
use std::path::Path;

use crate::atomic_file::WriteSeek;
use crate::engine::{Engine, Whole};
use crate::feature_file::{Form, Kind, Order, Writer};
use crate::image::decode;
use crate::image::npy::Dtype;
use crate::protocol::{At, Look};
use crate::{Error, Output, Wanted, embedding};

use super::super::common::write_pieces;
use super::super::protocol::Chosen;
use super::projection::Finish;

/// A preset's own form, and how its file's name goes on behind the photo's stem.
pub fn own_form(chosen: Option<&Chosen>) -> (Form, Ending) {
    let (kind, order, dtype) = match chosen.map(|chosen| chosen.name.as_str()) {
        Some("openscene" | "feature3dgs") => (Kind::Pt, Order::Chw, Dtype::F16),
        Some("vlmaps") => (Kind::Npy, Order::Nchw, Dtype::F32),
        Some("lseg-minimal" | "conceptfusion") => (Kind::Pt, Order::Nchw, Dtype::F32),
        Some("lsm") => (Kind::Pt, Order::Chw, Dtype::F32),
        _ => (Kind::Npy, Order::Chw, Dtype::F32),
    };
    let ending = match chosen.map(|chosen| chosen.name.as_str()) {
        Some("feature3dgs") => Ending::Sized,
        Some("openscene" | "vlmaps" | "lseg-minimal" | "conceptfusion" | "lsm") => Ending::Plain,
        _ => Ending::Embed,
    };
    (Form { kind, order, dtype }, ending)
}

/// How a file's name goes on behind the photo's stem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// `.embed.npy`
    Embed,
    /// `.pt`
    Plain,
    /// `_fmap_CxHxW.pt`
    Sized,
}

impl Ending {
    /// Of a map whose size is known, or any.
    pub fn text(self, kind: Kind, map: Option<(usize, usize, usize)>) -> String {
        let kind = kind.ending();
        match (self, map) {
            (Ending::Embed, _) => format!("embed.{kind}"),
            (Ending::Plain, _) => kind.to_owned(),
            (Ending::Sized, Some((c, h, w))) => format!("_fmap_{c}x{h}x{w}.{kind}"),
            (Ending::Sized, None) => format!("_fmap.{kind}"),
        }
    }
}

/// What is done with some rows of some columns, `[rows, columns, channels]`.
type TakePiece<'a> = dyn FnMut(Range<usize>, Range<usize>, &mut [f32]) -> crate::Result<()> + 'a;

/// What is made of a photo: channels, height and width of the map, and the way to it.
pub enum Map<'a> {
    Windows(Box<Whole<'a>>),
    /// `[h, w, c]` of one pass.
    Whole {
        shape: [usize; 3],
        values: Vec<f32>,
    },
}

impl<'a> Map<'a> {
    /// # Errors
    /// As of [`Engine::run_whole`].
    pub fn of(engine: &'a mut Engine, photo: decode::Photo, chosen: &Chosen, dtype: Dtype) -> crate::Result<Map<'a>> {
        let Chosen { protocol, options, .. } = chosen;
        if matches!(protocol.look, Look::Windows(_)) {
            let whole = engine.whole(photo, protocol, Wanted::default(), Some(dtype), *options)?;
            return Ok(Map::Windows(Box::new(whole)));
        }
        let mut results = engine.run_whole(photo, protocol, Wanted::of(&[Output::Embedding]), *options)?;
        let shape = results.shape(Output::Embedding).unwrap_or_default();
        Ok(Map::Whole { shape, values: results.take_values(Output::Embedding) })
    }

    pub fn size(&self) -> (usize, usize) {
        match self {
            Map::Windows(whole) => whole.size(),
            Map::Whole { shape: [h, w, _], .. } => (*h, *w),
        }
    }

    pub fn channels(&self) -> usize {
        match self {
            Map::Windows(whole) => whole.channels(),
            Map::Whole { shape, .. } => shape[2],
        }
    }

    fn in_strips(&self) -> bool {
        matches!(self, Map::Windows(whole) if whole.strips() > 1)
    }

    /// `take(rows, columns, values)`, values `[rows, columns, channels]`, of all of it.
    ///
    /// # Errors
    /// As of [`Engine::run_whole`]; whatever `take` gives.
    pub fn each(&mut self, dtype: Dtype, take: &mut TakePiece<'_>) -> crate::Result<()> {
        match self {
            Map::Whole { shape: [h, w, _], values } => take(0..*h, 0..*w, values),
            Map::Windows(whole) => {
                let mut values = Vec::new();
                whole.each(&mut |stripe| {
                    values.clear();
                    match dtype {
                        Dtype::F32 => stripe.values(&mut |_, _, row| values.extend_from_slice(row))?,
                        Dtype::F16 => stripe.halves(&mut |_, _, row| values.extend(row.iter().map(|v| v.to_f32())))?,
                    }
                    take(stripe.rows.clone(), stripe.columns.clone(), &mut values)
                })
            }
        }
    }

    /// Writes what becomes of all of it.
    ///
    /// # Errors
    /// [`Error::Output`]; as of [`Engine::run_whole`]; [`Error::Photo`] for a value beyond float16.
    pub fn write(
        &mut self,
        photo: &Path,
        to: &Path,
        form: Form,
        dtype: Dtype,
        finish: Finish<'_>,
    ) -> crate::Result<()> {
        let (size, channels, in_strips) = (self.size(), self.channels(), self.in_strips());
        let write = |out: &mut dyn WriteSeek| {
            let failed = |e| Error::output(to, e);
            let mut writer = Writer::new(out, form, finish.channels(channels), size, in_strips).map_err(failed)?;
            let mut projected = Vec::new();
            self.each(dtype, &mut |rows, columns, values| {
                let values = finish.apply(values, channels, &mut projected);
                if form.dtype == Dtype::F16 {
                    super::refuse_beyond_f16(photo, embedding::beyond_f16(values))?;
                }
                writer.put(rows, columns, values).map_err(failed)
            })?;
            writer.end().map_err(failed)
        };
        write_pieces(to, write)
    }

    /// The vectors `[points, channels]` at points (x, y) of a photo of (height, width), between the map's pixels bilinearly.
    ///
    /// # Errors
    /// As of [`Engine::run_whole`].
    pub fn at_points(&mut self, points: &[[f32; 2]], photo: (usize, usize)) -> crate::Result<Vec<f32>> {
        let (size, channels) = (self.size(), self.channels());
        let seen: Vec<[Two; 2]> =
            points.iter().map(|[x, y]| [two(*y, photo.0, size.0), two(*x, photo.1, size.1)]).collect();
        let mut of_rows = vec![Vec::new(); size.0];
        for (i, [rows, _]) in seen.iter().enumerate() {
            rows.iter().for_each(|(row, weight)| of_rows[*row].push((i, *weight)));
        }
        let mut samples = vec![0.0; points.len() * channels];
        self.each(Dtype::F32, &mut |rows, columns, values| {
            let across = columns.len() * channels;
            for (y, row) in rows.zip(values.chunks_exact(across)) {
                for (i, row_weight) in &of_rows[y] {
                    let sample = &mut samples[i * channels..][..channels];
                    for (column, weight) in seen[*i][1].iter().filter(|(column, _)| columns.contains(column)) {
                        let vector = &row[(column - columns.start) * channels..][..channels];
                        sample.iter_mut().zip(vector).for_each(|(sum, v)| *sum += row_weight * weight * v);
                    }
                }
            }
            Ok(())
        })?;
        Ok(samples)
    }
}

/// Two neighbours and their weights.
type Two = [(usize, f32); 2];

/// Where a coordinate of the photo falls among the map's pixels, edges aligned.
fn two(position: f32, photo: usize, map: usize) -> Two {
    let place = ((f64::from(position) + 0.5) * map as f64 / photo as f64 - 0.5).clamp(0.0, (map - 1) as f64);
    let low = place as usize;
    let t = (place - low as f64) as f32;
    [(low, 1.0 - t), ((low + 1).min(map - 1), t)]
}

/// The size's name in reports.
pub fn at_name(chosen: &Chosen) -> &'static str {
    match (&chosen.protocol.look, chosen.protocol.at) {
        (Look::Windows(_), At::Photo) => "photo",
        (Look::Windows(_), At::Scale) => "map",
        _ => "half",
    }
}
