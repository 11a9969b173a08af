// What labels, weights and `where` say of a row, before any of its logits is read.
#pragma once
#include "memory.cuh"

template <class Acc> struct Facts {
    i64 label;
    Acc scale, label_weight;
    bool absent, wrong;
};

// y: the row's label. OPTIONS: the call has weights of rows or classes, or `where`.
template <class Acc, bool BY_LABEL, bool OPTIONS>
__device__ inline Facts<Acc> facts_of(const Call& c, i64 row, i64 y) {
    Facts<Acc> f{0, 1, 1, false, false};
    if (OPTIONS && c.where) f.absent = !((const unsigned char*)c.where)[row];
    if (OPTIONS && c.sample_weight.address) {
        f.scale = (Acc)float_at(c.sample_weight, row);
        f.absent |= f.scale == 0;
    }
    if constexpr (BY_LABEL) {
        bool ignored = c.has_ignore && y == c.ignore;
        f.absent |= ignored;
        f.wrong = (u64)y >= (u64)c.classes && !f.absent;  // the cast makes negative labels large, too
        f.label = f.wrong || f.absent ? 0 : y;
        if (OPTIONS && c.class_weight.address && !f.wrong && !f.absent)
            f.label_weight = (Acc)float_at(c.class_weight, f.label);
    }
    return f;
}
