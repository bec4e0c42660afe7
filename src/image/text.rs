//! Text in pictures, in any script: shaped, and in the order in which it is read.

use cosmic_text::{Buffer, CacheKeyFlags, LayoutGlyph, Metrics, Shaping, SwashContent, Wrap};
use unicode_segmentation::UnicodeSegmentation;

use super::decode::Photo;
use super::fonts::{FontIndex, Fonts, fonts, is_invisible};

/// Of a longer text the rest is never looked at: no picture has room for it, and some characters take none.
const MOST_CHARACTERS: usize = 256;

/// The embedded font's highest and lowest stroke above and below the baseline, in heights of its em.
const ASCENT: f32 = 1901.0 / 2048.0;
const DESCENT: f32 = 483.0 / 2048.0;

/// The last resort's em, in its pixels: it is drawn at whole multiples of them.
const PIXELS_PER_EM: f32 = 16.0;

/// Text of one size.
pub struct Text {
    /// The height of an em, in pixels.
    em: f32,
}

/// A text as it will stand in a picture.
pub struct Line {
    glyphs: Vec<LayoutGlyph>,
    width: f32,
    /// From the highest strokes to the baseline.
    ascent: f32,
}

/// What readers take for one character, and the font for it.
type Cluster = (String, FontIndex);

impl Text {
    /// Text whose highest and lowest strokes are `height` pixels apart.
    pub fn new(height: f32) -> Text {
        Text { em: height / (ASCENT + DESCENT) }
    }

    /// `text`, or its beginning and an ellipsis where it is wider than `widest` pixels. A character that no font has is
    /// written as its number, such as `U+20000`.
    pub fn line(&self, text: &str, widest: f32) -> Line {
        let mut fonts = fonts();
        let (beginning, rest) = match text.char_indices().nth(MOST_CHARACTERS) {
            Some((end, _)) => text.split_at(end),
            None => (text, ""),
        };
        let clusters = clusters(&mut fonts, beginning);
        if rest.is_empty() {
            let line = self.shape(&mut fonts, &clusters);
            if line.width <= widest {
                return line;
            }
        }
        let counts: Vec<usize> = (1..=clusters.len()).collect();
        let fitting = counts.partition_point(|count| self.cut(&mut fonts, &clusters[..*count]).width <= widest);
        self.cut(&mut fonts, &clusters[..fitting])
    }

    fn cut(&self, fonts: &mut Fonts, beginning: &[Cluster]) -> Line {
        let blank = |cluster: &&Cluster| cluster.0.trim().is_empty();
        let end = beginning.len() - beginning.iter().rev().take_while(blank).count();
        self.shape(fonts, &[&beginning[..end], &[("…".into(), FontIndex::EMBEDDED)]].concat())
    }

    fn shape(&self, fonts: &mut Fonts, clusters: &[Cluster]) -> Line {
        let mut buffer = Buffer::new_empty(Metrics::new(self.em, self.em));
        buffer.set_wrap(Wrap::None);
        let spans = clusters.iter().map(|(text, font)| {
            let attributes = fonts.attributes(*font);
            if attributes.cache_key_flags.contains(CacheKeyFlags::PIXEL_FONT) {
                let em = PIXELS_PER_EM * (self.em / PIXELS_PER_EM).round().max(1.0);
                (text.as_str(), attributes.metrics(Metrics::new(em, em)))
            } else {
                (text.as_str(), attributes)
            }
        });
        buffer.set_rich_text(spans, &fonts.attributes(FontIndex::EMBEDDED), Shaping::Advanced, None);
        buffer.shape_until_scroll(&mut fonts.shaping, false);
        let mut line = Line { glyphs: Vec::new(), width: 0.0, ascent: ASCENT * self.em };
        for run in buffer.layout_runs() {
            line.glyphs.extend_from_slice(run.glyphs);
            line.width = line.width.max(run.line_w);
        }
        line
    }
}

impl Line {
    /// How wide the line is, in pixels.
    pub fn width(&self) -> f32 {
        self.width
    }

    /// Draws the line in `ink` from `left` on, `top` being the place of its highest strokes. What lies outside of the
    /// picture is cut off. Emoji of the system's fonts have their own colours.
    pub fn draw(&self, picture: &mut Photo, left: f32, top: f32, ink: [u8; 3]) {
        let Fonts { shaping, rasteriser, .. } = &mut *fonts();
        let baseline = (top + self.ascent).round();
        for glyph in &self.glyphs {
            let place = glyph.physical((left, baseline), 1.0);
            let Some(image) = rasteriser.get_image_uncached(shaping, place.cache_key) else { continue };
            let (left, top) = (place.x + image.placement.left, place.y - image.placement.top);
            let channels = if image.content == SwashContent::Mask { 1 } else { 4 };
            for (i, pixel) in image.data.chunks_exact(channels).enumerate() {
                let (x, y) = (i as u32 % image.placement.width, i as u32 / image.placement.width);
                let (ink, coverage) = match *pixel {
                    [red, green, blue, coverage] => ([red, green, blue], coverage),
                    _ => (ink, pixel[0]),
                };
                let (x, y) = (i64::from(left) + i64::from(x), i64::from(top) + i64::from(y));
                blend(picture, x, y, ink, f32::from(coverage) / 255.0);
            }
        }
    }
}

/// The text in its clusters. Where no font has all of one, its characters stand side by side, marks on a dotted circle.
fn clusters(fonts: &mut Fonts, text: &str) -> Vec<Cluster> {
    let mut clusters = Vec::new();
    for cluster in text.graphemes(true) {
        if let Some(font) = fonts.choose(cluster) {
            clusters.push((cluster.into(), font));
            continue;
        }
        for c in cluster.chars().filter(|c| !is_invisible(*c)) {
            let is_mark = format!("a{c}").graphemes(true).count() == 1;
            let alone = if is_mark { format!("◌{c}") } else { c.into() };
            clusters.push(match fonts.choose(&alone) {
                Some(font) => (alone, font),
                None => (format!("U+{:04X}", u32::from(c)), FontIndex::EMBEDDED),
            });
        }
    }
    clusters
}

/// Mixes `ink` into the pixel at (x, y), if there is one.
fn blend(picture: &mut Photo, x: i64, y: i64, ink: [u8; 3], coverage: f32) {
    let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
    if x >= picture.width || y >= picture.height {
        return;
    }
    let start = 3 * (y * picture.width + x);
    for (channel, ink) in picture.rgb[start..start + 3].iter_mut().zip(ink) {
        let mixed = f32::from(*channel) + (f32::from(ink) - f32::from(*channel)) * coverage;
        *channel = mixed.round() as u8;
    }
}
