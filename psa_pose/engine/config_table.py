"""The table of `configs/README.md`, made from the configs themselves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psa_pose.engine.config import config_roots, load_config
from psa_pose.engine.info import config_cost
from psa_pose.evaluation.references import MPII_REFERENCES, REFERENCES, model_of
from psa_pose.files import write_text

# Measured here, on what the result says; a row enters with the run that shows it (docs/results.md).
MEASURED = {
    'coco_mini/hrnet_tiny_psa_p_128x96': 'AP 80.6 on its own training images',
    'demo/hrnet_tiny_psa_p_128x96': 'AP 67.3 on held-out rendered people',
    'lspet/finetune_hrnet_tiny_psa_p_128x96': 'AP 7.0 on dev after 6 epochs, 2.7 from scratch',
    'lspet/hrnet_tiny_psa_p_128x96': 'AP 18.7 on dev',
}
_COSTS: dict[str, tuple[int, int]] = {}
CODECS = {'UDPHeatmap': 'UDP', 'MSRAHeatmap': 'MSRA'}
HEADER = """# Configs

`<backbone>[_psa_p|_psa_s]_[<codec>_]<height>x<width>.py`: PSA parallel or sequential; the codec is
MSRA where none is named. A leaf states what differs from its base.

Parameters in millions; G: 10⁹ multiply-adds for one crop, counted from what runs (papers call one
a FLOP). Published numbers are AP on COCO val2017 with the boxes named: **det** the 56.4-AP
detector's, **gt** ground truth's by their signature. The two are not comparable. On MPII they are
mean PCKh@0.5 with the annotation's boxes. All of them started from ImageNet's weights, which no
config here names ([how to](../docs/coco.md)). Made by `python tools/config_table.py`.

| config | M | G | codec, sigma | published AP | measured here, ground-truth boxes |
|---|---|---|---|---|---|
"""


def config_names() -> list[str]:
    """Every leaf config, as `<dataset>/<name>`."""
    root = config_roots()[0]
    leaves = (p for p in root.rglob('*.py') if '_base_' not in p.parts)
    return sorted(str(p.relative_to(root).with_suffix('')) for p in leaves)


def make_table() -> str:
    """The whole page."""
    return HEADER + ''.join(f'{table_row(name)}\n' for name in config_names())


def write_table(path: Path) -> None:
    """Write the page."""
    write_text(path, make_table())


def table_row(name: str) -> str:
    """A config's line."""
    cfg = load_config(f'{name}.py')
    parameters, macs = _cost(name, cfg)
    cells = (
        f'`{name}`',
        f'{parameters / 1e6:.1f}',
        f'{macs / 1e9:.2f}',
        _codec(cfg['codec']),
        _published(name, cfg),
        MEASURED.get(name, ''),
    )
    return f'| {" | ".join(cells)} |'


def _cost(name: str, cfg: Mapping[str, Any]) -> tuple[int, int]:
    """Parameters and multiply-adds; what a model costs does not depend on how its maps are read."""
    codec = cfg['codec']
    width = 3 if codec.get('heatmap_type') == 'combined' else 1
    key = repr((dict(cfg['model']), codec['input_size'], width, name.split('/')[0]))
    if key not in _COSTS:
        cost = config_cost(f'{name}.py')
        _COSTS[key] = cost['parameters']['total'], cost['macs']['total']
    return _COSTS[key]


def _codec(codec: Mapping[str, Any]) -> str:
    label = 'DARK' if codec.get('unbiased') else CODECS.get(codec['type'], codec['type'])
    if codec.get('heatmap_type') == 'combined':
        return f'{label} with offsets'
    return f'{label}, {codec.get("sigma", 2)}'


def _published(name: str, cfg: Mapping[str, Any]) -> str:
    model = model_of(cfg)
    if model is None or not name.startswith(('coco/', 'mpii/')):
        return ''
    if name.startswith('mpii/'):
        found = None if model.psa else MPII_REFERENCES.get((model.backbone, model.codec))
        return f'{found[0]} PCKh {found[1]}' if found else ''
    rows = [row for row in REFERENCES if row.is_of(model)]
    kinds = ('gt' if row.boxes.startswith('ground') else 'det' for row in rows)
    return '; '.join(f'{r.source} {r.ap} ({k})' for r, k in zip(rows, kinds, strict=True))
