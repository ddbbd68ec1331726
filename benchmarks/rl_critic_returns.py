"""Compare the returns of a checkpoint's planner with those of acting greedily on its critics.

    python benchmarks/rl_critic_returns.py walker-stand runs/rl_walker_stand_state/version_0/checkpoints/*.ckpt

The policy gradient (Eq. 6) moves plans towards high Q̃, so it can only help where acting on Q̃ earns more than the
planner. In each state, the action with the highest value is chosen among random actions: half of them near the policy's
action, half uniform. The row `random` chooses among them at random, as a reference. The rows `plan` and `policy` act as
in training, without noise. For state observations only.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from difftori_pl.callbacks.episodes import run_episodes
from difftori_pl.deployment.deploy import load_policy
from difftori_pl.envs import DMControl
from difftori_pl.envs.pool import EnvPool
from difftori_pl.evaluation.metrics import mean_interval
from difftori_pl.models.policy import Observation, Policy, State
from difftori_pl.reinforcement.rl import DiffTORIRL

Critic = Callable[[Observation, Tensor, Tensor], Tensor]
"""Maps observations (N, 1, ...), their latents (N, Z) and actions (N, A) to values (N,)."""

NOISE = 0.3
"""Standard deviation of the actions around the policy's."""


@dataclass
class Memoryless(Policy):
    """A policy that depends only on the observation (B, 1, ...) and its latent (B, Z)."""

    model: DiffTORIRL
    choose: Callable[[Observation, Tensor], Tensor]

    def initial_state(self, batch_size: int) -> State:
        del batch_size
        return {}

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        return self.choose(obs, self.model.world_model.encode(obs)[:, -1]), state


def greedy(model: DiffTORIRL, critic: Critic, n_actions: int) -> Memoryless:
    """Build a policy that samples actions and executes the one with the highest value."""

    def choose(obs: Observation, latent: Tensor) -> Tensor:
        near = model.world_model.act(latent).repeat_interleave(n_actions // 2, 0).unflatten(0, (len(latent), -1))
        near = (near + NOISE * torch.randn_like(near)).clamp(-1.0, 1.0)
        actions = torch.cat([near, 2.0 * torch.rand_like(near) - 1.0], dim=1)
        n_each = actions.shape[1]
        repeated = {key: value.repeat_interleave(n_each, 0) for key, value in obs.items()}
        values = critic(repeated, latent.repeat_interleave(n_each, 0), actions.flatten(0, 1))
        return actions[torch.arange(len(latent)), values.view(len(latent), n_each).argmax(1)]

    return Memoryless(model, choose)


def policies(model: DiffTORIRL, n_actions: int) -> dict[str, Policy]:
    learned, world_model = model.critic, model.world_model
    critics: dict[str, Critic] = {}
    if learned is not None:
        critics["Q̃"] = lambda obs, latent, actions: learned(obs, actions[:, None]).amin(0).squeeze(-1)
    critics["Q in latent space"] = lambda obs, latent, actions: world_model.min_value(latent, actions)
    critics["random"] = lambda obs, latent, actions: torch.rand(len(actions))
    by_critic = {name: greedy(model, critic, n_actions) for name, critic in critics.items()}
    return {"plan": model, "policy": Memoryless(model, lambda obs, latent: world_model.act(latent)), **by_critic}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="task of the DeepMind Control suite")
    parser.add_argument("checkpoints", nargs="+", help="checkpoints of DiffTORIRL")
    parser.add_argument("--action_repeat", type=int, default=2)
    parser.add_argument("--n_episodes", type=int, default=20)
    parser.add_argument("--n_envs", type=int, default=10)
    parser.add_argument("--n_actions", type=int, default=256, help="number of sampled actions per state")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(200_000, 200_000 + options.n_episodes)
    pool = EnvPool(DMControl(options.task, options.action_repeat), options.n_envs)
    try:
        for path in options.checkpoints:
            model: Any = load_policy(path).policy
            print(f"\n{path}, {int(model.env_step):,} environment steps\n")
            print("| action chosen by | return (95 %) |\n| --- | --- |")
            for name, policy in policies(model, options.n_actions).items():
                torch.manual_seed(0)
                returns = [episode.total_reward for episode in run_episodes(policy, pool, seeds, torch.device("cpu"))]
                low, high = mean_interval(returns)
                print(f"| {name} | {sum(returns) / len(returns):.0f} ({low:.0f} to {high:.0f}) |", flush=True)
    finally:
        pool.close()


if __name__ == "__main__":
    main()
