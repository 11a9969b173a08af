// Merges what the threads that share a row have found. The order of merging depends on the shape
// alone, so that a row's bits do not depend on the batch or on the timing of threads.
#pragma once
#include "memory.cuh"

// Statistics of some classes of a row: their maximum m, the sum of exp(z - m) over the classes below
// it, and the number of classes at it.
template <class Acc> struct Piece { Acc m, below, tops; };

template <class Acc> __device__ inline Piece<Acc> no_piece() { return Piece<Acc>{(Acc)-INF, (Acc)0, (Acc)0}; }

// What these classes add to the sum below the maximum of a row whose maximum is `top`.
template <class Acc> __device__ inline Acc below_of(const Piece<Acc>& p, Acc top) {
    return p.m == top ? p.below : (p.below + p.tops) * (exp_scaled(p.m, top) * (Acc)DOWN);
}

template <class Acc> __device__ inline Piece<Acc> merged(const Piece<Acc>& a, const Piece<Acc>& b) {
    Acc top = larger(a.m, b.m);
    Acc tops = (a.m == top ? a.tops : (Acc)0) + (b.m == top ? b.tops : (Acc)0);
    return Piece<Acc>{top, below_of(a, top) + below_of(b, top), tops};
}

// A sum in float64. EXACT: the rounding errors are added up beside it, which makes float64 rows
// accurate enough that dividing them among more threads changes no bit.
template <bool EXACT> struct Sum {
    double total = 0.0, lost = 0.0;

    __device__ inline void add(double v) {
        double t = total + v, back = t - total;
        double error = (total - (t - back)) + (v - back);
        lost += error == error ? error : 0.0;  // the error of an infinite sum is NaN
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
        // The warp's reduction takes integers: these are ordered as the floats are. `larger` returns
        // the positive NaN, which is the largest integer of all, so that NaN survives.
        int key = (int)__float_as_uint(larger(v, v));
        key = largest_of_warp(key ^ ((key >> 31) & 0x7fffffff));
        return __uint_as_float((u32)(key ^ ((key >> 31) & 0x7fffffff)));
    } else {
        UNROLL for (int o = WIDTH / 2; o; o >>= 1) v = larger(v, shuffle_xor<WIDTH>(v, o));
        return v;
    }
}

template <int WIDTH, class T> __device__ inline T sum_of_lanes(T v) {
    UNROLL for (int o = WIDTH / 2; o; o >>= 1) v += shuffle_xor<WIDTH>(v, o);
    return v;
}

// Merge the statistics that WIDTH lanes hold.
template <int WIDTH, class Acc> __device__ inline Piece<Acc> merge_lanes(const Piece<Acc>& p) {
    Acc top = largest_of_lanes<WIDTH>(p.m);
    return Piece<Acc>{top, sum_of_lanes<WIDTH>(below_of(p, top)), sum_of_lanes<WIDTH>(p.m == top ? p.tops : (Acc)0)};
}

// Merge COUNT statistics of a row by WIDTH lanes of a warp; piece(n) returns number n. The bits are the
// same for every WIDTH that is not below COUNT.
template <int WIDTH, int COUNT, class Acc, class F> __device__ inline Piece<Acc> merge_pieces(F piece) {
    int lane = threadIdx.x % WIDTH;
    Piece<Acc> p = lane < COUNT ? piece(lane) : no_piece<Acc>();
    UNROLL for (int n = WIDTH; n < COUNT; n += WIDTH) if (lane + n < COUNT) p = merged(p, piece(lane + n));
    return merge_lanes<WIDTH>(p);
}

template <int WIDTH, int COUNT, bool EXACT>
__device__ inline void add_lanes(Sum<EXACT> (&s)[COUNT]) {
    UNROLL for (int n = 0; n < COUNT; ++n) {
        UNROLL for (int o = WIDTH / 2; o; o >>= 1) {
            if constexpr (EXACT) s[n].lost += shuffle_xor<WIDTH>(s[n].lost, o);
            s[n].add(shuffle_xor<WIDTH>(s[n].total, o));
        }
    }
}

// The threads that share a row: up to 32 lanes of a warp, a whole block, or a cluster of BLOCKS blocks.
template <int LANES, int BLOCKS, class Acc, int COUNT> struct Group {
    static const int WIDTH = LANES < 32 ? LANES : 32;
    static const int WARPS = LANES / WIDTH;
    static const int PIECES = WARPS * BLOCKS;
    typedef ::Sum<sizeof(Acc) == 8> Sum;
    struct Shared {
        Piece<Acc> pieces[2][PIECES];  // for two rows in turn, because a thread may be one row ahead
        Sum sums[WARPS][COUNT];
        Sum parts[BLOCKS][COUNT];
    };

    // Every thread of a row calls this some time before `merge`: a block must not write into another
    // that has not started yet.
    __device__ static void begin() {
        if constexpr (BLOCKS > 1) cluster_arrive();
    }

    // Merge what the warps of all blocks found. part: the number of this block in its row. turn:
    // alternates between 0 and 1 from one merged row to the next. It must not alternate at absent
    // rows, which have no barrier: a thread could then overwrite what another still reads.
    __device__ static Piece<Acc> merge(Piece<Acc> p, Shared& s, int part, int turn) {
        if constexpr (PIECES > 1) {
            int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
            if constexpr (BLOCKS > 1) {
                // Lane b writes to block b, which is running after this wait.
                cluster_wait();
                if (lane < BLOCKS) *peer(&s.pieces[turn][part * WARPS + warp], lane) = p;
                cluster_sync();
            } else {
                if (lane == 0) s.pieces[turn][warp] = p;
                __syncthreads();
            }
            p = merge_pieces<32, PIECES, Acc>([&](int n) { return s.pieces[turn][n]; });
        }
        return p;
    }

    // Blocks write into each other's shared memory and read only their own, so that a block may end
    // while others still read.
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
