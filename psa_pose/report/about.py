"""What surrounds a run's numbers: warnings, speed, machine, config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.report.html import Html, notices, pairs, section, tag
from psa_pose.report.run import Run, number


def warnings(run: Run) -> Html | None:
    """What a reader must know before any number."""
    texts: list[str] = []
    skipped = sum_of_last(run, 'skipped_steps')
    if skipped:
        texts.append(f'{skipped:,} steps were skipped: their loss or gradient was not finite')
    if unreadable := sum_of_last(run, 'skipped_samples'):
        texts.append(
            f'{unreadable:,} training samples were left out: their images could not be read'
        )
    if trained_on_the_same(run):
        texts.append(
            'the numbers of the training are about the very persons that it was trained on: they '
            'say how well it learnt these by heart, and nothing of others'
        )
    for evaluation in (run.evaluation, run.test):
        if evaluation is None:
            continue
        texts += [str(text) for text in evaluation.about.get('warnings', [])]
        if left_out := evaluation.about.get('boxes_left_out'):
            texts.append(f'boxes left out: {left_out}')
        if count := evaluation.about.get('unreadable'):
            texts.append(f'{count} persons were not predicted: their images could not be read')
    loss = run.curves.get('loss')
    if loss is not None and loss.lost:
        texts.append(f'{loss.lost:,} readings of the loss were not finite: they are not drawn')
    if (
        loss is not None
        and len(loss.values) > 20
        and loss.values[-5:].mean() > 3 * loss.values.min()
    ):
        texts.append('the loss ends at more than three times its lowest: has training diverged?')
    return notices(texts)


def trained_on_the_same(run: Run) -> bool:
    """Whether training and evaluation have the same annotations."""
    files = []
    for part in ('train', 'val'):
        dataset = (run.config.get(f'{part}_dataloader') or {}).get('dataset') or {}
        root, name = dataset.get('data_root') or '', dataset.get('ann_file')
        files.append(Path(str(root), str(name)) if name else part)
    return files[0] == files[1]


def sum_of_last(run: Run, key: str) -> int:
    """A count that starts anew with every process of a run: the sum of where each ended."""
    total, before = 0, 0
    for entry in run.history:
        value = entry.get(key) or 0
        total += value - before if value >= before else value
        before = value
    return int(total)


def missing(run: Run) -> Html | None:
    """What the page lacks, and why."""
    return notices((f'Missing: {text}' for text in run.missing), 'note')


def throughput(run: Run) -> Html:
    """How fast it was, and on what."""
    speed, wait = run.curves.get('samples_per_s'), run.curves.get('data_wait')
    environment = run.environment
    rows: list[tuple[str, Any]] = []
    if speed is not None:
        # The first reading has the start of the workers and of the kernels in it.
        values = speed.values[1:] if len(speed.values) > 2 else speed.values
        low, middle, high = np.percentile(values, [10, 50, 90])
        rows.append(
            (
                'samples a second',
                f'{middle:,.0f} (median; 10 % below {low:,.0f}, 10 % above {high:,.0f})',
            )
        )
        if wait is not None:
            waits = wait.values[1:] if len(wait.values) > 2 else wait.values
            rows.append(('waiting for data', f'{waits.mean():.1%} of the time'))
        took = float(speed.times[-1] - speed.times[0])
        rows.append(('from first to last reading', duration(took)))
    seconds = [e['seconds'] for e in run.history if number(e.get('seconds'))]
    if seconds:
        rows.append(('an evaluation', f'{np.median(seconds):.1f} s (median of {len(seconds)})'))
    gpus = environment.get('gpus') or []
    if environment.get('device') == 'cuda' and gpus:
        rows.append(('GPU', f'{gpus[0]}, {environment.get("ranks", "1")} ranks'))
    rows.append(('CPU', environment.get('cpu')))
    rows.append(('step', environment.get('step')))
    if not rows[:-2] and not environment:
        return section('Throughput', tag('p', 'Nothing was logged.', class_='missing'))
    return section('Throughput', pairs(rows))


def duration(seconds: float) -> str:
    """Hours, minutes, seconds."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f'{hours} h {minutes} min'
    return f'{minutes} min {secs} s' if minutes else f'{secs} s'


def environment(run: Run) -> Html:
    """Machine, versions, command; of the test by themselves, which may have run elsewhere."""
    parts = []
    if run.environment:
        parts.append(_environment(run.environment))
    elif run.history or run.curves:
        parts.append(tag('p', 'environment.json is missing.', class_='missing'))
    if run.test_environment:
        parts += [tag('h3', 'Of the test'), _environment(run.test_environment)]
    return section('Environment', *parts)


def _environment(e: Mapping[str, Any]) -> Html:
    versions = e.get('versions') or {}
    rows = [
        ('started', e.get('started')),
        ('command', tag('code', e['command']) if e.get('command') else None),
        ('in', e.get('folder')),
        ('host', e.get('host')),
        ('system', e.get('system')),
        ('CPU', e.get('cpu')),
        ('GPUs', ', '.join(map(str, e.get('gpus') or [])) or 'none'),
        ('ranks', e.get('ranks')),
        ('step', e.get('step')),
        ('optimizer', e.get('optimizer')),
        ('seed', e.get('seed')),
        ('trained on', e.get('train')),
        ('versions', ', '.join(f'{name} {v}' for name, v in versions.items() if v)),
    ]
    earlier = [
        f'started {b.get("started")} on {b.get("host")}, from step {b.get("from_step", 0)}'
        for b in e.get('earlier') or []
        if isinstance(b, dict)
    ]
    if earlier:
        rows.append(('resumed at', f'step {e.get("from_step")}'))
        rows.append(('before that', tag('ul', *(tag('li', text) for text in earlier))))
    return pairs(rows)


def config(run: Run) -> Html:
    """The whole resolved config, folded."""
    if not run.config_text:
        return section('Config', tag('p', 'config.py is missing.', class_='missing'))
    source = run.environment.get('config')
    return section(
        'Config',
        tag('p', 'From ', tag('code', source), '.') if source else None,
        tag(
            'details',
            tag('summary', 'as it was resolved'),
            tag('pre', tag('code', run.config_text)),
        ),
    )
