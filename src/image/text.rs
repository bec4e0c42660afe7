//! Text in pictures.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, PxScaleFont, ScaleFont, point};

use super::decode::Photo;

/// DejaVu Sans 2.37: Latin, Greek, Cyrillic, Georgian, Armenian and some thousand symbols. A character that it lacks
/// is drawn as a box.
static FONT: LazyLock<FontRef> = LazyLock::new(|| {
    FontRef::try_from_slice(include_bytes!("../../weights/fonts/DejaVuSans.ttf")).expect("the embedded font is whole")
});

/// Text of one size.
pub struct Text {
    font: PxScaleFont<&'static FontRef<'static>>,
}

impl Text {
    /// Text whose highest and lowest strokes are `height` pixels apart.
    pub fn new(height: f32) -> Text {
        Text { font: FONT.as_scaled(height) }
    }

    /// How wide `text` is, in pixels.
    pub fn width(&self, text: &str) -> f32 {
        self.placed(text).last().map_or(0.0, |(_, right)| right)
    }

    /// `text`, or its beginning and an ellipsis where it is wider than `width` pixels.
    pub fn fitted(&self, text: &str, width: f32) -> String {
        if self.placed(text).all(|(_, right)| right <= width) {
            return text.into();
        }
        let room = width - self.width("…");
        let fitting = self.placed(text).take_while(|(_, right)| *right <= room).count();
        let beginning: String = text.chars().take(fitting).collect();
        format!("{}…", beginning.trim_end())
    }

    /// Draws `text` in `ink` from `left` on, `top` being the place of its highest strokes. What lies outside of the
    /// picture is cut off.
    pub fn draw(&self, picture: &mut Photo, text: &str, left: f32, top: f32, ink: [u8; 3]) {
        let baseline = top + self.font.ascent();
        let mut start = left;
        for (glyph, right) in self.placed(text) {
            let outline = glyph.with_scale_and_position(self.font.scale(), point(start, baseline));
            if let Some(outline) = self.font.outline_glyph(outline) {
                let corner = outline.px_bounds().min;
                outline.draw(|x, y, coverage| {
                    blend(picture, corner.x as i64 + i64::from(x), corner.y as i64 + i64::from(y), ink, coverage);
                });
            }
            start = left + right;
        }
    }

    /// Each character's glyph and the place of its right edge, the text starting at 0.
    fn placed(&self, text: &str) -> impl Iterator<Item = (ab_glyph::GlyphId, f32)> {
        text.chars().scan(0.0, |right, c| {
            let glyph = self.font.glyph_id(c);
            *right += self.font.h_advance(glyph);
            Some((glyph, *right))
        })
    }
}

/// Mixes `ink` into the pixel at (x, y), if there is one.
fn blend(picture: &mut Photo, x: i64, y: i64, ink: [u8; 3], coverage: f32) {
    let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
    if x >= picture.width || y >= picture.height {
        return;
    }
    let start = 3 * (y * picture.width + x);
    for (channel, ink) in picture.rgb[start..start + 3].iter_mut().zip(ink) {
        let mixed = f32::from(*channel) + (f32::from(ink) - f32::from(*channel)) * coverage.clamp(0.0, 1.0);
        *channel = mixed.round() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_end_in_an_ellipsis_and_fit() {
        let text = Text::new(20.0);
        assert_eq!(text.fitted("dog", 200.0), "dog");
        let fitted = text.fitted("a very long label of many words", 100.0);
        assert!(fitted.starts_with("a very") && fitted.ends_with('…'), "{fitted}");
        assert!(text.width(&fitted) <= 100.0 && text.width(&fitted) > 80.0);
        assert_eq!(text.fitted("dog", 0.0), "…");
    }

    #[test]
    fn text_outside_of_the_picture_is_cut_off() {
        let mut picture = Photo { width: 8, height: 8, rgb: vec![255; 3 * 64] };
        Text::new(40.0).draw(&mut picture, "MM", -10.0, -10.0, [0; 3]);
        assert!(picture.rgb.contains(&0));
    }

    #[test]
    fn the_font_has_the_letters_of_many_scripts() {
        let missing = FONT.glyph_id('\u{10FFFF}');
        for c in "aßéłДЖЯαωՖგאع→…×".chars() {
            assert_ne!(FONT.glyph_id(c), missing, "{c}");
        }
    }
}
