"""Imports point one way; see the layout in README."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / 'psa_pose'
LAYERS = [
    {'errors', 'files'},
    {'registry', 'structures'},
    {'codecs', 'datasets.transforms', 'models.attention'},
    {'datasets', 'models', 'evaluation'},
    {'visualization'},
    {'engine', 'inference', 'export', 'report'},
    {'ablation'},
    {'cli'},
]
APART = {('models', 'datasets'), ('models', 'evaluation'), ('datasets', 'models')}


def layer(module: str) -> int | None:
    """The layer of the longest known prefix of a module's name."""
    parts = module.split('.')
    for length in range(len(parts), 0, -1):
        for number, names in enumerate(LAYERS):
            if '.'.join(parts[:length]) in names:
                return number
    return None


def imports(path: Path) -> list[str]:
    """Modules of this package that a file imports when it is loaded or run."""
    tree = ast.parse(path.read_text())
    skipped = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING'
        for child in ast.walk(node)
    }
    names = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('psa_pose'):
            names += [f'{node.module}.{alias.name}' for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [a.name for a in node.names if a.name.startswith('psa_pose')]
    return [name.removeprefix('psa_pose').lstrip('.') for name in names]


FILES = sorted(PACKAGE.rglob('*.py'))


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    module = '.'.join(path.relative_to(PACKAGE).with_suffix('').parts).removesuffix('.__init__')
    mine = layer(module)
    if mine is None:
        assert module == '__init__', f'{module} belongs to no layer'
        return
    for name in imports(path):
        theirs = layer(name)
        assert theirs is None or theirs <= mine, f'{module} imports {name}, which stands above it'
        pair = (module.split('.')[0], name.split('.')[0])
        assert pair not in APART, f'{module} imports {name}'


def test_models_codecs_and_metrics_know_neither_runner_nor_lightning() -> None:
    for path in FILES:
        if path.relative_to(PACKAGE).parts[0] in ('models', 'codecs', 'evaluation', 'datasets'):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module or '']
                for name in names:
                    assert name.split('.')[0] not in ('lightning', 'pytorch_lightning'), path
                    assert not name.startswith('mmengine.runner'), path
