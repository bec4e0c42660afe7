//! Every format, layout and element type reads the same values.

use testing::checkpoint::*;
use torch_file::Dtype;

use crate::{FORMATS, floats, open, open_bytes};

#[test]
fn every_layout_and_type_reads_the_same_values() {
    for file in FORMATS {
        let checkpoint = open(file);
        let read = |name, shape: &[usize]| floats(&checkpoint, name, shape);
        assert_eq!(read("f32", &[2, 3]), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5], "{file}");
        assert_eq!(read("f16", &[5]), [0.0, 0.25, 0.5, 0.75, 1.0], "{file}");
        assert_eq!(read("bf16", &[5]), [-2.0, -1.0, 0.0, 1.0, 2.0], "{file}");
        assert_eq!(read("f64", &[2, 2]), [0.0, 0.125, 0.25, 0.375], "{file}");
        assert_eq!(read("scalar", &[]), [7.0], "{file}");
        assert_eq!(read("empty", &[0, 3]), [0.0; 0], "{file}");
        assert_eq!(read("parameter", &[4]), [0.0, 1.0, 2.0, 3.0], "{file}");
    }
}

#[test]
fn views_are_gathered() {
    for file in FORMATS {
        let checkpoint = open(file);
        let read = |name, shape: &[usize]| floats(&checkpoint, name, shape);
        let transposed: Vec<f32> = (0..4).flat_map(|i| (0..3).map(move |j| (4 * j + i) as f32)).collect();
        assert_eq!(read("transposed", &[4, 3]), transposed, "{file}");
        assert_eq!(read("transposed_f16", &[4, 3]), transposed, "{file}");
        let permuted: Vec<f32> =
            (0..4).flat_map(|k| (0..2).flat_map(move |i| (0..3).map(move |j| (12 * i + 4 * j + k) as f32))).collect();
        assert_eq!(read("permuted", &[4, 2, 3]), permuted, "{file}");
        assert_eq!(read("every_other", &[10]), (0..10).map(|i| (2 * i + 1) as f32).collect::<Vec<_>>(), "{file}");
        assert_eq!(read("expanded", &[2, 3]), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0], "{file}");
        assert_eq!(read("shared_a", &[6]), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "{file}");
        assert_eq!(read("shared_b", &[2, 3]), [8.0, 9.0, 10.0, 17.0, 18.0, 19.0], "{file}");
    }
}

/// A gathered tensor larger than the window through which it is read, against its contiguous twin.
#[test]
fn a_large_view_is_gathered_through_a_small_window() {
    let (rows, columns) = (1500usize, 1000usize);
    let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
    let strided = tensor("0", values.len() as i64, 0, &[columns as i64, rows as i64], &[1, columns as i64]);
    let checkpoint = open_bytes(&legacy(&dict("t", &strided), &[("0", &values)])).unwrap();
    let read = floats(&checkpoint, "t", &[columns, rows]);
    assert!((0..columns).all(|i| (0..rows).all(|j| read[i * rows + j] == values[j * columns + i])));
}

#[test]
fn raw_bytes_keep_their_type() {
    for file in FORMATS {
        let checkpoint = open(file);
        let mut bytes = vec![1];
        checkpoint.read_raw("f16", &mut bytes).unwrap();
        assert_eq!(bytes, [0x00, 0x00, 0x00, 0x34, 0x00, 0x38, 0x00, 0x3a, 0x00, 0x3c], "{file}");
        checkpoint.read_raw("i64", &mut bytes).unwrap();
        assert_eq!(bytes, [3i64.to_le_bytes(), (-4i64).to_le_bytes()].concat(), "{file}");
        assert_eq!(checkpoint.info("transposed").unwrap().shape, [4, 3], "{file}");
        assert_eq!(checkpoint.info("bool").unwrap().dtype, Dtype::BOOL, "{file}");
    }
    assert_eq!(open("formats.pt").info("u16").unwrap().dtype, Dtype::U16);
}

#[test]
fn one_checkpoint_serves_several_threads() {
    let checkpoint = open("formats.pt");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(floats(&checkpoint, "f32", &[2, 3])[5], 2.5));
        }
    });
}
