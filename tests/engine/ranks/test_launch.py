"""What launchers say in the environment, as torchrun and SLURM 22.05 really set it."""

from types import SimpleNamespace

import pytest
import torch

from psa_pose.engine.ranks import Launch, LaunchEnvironment, Ranks, read_launch
from psa_pose.errors import ConfigError, LaunchError

BY_HAND = {'RANK': '1', 'WORLD_SIZE': '2', 'MASTER_ADDR': 'a', 'MASTER_PORT': '29501'}
TORCHRUN = {
    **BY_HAND,
    'RANK': '5',
    'WORLD_SIZE': '8',
    'LOCAL_RANK': '1',
    'LOCAL_WORLD_SIZE': '4',
    'TORCHELASTIC_RUN_ID': 'x',
    'TORCHELASTIC_USE_AGENT_STORE': 'True',
    'TORCHELASTIC_RESTART_COUNT': '2',
}
BATCH = {  # a batch script of `sbatch -N2 --ntasks-per-node=1`
    'SLURM_JOB_ID': '12',
    'SLURM_NTASKS': '2',
    'SLURM_PROCID': '0',
    'SLURM_LOCALID': '0',
    'SLURM_NODEID': '0',
}
TASK = {
    **BATCH,
    'SLURM_STEP_ID': '0',
    'SLURM_STEP_NUM_TASKS': '2',
    'SLURM_STEP_NODELIST': 'gpu[003,005-007],login1',
    'SLURM_STEP_TASKS_PER_NODE': '1(x2)',
    'SLURM_PROCID': '1',
    'SLURM_NODEID': '1',
}


def test_nothing_said_is_a_single_process():
    launch = read_launch({'HOME': '/root', 'MASTER_ADDR': 'left-over'})
    assert (launch.rank, launch.ranks) == (0, 1)


def test_torchrun():
    launch = read_launch(TORCHRUN)
    assert (launch.rank, launch.ranks, launch.local_rank, launch.local_ranks) == (5, 8, 1, 4)
    assert (launch.address, launch.port, launch.attempt) == ('a', 29501, 2)
    assert not launch.serves and launch.by == 'torchrun'


def test_torchrun_that_could_not_restart():
    """Its agents' counts of restarts differ, and with them the ranks' places in the store."""
    restarts = {**TORCHRUN, 'TORCHELASTIC_MAX_RESTARTS': '3'}
    with pytest.raises(ConfigError, match='TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 on all nodes'):
        read_launch(restarts)
    assert read_launch({**restarts, 'TORCHELASTIC_USE_AGENT_STORE': 'False'}).serves
    assert read_launch({**restarts, 'WORLD_SIZE': '4', 'RANK': '1', 'LOCAL_WORLD_SIZE': '4'})


def test_by_hand_rank_0_keeps_the_store():
    launch = read_launch(BY_HAND)
    assert (launch.rank, launch.ranks, launch.local_rank) == (1, 2, 0)
    assert launch.serves


def test_srun():
    launch = read_launch(TASK)
    assert (launch.rank, launch.ranks, launch.local_rank, launch.local_ranks) == (1, 2, 0, 1)
    assert launch.address == 'gpu003' and launch.by == 'srun'


def test_srun_ports_differ_between_jobs_and_between_their_steps():
    ports = {
        read_launch({**TASK, 'SLURM_JOB_ID': str(job), 'SLURM_STEP_ID': str(step)}).port
        for job in range(100, 104)
        for step in range(4)
    }
    assert len(ports) == 16
    assert all(1024 < port < 32768 for port in ports)  # no port that the system gives away


@pytest.mark.parametrize(
    ('tasks', 'node', 'here'),
    [('2(x3),1', 2, 2), ('2(x3),1', 3, 1), ('2,1', 0, 2), ('3(x2),1', 1, 3), ('4', 0, 4)],
)
def test_srun_tasks_of_a_node(tasks, node, here):
    environ = {**TASK, 'SLURM_STEP_TASKS_PER_NODE': tasks, 'SLURM_NODEID': str(node)}
    assert read_launch(environ).local_ranks == here


def test_torchrun_within_srun():
    assert read_launch({**TASK, **TORCHRUN}).by == 'torchrun'


@pytest.mark.parametrize(
    'leaked', [{}, {'SLURM_STEP_ID': '0', 'SLURM_STEP_NUM_TASKS': '1'}], ids=['plain', 'leaked']
)
def test_tasks_without_srun_are_no_hang(leaked):
    """In a batch script, and in one that was submitted from within a task."""
    with pytest.raises(ConfigError, match='srun has not started this process'):
        read_launch({**BATCH, **leaked})


@pytest.mark.parametrize('missing', ['RANK', 'MASTER_ADDR', 'MASTER_PORT'])
def test_what_is_missing_is_named(missing):
    environ = {k: v for k, v in BY_HAND.items() if k != missing}
    with pytest.raises(ConfigError, match=f'no {missing}: start several processes with torchrun'):
        read_launch(environ)


def test_wrong_words():
    with pytest.raises(ConfigError, match='WORLD_SIZE=two, expected a whole number'):
        read_launch({**BY_HAND, 'WORLD_SIZE': 'two'})
    with pytest.raises(ConfigError, match='rank 2 of 2; ranks count from 0, so the last is 1'):
        read_launch({**BY_HAND, 'RANK': '2'})


class TestDevice:
    def ranks(self, monkeypatch, gpus, local):
        monkeypatch.setattr('psa_pose.engine.ranks.group.gpus', lambda: gpus)
        return Ranks(Launch(rank=local, ranks=8, local_rank=local, local_ranks=8, host='a'))

    def test_one_gpu_a_process(self, monkeypatch):
        assert self.ranks(monkeypatch, 8, 5).lightning_devices('cuda') == [5]

    def test_each_process_sees_its_own(self, monkeypatch):
        assert self.ranks(monkeypatch, 1, 5).lightning_devices('cuda') == [0]

    def test_fewer_gpus_than_processes(self, monkeypatch):
        assert self.ranks(monkeypatch, 4, 3).lightning_devices('cuda') == [3]
        with pytest.raises(LaunchError, match='a has 4 GPUs, but 8 processes were started there'):
            self.ranks(monkeypatch, 4, 4).lightning_devices('cuda')

    def test_one_gpu_shared_by_two(self, monkeypatch):
        """Both see one GPU, and it is the same: found before NCCL would be."""
        ranks = self.ranks(monkeypatch, 1, 0)
        monkeypatch.setattr(
            torch.cuda, 'get_device_properties', lambda device: SimpleNamespace(uuid='GPU-1')
        )
        monkeypatch.setattr(ranks, 'exchange', lambda text: [text, 'b GPU-2', text])
        with pytest.raises(LaunchError, match='ranks 0, 2 share one GPU of a'):
            ranks.begin(torch.device('cuda', 0))


def test_as_lightning_sees_it():
    environment = LaunchEnvironment(read_launch(TORCHRUN))
    assert environment.creates_processes_externally
    assert (environment.global_rank(), environment.world_size()) == (5, 8)
    assert environment.local_rank() == 0  # of the one device that it was given
