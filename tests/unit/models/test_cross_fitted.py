"""Proposals on a training demonstration come from the policy that was not trained on it."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from datamodules.batch import DataModule
from datamodules.formats.fingerprint import Fingerprint
from difftori_pl.errors import ConfigurationError
from difftori_pl.imitation.proposal_noise import measured_noise
from difftori_pl.models.base_policies import BC, BCRNNGMM, BasePolicy, CrossFitted, Noise, Residual, Zeros
from difftori_pl.models.encoders import StateEncoder
from difftori_pl.models.policy import Observation, State
from tests.cases import observations

FOLDS = [["a", "d"], ["b", "c"]]


class Data(DataModule):
    demos = ("v", "a", "b", "c", "d")
    obs_specs: Mapping[str, Any] = {}

    def __init__(self, training_demos: tuple[str, ...] = ("a", "b", "c", "d"), sha256: str = "x") -> None:
        super().__init__()
        self.names, self.sha256 = training_demos, sha256

    @property
    def training_demos(self) -> tuple[str, ...]:
        return self.names

    @property
    def fingerprint(self) -> Fingerprint:
        return {"file": "demos.hdf5", "bytes": 1, "sha256": self.sha256}

    def statistics(self) -> dict[str, Any]:
        return {}


class Constant(BasePolicy):
    """Proposes a constant action and counts its calls."""

    action_dim = 2

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value, self.n_calls = value, 0

    def propose(self, obs: Observation, horizon: int, state: State) -> tuple[Tensor, State]:
        self.n_calls += 1
        n, steps = next(iter(obs.values())).shape[:2]
        return torch.full((n, steps, horizon, 2), self.value), state


def constants() -> CrossFitted:
    policy = CrossFitted(Constant(0.0), [Constant(0.1), Constant(0.2)], FOLDS, "x")
    policy.check_data(Data())
    return policy


def rnn() -> BCRNNGMM:
    return BCRNNGMM(StateEncoder({"position": 3}, None), action_dim=2, hidden_dim=8, restart_after=8)


def test_a_training_demonstration_gets_the_proposals_of_the_policy_trained_without_it() -> None:
    policy = constants()
    demo, demonstrated = torch.tensor([1, 2, 3, 4, 1]), torch.zeros(5, 3, 2, 2)
    proposals, _ = policy.propose_posterior(observations(5, 3), demonstrated, policy.training_state(demo))
    expected = torch.tensor([0.1, 0.2, 0.2, 0.1, 0.1])
    assert_close(proposals, expected[:, None, None, None].expand(5, 3, 2, 2))
    assert policy.policy.n_calls == 0


def test_a_residual_policy_is_trained_on_cross_fitted_proposals() -> None:
    policy = Residual(constants(), StateEncoder({"position": 3}, None), hidden_dims=(8,))  # begins as its base
    demo, actions = torch.tensor([1, 2]), torch.zeros(2, 3, 2)
    loss = policy.train().training_loss(observations(2, 3), actions, demo)
    assert_close(loss, torch.tensor([2 * 0.1**2, 2 * 0.2**2])[:, None].expand(2, 3))
    assert (policy.eval().loss(observations(2, 3), actions) == 0).all()


def test_acting_uses_only_the_policy_trained_on_all() -> None:
    policy = constants()
    actions, _ = policy.act(observations(3, 1), policy.initial_state(3))
    proposals, _ = policy.propose_posterior(observations(3, 2), torch.ones(3, 2, 1, 2), policy.initial_state(3))
    assert (actions == 0).all()
    assert (proposals == 0).all()
    assert [part.n_calls for part in (policy.policy, *policy.fold_policies)] == [2, 0, 0]


def test_each_fold_policy_keeps_its_memory() -> None:
    torch.manual_seed(0)
    members = [rnn().eval() for _ in range(3)]
    policy = CrossFitted(members[0], members[1:], FOLDS)
    policy.check_data(Data())
    obs, demonstrated = observations(2, 6), torch.rand(2, 6, 1, 2)
    state = policy.training_state(torch.tensor([2, 1]))  # folds 1 and 0
    first, last = ({key: value[:, span] for key, value in obs.items()} for span in (slice(0, 3), slice(3, 6)))
    torch.manual_seed(1)
    _, state = policy.propose_posterior(first, demonstrated[:, :3], state)
    _, state = policy.propose_posterior(last, demonstrated[:, 3:], state)
    for row, (name, member) in enumerate((("fold_1", members[2]), ("fold_0", members[1]))):
        alone = {key: value[row : row + 1] for key, value in obs.items()}
        _, expected = member.propose_posterior(alone, demonstrated[row : row + 1], member.initial_state(1))
        for key, value in expected.items():
            assert_close(state[f"{name}.{key}"][row : row + 1], value)


def test_the_measured_noise_uses_the_cross_fitted_proposals() -> None:
    policy = constants()
    batch = {
        "obs": observations(2, 4), "actions": torch.full((2, 4, 2), 0.5), "mask": torch.ones(2, 4, dtype=torch.bool),
        "demo": torch.tensor([1, 1]), "start": torch.zeros(2, dtype=torch.long),
    }  # fmt: skip
    held_out = {**batch, "demo": torch.tensor([0, 0])}
    noise = measured_noise(policy, [batch], [held_out], 1, torch.ones(2))  # type: ignore[list-item]
    assert noise == pytest.approx((0.5**2 - 0.4**2) ** 0.5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Data(sha256="y"), r"expected the data that the fold policies were trained on, got demos\.hdf5 with other"),
        (Data(("a", "b", "c", "d", "v")), r"expected folds of the 5 training demonstrations, got 4 .* v is in no fold"),
        (Data(("a", "b", "c")), r"expected folds of the 3 training demonstrations, got 4 .* d is not one of them"),
    ],
)
def test_other_data_are_refused(data: Data, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        constants().check_data(data)


def test_proposals_for_a_demonstration_of_no_fold_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="exist only for training demonstrations of a datamodule"):
        constants().training_state(torch.tensor([0]))
    with pytest.raises(ConfigurationError, match="exist only for training demonstrations of a datamodule"):
        CrossFitted(Zeros(2), [Zeros(2), Zeros(2)], FOLDS).training_state(torch.tensor([1]))


@pytest.mark.parametrize(
    ("policies", "folds", "message"),
    [
        ([Zeros(2)], FOLDS, "expected a policy for each of at least 2 folds, got 1 policies and 2 folds"),
        ([Zeros(2)], [["a"]], "expected a policy for each of at least 2 folds, got 1 policies and 1 folds"),
        ([Zeros(2), Zeros(3)], FOLDS, "expected the policy of fold 1 with actions of 2 numbers .* got 3"),
        ([Zeros(2), BC(StateEncoder({"position": 3}), 2)], FOLDS, "policy of fold 1 .* None executed .* got 2 and 1"),
        ([Zeros(2), Noise(2)], [["a"], ["a"]], "expected each demonstration in one fold, got some in several"),
    ],
)
def test_folds_and_policies_that_do_not_match_are_refused(
    policies: list[BasePolicy], folds: list[list[str]], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        CrossFitted(Zeros(2), policies, folds)
