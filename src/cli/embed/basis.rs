//! How a call comes to its projection: what is asked for, and the principal components of its photos' vectors.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::atomic_file::{Durability, write_atomically};
use crate::checkpoint::Checkpoint;
use crate::checksum;

use super::super::photos::{Photo, counted};
use super::super::print::Printer;
use super::super::protocol::Chosen;
use super::super::restart::Restartable;
use super::super::result::shown;
use super::super::{Failure, batch, message};
use super::pca::Moments;
use super::projection::{ORIGIN, Projection};
use super::{Arguments, Session};

/// The file of a basis, in the results' folder.
const NAME: &str = "pca.safetensors";

/// What is told, in a basis' file, of the vectors that it is fitted to.
type Origin = BTreeMap<String, String>;

/// The principal components of the photos' vectors, which are stored beside the results.
pub fn fit<'a, M: FnMut() -> Result<Session<'a>, Failure>>(
    arguments: &Arguments,
    count: usize,
    photos: &[Photo],
    sessions: &mut Restartable<Session<'a>, M>,
    printer: &mut Printer,
    origin: &Origin,
) -> Result<Projection, Failure> {
    let (mut moments, mut seen): (Option<Moments>, usize) = (None, 0);
    let failed = batch::ahead(photos, arguments.quiet, "for the basis", |photo| {
        let (vectors, channels) = sessions.work(photo, |session, photo| session.sample(photo, count))?;
        moments.get_or_insert_with(|| Moments::new(channels)).add(&vectors);
        seen += 1;
        Ok(())
    })?;
    let moments = moments.unwrap_or_else(|| Moments::new(0));
    let vectors = moments.count();
    let basis = match moments.basis(count) {
        Ok(basis) => basis,
        Err(reason) => {
            // Nobody else will tell why photos are missing.
            batch::tell(photos, &failed, printer)?;
            let reason = format!("{reason}, of {seen} of {} photos", photos.len());
            return Err(if seen < photos.len() { Failure::Input(reason) } else { Failure::call(reason) });
        }
    };
    let mut about = origin.clone();
    about.insert("photos".to_owned(), seen.to_string());
    let path = arguments.photos.beside(NAME);
    write_atomically(&path, Durability::Renamed, |out| basis.write(out, about))?;
    // As every later call will have it.
    let projection = Projection::read(&path)?;
    if !arguments.quiet {
        let kept = projection.variance().map(|part| format!(", {:.1} % of their variance", 100.0 * part));
        let (path, kept) = (shown(&path), kept.unwrap_or_default());
        let (components, photos) = (counted(count, "component"), counted(seen, "photo"));
        message::note(format!("{path}: {components} of {vectors} vectors of {photos}{kept}"));
    }
    Ok(projection)
}

impl Arguments {
    /// # Errors
    /// For what cannot be had with --pca or --project.
    pub fn check_projected(&self) -> Result<(), Failure> {
        let is_projected = self.pca.is_some() || self.project.is_some();
        if is_projected && self.normalize && self.at().resized().is_some() {
            return Err(Failure::call(
                "--normalize comes before --pca and --project, and at full or photo after resizing: leave it out, or --at",
            ));
        }
        if self.pca.is_some() && self.photos.skips_existing() {
            return Err(Failure::call(
                "--pca makes a new basis, which the files that are there would not fit: leave --skip-existing out, or pass \
                 --project with the basis that they have",
            ));
        }
        if self.pca.is_some() && self.photos.to_stdout() {
            return Err(Failure::call("--pca stores its basis beside the results: give a folder by --out"));
        }
        Ok(())
    }

    /// # Errors
    /// Where a photo cannot be read twice, or a result, with this `ending`, or a photo has the basis' name.
    pub fn check_twice(&self, photos: &[Photo], ending: &str) -> Result<(), Failure> {
        let is_stream = |photo: &&Photo| {
            photo.is_stdin() || photo.fault.is_none() && fs::metadata(&photo.path).is_ok_and(|data| !data.is_file())
        };
        if let Some(photo) = photos.iter().find(is_stream) {
            let photo = photo.path.display();
            return Err(Failure::call(format!("--pca reads each photo twice, and {photo} is a stream: give a file")));
        }
        let basis = self.photos.beside(NAME);
        let is_basis = |path: &Path| {
            fs::canonicalize(path).is_ok_and(|path| fs::canonicalize(&basis).is_ok_and(|basis| path == basis))
        };
        let clash = photos.iter().find(|photo| self.photos.path(photo, ending) == basis || is_basis(&photo.path));
        clash.map_or(Ok(()), |photo| {
            let (photo, basis) = (photo.path.display(), basis.display());
            Err(Failure::call(format!("{basis} is to be the basis, and {photo} or its result: choose another --out")))
        })
    }

    /// # Errors
    /// Where vectors of so many channels cannot be projected as is asked for.
    pub fn check_channels(&self, given: Option<&Projection>, channels: usize) -> Result<(), Failure> {
        if let Some(count) = self.pca.filter(|count| *count as usize > channels) {
            return Err(Failure::call(format!(
                "--pca {count}: this model's vectors have {channels} channels; pass 1 to {channels}"
            )));
        }
        given.map_or(Ok(()), |projection| projection.check(channels))
    }

    /// What is told, in a basis' file, of the vectors that it is fitted to.
    pub fn origin(&self, checkpoint: &Checkpoint, chosen: Option<&Chosen>) -> Origin {
        let preset = chosen.map_or("native", |chosen| &chosen.name);
        let [sum, preset_key, normalized] = ORIGIN.map(str::to_owned);
        let mut origin = BTreeMap::from([(preset_key, preset.to_owned()), (normalized, self.normalize.to_string())]);
        let model = checkpoint.path().file_name().map(|name| name.to_string_lossy().into_owned());
        origin.insert("model".to_owned(), model.unwrap_or_default());
        // Of a file of `convert`; of others it would take reading all of it.
        origin.extend(checkpoint.metadata().get(checksum::METADATA_KEY).map(|digits| (sum, digits.clone())));
        origin
    }
}
