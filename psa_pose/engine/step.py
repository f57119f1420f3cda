"""How a step is computed: what a config says in MMEngine's words, as Lightning's Trainer takes it.

    optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16', accumulative_counts=2,
                         clip_grad=dict(max_norm=1.0), optimizer=dict(...))
    env_cfg = dict(cudnn_benchmark=True, channels_last=True)  # these are the defaults
    compile = True  # or dict(mode=...); not compiled where it is missing
    val_cfg = dict(fp16=True)

Without `optim_wrapper.type` a GPU that has bfloat16 trains in it, everything else in float32.
Loss, targets, decoding and, unless `val_cfg.fp16`, all of an evaluation are float32 in any case.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from mmengine.config import Config

from psa_pose.engine.build import truth, whole_number
from psa_pose.engine.environment import gpus
from psa_pose.errors import ConfigError, nearest
from psa_pose.registry import check_arguments, known_keys, refuse

WRAPPER = 'model_wrapper_cfg'
WRAPPERS = ('OptimWrapper', 'AmpOptimWrapper')
PRECISIONS = {'float32': '32-true', 'bfloat16': 'bf16-mixed', 'float16': '16-mixed'}
MOVED = {
    'precision': "optim_wrapper=dict(type='AmpOptimWrapper', dtype='bfloat16' or 'float16'), and "
    "type='OptimWrapper' for float32",
    'accumulate_grad_batches': 'optim_wrapper.accumulative_counts',
    'gradient_clip_val': 'optim_wrapper.clip_grad=dict(max_norm=...)',
    'gradient_clip_algorithm': "optim_wrapper.clip_grad=dict(type='value', clip_value=...)",
    'benchmark': 'env_cfg.cudnn_benchmark',
    'deterministic': 'randomness.deterministic',
    'max_epochs': 'train_cfg.max_epochs',
    'check_val_every_n_epoch': 'train_cfg.val_interval',
    'log_every_n_steps': 'default_hooks.logger.interval',
    'callbacks': 'custom_hooks',
    'default_root_dir': 'work_dir',
    'devices': 'the processes that a launcher starts (torchrun --nproc_per_node=N, srun), one a '
    'GPU; which GPUs: CUDA_VISIBLE_DEVICES',
    'num_nodes': 'the nodes that a launcher starts processes on (torchrun --nnodes=N, srun -N)',
    'strategy': 'model_wrapper_cfg',
    'sync_batchnorm': "sync_bn='torch'",
}
"""What Lightning's Trainer takes and a config says elsewhere: one thing has one place."""


@dataclass(frozen=True)
class StepOptions:
    """How a training step, and a step of an evaluation, is computed.

    Attributes:
        device: 'cuda', 'mps' or 'cpu'.
        dtype: of autocast in training; 'float32' is none.
        eval_dtype: of autocast in evaluation.
        accumulate: batches whose gradients one optimizer step takes.
        clip: 'norm' or 'value', and the largest that is left as it is; None clips nothing.
        channels_last: the network's memory format.
        cudnn_benchmark: try cuDNN's algorithms at the first sight of a shape.
        deterministic: only algorithms that give the same bits every time.
        compile: keywords of `torch.compile` for the training step; None leaves it eager.
        sharded: ranks share the weights out among them, see `psa_pose.engine.fsdp2`.
    """

    device: str = 'cpu'
    dtype: str = 'float32'
    eval_dtype: str = 'float32'
    accumulate: int = 1
    clip: tuple[str, float] | None = None
    channels_last: bool = True
    cudnn_benchmark: bool = True
    deterministic: bool = False
    compile: Mapping[str, Any] | None = None
    sharded: bool = False

    def trainer_arguments(self) -> dict[str, Any]:
        """For `lightning.Trainer`."""
        algorithm, value = self.clip or (None, None)
        return {
            'precision': PRECISIONS[self.dtype],
            'accumulate_grad_batches': self.accumulate,
            'gradient_clip_val': value,
            'gradient_clip_algorithm': algorithm,
            'benchmark': self.cudnn_benchmark and not self.deterministic,
            'deterministic': self.deterministic or None,
        }

    def fuses(self, optimizer: type, options: Mapping[str, Any]) -> bool:
        """Whether to ask for the fused form of an optimizer, where `options` do not say it."""
        return (
            'fused' in inspect.signature(optimizer).parameters
            and not {'fused', 'foreach', 'differentiable'} & set(options)
            # A fused step takes the loss scale out by itself: too late for clipping.
            and not (self.dtype == 'float16' and self.clip)
            # SGD has none for shards. And a loss scale skips the first step of most runs, which
            # leaves fused SGD with whatever was in memory for a momentum.
            and not (
                issubclass(optimizer, torch.optim.SGD) and (self.sharded or self.dtype == 'float16')
            )
        )

    def __str__(self) -> str:
        parts = ['float32' if self.dtype == 'float32' else f'{self.dtype} autocast']
        parts += ['channels last'] if self.channels_last else []
        if self.device == 'cuda':
            parts += ['cuDNN benchmark'] if self.trainer_arguments()['benchmark'] else []
        how = ', '.join(f'{k}={v}' for k, v in (self.compile or {}).items())
        parts.append('not compiled' if self.compile is None else f'compiled ({how or "inductor"})')
        parts += [f'{self.accumulate} batches a step'] if self.accumulate > 1 else []
        parts += [f'gradients clipped by {self.clip[0]} {self.clip[1]:g}'] if self.clip else []
        parts += ['deterministic'] if self.deterministic else []
        return f'{", ".join(parts)}; evaluation in {self.eval_dtype}'


