"""Whether a shell block's words can be right, without running it: arguments, configs, files."""

import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from psa_pose.cli import build_parser
from psa_pose.engine.config import load_config
from psa_pose.errors import ConfigError
from tests.docs.pages import ROOT, Block, commands

_IN_REPOSITORY = re.compile(r'(?:tools|configs|benchmarks|examples|tests|docs|psa_pose)/[\w./-]+')
_PLACEHOLDER = re.compile(r'[A-Z_]+$')  # CONFIG, to be filled in by the reader
# How many words stand before the config in what a cluster's script takes.
_SCRIPTS = {
    'tools/dist_train.sh': ('train', 0, 1),
    'tools/dist_test.sh': ('test', 0, 1),
    'tools/slurm_train.sh': ('train', 2, 0),
    'tools/slurm_test.sh': ('test', 2, 0),
    'tools/cluster/train.sbatch': ('train', 0, 0),
}


def problems(block: Block, made: set[str]) -> Iterator[str]:
    """What is wrong with a block; `made` are files that the page's blocks before it write."""
    for command, shown in commands(block):
        if any(line.startswith('error: ') for line in shown):
            continue  # a mistake that the page is about
        for words in split(command):
            for problem in _problems(words, made):
                yield f'{block}: {problem}'


def split(script: str) -> Iterator[list[str]]:
    """The simple commands of a script, as words without variables and redirections."""
    for line in script.replace('\\\n', ' ').splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars='|&;<>')
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ';']:
            if set(word) <= set('|&;'):
                while words and re.match(r'\w+=', words[0]):
                    words.pop(0)
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def arguments(words: list[str]) -> list[str] | None:
    """What the words mean to `psa-pose`, or None where they call something else."""
    for i, word in enumerate(words):
        if word == 'psa-pose':
            return words[i + 1 :]
        if word == 'psa_pose.cli' and words[i - 1] == '-m':
            return words[i + 1 :]
        if re.fullmatch(r'tools/\w+\.py', word):
            text = (ROOT / word).read_text() if (ROOT / word).is_file() else ''
            found = re.search(r"main\(\['([\w-]+)'", text)
            return [found[1], *words[i + 1 :]] if found else None
        if word in _SCRIPTS:
            name, before, after = _SCRIPTS[word]
            config, *rest = words[i + 1 + before :]
            count = 1 if name == 'test' else 0  # the checkpoint follows the config
            return [name, config, *rest[:count], *_options(rest[count + after :], word)]
    return None


def _options(words: list[str], script: str) -> list[str]:
    """MMPose's scripts take the work dir as a word of its own; this project's does where named."""
    if words and not words[0].startswith('-') and script != 'tools/dist_train.sh':
        return ['--work-dir', *words]
    return words


def _problems(words: list[str], made: set[str]) -> Iterator[str]:
    for word in words:
        if _IN_REPOSITORY.fullmatch(word) and not (ROOT / word).exists() and word not in made:
            yield f'there is no {word}'
    if words[0] == 'make':
        yield from (f'make has no {w}' for w in words[1:] if '=' not in w and w not in targets())
    given = arguments(words)
    if given is None or given == ['--help']:
        return
    said = StringIO()
    try:
        with redirect_stderr(said):
            args = build_parser().parse_args(given)
    except SystemExit as end:
        if end.code:
            yield f'{" ".join(words)}\n{said.getvalue()}'
        return
    named = getattr(args, 'configs', None) or [getattr(args, 'config', None)]
    for config in named:
        if not config or _PLACEHOLDER.match(config) or config in made:
            continue
        try:
            load_config(Path(ROOT, config) if (ROOT / config).is_file() else config, options(args))
        except ConfigError as error:
            yield f'{" ".join(words)}\n{error}'


def options(args: object) -> list[str]:
    """`--cfg-options` of parsed arguments."""
    return getattr(args, 'cfg_options', [])


def targets() -> set[str]:
    """Of the Makefile."""
    return set(re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M))
