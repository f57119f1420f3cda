"""The runner of the pages' blocks: it fails where a block does."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, commands, read_blocks

GOOD = """
Text.

```python
# made/tool.py
number = 6
```

```python
from made.tool import number
answer = 7 * number
```

```bash
echo 42 > written.txt
```

```python
assert int(open('written.txt').read()) == answer
```

```console
$ seq 9 11; echo \\
>   done
9
1...
done
```

```console
$ echo error: 7; exit 3
error: 7
```

- a list:

    ```bash
    test -f written.txt
    ```

<!-- not run: it would fail -->
```bash
false
```

```text
no program
```
"""


def run(folder: Path, content: str) -> subprocess.CompletedProcess[str]:
    page = folder / 'page.md'
    page.write_text(content)
    command = [sys.executable, '-m', 'tests.docs.run', str(page), str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_runs_in_order(tmp_path: Path) -> None:
    done = run(tmp_path, GOOD)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith('7 blocks ran\n')


@pytest.mark.parametrize(
    ('block', 'said'),
    [
        ('```bash\ntrue\nfalse | cat\n```', 'page.md:3: exit status 1'),
        ('```bash\nunknown-command\n```', 'page.md:3: exit status 127'),
        ('```bash\necho $UNSET\n```', 'page.md:3: exit status 1'),
        ('```console\n$ echo 1\n2\n```', 'page.md:3: the output has no (further) line\n2'),
        ('```console\n$ seq 2\n2\n1\n```', 'page.md:3: the output has no (further) line\n1'),
        ('```console\n$ echo error: a\nerror: a\n```', 'page.md:3: exit status 0'),
        ('```python\nassert 1 == 2\n```', 'page.md:3: AssertionError'),
        ('```python\nraise SystemExit(0)\n```', 'page.md:3: SystemExit'),
        ('```python\n1 +\n```', 'page.md:3: SyntaxError'),
        ('```python\n# config.py\na = 1\n```', 'page.md:3: no later block uses config.py'),
        ('```\nwhat is this?\n```', "page.md:3: nothing runs ''"),
        ('```fish\necho\n```', "page.md:3: nothing runs 'fish'"),
    ],
)
def test_fails(tmp_path: Path, block: str, said: str) -> None:
    done = run(tmp_path, f'\n{block}\n')
    assert done.returncode == 1 and said in done.stderr, done.stdout + done.stderr
    assert 'blocks ran' not in done.stdout


def test_all_fences_are_found() -> None:
    """What the pattern misses would never be run."""
    for page in [ROOT / 'README.md', *(ROOT / 'docs').rglob('*.md')]:
        fences = [
            line
            for line in page.read_text().splitlines()
            if line.lstrip().startswith(('```', '~~~'))
        ]
        assert len(fences) == 2 * len(read_blocks(page)), page


def test_commands(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text('```console\n$ a \\\n  b\nout\n$ c\n```\n')
    (block,) = read_blocks(page)
    assert commands(block) == [('a \\\n  b', ['out']), ('c', [])]
