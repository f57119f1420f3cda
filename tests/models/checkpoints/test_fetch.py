"""`init_cfg` and addresses: a backbone starts from weights that are elsewhere."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from psa_pose.errors import CheckpointError, ConfigError
from psa_pose.models import ResNet
from psa_pose.models.checkpoints import fetch, load_backbone
from psa_pose.registry import MODELS
from tests.models.checkpoints.networks import estimator, moved, same


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's cache, empty."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    return tmp_path / 'torch' / 'hub' / 'checkpoints'


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 as torchvision publishes it: with a classifier, its checksum in the name."""
    folder = tmp_path_factory.mktemp('published')
    net = pytest.importorskip('torchvision.models').resnet18(weights=None)
    torch.save(moved(net).state_dict(), folder / 'r.pth')
    digest = hashlib.sha256((folder / 'r.pth').read_bytes()).hexdigest()[:8]
    return (folder / 'r.pth').rename(folder / f'resnet18-{digest}.pth')


@pytest.fixture
def address(weights: Path) -> Iterator[str]:
    """Of a server that gives the folder's files, on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    handler = partial(Quiet, directory=str(weights.parent))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()
        thread.join()


def is_loaded(backbone: ResNet, weights: Path) -> bool:
    state = torch.load(weights, weights_only=True)
    return all(torch.equal(value, state[name]) for name, value in backbone.state_dict().items())


def test_init_cfg_loads_a_file_when_training_begins(weights: Path) -> None:
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(weights)}
    model = estimator('ResNet', init_cfg=init_cfg)
    assert not is_loaded(model.backbone, weights)  # evaluation needs no such file
    report = model.init_weights()
    assert report is not None and report.missing == []
    assert is_loaded(model.backbone, weights)
    assert estimator('ResNet').init_weights() is None


def test_init_cfg_takes_the_backbone_of_a_whole_network(tmp_path: Path) -> None:
    a = moved(estimator())
    torch.save({'state_dict': a.state_dict()}, tmp_path / 'a.pth')
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'a.pth'), 'prefix': 'backbone.'}
    b = estimator(init_cfg=init_cfg)
    b.init_weights()
    assert same(a.backbone, b.backbone) and not same(a.head, b.head)


@pytest.mark.parametrize(
    ('init_cfg', 'message'),
    [
        ({'type': 'Kaiming', 'layer': 'Conv2d'}, r"init_cfg must be dict\(type='Pretrained'"),
        (
            {'type': 'Pretrained', 'checkpont': 'a'},
            "no option 'checkpont'; did you mean 'checkpoint'",
        ),
        ({'type': 'Pretrained'}, "'checkpoint' is missing"),
        ({'type': 'Pretrained', 'checkpoint': 'a', 'prefix': 'neck'}, "prefix must be 'backbone'"),
    ],
)
def test_init_cfg_is_checked_when_the_model_is_built(init_cfg: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=rf'backbone( \(ResNet\)|\.init_cfg): .*{message}'):
        MODELS.build({'type': 'ResNet', 'depth': 18, 'init_cfg': init_cfg}, at='backbone')


def test_torchvision_is_fetched_once(
    weights: Path, address: str, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def here(name: str) -> str:
        asked.append(name)
        return f'{address}/{weights.name}'

    monkeypatch.setattr(fetch, '_torchvision_address', here)
    backbone = ResNet(18)
    report = load_backbone(backbone, 'torchvision://resnet18')
    assert asked == ['resnet18']
    assert report.path == hub / weights.name and report.path.is_file()
    assert report.unexpected == ['fc.weight', 'fc.bias']
    assert is_loaded(backbone, weights)
    address_then_gone = f'http://127.0.0.1:9/{weights.name}'  # nobody listens there
    monkeypatch.setattr(fetch, '_torchvision_address', lambda name: address_then_gone)
    load_backbone(ResNet(18), 'torchvision://resnet18')


def test_torchvisions_own_addresses_lead_to_the_hubs_cache(weights: Path, hub: Path) -> None:
    """Files that are there already are taken, as where a machine has no network."""
    hub.mkdir(parents=True)
    (hub / 'resnet18-f37072fd.pth').write_bytes(weights.read_bytes())
    for source in ('torchvision://resnet18', 'torchvision://resnet18.imagenet1k_v1'):
        backbone = ResNet(18)
        assert load_backbone(backbone, source).path == hub / 'resnet18-f37072fd.pth'
        assert is_loaded(backbone, weights)


def test_an_address_is_fetched(weights: Path, address: str, hub: Path) -> None:
    backbone = ResNet(18)
    load_backbone(backbone, f'{address}/{weights.name}')
    assert is_loaded(backbone, weights)
    assert [path.name for path in hub.iterdir()] == [weights.name]


def test_a_download_that_is_not_what_its_name_says_is_refused(
    weights: Path, address: str, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = weights.with_name('resnet18-00000000.pth')
    wrong.write_bytes(weights.read_bytes())
    monkeypatch.setattr(fetch, '_torchvision_address', lambda name: f'{address}/{wrong.name}')
    with pytest.raises(CheckpointError, match=r'could not be fetched from .*invalid hash value'):
        load_backbone(ResNet(18), 'torchvision://resnet18')
    assert list(hub.iterdir()) == []


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('torchvision://resnet51', "no ResNet 'resnet51'; did you mean 'resnet50'"),
        ('torchvision://resnet50.V3', "no weights 'V3'"),
        ('openmmlab://hrnet', r'expected a file, torchvision://'),
        ('http://127.0.0.1:9/a.pth', r'could not be fetched .*; without a network put the file at'),
    ],
)
def test_what_cannot_be_fetched_is_named(source: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_backbone(ResNet(18), source)
