"""The page of a run: what it says, what it lacks, and that nothing in a run can break it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from torch.utils.tensorboard import SummaryWriter

from psa_pose.cli import main
from psa_pose.report import write_report
from psa_pose.report.read import read_run
from tests.conftest import ROOT, RunTool
from tests.report.conftest import Copy, alter

SECTIONS = [
    'Numbers', 'Curves', 'Keypoints', 'Errors', 'Examples', 'Throughput', 'Environment', 'Config',
]  # fmt: skip


class Page(HTMLParser):
    """Tags with their attributes, and the text that is seen."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ''
        self.source = path.read_text()
        self.feed(self.source)
        assert self.open == [], 'elements that are not closed'

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != 'style':
            self.text += data + ' '

    def of(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def headings(self) -> list[str]:
        return re.findall(r'<h2>([^<]+)</h2>', self.source)


def page_of(folder: Path) -> Page:
    return Page(write_report([folder]))


def test_a_run_has_every_section(copy_run: Copy) -> None:
    folder = copy_run()
    page = page_of(folder)
    assert page.headings == SECTIONS
    metrics = json.loads((folder / 'test/metrics.json').read_text())
    assert 'person boxes: ground truth' in page.text
    assert f'{100 * metrics["AR"]:.1f}' in page.text
    assert 'test of last.ckpt' in page.text
    assert 'Complete: 2 epochs, 12 steps' in page.text
    assert 'HRNet tiny, attention: PSA parallel, crop 96x128' in page.text
    for word in ('inversion', 'missed person', 'left ankle', 'samples a second', 'psa-pose'):
        assert word in page.text
    assert (folder / 'config.py').read_text().strip() in page.text
    pictures = page.of('img')
    assert len(pictures) >= 3 and all('person' in picture['alt'] for picture in pictures)
    assert all(svg['aria-label'] for svg in page.of('svg')) and len(page.of('svg')) == 5
    assert (folder / 'report.html').stat().st_size < 3e6


def test_nothing_is_loaded_from_anywhere(copy_run: Copy) -> None:
    page = page_of(copy_run())
    for tag, attributes in page.tags:
        assert tag not in ('script', 'link', 'iframe', 'object', 'embed', 'base', 'form')
        for name, value in attributes.items():
            assert not name.startswith('on')
            if name in ('src', 'href'):
                assert value.startswith(('data:image/jpeg;base64,', '#'))
    assert 'url(' not in page.source and '@import' not in page.source
    policy = next(m['content'] for m in page.of('meta') if 'http-equiv' in m)
    assert policy.startswith("default-src 'none'") and 'script' not in policy


EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)> \' & </style></pre>'


def test_whatever_a_run_says_is_text(copy_run: Copy) -> None:
    """Config, its comments, names of files and folders, warnings, boxes, tags of curves."""
    folder = copy_run('evil <b> " \' & run')
    config = folder / 'config.py'
    config.write_text(f'# {EVIL}\nload_from = {EVIL!r}\n' + config.read_text())
    alter(folder / 'environment.json', lambda e: {**e, 'command': EVIL, 'host': EVIL})
    for part in ('evaluation', 'test'):
        about = {'boxes': EVIL, 'warnings': [EVIL], 'boxes_left_out': EVIL, 'checkpoint': EVIL}
        alter(folder / part / 'about.json', lambda a, new=about: {**a, **new})
    ann_file = Path(json.loads((folder / 'test/about.json').read_text())['ann_file'])
    truth = json.loads(ann_file.read_text())
    for image in truth['images']:
        image['file_name'] = f'{image["id"]}{EVIL}.jpg'
    own = folder / 'annotations.json'
    own.write_text(json.dumps(truth))
    for part in ('evaluation', 'test'):
        alter(folder / part / 'about.json', lambda a: {**a, 'ann_file': str(own)})
    entries = [json.loads(line) for line in (folder / 'history.jsonl').read_text().splitlines()]
    lines = [{**e, 'boxes': EVIL, 'metrics': {**e['metrics'], EVIL: 1.0}} for e in entries]
    (folder / 'history.jsonl').write_text('\n'.join(map(json.dumps, lines)))

    page = page_of(folder)
    assert page.headings == SECTIONS
    assert page.text.count(EVIL) > 12
    assert '<script' not in page.source.replace('&lt;script', '')
    assert not [a for t, a in page.tags if t == 'img' and not a['src'].startswith('data:')]
    assert not [a for _, a in page.tags if any(name.startswith('on') for name in a)]
    assert 'evil <b> " \' & run' in page.text


@pytest.mark.parametrize(
    ('without', 'said'),
    [
        (('history.jsonl', 'evaluation', 'test'), 'do not say the person boxes'),
        (('evaluation', 'test'), 'psa-pose test CONFIG CHECKPOINT --work-dir'),
        (('tensorboard',), 'there are no curves'),
        (('config.py', 'test'), 'there is no config to show'),
        (('environment.json',), 'machine and versions are unknown'),
        (('tensorboard', 'history.jsonl', 'evaluation', 'test'), 'there are no numbers yet'),
        (('tensorboard', 'history.jsonl', 'evaluation'), 'No training here'),
    ],
)
def test_what_is_missing_is_said(copy_run: Copy, without: tuple[str, ...], said: str) -> None:
    page = page_of(copy_run(without=without))
    assert page.headings == SECTIONS
    assert said in page.text


