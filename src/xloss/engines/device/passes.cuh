// What a row is read for: its maximum and sums, in one pass or two. What all is compiled for:
//   STORED         how logits are stored          SOFT      how soft targets are, -1: labels
//   THREADS        of a block                     GROUP     threads of a block to a row
//   PARTS          blocks to a row                VECTORS   16 bytes each, that a thread loads at once
//   APART          classes do not lie side by side
//   SMOOTH, CAP    label smoothing, softcap       GRAD      the gradient is wanted
//   FAST           exp by the special-function unit
//   STAGE          0: blocks of a row are a cluster; 1, 2, 3: they meet in memory between launches
#pragma once
#include "facts.cuh"
#include "groups.cuh"

typedef Elements<STORED> E;
typedef E::Raw Raw;
typedef E::Acc Acc;
typedef RowOf<STORED, APART> Row;
const int N = E::N;
const int TARGET = SOFT < 0 ? STORED : SOFT;
const bool BY_LABEL = SOFT < 0, MIXED = !BY_LABEL || SMOOTH;
// Sums that need the maximum first: exp below it, how many are at it, and of mixtures
// the mass of the targets, weighed and not, their gaps, the possible classes, their weight and gaps.
enum { BELOW, TOPS, MASS, TOTAL, DOT, NUMBER, SHARE, SHARE_DOT };
const int COUNT = MIXED ? 8 : 2;
typedef Group<GROUP, PARTS, Acc, COUNT> Threads;
#define FEW 7.888609052210118e-31  // 2^-100

__device__ inline Acc weight_of(const Call& c, i64 j) {
    return c.class_weight.address ? (Acc)float_at(c.class_weight, j) : (Acc)1;
}

__device__ inline Acc target_at(const Call& c, i64 row, i64 j) {
    return BY_LABEL ? 0 : (Acc)widened<TARGET>(((const Number<TARGET>::Raw*)c.soft.address)[row * c.classes + j]);
}

// This thread's vectors of a row, loaded VECTORS at a time; kept where that is all of them.
struct Mine {
    const Row& row;
    const Call& call;
    i64 first, end;  // the vectors of this block
    int thread;
    Vec held[VECTORS];
    bool loaded;

    __device__ Mine(const Row& row, const Call& call, int part) : row(row), call(call), loaded(false) {
        i64 all = (call.classes + N - 1) / N, each = (all + PARTS - 1) / PARTS;
        first = part * each;
        end = first + each < all ? first + each : all;
        thread = GROUP == THREADS ? threadIdx.x : threadIdx.x % GROUP;
    }

    template <class F> __device__ inline void sweep(F each) {
        const int STEP = GROUP * VECTORS;
        bool once = first + STEP >= end;
        for (i64 s = first; s < end; s += STEP) {
            if (!(once && loaded)) {
#pragma unroll
                for (int k = 0; k < VECTORS; ++k) {
                    i64 i = s + k * GROUP + thread;
                    if (i < end) held[k] = row.load(i);
                }
            }
#pragma unroll
            for (int k = 0; k < VECTORS; ++k) each(held[k], s + k * GROUP + thread);
        }
        loaded = true;
    }

    __device__ inline void logits(const Vec& v, Acc (&z)[N]) const {
        E::unpack(v, z);
        if (CAP) {
#pragma unroll
            for (int j = 0; j < N; ++j) z[j] = capped(z[j], (Acc)call.cap);
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

// One pass: the maximum, and the sum but for it, scaled by a power of two that follows it.
__device__ inline Piece<Acc> find_piece(Mine& mine) {
    Piece<Acc> p = Threads::none();
    Near near = near_of(p.k);
    mine.sweep([&](const Vec& v, i64 i) {
        if (i >= mine.end) return;
        Acc z[N];
        mine.logits(v, z);
        if constexpr (sizeof(Acc) == 8) {
#pragma unroll
            for (int j = 0; j < N; ++j) p.m = larger(p.m, z[j]);
        } else {
            float m = p.m, e[N];
#pragma unroll
            for (int j = 0; j < N; ++j) {
                e[j] = fminf(m, (float)z[j]);
                m = larger(m, (float)z[j]);
            }
            p.m = m;
            if (m * (float)LOG2E > p.k + 24.0f) {
                float k = scale_of(m);
                p.sum *= power_of_two(p.k - k);
                p.k = k;
                near = near_of(k);
            }
#pragma unroll
            for (int j = 0; j < N; ++j) e[j] = exp_near(e[j], near);
            p.sum += (double)total_of(e);
        }
    });
    return p;
}

__device__ inline Acc exp_below(Acc z, Acc top) { return z == top ? (Acc)0 : exp_scaled(z, top); }

// A second pass, where the first does not do: rows far from 0, float64, mixtures.
__device__ inline void find_sums(Mine& mine, i64 row, Acc top, bool far, Threads::Sum (&sums)[COUNT]) {
    const Call& c = mine.call;
    mine.sweep([&](const Vec& v, i64 i) {
        if (i >= mine.end) return;
        Acc z[N];
        mine.logits(v, z);
        if (far) {
            double below = 0.0;
#pragma unroll
            for (int j = 0; j < N; ++j) {
                below += (double)exp_below(z[j], top);
                sums[TOPS].total += z[j] == top ? 1.0 : 0.0;
            }
            sums[BELOW].add(below);
        }
#pragma unroll
        for (int j = 0; j < N; ++j) {
            i64 at = i * N + j;
            if constexpr (MIXED) {
                if (at >= c.classes) continue;
                double gap = z[j] == top ? 0.0 : (double)top - (double)z[j];
                Acc w = weight_of(c, at), t = target_at(c, row, at);
                bool possible = z[j] != (Acc)-INF;
                if (!BY_LABEL) {
                    Acc a = w * t;
                    sums[TOTAL].add((double)t);
                    sums[MASS].add((double)a);
                    sums[DOT].add(a == 0 ? 0.0 : (double)a * gap);
                }
                if (SMOOTH && possible) {
                    sums[NUMBER].total += 1.0;
                    sums[SHARE].add((double)w);
                    sums[SHARE_DOT].add(w == 0 ? 0.0 : (double)w * gap);
                }
            }
        }
    });
}
