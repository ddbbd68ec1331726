"""Reads on the host during a solve and its backward pass: a GPU would be idle while the program waits for them."""

import pytest
import torch

from difftori_pl.trajopt import TrajOptLayer
from difftori_pl.trajopt.backward import Detached, DirectLoss, Implicit, Truncated, Unroll
from difftori_pl.trajopt.solvers import Adam, Theseus
from tests import cases, problems
from tests.dispatch import HostReads

# Whether an element failed decides whether the differentiated steps are repeated without it; whether one is not
# stationary decides whether the fallback solves again; conjugate gradients stop when all elements are solved.
INHERENT = {Unroll: 1, Truncated: 1, Detached: 0, Implicit: 2, DirectLoss: 1}
# Theseus reads on the host in each of its steps.
PAIRS = cases.pairs({part: build for part, build in cases.SOLVERS.items() if part is not Theseus})


def solve(layer, unit=None):
    """Solve a quadratic problem and differentiate the solution, if it has a gradient."""
    case = problems.quadratic()
    solution = layer(case.objective, case.latent, case.actions, unit)
    solution.summary()
    if solution.actions.requires_grad:
        torch.autograd.grad(solution.actions.square().sum(), case.parameters)


@pytest.mark.parametrize(("solver", "mode"), PAIRS)
def test_a_solve_reads_only_what_decides_about_a_further_solve(solver, mode):
    layer = TrajOptLayer(solver(), mode())
    with HostReads(allowed=INHERENT[type(layer.backward_mode)]) as reads:
        solve(layer)
    assert reads.count == reads.allowed, "lower the number in INHERENT"


@pytest.mark.parametrize("solver", [build for part, build in cases.SOLVERS.items() if part is not Theseus])
def test_acting_reads_nothing(solver):
    layer = TrajOptLayer(solver(), Unroll() if solver().steps_differentiable else Detached(), n_starts=2)
    with torch.no_grad(), HostReads():
        solve(layer)


def test_a_unit_is_read_once():
    layer, unit = TrajOptLayer(Adam(3), Detached()), torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    with HostReads(allowed=1):
        solve(layer, unit)
        solve(layer, unit)
    unit.mul_(2)
    with HostReads(allowed=1) as reads:
        solve(layer, unit)
    assert reads.count == 1, "a unit that has changed must be checked again"


@pytest.mark.parametrize("read", [torch.Tensor.item, torch.Tensor.tolist, bool, lambda t: t.nonzero(), lambda t: t[t]])
def test_reads_are_found(read):
    with pytest.raises(AssertionError, match="is read number 1 on the host, expected 0"), HostReads():
        read(torch.tensor(True))
