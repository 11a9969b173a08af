// The one kernel of rows: losses, statistics, gradient; compiled for the constants of passes.cuh.
#pragma once
#include "settle.cuh"

#include "few.cuh"  // after settle.cuh, whose Acc and THREADS it uses

#if PARTS > 1 && STAGE == 0
#define CLUSTER __cluster_dims__(PARTS, 1, 1)
#else
#define CLUSTER
#endif

struct Shared {
    Threads::Shared threads;
    Whole whole;
};

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

// Blocks to a multiprocessor that registers must do for: enough that some load while others compute,
// where 64 registers a thread can hold its part of a row and what is computed of it.
const int BLOCKS = MIXED || STORED == F64 || VECTORS > 4 ? 1 : 1024 / THREADS;

extern "C" __global__ void CLUSTER __launch_bounds__(THREADS, BLOCKS) rows(const __grid_constant__ Call c ADDED) {
    // Hook of few.cuh: before anything is read.
    if (is_written(c)) return;
#if ADDS
    before_rows(c, added_up);
#endif
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
    // Hook of few.cuh: after everything is written.
#if ADDS
    after_rows(c, added_up);
#endif
}
