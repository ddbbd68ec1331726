"""`difftori export`: write a policy as a program."""

from pathlib import Path

from difftori_pl.commands.output import say


def export_policy(ckpt: Path = Path("last.ckpt"), output: Path = Path("policy.pt2"), n_runs: int = 100) -> None:
    """Write one step of a trained policy as a program, check it against the policy, and time both.

    Args:
        ckpt: a checkpoint of a run that was started from a YAML file.
        output: the file to write: .pt2 for torch.export, .onnx for ONNX.
        n_runs: number of steps to time.
    """
    from difftori_pl.deployment.export import export

    written = export(ckpt, output, n_runs)
    say(f"{output}: {', '.join(written.inputs)} -> {', '.join(written.outputs)}")
    say(f"  largest difference from the policy in Python: {written.error:.2g}")
    say(f"  in Python: {written.eager}")
    say(f"  exported:  {written.exported}")
