"""Convert the content of checkpoints of earlier versions to the current layout."""

from collections.abc import Callable
from typing import Any

from difftori_pl.errors import CheckpointError

KEY = "difftori"
"""Key of the description in a checkpoint; see `difftori_pl.checkpoints.provenance`."""

SCHEMA = 2
"""Version of the layout of checkpoints, incremented with each change that older versions cannot read."""


def migrate(content: dict[str, Any], origin: str) -> dict[str, Any]:
    """Convert a checkpoint of an earlier version to the current schema, in place.

    Args:
        content: the checkpoint.
        origin: name of the checkpoint in error messages.

    Raises:
        CheckpointError: a later version wrote it.
    """
    record = content.get(KEY, {})
    schema = record.get("schema", 0) if isinstance(record, dict) else None
    if not isinstance(schema, int) or schema < 0:
        raise CheckpointError(
            f"expected the schema of {origin} as a number, got {schema!r}: the file is damaged, use another checkpoint"
        )
    if schema > SCHEMA:
        raise CheckpointError(
            f"expected a checkpoint of schema {SCHEMA} or lower, got schema {schema} in {origin}: "
            f"update difftori-pl to {record.get('package', 'a later version')}"
        )
    for step in _MIGRATIONS[schema:]:
        step(content)
    return content


def _add_description(content: dict[str, Any]) -> None:
    """Add the description that checkpoints of schema 0, from before the first release, lack."""
    content[KEY] = {"schema": 1}


def _specify(content: dict[str, Any]) -> None:
    """Convert the shapes of schema 1, where three dimensions meant an image and two a point cloud."""
    record = content[KEY]
    kinds, dtypes = {2: "point_cloud", 3: "image"}, {3: "uint8"}
    if "obs_shapes" in record:
        record["observations"] = {
            key: {
                "kind": kinds.get(len(shape), "vector"),
                "shape": tuple(shape),
                "dtype": dtypes.get(len(shape), "float32"),
            }
            for key, shape in record.pop("obs_shapes").items()
        }
    record["schema"] = 2


_MIGRATIONS: tuple[Callable[[dict[str, Any]], None], ...] = (_add_description, _specify)
"""Migration from each schema to the next."""
