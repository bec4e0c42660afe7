//! `embed --pca` and `--project` as users call them, against a plain PCA of the unprojected files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use half::f16;
use lseg_fast::checkpoint::Checkpoint;
use tempfile::TempDir;
use testing::files::root;

/// Of the seeded model's vectors.
const CHANNELS: usize = 64;

struct Folder(TempDir);

impl Folder {
    /// With two photos.
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        for (name, tint) in [("a.png", 3), ("b.png", 11)] {
            let picture = image::RgbImage::from_fn(60, 44, |x, y| {
                let [x, y] = [x as u8, y as u8];
                image::Rgb([x.wrapping_mul(4), y.wrapping_mul(tint), x.wrapping_mul(y).wrapping_add(tint)])
            });
            picture.save(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("p.csv"), "x,y\n10,7\n10.5,7.25\n59,43\n").unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn call(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lseg-fast"));
        command.arg("embed").args(arguments.split_whitespace()).args(["--device", "cpu", "-q", "--model"]);
        command.arg(root().join("weights/seeded/seeded.ckpt"));
        command.current_dir(self.0.path()).stdin(Stdio::null()).output().unwrap()
    }

    #[track_caller]
    fn done(&self, arguments: &str) -> Output {
        let output = self.call(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(0) && stderr.is_empty(), "{arguments}: {stderr}");
        output
    }

    /// The file of `a.png` that a call writes.
    #[track_caller]
    fn written(&self, arguments: &str) -> (Vec<usize>, Vec<f32>) {
        self.done(&format!("a.png {arguments}"));
        array(&self.path("out/a.embed.npy"))
    }

    /// One line, this exit code, and nothing in `out`.
    #[track_caller]
    fn refused(&self, arguments: &str, code: i32, words: &[&str]) {
        let output = self.call(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{arguments}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{arguments}: {stderr}");
        assert!(fs::read_dir(self.path("out")).map_or(0, Iterator::count) == 0, "{arguments}");
    }

    fn basis(&self, path: &str) -> Basis {
        let file = Checkpoint::open(&self.path(path)).unwrap();
        let count = file.info("explained_variance").unwrap().shape[0];
        let read = |name: &str, shape: &[usize]| {
            let mut values = Vec::new();
            file.read_f32(name, shape, &mut values).unwrap();
            values.into_iter().map(f64::from).collect::<Vec<_>>()
        };
        let components = read("components", &[count, CHANNELS]);
        let total = file.metadata()["total_variance"].parse().unwrap();
        Basis {
            mean: read("mean", &[CHANNELS]),
            components: components.chunks_exact(CHANNELS).map(<[f64]>::to_vec).collect(),
            variance: read("explained_variance", &[count]),
            total,
        }
    }

    /// A matrix in a file as NumPy writes it.
    fn put_matrix(&self, name: &str, element: &str, in_columns: &str, shape: &str, values: &[u8]) {
        let dictionary = format!("{{'descr': '{element}', 'fortran_order': {in_columns}, 'shape': {shape}, }}");
        let dictionary = format!("{dictionary:<117}\n");
        fs::write(self.path(name), [b"\x93NUMPY\x01\x00\x76\x00", dictionary.as_bytes(), values].concat()).unwrap();
    }
}

/// A NumPy file of float32: its shape and values.
fn array(path: &Path) -> (Vec<usize>, Vec<f32>) {
    parsed(&fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

fn parsed(bytes: &[u8]) -> (Vec<usize>, Vec<f32>) {
    let length = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..length]).unwrap();
    assert!(header.contains("<f4"), "{header}");
    let shape = header.split(['(', ')']).nth(1).unwrap().split(',').filter_map(|n| n.trim().parse().ok()).collect();
    (shape, bytemuck::pod_collect_to_vec(&bytes[length..]))
}

/// The vectors of a map `[C, h, w]`, in float64.
fn vectors((shape, values): &(Vec<usize>, Vec<f32>)) -> Vec<Vec<f64>> {
    let pixels = shape[1] * shape[2];
    (0..pixels).map(|i| values.iter().skip(i).step_by(pixels).map(|v| f64::from(*v)).collect()).collect()
}

fn largest<'a>(values: impl IntoIterator<Item = &'a f32>) -> f64 {
    values.into_iter().fold(0.0, |most, value| f64::from(value.abs()).max(most))
}

#[track_caller]
fn near(got: &[f32], expected: impl IntoIterator<Item = f64>, tolerance: f64) {
    let expected: Vec<f64> = expected.into_iter().collect();
    assert_eq!(got.len(), expected.len());
    let worst = got.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance, "off by {worst}, allowed {tolerance}");
}

