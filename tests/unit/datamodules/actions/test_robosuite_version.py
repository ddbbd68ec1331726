"""The generation of robosuite is read from `env_version`, or else from the kind of controller settings."""

from typing import Any

import pytest

from datamodules.actions.robosuite_version import generation, recorded_generation

OLD, NEW = {"type": "OSC_POSE"}, {"type": "BASIC", "body_parts": {"right": {"type": "OSC_POSE"}}}


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.2.0", "1.4"), ("1.4.1", "1.4"), ("0.3", "1.4"), ("1.5.2", "1.5"), ("1.10.0", "1.10"), ("2.0.0.dev1", "2.0")],
)
def test_versions_before_1_5_are_one_generation(version: str, expected: str) -> None:
    assert generation(version) == expected


def test_a_version_without_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'master'"):
        generation("master")


@pytest.mark.parametrize(
    ("env_args", "expected"),
    [
        ({"type": 1, "env_version": "1.5.1"}, "1.5"),
        ({"type": 1, "env_version": "1.4.1", "controllers": OLD}, "1.4"),
        ({"env_version": "1.5.1", "controllers": NEW}, "1.5"),
        # without a version, or with one that is not a number
        ({"type": 1, "controllers": OLD}, "1.4"),
        ({"type": 1, "controllers": NEW}, "1.5"),
        ({"type": 1, "controllers": [NEW, NEW]}, "1.5"),
        ({"type": 1, "env_version": "master", "controllers": NEW}, "1.5"),
        ({"controllers": OLD}, "1.4"),
        # neither
        ({"type": 1}, None),
        ({"type": 1, "controllers": []}, None),
        # another simulator
        ({"type": 2, "env_version": "3.0.0", "controllers": OLD}, None),
        ({"env_version": "1.5.1"}, None),
    ],
)
def test_the_generation_of_a_file(env_args: dict[str, Any], expected: str | None) -> None:
    found = {name: value for name, value in env_args.items() if name != "controllers"}
    kwargs = {"controller_configs": env_args["controllers"]} if "controllers" in env_args else {}
    assert recorded_generation({**found, "env_name": "Lift", "env_kwargs": kwargs}) == expected


def test_a_file_without_env_args_has_no_generation() -> None:
    assert recorded_generation({}) is None
