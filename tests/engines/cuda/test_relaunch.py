"""Calls alike on the CUDA engine: the launches of the first are repeated, whatever their number."""

from __future__ import annotations

from typing import Any

import pytest

import xloss
from emulated import assert_near, assert_same, at_odd_address, both, emulated, expected, inputs
from xloss.backends import fingerprints
from xloss.engines.cuda import call as cuda_call
from xloss.engines.cuda import kernel_variants, relaunch

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")

IGNORED = {"ignore_index": 3}
SUM = {"reduction": "sum"}
CASES: list[tuple[str, tuple[int, ...], int, dict[str, Any]]] = [
    # One launch; and where blocks add up rows, and the last one their sums.
    ("float32", (8, 40), 90, {}),
    ("float32", (1100, 40), 90, IGNORED),
    ("bfloat16", (1100, 40), 90, SUM),
    # Long rows, whose losses alone take two launches; a cluster shares a row, or three launches do.
    ("bfloat16", (2, 8203), 90, IGNORED),
    ("float32", (2, 8203), 80, {}),
    # Rows side by side.
    ("bfloat16", (2, 21, 30, 21), 90, {"axis": 1, **IGNORED}),
]


def results(z: Any, y: Any, **options: Any) -> tuple[Any, ...]:
    """Everything that a call computes, and what it keeps for backward."""
    leaf = z.detach().requires_grad_()
    loss = xloss.cross_entropy(leaf, y, **options)
    kept = loss.grad_fn.saved_tensors[0].clone()
    (first,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    (second,) = torch.autograd.grad(3 * loss, leaf)
    value = xloss.cross_entropy(z, y, **options)
    again = xloss.cross_entropy(leaf, y, **options)
    (scaled,) = torch.autograd.grad(3 * again, leaf)  # the gradient ahead is overwritten
    return value, *both(z, y, **options), loss.detach(), kept, first, second, scaled


def plan_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_call.Launcher, "__init__", None)


@pytest.mark.parametrize(("kind", "shape", "capability", "options"), CASES)
def test_repeated_launches_have_the_bits_of_planned_ones(
    kind, shape, capability, options, monkeypatch
):
    if shape[-1] > 40:
        monkeypatch.setattr(kernel_variants, "_FEW", 0)  # take few rows for many
    axis = options.get("axis", -1)
    given = [inputs(*shape, kind=kind, axis=axis, seed=seed) for seed in range(2)]
    if axis == -1:
        given.append((at_odd_address(given[0][0]), given[0][1]))
    planned = []
    for z, y in given:
        with emulated(capability) as gpu:
            made = results(z, y, **options)
            planned.append((made, gpu.launches, gpu.ways))
    with emulated(capability) as gpu:
        results(*given[0], **options)
        plan_no_more(monkeypatch)
        for (z, y), (want, launches, ways) in zip(given, planned, strict=True):
            gpu.launches, gpu.ways = [], []
            assert_same(results(z, y, **options), want)
            assert gpu.launches == launches
            assert gpu.ways == ways


def test_a_stream_has_its_own_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = inputs(1500, 40)
    with emulated() as gpu:
        want = both(z, y)
        for stream in (7, 0, 7):
            gpu.home.stream = lambda index, stream=stream: stream
            gpu.ways, before = [], len(gpu.packed)
            assert_same(both(z, y), want)
            if stream == 7:  # whose room is there now
                plan_no_more(monkeypatch)
            assert {way[0] for way in gpu.ways} == {stream}
            room = kernel_variants._shared_rooms[gpu.home, 0, stream][0]
            last = gpu.packed[before:][-1]
            assert room.to_bytes(8, "little") in last


@pytest.mark.parametrize("first", [True, False], ids=["captured first", "captured later"])
def test_a_call_in_a_graphs_capture_is_planned(first: bool) -> None:
    """The graph may run beside the stream, whose counter it must not take."""
    z, y = inputs(1500, 40)
    with emulated() as gpu:
        made, counts = [], []
        for capturing in (first, not first, first, not first):
            gpu.home.capturing = capturing
            gpu.launches, gpu.ways = [], []
            made.append(both(z, y))
            counts.append(len(gpu.launches))
            # Older drivers refuse to capture launches that overlap.
            assert [follows for _, follows in gpu.ways[1:3]] == [not capturing] * 2
        assert counts == ([5, 3, 5, 3] if first else [3, 5, 3, 5])
        assert len(kernel_variants._shared_rooms) == 1
    for others in made[1:]:
        assert_same(others, made[0])


def test_a_cotangent_unlike_the_first_is_not_read_like_it() -> None:
    z, y = inputs(1500, 7)
    with emulated():
        loss = xloss.cross_entropy(z.clone().requires_grad_(), y)
        kept = loss.grad_fn.saved_tensors[0]
        loss.backward(retain_graph=True)
        loss.backward()
        (call,) = fingerprints._calls.values()
        one = torch.ones(())
        assert relaunch.again(call.memory, z, y, one, kept, None) is not None
        for other in (one.double(), one.half(), one[None]):
            assert relaunch.again(call.memory, z, y, other, kept, None) is None


@pytest.mark.parametrize(
    "given",
    [
        {"weight": torch.linspace(0.1, 2, 7)},
        {"sample_weight": torch.linspace(0.1, 2, 1500)},
        {"where": torch.arange(1500) % 3 > 0},
        {"normalizer": torch.tensor(17.0)},
        {"targets": torch.softmax(torch.linspace(0, 9, 10500).view(1500, 7), -1), **SUM},
    ],
    ids=lambda given: next(iter(given)),
)
def test_a_call_with_other_arrays_is_not_taken_for_one_without(given: dict[str, Any]) -> None:
    """They have addresses that are in no array of a call by labels: planned each time."""
    z, y = inputs(1500, 7)
    options = dict(given)
    targets = options.pop("targets", y)
    with emulated():
        want = results(z, targets, **options)
    assert_near(want[0], expected(z, targets, **options)[0], 1)
    with emulated():
        plain = results(z, y)
        for _ in range(2):
            assert_same(results(z, targets.clone(), **options), want)
        assert_same(results(z, y), plain)
    assert want[0] != plain[0]
