//! Clusters: what a launch may ask for, what a kernel may demand, how many the device holds.

use cudarc::driver::CudaFunction;
use cudarc::driver::sys::CUfunction;

use super::extended::*;
use super::fixtures::*;

/// out[block] = its place in its cluster.
const RANKS: &str = r"
.version 8.0
.target sm_90
.address_size 64

.visible .entry ranks(.param .u64 out) DIRECTIVES
{
    .reg .b32 %r<3>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [out];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r1, %ctaid.x;
    mul.wide.u32 %rd3, %r1, 4;
    add.s64 %rd2, %rd2, %rd3;
    mov.u32 %r2, %cluster_ctaid.x;
    st.global.u32 [%rd2], %r2;
    ret;
}
";

fn ranks(directives: &str) -> String {
    RANKS.replace("DIRECTIVES", directives)
}

type Set = unsafe extern "C" fn(CUfunction, u32, i32) -> u32;
type Get = unsafe extern "C" fn(*mut i32, u32, CUfunction) -> u32;
type Occupancy = unsafe extern "C" fn(*mut i32, CUfunction, *const Config<'_>) -> u32;

/// CU_FUNC_ATTRIBUTE_*
const MUST_BE_SET: u32 = 10;
const WIDTH: u32 = 11;
const HEIGHT: u32 = 12;
const DEPTH: u32 = 13;
const NON_PORTABLE: u32 = 14;
const POLICY: u32 = 15;

fn set(kernel: &CudaFunction, number: u32, value: i32) -> u32 {
    // SAFETY: takes a living function and numbers.
    unsafe { driver_function::<Set>("cuFuncSetAttribute")(kernel.cu_function(), number, value) }
}

fn get(kernel: &CudaFunction, number: u32) -> i32 {
    let mut value = -7;
    // SAFETY: a pointer to this frame's variable.
    let code = unsafe { driver_function::<Get>("cuFuncGetAttribute")(&mut value, number, kernel.cu_function()) };
    assert_eq!(code, 0, "attribute {number}");
    value
}

fn occupancy(name: &str, kernel: &CudaFunction, config: &Config<'_>) -> Result<i32, u32> {
    let mut answer = -7;
    // SAFETY: a pointer to this frame's variable; the configuration lives through the call.
    match unsafe { driver_function::<Occupancy>(name)(&mut answer, kernel.cu_function(), config) } {
        0 => Ok(answer),
        code => Err(code),
    }
}

#[test]
fn a_cluster_divides_its_grid_and_is_no_larger_than_allowed() {
    let said = on_h100("driver::clusters::a_cluster_divides_its_grid_and_is_no_larger_than_allowed", &[&[]], |gpu| {
        let stream = gpu.new_stream().expect("a stream");
        let kernel = function(&gpu, &ranks(""), "ranks");
        let out = stream.alloc_zeros::<u32>(32).expect("memory");
        let mut address = cudarc::driver::DevicePtr::device_ptr(&out, &stream).0;
        let mut launch = |kernel: &CudaFunction, grid: u32, cluster: [u32; 3]| {
            let attributes = [attribute(CLUSTER, &cluster)];
            launch_with(
                &Config::new(&stream, [grid, 1, 1], 32, 0, &attributes),
                kernel,
                &mut [(&raw mut address).cast()],
            )
        };
        assert_eq!(launch(&kernel, 8, [4, 1, 1]), 0);
        assert_eq!(stream.clone_dtoh(&out).expect("a copy")[..8], [0, 1, 2, 3, 0, 1, 2, 3]);
        assert_eq!(launch(&kernel, 8, [1, 1, 1]), 0);
        assert_eq!(launch(&kernel, 8, [3, 1, 1]), 912);
        assert_eq!(launch(&kernel, 8, [0, 1, 1]), 912);
        assert_eq!(launch(&kernel, 8, [4, 2, 1]), 912, "the grid has one row");
        assert_eq!(launch(&kernel, 16, [16, 1, 1]), 912);
        assert_eq!(set(&kernel, NON_PORTABLE, 1), 0);
        assert_eq!(launch(&kernel, 16, [16, 1, 1]), 0);
        assert_eq!(launch(&kernel, 32, [32, 1, 1]), 912);
        let narrow = function(&gpu, &ranks(".maxclusterrank 2"), "ranks");
        assert_eq!(launch(&narrow, 8, [2, 1, 1]), 0);
        assert_eq!(launch(&narrow, 8, [4, 1, 1]), 912);
        // A refused launch is not sticky.
        stream.synchronize().expect("alive");
    });
    for child in said {
        assert!(child.contains("they do not divide its grid [8, 1, 1]"), "{child}");
        assert!(child.contains("the most are 8 (8; 16 with"), "{child}");
    }
}

#[test]
fn a_kernel_demands_its_cluster() {
    on_h100("driver::clusters::a_kernel_demands_its_cluster", &[&[]], |gpu| {
        let stream = gpu.new_stream().expect("a stream");
        let out = stream.alloc_zeros::<u32>(32).expect("memory");
        let mut address = cudarc::driver::DevicePtr::device_ptr(&out, &stream).0;
        let mut launch = |kernel: &CudaFunction, attributes: &[Attribute]| {
            launch_with(&Config::new(&stream, [8, 1, 1], 32, 0, attributes), kernel, &mut [(&raw mut address).cast()])
        };
        let of = |x: u32| [attribute(CLUSTER, &[x, 1, 1])];
        // By its code.
        let pairs = function(&gpu, &ranks(".explicitcluster .reqnctapercluster 2, 1, 1"), "ranks");
        assert_eq!([WIDTH, HEIGHT, DEPTH].map(|number| get(&pairs, number)), [2, 1, 1]);
        assert_eq!(launch(&pairs, &[]), 0);
        assert_eq!(stream.clone_dtoh(&out).expect("a copy")[..8], [0, 1, 0, 1, 0, 1, 0, 1]);
        assert_eq!(launch(&pairs, &of(2)), 0);
        assert_eq!(launch(&pairs, &of(4)), 912);
        assert_eq!(set(&pairs, WIDTH, 4), 800, "what was compiled in cannot be changed");
        // By its attributes.
        let free = function(&gpu, &ranks(""), "ranks");
        assert_eq!([MUST_BE_SET, WIDTH, NON_PORTABLE, POLICY].map(|number| get(&free, number)), [0; 4]);
        for (number, value) in [(WIDTH, 4), (HEIGHT, 1), (DEPTH, 1), (POLICY, 2)] {
            assert_eq!(set(&free, number, value), 0);
            assert_eq!(get(&free, number), value);
        }
        assert_eq!(launch(&free, &[]), 0);
        assert_eq!(stream.clone_dtoh(&out).expect("a copy")[..8], [0, 1, 2, 3, 0, 1, 2, 3]);
        assert_eq!(launch(&free, &of(2)), 912);
        assert_eq!(set(&free, HEIGHT, 0), 0);
        assert_eq!(launch(&free, &[]), 912, "all three are set, or none");
        for (number, value) in [(WIDTH, -1), (MUST_BE_SET, 2), (NON_PORTABLE, 2), (POLICY, 3), (16, 0)] {
            assert_eq!(set(&free, number, value), 1, "{number} {value}");
        }
        // The launch must say it.
        let explicit = function(&gpu, &ranks(".explicitcluster"), "ranks");
        assert_eq!(get(&explicit, MUST_BE_SET), 1);
        assert_eq!(launch(&explicit, &[]), 912);
        assert_eq!(launch(&explicit, &of(8)), 0);
        let asked = function(&gpu, &ranks(""), "ranks");
        assert_eq!(set(&asked, MUST_BE_SET, 1), 0);
        assert_eq!(launch(&asked, &[]), 912);
        assert_eq!(launch(&asked, &of(1)), 0);
    });
}

#[test]
fn clusters_fill_the_gpcs() {
    on_h100("driver::clusters::clusters_fill_the_gpcs", &[&[]], |gpu| {
        let stream = gpu.new_stream().expect("a stream");
        let kernel = function(&gpu, &ranks(""), "ranks");
        assert_eq!(set(&kernel, 8, 200 << 10), 0, "dynamic shared memory");
        let active = |blocks: u32, shared: u32| {
            let attributes = [attribute(CLUSTER, &[blocks, 1, 1])];
            occupancy(
                "cuOccupancyMaxActiveClusters",
                &kernel,
                &Config::new(&stream, [16 * blocks, 1, 1], 128, shared, &attributes),
            )
        };
        // One block a multiprocessor: 132 in pairs, 120 in fours, 112 in eights.
        assert_eq!([2, 4, 8].map(|blocks| active(blocks, 200 << 10)), [Ok(66), Ok(30), Ok(14)]);
        // Two blocks a multiprocessor.
        assert_eq!(active(2, 100 << 10), Ok(132));
        assert_eq!(active(16, 200 << 10), Err(912));
        let plain = Config::new(&stream, [16, 1, 1], 128, 200 << 10, &[]);
        assert_eq!(occupancy("cuOccupancyMaxActiveClusters", &kernel, &plain), Err(912), "of what size?");
        let largest = |kernel| occupancy("cuOccupancyMaxPotentialClusterSize", kernel, &plain);
        assert_eq!(largest(&kernel), Ok(8));
        assert_eq!(set(&kernel, NON_PORTABLE, 1), 0);
        assert_eq!(largest(&kernel), Ok(16));
        assert_eq!(active(16, 200 << 10), Ok(6));
        let pairs = function(&gpu, &ranks(".reqnctapercluster 2, 1, 1"), "ranks");
        assert_eq!(set(&pairs, 8, 200 << 10), 0);
        assert_eq!(largest(&pairs), Ok(2));
        assert_eq!(occupancy("cuOccupancyMaxActiveClusters", &pairs, &plain), Ok(66));
    });
}

#[test]
fn devices_without_clusters_refuse_them() {
    let Some(gpu) = context() else { return };
    let stream = gpu.new_stream().expect("a stream");
    let kernel = function(&gpu, SCALE, "scale");
    let pairs = [attribute(CLUSTER, &[2, 1, 1])];
    let clustered = Config::new(&stream, [2, 1, 1], 32, 0, &pairs);
    let mut nothing = [0u64; 4];
    let mut arguments = nothing.each_mut().map(|argument| std::ptr::from_mut(argument).cast());
    assert_eq!(launch_with(&clustered, &kernel, &mut arguments), 801);
    assert_eq!(set(&kernel, NON_PORTABLE, 1), 1);
    let plain = Config::new(&stream, [2, 1, 1], 32, 0, &[]);
    assert_eq!(occupancy("cuOccupancyMaxPotentialClusterSize", &kernel, &plain), Ok(1));
}

#[test]
fn attributes_are_hints_or_known_or_refused() {
    let said = on_h100("driver::clusters::attributes_are_hints_or_known_or_refused", &[&[]], |gpu| {
        let stream = gpu.new_stream().expect("a stream");
        let kernel = function(&gpu, SCALE, "scale");
        let x = stream.alloc_zeros::<f32>(64).expect("memory");
        let x = cudarc::driver::DevicePtr::device_ptr(&x, &stream).0;
        let launch = |id: u32, value: u32| scale_with(&stream, &kernel, (x, x), 1.0, 64, &[attribute(id, &[value])]);
        for id in [0, 1, 2, 3, 5, 6, 8, 9, 10, 11, 13, 14, 16] {
            assert_eq!(launch(id, 0), 0, "attribute {id}");
        }
        assert_eq!(launch(7, 0), 801);
        assert_eq!(launch(12, 0), 801);
        assert_eq!(launch(13, 1), 801);
        assert_eq!(launch(5, 3), 1);
        assert_eq!(launch(14, 101), 1);
        assert_eq!(launch(15, 0), 1);
        assert_eq!(launch(99, 0), 1);
        stream.synchronize().expect("done");
    });
    for child in said {
        assert!(child.contains("launch attribute 99 is not known"), "{child}");
        assert!(child.contains("launch attribute 7: events that a launch records are not emulated"), "{child}");
    }
}

#[test]
fn the_counts_tell_clusters_and_carveouts() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("counts.json");
    let setting = [("VGPU_COUNTS", file.to_str().expect("a name"))];
    let said = on_h100("driver::clusters::the_counts_tell_clusters_and_carveouts", &[&setting], |gpu| {
        let stream = gpu.new_stream().expect("a stream");
        let kernel = function(&gpu, SCALE, "scale");
        let x = stream.alloc_zeros::<f32>(128).expect("memory");
        let x = cudarc::driver::DevicePtr::device_ptr(&x, &stream).0;
        let launch = |attributes: &[Attribute]| {
            assert_eq!(scale_with(&stream, &kernel, (x, x), 1.0, 128, attributes), 0);
            stream.synchronize().expect("done");
        };
        launch(&[]);
        assert_eq!(set(&kernel, 9, 100), 0);
        assert_eq!(get(&kernel, 9), 100);
        launch(&[attribute(CLUSTER, &[2, 1, 1])]);
        launch(&[attribute(14, &[50])]);
    });
    if !said.is_empty() {
        let text = std::fs::read_to_string(&file).expect("written");
        let found = text.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            (line["cluster"].to_string(), line["carveout"].as_i64().expect("a number"))
        });
        let expected = [("[1,1,1]", -1), ("[2,1,1]", 100), ("[1,1,1]", 50)];
        assert_eq!(found.collect::<Vec<_>>(), expected.map(|(cluster, carveout)| (cluster.to_owned(), carveout)));
    }
}