def test_an_older_run_has_its_numbers_from_the_event_files(copy_run: Copy) -> None:
    new = read_run(copy_run())
    old = read_run(copy_run('old', ('history.jsonl', 'evaluation', 'test', 'environment.json')))
    assert [(e['epoch'], e['step']) for e in old.history] == [(1, 6), (2, 12)]
    for entry, known in zip(old.history, new.history, strict=True):
        assert entry['metrics'] == pytest.approx(known['metrics'], abs=1e-6)


def test_event_files_of_a_run_that_was_in_the_folder_before(copy_run: Copy) -> None:
    folder = copy_run()
    with SummaryWriter(folder / 'tensorboard') as writer:
        for step in range(1000):
            writer.add_scalar('loss', 7.0, step, walltime=1e9)
    assert read_run(folder).curves['loss'].steps.tolist() == list(range(1, 13))
    assert 'Complete: 2 epochs, 12 steps' in page_of(folder).text
    # Of a run that an older version began, what was before its resumption is its own.
    alter(folder / 'environment.json', lambda e: {**e, 'from_step': 6})
    assert len(read_run(folder).curves['loss'].steps) == 1000


def test_images_that_are_gone(copy_run: Copy) -> None:
    folder = copy_run()
    alter(folder / 'test/about.json', lambda a: {**a, 'image_root': '/nowhere'})
    config = (folder / 'config.py').read_text()
    (folder / 'config.py').write_text(re.sub(r"data_root='[^']*'", "data_root='none'", config))
    page = page_of(folder)
    assert 'cannot read image /nowhere/' in page.text
    assert len(page.of('img')) >= 3, 'the poses are shown all the same'


def test_annotations_that_are_gone(copy_run: Copy) -> None:
    folder = copy_run()
    alter(folder / 'test/about.json', lambda a: {**a, 'ann_file': '/nowhere/a.json'})
    (folder / 'config.py').write_text("model = dict(type='x')\n")
    page = page_of(folder)
    assert page.text.count('the annotations are not there any more: /nowhere/a.json') == 3


def test_predictions_of_another_evaluation_are_not_used(copy_run: Copy) -> None:
    """Killed between the files of one evaluation."""
    folder = copy_run(without=('test',))
    (folder / 'evaluation/results.json').write_text('[]')
    assert 'is not of the evaluation that about.json is of' in page_of(folder).text


def test_an_unfinished_run(copy_run: Copy) -> None:
    folder = copy_run(without=('test',))
    first = (folder / 'history.jsonl').read_text().splitlines()[0]
    (folder / 'history.jsonl').write_text(first + '\n')
    config = folder / 'config.py'
    config.write_text(config.read_text().replace('max_epochs=2', 'max_epochs=5'))
    assert 'Unfinished or still running: in epoch 2 of 5 at step 12' in page_of(folder).text


def test_a_run_that_counts_steps(copy_run: Copy) -> None:
    folder = copy_run(without=('test',))
    config = folder / 'config.py'
    written = config.read_text().replace('max_epochs=2', 'max_epochs=1000000')
    config.write_text(f'{written}\ntrainer = dict(max_steps=12)\n')
    assert 'Complete: 12 steps, 2 epochs begun' in page_of(folder).text
    config.write_text(f'{written}\ntrainer = dict(max_steps=1300)\n')
    unfinished = 'Unfinished or still running: in epoch 2 at step 12 of 1,300'
    assert unfinished in page_of(folder).text


def test_boxes_of_another_kind_stand_in_a_table_of_their_own(copy_run: Copy) -> None:
    folder = copy_run()
    alter(folder / 'test/about.json', lambda a: {**a, 'boxes': 'a detector, some.json'})
    page = page_of(folder)
    assert re.findall(r'<p class="caption">([^<]*person boxes[^<]*)', page.source) == [
        'person_keypoints_val.json, person boxes: ground truth, without flip test, dataset sigmas',
        'person_keypoints_val.json, person boxes: a detector, some.json, without flip test, '
        'dataset sigmas',
    ]


def test_published_rows_stand_with_their_own_kind_of_boxes(copy_run: Copy) -> None:
    """As if it were HRNet-W32 with PSA on COCO val2017."""
    folder = copy_run(without=('evaluation', 'history.jsonl', 'tensorboard'))
    text = (folder / 'config.py').read_text().replace("arch='tiny'", "arch='w32'")
    (folder / 'config.py').write_text(text.replace('96,', '288,').replace('128,', '384,'))

    def coco(about: dict[str, Any], boxes: str) -> dict[str, Any]:
        place = '/data/annotations/person_keypoints_val2017.json'
        return {**about, 'ann_file': place, 'boxes': boxes, 'flip_test': True}

    alter(folder / 'test/about.json', lambda a: coco(a, 'ground truth'))
    page = page_of(folder)
    rows = page.source.partition('Published rows')[2].partition('</table>')[0]
    assert 'PSA paper (with PSA)' in rows and '78.7' in rows and '75.8' not in rows
    assert "Not comparable, measured with the 56.4-AP detector's boxes: HRNet paper" in page.text

    alter(folder / 'test/about.json', lambda a: coco(a, 'other_detector.json'))
    page = page_of(folder)
    rows = page.source.partition('Published rows')[2].partition('</table>')[0]
    assert 'HRNet paper (without PSA)' in rows and '75.8' in rows and '78.7' not in rows
    assert 'Comparable with these rows only if the boxes are the 56.4-AP' in page.text


