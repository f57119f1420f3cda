"""`torch.export` programs (.pt2): PyTorch runs them without this package.

Not TorchScript: it is deprecated, its tracing fixes in silence whatever Python decided while it
watched, and its files carry pickled code. A program is PyTorch's own operations, with the batch
size as a symbol, and compiles ahead of time (AOTInductor) and to other runtimes.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import Interpreter, Node

from psa_pose.export.graph import PoseGraph, trace
from psa_pose.export.layers import Operation

METADATA = 'psa_pose.json'


def write_torch(graph: PoseGraph, crops: Tensor, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write a graph as one file, its weights within.

    Args:
        graph: what to write.
        crops: (B, H, W, 3) uint8, at least two, to record it with.
        path: of the file.
        metadata: plain values, which the file keeps as JSON in its extra file `psa_pose.json`.

    Raises:
        ExportError: see `trace`.
    """
    torch.export.save(trace(graph, crops), path, extra_files={METADATA: json.dumps(metadata)})


class TorchProgram:
    """A file, in PyTorch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.module = torch.export.load(path).module()

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        """See `Exported`."""
        with torch.no_grad():
            return self.module(images)

    def operations(self) -> Sequence[Operation]:
        """See `Exported`."""
        return [_operation(node) for node in self.module.graph.nodes]

    def values(self, images: Tensor, names: Collection[str]) -> Mapping[str, Tensor]:
        """See `Exported`."""
        recorder = _Recorder(self.module, names)
        with torch.no_grad():
            recorder.run(images)
        return recorder.values


class _Recorder(Interpreter):
    def __init__(self, module: torch.fx.GraphModule, names: Collection[str]) -> None:
        super().__init__(module)
        self.names = set(names)
        self.values: dict[str, Tensor] = {}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n.name in self.names and isinstance(value, Tensor):
            self.values[n.name] = value.clone()  # an operation in place may follow
        return value


def _operation(node: Node) -> Operation:
    scopes = [path for path, _ in node.meta.get('nn_module_stack', {}).values()]
    parameters = [n.target for n in node.all_input_nodes if n.op == 'get_attr']
    return Operation(
        name=node.name,
        kind=str(node.target),
        scopes=scopes[1:],
        inputs=[n.name for n in node.all_input_nodes],
        outputs=[node.name],
        weights=[str(name) for name in parameters],
    )
