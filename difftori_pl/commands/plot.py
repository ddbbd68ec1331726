"""`difftori plot`: pictures of what a policy optimises."""

from pathlib import Path

import torch

from difftori_pl.commands.output import say
from difftori_pl.envs.base import EnvFactory
from difftori_pl.errors import ConfigurationError
from difftori_pl.imitation.il import DiffTORIIL


def plot_landscape(
    env: EnvFactory,
    ckpt: Path = Path("last.ckpt"),
    output: Path = Path("landscape.png"),
    seed: int = 100_000,
    n_samples: int = 4,
    temperature: float = 1.0,
    step: int = 0,
) -> None:
    """Draw the landscapes that samples of the prior give from one state, and count the modes they reach (Figure 5).

    Args:
        env: the environment whose initial state to look at, e.g. difftori_pl.envs.PushT.
        ckpt: a checkpoint of DiffTORIIL.
        output: the pictures: <output>_0.png and so on, one for each sample.
        seed: seed of the initial state.
        n_samples: number of samples of the prior.
        temperature: standard deviation of the samples.
        step: which action of the plan to draw over, from 0.
    """
    from difftori_pl.deployment.deploy import load_module
    from difftori_pl.imitation.multimodality import sample_solutions
    from difftori_pl.trajopt import draw_landscape

    module = load_module(ckpt)
    if not isinstance(module, DiffTORIIL):
        raise ConfigurationError(f"{ckpt} holds a {type(module).__name__}, but landscapes are those of DiffTORIIL")
    observation, _ = env().reset(seed=seed)
    obs = {key: torch.as_tensor(value)[None, None] for key, value in observation.items()}
    found = sample_solutions(module, obs, module.initial_state(1), n_samples, temperature, step=step)
    say(f"{found.n_modes} modes of {n_samples} samples; the base policy proposes {found.proposal[step].tolist()}")
    output.parent.mkdir(parents=True, exist_ok=True)
    for number, view in enumerate(found.landscapes):
        path = output.with_stem(f"{output.stem}_{number}")
        draw_landscape(view).savefig(path)
        say(f"  {path}: {found.actions[number, step].tolist()}")
