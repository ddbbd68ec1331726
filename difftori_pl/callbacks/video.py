"""Films of episodes: mp4 files, and moving pictures in TensorBoard."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

Frames = Sequence[np.ndarray[Any, Any]]
"""Pictures (height, width, 3), uint8, height and width divisible by 16."""

GIF_EVERY = 4
"""Of an episode's frames, TensorBoard gets every so many-th: it keeps films in memory."""


def save_mp4(path: Path, frames: Frames, fps: int) -> None:
    """Write frames as H.264, `fps` a second."""
    imageio.imwrite(path, np.stack(frames), fps=fps, codec="libx264")


def log_gif(writer: SummaryWriter, tag: str, frames: Frames, fps: int, step: int) -> None:
    """Show frames in TensorBoard's image tab.

    `SummaryWriter.add_video` would do, were it not for its need of moviepy.
    """
    film = np.stack(frames[::GIF_EVERY])[:, ::2, ::2]
    encoded = imageio.imwrite("<bytes>", film, extension=".gif", duration=1000 * GIF_EVERY / fps, loop=0)
    height, width = film.shape[1:3]
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)
    file_writer = writer._get_file_writer()  # type: ignore[no-untyped-call]
    file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)
