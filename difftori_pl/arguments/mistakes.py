"""Turn the messages of the argument parser about a mistake into one line.

jsonargparse describes a mistake once for each part around the option and for each type that the option may have, in
nested lines. The innermost lines say what is wrong, and the lines around them give the name of the option.
"""

import re
from ast import literal_eval
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from difftori_pl.arguments.configurations import missing_configuration
from difftori_pl.arguments.given import Given, find_given
from difftori_pl.arguments.nearest import class_names, classes_in, did_you_mean, nearest_of, options_of
from difftori_pl.errors import UsageError


class ShortErrors(ArgumentParser):
    """Argument parser that raises a `UsageError` of one line where jsonargparse prints its usage and exits."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the error; parsers of parts, which do not exit, keep jsonargparse's message for the outer parser.

        Raises:
            UsageError: always, except in the parser of a part.
        """
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        program = parser.prog.replace(" [options]", "")
        raise UsageError(describe(message, options_of(parser), getattr(self, "args", None) or [], program)) from ex


@dataclass(frozen=True)
class Fault:
    """One innermost line of a message.

    Attributes:
        path: names of the option and the parts around it.
        owner: import path of the class that has the option; empty for an option of the command itself.
        text: the line.
    """

    path: tuple[str, ...]
    owner: str
    text: str


def describe(message: str, options: dict[str, Any], arguments: Sequence[str], program: str) -> str:
    """Return one line that says which option is wrong, what was expected, and the nearest name.

    Args:
        message: jsonargparse's message.
        options: the options of the command, name -> type.
        arguments: the arguments after the name of the command.
        program: name of the program and of the command, for the advice.
    """
    for pattern, explain in _WHOLE.items():
        if found := re.match(pattern, message):
            return explain(found, options, arguments, program)
    faults = list(read_faults(message))
    if help_of_class := re.match(
        r"--(\S+)\.help: (.+)", message
    ):  # the parser looks up the class to describe its options
        faults = [Fault((help_of_class[1],), "", help_of_class[2])]
    if not faults:
        return " ".join(message.split())[:300]
    depth = max(len(fault.path) for fault in faults)
    deepest = [fault for fault in faults if len(fault.path) == depth]
    first = next((fault for fault in deepest if _UNKNOWN.match(fault.text)), deepest[0])
    if unknown := _UNKNOWN.match(first.text):
        name = unknown[1]
        known = options_of(first.owner) if first.owner else options
        return _no_such_option(find_given(first.path, arguments), name, known, first.owner)
    return _wrong_value(deepest, options, arguments)


def read_faults(message: str) -> Iterator[Fault]:
    """Yield the innermost lines of a message with the option that each of them is about."""
    around: list[tuple[int, str, str]] = []  # indentation, name of the option, class
    for line in filter(str.strip, message.splitlines()):
        text = line.lstrip(" -")
        indentation = len(line) - len(text)
        while around and around[-1][0] >= indentation:
            around.pop()
        if callable_class := re.match(r"Type .*? expects a function or a callable class: (.*)", text):
            owner = re.search(r"Got value: Namespace\(class_path='([^']+)'", text)
            text = re.sub(r"\. Got value: Namespace\(.*", "", callable_class[1])
            around.append((indentation, "", owner[1] if owner else ""))
        if part := re.match(r'Parser key "([^"]+)":\s*(.*)', text):
            around.append((indentation, part[1], ""))
            text = part[2]
        if part := re.match(r"Problem with given class_path '([^']+)':", text):
            around.append((indentation, "", part[1]))
            text = ""
        if any(re.match(pattern, text) for pattern in _INNERMOST):
            path = [name for _, key, _ in around for name in key.split(".") if name]
            owner_of = [(number, owner) for number, (_, _, owner) in enumerate(around) if owner]
            if unknown := _UNKNOWN.match(text):
                path += unknown[1].split(".")
                own = [key for _, key, _ in around[owner_of[-1][0] :] if key] if owner_of else []
                yield Fault(tuple(path), owner_of[-1][1] if owner_of and not own else "", text)
            else:
                yield Fault(tuple(path), owner_of[-1][1] if owner_of else "", text)


_UNKNOWN = re.compile(r"Option '([^']+)' is not accepted$")
_NO_PATH = re.compile(r"Expected a path but (.*) either not accessible or invalid")
_TYPE = re.compile(r"Expected a (<class '[^']+'>|typing\.\S.*?|collections\.\S.*?)(?:\. Got value: .*)?$")
_CLASS = re.compile(
    r"Expected a dot import path|Expected an import path|Unexpected import path|Import path |Not a valid subclass|"
    r"No module named|module '.*' has no attribute|Expected an instantiatable class"
)
_OTHER = re.compile(r"Expected (?!a path)|Config file loop|File |Invalid |Key |Missing |Unexpected |Unable ")
_INNERMOST = (_UNKNOWN, _NO_PATH, _TYPE, _CLASS, _OTHER)


def _no_such_option(given: Given, name: str, known: dict[str, Any], owner: str) -> str:
    *around, _ = given.option.split(".")
    near = nearest_of(name, known)
    if near:
        return f"{given}: no such option; did you mean {'.'.join([*around, near]) if around else near}?"
    listed = ", ".join([key for key in known if "." not in key][:12])
    return f"{given}: no such option" + (f"; {owner.rpartition('.')[2]} has {listed}" if owner and listed else "")


