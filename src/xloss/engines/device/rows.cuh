// The one kernel of rows: losses, statistics, gradient. What it is compiled for:
//   STORED         how logits are stored          SOFT      how soft targets are, -1: labels
//   THREADS        of a block                     GROUP     threads of a block to a row
//   PARTS          blocks to a row                VECTORS   16 bytes each, that a thread loads at once
//   APART          classes do not lie side by side
//   SMOOTH, CAP    label smoothing, softcap       GRAD      the gradient is wanted
//   STAGE          0: blocks of a row are a cluster; 1, 2, 3: they meet in memory between launches
#pragma once
#include "facts.cuh"
#include "groups.cuh"

#if PARTS > 1 && STAGE == 0
#define CLUSTER __cluster_dims__(PARTS, 1, 1)
#else
#define CLUSTER
#endif

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

struct Whole {  // a row, from all its classes
    Acc top, first, second, cap;
    Acc unit, unit_inv, rest, inv, b, zc, keep, rem, c, shares, at_label;
    Near near;
    i64 label;
    bool is_near, dead;
};

struct Shared {
    Threads::Shared threads;
    Whole whole;
};

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

__device__ inline double loss_of(double rise, double lse, double mass, double total, double dot,
                                 const double (&sums)[COUNT], const Facts& f, double weight,
                                 double eps, double z_loss) {
    double row = 0.0;
    if (eps < 1.0) {
        row = mass * rise + dot;
        if (BY_LABEL) row = f.label_weight == 0.0 && row == row ? 0.0 : f.label_weight * row;
        row = eps > 0.0 ? (1.0 - eps) * row : row;
    }
    if constexpr (SMOOTH) {
        double uniform = eps / sums[NUMBER] * (sums[SHARE] * rise + sums[SHARE_DOT]);
        if (!BY_LABEL) uniform = total == 0.0 && uniform == uniform ? 0.0 : total * uniform;
        row += uniform;
    }
    row *= f.scale;
    if (z_loss > 0.0) row += z_loss * weight * lse * lse;
    return row;
}

// From the statistics to the loss, and to what the gradient's pass needs.
__device__ inline Whole settle(const Call& c, const Row& x, i64 r, const Facts& f, Acc top, double rest,
                               const double (&sums)[COUNT], bool writes) {
    Whole w;
    double m = (double)top;
    bool possible = top != (Acc)-INF;
    double mass = 1.0, total = 1.0, dot = 0.0, number = 1.0, share = 0.0;
    Acc at = 0, zy = 0;
    if constexpr (BY_LABEL) {
        at = widened<STORED>(x.element(f.label));
        zy = CAP ? capped(at, (Acc)c.cap) : at;
        dot = zy == top ? 0.0 : m - (double)zy;
    } else {
        mass = sums[MASS];
        total = c.class_weight.address ? sums[TOTAL] : mass;
        dot = sums[DOT];
    }
    if constexpr (MIXED) number = sums[NUMBER], share = sums[SHARE];
    double rise = possible ? log_1p(rest) : NOT_A_NUMBER;
    double weight = f.wrong ? f.scale : f.scale * (BY_LABEL ? f.label_weight : mass);
    double lse = m + rise;
    if (weight == 0.0 && lse == lse) lse = 0.0;
    if (writes) {
        if (c.losses) {
            double loss = loss_of(rise, lse, mass, total, dot, sums, f, weight, c.eps, c.z_loss);
            ((Acc*)c.losses)[r] = (Acc)(f.wrong ? NOT_A_NUMBER : loss);
        }
        if (c.weights) ((double*)c.weights)[r] = weight;
        if (c.maxima && !c.known) {
            ((Acc*)c.maxima)[r] = top;
            ((double*)c.rests)[r] = rest;
        }
    }
    if constexpr (GRAD) {
        double up = c.factor;
        bool live = true;
        if (c.up.address) up *= float_at(c.up, c.up_step ? r : 0);
        if (c.slope) {
            up *= ((const double*)c.slope)[0];
            live = ((const double*)c.slope)[1] != 0.0;
        }
        if (c.live) live = live && *(const unsigned char*)c.live;
        if (f.wrong) up = NOT_A_NUMBER;
        double b = up * f.scale;
        double zc = c.z_loss > 0.0 ? 2.0 * c.z_loss * up * weight * lse : 0.0;
        double whole = possible ? 1.0 + rest : NOT_A_NUMBER;
        double inv = 1.0 / whole;
        w.dead = !live;
        w.is_near = is_near(top);
        float k = scale_of((float)top);
        w.near = near_of(k);
        double unit = (w.is_near ? unit_of(k, m) : 1.0) * DOWN;
        w.top = top;
        w.label = f.label;
        double mine = 0.0;
        double smoothed = SMOOTH ? c.eps * total / number : 0.0;
        if constexpr (MIXED) {
            w.unit = (Acc)unit, w.unit_inv = (Acc)(unit / whole), w.rest = (Acc)rest, w.inv = (Acc)inv;
            w.b = (Acc)b, w.zc = (Acc)zc, w.keep = (Acc)(1.0 - c.eps);
            w.rem = (Acc)(BY_LABEL ? f.label_weight : mass);
            w.c = (Acc)smoothed, w.shares = (Acc)share;
            mine = smoothed * (zy != (Acc)-INF ? (double)weight_of(c, f.label) : 0.0);
        } else {
            double factor = (b * f.label_weight + zc) / whole;
            // Scaled down it would be subnormal; or a masked class would have something of it.
            bool tiny = fabs(factor) < DOWN * 16.0;
            if (tiny || fabs(factor) > 1073741824.0) w.is_near = false, unit = DOWN;
            w.first = (Acc)(w.is_near ? factor * unit : tiny ? DOWN : factor * DOWN);
            w.second = (Acc)(tiny ? factor : 1.0);
        }
        if constexpr (BY_LABEL) {
            double e = exp_scaled(-dot, 0.0) * DOWN;
            double q = dot == 0.0 ? rest * inv : (1.0 + (rest - e)) * inv, p = e * inv;
            double v = (p * (smoothed * share - mine) - ((1.0 - c.eps) * f.label_weight + mine) * q) * b;
            v += p == 0.0 ? 0.0 : zc * p;
            if (CAP) v *= (double)sech_squared((Acc)(at / (Acc)c.cap));
            w.at_label = (Acc)v;
        }
    }
    return w;
}

