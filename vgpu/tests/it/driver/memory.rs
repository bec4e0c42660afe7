//! Device memory, page-locked memory and copies.

use cudarc::driver::sys;
use cudarc::driver::{DevicePtr, PushKernelArg};

use super::fixtures::*;

#[test]
fn freed_memory_is_refused_by_copies_and_caught_in_kernels() {
    let Some(gpu) = context() else { return };
    let stream = gpu.default_stream();
    let kernel = function(&gpu, SCALE, "scale");
    let x = stream.alloc_zeros::<f32>(64).expect("memory");
    let y = stream.alloc_zeros::<f32>(64).expect("memory");
    let address = x.device_ptr(&stream).0;
    let y_address = y.device_ptr(&stream).0;
    drop(x);
    stream.synchronize().expect("freed");
    // SAFETY: the host's side is 4 bytes; the device's side is what is tested.
    unsafe {
        let mut word = [0u8; 4];
        assert_eq!(raw(sys::cuMemcpyDtoH_v2(word.as_mut_ptr().cast(), address, 4)), 1);
        assert_eq!(raw(sys::cuMemcpyDtoH_v2(word.as_mut_ptr().cast(), y_address + 253, 4)), 1);
        assert_eq!(raw(sys::cuMemFree_v2(address)), 1);
        assert_eq!(raw(sys::cuMemFree_v2(0x1234)), 1);
        assert_eq!(raw(sys::cuMemFree_v2(0)), 0);
    }
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&y_address).arg(&address).arg(&1f32).arg(&64u32);
    // SAFETY: the arguments are the kernel's; the freed one is what is tested.
    unsafe { launch.launch(config(1, 64)) }.expect("queued");
    assert_eq!(code(stream.synchronize()), 700);
    assert!(text_of(b"vgpu_last_fault").contains("UseAfterFree"), "{}", text_of(b"vgpu_last_fault"));
}

#[test]
fn memory_runs_out_at_the_size_of_the_profile() {
    let Some(gpu) = context() else { return };
    let stream = gpu.default_stream();
    // SAFETY: never touched.
    let most = unsafe { stream.alloc::<u8>(25 << 30) };
    assert_eq!(code(most), 2);
    let (free, total) = gpu.mem_get_info().expect("numbers");
    assert!(total == 24 << 30 && free <= total);
}

#[test]
fn a_download_to_pinned_memory_is_poison_until_waited_for() {
    let Some(gpu) = context() else { return };
    let stream = gpu.new_stream().expect("a stream");
    let device = stream.clone_htod(&[1u32, 2, 3, 4]).expect("a copy");
    // SAFETY: overwritten by the download.
    let mut pinned = unsafe { gpu.alloc_pinned::<u32>(4) }.expect("memory");
    let raw_host = pinned.as_mut_ptr().expect("a pointer");
    let address = device.device_ptr(&stream).0;
    // SAFETY: both sides are 16 bytes and live to the end of the test.
    unsafe {
        assert_eq!(raw(sys::cuMemcpyDtoHAsync_v2(raw_host.cast(), address, 16, stream.cu_stream())), 0);
        assert_eq!(std::slice::from_raw_parts(raw_host, 4), [0xcdcd_cdcd; 4]);
        stream.synchronize().expect("done");
        assert_eq!(std::slice::from_raw_parts(raw_host, 4), [1, 2, 3, 4]);
        // An upload takes what is there when the stream gets to it, not when it was asked for.
        assert_eq!(raw(sys::cuMemcpyHtoDAsync_v2(address, raw_host.cast(), 16, stream.cu_stream())), 0);
        raw_host.write(9);
    }
    assert_eq!(stream.clone_dtoh(&device).expect("a copy"), [9, 2, 3, 4]);
}

#[test]
fn rows_of_a_two_dimensional_copy_keep_their_pitch() {
    let Some(gpu) = context() else { return };
    let stream = gpu.new_stream().expect("a stream");
    let device = stream.alloc_zeros::<u8>(12).expect("memory");
    let source = [1u8, 2, 3, 4, 5, 6];
    let copy = sys::CUDA_MEMCPY2D {
        srcXInBytes: 0,
        srcY: 0,
        srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
        srcHost: source.as_ptr().cast(),
        srcDevice: 0,
        srcArray: std::ptr::null_mut(),
        srcPitch: 3,
        dstXInBytes: 1,
        dstY: 1,
        dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        dstHost: std::ptr::null_mut(),
        dstDevice: device.device_ptr(&stream).0,
        dstArray: std::ptr::null_mut(),
        dstPitch: 4,
        WidthInBytes: 2,
        Height: 2,
    };
    // SAFETY: the source holds two rows of three bytes, the destination three of four.
    assert_eq!(raw(unsafe { sys::cuMemcpy2DAsync_v2(&copy, stream.cu_stream()) }), 0);
    let rows = stream.clone_dtoh(&device).expect("a copy");
    assert_eq!(rows, [0, 0, 0, 0, 0, 1, 2, 0, 0, 4, 5, 0]);
}

#[test]
fn mapped_host_memory_is_what_the_kernel_sees() {
    let Some(Captured { gpu, stream, kernel, .. }) = ready_to_capture() else { return };
    gpu.bind_to_thread().expect("bound");
    let mut host = std::ptr::null_mut();
    let mut view = 0;
    // SAFETY: 32 bytes are allocated, as eight floats: x, then y.
    unsafe {
        assert_eq!(raw(sys::cuMemHostAlloc(&mut host, 32, 2)), 0);
        assert_eq!(raw(sys::cuMemHostGetDevicePointer_v2(&mut view, host, 0)), 0);
        let floats = host.cast::<f32>();
        for i in 0..4 {
            floats.add(i).write(i as f32);
        }
        let mut launch = stream.launch_builder(&kernel);
        let (y, a, n) = (view + 16, 2f32, 4u32);
        launch.arg(&y).arg(&view).arg(&a).arg(&n);
        launch.launch(config(1, 32)).expect("a launch");
        stream.synchronize().expect("done");
        assert_eq!(std::slice::from_raw_parts(floats.add(4), 4), [0.0, 2.0, 4.0, 6.0]);
        assert_eq!(raw(sys::cuMemFreeHost(host)), 0);
        assert_eq!(raw(sys::cuMemFreeHost(host)), 1);
    }
}
