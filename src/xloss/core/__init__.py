"""The mathematics of every loss, written against an array namespace; it names no array library.

What a call is:      options (records), call (one prepared call)
Targets and weights: targets (safe labels, row weights), value_checks (what validate= raises for),
                     weights and powers (weights of a mean scaled by powers of two)
One block of rows:   family (operands to losses and gradients), which chooses among
                     softmax (from logits), probabilities (from p or log p), elementwise (binary,
                     divergence); row_stats and smoothing are what these share
Parts of a call:     row_blocks (part of the rows), class_slices (part of the classes, merged in
                     one process), class_shards (part of the classes on each rank), linear (logits
                     that are made a block at a time)
The result:          reduce (sums that lose nothing, the mean)
"""
