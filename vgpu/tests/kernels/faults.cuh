// What the kernels of faults_*.cu share. Each commits one mistake where `fault` is 1 and is clean where it is 0. The line
// that the report must name ends in `// fault: <kernel>`.
//
//   in    256 words, word i = i     out   256 words, undefined
#pragma once

#include "instructions.cuh"

#define FAULT_KERNEL(name) extern "C" __global__ void name(unsigned* in, unsigned* out, int fault)
