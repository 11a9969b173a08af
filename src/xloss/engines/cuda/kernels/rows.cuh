// The kernel of rows: their losses, statistics and gradient. Compiled once for each set of the
// constants of passes.cuh.
#pragma once
#include "gradient.cuh"

#include "few.cuh"  // after settle.cuh, whose Acc and THREADS it uses

#if PARTS > 1 && STAGE == 0
#define CLUSTER __cluster_dims__(PARTS, 1, 1)
#else
#define CLUSTER
#endif

struct Shared {
    Threads::Shared threads;
    Whole whole;
};

// What each block of a row leaves in global memory for the next of three launches.
struct Left {
    Piece<Acc> pieces[Threads::WARPS];
    Threads::Sum sums[COUNT];
};
static_assert(sizeof(Left) <= 320, "call.py makes room for as much");

__device__ inline void row_of_nothing(const Call& c, i64 row) {
    if (c.losses) ((Acc*)c.losses)[row] = 0;
    if (c.weights) ((double*)c.weights)[row] = 0.0;
    write_stats(c, row, 0, 0.0);
}

// Find the row's statistics; all threads of a row get the same. Returns false where they are known
// only in a later launch.
__device__ inline bool find_row(Mine& mine, i64 row, int part, int& turn, Shared& s, Acc& top, Rest& rest,
                                double (&values)[COUNT]) {
    const Call& c = mine.call;
    Left* left = (Left*)c.work + row * PARTS;
    Threads::Sum sums[COUNT];
    bool far = false;
    int lane = threadIdx.x & 31;
    if (c.given_statistics) {
        if constexpr (STAGE == 1) return false;
        top = ((const Acc*)c.maxima)[row];
        rest = (Rest)((const double*)c.tail_sums)[row];
    } else {
        Piece<Acc> p;
        if constexpr (STAGE == 0) {
            Threads::begin();
            p = Threads::merge(find_piece(mine), s.threads, part, turn);
            turn ^= 1;
        }
        const int WARPS = Threads::WARPS;
        if constexpr (STAGE == 1) {
            p = find_piece(mine);
            if (lane == 0) left[part].pieces[threadIdx.x >> 5] = p;
            return false;
        }
        if constexpr (STAGE > 1)
            p = merge_pieces<PARTS * WARPS, Acc>([&](int n) { return left[n / WARPS].pieces[n % WARPS]; });
        top = p.m;
        rest = (Rest)(p.below + (p.tops - 1));
        // exp_near never returns 0: in so small a sum, masked classes would count.
        far = !SUMS_AT_ONCE || !is_near(top) || rest < FEW;
    }
    if (MIXED || far) {
        if constexpr (STAGE == 0 || STAGE == 2) {
            if (far) find_far(mine, top, sums);
            find_mixture(mine, row, top, sums);
            Threads::add(sums, s.threads, part);
        }
        if (STAGE == 2 && threadIdx.x == 0)
            for (int n = 0; n < COUNT; ++n) left[part].sums[n] = sums[n];
        if constexpr (STAGE == 3) {
            for (int n = 0; n < COUNT; ++n) sums[n] = lane < PARTS ? left[lane].sums[n] : Threads::Sum{};
            add_lanes<32>(sums);
        }
        if (far) rest = (Rest)(sums[BELOW].value() * DOWN + (sums[TOPS].value() - 1.0));
        for (int n = 0; n < COUNT; ++n) values[n] = sums[n].value();
    }
    return STAGE != 2;
}

__device__ inline void row_by_group(const Call& c, i64 row, int part, int& turn, Shared& s) {
    bool leads = part == 0 && (GROUP == THREADS ? threadIdx.x : threadIdx.x % GROUP) == 0;
    i64 y = BY_LABEL ? integer_of<LABELS>(c.labels, row) : 0;
    Facts<Acc> f = facts_of<Acc, BY_LABEL, WEIGHED>(c, row, y);
    Row x(c.x, row, c.classes);
    Mine mine(x, c, part);
    Whole w;
    w.dead = true;
    if (f.absent) {
        if (STAGE == 1 || STAGE == 2) return;
        w.label = -1;
        if (leads) row_of_nothing(c, row);
    } else {
        // The second launch of three rarely needs the logits, the third only for the gradient.
        if (STAGE < 2 || (STAGE == 3 && GRAD)) mine.stage(mine.first);
        Acc at = BY_LABEL ? widened<STORED>(x.element(f.label)) : (Acc)0;
        Acc top;
        Rest rest;
        double values[COUNT];
        if (!find_row(mine, row, part, turn, s, top, rest, values)) return;
#if LIGHTLY
        if (GRAD || threadIdx.x < 32 || GROUP <= 32) w = settle_light(c, at, row, f, top, rest, leads);
#else
        // One warp of a whole block settles the row, because many GPUs compute float64 slowly.
        if (GROUP <= 32 || threadIdx.x < 32) w = settle(c, at, row, f, top, rest, values, leads);
#endif
    }
    if constexpr (GRAD) {
        if constexpr (GROUP > 32 && !LIGHT) {
            if (threadIdx.x == 0) s.whole = w;
            __syncthreads();
            w = s.whole;
        }
        write_gradient(mine, w, row);
    }
}

#if !PIXELS
extern "C" __global__ void CLUSTER __launch_bounds__(THREADS) rows(const __grid_constant__ Call c ADDED) {
    // See few.cuh. This must come before anything is read.
    if (is_written(c)) return;
#if ADDS
    before_rows(c, added_up);
#endif
    Shared& s = shared_memory<Shared>();
    const int TOGETHER = THREADS / GROUP;
    const bool IN_CLUSTER = PARTS > 1 && STAGE == 0;
    int part = blockIdx.x % PARTS, turn = 0;
    i64 step = (i64)(gridDim.x / PARTS) * TOGETHER;
    i64 row = (i64)(blockIdx.x / PARTS) * TOGETHER + (GROUP == THREADS ? 0 : threadIdx.x / GROUP);
    // Usually one round: blocks that end and are replaced keep more loads in flight than blocks that
    // loop.
    for (; row < c.rows; row += step) {
        row_by_group(c, row, part, turn, s);
        if constexpr (!LIGHT && GROUP > 32) {
            // The next row's statistics must not overwrite what other threads still read.
            if constexpr (IN_CLUSTER) cluster_sync();
            else __syncthreads();
        }
    }
    // See few.cuh. This must come after everything is written.
#if ADDS
    after_rows(c, added_up);
#endif
}
#endif
