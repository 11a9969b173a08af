// The emulator: every CUDA thread a fiber, a cluster of blocks at a time. Threads run one after another
// and change at shuffles and barriers alone, in one order or, to show what a missing barrier hides, in
// the other.
#include <signal.h>
#include <ucontext.h>

#include <memory>
#include <vector>

#include "intrinsics.h"

struct Barrier {
    int arrived = 0;
    u64 turn = 0;
};

// Copies that are under way are seen late, or not at all, by who does not wait for them.
struct Copy {
    void* to;
    const void* from;
    size_t size;
};

struct Fiber : Thread {
    ucontext_t context;
    int rank;  // of its block in the cluster
    bool done;
    bool arrived;   // at the cluster's barrier, where it need not wait yet
    u64 turn;       // of that barrier then
    Barrier lanes;  // of the lanes that this thread is the first of
    u64 slot;       // what it gives to a shuffle
    std::vector<Copy> copies;
};

typedef std::vector<unsigned char> Bytes;

struct Block {
    Barrier barrier;
    Bytes shared, staged;  // staged: of the size that the launch gives
};

static std::vector<Fiber> fibers;
static std::vector<Block> blocks;
static Barrier cluster;
static ucontext_t home;
static u64 progress;
static void (*work)();
Thread* now;
Index gridDim;

static Fiber& fiber() { return *(Fiber*)now; }
static Block& block() { return blocks[fiber().rank]; }
static int threads() { return (int)(fibers.size() / blocks.size()); }  // of a block
static Fiber& lane(int n) { return (&fiber())[n - (int)threadIdx.x % 32]; }

static void change() { swapcontext(&fiber().context, &home); }

static u64 arrive(Barrier& b, int need) {
    u64 turn = b.turn;
    ++progress;
    if (++b.arrived == need) {
        b.arrived = 0;
        ++b.turn;
    }
    return turn;
}
static void wait(const Barrier& b, u64 turn) {
    while (b.turn == turn) change();
}

static void meet_lanes(u32 mask) {
    Barrier& b = lane(__builtin_ctz(mask)).lanes;
    wait(b, arrive(b, __builtin_popcount(mask)));
}
void __syncthreads() { wait(block().barrier, arrive(block().barrier, threads())); }

int __syncthreads_or(int v) {
    fiber().slot = (u64)(v != 0);
    __syncthreads();
    int any = 0;
    for (int n = 0; n < threads(); ++n) any |= (int)fibers[fiber().rank * threads() + n].slot;
    __syncthreads();
    return any;
}

// Reaching the cluster's barrier, and waiting there, are two steps; each thread takes them in turn.
void cluster_arrive() {
    if (fiber().arrived) abort();
    fiber().arrived = true;
    fiber().turn = arrive(cluster, (int)fibers.size());
}
void cluster_wait() {
    if (!fiber().arrived) abort();
    fiber().arrived = false;
    wait(cluster, fiber().turn);
}
void cluster_sync() {
    cluster_arrive();
    cluster_wait();
}

// Call each(bits, lane) for what every lane of the mask gives.
template <class F> static void exchange(u32 mask, u64 bits, F each) {
    if (!(mask >> (threadIdx.x % 32) & 1)) abort();
    fiber().slot = bits;
    meet_lanes(mask);
    for (int l = 0; l < 32; ++l)
        if (mask >> l & 1) each(lane(l).slot, l);
    meet_lanes(mask);
}
u64 shuffled_bits(u32 mask, u64 bits, int from) {
    u64 found = 0;
    exchange(mask, bits, [&](u64 given, int l) { found = l == from ? given : found; });
    return found;
}
int largest_of_warp(int v) {
    int found = v;
    exchange(0xffffffffu, (u64)v, [&](u64 given, int) { found = (int)given > found ? (int)given : found; });
    return found;
}
int sum_of_warp(int v) {
    int found = 0;
    exchange(0xffffffffu, (u64)v, [&](u64 given, int) { found += (int)given; });
    return found;
}

static uintptr_t aligned(Bytes& bytes) { return ((uintptr_t)bytes.data() + 15) / 16 * 16; }
void* shared_bytes(size_t size) {
    if (block().shared.size() < size + 16) abort();
    return (void*)aligned(block().shared);
}
void* staging_memory() { return (void*)aligned(block().staged); }
void* peer_bytes(void* mine, int other) {
    return (void*)((uintptr_t)mine - aligned(block().shared) + aligned(blocks[other].shared));
}
void copy_later(void* to, const void* from, size_t size) {
    if ((uintptr_t)from % size || (uintptr_t)to % size) abort();
    fiber().copies.push_back({to, from, size});
}
void copies_arrived() {
    for (Copy c : fiber().copies) memcpy(c.to, c.from, c.size);
    fiber().copies.clear();
}

static void body() {
    work();
    fiber().done = true;
    ++progress;
    change();
}

static const size_t STACK = 1 << 18;

// Run the fibers to their ends. Returns 1 where all wait for good.
static int run(bool backward) {
    for (size_t left = fibers.size(); left;) {
        u64 before = progress;
        left = 0;
        for (size_t n = 0; n < fibers.size(); ++n) {
            Fiber& f = fibers[backward ? fibers.size() - 1 - n : n];
            if (f.done) continue;
            now = &f;
            swapcontext(&home, &f.context);
            left += !f.done;
        }
        if (left && progress == before) return 1;
    }
    return 0;
}

int run_kernel(void (*kernel)(), u32 grid, u32 threads, u32 parts, u32 shared, int backward) {
    work = kernel;
    gridDim.x = grid;
    size_t count = (size_t)threads * parts;
    std::unique_ptr<unsigned char[]> stacks(new unsigned char[count * STACK]);
    // A handler must not run on a fiber's stack: what a signal saves there may be larger than it.
    sigset_t every, before;
    sigfillset(&every);
    pthread_sigmask(SIG_BLOCK, &every, &before);
    int stuck = 0;
    for (u32 at = 0; at < grid && !stuck; at += parts) {
        // What a block finds in its shared memory is what it happens to be.
        blocks.assign(parts, {{}, Bytes(1 << 14, 0xa5), Bytes(shared + 16, 0xa5)});
        cluster = {};
        fibers = std::vector<Fiber>(count);
        for (size_t i = 0; i < count; ++i) {
            Fiber& f = fibers[i];
            f.rank = (int)(i / threads);
            f.thread.x = (u32)(i % threads);
            f.block.x = (backward ? grid - parts - at : at) + (u32)f.rank;
            getcontext(&f.context);
            f.context.uc_stack.ss_sp = stacks.get() + i * STACK;
            f.context.uc_stack.ss_size = STACK;
            makecontext(&f.context, body, 0);
        }
        stuck = run(backward);
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return stuck;
}
