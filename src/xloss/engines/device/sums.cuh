// From row losses to the result, in a launch of its own: where rows are many.
#pragma once
#include "totals.cuh"

typedef Number<STORED>::Acc Acc;

// Call: where the rows' weights come from, if not from memory.
__device__ inline void add_up(const Sums& s, const Call& c) {
    i64 first = (i64)blockIdx.x * SPAN, end = s.finishes ? s.rows : first + SPAN;
    if (end > s.rows) end = s.rows;
    Pair p = added<WORKERS>(shared_memory<Pair[WORKERS / 32]>(), [&](int worker) {
        Pair p{0.0, 0.0};
        for (i64 i = first + worker; i < end; i += WORKERS) {
            if (s.gathers) {
                p.loss += ((const Pair*)s.partial)[i].loss;
                p.weight += ((const Pair*)s.partial)[i].weight;
                continue;
            }
            if (s.losses) p.loss += (double)((const Acc*)s.losses)[i];
            if (s.weights) p.weight += ((const double*)s.weights)[i];
            else if (c.rows) p.weight += weight_by_label<Acc>(c, i);
        }
        return p;
    });
    if (threadIdx.x == 0) {
        if (s.finishes) finish<Acc>(s, p);
        else ((Pair*)s.partial)[blockIdx.x] = p;
    }
}

extern "C" __global__ void __launch_bounds__(WORKERS) sums(const __grid_constant__ Sums s,
                                                          const __grid_constant__ Call c) {
    add_up(s, c);
}
