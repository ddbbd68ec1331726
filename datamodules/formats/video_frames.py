"""Frames of a video file at given times, decoded with PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError


@dataclass(frozen=True)
class VideoFacts:
    """Facts about a video.

    Attributes:
        codec: name of the codec, e.g. "av1".
        fps: mean frames per second; 0 if the file does not state it.
        shape: height and width in pixels.
        n_frames: number of frames; 0 if the file does not state it.
    """

    codec: str
    fps: float
    shape: tuple[int, int]
    n_frames: int


def probe(path: Path) -> VideoFacts:
    """Describe a video and decode its first frame.

    Raises:
        DataError: the file cannot be opened or decoded.
    """
    av = _av()
    codec = "unknown"
    try:
        with av.open(str(path)) as container:
            stream = _stream(container, path)
            # PyAV makes no codec context if FFmpeg has no decoder.
            codec = "unknown" if stream.codec_context is None else stream.codec_context.name
            frame = next(container.decode(stream))
            rate = float(stream.average_rate or 0.0)
            return VideoFacts(codec, rate, (frame.height, frame.width), int(stream.frames))
    except (av.error.FFmpegError, StopIteration, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: expected a video that FFmpeg can decode, got codec {codec} ({_reason(error)}). Copy it again, or "
            "encode it with H.264 or AV1."
        ) from error


def frames_at(path: Path, times: npt.NDArray[np.float64], tolerance: float) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the frame nearest to each time, (height, width, 3), RGB.

    Args:
        path: the video.
        times: seconds (N,), in increasing order.
        tolerance: largest allowed distance of a frame from its time, in seconds.

    Raises:
        DataError: the video cannot be decoded, or has no frame near a time.
    """
    if len(times) == 0:
        return
    av = _av()
    try:
        with av.open(str(path)) as container:
            yield from _nearest(container, path, times, tolerance)
    except (av.error.FFmpegError, AttributeError) as error:
        raise DataError(
            f"{path}: the video cannot be decoded ({_reason(error)}). Copy it again, or encode it with H.264 or AV1."
        ) from error


def _nearest(
    container: Any, path: Path, times: npt.NDArray[np.float64], tolerance: float
) -> Iterator[npt.NDArray[np.uint8]]:
    stream = _stream(container, path)
    stream.thread_type = "AUTO"
    start = max(float(times[0]) - tolerance, 0.0)
    if start > 0.0:
        container.seek(int(start / stream.time_base), stream=stream)
    frames = container.decode(stream)
    before, after = None, next(frames, None)
    if start > 0.0 and (after is None or after.time > times[0] + tolerance):
        # The index of the video is wrong: decode from its start.
        container.seek(0, stream=stream)
        frames = container.decode(stream)
        after = next(frames, None)
    for time in times:
        while after is not None and after.time < time:
            before, after = after, next(frames, None)
        found = min((f for f in (before, after) if f is not None), key=lambda f: abs(f.time - time), default=None)
        if found is None or abs(found.time - time) > tolerance:
            nearest = "none" if found is None else f"the nearest at {found.time:.4f} s"
            raise DataError(
                f"{path}: expected a frame at {time:.4f} s, found {nearest}. The video is cut short or has another "
                "frame rate: copy or record it again."
            )
        yield found.to_ndarray(format="rgb24")


def _stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise DataError(f"{path}: expected a video stream, found none. Copy it again.")
    return container.streams.video[0]


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise DataError("Reading videos needs PyAV: pip install 'difftori-pl[lerobot]'.") from error
    return av
