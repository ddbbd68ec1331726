"""The command line of `lightning`, `difftori` and `python -m difftori_pl`, based on LightningCLI."""

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace, auto_cli, get_loader, set_loader, set_parsing_settings
from jsonargparse.typing import Path_fr
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

import datamodules.public  # noqa: F401  LightningCLI resolves class names without a path among imported classes
import difftori_pl.public  # noqa: F401
from datamodules.errors import DataError
from difftori_pl.callbacks import Checkpoint, Collect, RolloutEvaluation
from difftori_pl.callbacks.defaults import add_defaults
from difftori_pl.checkpoints.atomic import AtomicCheckpointIO
from difftori_pl.checkpoints.folders import newest
from difftori_pl.checkpoints.overrides import match_schedule_length, refuse_other_parts, value_overrides
from difftori_pl.checkpoints.reading import read_checkpoint
from difftori_pl.commands import COMMANDS
from difftori_pl.errors import ConfigurationError, DiffTORIError
from difftori_pl.quiet import leave_out_evaluation_warnings, leave_out_messages

EPILOG = """Further commands: `difftori demos` (record demonstrations), `difftori data` (check, convert and render),
`difftori checkpoint` (show the content), `difftori table` (the paper's tables), `difftori plot` and `difftori export`
(write a policy as a program); each has its own --help. The path of a configuration is looked up in the current folder,
then among the configurations of the package. A configuration may list others under `template`, which are read before
it, in that order."""


SHIPPED_CONFIGS = Path(__file__).parent / "configs"
"""Folder of the package's configurations; in a checkout, a link to the folder `configs`."""

PARSER_MODE = "omegaconf+"
"""YAML with references to other values, `${...}`."""

ArgumentParser(parser_mode=PARSER_MODE).parse_string("{}")  # jsonargparse creates the loader on first use
_read_yaml = get_loader(PARSER_MODE)


def find_config(name: str) -> str:
    """Return the path of a configuration: an existing file, else the package's file of that name, else `name`.

    Paths inside a configuration are relative to its folder while it is read.
    """
    shipped = SHIPPED_CONFIGS / name
    if shipped.suffix not in (".yaml", ".yml") or not shipped.is_file():
        return name
    try:
        Path_fr(name)
    except TypeError:
        return str(shipped)
    return name


