"""Loggers beside TensorBoard's: Weights & Biases, MLflow, pictures as files."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from psa_pose.visualization.overlay import save

SHARE = 0.01
"""Of a run's time that may be spent on a service that is not there."""
# MLflow's own patience is minutes a point, and all ranks would wait; what a user has set stays.
_PATIENCE = {'MLFLOW_HTTP_REQUEST_MAX_RETRIES': '2', 'MLFLOW_HTTP_REQUEST_TIMEOUT': '30'}


class Tracker(Logger):
    """A service that may go away: then points are lost, once said, and the run goes on."""

    failed = False
    _again = 0.0  # when it is tried next

    def begin(self) -> None:
        """Reach the service."""
        _ = self.experiment  # type: ignore[attr-defined]

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.tried(super().log_metrics, metrics, step)  # type: ignore[safe-super]

    @rank_zero_only
    def finalize(self, status: str = 'success') -> None:
        self._again = 0.0
        self.tried(super().finalize, status)

    def tried(self, call: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Call, unless it failed so lately that another try would cost more than `SHARE`."""
        begun = time.monotonic()
        if begun < self._again:
            return
        try:
            call(*args, **options)
            self.failed = False
        except Exception as error:  # each service has classes of its own
            if not self.failed:
                name = type(self).__name__
                text = f'warning: {name}: {type(error).__name__}: {error}; its points are lost'
                print(text, file=sys.stderr, flush=True)
            self.failed = True
            ended = time.monotonic()
            self._again = ended + (ended - begun) / SHARE


class Wandb(Tracker, WandbLogger):
    """Weights & Biases; `WANDB_MODE=offline` keeps it in the work dir."""

    def begin(self) -> None:
        """Start the run."""
        self._wandb_init.pop('anonymous', None)  # Lightning's, of which newer versions warn
        if self.save_dir:  # where it is missing W&B would fall back to a temporary one
            os.makedirs(self.save_dir, exist_ok=True)
        super().begin()

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], step: int | None = None, **_: Any) -> None:
        """Pictures (H, W, 3) uint8, RGB."""
        self.tried(super().log_image, key, images, step, file_type=['jpg'] * len(images))

    @rank_zero_only
    def finalize(self, status: str = 'success') -> None:
        """End the run here: the next one of this process is another."""
        super().finalize(status)
        run = self._experiment
        if run is not None:
            self._wandb_init['id'], self._experiment = run.id, None
            self.tried(run.finish, exit_code=0 if status in ('success', 'finished') else 1)


class MLflow(Tracker, MLFlowLogger):
    """MLflow: a server, or a database in the work dir."""

    folder: Path | None = None
    """Of the database; made when the run starts."""

    def begin(self) -> None:
        """Start the run."""
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
        super().begin()

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], step: int | None = None, **_: Any) -> None:
        """Pictures (H, W, 3) uint8, RGB, as artifacts `KEY/step=N.png`."""
        for i, image in enumerate(images):
            name = f'{key}/step={step}{f"_{i}" if i else ""}.png'
            self.tried(self.experiment.log_image, self.run_id, np.asarray(image), name)


class Local(Logger):
    """Pictures as files, `WORK_DIR/vis_data/vis_image/KEY_STEP.jpg`."""

    name, version = 'local', ''

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """They are in history.jsonl and TensorBoard's log."""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """They are in config.py."""

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], step: int | None = None, **_: Any) -> None:
        """Pictures (H, W, 3) uint8, RGB."""
        for i, image in enumerate(images):
            save(self.folder / f'{key}_{step}{f"_{i}" if i else ""}.jpg', image)
