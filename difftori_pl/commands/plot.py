"""`difftori plot`: draw the objective that a policy optimises."""

from pathlib import Path

from difftori_pl.commands.output import say
from difftori_pl.envs.base import EnvFactory
from difftori_pl.errors import ConfigurationError


def plot_landscape(
    env: EnvFactory,
    ckpt: Path = Path("last.ckpt"),
    output: Path = Path("landscape.png"),
    seed: int = 100_000,
    n_samples: int = 4,
    temperature: float = 1.0,
    step: int = 0,
) -> None:
    """Draw the objectives of several prior samples for one state, and count the modes they reach (Figure 5).

    Args:
        env: environment that gives the initial state, e.g. difftori_pl.envs.PushT.
        ckpt: a checkpoint of DiffTORIIL.
        output: file name of the images; one per sample, <output>_0.png and so on.
        seed: seed of the initial state.
        n_samples: number of samples of the prior.
        temperature: standard deviation of the samples.
        step: index of the plan's action on the axes, from 0.
    """
    import torch

    from difftori_pl.deployment.deploy import load_module
    from difftori_pl.imitation.il import DiffTORIIL
    from difftori_pl.imitation.multimodality import sample_solutions
    from difftori_pl.trajopt import draw_landscape

    module = load_module(ckpt)
    if not isinstance(module, DiffTORIIL):
        raise ConfigurationError(
            f"expected a checkpoint of DiffTORIIL, got {ckpt} with a {type(module).__name__}: name another with --ckpt"
        )
    observation, _ = env().reset(seed=seed)
    obs = {key: torch.as_tensor(value)[None, None] for key, value in observation.items()}
    found = sample_solutions(module, obs, module.initial_state(1), n_samples, temperature, step=step)
    say(f"{found.n_modes} modes of {n_samples} samples; the base policy proposes {found.proposal[step].tolist()}")
    output.parent.mkdir(parents=True, exist_ok=True)
    for number, view in enumerate(found.landscapes):
        path = output.with_stem(f"{output.stem}_{number}")
        draw_landscape(view).savefig(path)
        say(f"  {path}: {found.actions[number, step].tolist()}")
