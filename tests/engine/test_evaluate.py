"""`psa-pose test` and the files that it reads."""

import re
from pathlib import Path

import pytest

from psa_pose.engine.build import build_dataset
from psa_pose.engine.callbacks import EvaluationLog
from psa_pose.engine.evaluate import test as evaluate
from psa_pose.errors import ConfigError
from tests.engine.conftest import Configure, Run, forget


@pytest.mark.parametrize('output', ['out', 'metrics_file'])
@pytest.mark.parametrize('taken', ['annotations', 'boxes', 'checkpoint'])
def test_what_it_reads_is_never_overwritten(
    configure: Configure, tmp_path: Path, demo_root: Path, output: str, taken: str
) -> None:
    boxes, checkpoint = tmp_path / 'boxes.json', tmp_path / 'last.ckpt'
    files = {
        'annotations': demo_root / 'annotations/person_keypoints_val.json',
        'boxes': tmp_path / 'folder' / '..' / 'boxes.json',
        'checkpoint': checkpoint,
    }
    (tmp_path / 'folder').mkdir()
    before = files['annotations'].read_bytes()
    with pytest.raises(ConfigError, match='is an input, and would be overwritten'):
        evaluate(configure(), checkpoint, boxes=str(boxes), **{output: files[taken]})  # type: ignore[arg-type]
    assert files['annotations'].read_bytes() == before


def test_a_folder_is_refused_before_hours_of_evaluation(
    configure: Configure, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match='is a folder; name a file in it'):
        evaluate(configure(), tmp_path / 'last.ckpt', out=tmp_path)


def test_lines_say_how_far_it_is(
    run: Run, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a job's log, where there is no bar; in training as in `psa-pose test`."""
    few = ('val_dataloader.batch_size=3', 'trainer.limit_val_batches=3')
    few += ('trainer.num_sanity_val_steps=2',)  # of which nobody wants to hear
    options = (*few, 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1')
    run(*options)
    assert 'evaluated' not in run.log  # it took no half minute
    forget(tmp_path)
    monkeypatch.setattr(EvaluationLog, 'SECONDS', 0.0)
    run(*options)
    lines = re.findall(r'^evaluated (\d+) of (\d+) batches  ETA [\d:]+$', run.log, re.M)
    assert lines == [(str(done), '3') for done in range(1, 3)]  # what ends it says the table
    evaluate(configure(*few), tmp_path / 'run/checkpoints/last.ckpt')
    batches = -(-len(build_dataset(configure(), 'val_dataloader')) // 3)
    lines = re.findall(r'^evaluated (\d+) of (\d+) batches', run.capsys.readouterr().out, re.M)
    assert lines == [(str(done), str(batches)) for done in range(1, batches)]
