"""Measure how well critics rank actions near the planned ones.

    python benchmarks/rl_rankings.py walker-stand runs/rl_walker_stand_state/version_0/checkpoints/*.ckpt

The policy gradient (Eq. 6) moves plans up the gradient of Q̃. In states that a checkpoint's planner visits, actions near
the planned one are executed in copies of the simulation, followed by further planning, and the discounted rewards of
the next steps are summed. For each critic, the table gives the rank correlation of its values with these sums, and the
gain of the action that it ranks first over the planned action. `--critic` adds the Q̃ of another checkpoint; `--follow`
uses another checkpoint's planner after the first action. For state observations only.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from difftori_pl.deployment.deploy import load_module
from difftori_pl.envs import DMControl
from difftori_pl.envs.dm_control import DMControlEnv
from difftori_pl.evaluation.metrics import mean_interval
from difftori_pl.models.critics import ObservationCritic
from difftori_pl.models.policy import Observation, State
from difftori_pl.reinforcement.rl import DiffTORIRL

Critic = Callable[[Observation, Tensor], Tensor]
"""Maps observations (N, 1, ...) and actions (N, A) to values (N,)."""


def observed(results: Sequence[Any]) -> Observation:
    return {"state": torch.as_tensor(np.stack([obs["state"] for obs in results]))[:, None]}


def repeated(values: dict[str, Tensor], n: int) -> dict[str, Tensor]:
    return {key: value.expand(n, *value.shape[1:]).clone() for key, value in values.items()}


def critics(model: DiffTORIRL, other: DiffTORIRL | None) -> dict[str, Critic]:
    def smaller_value(critic: ObservationCritic) -> Critic:
        return lambda obs, actions: critic(obs, actions[:, None]).amin(0).squeeze(-1)

    world_model = model.world_model
    learned = {"Q̃": model.critic, "other Q̃": other.critic if other else None}
    return {
        "Q in latent space": lambda obs, actions: world_model.min_value(world_model.encode(obs)[:, -1], actions),
        **{name: smaller_value(critic) for name, critic in learned.items() if critic is not None},
    }


def earned(model: DiffTORIRL, envs: list[DMControlEnv], actions: Tensor, state: State, n_steps: int) -> Any:
    """Sum the discounted rewards (N,) of first actions (N, A), one per environment, followed by planning."""
    total = np.zeros(len(envs))
    for step in range(n_steps):
        results = [env.step(action) for env, action in zip(envs, actions.numpy(), strict=True)]
        total += model.discount**step * np.array([result[1] for result in results])
        actions, state = model.act(observed([result[0] for result in results]), state)
    return total


def compare(model: DiffTORIRL, other: DiffTORIRL | None, follower: DiffTORIRL | None, options: Any) -> None:
    make = DMControl(options.task, options.action_repeat)
    env, copies = make(), [make() for _ in range(options.n_actions + 1)]
    compared = critics(model, other)
    correlations, gains = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    for seed in range(300_000, 300_000 + options.n_episodes):
        obs, state = observed([env.reset(seed=seed)[0]]), model.initial_state(1)
        last = 1000 // options.action_repeat - options.n_steps
        chosen = set(rng.choice(last, options.n_states, replace=False))
        for step in range(max(chosen) + 1):
            planned, state = model.act(obs, state)
            if step in chosen:
                near = planned + options.noise * torch.randn(options.n_actions, planned.shape[-1])
                actions = torch.cat([planned, near]).clamp(-1.0, 1.0)
                for copy in copies:
                    copy.reset(seed=seed)
                    with copy.dm_env.physics.reset_context():
                        copy.dm_env.physics.set_state(env.dm_env.physics.get_state())
                memory = repeated(follower.initial_state(1) if follower else state, len(actions))
                truth = earned(follower or model, copies, actions, memory, options.n_steps)
                for name, critic in compared.items():
                    with torch.no_grad():
                        values = critic(repeated(obs, len(actions)), actions).numpy()
                    gains[name].append(truth[values.argmax()] - truth[0])
                    # The correlation is undefined if all values are equal, at an action bound or after a failure.
                    if np.ptp(values) and np.ptp(truth):
                        correlations[name].append(spearmanr(values, truth).statistic)
                gains["random"].append(truth[1:].mean() - truth[0])
                gains["best"].append(truth.max() - truth[0])
            obs = observed([env.step(planned[0].numpy())[0]])
    print("| critic | rank correlation (95 %) | gain over the plan (95 %) |\n| --- | --- | --- |")
    for name, gained in gains.items():
        print(f"| {name} | {interval(correlations[name])} | {interval(gained)} |", flush=True)


def interval(values: list[float]) -> str:
    return "{:.2f} ({:.2f} to {:.2f})".format(sum(values) / len(values), *mean_interval(values)) if values else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="task of the DeepMind Control suite")
    parser.add_argument("checkpoints", nargs="+", help="checkpoints of DiffTORIRL")
    parser.add_argument("--critic", help="another checkpoint, whose Q̃ is compared too")
    parser.add_argument("--follow", help="checkpoint whose planner acts after the first action")
    parser.add_argument("--action_repeat", type=int, default=2)
    parser.add_argument("--n_episodes", type=int, default=5)
    parser.add_argument("--n_states", type=int, default=12, help="states per episode")
    parser.add_argument("--n_actions", type=int, default=24, help="sampled actions per state")
    parser.add_argument("--noise", type=float, default=0.3, help="standard deviation around the planned action")
    parser.add_argument("--n_steps", type=int, default=40, help="number of steps whose rewards are summed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    other, follower = (load_module(path) if path else None for path in (options.critic, options.follow))
    for path in options.checkpoints:
        model: Any = load_module(path)
        print(f"\n{path}, {int(model.env_step):,} environment steps\n")
        compare(model, other, follower, options)


if __name__ == "__main__":
    main()
