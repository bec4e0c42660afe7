//! A frame: images in, results out.

#![allow(unsafe_code)] // What the pointers of a call point to.

use lseg_fast::{Output, Wanted};

use crate::engine::{lseg_engine, with};
use crate::given;
use crate::image::{self, lseg_image};
use crate::output::{Asked, Outputs, lseg_output};
use crate::status::lseg_status;

/// Tells how many bytes `output` takes for `image`, with the pitch that is in it, and its shape; the image's planes may be NULL.
/// Depends on the labels and the size that are set. Nothing is computed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_output_bytes(
    engine: *const lseg_engine,
    image: *const lseg_image,
    output: *mut lseg_output,
) -> lseg_status {
    // SAFETY: the caller's handle and structs.
    unsafe {
        with(engine, |open| {
            let (_, width, height) = image::shape(image)?;
            let asked = Asked::of(given::versioned(output, "output")?, "output")?;
            let wanted = asked.add_to(Wanted::default(), &open.colours)?;
            let shape = open.engine.lane().shape_of(asked.output(), &wanted, (height, width))?;
            given::write_back(output, &asked.told(shape)?);
            Ok(())
        })
    }
}

/// Computes `count` outputs of an image, of one pass, into their memory. From the second image of a size on nothing is
/// allocated for it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_segment(
    engine: *mut lseg_engine,
    image: *const lseg_image,
    outputs: *const lseg_output,
    count: usize,
) -> lseg_status {
    // SAFETY: the caller's handle, structs and memory.
    unsafe {
        with(engine, |open| {
            let image = image::image(image)?;
            let outputs = Outputs::of(outputs, count)?;
            let wanted = outputs.wanted(open.threshold, &open.colours)?;
            let lane = open.engine.lane_mut();
            for asked in outputs.iter() {
                asked.check_room(lane.shape_of(asked.output(), &wanted, (image.height(), image.width()))?)?;
            }
            lane.run_into(&[image], wanted, &mut open.results)?;
            outputs.iter().try_for_each(|asked| asked.copy(&open.results))
        })
    }
}

/// Embeddings at `count` points of an image: float [count][dimension] into `vectors`. `points` are pairs of x and y in pixels, the
/// centre of the first pixel at 0, 0. Needs no labels.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_embed_at(
    engine: *mut lseg_engine,
    image: *const lseg_image,
    points: *const f32,
    count: usize,
    vectors: *mut f32,
) -> lseg_status {
    // SAFETY: the caller's handle, struct, points and room.
    unsafe {
        with(engine, |open| {
            let image = image::image(image)?;
            let numbers = given::array(points, count.saturating_mul(2), "points")?;
            let room = count.saturating_mul(open.engine.config().embed_dim);
            let vectors = given::array_mut(vectors, room, "vectors")?;
            let wanted = Wanted::default().at_points(numbers.as_chunks().0);
            open.engine.run_into(&[image], wanted, &mut open.results)?;
            let values = open.results.values(Output::Points, 0).expect("what was wanted is there");
            vectors.copy_from_slice(values);
            Ok(())
        })
    }
}
