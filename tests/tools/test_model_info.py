"""tools/model_info.py as a process: its table, its JSON, its errors."""

import json
from pathlib import Path

import pytest

from psa_pose.errors import ConfigError
from psa_pose.models.cost import PARTS
from tests.conftest import RunTool

R50 = 'configs/coco/simplebaseline_r50_psa_p_256x192.py'
TINY = 'configs/demo/hrnet_tiny_psa_p_128x96.py'


def test_a_table_and_its_json(run_tool: RunTool, tmp_path: Path) -> None:
    file = tmp_path / 'new' / 'info.json'
    done = run_tool('model_info', R50, TINY, '--input-size', 384, 288, '--json', file)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    rows = [line for line in lines if line.startswith('│')]
    assert len(rows) == 6  # three a config, none folded
    assert [cell.strip() for cell in lines[1].split('┃')[3:-1]] == ['total', *PARTS]
    assert 'coco/simplebaseline_r50_psa_p_256x192' in rows[0]
    assert '384x288 (HxW), MSRAHeatmap' in rows[1]

    written = json.loads(file.read_text())
    assert written['paper'] == []
    r50, tiny = written['configs']
    assert (r50['config'], r50['input_size']) == (R50, {'height': 384, 'width': 288})
    assert r50['heatmaps'] == [17, 96, 72]
    for record in (r50, tiny):
        for measure in ('parameters', 'macs', 'kept_bytes'):
            numbers = record[measure]
            assert set(numbers) == {'total', *PARTS}
            assert numbers['total'] == sum(numbers[part] for part in PARTS) > 0


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['coco/simplebaseline_r5_256x192.py'], ('no config file', 'did you mean')),
        ([R50, '--input-size', 100, 96], ('100 x 96', 'multiples of 32')),
        ([R50, '--cfg-options', 'model.backbone.attention.type=SEE'], ("type 'SEE'",)),
        ([], ('name a config file', '--paper')),
    ],
)
def test_errors_are_one_line(run_tool: RunTool, arguments: list, said: tuple[str, ...]) -> None:
    done = run_tool('model_info', *arguments)
    assert done.returncode == 1
    assert done.stdout == ''
    (line,) = (line for line in done.stderr.splitlines() if line.strip())
    assert line.startswith('error: ')
    for part in said:
        assert part in line


def test_without_data_coco_keypoints_are_assumed_and_it_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from psa_pose.engine.info import config_cost, info

    missing = [f'{name}_dataloader.dataset.data_root={tmp_path}' for name in ('train', 'val')]
    assert config_cost(TINY, missing)['keypoints_assumed']
    info([TINY], missing)
    assert '17x32x24 (K assumed)' in capsys.readouterr().out
    with pytest.raises(ConfigError, match='name a config file'):
        info([])
