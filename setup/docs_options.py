"""Write the page that explains each option of the shipped configurations, from the docstrings of their classes.

`mkdocs build` calls `page` through setup/docs_site.py; tests/unit/test_site.py checks that nothing is missing.
"""

import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from docstring_parser import DocstringStyle, parse

CONFIGS = Path(__file__).parents[1] / "configs"

SECTIONS = {
    "data": "datamodules.demonstrations.DemonstrationDataModule",
    "collect": "difftori_pl.callbacks.Collect",
    "rollout": "difftori_pl.callbacks.RolloutEvaluation",
    "checkpoint": "difftori_pl.callbacks.Checkpoint",
    "trainer": "lightning.Trainer",
}
"""Section of a configuration -> class of its options, unless the section names another with `class_path`."""

NAMESPACES = (
    *("difftori_pl.public", "datamodules.public", "difftori_pl.trajopt.solvers", "difftori_pl.trajopt.backward"),
    *("difftori_pl.trajopt.bounds", "difftori_pl.callbacks", "torch.optim", "torch.optim.lr_scheduler"),
    *("lightning.pytorch.loggers", "lightning.pytorch.callbacks"),
)
"""Modules in which a class without a path is looked up."""

GROUPS: dict[str, tuple[str, ...]] = {
    "Rollouts, collection, checkpoints": ("difftori_pl.callbacks",),
    "Training": ("difftori_pl.imitation", "difftori_pl.reinforcement"),
    "Optimiser of the actions": ("difftori_pl.trajopt",),
    "Base policies": (
        "difftori_pl.models.base_policies",
        "difftori_pl.models.action_samplers",
        "difftori_pl.checkpoints",
    ),
    "Encoders": ("difftori_pl.models.encoders",),
    "Other networks": ("difftori_pl.models",),
    "Data": ("datamodules",),
    "Simulators": ("difftori_pl.envs",),
    "Lightning and torch": ("",),
}
"""Heading of the page -> modules whose classes it lists; a class stands under the first heading that fits."""

EXTERNAL = {
    "seed_everything": "seed of all random numbers: weights, order of the batches, noise.",
    "matmul_precision": "precision of float32 matrix products: `highest`, `high` or `medium`; the last two are faster "
    "on processors with bfloat16 or TF32 units.",
    "template": "configurations that are read before this one.",
    "Trainer.max_steps": "number of updates after which training ends; -1 for no limit.",
    "Trainer.max_epochs": "number of passes over the data after which training ends; -1 for no limit.",
    "Trainer.check_val_every_n_epoch": "number of epochs between two validations on held-out demonstrations; null if "
    "`val_check_interval` counts updates.",
    "Trainer.gradient_clip_val": "largest norm of the gradient of all parameters; larger gradients are scaled down.",
    "Trainer.logger": "where metrics and checkpoints are written.",
    "Trainer.callbacks": "further callbacks.",
    "TensorBoardLogger.save_dir": "folder of all runs.",
    "TensorBoardLogger.name": "folder of this run in `save_dir`; each start writes to a new `version_N` in it.",
    "TensorBoardLogger.default_hp_metric": "whether to add the placeholder metric `hp_metric`.",
    "Checkpoint.every_n_train_steps": "number of updates between two checkpoints.",
    "Checkpoint.save_on_exception": "whether to write a checkpoint if an exception ends the run.",
    "Checkpoint.save_on_train_epoch_end": "whether to write a checkpoint after an epoch, not after a validation.",
    "Checkpoint.monitor": "metric that selects `best.ckpt`; null keeps only `last.ckpt`.",
    "Checkpoint.mode": "`max` if larger values of `monitor` are better, else `min`.",
    "Adam.lr": "learning rate.",
    "Adam.fused": "whether one kernel updates all parameters, which is faster.",
    "AdamW.lr": "learning rate.",
    "AdamW.betas": "decay rates of the moving averages of the gradient and of its square.",
    "AdamW.weight_decay": "fraction of each weight, times the learning rate, that an update subtracts.",
    "CosineAnnealingLR.T_max": "number of updates over which the learning rate falls to zero along a cosine.",
}
"""Options of the parser, of Lightning and of torch, whose docstrings cannot be quoted in one line."""


