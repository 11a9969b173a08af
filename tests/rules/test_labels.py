"""Bad labels: what is raised where they can be read, and what a transformation makes of them.

That their rows are NaN elsewhere, in every integer dtype, is the suite's family "labels".
"""

import re
import warnings

import numpy as np
import pytest

import xloss
from expected import CLASS, close, expected, inputs, loss, soft
from libraries import NAMES

HOST = ["numpy", "strict", "torch", *(["tensorflow"] if "tensorflow" in NAMES else [])]
LABELS = np.array([0, 5, 2, -1, 4, 99])
BAD = (LABELS < 0) | (LABELS > 4)


@pytest.mark.parametrize("lib", HOST, indirect=True)
@pytest.mark.parametrize("name", CLASS)
def test_auto_raises_on_the_host_and_names_position_value_and_classes(lib, name):
    want = r"^targets: label 5 at position \(1,\) is outside \[0, 5\)"
    for run in (loss(name), xloss.value_and_grad(loss(name))):
        with pytest.raises(IndexError, match=want):
            run(lib.like(inputs(name, (6, 5))), lib.like(LABELS))


@pytest.mark.parametrize("shape", [(), (2, 3), (5000,), (3, 70000)], ids=str)
def test_the_position_is_that_of_the_first_bad_label_in_any_block(shape):
    y = np.zeros(shape, np.int32)
    y[(-1,) * len(shape)] = -3
    at = tuple(max(n - 2, 0) for n in shape)
    y[at] = 40
    x = np.broadcast_to(np.float32(0), (*shape, 40))
    message = f"targets: label 40 at position {at} is outside [0, 40)"
    with pytest.raises(IndexError, match="^" + re.escape(message)):
        xloss.cross_entropy(x, y)


@pytest.mark.parametrize("name", CLASS)
def test_a_bad_row_keeps_its_sample_weight_in_the_denominator(name):
    """Its class weight is not known: a normalizer made of the others would hide the row."""
    x, y, s = inputs(name, (2, 5)), np.array([1, 9]), np.array([1.0, 0.5])
    value = loss(name)(x, y, sample_weight=s, weight=np.zeros(5), validate=False, reduction="mean")
    assert np.isnan(value)


NEGATIVE = np.array([1.0, 2.0, -0.5, 1.0, 1.0])


@pytest.mark.parametrize("soft", [False, True])
def test_validate_refuses_a_negative_probability_of_a_present_row(lib, soft):
    if lib.name == "standin":
        pytest.skip("its arrays refuse to be read, as validate=True asks")
    probs = lib.array([[0.5, 0.5], [1.5, -0.5]])
    targets = lib.array([[1, 0], [1, 0]]) if soft else lib.array([0, 0], "int32")

    def loss(**options):
        return lib.host(xloss.log_loss(probs, targets, validate=True, **options))

    with pytest.raises(ValueError, match=r"probs: negative at position \(1, 1\)"):
        loss()
    np.testing.assert_allclose(loss(where=lib.array([True, False], "bool")), np.log(2), rtol=1e-6)


@pytest.mark.parametrize("validate", ["auto", False])
def test_else_negative_weights_and_targets_are_taken_as_they_are(validate):
    x, options = inputs("nll_loss", (5, 5)), {"weight": NEGATIVE, "sample_weight": NEGATIVE[::-1]}
    for t in (np.arange(5), soft((5, 5)) - 1 / 128):
        want = expected("nll_loss", x, t, reduction="sum", **options)
        got = xloss.nll_loss(x, t, validate=validate, reduction="sum", **options)
        close(got, want.value, "float64", 32)


class TestTorchTracing:
    """What a transformation or a compiler follows is never read."""

    x = inputs("cross_entropy", (6, 5))

    def arrays(self):
        torch = pytest.importorskip("torch")
        return torch, torch.tensor(self.x), torch.tensor(LABELS)

    def test_rows_of_bad_labels_are_nan(self):
        torch, x, y = self.arrays()
        compiled = torch.compile(xloss.cross_entropy, backend="eager", fullgraph=True)
        with warnings.catch_warnings(record=True):  # of torch's own
            rows = [compiled(x, y, reduction="none")]
        rows += [torch.func.vmap(xloss.cross_entropy)(x, y)]
        # The targets are followed though the logits are not.
        rows += [torch.func.vmap(lambda label: xloss.cross_entropy(x[0], label))(y)]
        for got in rows:
            assert torch.isnan(got).tolist() == BAD.tolist()

    @pytest.mark.parametrize("option", ["sample_weight", "where", "weight"])
    def test_weights_followed_by_a_transformation(self, option):
        """Constants a vmap runs over, beside logits that it does not."""
        torch, x, y = self.arrays()
        x, y = x[~BAD], y[~BAD]
        many = torch.ones((4, 5 if option == "weight" else 3))
        many = many.bool() if option == "where" else many.double()
        got = torch.func.vmap(lambda w: xloss.cross_entropy(x, y, **{option: w}))(many)
        assert torch.equal(got, xloss.cross_entropy(x, y).expand(4))

    def test_grad_of_concrete_targets_raises(self):
        """Under torch.func.grad the targets are no wrapper: their values are there."""
        torch, x, y = self.arrays()
        with pytest.raises(IndexError, match="label 5"):
            torch.func.grad(lambda z: xloss.cross_entropy(z, y))(x)

    def test_meta_and_fake_tensors_have_no_values(self):
        _, x, y = self.arrays()
        from torch._subclasses.fake_tensor import FakeTensorMode

        got = xloss.cross_entropy(x.to("meta"), y.to("meta"), reduction="none")
        assert (got.device.type, got.shape) == ("meta", (6,))
        mode = FakeTensorMode()
        with mode:
            got = xloss.cross_entropy(mode.from_tensor(x), mode.from_tensor(y), reduction="none")
        assert got.shape == (6,)

    def test_true_is_an_error_that_names_validate(self):
        torch, x, y = self.arrays()

        def read(a, b):
            return xloss.cross_entropy(a, b, validate=True)

        for run, z, t in ((torch.func.vmap(read), x, y), (read, x.to("meta"), y.to("meta"))):
            with pytest.raises(ValueError, match=r"^validate: "):
                run(z, t)
        with pytest.raises(Exception, match="validate: True"):
            torch.compile(read, backend="eager", fullgraph=True)(x, y)


def test_under_jax_transformations():
    """True is an error that names validate, but for targets that are not traced."""
    jax = pytest.importorskip("jax")
    x, y = inputs("cross_entropy", (6, 5)).astype("f4"), LABELS.astype("i4")
    for transform in (jax.jit, jax.vmap):
        with pytest.raises(ValueError, match=r"^validate: "):
            transform(lambda x, y: xloss.cross_entropy(x, y, validate=True))(x, y)
    y = jax.numpy.asarray(y)
    with pytest.raises(IndexError, match="label 5"):
        jax.grad(lambda x: xloss.cross_entropy(x, y, validate=True))(x)
