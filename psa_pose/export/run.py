"""From a config and a checkpoint to a file that runs elsewhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config

from psa_pose.engine.build import build_model
from psa_pose.errors import ConfigError
from psa_pose.export.check import BATCHES, check
from psa_pose.export.graph import PoseGraph
from psa_pose.export.latency import latencies
from psa_pose.export.layers import Exported
from psa_pose.export.metadata import describe
from psa_pose.export.samples import sample_crops
from psa_pose.files import replaced
from psa_pose.inference.keypoints import model_keypoints
from psa_pose.models.checkpoints import load_checkpoint
from psa_pose.models.checkpoints.fetch import local_file

SUFFIXES = {'onnx': '.onnx', 'torch': '.pt2'}


def export_model(
    cfg: Config,
    checkpoint: str | Path,
    *,
    out: Path | None = None,
    file_format: str | None = None,
    normalise: bool = True,
    decode: bool = True,
    flip_test: bool = False,
    checked: bool = True,
    rounds: int = 10,
    licence: str | None = None,
) -> Path:
    """Write a model as an ONNX file or a PyTorch program, once it agrees with the original.

    Args:
        cfg: of the model; its evaluation's persons are what the two are compared on.
        checkpoint: see `load_checkpoint`.
        out: file to write, overwritten where it exists; default: the config's name in `work_dir`.
        file_format: 'onnx' or 'torch'; default: as `out` ends, or else 'onnx'.
        normalise: uint8 crops go in, see `PoseGraph`.
        decode: keypoints come out, see `PoseGraph`.
        flip_test: average with the mirrored crop.
        checked: compare before writing.
        rounds: of the latency measurement; 0 for none.
        licence: of the weights; the file says it.

    Returns:
        The file's path.

    Raises:
        CheckpointError: the checkpoint does not fit the model.
        ConfigError: unknown format.
        ExportError: the model cannot be exported; or the file is not the same model, which is then
            not written, and the first layer that differs is named.
    """
    file_format = _format(out, file_format)
    name = Path(cfg.filename or 'model').stem
    out = out or Path(cfg.get('work_dir') or '.', name + SUFFIXES[file_format])
    write, read = _tools(file_format)
    path = local_file(checkpoint)
    estimator = build_model(cfg, model_keypoints(cfg, path))
    print(load_checkpoint(estimator, path, strict=True))
    graph = PoseGraph(estimator, normalise, decode, flip_test)
    crops, source = sample_crops(cfg, max(BATCHES))

    out.parent.mkdir(parents=True, exist_ok=True)
    with replaced(out) as partial:
        write(graph, crops, partial, describe(cfg, graph, path, licence))
        exported = read(partial)
        if checked:
            print(f'check     {check(graph, exported, crops)}; {source}, batches of 1, 3 and 8')
        for size, original, exports, ratio in latencies(graph, exported, crops, rounds):
            print(
                f'latency   batch {size}: {original:.1f} ms here, {exports:.1f} ms exported: '
                f'{ratio:.2f}x'
            )
    print(f'exported  {out}: {out.stat().st_size / 1e6:.1f} MB')
    return out


def _format(out: Path | None, file_format: str | None) -> str:
    endings = ' or '.join(SUFFIXES.values())
    by_ending = {suffix: name for name, suffix in SUFFIXES.items()}
    chosen = file_format or (by_ending.get(out.suffix) if out else 'onnx')
    if chosen not in SUFFIXES:
        raise ConfigError(f'{out}: end the name in {endings}, or give --format')
    if out and out.suffix != SUFFIXES[chosen]:
        raise ConfigError(f"{out}: a file of format '{chosen}' ends in {SUFFIXES[chosen]}")
    return chosen


def _tools(file_format: str) -> tuple[Callable[..., Any], Callable[[Path], Exported]]:
    """What writes a format, and what reads it back; onnx is imported only where it is wanted."""
    if file_format == 'onnx':
        from psa_pose.export.to_onnx import OnnxModel, write_onnx

        return write_onnx, OnnxModel
    from psa_pose.export.to_torch import TorchProgram, write_torch

    return write_torch, TorchProgram