@dataclass
class Option:
    """An option that a shipped configuration sets.

    Attributes:
        owner: class or function whose argument it is; None for an option of the parser.
        name: the argument.
        explanation: text of the docstring, or "" if there is none.
        default: the default in Python, as YAML; None if the argument is required, or the default is a part.
        value: the value in the first configuration that sets it, as YAML; None for a part.
    """

    owner: Any
    name: str
    explanation: str
    default: str | None
    value: str | None

    @property
    def key(self) -> str:
        """Return `Owner.name`, or the name of an option of the parser."""
        return self.name if self.owner is None else f"{self.owner.__name__}.{self.name}"


@dataclass
class _Walk:
    """Finds the owner of each key; a fragment without `class_path` has the owners of the same path in other files."""

    options: dict[str, Option] = field(default_factory=dict)
    owners: dict[tuple[str, ...], list[Any]] = field(default_factory=dict)
    unknown: set[tuple[str, ...]] = field(default_factory=set)

    def visit(self, path: tuple[str, ...], value: Any, owners: list[Any]) -> None:
        for item in value if isinstance(value, list) else [value]:
            self._visit(path, item, owners)

    def _visit(self, path: tuple[str, ...], value: Any, owners: list[Any]) -> None:
        if isinstance(value, str) and (found := find_class(value, path[-1])) is not None:
            self._own(path, found)
        if isinstance(value, str) and value.endswith(".yaml"):
            fragment = CONFIGS / value.removeprefix("../")
            self.visit(path, _read(fragment) if fragment.exists() else None, owners)
        if not isinstance(value, dict):
            return
        if "class_path" in value:
            named = find_class(value["class_path"], path[-1])
            if named is None:
                raise LookupError(f"configs: there is no class {value['class_path']} in {NAMESPACES}")
            self._own(path, named)
            owners = [named]
        elif path in self.owners:
            owners = self.owners[path]
        elif _is_part(value) and not owners:
            self.unknown.add(path)
        # Without a class, a mapping is the value of one option, such as the sizes of observations.
        for key, inner in (value.get("init_args") or {} if _is_part(value) else value).items() if owners else ():
            having = [owner for owner in owners if key in _parameters(owner)]
            for owner in having or owners[:1]:
                option = _option(owner, key, inner)
                self.options.setdefault(option.key, option)
            self.visit((*path, key), inner, [cls for owner in having for cls in _classes(owner, key)])

    def _own(self, path: tuple[str, ...], owner: Any) -> None:
        known = self.owners.setdefault(path, [])
        if owner not in known:
            known.append(owner)


def find_options() -> list[Option]:
    """Return each option that a shipped configuration or fragment sets, once."""
    walk = _Walk()
    for _ in range(2):  # the first round finds the classes at each path
        walk.options.clear()
        walk.unknown.clear()
        for path in sorted(CONFIGS.rglob("*.yaml")):
            content = _read(path) or {}
            sections = {path.parent.name: content} if "class_path" in content else content
            for key, value in sections.items():
                if key in (*SECTIONS, "model") or sections is not content:
                    walk.visit((key,), value, [find_class(SECTIONS[key])] if key in SECTIONS else [])
                else:
                    walk.options.setdefault(key, Option(None, key, EXTERNAL.get(key, ""), None, _yaml(value)))
    if walk.unknown:
        raise LookupError(f"configs: no file names the class at {sorted('.'.join(path) for path in walk.unknown)}")
    return list(walk.options.values())


def find_class(name: str, option: str = "") -> Any:
    """Return the class or function of a `class_path`, or None; `Adam` is torch's for the option `optimizer`."""
    if not re.fullmatch(r"[A-Za-z_][\w.]*", name):
        return None
    if "." in name:
        module, _, name = name.rpartition(".")
        try:
            return getattr(import_module(module), name, None)
        except ImportError:
            return None
    namespaces = ("torch.optim",) if option == "optimizer" else NAMESPACES
    found = (getattr(import_module(module), name, None) for module in namespaces)
    return next((item for item in found if callable(item)), None) if name[0].isupper() else None


