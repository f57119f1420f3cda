"""PSA's gates, as a forward pass uses them, for pictures and analysis."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from psa_pose.models.attention.psa import PSA


class Gates(NamedTuple):
    """Of one PSA block and batch; float32, on the model's device.

    Parallel PSA returns `(channel + spatial) * x`, sequential PSA `channel * spatial * x`. Values
    lie in (0, 1), those of a sequential block with `identity_init` in (0, 2).
    """

    channel: Tensor
    """(B, C): what."""
    spatial: Tensor
    """(B, H, W): where."""


@contextmanager
def record_gates(model: nn.Module) -> Iterator[dict[str, Gates]]:
    """Keep the gates of every PSA block of a model while the context lasts.

    They are computed beside each forward pass, from the same input and weights; the pass itself is
    not touched, nor is anything afterwards. Blocks other than `PSA` have no such pair of gates and
    are left out. In a model that `torch.compile` has compiled nothing is recorded: record from the
    one that it was made of.

    Yields:
        By module name, in the order of their last forward pass; a later pass replaces an earlier.
    """
    recorded: dict[str, Gates] = {}

    def recorder(name: str) -> Any:
        @torch.no_grad()
        def record(module: PSA, args: tuple[Tensor]) -> None:
            recorded.pop(name, None)
            recorded[name] = Gates(*(gate.float() for gate in module.gates(args[0])))

        return record

    handles = [
        module.register_forward_pre_hook(recorder(name))
        for name, module in model.named_modules()
        if isinstance(module, PSA)
    ]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def one_a_stage(recorded: dict[str, Gates]) -> dict[str, Gates]:
    """Of each stage of a backbone the last block among those that see the largest map.

    Stages are ResNet's `layer1` to `layer4`, and HRNet's `layer1` and `stage2` to `stage4`.
    """
    chosen: dict[str, Gates] = {}
    for name, gates in recorded.items():
        parts = name.split('.')
        stage = next((p for p in parts if p.startswith(('layer', 'stage'))), name)
        if stage not in chosen or gates.spatial[0].numel() >= chosen[stage].spatial[0].numel():
            chosen[stage] = gates
    return chosen
