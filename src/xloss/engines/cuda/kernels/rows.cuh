// The kernel of rows: their losses, statistics and gradient. Compiled once for each set of the
// constants of staging.cuh.
#pragma once
#include "gradient.cuh"
#include "left.cuh"

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

// Find the row's statistics; all threads of a row get the same. Returns false where they are known
// only in a later launch.
__device__ inline bool find_row(Mine& mine, i64 row, int part, int& turn, Shared& s, Acc& top, Rest& rest,
                                double (&values)[COUNT]) {
    const Call& c = mine.call;
    Left* left = (Left*)c.work + row * PARTS;
    Threads::Sum sums[COUNT];
    bool far = false;
    int lane = threadIdx.x & 31;
    if (c.given_statistics || STAGE > 1) await_launch_before();
    if (c.given_statistics) {
        if constexpr (STAGE == 1) return false;
        top = ((const Acc*)c.maxima)[row];
        rest = (Rest)((const double*)c.tail_sums)[row];
    } else {
        Piece<Acc> p;
        if constexpr (STAGE == 0) {
            Threads::begin();
            p = find_piece(mine, [](int) {});
            await_launch_before();
            p = Threads::merge(p, s.threads, part, turn);
            turn ^= 1;
        }
        if constexpr (STAGE == 1) {
            p = find_piece(mine, [](int) {});
            await_launch_before();
            if (lane == 0) left[part].pieces[threadIdx.x >> 5] = p;
            return false;
        }
        if constexpr (STAGE > 1) p = merge_left(left);
        top = p.m;
        rest = (Rest)(p.below + (p.tops - 1));
        far = is_far(top, rest);
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

__device__ inline void row_by_group(const Call& c, const Facts<Acc>& f, i64 row, int part, int& turn, Shared& s) {
    bool leads = part == 0 && (GROUP == THREADS ? threadIdx.x : threadIdx.x % GROUP) == 0;
    Mine mine(c, row, part);
    Whole w;
    w.dead = true;
    if (f.absent) {
        await_launch_before();
        if (STAGE == 1 || STAGE == 2) return;
        w.label = -1;
        if (leads) row_of_nothing(c, row);
    } else {
        // The second launch of three rarely needs the logits, the third only for the gradient.
        if (STAGE < 2 || (STAGE == 3 && GRAD)) mine.stage(mine.first);
        Acc at = BY_LABEL ? widened<STORED>(mine.row.element(f.label)) : (Acc)0;
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
extern "C" __global__ void CLUSTER __launch_bounds__(THREADS, AT_LEAST) rows(const __grid_constant__ Call c) {
    // See few.cuh. This must come before anything is read.
    if (is_written(c)) return;
#if ADDS
    before_rows(c);
#endif
    Shared& s = shared_memory<Shared>();
    const int TOGETHER = THREADS / GROUP;
    int part = blockIdx.x % PARTS, turn = 0;
    i64 step = (i64)(gridDim.x / PARTS) * TOGETHER;
    i64 row = (i64)(blockIdx.x / PARTS) * TOGETHER + (GROUP == THREADS ? 0 : threadIdx.x / GROUP);
    // Where a row has one block, this is usually one round: blocks that end and are replaced keep more
    // loads in flight than blocks that loop. A cluster takes long to start, and computes several rows.
    // The next row's label is read meanwhile, because its logits wait for it.
    Facts<Acc> next = facts_at(c, row < c.rows ? row : 0);
    for (; row < c.rows; row += step) {
        Facts<Acc> f = next;
        if (row + step < c.rows) next = facts_at(c, row + step);
        row_by_group(c, f, row, part, turn, s);
        if constexpr (!LIGHT && GROUP > 32) {
            // The next row's statistics must not overwrite what other threads still read.
            if constexpr (PARTS > 1 && STAGE == 0) cluster_sync();
            else __syncthreads();
        }
    }
    // See few.cuh. This must come after everything is written.
#if ADDS
    after_rows(c);
#endif
}
#endif
