// Settles a row: from its statistics to its loss, and to the factors of its gradient.
#pragma once
#include "passes.cuh"

struct Whole {  // what the gradient of a row is computed from
    Acc top, first, second;
    Acc unit, unit_inv, rest, inv, b, zc, keep, rem, c, shares, at_label;
    Near near;
    i64 label;
    bool is_near, dead;
};

// The cotangent of the row's loss. live: false where no row counts, and every gradient is 0.
__device__ inline Acc cotangent_of(const Call& c, i64 r, const Facts<Acc>& f, bool& live) {
    Acc cotangent = (Acc)c.cotangent_value;
    live = true;
    if (c.cotangent.address) cotangent *= (Acc)float_at(c.cotangent, c.cotangent_step ? r : 0);
    if (c.row_factor) {
        cotangent *= (Acc)((const double*)c.row_factor)[0];
        live = ((const double*)c.row_factor)[1] != 0.0;
    }
    if (c.any_row_counts) live = live && *(const unsigned char*)c.any_row_counts;
    return f.wrong ? (Acc)NOT_A_NUMBER : cotangent;
}

// Prepare factor*exp(z - top), the gradient of every class but the label: as exp_near*first, or, where
// that would underflow or overflow, as (exp_scaled*first)*second.
__device__ inline void set_factors(Whole& w, Acc factor) {
    Acc size = factor < 0 ? -factor : factor;
    // A tiny factor times 2^-64 would be subnormal; with a large one a masked class, whose exp_near
    // is not 0, would get a gradient.
    bool tiny = size < (Acc)(DOWN * 16.0);
    w.is_near = is_near(w.top) && !tiny && !(size > (Acc)1073741824.0);
    w.first = tiny ? (Acc)DOWN : factor * (Acc)DOWN;
    w.second = tiny ? factor : (Acc)1;
#if STORED != F64
    w.near = near_of(w.top);
    if (w.is_near) w.first = factor * (unit_of<SWIFT>(w.near, w.top) * (float)DOWN);
#endif
}

__device__ inline void write_stats(const Call& c, i64 r, Acc top, double rest) {
    if (c.maxima && !c.given_statistics) {
        ((Acc*)c.maxima)[r] = top;
        ((double*)c.tail_sums)[r] = rest;
    }
}

// exp(-gap); gap: the maximum minus the label's logit.
__device__ inline float exp_below(float gap) {
    return SWIFT ? exp2_fast(-gap * (float)LOG2E) : exp_scaled(-gap, 0.0f) * (float)DOWN;
}

#if STORED != F64
// The loss of a row with a class index, without smoothing or z-loss. at: the label's logit.
__device__ inline float loss_light(const Call& c, float at, const Facts<Acc>& f, float top, float rest) {
    float zy = CAP ? capped(at, (float)c.softcap) : at;
    float dot = zy == top ? 0.0f : top - zy;
    float loss = top != (float)-INF ? log_1p(rest) + dot : (float)NOT_A_NUMBER;
    loss = f.label_weight == 0 && loss == loss ? 0.0f : f.label_weight * loss;
    return f.wrong ? (float)NOT_A_NUMBER : f.scale * loss;
}

// The weight of a row with a class index.
__device__ inline double weight_light(const Facts<Acc>& f) {
    return (double)f.scale * (f.wrong ? 1.0 : (double)f.label_weight);
}

// Settle a row with a class index, without smoothing or z-loss, in float32. at: the label's logit.
__device__ inline Whole settle_light(const Call& c, float at, i64 r, const Facts<Acc>& f, float top, float rest,
                                     bool writes) {
    Whole w;
    float zy = CAP ? capped(at, (float)c.softcap) : at;
    float dot = zy == top ? 0.0f : top - zy;
    bool possible = top != (float)-INF;
    if (writes) {
        if (c.losses) ((float*)c.losses)[r] = loss_light(c, at, f, top, rest);
        if (c.weights) ((double*)c.weights)[r] = weight_light(f);
        write_stats(c, r, top, (double)rest);
    }
    if constexpr (GRAD) {
        bool live;
        float cotangent = cotangent_of(c, r, f, live) * f.scale * f.label_weight;
        Inverse inv = inverse_of(possible ? rest : (float)NOT_A_NUMBER);
        w.dead = !live;
        w.top = top;
        w.label = f.label;
        float factor = cotangent * inv.y;
        set_factors(w, factor);
        if (w.is_near) {
            // All factors are combined with one rounding: an entry of the gradient may err by 4 ulp in all.
            float rise = unit_rise<SWIFT>(w.near, top) + inv.lost;
            w.first = (factor + fmaf(factor, rise, fmaf(cotangent, inv.y, -factor))) * (float)DOWN;
        }
        float e = exp_below(dot);
        float q = dot == 0 ? rest * inv.y : (1.0f + (rest - e)) * inv.y;
        w.at_label = -cotangent * q;
        if (CAP) w.at_label *= sech_squared(at / (float)c.softcap);
    }
    return w;
}
#endif

