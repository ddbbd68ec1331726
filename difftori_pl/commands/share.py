"""`difftori share`: write a policy as a folder for others."""

from pathlib import Path

from difftori_pl.commands.output import say


def share_policy(
    ckpt: Path = Path("last.ckpt"), output: Path = Path("policy"), push: str | None = None, private: bool = False
) -> None:
    """Write the weights (safetensors), the configuration and a model card of a trained policy into a folder.

    load_policy reads the folder without executing anything in it.

    Args:
        ckpt: a checkpoint of a run that was started from a YAML file, or the folder of the run.
        output: the folder to write; it must be new or empty.
        push: also upload the folder to this name on the Hugging Face Hub, user/name.
        private: create the repository on the hub as a private one.
    """
    from difftori_pl.deployment.hub import check_name, upload
    from difftori_pl.deployment.share import share
    from difftori_pl.evaluation.action_errors import mean_error

    if push is not None:
        check_name(push)
    written = share(ckpt, output, push)
    say(f"{output}: {written.n_weights:,} weights, config.json, README.md")
    for part in written.rollouts:
        say(f"  {part.policy}: {part.success}{', selected on these episodes' if part.is_biased else ''}")
    if written.errors:
        for name, errors in written.errors.errors.items():
            say(f"  {name}: error {mean_error(errors)}, in the units of the data")
    if not written.rollouts and not written.errors:
        say("  no results of this checkpoint found: run `lightning test` first to have them in the model card")
    if written.foreign:
        say(f"  others must allow {', '.join(written.foreign)} when they load it")
    if push is not None:
        say(f"  uploaded to {upload(output, push, private)}")
