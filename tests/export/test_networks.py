"""`psa-pose export` of real networks: every layer, and what the check says of a broken file."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from psa_pose.cli import main
from psa_pose.codecs import MSRAHeatmap
from psa_pose.engine.build import build_model
from psa_pose.engine.config import load_config
from psa_pose.errors import ExportError
from psa_pose.export.check import check
from psa_pose.export.graph import PoseGraph
from psa_pose.export.layers import layer_errors
from psa_pose.export.samples import made_up_crops
from psa_pose.models import TopdownPoseEstimator
from psa_pose.registry import MODELS
from psa_pose.structures import COCO_KEYPOINTS, KeypointInfo

onnx = pytest.importorskip('onnx')
ort = pytest.importorskip('onnxruntime')
CONFIG = 'configs/demo/hrnet_tiny_psa_p_128x96.py'
BLOCKS = {
    'parallel': {'type': 'PSA'},
    'sequential': {'type': 'PSA', 'layout': 'sequential'},
    'official_p': {'type': 'PSA', 'variant': 'official_p'},
    'official_s': {'type': 'PSA', 'variant': 'official_s'},
    'identity': {'type': 'PSA', 'identity_init': True},
    'doubled': {'type': 'PSA', 'layout': 'sequential', 'identity_init': True},
    'non_local': {'type': 'NonLocal'},
    'dense': {'type': 'DensePSA', 'heads': 2, 'fusion': 'gated'},
    'se': {'type': 'SE'},
    'cbam': {'type': 'CBAM'},
    'gc': {'type': 'GC'},
}


def calibrated(model: TopdownPoseEstimator, crops: torch.Tensor) -> TopdownPoseEstimator:
    """Fresh weights with the BatchNorm statistics of a few crops: signals neither die nor grow."""
    with torch.no_grad():
        for _ in range(20):
            model.train()(model.data_preprocessor(crops))
        model.head.final_layer.weight.mul_(100)
    return model.eval()


@pytest.fixture(scope='module')
def hrnet(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """HRNet-tiny with PSA, its ONNX file as the command writes it, and what that printed."""
    root = tmp_path_factory.mktemp('hrnet')
    torch.manual_seed(0)
    crops = made_up_crops((96, 128), 8)
    model = calibrated(build_model(load_config(CONFIG), COCO_KEYPOINTS), crops)
    now = {name: value + 1 for name, value in model.state_dict().items()}  # EMA: the average counts
    content = {'state_dict': model.state_dict(), 'current_model_state': now}
    torch.save(content, root / 'model.pth')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('psa_pose.export.run.model_keypoints', lambda *_: COCO_KEYPOINTS)
        flags = ['--licence', 'CC-BY-4.0', '--rounds', '1', '--work-dir', str(root)]
        options = ['--cfg-options', f'val_dataloader.dataset.data_root={root}/none']
        assert main(['export', CONFIG, str(root / 'model.pth'), *flags, *options]) == 0
    file = root / 'hrnet_tiny_psa_p_128x96.onnx'
    return SimpleNamespace(root=root, graph=PoseGraph(model), crops=crops, file=file)


def test_one_file_says_everything(hrnet: SimpleNamespace) -> None:
    assert sorted(p.name for p in hrnet.root.iterdir()) == [hrnet.file.name, 'model.pth']
    session = ort.InferenceSession(hrnet.file, providers=['CPUExecutionProvider'])
    shapes = {x.name: (x.type, x.shape) for x in [*session.get_inputs(), *session.get_outputs()]}
    assert shapes == {
        'crops': ('tensor(uint8)', ['batch', 128, 96, 3]),
        'keypoints': ('tensor(float)', ['batch', 17, 2]),
        'scores': ('tensor(float)', ['batch', 17]),
    }
    about = json.loads(session.get_modelmeta().custom_metadata_map['psa_pose'])
    assert about['keypoints'] == list(COCO_KEYPOINTS.names)
    assert about['skeleton'][0] == [15, 13] and about['flip_pairs'][0] == [1, 2]
    assert about['input_size'] == [96, 128] and about['heatmap_size'] == [24, 32]
    assert about['mean'] == pytest.approx([123.675, 116.28, 103.53])
    assert about['codec']['sigma'] == 1.5 and about['unbiased_affine'] is False
    assert about['bbox_padding'] == 1.25 and about['licence'] == 'CC-BY-4.0'
    digest = hashlib.sha256((hrnet.root / 'model.pth').read_bytes()).hexdigest()
    assert about['checkpoint'] == {'file': 'model.pth', 'sha256': digest}


def test_the_graph_is_plain_and_dynamic(hrnet: SimpleNamespace) -> None:
    model = onnx.load(hrnet.file)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [('', 18)]
    assert not model.functions and all(not node.domain for node in model.graph.node)
    assert 'BatchNormalization' not in {node.op_type for node in model.graph.node}
    session = ort.InferenceSession(hrnet.file, providers=['CPUExecutionProvider'])
    for size in (1, 2, 5):
        keypoints, _ = session.run(None, {'crops': hrnet.crops[:size].numpy()})
        assert keypoints.shape == (size, 17, 2)


def test_layers_can_be_compared_one_by_one(hrnet: SimpleNamespace) -> None:
    from psa_pose.export.to_onnx import OnnxModel

    found = list(layer_errors(hrnet.graph, OnnxModel(hrnet.file), hrnet.crops[:3]))
    names = {layer.layer for layer in found}
    modules = dict(hrnet.graph.named_modules())
    wanted = {n for n, m in modules.items() if type(m).__name__ in ('BatchNorm2d', 'PSA')}
    wanted |= {'data_preprocessor', 'head', 'backbone.layer1.0', 'backbone.stage4.0.branches.2'}
    assert wanted <= names
    assert max(layer.error for layer in found) < 2e-5


def broken(hrnet: SimpleNamespace, tmp_path: Path, how: str) -> Path:
    """The file with one fault in the middle of its graph."""
    model = onnx.load(hrnet.file)
    if how == 'weight':
        name = 'backbone.stage3.0.branches.1.0.conv2.weight'
        tensor = next(t for t in model.graph.initializer if t.name == name)
        values = onnx.numpy_helper.to_array(tensor).copy()
        values[0] *= 1.05
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))
    else:
        place = "'backbone.stage3.0.branches.1.0.attention', 'softmax"
        node = next(
            node
            for node in model.graph.node
            if node.op_type == 'Softmax' and any(place in p.value for p in node.metadata_props)
        )
        node.op_type = 'Sigmoid'
        del node.attribute[:]
    onnx.save(model, tmp_path / 'broken.onnx')
    return tmp_path / 'broken.onnx'


@pytest.mark.parametrize(
    ('how', 'layer', 'operation'),
    [
        ('weight', 'backbone.stage3.0.branches.1.0.bn2', 'Conv of backbone.stage3.0.branches.1.0.'),
        ('operation', 'backbone.stage3.0.branches.1.0.attention', 'Reshape, node'),
    ],
)
def test_the_first_layer_that_differs_is_named(
    hrnet: SimpleNamespace, tmp_path: Path, how: str, layer: str, operation: str
) -> None:
    from psa_pose.export.to_onnx import OnnxModel

    with pytest.raises(ExportError) as caught:
        check(hrnet.graph, OnnxModel(broken(hrnet, tmp_path, how)), hrnet.crops)
    assert f'First layer that differs: {layer}, by ' in str(caught.value)
    assert operation in str(caught.value)
    assert 'amplify rounding' not in str(caught.value)


@MODELS.register_module()
class Row(nn.Module):
    """All blocks, one after the other."""

    out_channels = 16

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        for name, block in BLOCKS.items():
            self.add_module(name, MODELS.build({**block, 'channels': 16}))
            self.add_module(f'{name}_norm', nn.InstanceNorm2d(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in self.children():
            x = part(x)
        return x


def test_every_attention_block(tmp_path: Path) -> None:
    pytest.importorskip('timm')
    from psa_pose.export.to_onnx import OnnxModel, write_onnx

    torch.manual_seed(0)
    head = {'type': 'HeatmapHead', 'deconv_out_channels': ()}
    info = KeypointInfo(('a', 'b'), (), (0.1, 0.1))
    model = TopdownPoseEstimator({'type': Row}, head, MSRAHeatmap((32, 32), (8, 8)), info)
    for parameter in model.parameters():  # not zero, as some begin
        nn.init.normal_(parameter, std=0.3)
    graph, crops = PoseGraph(model, decode=False), made_up_crops((32, 32), 8)
    write_onnx(graph, crops, tmp_path / 'a.onnx', {})
    file = OnnxModel(tmp_path / 'a.onnx')
    assert check(graph, file, crops).heatmaps < 1e-4
    errors = {found.layer: found.error for found in layer_errors(graph, file, crops[:5])}
    assert {f'backbone.{name}' for name in BLOCKS} <= set(errors)
    assert max(errors[f'backbone.{name}'] for name in BLOCKS) < 1e-5


def test_resnet_as_a_program(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.manual_seed(0)
    name = 'configs/coco/simplebaseline_r50_psa_s_256x192.py'
    sizes = 'codec.input_size=(32,64)', 'codec.heatmap_size=(8,16)'
    small = [*sizes, 'model.backbone.depth=18', 'model.backbone.attention_stages=[4]']
    model = build_model(load_config(name, small), COCO_KEYPOINTS)
    torch.save(model.state_dict(), tmp_path / 'r18.pth')
    flags = ['--out', str(tmp_path / 'a.pt2'), '--flip-test', '--rounds', '0']
    assert main(['export', name, str(tmp_path / 'r18.pth'), *flags, '--cfg-options', *small]) == 0
    assert 'made-up crops (image root ' in capsys.readouterr().out

    crops = made_up_crops((32, 64), 2)
    expected = PoseGraph(model, flip_test=True)(crops)
    program = torch.export.load(tmp_path / 'a.pt2').module()
    for got, wanted in zip(program(crops), expected, strict=True):
        torch.testing.assert_close(got, wanted)
