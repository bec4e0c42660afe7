//! Scores of a photo in windows, written while they are computed: memory would not hold labels × photo.

use std::env;
use std::fs::File;
use std::io;

use crate::Error;
use crate::atomic_file::WriteSeek;
use crate::engine::{Engine, Results, Wanted};
use crate::feature_file::{Form, Kind, Order, Writer};
use crate::image::decode::Photo;
use crate::image::npy::Dtype;

use super::protocol::Chosen;

const FORM: Form = Form { kind: Kind::Npy, order: Order::Chw, dtype: Dtype::F32 };

/// A `.npy` to be, float32 `[labels, height, width]`.
pub struct WindowScores<'a> {
    chosen: &'a Chosen,
    labels: usize,
    size: (usize, usize),
}

impl<'a> WindowScores<'a> {
    pub fn new(chosen: &'a Chosen, photo: &Photo, labels: usize) -> crate::Result<WindowScores<'a>> {
        let photo = (photo.height, photo.width);
        let size = chosen.protocol.out_size(photo, &chosen.protocol.grids(photo)?);
        Ok(WindowScores { chosen, labels, size })
    }

    /// Of all scores.
    pub fn bytes(&self) -> u64 {
        FORM.bytes(self.labels, self.size)
    }

    /// Computes a photo, and writes its scores.
    ///
    /// # Errors
    /// As [`run_windows`](crate::engine::Lane::run_windows); where writing fails what `failed` makes of it.
    pub fn run(
        &self,
        engine: &mut Engine,
        photo: Photo,
        wanted: Wanted<'_>,
        out: &mut dyn WriteSeek,
        failed: &dyn Fn(io::Error) -> Error,
    ) -> crate::Result<Results> {
        let Chosen { protocol, options, .. } = self.chosen;
        let mut writer = Writer::new(out, FORM, self.labels, self.size, true).map_err(failed)?;
        let mut values = Vec::new();
        let results = engine.lane_mut().run_windows(photo, protocol, wanted, *options, &mut |stripe| {
            values.clear();
            stripe.values(&mut |_, _, row| values.extend_from_slice(row))?;
            writer.put(stripe.rows.clone(), stripe.columns.clone(), &values).map_err(failed)
        })?;
        writer.end().map_err(failed)?;
        Ok(results)
    }

    /// As [`WindowScores::run`], into a file without a name.
    ///
    /// # Errors
    /// As [`WindowScores::run`].
    pub fn run_unnamed(&self, engine: &mut Engine, photo: Photo, wanted: Wanted<'_>) -> crate::Result<(Results, File)> {
        let failed = |e| Error::io("write scores to", &env::temp_dir(), e);
        let mut file = tempfile::tempfile().map_err(failed)?;
        let results = self.run(engine, photo, wanted, &mut file, &failed)?;
        Ok((results, file))
    }
}
