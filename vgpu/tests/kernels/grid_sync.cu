// Rounds over a ring of numbers: each reads its neighbour's, and all wait for all between reading and writing.
#include <cooperative_groups.h>

extern "C" __global__ void rounds(unsigned *ring, unsigned n, unsigned count) {
    cooperative_groups::grid_group grid = cooperative_groups::this_grid();
    unsigned own = grid.thread_rank();
    for (unsigned round = 0; round < count; round++) {
        unsigned next = own < n ? ring[(own + 1) % n] : 0;
        grid.sync();
        if (own < n) ring[own] = next + 1;
        grid.sync();
    }
}

// The same without the second wait: what a block reads may be this round's or the last one's.
extern "C" __global__ void hasty_rounds(unsigned *ring, unsigned n, unsigned count) {
    cooperative_groups::grid_group grid = cooperative_groups::this_grid();
    unsigned own = grid.thread_rank();
    for (unsigned round = 0; round < count; round++) {
        unsigned next = own < n ? ring[(own + 1) % n] : 0;
        grid.sync();
        if (own < n) ring[own] = next + 1;
    }
}
