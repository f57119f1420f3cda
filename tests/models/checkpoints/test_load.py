"""What fits, what is rebuilt, what is refused, and what is said of it."""

from pathlib import Path

import pytest
import torch

from psa_pose.codecs import MSRAHeatmap, UDPHeatmap
from psa_pose.errors import CheckpointError
from psa_pose.models import HRNet, ResNet
from psa_pose.models.backbones.blocks import attention_text
from psa_pose.models.checkpoints import load_backbone, load_checkpoint, load_progress
from psa_pose.models.checkpoints.keypoints import normal_name
from psa_pose.structures import COCO_KEYPOINTS, MPII_KEYPOINTS, KeypointInfo
from tests.models.checkpoints.networks import estimator, moved, same

FOUR = KeypointInfo(('head', 'left_hand', 'right_hand', 'feet'), (), (0.08,) * 4)
_ARM, _LEG = ('wrist', 'elbow', 'shoulder'), ('ankle', 'knee', 'hip')
_LIMBS = [f'{side}_{part}' for limb in (_LEG, _ARM) for side in ('right', 'left') for part in limb]
LSPET = KeypointInfo((*_LIMBS, 'neck', 'head_top'), (), (0.08,) * 14)
SIZES = ((96, 128), (24, 32))


def written(folder: Path, model: torch.nn.Module, info: KeypointInfo | None = None) -> Path:
    meta = {'keypoint_names': list(info.names)} if info else {}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, folder / 'file.ckpt')
    return folder / 'file.ckpt'


# A head of other keypoints


