"""What a run leaves for reports: plain files, which need neither the model nor its data to be read.

    WORK_DIR/environment.json     versions, machine, command; of the process that trained last
    WORK_DIR/history.jsonl        a line an evaluation
    WORK_DIR/evaluation/          the latest evaluation, see `write_evaluation`
    WORK_DIR/test/                the same of `psa-pose test`, with its config and environment

Rank 0 alone writes. A file is there whole or not at all. One that cannot be written costs a report
some of its content, and never the run.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
from mmengine.config import Config

from psa_pose.engine.environment import environment, now
from psa_pose.engine.module import PoseModule
from psa_pose.engine.nonfinite import NonFiniteGuard
from psa_pose.engine.record_files import read_history, read_object
from psa_pose.files import write_json, write_text

SHARE = 0.01
"""Of a run's time that writing predictions may take; those of the last evaluation always are."""


class RunRecord(L.Callback):
    """Writes a training run's record.

    Args:
        work_dir: of the run.
        about: what else `environment.json` says.
        guard: knows how many steps were skipped.
        resumed_step: of the checkpoint that the run goes on from; later entries are dropped.
    """

    def __init__(
        self,
        work_dir: Path,
        about: Mapping[str, Any],
        guard: NonFiniteGuard,
        resumed_step: int | None,
    ) -> None:
        self.work_dir, self.about, self.guard = work_dir, about, guard
        self.resumed_step = resumed_step
        self.entries: list[dict[str, Any]] = []
        self.warned = False
        self.pending = False  # the latest evaluation's predictions are not written
        self.cost, self.written = 0.0, -float('inf')

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        path = self.work_dir / 'environment.json'
        earlier = []
        with self._going_on():
            if self.resumed_step is not None:
                history = read_history(self.work_dir)
                self.entries = [e for e in history if e['step'] <= self.resumed_step]
                if before := read_object(path):
                    earlier = [*(before.pop('earlier', None) or []), before]
            content = {**environment(), **self.about, 'from_step': self.resumed_step or 0}
            write_json(path, {**content, 'earlier': earlier})
            self._write_history()
            self._forget_later_evaluation()

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.started = time.monotonic()
        self.pending = False  # they are about to be forgotten

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, PoseModule)
        if not (trainer.is_global_zero and module.metrics) or trainer.sanity_checking:
            return
        clock = time.monotonic()
        step = trainer.global_step
        entry = {
            # After `fit`, of a run that ended within an epoch or was already complete, it counts.
            'epoch': trainer.current_epoch + (trainer.state.fn == 'fit'),
            'step': step,
            'time': now(),
            'seconds': round(clock - self.started, 3),
            'skipped_steps': self.guard.total,
            'skipped_samples': module.skipped,
            'metrics': {name: v for name, v in module.metrics.items() if name != 'boxes'},
            'boxes': module.metrics.get('boxes'),
        }
        self.entries = [*(e for e in self.entries if e['step'] < step), entry]
        self.pending, self.latest = True, {key: entry[key] for key in ('epoch', 'step', 'time')}
        with self._going_on():
            self._write_history()
            if clock - self.written >= self.cost / SHARE:
                self._write_evaluation(module)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.pending:
            with self._going_on():
                self._write_evaluation(module)

    def on_exception(
        self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException
    ) -> None:
        self.on_train_end(trainer, module)

    def _forget_later_evaluation(self) -> None:
        """One of steps that this run does not have: of another run, or after its start."""
        path = self.work_dir / 'evaluation' / 'about.json'
        if not any(entry['step'] == read_object(path).get('step') for entry in self.entries):
            path.unlink(missing_ok=True)

    def _write_history(self) -> None:
        lines = [json.dumps(entry) + '\n' for entry in self.entries]
        write_text(self.work_dir / 'history.jsonl', ''.join(lines))

    def _write_evaluation(self, module: Any) -> None:
        begun = time.monotonic()
        write_evaluation(self.work_dir / 'evaluation', module, self.latest)
        self.written = time.monotonic()
        self.cost, self.pending = self.written - begun, False

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        try:
            yield
            self.warned = False
        except Exception as error:  # of any kind: a metric or dataset may be a user's own
            if not self.warned:
                _warn(self.work_dir, error)
            self.warned = True


def record_test(cfg: Config, module: PoseModule, checkpoint: str | Path) -> None:
    """Write `WORK_DIR/test/`, where there is a `WORK_DIR`."""
    work_dir = Path(cfg.work_dir)
    if not work_dir.is_dir():
        return
    about = {'checkpoint': os.path.abspath(checkpoint), 'time': now()}
    try:
        write_evaluation(work_dir / 'test', module, about)
        write_json(work_dir / 'test' / 'environment.json', environment())
        write_text(work_dir / 'test' / 'config.py', cfg.pretty_text)
    except Exception as error:  # see `_going_on`
        _warn(work_dir / 'test', error)


def write_evaluation(folder: Path, module: PoseModule, about: Mapping[str, Any]) -> None:
    """Write what an evaluation found.

    - `results.json`: predictions, as `psa-pose test --out` writes them.
    - `metrics.json`: the numbers, as `psa-pose test --metrics` writes them.
    - `about.json`: titles, warnings, where annotations and images are; written last.

    Args:
        folder: made where it is not there; its parent is not.
        module: after an evaluation.
        about: further entries of `about.json`.

    Raises:
        OSError: a file cannot be written.
    """
    metric = module.metric
    dataset, parts = metric.dataset, metric.parts(module.metrics)
    prefixes = getattr(metric, 'prefixes', [''])
    folder.mkdir(exist_ok=True)
    results = json.dumps(metric.results()) + '\n'
    write_text(folder / 'results.json', results)
    write_json(folder / 'metrics.json', module.metrics)
    content = {
        **about,
        'results_size': len(results.encode()),  # says that both are of one evaluation
        'dataset': type(dataset).__name__,
        'ann_file': os.path.abspath(getattr(parts[0][0], 'ann_file', dataset.ann_file)),
        'image_root': os.path.abspath(dataset.image_root),
        'boxes': dataset.boxes,
        'boxes_left_out': dataset.boxes_left_out,
        'persons': len(dataset),
        'unreadable': metric.skipped,
        'keypoint_names': list(dataset.info.names),
        'sigmas_source': dataset.info.sigmas_source,
        'flip_test': module.estimator.flip_test,
        'warnings': list(metric.warnings),
        'tables': [
            {
                'metric': type(part).__name__,
                'prefix': prefix,  # of its numbers' names in the history
                'title': title,
                'decimals': part.decimals,
                'numbers': {name: value for name, value in numbers.items() if name != 'boxes'},
            }
            for (part, own), prefix in zip(parts, prefixes, strict=True)
            for title, numbers in part.tables(own)
        ],
    }
    write_json(folder / 'about.json', content)


def _warn(place: Path, error: Exception) -> None:
    why = getattr(error, 'strerror', None) or error
    print(
        f'warning: cannot write the record in {place}: {why}; reports will lack what it says',
        file=sys.stderr,
        flush=True,
    )
