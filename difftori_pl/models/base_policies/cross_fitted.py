"""Base policy whose proposals on a training demonstration come from a policy that was not trained on it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from datamodules.batch import DataModule
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.base_policies.base import BasePolicy
from difftori_pl.models.policy import Observation, Policy, State, join, part


class CrossFitted(BasePolicy):
    """Propose with one policy when acting, and with policies that have not seen the demonstration in training.

    A policy proposes more accurate actions on the demonstrations that it was trained on than when acting. A refinement
    trained on such proposals learns too small corrections. Independent noise (`proposal_noise`) has the right size, but
    not the right direction or correlation in time. Here each training demonstration gets the proposals of a policy that
    was trained on the other folds (cross-fitting); its errors are those of a policy in new states.

    Build it from checkpoints with `difftori_pl.cross_fitted`.

    Args:
        policy: the policy that acts, trained on all training demonstrations.
        fold_policies: for each fold, the policy that was trained without it.
        fold_demos: for each fold, the names of its demonstrations.
        sha256: hash of the demonstrations that the folds were drawn from, see `Fingerprint`; None skips its comparison.

    Raises:
        ConfigurationError: the policies differ in their actions, the folds and policies in number, or folds overlap.
    """

    def __init__(
        self,
        policy: BasePolicy,
        fold_policies: Sequence[BasePolicy],
        fold_demos: Sequence[Sequence[str]],
        sha256: str | None = None,
    ) -> None:
        super().__init__()
        if len(fold_policies) != len(fold_demos) or len(fold_demos) < 2:
            raise ConfigurationError(
                f"expected a policy for each of at least 2 folds, got {len(fold_policies)} policies and "
                f"{len(fold_demos)} folds"
            )
        for fold, other in enumerate(fold_policies):
            ours, theirs = ((each.action_dim, each.n_executed_steps) for each in (policy, other))
            if ours != theirs:
                raise ConfigurationError(
                    f"expected the policy of fold {fold} with actions of {ours[0]} numbers and {ours[1]} executed "
                    f"steps, as the policy that acts, got {theirs[0]} and {theirs[1]}: train both with the same "
                    "configuration"
                )
        names = [name for demos in fold_demos for name in demos]
        if len(names) != len(set(names)):
            raise ConfigurationError(
                "expected each demonstration in one fold, got some in several: name one checkpoint for each fold"
            )
        self.action_dim, self.n_executed_steps = policy.action_dim, policy.n_executed_steps
        self.policy: BasePolicy = policy
        self.fold_policies = nn.ModuleList(fold_policies)
        self.fold_demos = [list(demos) for demos in fold_demos]
        self.sha256 = sha256
        self._fold_of_demo = torch.empty(0, dtype=torch.long)

    def describe(self) -> str:
        """Return the name of the policy that acts; see `Policy.describe`."""
        return self.policy.describe()

    def reference_policies(self) -> Mapping[str, Policy]:
        """Return those of the policy that acts; see `Policy.reference_policies`."""
        return self.policy.reference_policies()

    def check_data(self, data: DataModule) -> None:
        """Assign each training demonstration to its fold; see `BasePolicy.check_data`.

        Raises:
            ConfigurationError: the folds do not consist of the training demonstrations.
        """
        known = data.fingerprint
        if None not in (self.sha256, known) and known and known["sha256"] != self.sha256:
            raise ConfigurationError(
                f"expected the data that the fold policies were trained on, got {known['file']} with other contents: "
                "use the same file, or train the fold policies again"
            )
        drawn = {name: fold for fold, names in enumerate(self.fold_demos) for name in names}
        expected = set(data.training_demos)
        if different := sorted(drawn.keys() ^ expected):
            place = "is in no fold" if different[0] in expected else "is not one of them"
            raise ConfigurationError(
                f"expected folds of the {len(expected)} training demonstrations, got {len(drawn)} demonstrations in "
                f"{len(self.fold_demos)} folds, and {different[0]} {place}: train the fold policies with the same "
                "data options as here, except data.fold"
            )
        self._fold_of_demo = torch.tensor([drawn.get(name, -1) for name in data.demos])

    def initial_state(self, batch_size: int) -> State:
        """Return the memory of the policy that acts; see `BasePolicy.initial_state`."""
        return self.policy.initial_state(batch_size)

    def training_state(self, demo: Tensor) -> State:
        """Return the memories of the fold policies, and the fold of each demonstration.

        See `BasePolicy.training_state`.

        Raises:
            ConfigurationError: `check_data` has not been called, or a demonstration is in no fold.
        """
        fold = self._fold_of_demo.to(demo.device)[demo] if len(self._fold_of_demo) else torch.full_like(demo, -1)
        if (fold < 0).any():
            raise ConfigurationError(
                "cross-fitted proposals exist only for training demonstrations of a datamodule, got others: pass "
                "`datamodule=` to Trainer.fit"
            )
        memories = {f"fold_{i}": each.initial_state(len(demo)) for i, each in enumerate(self._folds)}
        return {"fold": fold, **join(**memories)}

    def propose(self, obs: Observation, horizon: int, state: State) -> tuple[Tensor, State]:
        """Propose with the policy that acts; see `BasePolicy.propose`."""
        return self.policy.propose(obs, horizon, state)

    def propose_posterior(self, obs: Observation, actions: Tensor, state: State) -> tuple[Tensor, State]:
        """Propose with the policies that have not seen the demonstrations; see `BasePolicy.propose_posterior`.

        Without a `training_state`, the policy that acts proposes.
        """
        if "fold" not in state:
            return self.policy.propose_posterior(obs, actions, state)
        proposals, after = torch.empty_like(actions), dict(state)
        for number, policy in enumerate(self._folds):
            rows = (state["fold"] == number).nonzero().squeeze(1)
            if len(rows) == 0:
                continue
            before = {name: value[rows] for name, value in part(state, f"fold_{number}").items()}
            window = {key: value[rows] for key, value in obs.items()}
            proposed, memory = policy.propose_posterior(window, actions[rows], before)
            proposals = proposals.index_copy(0, rows, proposed.to(proposals.dtype))
            for name, value in join(**{f"fold_{number}": memory}).items():
                after[name] = after[name].index_copy(0, rows, value)
        return proposals, after

    @property
    def _folds(self) -> list[BasePolicy]:
        return [policy for policy in self.fold_policies if isinstance(policy, BasePolicy)]
