"""The command line: LightningCLI behind `lightning`, `difftori` and `python -m difftori_pl`."""

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

import datamodules.public  # noqa: F401  names without a path are looked for among the classes that are loaded
import difftori_pl.public  # noqa: F401
from datamodules.errors import DataError
from difftori_pl.callbacks import Checkpoint, Collect, RolloutEvaluation
from difftori_pl.checkpoints.atomic import AtomicCheckpointIO
from difftori_pl.checkpoints.reading import read_checkpoint
from difftori_pl.checkpoints.words import changes, follow_length, refuse_other_parts
from difftori_pl.commands import COMMANDS
from difftori_pl.errors import ConfigurationError, DiffTORIError

EPILOG = """Beside training there are `difftori demos` (demonstrations), `difftori data` (check, convert and render),
`difftori checkpoint` (what one holds), `difftori table` (the paper's tables), `difftori plot` and `difftori export` (a
policy as a program); each has its own --help. A configuration named without a folder is looked for here and then among
those that ship with the package. It may list others under `template`: they are read before it, in that order."""


SHIPPED_CONFIGS = Path(__file__).parent / "configs"
"""The configurations that come with the package; in a checkout, a link to the folder `configs`."""

PARSER_MODE = "omegaconf+"
"""YAML, in which `${...}` refers to other values."""

ArgumentParser(parser_mode=PARSER_MODE).parse_string("{}")  # jsonargparse makes the reader when it is first needed
_read_yaml = get_loader(PARSER_MODE)


def find_config(name: str) -> str:
    """The path of a configuration: as given if it exists, else the shipped one of that name, else as given.

    While a configuration is read, what it names is looked for beside it.
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
    """What a configuration says, with the paths of the configurations that it names."""
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
            # "--config" and its value are two words; other words that name a configuration are left as they are.
            name, value = (found.pop() if found and found[-1] in _CONFIG_OPTIONS else ""), find_config(argument)
        if name in _CONFIG_OPTIONS:
            found += [f"{name}={path}" for path in _with_templates(Path(value))]
        else:
            found.append(f"{name}={value}" if name else value)
    return found


_CONFIG_OPTIONS = ("--config", "-c")


def _with_templates(path: Path) -> Iterator[Path]:
    """Yield a configuration after those that its key `template` names, in that order; each may have its own."""
    templates = _read_options(path).get("template") or () if path.exists() else ()
    for template in (templates,) if isinstance(templates, str) else templates:
        beside = path.parent / template
        yield from _with_templates(beside if beside.exists() else Path(find_config(template)))
    yield path


def _read_options(path: Path) -> dict[str, Any]:
    """Read a configuration.

    Raises:
        ConfigurationError: it cannot be read, is not YAML, or is no mapping of options.
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
        """As Lightning does.

        Raises:
            ConfigurationError: the folder has a configuration, of another run.
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
        """Add the sections `collect`, `rollout` and `checkpoint`, and what `_with_templates` has read already."""
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
        """Set the precision of matrix products, and what the command line says of the model.

        LightningCLI takes the arguments of the model from a checkpoint, where there is one, before those of
        configurations; words of the command line are there to change them.
        """
        subcommand = self.config["subcommand"]
        options = self.config[subcommand]
        if options.get("ckpt_path"):
            follow_length(self._asked, options.model, options.trainer.max_steps)
            if words := changes(self._words, options.model):
                self.config = self.parser.parse_args([subcommand, *words], namespace=self.config)
            refuse_other_parts(self._words, self._asked, self.config[subcommand].model)
        kind = {"fit": "train", "validate": "val"}.get(subcommand, subcommand)
        if self.config[subcommand].trainer.get(f"limit_{kind}_batches") == 0:
            raise ConfigurationError(
                f"--trainer.limit_{kind}_batches must be above 0 for `{subcommand}`, got 0: nothing would run, "
                "rollouts included"
            )
        torch.set_float32_matmul_precision(self.config[subcommand]["matmul_precision"])

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        if config.get("fast_dev_run") or config.get("enable_checkpointing") is False:
            # In a fast_dev_run, Lightning 2.6's ModelCheckpoint would write last.ckpt into the current folder.
            callbacks = [callback for callback in callbacks if not isinstance(callback, Checkpoint)]
        plugins = config.get("plugins") or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            config = {**config, "plugins": [*plugins, AtomicCheckpointIO()]}
        return super()._instantiate_trainer(config, callbacks)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line, looking bare names of configurations up among the shipped ones."""
        self._words = _find_configs(sys.argv[1:] if args is None else args)
        self.config = parser.parse_args(self._words)
        options = self.config[self.config.subcommand]
        options.template = None  # the saved configuration holds everything that the templates set
        self._asked = deepcopy(options.get("model"))
        if options.get("ckpt_path") == "last":
            options.ckpt_path = _last_checkpoint(options)
        file = str(options.get("ckpt_path") or "")
        if file.startswith("~"):
            file = options.ckpt_path = os.path.expanduser(file)
        if file and file not in _LIGHTNINGS_CHECKPOINTS and "://" not in file:
            # Before LightningCLI reads the model's arguments in it.
            read_checkpoint(file, "training writes them to <log folder>/checkpoints/")


_LIGHTNINGS_CHECKPOINTS = ("best", "hpc", "registry")


def _last_checkpoint(options: Namespace) -> str | None:
    """The newest `last.ckpt` of all versions of a run; Lightning looks in the new version's folder only.

    Args:
        options: the configuration, whose logger's `save_dir` and `name` make the run's folder, unless
            `checkpoint.dirpath` names one.

    Returns:
        Its path; None for a new run under torchrun, which starts a run anew by the same words as the first time.

    Raises:
        ConfigurationError: there is none, or the run has no folder.
    """
    logger = options.trainer.logger
    settings = logger.get("init_args", {}) if isinstance(logger, Namespace) else {}
    if options.checkpoint.dirpath:
        folder, pattern = Path(options.checkpoint.dirpath), "last*.ckpt"
    elif "save_dir" in settings and "name" in settings:
        folder, pattern = Path(settings["save_dir"]) / settings["name"], "*/checkpoints/last*.ckpt"
    else:
        raise ConfigurationError("--ckpt_path last: without a logger a run has no folder of its own; name the file")
    found = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
    if not found:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            return None
        raise ConfigurationError(f"--ckpt_path last: there is no last.ckpt below {folder}; start without --ckpt_path")
    return str(found[-1])


def run(arguments: Sequence[str] | None = None) -> DiffTORICLI:
    """Run one command and return what it built; errors come as exceptions.

    Args:
        arguments: the words after the program's name; those of this process if None.
    """
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
    """The console script: like `run`, but a user's mistake ends in one message and exit code 1."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # for parts of one's own, as with `python -m`
    try:
        if words and words[0] in COMMANDS:
            auto_cli(COMMANDS, args=words)
        else:
            run(words)
    except Exception as error:
        mistake = _mistake(error)
        if mistake is None:
            raise
        sys.exit(f"error: {' '.join(str(mistake).split())}")


def _mistake(error: BaseException | None) -> BaseException | None:
    """Return the user's mistake behind an exception, if there is one: the parser wraps what constructors raise.

    A full disk, a missing package and what Lightning calls a misconfiguration are reported in one line, too.
    """
    while error is not None and not isinstance(error, (DiffTORIError, DataError)):
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            break
        if isinstance(error, (ModuleNotFoundError, MisconfigurationException)):
            break
        error = error.__cause__ or error.__context__
    return error
