"""`psa-pose info`: what the models of configs cost, as a table for people and as JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from psa_pose.datasets import CocoDataset
from psa_pose.engine.build import build_model, keypoint_info, section
from psa_pose.engine.config import load_config
from psa_pose.engine.paper_table import paper_costs, paper_table
from psa_pose.errors import ConfigError, DataError
from psa_pose.files import write_json
from psa_pose.models.cost import PARTS, measure
from psa_pose.structures import KeypointInfo

# how a measure is called, where it stands in a record, its unit
MEASURES = (
    ('parameters, M', 'parameters', 1e6),
    ('multiply-adds, G', 'macs', 1e9),
    ('kept, MiB', 'kept_bytes', 2**20),
)
CAPTION = (
    'For one image. Multiply-adds: of convolutions and matrix products; papers call one a FLOP.\n'
    'Kept: float32 tensors that training holds for the backward, the input and the heatmaps too, '
    'without parameters;\na tensor counts to the part that first keeps it.'
)


def info(
    configs: Sequence[str],
    options: Sequence[str] = (),
    input_size: Sequence[int] | None = None,
    paper: bool = False,
    json_file: Path | None = None,
) -> None:
    """Print what models cost, and write the same numbers to a file.

    Args:
        configs: names of config files.
        options: `key=value`, laid over every config.
        input_size: (height, width) in pixels instead of the codecs'.
        paper: whether to add the PSA paper's table.
        json_file: `{"configs": [...], "paper": [...]}` goes here.

    Raises:
        ConfigError: nothing to show, or see `config_cost`.
    """
    if not configs and not paper:
        raise ConfigError('info: name a config file, or ask for the table of the paper (--paper)')
    records = [config_cost(name, options, input_size) for name in configs]
    printed = paper_costs() if paper else []
    if records:
        show(cost_table(records))
    if paper:
        show(paper_table(printed))
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(json_file, {'configs': records, 'paper': printed})


def config_cost(
    name: str, options: Sequence[str] = (), input_size: Sequence[int] | None = None
) -> dict[str, Any]:
    """What the model of a config costs: a record for JSON, plain numbers throughout.

    Args:
        name: of the config file.
        options: `key=value`, laid over it.
        input_size: (height, width) in pixels instead of the codec's.

    Raises:
        ConfigError: the config cannot be read or built, or the size does not fit.
    """
    cfg = load_config(name, options)
    info, assumed = _keypoints(cfg)
    with torch.device('meta'):
        model = build_model(cfg, info)
    width, height = section(cfg, 'codec')['input_size']  # MMPose's order
    height, width = input_size or (height, width)
    if min(height, width) < 32 or height % 32 or width % 32:
        raise ConfigError(f'input size {height} x {width}: choose multiples of 32 (height, width)')
    cost = measure(model, height, width)
    return {
        'config': name,
        'codec': cfg['codec']['type'],
        'input_size': {'height': height, 'width': width},
        'heatmaps': list(cost.heatmaps),
        'keypoints_assumed': assumed,
        **{
            key: {'total': sum(values.values()), **values}
            for key, values in (
                ('parameters', cost.parameters),
                ('macs', cost.macs),
                ('kept_bytes', cost.kept_bytes),
            )
        },
    }


def _keypoints(cfg: Config) -> tuple[KeypointInfo, bool]:
    """The dataset's keypoints; COCO's, and True, where the file that lists them cannot be read."""
    try:
        return keypoint_info(cfg), False
    except DataError:  # costs are asked for before there is any data
        assert CocoDataset.KEYPOINTS is not None
        return CocoDataset.KEYPOINTS, True


def cost_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """Three lines for every config, a column for every part."""
    table = Table(caption=CAPTION, caption_justify='left')
    table.add_column('config', no_wrap=True)
    table.add_column('', no_wrap=True)
    for name in ('total', *PARTS):
        table.add_column(name, justify='right', no_wrap=True)
    for record in records:
        lines = zip(_labels(record), MEASURES, strict=True)
        for label, (title, key, unit) in lines:
            numbers = (record[key][name] for name in ('total', *PARTS))
            table.add_row(label, title, *(_number(n / unit) for n in numbers))
        table.add_section()
    return table


def _number(value: float) -> str:
    if value == 0:
        return '-'
    return f'{value:.2f}' if value >= 0.1 else f'{value:.2g}'  # small parts are not nothing


def _labels(record: Mapping[str, Any]) -> tuple[str, str, str]:
    path, (keypoints, *size) = Path(record['config']), record['heatmaps']
    height, width = record['input_size']['height'], record['input_size']['width']
    assumed = ' (K assumed)' if record['keypoints_assumed'] else ''
    return (
        str(Path(path.parent.name, path.stem)),
        f'  input {height}x{width} (HxW), {record["codec"]}',
        f'  heatmaps {keypoints}x{size[0]}x{size[1]}{assumed}',
    )


def show(table: Table) -> None:
    """Print as wide as the table is: rich would fold it to 80 columns in a log file."""
    console = Console()
    unbounded = console.options.update(width=1000)
    needed = console.measure(table, options=unbounded).maximum
    Console(width=max(console.width, needed)).print(table)
