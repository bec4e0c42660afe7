//! The legend beside an overlay: each label with its colour and its share, the largest first.
//!
//! By hand: imageproc could draw its boxes, but most of it is the layout.

use super::decode::Photo;
use super::text::{Line, Text};

const PAPER: [u8; 3] = [255, 255, 255];
pub(super) const INK: [u8; 3] = [24, 24, 27];

/// The smallest text that can be read, in pixels.
const SMALLEST_TEXT: f32 = 15.0;

/// The side of a square photo, measured in the height of the text that looks right beside it.
const PHOTO_PER_TEXT: f32 = 30.0;

/// Beside a photo too low for this many rows, the legend is higher than the photo.
const FEWEST_ROWS: usize = 4;

/// How much paper a legend may add beyond a photo's own area: 4 megapixels.
const MAX_PAPER: usize = 4_000_000;

// The legend's measures, in heights of its text.
const LINE: f32 = 1.3;
pub(super) const MARGIN: f32 = 0.7;
const SWATCH: f32 = 0.8;
const GAP: f32 = 0.5;
const LONGEST_LABEL: f32 = 13.0;

/// One row: a label, its colour and its share of the photo in [0, 1].
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub label: &'a str,
    /// None for what is not coloured.
    pub colour: Option<[u8; 3]>,
    pub share: f64,
}

/// A share in [0, 1] as people read it: `61.2 %`, and `<0.1 %` for what is there but would round to nothing.
pub fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.0005 { "<0.1 %".into() } else { format!("{:.1} %", 100.0 * share) }
}

/// Draws the legend for a photo of `photo_width` × `photo_height` as a panel to stand on its right. The panel is as
/// high as the photo, or higher where the photo is very low. Of labels that do not fit the largest shares are shown,
/// and in the last row how many others there are. `None` where the photo is so thin that the paper would dwarf it.
pub fn draw(entries: &[Entry], photo_width: usize, photo_height: usize) -> Option<Photo> {
    let size = PanelSize::new(entries.len(), photo_width, photo_height);
    let text = Text::new(size.text);
    let rows = rows(entries, size.rows());

    let lines: Vec<(Line, Line)> = rows
        .iter()
        .map(|row| (text.line(&row.label, LONGEST_LABEL * size.text), text.line(&row.share, f32::INFINITY)))
        .collect();

    let label_left = (MARGIN + SWATCH + GAP) * size.text;
    let widest = |width: fn(&(Line, Line)) -> f32| lines.iter().map(width).fold(0.0, f32::max);
    let label_width = widest(|(label, _)| label.width());
    let share_right = label_left + label_width + 2.0 * GAP * size.text + widest(|(_, share)| share.width());
    let width = (share_right + MARGIN * size.text).ceil() as usize;
    let mut panel = paper(width, size.height, photo_width, photo_height)?;
    for (i, (row, (label, share))) in rows.iter().zip(&lines).enumerate() {
        let top = (MARGIN + LINE * i as f32) * size.text;
        if let Some(colour) = row.colour {
            fill_square(
                &mut panel,
                MARGIN * size.text,
                top + 0.5 * (LINE - SWATCH) * size.text,
                SWATCH * size.text,
                colour,
            );
        }
        let text_top = top + 0.5 * (LINE - 1.0) * size.text;
        label.draw(&mut panel, label_left, text_top, INK);
        share.draw(&mut panel, share_right - share.width(), text_top, INK);
    }
    Some(panel)
}

/// An empty panel beside a photo; `None` where it would dwarf the photo.
pub(super) fn paper(width: usize, height: usize, photo_width: usize, photo_height: usize) -> Option<Photo> {
    let photo_area = photo_width.saturating_mul(photo_height);
    if photo_width.saturating_add(width).saturating_mul(height) > MAX_PAPER.saturating_add(2 * photo_area) {
        return None;
    }
    Some(Photo { width, height, rgb: PAPER.repeat(width * height) })
}

/// How high a panel and its text are.
pub(super) struct PanelSize {
    pub text: f32,
    pub height: usize,
}

impl PanelSize {
    /// Text in proportion to the photo; down to 60 % of that where it makes all rows fit, and down to the smallest
    /// where it makes a few fit.
    pub fn new(entries: usize, photo_width: usize, photo_height: usize) -> PanelSize {
        let height = photo_height as f32;
        let comfortable = (photo_width as f32 * height).sqrt() / PHOTO_PER_TEXT;
        let all = (height / lines(entries)).clamp(0.6 * comfortable, comfortable);
        let few = lines(entries.min(FEWEST_ROWS));
        let text = all.min(height / few).max(SMALLEST_TEXT).floor();
        PanelSize { text, height: photo_height.max((few * text).ceil() as usize) }
    }

