"""Acting by trajectory optimisation in the world model (Eq. 4): what the optimiser starts from."""

from functools import partial

import torch
from torch import Tensor, nn

from difftori_pl.models.world_model import WorldModel
from difftori_pl.trajopt import RolloutReturn, Solution, TrajOptLayer
from difftori_pl.trajopt.solvers.base import check_not_negative
from difftori_pl.trajopt.starts import policy_rollouts


class Planner(nn.Module):
    """Maximise the predicted return, from the policy's actions and the last plan.

    The solver makes the method: `MPPI` is TD-MPC, whose first mean is the last plan and whose samples the policy's
    roll-outs join; the others refine each start and keep the best. Where TD-MPC executes an elite that it draws by
    weight, the best sample is executed here.

    Args:
        trajopt: the optimiser.
        n_policy_starts: roll-outs of the policy to start from, the first one without noise; 1 in the paper, 25 in
            TD-MPC. With 0, and without a warm start, plans start from zeros (an ablation of Figure 6).
        warm_start: start from the last plan too, where there is one, shifted by one step.
        policy_std: standard deviation of the noise in further roll-outs.
    """

    def __init__(
        self, trajopt: TrajOptLayer, n_policy_starts: int = 1, warm_start: bool = False, policy_std: float = 0.05
    ) -> None:
        super().__init__()
        check_not_negative(n_policy_starts=n_policy_starts, policy_std=policy_std)
        self.trajopt = trajopt
        self.n_policy_starts = n_policy_starts
        self.warm_start = warm_start
        self.policy_std = policy_std

    def forward(
        self, world_model: WorldModel, discount: float, latent: Tensor, horizon: int, last: Tensor | None = None
    ) -> Solution:
        """Plan; the solution carries the gradient of the optimiser's backward mode.

        Args:
            world_model: predicts.
            discount: γ.
            latent: where the plan begins (B, Z).
            horizon: number H of actions.
            last: the last plan as far as it is not done yet (B, H, A), zeros when an episode begins; None for states
                that were not led to by a plan.
        """
        objective = RolloutReturn(
            world_model.reward, world_model.next, world_model.min_value, world_model.act, discount
        )
        return self.trajopt(objective, latent, self._starts(world_model, latent.detach(), horizon, last))

    def _starts(self, world_model: WorldModel, latent: Tensor, horizon: int, last: Tensor | None) -> Tensor:
        """Starts (B, S, H, A), in the order in which MPPI uses them."""
        starts = [last[:, None]] if self.warm_start and last is not None else []
        if self.n_policy_starts > 0:
            starts.append(policy_rollouts(world_model.act, world_model.next, latent, horizon, 1))
        if self.n_policy_starts > 1:
            noisy = partial(world_model.act, std=self.policy_std)
            starts.append(policy_rollouts(noisy, world_model.next, latent, horizon, self.n_policy_starts - 1))
        return torch.cat(starts or [latent.new_zeros(len(latent), 1, horizon, world_model.action_dim)], dim=1)
