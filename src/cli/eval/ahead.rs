//! Photos and masks are decoded one ahead of what is computed.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, Scope};

use crate::cli::Failure;
use crate::eval::count::check_size;
use crate::eval::dataset::{Dataset, Item};
use crate::eval::ids::{self, Ids, Limits};
use crate::image::decode::{Photo, decode_asking};
use crate::memory::Budget;
use crate::{Error, Result};

/// A photo's files, read.
pub struct Opened {
    pub truth: Ids,
    pub seen: Seen,
}

/// What the mask is held against.
pub enum Seen {
    /// The photo, to be segmented.
    Photo(Photo),
    /// A mask that another program made, and its file.
    Prediction(Ids, PathBuf),
}

/// How the files are read.
pub struct Reader<'a> {
    pub dataset: &'a Dataset,
    /// The folder of predictions, where they are given.
    pub predictions: Option<&'a Path>,
    pub max_pixels: u64,
    /// The engine's, where there is one.
    pub budget: Budget,
}

impl Reader<'_> {
    fn open(&self, item: &Item) -> Result<Opened> {
        let ask = |bytes| self.budget.ask_photo(bytes);
        let limits = Limits { max_pixels: self.max_pixels, ask: &ask };
        let truth = self.dataset.lists[item.list].truth.read(&item.mask, limits)?;
        let (seen, size, of) = match self.predictions {
            Some(folder) => {
                let path = prediction(folder, &item.place)?;
                let ids = ids::read(&path, limits)?;
                let size = (ids.width, ids.height);
                (Seen::Prediction(ids, path.clone()), size, path)
            }
            None => {
                let photo = decode_asking(&item.photo, self.max_pixels, &ask)?;
                let size = (photo.width, photo.height);
                (Seen::Photo(photo), size, item.photo.clone())
            }
        };
        check_size(&item.mask, &truth, &of, size)?;
        Ok(Opened { truth, seen })
    }

    /// Reads these photos on a thread, which ends with them or when nobody takes the next.
    pub fn ahead<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        items: Vec<&'scope Item>,
    ) -> Result<Receiver<Result<Opened>>, Failure> {
        // Without room: it holds one photo, and the engine another.
        let (give, take) = sync_channel(0);
        let read = move || {
            for item in items {
                if give.send(self.open(item)).is_err() {
                    break;
                }
            }
        };
        let thread = Builder::new().name("photos".to_owned()).spawn_scoped(scope, read);
        thread.map_err(|e| Failure::Input(format!("no thread can be had that reads photos: {e}")))?;
        Ok(take)
    }
}

/// The file of a prediction: `<place>.png` or `<place>.mask.png`.
fn prediction(folder: &Path, place: &Path) -> Result<PathBuf> {
    let with = |ending: &str| {
        let mut path = folder.join(place).into_os_string();
        path.push(ending);
        PathBuf::from(path)
    };
    let [plain, own] = [".png", ".mask.png"].map(with);
    match [&plain, &own].into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(Error::photo(&plain, format!("no prediction: neither this file nor {} is there", own.display()))),
    }
}
