"""Processes that do not belong together: one message, from one of them, and all exit soon."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.launching import Job, free_port, launch
from tests.cluster.nodes import Node
from tests.processes import CONFIG, options

WAIT = 5
"""Seconds until processes that do not come are given up."""
SOON = 15.0
"""Seconds that a start and an end take at most on a busy machine."""
GIVEN = [
    f'env_cfg.dist_cfg.timeout={WAIT}',
    f'env_cfg.dist_cfg.heartbeat_timeout={WAIT}',
    'train_cfg.max_epochs=10000',
]
ANNOTATIONS = 'annotations/person_keypoints_train.json'


def refused(job: Job, *parts: str, within: float = SOON) -> str:
    """All end with status 1, and all that they say together is one line with these parts."""
    assert set(job.wait(within)) == {1}, job.log
    assert len(job.errors) == 1, job.log
    assert 'Traceback' not in job.log and 'step 1/' not in job.log, job.log
    (line,) = job.errors
    assert all(part in line for part in parts), line
    return line


def roots(root: Path) -> list[str]:
    return [f'{split}_dataloader.dataset.data_root={root}' for split in ('train', 'val')]


@pytest.fixture
def other_root(demo_root: Path, tmp_path: Path) -> Path:
    """A copy of the dataset, as on a node with a disk of its own."""
    return Path(shutil.copytree(demo_root, tmp_path / 'disk'))


class TestWorldSize:
    def start(self, job: Job, root: Path, *ranks: tuple[int, int]) -> None:
        port = free_port()
        for rank, count in ranks:
            work_dir = str(job.folder / 'w')
            job.rank(
                rank, count, str(CONFIG), '--work-dir', work_dir, *options(root, *GIVEN), port=port
            )

    def test_one_does_not_come(self, job: Job, demo_root: Path) -> None:
        self.start(job, demo_root, (0, 3), (1, 3))
        refused(job, 'rank 2 did not come within 5 s', within=SOON + WAIT)

    @pytest.mark.slow
    def test_rank_0_does_not_come(self, job: Job, demo_root: Path) -> None:
        self.start(job, demo_root, (1, 2))
        refused(job, 'rank 1', 'rank 0 was not reached at 127.0.0.1:', within=SOON + 2 * WAIT)

    @pytest.mark.parametrize('counts', [(2, 3), (3, 2)])
    def test_they_do_not_agree(self, job: Job, demo_root: Path, counts: tuple[int, int]) -> None:
        self.start(job, demo_root, (0, counts[0]), (1, counts[1]))
        refused(job, f'rank 0 of {counts[0]}', f'rank 1 of {counts[1]}', within=SOON + WAIT)

    def test_one_too_many(self, job: Job, demo_root: Path) -> None:
        """The others are complete without it."""
        self.start(job, demo_root, (0, 2), (1, 2), (2, 2))
        job.wait_for('step 2/')
        assert job[2].status == 1
        (line,) = job.errors
        assert 'rank 2 of 2' in line

    def test_a_rank_twice(self, job: Job, demo_root: Path) -> None:
        """Found when the second one comes, be it while the others train."""
        self.start(job, demo_root, (0, 2), (1, 2), (1, 2))
        assert job.wait(SOON) == [1, 1, 1], job.log
        (line,) = job.errors
        assert '2 processes call themselves rank 1' in line


@pytest.fixture(params=['silent', 'closing', pytest.param('http', marks=pytest.mark.slow)])
def foreign_port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Where somebody else's server listens."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        kept = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                if request.param == 'silent':
                    kept.append(connection)
                    continue
                if request.param == 'http':
                    connection.sendall(b'HTTP/1.0 400 Bad Request\r\n\r\n')
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_port_in_use(job: Job, demo_root: Path, foreign_port: int) -> None:
    for rank in range(2):
        arguments = [str(CONFIG), '--work-dir', str(job.folder / 'w'), *options(demo_root, *GIVEN)]
        job.rank(rank, 2, *arguments, port=foreign_port)
    assert set(job.wait(SOON + 2 * WAIT)) == {1}, job.log
    line = job[0].errors[0]
    assert f'127.0.0.1:{foreign_port} is in use' in line and 'MASTER_PORT' in line
    # The other one cannot know what rank 0 has found: nobody whom both trust is there.
    (line,) = job[1].errors
    assert 'rank 0' in line and f'127.0.0.1:{foreign_port}' in line
    assert 'Traceback' not in job.log


@pytest.mark.parametrize(
    ('option', 'key'),
    [
        ('optim_wrapper.optimizer.lr=0.5', 'lr'),
        ('train_dataloader.batch_size=4', 'batch_size'),
        ('randomness.seed=1', 'seed'),
    ],
)
def test_configs_differ(job: Job, demo_root: Path, tmp_path: Path, option: str, key: str) -> None:
    launch(job, tmp_path / 'w', *options(demo_root, *GIVEN), own={1: [option]})
    refused(job, 'config', key, option.partition('=')[2], 'rank 1')


class TestData:
    def test_another_place_is_no_difference(
        self, job: Job, demo_root: Path, tmp_path: Path, other_root: Path
    ) -> None:
        launch(job, tmp_path / 'w', *options(demo_root, *GIVEN), own={1: roots(other_root)})
        job.wait_for('step 2/')

    def test_another_file(
        self, job: Job, demo_root: Path, tmp_path: Path, other_root: Path
    ) -> None:
        """Of the same length: one digit of one keypoint differs."""
        path = other_root / ANNOTATIONS
        text = path.read_text()
        at = text.index('"keypoints": [') + len('"keypoints": [')
        digit = next(i for i in range(at, len(text)) if text[i].isdecimal())
        path.write_text(text[:digit] + str(9 - int(text[digit])) + text[digit + 1 :])
        launch(job, tmp_path / 'w', *options(demo_root, *GIVEN), own={1: roots(other_root)})
        refused(job, 'persons to train on', 'rank 1', 'keypoints')

    def test_fewer_persons(
        self, job: Job, demo_root: Path, tmp_path: Path, other_root: Path
    ) -> None:
        (other_root / ANNOTATIONS).write_bytes(
            (other_root / ANNOTATIONS.replace('train', 'val')).read_bytes()
        )
        launch(job, tmp_path / 'w', *options(demo_root, *GIVEN), own={1: roots(other_root)})
        refused(job, 'rank 1', '12')

    @pytest.mark.parametrize('poor', [0, 1])
    def test_missing_on_one_node(
        self, job: Job, demo_root: Path, tmp_path: Path, nodes: tuple[Node, Node], poor: int
    ) -> None:
        empty = tmp_path / 'empty'
        empty.mkdir()
        nodes[poor].other.append((demo_root / 'annotations', empty))  # a mount that failed
        launch(job, tmp_path / 'w', *options(demo_root, *GIVEN), nodes=nodes)
        line = refused(job, str(demo_root / ANNOTATIONS))
        assert poor == 0 or 'rank 1 (beta)' in line


class TestTheSameMistake:
    """Made on all ranks, told by one."""

    @pytest.mark.parametrize(
        ('option', 'part'),
        [
            ('model.backbone.arch=tinny', "'tinny'"),
            ('trainer.devices=2', 'trainer.devices'),
            ('env_cfg.dist_cfg.timeuot=3', 'timeuot'),
            ('train_dataloader.dataset.data_root=nowhere', 'nowhere'),
        ],
    )
    def test_option(
        self, job: Job, demo_root: Path, tmp_path: Path, option: str, part: str
    ) -> None:
        launch(job, tmp_path / 'w', *options(demo_root, *GIVEN, option), ranks=3)
        refused(job, part)

    @pytest.mark.parametrize('text', ['this is no config', None])
    def test_file(self, job: Job, demo_root: Path, tmp_path: Path, text: str | None) -> None:
        path = tmp_path / 'my_config.py'
        if text is not None:
            path.write_text(text)
        launch(job, tmp_path / 'w', *options(demo_root, *GIVEN), config=path)
        refused(job, 'my_config.py')

    def test_work_dir_in_use(self, job: Job, demo_root: Path, tmp_path: Path) -> None:
        (tmp_path / 'w/checkpoints').mkdir(parents=True)
        (tmp_path / 'w/checkpoints/epoch=1_step=6.ckpt').touch()
        launch(job, tmp_path / 'w', *options(demo_root, *GIVEN))
        refused(job, 'already holds a run')


def test_a_mistake_of_one_rank(job: Job, demo_root: Path, tmp_path: Path) -> None:
    own = {1: ['model.backbone.arch=tinny']}
    launch(job, tmp_path / 'w', *options(demo_root, *GIVEN), own=own)
    refused(job, 'rank 1', "'tinny'")


def test_a_checkpoint_that_is_not_there(
    job: Job, demo_root: Path, tmp_path: Path, nodes: tuple[Node, Node]
) -> None:
    """An evaluation by several ranks is told of once as well."""
    checkpoint = tmp_path / 'nowhere/last.ckpt'
    for rank, node in enumerate(nodes):
        job.rank(
            rank, 2, str(CONFIG), str(checkpoint), '--work-dir', str(tmp_path / 'w'),
            *options(demo_root, *GIVEN), port=29500, address='alpha', node=node, command='test',
        )  # fmt: skip
    refused(job, str(checkpoint))


@pytest.mark.slow
def test_under_torchrun(job: Job, demo_root: Path, tmp_path: Path) -> None:
    """Its agent prints pages of its own, but the cause once."""
    given = [str(CONFIG), '--work-dir', str(tmp_path / 'w'), *options(demo_root, *GIVEN)]
    job.torchrun(['--standalone', '--nproc-per-node=2'], *given, 'model.backbone.arch=tinny')
    start = time.monotonic()
    assert job.wait(60) == [1]
    assert len(job.errors) == 1 and "'tinny'" in job.errors[0], job.log
    assert time.monotonic() - start < 60
