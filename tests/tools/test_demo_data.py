"""`psa-pose demo-data`: people to train on, which stay what they are."""

import json
from pathlib import Path

import pytest

from psa_pose.cli import main


def render(root: Path, train: int, *more: str) -> None:
    assert main(['demo-data', str(root), '--train', str(train), '--val', '1', *more]) == 0


def images(root: Path, split: str) -> int:
    path = root / f'annotations/person_keypoints_{split}.json'
    content = json.loads(path.read_text())
    assert all((root / f'images/{split}' / i['file_name']).is_file() for i in content['images'])
    return len(content['images'])


def test_what_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    render(tmp_path, 3)
    (tmp_path / 'annotations/person_keypoints_val.json').unlink()  # stopped before it
    capsys.readouterr()
    render(tmp_path, 2)
    assert (images(tmp_path, 'train'), images(tmp_path, 'val')) == (3, 1)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith('3 images, ') and '--force' in first
    assert second.startswith('1 images, ') and '--force' not in second


def test_force_renders_anew(tmp_path: Path) -> None:
    render(tmp_path, 3)
    render(tmp_path, 2, '--force')
    assert images(tmp_path, 'train') == 2
