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
#define ADDED , const __grid_constant__ Sums added_up

__device__ inline Pair add_few(const Call& c, const Sums& s, bool losses) {
    return added<THREADS>(shared_memory<Adding>().warps, [&](int worker) {
        Pair p{0.0, 0.0};
        for (i64 i = worker; i < c.rows; i += WORKERS) {
            // Other blocks have just written these numbers. Without volatile this multiprocessor's
            // first-level cache could return what stood there before.
            if (losses) p.loss += (double)((const volatile Acc*)s.losses)[i];
            if (s.weights) p.weight += ((const volatile double*)s.weights)[i];
            else if (s.is_mean && !s.weight) p.weight += weight_by_label<Acc>(c, i);
        }
        return p;
    });
}

// Every block computes the same row factor and writes it to the same place, so that no block has to
// wait for another.
__device__ inline void before_rows(const Call& c, const Sums& s) {
    if (!s.before_rows) return;
    Pair p{0.0, 0.0};
    if (!s.weight) p = add_few(c, s, false);
    if (threadIdx.x == 0) write_row_factor(s, divisor_of(s, p.weight));
    __syncthreads();
}

// The last block to arrive adds up all rows in their order, so that the result does not depend on
// which block was last.
__device__ inline void after_rows(const Call& c, const Sums& s) {
    if (!s.counter) return;
    if (!comes_last(s.counter, shared_memory<Adding>().last)) return;
    Pair p = add_few(c, s, true);
    if (threadIdx.x == 0) finish<Acc>(s, p);
}
#else
#define ADDED
#endif