__device__ inline double loss_of(double rise, double lse, double mass, double total, double dot,
                                 const double (&sums)[COUNT], const Facts<Acc>& f, double weight, double eps,
                                 double z_loss) {
    double row = 0.0;
    if (eps < 1.0) {
        row = mass * rise + dot;
        if (BY_LABEL) row = f.label_weight == 0 && row == row ? 0.0 : f.label_weight * row;
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

// Settle a row with any options, in float64.
__device__ inline Whole settle(const Call& c, Acc at, i64 r, const Facts<Acc>& f, Acc top, double rest,
                               const double (&sums)[COUNT], bool writes) {
    Whole w;
    double m = (double)top;
    bool possible = top != (Acc)-INF;
    double mass = 1.0, total = 1.0, dot = 0.0, number = 1.0, share = 0.0;
    Acc zy = 0;
    if constexpr (BY_LABEL) {
        zy = CAP ? capped(at, (Acc)c.softcap) : at;
        dot = zy == top ? 0.0 : m - (double)zy;
    } else {
        mass = sums[MASS];
        total = c.class_weight.address ? sums[TOTAL] : mass;
        dot = sums[DOT];
    }
    if constexpr (MIXED) number = sums[NUMBER], share = sums[SHARE];
    double rise = possible ? log_1p(rest) : NOT_A_NUMBER, scale = f.scale, label_weight = f.label_weight;
    double weight = f.wrong ? scale : scale * (BY_LABEL ? label_weight : mass);
    double lse = m + rise;
    if (weight == 0.0 && lse == lse) lse = 0.0;
    if (writes) {
        if (c.losses) {
            double loss = loss_of(rise, lse, mass, total, dot, sums, f, weight, c.label_smoothing, c.z_loss);
            ((Acc*)c.losses)[r] = (Acc)(f.wrong ? NOT_A_NUMBER : loss);
        }
        if (c.weights) ((double*)c.weights)[r] = weight;
        write_stats(c, r, top, rest);
    }
    if constexpr (GRAD) {
        bool live;
        double cotangent = (double)cotangent_of(c, r, f, live);
        double b = cotangent * scale;
        double zc = c.z_loss > 0.0 ? 2.0 * c.z_loss * cotangent * weight * lse : 0.0;
        double whole = possible ? 1.0 + rest : NOT_A_NUMBER;
        double inv = 1.0 / whole;
        w.dead = !live;
        w.top = top;
        w.label = f.label;
        double mine = 0.0;
        double smoothed = SMOOTH ? c.label_smoothing * total / number : 0.0;
        if constexpr (MIXED) {
            w.is_near = is_near(top);
            double unit = DOWN;
            if constexpr (sizeof(Acc) == 4) {
                w.near = near_of(top);
                if (w.is_near) unit *= 1.0 + (double)unit_rise<SWIFT>(w.near, top);
            }
            w.unit = (Acc)unit, w.unit_inv = (Acc)(unit / whole), w.rest = (Acc)rest, w.inv = (Acc)inv;
            w.b = (Acc)b, w.zc = (Acc)zc, w.keep = (Acc)(1.0 - c.label_smoothing);
            w.rem = (Acc)(BY_LABEL ? label_weight : mass);
            w.c = (Acc)smoothed, w.shares = (Acc)share;
            mine = smoothed * (zy != (Acc)-INF ? (double)weight_of(c, f.label) : 0.0);
        } else {
            set_factors(w, (Acc)((b * label_weight + zc) / whole));
        }
        if constexpr (BY_LABEL) {
            double e = exp_scaled(-dot, 0.0) * DOWN;
            double q = dot == 0.0 ? rest * inv : (1.0 + (rest - e)) * inv, p = e * inv;
            double v = (p * (smoothed * share - mine) - ((1.0 - c.label_smoothing) * label_weight + mine) * q) * b;
            v += p == 0.0 ? 0.0 : zc * p;
            if (CAP) v *= (double)sech_squared((Acc)(at / (Acc)c.softcap));
            w.at_label = (Acc)v;
        }
    }
    return w;
}
