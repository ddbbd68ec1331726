"""The command line: LightningCLI behind `lightning`, `difftori` and `python -m difftori_pl`, and the data tools."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import set_parsing_settings
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from datamodules.errors import DataError
from difftori_pl.callbacks import RolloutEvaluation
from difftori_pl.errors import DiffTORIError

EPILOG = """Beside training there are `difftori demos` (scripted demonstrations) and `difftori data` (check and render
files); each has its own --help. A configuration named without a folder is looked for here and then among those that
ship with the package."""


SHIPPED_CONFIGS = Path(__file__).parent / "configs"
"""The configurations that come with the package; in a checkout, a link to the folder `configs`."""


def find_config(name: str) -> str:
    """The path of a configuration: as given if it exists, else the shipped one of that name, else as given."""
    shipped = SHIPPED_CONFIGS / name
    return str(shipped) if name.endswith((".yaml", ".yml")) and not Path(name).exists() and shipped.exists() else name


def _find_configs(arguments: Sequence[str]) -> list[str]:
    found = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        is_option = argument.startswith("-") and equals
        found.append(f"{option}={find_config(value)}" if is_option else find_config(argument))
    return found


class DiffTORICLI(LightningCLI):
    """LightningCLI with rollouts and checkpoints as sections of the configuration."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the sections `rollout` and `checkpoint`."""
        parser.add_lightning_class_args(RolloutEvaluation, "rollout")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults({"checkpoint.save_last": True})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line, looking bare names of configurations up among the shipped ones."""
        self.config = parser.parse_args(_find_configs(sys.argv[1:] if args is None else args))


def run(arguments: Sequence[str] | None = None) -> DiffTORICLI:
    """Run one command and return what it built; errors come as exceptions.

    Args:
        arguments: the words after the program's name; those of this process if None.
    """
    import datamodules  # noqa: F401  (makes the short class names known)
    import difftori_pl  # noqa: F401

    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    return DiffTORICLI(
        args=None if arguments is None else list(arguments),
        seed_everything_default=0,
        auto_configure_optimizers=False,
        parser_kwargs={"parser_mode": "omegaconf+", "epilog": EPILOG},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script: like `run`, but a user's mistake ends in one message and exit code 1."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words[:1] in (["data"], ["demos"]):
            from difftori_pl.tools import main as tools

            tools(words)
        else:
            run(words)
    except (DiffTORIError, DataError) as error:
        sys.exit(f"error: {error}")
