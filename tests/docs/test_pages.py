"""What can be seen of the pages without running them: commands, configs, links, languages."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from psa_pose.engine.config import KEYS
from tests.docs.links import broken_links
from tests.docs.pages import ELSEWHERE, PAGES, ROOT, SHELL, SHOWN, Block, read_blocks
from tests.docs.words import problems

CFF_PERSON = {'name', 'family-names', 'given-names'}
MARKDOWN = [*PAGES, ROOT / 'CHANGELOG.md', ROOT / 'configs/README.md', ROOT / 'data/README.md']


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_can_be_right(page: Path) -> None:
    found: list[str] = []
    made: set[str] = set()
    for block in read_blocks(page):
        if block.file:
            made.add(block.file)
        if block.language == 'python':
            body = ast.parse(block.text, str(block)).body
            if page not in ELSEWHERE and block.runs and not block.file and _is_config(body):
                found.append(f'{block}: a config that nothing reads; begin it with # NAME.py')
        elif block.language in SHELL:
            made |= set(re.findall(r'(?:--out|>) (\S+)', block.text))
            found += problems(block, made) if page not in ELSEWHERE else []
        elif block.language not in SHOWN:
            found.append(f"{block}: nothing runs '{block.language}'; ```text is not run")
    assert not found, '\n'.join(found)


def _is_config(body: list[ast.stmt]) -> bool:
    names = [
        target.id if isinstance(target, ast.Name) else ''
        for statement in body
        for target in (statement.targets if isinstance(statement, ast.Assign) else [None])
    ]
    return any(name in KEYS for name in names) and all(names)


@pytest.mark.parametrize('page', MARKDOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    assert not list(broken_links(page))


@pytest.mark.parametrize(
    ('script', 'said'),
    [
        ('psa-pose train', 'required: config'),
        ('X=1 psa-pose trian CONFIG', "invalid choice: 'trian'"),
        ('true && python tools/train.py CONFIG --dry', ''),  # argparse completes --dry-run
        ('python tools/train.py CONFIG --dyr-run', 'unrecognized arguments: --dyr-run'),
        ('torchrun --nproc-per-node=8 tools/train.py CONFIG --epochs 3', 'unrecognized'),
        ('psa-pose train configs/coco/hrnet_w32_psa_256x192.py', 'no config file'),
        ('psa-pose info configs/demo/x.py', 'there is no configs/demo/x.py'),
        (
            'psa-pose train configs/demo/hrnet_tiny_psa_p_128x96.py --cfg-options epochs=3',
            "nothing reads the key 'epochs'",
        ),
        ('tools/dist_train.sh CONFIG 8 --resume auto', ''),
        ('tools/dist_train.sh CONFIG 8 --resume always', 'invalid choice'),
        ('tools/slurm_train.sh gpu name CONFIG work_dirs/x --amp', ''),
        ('tools/slurm_test.sh gpu name CONFIG', 'required: checkpoint'),
        ('make dmeo', 'make has no dmeo'),
        ('python tools/trian.py CONFIG', 'there is no tools/trian.py'),
    ],
)
def test_finds_mistakes(script: str, said: str) -> None:
    block = Block(ROOT / 'page.md', 1, 'bash', script)
    found = '\n'.join(problems(block, set()))
    assert (said in found) if said else not found, found


def test_finds_broken_links(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text(
        '# A `b` heading\n[1](#a-b-heading) [2](#other) [3](page.md#a-b-heading) [4](absent.md)\n'
        '`[5](absent.md)`\n```text\n[6](absent.md)\n```\n'
    )
    assert [line.split()[1] for line in broken_links(page)] == ['#other:', 'absent.md:']


def test_examples_are_short() -> None:
    """Each piece that one adds takes less than 30 lines."""
    blocks = [b for b in read_blocks(ROOT / 'docs/extending.md') if b.file.startswith('my_')]
    assert len(blocks) == 5
    assert all(block.text.count('\n') < 30 for block in blocks)


def test_readme_has_the_commands() -> None:
    text = (ROOT / 'README.md').read_text()
    assert 'make demo ' in text and 'make test ' in text


def test_licence_and_citation() -> None:
    from psa_pose import __version__

    assert (
        'Apache License\n                           Version 2.0' in (ROOT / 'LICENSE').read_text()
    )
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert {'cff-version', 'message', 'title', 'authors'} <= set(citation)
    assert citation['cff-version'] == '1.2.0' and citation['license'] == 'Apache-2.0'
    assert str(citation['version']) == __version__
    for entry in (citation, *citation['references']):
        assert entry['title'] and all(set(a) <= CFF_PERSON for a in entry['authors'])
