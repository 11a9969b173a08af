// From row losses to the result: sums in float64, in an order that only the number of rows decides.
#pragma once
#include "facts.cuh"

typedef Number<STORED>::Acc Acc;
const int SPAN = 8192, WORKERS = 256;  // rows, and threads, to a block

struct Sums {  // packed by cuda.py, in this order, 8 bytes each
    i64 rows;                    // or the number of partial sums; 0: the weight is known
    u64 losses, weights;         // (rows) Acc; (rows) double
    u64 partial;                 // double[2] a block
    i64 gathers;                 // it is these that are added up
    i64 finishes;                // one block, the last to run
    u64 weight;                  // double: given, or 0
    Column normalizer;           // (), or not given
    double divisor;              // the same as a number; NaN: none
    i64 averages;                // a mean, else the sum
    u64 loss, total, total_weight, slope;  // results: Acc; double; double; double[2]
};

struct Pair {
    double loss, weight;
};

__device__ inline Pair added(Pair p) {
    Pair* each = &shared_memory<Pair[WORKERS]>()[0];
    each[threadIdx.x] = p;
    for (int n = WORKERS / 2; n; n /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < n) {
            each[threadIdx.x].loss += each[threadIdx.x + n].loss;
            each[threadIdx.x].weight += each[threadIdx.x + n].weight;
        }
    }
    return each[0];  // thread 0 wrote it
}

__device__ inline void finish(const Sums& s, Pair p) {
    if (s.weight) p.weight = *(const double*)s.weight;
    bool divides = s.normalizer.address || s.divisor == s.divisor;
    double below = s.normalizer.address ? float_at(s.normalizer, 0) : divides ? s.divisor : p.weight;
    // Rows of no weight, under the whole batch's normalizer, have their share of it.
    bool live = (p.weight == 0.0 && divides ? below : p.weight) != 0.0;
    if (s.total) *(double*)s.total = p.loss;
    if (s.total_weight) *(double*)s.total_weight = p.weight;
    if (s.loss) *(Acc*)s.loss = (Acc)(!s.averages ? p.loss : live ? p.loss / below : 0.0);
    if (s.slope) {
        ((double*)s.slope)[0] = live ? 1.0 / below : 1.0;
        ((double*)s.slope)[1] = live ? 1.0 : 0.0;
    }
}

// Call: where the rows' weights come from, if not from memory.
__device__ inline void add_up(const Sums& s, const Call& c) {
    i64 first = (i64)blockIdx.x * SPAN, end = s.finishes ? s.rows : first + SPAN;
    if (end > s.rows) end = s.rows;
    Pair p{0.0, 0.0};
    for (i64 i = first + threadIdx.x; i < end; i += WORKERS) {
        if (s.gathers) {
            p.loss += ((const Pair*)s.partial)[i].loss;
            p.weight += ((const Pair*)s.partial)[i].weight;
            continue;
        }
        if (s.losses) p.loss += (double)((const Acc*)s.losses)[i];
        if (s.weights) {
            p.weight += ((const double*)s.weights)[i];
        } else if (c.rows) {
            Facts<Acc> f = facts_of<Acc, true>(c, i);
            double weight = f.wrong ? 1.0 : (double)f.label_weight;
            p.weight += f.absent ? 0.0 : (double)f.scale * weight;
        }
    }
    p = added(p);
    if (threadIdx.x == 0) {
        if (s.finishes) finish(s, p);
        else ((Pair*)s.partial)[blockIdx.x] = p;
    }
}

extern "C" __global__ void __launch_bounds__(WORKERS) sums(const __grid_constant__ Sums s,
                                                          const __grid_constant__ Call c) {
    add_up(s, c);
}
