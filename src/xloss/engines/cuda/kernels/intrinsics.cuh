// Instructions that only a GPU has. On a machine without one, tests/support/cuda_on_host replaces this file.
#pragma once

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
struct Vec;

// A function that is one instruction. OUT: how the instruction takes its result, of type TO.
#define ONE(TO, OUT, NAME, PARAMETERS, INSTRUCTION, ...) \
    __device__ inline TO NAME PARAMETERS {               \
        TO made;                                         \
        asm(INSTRUCTION : OUT(made) : __VA_ARGS__);      \
        return made;                                     \
    }

ONE(float, "=f", half_to_float, (u16 h), "cvt.f32.f16 %0, %1;", "h"(h))
ONE(u16, "=h", float_to_half, (float f), "cvt.rn.f16.f32 %0, %1;", "f"(f))
ONE(u16, "=h", float_to_bfloat, (float f), "cvt.rn.bf16.f32 %0, %1;", "f"(f))
ONE(u32, "=r", floats_to_halves, (float low, float high), "cvt.rn.f16x2.f32 %0, %1, %2;", "f"(high), "f"(low))
ONE(u32, "=r", floats_to_bfloats, (float low, float high), "cvt.rn.bf16x2.f32 %0, %1, %2;", "f"(high), "f"(low))
// The smallest float16 that is not below f.
ONE(u16, "=h", float_to_half_up, (float f), "cvt.rp.f16.f32 %0, %1;", "f"(f))

// The larger of two numbers, or of each of two float16 (or bfloat16) numbers packed in a word. A NaN
// survives, which fmaxf would drop.
ONE(float, "=f", larger, (float a, float b), "max.NaN.f32 %0, %1, %2;", "f"(a), "f"(b))
ONE(u32, "=r", larger_halves, (u32 a, u32 b), "max.NaN.f16x2 %0, %1, %2;", "r"(a), "r"(b))
ONE(u32, "=r", larger_bfloats, (u32 a, u32 b), "max.NaN.bf16x2 %0, %1, %2;", "r"(a), "r"(b))

// a*b + c of each of two float16 (or bfloat16) numbers.
ONE(u32, "=r", fma_halves, (u32 a, u32 b, u32 c), "fma.rn.f16x2 %0, %1, %2, %3;", "r"(a), "r"(b), "r"(c))
ONE(u32, "=r", fma_bfloats, (u32 a, u32 b, u32 c), "fma.rn.bf16x2 %0, %1, %2, %3;", "r"(a), "r"(b), "r"(c))

// 2^x to 2 ulp; 0 below 2^-126.
ONE(float, "=f", exp2_fast, (float x), "ex2.approx.ftz.f32 %0, %1;", "f"(x))
ONE(float, "=f", log2_fast, (float x), "lg2.approx.ftz.f32 %0, %1;", "f"(x))
// Within 2 ulp of 1/x; x is not subnormal.
ONE(float, "=f", reciprocal_fast, (float x), "rcp.approx.ftz.f32 %0, %1;", "f"(x))

// 1 where each of two float16 (or bfloat16) numbers equals the other, else 0.
ONE(u32, "=r", equal_halves, (u32 a, u32 b), "set.eq.f16x2.f16x2 %0, %1, %2;", "r"(a), "r"(b))

#define MORE_REGISTERS (__CUDA_ARCH__ == 900 ? 0 : 16)  // that other GPUs need in pixels.cuh
#if __CUDA_ARCH__ >= 900
#define COMPARES_PAIRS(KIND) true
ONE(u32, "=r", equal_bfloats, (u32 a, u32 b), "set.eq.bf16x2.bf16x2 %0, %1, %2;", "r"(a), "r"(b))
#else
#define COMPARES_PAIRS(KIND) ((KIND) == 0)  // float16; there is no such instruction for bfloat16
__device__ inline u32 equal_bfloats(u32, u32) { return 0; }
#endif

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

// which ? a : b, as a select instruction. From a plain conditional inside an unrolled loop the
// compiler makes an indexed store, and the array would move from registers to local memory.
#define SELECT(T) "{.reg .pred p; setp.ne.u32 p, %1, 0; selp." T " %0, %2, %3, p;}"
ONE(float, "=f", choose, (bool which, float a, float b), SELECT("f32"), "r"((u32)which), "f"(a), "f"(b))
ONE(double, "=d", choose, (bool which, double a, double b), SELECT("f64"), "r"((u32)which), "d"(a), "d"(b))

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

// Wait for all threads of a cluster, in two steps between which a thread may do other work, or at
// once. What they wrote before is visible afterwards.
__device__ inline void cluster_arrive() { asm volatile("barrier.cluster.arrive;" ::: "memory"); }
__device__ inline void cluster_wait() { asm volatile("barrier.cluster.wait;" ::: "memory"); }
__device__ inline void cluster_sync() {
    cluster_arrive();
    cluster_wait();
}

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
