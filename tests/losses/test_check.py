"""The checks name the argument that is no array, whichever it is."""

import numpy as np
import pytest

import xloss

LOGITS = np.zeros((2, 3), np.float32)
CLASS = [xloss.cross_entropy, (LOGITS, np.array([0, 1]))]
BINARY = [xloss.binary_cross_entropy_with_logits, (LOGITS, np.zeros_like(LOGITS))]
NAMED = [
    (*CLASS, "weight"),
    (*CLASS, "sample_weight"),
    (*CLASS, "where"),
    (*CLASS, "normalizer"),
    (*BINARY, "pos_weight"),
    (*BINARY, "sample_weight"),
]


def told(name: str) -> str:
    return rf"^{name}: expected .+, got list; pass numpy\.asarray\({name}\)"


@pytest.mark.parametrize(("loss", "arrays", "name"), NAMED)
def test_a_list_is_no_option(loss, arrays, name):
    with pytest.raises(TypeError, match=told(name)):
        loss(*arrays, **{name: [1.0, 1.0, 1.0]})


@pytest.mark.parametrize(("loss", "arrays"), [CLASS, BINARY], ids=["class", "binary"])
def test_a_list_is_no_target(loss, arrays):
    with pytest.raises(TypeError, match=told("targets")):
        loss(arrays[0], arrays[1].tolist())


def test_a_bool_or_text_is_no_validate_but_auto():
    for wrong in ("true", "", 1, None):
        with pytest.raises(ValueError, match=r'^validate: expected "auto", True or False'):
            xloss.cross_entropy(*CLASS[1], validate=wrong)
