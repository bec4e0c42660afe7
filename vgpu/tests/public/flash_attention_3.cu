// The forward pass of FlashAttention-3 for heads of 64, called as its PyTorch extension does.

#include <cstring>
#include "flash_fwd_launch_template.h"

template <bool CAUSAL>
static void run(Flash_fwd_params& p) {
    run_flash_fwd<90, 64, 64, 1, cutlass::half_t, cutlass::half_t, CAUSAL, false, false, false, false, false, false, false, false,
                  false>(p, 0);
}

// q, k, v, o: [tokens, heads, 64] f16 of one batch; lse: [heads, queries] f32; semaphore: an integer, 0.
extern "C" void forward(void* q, void* k, void* v, void* o, void* lse, int queries, int keys, int heads, int causal,
                        int* semaphore) {
    Flash_fwd_params p;
    memset(&p, 0, sizeof p);
    p.q_ptr = q, p.k_ptr = k, p.v_ptr = v, p.o_ptr = o, p.softmax_lse_ptr = lse;
    p.q_row_stride = p.k_row_stride = p.v_row_stride = p.o_row_stride = heads * 64;
    p.q_head_stride = p.k_head_stride = p.v_head_stride = p.o_head_stride = 64;
    p.q_batch_stride = p.o_batch_stride = int64_t(queries) * heads * 64;
    p.k_batch_stride = p.v_batch_stride = int64_t(keys) * heads * 64;
    p.v_dim_stride = 1;
    p.h = p.h_k = heads, p.b = p.b_k = 1, p.seqlen_q = queries, p.seqlen_k = keys, p.d = p.dv = 64;
    p.scale_softmax = 0.125f;
    p.window_size_left = -1, p.window_size_right = causal ? 0 : -1;
    p.is_causal = causal, p.num_splits = 1, p.arch = 90, p.num_sm = 4;
    p.tile_count_semaphore = semaphore;
    causal ? run<true>(p) : run<false>(p);
}
