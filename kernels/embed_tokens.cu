// out = table row of every token id + position row: the beginning of CLIP's text tower (Radford et al., 2103.00020).
//
//   ids        [batch, tokens]             u32
//   table      [vocabulary, stride]        f16
//   positions  [at least tokens, width]    f32
//   out        [batch, tokens, width]      f32
//
// Needs: ids below the vocabulary's size.  Launch: grid (batch · tokens): a block a token.
// Cost: width additions a token; reads 6, writes 4 bytes a value.
//
// Mutants: 1 the position of the next token.

#include "common.cuh"

struct EmbedTokensParams {
    const uint32_t* ids;
    const half* table;
    const float* positions;
    float* out;
    uint32_t tokens, stride, width, padding;
};

constexpr int THREADS = 128;

SPEC(embed_tokens, Spec().rows(1))
extern "C" __global__ void __launch_bounds__(THREADS) embed_tokens(const __grid_constant__ EmbedTokensParams p) {
    begin_kernel();
    const uint32_t token = blockIdx.x % p.tokens;
    const size_t place = blockIdx.x;
    const half* row = p.table + static_cast<size_t>(p.ids[place]) * p.stride;
    const float* position = p.positions + static_cast<size_t>(token + (mutant(1) ? 1 : 0)) * p.width;
    for (uint32_t c = threadIdx.x; c < p.width; c += THREADS)
        p.out[place * p.width + c] = __half2float(row[c]) + position[c];
}