@pytest.mark.parametrize(
    'codec',
    [
        MSRAHeatmap(*SIZES),
        MSRAHeatmap(*SIZES, unbiased=True),
        UDPHeatmap(*SIZES),
        UDPHeatmap(*SIZES, heatmap_type='combined'),
    ],
    ids=['msra', 'dark', 'udp', 'combined'],
)
@pytest.mark.parametrize(
    ('theirs', 'ours', 'count'),
    [
        (COCO_KEYPOINTS, LSPET, 12),
        (MPII_KEYPOINTS, COCO_KEYPOINTS, 12),
        (MPII_KEYPOINTS, LSPET, 13),
    ],
    ids=['coco-lspet', 'mpii-coco', 'mpii-lspet'],
)
def test_shared_keypoints_are_copied_by_name(
    tmp_path: Path, codec, theirs: KeypointInfo, ours: KeypointInfo, count: int
) -> None:
    """A keypoint's heatmaps are the old network's where its name is the same, side included."""
    a = moved(estimator(info=theirs, codec=codec))
    b = estimator(info=ours, codec=codec)
    fresh = b.head.final_layer.weight.detach().clone()
    report = load_checkpoint(b, written(tmp_path, a, theirs))
    assert report.reshaped == ['head.final_layer.weight', 'head.final_layer.bias']
    image = torch.randn(1, 3, 64, 64)
    c = codec.channels_per_keypoint
    with torch.no_grad():
        old, new = a.eval()(image).unflatten(1, (-1, c)), b.eval()(image).unflatten(1, (-1, c))
    shared = [name for name in ours.names if name in theirs.names]
    assert len(shared) == count
    for i, name in enumerate(ours.names):
        if name in theirs.names:
            expected = old[:, theirs.names.index(name)]
            torch.testing.assert_close(new[:, i], expected, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(b.head.final_layer.weight.unflatten(0, (-1, c))[i],
                               fresh.unflatten(0, (-1, c))[i])  # fmt: skip
    text = str(report)
    k, new_count = theirs.num_keypoints, ours.num_keypoints - count
    assert f'head: rebuilt for {ours.num_keypoints} keypoints, the file has {k} keypoints' in text
    assert f'{count} copied by name ({", ".join(shared[:2])}' in text
    assert f'{new_count} new (' in text


def test_the_same_keypoints_in_another_order_are_put_in_order(tmp_path: Path) -> None:
    turned = KeypointInfo(COCO_KEYPOINTS.names[::-1], (), (0.08,) * 17)
    a, b = moved(estimator()), estimator(info=turned)
    path = written(tmp_path, a, COCO_KEYPOINTS)
    with pytest.raises(CheckpointError, match=r"its keypoint 0 is 'nose', but .* 'right_ankle'"):
        load_checkpoint(b, path, strict=True)
    load_checkpoint(b, path)
    assert torch.equal(b.head.final_layer.weight, a.head.final_layer.weight.flip(0))


def test_another_spelling_is_the_same_keypoint(tmp_path: Path) -> None:
    spelt = KeypointInfo(
        tuple(n.replace('left_', 'L ').replace('_', ' ').upper() for n in COCO_KEYPOINTS.names),
        (),
        (0.08,) * 17,
    )
    a, b = moved(estimator()), estimator(info=spelt)
    assert load_checkpoint(b, written(tmp_path, a, COCO_KEYPOINTS), strict=True).complete
    assert same(a, b)


@pytest.mark.parametrize('name', ['left_ankle', 'LeftAnkle', 'l ankle', 'ankle-left', 'LAnkle'])
def test_spellings(name: str) -> None:
    assert normal_name(name) == ('ankle', 'left')
    assert normal_name(name) != normal_name('right_ankle')


def test_channels_of_another_codec_are_not_copied(tmp_path: Path) -> None:
    a = moved(estimator(codec=UDPHeatmap(*SIZES, heatmap_type='combined')))
    b, path = estimator(), written(tmp_path, a, COCO_KEYPOINTS)
    with pytest.raises(CheckpointError, match='3 channels a keypoint, but the codec reads 1'):
        load_checkpoint(b, path, strict=True)
    text = str(load_checkpoint(b, path))
    assert 'with 3 channels each instead of 1; 17 new' in text
    assert 'copied' not in text


def test_a_head_of_unknown_keypoints_is_rebuilt_without_a_guess(tmp_path: Path) -> None:
    a, b = moved(estimator(info=FOUR)), estimator()
    path = written(tmp_path, a)
    with pytest.raises(CheckpointError, match='predicts 4 channels, but the dataset has 17'):
        load_checkpoint(b, path, strict=True)
    assert 'the file has 4 channels of names unknown; 17 new' in str(load_checkpoint(b, path))
    assert same(a.backbone, b.backbone)


def test_strict_refuses_another_number_of_keypoints_by_name(tmp_path: Path) -> None:
    path = written(tmp_path, estimator(info=FOUR), FOUR)
    with pytest.raises(
        CheckpointError, match=r'predicts 4 keypoints \(head, left_hand.*has 17 \(nose'
    ):
        load_checkpoint(estimator(), path, strict=True)


# Freshly added attention


@pytest.mark.parametrize('layout', ['parallel', 'sequential'])
@pytest.mark.parametrize('network', ['HRNet', 'ResNet'])
def test_identity_init_keeps_every_heatmap(tmp_path: Path, network: str, layout: str) -> None:
    plain = moved(estimator(network))
    attention = {'type': 'PSA', 'layout': layout, 'identity_init': True}
    model = estimator(network, attention=attention)
    report = load_checkpoint(model, written(tmp_path, plain, COCO_KEYPOINTS))
    blocks = {'HRNet': 10, 'ResNet': 8}[network]
    assert f'attention: {blocks} blocks new, identity' in str(report)
    assert all('.attention.' in name for name in report.missing)
    image = torch.randn(2, 3, 128, 96)
    for mode in (False, True):  # BatchNorm from its statistics, and from the batch as in training
        with torch.no_grad():
            expected, got = plain.train(mode)(image), model.train(mode)(image)
        assert expected.abs().max() > 0.1
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_random_attention_is_said_to_be_random(tmp_path: Path) -> None:
    path = written(tmp_path, estimator(), COCO_KEYPOINTS)
    model = estimator(attention={'type': 'PSA'})
    with pytest.raises(CheckpointError, match=r'does not fit(.|\n)*70 missing'):
        load_checkpoint(model, path, strict=True)
    assert 'attention: 10 blocks new, random' in str(load_checkpoint(model, path))


def test_attention_alone_does_not_make_half_a_backbone(tmp_path: Path) -> None:
    """DensePSA has more names than the block it stands in; a plain file is still a whole one."""
    path = written(tmp_path, moved(estimator()), COCO_KEYPOINTS)
    load_checkpoint(estimator(attention={'type': 'DensePSA'}), path)


# Too little


def refused(path: Path, model: torch.nn.Module, message: str) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=message) as error:
        load_backbone(model, path)
    assert str(path) in str(error.value)
    assert all(torch.equal(value, before[n]) for n, value in model.state_dict().items())


