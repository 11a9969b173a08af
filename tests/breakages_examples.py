"""Breakages of the examples."""

from breakages import Breakage

EXAMPLES = [
    Breakage(
        rule="example: every library follows NumPy's curve to rounding",
        file="examples/digits.py",
        old="images.T @ by_logits + by_matrix",
        new="images.T @ by_logits",
        test="tests/test_example_digits.py::test_every_library_and_way_ends_within_rounding_of_numpy",
    ),
    Breakage(
        rule="example: DDP averages the gradients of the ranks",
        file="examples/data_parallel.py",
        old="normalizer=count / ranks",
        new="normalizer=count",
        test="tests/test_data_parallel.py::"
        "test_ranks_and_micro_batches_train_as_the_whole_batch[2 ranks of 4]",
    ),
]