def test_skipped_steps_and_guessed_sigmas_are_warned_of(copy_run: Copy) -> None:
    folder = copy_run()
    lines = [json.loads(line) for line in (folder / 'history.jsonl').read_text().splitlines()]
    lines[1]['skipped_steps'] = 3
    (folder / 'history.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    alter(folder / 'test/about.json', lambda a: {**a, 'warnings': ['OKS uses guesses']})
    text = page_of(folder).text
    assert '3 steps were skipped' in text and 'OKS uses guesses' in text
    assert 'learnt these by heart' not in text
    config = folder / 'config.py'
    config.write_text(config.read_text().replace('keypoints_val', 'keypoints_train'))
    assert 'learnt these by heart' in page_of(folder).text


def test_lspet_has_14_keypoints(shared_data: Path, tmp_path: Path) -> None:
    config = ROOT / 'configs/lspet/hrnet_tiny_psa_p_128x96.py'
    root = shared_data / 'lspet'
    given = [
        'default_hooks.logger.interval=1',
        'train_cfg.max_epochs=1', 'trainer.limit_train_batches=1', 'trainer.limit_val_batches=1',
        *(f'{part}_dataloader.{key}' for part in ('train', 'val')
          for key in (f'dataset.data_root={root}', 'batch_size=16', 'num_workers=0')),
    ]  # fmt: skip
    command = ['train', str(config), '--work-dir', str(tmp_path), '--cfg-options', *given]
    assert main(command) == 0
    page = page_of(tmp_path)
    assert page.headings == SECTIONS and 'head top' in page.text and 'nose' not in page.text
    assert len(page.of('img')) >= 3


def test_mpii_has_pckh(shared_data: Path, tmp_path: Path) -> None:
    config = ROOT / 'configs/mpii/hrnet_w32_psa_p_256x256.py'
    given = [
        'model.backbone.arch=tiny', 'codec.input_size=(64,64)', 'codec.heatmap_size=(16,16)',
        'train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'default_hooks.logger.interval=1',
        'val_evaluator.gt_file=annotations/mpii_val_predictions_nyu.mat',
        *(f'{part}_dataloader.{key}' for part in ('train', 'val')
          for key in (f'dataset.data_root={shared_data}/mpii', 'batch_size=2', 'num_workers=0',
                      'dataset.ann_file=annotations/mpii_five.json')),
    ]  # fmt: skip
    command = ['train', str(config), '--work-dir', str(tmp_path), '--cfg-options', *given]
    assert main(command) == 0
    page = page_of(tmp_path)
    assert page.headings == SECTIONS
    assert 'PCKh, %' in page.text and 'upper neck' in page.text
    assert "boxes: MPII's center and scale" in page.text
    assert 'mean error' in page.text and len(page.of('img')) >= 3
    pckh = json.loads((tmp_path / 'evaluation/metrics.json').read_text())['PCKh']
    assert f'{pckh:.1f}' in page.text


def test_folders_without_a_run(
    copy_run: Copy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_run('hrnet_w32')
    (tmp_path / 'empty').mkdir()
    for name, said in (
        ('hrnet_w23', "hrnet_w23 is not there; did you mean 'hrnet_w32'?"),
        ('', 'holds no run (none of history.jsonl, tensorboard, checkpoints, evaluation, test, '
             'config.py), but these below it do: hrnet_w32'),
        ('hrnet_w32/tensorboard', f'but {folder} does'),
        ('empty', 'nor does any below'),
        ('hrnet_w32/config.py', 'is a file, not a folder'),
    ):  # fmt: skip
        assert main(['report', str(tmp_path / name)]) == 1
        assert said in capsys.readouterr().err
    assert main(['report', str(folder), str(folder / '.')]) == 1
    assert 'is named twice' in capsys.readouterr().err
    assert main(['report', str(folder), '--out', str(tmp_path)]) == 1
    assert f'--out {tmp_path} is a folder' in capsys.readouterr().err
    config = (folder / 'config.py').read_bytes()
    assert main(['report', str(folder), '--out', str(folder / 'config.py')]) == 1
    assert 'so name it *.html' in capsys.readouterr().err
    assert (folder / 'config.py').read_bytes() == config


def test_the_tool(trained_run: Path, tmp_path: Path, run_tool: RunTool) -> None:
    out = tmp_path / 'new' / 'page.html'
    done = run_tool('report', trained_run, '--out', out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f'report    {out} (0.') and Page(out).headings == SECTIONS
