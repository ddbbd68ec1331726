"""New settings for the optimisers of a run that goes on."""

from typing import Any

import torch
from lightning import LightningModule
from torch import nn


def retune(module: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Where the optimiser or the scheduler of a module has other settings than a checkpoint, put them into it.

    Restored as it is, the checkpoint would bring the old ones back. Moments and counts stay; the rate is what it would
    be by now, had the run begun with the new settings.

    Args:
        module: has `optimizer` and perhaps `lr_scheduler`, which make these from parameters and an optimiser.
        checkpoint: changed in place, before it is restored.
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
