"""Where the user gave an option: on the command line or in a configuration."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difftori_pl.arguments.configurations import read_options


@dataclass(frozen=True)
class Given:
    """An option as the user gave it.

    Attributes:
        option: name of the option: `--data.path` on the command line, `data.path` in a file.
        value: the value; None if it is unknown.
        file: the configuration that gives it; empty for the command line.
    """

    option: str
    value: Any = None
    file: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.option}" if self.file else self.option


def find_given(path: Sequence[str], arguments: Sequence[str]) -> Given:
    """Find the option with these names: the last one of the command line, else of the configurations."""
    name = f"--{'.'.join(path)}"
    given = [value for option, value in _options(arguments) if option.replace(".init_args.", ".") == name]
    if given:
        return Given(name, given[-1])
    files = [Path(value) for option, value in _options(arguments) if value and option in ("-c", "--config")]
    for file in reversed(files):
        found, value = _look_up(read_options(file), path) if file.is_file() else (False, None)
        if found:
            return Given(name.removeprefix("--"), value, str(file))
    return Given(name)


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    for word, following in zip(arguments, [*arguments[1:], None], strict=True):
        if word.startswith("-"):
            option, equals, value = word.partition("=")
            yield option, value if equals else following


def _look_up(content: Any, path: Sequence[str]) -> tuple[bool, Any]:
    for name in path:
        if isinstance(content, dict) and name not in content and "init_args" in content:
            content = content["init_args"]
        if not isinstance(content, dict) or name not in content:
            return False, None
        content = content[name]
    return True, content.get("class_path", content) if isinstance(content, dict) else content
