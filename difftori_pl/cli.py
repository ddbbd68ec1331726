"""The command line: LightningCLI behind `lightning`, `difftori` and `python -m difftori_pl`, and the data tools."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from jsonargparse import auto_cli, set_parsing_settings
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import difftori_pl.public  # noqa: F401  names without a path are looked for among the classes that are loaded
from datamodules.errors import DataError
from datamodules.point_cloud import PointCloudRecipe
from difftori_pl.callbacks import Collect, RolloutEvaluation
from difftori_pl.envs.base import EnvFactory
from difftori_pl.errors import ConfigurationError, DiffTORIError
from difftori_pl.il import DiffTORIIL

EPILOG = """Beside training there are `difftori demos` (demonstrations), `difftori data` (check, convert and render),
`difftori table` (the paper's tables), `difftori plot` and `difftori export` (a policy as a program); each has its own
--help. A configuration named without a folder is looked for here and then among those that ship with the package. It
may list others under `template`: they are read before it, in that order."""


SHIPPED_CONFIGS = Path(__file__).parent / "configs"
"""The configurations that come with the package; in a checkout, a link to the folder `configs`."""


def find_config(name: str) -> str:
    """The path of a configuration: as given if it exists, else the shipped one of that name, else as given."""
    shipped = SHIPPED_CONFIGS / name
    return str(shipped) if name.endswith((".yaml", ".yml")) and not Path(name).exists() and shipped.exists() else name


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
    """A configuration after those that its key `template` lists, in that order; each may have its own."""
    content = yaml.safe_load(path.read_text()) if path.is_file() else None
    for template in (content.get("template") or ()) if isinstance(content, dict) else ():
        beside = path.parent / template
        yield from _with_templates(beside if beside.exists() else Path(find_config(template)))
    yield path


class DiffTORICLI(LightningCLI):
    """LightningCLI with collection, rollouts and checkpoints as sections of the configuration."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the sections `collect`, `rollout` and `checkpoint`, and what `_with_templates` has read already."""
        parser.add_argument("--template", type=list[str] | None, default=None, help="configurations to start from")
        parser.add_argument(
            "--matmul_precision",
            type=Literal["highest", "high", "medium"],
            default="highest",
            help="precision of float32 matrix products, see torch.set_float32_matmul_precision",
        )
        parser.add_lightning_class_args(Collect, "collect")
        parser.add_lightning_class_args(RolloutEvaluation, "rollout")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults({"checkpoint.save_last": True})

    def before_instantiate_classes(self) -> None:
        """Set the precision of matrix products, and find the checkpoint `last`."""
        options = self.config[self.config["subcommand"]]
        if options.get("ckpt_path") == "last":
            options["ckpt_path"] = _last_checkpoint(options["trainer"]["logger"])
        torch.set_float32_matmul_precision(options["matmul_precision"])

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        if config.get("fast_dev_run"):
            # Lightning 2.6's ModelCheckpoint would write last.ckpt into the current folder.
            callbacks = [callback for callback in callbacks if not isinstance(callback, ModelCheckpoint)]
        return super()._instantiate_trainer(config, callbacks)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line, looking bare names of configurations up among the shipped ones."""
        self.config = parser.parse_args(_find_configs(sys.argv[1:] if args is None else args))
        self.config[self.config.subcommand].template = None  # what it led to is all in the configuration that is saved


def _last_checkpoint(logger: Any) -> str:
    """The newest `last.ckpt` of all versions of a run; Lightning looks in the new version's folder only.

    Args:
        logger: the logger's configuration, whose `save_dir` and `name` make the run's folder.
    """
    folder = Path(logger.init_args.save_dir) / logger.init_args.name
    found = sorted(folder.glob("version_*/checkpoints/last*.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ConfigurationError(f"--ckpt_path last: there is no last.ckpt below {folder}; start without --ckpt_path")
    return str(found[-1])


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


def _record_expert(task: str) -> Callable[..., None]:
    """The command that records one scripted expert."""

    def record_expert(
        episodes: int = 100, output: Path | None = None, seed: int = 0, n_processes: int | None = None
    ) -> None:
        """Record demonstrations of a scripted expert, in robomimic's format; interrupted, it goes on where it stopped.

        Args:
            episodes: how many successful episodes to record.
            output: the file to write; demos/<task>.hdf5 if not given.
            seed: seed of the first episode's initial state.
            n_processes: number of worker processes; all cores if not given.
        """
        from difftori_pl.demos import record

        path = output or Path("demos") / f"{task}.hdf5"
        path.parent.mkdir(parents=True, exist_ok=True)
        recording = record(task, path, episodes, seed, n_processes)
        n_tried = recording.n_demos + recording.n_failures
        _say(
            f"{path}: {recording.n_demos} demos, {recording.n_steps} steps; {recording.n_failures} of {n_tried} failed"
        )

    return record_expert


def plan_maniskill(
    task: str = "PickCube-v0",
    episodes: int = 100,
    output: Path | None = None,
    cloud: PointCloudRecipe | None = PointCloudRecipe(n_goal_points=50),  # noqa: B008  (immutable)
    shader: str = "ibl",
    seed: int = 0,
    n_processes: int | None = None,
) -> None:
    """Plan demonstrations of a ManiSkill2 task, replay them for pd_ee_delta_pose, and render their point clouds.

    Args:
        task: PickCube-v0 or LiftCube-v0.
        episodes: how many successful episodes to record.
        output: the folder to write to; demos/<task> if not given.
        cloud: how the clouds are made, the same as data.init_args.cloud; null for states only.
        shader: what colours the points: ibl, or trivial, which is faster in software.
        seed: seed of the first episode's initial state.
        n_processes: number of worker processes; all cores if not given.
    """
    from difftori_pl.demos.maniskill import plan_demos

    folder = output or Path("demos") / task
    found = plan_demos(task, folder, episodes, seed, cloud, shader, n_processes)
    _say(f"{folder}: {found.n_demos} demos; {found.n_failures} of {found.n_demos + found.n_failures} failed")


def check_data(path: Path) -> None:
    """Report every fault of a file at once, or what a sound one holds; exit code 1 if there are faults.

    Args:
        path: a robomimic or ManiSkill HDF5 file, or the zarr folder of Push-T.
    """
    from datamodules.checks import check, summary

    faults = check(path)
    if faults:
        sys.exit("\n".join([*map(str, faults), f"{len(faults)} kinds of fault in {path}"]))
    facts = summary(path)
    size = f"{facts.n_demos} demos, {facts.n_steps} steps ({facts.shortest} to {facts.longest} each)"
    _say(f"{path}: no faults. {facts.env_name or 'unknown task'}, {size}")
    for name, shape in sorted(facts.shapes.items()):
        _say(f"  {name} {shape}")
    _say(f"  actions from {min(facts.action_min):.3g} to {max(facts.action_max):.3g}")
    for name, count in facts.filters.items():
        _say(f"  mask/{name}: {count} demos")


def render_data(
    path: Path,
    output: Path | None = None,
    cameras: Sequence[str] = ("agentview", "robot0_eye_in_hand"),
    size: int = 84,
    shadows: bool = True,
    multisampling: bool = True,
    reflections: bool = True,
    n_processes: int | None = None,
    n_demos: int | None = None,
) -> None:
    """Copy a robomimic file and add camera images, rendered from its stored states; interrupted, it goes on.

    Args:
        path: an HDF5 file with `states`.
        output: the file to write; <path>_image.hdf5 if not given.
        cameras: robosuite's names of the cameras.
        size: height and width of the images, in pixels.
        shadows: render shadows, as the published files do.
        multisampling: smooth edges, as the published files do; half of the cost of software rendering.
        reflections: reflecting surfaces, as the published files do; half of the rest.
        n_processes: number of worker processes; all cores if not given.
        n_demos: render the first so many demos and leave the others out; all if not given.
    """
    from difftori_pl.demos import render

    target = output or path.with_name(f"{path.stem}_image.hdf5")
    rendering = render(
        path,
        target,
        cameras,
        size,
        shadows,
        multisampling,
        n_processes=n_processes,
        reflections=reflections,
        n_demos=n_demos,
    )
    _say(f"{target}: {rendering.n_frames} pictures, {rendering.frames_per_second:.0f} a second")


def convert_data(
    path: Path,
    output: Path | None = None,
    cloud: PointCloudRecipe = PointCloudRecipe(),  # noqa: B008  (immutable)
    n_demos: int | None = None,
    shader: str = "ibl",
    n_processes: int | None = None,
) -> None:
    """Cut ManiSkill's point clouds down to what training loads, or render them from states; interrupted, it goes on.

    Args:
        path: ManiSkill's HDF5 file; its JSON file lies beside it.
        output: the file to write; <path>.converted.h5 if not given.
        cloud: how the clouds are cut down; the same as data.init_args.cloud.
        n_demos: convert the first so many demos only.
        shader: what colours rendered points: ibl, or trivial, which is faster in software.
        n_processes: number of worker processes; all cores if not given.
    """
    from difftori_pl.demos.convert import convert, plan

    target = output or path.with_suffix(".converted.h5")
    todo = plan(path, cloud, n_demos)
    left_out = f" ({todo.n_left_out} failed or empty ones are left out)" if todo.n_left_out else ""
    _say(f"{len(todo.demos)} demos{left_out}, {todo.n_steps} steps: at most {todo.max_bytes / 1e6:.0f} MB")
    size = convert(path, target, cloud, n_processes, n_demos=n_demos, shader=shader)
    _say(f"{target}: {size / 1e6:.0f} MB")


def export_policy(ckpt: Path = Path("last.ckpt"), output: Path = Path("policy.pt2"), n_runs: int = 100) -> None:
    """Write one step of a trained policy as a program, check it against the policy, and time both.

    Args:
        ckpt: a checkpoint of a run that was started from a YAML file.
        output: the file to write: .pt2 for torch.export, .onnx for ONNX.
        n_runs: steps to time.
    """
    from difftori_pl.export import export

    written = export(ckpt, output, n_runs)
    _say(f"{output}: {', '.join(written.inputs)} -> {', '.join(written.outputs)}")
    _say(f"  largest difference from the policy in Python: {written.error:.2g}")
    _say(f"  in Python: {written.eager}")
    _say(f"  exported:  {written.exported}")


def print_table(name: str, runs: Path = Path("runs"), csv: Path | None = None, plot: Path | None = None) -> None:
    """Print one of the paper's tables with the success rates of the runs in a folder beside the published ones.

    Args:
        name: robomimic (Tables 1 and 3), maniskill (Tables 2 and 4), init (Table 3) or ablation-horizon (Table 6).
        runs: a folder; every run below it that was evaluated counts.
        csv: write the figures to this file too.
        plot: draw them into this file (.png, .pdf) too.
    """
    from difftori_pl.tables import make_table

    table = make_table(name, runs)
    _say(table.markdown())
    if csv is not None:
        csv.write_text(table.csv())
    if plot is not None:
        table.plot(plot)


def plot_landscape(
    env: EnvFactory,
    ckpt: Path = Path("last.ckpt"),
    output: Path = Path("landscape.png"),
    seed: int = 100_000,
    n_samples: int = 4,
    temperature: float = 1.0,
) -> None:
    """Draw the landscapes that samples of the prior give from one state, and count the modes they reach (Figure 5).

    Args:
        env: the environment whose initial state to look at, e.g. difftori_pl.envs.PushT.
        ckpt: a checkpoint of DiffTORIIL.
        output: the pictures: <output>_0.png and so on, one for each sample.
        seed: seed of the initial state.
        n_samples: number of samples of the prior.
        temperature: standard deviation of the samples.
    """
    import torch

    from difftori_pl.deploy import load_module
    from difftori_pl.multimodality import sample_solutions
    from difftori_pl.trajopt import draw_landscape

    module = load_module(ckpt)
    if not isinstance(module, DiffTORIIL):
        raise ConfigurationError(f"{ckpt} holds a {type(module).__name__}, but landscapes are those of DiffTORIIL")
    observation, _ = env().reset(seed=seed)
    obs = {key: torch.as_tensor(value)[None, None] for key, value in observation.items()}
    found = sample_solutions(module, obs, module.initial_state(1), n_samples, temperature)
    _say(f"{found.n_modes} modes of {n_samples} samples; the base policy proposes {found.proposal[0].tolist()}")
    output.parent.mkdir(parents=True, exist_ok=True)
    for number, view in enumerate(found.landscapes):
        path = output.with_stem(f"{output.stem}_{number}")
        draw_landscape(view).savefig(path)
        _say(f"  {path}: {found.actions[number, 0].tolist()}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


COMMANDS: dict[str, Any] = {
    "data": {"check": check_data, "convert": convert_data, "render": render_data},
    "demos": {
        "square": _record_expert("square"),
        "lift": _record_expert("lift"),
        "maniskill": plan_maniskill,
    },
    "export": export_policy,
    "plot": {"landscape": plot_landscape},
    "table": print_table,
}
"""The commands beside those of training."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script: like `run`, but a user's mistake ends in one message and exit code 1."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words and words[0] in COMMANDS:
            auto_cli(COMMANDS, args=words)
        else:
            run(words)
    except Exception as error:
        mistake = _mistake(error)
        if mistake is None:
            raise
        sys.exit(f"error: {mistake}")


def _mistake(error: BaseException | None) -> BaseException | None:
    """The user's mistake behind an exception, if there is one: the parser wraps what constructors raise."""
    while error is not None and not isinstance(error, (DiffTORIError, DataError)):
        error = error.__cause__ or error.__context__
    return error
