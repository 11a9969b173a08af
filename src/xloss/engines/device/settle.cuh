// From the statistics of a row to its loss, and to its gradient.
#pragma once
#include "passes.cuh"

struct Whole {  // a row, from all its classes
    Acc top, first, second;
    Acc unit, unit_inv, rest, inv, b, zc, keep, rem, c, shares, at_label;
    Near near;
    i64 label;
    bool is_near, dead;
};

__device__ inline double loss_of(double rise, double lse, double mass, double total, double dot,
                                 const double (&sums)[COUNT], const Facts& f, double weight,
                                 double eps, double z_loss) {
    double row = 0.0;
    if (eps < 1.0) {
        row = mass * rise + dot;
        if (BY_LABEL) row = f.label_weight == 0.0 && row == row ? 0.0 : f.label_weight * row;
        row = eps > 0.0 ? (1.0 - eps) * row : row;
    }
    if constexpr (SMOOTH) {
        double uniform = eps / sums[NUMBER] * (sums[SHARE] * rise + sums[SHARE_DOT]);
        if (!BY_LABEL) uniform = total == 0.0 && uniform == uniform ? 0.0 : total * uniform;
        row += uniform;
    }
    row *= f.scale;
    if (z_loss > 0.0) row += z_loss * weight * lse * lse;
    return row;
}

// From the statistics to the loss, and to what the gradient's pass needs.
__device__ inline Whole settle(const Call& c, const Row& x, i64 r, const Facts& f, Acc top, double rest,
                               const double (&sums)[COUNT], bool writes) {
    Whole w;
    double m = (double)top;
    bool possible = top != (Acc)-INF;
    double mass = 1.0, total = 1.0, dot = 0.0, number = 1.0, share = 0.0;
    Acc at = 0, zy = 0;
    if constexpr (BY_LABEL) {
        at = widened<STORED>(x.element(f.label));
        zy = CAP ? capped(at, (Acc)c.cap) : at;
        dot = zy == top ? 0.0 : m - (double)zy;
    } else {
        mass = sums[MASS];
        total = c.class_weight.address ? sums[TOTAL] : mass;
        dot = sums[DOT];
    }
    if constexpr (MIXED) number = sums[NUMBER], share = sums[SHARE];
    double rise = possible ? log_1p(rest) : NOT_A_NUMBER;
    double weight = f.wrong ? f.scale : f.scale * (BY_LABEL ? f.label_weight : mass);
    double lse = m + rise;
    if (weight == 0.0 && lse == lse) lse = 0.0;
    if (writes) {
        if (c.losses) {
            double loss = loss_of(rise, lse, mass, total, dot, sums, f, weight, c.eps, c.z_loss);
            ((Acc*)c.losses)[r] = (Acc)(f.wrong ? NOT_A_NUMBER : loss);
        }
        if (c.weights) ((double*)c.weights)[r] = weight;
        if (c.maxima && !c.known) {
            ((Acc*)c.maxima)[r] = top;
            ((double*)c.rests)[r] = rest;
        }
    }
    if constexpr (GRAD) {
        double up = c.factor;
        bool live = true;
        if (c.up.address) up *= float_at(c.up, c.up_step ? r : 0);
        if (c.slope) {
            up *= ((const double*)c.slope)[0];
            live = ((const double*)c.slope)[1] != 0.0;
        }
        if (c.live) live = live && *(const unsigned char*)c.live;
        if (f.wrong) up = NOT_A_NUMBER;
        double b = up * f.scale;
        double zc = c.z_loss > 0.0 ? 2.0 * c.z_loss * up * weight * lse : 0.0;
        double whole = possible ? 1.0 + rest : NOT_A_NUMBER;
        double inv = 1.0 / whole;
        w.dead = !live;
        w.is_near = is_near(top);
        float k = scale_of((float)top);
        w.near = near_of(k);
        double unit = (w.is_near ? unit_of(k, m) : 1.0) * DOWN;
        w.top = top;
        w.label = f.label;
        double mine = 0.0;
        double smoothed = SMOOTH ? c.eps * total / number : 0.0;
        if constexpr (MIXED) {
            w.unit = (Acc)unit, w.unit_inv = (Acc)(unit / whole), w.rest = (Acc)rest, w.inv = (Acc)inv;
            w.b = (Acc)b, w.zc = (Acc)zc, w.keep = (Acc)(1.0 - c.eps);
            w.rem = (Acc)(BY_LABEL ? f.label_weight : mass);
            w.c = (Acc)smoothed, w.shares = (Acc)share;
            mine = smoothed * (zy != (Acc)-INF ? (double)weight_of(c, f.label) : 0.0);
        } else {
            double factor = (b * f.label_weight + zc) / whole;
            // Scaled down it would be subnormal; or a masked class would have something of it.
            bool tiny = fabs(factor) < DOWN * 16.0;
            if (tiny || fabs(factor) > 1073741824.0) w.is_near = false, unit = DOWN;
            w.first = (Acc)(w.is_near ? factor * unit : tiny ? DOWN : factor * DOWN);
            w.second = (Acc)(tiny ? factor : 1.0);
        }
        if constexpr (BY_LABEL) {
            double e = exp_scaled(-dot, 0.0) * DOWN;
            double q = dot == 0.0 ? rest * inv : (1.0 + (rest - e)) * inv, p = e * inv;
            double v = (p * (smoothed * share - mine) - ((1.0 - c.eps) * f.label_weight + mine) * q) * b;
            v += p == 0.0 ? 0.0 : zc * p;
            if (CAP) v *= (double)sech_squared((Acc)(at / (Acc)c.cap));
            w.at_label = (Acc)v;
        }
    }
    return w;
}

