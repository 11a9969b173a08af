// What only a GPU has. tests/cuda_on_host stands in for it where there is none.
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

// Unlike fmaxf it keeps a NaN.
__device__ inline float larger(float a, float b) {
    float m;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(m) : "f"(a), "f"(b));
    return m;
}

__device__ inline float exp2_fast(float x) {  // |x| <= 1/2
    float e;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(x));
    return e;
}

template <class Vec> __device__ inline Vec load_16(const Vec* from) {
    uint4 q = __ldg((const uint4*)from);
    return Vec{{q.x, q.y, q.z, q.w}};
}

template <class Vec> __device__ inline void store_16(Vec* to, const Vec& v) {
    __stcs((uint4*)to, make_uint4(v.w[0], v.w[1], v.w[2], v.w[3]));
}

template <class T> __device__ inline T& shared_memory() {
    __shared__ alignas(16) unsigned char bytes[sizeof(T)];
    return *(T*)bytes;
}

// All threads of a cluster of blocks; what they wrote before is seen after it.
__device__ inline void cluster_sync() {
    asm volatile("barrier.cluster.arrive;\n\tbarrier.cluster.wait;" ::: "memory");
}

// The same place in the shared memory of another block of the cluster.
template <class T> __device__ inline T* peer(T* mine, int block) {
    u64 there;
    asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(mine), "r"(block));
    return (T*)there;
}
