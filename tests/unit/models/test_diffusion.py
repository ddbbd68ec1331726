from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError
from difftori_pl.models.base_policies import DiffusionPolicy
from difftori_pl.models.conditional_unet import ConditionalUNet
from difftori_pl.models.encoders import RecurrentEncoder, StateEncoder
from difftori_pl.models.noise_schedule import DDIM, DDPM, NoiseSchedule
from tests import cases

diffusers = pytest.importorskip("diffusers")


def policy(schedule: NoiseSchedule | None = None, **options: int) -> DiffusionPolicy:
    torch.manual_seed(0)
    sizes = {"n_obs_steps": 2, "n_chunk_steps": 8, "n_executed_steps": 3} | options
    schedule = schedule or DDIM(10, 3)
    return DiffusionPolicy(StateEncoder({"x": 3}, None), 2, schedule, dims=(8, 16), **sizes).eval()  # type: ignore[arg-type]


class AsImages(nn.Module):
    """Adapter of a chunk denoiser to the image interface of diffusers' pipelines: one channel, steps by action."""

    def __init__(self, module: DiffusionPolicy, condition: Tensor) -> None:
        super().__init__()
        self.module, self.condition = module, condition
        self.config = SimpleNamespace(in_channels=1, sample_size=(module.n_chunk_steps, module.action_dim))
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def forward(self, images: Tensor, timestep: Tensor, **options: object) -> object:
        steps = torch.full((len(images),), int(timestep))
        noise = self.module.unet(images[:, 0], steps, self.condition).unsqueeze(1)
        return SimpleNamespace(sample=noise)


@pytest.mark.parametrize(
    ("schedule", "pipeline"), [(DDPM(20, 20), "DDPMPipeline"), (DDIM(20, 5), "DDIMPipeline")], ids=["ddpm", "ddim"]
)
@pytest.mark.filterwarnings("ignore")
def test_sampling_equals_the_pipelines_of_diffusers(schedule: NoiseSchedule, pipeline: str) -> None:
    module = policy(schedule)
    condition = torch.randn(4, 6)
    scheduler = schedule._make(
        diffusers,
        num_train_timesteps=20,
        beta_schedule="squaredcos_cap_v2",
        clip_sample=True,
        prediction_type="epsilon",
    )
    theirs = getattr(diffusers, pipeline)(unet=AsImages(module, condition), scheduler=scheduler)
    theirs.set_progress_bar_config(disable=True)
    torch.manual_seed(7)
    images = theirs(batch_size=4, num_inference_steps=schedule.n_inference_steps, output_type="np").images
    torch.manual_seed(7)
    with torch.no_grad():
        ours = module.sample(condition)
    assert ours.std() > 0.1
    assert_close(ours, torch.from_numpy(images)[..., 0] * 2 - 1, rtol=1e-5, atol=1e-5)


def test_added_noise_equals_the_closed_form() -> None:
    schedule = DDPM(100)
    actions, noise = torch.randn(3, 8, 2), torch.randn(3, 8, 2)
    steps = torch.tensor([0, 50, 99])

    def level(t: Tensor) -> Tensor:  # squared cosine, arXiv:2102.09672, Eq. 17, with betas of at most 0.999
        return torch.cos((t / 100 + 0.008) / 1.008 * torch.pi / 2).square()

    t = torch.arange(100, dtype=torch.float64)
    kept = torch.cumprod(1 - (1 - level(t + 1) / level(t)).clamp(max=0.999), dim=0).float()[steps][:, None, None]
    assert_close(schedule.add_noise(actions, noise, steps), kept.sqrt() * actions + (1 - kept).sqrt() * noise)


def numbered(module: DiffusionPolicy) -> list[Tensor]:
    """Replace sampling by numbered chunks: actions are (number of the chunk, step in it). Return the conditions."""
    conditions: list[Tensor] = []

    def sample(condition: Tensor, near: None) -> Tensor:
        conditions.append(condition)
        steps = torch.arange(module.n_chunk_steps).expand(len(condition), -1)
        return torch.stack([torch.full_like(steps, len(conditions)), steps], dim=-1).float()

    module.sample = sample  # type: ignore[method-assign]
    return conditions


def test_a_new_chunk_is_sampled_after_the_executed_steps() -> None:
    module = policy()
    conditions = numbered(module)
    x = torch.arange(7.0)[None, :, None].expand(1, 7, 3)
    proposals, _ = module.propose({"x": x}, 2, module.initial_state(1))
    # Position 0 of a chunk is past: execution begins at 1.
    assert proposals[0, :, 0].tolist() == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3], [3, 1]]
    assert proposals[0, :, 1, 1].tolist() == [2, 3, 4, 2, 3, 4, 2]
    assert [condition.view(2, 3)[:, 0].tolist() for condition in conditions] == [[0, 0], [2, 3], [5, 6]]


