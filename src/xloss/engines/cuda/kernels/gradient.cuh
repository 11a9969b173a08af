// Computes a row's gradient from its statistics and writes it, one vector of 16 bytes at a time.
#pragma once
#include "settle.cuh"

// A class's gradient is one exponential times a factor: no mixtures, z-loss or softcap, no float64.
const bool PLAIN = LIGHT && !CAP;

#if STORED != F64
// The gradient of a class that is not the label, for a row whose maximum is near 0.
__device__ inline float slope_near(float z, const Whole& w) {
    // The error of one multiplication is 0.0005 of the last bit of a 16-bit result.
    if (SWIFT) return exp2_fast(fmaf(z, (float)LOG2E, 64.0f - w.near.k)) * w.first;
    return exp_near<SWIFT>(fmaxf(z, w.near.least), w.near) * w.first;
}
#endif

// The gradient of the classes of one vector, as if none of them were the label, for a row whose
// maximum is near 0 (see near_of).
__device__ inline void gradient_near(const Mine& mine, const Whole& w, const Vec& v, Acc (&g)[N]) {
#if STORED != F64
    Acc z[N];
    mine.logits(v, z);
    UNROLL for (int j = 0; j < N; ++j) g[j] = slope_near(z[j], w);
#endif
}

// The gradient of the classes of one vector with any option, as if none of them were the label.
__device__ inline void gradient_of(const Mine& mine, const Whole& w, i64 row, const Vec& v, At i, Acc (&g)[N]) {
    const Call& c = mine.call;
    Acc z[N];
    mine.logits(v, z);
    if constexpr (MIXED) {
        Acc tail = w.rest * w.inv;
        UNROLL for (int j = 0; j < N; ++j) {
            At at = i * N + j;
            bool inside = at < mine.classes, top = z[j] == w.top;
            Acc e;
            if constexpr (sizeof(Acc) == 4)
                e = w.is_near ? exp_near<SWIFT>(fmaxf(z[j], w.near.least), w.near) : exp_scaled(z[j], w.top);
            else e = exp_scaled(z[j], w.top);
            Acc weight = inside ? weight_of(c, at) : (Acc)0;
            Acc a = inside ? weight * target_at(c, row, at) : (Acc)0;
            Acc p = top ? w.inv : z[j] == (Acc)-INF ? (Acc)0 * w.inv : e * w.unit_inv;
            Acc q = top ? tail : ((Acc)1 + (w.rest - e * w.unit)) * w.inv;
            Acc share = z[j] == (Acc)-INF ? (Acc)0 : weight;
            Acc own = w.keep * a + w.c * share;
            Acc others = w.keep * (w.rem - a) + w.c * (w.shares - share);
            g[j] = (p * others - own * q) * w.b + (p == 0 ? (Acc)0 : w.zc * p);
        }
    } else if (w.is_near) {
        gradient_near(mine, w, v, g);
    } else {
        UNROLL for (int j = 0; j < N; ++j) {
            Acc e = z[j] == w.top ? (Acc)UP : exp_scaled(z[j], w.top);
            g[j] = e == 0 && w.first == w.first ? (Acc)0 : (e * w.first) * w.second;
        }
    }
    if (CAP) {
        Acc x[N];
        E::unpack(v, x);
        UNROLL for (int j = 0; j < N; ++j) g[j] *= sech_squared(x[j] / (Acc)c.softcap);
    }
}

// Replace the label's entry by what its own formula gives. `choose` keeps g in registers.
__device__ inline void put_label(const Whole& w, Acc (&g)[N]) {
    int at = (int)((u64)w.label % N);
    UNROLL for (int j = 0; j < N; ++j) g[j] = choose(j == at, w.at_label, g[j]);
}

__device__ inline void write_gradient(Mine& mine, const Whole& w, i64 row) {
    const Call& c = mine.call;
    Target to(c.gradient, row, c.classes);
    int lane = GROUP == THREADS ? threadIdx.x & 31 : threadIdx.x % Threads::WIDTH;
    At label_vector = (At)(w.label / N);
    mine.sweep([&](At s, int count) {
        int whole = (int)mine.whole_from(to, s, (At)count);
        // The index of this thread's vector that holds the label, or -1.
        At ahead = label_vector - s - mine.thread;
        int has_label =
            BY_LABEL && ahead >= 0 && ahead % GROUP == 0 && ahead < GROUP * VECTORS ? (int)(ahead / GROUP) : -1;
        Vec* there = to.vector(s + mine.thread);
        bool swift = PLAIN && w.is_near && !w.dead;
        auto write_near = [&](Vec* at, const Vec& v) {
            Acc g[N];
            gradient_near(mine, w, v, g);
            store_16(at, E::pack(g));
        };
        if constexpr (HELD > 0) {
            UNROLL for (int k = 0; k < HELD; ++k) if (swift && k < whole) write_near(there + k * GROUP, mine.held[k]);
        }
        const Vec* from = mine.room - HELD * THREADS;
        for (int q = 0; q < CHUNKS; ++q, there += CHUNK * GROUP, from += CHUNK * THREADS) {
            int k = q * CHUNK, stop = k + CHUNK < count ? k + CHUNK : count;
            if (swift) {
                int near = whole - k < CHUNK ? whole - k : CHUNK;
                if (near == CHUNK) {
                    UNROLL for (int n = 0; n < CHUNK; ++n) if (n >= HELD || q > 0)
                        write_near(there + n * GROUP, from[n * THREADS]);
                } else {
                    for (int n = q == 0 ? HELD : 0; n < near; ++n) write_near(there + n * GROUP, from[n * THREADS]);
                }
                if (near > 0) k += near;
            }
            for (; k < stop; ++k) {
                At i = s + k * GROUP + mine.thread;
                Acc g[N];
                if (w.dead) {
                    UNROLL for (int j = 0; j < N; ++j) g[j] = 0;
                } else {
                    gradient_of(mine, w, row, mine.vector(k), i, g);
                    if (k == has_label) put_label(w, g);
                }
                if (k < whole) store_16(there + (k - q * CHUNK) * GROUP, E::pack(g));
                else to.template store<Threads::WIDTH>(i, mine.end, lane, E::pack(g));
            }
        }
        // The same thread wrote the whole vector, so that this store comes after that one.
        if (swift && has_label >= 0 && has_label < whole) to.element(w.label) = rounded<STORED>(w.at_label);
    }, !w.dead);
}
