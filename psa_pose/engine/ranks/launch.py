"""Which process of how many this one is: what a launcher says in the environment.

    torchrun               RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT
    srun                   SLURM_PROCID, SLURM_LOCALID, SLURM_STEP_NUM_TASKS, SLURM_STEP_NODELIST
    others, or by hand     as torchrun; LOCAL_RANK and LOCAL_WORLD_SIZE may be missing

Variables of torchrun's kind win over SLURM's: torchrun also runs within a SLURM job.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from lightning.fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment

from psa_pose.errors import ConfigError


@dataclass(frozen=True)
class Launch:
    """A process among those of a run.

    Attributes:
        rank: of this process, from 0.
        ranks: how many there are.
        local_rank: of this process among those of its node.
        local_ranks: how many there are on its node.
        address: host name of rank 0's node.
        port: that rank 0, or torchrun, listens at.
        serves: whether rank 0 of the run does, and not torchrun's agent.
        attempt: how often torchrun has restarted the run.
        by: which launcher it was.
        host: this node's name.
    """

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0
    local_ranks: int = 1
    address: str = '127.0.0.1'
    port: int = 29500
    serves: bool = True
    attempt: int = 0
    by: str = ''
    host: str = field(default_factory=socket.gethostname)

    def __str__(self) -> str:
        return f'rank {self.rank} ({self.host})'


def read_launch(environ: Mapping[str, str] = os.environ) -> Launch:
    """What the environment says; a single process where it says nothing.

    Raises:
        ConfigError: it is incomplete, or contradicts itself.
    """
    if 'WORLD_SIZE' in environ or 'TORCHELASTIC_RUN_ID' in environ:
        return _checked(_read_torchrun(environ))
    if _number(environ, 'SLURM_NTASKS', 1) > 1:
        return _checked(_read_slurm(environ))
    return Launch()


def _read_torchrun(environ: Mapping[str, str]) -> Launch:
    ranks = _number(environ, 'WORLD_SIZE')
    if ranks == 1 and 'RANK' not in environ:
        return Launch()
    elastic = 'TORCHELASTIC_RUN_ID' in environ
    own_store = environ.get('TORCHELASTIC_USE_AGENT_STORE') == 'True'
    local_ranks = _number(environ, 'LOCAL_WORLD_SIZE', 1)
    if own_store and ranks > local_ranks and _number(environ, 'TORCHELASTIC_MAX_RESTARTS', 0):
        raise ConfigError(
            'torchrun --max-restarts on several nodes: each of its agents counts restarts for '
            'itself (pytorch/pytorch#135712), and ranks that are restarted would not meet again; '
            'start torchrun with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 on all nodes'
        )
    return Launch(
        rank=_number(environ, 'RANK'),
        ranks=ranks,
        local_rank=_number(environ, 'LOCAL_RANK', 0),
        local_ranks=local_ranks,
        address=_text(environ, 'MASTER_ADDR'),
        port=_number(environ, 'MASTER_PORT'),
        serves=not own_store,
        attempt=_number(environ, 'TORCHELASTIC_RESTART_COUNT', 0),
        by='torchrun' if elastic else 'RANK and WORLD_SIZE',
    )


def _read_slurm(environ: Mapping[str, str]) -> Launch:
    ranks = _number(environ, 'SLURM_NTASKS')
    # SLURM_PROCID is 0 in a batch script too, and steps' variables leak into what is submitted from
    # within them.
    if 'SLURM_STEP_ID' not in environ or _number(environ, 'SLURM_STEP_NUM_TASKS', 1) != ranks:
        raise ConfigError(
            f'SLURM has allocated {ranks} tasks, but srun has not started this process, which '
            f'would wait for {ranks - 1} others in vain: srun python tools/train.py ... (see '
            'tools/slurm_train.sh); for a single process on purpose: srun -n1 ...'
        )
    nodes = _text(environ, 'SLURM_STEP_NODELIST')
    # Two runs on one node come by different ports, and each one's processes by the same.
    step = _number(environ, 'SLURM_JOB_ID') * 7 + _number(environ, 'SLURM_STEP_ID')
    return Launch(
        rank=_number(environ, 'SLURM_PROCID'),
        ranks=ranks,
        local_rank=_number(environ, 'SLURM_LOCALID'),
        local_ranks=_tasks_here(environ),
        address=environ.get('MASTER_ADDR') or SLURMEnvironment.resolve_root_node_address(nodes),
        port=_number(environ, 'MASTER_PORT', 20000 + step % 10000),
        by='srun',
    )


def _tasks_here(environ: Mapping[str, str]) -> int:
    """From SLURM's short form: '2(x3),1' is 2, 2, 2, 1 tasks on four nodes."""
    words = environ.get('SLURM_STEP_TASKS_PER_NODE', '1').split(',')
    counts: list[int] = []
    for word in words:
        count, _, times = word.rstrip(')').partition('(x')
        counts += [int(count)] * int(times or 1)
    node = _number(environ, 'SLURM_NODEID', 0)
    return counts[node] if node < len(counts) else 1


def _checked(launch: Launch) -> Launch:
    if launch.rank >= launch.ranks:
        raise ConfigError(
            f'{launch.by}: rank {launch.rank} of {launch.ranks}; ranks count from 0, so the last '
            f'is {launch.ranks - 1}'
        )
    return launch


def _text(environ: Mapping[str, str], name: str) -> str:
    if not environ.get(name):
        present = [n for n in ('RANK', 'WORLD_SIZE', 'SLURM_NTASKS') if n in environ]
        raise ConfigError(
            f'the environment has {", ".join(present)}, but no {name}: start several processes '
            'with torchrun or srun, or set all that they set'
        )
    return environ[name]


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    if default is not None and not environ.get(name):
        return default
    text = _text(environ, name)
    if not text.isdecimal():
        raise ConfigError(f'the environment has {name}={text}, expected a whole number from 0 on')
    return int(text)


class LaunchEnvironment(ClusterEnvironment):
    """A launch as Lightning asks for it: every process has the one device that it was given."""

    def __init__(self, launch: Launch) -> None:
        super().__init__()
        self.launch = launch

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self.launch.address

    @property
    def main_port(self) -> int:
        return self.launch.port

    @staticmethod
    def detect() -> bool:
        return False  # given, never found

    def world_size(self) -> int:
        return self.launch.ranks

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self.launch.rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return 0  # of one device

    def node_rank(self) -> int:
        return self.launch.rank
