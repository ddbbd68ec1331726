"""Whether Q̃ knows better than the plans it is to improve: what each judge of actions earns where it is obeyed.

    python benchmarks/rl_judges.py walker-stand runs/rl_walker_stand_state/version_0/checkpoints/*.ckpt

The policy gradient (Eq. 6) bends plans towards what Q̃ likes, so that it pays where Q̃ judges better than the model
plans. In each state, a judge chooses among random actions, half of them near the policy's and half from everywhere.
`chance` chooses blindly, which says what these actions earn by themselves; `plan` and `policy` act as they do in
training, less the noise. From the state only.
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

Judge = Callable[[Observation, Tensor, Tensor], Tensor]
"""Maps observations (N, 1, ...), their latents (N, Z) and actions (N, A) to what it thinks of these (N,)."""

NOISE = 0.3
"""Standard deviation of the actions around the policy's."""


@dataclass
class Memoryless(Policy):
    """A policy that chooses by the observation (B, 1, ...) and its latent (B, Z) alone."""

    model: DiffTORIRL
    choose: Callable[[Observation, Tensor], Tensor]

    def initial_state(self, batch_size: int) -> State:
        del batch_size
        return {}

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        return self.choose(obs, self.model.world_model.encode(obs)[:, -1]), state


def obey(model: DiffTORIRL, judge: Judge, n_actions: int) -> Memoryless:
    """Do what the judge likes best of some actions."""

    def choose(obs: Observation, latent: Tensor) -> Tensor:
        near = model.world_model.act(latent).repeat_interleave(n_actions // 2, 0).unflatten(0, (len(latent), -1))
        near = (near + NOISE * torch.randn_like(near)).clamp(-1.0, 1.0)
        actions = torch.cat([near, 2.0 * torch.rand_like(near) - 1.0], dim=1)
        n_each = actions.shape[1]
        repeated = {key: value.repeat_interleave(n_each, 0) for key, value in obs.items()}
        values = judge(repeated, latent.repeat_interleave(n_each, 0), actions.flatten(0, 1))
        return actions[torch.arange(len(latent)), values.view(len(latent), n_each).argmax(1)]

    return Memoryless(model, choose)


def policies(model: DiffTORIRL, n_actions: int) -> dict[str, Policy]:
    critic, world_model = model.critic, model.world_model
    judges: dict[str, Judge] = {}
    if critic is not None:
        judges["Q̃"] = lambda obs, latent, actions: critic(obs, actions[:, None]).amin(0).squeeze(-1)
    judges["Q in latent space"] = lambda obs, latent, actions: world_model.min_value(latent, actions)
    judges["chance"] = lambda obs, latent, actions: torch.rand(len(actions))
    obedient = {name: obey(model, judge, n_actions) for name, judge in judges.items()}
    return {"plan": model, "policy": Memoryless(model, lambda obs, latent: world_model.act(latent)), **obedient}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="of the DeepMind Control suite")
    parser.add_argument("checkpoints", nargs="+", help="of DiffTORIRL")
    parser.add_argument("--action_repeat", type=int, default=2)
    parser.add_argument("--n_episodes", type=int, default=20)
    parser.add_argument("--n_envs", type=int, default=10)
    parser.add_argument("--n_actions", type=int, default=256, help="to choose from in each state")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(200_000, 200_000 + options.n_episodes)
    pool = EnvPool(DMControl(options.task, options.action_repeat), options.n_envs)
    try:
        for path in options.checkpoints:
            model: Any = load_policy(path).policy
            print(f"\n{path}, {int(model.env_step):,} environment steps\n\n| acts | return (95 %) |\n| --- | --- |")
            for name, policy in policies(model, options.n_actions).items():
                torch.manual_seed(0)
                returns = [episode.total_reward for episode in run_episodes(policy, pool, seeds, torch.device("cpu"))]
                low, high = mean_interval(returns)
                print(f"| {name} | {sum(returns) / len(returns):.0f} ({low:.0f} to {high:.0f}) |", flush=True)
    finally:
        pool.close()


if __name__ == "__main__":
    main()
