// Where rows lie in memory, and how they are read and written in vectors of 16 bytes, whatever the
// address at which a row begins.
#pragma once
#include "numbers.cuh"

// Row r begins at (r / inner)*outer_step + (r % inner)*inner_step, its classes class_step apart.
struct Place {
    u64 address;  // 0: the array is not wanted
    i64 inner, outer_step, inner_step, class_step;
};

// An array of one number a row. type: for floats STORED's numbers (numbers.cuh); for integers 0 to 3
// are signed ones of 1, 2, 4 and 8 bytes, 4 to 7 unsigned ones.
struct Column {
    u64 address;  // 0: not given
    i64 type;
};

// What a kernel is given by value. `Arguments` of arguments.py packs it: the same fields in the same
// order, each word of 8 bytes. tests/engines/cuda/test_arguments.py compares the two.
struct Call {
    i64 rows, classes;       // rows: or the number of partial sums that are added up
    Place x, gradient;       // (rows, classes)
    Column labels;           // (rows)
    i64 has_ignore, ignore;  // as the bits of an int64
    u64 where;               // (rows) bool
    Column sample_weight;    // (rows)
    Column class_weight;     // (classes)
    Column soft;             // (rows, classes), in C order
    Column cotangent;        // () or (rows)
    i64 cotangent_step;      // 0 where it is one number, 1 where there is one a row
    u64 row_factor;          // double[2]: d result/d row loss, and whether any row counts
    u64 any_row_counts;      // bool
    double cotangent_value, label_smoothing, z_loss, softcap;
    u64 losses, weights;    // (rows) Acc; (rows) double: rows write them, and sums read them
    u64 maxima, tail_sums;  // (rows) Acc; (rows) double
    i64 given_statistics;   // 1: maxima and tail sums are read; 2: the gradient for 1 is there too
    u64 work;               // what blocks of one row leave for each other between launches
    i64 inner_inverse;      // as the bits of an int64: above 2^64/x.inner by 1 at most, for pixels.cuh
    // What is added up, and where the result goes.
    u64 partial;        // double[2] a block; a launch of one block adds them up, and finishes
    u64 total_weight;   // double: given, or 0
    Column normalizer;  // (), or not given
    double divisor;     // the same as a number; NaN: none
    i64 is_mean;        // else the sum
    u64 loss;           // Acc: the result
    u64 counter;        // u32 that is 0: how many blocks of a launch are done; the last finishes
    i64 before_rows;    // the row factor is found before the rows are computed, and not after them
};

struct alignas(16) Vec { u32 w[4]; };

template <int TYPE> __device__ inline i64 integer_of(Column c, i64 i) {
    switch (TYPE) {
        case 0: return ((const signed char*)c.address)[i];
        case 1: return ((const short*)c.address)[i];
        case 2: return ((const int*)c.address)[i];
        case 4: return ((const unsigned char*)c.address)[i];
        case 5: return ((const u16*)c.address)[i];
        case 6: return ((const u32*)c.address)[i];
        default: return ((const i64*)c.address)[i];
    }
}

__device__ inline double float_at(Column c, i64 i) {
    switch (c.type) {
        case F16: return half_to_float(((const u16*)c.address)[i]);
        case BF16: return widened<BF16>(((const u16*)c.address)[i]);
        case F32: return ((const float*)c.address)[i];
        default: return ((const double*)c.address)[i];
    }
}

template <int WIDTH, class T> __device__ inline T shuffle_up(T v);

