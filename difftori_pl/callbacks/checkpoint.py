"""When checkpoints are saved: as Lightning does, and before a cluster takes the machine away."""

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException


class Checkpoint(ModelCheckpoint):
    """`ModelCheckpoint` that saves on SIGTERM too.

    Lightning answers SIGTERM between two updates, so that what is saved then is whole; other exceptions may come in the
    middle of one, and are saved only if `save_on_exception` asks for it. Takes the arguments of `ModelCheckpoint`.
    """

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save if the exception is a SIGTERM."""
        asked = self.save_on_exception
        self.save_on_exception = asked or isinstance(exception, SIGTERMException)
        super().on_exception(trainer, pl_module, exception)
        self.save_on_exception = asked