#[derive(Debug)]
struct Basis {
    mean: Vec<f64>,
    components: Vec<Vec<f64>>,
    variance: Vec<f64>,
    total: f64,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Basis {
    /// By two passes, and Jacobi's rotations of the covariance.
    fn plain(vectors: &[Vec<f64>], count: usize) -> Basis {
        let (n, channels) = (vectors.len() as f64, vectors[0].len());
        let mean: Vec<f64> = (0..channels).map(|k| vectors.iter().map(|vector| vector[k]).sum::<f64>() / n).collect();
        let mut a = vec![vec![0.0; channels]; channels];
        for vector in vectors {
            let centred: Vec<f64> = vector.iter().zip(&mean).map(|(value, mean)| value - mean).collect();
            for (row, x) in a.iter_mut().zip(&centred) {
                row.iter_mut().zip(&centred).for_each(|(sum, y)| *sum += x * y / n);
            }
        }
        let total = (0..channels).map(|k| a[k][k]).sum();
        let axes = jacobi(&mut a);
        let mut order: Vec<usize> = (0..channels).collect();
        order.sort_by(|i, j| a[*j][*j].total_cmp(&a[*i][*i]));
        order.truncate(count);
        let components = order.iter().map(|i| {
            let axis: Vec<f64> = axes.iter().map(|row| row[*i]).collect();
            let top = axis.iter().copied().max_by(|x, y| x.abs().total_cmp(&y.abs())).unwrap();
            axis.iter().map(|value| value * top.signum()).collect()
        });
        Basis { mean, components: components.collect(), variance: order.iter().map(|i| a[*i][*i]).collect(), total }
    }

    /// `[D, n]` of vectors.
    fn project(&self, vectors: &[Vec<f64>]) -> Vec<f64> {
        let on = |axis: &Vec<f64>, vector: &Vec<f64>| dot(vector, axis) - dot(&self.mean, axis);
        self.components.iter().flat_map(|axis| vectors.iter().map(move |vector| on(axis, vector))).collect()
    }
}

/// Makes a symmetric matrix diagonal; the axes are the columns of what it returns.
fn jacobi(a: &mut [Vec<f64>]) -> Vec<Vec<f64>> {
    let n = a.len();
    let mut axes: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for _ in 0..12 {
        for (p, q) in (0..n).flat_map(|p| (p + 1..n).map(move |q| (p, q))) {
            if a[p][q] == 0.0 {
                continue;
            }
            let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
            let t = if theta < 0.0 { -1.0 } else { 1.0 } / (theta.abs() + theta.hypot(1.0));
            let c = 1.0 / t.hypot(1.0);
            let s = t * c;
            let turn = |x: &mut f64, y: &mut f64| (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
            for row in a.iter_mut().chain(&mut axes) {
                let (left, right) = row.split_at_mut(q);
                turn(&mut left[p], &mut right[0]);
            }
            let (upper, lower) = a.split_at_mut(q);
            upper[p].iter_mut().zip(&mut lower[0]).for_each(|(x, y)| turn(x, y));
        }
    }
    axes
}

#[test]
fn the_components_and_files_are_those_of_a_plain_pca() {
    let folder = Folder::new();
    for (how, normalised) in [("--size 64x64", false), ("--size 64x64 --normalize", true)] {
        folder.done(&format!("a.png b.png {how} --out plain"));
        let maps = ["a", "b"].map(|name| array(&folder.path(&format!("plain/{name}.embed.npy"))));
        let all: Vec<Vec<f64>> = maps.iter().flat_map(vectors).collect();
        assert_eq!(all.len(), 2 * 32 * 32);
        let count = 6;
        folder.done(&format!("a.png b.png {how} --pca {count}"));
        let (got, expected) = (folder.basis("out/pca.safetensors"), Basis::plain(&all, count));
        let scale = expected.total.sqrt();
        assert!(got.mean.iter().zip(&expected.mean).all(|(a, b)| (a - b).abs() < 1e-6 * scale.max(1.0)));
        assert!((got.total / expected.total - 1.0).abs() < 1e-9, "{} {}", got.total, expected.total);
        for (a, b) in got.variance.iter().zip(&expected.variance) {
            assert!((a - b).abs() < 1e-6 * expected.total, "{got:?} {expected:?}");
        }
        for (i, (a, b)) in got.components.iter().zip(&expected.components).enumerate() {
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4), "{i}: {a:?} {b:?}");
            for (j, other) in got.components.iter().enumerate() {
                assert!((dot(a, other) - f64::from(u8::from(i == j))).abs() < 1e-5, "{i}, {j}");
            }
        }
        assert!(got.variance.is_sorted_by(|a, b| a >= b) && got.variance.iter().sum::<f64>() <= got.total);
        for (name, map) in ["a", "b"].into_iter().zip(&maps) {
            let (shape, values) = array(&folder.path(&format!("out/{name}.embed.npy")));
            assert_eq!(shape, [count, 32, 32]);
            near(&values, expected.project(&vectors(map)), 1e-4 * largest(&map.1));
        }
        let about = Checkpoint::open(&folder.path("out/pca.safetensors")).unwrap();
        for (key, value) in [("vectors", "2048"), ("photos", "2"), ("normalized", &normalised.to_string())] {
            assert_eq!(about.metadata()[key], value);
        }
    }
}

