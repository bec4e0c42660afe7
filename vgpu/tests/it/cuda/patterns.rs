//! How programs load and launch: parameters in a struct, blocks that finish each other's work, a cubin with PTX to fall
//! back on.

#![allow(unsafe_code)]

use std::path::Path;

use cudarc::driver::{DevicePtr, DevicePtrMut, DeviceRepr, DriverError, PushKernelArg};
use cudarc::nvrtc::Ptx;

use super::gpu::{Counts, Gpu, Refused, launch_config};
use super::kernels;
use crate::children::{SCHEDULES, in_children};
use crate::library::kernels_directory;
use crate::random::Random;

const MODULE: &str = "host_patterns.ptx";

/// `Scaling` of host_patterns.cu.
#[derive(Clone, Copy)]
#[repr(C)]
struct Scaling {
    input: u64,
    output: u64,
    stride: i64,
    count: i32,
    scale: f32,
    shifts: [i32; 12],
    signs: [u8; 5],
    power: i8,
    last: u16,
    bias: f64,
    unused: u64,
}

// SAFETY: it lies in memory as the kernel's struct does (104 bytes), and any bits of it are values.
unsafe impl DeviceRepr for Scaling {}

#[test]
fn a_struct_is_a_parameter() {
    let Some(kernels) = kernels_directory() else { return };
    const { assert!(size_of::<Scaling>() == 104) };
    let gpu = Gpu::new();
    let (count, stride) = (70, 3);
    let values = Random(1).floats(count * stride, 1.0);
    let shifts: [i32; 12] = std::array::from_fn(|i| 100 * i as i32 - 500);
    let (scale, signs, power, last, bias) = (0.5f32, [0, 1, 1, 0, 1], -2i8, 69u16, 0.125f64);
    for name in ["struct_by_value", "struct_in_place"] {
        let kernel = gpu.kernel(&kernels.join(MODULE), name, 0);
        let (input, mut output) = (gpu.upload(&values), gpu.undefined::<f32>(count));
        let parameters = Scaling {
            input: input.device_ptr(&gpu.stream).0,
            output: output.device_ptr_mut(&gpu.stream).0,
            stride: stride as i64,
            count: count as i32,
            scale,
            shifts,
            signs,
            power,
            last,
            bias,
            unused: 0,
        };
        let mut launch = gpu.stream.launch_builder(&kernel);
        launch.arg(&parameters);
        gpu.run(launch, launch_config((3, 1, 1), 32, 0)).unwrap_or_else(|refused| panic!("{name}: {refused:?}"));
        for (i, found) in gpu.stream.clone_dtoh(&output).expect("a copy").into_iter().enumerate() {
            let sign = if signs[i % 5] == 0 { 1.0 } else { -1.0 };
            let shift = (f64::from(shifts[i % 12]) + bias) as f32;
            let sum = (sign * values[i * stride] * scale).mul_add(1.0, shift);
            let expected = if i == usize::from(last) { sum / 4.0 } else { sum };
            assert_eq!(found, expected, "{name}: element {i}");
        }
    }
}

/// `Split` of host_patterns.cu.
#[derive(Clone, Copy)]
#[repr(C)]
struct Split {
    input: u64,
    partial: u64,
    output: u64,
    finished: u64,
    rows: i32,
    columns: i32,
    fenced: i32,
}

// SAFETY: as above.
unsafe impl DeviceRepr for Split {}

/// Sums of columns by blocks of which the last adds the others' parts; what two launches one after the other gave.
fn split_sum(kernels: &Path, fenced: bool) -> Result<Vec<Vec<f32>>, Refused> {
    let gpu = Gpu::new();
    let (rows, columns, parts) = (50usize, 70usize, 7u32);
    // Whole numbers: every order of additions gives the same sum.
    let values: Vec<f32> = (0..rows * columns).map(|i| (i % 97) as f32).collect();
    let kernel = gpu.kernel(&kernels.join(MODULE), "split_sum", 0);
    let input = gpu.upload(&values);
    let mut partial = gpu.undefined::<f32>(parts as usize * columns);
    let mut finished = gpu.upload(&[0u32; 3]);
    let mut results = Vec::new();
    for _ in 0..2 {
        let mut output = gpu.undefined::<f32>(columns);
        let parameters = Split {
            input: input.device_ptr(&gpu.stream).0,
            partial: partial.device_ptr_mut(&gpu.stream).0,
            output: output.device_ptr_mut(&gpu.stream).0,
            finished: finished.device_ptr_mut(&gpu.stream).0,
            rows: rows as i32,
            columns: columns as i32,
            fenced: i32::from(fenced),
        };
        let mut launch = gpu.stream.launch_builder(&kernel);
        launch.arg(&parameters);
        gpu.run(launch, launch_config((3, parts, 1), 32, 0))?;
        results.push(gpu.stream.clone_dtoh(&output).expect("a copy"));
    }
    Ok(results)
}

#[test]
fn the_last_block_may_read_what_fenced_blocks_left() {
    let Some(kernels) = kernels_directory() else { return };
    in_children("cuda::patterns::the_last_block_may_read_what_fenced_blocks_left", SCHEDULES, || {
        let expected: Vec<f32> =
            (0..70).map(|column| (0..50).map(|row| ((row * 70 + column) % 97) as f32).sum()).collect();
        let results = split_sum(&kernels, true).expect("no race");
        assert_eq!(results, [expected.clone(), expected]);
        let refused = split_sum(&kernels, false).expect_err("nothing orders the parts without fences");
        assert!(refused.report.starts_with("GlobalRace in split_sum: "), "{}", refused.report);
        assert!(refused.report.contains(" reads what block "), "{}", refused.report);
    });
}

/// A GPU that refuses a cubin (209) gets the PTX, lowered to the version that older drivers take.
#[test]
fn after_a_refused_cubin_comes_lowered_ptx() {
    let Some(kernels) = kernels_directory() else { return };
    let cubin = std::fs::read(kernels.join("standardise.cubin")).expect("`cargo xtask vgpu` makes it");
    let text = std::fs::read_to_string(kernels.join("standardise.ptx")).expect("made beside it");
    let version = text.lines().find(|l| l.starts_with(".version ")).expect("PTX has a version");
    let lowered = kernels.join("standardise.lowered.ptx");
    std::fs::write(&lowered, text.replacen(version, ".version 7.4", 1)).expect("room");
    let devices: &[&[(&str, &str)]] =
        &[&[("VGPU_DEVICE", "a100")], &[("VGPU_DEVICE", "orin")], &[("VGPU_DEVICE", "blackwell")]];
    in_children("cuda::patterns::after_a_refused_cubin_comes_lowered_ptx", devices, || {
        let gpu = Gpu::new();
        let refused = gpu.load(Ptx::from_binary(cubin)).expect_err("no virtual GPU runs machine code");
        let DriverError(code) = refused;
        assert_eq!(code as u32, 209);
        // The context is well; the same program goes on.
        let counts: Counts = kernels::standardise(&lowered, 5, 192).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert!(counts["issued"] > 0);
    });
}
