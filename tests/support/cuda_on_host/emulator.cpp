#include "intrinsics.h"

#include <signal.h>
#include <sys/mman.h>

#include "kernels.cu"

static void (*work)();

static void body() {
    work();
    machine.now->done = true;
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
    m.grid.x = grid;
    m.threads.x = threads;
    m.fibers.resize(count);
    m.blocks.assign(cluster, Barrier());
    m.lanes.assign(count + 32, Barrier());
    m.slots.assign(count + 32, 0);
    m.cluster = Barrier();
    for (u32 at = 0; at < grid; at += cluster) {
        u32 first = backward ? grid - cluster - at : at;
        // What a block finds in its shared memory is what it happens to be.
        m.shared.assign(cluster, std::vector<unsigned char>(1 << 14, 0xa5));
        m.staged.assign(cluster, std::vector<unsigned char>(m.staging + 16, 0xa5));
        for (size_t i = 0; i < count; ++i) {
            Fiber& f = m.fibers[i];
            f.rank = (int)(i / threads);
            f.thread.x = (u32)(i % threads);
            f.block.x = first + (u32)f.rank;
            f.begun = f.done = f.arrived = false;
            if (i < copies().size()) copies()[i].clear();
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
                m.now = &f;
                enter(f);
                left += !f.done;
            }
            if (left && m.progress == before) return 1;
        }
    }
    return 0;
}

#ifdef SUMS
static const unsigned char* given;
static void kernel() { sums(*(const Sums*)given, *(const Call*)(given + sizeof(Sums))); }
#elif ADDS
static const unsigned char* given;
static void kernel() { rows(*(const Call*)given, *(const Sums*)(given + sizeof(Call))); }
#else
static const Call* given;
static void kernel() { rows(*given); }
#endif

// The one name that others see: with all hidden, no two of these libraries share a machine.
extern "C" __attribute__((visibility("default"))) int launch(
    u32 grid, u32 threads, u32 cluster, u32 shared, const void* parameters, int backward) {
    machine.staging = shared;
    given = (decltype(given))parameters;
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
