"""What an update and an action cost on a GPU besides arithmetic: reads on the host, and launched kernels."""

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import torch

from difftori_pl import (
    MPPI,
    TDMPC,
    TDMPC2,
    Detached,
    DiffTORIRL,
    ExecutedActions,
    LevenbergMarquardt,
    LinearSchedule,
    ObservationCritic,
    PixelEncoder,
    Planner,
    ReplayedStates,
    StateEncoder,
    TrajOptLayer,
)
from difftori_pl.models.encoders.base import unit_images
from tests.dispatch import HostReads, Kernels, count_kernels
from tests.unit.reinforcement.small_module import OBS, A, B, H, make, make_batch


def td_mpc() -> DiffTORIRL:
    return make(planner=Planner(TrajOptLayer(MPPI(n_samples=16, n_elites=4), Detached()), 3, warm_start=True))


def td_mpc2() -> DiffTORIRL:
    encoder = StateEncoder({"state": OBS}, None, normalize=False)
    planner = Planner(TrajOptLayer(MPPI(n_samples=16, n_elites=4), Detached()), 3, warm_start=True)
    return make(world_model=TDMPC2(encoder, A, 16, (16,), 16), planner=planner)


def without_backward() -> DiffTORIRL:
    return make(planner=Planner(TrajOptLayer(LevenbergMarquardt(6), Detached()), 2, warm_start=True))


def replayed_states() -> DiffTORIRL:
    return make(ReplayedStates(n_states=3))


def executed_actions() -> DiffTORIRL:
    return make(ExecutedActions())


METHODS = pytest.mark.parametrize("build", [td_mpc, td_mpc2, without_backward, replayed_states, executed_actions])
# Whether a gradient is finite decides whether the weights change: one read per optimiser step. A differentiated solve
# reads whether an element failed, see tests/unit/trajopt/test_host_reads.py.
UPDATE = {"td_mpc": 2, "td_mpc2": 2, "without_backward": 2, "replayed_states": 3, "executed_actions": 2}
EXPLORE = {"executed_actions": 1}


def prepared(build: Any) -> tuple[DiffTORIRL, Any]:
    """Return a module after one update and one action, which read the counters, and its next update."""
    module = build()
    optimizers, batch = module.configure_optimizers(), make_batch()
    module.update(batch, *optimizers)
    module.act({"state": batch["obs"]["state"][:, :1]}, module.initial_state(len(batch["actions"])))
    return module, lambda: module.update(batch, *optimizers)


@METHODS
def test_an_update_reads_only_whether_to_skip_a_step(build: Any) -> None:
    module, update = prepared(build)
    with HostReads(allowed=UPDATE[build.__name__]) as reads:
        for n_env_steps in (10, 20):
            module.set_env_step(n_env_steps)
            reads.count = 0
            update()
    assert reads.count == reads.allowed, "lower the number in UPDATE"


@METHODS
def test_an_action_reads_nothing(build: Any) -> None:
    module, _ = prepared(build)
    obs, state = {"state": torch.ones(2, 1, OBS, dtype=torch.float64)}, module.initial_state(2)
    with HostReads():
        module.act(obs, state)
    with HostReads(allowed=EXPLORE.get(build.__name__, 0)):
        module.explore(obs, state)


def test_copies_on_the_host_follow_the_buffers() -> None:
    module, update = prepared(lambda: make(target_period=3, horizon_schedule=LinearSchedule(1, 3, 100)))
    module.set_env_step(50)
    assert module.state_dict()["env_step"] == module.n_env_steps == 50
    assert module.state_dict()["n_updates"] == 1
    resumed = make(target_period=3, horizon_schedule=LinearSchedule(1, 3, 100))
    assert resumed.horizon == 1
    resumed.load_state_dict(module.state_dict())
    assert (resumed.n_env_steps, resumed.horizon) == (50, 2)
    resumed.to(torch.float32)
    resumed.env_step.fill_(100)
    assert resumed.horizon == 3
    targets = []
    for _ in range(3):
        targets.append(torch.cat([parameter.flatten() for parameter in module.target.parameters()]))
        update()
    moved = [not torch.equal(before, after) for before, after in pairwise(targets)]
    assert moved == [False, True], "the target moves with update 3, counted from the start of the run"


