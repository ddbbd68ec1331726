"""Commands besides training and evaluation, one file per command group, imported when the command is run."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Command:
    """A command, or a group of commands, in the file of its name.

    Attributes:
        summary: description in the list of all commands.
        functions: name of the command in the group -> function; the arguments are parsed from its signature. A command
            that is no group has one function, with an empty name.
    """

    summary: str
    functions: Mapping[str, str]

    def load(self, name: str, word: str = "") -> Any:
        """Import the function of the command `name`, or the functions of the group, or only that of its command `word`.

        Returns:
            The function, or a dictionary of functions.
        """
        module = import_module(f"{__name__}.{name}")
        chosen = {word: self.functions[word]} if word in self.functions else self.functions
        found = {key: getattr(module, function) for key, function in chosen.items()}
        return found.get("", found)


COMMANDS = {
    "checkpoint": Command("show the content of a checkpoint", {"show": "show_checkpoint"}),
    "data": Command(
        "check, convert and render demonstration files",
        {
            "absolute": "absolute_data",
            "check": "check_data",
            "convert": "convert_data",
            "render": "render_data",
            "sums": "sum_data",
        },
    ),
    "demos": Command(
        "record demonstrations of scripted experts",
        {
            "square": "record_square",
            "lift": "record_lift",
            "maniskill": "plan_maniskill",
            "metaworld": "record_metaworld",
        },
    ),
    "export": Command("write a policy as a program (torch.export, ONNX)", {"": "export_policy"}),
    "plot": Command("draw the objective that a policy optimises", {"landscape": "plot_landscape"}),
    "share": Command("write a policy as a folder for others to load", {"": "share_policy"}),
    "table": Command("print the paper's tables with your results", {"": "print_table"}),
}
"""The commands by their names, which are also the names of their files."""
