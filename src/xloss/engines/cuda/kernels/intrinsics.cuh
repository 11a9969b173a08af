// Instructions that only a GPU has. On a machine without one, tests/support/cuda_on_host replaces this file.
#pragma once

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
struct Vec;

__device__ inline float half_to_float(u16 h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}

__device__ inline u16 float_to_half(float f) {
    u16 h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}

__device__ inline u16 float_to_bfloat(float f) {
    u16 h;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}

__device__ inline u32 floats_to_halves(float low, float high) {
    u32 pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

__device__ inline u32 floats_to_bfloats(float low, float high) {
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

__device__ inline u16 float_to_half_up(float f) {  // the smallest float16 that is not below f
    u16 h;
    asm("cvt.rp.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}

// The larger of each of two float16 (or bfloat16) numbers packed in a word. A NaN survives.
__device__ inline u32 larger_halves(u32 a, u32 b) {
    u32 m;
    asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(m) : "r"(a), "r"(b));
    return m;
}

__device__ inline u32 larger_bfloats(u32 a, u32 b) {
    u32 m;
    asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(m) : "r"(a), "r"(b));
    return m;
}

// a*b + c of each of two float16 (or bfloat16) numbers.
__device__ inline u32 fma_halves(u32 a, u32 b, u32 c) {
    u32 d;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

__device__ inline u32 fma_bfloats(u32 a, u32 b, u32 c) {
    u32 d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

// 1 where each of two float16 (or bfloat16) numbers equals the other, else 0.
__device__ inline u32 equal_halves(u32 a, u32 b) {
    u32 d;
    asm("set.eq.f16x2.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}

#define MORE_REGISTERS (__CUDA_ARCH__ == 900 ? 0 : 24)  // that other GPUs need in pixels.cuh
#if __CUDA_ARCH__ >= 900
#define COMPARES_PAIRS(KIND) true
__device__ inline u32 equal_bfloats(u32 a, u32 b) {
    u32 d;
    asm("set.eq.bf16x2.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}
#else
#define COMPARES_PAIRS(KIND) ((KIND) == 0)  // float16; there is no such instruction for bfloat16
__device__ inline u32 equal_bfloats(u32, u32) { return 0; }
#endif

// The larger of two numbers. A NaN survives, which fmaxf would drop.
__device__ inline float larger(float a, float b) {
    float m;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(m) : "f"(a), "f"(b));
    return m;
}

// 2^x to 2 ulp; 0 below 2^-126.
__device__ inline float exp2_fast(float x) {
    float e;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(x));
    return e;
}

template <class Vec> __device__ inline Vec load_16(const Vec* from) {
    uint4 q = __ldg((const uint4*)from);
    return Vec{{q.x, q.y, q.z, q.w}};
}

template <class T> __device__ inline T load(const T* from) { return __ldg(from); }

// The same, never moved behind what needs another load's answer.
__device__ inline u32 load_now(const u32* from) {
    u32 v;
    asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(v) : "l"(from));
    return v;
}
__device__ inline u32 load_now(const u16* from) {
    u16 v;
    asm volatile("ld.global.nc.u16 %0, [%1];" : "=h"(v) : "l"(from));
    return v;
}

__device__ inline void store_4(u32* to, u32 v) { __stcs(to, v); }

template <class Vec> __device__ inline void store_16(Vec* to, const Vec& v) {
    __stcs((uint4*)to, make_uint4(v.w[0], v.w[1], v.w[2], v.w[3]));
}

__device__ inline float log2_fast(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// which ? a : b, as a select instruction. From a plain conditional inside an unrolled loop the
// compiler makes an indexed store, and the array would move from registers to local memory.
__device__ inline float choose(bool which, float a, float b) {
    float v;
    asm("{.reg .pred p; setp.ne.u32 p, %1, 0; selp.f32 %0, %2, %3, p;}" : "=f"(v) : "r"((u32)which), "f"(a), "f"(b));
    return v;
}
__device__ inline double choose(bool which, double a, double b) {
    double v;
    asm("{.reg .pred p; setp.ne.u32 p, %1, 0; selp.f64 %0, %2, %3, p;}" : "=d"(v) : "r"((u32)which), "d"(a), "d"(b));
    return v;
}

// Within 2 ulp of 1/x; x is not subnormal.
__device__ inline float reciprocal_fast(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// The largest of a warp's integers.
__device__ inline int largest_of_warp(int v) { return __reduce_max_sync(0xffffffffu, v); }

// The same number, of which the compiler forgets how it was computed: what follows from it is computed
// anew rather than kept in registers.
__device__ inline u32 forgotten(u32 v) {
    asm volatile("" : "+r"(v));
    return v;
}

// The sum of a warp's integers.
__device__ inline int sum_of_warp(int v) { return __reduce_add_sync(0xffffffffu, v); }

// Start to copy 16 bytes from global to shared memory, while the thread continues. After
// `copies_arrived` this thread, and no other, may read them.
template <class Vec> __device__ inline void copy_async(Vec* to, const Vec* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((u32)__cvta_generic_to_shared(to)), "l"(from)
                 : "memory");
}

__device__ inline void copy_async_4(u32* to, const u32* from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"((u32)__cvta_generic_to_shared(to)), "l"(from)
                 : "memory");
}

__device__ inline void copies_arrived() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// The shared memory whose size is given at launch.
__device__ inline void* staging_memory() {
    extern __shared__ uint4 staged[];
    return staged;
}

template <class T> __device__ inline T& shared_memory() {
    __shared__ alignas(16) unsigned char bytes[sizeof(T)];
    return *(T*)bytes;
}

// Wait for all threads of a cluster. What they wrote before is visible afterwards.
__device__ inline void cluster_sync() {
    asm volatile("barrier.cluster.arrive;\n\tbarrier.cluster.wait;" ::: "memory");
}

// The same in two steps; between them a thread may do other work.
__device__ inline void cluster_arrive() { asm volatile("barrier.cluster.arrive;" ::: "memory"); }
__device__ inline void cluster_wait() { asm volatile("barrier.cluster.wait;" ::: "memory"); }

// The corresponding address in the shared memory of another block of the cluster.
template <class T> __device__ inline T* peer(T* mine, int block) {
    u64 there;
    asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(mine), "r"(block));
    return (T*)there;
}

// A launch may begin while the one before it in the stream is still running. It may read what that one
// writes, and write anything at all, only after `await_launch_before`. The next launch may begin once
// every block has called `allow_next_launch` or has ended. GPUs before 9.0 run one after the other.
__device__ inline void allow_next_launch() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

__device__ inline void await_launch_before() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
