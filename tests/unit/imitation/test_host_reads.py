"""Reads on the host in a training step of imitation: a GPU would be idle while the program waits for them."""

from typing import Any

import pytest
import torch

from difftori_pl import BC, BehaviorCloning, StateEncoder, Zeros
from difftori_pl.module import ImitationModule
from tests.dispatch import HostReads
from tests.unit.imitation.test_il import batch, policy


def behavior_cloning() -> BehaviorCloning:
    return BehaviorCloning(BC(StateEncoder({"x": 3}, normalize=False), action_dim=2, hidden_dims=(8,)))


# Whether a gradient is finite decides whether the weights change. A solve also reads whether an element failed.
STEPS: dict[str, tuple[Any, int]] = {
    "BehaviorCloning": (behavior_cloning, 1),
    "DiffTORIIL": (policy, 2),
    "DiffTORIIL, two steps": (lambda: policy(horizon=2), 2),
    "DiffTORIIL, chunks": (lambda: policy(Zeros(2), horizon=2, chunked=True), 2),
}


@pytest.mark.parametrize(("build", "allowed"), STEPS.values(), ids=STEPS)
def test_a_training_step_reads_only_what_decides(build: Any, allowed: int) -> None:
    module: ImitationModule = build()
    module.log_dict = lambda *arguments, **options: None  # type: ignore[assignment]
    optimizer: torch.optim.Optimizer = module.configure_optimizers()  # type: ignore[assignment]
    windows = batch()
    with HostReads(allowed=10):
        module.training_step(windows, 0)  # the first step checks the unit of the actions
    with HostReads(allowed) as reads:
        module.training_step(windows, 0).backward()
        module.on_before_optimizer_step(optimizer)  # Adam itself counts its steps in tensors on the host
    assert reads.count == reads.allowed, "lower the number in STEPS"
