"""Draw the diagrams of docs/architecture.md: `python setup/draw_architecture.py` writes docs/images/*.svg.

Each stage is a box with its file, and each arrow has the shapes that it carries.
"""

from html import escape
from pathlib import Path
from typing import NamedTuple

IMAGES = Path(__file__).parents[1] / "docs" / "images"

WIDTH, BOX, GAP, MARGIN = 430, 50, 44, 16
"""Width of a column, height of a box, length of an arrow and margin, in pixels."""


class Stage(NamedTuple):
    """A box, and the arrow that leaves it.

    Attributes:
        title: what happens.
        file: files or folders, relative to the root of the repository, separated by a comma.
        carries: what the next stage receives, with its shape; empty for the last stage.
    """

    title: str
    file: str
    carries: str = ""


class Flow(NamedTuple):
    """A column of stages.

    Attributes:
        title: heading.
        stages: from top to bottom.
    """

    title: str
    stages: tuple[Stage, ...]


TRAINING = Flow(
    "From a file to the loss (imitation)",
    (
        Stage("demonstrations on disk", "datamodules/formats/", "arrays of one demo (steps, ...)"),
        Stage("columns over all demos", "datamodules/windowing/columns.py", "rows of each key (N, ...)"),
        Stage(
            "windows",
            "datamodules/windowing/window_dataset.py",
            "obs key → (B, T, ...), actions (B, T, A), mask (B, T)",
        ),
        Stage("encoder", "difftori_pl/models/encoders/", "latent (B, T, Z)"),
        Stage("base policy", "difftori_pl/models/base_policies/", "proposals (B, T, H, A), unchanged: latent"),
        Stage("posterior", "difftori_pl/models/cvae.py", "z = [sample, latent] (B·T, Z), proposals (B·T, H, A)"),
        Stage("TrajOptLayer", "difftori_pl/trajopt/layer.py", "actions (B·T, H, A)"),
        Stage("reconstruction + KL (Eq. 9)", "difftori_pl/losses.py"),
    ),
)

ACTING = Flow(
    "From the simulator to an action",
    (
        Stage("environment", "difftori_pl/envs/", "obs key → (...)"),
        Stage("pool of environments", "difftori_pl/envs/pool.py", "obs key → (...) of each of B environments"),
        Stage("episodes in one batch", "difftori_pl/callbacks/episodes.py", "obs key → (B, 1, ...), memory"),
        Stage("check of the observations", "difftori_pl/models/finite.py", "obs key → (B, 1, ...), memory"),
        Stage("policy.act", "difftori_pl/models/policy.py", "obs key → (B, 1, ...), memory"),
        Stage(
            "refine (imitation) or plan (RL)",
            "difftori_pl/imitation/, difftori_pl/reinforcement/",
            "actions (B, A), memory",
        ),
        Stage("environments step", "difftori_pl/envs/pool.py", "obs, rewards, success of whole episodes"),
        Stage("results, or replay buffer", "difftori_pl/callbacks/rollout.py"),
    ),
)

SOLVING = Flow(
    "An action through TrajOptLayer.forward",
    (
        Stage(
            "check, convert, repeat for starts",
            "difftori_pl/trajopt/layer.py",
            "actions (B, H, A) or starts (B, S, H, A)",
        ),
        Stage("bounds.to_iterate", "difftori_pl/trajopt/bounds/", "iterate (B, H, A)"),
        Stage("which steps carry a graph", "difftori_pl/trajopt/backward/", "iterate (B, H, A)"),
        Stage("value and gradient", "difftori_pl/trajopt/problem.py", "value (B,), gradient (B, H, A)"),
        Stage("solver.step, repeated", "difftori_pl/trajopt/solvers/", "iterate (B, H, A), failed (B,)"),
        Stage("best iterate, failed elements", "difftori_pl/trajopt/loop_state.py", "iterate (B, H, A)"),
        Stage("Solution", "difftori_pl/trajopt/solution.py"),
    ),
)

DIAGRAMS = {"architecture.svg": (TRAINING, ACTING), "trajopt_layer.svg": (SOLVING,)}


def draw(flows: tuple[Flow, ...]) -> str:
    """Return an SVG with a column for each flow."""
    height = 2 * MARGIN + 34 + max(len(flow.stages) for flow in flows) * (BOX + GAP) - GAP
    label = "; ".join(f"{flow.title}: {', then '.join(stage.title for stage in flow.stages)}" for flow in flows)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * len(flows)} {height}" role="img" '
        f'aria-label="{escape(label)}" font-family="sans-serif" font-size="14" fill="#1f2937">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#1f2937"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for column, flow in enumerate(flows):
        left = WIDTH * column + MARGIN
        lines.append(f'<text x="{left}" y="{MARGIN + 16}" font-weight="bold">{escape(flow.title)}</text>')
        for row, stage in enumerate(flow.stages):
            lines += _stage(stage, left, MARGIN + 34 + row * (BOX + GAP))
    return "\n".join([*lines, "</svg>", ""])


def _stage(stage: Stage, left: int, top: int) -> list[str]:
    width = WIDTH - 2 * MARGIN
    lines = [
        f'<rect x="{left}" y="{top}" width="{width}" height="{BOX}" rx="8" fill="#e8eefb" stroke="#3f6fd8"/>',
        f'<text x="{left + 12}" y="{top + 21}">{escape(stage.title)}</text>',
        f'<text x="{left + 12}" y="{top + 40}" font-family="monospace" font-size="12">{escape(stage.file)}</text>',
    ]
    if stage.carries:
        start, end = top + BOX, top + BOX + GAP - 2
        lines += [
            f'<path d="M{left + 24} {start}V{end}" stroke="#1f2937" stroke-width="1.5" marker-end="url(#tip)"/>',
            f'<text x="{left + 36}" y="{start + GAP // 2 + 4}" font-size="12">{escape(stage.carries)}</text>',
        ]
    return lines


if __name__ == "__main__":
    for name, flows in DIAGRAMS.items():
        (IMAGES / name).write_text(draw(flows), encoding="utf-8")
