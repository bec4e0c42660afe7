//! Results by the frame, as tests compare them.

use lseg_fast::{Engine, Image, Output, Result, Results, Scores, Segmentation, Wanted};

/// A frame's mask of some results.
pub fn segmentation(results: &Results, frame: usize) -> Segmentation {
    let [height, width, _] = results.shape(Output::Mask).expect("a mask");
    Segmentation { width, height, mask: results.mask(frame).expect("a frame").to_vec() }
}

/// A frame's logits, or probabilities, of some results.
pub fn scores(results: &Results, output: Output, frame: usize) -> Scores {
    let [labels, height, width] = results.shape(output).expect("scores");
    Scores { labels, height, width, data: results.values(output, frame).expect("a frame").to_vec() }
}

/// Both of one pass.
pub fn mask_and_scores(engine: &mut Engine, frame: &Image<'_>) -> Result<(Segmentation, Scores)> {
    let results = engine.run(std::slice::from_ref(frame), Wanted::MASK.and(Output::Scores))?;
    Ok((segmentation(&results, 0), scores(&results, Output::Scores, 0)))
}

/// The masks of a batch.
pub fn masks(engine: &mut Engine, frames: &[Image<'_>]) -> Result<Vec<Segmentation>> {
    let results = engine.run(frames, Wanted::MASK)?;
    Ok((0..results.frames()).map(|frame| segmentation(&results, frame)).collect())
}
