// The CUDA kernels on the host: every CUDA thread a fiber, a cluster of blocks at a time.
// Threads run one after another and change at shuffles and barriers alone, in one order or, to show
// what a missing barrier hides, in the other.
#pragma once
// Ubuntu's g++ defines it by itself, and then a longjmp to a lower address than the stack pointer's,
// as from the caller's stack to a fiber's, ends the process: "longjmp causes uninitialized stack
// frame". Undefined before the first header, which reads it.
#undef _FORTIFY_SOURCE
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define XLOSS_ON_HOST
#define __device__
#define __global__
#define __grid_constant__
#define __launch_bounds__(...)
#define __cluster_dims__(x, y, z)

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

struct Index {
    u32 x;
};

struct Fiber {
    ucontext_t context;
    jmp_buf at;  // swapcontext asks the kernel for the signals at every change
    Index thread, block;
    int rank;  // of its block in the cluster
    bool begun, done;
    bool arrived;  // at the cluster's barrier, where it need not wait yet
    u64 turn;      // of that barrier then
};

struct Barrier {
    int arrived = 0;
    u64 turn = 0;
};

struct Machine {
    std::vector<Fiber> fibers;
    Fiber* now;
    jmp_buf home;
    Index grid, threads;
    std::vector<std::vector<unsigned char>> shared;  // of each block
    std::vector<std::vector<unsigned char>> staged;  // the same of the size that the launch gives
    size_t staging;
    std::vector<Barrier> blocks, lanes;  // a barrier for each block; for each thread that leads lanes
    Barrier cluster;
    std::vector<u64> slots;  // what each thread gives to a shuffle
    u64 progress;
};
inline Machine machine;

#define threadIdx (machine.now->thread)
#define blockIdx (machine.now->block)
#define gridDim (machine.grid)

inline void change() {
    if (!_setjmp(machine.now->at)) _longjmp(machine.home, 1);
}

inline void arrive(Barrier& b, int need) {
    u64 turn = b.turn;
    ++machine.progress;
    if (++b.arrived == need) {
        b.arrived = 0;
        ++b.turn;
    } else {
        while (b.turn == turn) change();
    }
}

inline int self() { return machine.now->rank * (int)machine.threads.x + (int)threadIdx.x; }
inline int warp() { return self() - (int)threadIdx.x % 32; }
inline void lanes(u32 mask) { arrive(machine.lanes[warp() + __builtin_ctz(mask)], __builtin_popcount(mask)); }
inline void __syncthreads() { arrive(machine.blocks[machine.now->rank], (int)machine.threads.x); }

// Reaching the cluster's barrier, and waiting there, are two steps; each thread takes them in turn.
inline void cluster_arrive() {
    Barrier& b = machine.cluster;
    Fiber& f = *machine.now;
    if (f.arrived) abort();
    f.arrived = true;
    f.turn = b.turn;
    ++machine.progress;
    if (++b.arrived == (int)machine.fibers.size()) {
        b.arrived = 0;
        ++b.turn;
    }
}
inline void cluster_wait() {
    Fiber& f = *machine.now;
    if (!f.arrived) abort();
    f.arrived = false;
    while (machine.cluster.turn == f.turn) change();
}
inline void cluster_sync() {
    cluster_arrive();
    cluster_wait();
}

template <class T> T shuffled(u32 mask, T v, int from) {
    u64 bits = 0;
    memcpy(&bits, &v, sizeof(T));
    if (!(mask >> (threadIdx.x % 32) & 1)) abort();
    machine.slots[self()] = bits;
    lanes(mask);
    bits = machine.slots[warp() + from];
    lanes(mask);
    memcpy(&v, &bits, sizeof(T));
    return v;
}

template <class T> T __shfl_xor_sync(u32 mask, T v, int o, int) {
    return shuffled(mask, v, (int)(threadIdx.x % 32) ^ o);
}
template <class T> T __shfl_up_sync(u32 mask, T v, int d, int width) {
    int lane = threadIdx.x % 32;
    return shuffled(mask, v, lane % width < d ? lane : lane - d);
}
inline u32 __ballot_sync(u32 mask, bool b) {
    u32 all = 0;
    machine.slots[self()] = b;
    lanes(mask);
    for (int l = 0; l < 32; ++l)
        if (mask >> l & 1) all |= (u32)machine.slots[warp() + l] << l;
    lanes(mask);
    return all;
}

template <class T> T& shared_memory() {
    auto& bytes = machine.shared[machine.now->rank];
    if (bytes.size() < sizeof(T) + 16) abort();
    return *(T*)(((uintptr_t)bytes.data() + 15) / 16 * 16);
}
template <class T> T* peer(T* mine, int block) {
    auto base = [](int b) { return ((uintptr_t)machine.shared[b].data() + 15) / 16 * 16; };
    return (T*)((uintptr_t)mine - base(machine.now->rank) + base(block));
}

