"""Apply optimiser settings of a resumed run that differ from those of its checkpoint."""

from typing import Any

import torch
from lightning import LightningModule
from torch import nn

RELATIVE_RATE = "relative_rate"
"""Key, in an optimiser's parameter group, of its learning rate relative to the configured one; absent for 1."""


def override_hyperparameters(module: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Replace the optimiser and scheduler settings of a checkpoint by those of the module if they differ.

    Restoring the unchanged checkpoint would restore the old settings. Moments and counts are kept. The learning rate
    becomes the one that a run with the new settings has at the checkpoint's step.

    Args:
        module: its `optimizer` builds an optimiser from parameters, and its `lr_scheduler`, if any, a scheduler from
            an optimiser.
        checkpoint: content of the checkpoint, changed in place before it is restored.
    """
    described = checkpoint.get("hyper_parameters", {})
    given = [name for name in ("optimizer", "lr_scheduler") if name in module.hparams]
    if all(module.hparams[name] == described.get(name) for name in given):
        return
    make_scheduler: Any = getattr(module, "lr_scheduler", None)
    n_steps = sum(scheduler["last_epoch"] for scheduler in checkpoint["lr_schedulers"])
    for saved in checkpoint["optimizer_states"]:
        optimizer = module.optimizer([nn.Parameter(torch.zeros(()))])  # type: ignore[operator]
        if make_scheduler is not None:
            scheduler = make_scheduler(optimizer)
            for _ in range(n_steps):
                optimizer.step()
                scheduler.step()
            checkpoint["lr_schedulers"] = [scheduler.state_dict()]
        (settings,) = optimizer.param_groups
        for group in saved["param_groups"]:
            group |= {name: value for name, value in settings.items() if name != "params"}
            group["lr"] *= group.get(RELATIVE_RATE, 1.0)
