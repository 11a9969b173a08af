// Reads a row and finds its maximum and its sums. The compile-time constants of a kernel of rows:
//   STORED         how logits are stored          SOFT      how soft targets are stored; -1: labels
//   LABELS         how labels are stored          WEIGHED   there are weights, or `where`
//   FLAT           rows follow each other at one step
//   THREADS        threads of a block             GROUP     threads of a block that share a row
//   PARTS          blocks that share a row        VECTORS   vectors of 16 bytes that a thread stages
//   APART          one thread a row: classes do not lie side by side, or are few
//   SMOOTH, CAP    label smoothing, softcap       Z_LOSS    z-loss
//   ONCE           the whole row is staged at once
//   GRAD           the gradient is wanted
//   STAGE          0: the blocks of a row are a cluster; 1, 2, 3: the three launches that replace it
//                  on GPUs without clusters, where blocks exchange statistics in global memory
#pragma once
#include "facts.cuh"
#include "groups.cuh"

typedef Elements<STORED> E;
typedef E::Raw Raw;
typedef E::Acc Acc;
typedef RowOf<STORED, APART, FLAT> Row;
// A row of the gradient: it lies in C order, or as the logits do.
typedef RowOf<STORED, APART, APART ? FLAT : true> Target;
const int N = E::N;
const int TARGET = SOFT < 0 ? STORED : SOFT;
const bool BY_LABEL = SOFT < 0, MIXED = !BY_LABEL || SMOOTH;
const bool HALVES = sizeof(Raw) == 2;
// exp of 16-bit logits comes from the special-function unit, unless an option needs its exact value.
const bool SWIFT = HALVES && !MIXED && !CAP;
// SUMS_AT_ONCE: the sums are found in the same pass as the maximum; else in a second one, in float64.
// LIGHT: a row's loss and gradient factors are computed in float32.
#define SUMS_AT_ONCE (STORED != F64 && SOFT < 0 && !SMOOTH)
#define LIGHTLY (STORED != F64 && SOFT < 0 && !SMOOTH && !Z_LOSS)
const bool LIGHT = LIGHTLY;
template <bool FIRST, class A, class B> struct Either { typedef A Type; };
template <class A, class B> struct Either<false, A, B> { typedef B Type; };
typedef Either<LIGHT, float, double>::Type Rest;
typedef Either<ONCE, int, i64>::Type At;  // indices of vectors and of classes in a row
// The sums of a second pass, which need the maximum: exp(z - max) of the classes below it, the number
// at it; for soft or smoothed targets also the sum of weighted targets, of targets, of weighted
// targets times gaps (max - z), the number of possible classes, the sum of their weights, and of
// their weights times gaps.
enum { BELOW, TOPS, MASS, TOTAL, DOT, NUMBER, SHARE, SHARE_DOT };
const int COUNT = MIXED ? 8 : 2;
const int TOGETHER = STAGE == 0 ? PARTS : 1;  // blocks that merge their statistics within the launch
typedef Group<GROUP, TOGETHER, Acc, COUNT> Threads;
#define FEW 7.888609052210118e-31f  // 2^-100

__device__ inline Acc weight_of(const Call& c, i64 j) {
    return WEIGHED && c.class_weight.address ? (Acc)float_at(c.class_weight, j) : (Acc)1;
}

__device__ inline Acc target_at(const Call& c, i64 row, i64 j) {
    return BY_LABEL ? 0 : (Acc)widened<TARGET>(((const Number<TARGET>::Raw*)c.soft.address)[row * c.classes + j]);
}

const int UNROLLED = APART ? 4 : 2;  // loads that a thread has in flight, where it cannot copy asynchronously

// This thread's vectors of a row, staged in shared memory, VECTORS at a time. No other thread reads
// them, so that no barrier is needed. Several blocks share a multiprocessor: some load while others
// compute, which keeps memory busy.
struct Mine {
    const Row& row;
    const Call& call;
    At classes;
    At first, end;  // the range of this block's vectors
    At staged;      // the first vector of those that are staged or being copied; -1: none
    int thread;
    Vec* room;  // vector k of this thread is room[k * THREADS]