def _find_fragments(content: Any) -> Any:
    """Return the content of a configuration with the names of other configurations replaced by their paths."""
    if isinstance(content, dict):
        return {key: _find_fragments(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_find_fragments(value) for value in content]
    return find_config(content) if isinstance(content, str) else content


def _find_configs(arguments: Sequence[str]) -> list[str]:
    found: list[str] = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if argument.startswith("-") and equals:
            name, value = option, find_config(value)
        else:
            # The value of "--config" may be a separate argument. Other arguments are replaced by a path if they name a
            # configuration.
            name, value = (found.pop() if found and found[-1] in _CONFIG_OPTIONS else ""), find_config(argument)
        if name in _CONFIG_OPTIONS:
            found += [f"{name}={path}" for path in _with_templates(Path(value))]
        else:
            found.append(f"{name}={value}" if name else value)
    return found


_CONFIG_OPTIONS = ("--config", "-c")


def _with_templates(path: Path) -> Iterator[Path]:
    """Yield the configurations under the key `template`, in order and recursively, and then the configuration."""
    templates = _read_options(path).get("template") or () if path.exists() else ()
    for template in (templates,) if isinstance(templates, str) else templates:
        beside = path.parent / template
        yield from _with_templates(beside if beside.exists() else Path(find_config(template)))
    yield path


def _read_options(path: Path) -> dict[str, Any]:
    """Read a configuration.

    Raises:
        ConfigurationError: the file cannot be read, is not YAML, or is not a mapping of options.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            f"{path}, line {line}: expected UTF-8, got {error.reason}: save it as UTF-8"
        ) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigurationError(
            f"{path}, line {line}: not valid YAML: {error.problem} (indent with spaces, not tabs)"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from error
    if content is not None and not isinstance(content, dict):
        raise ConfigurationError(f"{path}: expected a mapping of options, got a {type(content).__name__}")
    return content or {}


class SaveConfig(SaveConfigCallback):
    """Save the configuration in the folder of the run."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save the configuration as Lightning does.

        Raises:
            ConfigurationError: the folder already holds the configuration of another run.
        """
        try:
            super().setup(trainer, pl_module, stage)
        except RuntimeError as error:
            if self.config_filename not in str(error):
                raise
            raise ConfigurationError(
                f"the folder {trainer.log_dir or trainer.default_root_dir} holds another run: choose another "
                "--trainer.logger.version or --trainer.logger.name (without a logger, --trainer.default_root_dir)"
            ) from error


class DiffTORICLI(LightningCLI):
    """LightningCLI with collection, rollouts and checkpoints as sections of the configuration."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the sections `collect`, `rollout` and `checkpoint`, and the key `template`, which is already resolved."""
        parser.add_argument(
            "--template", type=list[str] | str | None, default=None, help="configurations to start from"
        )
        parser.add_argument(
            "--matmul_precision",
            type=Literal["highest", "high", "medium"],
            default="highest",
            help="precision of float32 matrix products, see torch.set_float32_matmul_precision",
        )
        parser.add_lightning_class_args(Collect, "collect")
        parser.add_lightning_class_args(RolloutEvaluation, "rollout")
        parser.add_lightning_class_args(Checkpoint, "checkpoint")
        parser.set_defaults({"checkpoint.save_last": True})

    def before_instantiate_classes(self) -> None:
        """Set the precision of matrix products, and apply the command line's model options to a checkpoint's model.

        If a checkpoint is given, LightningCLI replaces the model's arguments by those of the checkpoint. Options on the
        command line take precedence over both.
        """
        subcommand = self.config["subcommand"]
        options = self.config[subcommand]
        if options.get("ckpt_path"):
            match_schedule_length(self._requested, options.model, options.trainer.max_steps)
            if overrides := value_overrides(self._arguments, options.model):
                self.config = self.parser.parse_args([subcommand, *overrides], namespace=self.config)
            refuse_other_parts(self._arguments, self._requested, self.config[subcommand].model)
        kind = {"fit": "train", "validate": "val"}.get(subcommand, subcommand)
        if self.config[subcommand].trainer.get(f"limit_{kind}_batches") == 0:
            raise ConfigurationError(
                f"--trainer.limit_{kind}_batches must be above 0 for `{subcommand}`, got 0: nothing would run, "
                "rollouts included"
            )
        torch.set_float32_matmul_precision(self.config[subcommand]["matmul_precision"])
        if subcommand != "fit":
            leave_out_evaluation_warnings()

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        if config.get("fast_dev_run") or config.get("enable_checkpointing") is False:
            # In a fast_dev_run, Lightning 2.6's ModelCheckpoint would write last.ckpt into the current folder.
            callbacks = [callback for callback in callbacks if not isinstance(callback, Checkpoint)]
        plugins = config.get("plugins") or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            config = {**config, "plugins": [*plugins, AtomicCheckpointIO()]}
        return super()._instantiate_trainer(*add_defaults(config, callbacks))

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line, and resolve names of configurations that the package contains."""
        self._arguments = _find_configs(sys.argv[1:] if args is None else args)
        self.config = parser.parse_args(self._arguments)
        options = self.config[self.config.subcommand]
        options.template = None  # the saved configuration includes the values of the templates
        self._requested = deepcopy(options.get("model"))
        if options.get("ckpt_path") in ("best", "last"):
            options.ckpt_path = _checkpoint_of_run(options, options.ckpt_path)
        file = str(options.get("ckpt_path") or "")
        if file.startswith("~"):
            file = options.ckpt_path = os.path.expanduser(file)
        if file and file not in _LIGHTNINGS_CHECKPOINTS and "://" not in file:
            # Verify the file before LightningCLI reads the model's arguments from it.
            read_checkpoint(file, "training writes them to <log folder>/checkpoints/")


_LIGHTNINGS_CHECKPOINTS = ("hpc", "registry")


def _checkpoint_of_run(options: Namespace, name: str) -> str | None:
    """Return the newest `last.ckpt` or `best.ckpt` of all versions of a run; Lightning searches only the new version.

    Args:
        options: the configuration. The run's folder is `checkpoint.dirpath` if it is set, else `save_dir` and `name` of
            the logger.
        name: `last` or `best`.

    Returns:
        The path; None for a new run under torchrun, which restarts a run with the command line of the first start.

    Raises:
        ConfigurationError: the run has no such checkpoint, or no folder.
    """
    logger = options.trainer.logger
    settings = logger.get("init_args", {}) if isinstance(logger, Namespace) else {}
    if options.checkpoint.dirpath:
        folder = Path(options.checkpoint.dirpath)
    elif "save_dir" in settings and "name" in settings:
        folder = Path(settings["save_dir"]) / settings["name"]
    else:
        raise ConfigurationError(
            f"--ckpt_path {name} needs a logger, whose folder holds the run, got none: set --ckpt_path to a file"
        )
    path = newest(folder, name)
    if path is None and "TORCHELASTIC_RUN_ID" not in os.environ:
        advice = "start without --ckpt_path" if name == "last" else "set checkpoint.monitor in training, or use last"
        raise ConfigurationError(f"--ckpt_path {name}: there is no {name}.ckpt in {folder}: {advice}")
    return None if path is None else str(path)


def run(arguments: Sequence[str] | None = None) -> DiffTORICLI:
    """Run a training or evaluation command and return the CLI object, with its trainer and model.

    Args:
        arguments: the arguments after the program's name; None for those of this process.
    """
    leave_out_messages()
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    set_loader(PARSER_MODE, lambda text: _find_fragments(_read_yaml(text)), (yaml.YAMLError,))
    return DiffTORICLI(
        args=None if arguments is None else list(arguments),
        seed_everything_default=0,
        auto_configure_optimizers=False,
        save_config_callback=SaveConfig,
        parser_kwargs={"parser_mode": PARSER_MODE, "epilog": EPILOG},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run any command, and exit with a one-line message and code 1 on a user error.

    Args:
        arguments: the arguments after the program's name; None for those of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # so that modules in the current folder are found, as with `python -m`
    try:
        if given and given[0] in COMMANDS:
            auto_cli(COMMANDS, args=given)
        else:
            run(given)
    except Exception as error:
        cause = _user_error(error)
        if cause is None:
            raise
        sys.exit(f"error: {' '.join(str(cause).split())}")


def _user_error(error: BaseException | None) -> BaseException | None:
    """Return the user error behind an exception, or None: the parser wraps exceptions of constructors.

    A full disk, a missing package and Lightning's `MisconfigurationException` also count as user errors.
    """
    while error is not None and not isinstance(error, (DiffTORIError, DataError)):
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            break
        if isinstance(error, (ModuleNotFoundError, MisconfigurationException)):
            break
        error = error.__cause__ or error.__context__
    return error
