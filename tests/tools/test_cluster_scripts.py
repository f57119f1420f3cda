"""The launch scripts: what they run, seen through commands that only write down their arguments.

They are really used in tests/cluster/test_slurm.py and test_pods.py.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from psa_pose.engine.config import load_config
from tests.conftest import ROOT

SCRIPTS = [
    *sorted((ROOT / 'tools').glob('*.sh')),
    ROOT / 'tools/cluster/train.sbatch',
    *sorted((ROOT / 'tests/cluster').glob('*.sh')),
]
TRAIN, TEST = str(ROOT / 'tools/train.py'), str(ROOT / 'tools/test.py')
Script = Callable[..., list[list[str]]]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Run a script with commands in place of the cluster's; gives their arguments, in order."""
    commands = tmp_path / 'bin'
    commands.mkdir()
    log = tmp_path / 'commands.txt'
    fake = commands / 'torchrun'
    fake.write_text(
        f'#!/bin/bash\nprintf "%s\\t" "${{0##*/}}" "$@" >>{log}\n'
        f'[[ ! $TORCH_DISABLE_SHARE_RDZV_TCP_STORE ]] || printf "own store\\t" >>{log}\n'
        f'echo >>{log}\n'
        'case ${0##*/} in\n'
        f'srun) [[ ! $SAVES ]] || touch "$SAVES/step=1$RANDOM.ckpt"; exit "${{STATUS:-0}}" ;;\n'
        'scontrol) echo "   JobState=$STATE Reason=None" ;;\nesac\n'
    )
    fake.chmod(0o755)
    for name in ('srun', 'scontrol'):
        (commands / name).symlink_to(fake)

    def run(name: str, *arguments: str, status: int = 0, **environment: str) -> list[list[str]]:
        log.write_text('')
        known = {'PATH': f'{commands}:{os.environ["PATH"]}', 'STATUS': str(status)}
        done = subprocess.run(
            ['bash', str(ROOT / 'tools' / name), *arguments],
            env={**known, **environment},
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.returncode == status, done.stderr
        return [line.split('\t')[:-1] for line in log.read_text().splitlines()]

    return run


@pytest.mark.parametrize('path', SCRIPTS, ids=lambda path: path.name)
def test_is_sound(path: Path) -> None:
    subprocess.run(['bash', '-n', str(path)], check=True)
    if not shutil.which('shellcheck'):
        pytest.skip('no shellcheck here')
    done = subprocess.run(
        ['shellcheck', '--external-sources', str(path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ('name', 'needed'),
    [('dist_train.sh', 2), ('dist_test.sh', 3), ('slurm_train.sh', 3), ('slurm_test.sh', 4)],
)
def test_usage(script: Script, name: str, needed: int) -> None:
    assert script(name, *'abcd'[: needed - 1], status=2) == []


def test_dist_on_one_machine(script: Script) -> None:
    (command,) = script('dist_train.sh', 'c.py', '8', '--resume', 'auto')
    assert command == [
        'torchrun', '--standalone', '--nproc-per-node=8', TRAIN, 'c.py', '--resume', 'auto'
    ]  # fmt: skip
    (command,) = script('dist_test.sh', 'c.py', 'last.ckpt', '2', '--out', 'a b.json')
    assert command == [
        'torchrun', '--standalone', '--nproc-per-node=2', TEST,
        'c.py', 'last.ckpt', '--out', 'a b.json',
    ]  # fmt: skip


@pytest.mark.parametrize(('rank', 'host'), [('0', '1'), ('1', '0')])
def test_dist_on_two_machines(script: Script, rank: str, host: str) -> None:
    where = {'NNODES': '2', 'NODE_RANK': rank, 'MASTER_ADDR': 'node0', 'PORT': '29400'}
    for name, arguments in (('dist_train.sh', ['c.py', '8']), ('dist_test.sh', ['c.py', 'x', '8'])):
        (command,) = script(name, *arguments, **where)
        assert command[1:7] == [
            '--nnodes=2', '--rdzv-backend=c10d', '--rdzv-id=29400', '--rdzv-endpoint=node0:29400',
            f'--rdzv-conf=is_host={host}', '--nproc-per-node=8',
        ]  # fmt: skip
        assert (command[-1] == 'own store') == (name == 'dist_train.sh')


def test_slurm(script: Script) -> None:
    (command,) = script('slurm_train.sh', 'gpu', 'name', 'c.py', 'w', '--amp')
    assert command == [
        'srun', '--partition=gpu', '--job-name=name', '--ntasks=8', '--ntasks-per-node=8',
        '--gres=gpu:8', '--cpus-per-task=5', '--kill-on-bad-exit=0', '--wait=600',
        'python', '-u', TRAIN, 'c.py', '--work-dir', 'w', '--amp',
    ]  # fmt: skip
    more = {'GPUS': '16', 'CPUS_PER_TASK': '9', 'SRUN_ARGS': '--time=1-0 --gres=none'}
    (command,) = script('slurm_train.sh', 'gpu', 'name', 'c.py', '--amp', **more)
    assert command[3:] == [
        '--ntasks=16', '--ntasks-per-node=8', '--gres=gpu:8', '--cpus-per-task=9',
        '--kill-on-bad-exit=0', '--wait=600', '--time=1-0', '--gres=none',
        'python', '-u', TRAIN, 'c.py', '--amp',
    ]  # fmt: skip
    (command,) = script('slurm_test.sh', 'gpu', 'name', 'c.py', 'x.ckpt', '--out', 'o', GPUS='2')
    assert command[3:6] == ['--ntasks=2', '--ntasks-per-node=2', '--gres=gpu:2']
    assert command[-7:] == ['python', '-u', TEST, 'c.py', 'x.ckpt', '--out', 'o']


@pytest.mark.parametrize(
    ('status', 'state', 'saves', 'requeued'),
    [
        (138, 'RUNNING', True, True),  # its time is over
        (138, 'RUNNING', False, False),  # so short that nothing was reached
        (143, 'RUNNING', False, True),  # preempted, with grace
        (143, 'COMPLETING', True, False),  # cancelled, or SLURM requeues by itself
        (1, 'RUNNING', True, True),  # a fault, but further than before
        (1, 'RUNNING', False, False),  # one that is always there
        (0, 'RUNNING', True, False),
    ],
)
def test_requeue(
    script: Script, tmp_path: Path, status: int, state: str, saves: bool, requeued: bool
) -> None:
    folder = tmp_path / 'w/checkpoints'
    folder.mkdir(parents=True)
    (folder / 'step=0.ckpt').touch()
    first, *then = script(
        'cluster/train.sbatch', 'c.py', str(tmp_path / 'w'), '--amp', status=status,
        SLURM_JOB_ID='7', STATE=state, SAVES=str(folder) if saves else '',
    )  # fmt: skip
    assert first[-7:] == [
        'tools/train.py', 'c.py', '--work-dir', str(tmp_path / 'w'), '--resume', 'auto', '--amp',
    ]  # fmt: skip
    assert '--kill-on-bad-exit=0' in first
    assert (['scontrol', 'requeue', '7'] in then) == requeued


def test_kubernetes() -> None:
    text = (ROOT / 'tools/cluster/kubernetes.yaml').read_text()
    service, job = yaml.safe_load_all(text)
    spec = job['spec']
    pod = spec['template']['spec']
    (container,) = pod['containers']
    assert service['spec']['selector'] == {'batch.kubernetes.io/job-name': job['metadata']['name']}
    assert pod['subdomain'] == service['metadata']['name']
    assert spec['completions'] == spec['parallelism']

    command = container['command']
    launch, train = command[: command.index('tools/train.py')], command[len(command) - 3 :]
    options = dict(word[2:].split('=', 1) for word in launch[1:])
    assert launch[0] == 'torchrun' and options['nnodes'] == str(spec['completions'])
    first = f'{job["metadata"]["name"]}-0.{pod["subdomain"]}'
    assert options['rdzv-endpoint'].split(':')[0] == first
    _torchrun_knows(options)
    assert int(options['nproc-per-node']) == container['resources']['limits']['nvidia.com/gpu']
    load_config(ROOT / train[0], [])
    assert '--resume=auto' in train

    environment = {entry['name']: entry['value'] for entry in container['env']}
    saving = int(environment['TORCH_ELASTIC_SHUTDOWN_TIMEOUT'])
    assert saving < pod['terminationGracePeriodSeconds']
    mounts = {mount['name']: mount['mountPath'] for mount in container['volumeMounts']}
    assert set(mounts) == {volume['name'] for volume in pod['volumes']}
    assert mounts['shm'] == '/dev/shm'
    assert any(word.startswith(f'--work-dir={mounts["work"]}/') for word in train)


def _torchrun_knows(options: dict[str, Any]) -> None:
    from torch.distributed.run import get_args_parser

    known = {word for action in get_args_parser()._actions for word in action.option_strings}
    assert {f'--{name}' for name in options} <= known


def test_documented() -> None:
    """What docs/cluster.md names is there."""
    text = (ROOT / 'docs/cluster.md').read_text()
    named = set(re.findall(r'\b(?:tools|tests|benchmarks|psa_pose)/[\w./]+\w', text))
    assert named and not [name for name in named if not (ROOT / name).exists()]
