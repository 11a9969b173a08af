// How numbers are stored, and the elementary functions, with the polynomials of the host's kernels
// (cpu/kernels/functions.py).
#pragma once

typedef long long i64;

#define F16 0
#define BF16 1
#define F32 2
#define F64 3

// The loop that follows is unrolled, so that arrays it goes through stay in registers.
#define UNROLL _Pragma("unroll")

#define INF __longlong_as_double(0x7ff0000000000000LL)
#define NOT_A_NUMBER __longlong_as_double(0x7ff8000000000000LL)

template <bool FIRST, class A, class B> struct Either { typedef A Type; };
template <class A, class B> struct Either<false, A, B> { typedef B Type; };

template <int KIND> struct Number {  // Raw: how a logit is stored; Acc: the type it is computed in
    typedef typename Either<KIND == F64, double, float>::Type Acc;
    typedef typename Either<KIND == F16 || KIND == BF16, u16, Acc>::Type Raw;
};

__device__ inline double larger(double a, double b) { return a > b || a != a ? a : b; }

template <int KIND> __device__ inline typename Number<KIND>::Acc widened(typename Number<KIND>::Raw v);
template <> __device__ inline float widened<F16>(u16 v) { return half_to_float(v); }
template <> __device__ inline float widened<BF16>(u16 v) { return __uint_as_float((u32)v << 16); }
template <> __device__ inline float widened<F32>(float v) { return v; }
template <> __device__ inline double widened<F64>(double v) { return v; }

template <int KIND> __device__ inline typename Number<KIND>::Raw rounded(typename Number<KIND>::Acc v);
template <> __device__ inline u16 rounded<F16>(float v) { return float_to_half(v); }
template <> __device__ inline u16 rounded<BF16>(float v) { return float_to_bfloat(v); }
template <> __device__ inline float rounded<F32>(float v) { return v; }
template <> __device__ inline double rounded<F64>(double v) { return v; }

template <int KIND> __device__ inline u32 rounded_pair(float low, float high) {
    return KIND == F16 ? floats_to_halves(low, high) : floats_to_bfloats(low, high);
}

// 1 where a number of one pair equals that of the other, else 0, as a pair of 16-bit numbers.
template <int KIND> __device__ inline u32 ones_where_equal(u32 a, u32 b) {
    return KIND == F16 ? equal_halves(a, b) : equal_bfloats(a, b);
}

template <int KIND> __device__ inline u32 added_pair(u32 a, u32 b) {
    return KIND == F16 ? fma_halves(a, 0x3c003c00u, b) : fma_bfloats(a, 0x3f803f80u, b);
}

// v minus 32768 where `ones` is 1.
template <int KIND> __device__ inline u32 lowered_pair(u32 v, u32 ones) {
    return KIND == F16 ? fma_halves(ones, 0xf800f800u, v) : fma_bfloats(ones, 0xc700c700u, v);
}

__device__ inline u16 float_to_bfloat_up(float f) {  // the smallest bfloat16 that is not below f
    u32 b = __float_as_uint(f);
    return (u16)((b >> 31 ? b : b + 0xffffu) >> 16);
}

// exp is computed times 2^64: what would be subnormal in float32 keeps all its digits.
#define UP 18446744073709551616.0
#define DOWN 5.421010862427522e-20
#define LOG2E 1.4426950408889634
// HI, LO: ln 2 in two parts. The first has so few bits that its products with small integers are exact.
// ROUND: adding this to a number rounds it to an integer, which then stands in the low bits.
// LOWEST: exp of a smaller number is 0, times 2^64 too.
template <class T> struct Exp;
template <> struct Exp<float> {
    static constexpr float HI = 0.693145751953125f, LO = 1.4286068203094173e-06f, ROUND = 12582912.0f,
                           LOWEST = -131.0f;
};
template <> struct Exp<double> {
    static constexpr double HI = 0.6931471803691238, LO = 1.9082149292705877e-10, ROUND = 6755399441055744.0;
    static constexpr double LOWEST = -752.0;
};

__device__ inline float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ inline double multiply_add(double a, double b, double c) { return fma(a, b, c); }

// The polynomial in x with these coefficients, that of the highest power first.
template <class T, class... Rest> __device__ inline T polynomial(T x, T first, Rest... rest) {
    ((first = multiply_add(first, x, rest)), ...);
    return first;
}

