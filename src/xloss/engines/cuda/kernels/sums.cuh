// Adds up the losses and weights of many rows, in a launch after theirs, or their weights before it.
#pragma once
#include "totals.cuh"

typedef Number<STORED>::Acc Acc;

const int SPAN = 1024;  // rows that a block adds up

__device__ inline void add_up(const Call& c) {
    Adding& room = shared_memory<Adding>();
    Pair p;
    if (c.partial && gridDim.x == 1) {  // those of an earlier launch
        p = added_blocks<WORKERS>(c, room.warps, c.rows);
    } else {
        i64 first = (i64)blockIdx.x * SPAN, end = first + SPAN < c.rows ? first + SPAN : c.rows;
        p = added_rows<Acc, WORKERS, 4>(c, room.warps, c.losses != 0, first, end);
        if (gridDim.x > 1) {
            if (threadIdx.x == 0) ((Pair*)c.partial)[blockIdx.x] = p;
            // The last block to arrive adds up the partial sums in the order of blocks, so that the
            // result does not depend on which block was last.
            if (!c.counter || !comes_last(c.counter, room.last)) return;
            p = added_blocks<WORKERS>(c, room.warps, gridDim.x);
        }
    }
    if (threadIdx.x == 0) finish<Acc>(c, p);
}

extern "C" __global__ void __launch_bounds__(WORKERS) sums(const __grid_constant__ Call c) {
    // The rows' launch comes next: its blocks read logits while this one adds up.
    allow_next_launch();
    await_launch_before();
    add_up(c);
}
