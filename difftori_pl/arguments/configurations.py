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
    """
    shipped = SHIPPED_CONFIGS / name
    if shipped.suffix not in (".yaml", ".yml") or not shipped.is_file() or _exists(name):
        return name
    return str(shipped)


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
        ConfigurationError: the file cannot be read, is not YAML, or is not a mapping of options.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
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
    if content is not None and not isinstance(content, dict):
        raise ConfigurationError(f"{path}: expected a mapping of options, got a {type(content).__name__}")
    return content or {}


def _exists(name: str) -> bool:
    from jsonargparse.typing import Path_fr  # relative to the configuration that jsonargparse reads

    try:
        Path_fr(name)
    except TypeError:
        return False
    return True
