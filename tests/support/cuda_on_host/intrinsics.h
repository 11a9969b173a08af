// The CUDA kernels on the host: what a kernel finds there of CUDA. emulator.cpp runs its threads, and
// is compiled once; only what is below is compiled with every kernel.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

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

// What emulator.cpp defines is in the same library, and needs no table of addresses.
#pragma GCC visibility push(hidden)

// Where the thread that runs now is.
struct Thread {
    Index thread, block;
};
extern Thread* now;
extern Index gridDim;

#define threadIdx (now->thread)
#define blockIdx (now->block)

// Run a kernel that has its parameters on all its threads; backward: the last block and thread first.
// Returns what is not 0 where all wait for good, or there is no memory.
int run_kernel(void (*kernel)(), u32 grid, u32 threads, u32 cluster, u32 shared, int backward);

void __syncthreads();
int __syncthreads_or(int v);
void cluster_arrive();
void cluster_wait();
void cluster_sync();
u64 shuffled_bits(u32 mask, u64 bits, int from);
int largest_of_warp(int v);
int sum_of_warp(int v);
void* shared_bytes(size_t size);
void* staging_memory();
void* peer_bytes(void* mine, int block);
void copy_later(void* to, const void* from, size_t size);
void copies_arrived();

#pragma GCC visibility pop

template <class T> T shuffled(u32 mask, T v, int from) {
    u64 bits = 0;
    memcpy(&bits, &v, sizeof(T));
    bits = shuffled_bits(mask, bits, from);
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

inline void allow_next_launch() {}
inline void await_launch_before() {}

template <class T> T& shared_memory() { return *(T*)shared_bytes(sizeof(T)); }
template <class T> T* peer(T* mine, int block) { return (T*)peer_bytes(mine, block); }
template <class V> void copy_async(V* to, const V* from) { copy_later(to, from, 16); }
inline void copy_async_4(u32* to, const u32* from) { copy_later(to, from, 4); }

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
// What `each` makes of the numbers of two or three pairs.
template <class F> u32 of_halves(u32 a, u32 b, u32 c, F each) {
    auto one = [&](int s) { return each(half_to_float(a >> s), half_to_float(b >> s), half_to_float(c >> s)); };
    return floats_to_halves(one(0), one(16));
}
template <class F> u32 of_bfloats(u32 a, u32 b, u32 c, F each) {
    auto wide = [](u32 pair, int s) { return __uint_as_float(pair >> s << 16); };
    auto one = [&](int s) { return each(wide(a, s), wide(b, s), wide(c, s)); };
    return floats_to_bfloats(one(0), one(16));
}
inline float larger_of(float a, float b, float) { return larger(a, b); }
// The product is exact in float32, and so is the sum as far as the kernels' numbers go.
inline float fused(float a, float b, float c) { return fmaf(a, b, c); }
inline float one_where_equal(float a, float b, float) { return a == b; }
inline u32 larger_halves(u32 a, u32 b) { return of_halves(a, b, 0, larger_of); }
inline u32 larger_bfloats(u32 a, u32 b) { return of_bfloats(a, b, 0, larger_of); }
inline u32 fma_halves(u32 a, u32 b, u32 c) { return of_halves(a, b, c, fused); }
inline u32 fma_bfloats(u32 a, u32 b, u32 c) { return of_bfloats(a, b, c, fused); }
inline u32 equal_halves(u32 a, u32 b) { return of_halves(a, b, 0, one_where_equal); }
inline u32 equal_bfloats(u32 a, u32 b) { return of_bfloats(a, b, 0, one_where_equal); }
#define COMPARES_PAIRS(KIND) true
#define MORE_REGISTERS 0
inline u32 forgotten(u32 v) { return v; }
template <class T> T load(const T* from) {
    if ((uintptr_t)from % sizeof(T)) abort();
    return *from;
}
template <class V> V load_16(const V* from) { return load(from); }
template <class T> u32 load_now(const T* from) { return load(from); }
template <class V> void store_16(V* to, const V& v) {
    if ((uintptr_t)to % sizeof(V)) abort();
    *to = v;
}
inline void store_4(u32* to, u32 v) { store_16(to, v); }
