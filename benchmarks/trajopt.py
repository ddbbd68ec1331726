"""Compare the optimiser with Theseus and MPPI, and its backward modes with finite differences.

    python benchmarks/trajopt.py                                  # all parts
    python benchmarks/trajopt.py theseus --batch 1 --repetitions 3
    python benchmarks/trajopt.py mppi --problems 64 --compiled

Times are medians over the repetitions. The methods of a comparison run alternately in one process on the same
problems. On the CPU the script measures processor time, which depends little on other load on the machine. The sizes
`rl` and `il` are described in `trajopt_problems.py`.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from saved_tensors import SavedTensors
from torch import Tensor
from trajopt_problems import Models, evaluate, loss_weight, make_problems, solve_and_differentiate, train

from difftori_pl.trajopt import Objective, TrajOptLayer, policy_rollouts
from difftori_pl.trajopt.backward import BackwardMode, Detached, DirectLoss, Implicit, LibraryMode, Truncated, Unroll
from difftori_pl.trajopt.bounds import Unbounded
from difftori_pl.trajopt.solvers import LBFGS, MPPI, Adam, LevenbergMarquardt, NewtonCG, Solver, Theseus

PUBLISHED = {"step_size": 1e-4, "damping": 1e-2}


def main() -> None:
    parts = {
        "theseus": against_theseus,
        "joint": against_joint,
        "mppi": against_mppi,
        "gradients": gradients,
        "memory": memory,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=list(parts), help="run only this comparison (default: all)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64, 256], help="batch sizes (theseus)")
    parser.add_argument("--sizes", nargs="+", default=["rl", "il"], help="problem sizes (theseus)")
    parser.add_argument("--max-steps", type=int, default=100, help="steps per solve (theseus)")
    parser.add_argument("--joint-steps", type=int, default=5, help="steps per solve (joint)")
    parser.add_argument("--problems", type=int, default=64, help="number of problems (mppi)")
    parser.add_argument("--repetitions", type=int, default=5, help="repetitions per time")
    parser.add_argument("--compiled", action="store_true", help="also time compiled steps")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {arguments.device}\n")
    for name, part in parts.items():
        if arguments.part in (None, name):
            part(arguments)
            print()


def against_theseus(arguments: argparse.Namespace) -> None:
    print(f"Solve and backward, {arguments.max_steps} steps, truncated-5, float32; parity in float64")
    print("`bare`: the same number of evaluations of value and gradient, without a solver")
    print("size batch  Theseus ms   ours ms  ratio   bare ms  largest difference of actions, of gradients (relative)")
    theseus, ours = Theseus(arguments.max_steps, **PUBLISHED), LevenbergMarquardt(arguments.max_steps, **PUBLISHED)
    for size in arguments.sizes:
        for batch in arguments.batch:
            problems = make_problems(size, batch, arguments.device, torch.float64)
            expected = solve_and_differentiate(theseus, Truncated(5), *problems)
            found = solve_and_differentiate(ours, Truncated(5), *problems)
            action_error = (found[0] - expected[0]).abs().max().item()
            gradient_error = ((found[1] - expected[1]).norm() / expected[1].norm()).item()
            assert action_error < 1e-8, f"the actions differ by {action_error}"
            assert gradient_error < 1e-6, f"the gradients differ by {gradient_error}"

            problems = make_problems(size, batch, arguments.device, torch.float32)
            eager = partial(solve_and_differentiate, ours, Truncated(5), *problems)
            functions: list[Callable[[], Any]] = [
                partial(evaluate, arguments.max_steps, *problems),
                partial(solve_and_differentiate, theseus, Truncated(5), *problems),
                eager,
            ]
            labels = [""]
            if arguments.compiled:
                compiled = partial(eager, compiled=True)
                start = time.perf_counter()
                eager_actions, compiled_actions = eager()[0], compiled()[0]
                labels.append(f"  compiled in {time.perf_counter() - start:.0f} s")
                functions.append(compiled)
            bare_time, theseus_time, *our_times = median_times(functions, arguments.repetitions)
            for our_time, label in zip(our_times, labels, strict=True):
                print(
                    f"{size:4s} {batch:5d} {theseus_time:11.1f} {our_time:9.1f} {theseus_time / our_time:6.1f} "
                    f"{bare_time:9.1f}  {action_error:.0e}, {gradient_error:.0e}{label}",
                    flush=True,
                )
            if arguments.compiled:
                # Compare norms: where the score has kinks, 100 steps amplify rounding errors in single components.
                error = (compiled_actions - eager_actions).norm()
                assert error < 1e-3 * eager_actions.norm(), f"compiled and eager actions differ by {error}"


def against_joint(arguments: argparse.Namespace) -> None:
    """Compare with the published imitation formulation: one problem per batch, one residual offset − mean score."""
    batch, n_steps = 128, arguments.joint_steps
    models, latent, actions = make_problems("il", batch, arguments.device, torch.float32)

    class Joint(Models):
        def objective(self) -> Objective:
            score = models.objective()
            return lambda z, a: score(z.squeeze(0), a.view(batch, 1, -1)).mean().unsqueeze(0)

    joint, joint_actions = Joint("il"), actions.reshape(1, 1, -1)
    joint.reward = models.reward
    per_sample = partial(
        solve_and_differentiate, LevenbergMarquardt(n_steps, **PUBLISHED), Truncated(5), models, latent, actions
    )
    theseus = Theseus(n_steps, **PUBLISHED)
    functions: list[Callable[[], Any]] = [
        partial(solve_and_differentiate, theseus, Truncated(5), joint, latent.unsqueeze(0), joint_actions),
        per_sample,
    ]
    labels = [""]
    if arguments.compiled:
        functions.append(partial(per_sample, compiled=True))
        labels.append(", compiled")
    theseus_time, *our_times = median_times(functions, min(arguments.repetitions, 3))
    print(
        f"Published imitation formulation: {batch} samples, one problem of {actions.numel()} variables, {n_steps} steps"
    )
    for our_time, label in zip(our_times, labels, strict=True):
        print(
            f"Theseus, joint {theseus_time:.0f} ms; ours, per sample{label} {our_time:.1f} ms; "
            f"ratio {theseus_time / our_time:.0f}"
        )


def against_mppi(arguments: argparse.Namespace) -> None:
    """Print the mean return reached by each planner, and the time per problem (one at a time, as when acting)."""
    planners: dict[str, TrajOptLayer] = {
        "MPPI 6x512": TrajOptLayer(MPPI(seed=0), Detached()),
        "published LM, 100 steps": TrajOptLayer(LevenbergMarquardt(max_steps=100, **PUBLISHED), Detached()),
        "Adam, 20 steps": TrajOptLayer(Adam(max_steps=20), Detached()),
        "Adam, 20 steps, 4 starts": TrajOptLayer(Adam(max_steps=20), Detached(), n_starts=4),
        "Adam, 50 steps": TrajOptLayer(Adam(max_steps=50), Detached()),
        "L-BFGS, 20 steps": TrajOptLayer(LBFGS(max_steps=20), Detached()),
        "Newton-CG, 5 steps": TrajOptLayer(NewtonCG(max_steps=5), Detached()),
    }
    if arguments.compiled:
        planners["Adam, 20 steps, compiled"] = TrajOptLayer(Adam(max_steps=20), Detached(), compiled=True)
    for kind in ("random", "trained"):
        models, latent, actions = make_problems("rl", arguments.problems, arguments.device, torch.float32)
        if kind == "trained":
            latent = train(models, latent)
        objective = models.objective()
        with torch.no_grad():
            initial = objective(latent, actions)
            # MPPI adds one policy roll-out to its samples.
            rollouts = policy_rollouts(models.act, models.dynamics, latent, actions.shape[1], n_rollouts=1)
            starts = torch.cat((actions.unsqueeze(1), rollouts), dim=1)

            print(f"{kind} models, {arguments.problems} problems of batch 1, mean return (start {initial.mean():.3f})")
            solves = [
                partial(best_values, layer, objective, latent, starts if layer.solver.joins_starts else actions)
                for layer in planners.values()
            ]
            times = median_times([partial(solve, 1) for solve in solves], arguments.repetitions)
            # Solving all problems in one batch gives the same values as solving them one by one.
            values = [solve(len(latent)) for solve in solves]
        for name, value, duration in zip(planners, values, times, strict=True):
            gain = value - values[0]
            error = gain.std() / len(gain) ** 0.5
            print(
                f"  {name:26s} {value.mean():8.4f}  over MPPI {gain.mean():+.4f} ± {1.96 * error:.4f}"
                f"  {duration:7.1f} ms  {duration / times[0]:5.2f} of MPPI's time"
            )


def best_values(layer: TrajOptLayer, objective: Objective, latent: Tensor, actions: Tensor, n_problems: int) -> Tensor:
    return layer(objective, latent[:n_problems], actions[:n_problems]).best_value


def gradients(arguments: argparse.Namespace) -> None:
    """Print gradient errors against central differences of the whole solve (float64), and times with backward."""
    del arguments
    models, latent, actions = make_problems("il", 8, "cpu", torch.float64, width=64)
    # The quadratic term makes the objective strongly concave: all solvers reach the same, unique maximum.
    score = models.objective()
    models.objective = lambda: lambda z, a: score(z, a) - 0.5 * a.square().sum(dim=(1, 2))  # type: ignore[method-assign]
    lm = LevenbergMarquardt(max_steps=60, step_size=0.06, damping=1.0, offset=10.0)
    rows: list[tuple[Solver, BackwardMode]] = [
        (lm, Unroll()),
        (lm, Unroll(recompute=True)),
        (lm, Truncated(5)),
        (lm, Truncated(20)),
        (lm, Implicit()),
        (lm, DirectLoss()),
        (Adam(max_steps=60), Unroll()),
        (Adam(max_steps=60), Implicit()),
        (LBFGS(max_steps=15), Implicit()),
        (NewtonCG(max_steps=6), Implicit()),
        (NewtonCG(max_steps=6), DirectLoss()),
        (Theseus(max_steps=60, step_size=0.06, damping=1.0, offset=10.0), LibraryMode("implicit")),
    ]
    parameter = models.reward[0].weight
    direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def loss_at(step: float, solver: Solver) -> float:
        """Solve with the parameter moved by `step` along the direction."""
        with torch.no_grad():
            parameter.add_(step * direction)
            solution = TrajOptLayer(solver, Detached(), Unbounded())(models.objective(), latent, actions)
            parameter.sub_(step * direction)
        return (loss_weight(actions) * solution.actions).sum().item()

    print("Derivative of a random loss along a random direction of the parameters, and solve + backward (float64)")
    times = median_times([partial(solve_and_differentiate, *row, models, latent, actions) for row in rows], 3)
    for (solver, mode), duration in zip(rows, times, strict=True):
        _, flat = solve_and_differentiate(solver, mode, models, latent, actions)
        analytic = (flat[: parameter.numel()].view_as(parameter) * direction).sum().item()
        numeric = (loss_at(1e-5, solver) - loss_at(-1e-5, solver)) / 2e-5
        error = abs(analytic - numeric) / abs(numeric)
        print(f"  {type(solver).__name__:20s} {mode!r:70.70s} error {error:8.1e}  {duration:7.1f} ms")


def memory(arguments: argparse.Namespace) -> None:
    """Print the peak memory of the tensors that autograd saves for the backward pass."""
    del arguments
    problem = make_problems("rl", 1, "cpu", torch.float32)
    print("Peak of saved activations, MiB, batch 1: after 10 and after 200 steps")
    for mode in (Unroll(), Unroll(recompute=True), Truncated(5), Implicit(tolerance=torch.inf)):
        peaks = []
        for max_steps in (10, 200):
            with SavedTensors() as saved:
                solve_and_differentiate(LevenbergMarquardt(max_steps, **PUBLISHED), mode, *problem)
            peaks.append(saved.peak / 2**20)
        print(f"  {mode!r:90.90s} {peaks[0]:8.1f} {peaks[1]:8.1f}")


def median_times(functions: list[Callable[[], Any]], repetitions: int) -> list[float]:
    """Return the median time of each function in milliseconds; calls alternate, so that load affects all alike."""
    now = time.perf_counter if torch.cuda.is_available() else time.process_time
    times: list[list[float]] = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(repetitions):
        for function, record in zip(functions, times, strict=True):
            start = now()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            record.append(1e3 * (now() - start))
    return [statistics.median(record) for record in times]


if __name__ == "__main__":
    main()
