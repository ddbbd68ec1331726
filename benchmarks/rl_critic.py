"""Fit a critic Q̃ to the returns of a trained run's planner, on varied experience.

    python benchmarks/rl_critic.py walker-stand runs/rl_walker_stand_state/version_0/checkpoints/last.ckpt critic.ckpt

The benefit of the policy gradient (Eq. 6) depends on the accuracy of Q̃. The fitted critic is more accurate than one
learned during a run; pass it to `rl/pretrained_critic.yaml`. `benchmarks/rl_critic_returns.py` measures its quality.

Each episode begins with up to 60 % of random or partly random actions; then the planner acts with noise. Q̃ is fitted to
r + γ Q̃(s', plan(s')). For state observations and tasks that end only by a time limit.
"""

import argparse
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from difftori_pl.deployment.deploy import load_module
from difftori_pl.envs import DMControl
from difftori_pl.losses import td_target, value_error
from difftori_pl.models.critics import ObservationCritic
from difftori_pl.reinforcement.rl import DiffTORIRL

N_ENVS = 10
BATCH_SIZE = 256
TARGET_RATE = 0.05
HELD = 4
"""Number of steps for which a random action is held, so that the state moves away from its start."""

Experience = tuple[Tensor, Tensor, Tensor, Tensor]
"""States (N, S), actions (N, A), rewards (N,) and next states (N, S)."""


def collect(model: DiffTORIRL, task: str, action_repeat: int, n_rounds: int) -> Experience:
    rng = np.random.default_rng(0)
    make = DMControl(task, action_repeat)
    envs = [make(seed=100 + number) for number in range(N_ENVS)]
    n_steps = 1000 // action_repeat
    steps: list[tuple[Any, Any, Any, Any]] = []
    for number in range(n_rounds):
        seeds = range(5000 + number * N_ENVS, 5000 + (number + 1) * N_ENVS)
        obs = np.stack([env.reset(seed=seed)[0]["state"] for env, seed in zip(envs, seeds, strict=True)])
        state = model.initial_state(N_ENVS)
        n_random = rng.integers(0, int(0.6 * n_steps), N_ENVS)[:, None]
        noise = rng.choice([0.1, 0.3, 0.6], N_ENVS)[:, None]
        fully_random = (rng.random(N_ENVS) < 0.5)[:, None]
        held = np.zeros((N_ENVS, model.world_model.action_dim))
        for step in range(n_steps):
            actions, state = model.act({"state": torch.as_tensor(obs)[:, None]}, state)
            planned = actions.numpy() + noise * rng.standard_normal(actions.shape)
            drawn = rng.uniform(-1.0, 1.0, actions.shape)
            if step % HELD == 0:
                held = drawn
            exploratory = np.where(fully_random, held, planned + 0.5 * held)
            taken = np.where(step < n_random, exploratory, planned).clip(-1.0, 1.0).astype(np.float32)
            results = [env.step(action) for env, action in zip(envs, taken, strict=True)]
            later = np.stack([result[0]["state"] for result in results])
            steps.append((obs, taken, np.array([result[1] for result in results]), later))
            obs = later
    columns = [torch.as_tensor(np.concatenate(column)).float() for column in zip(*steps, strict=True)]
    return columns[0], columns[1], columns[2], columns[3]


def fit(model: DiffTORIRL, experience: Experience, n_updates: int) -> ObservationCritic:
    states, actions, rewards, later = experience
    with torch.no_grad():
        planned = torch.cat([model.plan({"state": part[:, None]}).best_actions for part in later.split(500)])[:, :1]
    assert model.critic is not None
    critic = deepcopy(model.critic).requires_grad_(True)
    target = deepcopy(critic)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_updates)
    terminated = torch.zeros(BATCH_SIZE, 1, dtype=torch.bool)
    for _ in range(n_updates):
        rows = torch.randint(len(states), (BATCH_SIZE,))
        with torch.no_grad():
            next_values = target({"state": later[rows, None]}, planned[rows]).amin(0)
            targets = td_target(rewards[rows, None], next_values, terminated, model.discount)
        values = critic({"state": states[rows, None]}, actions[rows, None])
        optimizer.zero_grad()
        value_error(values, targets).mean().backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(target.parameters()), list(critic.parameters()), TARGET_RATE)
    return critic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="task of the DeepMind Control suite")
    parser.add_argument("checkpoint", help="checkpoint of DiffTORIRL with a critic")
    parser.add_argument("output", help="checkpoint to write: a copy with the fitted Q̃")
    parser.add_argument("--action_repeat", type=int, default=2)
    parser.add_argument("--n_rounds", type=int, default=6, help=f"rounds of {N_ENVS} episodes")
    parser.add_argument("--n_updates", type=int, default=12_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model: Any = load_module(options.checkpoint)
    experience = collect(model, options.task, options.action_repeat, options.n_rounds)
    print(f"{len(experience[0]):,} steps")
    critic = fit(model, experience, options.n_updates)
    content = torch.load(options.checkpoint, map_location="cpu", weights_only=True)
    content["state_dict"] |= {f"critic.{name}": value for name, value in critic.state_dict().items()}
    torch.save(content, options.output)


if __name__ == "__main__":
    main()
