// Sums of row losses and row weights, in float64, in an order that depends on the number of rows alone.
#pragma once
#include "facts.cuh"

const int SPAN = 1024, WORKERS = 256;  // rows that a block of a long sum adds up, and its threads

// What a kernel that adds up rows is given by value. `SumArguments` of arguments.py packs it.
struct Sums {
    i64 rows;                                   // or the number of partial sums; 0: the weight is given
    u64 losses, weights;                        // (rows) Acc; (rows) double
    u64 partial;                                // double[2] a block
    i64 adds_partial_sums;                      // one block adds up those of all blocks, and finishes
    i64 finishes;                               // there is one block
    u64 weight;                                 // double: given, or 0
    Column normalizer;                          // (), or not given
    double divisor;                             // the same as a number; NaN: none
    i64 is_mean;                                // else the sum
    u64 loss, total, total_weight, row_factor;  // results: Acc; double; double; double[2]
    u64 counter;      // u32 that is 0: how many blocks of a launch are done; the last finishes
    i64 before_rows;  // the row factor is found before the rows are computed
};

struct Pair { double loss, weight; };

struct Adding {  // what the threads of a block that adds up share
    Pair warps[WORKERS / 32];
    bool last;
};

// Tell one thread whether its block is the last of the launch to arrive here. The last one sets the
// counter to 0 again, for the next launch.
__device__ inline bool is_last(u64 counter) {
    bool last = atomicAdd((u32*)counter, 1u) == gridDim.x - 1;
    if (last) *(u32*)counter = 0;
    return last;
}

// The same for all threads of a block.
__device__ inline bool comes_last(u64 counter, bool& shared) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) shared = is_last(counter);
    __syncthreads();
    __threadfence();
    return shared;
}

// The sum of of(0) to of(WORKERS - 1), in one order whatever the number of threads; every thread of the
// block gets it. The caller must not let `warps` be overwritten before all threads have read it.
template <int COUNT_OF_THREADS, class F> __device__ inline Pair added(Pair (&warps)[WORKERS / 32], F of) {
    for (int worker = threadIdx.x; worker < WORKERS; worker += COUNT_OF_THREADS) {
        Pair p = of(worker);
        for (int o = 16; o; o >>= 1) {
            p.loss += __shfl_xor_sync(0xffffffffu, p.loss, o, 32);
            p.weight += __shfl_xor_sync(0xffffffffu, p.weight, o, 32);
        }
        if (worker % 32 == 0) warps[worker / 32] = p;
    }
    __syncthreads();
    Pair all = warps[0];
    for (int n = 1; n < WORKERS / 32; ++n) {
        all.loss += warps[n].loss;
        all.weight += warps[n].weight;
    }
    return all;
}

// The sum of the partial sums of all blocks.
template <int COUNT_OF_THREADS>
__device__ inline Pair added_blocks(const Sums& s, Pair (&warps)[WORKERS / 32], i64 count) {
    return added<COUNT_OF_THREADS>(warps, [&](int worker) {
        Pair p{0.0, 0.0};
#pragma unroll 8
        for (i64 i = worker; i < count; i += WORKERS) {
            // Other blocks may just have written these numbers. Without volatile this multiprocessor's
            // first-level cache could return what stood there before.
            p.loss += ((const volatile Pair*)s.partial)[i].loss;
            p.weight += ((const volatile Pair*)s.partial)[i].weight;
        }
        return p;
    });
}

// The weight of a row by its label, as `settle` computes it.
template <class Acc> __device__ inline double weight_by_label(const Call& c, i64 row) {
    Facts<Acc> f = facts_of<Acc, true, true>(c, row, integer_at(c.labels, row));
    double weight = f.wrong ? 1.0 : (double)f.label_weight;
    return f.absent ? 0.0 : (double)f.scale * weight;
}

// What the sum of row losses is divided by.
struct Divisor {
    double weight, below;
    bool live;  // some row counts
};

__device__ inline Divisor divisor_of(const Sums& s, double weight) {
    if (s.weight) weight = *(const double*)s.weight;
    bool divides = s.normalizer.address || s.divisor == s.divisor;
    double below = s.normalizer.address ? float_at(s.normalizer, 0) : divides ? s.divisor : weight;
    // With a normalizer, rows of weight 0 still have their share of the result.
    return Divisor{weight, below, (weight == 0.0 && divides ? below : weight) != 0.0};
}

__device__ inline void write_row_factor(const Sums& s, const Divisor& d) {
    ((double*)s.row_factor)[0] = d.live ? 1.0 / d.below : 1.0;
    ((double*)s.row_factor)[1] = d.live ? 1.0 : 0.0;
}

template <class Acc> __device__ inline void finish(const Sums& s, Pair p) {
    Divisor d = divisor_of(s, p.weight);
    if (s.total) *(double*)s.total = p.loss;
    if (s.total_weight) *(double*)s.total_weight = d.weight;
    if (s.loss) *(Acc*)s.loss = (Acc)(!s.is_mean ? p.loss : d.live ? p.loss / d.below : 0.0);
    if (s.row_factor) write_row_factor(s, d);
}
