//! How large a frame's outputs are, before it is computed: for memory that is made once.

use super::lane::Lane;
use super::wanted::Wanted;
use crate::error::{Error, Result};
use crate::model::{MapSize, Output};

impl Lane {
    /// Of one frame's array of an output, as [`Results::shape`](super::Results::shape) will tell of a photo of (height, width), of the
    /// labels and the size that are set.
    ///
    /// # Errors
    /// [`Error::Labels`] where the output is about labels and there are none; [`Error::Size`] for a photo that the network cannot
    /// take.
    pub fn shape_of(&self, output: Output, wanted: &Wanted<'_>, photo: (usize, usize)) -> Result<[usize; 3]> {
        let network = self.network_size_for(photo)?;
        let labels = self.label_slot().get().map(|labels| labels.names().len());
        if output.needs_labels() && labels.is_none() {
            return Err(Error::Labels("no labels are set; call set_labels first".to_owned()));
        }
        let labels = labels.unwrap_or(0);
        let embed_dim = self.network.config().embed_dim;
        Ok(match output {
            Output::Mask | Output::Mask8 | Output::Confidence | Output::Best => [photo.0, photo.1, 1],
            Output::Overlay => [photo.0, photo.1, 3],
            Output::Scores | Output::Probabilities => [labels, network.0, network.1],
            Output::Embedding => {
                let form = wanted.outputs.embedding;
                let size = match form.at {
                    MapSize::Half => (network.0 / 2, network.1 / 2),
                    MapSize::Full => network,
                    MapSize::Photo => photo,
                };
                let [_, shape @ ..] = form.layout.shape(1, size, embed_dim);
                shape
            }
            Output::Points => [1, wanted.points.len(), embed_dim],
        })
    }
}
