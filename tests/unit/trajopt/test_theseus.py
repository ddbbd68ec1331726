import sys

import pytest
import torch
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError, MissingPackageError
from difftori_pl.trajopt import TrajOptLayer
from difftori_pl.trajopt.backward import BackwardMode, Detached
from difftori_pl.trajopt.bounds import Unbounded
from difftori_pl.trajopt.solvers import LevenbergMarquardt, Theseus
from tests import cases


def test_absent_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "theseus", None)
    monkeypatch.delitem(sys.modules, "difftori_pl.trajopt.solvers.theseus_loop", raising=False)
    with pytest.raises(MissingPackageError, match=r"theseus is not installed: pip install 'difftori_pl\[theseus\]'"):
        Theseus()


class TestWithTheLibrary:
    pytestmark = cases.needs_theseus

    def test_refuses_modes_that_are_not_its_own(self):
        class Implicit(BackwardMode):
            def apply(self, solver, problem, latent, actions):
                raise NotImplementedError

        with pytest.raises(ConfigurationError, match="choose a backward mode among Detached, Truncated, Unroll"):
            TrajOptLayer(Theseus(), Implicit())

    def test_takes_all_steps_in_float32(self):
        # With the library's own tolerances on r² ≈ 1e6 this solve would end after two steps.
        case = cases.network()
        objective = lambda latent, actions: case.objective(latent.double(), actions.double()).float()  # noqa: E731
        arguments = {"max_steps": 50, "step_size": 1e-4, "damping": 1.0}
        solutions = [
            TrajOptLayer(solver, Detached(), Unbounded())(objective, case.latent.float(), case.actions.float())
            for solver in (Theseus(**arguments), LevenbergMarquardt(**arguments))
        ]
        assert (solutions[1].actions - case.actions).abs().max() > 0.1
        assert_close(solutions[0].actions, solutions[1].actions, rtol=1e-3, atol=1e-5)

    def test_an_error_in_the_objective_is_not_taken_for_a_failed_solve(self):
        def broken(latent, actions):
            raise RuntimeError("There is a mistake in the objective")

        with pytest.raises(RuntimeError, match="mistake in the objective"):
            TrajOptLayer(Theseus(), Detached())(broken, torch.zeros(1, 2), torch.zeros(1, 1, 2))
