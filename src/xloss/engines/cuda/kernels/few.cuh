// What a launch of rows does besides: nothing where its gradient is there already; and of few rows
// it finds the mean's weight before them and adds up their losses after them.
#pragma once
#include "totals.cuh"

// The gradient was written for an upstream of 1: it stands if that is what came.
__device__ inline bool is_written(const Call& c) { return c.given_statistics == 2 && float_at(c.cotangent, 0) == 1.0; }

#if ADDS
#define ADDED , const __grid_constant__ Sums added_up

struct Few {
    Pair warps[WORKERS / 32];
    bool last;
};

__device__ inline Pair add_few(const Call& c, const Sums& s, bool losses) {
    return added<THREADS>(shared_memory<Few>().warps, [&](int worker) {
        Pair p{0.0, 0.0};
        for (i64 i = worker; i < c.rows; i += WORKERS) {
            // Other blocks have just written them: volatile, so that no cache of this one answers.
            if (losses) p.loss += (double)((const volatile Acc*)s.losses)[i];
            if (s.weights) p.weight += ((const volatile double*)s.weights)[i];
            else if (s.is_mean && !s.weight) p.weight += weight_by_label<Acc>(c, i);
        }
        return p;
    });
}

// Every block finds the same slope and writes it to the same place: no block waits for another.
__device__ inline void before_rows(const Call& c, const Sums& s) {
    if (!s.before_rows) return;
    Pair p{0.0, 0.0};
    if (!s.weight) p = add_few(c, s, false);
    if (threadIdx.x == 0) write_row_factor(s, divisor_of(s, p.weight));
    __syncthreads();
}

// The last block to come here adds up, in the order of rows: who comes last changes no bit.
__device__ inline void after_rows(const Call& c, const Sums& s) {
    if (!s.counter) return;
    if (!comes_last(s.counter, shared_memory<Few>().last)) return;
    Pair p = add_few(c, s, true);
    if (threadIdx.x == 0) finish<Acc>(s, p);
}
#else
#define ADDED
#endif
