"""Trajectory optimisation in the world model (Eq. 4), and the initial actions of the optimiser."""

import torch
from torch import Tensor, nn

from difftori_pl.models.latent_model import LatentModel
from difftori_pl.trajopt import RolloutReturn, Solution, TrajOptLayer
from difftori_pl.trajopt.objective import LatentActionFunction
from difftori_pl.trajopt.solvers.base import check_not_negative
from difftori_pl.trajopt.starts import policy_rollouts


class Planner(nn.Module):
    """Maximise the predicted return, starting from roll-outs of the policy and from the last plan.

    With the solver `MPPI`, this is TD-MPC: the last plan is the first mean, and the roll-outs of the policy are added
    to the samples. All other solvers refine each start and keep the best. TD-MPC executes an elite drawn by weight;
    here the best sample is executed.

    Args:
        trajopt: the optimiser.
        n_policy_starts: number of policy roll-outs to start from, the first one without noise; 1 in the paper, 25 in
            TD-MPC. With 0 and without a warm start, plans start from zeros (an ablation of Figure 6).
        warm_start: also start from the last plan, shifted by one step, if there is one.
        policy_std: standard deviation of the noise in the roll-outs after the first.
        disagreement_penalty: weight of the standard deviation of the Q ensemble, which is subtracted from the reward
            of each step and from the terminal value, as in FOWM (arXiv:2310.16029): plans then avoid actions of
            uncertain value. 0 for no penalty.
    """

    def __init__(
        self,
        trajopt: TrajOptLayer,
        n_policy_starts: int = 1,
        warm_start: bool = False,
        policy_std: float = 0.05,
        disagreement_penalty: float = 0.0,
    ) -> None:
        super().__init__()
        check_not_negative(
            n_policy_starts=n_policy_starts, policy_std=policy_std, disagreement_penalty=disagreement_penalty
        )
        self.trajopt = trajopt
        self.n_policy_starts = n_policy_starts
        self.warm_start = warm_start
        self.policy_std = policy_std
        self.disagreement_penalty = disagreement_penalty

    def forward(
        self, world_model: LatentModel, discount: float, latent: Tensor, horizon: int, last: Tensor | None = None
    ) -> Solution:
        """Plan; the solution carries the gradient of the optimiser's backward mode.

        Args:
            world_model: predicts rewards, latents and values.
            discount: γ.
            latent: initial latent of the plan (B, Z).
            horizon: number H of actions.
            last: the last plan, shifted by one step (B, H, A); zeros at the start of an episode. None for states that
                no plan led to.
        """
        reward, value = (self._penalised(part, world_model) for part in (world_model.reward, world_model.plan_value))
        continuation = world_model.continuation if world_model.episodic else None
        objective = RolloutReturn(reward, world_model.next, value, world_model.act, discount, continuation)
        return self.trajopt(objective, latent, self._starts(world_model, latent.detach(), horizon, last))

    def _penalised(self, score: LatentActionFunction, world_model: LatentModel) -> LatentActionFunction:
        """Subtract the penalty for disagreement from a score."""
        if self.disagreement_penalty == 0.0:
            return score
        return lambda latent, action: (
            score(latent, action) - self.disagreement_penalty * world_model.disagreement(latent, action)
        )

    def _starts(self, world_model: LatentModel, latent: Tensor, horizon: int, last: Tensor | None) -> Tensor:
        """Return the starts (B, S, H, A), in the order in which MPPI uses them."""
        starts = []
        if self.warm_start and last is not None:
            starts.append(last[:, None])
        if self.n_policy_starts > 0:
            starts.append(policy_rollouts(world_model.act, world_model.next, latent, horizon))
        if self.n_policy_starts > 1:
            starts.append(
                policy_rollouts(
                    lambda latent: world_model.sample(latent, self.policy_std),
                    world_model.next,
                    latent,
                    horizon,
                    self.n_policy_starts - 1,
                )
            )
        if not starts:
            starts.append(latent.new_zeros(len(latent), 1, horizon, world_model.action_dim))
        return torch.cat(starts, dim=1)
