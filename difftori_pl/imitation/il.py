"""DiffTORI for imitation learning: a CVAE whose decoder is the trajectory optimiser (section 4.3, Appendix E)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from datamodules.batch import Batch
from difftori_pl.errors import ConfigurationError
from difftori_pl.imitation.plans import demonstrated_plans
from difftori_pl.imitation.proposal_noise import measured_noise
from difftori_pl.losses import gaussian_kl, masked_mean, negative_elbo, reconstruction, reparameterize
from difftori_pl.models.base_policies import BasePolicy
from difftori_pl.models.cvae import LatentDynamics, Posterior, Score
from difftori_pl.models.encoders import Encoder
from difftori_pl.models.normalizer import MIN_ACTION_STD
from difftori_pl.models.policy import Observation, Policy, State, join, part
from difftori_pl.module import ImitationModule
from difftori_pl.trajopt import ActionScore, ChunkScore, Objective, Solution, TrajOptLayer
from difftori_pl.trajopt.solvers.base import check_not_negative


class DiffTORIIL(ImitationModule):
    """Refine the actions of a base policy by maximising a score that is learned through the optimiser.

    Each step of a training window is a separate problem. The encoder's latent at that step conditions the score, the
    base policy's proposal at that step is the initial iterate, and the demonstrated actions from that step on are the
    target. A window of W steps holds W - H + 1 problems of horizon H. With `chunked`, only one in H of them is solved,
    as when acting.

    In training, proposals are drawn from the base policy's posterior given the demonstration
    (`BasePolicy.propose_posterior`). A mode drawn from the prior would teach the refinement to move to the mean of all
    modes.

    Actions are divided by the standard deviation of each component: wrist rotations are ten times smaller than
    translations and matter as much for success.

    Args:
        encoder: maps an observation to the state part of the latent.
        base_policy: proposes the initial actions; it is frozen.
        trajopt: the differentiable optimiser.
        posterior: makes the posterior from the sizes of the encoder's latent and of the H flattened actions.
        score: makes the score f of Eq. 7 from the sizes of the latent and of an action.
        dynamics: makes the dynamics d of Eq. 7 from the same sizes; None for a horizon of 1 or a chunk.
        horizon: number H of optimised actions; 1 in Table 7.
        chunked: score the H actions at once, without dynamics, and execute all of them before the next solve, as in
            the authors' code for Meta-World.
        discount: gamma of Eq. 7.
        kl_weight: beta of Eq. 9; 1 in Table 7.
        prior_temperature: standard deviation of the prior when acting; 1 in the paper; 0 selects the prior's mean.
        proposal_noise: standard deviation of the noise added to proposals in training, in standard deviations of each
            action component; None measures it when training starts (`measured_noise`). Without noise, proposals are
            more accurate on the training demonstrations than when acting.
        optimizer: Adam at 3e-4 by default (Table 7).
        lr_scheduler: None for a constant rate.
    """

    action_scale: Tensor

    def __init__(
        self,
        encoder: Encoder,
        base_policy: BasePolicy,
        trajopt: TrajOptLayer,
        posterior: Callable[[int, int], Posterior] = Posterior,
        score: Callable[[int, int], Score] = Score,
        dynamics: Callable[[int, int], LatentDynamics] | None = None,
        horizon: int = 1,
        chunked: bool = False,
        discount: float = 1.0,
        kl_weight: float = 1.0,
        prior_temperature: float = 1.0,
        proposal_noise: float | None = 0.0,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.Adam(parameters, lr=3e-4),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(base_policy.action_dim, optimizer, lr_scheduler)
        looks_ahead = horizon > 1 and not chunked
        if horizon < 1 or looks_ahead != (dynamics is not None):
            raise ConfigurationError(
                f"a {'chunk' if chunked else 'horizon'} of {horizon} {'needs' if looks_ahead else 'does not use'} "
                "dynamics: set model.init_args.dynamics to LatentDynamics for a horizon of 2 or more and to null for a "
                "horizon of 1 or a chunk"
            )
        if chunked and base_policy.n_executed_steps not in (None, horizon):
            executed = base_policy.n_executed_steps
            raise ConfigurationError(
                f"a chunk must be as long as the base policy's, which executes {executed} of its actions before it "
                f"proposes again, got a chunk of {horizon}: set model.init_args.horizon to {executed}"
                + (" and model.init_args.chunked to false" if executed == 1 else "")
            )
        check_not_negative(discount=discount, kl_weight=kl_weight, prior_temperature=prior_temperature)
        if proposal_noise is not None:
            check_not_negative(proposal_noise=proposal_noise)
        action_dim = base_policy.action_dim
        self.encoder = encoder
        self.base_policy = base_policy.requires_grad_(False).eval()
        self.trajopt = trajopt
        self.posterior = posterior(encoder.latent_dim, horizon * action_dim)
        latent_dim = self.posterior.sample_dim + encoder.latent_dim
        self.score = score(latent_dim, horizon * action_dim if chunked else action_dim)
        self.dynamics = dynamics(latent_dim, action_dim) if dynamics else None
        self.objective: Objective = (
            ChunkScore(self.score) if chunked else ActionScore(self.score, self.dynamics, discount)
        )
        self.horizon = horizon
        self.chunked = chunked
        self.kl_weight = kl_weight
        self.prior_temperature = prior_temperature
        self.register_buffer("action_scale", torch.ones(action_dim))
        self.proposal_noise = proposal_noise
        self._noise = proposal_noise

    def setup(self, stage: str) -> None:
        """Read the standard deviation of each action component from the data; see `ImitationModule.setup`.

        Raises:
            ConfigurationError: there is no datamodule, and `action_scale` has not been set.
        """
        super().setup(stage)
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit" and datamodule is None and (self.action_scale == 1).all():
            raise ConfigurationError(
                "expected a datamodule, for the standard deviations of the actions; got none: pass `datamodule=` to "
                "Trainer.fit, or set the buffer `action_scale` before training"
            )
        if stage == "fit" and datamodule is not None:
            spread = datamodule.statistics()["actions"].std
            # Unused components keep a scale of 1: a tiny scale would let them dominate the loss.
            self.action_scale.copy_(torch.where(spread < MIN_ACTION_STD, 1.0, spread))

    def on_fit_start(self) -> None:
        """Measure the noise of the proposals, unless it is an argument or was restored from a checkpoint."""
        super().on_fit_start()
        if (reach := self.trajopt.reach) is not None:
            rank_zero_info(
                f"the optimiser moves an action by at most {reach:.3g} standard deviations from the base policy's"
            )
        if self._noise is not None:
            return
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if datamodule is None:
            raise ConfigurationError(
                "expected a datamodule to measure the noise of the proposals, got none: set "
                "model.init_args.proposal_noise to a number"
            )
        strategy, precision = self.trainer.strategy, self.trainer.precision_plugin

        def batches(loader: Iterable[Batch]) -> Iterator[Batch]:
            return (precision.convert_input(strategy.batch_to_device(batch)) for batch in loader)

        train, held_out = batches(datamodule.train_dataloader()), batches(datamodule.val_dataloader())
        with torch.random.fork_rng(), precision.forward_context():
            noise = measured_noise(self.base_policy, train, held_out, self.horizon, self.action_scale)
        self._noise = float(strategy.reduce(torch.tensor(noise, device=self.device), reduce_op="mean"))
        rank_zero_info(f"noise added to the base policy's proposals: {self._noise:.3f} standard deviations")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the measured noise; see `ImitationModule.on_save_checkpoint`."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["proposal_noise"] = self._noise

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the measured noise; see `ImitationModule.on_load_checkpoint`."""
        super().on_load_checkpoint(checkpoint)
        if self.proposal_noise is None:
            self._noise = checkpoint.get("proposal_noise")

    def train(self, mode: bool = True) -> "DiffTORIIL":
        """Set the training mode, except of the base policy, which stays in evaluation mode."""
        super().train(mode)
        self.base_policy.eval()
        return self

    def reference_policies(self) -> dict[str, Policy]:
        """Return the frozen policies to compare with this one, on the same initial states."""
        return {"base": self.base_policy}

    def initial_state(self, batch_size: int) -> State:
        """Return the memories of the encoder and the base policy, and an empty chunk; see `Policy.initial_state`."""
        memory = join(encoder=self.encoder.initial_state(batch_size), base=self.base_policy.initial_state(batch_size))
        if not self.chunked:
            return memory
        age = torch.zeros(batch_size, dtype=torch.long, device=self.action_scale.device)
        chunk = self.action_scale.new_zeros(batch_size, self.horizon, self.action_dim)
        return memory | join(chunk={"age": age, "actions": chunk})

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Optimise the base policy's proposal under a sample of the prior; see `Policy.act`.

        The last iterate is executed, because the training loss is computed on it. The action of a failed solve is NaN.
        """
        latent, proposals, memory = self.observe(obs, state)
        if self.chunked:
            return self._act_in_chunks(latent, proposals, part(state, "chunk"), memory)
        solution = self.decode(latent, self.sample_prior(latent), proposals)
        return solution.mark_failed(solution.actions)[:, 0] * self.action_scale, memory

    def observe(
        self, obs: Observation, state: State, demonstrated: Tensor | None = None
    ) -> tuple[Tensor, Tensor, State]:
        """Return latents (B * T, Zs) and scaled proposals (B * T, H, A) for each step, and the memory afterwards.

        If the demonstrated actions (B, T, H, A) are given, the proposals come from `propose_posterior`.
        """
        base_state = part(state, "base")
        latent, encoder_state = self.encoder(obs, part(state, "encoder"))
        with torch.no_grad():
            if demonstrated is None:
                proposals, base_state = self.base_policy.propose(obs, self.horizon, base_state)
            else:
                proposals, base_state = self.base_policy.propose_posterior(obs, demonstrated, base_state)
        state = join(encoder=encoder_state, base=base_state)
        return latent.flatten(0, 1), proposals.flatten(0, 1) / self.action_scale, state

    def sample_prior(self, latent: Tensor) -> Tensor:
        """Sample the prior (B, 64) for each latent (B, Zs), scaled by `prior_temperature`."""
        size = len(latent), self.posterior.sample_dim
        if self.prior_temperature == 0.0:
            return latent.new_zeros(size)
        return self.prior_temperature * torch.randn(size, device=latent.device)

    def decode(self, latent: Tensor, sample: Tensor, proposals: Tensor) -> Solution:
        """Solve Eq. 7 from the proposals (B, H, A), conditioned on z = [sample, latent] (Appendix E).

        Proposals and solution are in standard deviations of each action component, as is the input of the score.
        """
        return self.trajopt(self.objective, torch.cat([sample, latent], dim=-1), proposals, self.action_scale)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of Eq. 9."""
        del batch_idx
        latent, proposals, targets, mask = self._problems(batch)
        if self._noise:
            proposals = proposals + self._noise * torch.randn_like(proposals)
        mean, log_variance = self.posterior(latent, targets)
        solution = self.decode(latent, reparameterize(mean, log_variance), proposals)
        error = self.mean_of_real(reconstruction(solution.actions, targets), mask)
        divergence = self.mean_of_real(gaussian_kl(mean, log_variance), mask)
        loss = negative_elbo(error, divergence, self.kl_weight)
        self.log_step(
            "train",
            len(batch["actions"]),
            loss=loss,
            reconstruction=error,
            kl_nats=divergence,
            proposal_reconstruction=self.mean_of_real(reconstruction(proposals, targets), mask),
        )
        self.log_dict({f"solver/{name}": value for name, value in solution.summary().items()})
        return loss

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return optimised actions (B * T, H, A) for every step of the windows, from samples of the prior."""
        latent, proposals, _, _ = self._problems(batch)
        return self.decode(latent, self.sample_prior(latent), proposals).actions * self.action_scale

    def evaluate(self, stage: str, batch: Batch) -> None:
        """Log the squared errors of the actions that this policy and the base policy execute.

        A chunk is executed completely; only the first action of a longer plan is executed. See
        `ImitationModule.evaluate`.
        """
        latent, proposals, targets, mask = self._problems(batch)
        sampled = self.decode(latent, self.sample_prior(latent), proposals).actions
        mean, _ = self.posterior(latent, targets)
        informed = self.decode(latent, mean, proposals).actions

        def error(actions: Tensor) -> Tensor:
            difference = (actions - targets)[:, : self.horizon if self.chunked else 1] * self.action_scale
            return masked_mean(difference.square().sum(dim=(1, 2)), mask)

        self.log_step(
            stage,
            len(batch["actions"]),
            reconstruction=masked_mean(reconstruction(sampled, targets), mask),
            base_reconstruction=masked_mean(reconstruction(proposals, targets), mask),
            action_error=error(sampled),
            posterior_action_error=error(informed),
            base_action_error=error(proposals),
        )

    def _act_in_chunks(self, latent: Tensor, proposals: Tensor, chunk: State, memory: State) -> tuple[Tensor, State]:
        """Return the next action of each chunk; optimise a new chunk where the last one is used up."""
        age, actions = chunk["age"], chunk["actions"]
        due = (age % self.horizon == 0).nonzero().squeeze(1)
        if len(due) > 0:
            solution = self.decode(latent[due], self.sample_prior(latent[due]), proposals[due])
            actions = actions.index_copy(0, due, solution.mark_failed(solution.actions))
        step = torch.arange(len(age), device=age.device), age % self.horizon
        return actions[step] * self.action_scale, memory | join(chunk={"age": age + 1, "actions": actions})

    def _problems(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return latents (P, Zs), scaled proposals and targets (P, H, A), and the mask (P,) of P problems.

        In training mode the proposals come from `propose_posterior`, after `BasePolicy.training_state`.
        """
        obs, demonstrated, mask = demonstrated_plans(batch, self.horizon)
        state = self.initial_state(len(demonstrated))
        if self.training:
            state |= join(base=self.base_policy.training_state(batch["demo"]))
        latent, proposals, _ = self.observe(obs, state, demonstrated if self.training else None)
        targets = demonstrated.flatten(0, 1) / self.action_scale
        if not self.chunked:
            return latent, proposals, targets, mask.flatten()
        # When acting, chunks begin every H steps. A boolean mask would make the host wait for the number of problems.
        step = torch.arange(mask.numel(), device=mask.device).view(mask.shape)[:, :: self.horizon].flatten()
        return latent[step], proposals[step], targets[step], mask.flatten()[step]
