"""The callbacks ask for a `Policy`: what it has by default, and how other modules are refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from lightning import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from difftori_pl import BC, BehaviorCloning, Residual, StateEncoder, Zeros, load_policy
from difftori_pl.callbacks import Collect, RolloutEvaluation
from difftori_pl.checkpoints.reading import SCHEMA
from difftori_pl.envs import EnvFactory
from difftori_pl.errors import CheckpointError, ConfigurationError
from difftori_pl.models.policy import Observation, Policy, State
from tests.envs import Point


class Regression(LightningModule):
    """A user's module that cannot act."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.net(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Acting(Regression, Policy):
    """A user's module that acts."""

    def initial_state(self, batch_size: int) -> State:
        del batch_size
        return {}

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        return self.net(obs["state"][:, -1]).tanh(), state


class Nameless(EnvFactory):
    def __call__(self, seed: int = 0) -> Any:
        raise NotImplementedError


class Plain(LightningDataModule):
    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(torch.zeros(4, 2))  # type: ignore[arg-type]


def trainer(folder: Path, **options: Any) -> Trainer:
    return Trainer(
        default_root_dir=folder, max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, **options
    )


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (RolloutEvaluation(Point()), r"RolloutEvaluation runs a policy, got a Regression: derive it from .*\.Policy"),
        (Collect(Point()), r"Collect runs a policy that explores, got a Regression: derive it from .*\.OnlinePolicy"),
    ],
)
def test_a_module_that_cannot_act_is_refused(callback: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        trainer(tmp_path, callbacks=[callback]).fit(Regression(), datamodule=Plain())
    callback.env = None
    trainer(tmp_path, callbacks=[callback]).fit(Regression(), datamodule=Plain())


def test_a_policy_has_defaults() -> None:
    policy = Acting()
    callback = RolloutEvaluation(Point())
    callback.on_test_start(None, policy)  # type: ignore[arg-type]
    assert callback._policies(policy) == {"policy": policy}
    without_data: Any = SimpleNamespace(datamodule=None)
    description = callback._description(without_data, policy, 0)
    assert (description["task"], description["method"], description["horizon"]) == ("point", "Acting", 1)
    assert RolloutEvaluation(Nameless())._description(without_data, policy, 0)["task"] == "Nameless"


def test_environment_steps_are_counted_by_online_policies_only() -> None:
    with pytest.raises(ConfigurationError, match=r"every_n_env_steps needs .*OnlinePolicy.* got a Acting"):
        RolloutEvaluation(Point(), every_n_env_steps=10).on_fit_start(None, Acting())  # type: ignore[arg-type]


def test_a_policy_is_named_by_what_it_starts_from() -> None:
    residual = Residual(Zeros(1), StateEncoder({"state": 2}))
    assert BehaviorCloning(residual).describe() == residual.describe() == "Residual + Zeros"


def test_a_checkpoint_of_a_module_that_cannot_act_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    hyper_parameters = {
        "_class_path": f"{__name__}.Regression",
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
    }
    torch.save(
        {
            "state_dict": Regression().state_dict(),
            "hyper_parameters": hyper_parameters,
            "pytorch-lightning_version": lightning.__version__,
            "difftori": {"schema": SCHEMA},
        },
        path,
    )
    with pytest.raises(CheckpointError, match=r"expected a policy, got .* with a Regression: derive the class from"):
        load_policy(path)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_a_datamodule_that_does_not_describe_its_data_is_refused(tmp_path: Path) -> None:
    module = BehaviorCloning(BC(StateEncoder({"state": 2}), action_dim=1))
    with pytest.raises(ConfigurationError, match=r"needs a datamodules\.batch\.DataModule.* got a Plain"):
        trainer(tmp_path).fit(module, datamodule=Plain())
