"""Whether Q̃ knows which way is up from the plans it is to improve: how it ranks actions near them.

    python benchmarks/rl_rankings.py walker-stand runs/rl_walker_stand_state/version_0/checkpoints/*.ckpt

The policy gradient (Eq. 6) moves plans to where Q̃ rises. From states that a checkpoint's plans lead to, actions near
the plan's are tried in copies of the simulation, plans go on from there, and the discounted rewards of the next steps
are added up. A judge is described by its rank correlation with these sums, and by what they gain on the plan's own
action where it chooses among all. `--critic` adds the Q̃ of a further checkpoint, and `--follow` lets the plans of one
go on in place of the checkpoint's own. From the state only.
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

Judge = Callable[[Observation, Tensor], Tensor]
"""Maps observations (N, 1, ...) and actions (N, A) to what it thinks of these (N,)."""


def observed(results: Sequence[Any]) -> Observation:
    return {"state": torch.as_tensor(np.stack([obs["state"] for obs in results]))[:, None]}


def repeated(values: dict[str, Tensor], n: int) -> dict[str, Tensor]:
    return {key: value.expand(n, *value.shape[1:]).clone() for key, value in values.items()}


def judges(model: DiffTORIRL, further: DiffTORIRL | None) -> dict[str, Judge]:
    def by(critic: ObservationCritic) -> Judge:
        return lambda obs, actions: critic(obs, actions[:, None]).amin(0).squeeze(-1)

    world_model = model.world_model
    critics = {"Q̃": model.critic, "the further Q̃": further.critic if further else None}
    return {
        "Q in latent space": lambda obs, actions: world_model.min_value(world_model.encode(obs)[:, -1], actions),
        **{name: by(critic) for name, critic in critics.items() if critic is not None},
    }


def earned(model: DiffTORIRL, envs: list[DMControlEnv], actions: Tensor, state: State, n_steps: int) -> Any:
    """Discounted rewards (N,) of first actions (N, A), one in each environment, that plans follow."""
    total = np.zeros(len(envs))
    for step in range(n_steps):
        results = [env.step(action) for env, action in zip(envs, actions.numpy(), strict=True)]
        total += model.discount**step * np.array([result[1] for result in results])
        actions, state = model.act(observed([result[0] for result in results]), state)
    return total


def compare(model: DiffTORIRL, further: DiffTORIRL | None, follower: DiffTORIRL | None, options: Any) -> None:
    make = DMControl(options.task, options.action_repeat)
    env, copies = make(), [make() for _ in range(options.n_actions + 1)]
    asked = judges(model, further)
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
                for name, judge in asked.items():
                    with torch.no_grad():
                        values = judge(repeated(obs, len(actions)), actions).numpy()
                    gains[name].append(truth[values.argmax()] - truth[0])
                    # Where a bound or a lost task makes all alike, there is nothing to rank.
                    if np.ptp(values) and np.ptp(truth):
                        correlations[name].append(spearmanr(values, truth).statistic)
                gains["chance"].append(truth[1:].mean() - truth[0])
                gains["the best"].append(truth.max() - truth[0])
            obs = observed([env.step(planned[0].numpy())[0]])
    print("| judge | rank correlation (95 %) | gain on the plan (95 %) |\n| --- | --- | --- |")
    for name, gained in gains.items():
        print(f"| {name} | {interval(correlations[name])} | {interval(gained)} |", flush=True)


def interval(values: list[float]) -> str:
    return "{:.2f} ({:.2f} to {:.2f})".format(sum(values) / len(values), *mean_interval(values)) if values else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="of the DeepMind Control suite")
    parser.add_argument("checkpoints", nargs="+", help="of DiffTORIRL")
    parser.add_argument("--critic", help="a further checkpoint, whose Q̃ judges too")
    parser.add_argument("--follow", help="a checkpoint whose plans go on after the first action")
    parser.add_argument("--action_repeat", type=int, default=2)
    parser.add_argument("--n_episodes", type=int, default=5)
    parser.add_argument("--n_states", type=int, default=12, help="of an episode")
    parser.add_argument("--n_actions", type=int, default=24, help="tried in each state")
    parser.add_argument("--noise", type=float, default=0.3, help="standard deviation of actions around the plan's")
    parser.add_argument("--n_steps", type=int, default=40, help="whose rewards are added up")
    options = parser.parse_args()
    torch.set_num_threads(1)
    further, follower = (load_module(path) if path else None for path in (options.critic, options.follow))
    for path in options.checkpoints:
        model: Any = load_module(path)
        print(f"\n{path}, {int(model.env_step):,} environment steps\n")
        compare(model, further, follower, options)


if __name__ == "__main__":
    main()