def page() -> str:
    """Return the page in Markdown: one section per class, one definition per option."""
    options = find_options()
    lines = [
        "# Options",
        "",
        "Each option that a shipped configuration sets, with its default in Python, its explanation from the",
        "docstring, and an example from the shipped files. `--print_config` shows all values of a configuration,",
        "and the [API reference](api.md) explains the arguments that no configuration sets.",
        "",
    ]
    lines += ["## Top level", ""]
    for option in (option for option in options if option.owner is None):
        lines += _definition(option)
    owners = sorted({option.owner for option in options if option.owner}, key=lambda owner: owner.__name__)
    for title, modules in GROUPS.items():
        lines += [f"## {title}", ""]
        members = [owner for owner in owners if owner.__module__.startswith(modules)]
        owners = [owner for owner in owners if owner not in members]
        for owner in members:
            lines += [f"### {owner.__name__}", ""]
            if owner.__doc__ and _is_ours(owner):
                lines += [" ".join(inspect.cleandoc(owner.__doc__).split("\n\n")[0].split()), ""]
            for option in sorted((item for item in options if item.owner is owner), key=lambda item: item.name):
                lines += _definition(option)
    return "\n".join(lines)


def _definition(option: Option) -> list[str]:
    default = "" if option.default is None else f" (default `{option.default}`)"
    text = option.explanation[:1].upper() + option.explanation[1:]
    example = "" if option.value is None else f" Example: `{option.value}`."
    return [f"`{option.name}`{default}", f":   {text.rstrip('.')}.{example}", ""]


def _is_ours(owner: Any) -> bool:
    return bool(owner.__module__.startswith(("difftori_pl", "datamodules")))


def _is_part(value: dict[str, Any]) -> bool:
    return "class_path" in value or "init_args" in value


def _option(owner: Any, name: str, value: Any) -> Option:
    parameter = _parameters(owner).get(name)
    has_default = parameter is not None and parameter.default is not inspect.Parameter.empty
    written = _yaml(parameter.default) if parameter is not None and has_default else None
    key = f"{owner.__name__}.{name}"
    explanation = EXTERNAL.get(key) or _documented(owner).get(name, "")
    return Option(owner, name, explanation, written, _yaml(value))


@cache
def _parameters(owner: Any) -> dict[str, inspect.Parameter]:
    """Return the arguments, those of base classes included if the constructor passes `**kwargs` on."""
    found: dict[str, inspect.Parameter] = {}
    for cls in owner.__mro__ if inspect.isclass(owner) else [owner]:
        if cls is object or (inspect.isclass(cls) and "__init__" not in vars(cls)):
            continue
        parameters = inspect.signature(cls).parameters
        found = {**parameters, **found}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return found


@cache
def _documented(owner: Any) -> dict[str, str]:
    """Return argument -> explanation, from the docstrings of the class and its base classes."""
    found: dict[str, str] = {}
    for cls in owner.__mro__ if inspect.isclass(owner) else [owner]:
        documented = parse(inspect.cleandoc(cls.__doc__ or ""), style=DocstringStyle.GOOGLE).params
        found = {item.arg_name: " ".join((item.description or "").split()) for item in documented} | found
    return found


@cache
def _type_hints(function: Any) -> dict[str, Any]:
    return typing.get_type_hints(function)


@cache
def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def _classes(owner: Any, name: str) -> Iterator[Any]:
    """Yield the classes with arguments in the type of an argument: `PointCloudRecipe | None` has one."""
    function = owner.__init__ if inspect.isclass(owner) else owner
    annotation = _type_hints(function).get(name)
    for item in typing.get_args(annotation) or (annotation,):
        if inspect.isclass(item) and _is_ours(item) and not inspect.isabstract(item):
            yield item


def _yaml(value: Any) -> str | None:
    """Write a value in one line of YAML, or return None for parts and for long values."""
    plain = list(value) if isinstance(value, tuple) else value
    if plain is not None and not isinstance(plain, (str, bool, int, float, list, dict)):
        return None
    if isinstance(plain, dict) and _is_part(plain):
        return None
    written = yaml.safe_dump(plain, default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True)
    written = written.removesuffix("\n").removesuffix("\n...").strip()
    return written if len(written) <= 60 else None


if __name__ == "__main__":
    print(page())