inline void* staging_memory() {
    return (void*)(((uintptr_t)machine.staged[machine.now->rank].data() + 15) / 16 * 16);
}
// Copies that are under way are seen late, or not at all, by who does not wait for them.
struct Copy {
    void* to;
    const void* from;
};
inline std::vector<std::vector<Copy>>& copies() {  // of each thread
    static std::vector<std::vector<Copy>> of;
    if (of.size() < machine.fibers.size()) of.resize(machine.fibers.size());
    return of;
}
template <class V> void copy_async(V* to, const V* from) {
    if ((uintptr_t)from % 16 || (uintptr_t)to % 16) abort();
    copies()[self()].push_back({to, from});
}
inline void copies_arrived() {
    for (Copy c : copies()[self()]) memcpy(c.to, c.from, 16);
    copies()[self()].clear();
}

template <class To, class From> To bits_of(From v) {
    To out;
    memcpy(&out, &v, sizeof(To));
    return out;
}
inline u32 __float_as_uint(float v) { return bits_of<u32>(v); }
inline float __uint_as_float(u32 v) { return bits_of<float>(v); }
inline long long __double_as_longlong(double v) { return bits_of<long long>(v); }
inline double __longlong_as_double(long long v) { return bits_of<double>(v); }
inline int __double2loint(double v) { return (int)(u32)bits_of<u64>(v); }
inline int __double2hiint(double v) { return (int)(u32)(bits_of<u64>(v) >> 32); }
inline double __hiloint2double(int hi, int lo) { return bits_of<double>((u64)(u32)hi << 32 | (u32)lo); }
// Threads run one after another, so what one has written all others see.
inline void __threadfence() {}
inline u32 atomicAdd(u32* to, u32 more) {
    u32 before = *to;
    *to += more;
    return before;
}
inline int __ffs(int v) { return __builtin_ffs(v); }
inline u32 __funnelshift_r(u32 lo, u32 hi, u32 by) { return (u32)(((u64)hi << 32 | lo) >> (by & 31)); }

inline float half_to_float(u16 h) { return (float)bits_of<_Float16>(h); }
inline u16 float_to_half(float f) { return bits_of<u16>((_Float16)f); }
inline u16 float_to_bfloat(float f) {
    u32 b = __float_as_uint(f);
    return f != f ? 0x7fff : (u16)((b + 0x7fff + (b >> 16 & 1)) >> 16);
}
inline u32 floats_to_halves(float a, float b) { return float_to_half(a) | (u32)float_to_half(b) << 16; }
inline u32 floats_to_bfloats(float a, float b) { return float_to_bfloat(a) | (u32)float_to_bfloat(b) << 16; }
inline float larger(float a, float b) {  // of NaN the GPU makes one pattern
    return a != a || b != b ? bits_of<float>(0x7fffffffu) : a > b ? a : b;
}
inline float exp2_fast(float x) { return x < -126.0f ? 0.0f : exp2f(x); }
inline float log2_fast(float x) { return log2f(x); }
inline float reciprocal_fast(float x) { return 1.0f / x; }
template <class T> T choose(bool which, T a, T b) { return which ? a : b; }
inline u16 float_to_half_up(float f) {
    u16 h = float_to_half(f);
    if (half_to_float(h) >= f) return h;
    return h & 0x8000 ? h - 1 : h + 1;
}
inline u32 larger_halves(u32 a, u32 b) {
    u32 both = 0;
    for (int s = 0; s < 32; s += 16) {
        float x = half_to_float((u16)(a >> s)), y = half_to_float((u16)(b >> s));
        both |= (u32)(x != x || y != y ? 0x7fff : float_to_half(x > y ? x : y)) << s;
    }
    return both;
}
inline u32 larger_bfloats(u32 a, u32 b) {
    u32 both = 0;
    for (int s = 0; s < 32; s += 16) {
        float x = __uint_as_float(a >> s << 16), y = __uint_as_float(b >> s << 16);
        both |= (u32)(x != x || y != y ? 0x7fff : float_to_bfloat(x > y ? x : y)) << s;
    }
    return both;
}
inline int largest_of_warp(int v) {
    for (int o = 16; o; o >>= 1) {
        int w = __shfl_xor_sync(0xffffffffu, v, o, 32);
        v = v > w ? v : w;
    }
    return v;
}

template <class V> V load_16(const V* from) {
    if ((uintptr_t)from % 16) abort();
    return *from;
}
template <class V> void store_16(V* to, const V& v) {
    if ((uintptr_t)to % 16) abort();
    *to = v;
}
