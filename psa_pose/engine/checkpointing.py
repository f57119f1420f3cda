"""When a run's checkpoints are written, and which of them are kept."""

import os
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from psa_pose.engine.callbacks import epoch_is_over
from psa_pose.engine.resume import kept
from psa_pose.engine.signals import StopRequest


class RotatingCheckpoint(Checkpoint):
    """Keeps the newest checkpoints; MMEngine's words. `last.ckpt` is a link to the newest.

    Saves also where training ends or is asked to stop. Files are called
    `epoch=E_step=S.ckpt`: in (or after) epoch E, counted from 1, after S optimizer steps.

    Args:
        folder: of the files.
        stop: says whether a signal asks to stop.
        interval: in epochs, or else optimizer steps.
        by_epoch: what `interval` counts.
        max_keep_ckpts: how many to keep; -1 keeps all.
        save_last: save at the end of training whatever the interval.
    """

    def __init__(
        self,
        folder: Path,
        stop: StopRequest,
        *,
        interval: int = 1,
        by_epoch: bool = True,
        max_keep_ckpts: int = 2,
        save_last: bool = True,
    ) -> None:
        self.folder, self.stop = folder, stop
        self.interval, self.by_epoch = interval, by_epoch
        self.max_keep, self.save_last = max_keep_ckpts, save_last
        self.seen_step = self.saved_step = -1

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            for partial in self.folder.glob('*.partial'):  # of a save that was killed
                partial.unlink(missing_ok=True)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.seen_step = self.saved_step = trainer.global_step
        self.stop.start(trainer)

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.stop.start(trainer)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        step = trainer.global_step
        if step == self.seen_step:
            return  # gradients are still being accumulated
        self.seen_step = step
        self.stop.has_stepped = True
        if epoch_is_over(trainer):
            return  # the epoch is evaluated first: a resumed run would not do it
        due = not self.by_epoch and step % self.interval == 0
        ends = step == trainer.max_steps or trainer.should_stop
        self._save_or_stop(trainer, due or (self.save_last and ends))

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not epoch_is_over(trainer):
            return  # saved after its last step: from here Lightning would not go on within it
        epoch, step = trainer.current_epoch + 1, trainer.global_step
        due = (epoch if self.by_epoch else step) % self.interval == 0
        self._save_or_stop(trainer, due or (self.save_last and epoch == trainer.max_epochs))

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.save_last and trainer.global_step != self.saved_step:  # stopped while accumulating
            self._save(trainer)
        self.stop.finish()

    def _save_or_stop(self, trainer: L.Trainer, due: bool) -> None:
        stopping = self.stop.agreed()
        if due or stopping:
            self._save(trainer)
        if stopping:
            raise self.stop.exception()

    def _save(self, trainer: L.Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self.saved_step = trainer.global_step
        self.stop.ranks.at('saving a checkpoint')
        name = f'epoch={trainer.current_epoch + 1}_step={trainer.global_step}.ckpt'
        trainer.save_checkpoint(self.folder / name)
        self.stop.ranks.at(f'waiting for data after step {trainer.global_step}')
        if not trainer.is_global_zero:
            return
        try:
            self._rotate(name)
        except OSError as error:  # a file system that fails now; the next save will say so
            print(
                f'warning: {self.folder / name} is written, but neither last.ckpt nor what is kept '
                f'could be brought up to date: {error.strerror or error}',
                file=sys.stderr,
                flush=True,
            )

    def _rotate(self, name: str) -> None:
        if not (self.folder / name).is_file():
            return
        _point(self.folder / 'last.ckpt', name)
        row = [path for path in kept(self.folder) if path.name != 'last.ckpt']
        for old in row[self.max_keep :] if self.max_keep > 0 else ():
            old.unlink(missing_ok=True)


class BestCheckpoint(ModelCheckpoint):
    """Lightning's, with epochs that count from 1 in names, as everywhere else."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if epoch_is_over(trainer):  # one cut short has no evaluation of its own
            super().on_train_epoch_end(trainer, pl_module)

    def format_checkpoint_name(self, metrics: dict[str, Any], *args: Any, **options: Any) -> str:
        counted = {**metrics, 'epoch': metrics['epoch'] + 1}
        return super().format_checkpoint_name(counted, *args, **options)


def set_aside(damaged: Iterable[Path], whole: Path) -> None:
    """Rename damaged files, so that they do not count as the newest again; none is deleted.

    Args:
        damaged: see `psa_pose.engine.resume.newest_whole`.
        whole: what `last.ckpt` stands for from now on; a kill may have come before it did.
    """
    with suppress(OSError):  # a folder that cannot be written; the next save says so
        for path in damaged:
            os.replace(path, path.with_name(f'{path.name}.damaged'))
        if whole.name != 'last.ckpt':
            _point(whole.with_name('last.ckpt'), whole.name)


def _point(link: Path, name: str) -> None:
    """Let `link` stand for the file `name` beside it, in one step."""
    partial = link.with_name(f'{link.name}.partial')
    partial.unlink(missing_ok=True)
    try:
        partial.symlink_to(name)
    except OSError:  # a file system, or a Windows, without links
        shutil.copyfile(link.with_name(name), partial)
    os.replace(partial, link)
