"""benchmarks/gpu_check.sh where no GPU is: what runs once a year must not have rotted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / 'benchmarks' / 'gpu_check.sh'


def check(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *map(str, arguments)],
        env={**os.environ, 'PYTHON': sys.executable, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ('part', 'files'),
    [
        ('first', {'psa_block', 'train_step', 'steps'}),
        ('second', {'epoch', 'evaluation', 'curve'}),
    ],
)
def test_every_command_of_a_part_runs(
    part: str, files: set[str], shared_data: Path, tmp_path: Path
) -> None:
    done = check(part, tmp_path, DRY='1')
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.stem for path in tmp_path.glob('*.json')} == files
    for path in tmp_path.glob('*.json'):
        found = json.loads(path.read_text())
        assert found['rows'] and {'device', 'torch', 'commit'} <= set(found['where'])
    assert (tmp_path / f'{part}.log').read_text().count('--- at') == 4


def test_no_part_and_no_python_are_errors(tmp_path: Path) -> None:
    done = check()
    assert done.returncode == 2 and 'gpu_check.sh first' in done.stdout
    assert check('first', tmp_path, PYTHON='/nowhere/python').returncode != 0


def test_repeated_persons_stay_in_their_images(tmp_path: Path) -> None:
    images = [{'id': i, 'file_name': f'{i}.jpg'} for i in (3, 8)]
    annotations = [{'id': i, 'image_id': image, 'area': 1.5} for i, image in ((1, 8), (9, 3))]
    source, target = tmp_path / 'few.json', tmp_path / 'many.json'
    source.write_text(json.dumps({'images': images, 'annotations': annotations}))
    code = f'import pathlib, train_speed as t; t.repeated(pathlib.Path({str(source)!r}), 3, '
    code += f'pathlib.Path({str(target)!r}))'
    subprocess.run([sys.executable, '-c', code], cwd=ROOT / 'benchmarks', check=True)
    many = json.loads(target.read_text())
    files = {image['id']: image['file_name'] for image in many['images']}
    assert len(files) == 6 and len({a['id'] for a in many['annotations']}) == 6
    assert [files[a['image_id']] for a in many['annotations']] == ['8.jpg', '3.jpg'] * 3
