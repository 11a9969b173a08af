// What a launch of rows does before and after its rows. Where the call has few rows, the same launch
// finds the weight that a mean divides by before them and adds up their losses after them, because a
// second launch would cost more than the rows. A backward launch returns at once where the forward
// launch has written the gradient already.
#pragma once
#include "totals.cuh"

// The forward launch wrote the gradient for a cotangent of 1, which is right if the cotangent is 1.
__device__ inline bool is_written(const Call& c) {
    return c.given_statistics == 2 && float_at(c.cotangent, 0) == 1.0;
}

#if ADDS
__device__ inline Pair add_few(const Call& c, bool losses) {
    return added_rows<Acc, THREADS, WEIGHED ? 1 : 4>(c, shared_memory<Adding>().warps, losses, 0, c.rows);
}

// Every block computes the same row factor and writes it to the same place, so that no block has to
// wait for another.
__device__ inline void before_rows(const Call& c) {
    if (!c.counter || !c.before_rows) return;
    Pair p{0.0, 0.0};
    if (!c.total_weight) p = add_few(c, false);
    if (threadIdx.x == 0) write_row_factor(c, divisor_of(c, p.weight));
    __syncthreads();
}

// The last block to arrive adds up all rows in their order, so that the result does not depend on
// which block was last.
__device__ inline void after_rows(const Call& c) {
    if (!c.counter) return;
    if (!comes_last(c.counter, shared_memory<Adding>().last)) return;
    Pair p = add_few(c, true);
    if (threadIdx.x == 0) finish<Acc>(c, p);
}
#endif