__device__ inline void gradient_of(const Mine& mine, const Whole& w, i64 row, const Vec& v, i64 i, Acc (&g)[N]) {
    const Call& c = mine.call;
    Acc z[N];
    mine.logits(v, z);
    if constexpr (MIXED) {
        Acc tail = w.rest * w.inv;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            i64 at = i * N + j;
            bool inside = at < c.classes, top = z[j] == w.top;
            Acc e;
            if constexpr (sizeof(Acc) == 4) e = w.is_near ? exp_near(z[j], w.near) : exp_scaled(z[j], w.top);
            else e = exp_scaled(z[j], w.top);
            Acc weight = inside ? weight_of(c, at) : (Acc)0;
            Acc a = inside ? weight * target_at(c, row, at) : (Acc)0;
            Acc p = top ? w.inv : z[j] == (Acc)-INF ? (Acc)0 * w.inv : e * w.unit_inv;
            Acc q = top ? tail : ((Acc)1 + (w.rest - e * w.unit)) * w.inv;
            Acc share = z[j] == (Acc)-INF ? (Acc)0 : weight;
            Acc own = w.keep * a + w.c * share;
            Acc others = w.keep * (w.rem - a) + w.c * (w.shares - share);
            g[j] = (p * others - own * q) * w.b + (p == 0 ? (Acc)0 : w.zc * p);
        }
    } else if (w.is_near) {
        if constexpr (sizeof(Acc) == 4) {
#pragma unroll
            for (int j = 0; j < N; ++j) g[j] = exp_near(z[j], w.near) * w.first;
        }
    } else {
#pragma unroll
        for (int j = 0; j < N; ++j) {
            Acc e = z[j] == w.top ? (Acc)UP : exp_scaled(z[j], w.top);
            g[j] = e == 0 && w.first == w.first ? (Acc)0 : (e * w.first) * w.second;
        }
    }
    if (CAP) {
        Acc x[N];
        E::unpack(v, x);
#pragma unroll
        for (int j = 0; j < N; ++j) g[j] *= sech_squared(x[j] / (Acc)c.cap);
    }
    if (BY_LABEL && w.label >= i * N && w.label < i * N + N) {
#pragma unroll
        for (int j = 0; j < N; ++j) g[j] = i * N + j == w.label ? w.at_label : g[j];
    }
}
