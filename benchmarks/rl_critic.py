"""A Q̃ that knows a task: what a trained run's plans will earn, fitted on experience of many kinds.

    python benchmarks/rl_critic.py walker-stand runs/rl_walker_stand_state/version_0/checkpoints/last.ckpt critic.ckpt

What the policy gradient (Eq. 6) is worth depends on what Q̃ knows. The one that is written here knows more than a run of
usual length can, and is to be given to `rl/pretrained_critic.yaml`; `benchmarks/rl_judges.py` says how much it knows.

The run's plans act under noise, after up to 60 % of an episode at random or half at random. Q̃ is then fitted to
r + γ Q̃(s', plan(s')). From the state only; the task must have no end but the clock's.
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
"""Number of steps for which random actions are held, so that they lead somewhere."""

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
        n_before = rng.integers(0, int(0.6 * n_steps), N_ENVS)[:, None]
        noise = rng.choice([0.1, 0.3, 0.6], N_ENVS)[:, None]
        blind = (rng.random(N_ENVS) < 0.5)[:, None]
        held = np.zeros((N_ENVS, model.world_model.action_dim))
        for step in range(n_steps):
            actions, state = model.act({"state": torch.as_tensor(obs)[:, None]}, state)
            planned = actions.numpy() + noise * rng.standard_normal(actions.shape)
            drawn = rng.uniform(-1.0, 1.0, actions.shape)
            if step % HELD == 0:
                held = drawn
            before = np.where(blind, held, planned + 0.5 * held)
            taken = np.where(step < n_before, before, planned).clip(-1.0, 1.0).astype(np.float32)
            came = [env.step(action) for env, action in zip(envs, taken, strict=True)]
            later = np.stack([one[0]["state"] for one in came])
            steps.append((obs, taken, np.array([one[1] for one in came]), later))
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
    going_on = torch.zeros(BATCH_SIZE, 1, dtype=torch.bool)
    for _ in range(n_updates):
        rows = torch.randint(len(states), (BATCH_SIZE,))
        with torch.no_grad():
            next_values = target({"state": later[rows, None]}, planned[rows]).amin(0)
            wanted = td_target(rewards[rows, None], next_values, going_on, model.discount)
        values = critic({"state": states[rows, None]}, actions[rows, None])
        optimizer.zero_grad()
        value_error(values, wanted).mean().backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(target.parameters()), list(critic.parameters()), TARGET_RATE)
    return critic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="of the DeepMind Control suite")
    parser.add_argument("checkpoint", help="of DiffTORIRL, with a critic")
    parser.add_argument("output", help="the checkpoint to write: the same, with the fitted Q̃")
    parser.add_argument("--action_repeat", type=int, default=2)
    parser.add_argument("--n_rounds", type=int, default=6, help=f"of {N_ENVS} episodes each")
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