    /// How many rows there is room for.
    fn rows(&self) -> usize {
        ((self.height as f32 / self.text - 2.0 * MARGIN) / LINE + 0.01).floor() as usize
    }
}

/// The height of a panel with this many rows, in heights of its text.
fn lines(rows: usize) -> f32 {
    2.0 * MARGIN + LINE * rows as f32
}

/// What a row of the legend says.
struct Row {
    colour: Option<[u8; 3]>,
    label: String,
    share: String,
}

/// The largest shares in order, and where not all fit a last row for the others together.
fn rows(entries: &[Entry], fitting: usize) -> Vec<Row> {
    let mut entries = entries.to_vec();
    entries.sort_by(|a, b| b.share.total_cmp(&a.share));
    let shown = if entries.len() > fitting { fitting.saturating_sub(1) } else { entries.len() };
    let (shown, others) = entries.split_at(shown);
    let mut rows: Vec<Row> =
        shown.iter().map(|e| Row { colour: e.colour, label: printable(e.label), share: percent(e.share) }).collect();
    if !others.is_empty() {
        let share = percent(others.iter().map(|e| e.share).sum());
        rows.push(Row { colour: None, label: format!("+{} more", others.len()), share });
    }
    rows
}

/// The label in one line.
fn printable(label: &str) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    label.chars().map(|c| if breaks(c) { ' ' } else { c }).collect()
}

fn fill_square(panel: &mut Photo, left: f32, top: f32, side: f32, colour: [u8; 3]) {
    let range = |start: f32, end: usize| (start.round() as usize).min(end)..((start + side).round() as usize).min(end);
    for y in range(top, panel.height) {
        for x in range(left, panel.width) {
            let start = 3 * (y * panel.width + x);
            panel.rgb[start..start + 3].copy_from_slice(&colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(count: usize) -> Vec<Entry<'static>> {
        (0..count)
            .map(|i| Entry { label: "grass", colour: Some([200, i as u8, 0]), share: 1.0 / count as f64 })
            .collect()
    }

    #[test]
    fn shares_read_well() {
        for (share, text) in [(0.0, "0.0 %"), (1e-9, "<0.1 %"), (0.0006, "0.1 %"), (0.6118, "61.2 %"), (1.0, "100.0 %")]
        {
            assert_eq!(percent(share), text);
        }
    }

    #[test]
    fn the_largest_shares_come_first_and_the_rest_is_counted() {
        let entry = |label, share| Entry { label, colour: None, share };
        let entries = [entry("a", 0.05), entry("b", 0.6), entry("c", 0.25), entry("d", 0.1)];
        let shown =
            |fitting| rows(&entries, fitting).iter().map(|r| format!("{} {}", r.label, r.share)).collect::<Vec<_>>();
        assert_eq!(shown(4), ["b 60.0 %", "c 25.0 %", "d 10.0 %", "a 5.0 %"]);
        assert_eq!(shown(3), ["b 60.0 %", "c 25.0 %", "+2 more 15.0 %"]);
    }

    #[test]
    fn the_panel_follows_the_photo() {
        for (width, height) in [(1, 1), (32, 32), (640, 480), (480, 640), (8000, 6000), (8000, 200), (200, 8000)] {
            for labels in [1, 3, 40, 1000] {
                let panel = draw(&shares(labels), width, height).unwrap();
                assert!(panel.height == height || height < 100, "{width}×{height}, {labels} labels: {}", panel.height);
                assert!(panel.width < width.max(height) + 300, "{width}×{height}, {labels} labels: {}", panel.width);
                assert_eq!(panel.rgb.len(), 3 * panel.width * panel.height);
            }
        }
    }

    #[test]
    fn where_all_labels_fit_each_swatch_is_there() {
        let entries = shares(12);
        let panel = draw(&entries, 640, 480).unwrap();
        for entry in entries {
            assert!(
                panel.rgb.chunks_exact(3).any(|pixel| Some(pixel) == entry.colour.as_ref().map(<[u8; 3]>::as_slice))
            );
        }
    }

    #[test]
    fn labels_of_any_script_can_be_told_apart() {
        let panel = |label| draw(&[Entry { label, colour: Some([200, 0, 0]), share: 1.0 }], 640, 480).unwrap();
        assert_ne!(panel("天"), panel("地"));
        // Line ends and the like are spaces: a label has one row.
        assert_eq!(panel("dog\u{2029}cat\n\u{85}"), panel("dog cat  "));
        assert_ne!(panel("dog cat"), panel("dog"));
    }

    #[test]
    fn a_thread_of_pixels_gets_no_legend() {
        assert!(draw(&shares(3), 60_000_000, 1).is_none());
    }
}
