"""What is printed after an evaluation: tables, published rows beside them, warnings."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from psa_pose.datasets import CocoStyleDataset
from psa_pose.engine.config import load_config
from psa_pose.engine.evaluate import print_results
from psa_pose.evaluation import CocoMetric
from tests.handmade import coco_content, write_dataset


def printed(tmp_path: Path, file_name: str, capsys) -> str:
    write_dataset(tmp_path, coco_content()).rename(tmp_path / file_name)
    metric = CocoMetric(CocoStyleDataset(file_name, [], (48, 64), str(tmp_path)))
    metric.process(np.arange(1), np.ones(1, bool), np.zeros((1, 5, 2)), np.ones((1, 5)))
    module = SimpleNamespace(
        metric=metric, metrics=metric.compute(), estimator=SimpleNamespace(flip_test=True)
    )
    print_results(load_config('coco/hrnet_w32_256x192.py'), module)  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_val2017_is_shown_beside_published_rows(tmp_path: Path, capsys) -> None:
    out = printed(tmp_path, 'person_keypoints_val2017.json', capsys)
    assert 'ground truth boxes' in out
    assert 'reference this run: AP 0.0, ground-truth boxes\n' in out
    assert "reference HRNet paper: AP 74.4, AR 79.8, the 56.4-AP detector's boxes\n" in out
    assert 'warning   not comparable: HRNet paper, MMPose: ' in out
    assert 'warning   person_keypoints_val2017.json has no sigmas' in out


def test_any_other_file_is_not(tmp_path: Path, capsys) -> None:
    assert 'reference' not in printed(tmp_path, 'mine.json', capsys)
