//! Text in pictures, in any script: shaped, and in the order in which it is read.
//!
//! By hand upon cosmic-text, which shapes: imageproc sets one font's characters from left to right, one by one.

use cosmic_text::{Buffer, CacheKeyFlags, LayoutGlyph, Metrics, Shaping, SwashContent, Wrap};
use unicode_segmentation::UnicodeSegmentation;

use super::decode::Photo;
use super::fonts::{FontIndex, Fonts, fonts, is_invisible};

/// Of a longer text the rest is never looked at: no picture has room for it, and some characters take none.
const MOST_CHARACTERS: usize = 256;

/// The embedded font's highest and lowest stroke above and below the baseline, in heights of its em.
const ASCENT: f32 = 1901.0 / 2048.0;
const DESCENT: f32 = 483.0 / 2048.0;

/// How far a stroke may reach out of its line, in heights of the line: marks upon marks would reach into others.
const OVERHANG: f32 = 0.15;

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
    em: f32,
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
        let mut line = Line { glyphs: Vec::new(), width: 0.0, em: self.em };
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
    /// line's place or of the picture is cut off. Emoji of the system's fonts have their own colours.
    pub fn draw(&self, picture: &mut Photo, left: f32, top: f32, ink: [u8; 3]) {
        let Fonts { shaping, rasteriser, .. } = &mut *fonts();
        let height = (ASCENT + DESCENT) * self.em;
        let reach = |start: f32, length: f32| {
            (start - OVERHANG * height).round() as i64..(start + length + OVERHANG * height).round() as i64
        };
        let (columns, rows) = (reach(left, self.width), reach(top, height));
        let baseline = (top + ASCENT * self.em).round();
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
                if columns.contains(&x) && rows.contains(&y) {
                    blend(picture, x, y, ink, f32::from(coverage) / 255.0);
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    const HEIGHT: f32 = 24.0;

    fn line(text: &str) -> Line {
        Text::new(HEIGHT).line(text, f32::INFINITY)
    }

    /// The text alone in black on white, with room around it.
    fn drawn(text: &str) -> Photo {
        let line = line(text);
        let (width, height) = (line.width().ceil() as usize + 20, 44);
        let mut picture = Photo { width, height, rgb: vec![255; 3 * width * height] };
        line.draw(&mut picture, 10.0, 10.0, [0; 3]);
        picture
    }

    /// The columns in which there is ink.
    fn inked_columns(picture: &Photo) -> Vec<usize> {
        let inked = |x: &usize| (0..picture.height).any(|y| picture.rgb[3 * (y * picture.width + x)] < 128);
        (0..picture.width).filter(inked).collect()
    }

    /// The glyphs from left to right.
    fn in_sight(line: &Line) -> Vec<&LayoutGlyph> {
        let mut glyphs: Vec<_> = line.glyphs.iter().collect();
        glyphs.sort_by(|a, b| a.x.total_cmp(&b.x));
        glyphs
    }

    /// What a font draws for a character that it lacks: DejaVu Sans's and Unifont's boxes.
    fn is_missing(text: &str) -> bool {
        line(text).glyphs.iter().any(|glyph| glyph.glyph_id == 0)
    }

    #[test]
    fn no_two_characters_of_any_script_look_the_same() {
        let texts = [
            "天",
            "地",
            "犬",
            "猫",
            "木",
            "空",
            "나무",
            "하늘",
            "ねこ",
            "いぬ",
            "ネコ",
            "कुत्ता",
            "पेड़",
            "สุนัข",
            "ต้นไม้",
            "🐕",
            "🐈",
            "🌳",
            "🚗",
            "👩‍🚒",
            "🇩🇪",
            "🇫🇷",
            "כלב",
            "חתול",
            "كلب",
            "قطة",
            "ስማ",
            "ᐊᐃ",
            "မြေ",
            "ខ្មែរ",
            "བོད",
            "ᚠᚢ",
            "𐌰𐌱",
            "𠮷",
            "\u{2A6D6}",
            "\u{10FFFF}",
            "\u{378}",
        ];
        let pictures: Vec<Photo> = texts.iter().map(|text| drawn(text)).collect();
        for (i, text) in texts.iter().enumerate() {
            assert!(!is_missing(text), "{text}");
            assert!(!inked_columns(&pictures[i]).is_empty(), "{text}");
            for j in 0..i {
                assert_ne!(pictures[i], pictures[j], "{text} and {}", texts[j]);
            }
        }
    }

    #[test]
    fn what_no_font_has_is_written_as_its_number() {
        assert_eq!(drawn("a\u{10FFFF}b"), drawn("aU+10FFFFb"));
    }

    #[test]
    fn a_mark_that_its_letter_s_font_lacks_is_shown_beside_it() {
        // Combining marks that DejaVu Sans lacks, on letters that Unifont leaves to it.
        assert!(!is_missing("й\u{1AC4}") && !is_missing("й\u{1AC4}\u{20D2}x"));
        assert_ne!(drawn("й\u{1AC4}"), drawn("й"));
    }

    #[test]
    fn arabic_letters_are_joined_from_right_to_left() {
        // Alone, a seen has a wide tail.
        assert!(line("سسس").width() + 10.0 < 3.0 * line("س").width());
        let joined = drawn("سسس");
        let columns = inked_columns(&joined);
        assert_eq!(columns.len(), columns.last().unwrap() - columns[0] + 1, "there are gaps");
        // Alef is a stroke, seen is wide and low: the first letter stands on the right.
        let picture = drawn("اس");
        let height_at =
            |x: usize| (0..picture.height).filter(|y| picture.rgb[3 * (y * picture.width + x)] < 128).count();
        let columns = inked_columns(&picture);
        assert!(height_at(columns[columns.len() - 2]) > 12, "no alef on the right");
        assert!(height_at(columns[1]) < 12, "alef on the left");
    }

    #[test]
    fn hebrew_runs_from_right_to_left_within_other_text() {
        let order = |text: &str| in_sight(&line(text)).iter().map(|glyph| glyph.start).collect::<Vec<_>>();
        // Each letter has two bytes; the glyphs stand from left to right.
        assert_eq!(order("אבג"), [4, 2, 0]);
        assert_eq!(order("ab אבג"), [0, 1, 2, 7, 5, 3]);
        assert_eq!(order("אב 12"), [5, 6, 4, 2, 0]);
    }

    #[test]
    fn marks_stand_on_their_letters() {
        assert_eq!(drawn("e\u{301}"), drawn("é"));
        assert!((line("x\u{302}\u{308}").width() - line("x").width()).abs() < 0.5);
    }

    #[test]
    fn latin_is_as_wide_as_its_font_says() {
        // Advances in 2048ths of an em, as the font's hmtx table has them: d 1300, o 1253, g 1300.
        let expected = (1300.0 + 1253.0 + 1300.0) / 2048.0 * HEIGHT / (ASCENT + DESCENT);
        assert!((line("dog").width() - expected).abs() < 0.1, "{} {expected}", line("dog").width());
        assert_eq!(line("").width(), 0.0);
    }

    #[test]
    fn long_texts_end_in_an_ellipsis_and_fit() {
        let text = Text::new(20.0);
        let width = |words: &str| text.line(words, f32::INFINITY).width();
        assert_eq!(text.line("dog", 200.0).width(), width("dog"));
        let cut = text.line("a very long label of many words", 100.0);
        assert!(cut.width() <= 100.0 && cut.width() > 80.0);
        assert_eq!(in_sight(&cut).last().unwrap().glyph_id, line("…").glyphs[0].glyph_id);
        // No space before it, and no letter without its accent.
        assert_eq!(text.line("a very long", width("a …") + 0.5).width(), width("a…"));
        assert_eq!(text.line("ae\u{301}\u{302}xxxxx", width("ae…") - 0.5).width(), width("a…"));
        assert_eq!(text.line("dog", 0.0).width(), width("…"));
    }

    #[test]
    fn an_ellipsis_stands_where_reading_ends() {
        let cut = Text::new(20.0).line("كلمات كثيرة جدا لا تتسع", 80.0);
        assert!(cut.width() <= 80.0);
        assert_eq!(in_sight(&cut)[0].glyph_id, line("…").glyphs[0].glyph_id);
        // The letter before it has its final form: it was shaped again.
        let whole = Text::new(20.0).line("سسسس…", f32::INFINITY).width();
        let cut = Text::new(20.0).line("سسسسسسسس", whole + 1.0);
        assert_eq!(cut.width(), whole);
    }

    #[test]
    fn ink_stays_in_its_line_and_in_the_picture() {
        let marks = format!("a{}", "\u{301}".repeat(200));
        let mut picture = Photo { width: 60, height: 200, rgb: vec![255; 3 * 60 * 200] };
        line(&marks).draw(&mut picture, 10.0, 100.0, [0; 3]);
        assert!(picture.rgb[..3 * 60 * 96].iter().all(|value| *value == 255));
        assert!(picture.rgb.contains(&0));
        let mut picture = Photo { width: 8, height: 8, rgb: vec![255; 3 * 64] };
        Text::new(40.0).line("MM", 1e9).draw(&mut picture, -10.0, -10.0, [0; 3]);
        assert!(picture.rgb.contains(&0));
    }

    #[test]
    fn hostile_texts_take_no_time() {
        let texts = [
            "W".repeat(16 << 10),
            format!("a{}", "\u{301}".repeat(8 << 10)),
            "\u{202E}\u{202D}".repeat(4 << 10),
            "\u{2067}a\u{2068}ب".repeat(2 << 10),
            ('\u{4E00}'..).take(5 << 10).collect(),
            ('\u{E000}'..).take(5 << 10).collect(),
            "\u{200D}".repeat(5 << 10),
            "\u{1100}\u{1161}\u{11A8}\u{302E}".repeat(1 << 10),
        ];
        let start = std::time::Instant::now();
        for text in &texts {
            let line = Text::new(HEIGHT).line(text, 300.0);
            assert!(line.width() <= 300.0);
            let mut picture = Photo { width: 400, height: 40, rgb: vec![255; 3 * 400 * 40] };
            line.draw(&mut picture, 10.0, 10.0, [0; 3]);
        }
        assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
    }
}
