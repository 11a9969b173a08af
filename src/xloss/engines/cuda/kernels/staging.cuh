// How a thread's part of a row is staged in shared memory. The compile-time constants of a kernel of rows:
//   STORED         how logits are stored          SOFT      how soft targets are stored; -1: labels
//   LABELS         how labels are stored          WEIGHED   there are weights, or `where`
//   FLAT           rows follow each other at one step
//   THREADS        threads of a block             GROUP     threads of a block that share a row
//   PARTS          blocks that share a row        VECTORS   vectors of 16 bytes that a thread stages
//   APART          one thread a row: classes do not lie side by side, or are few
//   RESIDENT       blocks that a multiprocessor should hold at the same time: limits the registers
//   SMOOTH, CAP    label smoothing, softcap       Z_LOSS    z-loss
//   SPLIT          sums that a thread keeps apart: those of every second vector, where it is 2
//   HELD           vectors, of those, that stay in registers instead: more blocks fit a multiprocessor
//   ONCE           the whole row is staged at once; else one part after another is
//   GRAD           the gradient is wanted
//   STAGE          0: the blocks of a row are a cluster; 1, 2, 3: the three launches that replace it
//                  on GPUs without clusters, where blocks exchange statistics in global memory;
//                  4, 5: the two launches of losses without a gradient
#pragma once
#include "facts.cuh"
#include "groups.cuh"

// For 10.x the compiler needs a register more than others leave it, which it would put aside in memory.
#if __CUDA_ARCH__ >= 1000 && !APART
#define AT_LEAST (RESIDENT > 2 ? RESIDENT - 1 : 1)
#else
#define AT_LEAST RESIDENT
#endif

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

// Vectors that are read, and staged anew, together.
const int CHUNK = VECTORS < 4 ? VECTORS : 4, CHUNKS = VECTORS / CHUNK;
const int UNROLLED = APART ? 4 : 2;  // loads that a thread has in flight, where it cannot copy asynchronously

// This thread's vectors of a row, staged in shared memory, VECTORS at a time. No other thread reads
// them, so that no barrier is needed. Several blocks share a multiprocessor: some load while others
// compute, which keeps memory busy.
struct Mine {
    Row row;
    const Call& call;
    At classes;
    At first, end;  // the range of this block's vectors
    At staged;      // the first vector of those that are staged or being copied; -1: none
    int thread;
    Vec* room;  // vector HELD + k of this thread is room[k * THREADS]
    Vec held[HELD > 0 ? HELD : 1];

    __device__ Mine& operator=(const Mine& next) {  // another part of the same call's rows
        row = next.row;
        first = next.first, end = next.end, staged = next.staged;
        return *this;
    }

    __device__ Mine(const Call& call, i64 row, int part)
        : row(call.x, row, call.classes), call(call), classes((At)call.classes), staged(-1) {
        At all = (classes + N - 1) / N, each = (all + PARTS - 1) / PARTS;
        first = part * each;
        end = first + each < all ? first + each : all;
        thread = GROUP == THREADS ? threadIdx.x : threadIdx.x % GROUP;
        room = (Vec*)staging_memory() + threadIdx.x;
    }

    // How many of this thread's vectors from `begin` on, `count` at most, are whole: 16 bytes of this
    // row, at an address divisible by 16. They come before the others.
    template <class R> __device__ inline At whole_from(const R& of, At begin, At count) const {
        if (APART || !of.is_aligned()) return 0;
        At full = classes / N, stop = full < end ? full : end;
        At here = stop - begin > thread ? (stop - begin - thread + GROUP - 1) / GROUP : 0;
        return here < count ? here : count;
    }

    // How many vectors every thread has from `begin` on.
    __device__ inline At count_from(At begin) const { return (end - begin + GROUP - 1) / GROUP; }

