// How programs use kernels: parameters in one struct, blocks that finish each other's work.

#include "instructions.cuh"

// 104 bytes, by value: the only parameter of the kernels below.
struct Scaling {
    const float* in;
    float* out;
    long long stride;
    int count;
    float scale;
    int shifts[12];
    unsigned char signs[5];
    signed char power;
    unsigned short last;
    double bias;
    const float* unused;
};
static_assert(sizeof(Scaling) == 104, "as the test lays it out");

__device__ __forceinline__ void scale(const Scaling& p) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= p.count) return;
    const float sign = p.signs[i % 5] ? -1.0f : 1.0f;
    float value = sign * p.in[i * p.stride] * p.scale + static_cast<float>(p.shifts[i % 12] + p.bias);
    if (i == p.last) value = ldexpf(value, p.power);
    p.out[i] = value;
}

extern "C" __global__ void struct_by_value(Scaling p) {
    scale(p);
}

// Its address may be taken without a copy.
extern "C" __global__ void struct_in_place(const __grid_constant__ Scaling p) {
    scale(p);
}

// Sums of columns. Each block adds its part of the rows and leaves it at partial[blockIdx.y]; the last one to finish a stretch of
// columns adds them up, as a split product does.
struct Split {
    const float* in;
    float* partial;
    float* out;
    unsigned* finished;
    int rows;
    int columns;
    int fenced;
};

extern "C" __global__ void split_sum(Split p) {
    __shared__ bool last;
    const int column = blockIdx.x * blockDim.x + threadIdx.x;
    const int each = (p.rows + gridDim.y - 1) / gridDim.y;
    const int first = blockIdx.y * each;
    if (column < p.columns) {
        float sum = 0.0f;
        for (int row = first; row < min(first + each, p.rows); row++) sum += p.in[row * p.columns + column];
        p.partial[blockIdx.y * p.columns + column] = sum;
    }
    if (p.fenced) __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(&p.finished[blockIdx.x], 1) == gridDim.y - 1;
        // Ready for the next launch.
        if (last) p.finished[blockIdx.x] = 0;
    }
    __syncthreads();
    if (!last) return;
    if (p.fenced) __threadfence();
    if (column < p.columns) {
        float sum = 0.0f;
        for (int part = 0; part < gridDim.y; part++) sum += p.partial[part * p.columns + column]; // fault: split_sum
        p.out[column] = sum;
    }
}