__device__ inline void gradient_of(const Mine& mine, const Whole& w, i64 row, const Vec& v, i64 i, Acc (&g)[N]) {
    const Call& c = mine.call;
    Acc z[N];
    mine.logits(v, z);
    if constexpr (MIXED) {
        Acc tail = w.rest * w.inv;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            i64 at = i * N + j;
            bool inside = at < c.classes, top = z[j] == w.top;
            Acc e;
            if constexpr (sizeof(Acc) == 4) e = w.is_near ? exp_near(z[j], w.near) : exp_scaled(z[j], w.top);
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
        if constexpr (sizeof(Acc) == 4) {
#pragma unroll
            for (int j = 0; j < N; ++j) g[j] = exp_near(z[j], w.near) * w.first;
        }
    } else {
#pragma unroll
        for (int j = 0; j < N; ++j) {
            Acc e = z[j] == w.top ? (Acc)UP : exp_scaled(z[j], w.top);
            g[j] = e == 0 && w.first == w.first ? (Acc)0 : (e * w.first) * w.second;
        }
    }
    if (CAP) {
        Acc x[N];
        E::unpack(v, x);
#pragma unroll
        for (int j = 0; j < N; ++j) g[j] *= sech_squared(x[j] / (Acc)c.cap);
    }
    if (BY_LABEL && w.label >= i * N && w.label < i * N + N) {
#pragma unroll
        for (int j = 0; j < N; ++j) g[j] = i * N + j == w.label ? w.at_label : g[j];
    }
}

// What the blocks of one row find, for the next launch.
struct Left {
    Piece<Acc> piece;
    Threads::Sum sums[COUNT];
};
static_assert(sizeof(Left) <= 152, "cuda.py makes room for so much");

