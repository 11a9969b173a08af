// What the launches of one call leave for each other in global memory, where a row takes several.
#pragma once
#include "settle.cuh"

// What each block of a row leaves. LEFT: the bytes that the host has made room for.
struct Left {
    Piece<Acc> pieces[Threads::WARPS];
    Threads::Sum sums[COUNT];
};
static_assert(sizeof(Left) <= LEFT, "launch_plan.py makes room for as much");

// Merge what the blocks of a row have left, by WIDTH lanes of a warp.
template <int WIDTH = 32> __device__ inline Piece<Acc> merge_left(const Left* left) {
    const int WARPS = Threads::WARPS;
    return merge_pieces<WIDTH, PARTS * WARPS, Acc>([&](int n) { return left[n / WARPS].pieces[n % WARPS]; });
}

__device__ inline Facts<Acc> facts_at(const Call& c, i64 row) {
    return facts_of<Acc, BY_LABEL, WEIGHED>(c, row, BY_LABEL ? integer_of<LABELS>(c.labels, row) : 0);
}

// Whether the sum below the maximum must be found once more, in float64. exp_near never returns 0: in
// a very small sum masked classes would count.
__device__ inline bool is_far(Acc top, Rest rest) { return !SUMS_AT_ONCE || !is_near(top) || rest < FEW; }

__device__ inline void row_of_nothing(const Call& c, i64 row) {
    if (c.losses) ((Acc*)c.losses)[row] = 0;
    if (c.weights) ((double*)c.weights)[row] = 0.0;
    write_stats(c, row, 0, 0.0);
}
