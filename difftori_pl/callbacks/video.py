"""Write videos of episodes as mp4 files and as animated images in TensorBoard."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

Frames = Sequence[np.ndarray[Any, Any]]
"""Images (height, width, 3), uint8, height and width divisible by 16."""

GIF_EVERY = 4
"""TensorBoard receives every `GIF_EVERY`-th frame of an episode, because it keeps images in memory."""


def save_mp4(path: Path, frames: Frames, fps: int) -> None:
    """Write frames as an H.264 video with `fps` frames per second."""
    imageio.imwrite(path, np.stack(frames), fps=fps, codec="libx264")


def log_gif(writer: SummaryWriter, tag: str, frames: Frames, fps: int, step: int) -> None:
    """Show frames in TensorBoard's image tab.

    `SummaryWriter.add_video` would need moviepy.
    """
    video = np.stack(frames[::GIF_EVERY])[:, ::2, ::2]
    encoded = imageio.imwrite("<bytes>", video, extension=".gif", duration=1000 * GIF_EVERY / fps, loop=0)
    height, width = video.shape[1:3]
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)
    file_writer = writer._get_file_writer()  # type: ignore[no-untyped-call]
    file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)