def test_acting_step_by_step_equals_the_window_for_episodes_of_different_age() -> None:
    module = policy()
    obs = torch.randn(2, 7, 3)
    torch.manual_seed(5)
    noise = torch.randn(2, 7, module.n_chunk_steps, 2)

    def episode(number: int) -> Tensor:
        drawn = iter(noise[number])
        module.sample = lambda condition, near: next(drawn)[None] + condition.sum(-1)[:, None, None]  # type: ignore[method-assign]
        return module.propose({"x": obs[number : number + 1]}, 1, module.initial_state(1))[0][0, :, 0]

    expected = [episode(0), episode(1)]
    late = 2  # the second episode begins two steps later
    draws = [0, 0]

    def sample(condition: Tensor, near: None) -> Tensor:
        rows = []
        for value in condition:
            number = next(i for i in (0, 1) if (obs[i].unsqueeze(1) == value[-3:]).all(-1).any())
            rows.append(noise[number, draws[number]] + value.sum())
            draws[number] += 1
        return torch.stack(rows)

    module.sample = sample  # type: ignore[method-assign]
    state = module.initial_state(1)
    for step in range(7):
        if step == late:
            state = {name: torch.cat([value, module.initial_state(1)[name]]) for name, value in state.items()}
        rows = [obs[0, step]] + ([obs[1, step - late]] if step >= late else [])
        actions, state = module.act({"x": torch.stack(rows)[:, None]}, state)
        assert_close(actions[0], expected[0][step])
        if step >= late:
            assert_close(actions[1], expected[1][step - late])


class TwoModes(nn.Module):
    """Bayes-optimal denoiser of chunks whose actions are all 0.8 or all -0.8, with equal probability."""

    def __init__(self, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.kept = schedule.scheduler.alphas_cumprod

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        del condition
        kept = self.kept[timesteps][:, None, None]
        evidence = (0.8 * kept.sqrt() / (1 - kept) * noisy).sum((1, 2), keepdim=True)
        return (noisy - kept.sqrt() * 0.8 * evidence.tanh()) / (1 - kept).sqrt()


@pytest.mark.parametrize("build", cases.NOISE_SCHEDULES.values(), ids=[part.__name__ for part in cases.NOISE_SCHEDULES])
def test_posterior_proposals_are_in_the_mode_of_the_demonstration(build: Callable[[], NoiseSchedule]) -> None:
    schedule = build()
    module = policy(schedule)
    obs, state = {"x": torch.zeros(200, 1, 3)}, module.initial_state(200)
    module.unet = TwoModes(schedule)  # type: ignore[assignment]
    side = torch.where(torch.arange(200) % 2 == 0, 1.0, -1.0)[:, None, None, None]
    with torch.no_grad():
        drawn, _ = module.propose(obs, 3, state)
        # The demonstrations (±1) lie further out than the modes of the policy (±0.8).
        explained, _ = module.propose_posterior(obs, side.expand(-1, 1, 3, 2), state)
    assert 70 < (drawn * side > 0).all((1, 2, 3)).sum() < 130
    assert_close(explained, (0.8 * side).expand_as(explained), atol=0.05, rtol=0)


def test_posterior_chunks_start_from_the_actions_of_the_window() -> None:
    module = policy()
    seen = []
    module.sample = lambda condition, near: seen.append(near) or near  # type: ignore[method-assign, func-returns-value]
    actions = torch.arange(6.0)[None, :, None].expand(1, 6, 2)
    plans = actions.unfold(1, 2, 1).transpose(-1, -2)  # plans of two actions from each of five steps
    proposals, _ = module.propose_posterior({"x": torch.zeros(1, 5, 3)}, plans, module.initial_state(1))
    # Every third step, a chunk begins one step in the past; the nearest action replaces those outside the window.
    assert [near[0, :, 0].tolist() for near in seen] == [[0, 0, 1, 2, 3, 4, 5, 5], [2, 3, 4, 5, 5, 5, 5, 5]]
    assert_close(proposals, plans)


@pytest.mark.slow
def test_training_on_two_modes_yields_samples_of_both() -> None:
    torch.manual_seed(0)
    encoder = StateEncoder({"x": 3}, None)
    module = DiffusionPolicy(encoder, 2, DDIM(20, 10), 2, 8, 3, dims=(32, 64), n_groups=4, kernel_size=3)
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    for _ in range(200):
        side = (torch.randint(2, (64, 1, 1)) * 2.0 - 1.0).expand(-1, 8, 2)
        optimizer.zero_grad()
        loss = module.loss({"x": torch.zeros(64, 8, 3)}, 0.7 * side)
        assert loss.shape == (64, 8)
        loss.mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        drawn = module.sample(torch.zeros(64, 6)).mean((1, 2))
    # A regression would learn the mean of the demonstrations, which is 0.
    assert drawn.abs().median() > 0.4
    assert 8 < (drawn > 0).sum() < 56


def test_every_parameter_gets_a_gradient() -> None:
    module = policy().train()
    module.loss({"x": torch.randn(4, 8, 3)}, torch.rand(4, 8, 2)).mean().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: policy(n_executed_steps=8), "got n_obs_steps 2, n_executed_steps 8 and n_chunk_steps 8"),
        (lambda: policy(n_chunk_steps=7), "multiple of 2 .* got 7"),
        (lambda: policy(DDIM(10, 11)), "got n_inference_steps 11 and n_train_steps 10"),
        (lambda: ConditionalUNet(2, 6, dims=(8, 12)), "n_groups must divide"),
        (
            lambda: DiffusionPolicy(RecurrentEncoder(StateEncoder({"x": 3})), 2),
            "expects an encoder without memory, got RecurrentEncoder",
        ),
        (lambda: policy().propose({"x": torch.zeros(1, 1, 3)}, 6, policy().initial_state(1)), "at most 5 .*, not 6"),
        (
            lambda: policy().loss({"x": torch.zeros(1, 9, 3)}, torch.zeros(1, 9, 2)),
            "windows have 9: set data.init_args.n_obs_steps to 2 and data.init_args.horizon to 7",
        ),
    ],
)
def test_inconsistent_sizes_are_refused(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        wrong()
