//! The borders between a mask's regions, drawn into a picture.

use super::decode::Photo;

/// A picture's longer side, in widths of the line that looks right on it.
const SIDE_PER_LINE: usize = 400;

/// Draws each region's border into `picture`, in the colour of the region's label: a line inside of the region, wider on
/// larger pictures. The picture's own edge is no border.
///
/// `mask` has a label a pixel of the picture, `colours` one a label.
pub fn draw(picture: &mut Photo, mask: &[u16], colours: &[[u8; 3]]) {
    let Photo { width, height, rgb } = picture;
    let line = (*width).max(*height).div_ceil(SIDE_PER_LINE);
    let near = near_another(mask, *width, line);
    for ((pixel, label), near) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(mask).zip(near) {
        if near != 0
            && let Some(colour) = colours.get(usize::from(*label))
        {
            *pixel = *colour;
        }
    }
}

/// A pixel with one of another label near it in its row, and one with such a pixel or another label near it in its column.
const IN_ROW: u8 = 1;
const IN_COLUMN: u8 = 2;

/// For each pixel, whether (not 0) one of another label lies at most `line` columns and `line` rows away.
fn near_another(mask: &[u16], width: usize, line: usize) -> Vec<u8> {
    let pixels = mask.len();
    let mut near = vec![0; pixels];
    for start in (0..pixels).step_by(width) {
        mark(mask, 0, start..start + width, line, IN_ROW, &mut near);
        mark(mask, 0, (start..start + width).rev(), line, IN_ROW, &mut near);
    }
    for x in 0..width {
        mark(mask, IN_ROW, (x..pixels).step_by(width), line, IN_COLUMN, &mut near);
        mark(mask, IN_ROW, (x..pixels).step_by(width).rev(), line, IN_COLUMN, &mut near);
    }
    near
}

/// Along a row or column, marks with `as_mark` the pixels that come at most `line` pixels after one that has the mark `from`
/// or another label.
fn mark(mask: &[u16], from: u8, pixels: impl Iterator<Item = usize>, line: usize, as_mark: u8, near: &mut [u8]) {
    let (mut away, mut last) = (line, None);
    for at in pixels {
        away = match last {
            _ if near[at] & from != 0 => 0,
            Some(last) if mask[last] != mask[at] => 1,
            _ => away.saturating_add(1),
        };
        if away <= line {
            near[at] |= as_mark;
        }
        last = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pixel against its whole neighbourhood.
    fn plain(mask: &[u16], width: usize, line: usize) -> Vec<bool> {
        let height = mask.len() / width;
        let around = |at: usize, end: usize| at.saturating_sub(line)..(at + line + 1).min(end);
        let near = |i: usize| {
            let (x, y) = (i % width, i / width);
            around(y, height).any(|y| around(x, width).any(|x| mask[y * width + x] != mask[i]))
        };
        (0..mask.len()).map(near).collect()
    }

    #[test]
    fn borders_are_where_another_label_is_near() {
        let mut state = 1_u32;
        for (width, height, labels, line) in [(1, 1, 1, 1), (7, 5, 2, 1), (40, 30, 2, 3), (33, 61, 3, 2), (1, 50, 2, 4)]
        {
            let mut label = 0;
            let mask: Vec<u16> = (0..width * height)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if state >> 24 < 12 {
                        label = (state >> 16) as u16 % labels;
                    }
                    label
                })
                .collect();
            let near: Vec<bool> = near_another(&mask, width, line).into_iter().map(|near| near != 0).collect();
            assert_eq!(near, plain(&mask, width, line), "{width}×{height}, line {line}");
        }
    }

    #[test]
    fn both_sides_of_a_border_get_their_own_colour() {
        let mut picture = Photo { width: 6, height: 2, rgb: vec![9; 36] };
        let colours = [[200, 0, 0], [0, 0, 200]];
        draw(&mut picture, &[0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1], &colours);
        let row = [[9; 3], [9; 3], colours[0], colours[1], [9; 3], [9; 3]].concat();
        assert_eq!(picture.rgb, row.repeat(2));
    }
}
