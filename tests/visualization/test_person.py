"""What a model sees of a person: the right values, at the right place."""

import numpy as np
import pytest
import torch

from psa_pose.codecs import MSRAHeatmap, UDPHeatmap
from psa_pose.engine.build import build_model
from psa_pose.engine.config import load_config
from psa_pose.models.attention.gates import record_gates
from psa_pose.structures import COCO_KEYPOINTS, PoseBatch
from psa_pose.visualization.person import Zoom, gate, heatmap, model_cells
from tests.conftest import ROOT

CONFIG = ROOT / 'configs/demo/hrnet_tiny_psa_p_128x96.py'
SIZE = (96, 128)
CROP = np.full((128, 96, 3), 90, np.uint8)


def yellow(image):
    """Where a picture is yellowest: x and y."""
    values = image.astype(int)
    strength = values[..., 0] + values[..., 1] - 2 * values[..., 2]
    rows, columns = np.nonzero(strength == strength.max())
    return columns.mean(), rows.mean()


@pytest.mark.parametrize('codec', [MSRAHeatmap, UDPHeatmap])
def test_a_target_lies_on_its_keypoint(codec):
    codec = codec(input_size=SIZE, heatmap_size=(24, 32))
    point = np.array([40.0, 84.0])
    target, _ = codec.encode(torch.tensor(point, dtype=torch.float32)[None, None], torch.ones(1, 1))
    zoom = Zoom(SIZE)
    shown = heatmap(CROP, target[0].numpy(), codec, zoom)
    assert shown.shape == (256, 192, 3)
    assert np.abs(yellow(shown) - zoom.points(point)).max() < 3  # a heatmap pixel is 8 pixels


def test_a_map_lies_on_the_enlarged_crop_as_keypoints_do():
    crop, values = np.full((64, 48, 3), 90, np.uint8), np.zeros((16, 12), np.float32)
    values[9, 5] = 1  # of crop pixel (20, 36)
    zoom = Zoom((48, 64))
    shown = zoom.map(crop, values, (4, 4))
    assert np.abs(yellow(shown) - zoom.points(np.array([20, 36]))).max() < 0.6


@pytest.mark.parametrize(('height', 'factor'), [(64, 4), (128, 2), (256, 1), (384, 1), (900, 1)])
def test_small_crops_are_enlarged(height, factor):
    assert Zoom((height * 3 // 4, height)).factor == factor


def test_gates_are_a_map_and_bars():
    spatial = np.full((16, 12), 0.4, np.float32)
    spatial[4, 9] = 0.6
    channel = np.array([0.0, 0.25, 0.5, 1.0], np.float32)
    shown = gate(CROP, channel, spatial, Zoom(SIZE))
    x, y = yellow(shown[:256])
    assert (x // 16, y // 16) == (9, 4)
    bars = shown[-36:]
    height = [(bars[1:-1, column] != 255).any(-1).sum() for column in (24, 72, 120, 168)]
    assert height[1:] == sorted(height[1:])
    assert height[3] >= 34
    assert abs(height[1] - 9) <= 2  # a quarter, and the line half-way
    twice = gate(CROP, 2 * channel, spatial, Zoom(SIZE))[-36:]  # identity_init: up to 2
    np.testing.assert_array_equal(twice, bars)


@pytest.mark.parametrize('flip_test', [False, True])
def test_each_person_has_its_own_gates_and_the_model_stays_as_it_is(flip_test):
    torch.manual_seed(0)
    cfg = load_config(CONFIG, [f'model.test_cfg.flip_test={flip_test}'])
    model = build_model(cfg, COCO_KEYPOINTS).eval()
    batch = PoseBatch(
        crop=torch.randint(0, 256, (2, 128, 96, 3), dtype=torch.uint8),
        keypoints=torch.rand(2, 17, 2) * 90,
        visible=torch.ones(2, 17),
        to_image=torch.eye(2, 3).expand(2, 2, 3),
        person=torch.arange(2),
        usable=torch.ones(2, dtype=torch.bool),
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    people = model_cells(model, batch, Zoom(SIZE), each_keypoint=True)
    assert [len(cells) for cells in people] == [6 + 17] * 2
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad(), record_gates(model) as recorded:
        model(model.data_preprocessor(batch.crop[1:]))
    last = [g for name, g in recorded.items() if '.stage4.' in name and '.branches.0.' in name][-1]
    low, high = float(last.spatial.min()), float(last.spatial.max())
    assert people[1][5].caption == f'stage4: where {low:.2f} to {high:.2f}, what of 16 channels'
    assert people[0][5].caption != people[1][5].caption or not np.array_equal(
        people[0][5].image, people[1][5].image
    )


def test_keypoints_are_read_in_float32_whatever_the_evaluation_computes_in(monkeypatch):
    """In bfloat16 a refinement is off by tenths of a pixel; `predict` looks to it likewise."""
    model = build_model(load_config(CONFIG), COCO_KEYPOINTS).eval()
    decode, seen = model.codec.decode, []

    def recorded(heatmaps):
        seen.append((heatmaps.dtype, torch.is_autocast_enabled('cpu')))
        return decode(heatmaps)

    monkeypatch.setattr(model.codec, 'decode', recorded)
    fields = np.zeros((1, 17, 2)), np.zeros((1, 17)), np.eye(2, 3)[None], np.zeros(1), np.ones(1)
    batch = PoseBatch(torch.from_numpy(CROP[None]), *map(torch.from_numpy, fields))
    with torch.autocast('cpu', torch.bfloat16):
        model_cells(model, batch, Zoom(SIZE))
    assert seen == [(torch.float32, False)]
