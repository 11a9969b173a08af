// Sums of row losses and row weights, in float64, in an order that depends on the number of rows alone.
#pragma once
#include "facts.cuh"

const int WORKERS = 256;  // threads of a block that adds up, in whose order every block adds up

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

// The sum of what the warps of a block have left, in their order.
template <int COUNT> __device__ inline Pair sum_of_warps(const Pair (&warps)[COUNT]) {
    Pair all = warps[0];
    UNROLL for (int n = 1; n < COUNT; ++n) {
        all.loss += warps[n].loss;
        all.weight += warps[n].weight;
    }
    return all;
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
    return sum_of_warps(warps);
}

// The sum of the partial sums of all blocks.
template <int COUNT_OF_THREADS>
__device__ inline Pair added_blocks(const Call& c, Pair (&warps)[WORKERS / 32], i64 count) {
    return added<COUNT_OF_THREADS>(warps, [&](int worker) {
        Pair p{0.0, 0.0};
#pragma unroll 8
        for (i64 i = worker; i < count; i += WORKERS) {
            // Other blocks may just have written these numbers. Without volatile this multiprocessor's
            // first-level cache could return what stood there before.
            p.loss += ((const volatile Pair*)c.partial)[i].loss;
            p.weight += ((const volatile Pair*)c.partial)[i].weight;
        }
        return p;
    });
}

// The weight of a row by its label, as `settle` computes it.
template <class Acc> __device__ inline double weight_by_label(const Call& c, i64 row) {
    Facts<Acc> f = facts_of<Acc, true, WEIGHED>(c, row, integer_of<LABELS>(c.labels, row));
    double weight = f.wrong ? 1.0 : (double)f.label_weight;
    return f.absent ? 0.0 : (double)f.scale * weight;
}

// The sums of weights and, if `losses`, of losses over rows `first` to `end` - 1, of which a thread
// reads STEPS at once.
template <class Acc, int COUNT_OF_THREADS, int STEPS>
__device__ inline Pair added_rows(const Call& c, Pair (&warps)[WORKERS / 32], bool losses, i64 first, i64 end) {
    return added<COUNT_OF_THREADS>(warps, [&](int worker) {
        Pair p{0.0, 0.0};
#pragma unroll STEPS
        for (i64 i = first + worker; i < end; i += WORKERS) {
            if (losses) p.loss += (double)((const volatile Acc*)c.losses)[i];
            if (c.weights) p.weight += ((const volatile double*)c.weights)[i];
            else if (c.is_mean && !c.total_weight) p.weight += weight_by_label<Acc>(c, i);
        }
        return p;
    });
}

// What the sum of row losses is divided by.
struct Divisor {
    double below;
    bool live;  // some row counts
};

__device__ inline Divisor divisor_of(const Call& c, double weight) {
    if (c.total_weight) weight = *(const double*)c.total_weight;
    bool divides = c.normalizer.address || c.divisor == c.divisor;
    double below = c.normalizer.address ? float_at(c.normalizer, 0) : divides ? c.divisor : weight;
    // With a normalizer, rows of weight 0 still have their share of the result.
    return Divisor{below, (weight == 0.0 && divides ? below : weight) != 0.0};
}

__device__ inline void write_row_factor(const Call& c, const Divisor& d) {
    ((double*)c.row_factor)[0] = d.live ? 1.0 / d.below : 1.0;
    ((double*)c.row_factor)[1] = d.live ? 1.0 : 0.0;
}

template <class Acc> __device__ inline void finish(const Call& c, Pair p) {
    Divisor d = divisor_of(c, p.weight);
    if (c.loss) *(Acc*)c.loss = (Acc)(!c.is_mean ? p.loss : d.live ? p.loss / d.below : 0.0);
    if (c.row_factor && !c.before_rows) write_row_factor(c, d);
}
