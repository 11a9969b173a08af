"""The CUDA engine's gradient lies in memory as the logits do."""

import pytest

import xloss
from emulated import emulated

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(2, 21, 5, 7), (3, 70, 4)])
def test_a_gradient_of_pixels_lies_as_the_pixels_do(shape, dtype):
    # Threads next to each other have pixels next to each other. Were the gradient's classes side by
    # side, each would write apart from the next: a sixth of the speed.
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(shape, generator=generator).to(getattr(torch, dtype))
    y = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    with emulated() as gpu:
        loss, gradient = xloss.value_and_grad(xloss.cross_entropy)(z, y, axis=1)
        assert gpu.launches
    assert gradient.stride() == z.stride()
    want = z.double().requires_grad_()
    expected = torch.nn.functional.cross_entropy(want, y)
    expected.backward()
    eps = torch.finfo(z.dtype).eps
    assert abs(loss.double() - expected.detach()) <= 4 * 2**-23 * expected.detach()
    assert ((gradient - want.grad).abs() <= 4 * eps * want.grad.abs()).all()


def test_a_gradient_under_autograd_too_twice():
    z = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(2)).requires_grad_()
    y = torch.tensor([[0, 1, 2, 3, 4, 8]] * 2)
    with emulated():
        loss = xloss.cross_entropy(z, y, axis=1)
        (first,) = torch.autograd.grad(3 * loss, z, retain_graph=True)
        (second,) = torch.autograd.grad(loss, z)
    want = z.detach().double().requires_grad_()
    torch.nn.functional.cross_entropy(want, y).backward()
    assert ((first - 3 * want.grad).abs() <= 6 * 2**-23 * (3 * want.grad).abs()).all()
    assert ((second - want.grad).abs() <= 4 * 2**-23 * want.grad.abs()).all()
