"""NumPy's labels and weights beside logits of any other library: taken, moved, checked at once."""

import ml_dtypes
import numpy as np
import pytest

import xloss
from expected import BINARY, CLASS, LOSSES, close, expected, inputs, loss, shape, soft, targets
from libraries import NAMES, across, library
from spread import Alone

OTHERS = [n for n in NAMES if n != "numpy"]
beside = pytest.mark.parametrize("lib", OTHERS, indirect=True)


def by_terms(options):
    """How large the terms of a gradient are, which pos_weight lets cancel; 0: the gradient is."""
    return 0.25 if "pos_weight" in options else 0.0


def given(name):
    """Every array that may be NumPy's, but for the targets."""
    rows = np.array([1.0, 2.0, 0.0, 0.5, 1.0, 1.0])
    options = {"sample_weight": rows, "where": np.array([1, 1, 1, 0, 1, 1], bool)}
    if name in CLASS:
        options["weight"] = np.array([0.5, 1.0, 2.0, 1.0, 0.25])
    if name == "binary_cross_entropy_with_logits":
        options["pos_weight"] = rows + 0.5
    return options


@across(LOSSES, jax=2, dask=2)
def test_every_loss_takes_them(lib, name):
    form = shape(name, 6, 5)
    x, t = inputs(name, form), targets(name, form)
    run = xloss.value_and_grad(loss(name))
    for options in ({}, given(name)):
        want = expected(name, x, t, **options)
        value, grad = run(lib.like(x), t, **options)
        close(lib.host(value), want.value)
        close(lib.host(grad), want.grad, scale=by_terms(options))
    want = expected(name, x, t, normalizer=3.0)
    close(lib.host(loss(name)(lib.like(x), t, normalizer=np.float32(3))), want.value)


@pytest.mark.parametrize("lib", ["torch", "standin"], indirect=True)
def test_classes_that_ranks_share(lib, monkeypatch):
    monkeypatch.setattr("xloss.backends.process_groups.of", lambda group, cx: Alone())
    x, y, options = inputs("nll_loss", (6, 5)), targets("nll_loss", (6, 5)), given("nll_loss")
    want = expected("cross_entropy", x, y, **options)
    f = xloss.vocab_parallel_cross_entropy
    close(lib.host(f(lib.like(x), y, group="alone", **options)), want.value)
    options["class_weight"] = options.pop("weight")
    linear = xloss.linear_cross_entropy
    z, eye = lib.like(x), lib.like(np.eye(5))
    close(lib.host(linear(z, eye, y, group="alone", **options)), want.value)


@beside
def test_what_evaluates_and_explains(lib):
    if lib.name == "no_x64":
        pytest.skip("array_api_strict's argmax makes int64 on a device that has none")
    form = (6, 5)
    x, y, options = inputs("cross_entropy", form), targets("cross_entropy", form), given("nll_loss")
    y[1] = -100
    want = expected("cross_entropy", x, y, **options)
    with lib.reading():
        result = xloss.Evaluation().update(lib.like(x), y, **options).result()
        report = xloss.diagnose(lib.like(x), y, **options)
    close(np.float32(result.loss), want.value)
    close(np.float32(report.loss), want.value)
    assert not report.findings
    count = xloss.effective_count(lib.like(y), **options)
    there = options["where"] & (y != -100)
    total = (options["sample_weight"] * options["weight"][y * there])[there].sum()
    assert float(lib.host(count)) == total


@beside
@pytest.mark.parametrize("name", CLASS)
def test_a_bad_label_is_named_at_once(lib, name):
    """The labels are on the host, wherever the logits are; but for rows that are absent."""
    if lib.name == "jax" and name != "cross_entropy":
        return
    x, y = lib.like(inputs(name, (6, 5))), targets(name, (6, 5))
    y[2], y[4] = 7, -1
    f = loss(name)
    for validate in ("auto", True):
        with pytest.raises(IndexError, match=r"^targets: label 7 at position \(2,\) is outside"):
            f(x, y, validate=validate)
        present = np.array([True, True, False, True, True, True])
        with pytest.raises(IndexError, match=r"label -1 at position \(4,\)"):
            f(x, y, where=present, validate=validate)
        present[4] = False
        f(x, y, where=present, validate=validate)
    rows = lib.host(f(x, y, validate=False, reduction="none"))
    assert np.isnan(rows).tolist() == [False, False, True, False, True, False]
    if not library(lib.name).reads:  # the mask is not on the host: which row is absent is not known
        assert np.isfinite(lib.host(f(x, y, where=lib.like(present))))


@beside
@pytest.mark.parametrize("name", BINARY)
def test_a_bad_binary_target_too(lib, name):
    x = lib.like(inputs(name, (6,)))
    with pytest.raises(ValueError, match=r"^targets: 2 at position \(3,\) is neither 0 nor 1"):
        loss(name)(x, np.array([0, 1, 1, 2, 0, 1]))
    close(
        lib.host(loss(name)(x, np.array([0, 1, 1, 0, 0, 1], bool))),
        expected(name, inputs(name, (6,)), np.array([0.0, 1, 1, 0, 0, 1])).value,
    )


