import logging
import warnings

import pytest

from difftori_pl.runtime.quiet import LOGGERS, leave_out_evaluation_warnings, leave_out_messages

NOTICES = [
    "Seed set to 1",
    "[rank: 0] Seed set to 1",
    "GPU available: True (cuda), used: True",
    "TPU available: False, using: 0 TPU cores",
    "💡 Tip: For seamless cloud logging, try installing [litlogger](https://pypi.org/project/litlogger/)",
    "`Trainer.fit` stopped: `max_steps=200` reached.",
    f"{'-' * 100}\ndistributed_backend=gloo\nAll distributed processes registered. Starting with 2 processes\n",
    "LOCAL_RANK: 0 - CUDA_VISIBLE_DEVICES: [0]",
]
NEWS = [
    "Initializing distributed: GLOBAL_RANK: 0, MEMBER: 1/2",
    "`Trainer.fit` stopped: No training batches.",
    "Time limit reached. Elapsed time is 0:10:00. Signaling Trainer to stop.",
    "Loaded model weights from the checkpoint at last.ckpt",
    "Monitored metric did not improve: Seed set to 1",
]


@pytest.mark.parametrize("logger", LOGGERS)
def test_only_notices_are_left_out_of_the_log(logger: str, caplog: pytest.LogCaptureFixture) -> None:
    leave_out_messages()
    leave_out_messages()
    target = logging.getLogger(logger)
    target.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, logger):  # Lightning sets it when it is imported
            for message in NOTICES + NEWS:
                target.info(message)
    finally:
        target.removeHandler(caplog.handler)
    assert set(caplog.messages) == set(NEWS)


def test_other_warnings_are_still_shown() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        leave_out_messages()
        warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated, use ...", FutureWarning, stacklevel=1)
        warnings.warn("The 'train_dataloader' does not have many workers which may be slow", UserWarning, stacklevel=1)
        warnings.warn("GPU available but not used.", UserWarning, stacklevel=1)
        warnings.warn("The dirpath has changed from 'a' to 'b'", UserWarning, stacklevel=1)
        leave_out_evaluation_warnings()
        warnings.warn("The dirpath has changed from 'a' to 'c'", UserWarning, stacklevel=1)
    assert [str(warning.message)[:15] for warning in shown] == ["GPU available b", "The dirpath has"]
