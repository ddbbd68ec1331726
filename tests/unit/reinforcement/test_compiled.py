"""Compiled losses: the numbers and checkpoints of eager ones, and a bounded number of compilations."""

import copy
import pickle
from collections.abc import Callable, Iterator
from shutil import which
from typing import Any

import pytest
import torch
import torch._inductor.config
from torch import Tensor, nn
from torch._dynamo.utils import counters

from difftori_pl import TDMPC, DiffTORIRL, LinearSchedule, ReplayedStates, StateEncoder
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.latent_model import LossSettings
from difftori_pl.trajopt import compilation
from tests.unit.reinforcement.small_module import OBS, A, H, make, make_batch
from tests.unit.reinforcement.test_launches import executed_actions, replayed_states, td_mpc, td_mpc2


@pytest.fixture
def n_graphs() -> Iterator[Callable[[], int]]:
    """Return a function that counts the compiled graphs of this test."""
    torch._dynamo.reset()  # torch remembers the sizes of earlier tests
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    counters.clear()


@pytest.fixture
def traced_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace losses only, and run eager kernels and gradients: the fastest backend."""
    monkeypatch.setattr(compilation, "BACKEND", "eager")


@pytest.fixture
def traced_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace losses and gradients, and run eager kernels, which takes seconds instead of minutes."""
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")


def built(build: Any, compiled: bool) -> DiffTORIRL:
    torch.manual_seed(3)
    module: DiffTORIRL = build()
    module.settings = LossSettings(policy_std=0.1)  # losses draw random numbers
    module._losses.enabled = compiled
    return module


def trained(module: DiffTORIRL, optimizers: Any, n_updates: int = 3) -> list[Tensor]:
    """Update with seeded random numbers, and return all logged values, priorities and the state."""
    found: list[Tensor] = []
    for seed in range(n_updates):
        torch.manual_seed(seed)
        values, priorities = module.update(make_batch(), *optimizers)
        found += [*values.values(), priorities]
    return [*(value.detach() for value in found), *module.state_dict().values(), torch.get_rng_state()]


def compare(build: Any) -> None:
    module, reference = (built(build, compiled) for compiled in (True, False))
    found = trained(module, module.configure_optimizers())
    expected = trained(reference, reference.configure_optimizers())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("build", "n_losses"), [(td_mpc2, 2), (replayed_states, 3), (executed_actions, 3)])
@pytest.mark.usefixtures("traced_gradients")
def test_updates_equal_eager_ones(build: Any, n_losses: int, n_graphs: Callable[[], int]) -> None:
    compare(build)
    assert n_graphs() == n_losses, "each loss is compiled, as a whole"


@pytest.mark.slow
@pytest.mark.skipif(which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_updates_equal_eager_ones_with_the_default_backend() -> None:
    with torch._inductor.config.patch(compile_threads=1):  # starting more processes takes longer
        compare(td_mpc)


@pytest.mark.usefixtures("traced_losses")
def test_later_updates_compile_nothing(n_graphs: Callable[[], int]) -> None:
    module = make(ReplayedStates(n_states=3), horizon_schedule=LinearSchedule(1, H, 100), compiled=True)
    optimizers = module.configure_optimizers()
    trained(module, optimizers)
    horizons = []
    with torch.compiler.set_stance("fail_on_recompile"):
        for n_env_steps in (0, 50, 100):
            module.set_env_step(n_env_steps)
            horizons.append(module.horizon)
            module.eval().act({"state": torch.ones(2, 1, OBS, dtype=torch.float64)}, module.initial_state(2))
            trained(module.train(), optimizers)
    assert horizons == [1, 2, 3]
    assert n_graphs() == 3


@pytest.mark.usefixtures("traced_losses")
def test_number_of_compilations_is_bounded(n_graphs: Callable[[], int]) -> None:
    module = built(td_mpc, True)
    counts = []
    for size in (6, 4, 1, 5, 3, 1, 2):
        batch: dict[str, Any] = make_batch()
        batch = {key: value[:size] for key, value in batch.items() if key != "obs"} | {
            "obs": {"state": batch["obs"]["state"][:size]}
        }
        module.model_loss(batch)
        counts.append(n_graphs())
    assert counts == [1, 2, 3, 3, 3, 3, 3], "the first size, any size, and size 1"


class _Undecided(TDMPC):
    """A world model whose loss depends on numbers that must be read on the host."""

    def policy_loss(self, latents: Tensor, settings: LossSettings) -> Tensor:
        return super().policy_loss(latents, settings) * (1.0 if latents.sum().item() > 0 else 2.0)


@pytest.mark.usefixtures("traced_losses")
def test_message_for_a_loss_that_cannot_be_compiled() -> None:
    model = _Undecided(StateEncoder({"state": OBS}, 5, [8], normalize=False), A, 16)
    module = make(world_model=model, compiled=True)
    with pytest.raises(ConfigurationError, match=r"could not compile _Undecided\.policy_loss: set compiled to False"):
        trained(module, module.configure_optimizers())
    module._losses.enabled = False
    trained(module, module.configure_optimizers())


@pytest.mark.usefixtures("traced_losses")
def test_checkpoints_of_compiled_and_eager_modules_are_interchangeable(n_graphs: Callable[[], int]) -> None:
    modules = [make(ReplayedStates(n_states=3), compiled=compiled) for compiled in (True, False)]
    optimizers = [module.configure_optimizers() for module in modules]
    for saved, resumed in ((0, 1), (1, 0)):
        trained(modules[saved], optimizers[saved])
        modules[resumed].load_state_dict(modules[saved].state_dict())
        for one, other in zip(optimizers[saved], optimizers[resumed], strict=True):
            other.load_state_dict(copy.deepcopy(one.state_dict()))
        one_update = (trained(modules[i], optimizers[i], 1) for i in (resumed, saved))
        torch.testing.assert_close(*one_update, rtol=1e-5, atol=1e-7)
    assert n_graphs() == 3


@pytest.mark.usefixtures("traced_losses")
def test_a_module_can_be_copied_after_its_losses_were_compiled(n_graphs: Callable[[], int]) -> None:
    module = make(compiled=True)
    expected = module.model_loss(make_batch()).value
    for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module.world_model))):
        assert n_graphs() == 1
        assert isinstance(again, nn.Module)
    torch.testing.assert_close(copy.deepcopy(module).model_loss(make_batch()).value, expected)