template <int KIND> struct Elements {
    typedef typename Number<KIND>::Raw Raw;
    typedef typename Number<KIND>::Acc Acc;
    static const int N = 16 / sizeof(Raw);

    __device__ static inline Raw element(const Vec& v, int j) {
        if constexpr (sizeof(Raw) == 2) return (Raw)(v.w[j / 2] >> (16 * (j % 2)));
        else if constexpr (sizeof(Raw) == 4) return __uint_as_float(v.w[j]);
        else return __hiloint2double((int)v.w[2 * j + 1], (int)v.w[2 * j]);
    }

    __device__ static inline void put(Vec& v, int j, Raw e) {
        if constexpr (sizeof(Raw) == 2) {
            u32 shift = 16 * (j % 2);
            v.w[j / 2] = (v.w[j / 2] & (0xffff0000u >> shift)) | ((u32)e << shift);
        } else if constexpr (sizeof(Raw) == 4) {
            v.w[j] = __float_as_uint(e);
        } else {
            v.w[2 * j] = (u32)__double2loint(e);
            v.w[2 * j + 1] = (u32)__double2hiint(e);
        }
    }

    __device__ static inline Vec masked() {  // all -inf: classes that are not there
        Vec v;
        UNROLL for (int j = 0; j < N; ++j) put(v, j, rounded<KIND>(-INF));
        return v;
    }

    // Each word holds two 16-bit numbers: the larger of each, NaN where either is NaN.
    __device__ static inline u32 larger_pair(u32 a, u32 b) {
        return KIND == F16 ? larger_halves(a, b) : larger_bfloats(a, b);
    }

    // most[j] = the larger of most[j] and v[j]. For 16-bit numbers all words of v go into most.w[0].
    __device__ static inline void take_largest(Vec& most, const Vec& v) {
        if constexpr (sizeof(Raw) == 2) {
            u32 w = larger_pair(larger_pair(v.w[0], v.w[1]), larger_pair(v.w[2], v.w[3]));
            most.w[0] = larger_pair(most.w[0], w);
        } else {
            UNROLL for (int j = 0; j < N; ++j) put(most, j, larger(element(most, j), element(v, j)));
        }
    }

    __device__ static inline Acc largest(const Vec& most) {
        Acc z[N];
        unpack(most, z);
        Acc m = larger(z[0], z[1]);
        if constexpr (sizeof(Raw) == 4) m = larger(m, larger(z[2], z[3]));
        return m;
    }

    // The smallest 16-bit number that is not below `least`, twice in a word.
    __device__ static inline u32 pair_above(float least) {
        u16 h = KIND == F16 ? float_to_half_up(least) : float_to_bfloat_up(least);
        return (u32)h << 16 | h;
    }

    // Replace numbers of v that are below the pair's by it. A NaN survives.
    __device__ static inline void raise(Vec& v, u32 pair) {
        UNROLL for (int j = 0; j < 4; ++j) v.w[j] = larger_pair(v.w[j], pair);
    }

    __device__ static inline void unpack(const Vec& v, Acc (&z)[N]) {
        UNROLL for (int j = 0; j < N; ++j) z[j] = widened<KIND>(element(v, j));
    }

    __device__ static inline Vec pack(const Acc (&z)[N]) {
        Vec v;
        if constexpr (sizeof(Raw) == 2) {
            UNROLL for (int j = 0; j < N; j += 2) v.w[j / 2] = rounded_pair<KIND>(z[j], z[j + 1]);
        } else {
            UNROLL for (int j = 0; j < N; ++j) put(v, j, rounded<KIND>(z[j]));
        }
        return v;
    }
};

// The 16 bytes that begin at byte `offset` of a followed by b; offset is a multiple of the element size.
__device__ inline Vec joined(Vec a, const Vec& b, u32 offset) {
    u32 w[8] = {a.w[0], a.w[1], a.w[2], a.w[3], b.w[0], b.w[1], b.w[2], b.w[3]};
    if (offset & 8) {
        UNROLL for (int j = 0; j < 6; ++j) w[j] = w[j + 2];
    }
    if (offset & 4) {
        UNROLL for (int j = 0; j < 7; ++j) w[j] = w[j + 1];
    }
    if (offset & 2) {
        UNROLL for (int j = 0; j < 4; ++j) w[j] = __funnelshift_r(w[j], w[j + 1], 16);
    }
    return Vec{{w[0], w[1], w[2], w[3]}};
}

// a / b for numbers that are not negative. A 64-bit division costs as much time as several logits.
__device__ inline i64 quotient(i64 a, i64 b) {
#if PIXELS
    return (u32)a / (u32)b;  // pixel_plan.py refuses more rows
#else
    return (u64)(a | b) >> 32 ? a / b : (i64)((u32)a / (u32)b);
#endif
}

