import ctypes
import gc
import platform
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from datamodules import DataError, ReplayDataModule
from datamodules.replay.step_log import CHUNK_STEPS

ALPHA, BETA = 0.6, 0.4


def episode(number: int, n_steps: int, terminated: bool = False) -> tuple[dict[str, np.ndarray], ...]:
    """Return an episode whose observations contain the episode number and the step."""
    step = np.arange(n_steps + 1)
    obs = {"state": np.stack([np.full(n_steps + 1, number), step], axis=1).astype(np.float32)}
    return obs, 0.01 * step[:-1, None], 10.0 * number + step[:-1], terminated  # type: ignore[return-value]


def filled(lengths: list[int], **options: object) -> ReplayDataModule:
    torch.manual_seed(0)
    replay = ReplayDataModule(**{"horizon": 3, "batch_size": 8, "n_steps": 5000, **options})  # type: ignore[arg-type]
    for number, n_steps in enumerate(lengths):
        replay.add(*episode(number, n_steps))  # type: ignore[arg-type]
    return replay


def test_a_sequence_is_consecutive_and_complete() -> None:
    replay = filled([10, 7, 20], batch_size=20)
    for _ in range(20):
        batch = replay.sample()
        number, step = batch["obs"]["state"].unbind(-1)
        assert batch["obs"]["state"].shape == (20, 4, 2)
        assert (number == number[:, :1]).all()
        assert (step == step[:, :1] + torch.arange(4)).all()
        torch.testing.assert_close(batch["actions"], 0.01 * step[:, :-1, None])
        torch.testing.assert_close(batch["rewards"], 10 * number[:, :-1] + step[:, :-1])
        # The last H of T + 1 observations never start a sequence.
        assert (step[:, 0] <= torch.tensor([10, 7, 20])[number[:, 0].long()] - 3).all()


def test_only_the_last_step_of_a_terminated_episode_is_terminal() -> None:
    replay = filled([], batch_size=3)
    replay.add(*episode(0, 5, terminated=True))  # type: ignore[arg-type]
    batches = [replay.sample() for _ in range(10)]
    steps = torch.cat([batch["obs"]["state"][:, :-1, 1] for batch in batches])
    assert torch.equal(torch.cat([batch["terminated"] for batch in batches]), steps == 4)
    assert set(steps.flatten().tolist()) == {0, 1, 2, 3, 4}, "the last step is sampled"
    assert torch.equal(torch.from_numpy(replay._log.read(np.arange(6))["terminated"]), torch.arange(6) == 4)  # type: ignore[union-attr]


def test_samples_in_proportion_to_priorities() -> None:
    replay = filled([30, 30], batch_size=56)
    batch = replay.sample()
    starts = torch.tensor([*range(28), *range(31, 59)])
    errors = torch.rand(56, generator=torch.Generator().manual_seed(1)) + 0.05
    replay.update_priorities(starts, errors)
    counts, weights = np.zeros(62), np.zeros(62)
    for _ in range(300):
        batch = replay.sample()
        np.add.at(counts, batch["index"].numpy(), 1)
        ratio = batch["weights"] / batch["weights"].max()
        weights[batch["index"].numpy()] = ratio.numpy()
    probability = (errors.double().numpy() + 1e-6) ** ALPHA
    probability /= probability.sum()
    expected = np.zeros(62)
    expected[starts.numpy()] = probability * 300 * 56
    drawn = expected > 0
    assert counts[~drawn].sum() == 0
    assert stats.chisquare(counts[drawn], expected[drawn]).pvalue > 1e-3
    reference = (56 * probability) ** -BETA
    some = batch["index"].numpy()
    reference_of = dict(zip(starts.tolist(), reference, strict=True))
    expected_weights = np.array([reference_of[index] for index in some.tolist()])
    np.testing.assert_allclose(batch["weights"].numpy(), expected_weights / expected_weights.max(), rtol=1e-5)


def test_a_new_episode_has_the_highest_priority() -> None:
    replay = filled([10, 10])
    replay.update_priorities(torch.tensor([0, 1]), torch.tensor([9.0, 0.001]))
    replay.add(*episode(2, 10))  # type: ignore[arg-type]
    weights = replay._tree.weights  # type: ignore[union-attr]
    np.testing.assert_allclose(weights[22:30], (9.0 + 1e-6) ** ALPHA)
    assert weights[30:33].sum() == 0


