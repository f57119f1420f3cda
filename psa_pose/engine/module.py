"""The estimator as Lightning sees it: steps, optimizer, and what a checkpoint says."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from psa_pose.engine.data_wait import DataWait
from psa_pose.engine.fsdp2 import FSDP2Strategy, share
from psa_pose.engine.optim import Schedule, lr_factor
from psa_pose.engine.param_groups import ParamGroup, param_groups
from psa_pose.engine.step import StepOptions
from psa_pose.errors import DataError
from psa_pose.evaluation import PoseMetric
from psa_pose.models import TopdownPoseEstimator
from psa_pose.models.backbones.blocks import attention_text
from psa_pose.structures import PoseBatch

MakeOptimizer = Callable[[Any], torch.optim.Optimizer]


class PoseModule(L.LightningModule):
    """Trains and evaluates an estimator.

    Args:
        estimator: the model.
        metric: collects predictions.
        step: how a step is computed.
        make_optimizer: from parameters to their optimizer, learning rate already scaled.
        schedules: of the learning rate.
        optimizer_text: says which optimizer and learning rate; kept in checkpoints.
        groups: of parameters with settings of their own; one of all that train where none is given.
        frozen: modules that stand still, see `psa_pose.engine.param_groups`.
    """

    def __init__(
        self,
        estimator: TopdownPoseEstimator,
        metric: PoseMetric,
        step: StepOptions | None = None,
        make_optimizer: MakeOptimizer | None = None,
        schedules: Sequence[Schedule] = (),
        optimizer_text: str = '',
        groups: Sequence[ParamGroup] = (),
        frozen: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self._frozen = tuple(frozen)  # a tuple: these are the estimator's, not modules of this one
        self.step = step or StepOptions()
        self.estimator = estimator.use_channels_last(self.step.channels_last)
        # The training step alone is compiled, as one graph of one shape. An evaluation would add a
        # graph for each of its two batch sizes, and take less time than to compile them.
        self._loss = estimator.loss
        if self.step.compile is not None:
            self._loss = torch.compile(estimator.loss, **{'dynamic': False, **self.step.compile})
        self.metric = metric
        self.make_optimizer = make_optimizer
        self.schedules = schedules
        self.optimizer_text = optimizer_text
        self.groups = groups or param_groups(estimator, None, {})
        self.first_seed = torch.initial_seed()
        self.metrics: dict[str, Any] = {}
        self.control: Any = None  # the ranks' group through host memory, where there is one
        self.skipped = 0
        self.data_wait = DataWait()
        self.persons: deque[np.ndarray] = deque(maxlen=64)  # of the latest batches
        self._predicted: list[tuple[Tensor, ...]] = []

    def configure_model(self) -> None:
        if isinstance(self.trainer.strategy, FSDP2Strategy):
            self.trainer.strategy.shard(self.estimator)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        assert self.make_optimizer is not None, 'built for evaluation only'
        parameters = dict(self.estimator.named_parameters())
        optimizer = self.make_optimizer([group.arguments(parameters) for group in self.groups])
        total = int(self.trainer.estimated_stepping_batches)  # reads the loader, too
        per_epoch = ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)

        def factor(group: ParamGroup) -> Callable[[int], float]:
            schedules = (*self.schedules, *group.schedules)
            return lambda step: lr_factor(schedules, step, per_epoch, total)

        factors = [factor(group) for group in self.groups]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {
            'optimizer': optimizer,
            'lr_scheduler': {'scheduler': schedule, 'interval': 'step'},
        }

    def train(self, mode: bool = True) -> 'PoseModule':
        """Frozen modules compute as in evaluation, whatever is asked of the others."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def on_before_batch_transfer(self, batch: PoseBatch, dataloader_idx: int) -> PoseBatch:
        if self.trainer.training:  # counted while the batch is still in host memory
            self.skipped += int(np.count_nonzero(~batch.usable.numpy()))
            self.persons.append(batch.person.numpy().copy())
            if self.trainer.global_step == 0:
                self._check_first(batch)
        return batch

    def _wait_for_data(self, *_: Any) -> None:
        # Callbacks, which may write a checkpoint, come before a module's hooks.
        self.data_wait.begin(self.device)

    on_train_start = on_train_batch_end = on_validation_end = _wait_for_data  # type: ignore[assignment]

    def on_train_epoch_start(self) -> None:
        self.metrics = {}  # those of an earlier epoch say nothing of this one's weights
        self._wait_for_data()

    def on_train_batch_start(self, batch: PoseBatch, batch_idx: int) -> None:
        self.data_wait.end()
        # A layer with dropout draws the same numbers whether or not training was interrupted.
        where = (self.first_seed, self.current_epoch, self.global_rank, batch_idx)
        torch.manual_seed(int(np.random.SeedSequence(where).generate_state(1)[0]))

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        loss = self._loss(batch)
        self.last_loss = loss.detach()
        # A loss of inf can have finite gradients; on one of several ranks alone they would pass
        # for those of all. This factor is exactly 1, or else nan, and so is the gradient.
        return loss * (1 + 0 * self.last_loss) * self._window_share(batch_idx)

    def _window_share(self, batch_idx: int) -> float:
        """Makes a step's gradient the mean of its batches.

        Lightning divides by the batches of a whole window, also where the epoch ends within one.
        """
        batches, whole = int(self.trainer.num_training_batches), self.step.accumulate
        rest = batches % whole
        return whole / rest if rest and batch_idx >= batches - rest else 1.0

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        plugin = self.trainer.precision_plugin
        if isinstance(plugin, MixedPrecision) and plugin.scaler is None and gradient_clip_val:
            # Lightning refuses fused optimizers here, but bfloat16 has no loss scale in the way.
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm)
            Precision.clip_gradients(plugin, optimizer, gradient_clip_val, algorithm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def validation_step(self, batch: PoseBatch, batch_idx: int) -> None:
        dtype = getattr(torch, self.step.eval_dtype)
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            prediction = self.estimator.predict(batch)
        # They stay on the device until all are there: no step waits for one before.
        self._predicted.append((batch.person, batch.usable, *prediction))

    test_step = validation_step

    def on_validation_epoch_start(self) -> None:
        self._keep_whole(True)
        self.metric.reset()
        self._predicted = []

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        self._keep_whole(False)
        if self._predicted:  # a rank may have had no person
            fields = zip(*self._predicted, strict=True)
            self.metric.process(*(torch.cat(parts).cpu().numpy() for parts in fields))
            self._predicted = []
        if self.trainer.sanity_checking or self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return  # numbers of a single batch would look like a result
        self._gather()
        self.metrics = self.metric.compute()
        numbers = {name: value for name, value in self.metrics.items() if name != 'boxes'}
        self.log_dict(numbers, sync_dist=True)  # already the same on every rank

    on_test_epoch_end = on_validation_epoch_end

    def _keep_whole(self, keep: bool) -> None:
        if isinstance(self.trainer.strategy, FSDP2Strategy):
            self.trainer.strategy.keep_whole(self.estimator, keep)

    def _gather(self) -> None:
        """Give every rank the predictions of all, so that each computes the same numbers."""
        if self.trainer.world_size == 1:
            return
        shares: list[Any] = [None] * self.trainer.world_size
        own = self.metric.predictions, self.metric.skipped
        torch.distributed.all_gather_object(shares, own, group=self.control)
        for predictions, _ in shares:
            self.metric.predictions.update(predictions)
        self.metric.skipped = sum(skipped for _, skipped in shares)

    def _check_first(self, batch: PoseBatch) -> None:
        """Stop before hours are spent on targets that are all zero."""
        _, weights = self.estimator.codec.encode(batch.keypoints, batch.visible)
        if weights.any():
            return
        if not batch.usable.any():
            raise DataError('not one image of the first batch can be read; see the warnings above')
        width, height = self.estimator.codec.input_size
        low, high = batch.keypoints.amin((0, 1)).tolist(), batch.keypoints.amax((0, 1)).tolist()
        raise DataError(
            'the first batch has no target: no labelled keypoint falls inside its crop of '
            f'{width}x{height} pixels ({int(batch.visible.sum())} labelled, x from {low[0]:.0f} to '
            f'{high[0]:.0f}, y from {low[1]:.0f} to {high[1]:.0f}): do boxes and keypoints of the '
            'annotation file belong together?'
        )

    # A checkpoint's keys are the estimator's own (`backbone.`, `head.`): plain to read elsewhere.

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        return self.estimator.state_dict(*args, **kwargs)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        like = self.state_dict()
        state_dict = {name: share(value, like.get(name)) for name, value in state_dict.items()}
        return self.estimator.load_state_dict(state_dict, strict, assign)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        info = self.estimator.info
        checkpoint['meta'] = {
            'keypoint_names': list(info.names),
            'skeleton': [list(bone) for bone in info.skeleton],  # indices from 0
            'sigmas': None if info.sigmas_source == 'guessed' else list(info.sigmas),
            'attention': attention_text(self.estimator.backbone),
            'metrics': dict(self.metrics),
            'optimizer': self.optimizer_text,
        }
