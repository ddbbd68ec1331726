"""The optimiser against Theseus and MPPI, and its backward modes against finite differences.

    python benchmarks/trajopt.py                                  # all of it
    python benchmarks/trajopt.py theseus --batch 1 --repetitions 3
    python benchmarks/trajopt.py mppi --problems 64 --compiled

Every ratio is of two times taken in turn in this process on the same problems, the median over the repetitions; on the
CPU they are times of the processor, which other work on the machine changes little. Sizes: `rl` is TD-MPC's (latent 50,
6 actions, horizon 5, width 512), `il` the published imitation set-up's (latent 64, a chunk of 16 action components,
horizon 1, width 256).
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from difftori_pl.trajopt import ActionScore, Objective, RolloutReturn, TrajOptLayer, policy_rollouts
from difftori_pl.trajopt.backward import BackwardMode, Detached, DirectLoss, Implicit, LibraryMode, Truncated, Unroll
from difftori_pl.trajopt.bounds import Unbounded
from difftori_pl.trajopt.solvers import LBFGS, MPPI, Adam, LevenbergMarquardt, NewtonCG, Solver, Theseus

PUBLISHED = {"step_size": 1e-4, "damping": 1e-2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["theseus", "joint", "mppi", "gradients", "memory"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64, 256])
    parser.add_argument("--sizes", nargs="+", default=["rl", "il"])
    parser.add_argument("--max-steps", type=int, default=100)
    parser.add_argument("--joint-steps", type=int, default=5, help="of the joint problem, which takes seconds a step")
    parser.add_argument("--problems", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--compiled", action="store_true", help="time the compiled step as well")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {arguments.device}\n")
    parts = {
        "theseus": against_theseus,
        "joint": against_joint,
        "mppi": against_mppi,
        "gradients": gradients,
        "memory": memory,
    }
    for name, part in parts.items():
        if arguments.part in (None, name):
            part(arguments)
            print()


def against_theseus(arguments: argparse.Namespace) -> None:
    print(f"Solve and backward, {arguments.max_steps} steps, truncated-5, float32; parity in float64")
    print("`bare` is what as many evaluations of value and gradient take, without any solver")
    print("size batch  Theseus ms   ours ms  ratio   bare ms  largest difference of actions, of gradients (relative)")
    for size in arguments.sizes:
        for batch in arguments.batch:
            kinds = [Theseus, LevenbergMarquardt, LevenbergMarquardt][: 3 if arguments.compiled else 2]
            solvers: list[Solver] = [kind(max_steps=arguments.max_steps, **PUBLISHED) for kind in kinds]
            models, latent, actions = make_problems(size, batch, arguments.device, torch.float64)
            answers = [solve_and_differentiate(solver, Truncated(5), models, latent, actions) for solver in solvers[:2]]
            apart = (answers[0][0] - answers[1][0]).abs().max().item()
            turned = ((answers[0][1] - answers[1][1]).norm() / answers[0][1].norm()).item()
            assert apart < 1e-8, f"the actions differ by {apart}"
            assert turned < 1e-6, f"the gradients differ by {turned}"
            problems = make_problems(size, batch, arguments.device, torch.float32)
            solves = [
                partial(solve_and_differentiate, solver, Truncated(5), *problems, compiled=i == 2)
                for i, solver in enumerate(solvers)
            ]
            start = time.perf_counter()
            eager, *machine = [solve()[0] for solve in solves[1:]]
            duration = time.perf_counter() - start
            bare, theirs, *ours = in_turn(
                [partial(evaluate, arguments.max_steps, *problems), *solves], arguments.repetitions
            )
            for time_, how in zip(ours, ("", f"  compiled in {duration:.0f} s"), strict=False):
                print(
                    f"{size:4s} {batch:5d} {theirs:11.1f} {time_:9.1f} {theirs / time_:6.1f} {bare:9.1f}  {apart:.0e}, "
                    f"{turned:.0e}{how}",
                    flush=True,
                )
            for each in machine:
                # As a whole: where the score has kinks, a hundred steps make more of a rounding in single components.
                assert (each - eager).norm() < 1e-3 * eager.norm(), "the compiled steps lead elsewhere"


def against_joint(arguments: argparse.Namespace) -> None:
    """The published imitation formulation: the batch is one problem, its residual the offset less the mean score."""
    batch, n_steps = 128, arguments.joint_steps
    models, latent, actions = make_problems("il", batch, arguments.device, torch.float32)

    class Joint(Models):
        def objective(self) -> Objective:
            score = models.objective()
            return lambda z, a: score(z.squeeze(0), a.view(batch, 1, -1)).mean().unsqueeze(0)

    joint = Joint("il", (models.reward,))
    packed = actions.reshape(1, 1, -1)
    per_sample = partial(
        solve_and_differentiate, LevenbergMarquardt(n_steps, **PUBLISHED), Truncated(5), models, latent, actions
    )
    solves: list[Callable[[], Any]] = [
        lambda: solve_and_differentiate(
            Theseus(n_steps, **PUBLISHED), Truncated(5), joint, latent.unsqueeze(0), packed
        ),
        per_sample,
    ]
    if arguments.compiled:
        solves.append(partial(per_sample, compiled=True))
        solves[-1]()
    theirs, *ours = in_turn(solves, min(arguments.repetitions, 3))
    print(
        f"Published imitation formulation: {batch} samples, one problem of {packed.numel()} variables, {n_steps} steps"
    )
    for time_, how in zip(ours, ("", ", compiled"), strict=False):
        print(f"Theseus, joint {theirs:.0f} ms; ours, per sample{how} {time_:.1f} ms; ratio {theirs / time_:.0f}")


def against_mppi(arguments: argparse.Namespace) -> None:
    """Mean value reached on single problems, and the time that took, one problem at a time as when acting."""
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
            start = objective(latent, actions)
            # A twentieth of MPPI's samples come from the policy, as in TD-MPC.
            rollouts = policy_rollouts(models.act, models.move, latent, actions.shape[1], n_rollouts=1)
            starts = torch.cat((actions.unsqueeze(1), rollouts), dim=1)

            print(f"{kind} models, {arguments.problems} problems of batch 1, mean return (start {start.mean():.3f})")
            solves = [
                partial(best_values, layer, objective, latent, starts if layer.solver.joins_starts else actions)
                for layer in planners.values()
            ]
            times = in_turn([partial(solve, 1) for solve in solves], arguments.repetitions)
            # In one batch, which gives each element what it gets alone.
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
    """Error against central differences of the whole solve in float64, and what a solve with backward costs."""
    del arguments
    models, latent, actions = make_problems("il", 8, "cpu", torch.float64, width=64)
    # Strongly concave, so that there is one maximum and every solver reaches it.
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
    print("Derivative of a random loss along a random direction of the parameters, and solve + backward (float64)")
    times = in_turn([partial(solve_and_differentiate, *row, models, latent, actions) for row in rows], 3)
    for (solver, mode), duration in zip(rows, times, strict=True):
        _, flat = solve_and_differentiate(solver, mode, models, latent, actions)
        analytic = (flat[: parameter.numel()].view_as(parameter) * direction).sum().item()
        ends, step = [], 1e-5
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * step * direction)
                layer = TrajOptLayer(solver, Detached(), Unbounded())
                ends.append((loss_weight(actions) * layer(models.objective(), latent, actions).actions).sum().item())
                parameter.sub_(sign * step * direction)
        numeric = (ends[0] - ends[1]) / (2 * step)
        error = abs(analytic - numeric) / abs(numeric)
        print(f"  {type(solver).__name__:20s} {mode!r:70.70s} error {error:8.1e}  {duration:7.1f} ms")


def memory(arguments: argparse.Namespace) -> None:
    """Peak of what autograd keeps at once for the backward pass."""
    del arguments
    models, latent, actions = make_problems("rl", 1, "cpu", torch.float32)
    print("Peak of saved activations, MiB, batch 1: after 10 and after 200 steps")
    for mode in (Unroll(), Unroll(recompute=True), Truncated(5), Implicit(tolerance=torch.inf)):
        peaks = []
        for max_steps in (10, 200):
            meter = Meter()
            with torch.autograd.graph.saved_tensors_hooks(meter.pack, Kept.unpack):
                solve_and_differentiate(LevenbergMarquardt(max_steps, **PUBLISHED), mode, models, latent, actions)
            peaks.append(meter.peak / 2**20)
        print(f"  {mode!r:90.90s} {peaks[0]:8.1f} {peaks[1]:8.1f}")


class Models(nn.Module):
    """Networks of the given size; `il` has only the score."""

    def __init__(self, size: str, given: tuple[nn.Sequential, ...] | None = None, width: int | None = None) -> None:
        super().__init__()
        self.size = size
        self.latent_dim, self.action_dim = (50, 6) if size == "rl" else (64, 16)
        width = width or (512 if size == "rl" else 256)
        joint = self.latent_dim + self.action_dim
        outputs = (1, self.latent_dim, 1, 1) if size == "rl" else (1,)
        self.reward, *rest = given or [mlp(joint, width, n_out) for n_out in outputs]
        self.rest = nn.ModuleList(rest)
        self.policy = mlp(self.latent_dim, width, self.action_dim)

    def objective(self) -> Objective:
        if self.size == "il":
            return ActionScore(lambda z, a: self.reward(torch.cat((z, a), dim=1)))
        return RolloutReturn(
            reward=lambda z, a: self.reward(torch.cat((z, a), dim=1)),
            dynamics=self.move,
            terminal_value=lambda z, a: torch.minimum(*(q(torch.cat((z, a), dim=1)) for q in self.rest[1:])),
            policy=self.act,
        )

    def move(self, latent: Tensor, action: Tensor) -> Tensor:
        return self.rest[0](torch.cat((latent, action), dim=1))

    def act(self, latent: Tensor) -> Tensor:
        return self.policy(latent).tanh()


def mlp(n_in: int, width: int, n_out: int) -> nn.Sequential:
    # No bias at the end: a constant moves no action.
    return nn.Sequential(
        nn.Linear(n_in, width), nn.ELU(), nn.Linear(width, width), nn.ELU(), nn.Linear(width, n_out, bias=False)
    )


def make_problems(
    size: str, batch: int, device: str, dtype: torch.dtype, width: int | None = None
) -> tuple[Models, Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        models = Models(size, width=width)
        with torch.no_grad():
            for parameter in models.parameters():
                parameter.mul_(2)  # returns that vary enough to be worth optimising
        latent = torch.randn(batch, models.latent_dim)
        actions = 0.1 * torch.randn(batch, 5 if size == "rl" else 1, models.action_dim)
    return models.to(device, dtype), latent.to(device, dtype), actions.to(device, dtype)


def train(models: Models, latent: Tensor) -> Tensor:
    """Fit dynamics, reward and values to a point mass in 3D that is pushed by two arms and shall come to the origin."""
    generator = torch.Generator().manual_seed(1)
    encode = torch.randn(6, models.latent_dim, generator=generator) / 6**0.5

    def step(state: Tensor, action: Tensor) -> Tensor:
        speed = 0.9 * state[:, 3:] + 0.2 * (action[:, :3] + 0.5 * action[:, 3:])
        return torch.cat((state[:, :3] + 0.2 * speed, speed), dim=1)

    def reward(state: Tensor, action: Tensor) -> Tensor:
        return torch.exp(-state[:, :3].square().sum(dim=1)) - 0.02 * action.square().sum(dim=1)

    optimiser = torch.optim.Adam(models.parameters(), lr=1e-3)
    for _ in range(400):
        state = 2 * torch.randn(256, 6, generator=generator)
        action = 2 * torch.rand(256, 6, generator=generator) - 1
        joint, after = torch.cat(((state @ encode).tanh(), action), dim=1), step(state, action)
        losses = [(models.move(joint[:, :-6], action) - (after @ encode).tanh()).square().mean()]
        losses.append((models.reward(joint).squeeze(1) - reward(state, action)).square().mean())
        # A value of the next states under no further action stands for Q.
        losses += [
            (q(joint).squeeze(1) - 5 * reward(after, torch.zeros_like(action))).square().mean() for q in models.rest[1:]
        ]
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()
        optimiser.step()
    return (2 * torch.randn(len(latent), 6, generator=generator) @ encode).tanh()


def loss_weight(actions: Tensor) -> Tensor:
    return torch.randn(actions.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(actions)


def solve_and_differentiate(
    solver: Solver, mode: BackwardMode, models: Models, latent: Tensor, actions: Tensor, compiled: bool = False
) -> tuple[Tensor, Tensor]:
    """Actions, and the gradient of a random loss by all parameters, flat."""
    solution = TrajOptLayer(solver, mode, Unbounded(), compiled=compiled)(models.objective(), latent, actions)
    parameters = list(models.parameters())
    found = torch.autograd.grad(
        (loss_weight(actions) * solution.actions).sum(), parameters, allow_unused=True, materialize_grads=True
    )
    return solution.actions.detach(), torch.cat([gradient.flatten() for gradient in found])


def evaluate(n_times: int, models: Models, latent: Tensor, actions: Tensor) -> None:
    """Value and gradient of the objective, and nothing else."""
    objective, actions = models.objective(), actions.clone().requires_grad_()
    for _ in range(n_times):
        torch.autograd.grad(objective(latent, actions).sum(), actions)


def in_turn(functions: list[Callable[[], Any]], repetitions: int) -> list[float]:
    """Median time of each in milliseconds, one of each after the other, so that a busy machine is busy for all."""
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


class Meter:
    """Bytes that autograd holds, now and at most; tensors that are parameters or held twice count once."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[int, int]] = {}
        self.now = self.peak = 0

    def pack(self, tensor: Tensor) -> "Kept":
        key, size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
        count, _ = self.held.get(key, (0, 0))
        if count == 0:
            self.now += size
            self.peak = max(self.peak, self.now)
        self.held[key] = (count + 1, size)
        return Kept(self, key, tensor)

    def release(self, key: int) -> None:
        count, size = self.held.pop(key)
        if count > 1:
            self.held[key] = (count - 1, size)
        else:
            self.now -= size


@dataclass(eq=False)
class Kept:
    meter: Meter
    key: int
    tensor: Tensor

    def unpack(self) -> Tensor:
        return self.tensor

    def __del__(self) -> None:
        self.meter.release(self.key)


if __name__ == "__main__":
    main()