def test_priorities_follow_their_steps_when_the_buffer_wraps_around() -> None:
    replay = filled([], n_steps=CHUNK_STEPS, batch_size=64)
    reference: dict[int, float] = {}
    rng = np.random.default_rng(0)
    for number in range(300):
        n_steps = int(rng.integers(20, 90))
        first = replay._log.end if replay._log else 0
        highest = max(reference.values(), default=1.0)
        replay.add(*episode(number, n_steps))  # type: ignore[arg-type]
        reference |= dict.fromkeys(range(first, first + n_steps - 2), highest)
        start = replay._log.start  # type: ignore[union-attr]
        reference = {step: weight for step, weight in reference.items() if step >= start}
        if number % 5 == 4:
            batch = replay.sample()
            errors = torch.from_numpy(rng.random(64)) * 3
            # If a batch contains a sequence twice, the last error applies.
            replay.update_priorities(batch["index"], errors)
            weights = (errors.float().double().numpy() + 1e-6) ** ALPHA
            reference |= dict(zip(batch["index"].tolist(), weights, strict=True))
    assert replay._log.end > 3 * replay._log.capacity / 2  # type: ignore[union-attr]
    tree, capacity = replay._tree, replay._log.capacity  # type: ignore[union-attr]
    expected_weights = np.zeros(capacity)
    for step, weight in reference.items():
        expected_weights[step % capacity] = weight
    np.testing.assert_allclose(tree.weights, expected_weights, rtol=1e-12)  # type: ignore[union-attr]
    number, step = replay.sample()["obs"]["state"].unbind(-1)
    assert (step == step[:, :1] + torch.arange(4)).all()
    assert (number == number[:, :1]).all()


def test_priorities_of_dropped_steps_are_ignored() -> None:
    replay = filled([3000, 3000, 3000, 3000], n_steps=CHUNK_STEPS)
    before = replay._tree.weights.copy()  # type: ignore[union-attr]
    replay.update_priorities(torch.tensor([5]), torch.tensor([100.0]))
    np.testing.assert_array_equal(replay._tree.weights, before)  # type: ignore[union-attr]


