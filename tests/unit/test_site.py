"""The documentation site: its options, plots, tutorials, and the check of the widths of its pages."""

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.tutorials import TUTORIALS, blocks

ROOT = Path(__file__).parents[2]


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


docs_options = load("setup/docs_options.py")
plots = load("benchmarks/plots.py")
check_widths = load("setup/check_widths.py")

TABLE = """
| policy | seed | updates | success (Wilson 95 %) | gained / lost |
|---|---|---|---|---|
| BC | 1 | 4,000 | 4/100 (2 to 10) | |
| | 2 | 4,000 | **10/20** | 3 / 4 |
| Zeros | 1 | 4,000 | | |
"""


def keys_of(content: Any) -> set[str]:
    """Return the keys of a configuration whose values are constructor arguments."""
    found: set[str] = set()
    if isinstance(content, list):
        return found.union(*map(keys_of, content))
    for key, value in content.items() if isinstance(content, dict) else ():
        if key == "init_args":
            found |= set(value)
        found |= keys_of(value)
    return found


def test_each_option_of_each_shipped_configuration_is_explained_once() -> None:
    options = docs_options.find_options()
    assert not [option.key for option in options if not option.explanation]
    assert len({option.key for option in options}) == len(options)
    named = {option.name for option in options}
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert keys_of(yaml.safe_load(path.read_text())) <= named, path
    page = docs_options.page()
    for option in options:
        name = "Top level" if option.owner is None else option.owner.__name__
        sections = re.findall(rf"^##+ {name}\n(.*?)(?=^##|\Z)", page, re.DOTALL | re.MULTILINE)
        found = [section for section in sections if docs_options._definition(option)[1] in section]
        assert len(found) == 1, option.key


def test_an_option_without_an_explanation_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text(
        "model: {class_path: BehaviorCloning, init_args: {policy: {class_path: BC, init_args: {no_such: 1}}}}"
    )
    monkeypatch.setattr(docs_options, "CONFIGS", tmp_path)
    assert [option.key for option in docs_options.find_options() if not option.explanation] == ["BC.no_such"]


def test_a_class_that_no_configuration_names_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("model: {init_args: {policy: {init_args: {action_dim: 1}}}}")
    monkeypatch.setattr(docs_options, "CONFIGS", tmp_path)
    with pytest.raises(LookupError, match="no file names the class at"):
        docs_options.find_options()


def test_adam_of_the_weights_differs_from_adam_of_the_actions() -> None:
    modules = {option.owner.__module__.split(".")[0] for option in docs_options.find_options() if "Adam." in option.key}
    assert modules == {"torch", "difftori_pl"}


def test_success_rates_are_read_with_wilson_intervals() -> None:
    (table,) = plots.tables(TABLE)
    figure = plots.figure_of(table)
    assert figure.labels == ["BC, seed 1", "BC, seed 2"]
    first, second = figure.series["success (Wilson 95 %)"]
    assert (round(first.middle), round(first.low), round(first.high)) == (4, 2, 10)
    assert (second.middle, round(second.low), round(second.high)) == (50, 30, 70)
    assert list(figure.series) == ["success (Wilson 95 %)"]


def test_values_are_read_with_their_intervals() -> None:
    assert plots.read_value("1,536 (477 to 1,589): 4") == plots.Value(1536, 477, 1589)
    assert plots.read_value("+0.5 ± 0.25") == plots.Value(0.5, 0.25, 0.75)
    assert plots.read_value("857") is None


def test_columns_of_step_counts_become_curves() -> None:
    text = "| method | 20,000 | 40,000 | mean |\n|---|---|---|---|\n| A | 5 | 6 | 5 |\n"
    (table,) = plots.tables(text + "| B | 3 (2 to 4) | 5 (4 to 6) | 4 (3 to 5) |\n| C | 1 (0 to 2) | 3 (2 to 4) | |\n")
    figure = plots.figure_of(table)
    assert figure.over_steps
    assert list(figure.series) == ["20,000", "40,000"]
    assert figure.series["20,000"][0] == plots.Value(5, 5, 5)


def test_tables_of_details_and_without_intervals_are_not_drawn() -> None:
    assert not list(plots.tables("## Results\n\n## Details\n" + TABLE))
    (table,) = plots.tables("| a | b |\n|---|---|\n| x | 1 |\n| y | 2 |\n")
    assert plots.figure_of(table) is None


def test_equal_tables_give_equal_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = tmp_path / "task.md"
    page.write_text(TABLE)
    written = [plots.write(page, tmp_path / name)[1].read_bytes() for name in ("one", "two")]
    assert written[0] == written[1]
    assert b"<svg" in written[0]


def test_the_results_have_plots_with_intervals_and_a_learning_curve_with_published_ones() -> None:
    figures = {
        path.stem: [figure for table in plots.tables(path.read_text()) if (figure := plots.figure_of(table))]
        for path in plots.RESULTS.glob("*.md")
    }
    assert all(figures[name] for name in ("metaworld", "square_low_dim", "pusht", "maniskill", "rl"))
    labels = [label for figure in figures["rl"] if figure.over_steps for label in figure.labels]
    assert any("published" in label for label in labels)
    assert any("here" in label for label in labels)


@pytest.mark.parametrize("page", sorted(TUTORIALS.glob("*.md")), ids=lambda path: path.name)
def test_code_of_tutorials_fits_and_is_valid(page: Path) -> None:
    found = blocks(page)
    assert found
    for block in found:
        assert max(map(len, block.text.splitlines())) <= 88
        if block.language == "python":
            ast.parse(block.text)
        if block.language == "yaml":
            yaml.safe_load(block.text)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<p>narrow</p><pre><code style='white-space: pre-wrap'>wrapped words of code</code></pre>", None),
        ("<main><div style='width: 700px'>too wide</div></main>", 'DIV "too wide"'),
        (f"<pre style='overflow: auto'><code>{'long ' * 60}</code></pre>", 'code "long long'),
        ("<div style='overflow: auto'><table style='width: 2000px'><tr><td>a table</td></tr></table></div>", None),
    ],
)
def test_widths_are_checked(body: str, fault: str | None, tmp_path: Path) -> None:
    browser = check_widths.find_browser()
    if browser is None:
        pytest.skip("chromium is not installed (Debian: make browser)")
    (tmp_path / "page.html").write_text(f"<!doctype html><meta name=viewport content=width=device-width>{body}")
    found = check_widths.measure(browser, tmp_path)
    if fault is None:
        assert not found
    else:
        assert any(line.startswith("page.html at 400 pixels") and fault in line for line in found)


def test_a_missing_browser_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(check_widths.shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["check_widths.py", str(tmp_path)])
    check_widths.main()
    assert "not checked, because there is no chromium" in capsys.readouterr().out