// One row as vectors of 16 bytes: vector i holds classes i*N to i*N + N - 1.
// EVEN: all rows follow each other at one step, so that no division finds where a row begins.
template <int KIND, bool STRIDED, bool EVEN> struct RowOf {
    typedef Elements<KIND> E;
    typedef typename E::Raw Raw;
    static const int N = E::N;
    u64 at;
    i64 step;
    i64 classes;

    __device__ RowOf(const Place& p, i64 row, i64 classes) : step(p.class_step), classes(classes) {
        i64 outer = EVEN ? 0 : quotient(row, p.inner);
        at = p.address + (outer * p.outer_step + (row - outer * p.inner) * p.inner_step) * (i64)sizeof(Raw);
    }

    __device__ inline bool is_aligned() const { return (at & 15) == 0; }

    // The address of vector i; only for an aligned row.
    __device__ inline Vec* vector(i64 i) const { return (Vec*)at + i; }

    __device__ inline Raw& element(i64 j) const { return ((Raw*)at)[STRIDED ? j * step : j]; }

    // Classes beyond the last are read as -inf.
    __device__ inline Vec load(i64 i) const {
        i64 left = classes - i * N;
        Vec v;
        if constexpr (STRIDED) {
            Raw r[N];
            const Raw* from = &element(i * N);
            if (left >= N) {
                UNROLL for (int j = 0; j < N; ++j, from += step) r[j] = ::load(from);
            } else {
                UNROLL for (int j = 0; j < N; ++j, from += step) r[j] =
                    j < (int)left ? ::load(from) : rounded<KIND>(-INF);
            }
            UNROLL for (int j = 0; j < N; ++j) E::put(v, j, r[j]);
            return v;
        } else {
            // A 16-byte word that holds any class of this row lies whole within the allocation, because
            // allocations begin and end at multiples of 16 bytes or more.
            u32 off = at & 15;
            const Vec* from = (const Vec*)(at - off) + i;
            v = load_16(from);
            if (off) {
                Vec b = v;
                if ((i64)(16 - off) < left * (i64)sizeof(Raw)) b = load_16(from + 1);
                v = joined(v, b, off);
            }
            if (left < N) {
                UNROLL for (int j = 0; j < N; ++j) if (j >= left) E::put(v, j, rounded<KIND>(-INF));
            }
            return v;
        }
    }

    __device__ inline void store_some(i64 i, const Vec& v, int from, i64 to) const {
        const int end = to < N ? (int)to : N;
        Raw* there = &element(i * N);
        UNROLL for (int j = 0; j < N; ++j, there += STRIDED ? step : 1) if (j >= from && j < end)* there =
            E::element(v, j);
    }

    // Write vector i, if it is before `end`. Lane l of WIDTH lanes holds vector i, and lane l + 1
    // vector i + 1. In a row that is not aligned a 16-byte word holds parts of two vectors; lanes
    // without a vector take part in the exchange between neighbours.
    template <int WIDTH> __device__ inline void store(i64 i, i64 end, int lane, const Vec& v) const {
        i64 left = i < end ? classes - i * N : 0;
        if constexpr (STRIDED || WIDTH == 1) {
            store_some(i, v, 0, left);
        } else {
            u32 off = at & 15;
            Vec* to = (Vec*)(at - off) + i;
            if (!off) {
                if (left >= N) store_16(to, v);
                else store_some(i, v, 0, left);
                return;
            }
            // The word at `to` holds the end of the previous vector and the beginning of this one.
            Vec before;
            UNROLL for (int j = 0; j < 4; ++j) before.w[j] = shuffle_up<WIDTH>(v.w[j]);
            int head = (16 - off) / sizeof(Raw);
            if (lane == 0) {
                store_some(i, v, 0, left < head ? left : head);
            } else if (left >= head) {
                store_16(to, joined(before, v, 16 - off));
            } else if (left > 0) {
                store_some(i - 1, before, head, N);
                store_some(i, v, 0, left);
            }
            if (lane == WIDTH - 1 || i + 1 >= end) store_some(i, v, head, left);
        }
    }
};