/// As many components as channels only turn the vectors: nothing is lost, and their distances stay.
#[test]
fn all_components_keep_all_of_the_variance() {
    let folder = Folder::new();
    let output = folder.done(&format!("a.png --size 64x64 --pca {CHANNELS} --json"));
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!((object["projection"]["variance"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{object}");
    let turned = vectors(&array(&folder.path("out/a.embed.npy")));
    let plain = vectors(&folder.written("--size 64x64"));
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    for i in 1..plain.len() {
        let [a, b] = [distance(&plain[0], &plain[i]), distance(&turned[0], &turned[i])];
        assert!((a - b).abs() < 1e-4 * a.max(1.0), "{i}: {a} {b}");
    }
}

#[test]
fn a_stored_basis_gives_the_same_files_to_the_byte() {
    let folder = Folder::new();
    for how in [
        "--size 64x64",
        "--size 64x64 --normalize --dtype f16 --format safetensors --layout hwc",
        "--size 64x64 --at full",
        "--size 64x64 --at photo --dtype f16",
        "--size 64x64 --points p.csv --normalize",
        "--crop 32 --memory 600K",
        "--crop 32 --points p.csv",
        "--preset lsm --crop 64 --normalize",
    ] {
        folder.done(&format!("a.png b.png {how} --pca 5"));
        fs::rename(folder.path("out"), folder.path("first")).unwrap();
        folder.done(&format!("a.png b.png {how} --project first/pca.safetensors"));
        let mut names: Vec<_> = fs::read_dir(folder.path("out")).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names.len(), 2, "{how}: {names:?}");
        for name in names {
            let read = |folder_name: &str| fs::read(folder.path(folder_name).join(&name)).unwrap();
            assert!(read("out") == read("first"), "{how}: {name:?}");
        }
        fs::remove_dir_all(folder.path("out")).unwrap();
        fs::remove_dir_all(folder.path("first")).unwrap();
    }
}

fn identity() -> Vec<u8> {
    let ones = (0..CHANNELS * CHANNELS).map(|i| if i % (CHANNELS + 1) == 0 { 1.0_f32 } else { 0.0 });
    ones.flat_map(f32::to_le_bytes).collect()
}

#[test]
fn an_identity_leaves_the_values() {
    let folder = Folder::new();
    folder.put_matrix("i.npy", "<f4", "False", "(64, 64)", &identity());
    for how in [
        "--size 64x64",
        "--size 64x64 --normalize --layout hwc",
        "--size 64x32 --at full",
        "--size 32x64 --at photo",
        "--size 64x64 --points p.csv",
        "--crop 32 --scales 0.5,1",
    ] {
        let (shape, plain) = folder.written(how);
        let (same, values) = folder.written(&format!("{how} --project i.npy"));
        assert_eq!(same, shape, "{how}");
        near(&values, plain.iter().map(|v| f64::from(*v)), 1e-6 * largest(&plain));
    }
    // Bytes on standard output are the file's.
    let file = fs::read(folder.path("out/a.embed.npy")).unwrap();
    let piped = folder.done("a.png --crop 32 --scales 0.5,1 --project i.npy --out -");
    assert!(piped.stdout == file);
}

/// Projecting, resizing and taking points are linear: in any order they are the same. Lengths come first.
#[test]
fn files_are_the_projections_of_the_unprojected_ones() {
    let folder = Folder::new();
    let rows = 7;
    let matrix: Vec<f64> = (0..rows * CHANNELS).map(|i| f64::from((i * 7919 % 31) as u8) / 16.0 - 1.0).collect();
    let bytes: Vec<u8> = matrix.iter().flat_map(|value| value.to_le_bytes()).collect();
    folder.put_matrix("m.npy", "<f8", "False", "(7, 64)", &bytes);
    let basis = Basis {
        mean: vec![0.0; CHANNELS],
        components: matrix.chunks_exact(CHANNELS).map(<[f64]>::to_vec).collect(),
        variance: Vec::new(),
        total: 0.0,
    };
    for how in [
        "--crop 32",
        "--crop 32 --flip mean --normalize",
        "--preset openscene --format npy --dtype f32",
        "--size 32x64 --at photo",
        "--size 32x64 --at full",
    ] {
        let name = if how.contains("openscene") { "out/a.npy" } else { "out/a.embed.npy" };
        folder.done(&format!("a.png {how}"));
        let plain = array(&folder.path(name));
        folder.done(&format!("a.png {how} --project m.npy"));
        let (shape, values) = array(&folder.path(name));
        assert_eq!(shape, [rows, plain.0[1], plain.0[2]], "{how}");
        near(&values, basis.project(&vectors(&plain)), 1e-5 * CHANNELS as f64 * largest(&plain.1));
    }
    let (_, plain) = folder.written("--size 64x64 --points p.csv --normalize");
    let (shape, values) = folder.written("--size 64x64 --points p.csv --normalize --project m.npy");
    assert_eq!(shape, [3, rows]);
    let of = |vector: &[f32]| basis.project(&[vector.iter().map(|v| f64::from(*v)).collect()]);
    near(&values, plain.chunks_exact(CHANNELS).flat_map(of), 1e-5);
}

#[test]
fn matrices_of_any_float_and_order_are_the_same() {
    let folder = Folder::new();
    let value = |row: usize, column: usize| ((row * 5 + column * 3) % 16) as f32 / 8.0 - 1.0;
    let by_rows: Vec<f32> = (0..2 * CHANNELS).map(|i| value(i / CHANNELS, i % CHANNELS)).collect();
    let by_columns: Vec<f32> = (0..2 * CHANNELS).map(|i| value(i % 2, i / 2)).collect();
    let single: Vec<u8> = by_rows.iter().flat_map(|v| v.to_le_bytes()).collect();
    folder.put_matrix("single.npy", "<f4", "False", "(2, 64)", &single);
    let double: Vec<u8> = by_rows.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect();
    folder.put_matrix("double.npy", "<f8", "False", "(2, 64)", &double);
    let halves: Vec<u8> = by_rows.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
    folder.put_matrix("half.npy", "<f2", "False", "(2, 64)", &halves);
    let columns: Vec<u8> = by_columns.iter().flat_map(|v| v.to_le_bytes()).collect();
    folder.put_matrix("columns.npy", "<f4", "True", "(2, 64)", &columns);
    let first = folder.written("--size 32x32 --project single.npy");
    assert_eq!(first.0, [2, 16, 16]);
    for name in ["double.npy", "half.npy", "columns.npy"] {
        assert_eq!(folder.written(&format!("--size 32x32 --project {name}")), first, "{name}");
    }
}

#[test]
fn the_size_that_is_allowed_is_the_projected_files() {
    let folder = Folder::new();
    for how in ["--size 64x64", "--size 64x64 --at photo", "--size 64x64 --at full", "--crop 32"] {
        folder.refused(&format!("a.png {how} --max-output 70K"), 1, &["--max-output", "--pca D", "a.png"]);
        folder.done(&format!("a.png {how} --max-output 70K --pca 3"));
        fs::remove_dir_all(folder.path("out")).unwrap();
    }
}

#[test]
fn a_photo_that_cannot_be_read_is_left_out_and_told_once() {
    let folder = Folder::new();
    fs::write(folder.path("bad.png"), "no photo").unwrap();
    folder.done("a.png --size 64x64 --pca 3 --out good");
    let output = folder.call("bad.png a.png none.png --size 64x64 --pca 3");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 2, "{stderr}");
    assert!(stderr.contains("bad.png: not a photo") && stderr.contains("none.png"), "{stderr}");
    for name in ["pca.safetensors", "a.embed.npy"] {
        assert!(fs::read(folder.path("out").join(name)).unwrap() == fs::read(folder.path("good").join(name)).unwrap());
    }
    fs::remove_dir_all(folder.path("out")).unwrap();
    let output = folder.call("bad.png none.png --pca 3 --json");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 3), "{stderr}");
    assert!(stderr.contains("at least 4 vectors, and there are 0, of 0 of 2 photos"), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).matches("\"error\"").count(), 2);
    assert_eq!(fs::read_dir(folder.path("out")).unwrap().count(), 0);
}