// (exp(r) - 1 - r)/r^2, |r| <= ln(2)/2
__device__ inline float exp_tail(float r) {
    return polynomial(r, 0.0013926213141530752f, 0.008363203145563602f, 0.041666556149721146f, 0.16666576266288757f,
                      0.5f);
}
__device__ inline double exp_tail(double r) {
    return polynomial(r, 2.5100424157005067e-08, 2.7620138719733994e-07, 2.7557268378684192e-06,
                      2.480152119021773e-05, 0.00019841269863105968, 0.0013888888917281794, 0.008333333333330051,
                      0.04166666666662399, 0.16666666666666669, 0.5);
}

// 2^(k + 64), k the integer in the low bits.
__device__ inline float power(float k) { return __uint_as_float((__float_as_uint(k) + (127 + 64)) << 23); }
__device__ inline double power(double k) {
    return __longlong_as_double((__double_as_longlong(k) + (1023 + 64)) << 52);
}

// exp(z - m)*2^64 for z <= m; the rounding error of the subtraction is compensated. NaN where z or m
// is NaN.
template <class T> __device__ inline T exp_scaled(T z, T m) {
    T d = z - m, b = d - z;
    T error = (z - (d - b)) - (m + b);
    bool low = d < Exp<T>::LOWEST;
    d = low ? Exp<T>::LOWEST : d;
    error = low ? (T)0 : error;
    T shifted = multiply_add(d, (T)LOG2E, Exp<T>::ROUND), k = shifted - Exp<T>::ROUND;
    T r = multiply_add(-k, Exp<T>::HI, d) + multiply_add(-k, Exp<T>::LO, error);
    T e = ((T)1 + multiply_add(r * r, exp_tail(r), r)) * power(shifted);
    return low ? (T)0 : e;
}

// For a row whose maximum is this near 0, exp(z - max) needs no subtraction: it is exp(z)*2^(64 - K)
// up to a factor common to the row, K the integer nearest to max/ln 2. Farther from 0, z - k ln 2
// would no longer be exact, and K would not fit into the low bits beside it.
#define NEAR 8192.0f

__device__ inline bool is_near(float m) { return fabsf(m) <= NEAR; }
__device__ inline bool is_near(double) { return false; }

// log2(e) minus the float nearest to it.
#define LOG2E_LOST ((float)(LOG2E - (double)(float)LOG2E))

struct Near {
    float k;
    float shift;  // Exp<float>::ROUND - (K - 64): after adding it, n - K + 64 stands in the low bits
    float least;  // smaller logits are raised to this: their scaled exp is 2^-126, nothing beside the maximum's
};

// The constants for a row with this maximum; any values where it is not near 0.
__device__ inline Near near_of(float m) {
    float k = rintf(fminf(fmaxf(m, -2.0f * NEAR), 2.0f * NEAR) * (float)LOG2E);
    return Near{k, Exp<float>::ROUND - (k - 64.0f), (k - 190.0f) * 0.6931472f};
}

// exp(z)*2^(64 - K) for a logit that is not below n.least.
// SWIFT: 2^(z*(float)LOG2E) by the special-function unit. The error of the rounded log2(e) is
// corrected once for a whole sum.
template <bool SWIFT> __device__ inline float exp_near(float z, Near n) {
    float shifted = fmaf(z, (float)LOG2E, n.shift);
    float k = shifted - n.shift;
    float p;
    if constexpr (SWIFT) {
        p = exp2_fast(fmaf(z, (float)LOG2E, -k));
    } else {
        float r = fmaf(-k, Exp<float>::LO, fmaf(-k, Exp<float>::HI, z));
        p = fmaf(fmaf(exp_tail(r), r, 1.0f), r, 1.0f);
    }
    return __uint_as_float(__float_as_uint(p) + (__float_as_uint(shifted) << 23));
}

// exp_near of the maximum times (1 + this) is 2^64: exp(K ln 2 - m) - 1.
template <bool SWIFT> __device__ inline float unit_rise(Near n, float m) {
    float r;
    if constexpr (SWIFT) {
        float h = m * (float)LOG2E, lost = fmaf(m, (float)LOG2E, -h);
        r = ((n.k - h) - lost) * 0.6931472f;
    } else {
        r = fmaf(n.k, Exp<float>::LO, fmaf(n.k, Exp<float>::HI, -m));
    }
    return fmaf(r * r, exp_tail(r), r);
}
template <bool SWIFT> __device__ inline float unit_of(Near n, float m) { return 1.0f + unit_rise<SWIFT>(n, m); }

