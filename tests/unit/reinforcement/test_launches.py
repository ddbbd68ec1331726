"""What an update and an action cost on a GPU besides arithmetic: reads on the host, and launched kernels."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from difftori_pl import (
    MPPI,
    Detached,
    DiffTORIRL,
    ExecutedActions,
    LevenbergMarquardt,
    LinearSchedule,
    Planner,
    ReplayedStates,
    TrajOptLayer,
)
from tests.dispatch import HostReads, count_kernels
from tests.unit.reinforcement.test_rl import OBS, make, make_batch


def td_mpc() -> DiffTORIRL:
    return make(planner=Planner(TrajOptLayer(MPPI(n_samples=16, n_elites=4), Detached()), 3, warm_start=True))


def without_backward() -> DiffTORIRL:
    return make(planner=Planner(TrajOptLayer(LevenbergMarquardt(6), Detached()), 2, warm_start=True))


def replayed_states() -> DiffTORIRL:
    return make(ReplayedStates(n_states=3))


def executed_actions() -> DiffTORIRL:
    return make(ExecutedActions())


METHODS = pytest.mark.parametrize("build", [td_mpc, without_backward, replayed_states, executed_actions])
# Whether a gradient is finite decides whether the weights change: one read per optimiser step. A differentiated solve
# reads whether an element failed, see tests/unit/trajopt/test_host_reads.py.
UPDATE = {"td_mpc": 2, "without_backward": 2, "replayed_states": 3, "executed_actions": 2}
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


@pytest.mark.parametrize(("build", "ceiling"), [(td_mpc, 325), (replayed_states, 2625)])
def test_kernels_of_an_update(build: Any, ceiling: int) -> None:
    _, update = prepared(build)
    assert ceiling - 60 <= count_kernels(update) <= ceiling