def _wrong_value(faults: Sequence[Fault], options: dict[str, Any], arguments: Sequence[str]) -> str:
    given = find_given(faults[0].path, arguments)
    files = [found[1] for fault in faults if (found := _NO_PATH.match(fault.text))]
    if files and files[0].endswith((".yaml", ".yml")):
        return f"{given}: {missing_configuration(files[0], given.option.rpartition('.')[2])}"
    known = options_of(faults[0].owner) if faults[0].owner else options
    name = faults[0].path[-1] if faults[0].owner else ".".join(faults[0].path)
    parts = classes_in(known.get(name))
    got = given.value if given.value is not None else _got(faults)
    got = f", got {got!r}" if got is not None else ""
    expected = " or ".join(f"{'an' if part.__name__[0] in 'AEIO' else 'a'} {part.__name__}" for part in parts)
    if any(
        fault.text.startswith("Config file loop") for fault in faults
    ):  # it takes a mapping without class for a path
        return f"{given}: expected {expected or 'a part'} with a class_path in the file{got}"
    if parts and any(_CLASS.match(fault.text) for fault in faults):
        wanted = str(given.value)
        return f"{given}: expected {expected}{got}{did_you_mean(wanted, class_names(parts, wanted))}"
    types = [found[1] for fault in faults if (found := _TYPE.match(fault.text))]
    if not types:
        return f"{given}: {' '.join(faults[-1].text.split())}"
    choices = [choice for kind in types for choice in _choices(kind)]
    words = list(dict.fromkeys(_WORDS.get(kind, kind) for kind in types if not _choices(kind)))
    if choices:
        words.insert(0, f"one of {', '.join(map(str, choices))}")
    near = nearest_of(str(given.value), map(str, choices))
    return f"{given}: expected {' or '.join(words)}{got}" + (f"; did you mean {near}?" if near else "")


_WORDS = {
    "<class 'int'>": "an integer",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "text",
    "<class 'NoneType'>": "null",
    "<class 'list'>": "a list, such as [a, b]",
    "<class 'tuple'>": "a list, such as [a, b]",
    "<class 'collections.abc.Sequence'>": "a list, such as [a, b]",
    "<class 'collections.abc.Iterable'>": "a list, such as [a, b]",
    "<class 'dict'>": "a mapping, such as {a: 1}",
    "<class 'collections.abc.Mapping'>": "a mapping, such as {a: 1}",
    "<class 'pathlib.Path'>": "a path",
}


def _choices(kind: str) -> tuple[Any, ...]:
    found = re.match(r"typing\.Literal(\[.*\])$", kind)
    return tuple(literal_eval(found[1])) if found else ()


def _got(faults: Sequence[Fault]) -> str | None:
    found = (re.search(r"Got value: (.*)", fault.text) for fault in faults)
    return next((match[1] for match in found if match), None)


Explain = Callable[["re.Match[str]", dict[str, Any], Sequence[str], str], str]


def _unrecognised(found: "re.Match[str]", options: dict[str, Any], arguments: Sequence[str], program: str) -> str:
    word = found[1].split()[0]
    option, _, _ = word.partition("=")
    if not option.startswith("-"):
        return f"{option}: expected an option that begins with --, got {option!r}; see `{program} --help`"
    return _unknown_in_command(find_given(option.lstrip("-").split("."), arguments), options, program)


def _unknown_in_command(given: Given, options: dict[str, Any], program: str) -> str:
    dashes = "--" if given.option.startswith("-") else ""
    name = given.option.lstrip("-")
    near = nearest_of(name, options)
    if near is None:
        section, _, rest = name.partition(".")
        near = nearest_of(section, {key.partition(".")[0]: None for key in options})
        near = f"{near}.{rest}" if near and rest else near
    if near is None or near == name:
        return f"{given}: no such option; see `{program} --help`"
    return f"{given}: no such option; did you mean {dashes}{near}?"


def _no_value(found: "re.Match[str]", options: dict[str, Any], arguments: Sequence[str], program: str) -> str:
    # The parser names the part, not its option.
    options_given = [word for word in arguments if word.startswith("-")]
    asked = found[1].rpartition("/")[2]
    following = dict(zip(arguments, [*arguments[1:], "--"], strict=True))
    empty = [word for word in options_given if "=" not in word and following[word].startswith("-")]
    name = next((word for word in empty if word == asked or word.startswith(f"{asked}.")), asked)
    return f"{name}: expected a value, got none"


def _missing(found: "re.Match[str]", options: dict[str, Any], arguments: Sequence[str], program: str) -> str:
    *command, name = found[1].split(",")[0].split(".")
    if name == "model":
        return f"--config: expected a configuration, got none: `{program.split()[0]} fit --config il_square.yaml`"
    return f"{name}: expected a value, got none; see `{' '.join([program, *command])} --help`"


def _no_such_command(found: "re.Match[str]", options: dict[str, Any], arguments: Sequence[str], program: str) -> str:
    known = re.findall(r"'([^']+)'", found[2]) or [name.strip() for name in found[2].split(",")]
    return (
        f"{found[1]}: no such command; did you mean {nearest_of(found[1], dict.fromkeys(known)) or ' or '.join(known)}?"
    )


_WHOLE: dict[str, Explain] = {
    r"unrecognized arguments: (.+)": _unrecognised,
    r"Subcommand '[^']+' does not accept option '([^']+)'": lambda found, options, arguments, program: (
        _unknown_in_command(find_given(found[1].split("."), arguments), options, program)
    ),
    r"Group '([^']+)' does not accept option '([^']+)'": lambda found, options, arguments, program: _unknown_in_command(
        find_given([*found[1].split("."), *found[2].split(".")], arguments), options, program
    ),
    r"argument (\S+): expected one argument": _no_value,
    r"the following arguments are required: (.+)": _missing,
    r"argument subcommand: invalid choice: '(.+?)' \(choose from (.+)\)": _no_such_command,
}
"""Messages that are not nested, and the functions that describe them."""
