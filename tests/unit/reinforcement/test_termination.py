"""The termination head of TD-MPC2 learns where a task ends, and plans avoid it."""

from typing import Any

import torch

from difftori_pl import TDMPC2, Detached, DiffTORIRL, LinearSchedule, Planner, StateEncoder, TrajOptLayer
from difftori_pl.trajopt import RolloutReturn
from difftori_pl.trajopt.solvers import Adam

EDGE = 0.5
"""The task ends when the point is beyond this position."""


def at(*positions: float) -> dict[str, torch.Tensor]:
    return {"state": torch.tensor(positions).view(-1, 1, 1)}


def transitions(generator: torch.Generator) -> dict[str, Any]:
    """Draw single steps of a point that moves by 0.3 times the action; the reward is always 1."""
    position = 1.5 * torch.rand(64, 1, generator=generator) - 1.0
    action = 2 * torch.rand(64, 1, generator=generator) - 1
    after = position + 0.3 * action
    return {
        "obs": {"state": torch.stack([position, after], 1)},
        "actions": action[:, None],
        "rewards": torch.ones(64, 1),
        "terminated": after > EDGE,
        "weights": torch.ones(64),
    }


def test_plans_avoid_the_end_of_the_task() -> None:
    torch.manual_seed(0)
    encoder = StateEncoder({"state": 1}, None, normalize=False)
    model = TDMPC2(encoder, 1, 16, [32], 32, n_bins=21, max_symlog=4.0, episode_steps=100, episodic=True)
    planner = Planner(TrajOptLayer(Adam(20, 0.1), Detached()), n_policy_starts=0)
    module = DiffTORIRL(
        model, planner, LinearSchedule(2, 2, 0), LinearSchedule(0.0, 0.0, 0),
        target_period=1, max_grad_norm=20.0, optimizer=lambda parameters: torch.optim.Adam(parameters, lr=3e-3),
    )  # fmt: skip
    optimizers, generator = module.configure_optimizers(), torch.Generator().manual_seed(1)
    for _ in range(250):
        module.update(transitions(generator), *optimizers)
    with torch.no_grad():
        ended = 1 - model.continuation(model.encode(at(-0.8, -0.4, 0.0, 0.3, 0.65, 0.75))[:, 0])
        assert (ended[:4] < 0.2).all()
        assert (ended[4:] > 0.8).all()
        # From 0.4, a step to the right ends the task.
        near = model.encode(at(0.4, 0.4))[:, 0]
        moves = torch.tensor([[[-1.0], [-1.0]], [[1.0], [1.0]]])
        objective = RolloutReturn(
            model.reward, model.next, model.plan_value, model.act, module.discount, model.continuation
        )
        stays, ends = objective(near, moves)
        assert stays > ends + 0.5
        # The head makes the difference: rewards are 1 on both sides of the edge.
        first, after = model.reward(near, moves[:, 0]), model.reward(model.next(near, moves[:, 0]), moves[:, 1])
        torch.testing.assert_close(torch.cat([first, after]), torch.ones(4), rtol=0, atol=0.1)
    # The plan by gradient, which starts from zero, moves away from the edge.
    action, _ = module.act(at(0.4), module.initial_state(1))
    assert action < -0.1
