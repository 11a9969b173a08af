// The emulator: every CUDA thread a fiber, a cluster of blocks at a time. Threads run one after another
// and change at shuffles and barriers alone, in one order or, to show what a missing barrier hides, in
// the other.

// Ubuntu's g++ defines it by itself, and then a longjmp to a lower address than the stack pointer's,
// as from the caller's stack to a fiber's, ends the process: "longjmp causes uninitialized stack
// frame". Undefined before the first header, which reads it.
#undef _FORTIFY_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <vector>

#include "intrinsics.h"

struct Fiber : Thread {
    ucontext_t context;
    jmp_buf at;  // swapcontext asks the kernel for the signals at every change
    int rank;    // of its block in the cluster
    bool begun, done;
    bool arrived;  // at the cluster's barrier, where it need not wait yet
    u64 turn;      // of that barrier then
};

struct Barrier {
    int arrived = 0;
    u64 turn = 0;
};

typedef std::vector<unsigned char> Bytes;

// Copies that are under way are seen late, or not at all, by who does not wait for them.
struct Copy {
    void* to;
    const void* from;
    size_t size;
};

struct Machine {
    std::vector<Fiber> fibers;
    jmp_buf home;
    u32 threads;                // of a block
    std::vector<Bytes> shared;  // of each block
    std::vector<Bytes> staged;  // the same of the size that the launch gives
    size_t staging;
    std::vector<Barrier> blocks, lanes;  // a barrier for each block; for each thread that leads lanes
    Barrier cluster;
    std::vector<u64> slots;                 // what each thread gives to a shuffle
    std::vector<std::vector<Copy>> copies;  // of each thread
    u64 progress;
};
static Machine machine;
static void (*work)();
Thread* now;
Index gridDim;

static Fiber& fiber() { return *(Fiber*)now; }
static int self() { return fiber().rank * (int)machine.threads + (int)threadIdx.x; }
static int warp() { return self() - (int)threadIdx.x % 32; }

static void change() {
    if (!_setjmp(fiber().at)) _longjmp(machine.home, 1);
}

static void arrive(Barrier& b, int need) {
    u64 turn = b.turn;
    ++machine.progress;
    if (++b.arrived == need) {
        b.arrived = 0;
        ++b.turn;
    } else {
        while (b.turn == turn) change();
    }
}

static void lanes(u32 mask) { arrive(machine.lanes[warp() + __builtin_ctz(mask)], __builtin_popcount(mask)); }
void __syncthreads() { arrive(machine.blocks[fiber().rank], (int)machine.threads); }

int __syncthreads_or(int v) {
    machine.slots[self()] = (u64)(v != 0);
    __syncthreads();
    int any = 0;
    for (u32 n = 0; n < machine.threads; ++n) any |= (int)machine.slots[fiber().rank * machine.threads + n];
    __syncthreads();
    return any;
}

// Reaching the cluster's barrier, and waiting there, are two steps; each thread takes them in turn.
void cluster_arrive() {
    Barrier& b = machine.cluster;
    Fiber& f = fiber();
    if (f.arrived) abort();
    f.arrived = true;
    f.turn = b.turn;
    ++machine.progress;
    if (++b.arrived == (int)machine.fibers.size()) {
        b.arrived = 0;
        ++b.turn;
    }
}
void cluster_wait() {
    Fiber& f = fiber();
    if (!f.arrived) abort();
    f.arrived = false;
    while (machine.cluster.turn == f.turn) change();
}
void cluster_sync() {
    cluster_arrive();
    cluster_wait();
}

u64 shuffled_bits(u32 mask, u64 bits, int from) {
    if (!(mask >> (threadIdx.x % 32) & 1)) abort();
    machine.slots[self()] = bits;
    lanes(mask);
    bits = machine.slots[warp() + from];
    lanes(mask);
    return bits;
}
u32 __ballot_sync(u32 mask, bool b) {
    u32 all = 0;
    machine.slots[self()] = b;
    lanes(mask);
    for (int l = 0; l < 32; ++l)
        if (mask >> l & 1) all |= (u32)machine.slots[warp() + l] << l;
    lanes(mask);
    return all;
}
int largest_of_warp(int v) {
    for (int o = 16; o; o >>= 1) {
        int w = __shfl_xor_sync(0xffffffffu, v, o, 32);
        v = v > w ? v : w;
    }
    return v;
}
int sum_of_warp(int v) {
    for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o, 32);
    return v;
}

