"""Pictures of the same few persons at every evaluation: truth, prediction, heatmaps, gates."""

import sys
import warnings

import lightning as L
import numpy as np
import torch
from mmengine.config import Config

from psa_pose.datasets import TopdownDataset
from psa_pose.datasets.collate import collate
from psa_pose.datasets.sampling import SampleKey
from psa_pose.engine.browse import spread
from psa_pose.engine.build import truth, whole_number
from psa_pose.engine.module import PoseModule
from psa_pose.engine.trainer import hook_options
from psa_pose.structures import PoseBatch
from psa_pose.visualization.overlay import contact_sheet
from psa_pose.visualization.person import Cell, Zoom, model_cells, pose

VISUALIZATION = {'enable': True, 'interval': 1, 'persons': 8}
"""`default_hooks.visualization`; see `Panels`."""


def build_panels(cfg: Config, dataset: TopdownDataset) -> list[L.Callback]:
    """What `default_hooks.visualization` asks for."""
    at = 'default_hooks.visualization'
    options = hook_options(cfg, 'visualization', VISUALIZATION)
    interval = whole_number(options['interval'], f'{at}.interval')
    persons = whole_number(options['persons'], f'{at}.persons')
    return [Panels(dataset, persons, interval)] if truth(options['enable'], f'{at}.enable') else []


class Panels(L.Callback):
    """Hands each logger that takes images one sheet an evaluation, a row for each person.

    It stands before `EMAHook`, so that it sees the weights that are evaluated. Rank 0 alone draws:
    its own forward pass sends nothing, as the weights of a sharded model are still whole there at
    the end of an evaluation. Weights, BatchNorm and random numbers stay what they are, and what
    goes wrong here costs pictures, never the run.

    Args:
        dataset: of the evaluation.
        persons: how many, spread evenly over the dataset, the same every time.
        interval: evaluations from one sheet to the next; the last epoch's always has one.
    """

    def __init__(self, dataset: TopdownDataset, persons: int = 8, interval: int = 1) -> None:
        self.dataset = dataset
        self.persons = spread(len(dataset), persons)
        self.interval = interval
        self.evaluations = 0
        self.failed = False
        self._batch: PoseBatch | None = None

    def on_validation_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, PoseModule)
        if trainer.sanity_checking or trainer.fast_dev_run or trainer.state.fn != 'fit':  # type: ignore[attr-defined]
            return
        last = trainer.current_epoch + 1 == trainer.max_epochs
        due = last or self.evaluations % self.interval == 0
        self.evaluations += 1
        loggers = [logger for logger in trainer.loggers if hasattr(logger, 'log_image')]
        if not (due and loggers and trainer.is_global_zero):
            return
        try:
            sheet = self.sheet(module)
            for logger in loggers:  # steps count from 0, as those of Lightning's own entries do
                logger.log_image('persons', [sheet], step=trainer.global_step - 1)
        except Exception as error:  # of any kind: it is only a picture
            if not self.failed:
                text = f'warning: no pictures of this evaluation: {type(error).__name__}: {error}'
                print(text, file=sys.stderr, flush=True)
            self.failed = True

    def sheet(self, module: PoseModule) -> np.ndarray:
        """(H, W, 3) uint8, RGB; of a module in evaluation mode."""
        if self._batch is None:
            with warnings.catch_warnings():  # the evaluation has said which images it skips
                warnings.simplefilter('ignore')
                self._batch = collate([self.dataset[SampleKey(i)] for i in self.persons])
        batch, zoom = self._batch, Zoom(self.dataset.input_size)
        dtype = getattr(torch, module.step.eval_dtype)
        with torch.autocast(module.device.type, dtype, enabled=dtype != torch.float32):
            moved = PoseBatch(*(field.to(module.device) for field in batch))
            rows = model_cells(module.estimator, moved, zoom)
        cells = []
        for i, row in enumerate(rows):
            name = self.dataset.persons.file_name[self.persons[i]].decode()
            crop, keypoints, labelled = (x[i].numpy() for x in batch[:3])
            image = pose(crop, keypoints, labelled > 0, self.dataset.info, zoom)
            what = 'ground truth' if labelled.any() else 'no labels'
            what = what if batch.usable[i] else 'cannot be read'
            cells += [Cell(f'{what}: person {self.persons[i]}, {name}', image), *row]
        captions, images = zip(*cells, strict=True)
        return contact_sheet(images, len(rows[0]) + 1, captions)
