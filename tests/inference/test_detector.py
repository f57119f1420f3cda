"""torchvision's detector with weights made here: trained ones cannot be had without a network."""

import functools
import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from psa_pose import Inferencer
from psa_pose.datasets.transforms import read_image
from psa_pose.errors import CheckpointError, ConfigError
from psa_pose.inference import detector as detector_module
from psa_pose.inference.detector import DETECTOR, PersonDetector

PERSON, BICYCLE = 1, 2


def rigged(label: int) -> dict[str, torch.Tensor]:
    """Weights that take every proposal for one thing."""
    from torchvision.models import detection

    torch.manual_seed(0)
    model = getattr(detection, DETECTOR)(weights=None, weights_backbone=None)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.weight.zero_()
        model.roi_heads.box_predictor.cls_score.bias.zero_()[label] = 10
        model.roi_heads.box_predictor.bbox_pred.weight.zero_()
        model.roi_heads.box_predictor.bbox_pred.bias.zero_()
    return model.state_dict()


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Named by its checksum, as torchvision's are."""
    path = tmp_path_factory.mktemp('detector') / 'd.pth'
    torch.save(rigged(PERSON), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return path.rename(path.with_name(f'{DETECTOR}-{digest}.pth'))


def test_its_persons_are_looked_into(
    config: Any, checkpoint: Path, images: list[Path], weights: Path
) -> None:
    inferencer = Inferencer(config, checkpoint, device='cpu', detector_weights=weights)
    (result,) = inferencer(images[0], 'detector')
    width, height = result.image_size
    assert len(result) > 1
    assert (result.boxes >= 0).all() and (result.boxes <= [width, height] * 2).all()
    assert (result.boxes[:, 2:] > result.boxes[:, :2]).all()
    assert (result.box_scores > 0.99).all()
    assert result.keypoints.shape == (len(result), 17, 2)
    assert [len(r) for r in inferencer(images[0], 'detector', box_thr=0.9999999)] == [0]
    detector = inferencer.box_source('detector')
    assert detector.text == f"torchvision's {DETECTOR}, weights {weights.name}"


def test_other_things_are_no_persons(images: list[Path], weights: Path) -> None:
    detector = PersonDetector(weights=weights)
    image = read_image(images[0])
    assert len(detector(image)) > 1
    with torch.no_grad():
        bias = detector.model.roi_heads.box_predictor.cls_score.bias
        bias[PERSON], bias[BICYCLE] = 0, 10
    assert detector(image).shape == (0, 5)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'a': torch.zeros(3)}, rf"not torchvision's {DETECTOR}: .*expected is what https://"),
        ({}, 'not torchvision'),
        (b'nonsense', 'is not a readable checkpoint'),
        (None, 'cannot read checkpoint .*: No such file'),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / 'other.pth'
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        PersonDetector(weights=path)


def test_a_name_that_torchvision_does_not_know() -> None:
    with pytest.raises(ConfigError, match="no 'fasterrcnn_resnet50'; did you mean 'fasterrcnn_res"):
        PersonDetector('fasterrcnn_resnet50')


class TestDownload:
    @pytest.fixture(autouse=True)
    def hub(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv('TORCH_HOME', str(tmp_path))
        return tmp_path / 'hub/checkpoints'

    @pytest.fixture
    def publish(self, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        """Lets torchvision's weights be a file of a server on this machine."""
        import torchvision.models

        class Quiet(SimpleHTTPRequestHandler):
            def log_message(self, *args: object) -> None: ...

        handler = functools.partial(Quiet, directory=str(weights.parent))
        meta = torchvision.models.get_model_weights(DETECTOR).DEFAULT.meta
        with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()

            def publish_as(name: str) -> None:
                url = f'http://127.0.0.1:{server.server_port}/{name}'
                there = SimpleNamespace(DEFAULT=SimpleNamespace(url=url, meta=meta))
                monkeypatch.setattr(torchvision.models, 'get_model_weights', lambda _: there)

            yield publish_as
            server.shutdown()
            thread.join()

    def test_says_what_it_brings_and_does_it_once(
        self, publish: Any, hub: Path, weights: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        publish(weights.name)
        PersonDetector()
        said = capsys.readouterr().out
        digest = weights.stem.rpartition('-')[2]
        assert 'published by torchvision: http://127.0.0.1' in said
        assert f'{weights.name} (74 MB, SHA-256 {digest}...) to {hub}' in said
        assert (hub / weights.name).is_file()
        PersonDetector()
        assert capsys.readouterr().out == ''

    def test_of_something_else_is_refused(self, publish: Any, hub: Path, weights: Path) -> None:
        (weights.parent / f'{DETECTOR}-01234567.pth').write_bytes(b'something else')
        publish(f'{DETECTOR}-01234567.pth')
        with pytest.raises(CheckpointError, match=r'invalid hash value.*01234567'):
            PersonDetector()
        assert not list(hub.glob('*.pth'))

    def test_without_a_network_names_the_file_to_bring(self, publish: Any, hub: Path) -> None:
        publish('nowhere/fasterrcnn-89abcdef.pth')
        with pytest.raises(CheckpointError) as error:
            PersonDetector()
        for part in (DETECTOR, str(hub / 'fasterrcnn-89abcdef.pth'), '--detector-weights'):
            assert part in str(error.value)


def test_torchvision_is_imported_only_where_a_detector_is_made() -> None:
    for path in Path(detector_module.__file__).parent.glob('*.py'):
        lines = path.read_text().splitlines()
        assert not [line for line in lines if line.startswith(('import torchv', 'from torchv'))]
