"""Every callback restores the state that it saved in a checkpoint."""

import io

import pytest
import torch
from lightning import Callback

from tests import cases


@pytest.fixture(params=[part.__name__ for part in cases.CALLBACKS])
def callbacks(request: pytest.FixtureRequest) -> tuple[Callback, Callback]:
    build = next(build for part, build in cases.CALLBACKS.items() if part.__name__ == request.param)
    return build(), build()


def test_the_state_survives_a_checkpoint(callbacks: tuple[Callback, Callback]) -> None:
    before, after = callbacks
    stream = io.BytesIO()
    torch.save(before.state_dict(), stream)
    stream.seek(0)
    after.load_state_dict(torch.load(stream, weights_only=True))
    assert after.state_dict() == before.state_dict()
