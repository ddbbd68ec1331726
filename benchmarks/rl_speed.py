"""Time an update and a plan of each method, relative to TD-MPC; the methods alternate within one process.

python benchmarks/rl_speed.py --hidden_dim 256 --batch_size 128 --device cpu
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from difftori_pl import (
    MPPI,
    TDMPC,
    Detached,
    DiffTORIRL,
    ExecutedActions,
    LevenbergMarquardt,
    LinearSchedule,
    ObservationCritic,
    Planner,
    ReplayedStates,
    StateEncoder,
    TrajOptLayer,
    Truncated,
    Unroll,
)
from difftori_pl.trajopt.solvers import Adam


def build(options: argparse.Namespace) -> dict[str, DiffTORIRL]:
    """Build one module per method, with the same networks."""

    def encoder() -> StateEncoder:
        return StateEncoder({"state": options.obs_dim}, 50, [256], normalize=False)

    def module(planner: Planner, policy_gradient: Any = None) -> DiffTORIRL:
        torch.manual_seed(0)
        return DiffTORIRL(
            TDMPC(encoder(), options.action_dim, options.hidden_dim),
            planner,
            LinearSchedule(options.horizon, options.horizon, 0),
            LinearSchedule(0.05, 0.05, 0),
            critic=ObservationCritic(encoder(), options.action_dim, options.hidden_dim) if policy_gradient else None,
            policy_gradient=policy_gradient,
        ).to(options.device)

    levenberg_marquardt = Planner(TrajOptLayer(LevenbergMarquardt(100, 1e-4, 1e-2), Truncated(5)))
    adam = Planner(TrajOptLayer(Adam(5, 0.2), Unroll()))
    sampling = Planner(TrajOptLayer(MPPI(), Detached()), n_policy_starts=25, warm_start=True)
    return {
        "TD-MPC (MPPI)": module(sampling),
        "without backward, LM 100": module(levenberg_marquardt),
        "executed actions, LM 100, truncated 5": module(levenberg_marquardt, ExecutedActions()),
        "replayed states (64), LM 100, truncated 5": module(levenberg_marquardt, ReplayedStates(n_states=64)),
        "replayed states (64), Adam 5, unrolled": module(adam, ReplayedStates(n_states=64)),
    }


def seconds(function: Callable[[], object], device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--obs_dim", type=int, default=17)
    parser.add_argument("--action_dim", type=int, default=6)
    parser.add_argument("--hidden_dim", type=int, default=512)
    parser.add_argument("--batch_size", type=int, default=512)
    parser.add_argument("--horizon", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--matmul_precision", default="highest", choices=("highest", "high", "medium"))
    options = parser.parse_args()
    torch.set_float32_matmul_precision(options.matmul_precision)
    modules = build(options)
    batch = {
        "obs": {"state": torch.randn(options.batch_size, 6, options.obs_dim, device=options.device)},
        "actions": torch.rand(options.batch_size, 5, options.action_dim, device=options.device) * 2 - 1,
        "rewards": torch.rand(options.batch_size, 5, device=options.device),
        "terminated": torch.zeros(options.batch_size, 5, dtype=torch.bool, device=options.device),
        "weights": torch.ones(options.batch_size, device=options.device),
    }
    obs = {"state": batch["obs"]["state"][:1, :1]}
    jobs: dict[str, dict[str, Callable[[], object]]] = {}
    for name, module in modules.items():
        module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
        optimizers = module.configure_optimizers()
        jobs[name] = {
            "update": lambda module=module, optimizers=optimizers: module.update(batch, *optimizers),
            "act": lambda module=module: module.explore(obs, module.initial_state(1)),
        }
    times = {name: {kind: [] for kind in kinds} for name, kinds in jobs.items()}
    for repeat in range(options.repeats + 1):
        for name, kinds in jobs.items():
            for kind, job in kinds.items():
                elapsed = seconds(job, options.device)
                if repeat:  # the first round is a warm-up
                    times[name][kind].append(elapsed)
    base = {kind: statistics.median(values) for kind, values in next(iter(times.values())).items()}
    print("| method | update, ms | relative to TD-MPC | plan, ms | relative to TD-MPC |\n|---|---|---|---|---|")
    for name, kinds in times.items():
        cells = []
        for kind in ("update", "act"):
            median = statistics.median(kinds[kind])
            cells += [f"{1000 * median:.1f}", f"{median / base[kind]:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
