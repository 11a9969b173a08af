// The kernel of rows whose classes lie apart and whose neighbours lie side by side, as the pixels of
// segmentation do: one thread takes one row or two, reads a word of each class, and needs nothing of
// any other thread. A row gets the bits that the kernel of rows.cuh gives it: this one has the same
// order of arithmetic, and leaves rows that are far from 0 to that one's functions. Only for labels
// without smoothing, z-loss or softcap, and not for float64. Its constants, beside those of staging.cuh:
//   PIXELS        rows of a thread: two 16-bit numbers of one class fill a word
//   IN_REGISTERS  the number of classes, if a thread's words stay in registers; 0: in shared memory
#pragma once
#include "words.cuh"

// The label of a row.
__device__ inline i64 label_of(const Call& c, i64 row) {
    if constexpr (LABELS == 3) return load((const i64*)c.labels.address + row);
    else if constexpr (LABELS == 2) return load((const int*)c.labels.address + row);
    else return integer_of<LABELS>(c.labels, row);
}

// The bytes from an array's first row to this one.
__device__ inline i64 bytes_to(const Call& c, const Place& p, u32 row) {
    // The product's high half, 32 bits at a time: a division takes as many instructions as two classes.
    u64 low = (u64)row * (u32)c.inner_inverse, high = (u64)row * (u32)(c.inner_inverse >> 32);
    u32 outer = FLAT ? 0 : (u32)((high + (low >> 32)) >> 32);
    return (outer * p.outer_step + (row - outer * (u32)p.inner) * p.inner_step) * (i64)sizeof(Raw);
}

// Without weights it is a number of rows.
typedef Either<WEIGHED, double, int>::Type Weight;

// A thread's rows: `row` and, where it has two, the next.
struct Pixels {
    const Call& call;
    u32 row;
    Words words;
    double loss;    // their sum
    Weight weight;  // the same
    // What their gradients are computed from; all stay in registers.
    Whole whole[PIXELS];
    int label[PIXELS];
    u32 kept;    // the bits of a word that are not those of an absent row
    bool alone;  // some row is not near 0 (see near_of): each is computed by itself

    __device__ Pixels(const Call& c, u32 row) : call(c), row(row), loss(0), weight(0) {
        words.from = c.x.address + bytes_to(c, c.x, row);
        words.step = (u32)(c.x.class_step * (i64)sizeof(Raw));
        words.classes = (int)c.classes;
    }

    // Find statistics and losses, and prepare the gradient.
    __device__ inline void settle() {
        const Call& c = call;
        i64 y[PIXELS];
        UNROLL for (int r = 0; r < PIXELS; ++r) y[r] = label_of(c, row + r);
        words.read();
        Facts<float> f[PIXELS];
        float at[PIXELS], rest[PIXELS];
        Piece<float> p[PIXELS];
        UNROLL for (int r = 0; r < PIXELS; ++r) {
            f[r] = facts_of<float, true, WEIGHED>(c, row + r, y[r]);
            if constexpr (IN_REGISTERS > 0) at[r] = widened<STORED>(words.element(r, (int)f[r].label));
        }
        copies_arrived();
        if constexpr (IN_REGISTERS == 0) {
            UNROLL for (int r = 0; r < PIXELS; ++r) at[r] = widened<STORED>(words.element(r, (int)f[r].label));
        }
        alone = false;
        // Without a gradient, statistics that are given save nothing.
        if (GRAD && c.given_statistics) {
            UNROLL for (int r = 0; r < PIXELS; ++r) {
                p[r].m = ((const float*)c.maxima)[row + r];
                rest[r] = (float)((const double*)c.tail_sums)[row + r];
            }
        } else {
            find_pixels(words, 0, ONCE || words.classes < AT_ONCE ? words.classes : AT_ONCE, p);
            if constexpr (!ONCE) {
                for (int begin = AT_ONCE; begin < words.classes; begin += AT_ONCE) {
                    Piece<float> more[PIXELS];
                    int end = begin + AT_ONCE < words.classes ? begin + AT_ONCE : words.classes;
                    find_pixels(words, begin, end, more);
                    UNROLL for (int r = 0; r < PIXELS; ++r) p[r] = merged(p[r], more[r]);
                }
            }
            UNROLL for (int r = 0; r < PIXELS; ++r) {
                rest[r] = p[r].below + (p[r].tops - 1);
                alone |= !f[r].absent && (!is_near(p[r].m) || rest[r] < FEW);
            }
        }
        await_launch_before();
        kept = 0;
        UNROLL for (int r = 0; r < PIXELS; ++r) {
            bool absent = f[r].absent;
#if ADDS
            // Losses and weights are added up and not written.
            whole[r] = settle_light(c, at[r], row + r, f[r], p[r].m, rest[r], false);
            if (c.maxima) write_stats(c, row + r, absent ? 0 : p[r].m, absent ? 0.0 : (double)rest[r]);
            float own = loss_light(c, at[r], f[r], p[r].m, rest[r]);
            loss += (double)choose(absent, 0.0f, own);
            weight += WEIGHED ? absent ? (Weight)0 : (Weight)weight_light(f[r]) : (Weight)!absent;
#else
            whole[r] = settle_light(c, at[r], row + r, f[r], p[r].m, rest[r], !absent && !alone);
            if (absent) row_of_nothing(c, row + r);
#endif
            if constexpr (GRAD) {
                bool dead = f[r].absent || whole[r].dead;
                alone |= !dead && !whole[r].is_near;
                label[r] = (int)f[r].label;
                if (!dead) kept |= sizeof(Raw) == 2 ? 0xffffu << (16 * r) : 0xffffffffu;
            }
        }
    }

