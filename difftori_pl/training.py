"""The commands that train and evaluate, based on LightningCLI."""

import os
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_loader, set_parsing_settings
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from omegaconf.errors import InterpolationKeyError

import datamodules.public  # noqa: F401  LightningCLI resolves class names without a path among imported classes
import difftori_pl.public  # noqa: F401
from datamodules.demonstrations import DemonstrationDataModule
from difftori_pl.arguments.configurations import find_fragments
from difftori_pl.arguments.given import find_given
from difftori_pl.arguments.mistakes import ShortErrors
from difftori_pl.callbacks import Checkpoint, Collect, RolloutEvaluation
from difftori_pl.callbacks.defaults import add_defaults
from difftori_pl.checkpoints.atomic import AtomicCheckpointIO
from difftori_pl.checkpoints.folders import newest, resolve
from difftori_pl.checkpoints.overrides import match_schedule_length, refuse_other_parts, value_overrides
from difftori_pl.checkpoints.reading import read_checkpoint
from difftori_pl.checkpoints.shared_folder import is_shared
from difftori_pl.errors import ConfigurationError, UsageError
from difftori_pl.runtime.quiet import leave_out_evaluation_warnings, leave_out_messages

EPILOG = """The path of a configuration is looked up in the current folder, then among those of the package. A
configuration may list others under `template`, which are read before it, in that order."""

PARSER_MODE = "omegaconf+"
"""YAML with references to other values, `${...}`."""

ArgumentParser(parser_mode=PARSER_MODE).parse_string("{}")  # jsonargparse creates the loader on first use
_read_yaml = get_loader(PARSER_MODE)


class Parser(ShortErrors, LightningArgumentParser):
    """Lightning's parser, with errors of one line."""


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
    """LightningCLI with collection, rollouts and checkpoints as sections of the configuration.

    Args:
        args: the arguments after the program's name, with the paths of all configurations.
        settings: further arguments of LightningCLI.
    """

    def __init__(self, args: Sequence[str], **settings: Any) -> None:
        self._arguments = list(args)
        super().__init__(args=self._arguments, **settings)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return the command of this run only: the parser of one command has 170 options and takes time to build."""
        known = super().subcommands()
        name = next((word for word in self._arguments if word in known), None)
        return known if name is None else {name: known[name]}

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "test":  # the callbacks print a summary
            parser.set_defaults({"verbose": False})
        return parser

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

    def instantiate_classes(self) -> None:
        """Build the data, look at the file, and then build the model, which may read the checkpoint of a base policy.

        Raises:
            DataError: the data file cannot be opened.
        """
        name = self.config["subcommand"]
        data, others = self.config.clone(), self.config.clone()
        if not self.config[name].get("data"):
            super().instantiate_classes()
            return
        data[name] = Namespace(data=self.config[name].data)  # type: ignore[no-untyped-call]
        others[name].data = None
        self.datamodule = self.parser.instantiate_classes(data)[name].data
        if isinstance(self.datamodule, DemonstrationDataModule):
            self.datamodule.look_at_file()
        self.config_init = self.parser.instantiate_classes(others)
        self.config_init[name].data = self.datamodule
        self.model = self._get(self.config_init, "model")
        self.trainer = self.instantiate_trainer()

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
        """Parse the arguments, and find and verify the checkpoint if they name one."""
        try:
            self.config = parser.parse_args(self._arguments)
        except InterpolationKeyError as error:
            path = [name for name in str(error.full_key).split(".")[1:] if name != "init_args"]
            given = find_given(path, self._arguments)
            raise UsageError(f"{given}: expected a reference to another value, got {given.value!r}") from error
        options = self.config[self.config.subcommand]
        options.template = None  # the saved configuration includes the values of the templates
        self._requested = deepcopy(options.get("model"))
        if options.get("ckpt_path") in ("best", "last"):
            options.ckpt_path = _checkpoint_of_run(options, options.ckpt_path)
        file = str(options.get("ckpt_path") or "")
        if file and is_shared(file):
            raise ConfigurationError(
                f"--ckpt_path: expected a checkpoint of a run, got the shared policy {file}: load it with load_policy "
                "or as --model.base_policy.checkpoint"
            )
        if file and file not in _LIGHTNINGS_CHECKPOINTS and "://" not in file:
            # A run resumes from its last checkpoint; other commands use the selected one.
            file = options.ckpt_path = resolve(file, ("last",) if self.config.subcommand == "fit" else ("best", "last"))
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


def run_training(arguments: Sequence[str]) -> DiffTORICLI:
    """Run a training or evaluation command and return the CLI object, with its trainer and model.

    Args:
        arguments: the arguments after the program's name, with the paths of all configurations.
    """
    leave_out_messages()
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    set_loader(PARSER_MODE, lambda text: find_fragments(_read_yaml(text)), (yaml.YAMLError,))
    return DiffTORICLI(
        arguments,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        save_config_callback=SaveConfig,
        parser_class=Parser,
        parser_kwargs={"parser_mode": PARSER_MODE, "epilog": EPILOG},
    )