__device__ inline void row_by_group(const Call& c, i64 row, int part, Shared& s) {
    bool leads = part == 0 && (GROUP == THREADS ? threadIdx.x : threadIdx.x % GROUP) == 0;
    Left* left = (Left*)c.work + row * PARTS;
    Facts f = facts_of<Acc, BY_LABEL>(c, row);
    Row x(c.x, row, c.classes);
    Mine mine(x, c, part);
    Whole w;
    w.dead = true;
    if (f.absent) {
        if constexpr (STAGE == 1) return;
        if (leads && STAGE != 2) {
            if (c.losses) ((Acc*)c.losses)[row] = 0;
            if (c.weights) ((double*)c.weights)[row] = 0.0;
            if (c.maxima && !c.known) ((Acc*)c.maxima)[row] = 0, ((double*)c.rests)[row] = 0.0;
        }
    } else {
        Piece<Acc> p = Threads::none();
        double rest = 0.0, values[COUNT];
        Threads::Sum sums[COUNT];
        bool known = c.known, far = false;
        int lane = threadIdx.x & 31;
        if (known) {
            if constexpr (STAGE == 1) return;
            p.m = ((const Acc*)c.maxima)[row];
            rest = ((const double*)c.rests)[row];
        } else {
            if constexpr (STAGE < 2) {
                p = find_piece(mine);
                Threads::merge(p, s.threads);
            }
            if constexpr (STAGE == 0) Threads::merge_parts(p, s.threads);
            if constexpr (STAGE == 1) {
                if (threadIdx.x == 0) left[part].piece = p;
                return;
            }
            if constexpr (STAGE > 1) {
                p = lane < PARTS ? left[lane].piece : Threads::none();
                merge_lanes<32>(p);
            }
            far = !is_near(p.m);
            if (!far) {
                rest = p.sum * (unit_of(p.k, (double)p.m) * DOWN);
                // exp_near has no 0: beside so little, masked classes would be seen.
                far = rest < FEW;
            }
        }
        if (MIXED || far) {
            if constexpr (STAGE == 0 || STAGE == 2) {
                find_sums(mine, row, p.m, far, sums);
                Threads::add(sums, s.threads);
            }
            if constexpr (STAGE == 0) Threads::add_parts(sums, s.threads);
            if (STAGE == 2 && threadIdx.x == 0)
                for (int n = 0; n < COUNT; ++n) left[part].sums[n] = sums[n];
            if constexpr (STAGE == 3) {
                for (int n = 0; n < COUNT; ++n) sums[n] = lane < PARTS ? left[lane].sums[n] : Threads::Sum{};
                add_lanes<32>(sums);
            }
            if (far) rest = sums[BELOW].value() * DOWN + (sums[TOPS].value() - 1.0);
        }
        for (int n = 0; n < COUNT; ++n) values[n] = sums[n].value();
        if constexpr (STAGE == 2) return;
        // Of a whole block one warp settles the row: float64 is slow on many a GPU.
        if (GROUP <= 32 || threadIdx.x < 32) w = settle(c, x, row, f, p.m, rest, values, leads);
    }
    if constexpr (STAGE == 1 || STAGE == 2) return;
    if constexpr (GRAD) {
        if constexpr (GROUP > 32) {
            if (threadIdx.x == 0) s.whole = w;
            __syncthreads();
            w = s.whole;
        }
        Row g(c.g, row, c.classes);
        int lane = GROUP == THREADS ? threadIdx.x & 31 : threadIdx.x % Threads::WIDTH;
        mine.sweep([&](const Vec& v, i64 i) {
            Acc made[N];
#pragma unroll
            for (int j = 0; j < N; ++j) made[j] = 0;
            if (i < mine.end && !w.dead) gradient_of(mine, w, row, v, i, made);
            g.template store<Threads::WIDTH>(i, mine.end, lane, E::pack(made));
        });
    }
}

extern "C" __global__ void CLUSTER __launch_bounds__(THREADS, 1024 / THREADS) rows(const __grid_constant__ Call c) {
    Shared& s = shared_memory<Shared>();
    const int TOGETHER = THREADS / GROUP;
    i64 block = blockIdx.x / PARTS, blocks = gridDim.x / PARTS;
    int part = blockIdx.x % PARTS;
    for (i64 at = block * TOGETHER; at < c.rows; at += blocks * TOGETHER) {
        i64 row = GROUP == THREADS ? at : at + threadIdx.x / GROUP;
        if (row < c.rows) row_by_group(c, row, part, s);
        if (at + blocks * TOGETHER < c.rows) {
            // Other blocks may still read what this one found of the row.
            if constexpr (PARTS > 1 && STAGE == 0) cluster_sync();
            else __syncthreads();
        }
    }
    // No block leaves while another may still read what it found.
    if constexpr (PARTS > 1 && STAGE == 0) cluster_sync();
}
