"""The CUDA engine on the host: every layout, every way to divide a row, and bits."""

import mmap

import numpy as np
import pytest

import xloss
from emulated import assert_near, assert_same, both, emulated, expected, inputs
from xloss.engines.cuda import launch_plan as plans

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")

# Classes of a float32 row: one thread, 4 to 32 lanes, 2 to 16 warps, 2 to 8 blocks, two strides.
CLASSES = (3, 8, 40, 100, 250, 500, 1000, 2000, 4000, 8000, 16001, 32000, 50001, 70001, 140000)


@pytest.mark.parametrize("classes", CLASSES)
def test_every_division_of_a_row(classes):
    z, y = inputs(3, classes)
    with emulated() as gpu:
        made = both(z, y, reduction="none")
        assert len(gpu.launches) == 1
    assert_right(made, z, y)


def assert_right(made, z, y, **options):
    """Row losses and their gradient are near the exact ones; infinite or NaN where those are."""
    for got, exact in zip(made, expected(z, y, reduction="none", **options), strict=True):
        finite = np.isfinite(exact)
        np.testing.assert_array_equal(got.double().numpy()[~finite], exact[~finite])
        assert_near(got[torch.tensor(finite)], exact[finite])


def test_the_classes_above_take_every_division():
    taken = {plans.plan(c, 4, False) for c in CLASSES}
    assert taken == {plans.plan(c, 4, False) for c in range(1, 200000, 7)}


LAYOUTS = {
    "in order": lambda z: z,
    "rows apart": lambda z: torch.cat([z, z], -1)[..., : z.shape[-1]],
    "begins between two words": lambda z: torch.cat([z.flatten()[:1], z.flatten()])[1:].view_as(z),
    "class axis 1": lambda z: z.transpose(-1, -2).contiguous().transpose(-1, -2),
    "every second class": lambda z: torch.stack([z, z], -1)[..., 0],
    "expanded rows": lambda z: z[:1].expand(z.shape),
    "rows of three axes": lambda z: torch.stack([z, z]).permute(1, 0, 2)[:, 0],
}
KINDS = [(3, "float32"), (37, "float64"), (999, "float16"), (20000, "bfloat16")]


@pytest.mark.parametrize(("classes", "kind"), KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout, classes, kind):
    z, y = inputs(5, classes, kind=kind)
    z = LAYOUTS[layout](z)
    with emulated():
        made = both(z, y, reduction="none")
    assert_right(made, z, y)


@pytest.mark.parametrize(("classes", "rows"), [(8, 9), (700, 300), (1000, 300), (20001, 9)])
def test_a_row_has_the_same_bits_in_every_batch_and_every_call(classes, rows):
    z, y = inputs(rows, classes)
    z *= torch.linspace(0.01, 2, rows)[:, None]
    with emulated():
        losses, grads = both(z, y, reduction="none")
        one = both(z[4:5], y[4:5], reduction="none")
        value = xloss.cross_entropy(z, y, reduction="none")
    assert_same((losses[4:5], grads[4:5], losses), (*one, value))


def test_offsets_of_more_than_31_bits():
    """Rows 2^32 bytes apart, in memory of which only they are ever touched."""
    apart, classes = 2**31, 40
    unreserved = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000)  # Linux's number
    memory = mmap.mmap(-1, 2 * (2 * apart + classes), flags=unreserved)
    every = torch.frombuffer(memory, dtype=torch.float16)
    z = torch.as_strided(every, (3, classes), (apart, 1))
    good, y = inputs(3, classes, kind="float16")
    z[:] = good
    with emulated():
        losses = xloss.cross_entropy(z, y, reduction="none")
        assert torch.equal(losses, xloss.cross_entropy(good, y, reduction="none"))


def test_labels_of_every_width():
    """Each type's ends as the label of an absent row tell of its width and of its sign."""
    z, _ = inputs(2, 200)
    z = z.repeat(600, 1)
    with emulated():
        want = xloss.cross_entropy(z[:2], torch.tensor([-100, 127]), reduction="none")
        for kind in (np.int8, np.int16, np.int32, np.uint8, np.uint16, np.uint32, np.uint64):
            for end in {int(np.iinfo(kind).min), int(np.iinfo(kind).max)} - {0}:
                y = torch.from_numpy(np.array([end, 126 if end == 127 else 127] * 600, kind))
                rows = xloss.cross_entropy(z, y, reduction="none", ignore_index=end)
                mean, grad = both(z, y, ignore_index=end)
                assert rows[0] == 0
                assert mean == rows[1]
                assert_near(grad[1], expected(z[1:2], y[1:2].long())[1][0] / 600)
                assert end == 127 or rows[1] == want[1]


