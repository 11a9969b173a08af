// The first of two launches that compute losses without a gradient: it leaves the statistics of rows
// in pieces. A block reads one part of a row after another, and stages the next one in the places that
// become free, so that loads are always under way.
#pragma once
#include "left.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, AT_LEAST) rows(const __grid_constant__ Call c) {
    if (c.given_statistics) return;
    const i64 parts = c.rows * PARTS, each = (parts + gridDim.x - 1) / gridDim.x;
    i64 at = blockIdx.x * each, end = at + each < parts ? at + each : parts;
    if (at >= end) return;
    Mine mine(c, at / PARTS, (int)(at % PARTS));
    bool counts = !facts_at(c, at / PARTS).absent;
    if (counts) mine.stage(mine.first);
    for (; at < end; ++at) {
        i64 next = at + 1 < end ? at + 1 : at;
        bool after = !facts_at(c, next / PARTS).absent && next > at;
        Mine following(c, next / PARTS, (int)(next % PARTS));
        int count = following.set_from(following.first);
        int whole = (int)following.whole_from(following.row, following.first, count);
        auto freed = [&](int q) {
            if (ONCE && after) following.stage_chunk(following.first, count, whole, q);
        };
        if (counts) {
            Piece<Acc> p = find_piece(mine, freed);
            await_launch_before();
            if ((threadIdx.x & 31) == 0) ((Left*)c.work)[at].pieces[threadIdx.x >> 5] = p;
        }
        if (after && !(ONCE && counts)) following.stage(following.first);
        following.staged = following.first;
        mine = following;
        counts = after;
    }
}
