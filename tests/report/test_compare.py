"""Runs beside each other: only what may be compared is."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from psa_pose.cli import main
from psa_pose.report import write_report
from psa_pose.report.compare import _cell
from psa_pose.report.compare_persons import interval
from psa_pose.report.html import Html
from psa_pose.report.run import Run
from tests.report.conftest import Copy, alter
from tests.report.test_report_page import Page


@pytest.fixture
def pair(copy_run: Copy) -> list[Path]:
    """Two runs of another layout, the second's predictions moved by a pixel."""
    folders = [copy_run('first'), copy_run('second')]
    for part in ('evaluation', 'test'):
        results = json.loads((folders[1] / part / 'results.json').read_text())
        for row in results:
            row['keypoints'] = [x + 1 if i % 3 < 2 else x for i, x in enumerate(row['keypoints'])]
        text = json.dumps(results)
        (folders[1] / part / 'results.json').write_text(text)
        size = len(text)
        alter(folders[1] / part / 'about.json', lambda a, n=size: {**a, 'results_size': n})
    config = folders[1] / 'config.py'
    config.write_text(config.read_text().replace("'parallel'", "'sequential'"))
    return folders


def compared(folders: list[Path], out: Path) -> Page:
    return Page(write_report(folders, out))


def test_two_runs(pair: list[Path], tmp_path: Path) -> None:
    page = compared(pair, tmp_path / 'c.html')
    assert page.headings == [
        'Numbers', 'Runs', 'Curves', 'Config differences', 'Keypoints', 'Differences', 'Examples',
    ]  # fmt: skip
    assert 'Not comparable' not in page.text
    differences = page.source.partition('Config differences</h2>')[2].partition('</table>')[0]
    cells = re.findall(r'<code>(.*?)</code>', differences.replace('<wbr/>', ''))
    assert cells == ['model.backbone.attention.layout', '&#x27;parallel&#x27;',
                     '&#x27;sequential&#x27;']  # fmt: skip
    assert re.search(
        r'second\s+0\.\d+\s+[-+]0\.\d+ \[[-+]0\.\d+, [-+]0\.\d+\]\s+(yes|no)', page.text
    )
    alts = [image['alt'] for image in page.of('img')]
    persons = [re.search(r'person \d+', alt) for alt in alts]
    assert len(alts) == 12 and all(persons)
    names = [match.group() for match in persons if match]
    assert names[::2] == names[1::2], 'each person with every run'
    curve = next(svg['aria-label'] for svg in page.of('svg') if 'Evaluation' in svg['aria-label'])
    assert 'first from' in curve and 'second from' in curve


@pytest.mark.parametrize(
    ('key', 'value', 'said'),
    [
        ('boxes', 'a detector, d.json', 'person boxes: a detector, d.json'),
        ('ann_file', '/other/people.json', 'people.json'),
        ('flip_test', True, 'with flip test'),
        ('sigmas_source', 'guessed', 'guessed sigmas'),
    ],
)
def test_not_comparable(
    pair: list[Path], tmp_path: Path, key: str, value: object, said: str
) -> None:
    for part in ('evaluation', 'test'):
        alter(pair[1] / part / 'about.json', lambda a: {**a, key: value})
    page = compared(pair, tmp_path / 'c.html')
    assert 'Not comparable: these runs were not measured in the same way' in page.text
    assert said in page.text
    numbers = page.source.partition('<h2>Numbers')[2].partition('</section>')[0]
    tables = numbers.split('</table>')[:-1]
    assert len(tables) == 2
    assert 'second:' not in tables[0] and 'first:' not in tables[1]
    assert '<b>' not in numbers, 'there is no best of runs that do not compare'
    assert 'Differences' not in page.headings and not page.of('img')
    assert 'No two runs predicted the same persons' in page.text


def test_a_test_with_other_boxes_does_not_mix(pair: list[Path], tmp_path: Path) -> None:
    """Evaluated alike while they trained, one of them tested with a detector's boxes later on."""
    alter(pair[1] / 'test/about.json', lambda a: {**a, 'boxes': 'd.json'})
    page = compared(pair, tmp_path / 'c.html')
    assert 'Not comparable' not in page.text
    numbers = page.source.partition('<h2>Numbers')[2].partition('</section>')[0]
    first, second = numbers.split('</table>')[:-1]
    assert 'second: epoch' in first and 'second: test' not in first and 'second: test' in second
    assert 'second: measured in another way' in page.text


def test_a_run_without_anything_beside_one_that_has_all(
    pair: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for path in pair[1].iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (pair[1] / 'checkpoints').mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(['report', *map(str, pair)]) == 0
    assert capsys.readouterr().out.startswith('report    comparison.html')
    page = Page(tmp_path / 'comparison.html')
    assert 'No evaluation yet: second' in page.text
    assert 'No config could be read of second' in page.text
    assert 'Not one step has been logged' in page.text


def test_the_interval_is_that_of_drawing_images() -> None:
    """Of many images it is that of the normal distribution; persons of one image are no two."""
    rng = np.random.default_rng(1)
    difference = rng.normal(0.1, 1, 2000)
    image = [str(i) for i in range(2000)]
    low, high = interval(difference, image)
    assert (high - low) / 2 == pytest.approx(1.96 / 2000**0.5, rel=0.1)
    assert (low + high) / 2 == pytest.approx(difference.mean(), abs=0.005)
    twice = interval(np.repeat(difference, 4), [name for name in image for _ in range(4)])
    assert twice == pytest.approx((low, high))


@pytest.mark.parametrize(('name', 'bold'), [('PCK', True), ('EPE', False), ('hands/EPE', False)])
def test_the_largest_error_is_not_the_best(name: str, bold: bool) -> None:
    assert isinstance(_cell(Run(Path(), 'a'), name, 3.0, 3.0), Html) == bold
