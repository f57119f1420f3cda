"""benchmarks/coco_eval.py on a small input: the numbers are pycocotools', digit by digit."""

import subprocess
import sys

from tests.conftest import ROOT


def test_the_benchmark_s_numbers_are_equal() -> None:
    command = [sys.executable, str(ROOT / 'benchmarks' / 'coco_eval.py')]
    sizes = ['--images', '60', '--persons', '130', '--detections', '1250', '--rounds', '1']
    done = subprocess.run([*command, *sizes], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'the ten numbers are equal' in done.stdout
