"""Whether a machine can do what a config asks of it; `look` says what this one is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from psa_pose.engine.check.findings import Findings

_GB = 1e9
RIVALS = (  # that bring the same module
    ('mmengine', 'onedl-mmengine'),
    ('mmcv', 'onedl-mmcv'),
    ('opencv-python', 'opencv-python-headless'),
)


@dataclass(frozen=True)
class Machine:
    """What a machine says of itself; sizes in bytes.

    Attributes:
        python: its version.
        packages: versions of what is installed, by name.
        broken: modules that cannot be imported, and why.
        formats: image formats that can be decoded.
        cuda_build: CUDA's version that PyTorch was built for; None is none.
        gpus: name, memory and whether it has bfloat16, of each GPU that PyTorch sees.
        driver: what nvidia-smi says: name, driver and memory of each GPU; '' where it is missing.
        nccl: whether PyTorch has NCCL.
        compiler: whether there are a C compiler and Python's headers, for Triton.
        cores: that this process may use.
        memory: of the machine, or the container's limit; 0 is unknown.
        shared: all and free shared memory; 0 is unknown.
        open_files: how many this process may have.
        disk: free where runs are written.
    """

    python: str = ''
    packages: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    formats: tuple[str, ...] = ('.jpg', '.png')
    cuda_build: str | None = None
    gpus: tuple[tuple[str, int, bool], ...] = ()
    driver: str = ''
    nccl: bool = False
    compiler: bool = True
    cores: int = 1
    memory: int = 0
    shared: tuple[int, int] = (0, 0)
    open_files: int = 0
    disk: int = 0


@dataclass(frozen=True)
class Needs:
    """What a run asks of a machine; sizes in bytes.

    Attributes:
        shared: of shared memory, for each rank.
        workers: processes of the loaders.
        disk: for checkpoints.
        accelerator: the config's word for the device.
        dtype: of mixed precision, where the config asks for one by name.
        step_memory: of the device, a training step's as far as it can be counted.
    """

    shared: int = 0
    workers: int = 0
    disk: int = 0
    accelerator: str = 'auto'
    dtype: str = ''
    step_memory: int = 0


def check_machine(machine: Machine, needs: Needs, findings: Findings) -> None:
    """Judge what a machine said of itself."""
    for module, why in machine.broken.items():
        tell = findings.warning if module == 'torchvision' else findings.error
        tell(module, f'cannot be imported: {why}', cure(module, why))
    for one, other in RIVALS:
        if one in machine.packages and other in machine.packages:
            findings.warning(
                'packages',
                f'{one} {machine.packages[one]} and {other} {machine.packages[other]} share one '
                'module name: which of them is imported is chance',
                f'pip uninstall {one} {other}, then pip install {other}',
            )
    missing = {'.jpg', '.png'} - set(machine.formats)
    if 'cv2' not in machine.broken and missing:
        findings.error(
            'decoder', f'OpenCV decodes no {" and no ".join(sorted(missing))}', 'reinstall OpenCV'
        )
    _check_gpus(machine, needs, findings)
    _check_sizes(machine, needs, findings)


def _check_gpus(machine: Machine, needs: Needs, findings: Findings) -> None:
    torch = f'torch {machine.packages.get("torch", "?")}'
    if machine.driver and not machine.gpus and 'torch' not in machine.broken:
        if machine.cuda_build is None:
            what = f'nvidia-smi shows {machine.driver}, but {torch} is built without CUDA'
            remedy = "install PyTorch's CUDA build (pip install --force-reinstall torch)"
        else:
            what = (
                f'nvidia-smi shows {machine.driver}, but {torch} for CUDA {machine.cuda_build} '
                'cannot use it'
            )
            remedy = (
                'is CUDA_VISIBLE_DEVICES empty, or the driver older than that CUDA? Update the '
                'driver or take a PyTorch for an older CUDA'
            )
        findings.error('GPU', what, remedy)
    elif not machine.gpus and needs.accelerator in ('gpu', 'cuda'):
        findings.error(
            'GPU', f"trainer.accelerator='{needs.accelerator}', but {torch} sees none", ''
        )
    elif not machine.gpus and 'torch' not in machine.broken:
        findings.note('GPU', 'none: training runs on the CPU, some hundred times slower')
    for name, memory, bfloat16 in machine.gpus:
        if not bfloat16:
            tell = findings.error if needs.dtype == 'bfloat16' else findings.note
            tell(
                'GPU',
                f'{name} has no bfloat16',
                "float16 is as fast: optim_wrapper=dict(type='AmpOptimWrapper', dtype='float16')",
            )
        if needs.step_memory > 0.9 * memory:
            findings.warning(
                'GPU memory',
                f'{name} has {memory / _GB:.1f} GB, and a training step keeps about '
                f'{needs.step_memory / _GB:.1f} GB',
                'use a smaller train_dataloader.batch_size and optim_wrapper.accumulative_counts',
            )
    if machine.gpus and not machine.compiler:
        findings.warning(
            'Triton',
            "finds no C compiler with Python's headers: PSA runs in plain PyTorch, slower, and "
            'torch.compile fails',
            'apt install gcc python3-dev, or what your system calls them',
        )
    if len(machine.gpus) > 1 and not machine.nccl:
        findings.error('NCCL', f'{torch} has none, for {len(machine.gpus)} GPUs', 'reinstall torch')


def _check_sizes(machine: Machine, needs: Needs, findings: Findings) -> None:
    ranks = max(len(machine.gpus), 1)
    total, free = machine.shared
    if needs.shared and total and free < needs.shared * ranks:
        several = f' ({ranks} ranks)' if ranks > 1 else ''
        findings.error(
            'shared memory',
            f'{free / 1e6:.0f} of {total / 1e6:.0f} MB are free in /dev/shm, but the batches of '
            f'{needs.workers} workers take {needs.shared * ranks / 1e6:.0f} MB{several}',
            'docker run --shm-size=8g (or --ipc=host), or smaller num_workers or batch_size',
        )
    if needs.workers * ranks > machine.cores:
        tell = findings.warning if needs.workers * ranks > 2 * machine.cores else findings.note
        tell(
            'cores',
            f'{needs.workers * ranks} workers ({needs.workers} a process) share {machine.cores}',
            f'num_workers={max(machine.cores // ranks, 1)} loads as fast',
        )
    wanted = 256 + 64 * needs.workers
    if 0 < machine.open_files < wanted:
        findings.warning(
            'open files',
            f'the limit is {machine.open_files}, workers may need {wanted}',
            'ulimit -n 4096',
        )
    if needs.disk and machine.disk < needs.disk:
        findings.error(
            'disk',
            f'{machine.disk / _GB:.1f} GB are free where the run is written, its checkpoints take '
            f'{needs.disk / _GB:.1f} GB',
            'make room, name another --work-dir, or lower default_hooks.checkpoint.max_keep_ckpts',
        )


def summary(machine: Machine) -> str:
    """The machine in a line."""
    gpus = ', '.join(f'{name} {memory / _GB:.0f} GB' for name, memory, _ in machine.gpus)
    shared = f', {machine.shared[1] / _GB:.1f} GB shared memory' if machine.shared[0] else ''
    memory = f', {machine.memory / _GB:.0f} GB memory' if machine.memory else ''
    return (
        f'Python {machine.python}, torch {machine.packages.get("torch", "none")}, '
        f'{gpus or "no GPU"}, {machine.cores} cores{memory}{shared}, '
        f'{machine.disk / _GB:.0f} GB of disk'
    )


def cure(module: str, why: str) -> str:
    """What to do where a module cannot be imported."""
    if 'libGL' in why or 'libgthread' in why:
        return 'pip uninstall opencv-python, then pip install opencv-python-headless'
    if 'numpy' in why and ('dtype size' in why or 'ABI' in why or 'compiled using' in why):
        return (
            f'it was built for another NumPy: pip install --force-reinstall {module.split(".")[0]}'
        )
    if 'torchvision::' in why or module == 'torchvision':
        return 'torch and torchvision do not belong together: install both from one index'
    return f'pip install --force-reinstall {module.split(".")[0]}'
