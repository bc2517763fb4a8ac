"""einops and opt_einsum on Tensors: equal to NumPy's, and on the tape."""

from __future__ import annotations

import subprocess
import sys

import einops
import einops.array_api
import numpy as np
import opt_einsum
import pytest

import gpu_backprop as gb
import gpu_backprop.interop.einops

X = np.random.default_rng(0).normal(size=(2, 4, 3, 5))

CALLS = [
    lambda e, x: e.rearrange(x, "a b c d -> (a b) d c"),
    lambda e, x: e.rearrange(x, "a (b1 b2) c d -> b1 (a c) (b2 d)", b2=2),
    lambda e, x: e.rearrange([x[0], x[1]], "a b c d -> b a (c d)"),
    lambda e, x: e.reduce(x, "a b c d -> a c", "mean"),
    lambda e, x: e.reduce(x, "a (b 2) c d -> a b 1 d", "max"),
    lambda e, x: e.reduce(x, "a b c d -> ", "sum"),
    lambda e, x: e.reduce(x, "a b c d -> d", "prod"),
    lambda e, x: e.repeat(x, "a b c d -> a (b 2) c d e", e=3),
    lambda e, x: e.pack([x, x[:, :, 0]], "a b * d")[0],
    lambda e, x: e.unpack(x, [(1,), (2,)], "a b * d")[1],
]


@pytest.mark.parametrize("package", [einops, einops.array_api], ids=lambda p: p.__name__)
@pytest.mark.parametrize("call", CALLS)
def test_einops(call, package, device: str) -> None:
    x = gb.tensor(X, requires_grad=True)
    out = call(package, x)
    assert isinstance(out, gb.Tensor)
    assert out.requires_grad
    assert out.device == device
    np.testing.assert_allclose(out.detach().numpy(), call(einops, X), rtol=1e-12, strict=True)
    assert gb.grad(lambda x: (call(package, x) ** 2).sum())(x).shape == X.shape


def test_the_rest_of_einops() -> None:
    x = gb.tensor(X)
    found = einops.einsum(x, x, "a b c d, a b c e -> a d e")
    np.testing.assert_allclose(found.numpy(), np.einsum("abcd,abce->ade", X, X), rtol=1e-12)
    assert isinstance(einops.asnumpy(x), np.ndarray)
    assert einops.parse_shape(x, "a b _ d") == {"a": 2, "b": 4, "d": 5}
    assert gb.gradcheck(lambda x: einops.reduce(x, "a b c d -> a c", "mean") ** 2, x[:1, :2])


def test_einops_is_only_needed_by_its_own_module() -> None:
    code = "import sys, gpu_backprop.interop; assert not {'einops', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_opt_einsum(device: str) -> None:
    random = np.random.default_rng(1)
    arrays = [random.normal(size=s) for s in ((3, 4), (4, 5), (5, 3), (3, 2))]
    for subscripts, n in (("ij,jk,kl,lm->im", 4), ("ij,jk,ki->", 3), ("ij,jk->", 2), ("ij->ji", 1), ("...j,jk", 2)):
        tensors = [gb.tensor(a, requires_grad=True) for a in arrays[:n]]
        out = opt_einsum.contract(subscripts, *tensors)
        assert isinstance(out, gb.Tensor)
        assert out.device == device
        np.testing.assert_allclose(out.numpy(), np.einsum(subscripts, *arrays[:n]), rtol=1e-10, strict=True)
        (out * out).sum().backward()
        expected = gb.grad(lambda *ts: (gb.einsum(subscripts, *ts) ** 2).sum(), tuple(range(n)))(*tensors)  # noqa: B023
        for t, e in zip(tensors, expected):
            np.testing.assert_allclose(t.grad.numpy(), e.numpy(), rtol=1e-9)
    expression = opt_einsum.contract_expression("ij,jk,kl->il", (3, 4), (4, 5), (5, 3))
    np.testing.assert_allclose(expression(*map(gb.tensor, arrays[:3])).numpy(), arrays[0] @ arrays[1] @ arrays[2])
