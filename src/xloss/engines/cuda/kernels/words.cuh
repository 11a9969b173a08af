// What a thread of pixels.cuh reads: the numbers of its rows, one word a class, and their statistics.
#pragma once
#include "rows.cuh"

const int AT_ONCE = VECTORS * N;  // classes whose statistics are merged with those of the others
static_assert(PLAIN && GROUP == 1 && APART, "see pixel_plan.py");

// The numbers that a thread's rows have of each class, one word a class.
struct Words {
    u64 from;  // the address of class 0's word
    u32 step;  // bytes between classes
    int classes;
    u32 held[IN_REGISTERS ? IN_REGISTERS : 1];
    u32* room;  // where words are not held, class j is room[j * THREADS]

    __device__ inline u64 address(int j) const { return from + (u64)step * (u32)j; }

    __device__ inline void read() {
        if constexpr (IN_REGISTERS > 0) {
            UNROLL for (int j = 0; j < IN_REGISTERS; ++j) held[j] = word_at(address(j));
        } else {
            room = (u32*)staging_memory() + threadIdx.x;
#pragma unroll 8
            for (int j = 0; j < classes; ++j) {
                if constexpr (PIXELS * sizeof(Raw) == 4) copy_async_4(room + j * THREADS, (const u32*)address(j));
                else room[j * THREADS] = word_at(address(j));
            }
            for (int j = classes; j % N; ++j) room[j * THREADS] = E::masked().w[0];
        }
    }

    __device__ static inline u32 word_at(u64 at) {
        if constexpr (PIXELS * sizeof(Raw) == 4) return load_now((const u32*)at);
        else return load_now((const u16*)at);
    }

    __device__ inline u32 operator[](int j) const { return IN_REGISTERS ? held[j] : room[j * THREADS]; }

    __device__ inline Raw element(int r, int j) const {
        if constexpr (IN_REGISTERS > 0) return load((const Raw*)address(j) + r);
        else return raw(room[j * THREADS], r);
    }

    __device__ static inline Raw raw(u32 word, int r) {
        if constexpr (sizeof(Raw) == 2) return (Raw)(word >> (16 * r));
        else return __uint_as_float(word);
    }

    // Whether class j may be one of the row, known at compile time where words are held.
    __device__ static inline bool exists(int j) { return !IN_REGISTERS || j < IN_REGISTERS; }

    // Call each(j) for the first class of every vector from class `begin` to `end` - 1.
    template <class F> __device__ inline void sweep(int begin, int end, F each) const {
        if constexpr (IN_REGISTERS > 0) {
            UNROLL for (int j = 0; j < IN_REGISTERS; j += N) each(j);
        } else {
            for (int j = begin; j < end; j += N) each(j);
        }
    }
};

// Compare both rows' numbers with their maxima at once. The number at the maximum is lowered so far that
// its exp is nothing beside the others', and the ones are counted as 16-bit numbers: exact up to 256.
const bool PAIRS_COMPARE = SWIFT && COMPARES_PAIRS(STORED);
static_assert(!PAIRS_COMPARE || AT_ONCE <= 256, "more could not be counted");

__device__ inline u32 larger_word(u32 a, u32 b) {
    if constexpr (sizeof(Raw) == 2) return E::larger_pair(a, b);
    else return __float_as_uint(larger(__uint_as_float(a), __uint_as_float(b)));
}

// The statistics of classes `begin` to `end` - 1 of each of the thread's rows.
__device__ inline void find_pixels(const Words& words, int begin, int end, Piece<float> (&p)[PIXELS]) {
    u32 most = E::masked().w[0];
    words.sweep(begin, end, [&](int first) {
        UNROLL for (int j = 0; j < N; ++j) if (Words::exists(first + j)) most = larger_word(most, words[first + j]);
    });
    float top[PIXELS], sum[PIXELS];
    int tops[PIXELS];
    Near near[PIXELS];
    u32 least = 0, counted = 0;
    UNROLL for (int r = 0; r < PIXELS; ++r) {
        float m = widened<STORED>(Words::raw(most, r));
        top[r] = larger(m, m);
        near[r] = near_of(top[r]);
        if (SWIFT) least |= (E::pair_above(near[r].least) & 0xffffu) << (16 * r);
        sum[r] = 0;
        tops[r] = 0;
    }
    words.sweep(begin, end, [&](int first) {
        u32 v[N];
        UNROLL for (int j = 0; j < N; ++j) {
            if (!Words::exists(first + j)) continue;
            v[j] = words[first + j];
            if constexpr (PAIRS_COMPARE) {
                u32 ones = ones_where_equal<STORED>(v[j], most);
                counted = added_pair<STORED>(counted, ones);
                v[j] = lowered_pair<STORED>(v[j], ones);
            }
            if (SWIFT) v[j] = larger_word(v[j], least);
        }
        UNROLL for (int r = 0; r < PIXELS; ++r) {
            float e[N];
            UNROLL for (int j = 0; j < N; ++j) {
                e[j] = 0;
                if (!Words::exists(first + j)) continue;
                float z = widened<STORED>(Words::raw(v[j], r));
                e[j] = exp_near<SWIFT>(SWIFT ? z : fmaxf(z, near[r].least), near[r]);
                if constexpr (!PAIRS_COMPARE) {
                    // Nearly every vector has a maximum of some row of the warp: to look for them
                    // first, as rows.cuh does, would save nothing.
                    tops[r] += z == top[r];
                    e[j] = choose(z == top[r], 0.0f, e[j]);
                }
            }
            sum[r] += total_of(e);
        }
    });
    UNROLL for (int r = 0; r < PIXELS; ++r) {
        if (PAIRS_COMPARE) tops[r] = (int)widened<STORED>(Words::raw(counted, r));
        p[r] = piece_of(near[r], top[r], corrected(sum[r]), tops[r]);
    }
}