@pytest.mark.parametrize("classes", [3, 37, 1000, 20000])
def test_masked_infinite_and_missing_logits(classes):
    z, y = inputs(8, classes)
    y[:] = 1
    z[0] = -torch.inf
    z[1, 0] = -torch.inf
    z[2, 2] = torch.inf
    z[3, 0] = torch.nan
    z[4], z[4, 1] = -torch.inf, 3.0
    z[5] += 20000.0
    z[6] -= 20000.0
    z[7, 1:] = z[7, 0]
    with emulated():
        losses, grads = both(z, y, reduction="none")
    assert_right((losses, grads), z, y)
    assert losses[4] == 0
    assert (grads[4] == 0).all()
    assert grads[1, 0] == 0


@pytest.mark.parametrize("up", [1e-38, 1e-25, 1e15, 1e30])
def test_a_gradient_of_any_size(up):
    z, y = inputs(4, 300)
    z[0, 5] = -torch.inf
    z[1] += 100.0 * (torch.arange(300) == y[1])
    cotangent = torch.full((4,), up)
    with emulated():
        made = both(z, y, reduction="none", cotangent=cotangent)
    assert made[1][0, 5] == 0
    assert_right(made, z, y, cotangent=cotangent)


@pytest.mark.parametrize("classes", [5, 300, 9001])
@pytest.mark.parametrize("low", [-torch.inf, -200.0])
def test_a_certain_row_loses_nothing_whatever_it_weighs(classes, low):
    z = torch.full((2, classes), low)
    z[:, 3] = torch.tensor([0.5, 9000.0])
    y, up = torch.tensor([3, 3]), torch.full((2,), 1e30)
    with emulated():
        for weight in ([1e30, 1.0], [1.0, 1.0]):
            given = {"sample_weight": torch.tensor(weight), "cotangent": up}
            losses, grads = both(z, y, reduction="none", **given)
            assert not losses.any()
            assert not grads[torch.tensor(weight) == 1].any()


def test_the_mean_whose_gradient_goes_to_soft_targets_too():
    """Which takes the sums of losses and of weights apart."""
    z, _ = inputs(6, 40)
    soft = torch.softmax(z.flip(0), -1) * 0.5
    mean = xloss.value_and_grad(xloss.cross_entropy, argnums=(0, 1))
    with emulated() as gpu:
        got = mean(z, soft)
        assert gpu.launches
    torch.testing.assert_close(got, mean(z, soft), rtol=1e-5, atol=1e-7)


def test_what_it_refuses():
    z, y = inputs(3, 5)
    with emulated(), xloss.use_engine("cuda"):
        xloss.cross_entropy(z, y)
        with pytest.raises(xloss.EngineUnavailable, match="only cross_entropy is compiled"):
            xloss.focal_loss(z, y)
        with pytest.raises(xloss.EngineUnavailable, match="memory does not hold its values"):
            xloss.cross_entropy(torch.complex(z, z).conj().imag, y)
        with pytest.raises(xloss.EngineUnavailable, match="of CuPy and of torch"):
            xloss.cross_entropy(z.numpy(), y.numpy())


def test_nothing_is_read_by_the_host(monkeypatch):
    """A call waits for no result: it may stand in the capture of a graph."""
    z, y = inputs(3, 40)

    def refuse(*_):
        raise AssertionError("a device array was brought to the host")

    with emulated():
        leaf = z.clone().requires_grad_()
        given = [{}, {"weight": torch.ones(40)}, {"normalizer": torch.tensor(3.0)}]
        for name in ("__bool__", "__float__", "__int__", "item", "tolist", "numpy", "__index__"):
            monkeypatch.setattr(torch.Tensor, name, refuse)
        for options in given:
            both(z, y, **options)
            xloss.cross_entropy(leaf, y, **options).backward()
        monkeypatch.undo()