static uintptr_t aligned(Bytes& bytes) { return ((uintptr_t)bytes.data() + 15) / 16 * 16; }
void* shared_bytes(size_t size) {
    Bytes& bytes = machine.shared[fiber().rank];
    if (bytes.size() < size + 16) abort();
    return (void*)aligned(bytes);
}
void* staging_memory() { return (void*)aligned(machine.staged[fiber().rank]); }
void* peer_bytes(void* mine, int block) {
    return (void*)((uintptr_t)mine - aligned(machine.shared[fiber().rank]) + aligned(machine.shared[block]));
}
void copy_later(void* to, const void* from, size_t size) {
    if ((uintptr_t)from % size || (uintptr_t)to % size) abort();
    machine.copies[self()].push_back({to, from, size});
}
void copies_arrived() {
    for (Copy c : machine.copies[self()]) memcpy(c.to, c.from, c.size);
    machine.copies[self()].clear();
}

static void body() {
    work();
    fiber().done = true;
    ++machine.progress;
    change();
}

static void enter(Fiber& f) {
    if (_setjmp(machine.home)) return;
    if (f.begun) _longjmp(f.at, 1);
    f.begun = true;
    setcontext(&f.context);
}

static const size_t STACK = 1 << 18;

// Run `work` on every thread; backward: the last block and thread first. Returns 1 where all wait for good.
static int run(u32 grid, u32 threads, u32 cluster, bool backward, unsigned char* stacks) {
    size_t count = (size_t)threads * cluster;
    Machine& m = machine;
    gridDim.x = grid;
    m.threads = threads;
    m.fibers.resize(count);
    m.blocks.assign(cluster, Barrier());
    m.lanes.assign(count + 32, Barrier());
    m.slots.assign(count + 32, 0);
    m.copies.assign(count, {});
    m.cluster = Barrier();
    for (u32 at = 0; at < grid; at += cluster) {
        u32 first = backward ? grid - cluster - at : at;
        // What a block finds in its shared memory is what it happens to be.
        m.shared.assign(cluster, Bytes(1 << 14, 0xa5));
        m.staged.assign(cluster, Bytes(m.staging + 16, 0xa5));
        for (size_t i = 0; i < count; ++i) {
            Fiber& f = m.fibers[i];
            f.rank = (int)(i / threads);
            f.thread.x = (u32)(i % threads);
            f.block.x = first + (u32)f.rank;
            f.begun = f.done = f.arrived = false;
            m.copies[i].clear();
            getcontext(&f.context);
            f.context.uc_stack.ss_sp = stacks + i * STACK;
            f.context.uc_stack.ss_size = STACK;
            f.context.uc_link = nullptr;
            makecontext(&f.context, body, 0);
        }
        for (size_t left = count; left;) {
            u64 before = m.progress;
            left = 0;
            for (size_t n = 0; n < count; ++n) {
                Fiber& f = m.fibers[backward ? count - 1 - n : n];
                if (f.done) continue;
                now = &f;
                enter(f);
                left += !f.done;
            }
            if (left && m.progress == before) return 1;
        }
    }
    return 0;
}

int run_kernel(
    void (*kernel)(), u32 grid, u32 threads, u32 cluster, u32 shared, int backward) {
    machine.staging = shared;
    work = kernel;
    // Of what is mapped anew only the pages that are used take memory.
    size_t bytes = (size_t)threads * cluster * STACK;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* stacks = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (stacks == MAP_FAILED) return 2;
    // A handler must not run on a fiber's stack: what a signal saves there may be larger than it.
    sigset_t every, before;
    sigfillset(&every);
    pthread_sigmask(SIG_BLOCK, &every, &before);
    int stuck = run(grid, threads, cluster, backward, (unsigned char*)stacks);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    munmap(stacks, bytes);
    return stuck;
}
