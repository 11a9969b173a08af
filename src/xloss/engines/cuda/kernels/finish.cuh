// The second of two launches that compute losses without a gradient: the first has left the statistics
// of rows in pieces, and none of its threads has waited for another. A row is settled by as many lanes
// as it has pieces, rounded up to a power of 2: a whole warp for a few pieces would take several times
// as long.
#pragma once
#include "left.cuh"

// As `settling` of launch_plan.py has it: this many lanes settle a row, and a block so many rows at once.
const int PIECES = PARTS * Threads::WARPS, LANES = PIECES > 16 ? 32 : PIECES > 8 ? 16 : PIECES > 4 ? 8 : 4;
const int AT_ONCE = THREADS / LANES;

struct Settling {
    Threads::Shared threads;
    Acc tops[AT_ONCE];
    bool far[AT_ONCE];
};

// The sum below the maximum, by all threads of the block, in the order of a launch that computes the
// row at once.
__device__ inline Rest far_rest(const Call& c, i64 row, Acc top, Settling& s) {
    Threads::Sum all[COUNT];
    for (int part = 0; part < PARTS; ++part) {
        Mine mine(c, row, part);
        Threads::Sum sums[COUNT];
        find_far(mine, top, sums);
        Threads::add(sums, s.threads, 0);
        for (int n = 0; n < COUNT; ++n)
            if (PARTS == 1 || (threadIdx.x & 31) == part) all[n] = sums[n];
        __syncthreads();  // the next part overwrites the sums of warps
    }
    if constexpr (PARTS > 1) add_lanes<32>(all);
    return (Rest)(all[BELOW].value() * DOWN + (all[TOPS].value() - 1.0));
}

extern "C" __global__ void __launch_bounds__(THREADS, AT_LEAST) rows(const __grid_constant__ Call c) {
    await_launch_before();
    Settling& s = shared_memory<Settling>();
    int lane = threadIdx.x % LANES, own = threadIdx.x / LANES;
    for (i64 base = (i64)blockIdx.x * AT_ONCE; base < c.rows; base += (i64)gridDim.x * AT_ONCE) {
        i64 row = base + own;
        Facts<Acc> f{0, 1, 1, true, false};
        if (row < c.rows) f = facts_at(c, row);
        Acc at = 0, top = 0;
        Rest rest = 0;
        bool far = false;
        if (!f.absent) {
            at = widened<STORED>(Row(c.x, row, c.classes).element(f.label));
            if (c.given_statistics) {
                top = ((const Acc*)c.maxima)[row];
                rest = (Rest)((const double*)c.tail_sums)[row];
            } else {
                Piece<Acc> p = merge_left<LANES>((const Left*)c.work + row * PARTS);
                top = p.m;
                rest = (Rest)(p.below + (p.tops - 1));
                far = is_far(top, rest);
            }
        }
        if (lane == 0) s.tops[own] = top, s.far[own] = far;
        __syncthreads();
        for (int n = 0; n < AT_ONCE; ++n) {
            if (!s.far[n]) continue;
            Rest found = far_rest(c, base + n, s.tops[n], s);
            if (n == own) rest = found;
        }
        if (lane == 0 && row < c.rows) {
            if (f.absent) row_of_nothing(c, row);
            else settle_light(c, at, row, f, top, rest, true);
        }
        __syncthreads();  // the next rows overwrite what is read above
    }
}
