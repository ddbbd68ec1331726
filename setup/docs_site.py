"""Hooks of mkdocs: add the results with their plots, the page of options, and the pictures of the tutorials."""

import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PLOTS = ROOT / "build" / "plots"
TUTORIALS = ROOT / "docs" / "tutorials"
DRAWN_BY_TUTORIALS = {"layer.md": ("landscape.png", "swing_up.png")}
"""Tutorial -> the files that its programs write, which its text shows."""

sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from docs_options import page as options_page  # noqa: E402

from benchmarks import plots  # noqa: E402


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages of results to the section "Benchmarks" of the navigation."""
    (section,) = (item for item in config.nav or [] if "Benchmarks" in item)
    section["Benchmarks"] = ["results.md", *(f"results/{path.name}" for path in sorted(RESULTS.glob("*.md")))]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and pictures."""
    files.append(File.generated(config, "options.md", content=options_page()))
    for path in RESULTS.glob("*.md"):
        files.append(File.generated(config, f"results/{path.name}", content=with_plots(path)))
    for path in [*RESULTS.glob("*.png"), *PLOTS.glob("*.svg")]:
        files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    for page, names in DRAWN_BY_TUTORIALS.items():
        for name, content in draw(TUTORIALS / page, names).items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    return files


def with_plots(page: Path) -> str:
    """Return a page of results with a plot above each table that can be drawn."""
    lines = page.read_text().splitlines()
    for line, path in sorted(plots.write(page, PLOTS).items(), reverse=True):
        lines[line:line] = [f"![Plot of the table below, with 95 % intervals]({path.name})", ""]
    return "\n".join(lines)


def draw(tutorial: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Run the Python programs of a tutorial, one after the other, and return the files that they write."""
    programs = re.findall(r"^```python\n(.*?)^```$", tutorial.read_text(), re.DOTALL | re.MULTILINE)
    with TemporaryDirectory() as folder:
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", "".join(programs)], cwd=folder, env=env, check=True, capture_output=True)
        return {name: (Path(folder) / "build" / name).read_bytes() for name in names}
