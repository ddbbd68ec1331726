"""Swing up a pendulum whose dynamics are known: the optimiser alone, without a learned model.

    python examples/pendulum.py

At each step of gymnasium's Pendulum-v1, the optimiser solves for the next 20 torques. It starts from the previous
solution, shifted by one step, and seven noisy copies of it. The best policies reach an average return of about -150.
"""

import gymnasium
import torch
from torch import Tensor

from difftori_pl.trajopt import RolloutReturn, TrajOptLayer
from difftori_pl.trajopt.backward import Detached
from difftori_pl.trajopt.solvers import Adam
from difftori_pl.trajopt.starts import shift

MAX_TORQUE, MAX_SPEED, TIME_STEP, GRAVITY = 2.0, 8.0, 0.05, 10.0


def dynamics(state: Tensor, action: Tensor) -> Tensor:
    """Predict the next state (B, 2), angle from upright (rad) and velocity (rad/s), for an action (B, 1) in [-1, 1]."""
    angle, speed = state.unbind(-1)
    speed = speed + TIME_STEP * (1.5 * GRAVITY * angle.sin() + 3.0 * MAX_TORQUE * action[:, 0])
    speed = speed.clamp(-MAX_SPEED, MAX_SPEED)
    return torch.stack([angle + TIME_STEP * speed, speed], dim=-1)


def reward(state: Tensor, action: Tensor) -> Tensor:
    """Compute a smooth reward (B,): 2 - 2 cos(angle) replaces gymnasium's squared wrapped angle, which has a kink."""
    angle, speed = state.unbind(-1)
    return -(2.0 - 2.0 * angle.cos()) - 0.1 * speed.square() - 0.001 * (MAX_TORQUE * action[:, 0]).square()


def swing_up(seed: int = 0, n_steps: int = 200, horizon: int = 20) -> float:
    """Control one episode and return its return."""
    torch.manual_seed(seed)
    layer = TrajOptLayer(Adam(max_steps=10, learning_rate=0.3), Detached(), n_starts=8, start_noise=0.5)
    objective = RolloutReturn(
        reward,
        dynamics,
        terminal_value=lambda state, action: 10.0 * reward(state, action),
        policy=lambda state: torch.zeros_like(state[:, :1]),
        discount=1.0,
    )
    env = gymnasium.make("Pendulum-v1")
    observation, _ = env.reset(seed=seed)
    plan, episode_return = torch.zeros(1, horizon, 1), 0.0
    for _ in range(n_steps):
        cosine, sine, speed = torch.as_tensor(observation)
        solution = layer(objective, torch.stack([torch.atan2(sine, cosine), speed])[None], plan)
        observation, step_reward, *_ = env.step((MAX_TORQUE * solution.best_actions[0, 0]).numpy())
        episode_return += float(step_reward)
        plan = shift(solution.best_actions)
    return episode_return


if __name__ == "__main__":
    for seed in range(5):
        print(f"seed {seed}: return {swing_up(seed):.0f}")
