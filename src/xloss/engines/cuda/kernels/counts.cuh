// Counts the labels of a launch's rows that are not ignored: what a mean without weights divides by. It
// reads labels as fast as memory gives them, for rows so short that their labels are a part of the time.
#pragma once
#include "totals.cuh"

// A block reads so many vectors of 16 bytes, each thread all of its own before it waits for any.
const int LOADS = 8;

template <int SIZE> struct Unsigned;
template <> struct Unsigned<1> { typedef unsigned char Type; };
template <> struct Unsigned<2> { typedef u16 Type; };
template <> struct Unsigned<4> { typedef u32 Type; };
template <> struct Unsigned<8> { typedef u64 Type; };

const int LABEL = 1 << LABELS % 4;  // bytes; see Column
const int LABELS_OF_VECTOR = 16 / LABEL;
const int ROWS_OF_BLOCK = WORKERS * LOADS * LABELS_OF_VECTOR;  // as call.py has it
typedef Unsigned<LABEL>::Type Label;

// How many of a vector's labels are this one. The ignored label fits their type (call_arrays.py).
__device__ inline int count_in(const Vec& v, Label ignored) {
    int found = 0;
#pragma unroll
    for (int j = 0; j < LABELS_OF_VECTOR; ++j) {
        u64 bits = v.w[j * LABEL / 4] >> (j * LABEL % 4 * 8);
        if (LABEL == 8) bits |= (u64)v.w[(2 * j + 1) % 4] << 32;
        found += (Label)bits == ignored;
    }
    return found;
}

// How many rows of a block's span worker `worker` finds ignored.
__device__ inline int ignored_of(const Call& c, i64 first, i64 end, int worker) {
    Label ignored = (Label)c.ignore;
    const Label* labels = (const Label*)c.labels.address + first;
    int found = 0;
    if (end - first == ROWS_OF_BLOCK && ((u64)labels & 15) == 0) {
        Vec v[LOADS];
#pragma unroll
        for (int n = 0; n < LOADS; ++n) v[n] = load_16((const Vec*)labels + n * WORKERS + worker);
#pragma unroll
        for (int n = 0; n < LOADS; ++n) found += count_in(v[n], ignored);
    } else {
#pragma unroll 8
        for (i64 i = worker; i < end - first; i += WORKERS) found += labels[i] == ignored;
    }
    return found;
}

__device__ inline Pair add_rows(const Sums&, const Call& c, Adding& room, i64 first, i64 end) {
    return added<WORKERS>(room.warps, [&](int worker) {
        int rows = worker == 0 ? (int)(end - first) : 0;
        return Pair{0.0, (double)(rows - (c.has_ignore ? ignored_of(c, first, end, worker) : 0))};
    });
}