    __device__ Mine(const Row& row, const Call& call, int part)
        : row(row), call(call), classes((At)call.classes), staged(-1) {
        At all = (classes + N - 1) / N, each = (all + PARTS - 1) / PARTS;
        first = part * each;
        end = first + each < all ? first + each : all;
        thread = GROUP == THREADS ? threadIdx.x : threadIdx.x % GROUP;
        room = (Vec*)staging_memory() + threadIdx.x;
    }

    // How many of this thread's vectors, of those that are staged together from `begin` on, are whole:
    // 16 bytes of this row, at an address divisible by 16. They come before the others.
    template <class R> __device__ inline int whole_from(const R& of, At begin) const {
        if (APART || !of.is_aligned()) return 0;
        At full = classes / N, stop = full < end ? full : end;
        int here = stop - begin < GROUP * VECTORS ? (int)(stop - begin) : GROUP * VECTORS;
        return here > thread ? (here - thread + GROUP - 1) / GROUP : 0;
    }

    __device__ inline int count_from(At begin) const {
        int left = end - begin < GROUP * VECTORS ? (int)(end - begin) : GROUP * VECTORS;
        return (left + GROUP - 1) / GROUP;
    }

    // Start to stage vectors from `begin` on. Classes beyond the row are -inf.
    __device__ inline void stage(At begin) {
        int count = count_from(begin);
        staged = begin;
        int whole = whole_from(row, begin);
        const Vec* from = row.vector(begin + thread);
        Vec* to = room;
#pragma unroll 4
        for (int k = 0; k < whole; ++k) copy_async(to, from), to += THREADS, from += GROUP;
#pragma unroll UNROLLED
        for (int k = whole; k < count; ++k) {
            At i = begin + k * GROUP + thread;
            room[k * THREADS] = i < end ? row.load(i) : E::masked();
        }
    }

    // Call each(begin, count) for every set of vectors that is staged together: vector k of thread t
    // is number begin + k*GROUP + t. needed: the callback reads their values.
    template <class F> __device__ inline void sweep(F each, bool needed = true) {
        for (At s = first; s < end; s += GROUP * VECTORS) {
            if ((!ONCE || STAGE == 2) && needed && staged != s) stage(s);
            copies_arrived();
            each(s, count_from(s));
            if (ONCE) return;
        }
    }

    __device__ inline const Vec& vector(int k) const { return room[k * THREADS]; }

    __device__ inline void logits(const Vec& v, Acc (&z)[N]) const {
        E::unpack(v, z);
        if (CAP) {
#pragma unroll
            for (int j = 0; j < N; ++j) z[j] = capped(z[j], (Acc)call.softcap);
        }
    }
};

__device__ inline float total_of(const float (&e)[N]) {
    float s[N];
#pragma unroll
    for (int j = 0; j < N; ++j) s[j] = e[j];
#pragma unroll
    for (int n = N / 2; n; n /= 2) {
#pragma unroll
        for (int j = 0; j < n; ++j) s[j] += s[j + n];
    }
    return s[0];
}

// The largest of this thread's staged logits.
__device__ inline Acc largest_of(const Mine& mine, int count) {
    Vec most = E::masked();
#pragma unroll 4
    for (int k = 0; k < count; ++k) E::take_largest(most, mine.vector(k));
    Acc m = E::largest(most);
    return CAP ? capped(m, (Acc)mine.call.softcap) : m;
}

#if SUMS_AT_ONCE
// The statistics of a row of which WIDTH lanes have summed exp_near of the classes below `top`.
__device__ inline Piece<Acc> piece_of(const Near& near, float top, float sum, int tops) {
    if constexpr (SWIFT) {
        // Each 2^(z*(float)LOG2E) is too small by a factor 2^((z - top)*LOG2E_LOST). The terms that
        // make up a sum of 128 lie at most ln(128) below its logarithm, and over that distance one
        // factor, taken at the logarithm of the sum, is right for all of them.
        float gap = fmaxf(fminf(log2_fast(sum) - 64.0f, 0.0f), -190.0f);
        sum = fmaf(sum, gap * (LOG2E_LOST * 0.480453f), sum);
    }
    sum = sum_of_lanes<Threads::WIDTH>(sum) * (unit_of<SWIFT>(near, top) * (float)DOWN);
    return Piece<Acc>{top, top == (Acc)-INF ? 0.0f : sum, (float)sum_of_lanes<Threads::WIDTH>(tops)};
}
#endif

