"""Which layer differs first: values inside the original and inside what was exported."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

TOLERANCE = 1e-4
"""Of values, relative to the greatest of their layer; of heatmaps that were learnt, about 1."""


class Operation(NamedTuple):
    """A node of an exported graph."""

    name: str
    kind: str
    scopes: Sequence[str]
    """Names of the modules that it belongs to, outermost first, without the whole network."""
    inputs: Sequence[str]
    outputs: Sequence[str]
    weights: Sequence[str] = ()


class Exported(Protocol):
    """A file that has been read back, ready to run."""

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        """What `PoseGraph.forward` gives."""

    def operations(self) -> Sequence[Operation]:
        """The graph, in an order in which it can be computed."""

    def values(self, images: Tensor, names: Collection[str]) -> Mapping[str, Tensor]:
        """Values inside the graph by name; what is no tensor is left out."""


class LayerError(NamedTuple):
    """How far a layer's output is from the original's."""

    layer: str
    error: float
    operation: Operation

    def __str__(self) -> str:
        weights = f' of {", ".join(self.operation.weights)}' if self.operation.weights else ''
        what = f'{self.operation.kind}{weights}, node {self.operation.name}'
        return f'{self.layer}, by {self.error:.1e} of its greatest value ({what})'


def relative_error(got: Tensor, expected: Tensor) -> float:
    """The greatest difference over the greatest expected value; nan where either has one."""
    scale = expected.abs().amax().item() or 1.0
    return (got.double() - expected.double()).abs().amax().item() / scale


def first_difference(
    graph: nn.Module, exported: Exported, images: Tensor, tolerance: float = TOLERANCE
) -> LayerError | None:
    """The first layer, in the original's order, whose output differs; None where none does.

    A difference that the layer around it does not show is rounding of what is nearly 0.
    """
    found = list(layer_errors(graph, exported, images))
    errors = {layer.layer: layer.error for layer in found}
    for layer in found:
        around = layer.layer
        while around := around.rpartition('.')[0]:
            if around in errors:
                break
        agree = layer.error <= tolerance or errors.get(around, math.inf) <= tolerance
        if not agree:  # as nan does not
            return layer
    return None


def layer_errors(
    graph: nn.Module, exported: Exported, images: Tensor, only: Collection[str] = ()
) -> Iterator[LayerError]:
    """Every layer that both have, in the order in which the original finishes them.

    A convolution whose BatchNorm was folded into it has no output of its own, nor has a module
    that is called several times a name of its own; the layer around them has.

    Args:
        graph: the original.
        exported: the file, read back.
        images: a batch, as the graph takes it.
        only: names of layers, or all.
    """
    original = _original_outputs(graph, images, only)
    operations = exported.operations()
    made_by = {name: operation for operation in operations for name in operation.outputs}
    candidates = {
        layer: names for layer, names in _leaving(operations).items() if layer in original
    }
    values = exported.values(images, {name for names in candidates.values() for name in names})
    for layer, expected in original.items():
        fitting = [
            name
            for name in candidates.get(layer, ())
            if name in values
            and values[name].shape == expected.shape
            and values[name].dtype == expected.dtype
        ]
        if len(fitting) == 1:
            error = relative_error(values[fitting[0]], expected)
            yield LayerError(layer, error, made_by[fitting[0]])


def _leaving(operations: Sequence[Operation]) -> dict[str, list[str]]:
    """For each layer the values made in it and used outside: its output, and shared constants."""
    users: dict[str, list[Operation]] = {}
    for operation in operations:
        for name in operation.inputs:
            users.setdefault(name, []).append(operation)
    leaving: dict[str, list[str]] = {}
    for operation in operations:
        for name in operation.outputs:
            using = users.get(name, [])
            for layer in operation.scopes:
                if not using or any(layer not in user.scopes for user in using):
                    leaving.setdefault(layer, []).append(name)
    return leaving


def _original_outputs(graph: nn.Module, images: Tensor, only: Collection[str]) -> dict[str, Tensor]:
    """What modules that are called once give, if it is one tensor, in the order of their ends."""
    outputs: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def keep(name: str, output: object) -> None:
        calls[name] += 1
        if isinstance(output, Tensor):
            outputs[name] = output.clone()  # what follows may change it in place

    handles = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: keep(name, output))
        for name, module in graph.named_modules()
        if name and (name in only or not only)
    ]
    try:
        with torch.no_grad():
            graph(images)
    finally:
        for handle in handles:
            handle.remove()
    return {name: output for name, output in outputs.items() if calls[name] == 1}
