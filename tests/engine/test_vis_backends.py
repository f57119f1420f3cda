"""`vis_backends`: MMPose's words, real files of W&B and MLflow, and errors that say what to do."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import pytest
from lightning.pytorch.loggers import Logger

from psa_pose.engine import trackers, vis_backends
from psa_pose.engine.vis_backends import TRACKERS, build_loggers
from psa_pose.errors import ConfigError
from tests.engine.conftest import Configure, Run

LOCAL, BOARD = {'type': 'LocalVisBackend'}, {'type': 'TensorboardVisBackend'}
EVALUATED = (
    'train_cfg.max_epochs=2',
    'train_cfg.val_interval=1',
    'trainer.limit_train_batches=1',
)


def names(configure: Configure, **keys: Any) -> list[str]:
    cfg = configure()
    cfg.merge_from_dict(keys)
    return [type(logger).__name__ for logger in build_loggers(cfg, None, start=False)]


def test_mmpose_s_configs_say_it_in_two_ways(configure: Configure) -> None:
    backends = [LOCAL, BOARD]
    visualizer = {'type': 'PoseLocalVisualizer', 'vis_backends': backends, 'name': 'visualizer'}
    assert names(configure) == ['EventLog']
    assert names(configure, vis_backends=backends) == ['EventLog', 'Local']
    assert names(configure, vis_backends=backends, visualizer=visualizer) == ['EventLog', 'Local']
    assert names(configure, visualizer=visualizer) == ['EventLog', 'Local']


@pytest.mark.parametrize(
    ('keys', 'said'),
    [
        ({'vis_backends': [{'type': 'WandVisBackend'}]}, "did you mean 'WandbVisBackend'"),
        ({'vis_backends': [BOARD, {'type': 'LocalVisBackend', 'x': 1}]}, r'vis_backends\.1.*x'),
        ({'vis_backends': {'type': 'LocalVisBackend'}}, 'expected a list'),
        ({'vis_backends': ['LocalVisBackend']}, r'vis_backends\.0'),
        ({'vis_backends': [LOCAL, LOCAL]}, r'vis_backends\.1: .* twice'),
        ({'visualizer': {'radius': 3}}, "visualizer: no option 'radius'"),
        ({'vis_backends': [BOARD], 'visualizer': {'vis_backends': [LOCAL]}}, 'differ'),
    ],
)
def test_errors(configure: Configure, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        names(configure, **keys)


@pytest.mark.parametrize(('kind', 'package'), [('Wandb', 'wandb'), ('MLflow', 'mlflow')])
def test_what_is_not_installed_is_named(
    configure: Configure, monkeypatch: Any, kind: str, package: str
) -> None:
    from lightning.pytorch.loggers import mlflow, wandb

    monkeypatch.setattr(wandb, '_WANDB_AVAILABLE', False)
    monkeypatch.setattr(mlflow, '_MLFLOW_AVAILABLE', False)
    with pytest.raises(
        ConfigError, match=rf'vis_backends\.0 \({kind}VisBackend\): pip install {package}'
    ):
        names(configure, vis_backends=[{'type': f'{kind}VisBackend'}])


def test_nothing_is_made_before_the_run_starts(
    configure: Configure, tmp_path: Path, monkeypatch: Any
) -> None:
    """`psa-pose check`, a dry run and all ranks but the first build the loggers, too."""

    class Stub(Logger):
        name = version = 'x'

        def __init__(self, **_: Any) -> None:
            super().__init__()

        log_metrics = log_hyperparams = None  # type: ignore[assignment]

    for name in ('Wandb', 'MLflow'):
        monkeypatch.setattr(vis_backends, name, Stub)
    kinds = [{'type': 'WandbVisBackend'}, {'type': 'MLflowVisBackend'}]
    assert names(configure, vis_backends=kinds) == ['EventLog', 'Stub', 'Stub']
    assert not (tmp_path / 'run').exists()


def test_local_pictures(run: Run, tmp_path: Path) -> None:
    run(*EVALUATED, "vis_backends=[dict(type='LocalVisBackend')]")
    folder = tmp_path / 'run/vis_data/vis_image'
    assert sorted(p.name for p in folder.iterdir()) == ['persons_0.jpg', 'persons_1.jpg']
    assert cv2.imread(str(folder / 'persons_1.jpg')).shape[1] == 7 * 200


class Service(Logger):
    """A service that takes two seconds to say that it is not there."""

    name = version = 'x'

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.down = 0.0, False
        self.points: list[int | None] = []
        self.asked = 0

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.asked += 1
        if self.down:
            self.clock += 2
            raise ConnectionError('no route to host')
        self.points.append(step)


def test_a_service_that_goes_away_costs_points_and_little_time(
    monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    class Away(trackers.Tracker, Service):
        pass

    away = Away()
    monkeypatch.setattr(trackers.time, 'monotonic', lambda: away.clock)
    for step in range(1000):  # a point a second; from 100 to 399 it is away
        away.down = 100 <= step < 400
        away.clock += 1
        away.log_metrics({'loss': 1.0}, step)
    assert away.points[:100] == list(range(100))
    assert away.points[-400:] == list(range(600, 1000))
    assert away.asked - len(away.points) == 2  # not at every point
    (line,) = capsys.readouterr().err.splitlines()
    assert line == 'warning: Away: ConnectionError: no route to host; its points are lost'


@pytest.mark.skipif(not find_spec('wandb'), reason='wandb is not installed')
def test_wandb_offline(run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv('WANDB_SILENT', 'true')
    backend = "vis_backends=[dict(type='WandbVisBackend', init_kwargs=dict(mode='offline'))]"
    run(*EVALUATED, backend)
    first = json.loads((tmp_path / 'run' / TRACKERS).read_text())['WandbVisBackend']
    (data,) = (tmp_path / 'run/wandb').glob(f'offline-run-*-{first}')
    assert (data / f'run-{first}.wandb').stat().st_size > 1000
    assert len(list((data / 'files/media/images').iterdir())) == 2
    run(*EVALUATED, 'train_cfg.max_epochs=3', backend, resume=True)
    assert json.loads((tmp_path / 'run' / TRACKERS).read_text())['WandbVisBackend'] == first
    assert len(list((tmp_path / 'run/wandb').glob(f'offline-run-*-{first}'))) == 2


@pytest.mark.skipif(
    not (find_spec('mlflow') and find_spec('sqlalchemy')), reason='mlflow is not installed'
)
def test_mlflow_in_the_work_dir(run: Run, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    backend = "vis_backends=[dict(type='MLflowVisBackend', exp_name='poses')]"
    run(*EVALUATED, backend)
    run(*EVALUATED, 'train_cfg.max_epochs=3', backend, resume=True)
    client = MlflowClient(f'sqlite:///{tmp_path}/run/mlflow.db')
    experiment = client.get_experiment_by_name('poses')
    (found,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(found.info.run_id, 'AP')
    assert [point.step for point in history] == [0, 1, 2]
    artifacts = [a.path for a in client.list_artifacts(found.info.run_id, 'persons')]
    assert sorted(artifacts) == [f'persons/step={n}.png' for n in range(3)]
    assert found.info.status == 'FINISHED'
