// Threads that share a row: what each found, merged in an order that depends on nothing but shape.
#pragma once
#include "memory.cuh"

// A piece of a row: its maximum, the sum of exp(z - maximum) over its classes below the maximum,
// and the number of classes at it.
template <class Acc> struct Piece {
    Acc m, below, tops;
};

template <class Acc> __device__ inline Piece<Acc> no_piece() {
    return Piece<Acc>{(Acc)-INF, (Acc)0, (Acc)0};
}

// A piece as one of a row whose maximum is `top`: its share of the row's `below`.
template <class Acc> __device__ inline Acc below_of(const Piece<Acc>& p, Acc top) {
    return p.m == top ? p.below : (p.below + p.tops) * (exp_scaled(p.m, top) * (Acc)DOWN);
}

template <class Acc> __device__ inline Piece<Acc> merged(const Piece<Acc>& a, const Piece<Acc>& b) {
    Acc top = larger(a.m, b.m);
    Acc tops = (a.m == top ? a.tops : (Acc)0) + (b.m == top ? b.tops : (Acc)0);
    return Piece<Acc>{top, below_of(a, top) + below_of(b, top), tops};
}

// EXACT: with what rounding lost of it, so that float64 has the same bits however a row is divided.
template <bool EXACT> struct Sum {
    double total = 0.0, lost = 0.0;

    __device__ inline void add(double v) {
        double t = total + v, back = t - total;
        double error = (total - (t - back)) + (v - back);
        lost += error == error ? error : 0.0;  // of an infinity there is none
        total = t;
    }
    __device__ inline double value() const { return total + lost; }
};
template <> struct Sum<false> {
    double total = 0.0;

    __device__ inline void add(double v) { total += v; }
    __device__ inline double value() const { return total; }
};

template <int WIDTH> __device__ inline u32 lanes_of() {
    if constexpr (WIDTH == 32) return 0xffffffffu;
    else return ((1u << WIDTH) - 1u) << ((threadIdx.x & 31) & ~(WIDTH - 1));
}

template <int WIDTH, class T> __device__ inline T shuffle_xor(T v, int o) {
    return __shfl_xor_sync(lanes_of<WIDTH>(), v, o, WIDTH);
}

template <int WIDTH, class T> __device__ inline T shuffle_up(T v) {
    return __shfl_up_sync(lanes_of<WIDTH>(), v, 1, WIDTH);
}

template <int WIDTH, class Acc> __device__ inline Acc largest_of_lanes(Acc v) {
    if constexpr (WIDTH == 32 && sizeof(Acc) == 4) {
        // As integers that are ordered as the floats are. A NaN is the largest: max.NaN made it positive.
        int key = (int)__float_as_uint(larger(v, v));
        key = largest_of_warp(key ^ ((key >> 31) & 0x7fffffff));
        return __uint_as_float((u32)(key ^ ((key >> 31) & 0x7fffffff)));
    } else {
#pragma unroll
        for (int o = WIDTH / 2; o; o >>= 1) v = larger(v, shuffle_xor<WIDTH>(v, o));
        return v;
    }
}

template <int WIDTH, class T> __device__ inline T sum_of_lanes(T v) {
#pragma unroll
    for (int o = WIDTH / 2; o; o >>= 1) v += shuffle_xor<WIDTH>(v, o);
    return v;
}

// Each lane has a piece: merge them.
template <int WIDTH, class Acc> __device__ inline Piece<Acc> merge_lanes(const Piece<Acc>& p) {
    Acc top = largest_of_lanes<WIDTH>(p.m);
    return Piece<Acc>{top, sum_of_lanes<WIDTH>(below_of(p, top)),
                      sum_of_lanes<WIDTH>(p.m == top ? p.tops : (Acc)0)};
}

// A warp merges pieces 0 to COUNT - 1 of a row.
template <int COUNT, class Acc, class F> __device__ inline Piece<Acc> merge_pieces(F piece) {
    int lane = threadIdx.x & 31;
    Piece<Acc> p = lane < COUNT ? piece(lane) : no_piece<Acc>();
#pragma unroll
    for (int n = 32; n < COUNT; n += 32)
        if (lane + n < COUNT) p = merged(p, piece(lane + n));
    return merge_lanes<32>(p);
}

template <int WIDTH, int COUNT, bool EXACT>
__device__ inline void add_lanes(Sum<EXACT> (&s)[COUNT]) {
#pragma unroll
    for (int n = 0; n < COUNT; ++n) {
#pragma unroll
        for (int o = WIDTH / 2; o; o >>= 1) {
            if constexpr (EXACT) s[n].lost += shuffle_xor<WIDTH>(s[n].lost, o);
            s[n].add(shuffle_xor<WIDTH>(s[n].total, o));
        }
    }
}

// One row to a group: up to 32 lanes of a warp, or a whole block, or a cluster of BLOCKS blocks.
template <int LANES, int BLOCKS, class Acc, int COUNT> struct Group {
    static const int WIDTH = LANES < 32 ? LANES : 32;
    static const int WARPS = LANES / WIDTH;
    static const int PIECES = WARPS * BLOCKS;
    typedef ::Sum<sizeof(Acc) == 8> Sum;
    struct Shared {
        Piece<Acc> pieces[2][PIECES];  // of a row and of the next: a thread may be one row ahead
        Sum sums[WARPS][COUNT];
        Sum parts[BLOCKS][COUNT];
    };

    // Every thread of a row calls it some time before `merge`.
    __device__ static void begin() {
        if constexpr (BLOCKS > 1) cluster_arrive();
    }

    // Merge what the warps of all blocks found; `part` numbers this block; `turn` is 0 and 1
    // in turn, row by row of those that are merged: an absent row has no barrier to keep threads together.
    __device__ static Piece<Acc> merge(Piece<Acc> p, Shared& s, int part, int turn) {
        if constexpr (PIECES > 1) {
            int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
            if constexpr (BLOCKS > 1) {
                // Lane b tells block b, which runs by now.
                cluster_wait();
                if (lane < BLOCKS) *peer(&s.pieces[turn][part * WARPS + warp], lane) = p;
                cluster_sync();
            } else {
                if (lane == 0) s.pieces[turn][warp] = p;
                __syncthreads();
            }
            p = merge_pieces<PIECES, Acc>([&](int n) { return s.pieces[turn][n]; });
        }
        return p;
    }

    // Blocks write into each other's memory and read their own: none need wait for another to leave.
    __device__ static void add(Sum (&v)[COUNT], Shared& s, int part) {
        add_lanes<WIDTH>(v);
        if constexpr (WARPS > 1) {
            int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
            for (int n = 0; n < COUNT; ++n)
                if (lane == 0) s.sums[warp][n] = v[n];
            __syncthreads();
            for (int n = 0; n < COUNT; ++n) v[n] = lane < WARPS ? s.sums[lane][n] : Sum{};
            add_lanes<32>(v);
        }
        if constexpr (BLOCKS > 1) {
            int lane = threadIdx.x & 31;
            for (int n = 0; n < COUNT; ++n)
                if (threadIdx.x < BLOCKS) peer(s.parts[part], lane)[n] = v[n];
            cluster_sync();
            for (int n = 0; n < COUNT; ++n) v[n] = lane < BLOCKS ? s.parts[lane][n] : Sum{};
            add_lanes<32>(v);
        }
    }
};
