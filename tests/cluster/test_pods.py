"""tools/cluster/kubernetes.yaml without Kubernetes: its pods as processes in own namespaces.

What is tried is the manifest's command line, its names, SIGTERM to process 1 of a pod and pods that
are made anew; this module is DNS and the Job's controller.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.misfits import misfit
from tests.cluster.undisturbed import Undisturbed, steps, undisturbed
from tests.conftest import ROOT
from tests.processes import options

pytestmark = pytest.mark.cluster

PODS = ROOT / 'tests/cluster/pods.sh'
MANIFEST = ROOT / 'tools/cluster/kubernetes.yaml'
DOMAIN = 'default.svc.cluster.local'


class Pods:
    """The manifest's Job, with one process a pod on the demo's data."""

    def __init__(self, folder: Path, demo_root: Path, config: Path) -> None:
        self.folder = folder
        self.work_dir = folder / 'run'
        _, job = yaml.safe_load_all(MANIFEST.read_text())
        self.spec = job['spec']['template']['spec']
        self.name = job['metadata']['name']
        replaced = {
            '--nproc-per-node=8': '--nproc-per-node=1',
            'configs/coco/hrnet_w32_psa_p_256x192.py': str(config),
            '--work-dir=/work/hrnet_w32_psa_p_256x192': f'--work-dir={self.work_dir}',
        }
        command = self.spec['containers'][0]['command']
        assert set(replaced) < set(command)
        self.command = [*(replaced.get(word, word) for word in command), *options(demo_root)]
        self.addresses: dict[int, str] = {}
        self.made = 0
        folder.mkdir()
        # Its command ends with this process, and all of it with its command.
        self.network = subprocess.Popen([PODS, folder, 'cat'], stdin=subprocess.PIPE)
        _until(lambda: (folder / 'ready').exists())

    def pod(self, index: int) -> str:
        return f'{self.name}-{index}'

    def start(self, index: int) -> None:
        """A pod, made anew at another address."""
        self.made += 1
        self.addresses[index] = f'10.77.0.{self.made}'
        for own in self.addresses:
            # A pod knows its own short name, from the kubelet; of others it knows what DNS says.
            lines = ['127.0.0.1 localhost']
            for other, address in self.addresses.items():
                full = f'{self.pod(other)}.{self.spec["subdomain"]}'
                short = self.pod(other) if other == own else full
                lines.append(f'{address} {full}.{DOMAIN} {short} {full}')
            (self.folder / f'{self.pod(own)}.hosts').write_text('\n'.join(lines) + '\n')
        set_ = self.spec['containers'][0]['env']
        environment = [f'{entry["name"]}={entry["value"]}' for entry in set_]
        environment += [f'PATH={Path(sys.executable).parent}:{os.environ["PATH"]}']
        environment += ['OMP_NUM_THREADS=1', f'JOB_COMPLETION_INDEX={index}']
        self._run(
            '--start', self.pod(index), self.addresses[index],
            'env', '-i', '-C', ROOT, *environment, *self.command,
        )  # fmt: skip

    def signal(self, index: int, name: str) -> None:
        self._run('--signal', self.pod(index), name)

    def _run(self, *arguments: object) -> None:
        subprocess.run([PODS, self.folder, *map(str, arguments)], check=True, timeout=30)

    def status(self, index: int) -> int | None:
        """Of process 1; None: it runs."""
        path = self.folder / f'{self.pod(index)}.status'
        text = path.read_text() if path.exists() else ''
        return int(text) if text else None

    @property
    def log(self) -> str:
        return ''.join(path.read_text() for path in sorted(self.folder.glob('*.out')))

    def finished(self) -> list[int | None]:
        """The statuses; a pod that failed is made anew, as by the Job."""
        for index in (0, 1):
            if self.status(index):
                self.start(index)
        return [self.status(0), self.status(1)]

    def wait_for(self, condition: Any) -> None:
        _until(condition, lambda: self.log)


def _until(condition: Any, log: Any = str, timeout: float = 80) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, log()
        time.sleep(0.05)


@pytest.fixture
def pods(tmp_path: Path, demo_root: Path) -> Iterator[Pods]:
    if missing := [
        name for name in ('unshare', 'nsenter', 'ip', 'pgrep') if not shutil.which(name)
    ]:
        pytest.skip(f'no {", ".join(missing)} here')
    if os.geteuid() != 0 or subprocess.run(['unshare', '--net', '--pid', '-f', 'true']).returncode:
        pytest.skip('network and process namespaces need root')
    pods = Pods(tmp_path / 'pods', demo_root, misfit(tmp_path, seconds=0.15))
    yield pods
    pods.network.kill()
    pods.network.wait()


@pytest.fixture(scope='module')
def whole(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return undisturbed(demo_root, tmp_path_factory.mktemp('whole'))


@pytest.mark.parametrize('evicted', [1, 0])
def test_evicted_pod(pods: Pods, whole: Undisturbed, evicted: int) -> None:
    """Its neighbour waits for the next one; without pod 0, where they meet, it is made anew too."""
    for index in (0, 1):
        pods.start(index)
    pods.wait_for(lambda: 'step 4/' in pods.log)
    pods.signal(evicted, 'TERM')
    pods.wait_for(lambda: pods.status(evicted) is not None)
    assert 'stopped by SIGTERM' in pods.log
    pods.wait_for(lambda: pods.finished() == [0, 0])
    assert pods.made == (3 if evicted else 4)
    whole.check(dict(steps(pods)), pods.work_dir)  # type: ignore[arg-type]
