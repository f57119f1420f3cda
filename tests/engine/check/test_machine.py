"""Machines of all kinds, made up: what is wrong with each is told, with a remedy."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from psa_pose.engine.check import look as looking
from psa_pose.engine.check.findings import Findings
from psa_pose.engine.check.look import look
from psa_pose.engine.check.machine import Machine, Needs, check_machine, cure, summary

GB = 10**9
GPU = ('H200', 140 * GB, True)
GOOD = Machine(
    python='3.11.7',
    packages={'torch': '2.15.0', 'onedl-mmengine': '0.10.9', 'opencv-python-headless': '4.12'},
    cuda_build='13.0',
    gpus=(GPU,),
    driver='H200, 580.1',
    nccl=True,
    cores=16,
    memory=64 * GB,
    shared=(8 * GB, 8 * GB),
    open_files=4096,
    disk=500 * GB,
)
NEEDS = Needs(shared=GB, workers=8, disk=GB, step_memory=20 * GB)


def told(machine: Machine, needs: Needs = NEEDS) -> list[str]:
    findings = Findings()
    check_machine(machine, needs, findings)
    return [str(finding) for finding in findings]


def test_nothing_is_found_where_all_is_well() -> None:
    assert told(GOOD) == []
    assert summary(GOOD) == (
        'Python 3.11.7, torch 2.15.0, H200 140 GB, 16 cores, 64 GB memory, 8.0 GB shared memory, '
        '500 GB of disk'
    )


@pytest.mark.parametrize(
    ('machine', 'needs', 'level', 'texts'),
    [
        (
            {'gpus': (), 'cuda_build': None},
            {},
            'error',
            ['nvidia-smi shows H200, 580.1, but torch 2.15.0 is built without CUDA', 'CUDA build'],
        ),
        (
            {'gpus': ()},
            {},
            'error',
            ['torch 2.15.0 for CUDA 13.0 cannot use it', 'CUDA_VISIBLE_DEVICES'],
        ),
        ({'gpus': (), 'driver': ''}, {}, 'note', ['none: training runs on the CPU']),
        ({'gpus': (), 'driver': ''}, {'accelerator': 'gpu'}, 'error', ['sees none']),
        ({'gpus': (('T4', 16 * GB, False),)}, {'step_memory': 0}, 'note', ['T4 has no bfloat16']),
        (
            {'gpus': (('T4', 16 * GB, False),)},
            {'dtype': 'bfloat16', 'step_memory': 0},
            'error',
            ["dtype='float16'"],
        ),
        (
            {'gpus': (('T4', 16 * GB, True),)},
            {},
            'warning',
            ['T4 has 16.0 GB, and a training step keeps about 20.0 GB', 'batch_size'],
        ),
        ({'gpus': (GPU, GPU), 'nccl': False}, {}, 'error', ['NCCL', '2 GPUs']),
        ({'compiler': False}, {}, 'warning', ['no C compiler', 'plain PyTorch', 'apt install gcc']),
        (
            {'shared': (64 * 10**6, 60 * 10**6)},
            {},
            'error',
            ['60 of 64 MB are free in /dev/shm', '8 workers take 1000 MB', '--shm-size'],
        ),
        (
            {'gpus': (GPU,) * 8, 'shared': (4 * GB, 4 * GB), 'cores': 64},
            {},
            'error',
            ['take 8000 MB (8 ranks)'],
        ),
        ({'cores': 2}, {}, 'warning', ['8 workers (8 a process) share 2', 'num_workers=2']),
        ({'cores': 6}, {}, 'note', ['8 workers (8 a process) share 6', 'num_workers=6']),
        ({'open_files': 256}, {}, 'warning', ['the limit is 256', 'ulimit -n']),
        ({'disk': GB // 2}, {}, 'error', ['0.5 GB are free', 'take 1.0 GB', '--work-dir']),
        ({'formats': ('.png',)}, {}, 'error', ['OpenCV decodes no .jpg']),
        (
            {'packages': {**GOOD.packages, 'mmengine': '0.10.7'}},
            {},
            'warning',
            ['mmengine 0.10.7 and onedl-mmengine 0.10.9 share one module', 'pip uninstall'],
        ),
        (
            {'broken': {'cv2': 'ImportError: libGL.so.1: cannot open shared object file'}},
            {},
            'error',
            ['cv2: cannot be imported', 'opencv-python-headless'],
        ),
        (
            {'broken': {'torchvision': "RuntimeError: operator torchvision::nms does not exist"}},
            {},
            'warning',
            ['torch and torchvision do not belong together'],
        ),
        (
            {'broken': {'pycocotools.mask': 'ValueError: numpy.dtype size changed, may indicate'}},
            {},
            'error',
            ['built for another NumPy', 'pip install --force-reinstall pycocotools'],
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(machine: dict, needs: dict, level: str, texts: list[str]) -> None:
    lines = told(replace(GOOD, **machine), replace(NEEDS, **needs))
    assert len(lines) == 1, lines
    assert lines[0].startswith(level), lines
    for text in texts:
        assert text in lines[0], (text, lines)


def test_another_broken_module_is_to_be_installed_again() -> None:
    assert cure('lightning', 'ImportError: no') == 'pip install --force-reinstall lightning'


def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_dir = tmp_path / 'bin'
    bin_dir.mkdir()
    script = bin_dir / 'nvidia-smi'
    script.write_text('#!/bin/sh\nprintf "H200, 580.1\\nH200, 580.1\\n"\n')
    script.chmod(0o755)
    monkeypatch.setenv('PATH', f'{bin_dir}{os.pathsep}{os.environ["PATH"]}')
    machine = look(tmp_path / 'not' / 'there')
    assert machine.driver == 'H200, 580.1; H200, 580.1'
    assert not machine.broken
    assert machine.packages['torch']
    assert {'.jpg', '.png'} <= set(machine.formats)
    assert machine.cores >= 1 and machine.memory > GB / 4 and machine.disk > 0
    assert machine.open_files > 0


def test_gpus_that_the_driver_counts_and_cuda_cannot_start_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        raise RuntimeError('The NVIDIA driver on your system is too old')

    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    monkeypatch.setattr('torch.cuda.init', refuse)
    assert look(Path()).gpus == ()


@pytest.mark.parametrize('missing', ['compiler', 'headers'])
def test_what_triton_needs_to_launch_anything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    compiler = tmp_path / 'gcc'
    compiler.write_text('#!/bin/sh\n')
    compiler.chmod(0o755)
    (tmp_path / 'Python.h').touch()
    monkeypatch.delenv('CC', raising=False)
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setattr(looking.sysconfig, 'get_path', lambda name: str(tmp_path))
    assert look(Path()).compiler
    (compiler if missing == 'compiler' else tmp_path / 'Python.h').unlink()
    assert not look(Path()).compiler


def test_a_module_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> SimpleNamespace:
        if name == 'cv2':
            raise ImportError('libGL.so.1: cannot open shared object file\nmore')
        return SimpleNamespace()

    monkeypatch.setattr(looking.importlib, 'import_module', fail)
    machine = look(Path())
    assert machine.broken == {'cv2': 'ImportError: libGL.so.1: cannot open shared object file'}
    assert machine.formats == ()