__device__ inline float reciprocal(float x) {  // x is finite
    float y = reciprocal_fast(x);
    return fmaf(y, fmaf(-x, y, 1.0f), y);
}

// 1/(1 + r) = y*(1 + lost), lost being the rounding error of y.
struct Inverse { float y, lost; };

__device__ inline Inverse inverse_of(float r) {
    float w = 1.0f + r, behind = r > 1.0f ? 1.0f - (w - r) : r - (w - 1.0f), y = reciprocal(w);
    return Inverse{y, fmaf(-w, y, 1.0f) - behind * y};
}

// log(1 + r) for r >= 0, finite or NaN; within 1.5 ulp, also for subnormal r.
__device__ inline float log_1p(float r) {
    float u = 1.0f + r;
    float lost = r > 1.0f ? 1.0f - (u - r) : r - (u - 1.0f);  // the rounding error of 1 + r
    int b = (int)(__float_as_uint(u) + (0x3F800000u - 0x3F3504F3u));
    float k = (float)((b >> 23) - 127);
    float f = __uint_as_float(((u32)b & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f;
    float s = f * reciprocal_fast(2.0f + f);  // its error is a twentieth of an ulp of the result
    float w = s * s;
    float t = polynomial(w, 0.2958204746246338f, 0.39988717436790466f, 0.6666668653488159f) * w;
    float half = 0.5f * f * f;
    float small = s * (half + t) + fmaf(k, Exp<float>::LO, lost * reciprocal_fast(u));
    return r == r ? k * Exp<float>::HI - ((half - small) - f) : r;
}

__device__ inline double log_1p(double r) {  // r >= 0, finite or NaN
    double u = 1.0 + r;
    double lost = r > 1.0 ? 1.0 - (u - r) : r - (u - 1.0);  // the rounding error of 1 + r
    i64 b = __double_as_longlong(u) + (0x3FF0000000000000LL - 0x3FE6A09E667F3BCDLL);
    double k = (double)((b >> 52) - 1023);
    double f = __longlong_as_double((b & 0x000FFFFFFFFFFFFFLL) + 0x3FE6A09E667F3BCDLL) - 1.0;
    double s = f / (2.0 + f);
    double w = s * s;
    double t = w * polynomial(w, 0.14617807153417325, 0.15331611722055008, 0.1818289243253687, 0.22222211089379496,
                              0.28571428626253836, 0.3999999999989889, 0.666666666666667);
    double half = 0.5 * f * f;
    double small = s * (half + t) + (k * Exp<double>::LO + lost / u);
    return k * Exp<double>::HI - ((half - small) - f);
}

// (tanh(u) - u)/u^3 in w = u^2, |u| < 0.5625
__device__ inline float tanh_tail(float w) {
    return polynomial(w, 0.0024876147508621216f, -0.008499247953295708f, 0.02181190252304077f, -0.05396406352519989f,
                      0.133333221077919f, -0.3333333432674408f);
}
__device__ inline double tanh_tail(double w) {
    return polynomial(w, 1.109447179610089e-06, -5.1947033433787385e-06, 1.5247072803260477e-05,
                      -3.903515959721234e-05, 9.685386818269936e-05, -0.00023911808640958085, 0.0005900260395991267,
                      -0.0014558342624481995, 0.003592128029030633, -0.008863235529605828, 0.021869488536148216,
                      -0.05396825396825388, 0.13333333333333333, -0.3333333333333333);
}

template <class T> __device__ inline T tanh_of(T u) {
    T a = fabs(u), w = u * u;
    T near = multiply_add(u, w * tanh_tail(w), u);
    T t = exp_scaled((T)-2 * a, (T)0) * (T)DOWN;
    T far = (T)1 - (T)2 * t / ((T)1 + t);
    return a < (T)0.5625 ? near : u < (T)0 ? -far : far;
}

template <class Acc> __device__ inline Acc sech_squared(Acc u) {  // 1 - tanh(u)^2 would be 0 for u >= 10
    Acc t = exp_scaled((Acc)-2 * (u < 0 ? -u : u), (Acc)0) * (Acc)DOWN;
    return (Acc)4 * t / (((Acc)1 + t) * ((Acc)1 + t));
}

// The softcapped logit; -inf stays -inf, so that a masked class stays masked.
template <class Acc> __device__ inline Acc capped(Acc x, Acc cap) {
    return x == (Acc)-INF ? x : cap * tanh_of(x / cap);
}
