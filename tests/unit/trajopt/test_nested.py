"""Nested latents, traces and summaries."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from difftori_pl.errors import ShapeError
from difftori_pl.trajopt import Status, TrajOptLayer
from difftori_pl.trajopt.backward import Detached, Implicit, Truncated, Unroll
from difftori_pl.trajopt.solvers import LBFGS, MPPI, Adam, LevenbergMarquardt, Theseus
from tests import cases, problems


@dataclass
class Record:
    first: Tensor
    second: Tensor


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


FORMS = {
    "dict": (lambda a, b: {"a": a, "rest": [b]}, lambda z: torch.cat((z["a"], z["rest"][0].flatten(1)), dim=1)),
    "tuple": (lambda a, b: (a, b), lambda z: torch.cat((z[0], z[1].flatten(1)), dim=1)),
    "named": (Pair, lambda z: torch.cat((z.first, z.second.flatten(1)), dim=1)),
    "dataclass": (Record, lambda z: torch.cat((z.first, z.second.flatten(1)), dim=1)),
}
LAYERS = [
    (LevenbergMarquardt(**cases.SETTINGS), Unroll()),
    (Adam(max_steps=5), Truncated(2)),
    (LBFGS(), Implicit()),
    (MPPI(max_steps=2, n_samples=16, n_elites=4, seed=0), Detached()),
    pytest.param(lambda: Theseus(**cases.SETTINGS), Unroll(), marks=cases.needs_theseus),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("solver", "mode"), LAYERS)
def test_nested_latent_gives_the_same_solution_as_a_flat_one(form, solver, mode):
    pack, unpack = FORMS[form]
    case = problems.network()
    layer = TrajOptLayer(solver() if callable(solver) else solver, mode, n_starts=1)
    flat, nested = case.latent.clone().requires_grad_(), case.latent.clone().requires_grad_()
    starts = torch.stack((case.actions, -case.actions), dim=1)
    expected = layer(case.objective, flat, starts)
    actual = layer(
        lambda z, a: case.objective(unpack(z), a), pack(nested[:, :2], nested[:, 2:].reshape(4, 3, 1)), starts
    )
    assert_close(actual.actions, expected.actions)
    if expected.actions.requires_grad:
        gradients = [torch.autograd.grad(s.actions.sum(), z)[0] for s, z in ((actual, nested), (expected, flat))]
        assert_close(*gradients)


def test_infinity_in_one_part_of_a_latent_fails_the_element():
    case = problems.network()
    second = case.latent[:, 2:].clone()
    second[3, 0] = torch.inf
    solution = TrajOptLayer(Adam(max_steps=3), Unroll())(
        lambda z, a: case.objective(torch.cat(z, dim=1), a), (case.latent[:, :2], second), case.actions
    )
    assert (solution.status == Status.FAILED).tolist() == [False, False, False, True]


def test_refuses_different_batch_sizes_within_a_latent():
    with pytest.raises(ShapeError, match=r"latent \(3, 1\) and actions \(4, 2, 3\)"):
        TrajOptLayer(Adam(), Unroll())(
            lambda z, a: a.sum(dim=(1, 2)), {"good": torch.zeros(4, 5), "bad": torch.zeros(3, 1)}, torch.zeros(4, 2, 3)
        )


@pytest.mark.parametrize("mode", [Detached(), Truncated(2), Unroll(), Unroll(recompute=True)], ids=repr)
def test_trace_holds_every_iterate(mode):
    case = problems.network()
    actions = case.actions.clone()
    actions[2] = torch.nan
    layer = TrajOptLayer(Adam(max_steps=5), mode)
    solution = layer(case.objective, case.latent, actions, trace=True)
    trace, healthy = solution.trace, [0, 1, 3]
    assert trace.actions.shape == (4, 6, 2, 3)
    assert not trace.actions.requires_grad
    assert torch.isnan(trace.values[2]).all()
    assert_close(trace.actions[healthy, 0], actions[healthy])
    assert_close(trace.actions[healthy, -1], solution.actions[healthy].detach())
    assert_close(trace.values[healthy, -1], solution.value[healthy].detach())
    assert_close(trace.values[healthy].max(dim=1).values, solution.best_value[healthy])
    for step in range(6):
        value = case.objective(case.latent, trace.actions[:, step])
        assert_close(trace.values[healthy, step], value[healthy].detach())
    assert layer(case.objective, case.latent, actions).trace is None


def test_trace_ends_where_an_element_stops():
    case = problems.quadratic()
    solution = TrajOptLayer(LBFGS(max_steps=20, grad_tolerance=1e-6), Detached())(
        case.objective, case.latent, case.actions, trace=True
    )
    for b, n_steps in enumerate(solution.n_steps.tolist()):
        assert n_steps < 20
        assert torch.isfinite(solution.trace.values[b]).tolist() == [True] * (n_steps + 1) + [False] * (20 - n_steps)


def test_summary_averages_over_finite_elements():
    case = problems.quadratic()
    actions = case.actions.clone()
    actions[0] = torch.nan
    solution = TrajOptLayer(Adam(max_steps=3), Unroll())(case.objective, case.latent, actions)
    summary = solution.summary()
    assert summary["failed_fraction"] == 0.25
    assert summary["steps"] == 0.75 * 3
    start = case.objective(case.latent, case.actions)
    assert_close(summary["value_gain"], (solution.value - start)[1:].mean().detach())
    assert_close(summary["grad_norm"], solution.grad_norm[1:].mean())
    assert not any(value.requires_grad for value in summary.values())
