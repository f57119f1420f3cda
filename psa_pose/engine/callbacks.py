"""What a run says of itself while it trains."""

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.utilities import rank_zero_only

from psa_pose.datasets import PoseDataLoader
from psa_pose.engine.module import PoseModule
from psa_pose.engine.nonfinite import NonFiniteGuard
from psa_pose.engine.ranks import Ranks


class TrainLog(L.Callback):
    """Loss, learning rate, samples a second, share of time waiting for data, time left.

    They go to the loggers and the progress bar, and as a line to a stream that is no terminal.
    What lies between a batch and the wait for the next (a checkpoint, an evaluation, an epoch's
    end) is neither training nor waiting: it counts for the time left alone.

    The loss is the latest batch's, over all ranks. It is read from the device only when it is
    shown, and nothing goes back to it: Lightning's `log` would keep the values there, and its
    progress bar would read them again and again.

    Args:
        interval: steps between two readings.
        samples_per_step: over all ranks.
        plain: print lines.
        guard: knows which steps were skipped; read together with the loss.
    """

    def __init__(
        self, interval: int, samples_per_step: int, plain: bool, guard: NonFiniteGuard
    ) -> None:
        self.interval = interval
        self.samples_per_step = samples_per_step
        self.plain = plain
        self.guard = guard
        self.lr = 0.0
        self.values: dict[str, float] = {}

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.first_step = trainer.global_step
        self.started = self.window_started = self.batch_ended = time.perf_counter()
        self.window_step = trainer.global_step

    def on_before_optimizer_step(
        self, trainer: L.Trainer, module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.lr = optimizer.param_groups[0]['lr']  # afterwards it is already the next step's

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, PoseModule)
        self.window_started += module.data_wait.since - self.batch_ended

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        step = trainer.global_step
        if step % self.interval == 0 and step > self.window_step:
            assert isinstance(module, PoseModule)
            self._read(trainer, module)
        self.batch_ended = time.perf_counter()

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.validation_started = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, PoseModule)
        if trainer.state.fn != 'fit' or not module.metrics:
            return  # a sanity check, or an evaluation that prints a table of its own
        if self.plain:
            spent = time.perf_counter() - self.validation_started
            name, value = next(iter(module.metrics.items()))
            self._say(f'epoch {trainer.current_epoch + 1}: {name} {value:.4f}  ({spent:.0f} s)')

    def _read(self, trainer: L.Trainer, module: PoseModule) -> None:
        now, last_loss = time.perf_counter(), module.last_loss
        if trainer.world_size > 1:
            last_loss = last_loss / trainer.world_size
            torch.distributed.all_reduce(last_loss)
        # One wait for the device.
        loss, *flags = torch.stack([last_loss, *self.guard.pending()]).tolist()
        step, elapsed = trainer.global_step, now - self.window_started
        total = int(trainer.estimated_stepping_batches)
        left = (now - self.started) / (step - self.first_step) * (total - step)
        self.values = values = {
            'loss': loss,
            'lr': self.lr,
            'samples_per_s': (step - self.window_step) * self.samples_per_step / elapsed,
            'data_wait': module.data_wait.take() / elapsed,
            'eta_min': left / 60,
        }
        for logger in trainer.loggers:  # steps count from 0, as Lightning's own entries do
            logger.log_metrics({**values, 'epoch': trainer.current_epoch}, step - 1)
        if isinstance(trainer.progress_bar_callback, ProgressBar):
            trainer.progress_bar_callback.values = values
        if self.plain:
            of = '' if trainer.max_steps > 0 else f'/{trainer.max_epochs}'
            self._say(
                f'epoch {trainer.current_epoch + 1}{of}  step {step}/{total}  '
                f'loss {values["loss"]:.6f}  lr {values["lr"]:.2e}  '
                f'{values["samples_per_s"]:.0f} samples/s  data wait {values["data_wait"]:.0%}  '
                f'ETA {timedelta(seconds=round(left))}'
            )
        if line := self.guard.count(flags):
            print(f'warning: {line}', file=sys.stderr, flush=True)  # of every rank's own images
        self.window_started, self.window_step = now, step

    @rank_zero_only
    def _say(self, line: str) -> None:
        print(line, file=sys.stdout, flush=True)


class EvaluationLog(L.Callback):
    """How far an evaluation is, every `SECONDS`: lines for a stream that is no terminal."""

    SECONDS = 30.0

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.started = self.said = time.perf_counter()

    def on_test_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.started = self.said = time.perf_counter()

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        out: Any,
        batch: Any,
        i: int,
        _: int = 0,
    ) -> None:
        if not trainer.sanity_checking:
            self._say(i + 1, trainer.num_val_batches)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        out: Any,
        batch: Any,
        i: int,
        _: int = 0,
    ) -> None:
        self._say(i + 1, trainer.num_test_batches)

    @rank_zero_only
    def _say(self, done: int, batches: Sequence[int | float]) -> None:
        now = time.perf_counter()
        if now - self.said < self.SECONDS or done == (total := sum(batches)):
            return
        left = timedelta(seconds=round((now - self.started) / done * (total - done)))
        print(f'evaluated {done} of {total} batches  ETA {left}', flush=True)
        self.said = now


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with the numbers that `TrainLog` read last."""

    values: Mapping[str, float] = {}

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        return dict(self.values)


def epoch_is_over(trainer: L.Trainer) -> bool:
    """Whether all of its batches were taken; `on_train_epoch_end` comes to one cut short too."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready >= trainer.num_training_batches


class DataPosition(L.Callback):
    """Saves and restores which samples were handed out.

    Lightning itself restores a loader's state only where a checkpoint was taken within an epoch.
    """

    def __init__(self, loader: PoseDataLoader) -> None:
        self.loader = loader

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Let Lightning count the batches of the epoch that it goes on with as they are now.

        It goes on with their number alone, which says nothing where the same samples a step are
        split otherwise: into batches of half the size, of which two are accumulated.
        """
        counted = trainer.fit_loop.epoch_loop.batch_progress.current
        if counted.ready:
            taken = self.loader.taken_batches or trainer.num_training_batches
            shift = taken - counted.ready
            for name in ('ready', 'started', 'processed', 'completed'):
                setattr(counted, name, getattr(counted, name) + shift)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if epoch_is_over(trainer):
            self.loader.finish_epoch()  # with limit_train_batches not all of it was asked for

    def state_dict(self) -> dict[str, Any]:
        return self.loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loader.load_state_dict(state_dict)


class Whereabouts(L.Callback):
    """Notes what this rank does, for the others to say where it hangs."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.ranks.at(f'waiting for data of epoch {trainer.current_epoch + 1}')

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.ranks.at(f'in step {trainer.global_step + 1}')

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.ranks.at(f'waiting for data after step {trainer.global_step}')

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.ranks.at('evaluating')

    def on_test_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.ranks.at('evaluating')


class SkipReport(L.Callback):
    """Says at the end how many samples were left out because their image could not be read."""

    def on_fit_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, PoseModule)
        if module.skipped:  # every rank counts its own
            print(f'{module.skipped} samples were skipped: their images could not be read')
