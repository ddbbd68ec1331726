"""The documentation matches the configurations and messages."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ACTION_DIMS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SOURCES = re.sub(
    r"\s+",
    " ",
    "\n".join(path.read_text() for part in ("difftori_pl", "datamodules") for path in (ROOT / part).rglob("*.py")),
)


def test_every_configuration_is_explained() -> None:
    explained = (DOCS / "configs.md").read_text()
    names = [path.name for path in (ROOT / "configs").glob("*.yaml") if any(task in path.name for task in ACTION_DIMS)]
    assert not [name for name in names if name not in explained]


def test_messages_in_troubleshooting_occur_in_the_code() -> None:
    terms = re.findall(r"^`(.+)`\n:", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(terms) > 15
    assert not [term for term in terms if term not in SOURCES]


@pytest.mark.parametrize("page", sorted([*DOCS.glob("*.md"), ROOT / "README.md"]), ids=lambda path: path.name)
def test_named_configurations_and_fragments_exist(page: Path) -> None:
    named = set(
        re.findall(
            r"(?:--config |(?:encoder|solver|data|base_policy|sampler|backward_mode)[ =])(\S+\.yaml)",
            page.read_text(),
        )
    )
    own = {"mine.yaml", "data/my_task.yaml"}
    assert not [name for name in named - own if not (ROOT / "configs" / name.strip("`'")).exists()]


def load(script: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(script, ROOT / "setup" / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[script] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_results_in_the_readme_are_those_of_the_results_pages() -> None:
    drawing = load("draw_readme")
    readme = drawing.README.read_text(encoding="utf-8")
    assert readme == drawing.with_table(readme), "run setup/draw_readme.py"
    assert drawing.PICTURE.read_text(encoding="utf-8") == drawing.picture(), "run setup/draw_readme.py"
    assert "(docs/images/readme.svg)" in readme


def test_the_diagrams_of_the_architecture_are_up_to_date() -> None:
    drawing = load("draw_architecture")
    page = (DOCS / "architecture.md").read_text()
    for name, flows in drawing.DIAGRAMS.items():
        assert (DOCS / "images" / name).read_text(encoding="utf-8") == drawing.draw(flows), f"draw {name} again"
        assert f"(images/{name})" in page
        stages = [stage for flow in flows for stage in flow.stages]
        assert max(len(text) for stage in stages for text in stage) <= 53, "the text must fit into its box"
        files = [file for stage in stages for file in stage.file.split(", ")]
        assert not [file for file in files if not (ROOT / file).exists()]


def test_files_named_in_the_architecture_exist() -> None:
    named = re.findall(
        r"`((?:difftori_pl|datamodules|tests|setup|docs)/[\w/.]+)`", (DOCS / "architecture.md").read_text()
    )
    assert len(named) > 10
    assert not [name for name in named if not (ROOT / name).exists()]
