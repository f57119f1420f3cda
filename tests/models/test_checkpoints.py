"""Loading weights: what fits, and what is said where it does not."""

from pathlib import Path

import pytest
import torch

from psa_pose.codecs import MSRAHeatmap
from psa_pose.errors import CheckpointError
from psa_pose.models import HRNet, TopdownPoseEstimator
from psa_pose.models.checkpoints import load_checkpoint
from psa_pose.structures import COCO_KEYPOINTS, KeypointInfo

FOUR = KeypointInfo(('head', 'left_hand', 'right_hand', 'feet'), (), (0.08,) * 4)


def estimator(info: KeypointInfo = COCO_KEYPOINTS, **backbone: object) -> TopdownPoseEstimator:
    return TopdownPoseEstimator(
        backbone={'type': 'HRNet', 'arch': 'tiny', **backbone},
        head={'type': 'HeatmapHead', 'deconv_out_channels': ()},
        codec=MSRAHeatmap((96, 128), (24, 32)),
        info=info,
    )


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(v, other[k]) for k, v in a.state_dict().items())


@pytest.mark.parametrize('wrap', [lambda s: s, lambda s: {'state_dict': s, 'epoch': 3}])
def test_own_weights_come_back(tmp_path: Path, wrap) -> None:  # type: ignore[no-untyped-def]
    a, b = estimator(), estimator()
    torch.save(wrap(a.state_dict()), tmp_path / 'a.pth')
    report = load_checkpoint(b, tmp_path / 'a.pth', strict=True)
    assert same(a, b)
    assert not report.missing and not report.unexpected


def test_bare_names_of_the_original_repository_load(tmp_path: Path) -> None:
    a, b = estimator(), estimator()
    # There backbone and head stand side by side, under DataParallel's prefix.
    bare = {
        'module.' + k.removeprefix('backbone.').removeprefix('head.'): v
        for k, v in a.state_dict().items()
    }
    torch.save(bare, tmp_path / 'pose_hrnet.pth')
    assert load_checkpoint(b, tmp_path / 'pose_hrnet.pth', strict=True).missing == []
    assert same(a, b)


def test_imagenet_weights_load_into_the_backbone_and_the_rest_is_reported(tmp_path: Path) -> None:
    backbone = HRNet('tiny')
    torch.save(
        {**backbone.state_dict(), 'classifier.weight': torch.zeros(9, 9)}, tmp_path / 'i.pth'
    )
    model = estimator()
    report = load_checkpoint(model, tmp_path / 'i.pth')
    assert same(model.backbone, backbone)
    assert report.missing == ['head.final_layer.weight', 'head.final_layer.bias']
    assert report.unexpected == ['classifier.weight']
    assert '1 unexpected (classifier.weight)' in str(report)


def test_another_number_of_keypoints_is_refused_by_name(tmp_path: Path) -> None:
    meta = {'keypoint_names': list(FOUR.names)}
    torch.save({'state_dict': estimator(FOUR).state_dict(), 'meta': meta}, tmp_path / 'four.ckpt')
    with pytest.raises(
        CheckpointError, match=r'predicts 4 keypoints \(head, left_hand.*has 17 \(nose'
    ):
        load_checkpoint(estimator(), tmp_path / 'four.ckpt')


def test_missing_attention_is_an_error_when_strict_only(tmp_path: Path) -> None:
    torch.save(estimator().state_dict(), tmp_path / 'plain.pth')
    model = estimator(attention={'type': 'PSA'})
    with pytest.raises(CheckpointError, match=r'does not fit.*missing'):
        load_checkpoint(model, tmp_path / 'plain.pth', strict=True)
    assert len(load_checkpoint(model, tmp_path / 'plain.pth').missing) > 0


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    torch.save({'layer9.weight': torch.zeros(3)}, tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match=r'only 0 of \d+ backbone parameters'):
        load_checkpoint(estimator(), tmp_path / 'other.pth')
    torch.save({'backbone.conv1.weight': torch.zeros(3)}, tmp_path / 'shape.pth')
    with pytest.raises(CheckpointError, match=r'backbone.conv1.weight: \(3,\) in the file'):
        load_checkpoint(estimator(), tmp_path / 'shape.pth')


@pytest.mark.parametrize('content', [b'', b'not a checkpoint', b'PK\x03\x04 cut off'])
def test_broken_files_are_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'broken.pth'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r'broken.pth is not a readable checkpoint'):
        load_checkpoint(estimator(), path)
    with pytest.raises(CheckpointError, match=r'cannot read checkpoint .*none.pth'):
        load_checkpoint(estimator(), tmp_path / 'none.pth')


class Payload:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path('/tmp/psa-pose-owned').touch, ())


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    torch.save({'state_dict': {}, 'payload': Payload()}, tmp_path / 'evil.pth')
    with pytest.raises(CheckpointError, match='not a readable checkpoint'):
        load_checkpoint(estimator(), tmp_path / 'evil.pth')
    assert not Path('/tmp/psa-pose-owned').exists()
