"""A writer of small LeRobot data sets in the layouts that lerobot writes."""

import io
import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

FIXTURES = Path(__file__).parent / "fixtures/lerobot"
"""Data sets that lerobot itself wrote; see the README there."""


def write_lerobot(
    folder: Path,
    version: str = "v3.0",
    lengths: Sequence[int] = (9, 12, 7),
    videos: Mapping[str, tuple[int, int]] | None = None,
    pictures: Mapping[str, tuple[int, int]] | None = None,
    vectors: Mapping[str, tuple[str, int]] | None = None,
    action_dim: int = 3,
    fps: int = 10,
    tasks: Sequence[str] = ("push", "pull"),
    jitter: float = 0.0,
    codec: str = "libx264",
) -> dict[str, np.ndarray]:
    """Write a data set; episode i has the task i modulo the number of tasks.

    Args:
        folder: the new folder.
        version: "v2.1" (one file per episode) or "v3.0" (all episodes in one file).
        lengths: number of steps of each episode.
        videos: height and width of each camera that is stored as a video, by its name.
        pictures: height and width of each camera that is stored as PNG in the parquet file.
        vectors: type and size of further observations; size 1 is stored as a scalar.
        action_dim: size of an action; actions are in degrees, from -90 to 90.
        fps: steps per second.
        tasks: the task strings.
        jitter: largest shift of a time stamp, in seconds.
        codec: the encoder of the videos.

    Returns:
        The numbers and images of all episodes by LeRobot's name, (steps, ...). A frame of a video is a plain colour,
        so that lossy compression keeps it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    random = np.random.default_rng(0)
    n_steps = sum(lengths)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    one_file = version.startswith("v3")
    vectors = {"state": ("float32", action_dim)} if vectors is None else vectors
    features: dict[str, Any] = {"action": {"dtype": "float32", "shape": [action_dim], "names": None}}
    values: dict[str, np.ndarray] = {"action": random.uniform(-90, 90, (n_steps, action_dim)).astype(np.float32)}
    for name, (dtype, size) in vectors.items():
        features[f"observation.{name}"] = {"dtype": dtype, "shape": [size], "names": None}
        numbers = random.uniform(-90, 90, (n_steps, size))
        values[f"observation.{name}"] = numbers > 0 if dtype == "bool" else numbers.astype(dtype)
    for dtype, cameras in (("video", videos), ("image", pictures)):
        for name, (height, width) in (cameras or {}).items():
            full = f"observation.images.{name}"
            features[full] = {"dtype": dtype, "shape": [height, width, 3], "names": ["height", "width", "channels"]}
            shape = (n_steps, 1, 1, 3) if dtype == "video" else (n_steps, height, width, 3)
            pixels = random.integers(0, 256, shape, dtype=np.uint8)
            values[full] = np.broadcast_to(pixels, (n_steps, height, width, 3))
    steps = np.concatenate([np.arange(length) for length in lengths])
    episodes = np.repeat(np.arange(len(lengths)), lengths)
    values["timestamp"] = (steps / fps + random.uniform(-jitter, jitter, n_steps) * (steps > 0)).astype(np.float32)
    values |= {"frame_index": steps, "episode_index": episodes, "index": np.arange(n_steps)}
    values["task_index"] = episodes % len(tasks)
    for name in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        features[name] = {"dtype": str(values[name].dtype), "shape": [1], "names": None}

    def png(image: np.ndarray) -> dict[str, Any]:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        return {"bytes": stream.getvalue(), "path": None}

    def column(name: str, part: slice) -> Any:
        numbers = values[name][part]
        if features[name]["dtype"] == "image":
            return pa.array([png(image) for image in numbers])
        if numbers.ndim == 1 or numbers.shape[1] == 1:
            return pa.array(numbers.reshape(-1))
        flat = pa.array(np.ascontiguousarray(numbers).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, numbers.shape[1])

    stored = [name for name, feature in features.items() if feature["dtype"] != "video"]
    spans = [slice(0, n_steps)] if one_file else [slice(a, b) for a, b in zip(starts, ends, strict=True)]
    info = {
        "codebase_version": version,
        "fps": fps,
        "total_episodes": len(lengths),
        "total_frames": n_steps,
        "features": features,
        "chunks_size": 1000,
    }
    if one_file:
        info["data_path"] = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        info["video_path"] = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    else:
        info["data_path"] = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
        info["video_path"] = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    write_json(folder / "meta/info.json", info)
    for number, span in enumerate(spans):
        numbers = {"chunk_index": 0, "file_index": number, "episode_chunk": 0, "episode_index": number}
        path = folder / info["data_path"].format(**numbers)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Small row groups, so that episodes cross their borders.
        pq.write_table(pa.table({name: column(name, span) for name in stored}), path, row_group_size=5)
        for name in (name for name, feature in features.items() if feature["dtype"] == "video"):
            path = folder / info["video_path"].format(**numbers, video_key=name)
            write_video(path, values[name][span], fps, codec)
    named = [[tasks[i % len(tasks)]] for i in range(len(lengths))]
    statistics = {name: {"count": [n_steps]} for name in features}
    if one_file:
        rows: dict[str, Any] = {"episode_index": list(range(len(lengths))), "tasks": named, "length": list(lengths)}
        zeros = [0] * len(lengths)
        rows |= {"data/chunk_index": zeros, "data/file_index": zeros}
        for name in (name for name, feature in features.items() if feature["dtype"] == "video"):
            rows |= {f"videos/{name}/chunk_index": zeros, f"videos/{name}/file_index": zeros}
            rows[f"videos/{name}/from_timestamp"] = [float(start) / fps for start in starts]
        (folder / "meta/episodes/chunk-000").mkdir(parents=True)
        pq.write_table(pa.table(rows), folder / "meta/episodes/chunk-000/file-000.parquet")
        pq.write_table(
            pa.table({"task_index": range(len(tasks)), "__index_level_0__": list(tasks)}), folder / "meta/tasks.parquet"
        )
        write_json(folder / "meta/stats.json", statistics)
    else:
        write_lines(
            folder / "meta/episodes.jsonl",
            [{"episode_index": i, "tasks": named[i], "length": length} for i, length in enumerate(lengths)],
        )
        write_lines(folder / "meta/tasks.jsonl", [{"task_index": i, "task": task} for i, task in enumerate(tasks)])
        write_lines(
            folder / "meta/episodes_stats.jsonl",
            [{"episode_index": i, "stats": statistics} for i in range(len(lengths))],
        )
    return values


def write_video(path: Path, frames: np.ndarray, fps: int, codec: str = "libx264") -> None:
    """Write frames (T, height, width, 3) with a key frame every two frames, as lerobot does."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.gop_size = 2
        stream.codec_context.time_base = Fraction(1, fps)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts = number
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_lines(path: Path, rows: Sequence[Any]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