def from_pixels(policy_gradient: Any = None) -> tuple[DiffTORIRL, dict[str, Any]]:
    torch.manual_seed(0)
    encoder = PixelEncoder(n_channels=3, image_size=64, latent_dim=5, n_filters=2, key="state")
    critic = ObservationCritic(encoder, A, 8) if policy_gradient else None
    module = make(policy_gradient, world_model=TDMPC(encoder, A, 8), critic=critic)
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(256, (B, H + 1, 3, 64, 64), generator=generator, dtype=torch.uint8)
    return module, make_batch() | {"obs": {"state": images}}


# Model: all frames. Its target, and both critics and their targets: all but the last or the first frame. Replayed
# states: the plan starts from the first frame of some sequences, which the model and the critics encode again.
N = 2
ENCODED = [
    (None, [B * (H + 1), B * H]),
    (ExecutedActions(), [B * (H + 1), *[B * H] * 5]),
    (ReplayedStates(n_states=N), [B * (H + 1) + N, B * H + N, B * H + N, *[B * H] * 3]),
]


@pytest.mark.parametrize(("policy_gradient", "expected"), ENCODED, ids=["td_mpc", "executed", "replayed"])
def test_an_update_converts_images_once_and_each_network_encodes_a_frame_once(
    policy_gradient: Any, expected: list[int]
) -> None:
    module, batch = from_pixels(policy_gradient)
    encoded: Counter[int] = Counter()

    def count(encoder: Any, arguments: Any) -> None:
        images = arguments[0]["state"]
        assert images.is_floating_point(), "converted before the encoders"
        encoded[id(encoder)] += images.shape[:2].numel()

    encoders = [part for part in module.modules() if isinstance(part, PixelEncoder)]
    for encoder in encoders:
        encoder.register_forward_pre_hook(count)
    with Kernels() as kernels:
        module.model_loss(batch | {"obs": unit_images(module, batch["obs"], torch.float64)})
    assert kernels.names["div_"] == 1, "one division by 255"
    encoded.clear()
    module.update(batch, *module.configure_optimizers())
    assert [encoded[id(encoder)] for encoder in encoders] == expected


def test_converted_images_give_the_same_update() -> None:
    ends = []
    for convert in (True, False):
        module, batch = from_pixels(ExecutedActions())
        for part in module.modules():
            if isinstance(part, PixelEncoder):
                part.takes_unit_images = convert  # type: ignore[misc]
        torch.manual_seed(0)
        module.update(batch, *module.configure_optimizers())
        ends.append(torch.nn.utils.parameters_to_vector(module.parameters()))
    torch.testing.assert_close(*ends, rtol=0, atol=0)


def test_images_that_an_encoder_reads_as_uint8_are_not_converted() -> None:
    class Own(PixelEncoder):
        takes_unit_images = False

    sizes = {"n_channels": 3, "image_size": 64, "latent_dim": 5, "n_filters": 2}
    both = torch.nn.ModuleList([PixelEncoder(**sizes, key="a"), PixelEncoder(**sizes, key="b"), Own(**sizes, key="b")])
    obs = {key: torch.full((1, 1, 3, 64, 64), 255, dtype=torch.uint8) for key in ("a", "b", "c")}
    found = unit_images(both, obs, torch.float32)
    assert {key: value.dtype for key, value in found.items()} == {
        "a": torch.float32, "b": torch.uint8, "c": torch.uint8,
    }  # fmt: skip
    assert found["a"].unique().tolist() == [1.0]


@pytest.mark.parametrize(("build", "ceiling"), [(td_mpc, 325), (replayed_states, 2625)])
def test_kernels_of_an_update(build: Any, ceiling: int) -> None:
    _, update = prepared(build)
    assert ceiling - 60 <= count_kernels(update) <= ceiling
