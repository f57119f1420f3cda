"""`psa-pose test` and the files that it reads."""

from pathlib import Path

import pytest

from psa_pose.engine.evaluate import test as evaluate
from psa_pose.errors import ConfigError
from tests.engine.conftest import Configure


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
