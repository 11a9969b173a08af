// Threads that share a row: what each found, merged in an order that depends on nothing but shape.
#pragma once
#include "memory.cuh"

// A piece of a row: its maximum m, and sum = 2^(64 - k) * (the sum of exp over all its classes but
// one at the maximum). Whoever merges pieces adds the maxima that are left over.
template <class Acc> struct Piece {
    Acc m;
    float k;
    double sum;
};

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

template <int WIDTH, class Acc> __device__ inline void merge_lanes(Piece<Acc>& p) {
    if constexpr (WIDTH == 1) return;
    Acc top = p.m;
#pragma unroll
    for (int o = WIDTH / 2; o; o >>= 1) top = larger(top, shuffle_xor<WIDTH>(top, o));
    if constexpr (sizeof(Acc) == 4) {
        u32 mask = lanes_of<WIDTH>();
        u32 owners = __ballot_sync(mask, p.m == top) & mask;
        bool owner = owners && (int)(threadIdx.x & 31) == __ffs((int)owners) - 1;
        float k = scale_of(top);
        double sum = p.sum * power_of_two(p.k - k);
        if (!owner) sum += (double)exp_near(p.m, near_of(k));
#pragma unroll
        for (int o = WIDTH / 2; o; o >>= 1) sum += shuffle_xor<WIDTH>(sum, o);
        p.sum = sum;
        p.k = k;
    }
    p.m = top;
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

// One row to a group: up to 32 lanes of a warp, or a whole block, or BLOCKS blocks.
template <int LANES, int BLOCKS, class Acc, int COUNT> struct Group {
    static const int WIDTH = LANES < 32 ? LANES : 32;
    static const int WARPS = LANES / WIDTH;
    typedef ::Sum<sizeof(Acc) == 8> Sum;
    struct Shared {
        Piece<Acc> pieces[32];
        Sum sums[32][COUNT];
        Piece<Acc> piece;
        Sum sum[COUNT];
    };

    __device__ static Piece<Acc> none() {
        return Piece<Acc>{(Acc)-INF, scale_of(-2.0f * NEAR), 0.0};
    }

    // Merge over this block's threads.
    __device__ static void merge(Piece<Acc>& p, Shared& s) {
        merge_lanes<WIDTH>(p);
        if constexpr (WARPS > 1) {
            int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
            if (lane == 0) s.pieces[warp] = p;
            __syncthreads();
            p = lane < WARPS ? s.pieces[lane] : none();
            merge_lanes<32>(p);
        }
    }

    __device__ static void add(Sum (&v)[COUNT], Shared& s) {
        add_lanes<WIDTH>(v);
        if constexpr (WARPS > 1) {
            int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
            for (int n = 0; n < COUNT; ++n)
                if (lane == 0) s.sums[warp][n] = v[n];
            __syncthreads();
            for (int n = 0; n < COUNT; ++n) v[n] = lane < WARPS ? s.sums[lane][n] : Sum{};
            add_lanes<32>(v);
        }
    }

    // Merge over the blocks of a cluster; `of` finds another block's shared memory.
    __device__ static void merge_parts(Piece<Acc>& p, Shared& s) {
        if constexpr (BLOCKS > 1) {
            int lane = threadIdx.x & 31;
            if (threadIdx.x == 0) s.piece = p;
            cluster_sync();
            p = lane < BLOCKS ? *peer(&s.piece, lane) : none();
            merge_lanes<32>(p);
        }
    }

    __device__ static void add_parts(Sum (&v)[COUNT], Shared& s) {
        if constexpr (BLOCKS > 1) {
            int lane = threadIdx.x & 31;
            if (threadIdx.x == 0)
                for (int n = 0; n < COUNT; ++n) s.sum[n] = v[n];
            cluster_sync();
            for (int n = 0; n < COUNT; ++n) v[n] = lane < BLOCKS ? peer(s.sum, lane)[n] : Sum{};
            add_lanes<32>(v);
        }
    }
};
