"""Every format that people arrive with: recognised, named, and of the same outputs afterwards."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from psa_pose.errors import CheckpointError
from psa_pose.models import HRNet, ResNet, TopdownPoseEstimator
from psa_pose.models.checkpoints import LoadReport, load_backbone, load_checkpoint
from psa_pose.structures import COCO_KEYPOINTS, MPII_KEYPOINTS, KeypointInfo
from tests.models.checkpoints.networks import estimator, moved, same

IMAGE = torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64).sin()


def bare(state: Mapping[str, Tensor], prefix: str = '') -> dict[str, Tensor]:
    """As the original repositories name it: head and trunk side by side."""
    return {
        prefix + name.removeprefix('backbone.').removeprefix('head.'): value
        for name, value in state.items()
    }


def written(folder: Path, content: object, name: str = 'file.pth') -> Path:
    torch.save(content, folder / name)
    return folder / name


def own(state: dict) -> dict:
    return {'state_dict': state, 'meta': {'keypoint_names': list(COCO_KEYPOINTS.names)}}


def mmpose_1(state: dict) -> dict:
    names = dict(enumerate(COCO_KEYPOINTS.names))
    meta = {'dataset_meta': {'keypoint_id2name': names}, 'mmengine_version': '0.10.7'}
    return {'state_dict': state, 'meta': meta}


def mmpose_0(state: dict) -> dict:
    renamed = {name.replace('head.', 'keypoint_head.'): value for name, value in state.items()}
    return {'state_dict': renamed, 'meta': {'epoch': 210, 'mmpose_version': '0.29.0'}}


FORMATS: list[tuple[str, str, Callable[[dict], dict]]] = [
    ('HRNet', 'PSA-Pose', own),
    ('HRNet', 'MMPose', mmpose_1),
    ('ResNet', 'MMPose', mmpose_1),
    ('HRNet', 'MMPose 0.x', mmpose_0),
    ('ResNet', 'MMPose 0.x', mmpose_0),
    ('HRNet', "HRNet's repository", bare),
    ('HRNet', "HRNet's repository", lambda s: {'state_dict': bare(s, 'module.'), 'perf': 0.7}),
    ('ResNet', "SimpleBaseline's repository", bare),
    ('HRNet', 'an estimator without a word about itself', lambda s: {'model': s}),
    ('HRNet', 'PSA-Pose', lambda s: own({f'module._orig_mod.{n}': v for n, v in s.items()})),
]


@pytest.mark.parametrize(('network', 'name', 'content'), FORMATS)
def test_whole_networks(tmp_path: Path, network: str, name: str, content: Callable) -> None:
    a, b = moved(estimator(network)), estimator(network)
    report = load_checkpoint(b, written(tmp_path, content(a.state_dict())), strict=True)
    assert same(a, b)
    assert report.format == name
    assert report.complete and len(report.loaded) > 100
    assert str(report).startswith(f'weights   {tmp_path}/file.pth: {name}: ')
    assert '┃' not in str(report)  # no table where nothing is to be said


def test_safetensors(tmp_path: Path) -> None:
    a, b = moved(estimator()), estimator()
    save_file(a.state_dict(), tmp_path / 'model.safetensors')
    report = load_checkpoint(b, tmp_path / 'model.safetensors', strict=True)
    assert same(a, b) and report.complete


def test_half_precision_is_widened(tmp_path: Path) -> None:
    a, b = estimator(), estimator()
    half = {name: v.half() if v.is_floating_point() else v for name, v in a.state_dict().items()}
    load_checkpoint(b, written(tmp_path, half), strict=True)
    assert {p.dtype for p in b.parameters()} == {torch.float32}
    assert torch.equal(b.backbone.conv1.weight, half['backbone.conv1.weight'].float())


def test_batchnorms_counter_is_not_missed(tmp_path: Path) -> None:
    """PyTorch before 0.4.1, with which the original weights were trained, had none."""
    a, b = moved(estimator()), estimator()
    old = {n: v for n, v in bare(a.state_dict()).items() if 'num_batches_tracked' not in n}
    report = load_checkpoint(b, written(tmp_path, old), strict=True)
    assert report.complete
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


# Trunks of ImageNet. Expected: the map that the other library's own network makes.


def torchvision_net(name: str) -> nn.Module:
    return pytest.importorskip('torchvision.models').get_model(name, weights=None)


def timm_net(name: str) -> nn.Module:
    return pytest.importorskip('timm').create_model(name, pretrained=False)


def resnet_map(net: nn.Module, image: Tensor) -> Tensor:
    for child in ('conv1', 'bn1', 'relu' if hasattr(net, 'relu') else 'act1', 'maxpool'):
        image = getattr(net, child)(image)
    for stage in range(1, 5):
        image = getattr(net, f'layer{stage}')(image)
    return image


def hrnet_map(net: nn.Module, image: Tensor) -> Tensor:
    for child in ('conv1', 'bn1', 'act1', 'conv2', 'bn2', 'act2'):
        image = getattr(net, child)(image)
    return net.stages(image)[0]  # type: ignore[operator]


TRUNKS = [
    (lambda: torchvision_net('resnet50'), resnet_map, lambda: ResNet(50), 'ResNet of ImageNet'),
    (lambda: torchvision_net('resnet18'), resnet_map, lambda: ResNet(18), 'ResNet of ImageNet'),
    (lambda: timm_net('resnet34'), resnet_map, lambda: ResNet(34), 'ResNet of ImageNet'),
    (lambda: timm_net('hrnet_w32'), hrnet_map, lambda: HRNet('w32'), 'HRNet of ImageNet'),
]


@pytest.mark.parametrize(
    ('make', 'features', 'ours', 'name'), TRUNKS, ids=['tv50', 'tv18', 'timm34', 'timm-w32']
)
def test_trunks_of_imagenet(
    tmp_path: Path, make: Callable, features: Callable, ours: Callable, name: str
) -> None:
    net, path = moved(make()), tmp_path / 'trunk.safetensors'
    save_file(net.state_dict(), path)
    backbone = ours()
    report = load_backbone(backbone, path)
    assert report.format.startswith(name)
    assert report.missing == []
    assert {n.split('.')[0] for n in report.unexpected} <= {
        'fc', 'classifier', 'final_layer', 'incre_modules', 'downsamp_modules', 'stage4',
    }  # fmt: skip
    with torch.no_grad():
        expected = features(net.eval(), IMAGE)
        torch.testing.assert_close(backbone.eval()(IMAGE), (expected,), rtol=1e-5, atol=1e-5)


def test_mmposes_copy_of_the_imagenet_hrnet(tmp_path: Path) -> None:
    """hrnet_w32-36af842e.pth: its classifier is called `head` and `fc`, which is no pose head."""
    a, b = moved(HRNet('tiny')), estimator()
    names = ('head.0.0.0.conv1.weight', 'head.1.0.weight', 'head.2.0.weight', 'fc.weight')
    more = {n: torch.zeros(4, 4) for n in (*names, 'stage4.0.fuse_layers.1.0.0.0.weight')}
    report = load_checkpoint(b, written(tmp_path, {**a.state_dict(), **more}))
    assert report.format == "MMPose's HRNet of ImageNet"
    assert same(a, b.backbone)
    assert report.missing == ['head.final_layer.weight', 'head.final_layer.bias']
    assert set(report.unexpected) == set(more)
    assert 'head.final_layer' in str(report) and ' fc ' in str(report)


@pytest.mark.parametrize('prefix', ['', 'module.', 'module.backbone.'])
def test_the_psa_authors_blocks(tmp_path: Path, prefix: str) -> None:
    """Their segmentation HRNet has `deattn` (PSA_s) in basic blocks, none in bottlenecks."""
    theirs = {'type': 'PSA', 'variant': 'official_s'}
    options = {'arch': 'tiny', 'attention': theirs, 'attention_stages': (2, 3, 4)}
    a, b = moved(HRNet(**options)), HRNet(**options)
    state = {prefix + n.replace('.attention.', '.deattn.'): v for n, v in a.state_dict().items()}
    state |= {'module.ocr.conv3x3_ocr.0.weight': torch.zeros(4)} if prefix else {}
    assert sum('.deattn.conv_q_right.' in name for name in state) == 9
    report = load_backbone(b, written(tmp_path, {'state_dict': state}))
    assert report.format == "PSA authors' HRNet"
    assert same(a, b)
    assert report.missing == []


@pytest.mark.parametrize(
    ('theirs', 'ours'),
    [('official_s', 'paper'), ('official_p', 'paper'), ('paper', 'official_p')],
)
def test_attention_of_another_variant_is_refused(tmp_path: Path, theirs: str, ours: str) -> None:
    def net(variant: str) -> TopdownPoseEstimator:
        return estimator(attention={'type': 'PSA', 'variant': variant})

    path = written(tmp_path, net(theirs).state_dict())
    model = net(ours)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    message = f"layer1.0.attention has .*variant='{theirs}'.*the model's has .*variant='{ours}'"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(model, path)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


def test_a_linear_layer_fits_a_convolution_of_one_pixel(tmp_path: Path) -> None:
    a, b = moved(estimator()), estimator()
    state = a.state_dict()
    state['head.final_layer.weight'] = state['head.final_layer.weight'].flatten(1)
    report = load_backbone(b.backbone, written(tmp_path, state))
    assert report.missing == []
    report = load_checkpoint(b, written(tmp_path, state))
    assert report.reshaped == ['head.final_layer.weight']
    assert same(a, b)


def test_a_state_dict_that_says_nothing_keeps_the_datasets_order(tmp_path: Path) -> None:
    """17 channels of an unknown author's estimator are not taken for COCO's."""
    names = KeypointInfo(tuple(f'point {i}' for i in range(17)), (), (0.1,) * 17)
    a, b = moved(estimator(info=names)), estimator(info=names)
    load_checkpoint(b, written(tmp_path, a.state_dict()))
    assert same(a, b)


@pytest.mark.parametrize('info', [COCO_KEYPOINTS, MPII_KEYPOINTS], ids=['COCO', 'MPII'])
def test_the_keypoints_of_the_original_repositories_are_assumed_aloud(
    tmp_path: Path, info: KeypointInfo
) -> None:
    a, b = moved(estimator(info=info)), estimator(info=info)
    report: LoadReport = load_checkpoint(b, written(tmp_path, bare(a.state_dict())))
    assert same(a, b)
    k, name = info.num_keypoints, {17: 'COCO', 16: 'MPII'}[info.num_keypoints]
    assert f"assumed: that its {k} keypoints are {name}'s, in {name}'s order" in str(report)
