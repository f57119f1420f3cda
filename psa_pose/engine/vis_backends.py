"""Where curves and pictures go: TensorBoard, and what `vis_backends` adds, in MMPose's words."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from mmengine.config import Config

from psa_pose.engine.event_log import EventLog
from psa_pose.engine.record_files import read_object
from psa_pose.engine.trackers import Local, MLflow, Tracker, Wandb
from psa_pose.errors import ConfigError, nearest
from psa_pose.files import write_json
from psa_pose.registry import check_arguments, known_keys

TRACKERS = 'trackers.json'
"""In a work dir: the ids of its runs at W&B and MLflow, with which `--resume` goes on."""


def build_loggers(cfg: Config, resumed_step: int | None, *, start: bool) -> list[Logger]:
    """TensorBoard's log and what `vis_backends` names, or the one in MMPose's `visualizer`.

    Args:
        cfg: the whole config.
        resumed_step: of the checkpoint that the run goes on from; TensorBoard drops later entries.
        start: whether to reach services at once, on this rank: what is wrong with them is to be
            known before hours of training, not after.

    Raises:
        ConfigError: no such backend or option; its package is not installed; it cannot be reached.
    """
    work_dir = Path(cfg.work_dir)
    loggers: list[Logger] = [
        EventLog(work_dir, name='', version='tensorboard', purge_step=resumed_step)
    ]
    ids = _ids(work_dir) if resumed_step is not None else {}
    entries = _entries(cfg)
    for i, (at, entry) in enumerate(entries):
        path = f'{at}.{i}'
        if not isinstance(entry, Mapping) or entry.get('type') not in BACKENDS:
            kind = entry.get('type') if isinstance(entry, Mapping) else entry
            raise ConfigError(f"{path}: no backend '{kind}'; {nearest(str(kind), BACKENDS)}")
        options = dict(entry)
        kind = options.pop('type')
        make = BACKENDS[kind]
        if [other.get('type') for _, other in entries[:i]].count(kind):
            raise ConfigError(f"{path}: '{kind}' stands there twice")
        if make is None:
            known_keys(options, ('save_dir',), path)
            continue
        options = {k: v for k, v in options.items() if v is not None}
        arguments = {'work_dir': work_dir, 'run_id': ids.get(kind), **options}
        with _explained(f'{path} ({kind})'):
            logger = make(**check_arguments(make, arguments, path))
            if start and isinstance(logger, Tracker):
                logger.begin()
                if kind not in ids:  # a run that goes on has them
                    logger.log_hyperparams({'config': cfg.filename, **cfg.to_dict()})
                ids[kind] = str(logger.version)
        loggers.append(logger)
    if start and ids:
        work_dir.mkdir(parents=True, exist_ok=True)
        write_json(work_dir / TRACKERS, ids)
    return loggers


def _entries(cfg: Config) -> list[tuple[str, Any]]:
    visualizer = known_keys(
        cfg.get('visualizer'), ('type', 'vis_backends', 'name', 'save_dir'), 'visualizer'
    )
    at, given = 'vis_backends', cfg.get('vis_backends')
    inner = visualizer.get('vis_backends')
    if inner is not None:
        if given is not None and list(given) != list(inner):
            raise ConfigError(
                'vis_backends and visualizer.vis_backends differ: leave one of them out'
            )
        at, given = 'visualizer.vis_backends', inner
    if given is not None and not isinstance(given, list | tuple):
        raise ConfigError(f"{at}: expected a list of dict(type='...'), got {given!r}")
    return [(at, entry) for entry in given or []]


def _ids(work_dir: Path) -> dict[str, str]:
    """None where they cannot be read: a new run there, curves in two parts, no reason to stop."""
    return read_object(work_dir / TRACKERS)


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """What a service or its package raises, as an error that says where in the config."""
    try:
        yield
    except (ConfigError, KeyboardInterrupt):
        raise
    except ModuleNotFoundError as error:
        package = 'wandb' if 'Wandb' in path else 'mlflow'
        raise ConfigError(f'{path}: pip install {package} ({str(error).splitlines()[0]})') from None
    except Exception as error:  # each service has classes of its own
        first = str(error).strip().splitlines()[0] if str(error).strip() else ''
        raise ConfigError(f'{path}: {type(error).__name__}: {first}') from error


def _local(work_dir: Path, run_id: str | None, save_dir: str | None = None) -> Logger:
    return Local(Path(save_dir or work_dir / 'vis_data') / 'vis_image')


def _wandb(
    work_dir: Path,
    run_id: str | None,
    save_dir: str | None = None,
    init_kwargs: Mapping[str, Any] | None = None,
) -> Logger:
    options = {'project': 'psa-pose', 'name': work_dir.name, **(init_kwargs or {})}
    folder = save_dir or options.pop('dir', None) or work_dir
    return Wandb(save_dir=folder, id=options.pop('id', run_id), **options)


def _mlflow(
    work_dir: Path,
    run_id: str | None,
    save_dir: str | None = None,
    exp_name: str = 'psa-pose',
    run_name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    tracking_uri: str | None = None,
    artifact_location: str | None = None,
) -> Logger:
    folder = Path(save_dir or work_dir).absolute()
    tracking_uri = tracking_uri or os.environ.get('MLFLOW_TRACKING_URI')
    own = not tracking_uri
    if own:  # what MLflow itself recommends in place of a folder of files
        tracking_uri = f'sqlite:///{folder / "mlflow.db"}'
        artifact_location = artifact_location or (folder / 'mlruns').as_uri()
    logger = MLflow(
        experiment_name=exp_name,
        run_name=run_name or work_dir.name,
        tags=dict(tags or {}),
        tracking_uri=tracking_uri,
        artifact_location=artifact_location,
        run_id=run_id,
    )
    logger.folder = folder if own else None
    return logger


BACKENDS: dict[str, Callable[..., Logger] | None] = {
    'TensorboardVisBackend': None,  # always there: reports read its curves
    'LocalVisBackend': _local,
    'WandbVisBackend': _wandb,
    'MLflowVisBackend': _mlflow,
}
"""`vis_backends[].type`: what makes the logger."""
