"""Compare the actions of policies with those of Meta-World's scripted expert on the states that each policy visits.

    python benchmarks/visited_states.py --task peg-insert-side --policies base=runs/bc long=runs/il/last.ckpt

A policy can be accurate on the expert's states and fail on its own. For each policy, the expert and then the policy
itself drive the simulator from the same initial states, and at each step both are asked for an action. The table gives
the mean signed difference of each action component, with its standard error over episodes, and the root mean square
over steps and components, separately before the expert closes the gripper and from then on.
"""

import argparse
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from difftori_pl import load_policy
from difftori_pl.envs import MetaWorld
from difftori_pl.envs.metaworld_env import MetaWorldEnv, find_task, import_metaworld

COMPONENTS = ("x", "y", "z", "gripper")
PHASES = ("open", "closed")

Differences = npt.NDArray[np.float64]


def episode(env: MetaWorldEnv, expert: Any, policy: Any, seed: int, expert_drives: bool) -> tuple[bool, Differences]:
    """Run an episode.

    Returns:
        whether it succeeded, and (T, 5): the policy's action minus the expert's (4,), and whether the expert's
        gripper command is positive.
    """
    observation, _ = env.reset(seed=seed)
    policy.reset()
    rows: list[npt.NDArray[np.float64]] = []
    done = success = False
    while not done:
        with warnings.catch_warnings():
            # Experts command actions beyond 1 on purpose and warn about each.
            warnings.simplefilter("ignore")
            wanted = np.clip(expert.get_action(observation["state"].astype(np.float64)), -1.0, 1.0)
        action = np.clip(policy.act(observation), -1.0, 1.0)
        rows.append(np.append(action - wanted, wanted[3] > 0))
        observation, _, success, truncated, _ = env.step((wanted if expert_drives else action).astype(np.float32))
        done = success or truncated
    return success, np.array(rows)


def row(name: str, driver: str, episodes: Sequence[tuple[bool, Differences]]) -> list[str]:
    """Format one row of the table for each phase."""
    solved = sum(success for success, _ in episodes)
    lines = []
    for number, phase in enumerate(PHASES):
        parts = [steps[steps[:, 4] == number, :4] for _, steps in episodes]
        means = np.array([part.mean(0) for part in parts if len(part)])
        if not len(means):
            continue
        error = means.std(0, ddof=1) / np.sqrt(len(means)) if len(means) > 1 else np.full(4, np.nan)
        cells = [f"{mean:+.3f} ± {spread:.3f}" for mean, spread in zip(means.mean(0), error, strict=True)]
        rms = np.sqrt(np.mean(np.concatenate(parts) ** 2))
        lines.append(f"| {name} | {driver} | {solved}/{len(episodes)} | {phase} | {' | '.join(cells)} | {rms:.3f} |")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="peg-insert-side", help="name of the task without -v3")
    parser.add_argument("--policies", nargs="+", required=True, help="NAME=checkpoint or run folder")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--first_seed", type=int, default=300_000, help="seed of the first initial state")
    options = parser.parse_args()
    task = f"{options.task}-v3"
    env = MetaWorld(task, ["state"])()
    expert = find_task(import_metaworld("metaworld.policies").ENV_POLICY_MAP, task)()
    seeds = range(options.first_seed, options.first_seed + options.episodes)
    print(f"| policy | driver | solved | gripper | {' | '.join(COMPONENTS)} | rms |")
    print("|---|---|---|---|" + "---|" * (len(COMPONENTS) + 1))
    for words in options.policies:
        name, _, checkpoint = words.partition("=")
        policy = load_policy(checkpoint)
        for driver in ("expert", "policy"):
            runs = [episode(env, expert, policy, seed, driver == "expert") for seed in seeds]
            print("\n".join(row(name, driver, runs)), flush=True)


if __name__ == "__main__":
    main()