// The statistics of the staged part of a row, found by one warp or by a part of one.
__device__ inline Piece<Acc> find_staged(const Mine& mine, int count) {
    Acc top = largest_of_lanes<Threads::WIDTH>(largest_of(mine, count));
#if !SUMS_AT_ONCE
    return Piece<Acc>{top, 0, 0};
#else
    Near near = near_of(top);
    float at_top = exp_near<SWIFT>(fmaxf(top, near.least), near);
    u32 least = SWIFT ? E::pair_above(near.least) : 0;
    float sum = 0;
    int tops = 0;
#pragma unroll 4
    for (int k = 0; k < count; ++k) {
        Vec v = mine.vector(k);
        float z[N], e[N];
        if constexpr (SWIFT) {
            E::raise(v, least);
            E::unpack(v, z);
        } else {
            mine.logits(v, z);
        }
#pragma unroll
        for (int j = 0; j < N; ++j) e[j] = exp_near<SWIFT>(SWIFT ? z[j] : fmaxf(z[j], near.least), near);
        float s = total_of(e);
        // A vector that holds the maximum has a sum of at least its exp. Only in such vectors, which
        // are few, are classes compared with the maximum.
        if (s >= at_top) {
#pragma unroll
            for (int j = 0; j < N; ++j) {
                tops += z[j] == top;
                e[j] = z[j] == top ? 0.0f : e[j];
            }
            s = total_of(e);
        }
        sum += s;
    }
    return piece_of(near, top, sum, tops);
#endif
}

__device__ inline Piece<Acc> find_piece(Mine& mine) {
    Piece<Acc> p = no_piece<Acc>();
    mine.sweep([&](At s, int count) {
        Piece<Acc> found = find_staged(mine, count);
        p = s == mine.first ? found : merged(p, found);
    });
    return p;
}

// The second pass: for rows whose maximum is far from 0, for float64, and for mixtures.
__device__ inline void find_far(Mine& mine, Acc top, Threads::Sum (&sums)[COUNT]) {
    mine.sweep([&](At, int count) {
        for (int k = 0; k < count; ++k) {
            Acc z[N];
            mine.logits(mine.vector(k), z);
            double below = 0.0;
#pragma unroll
            for (int j = 0; j < N; ++j) {
                below += z[j] == top ? 0.0 : (double)exp_scaled(z[j], top);
                sums[TOPS].total += z[j] == top ? 1.0 : 0.0;
            }
            sums[BELOW].add(below);
        }
    });
}

// The sums that soft targets and label smoothing need.
__device__ inline void find_mixture(Mine& mine, i64 row, Acc top, Threads::Sum (&sums)[COUNT]) {
    if constexpr (MIXED) {
        const Call& c = mine.call;
        mine.sweep([&](At s, int count) {
            for (int k = 0; k < count; ++k) {
                At i = s + k * GROUP + mine.thread;
                Acc z[N];
                mine.logits(mine.vector(k), z);
#pragma unroll
                for (int j = 0; j < N; ++j) {
                    At at = i * N + j;
                    if (i >= mine.end || at >= mine.classes) continue;
                    double gap = z[j] == top ? 0.0 : (double)top - (double)z[j];
                    Acc w = weight_of(c, at), t = target_at(c, row, at);
                    if (!BY_LABEL) {
                        Acc a = w * t;
                        sums[TOTAL].add((double)t);
                        sums[MASS].add((double)a);
                        sums[DOT].add(a == 0 ? 0.0 : (double)a * gap);
                    }
                    if (SMOOTH && z[j] != (Acc)-INF) {
                        sums[NUMBER].total += 1.0;
                        sums[SHARE].add((double)w);
                        sums[SHARE_DOT].add(w == 0 ? 0.0 : (double)w * gap);
                    }
                }
            }
        });
    }
}
