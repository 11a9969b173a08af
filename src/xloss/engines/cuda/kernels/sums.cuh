// Adds up the losses and weights of many rows, in a launch after theirs. With LABELS, the type of labels,
// it counts rows by their labels, before their launch.
#pragma once
#include "totals.cuh"

typedef Number<STORED>::Acc Acc;

#ifdef LABELS
#include "counts.cuh"  // has these two in its own way
#else
const int ROWS_OF_BLOCK = SPAN;

// The sums over rows `first` to `end` - 1. c: where weights of labels are read, if they are not in memory.
__device__ inline Pair add_rows(const Sums& s, const Call& c, Adding& room, i64 first, i64 end) {
    return added<WORKERS>(room.warps, [&](int worker) {
        Pair p{0.0, 0.0};
#pragma unroll 4
        for (i64 i = first + worker; i < end; i += WORKERS) {
            if (s.losses) p.loss += (double)((const Acc*)s.losses)[i];
            if (s.weights) p.weight += ((const double*)s.weights)[i];
            else if (c.rows) p.weight += weight_by_label<Acc>(c, i);
        }
        return p;
    });
}
#endif

__device__ inline void add_up(const Sums& s, const Call& c) {
    Adding& room = shared_memory<Adding>();
    if (s.adds_partial_sums) {
        Pair p = added_blocks<WORKERS>(s, room.warps, s.rows);
        if (threadIdx.x == 0) finish<Acc>(s, p);
        return;
    }
    i64 first = (i64)blockIdx.x * ROWS_OF_BLOCK,
        end = first + ROWS_OF_BLOCK < s.rows ? first + ROWS_OF_BLOCK : s.rows;
    Pair p = add_rows(s, c, room, first, end);
    if (threadIdx.x == 0) {
        if (s.finishes) finish<Acc>(s, p);
        else ((Pair*)s.partial)[blockIdx.x] = p;
    }
    if (!s.counter) return;
    // The last block to arrive adds up the partial sums in the order of blocks, so that the result
    // does not depend on which block was last.
    if (comes_last(s.counter, room.last)) {
        p = added_blocks<WORKERS>(s, room.warps, gridDim.x);
        if (threadIdx.x == 0) finish<Acc>(s, p);
    }
}

extern "C" __global__ void __launch_bounds__(WORKERS)
    sums(const __grid_constant__ Sums s, const __grid_constant__ Call c) {
    // The rows' launch comes next: its blocks read logits while this one adds up.
    allow_next_launch();
    await_launch_before();
    add_up(s, c);
}
