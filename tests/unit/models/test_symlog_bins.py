"""Two-hot distributions against closed forms."""

import math

import pytest
import torch
from torch import Tensor

from difftori_pl.errors import ConfigurationError
from difftori_pl.models.symlog_bins import SymlogBins, symexp, symlog

EXACT = SymlogBins(81, 10.0).double()
"""Bins whose centres, multiples of 1/4, are exact in float32."""


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_symlog_against_closed_forms() -> None:
    e = math.e
    torch.testing.assert_close(symlog(numbers(0.0, e - 1, 1 - e**2)), numbers(0.0, 1.0, -2.0))
    torch.testing.assert_close(symexp(numbers(0.0, 1.0, -2.0)), numbers(0.0, e - 1, 1 - e**2))


def test_symexp_inverts_symlog() -> None:
    x = torch.cat([-torch.logspace(-6, 6, 40, dtype=torch.float64), torch.logspace(-6, 6, 40, dtype=torch.float64)])
    torch.testing.assert_close(symexp(symlog(x)), x, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(symlog(symexp(symlog(x))), symlog(x), rtol=1e-10, atol=1e-12)


def test_both_have_slope_one_at_zero() -> None:
    for function in (symlog, symexp):
        x = torch.zeros((), dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(function(x), x)
        assert slope == 1.0
    assert torch.autograd.gradcheck(symexp, numbers(-2.0, -0.3, 0.7, 3.0).requires_grad_())
    assert torch.autograd.gradcheck(symlog, numbers(-2.0, -0.3, 0.7, 3.0).requires_grad_())


def test_two_hot_by_hand() -> None:
    bins = SymlogBins(5, 2.0).double()  # centres -2, -1, 0, 1, 2
    found = bins.two_hot(symexp(numbers(0.25, -1.0, 1.6, 2.0, 7.0, -7.0)))
    expected = [
        [0.0, 0.0, 0.75, 0.25, 0.0],
        [0.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.4, 0.6],
        [0.0, 0.0, 0.0, 0.0, 1.0],
        [0.0, 0.0, 0.0, 0.0, 1.0],
        [1.0, 0.0, 0.0, 0.0, 0.0],
    ]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_two_hot_is_a_distribution_over_neighbours_with_the_symlog_as_mean() -> None:
    bins = EXACT
    x = torch.cat([-torch.logspace(-3, 4, 50, dtype=torch.float64), torch.logspace(-3, 4, 50, dtype=torch.float64)])
    found = bins.two_hot(x)
    torch.testing.assert_close(found.sum(-1), torch.ones_like(x), rtol=0, atol=1e-12)
    assert (found >= 0).all()
    assert ((found > 1e-12).sum(-1) <= 2).all()
    torch.testing.assert_close((found * bins.centres).sum(-1), symlog(x), rtol=1e-10, atol=1e-12)


def test_decoding_inverts_encoding() -> None:
    bins = EXACT
    x = numbers(-20_000.0, -3.0, -0.01, 0.0, 0.5, 1.0, 400.0, 20_000.0)
    torch.testing.assert_close(bins.decode(bins.two_hot(x).log()), x, rtol=1e-9, atol=1e-12)


def test_uniform_logits_decode_to_zero() -> None:
    torch.testing.assert_close(SymlogBins().double().decode(torch.zeros(3, 101, dtype=torch.float64)), numbers(0, 0, 0))


def test_decoding_is_differentiable() -> None:
    bins = SymlogBins(7, 3.0).double()
    logits = torch.randn(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(bins.decode, logits)
    assert torch.autograd.gradgradcheck(bins.decode, logits)


def test_cross_entropy_by_hand() -> None:
    bins = SymlogBins(3, 1.0).double()  # centres -1, 0, 1
    logits = numbers(0.0, math.log(2.0), math.log(5.0))  # probabilities 1/8, 2/8, 5/8
    found = bins.cross_entropy(logits.expand(2, 3), symexp(numbers(0.25, -1.0)))
    torch.testing.assert_close(found, numbers(-0.75 * math.log(2 / 8) - 0.25 * math.log(5 / 8), -math.log(1 / 8)))


def test_cross_entropy_is_smallest_at_the_two_hot_distribution() -> None:
    bins = SymlogBins(11, 5.0).double()
    x = numbers(1.7)
    logits = (bins.two_hot(x) + 1e-9).log().requires_grad_()
    (gradient,) = torch.autograd.grad(bins.cross_entropy(logits, x).sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-7)


def test_half_precision_logits_are_decoded_in_float32() -> None:
    bins = SymlogBins()
    logits = bins.two_hot(torch.tensor([300.0])).mul(30.0).bfloat16()
    assert bins.decode(logits).dtype == torch.float32
    torch.testing.assert_close(bins.decode(logits), bins.decode(logits.float()))


def test_one_bin_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="n_bins must be at least 2, got 1"):
        SymlogBins(1)
