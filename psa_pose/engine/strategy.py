"""How ranks share a training step: `model_wrapper_cfg`, MMEngine's word, as Lightning's strategy.

    model_wrapper_cfg = dict(type='DistributedDataParallel', gradient_as_bucket_view=True,
                             static_graph=False, bucket_cap_mb=25, grad_compression=None,
                             find_unused_parameters=False)  # these are the defaults
    model_wrapper_cfg = dict(type='FSDP2', reshard_after_forward=True, grad_compression=None)

`grad_compression='bf16'` halves what ranks send each other. A single process needs none of it.
"""

import inspect
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy
from mmengine.config import Config
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from psa_pose.engine.build import truth, whole_number
from psa_pose.engine.fsdp2 import FSDP2Strategy
from psa_pose.engine.ranks import Launch
from psa_pose.engine.step import WRAPPER, StepOptions
from psa_pose.errors import ConfigError, nearest
from psa_pose.registry import known_keys

# Its name before torch 2.15.
_NAMES = inspect.signature(DistributedDataParallel).parameters
SYNC_BUFFERS = next(n for n in ('forward_sync_buffers', 'broadcast_buffers') if n in _NAMES)
WRAPPERS: dict[str, dict[str, Any]] = {
    'DistributedDataParallel': {
        'gradient_as_bucket_view': True,
        'static_graph': False,
        'bucket_cap_mb': 25,
        'grad_compression': None,
        'find_unused_parameters': False,
    },
    'FSDP2': {'reshard_after_forward': True, 'grad_compression': None},
}
"""Their options and what holds where a config does not say."""


def build_strategy(cfg: Config, launch: Launch, step: StepOptions) -> Strategy | str:
    """What a config's `model_wrapper_cfg` means for Lightning's Trainer.

    Args:
        cfg: the whole config.
        launch: says how many ranks there are.
        step: how a step is computed; not everything goes with FSDP2.

    Returns:
        A strategy, or 'auto' for a single process. The process group is not its business: it is
        there before.

    Raises:
        ConfigError: a type, option or combination that does not exist.
    """
    kind, options = _read(cfg)
    if kind == 'FSDP2':
        _check_fsdp2(step)
    elif options['static_graph'] and step.accumulate > 1:
        raise ConfigError(
            f'{WRAPPER}.static_graph: its first backward must send gradients, and with '
            f'optim_wrapper.accumulative_counts={step.accumulate} it does not; drop one of the two'
        )
    if launch.ranks == 1:
        return 'auto'
    compressed = options.pop('grad_compression') is not None
    if kind == 'FSDP2':
        return FSDP2Strategy(
            launch.ranks,
            reshard_after_forward=options['reshard_after_forward'],
            reduce_dtype=torch.bfloat16 if compressed else None,
        )
    return RankStrategy(compressed, **options)


def strategy_text(cfg: Config) -> str:
    """What several ranks do together, for the first lines of a run."""
    kind, options = _read(cfg)
    changed = [f'{k}={v}' for k, v in options.items() if v != WRAPPERS[kind][k]]
    own = 'BatchNorm over all ranks' if cfg.get('sync_bn') else "each rank's own BatchNorm"
    return ', '.join([kind, *changed, own])


class RankStrategy(DDPStrategy):
    """Lightning's DDP; with compressed gradients on a CPU as well.

    BatchNorm's statistics are `NonFiniteGuard`'s: DDP would send rank 0's before every forward.
    """

    def __init__(self, compressed: bool, **options: Any) -> None:
        super().__init__(**{**options, SYNC_BUFFERS: False})
        self.compressed = compressed

    def _setup_model(self, model: nn.Module) -> DistributedDataParallel:
        """On the stream that computes: Lightning's own takes another, and each backward waits."""
        return DistributedDataParallel(model, self.determine_ddp_device_ids(), **self._ddp_kwargs)

    def configure_ddp(self) -> None:
        super().configure_ddp()
        if self.compressed:
            assert isinstance(self.model, DistributedDataParallel)
            self.model.register_comm_hook(None, bf16_compress_hook)


def _read(cfg: Config) -> tuple[str, dict[str, Any]]:
    wrapper = known_keys(cfg.get(WRAPPER), None, WRAPPER)
    kind = wrapper.get('type', 'DistributedDataParallel')
    if kind not in WRAPPERS:
        raise ConfigError(f'{WRAPPER}.type: unknown {kind!r}; {nearest(str(kind), WRAPPERS)}')
    defaults = WRAPPERS[kind]
    options = {**defaults, **known_keys(wrapper, ('type', *defaults), WRAPPER)}
    options.pop('type', None)
    for name, default in defaults.items():
        if isinstance(default, bool):
            truth(options[name], f'{WRAPPER}.{name}')
    if 'bucket_cap_mb' in options:
        whole_number(options['bucket_cap_mb'], f'{WRAPPER}.bucket_cap_mb')
    if options['grad_compression'] not in (None, 'bf16'):
        found = options['grad_compression']
        raise ConfigError(f"{WRAPPER}.grad_compression must be 'bf16' or None, got {found!r}")
    return kind, options


def _check_fsdp2(step: StepOptions) -> None:
    if step.compile is not None:
        raise ConfigError(
            f"{WRAPPER}: FSDP2 gathers weights between a model's parts, compile makes one graph of "
            'all of them; drop one of the two'
        )
    if step.dtype == 'float16':
        raise ConfigError(
            f'{WRAPPER}: FSDP2 trains in float32 or bfloat16, not float16; set optim_wrapper.dtype '
            "to 'bfloat16'"
        )
