// What a kernel declares of itself, so that each number stands once, where the kernel has it, and the host reads it:
//
//     SPEC(gemm_64x64_float, tiles<T64x64>().variant(variant::FLOAT_INPUT))
//
// leaves in the PTX, beside the kernel, a constant that no instruction reads:
//
//     .const .align 4 .b8 spec_gemm_64x64_float[36] = {0, 192, 0, 0, 64, …};
//
// the fields below in their order, little-endian words, zeros at the end left out. build.rs reads it there, as it reads the threads
// of the launch bounds and the parameter's bytes, and writes it as `Spec` of src/device/cuda/modules.rs; it fails where a kernel
// declares none. It takes the names from this file, too: of fields from lines `uint32_t name_ = 0;`, of variants from lines
// `constexpr uint32_t NAME = n;`.
#pragma once

#include <cstdint>

struct Spec {
    // Bytes of shared memory that a launch adds.
    uint32_t shared_ = 0;
    // Rows and columns of the output that a block makes (rows, pixels, queries; columns, channels, labels): 0 where it is not by
    // tiles.
    uint32_t rows_ = 0;
    uint32_t columns_ = 0;
    // Depth of a stage (products), keys of a step (attention), values that a thread takes at once (chunks, vectors, pairs), pixels
    // taken together (strips).
    uint32_t step_ = 0;
    // The most channels or features that it serves, or taps along a side of its filter; 0: any.
    uint32_t most_ = 0;
    // Values or bytes of a block's or warp's own memory, where the host cuts work to fit.
    uint32_t room_ = 0;
    // Which of the kernels of its file it is beside that: flags.
    uint32_t variant_ = 0;
    // Blocks of a cluster, along x; 0: none.
    uint32_t cluster_ = 0;
    // Parts of the depth that blocks of a cluster sum up together; 0: it has no such blocks.
    uint32_t parts_ = 0;
    // Columns that each of these stores, and rows of a warpgroup, in whose boxes it does.
    uint32_t own_ = 0;
    uint32_t group_ = 0;

    constexpr Spec& shared(uint32_t bytes) { return shared_ = bytes, *this; }
    constexpr Spec& rows(uint32_t of_block) { return rows_ = of_block, *this; }
    constexpr Spec& columns(uint32_t of_block) { return columns_ = of_block, *this; }
    constexpr Spec& step(uint32_t values) { return step_ = values, *this; }
    constexpr Spec& most(uint32_t served) { return most_ = served, *this; }
    constexpr Spec& room(uint32_t own) { return room_ = own, *this; }
    constexpr Spec& variant(uint32_t flags) { return variant_ = flags, *this; }
    constexpr Spec& cluster(uint32_t blocks) { return cluster_ = blocks, *this; }
    constexpr Spec& parts(uint32_t of_depth) { return parts_ = of_depth, *this; }
    constexpr Spec& own(uint32_t columns) { return own_ = columns, *this; }
    constexpr Spec& group(uint32_t rows) { return group_ = rows, *this; }
};

namespace variant {

// x is f32, rounded on the way in.
constexpr uint32_t FLOAT_INPUT = 1;
// x passes a ReLU first.
constexpr uint32_t RELU_INPUT = 2;
// Channels need not be a multiple of 8.
constexpr uint32_t ANY_SHAPE = 4;
// A token looks at itself and those before it.
constexpr uint32_t CAUSAL = 8;
// Two neighbouring values are stored as one.
constexpr uint32_t PAIRS = 16;
// Warpgroups: something may be added to the results.
constexpr uint32_t ADDS = 32;
// Some of the exponentials are polynomials.
constexpr uint32_t POLYNOMIAL = 64;

} // namespace variant

#define SPEC(kernel, ...)                          \
    extern "C" {                                   \
    __constant__ Spec spec_##kernel = __VA_ARGS__; \
    }
