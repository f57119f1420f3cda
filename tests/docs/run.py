"""Run the blocks of a page in order: `python -m tests.docs.run PAGE FOLDER`.

Shell blocks go to a bash of their own, Python blocks to one namespace a page, in FOLDER, where what
a page writes stays for its later blocks. The first block that fails ends it; a command under which
the page shows a line `error: ...` has to fail.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.docs.pages import SHELL, Block, commands, read_blocks

TIMEOUT = 300  # seconds of one command


class BlockError(Exception):
    """A block of a page does not do what the page says."""


def run_page(page: Path, folder: Path) -> int:
    """Run the blocks of a page; returns how many.

    Raises:
        BlockError: one failed, or shows another output; or a file is used by no block.
    """
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    blocks = [block for block in read_blocks(page) if block.runs]
    for i, block in enumerate(blocks):
        if block.file and not any(_mentions(later, block.file) for later in blocks[i + 1 :]):
            raise BlockError(f'{block}: no later block uses {block.file}')
    namespace: dict[str, Any] = {'__name__': '__main__'}
    for block in blocks:
        print(f'--- {block} {block.file or block.language}', flush=True)
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, encoding='utf-8')
        elif block.language == 'python':
            _run_python(block, namespace)
        elif block.language in SHELL:
            _run_shell(block)
        else:
            raise BlockError(f"{block}: nothing runs '{block.language}'; ```text is not run")
    return len(blocks)


def _mentions(block: Block, file: str) -> bool:
    stem = re.escape(Path(file).stem)
    return re.search(rf'(?<!\w){stem}(?!\w)', block.text) is not None


def _run_python(block: Block, namespace: dict[str, Any]) -> None:
    padding = '\n' * (block.line - 1)  # tracebacks name the page's own lines
    try:
        exec(compile(padding + block.text, str(block.page), 'exec'), namespace)
    except BaseException as error:  # SystemExit too: a page's block does not end the reader's shell
        raise BlockError(f'{block}: {type(error).__name__}: {error}') from error


def _run_shell(block: Block) -> None:
    for command, shown in commands(block):
        try:
            done = subprocess.run(
                ['bash', '-euo', 'pipefail', '-c', command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            raise BlockError(f'{block}: not done after {TIMEOUT} s:\n{command}') from None
        print(done.stdout, flush=True)
        fails = any(line.startswith('error: ') for line in shown)
        if bool(done.returncode) != fails:
            raise BlockError(f'{block}: exit status {done.returncode} of\n{command}')
        _check_output(block, shown, done.stdout)


def _check_output(block: Block, shown: list[str], output: str) -> None:
    """Every line that the page shows comes in this order; `...` stands for anything."""
    lines = iter(re.split(r'[\r\n]+', output))
    for line in filter(str.strip, shown):
        pattern = '.*'.join(re.escape(part.strip()) for part in line.split('...'))
        if not any(re.search(pattern, found) for found in lines):
            raise BlockError(f'{block}: the output has no (further) line\n{line}')


if __name__ == '__main__':
    print(run_page(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()), 'blocks ran')
