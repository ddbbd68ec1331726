"""Allowed imports between parts, checked in the source text; see the README's table of folders."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAYERS = [
    {"errors", "version", "arguments", "runtime"},
    {"trajopt", "models", "envs", "evaluation", "losses", "skipped_updates"},
    {"checkpoints"},
    {"module"},
    {"imitation", "reinforcement"},
    {"callbacks", "demos", "deployment", "public"},
    {"commands", "training"},
    {"cli"},
    {"__main__"},
]
"""Layers of `difftori_pl`, lowest first. A part may import from its own layer and from lower ones."""

INDEPENDENT = [{"trajopt", "models"}]
"""Parts of one layer that may not import each other."""

DATA_USERS = {"demos", "callbacks", "commands", "training", "cli"}
"""Parts that may import all of `datamodules`. Others may import only the modules and folders in `DATA_CONTRACT`."""

DATA_CONTRACT = {"actions", "batch", "distributed", "errors", "observation_spec", "point_cloud"}

OPTIONAL = {
    *("theseus", "torchlie", "torchkin", "diffusers", "h5py", "zarr", "pyarrow", "av"),
    *("safetensors", "huggingface_hub", "mani_skill"),
    *("robomimic", "robosuite", "mujoco", "mani_skill2", "metaworld", "sapien", "gym_pusht", "dm_control"),
}


def modules() -> list[Path]:
    return sorted((ROOT / "difftori_pl").rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "difftori_pl").parts[0].removesuffix(".py")


def layer_of(part: str) -> int:
    found = [number for number, layer in enumerate(LAYERS) if part in layer]
    assert found, f"expected {part} in a layer, got none: add it to LAYERS"
    return found[0]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_parts_import_from_their_layer_and_below(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        return
    for name in imports(path):
        words = name.split(".")
        if words[0] == "difftori_pl" and len(words) > 1:
            other = words[1]
            assert layer_of(other) <= layer_of(part), f"{part} imports {name} from a layer above"
            assert other == part or {other, part} not in INDEPENDENT, f"{part} may not import {name}"
        assert (words[0], part) != ("datamodules", "trajopt"), f"{part} may not import {name}"
        if words[0] == "datamodules" and part not in DATA_USERS:
            assert words[1] in DATA_CONTRACT, f"{part} imports {name}: import only {sorted(DATA_CONTRACT)}"


@pytest.mark.parametrize("path", sorted((ROOT / "datamodules").rglob("*.py")), ids=lambda path: path.name)
def test_datamodules_do_not_import_difftori_pl(path: Path) -> None:
    assert not [name for name in imports(path) if name.split(".")[0] == "difftori_pl"]


def names_of_modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in ("difftori_pl", "datamodules")
        for path in (ROOT / package).rglob("*.py")
    }


def imported_modules(path: Path) -> set[str]:
    """Return every module that a file may import, including imports in functions and under TYPE_CHECKING."""
    names = {*imports(path)}
    return names | {name.rpartition(".")[0] for name in names}


def test_no_import_cycles() -> None:
    modules = names_of_modules()
    graph = {name: imported_modules(path) & modules.keys() - {name} for name, path in modules.items()}
    assert len(graph) > 200
    TopologicalSorter(graph).prepare()  # raises CycleError with the modules of a cycle


def test_importing_the_package_needs_no_optional_package() -> None:
    code = f"""
import sys
for name in {sorted(OPTIONAL - {"h5py"})}:
    sys.modules[name] = None
import difftori_pl, difftori_pl.cli, difftori_pl.training
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("module", ["envs.pool", "envs.robosuite_env", "envs.maniskill_env", "demos.parallel"])
def test_worker_processes_do_not_import_torch(module: str) -> None:
    code = f"""
import sys
import difftori_pl.{module}
loaded = {{"torch", "lightning"}} & sys.modules.keys()
assert not loaded, loaded
import datamodules
assert {{"Batch", "RobomimicDataModule"}} < set(dir(datamodules))
assert datamodules.RobomimicDataModule.__module__ == "datamodules.robomimic"
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_importing_the_optimiser_does_not_import_lightning() -> None:
    code = """
import sys
import difftori_pl.trajopt
loaded = {"lightning", "torchmetrics", "torchvision", "jsonargparse", "h5py", "matplotlib"} & sys.modules.keys()
assert not loaded, loaded
from difftori_pl import DiffTORIIL, TrajOptLayer
assert "lightning" in sys.modules
assert TrajOptLayer is difftori_pl.trajopt.TrajOptLayer
assert {"DiffTORIIL", "TrajOptLayer"} < set(dir(difftori_pl))
try:
    difftori_pl.DiffTORIML
except AttributeError as error:
    assert "DiffTORIML" in str(error)
else:
    raise AssertionError("expected an AttributeError for DiffTORIML, got none")
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("--help", {"torch", "numpy", "jsonargparse"}),
        ("fitt", {"torch", "numpy", "jsonargparse"}),
        ("data check {folder}/none.hdf5", {"torch"}),
        ("data convert --help", {"torch"}),
        ("table robomimic --runs {folder}", {"torch", "numpy"}),
        ("demos --help", {"torch"}),
        ("plot --help", {"torch"}),
        ("export --help", {"torch", "numpy"}),
        ("checkpoint show --help", {"torch", "numpy"}),
        ("checkpoint show {folder}/none.ckpt", {"lightning"}),
    ],
)
def test_commands_that_train_nothing_start_without_lightning(command: str, expected: set[str], tmp_path: Path) -> None:
    code = f"""
import sys
from difftori_pl.cli import main
try:
    main({command.format(folder=tmp_path).split()})
finally:
    loaded = {expected | {"lightning", "torchmetrics"}} & sys.modules.keys()
    assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True)
    assert "AssertionError" not in done.stderr
    assert "Traceback" not in done.stderr
