import sys

import pytest
import torch
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError, MissingPackageError
from difftori_pl.trajopt import TrajOptLayer
from difftori_pl.trajopt.backward import Detached, DirectLoss, Implicit, LibraryMode
from difftori_pl.trajopt.bounds import Unbounded
from difftori_pl.trajopt.solvers import LevenbergMarquardt, Theseus
from tests import cases, problems


def test_message_without_the_library_names_the_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "theseus", None)
    monkeypatch.delitem(sys.modules, "difftori_pl.trajopt.solvers.theseus_loop", raising=False)
    with pytest.raises(MissingPackageError, match="theseus is not installed: pip install scipy urdf_parser_py"):
        Theseus()


class TestWithTheLibrary:
    pytestmark = cases.needs_theseus

    def test_refuses_direct_loss(self):
        with pytest.raises(ConfigurationError, match="it cannot maximise a tilted objective; choose Implicit"):
            TrajOptLayer(Theseus(), DirectLoss())

    def test_takes_all_steps_in_float32(self):
        # With the library's default tolerances on r² ≈ 1e6 this solve would end after two steps.
        case = problems.network()
        objective = lambda latent, actions: case.objective(latent.double(), actions.double()).float()  # noqa: E731
        arguments = {"max_steps": 50, "step_size": 1e-4, "damping": 1.0}
        solutions = [
            TrajOptLayer(solver, Detached(), Unbounded())(objective, case.latent.float(), case.actions.float())
            for solver in (Theseus(**arguments), LevenbergMarquardt(**arguments))
        ]
        assert (solutions[1].actions - case.actions).abs().max() > 0.1
        assert_close(solutions[0].actions, solutions[1].actions, rtol=1e-3, atol=1e-5)

    def test_error_in_the_objective_is_raised(self):
        def broken(latent, actions):
            raise RuntimeError("There is a mistake in the objective")

        with pytest.raises(RuntimeError, match="mistake in the objective"):
            TrajOptLayer(Theseus(), Detached())(broken, torch.zeros(1, 2), torch.zeros(1, 1, 2))

    def test_our_implicit_mode_is_exact_and_that_of_the_library_is_not(self):
        case, solver = problems.quadratic(), Theseus(**cases.SETTINGS)
        (exact,) = torch.autograd.grad(case.optimum(case.latent).sum(), case.parameters)
        errors = []
        for mode in (Implicit(), LibraryMode("implicit")):
            solution = TrajOptLayer(solver, mode)(case.objective, case.latent, case.actions)
            (gradient,) = torch.autograd.grad(solution.actions.sum(), case.parameters)
            errors.append(((gradient - exact).norm() / exact.norm()).item())
        assert errors[0] < 1e-6
        assert errors[1] > 1

    def test_direct_loss_mode_of_the_library_reaches_the_latent(self):
        case = problems.quadratic()
        latent = case.latent.requires_grad_()
        layer = TrajOptLayer(Theseus(**cases.SETTINGS), LibraryMode("dlm"))
        solution = layer(case.objective, latent, case.actions)
        (gradient,) = torch.autograd.grad(solution.actions.sum(), latent)
        assert torch.isfinite(gradient).all()
        assert (gradient != 0).any()

    @pytest.mark.parametrize("linear_solver", ["CholeskyDenseSolver", "LUDenseSolver"])
    def test_linear_solvers_agree(self, linear_solver):
        case = problems.quadratic()
        solver = Theseus(**cases.SETTINGS, linear_solver=linear_solver)
        solution = TrajOptLayer(solver, Detached())(case.objective, case.latent, case.actions)
        assert_close(solution.actions, case.optimum(case.latent).detach(), rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("optimizer", ["GaussNewton", "Dogleg"])
    def test_other_optimisers_solve_a_least_squares_problem(self, optimizer):
        class Distance:
            def residuals(self, latent, actions):
                return actions.flatten(1) - latent

            def __call__(self, latent, actions):
                return -0.5 * self.residuals(latent, actions).square().sum(dim=1)

        latent = torch.tensor([[0.3, -0.2], [0.1, 0.5]], dtype=torch.float64)
        solver = Theseus(max_steps=10, step_size=1.0, optimizer=optimizer, per_term=True)
        solution = TrajOptLayer(solver, Detached())(Distance(), latent, torch.zeros(2, 1, 2, dtype=torch.float64))
        assert_close(solution.actions.flatten(1), latent, rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("name", ["optimizer", "linear_solver"])
    def test_refuses_unknown_optimisers_and_linear_solvers(self, name):
        with pytest.raises(ConfigurationError, match=f"{name} must be one of .*, got 'Magic'"):
            Theseus(**{name: "Magic"})
