"""The page: sections put together, one file, nothing loaded from anywhere."""

import re
from collections.abc import Sequence
from pathlib import Path

from psa_pose.errors import ConfigError
from psa_pose.files import write_text
from psa_pose.report import about, errors, sections
from psa_pose.report.compare import comparison
from psa_pose.report.examples import chosen, gallery, picture
from psa_pose.report.html import Html, join, notices, section, tag
from psa_pose.report.persons import Analysis, analyse
from psa_pose.report.read import read_run
from psa_pose.report.run import Run
from psa_pose.report.style import stylesheet

# No script, no request: whatever a config or a file name may smuggle in, the browser refuses.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(work_dirs: Sequence[Path], out: Path | None = None) -> Path:
    """Write a page about a run, or one that compares several.

    Args:
        work_dirs: of the runs.
        out: the page; by default `report.html` in the work dir, of several runs `comparison.html`
            in the current folder.

    Returns:
        The page's path.

    Raises:
        ConfigError: a folder is not there, holds no run, or is named twice.
        OSError: the page cannot be written.
    """
    places = [folder.resolve() for folder in work_dirs]
    for i, place in enumerate(places):
        if place in places[:i]:
            raise ConfigError(f'{work_dirs[i]} is named twice: a run compares with another one')
    names = _names(places)
    runs = [read_run(folder, name) for folder, name in zip(work_dirs, names, strict=True)]
    page = sections_of(runs[0]) if len(runs) == 1 else comparison(runs)
    if out is None:
        out = work_dirs[0] / 'report.html' if len(runs) == 1 else Path('comparison.html')
    if out.is_dir():
        raise ConfigError(f'--out {out} is a folder; name a file in it')
    if out.suffix not in ('.html', '.htm'):  # a file of the run, perhaps
        raise ConfigError(f'--out {out}: it is a page of HTML, so name it *.html')
    out.parent.mkdir(parents=True, exist_ok=True)
    title = runs[0].name if len(runs) == 1 else ' and '.join(run.name for run in runs)
    write_text(out, document(title, page))
    return out


def sections_of(run: Run) -> Html:
    """All sections of a run."""
    analysis = analyse(run)
    parts = [
        sections.numbers(run),
        sections.curves(run),
        errors.keypoints(run, analysis),
        errors.diagnosis(run, analysis),
        examples(analysis),
        about.throughput(run),
        about.environment(run),
        about.config(run),
    ]
    top = [sections.headline(run), about.warnings(run), about.missing(run)]
    return join([*top, contents(parts), *parts])


def examples(analysis: Analysis) -> Html:
    """Best, typical and worst persons."""
    persons = analysis.persons
    if persons is None:
        return section('Examples', notices([f'Not here: {analysis.why_not}'], 'note'))
    count = int((~persons.found).sum())
    parts = [
        tag('p', 'Ground truth at the left, prediction at the right. Left side of the body blue, '
            f'right side orange. {count:,} of {len(persons):,} persons were missed.', class_='dim')
    ]  # fmt: skip
    for title, indices in chosen(persons).items():
        parts.append(tag('h3', title))
        parts.append(gallery([picture(persons, i, analysis.image_root) for i in indices]))
    return section('Examples', *parts)


def contents(parts: Sequence[Html]) -> Html:
    """Links to the sections."""
    found = (re.match('<section id="([^"]+)"><h2>([^<]+)', part) for part in parts)
    links = [tag('a', Html(m[2]), href=f'#{m[1]}') for m in found if m]
    return tag('nav', *links, aria_label='Sections')


def document(title: str, body: Html) -> str:
    """A whole file around the sections."""
    head = tag(
        'head',
        tag('meta', charset='utf-8'),
        tag('meta', http_equiv='Content-Security-Policy', content=_POLICY),
        tag('meta', name='viewport', content='width=device-width,initial-scale=1'),
        tag('meta', name='referrer', content='no-referrer'),
        tag('title', f'{title} · PSA-Pose'),
        tag('style', Html(stylesheet())),
    )
    return '<!doctype html>\n' + tag('html', head, tag('body', tag('main', body)), lang='en') + '\n'


def _names(places: Sequence[Path]) -> list[str]:
    """The folders' names, with as much of their paths as tells them apart."""
    for parts in range(1, 1 + max(len(place.parts) for place in places)):
        names = ['/'.join(place.parts[-parts:]) for place in places]
        if len(set(names)) == len(names):
            return names
    return [str(place) for place in places]