    // Start to stage this thread's vectors `from` to to - 1, counted from `begin`, at the places of
    // vectors `at` and so on. Classes beyond the row are -inf.
    __device__ inline void stage_some(At begin, At from, At to, At whole, int at) {
        const Vec* source = row.vector(begin + thread + from * GROUP);
        Vec* there = room + at * THREADS;
        if (from + CHUNK <= whole && to == from + CHUNK) {
            UNROLL for (int k = 0; k < CHUNK; ++k) copy_async(there + k * THREADS, source + k * GROUP);
            return;
        }
        At some = to < whole ? to : whole;
        At k = from;
        for (; k < some; ++k) copy_async(there, source), there += THREADS, source += GROUP;
#pragma unroll UNROLLED
        for (; k < to; ++k) {
            At i = begin + k * GROUP + thread;
            *there = i < end ? row.load(i) : E::masked();
            there += THREADS;
        }
    }

    // How many of them are staged together.
    __device__ inline int set_from(At begin) const {
        At count = count_from(begin);
        return (int)(count < VECTORS ? count : VECTORS);
    }

    // Start to stage chunk q of the vectors from `begin` on; count, whole: how many there are.
    __device__ inline void stage_chunk(At begin, int count, int whole, int q) {
        int from = q * CHUNK, to = from + CHUNK;
        if (HELD && q == 0) {
            UNROLL for (int k = 0; k < HELD; ++k) {
                At i = begin + k * GROUP + thread;
                held[k] = k < whole ? load_16(row.vector(i)) : k < count && i < end ? row.load(i) : E::masked();
            }
            from = HELD;
        }
        stage_some(begin, from, to < count ? to : count, whole, from - HELD);
    }

    // Start to stage up to VECTORS vectors from `begin` on, chunk by chunk.
    __device__ inline void stage(At begin) {
        int count = set_from(begin), whole = (int)whole_from(row, begin, count);
        staged = begin;
        for (int q = 0; q < CHUNKS; ++q) stage_chunk(begin, count, whole, q);
    }

    // Call each(begin, count) for every set of vectors that is staged together: vector k of thread t
    // is number begin + k*GROUP + t. needed: the callback reads their values.
    template <class F> __device__ inline void sweep(F each, bool needed = true) {
        for (At s = first; s < end; s += GROUP * VECTORS) {
            if ((!ONCE || STAGE == 2 || STAGE == 5) && needed && staged != s) stage(s);
            copies_arrived();
            each(s, set_from(s));
            if (ONCE) return;
        }
    }

    // Call f(vector, k) for the first `count` staged vectors in their order, k being their number but
    // for a multiple of CHUNK, and freed(q) after those of chunk q.
    template <class F, class G> __device__ inline void each(int count, F f, G freed) const {
        UNROLL for (int k = 0; k < HELD; ++k) if (k < count) f(held[k], k);
        for (int q = 0; q < CHUNKS; ++q) {
            const Vec* from = room + (q * CHUNK - HELD) * THREADS;
            int here = count - q * CHUNK;
            if (here >= CHUNK) {
                UNROLL for (int k = 0; k < CHUNK; ++k) if (k >= HELD || q > 0) f(from[k * THREADS], k);
            } else {
                for (int k = q == 0 ? HELD : 0; k < here; ++k) f(from[k * THREADS], k);
            }
            freed(q);
        }
    }

    // Vector k of the staged ones.
    __device__ inline Vec vector(int k) const {
        if constexpr (HELD > 0) {
            Vec v = held[0];
            UNROLL for (int h = 1; h < HELD; ++h) if (k == h) v = held[h];
            if (k < HELD) return v;
        }
        return room[(k - HELD) * THREADS];
    }

    __device__ inline void logits(const Vec& v, Acc (&z)[N]) const {
        E::unpack(v, z);
        if (CAP) {
            UNROLL for (int j = 0; j < N; ++j) z[j] = capped(z[j], (Acc)call.softcap);
        }
    }
};
