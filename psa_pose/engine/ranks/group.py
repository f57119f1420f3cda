"""The processes of a run: they meet, agree on what they run, and end together."""

import hashlib
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, NoReturn

import torch
from torch import distributed
from torch.distributed import PrefixStore

from psa_pose.engine.environment import gpus
from psa_pose.engine.ranks.launch import Launch
from psa_pose.engine.ranks.options import DistOptions
from psa_pose.engine.ranks.store import shared_store
from psa_pose.engine.ranks.watch import Watch, end_all
from psa_pose.errors import ConfigError, LaunchError, PSAPoseError

_COLLECTIVE = re.compile(
    r'gloo|NCCL|Connection (closed|reset)|Broken pipe|Timed out waiting|timed out after|TCPStore'
)


class Ranks:
    """The processes of a run, once entered; a single one has nothing to agree on.

    While it is entered an error of any rank ends all of them. Until `begin` that is one message of
    one rank; afterwards every rank says whose error ended it. See `Watch`.

    Args:
        launch: this process.
        options: how long to wait for others.

    Raises:
        LaunchError: on entering: not all came, or they do not belong together.
    """

    def __init__(self, launch: Launch | None = None, options: DistOptions | None = None) -> None:
        self.launch = launch or Launch()
        self.options = options or DistOptions()
        self.control: distributed.ProcessGroup | None = None
        self.parting = False  # whether all have agreed to end
        self._begun = False
        self._asked = 0
        self._watch: Watch | None = None

    @property
    def several(self) -> bool:
        return self.launch.ranks > 1

    @property
    def first(self) -> bool:
        return self.launch.rank == 0

    def lightning_devices(self, kind: str) -> list[int] | int:
        """The one device of this process, as `lightning.Trainer` takes it.

        Raises:
            LaunchError: this node has fewer GPUs than processes.
        """
        if kind != 'cuda':
            return 1
        count, local = gpus(), self.launch.local_rank
        if count == 1:  # srun --gpus-per-task=1 shows each process its own
            return [0]
        if local >= count:
            raise LaunchError(
                f'{self.launch.host} has {count} GPUs, but {self.launch.local_ranks} processes '
                'were started there: one process uses one GPU'
            )
        return [local]

    def from_first(self, text: str) -> str:
        """Rank 0's text; collective."""
        return self.exchange(text)[0] if self.several else text

    def __enter__(self) -> 'Ranks':
        if self.several:
            _share_cores(self.launch.local_ranks)
            self._join()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._watch is None:
            return
        if error is None or (self.parting and isinstance(error, SystemExit)):
            self._watch.leave()
            if distributed.is_initialized():
                distributed.destroy_process_group()
        elif isinstance(error, KeyboardInterrupt):
            self.stopped('was interrupted', 130)
        elif isinstance(error, SystemExit):
            self.stopped('left', error.code if isinstance(error.code, int) else 1)
        elif _is_collective(error):
            self._watch.explain(error)
        else:
            self._fail(error)

    def __str__(self) -> str:
        launch = self.launch
        return f'{launch.ranks}, {launch.local_ranks} on {launch.host}, started by {launch.by}'

    def at(self, where: str) -> None:
        """Note what this rank does, for the others to read if it hangs there."""
        if self._watch:
            self._watch.at(where)

    def stopped(self, how: str, status: int) -> NoReturn:
        """End all ranks, as a signal asked; for its handler.

        Args:
            how: 'was stopped by ...'.
            status: of every process.
        """
        if self._watch and self._watch.quit(how, status):
            time.sleep(self.options.heartbeat_timeout)  # the watch ends the process
        os._exit(status)

    def same(self, things: Mapping[str, str]) -> None:
        """Make sure that a text is the same on all ranks.

        Args:
            things: texts by their names.

        Raises:
            ConfigError: one is not; says which, on which ranks, and the first line that differs.
        """
        if not self.several:
            return
        hashes = {k: hashlib.sha256(v.encode()).hexdigest()[:16] for k, v in things.items()}
        rows = [json.loads(row) for row in self.exchange(json.dumps(hashes))]
        for name, mine in things.items():
            if len({row[name] for row in rows}) > 1:
                self._differ(name, self.exchange(mine))

    def exchange(self, text: str) -> list[str]:
        """The texts that all ranks gave, by rank; collective.

        Raises:
            LaunchError: not all gave one in time; says who did not.
        """
        self._asked += 1
        keys = [f'exchange/{self._asked}/{rank}' for rank in range(self.launch.ranks)]
        self._store.set(keys[self.launch.rank], text)
        end = time.monotonic() + self.options.timeout
        missing = list(range(self.launch.ranks))
        while missing := [rank for rank in missing if not self._store.check([keys[rank]])]:
            if time.monotonic() > end:
                raise LaunchError(
                    f'{_numbers(missing)} did not come within {self.options.timeout} s'
                )
            time.sleep(0.02)
        return [value.decode() for value in self._store.multi_get(keys)]

    def begin(self, device: torch.device) -> None:
        """Make the process groups; collective. From here on all train.

        Args:
            device: of this rank.

        Raises:
            LaunchError: two ranks would share a GPU.
        """
        if not self.several:
            return
        self._check_devices(device)
        backend = self.options.backend or ('nccl' if device.type == 'cuda' else 'gloo')
        if device.type == 'cuda':
            torch.cuda.set_device(device)
        elif backend == 'nccl':
            raise ConfigError("env_cfg.dist_cfg.backend: 'nccl' needs GPUs; leave it out for gloo")
        # NCCL's own end of patience aborts the process without a word: gloo's is to come first.
        margin = self.options.heartbeat_timeout + 60 if backend == 'nccl' else 0
        distributed.init_process_group(
            backend,
            store=PrefixStore('group', self._store),
            rank=self.launch.rank,
            world_size=self.launch.ranks,
            timeout=timedelta(seconds=self.options.timeout + margin),
            device_id=device if device.type == 'cuda' else None,
        )
        # What ranks say to each other through host memory waits for no device.
        timeout = timedelta(seconds=self.options.timeout)
        group: Any = distributed.new_group(backend='gloo', timeout=timeout)
        self.control = group
        self._begun = True

    def _join(self) -> None:
        launch, options = self.launch, self.options
        self._store = shared_store(launch, options.timeout)
        count = self._store.add(f'joined/{launch.rank}', 1)
        if count > 1:
            end_all(self._store, launch)
            raise LaunchError(f'{count} processes call themselves rank {launch.rank}')
        self._watch = Watch(launch, self._store, options.heartbeat_timeout)
        try:
            rows = self.exchange(str(launch.ranks))
            if len(set(rows)) > 1:
                said = ', '.join(f'rank {i} of {row}' for i, row in enumerate(rows))
                raise LaunchError(f'the processes do not agree on how many they are: {said}')
        except LaunchError as error:
            self._fail(error)

    def _differ(self, name: str, texts: list[str]) -> NoReturn:
        other = next(rank for rank, text in enumerate(texts) if text != texts[0])
        one, two = texts[0].splitlines(), texts[other].splitlines()
        here = next((line for line in one if line not in two), 'nothing of its own')
        there = next((line for line in two if line not in one), 'nothing of its own')
        same = [rank for rank, text in enumerate(texts) if text == texts[0]]
        odd = [rank for rank, text in enumerate(texts) if text != texts[0]]
        raise ConfigError(
            f'the ranks do not have the same {name}: {_numbers(same)} against {_numbers(odd)}; '
            f'rank 0: {here[:200]}, rank {other}: {there[:200]}'
        )

    def _check_devices(self, device: torch.device) -> None:
        if device.type != 'cuda':  # on no rank then, see `what_runs`
            return
        uuid = torch.cuda.get_device_properties(device).uuid
        rows = self.exchange(f'{self.launch.host} {uuid}')
        if len(set(rows)) < len(rows):
            shared = next(row for row in rows if rows.count(row) > 1)
            who = [rank for rank, row in enumerate(rows) if row == shared]
            host = shared.split()[0]
            raise LaunchError(f'{_numbers(who)} share one GPU of {host}: start one process a GPU')

    def _fail(self, error: BaseException) -> NoReturn:
        """Say the error, unless another rank has said one, and end."""
        assert self._watch is not None
        known = isinstance(error, PSAPoseError | OSError)
        text = str(error) if known else f'{type(error).__name__}: {error}'
        if not self._begun and not self.first:
            time.sleep(0.5)  # what fails on all ranks is rank 0's to say
        first = self._watch.last_words(f'failed: {text}', said=not self._begun)
        if first or self._begun:
            who = '' if self.first else f'{self.launch}: '
            sys.stdout.flush()
            if not known:
                traceback.print_exception(error)
            print(f'error: {who}{text}', file=sys.stderr, flush=True)
        self._watch.exit()


def _share_cores(processes: int) -> None:
    """Of a node, where no launcher has; Lightning would give each process all of them."""
    if 'OMP_NUM_THREADS' in os.environ:
        return
    cores = every = os.cpu_count() or 1
    if hasattr(os, 'sched_getaffinity'):
        cores = len(os.sched_getaffinity(0))
    if cores == every:  # fewer: these are this process' own
        cores = max(cores // processes, 1)
    os.environ['OMP_NUM_THREADS'] = str(cores)
    torch.set_num_threads(cores)


def _is_collective(error: BaseException) -> bool:
    """Whether a collective failed: most likely by the fault of another rank."""
    if isinstance(error, PSAPoseError):  # whose text may name anything
        return False
    lost = isinstance(error, RuntimeError) and _COLLECTIVE.search(str(error))
    return bool(lost) or isinstance(error, distributed.DistError)


def _numbers(ranks: list[int]) -> str:
    """'rank 3', 'ranks 0-3, 5'."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    words = [f'{run[0]}-{run[-1]}' if len(run) > 1 else str(run[0]) for run in runs]
    return f'rank{"s" if len(ranks) > 1 else ""} {", ".join(words)}'