@beside
def test_validate_refuses_negative_weights_of_the_host(lib):
    x, y, w = (
        lib.like(inputs("cross_entropy", (6, 5))),
        targets("cross_entropy", (6, 5)),
        np.ones(6),
    )
    w[3] = -1
    t = soft((6, 5))
    t[1, 2] = -0.5
    for targets_, options, message in (
        (y, {"sample_weight": w}, r"^sample_weight: negative at position \(3,\)"),
        (y, {"weight": w[:5]}, r"^weight: negative at position \(3,\)"),
        (t, {}, r"^targets: negative at position \(1, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            xloss.cross_entropy(x, targets_, validate=True, **options)


FORMS = {
    "read-only": lambda a: np.broadcast_to(a, a.shape),
    "backwards": lambda a: a[::-1].copy()[::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "a field": lambda a: np.rec.fromarrays([a, np.zeros(len(a), np.int8)]).f0,
    "16 bits": lambda a: a.astype(ml_dtypes.bfloat16 if a.dtype.kind == "f" else np.uint16),
    "half": lambda a: a.astype(np.float16 if a.dtype.kind == "f" else np.uint64),
}


@pytest.mark.filterwarnings("error")
@beside
def test_any_memory_and_dtype(lib):
    x, y, w = inputs("cross_entropy", (6, 5)), targets("cross_entropy", (6, 5)), np.arange(6) / 4
    want = expected("cross_entropy", x, y, sample_weight=w).value
    for form in FORMS.values():
        got = xloss.cross_entropy(lib.like(x), form(y), sample_weight=form(w))
        close(lib.host(got), want)


@pytest.mark.parametrize("lib", ["jax", "no_x64"], indirect=True)
def test_wide_labels_do_not_wrap_where_there_are_no_64_bits(lib):
    """Narrowed, 2^32 + 1 would be label 1."""
    x = lib.like(inputs("cross_entropy", (4, 5)))
    for kind in (np.int64, np.uint64):
        y = np.array([0, 2**32 + 1, 2**40, 3], kind)
        with pytest.raises(IndexError, match=r"label 4294967297 at position \(1,\)"):
            xloss.cross_entropy(x, y)
        for ignore, wrong in ((None, 2), (-1, 2), (2**40, 1)):
            rows = xloss.cross_entropy(x, y, validate=False, ignore_index=ignore, reduction="none")
            assert np.isnan(lib.host(rows)).sum() == wrong


@beside
def test_what_is_no_number_is_refused(lib):
    x, y = lib.like(inputs("cross_entropy", (6, 5))), targets("cross_entropy", (6, 5))
    for t in (y.astype(object), y.astype(complex), y.astype(str), y > 2, y.astype("M8[s]")):
        with pytest.raises(TypeError, match=r"^targets: expected an integer array of class"):
            xloss.cross_entropy(x, t)
    with pytest.raises(TypeError, match=r"^weight: expected an array of .* as features is, got"):
        xloss.linear_cross_entropy(x, np.ones((3, 5)), np.zeros(6, int))  # no data: a parameter


def test_under_jit():
    """Constants of a traced function, which JAX's own transformations see nothing of."""
    jax = pytest.importorskip("jax", reason="pip install 'xloss[jax]'")
    x, y, options = inputs("nll_loss", (6, 5)), targets("nll_loss", (6, 5)), given("nll_loss")
    z = jax.numpy.asarray(x, "float32")
    want = expected("cross_entropy", x, y, **options)
    f = jax.jit(jax.value_and_grad(lambda z: xloss.cross_entropy(z, y, **options)))
    close(np.asarray(f(z)[0]), want.value)
    close(np.asarray(f(z)[1]), want.grad)
    with pytest.raises(IndexError, match="label 5 at position"):
        jax.jit(lambda z: xloss.cross_entropy(z, np.full(6, 5)))(z)
    with pytest.raises(ValueError, match=r"^sample_weight: negative"):
        jax.jit(lambda z: xloss.cross_entropy(z, y, sample_weight=-np.ones(6), validate=True))(z)


def test_under_torch_compile():
    torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
    x, y, options = inputs("nll_loss", (6, 5)), targets("nll_loss", (6, 5)), given("nll_loss")
    z = torch.tensor(x, dtype=torch.float32)
    want = expected("cross_entropy", x, y, **options)
    f = torch.compile(
        lambda z, y: xloss.cross_entropy(z, y, **options), backend="eager", fullgraph=True
    )
    close(f(z, y).numpy(), want.value)
    per_row = torch.func.vmap(lambda z: xloss.cross_entropy(z, np.int64(2)))(z)
    close(per_row.numpy(), expected("cross_entropy", x, np.full(6, 2)).rows)