    // Settle a row by itself, and write its gradient too.
    __device__ inline void settle_alone(i64 row, Shared& s) {
        const Call& c = call;
        Facts<float> f = facts_of<float, true, WEIGHED>(c, row, label_of(c, row));
        if (!GRAD && f.absent) return;
        Mine mine(c, row, 0);
        Whole w;
        w.dead = true;
        w.label = -1;
        if (!f.absent) {
            mine.stage(mine.first);
            int turn = 0;
            float top, rest, at_label = widened<STORED>(mine.row.element(f.label));
            double values[COUNT];
            find_row(mine, row, 0, turn, s, top, rest, values);
            w = settle_light(c, at_label, row, f, top, rest, true);
            loss += (double)loss_light(c, at_label, f, top, rest);
            weight += (Weight)weight_light(f);
        }
        if constexpr (GRAD) write_gradient(mine, w, row);
    }

    __device__ inline void write() const {
        const Call& c = call;
        u64 to = c.gradient.address + bytes_to(c, c.gradient, forgotten(row));
        u32 step = (u32)(c.gradient.class_step * (i64)sizeof(Raw));
        words.sweep(0, words.classes, [&](int first) {
            UNROLL for (int j = 0; j < N; ++j) {
                if (IN_REGISTERS ? !Words::exists(first + j) : first + j >= words.classes) continue;
                u32 v = words[first + j];
                float g[PIXELS];
                UNROLL for (int r = 0; r < PIXELS; ++r) {
                    g[r] = slope_near(widened<STORED>(Words::raw(v, r)), whole[r]);
                    g[r] = choose(first + j == label[r], whole[r].at_label, g[r]);
                }
                u64 there = to + (u64)step * (u32)(first + j);
                if constexpr (sizeof(Raw) == 4) store_4((u32*)there, __float_as_uint(g[0]) & kept);
                else if constexpr (PIXELS == 2) store_4((u32*)there, rounded_pair<STORED>(g[0], g[1]) & kept);
                else *(u16*)there = (u16)rounded<STORED>(g[0]) & (u16)kept;
            }
        });
    }
};

#if ADDS
struct AddedPixels {
    Pair warps[THREADS / 32], all[WORKERS / 32];
    bool last;
};

// Add up a block's losses and weights in one order, and count the block.
__device__ inline void add_pixels(const Call& c, const Pixels& pixels) {
    AddedPixels& room = shared_memory<AddedPixels>();
    Pair p{sum_of_lanes<32>(pixels.loss), 0.0};
    if constexpr (WEIGHED) p.weight = sum_of_lanes<32>((double)pixels.weight);
    else p.weight = (double)sum_of_warp((int)pixels.weight);
    if (threadIdx.x % 32 == 0) room.warps[threadIdx.x / 32] = p;
    __syncthreads();
    if (threadIdx.x > 0) return;
    p = sum_of_warps(room.warps);
    ((Pair*)c.partial)[blockIdx.x] = p;
    if (!c.counter) return;
    __threadfence();
    room.last = is_last(c.counter);
}
#endif

// Blocks whose registers must fit a multiprocessor together: what some load covers the time that others
// compute. A thread that holds its words needs about so many registers, without spilling any.
const int NEEDED = (HALVES ? 30 : 43) + IN_REGISTERS + MORE_REGISTERS, FITTING = 65536 / (NEEDED * THREADS);
const int BLOCKS = !IN_REGISTERS ? 4 : FITTING < 5 ? FITTING : 5;

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) rows(const __grid_constant__ Call c) {
    // See few.cuh. This must come before anything is read.
    if (is_written(c)) return;
    const u32 EACH = THREADS * PIXELS;
    for (u32 begin = blockIdx.x * EACH; begin < (u32)c.rows; begin += gridDim.x * EACH) {
        u32 row = begin + threadIdx.x * PIXELS;
        bool inside = row < (u32)c.rows;
        Pixels pixels(c, inside ? row : 0);
        if (inside) pixels.settle();
        bool alone = inside && pixels.alone;
        // What follows stages its rows where, if words are not held, other threads have words of theirs.
        bool some_alone = __syncthreads_or(alone);
#if ADDS
        // There are as many blocks as partial sums. While the counter's answer is under way, the
        // gradient is written.
        if (c.partial && !some_alone) add_pixels(c, pixels);
#endif
        if (GRAD && inside && !alone) pixels.write();
        if (some_alone) {
            if constexpr (IN_REGISTERS == 0 && GRAD) __syncthreads();
            if (alone) {
                pixels.loss = pixels.weight = 0;
#pragma unroll 1
                for (int r = 0; r < PIXELS; ++r) pixels.settle_alone(row + r, shared_memory<Shared>());
            }
#if ADDS
            if (c.partial) add_pixels(c, pixels);
#endif
        }
        if constexpr (IN_REGISTERS == 0) __syncthreads();
    }
#if ADDS
    if (!c.counter) return;
    // The last block to arrive adds up the sums of all in their order.
    AddedPixels& room = shared_memory<AddedPixels>();
    __syncthreads();
    if (!room.last) return;
    __threadfence();
    Pair p = added_blocks<THREADS>(c, room.all, gridDim.x);
    if (threadIdx.x == 0) finish<Acc>(c, p);
#endif
}