@pytest.mark.parametrize(
    ('theirs', 'ours', 'cause'),
    [
        (lambda: HRNet('w18'), lambda: HRNet('tiny'), 'the file is a HRNet-W18, the model a HRNet'),
        (lambda: ResNet(18), lambda: HRNet('tiny'), 'the file is a ResNet-18, the model a HRNet-W'),
        (lambda: ResNet(18), lambda: ResNet(50), 'the file is a ResNet-18, the model a ResNet-50'),
    ],
    ids=['width', 'family', 'depth'],
)
def test_another_architecture_is_named(tmp_path: Path, theirs, ours, cause: str) -> None:
    torch.save(theirs().state_dict(), tmp_path / 'f.pth')
    refused(tmp_path / 'f.pth', ours(), rf'only \d+ of \d+ backbone .*looked for .*: {cause}')


@pytest.mark.parametrize('prefix', ['encoder_q.', 'student.backbone.', 'net.model.'])
def test_a_prefix_that_hides_the_names_is_named(tmp_path: Path, prefix: str) -> None:
    state = {prefix + name: value for name, value in ResNet(18).state_dict().items()}
    torch.save({**state, 'queue': torch.zeros(3)}, tmp_path / 'f.pth')
    refused(tmp_path / 'f.pth', ResNet(18), f"would fit without '{prefix}'")


@pytest.mark.parametrize(
    ('name', 'cause'),
    [
        ('head.final_layer.weight', 'the file is only a head'),
        ('resnet_v1_50/block1/unit_1/conv1/weights', 'those of TensorFlow'),
        ('backbone.bottom_up.res2.0.conv1.weight', 'those of Detectron'),
        ('res2_0_branch2a_w', 'those of Detectron'),
        ('blocks.0.attn.qkv.weight', 'those of a transformer'),
        ('ema_backbone_conv1_weight', 'those of an old EMA hook'),
        ('something.else', 'it is of another architecture'),
    ],
)
def test_the_likeliest_cause(tmp_path: Path, name: str, cause: str) -> None:
    torch.save({name: torch.zeros(3, 3)}, tmp_path / 'f.pth')
    refused(tmp_path / 'f.pth', ResNet(18), f'only 0 of .*likeliest cause: .*{cause}')


def test_one_shape_that_differs_is_refused(tmp_path: Path) -> None:
    state = ResNet(18).state_dict()
    state['conv1.weight'] = torch.zeros(64, 1, 7, 7)
    torch.save(state, tmp_path / 'f.pth')
    refused(tmp_path / 'f.pth', ResNet(18), r'conv1.weight: \(64, 1, 7, 7\) in the file, \(64, 3')


def test_a_depth_that_half_fits_is_taken_with_a_warning(tmp_path: Path) -> None:
    torch.save(moved(ResNet(50)).state_dict(), tmp_path / 'f.pth')
    text = str(load_backbone(ResNet(101), tmp_path / 'f.pth'))
    assert 'the file is a ResNet-50, the model a ResNet-101' in text


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = ResNet(18).state_dict()
    state['layer2.0.bn1.running_var'][3] = float('nan')
    torch.save(state, tmp_path / 'f.pth')
    refused(tmp_path / 'f.pth', ResNet(18), 'layer2.0.bn1.running_var holds values .* not finite')


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        (torch.zeros(1).expand(1 << 40), r'conv1.weight claims 1,099,511,627,776 values'),
        (torch.eye(3).to_sparse(), r'conv1.weight is no dense tensor'),
        (torch.zeros(3, device='meta'), r'conv1.weight is no dense tensor'),
    ],
    ids=['one value many times', 'sparse', 'meta'],
)
def test_tensors_that_are_not_what_they_seem_are_refused(tmp_path: Path, value, message) -> None:
    torch.save({**ResNet(18).state_dict(), 'conv1.weight': value}, tmp_path / 'f.pth')
    refused(tmp_path / 'f.pth', ResNet(18), message)


