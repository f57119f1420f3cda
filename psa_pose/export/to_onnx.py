"""ONNX files: written by PyTorch's exporter, run by onnxruntime."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psa_pose.errors import ExportError
from psa_pose.export.graph import PoseGraph, trace
from psa_pose.export.layers import Operation

OPSET = 18
"""The first with all operations that are used here; onnxruntime 1.14 and later run it."""
SCOPES = 'pkg.torch.onnx.name_scopes'
try:
    import onnx
    import onnxruntime
    import onnxscript  # noqa: F401  PyTorch's exporter is written with it
except ImportError as error:
    raise ExportError(
        f"ONNX needs a package that is not there ({error}): pip install 'psa-pose[export]'"
    ) from error


def write_onnx(graph: PoseGraph, crops: Tensor, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write a graph as one file, its weights within.

    Args:
        graph: what to write.
        crops: (B, H, W, 3) uint8, at least two, to record it with.
        path: of the file.
        metadata: plain values, which the file keeps as JSON under the key `psa_pose`.

    Raises:
        ExportError: see `trace`; or an operation has no counterpart in ONNX.
    """
    program = trace(graph, crops)
    try:
        written = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[graph.input_name],
            output_names=list(graph.output_names),
            dynamic_shapes=({0: 'batch'},),
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        cause: BaseException = error
        while cause.__cause__:
            cause = cause.__cause__
        reason = str(cause).splitlines()[0]
        raise ExportError(
            f'torch {torch.__version__} cannot write the graph as ONNX: {reason} (2.10 with '
            'onnxscript 0.7 and later were tried)'
        ) from error
    assert written is not None
    proto = written.model_proto
    onnx.helper.set_model_props(proto, {'psa_pose': json.dumps(metadata)})
    onnx.checker.check_model(proto)
    onnx.save(proto, path)


class OnnxModel:
    """A file, in onnxruntime on the CPU."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.session = _session(str(path))
        self.input_name = self.session.get_inputs()[0].name

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        """See `Exported`."""
        found = self.session.run(None, {self.input_name: images.numpy()})
        return tuple(torch.from_numpy(value) for value in found)

    def operations(self) -> Sequence[Operation]:
        """See `Exported`."""
        graph = onnx.load(self.path).graph
        weights = {tensor.name for tensor in graph.initializer}
        return [_operation(node, weights) for node in graph.node]

    def values(self, images: Tensor, names: Collection[str]) -> Mapping[str, Tensor]:
        """See `Exported`."""
        model = onnx.load(self.path)
        outputs = {output.name for output in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in outputs)
        session = _session(model.SerializeToString())
        names = list(names)
        found = session.run(names, {self.input_name: images.numpy()})
        return {name: torch.from_numpy(v) for name, v in zip(names, found, strict=True)}


def _session(model: str | bytes) -> 'onnxruntime.InferenceSession':
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])


def _operation(node: 'onnx.NodeProto', weights: Collection[str]) -> Operation:
    properties = {entry.key: entry.value for entry in node.metadata_props}
    # The outermost is the whole network, '', and the last the operation itself.
    scopes = [scope.strip(' \'"') for scope in properties.get(SCOPES, '')[1:-1].split(',')][1:-1]
    return Operation(
        name=node.name,
        kind=node.op_type,
        scopes=scopes,
        inputs=list(node.input),
        outputs=list(node.output),
        weights=[name for name in node.input if name in weights and not name.startswith('val_')],
    )