def test_frames_are_stacked_within_their_episode() -> None:
    replay = ReplayDataModule(horizon=3, batch_size=8, n_steps=100, n_frames=3)
    for number in range(3):
        n_steps = 8
        newest = 50 * number + np.arange(n_steps + 1)
        past = np.maximum(newest[:, None] - np.array([2, 1, 0]), 50 * number)
        stacks = np.repeat(past, 2, axis=1)[:, :, None, None] * np.ones((1, 1, 4, 4))
        zeros = np.zeros(n_steps)
        replay.add({"pixels": stacks.astype(np.uint8)}, zeros[:, None], zeros, False)
    assert replay._log.dtype["pixels"].shape == (2, 4, 4)  # type: ignore[union-attr]
    for _ in range(20):
        pixels = replay.sample()["obs"]["pixels"]
        assert pixels.shape == (8, 4, 6, 4, 4)
        assert pixels.dtype == torch.uint8
        frames = pixels[:, :, ::2, 0, 0].long()
        newest = frames[..., -1]
        expected = torch.maximum(newest[..., None] - torch.tensor([2, 1, 0]), newest[..., None] // 50 * 50)
        assert torch.equal(frames, expected)


def test_only_images_are_stacked() -> None:
    """Nine touch sensors of 4 by 4 cells have the shape of stacked frames."""
    replay = ReplayDataModule(horizon=3, batch_size=4, n_steps=100, n_frames=3, image_keys=["camera"])
    touch = np.random.default_rng(0).integers(0, 256, (9, 9, 4, 4), dtype=np.uint8)
    camera = np.repeat(np.arange(9, dtype=np.uint8), 9 * 16).reshape(9, 9, 4, 4)
    replay.add({"touch": touch, "camera": camera}, np.zeros((8, 1)), np.zeros(8), False)
    assert replay._log.dtype["touch"].shape == (9, 4, 4)  # type: ignore[union-attr]
    assert replay._log.dtype["camera"].shape == (3, 4, 4)  # type: ignore[union-attr]
    batch = replay.sample()
    wanted = touch[batch["index"].numpy()[:, None] + np.arange(4)]
    np.testing.assert_array_equal(batch["obs"]["touch"].numpy(), wanted)


def test_images_beyond_the_memory_limit_are_read_from_files() -> None:
    torch.manual_seed(0)
    small, large = (ReplayDataModule(3, 32, 3 * CHUNK_STEPS, memory_limit_gb=limit) for limit in (0.0, 1.0))
    rng = np.random.default_rng(0)
    for _ in range(30):
        pixels = rng.integers(0, 255, (501, 9, 4, 4), dtype=np.uint8)
        actions, rewards = rng.random((500, 1)), rng.random(500)
        for replay in (small, large):
            replay.add({"pixels": pixels}, actions, rewards, False)
    chunks = small._log._chunks.values()  # type: ignore[union-attr]
    assert sum(isinstance(chunk.steps, np.memmap) for chunk in chunks) == len(chunks) - 1
    small._rng = np.random.default_rng(3)
    large._rng = np.random.default_rng(3)
    for _ in range(5):
        torch.testing.assert_close(small.sample(), large.sample(), rtol=0, atol=0)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory is read from Linux and glibc")
def test_a_buffer_larger_than_its_limit_stays_below_it() -> None:
    """Fill a buffer with 250 MB of images and a memory limit of 100 MB, which is one chunk of 87 MB."""

    def unbacked_bytes() -> int:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # otherwise the allocator keeps freed memory
        return 1024 * int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0])

    replay = ReplayDataModule(5, 32, 3 * CHUNK_STEPS, memory_limit_gb=0.1)
    pixels = np.full((513, 9, 84, 84), 7, dtype=np.uint8)
    zeros = np.zeros(512)
    before = unbacked_bytes()
    for _ in range(3 * CHUNK_STEPS // 513):
        replay.add({"pixels": pixels}, zeros[:, None], zeros, False)
    for _ in range(20):
        assert (replay.sample()["obs"]["pixels"] == 7).all()
    assert len(replay) * 3 * 84 * 84 > 240e6
    # One chunk and the last batches; all images would take 250e6 bytes.
    assert unbacked_bytes() - before < 200e6


@pytest.mark.parametrize(
    ("lengths", "message"),
    [([], "the buffer is empty"), ([9], "at least batch_size=8 sequences in the buffer, got 7")],
)
def test_sampling_from_too_few_sequences_is_refused(lengths: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        filled(lengths).sample()


def test_an_episode_shorter_than_the_horizon_is_refused() -> None:
    with pytest.raises(DataError, match="at least horizon=3 steps, got 2"):
        filled([2])
    assert len(filled([3])) == 4


@pytest.mark.parametrize("key", ["state", "action", "reward"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(key: str, value: float) -> None:
    replay = filled([10])
    obs, actions, rewards, terminated = episode(1, 10)
    {"state": obs["state"], "action": actions, "reward": rewards}[key][4] = value  # type: ignore[call-overload,index]
    with pytest.raises(DataError, match=f"expected finite numbers, got .* in '{key}' at step 4"):
        replay.add(obs, actions, rewards, terminated)  # type: ignore[arg-type]
    assert len(replay) == 11


def test_priorities_that_are_not_finite_are_ignored() -> None:
    replay = filled([10])
    weights = replay._tree.weights.copy()  # type: ignore[union-attr]
    replay.update_priorities(torch.tensor([0, 1]), torch.tensor([torch.nan, torch.inf]))
    np.testing.assert_array_equal(replay._tree.weights, weights)  # type: ignore[union-attr]
    assert torch.isfinite(replay.sample()["weights"]).all()


@pytest.mark.parametrize(("before", "after"), [(3, 6), (6, 3), (3, 3)])
def test_sequences_stay_within_their_episodes_after_a_change_of_horizon(
    before: int, after: int, tmp_path: Path
) -> None:
    trainer = SimpleNamespace(
        testing=False,
        world_size=1,
        global_rank=0,
        ckpt_path=str(tmp_path / "last.ckpt"),
        default_root_dir=str(tmp_path),
        checkpoint_callback=SimpleNamespace(dirpath=str(tmp_path)),
    )
    saved = filled([10, 4 if before < 4 else 9, 12], horizon=before)
    saved.trainer = trainer  # type: ignore[assignment]
    loaded = filled([], horizon=after, batch_size=4)
    loaded.trainer = trainer  # type: ignore[assignment]
    loaded.load_state_dict(saved.state_dict())
    seen = set()
    for _ in range(200):
        states = loaded.sample()["obs"]["state"]
        assert (states[..., 0] == states[:, :1, 0]).all(), "a sequence runs into the next episode"
        seen |= {(int(number), int(step)) for number, step in states[:, 0]}
    lengths = [10, 4 if before < 4 else 9, 12]
    assert seen == {(i, step) for i, length in enumerate(lengths) for step in range(length - after + 1)}


@pytest.mark.parametrize(
    "options", [{"horizon": 0}, {"batch_size": 0}, {"n_steps": -1}, {"n_frames": 0}, {"priority_exponent": -0.1}]
)
def test_arguments_out_of_range_are_refused(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(DataError, match=f"{name} must be at least"):
        ReplayDataModule(**options)  # type: ignore[arg-type]


def test_steps_of_another_task_are_refused() -> None:
    replay = filled([10])
    with pytest.raises(DataError, match="another task"):
        replay.add({"state": np.zeros((11, 5), dtype=np.float32)}, np.zeros((10, 1)), np.zeros(10), False)