# What is said


def test_the_table_counts_by_module(tmp_path: Path) -> None:
    a, model = moved(HRNet('tiny')), estimator(attention={'type': 'PSA'})
    state = {**a.state_dict(), 'classifier.weight': torch.zeros(1000, 2048)}
    del state['stage2.0.branches.0.0.conv1.weight']
    torch.save(state, tmp_path / 'f.pth')
    report = load_checkpoint(model, tmp_path / 'f.pth')
    rows = {
        cells[0]: cells[1:]
        for line in str(report).splitlines()
        if len(cells := [cell.strip() for cell in line.strip(' │').split('│')]) == 7
    }
    assert rows['backbone.stem'] == ['10', '10', '', '', '', '0.01']
    assert rows['backbone.stage2'][:5] == ['29', '29', '', '1', '']
    assert rows['head.final_layer'][:5] == ['', '', '', '2', '']
    assert rows['classifier'] == ['', '', '', '', '1', '2.05']
    assert rows['attention'][3] == '70'
    loaded = sum(int(cells[0] or 0) for cells in rows.values())
    assert loaded == len(report.loaded) == len(report.renamed) == 199
    assert f'{loaded} loaded' in str(report) and '1 unexpected' in str(report)
    assert report.renamed['backbone.conv1.weight'] == 'conv1.weight'


# A run's own


def test_progress_is_a_runs_and_fits(tmp_path: Path) -> None:
    a, model = moved(estimator()), estimator()
    run = {
        'state_dict': a.state_dict(),
        'global_step': 3,
        'meta': {'keypoint_names': list(COCO_KEYPOINTS.names)},
        'optimizer_states': [],
    }
    torch.save(run, tmp_path / 'last.ckpt')
    assert load_progress(model, tmp_path / 'last.ckpt')['global_step'] == 3
    assert same(model, a)
    with pytest.raises(CheckpointError, match='does not fit'):
        load_progress(estimator(attention={'type': 'PSA'}), tmp_path / 'last.ckpt')
    torch.save({'state_dict': run['state_dict']}, tmp_path / 'weights.ckpt')
    with pytest.raises(CheckpointError, match=r"no checkpoint of a run: it lacks \['global_step'"):
        load_progress(model, tmp_path / 'weights.ckpt')


# Attention whose options change what the same parameters mean


@pytest.mark.parametrize('other', [{'layout': 'sequential'}, {'identity_init': True}])
def test_the_same_names_of_another_attention_are_not_taken_for_it(tmp_path: Path, other) -> None:
    attention = {'type': 'PSA', 'layout': 'parallel'}
    a, b = (estimator(attention={**attention, **more}) for more in ({}, other))
    assert a.state_dict().keys() == b.state_dict().keys()
    path = tmp_path / 'file.ckpt'
    meta = {'attention': attention_text(a.backbone)}
    torch.save({'state_dict': a.state_dict(), 'meta': meta}, path)
    assert not load_checkpoint(a, path, strict=True).notes
    with pytest.raises(CheckpointError, match=r"layout='parallel'.* but the config's"):
        load_checkpoint(b, path, strict=True)
    assert 'goes on as' in str(load_checkpoint(b, path))


def test_attention_is_described_without_its_width() -> None:
    assert attention_text(estimator().backbone) == ''
    text = attention_text(estimator(attention={'type': 'PSA', 'layout': 'sequential'}).backbone)
    assert text == "PSA(layout='sequential', variant='paper')"
    assert attention_text(estimator(attention={'type': 'NonLocal'}).backbone).startswith(
        'NonLocal('
    )
