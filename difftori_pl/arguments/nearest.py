"""The names that a user may have meant: of options, classes and functions."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from importlib import import_module
from pkgutil import resolve_name
from typing import Any, get_args, get_origin

from jsonargparse import ArgumentParser


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return a question that names the nearest of these names, after a semicolon, or a few of them if none is near."""
    near = nearest_of(name, known)
    if near:
        return f"; did you mean {near}?"
    listed = ", ".join(known[:_N_LISTED]) + (", ..." if len(known) > _N_LISTED else "")
    return f"; choose one of {listed}" if known else ""


_N_LISTED = 8


def nearest_of(name: str, known: Iterable[str]) -> str | None:
    """Return the most similar name, or None if none is similar; upper and lower case count as equal."""
    lower = {key.lower(): key for key in known}
    found = get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return lower[found[0]] if found else None


def options_of(part: ArgumentParser | str) -> dict[str, Any]:
    """Return name -> type of the options of a parser, or of the class or function with this import path."""
    if isinstance(part, str):
        parser = ArgumentParser(exit_on_error=False)
        try:
            component = resolve_name(part)
            add = parser.add_class_arguments if inspect.isclass(component) else parser.add_function_arguments
            add(component, fail_untyped=False, as_group=False)
        except Exception:  # only the advice is lost
            return {}
    else:
        parser = part
    actions = {action.dest: getattr(action, "_typehint", None) for action in parser._actions}
    return {name: kind for name, kind in actions.items() if name not in ("help", "subcommand")}


def classes_in(kind: Any) -> list[type]:
    """Return the classes that a type accepts as parts: not numbers, text, containers and tensors."""
    if inspect.isclass(kind) and get_origin(kind) is None:
        return [kind] if kind.__module__ not in _PLAIN else []
    arguments = get_args(kind)
    if arguments and isinstance(arguments[0], list):  # a function; what it returns is configured
        arguments = arguments[1:]
    return list(dict.fromkeys(part for argument in arguments for part in classes_in(argument)))


_PLAIN = {"builtins", "torch", "pathlib", "datetime", "typing", "collections.abc"}


def class_names(parts: Sequence[type], wanted: str) -> list[str]:
    """Return the names to choose from: concrete subclasses, and the content of the module that `wanted` names."""
    names = [kind.__name__ for part in parts for kind in _subclasses(part) if not inspect.isabstract(kind)]
    folder, dot, _ = wanted.rpartition(".")
    if dot:
        try:
            module = import_module(folder)
        except Exception:  # only the advice is lost
            return names
        found = {name: getattr(module, name, None) for name in dir(module) if not name.startswith("_")}
        return [f"{folder}.{name}" for name, value in found.items() if callable(value)]
    return names


def _subclasses(kind: type) -> Iterator[type]:
    yield kind
    subclasses: list[type] = kind.__subclasses__()
    for subclass in subclasses:
        yield from _subclasses(subclass)