def step_options(cfg: Config, training: bool = True) -> StepOptions:
    """Read a config; see the head of this file.

    Args:
        cfg: the whole config.
        training: whether `dtype` is of use: what was trained in float16 on a GPU can be evaluated
            where there is none.

    Raises:
        ConfigError: a key or value that nothing reads, or that stands in an old place.
    """
    wrapper = known_keys(
        cfg.get('optim_wrapper'),
        ('type', 'optimizer', 'paramwise_cfg', 'dtype', 'clip_grad', 'accumulative_counts'),
        'optim_wrapper',
    )
    env = known_keys(
        cfg.get('env_cfg'), ('cudnn_benchmark', 'channels_last', 'dist_cfg'), 'env_cfg'
    )
    randomness = cfg.get('randomness') or {}
    val_cfg = known_keys(cfg.get('val_cfg'), ('fp16',), 'val_cfg')
    accumulate = whole_number(
        wrapper.get('accumulative_counts', 1), 'optim_wrapper.accumulative_counts'
    )
    device = _device(known_keys(cfg.get('trainer'), None, 'trainer'))
    half = 'float16' if device == 'cuda' else 'bfloat16'
    return StepOptions(
        device=device,
        dtype=_dtype(wrapper, device) if training else 'float32',
        eval_dtype=half if truth(val_cfg.get('fp16', False), 'val_cfg.fp16') else 'float32',
        accumulate=accumulate,
        clip=_clip(wrapper.get('clip_grad')),
        channels_last=truth(env.get('channels_last', True), 'env_cfg.channels_last'),
        cudnn_benchmark=truth(env.get('cudnn_benchmark', True), 'env_cfg.cudnn_benchmark'),
        deterministic=truth(randomness.get('deterministic', False), 'randomness.deterministic'),
        compile=_compile(cfg.get('compile'), accumulate),
        sharded=known_keys(cfg.get(WRAPPER), None, WRAPPER).get('type') == 'FSDP2',
    )


def check_moved(options: Mapping[str, Any]) -> None:
    """Refuse in `trainer` what has a place of its own in a config."""
    for key in options:
        if key in MOVED:
            refuse(ConfigError(f'trainer.{key}: a config says this as {MOVED[key]}'))


def _device(trainer: Mapping[str, Any]) -> str:
    asked = trainer.get('accelerator', 'auto')
    if asked in ('auto', 'gpu', 'cuda') and gpus():
        return 'cuda'
    if asked in ('auto', 'gpu', 'mps') and L.pytorch.accelerators.MPSAccelerator.is_available():
        return 'mps'
    return 'cpu'


def _dtype(wrapper: Mapping[str, Any], device: str) -> str:
    kind, asked = wrapper.get('type'), wrapper.get('dtype')
    if kind is not None and kind not in WRAPPERS:
        raise ConfigError(f"optim_wrapper.type: unknown '{kind}'; {nearest(str(kind), WRAPPERS)}")
    if kind != 'AmpOptimWrapper' and asked is not None:
        raise ConfigError(
            f"optim_wrapper.dtype: '{asked}' is AmpOptimWrapper's; set optim_wrapper.type to it"
        )
    if kind == 'OptimWrapper':
        return 'float32'
    # A GPU without bfloat16 emulates it, slower than float32.
    has_bfloat16 = device != 'cuda' or torch.cuda.is_bf16_supported(including_emulation=False)
    if kind is None:
        return 'bfloat16' if device == 'cuda' and has_bfloat16 else 'float32'
    if asked is None:
        return 'bfloat16' if has_bfloat16 else 'float16'
    if asked not in ('bfloat16', 'float16'):
        raise ConfigError(f"optim_wrapper.dtype must be 'bfloat16' or 'float16', got {asked!r}")
    if asked == 'float16' and device == 'cpu':
        raise ConfigError("optim_wrapper.dtype: float16 needs a GPU; on a CPU use 'bfloat16'")
    return asked


def _clip(clip_grad: Any) -> tuple[str, float] | None:
    path = 'optim_wrapper.clip_grad'
    if clip_grad is None:
        return None
    names = {'norm': ('type', 'max_norm', 'norm_type'), 'value': ('type', 'clip_value')}
    kind = known_keys(clip_grad, None, path).get('type', 'norm')
    if kind not in names:
        raise ConfigError(f"{path}.type must be 'norm' or 'value', got {kind!r}")
    options = known_keys(clip_grad, names[kind], path)
    if options.get('norm_type', 2) != 2:
        raise ConfigError(f'{path}.norm_type: only 2 is supported, got {options["norm_type"]!r}')
    key = names[kind][1]
    value = options.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f'{path}.{key}: expected a positive number, got {value!r}')
    return kind, float(value)


def _compile(options: Any, accumulate: int) -> Mapping[str, Any] | None:
    if options is None or options is False:
        return None
    if options is True:
        return {}
    options = known_keys(options, ('backend', 'mode', 'fullgraph', 'dynamic', 'options'), 'compile')
    arguments = check_arguments(torch.compile, options, 'compile')
    inductor = options.get('options')
    graphs = isinstance(inductor, Mapping) and inductor.get('triton.cudagraphs')
    if accumulate > 1 and (graphs or options.get('mode') in ('reduce-overhead', 'max-autotune')):
        raise ConfigError(
            'compile: CUDA graphs take back the memory of gradients at every batch, and a step '
            f'adds up {accumulate} (optim_wrapper.accumulative_counts); take '
            "mode='max-autotune-no-cudagraphs'"
        )
    return arguments
