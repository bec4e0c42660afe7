//! How right the masks are: data sets with what is true of each pixel, counts of what was said of it, published
//! metrics.
//!
//! A [`Dataset`](dataset::Dataset) lists photos with their masks and the words that each is asked for; a
//! [`Confusion`](confusion::Confusion) counts pixels; a [`State`](state::State) is what was counted so far; a
//! [`Report`](report::Report) is made of a state alone.

pub mod ade20k;
pub mod cityscapes;
pub mod coco;
pub mod confusion;
pub mod count;
pub mod dataset;
pub mod episodes;
pub mod export;
pub mod folders;
pub mod fss;
pub mod ids;
pub mod map;
pub mod metrics;
pub mod mt19937;
pub mod other_words;
pub mod pascal;
pub mod report;
pub mod segment;
pub mod state;
pub mod truth;
pub mod voc;
