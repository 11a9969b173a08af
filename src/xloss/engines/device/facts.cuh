// What is known of a row without its logits.
#pragma once
#include "memory.cuh"

template <class Acc> struct Facts {  // of a row, but for its logits
    i64 label;
    Acc scale, label_weight;
    bool absent, wrong;
};

template <class Acc, bool BY_LABEL> __device__ inline Facts<Acc> facts_of(const Call& c, i64 row) {
    Facts<Acc> f{0, 1, 1, false, false};
    if (c.where) f.absent = !((const unsigned char*)c.where)[row];
    if (c.sample_weight.address) {
        f.scale = (Acc)float_at(c.sample_weight, row);
        f.absent |= f.scale == 0;
    }
    if constexpr (BY_LABEL) {
        i64 y = integer_at(c.labels, row);
        bool ignored = c.has_ignore && y == c.ignore;
        f.absent |= ignored;
        f.wrong = (u64)y >= (u64)c.classes && !f.absent;  // of an unsigned one, too
        f.label = f.wrong || f.absent ? 0 : y;
        if (c.class_weight.address && !f.wrong && !f.absent)
            f.label_weight = (Acc)float_at(c.class_weight, f.label);
    }
    return f;
}
