"""The configurations of the package and of the user: find, read and combine YAML files."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from difftori_pl.errors import ConfigurationError, UsageError

SHIPPED_CONFIGS = Path(__file__).parents[1] / "configs"
"""Folder of the package's configurations; in a checkout, a link to the folder `configs`."""

_CONFIG_OPTIONS = ("--config", "-c")


def find_config(name: str) -> str:
    """Return the path of a configuration: an existing file, else the package's file of that name, else `name`.

    Paths inside a configuration are relative to its folder while it is read.

    Raises:
        UsageError: a mapping in the file has a key twice.
        ConfigurationError: the file cannot be read, or is not YAML.
    """
    shipped = SHIPPED_CONFIGS / name
    if shipped.suffix not in (".yaml", ".yml"):
        return name
    if own := _existing(name):
        read_yaml(own)  # the parser would merge keys that are given twice
        return name
    return str(shipped) if shipped.is_file() else name


def find_fragments(content: Any) -> Any:
    """Return the content of a configuration with the names of other configurations replaced by their paths."""
    if isinstance(content, dict):
        return {key: find_fragments(value) for key, value in content.items()}
    if isinstance(content, list):
        return [find_fragments(value) for value in content]
    return find_config(content) if isinstance(content, str) else content


def find_configs(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the names of configurations replaced by paths, each after its templates."""
    found: list[str] = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if argument.startswith("-") and equals:
            name, value = option, find_config(value)
        else:
            # The value of "--config" may be a separate argument. Other arguments are replaced by a path if they name a
            # configuration.
            name, value = (found.pop() if found and found[-1] in _CONFIG_OPTIONS else ""), find_config(argument)
        if name in _CONFIG_OPTIONS:
            found += [f"{name}={path}" for path in with_templates(Path(value))]
        else:
            found.append(f"{name}={value}" if name else value)
    return found


def with_templates(path: Path) -> Iterator[Path]:
    """Yield the configurations under the key `template`, in order and recursively, and then the configuration.

    Raises:
        UsageError: there is no such configuration, nor is its name an address or a mapping in YAML.
    """
    if not path.exists():
        if path.suffix in (".yaml", ".yml") and ":/" not in str(path):
            raise UsageError(missing_configuration(str(path)))
        yield path
        return
    templates = read_options(path).get("template") or ()
    for template in (templates,) if isinstance(templates, str) else templates:
        neighbour = path.parent / template
        yield from with_templates(neighbour if neighbour.exists() else Path(find_config(template)))
    yield path


def missing_configuration(name: str, folder: str = "") -> str:
    """Return a message about a configuration that does not exist, with the nearest name.

    Args:
        name: the name as the user gave it.
        folder: subfolder of the shipped configurations that has files of the kind that was expected, if it exists.
    """
    shipped = [str(path.relative_to(SHIPPED_CONFIGS)) for path in sorted(SHIPPED_CONFIGS.rglob("*.yaml"))]
    here = [str(path) for path in sorted(Path.cwd().glob("*.yaml"))]
    names = [*shipped, *(Path(path).name for path in here)]
    near = get_close_matches(name, names, n=1, cutoff=0.7) or [
        path for path in names if get_close_matches(Path(name).name, [Path(path).name], n=1, cutoff=0.8)
    ]
    advice = f"; did you mean {near[0]}?" if near else ""
    if not near and (of_kind := [path for path in shipped if path.startswith(f"{folder}/")]):
        advice = f"; choose one of {', '.join(of_kind[:3])}, ..."
    return f"{name}: no such configuration here or among the shipped ones{advice}"


def read_options(path: Path) -> dict[str, Any]:
    """Read a configuration.

    Raises:
        UsageError: a mapping in the file has a key twice.
        ConfigurationError: the file cannot be read, is not YAML, or is not a mapping of options.
    """
    content = read_yaml(path)
    if content is not None and not isinstance(content, dict):
        raise ConfigurationError(f"{path}: expected a mapping of options, got a {type(content).__name__}")
    return content or {}


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        UsageError: a mapping in the file has a key twice.
        ConfigurationError: the file cannot be read, or is not YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except _RepeatedKey as error:
        raise UsageError(f"{path}, {error}") from error
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            f"{path}, line {line}: expected UTF-8, got {error.reason}: save it as UTF-8"
        ) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigurationError(
            f"{path}, line {line}: not valid YAML: {error.problem} (indent with spaces, not tabs)"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from error


class _RepeatedKey(Exception):
    """A mapping has a key twice."""


class _UniqueKeys(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """A loader that refuses a key that is given twice, of which PyYAML takes the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping, before the keys that `<<` merges are added to it.

        Raises:
            _RepeatedKey: a key is given twice.
        """
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, Any], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in lines:
                raise _RepeatedKey(f"line {line}: expected each key once, got {key.value!r} also in line {lines[name]}")
            lines[name] = line
        return node


def _existing(name: str) -> Path | None:
    """Return the path of an existing file, as the user gave it if it is relative to the current folder."""
    from jsonargparse.typing import Path_fr  # relative to the configuration that jsonargparse reads

    try:
        found = Path(Path_fr(name).absolute)
    except TypeError:
        return None
    return Path(name) if Path(name).absolute() == found else found