#[test]
fn a_basis_of_other_vectors_is_noted() {
    let folder = Folder::new();
    folder.done("a.png --size 64x64 --pca 3 --out first");
    let call = |more: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lseg-fast"));
        command.args(["embed", "a.png", "--device", "cpu", "--project", "first/pca.safetensors", "--model"]);
        command.arg(root().join("weights/seeded/seeded.ckpt")).args(more.split_whitespace());
        let output = command.current_dir(folder.0.path()).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(call("--size 32x32"), "");
    assert!(call("--size 32x32 --normalize").contains("normalized false, and it is true here"));
    assert!(call("--crop 32").contains("preset native, and it is windows here"));
}

#[test]
fn calls_that_cannot_be_done_are_named() {
    let folder = Folder::new();
    folder.refused("- --pca 3", 2, &["--pca", "twice", "stream"]);
    folder.refused("/dev/null --pca 3", 2, &["--pca", "/dev/null"]);
    folder.refused("a.png --pca 3 --out -", 2, &["--pca", "--out"]);
    folder.refused("a.png --pca 3 --skip-existing", 2, &["--pca", "--skip-existing", "--project"]);
    folder.refused("a.png --pca 65", 2, &["--pca 65", "64 channels"]);
    // A map of one pixel.
    image::RgbImage::new(1, 1).save(folder.path("one.png")).unwrap();
    folder.refused("one.png --crop 32 --pca 1", 2, &["at least 2 vectors, and there are 1"]);
    for (how, given) in [("--pca 3", "--at full"), ("--pca 3", "--at photo"), ("--project i.npy", "--at photo")] {
        folder.refused(&format!("a.png {how} --normalize {given}"), 2, &["--normalize", "--at"]);
    }
    for wrong in ["--pca 0", "--pca -1", "--pca many", "--pca 3 --project i.npy"] {
        let output = folder.call(&format!("a.png {wrong}"));
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
    // Files of vlmaps have the photo's name.
    fs::copy(folder.path("a.png"), folder.path("pca.png")).unwrap();
    let same = "pca.png --preset lsm --crop 32 --format safetensors --pca 3";
    folder.refused(same, 2, &["pca.safetensors", "pca.png", "--out"]);
}

#[test]
fn files_that_are_no_projections_are_named() {
    let folder = Folder::new();
    let refused = |name: &str, code: i32, words: &[&str]| {
        folder.refused(&format!("a.png --project {name}"), code, &[&[name], words].concat());
    };
    refused("none.npy", 1, &["cannot read the projection"]);
    refused("a.png", 2, &["neither a .npy nor a safetensors file", "[D, channels]"]);
    refused("/dev/null", 2, &["no regular file"]);
    fs::write(folder.path("empty.npy"), "").unwrap();
    refused("empty.npy", 2, &["neither"]);

    let single = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    folder.put_matrix("narrow.npy", "<f4", "False", "(2, 3)", &single(&[0.5; 6]));
    refused("narrow.npy", 2, &["vectors of 3 channels on 2", "[D, 64]"]);
    folder.put_matrix("flat.npy", "<f4", "False", "(64,)", &single(&[0.5; 64]));
    refused("flat.npy", 2, &["shape [64]", "two dimensions"]);
    folder.put_matrix("int.npy", "<i4", "False", "(1, 64)", &single(&[0.5; 64]));
    refused("int.npy", 2, &["<i4", "float32"]);
    folder.put_matrix("cut.npy", "<f4", "False", "(2, 64)", &single(&[0.5; 100]));
    refused("cut.npy", 2, &["400 bytes", "[2, 64]"]);
    let mut values = [0.5; 64];
    values[9] = f32::NAN;
    folder.put_matrix("nan.npy", "<f4", "False", "(1, 64)", &single(&values));
    refused("nan.npy", 2, &["NaN at row 0, column 9"]);
    values[9] = -1e17;
    folder.put_matrix("large.npy", "<f4", "False", "(1, 64)", &single(&values));
    refused("large.npy", 2, &["-1e17 at index 9"]);
    let huge = fs::File::create(folder.path("huge.npy")).unwrap();
    folder.put_matrix("huge.npy", "<f4", "False", "(1000000, 64)", &[]);
    huge.set_len(300 << 20).unwrap();
    refused("huge.npy", 2, &["more than 32 MiB"]);

    folder.done("a.png --size 32x32 --pca 3 --out basis");
    let bytes = fs::read(folder.path("basis/pca.safetensors")).unwrap();
    let changed = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        let mut changed = bytes.clone();
        changed[at..][..to.len()].copy_from_slice(to.as_bytes());
        fs::write(folder.path("changed.safetensors"), changed).unwrap();
    };
    changed("\"mean\"", "\"main\"");
    refused("changed.safetensors", 2, &["no tensor mean"]);
    changed("\"components\"", "\"componentz\"");
    refused("changed.safetensors", 2, &["no tensor components"]);
    changed("[3,64]", "[64,3]");
    refused("changed.safetensors", 2, &["mean of 64", "[64, 3]"]);
    changed("[3,64]", "[3,65]");
    refused("changed.safetensors", 2, &["components"]);
    let mut not_finite = bytes.clone();
    let last_of_mean = bytes.len() - 4 * (3 + 3 * CHANNELS) - 4;
    not_finite[last_of_mean..][..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    fs::write(folder.path("changed.safetensors"), not_finite).unwrap();
    refused("changed.safetensors", 2, &["inf at index 63 of mean"]);
    fs::write(folder.path("changed.safetensors"), &bytes[..bytes.len() - 1]).unwrap();
    refused("changed.safetensors", 2, &["changed.safetensors"]);
    let checkpoint = root().join("weights/seeded/seeded.ckpt");
    refused(checkpoint.to_str().unwrap(), 2, &["PyTorch"]);
}
