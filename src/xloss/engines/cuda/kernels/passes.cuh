// Reads a row and finds its maximum and its sums.
#pragma once
#include "staging.cuh"

__device__ inline float total_of(const float (&e)[N]) {
    float s[N];
    UNROLL for (int j = 0; j < N; ++j) s[j] = e[j];
    UNROLL for (int n = N / 2; n; n /= 2) { UNROLL for (int j = 0; j < n; ++j) s[j] += s[j + n]; }
    return s[0];
}

// The largest of this thread's staged logits.
__device__ inline Acc largest_of(const Mine& mine, int count) {
    Vec most = E::masked();
    mine.each(count, [&](const Vec& v, int) { E::take_largest(most, v); }, [](int) {});
    Acc m = E::largest(most);
    return CAP ? capped(m, (Acc)mine.call.softcap) : m;
}

#if SUMS_AT_ONCE
// The sum of exp_near of some classes, as it would be without the error of the rounded log2(e).
__device__ inline float corrected(float sum) {
    if constexpr (SWIFT) {
        // Each 2^(z*(float)LOG2E) is too small by a factor 2^((z - top)*LOG2E_LOST). The terms that
        // make up a sum of 128 lie at most ln(128) below its logarithm, and over that distance one
        // factor, taken at the logarithm of the sum, is right for all of them.
        float gap = fmaxf(fminf(log2_fast(sum) - 64.0f, 0.0f), -190.0f);
        sum = fmaf(sum, gap * (LOG2E_LOST * 0.480453f), sum);
    }
    return sum;
}

// The statistics of a row of which WIDTH lanes have summed exp_near of the classes below `top`.
__device__ inline Piece<Acc> piece_of(const Near& near, float top, float sum, int tops) {
    sum = sum_of_lanes<Threads::WIDTH>(sum) * (unit_of<SWIFT>(near, top) * (float)DOWN);
    return Piece<Acc>{top, top == (Acc)-INF ? 0.0f : sum, (float)sum_of_lanes<Threads::WIDTH>(tops)};
}
#endif

// The statistics of the staged part of a row, found by one warp or by a part of one. freed(q) is called
// once chunk q is read for the last time: its place may be staged anew.
template <class F> __device__ inline Piece<Acc> find_staged(const Mine& mine, int count, F freed) {
    Acc own = largest_of(mine, count), top = largest_of_lanes<Threads::WIDTH>(own);
#if !SUMS_AT_ONCE
    return Piece<Acc>{top, 0, 0};
#else
    Near near = near_of(top);
    // Only a thread that has met the maximum compares its classes with it, and only in vectors whose sum
    // is at least the maximum's exp: they are few.
    float at_top = own == top ? exp_near<SWIFT>(fmaxf(top, near.least), near) : (float)INF;
    u32 least = SWIFT ? E::pair_above(near.least) : 0;
    float sum = 0, odd = 0;
    int tops = 0;
    auto add = [&](Vec v, int k) {
        float z[N], e[N];
        if constexpr (SWIFT) {
            E::raise(v, least);
            E::unpack(v, z);
        } else {
            mine.logits(v, z);
        }
        UNROLL for (int j = 0; j < N; ++j) e[j] = exp_near<SWIFT>(SWIFT ? z[j] : fmaxf(z[j], near.least), near);
        float s = total_of(e);
        if (s >= at_top) {
            UNROLL for (int j = 0; j < N; ++j) {
                tops += z[j] == top;
                e[j] = z[j] == top ? 0.0f : e[j];
            }
            s = total_of(e);
        }
        if (SPLIT == 2 && k % 2) odd += s;
        else sum += s;
    };
    mine.each(count, add, freed);
    sum = corrected(sum);
    if (SPLIT == 2) sum += corrected(odd);
    return piece_of(near, top, sum, tops);
#endif
}

template <class F> __device__ inline Piece<Acc> find_piece(Mine& mine, F freed) {
    Piece<Acc> p = no_piece<Acc>();
    mine.sweep([&](At s, int count) {
        Piece<Acc> found = find_staged(mine, count, freed);
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
            UNROLL for (int j = 0; j < N; ++j) {
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
                UNROLL for (int j = 0; j < N; ++j) {
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
