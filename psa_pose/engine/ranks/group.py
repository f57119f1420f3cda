"""The processes of a run: they meet, agree on what they run, and end together."""

import hashlib
import json
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, NoReturn

import torch
from mmengine.config import Config
from torch import distributed
from torch.distributed import PrefixStore, Store, TCPStore

import psa_pose
from psa_pose.engine.build import known_keys, whole_number
from psa_pose.engine.ranks.launch import Launch
from psa_pose.engine.ranks.watch import Watch
from psa_pose.errors import ConfigError, LaunchError, PSAPoseError

BACKENDS = ('nccl', 'gloo')
_COLLECTIVE = re.compile(
    r'gloo|NCCL|Connection (closed|reset)|Broken pipe|Timed out waiting|timed out after|TCPStore'
)


@dataclass(frozen=True)
class DistOptions:
    """`env_cfg.dist_cfg`, MMEngine's words.

    Attributes:
        backend: of collectives; None takes NCCL with GPUs and gloo without.
        timeout: seconds that a collective may take, or a process to join.
        heartbeat_timeout: seconds after which a silent rank counts as dead.
    """

    backend: str | None = None
    timeout: int = 1800
    heartbeat_timeout: int = 60


def dist_options(cfg: Config) -> DistOptions:
    """Read `env_cfg.dist_cfg`.

    Raises:
        ConfigError: a key or a value that it cannot have.
    """
    path = 'env_cfg.dist_cfg'
    options = known_keys(
        (cfg.get('env_cfg') or {}).get('dist_cfg'),
        ('backend', 'timeout', 'heartbeat_timeout'),
        path,
    )
    backend = options.get('backend')
    if backend not in (None, *BACKENDS):
        raise ConfigError(f'{path}.backend must be one of {BACKENDS}, got {backend!r}')
    return DistOptions(
        backend,
        whole_number(options.get('timeout', DistOptions.timeout), f'{path}.timeout'),
        whole_number(
            options.get('heartbeat_timeout', DistOptions.heartbeat_timeout),
            f'{path}.heartbeat_timeout',
        ),
    )


def what_runs(cfg: Config) -> dict[str, str]:
    """What must be the same on all ranks, for `Ranks.same`; data is compared by its content."""
    versions = {'torch': torch.__version__, 'psa-pose': psa_pose.__version__}
    return {
        'config': '\n'.join(_leaves(cfg._cfg_dict.to_dict(), '')),
        'versions': str(versions),
    }


def _leaves(value: Any, path: str) -> Iterator[str]:
    """Lines 'a.b.0.c=value', as `--cfg-options` takes them."""
    if not isinstance(value, dict | list | tuple):
        yield f'{path}={value!r}'
        return
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        if key != 'data_root':
            yield from _leaves(inner, f'{path}.{key}' if path else str(key))


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
        count, local = torch.cuda.device_count(), self.launch.local_rank
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
        if error is None or isinstance(error, SystemExit | KeyboardInterrupt):
            self._leave()
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
        distributed.init_process_group(
            self.options.backend or ('nccl' if device.type == 'cuda' else 'gloo'),
            store=PrefixStore('group', self._store),
            rank=self.launch.rank,
            world_size=self.launch.ranks,
            timeout=timedelta(seconds=self.options.timeout),
            device_id=device if device.type == 'cuda' else None,
        )
        # What ranks say to each other through host memory waits for no device.
        self.control = distributed.new_group(backend='gloo')  # type: ignore[assignment]
        self._begun = True

    def _join(self) -> None:
        launch, options = self.launch, self.options
        self._store = _store(launch, options.timeout)
        count = self._store.add(f'joined/{launch.rank}', 1)
        self._watch = Watch(launch, self._store, options.heartbeat_timeout)
        try:
            if count > 1:
                raise LaunchError(f'{count} processes call themselves rank {launch.rank}')
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
        mine = f'{self.launch.host} {device}'
        if device.type == 'cuda':
            mine = f'{self.launch.host} {torch.cuda.get_device_properties(device).uuid}'
        rows = self.exchange(mine)
        if device.type == 'cuda' and len(set(rows)) < len(rows):
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

    def _leave(self) -> None:
        assert self._watch is not None
        self._watch.leave()
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _store(launch: Launch, timeout: float) -> Store:
    where = f'{launch.address}:{launch.port}'
    made: list[TCPStore | BaseException] = []

    def make() -> None:
        try:
            store = TCPStore(
                launch.address,
                launch.port,
                is_master=launch.serves and launch.rank == 0,
                timeout=timedelta(seconds=timeout),
                wait_for_workers=False,
            )
            made.append(store)
        except (RuntimeError, ValueError) as error:
            made.append(error)

    # A server that is somebody else's may never answer, and then there is no time limit.
    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    thread.join(timeout + 5)
    if not made:
        raise LaunchError(f'{launch}: what listens at {where} is not rank 0 of this run')
    store = made[0]
    if isinstance(store, BaseException):
        error = store
        if 'EADDRINUSE' in str(error):
            raise LaunchError(
                f'{where} is in use, by another run perhaps: choose another port (torchrun '
                '--master-port, or MASTER_PORT)'
            ) from None
        why = str(error).splitlines()[0]
        raise LaunchError(
            f'{launch}: rank 0 was not reached at {where} within {timeout} s ({why})'
        ) from None
    # torchrun's own store outlives its processes; one of rank 0's is new at each attempt, which
    # agents that were started at different times count differently.
    return store if launch.serves else PrefixStore(f'psa_pose/{launch.attempt}', store)


def _is_collective(error: BaseException) -> bool:
    """Whether a collective failed: most likely by the fault of another rank."""
    if isinstance(error, distributed.DistError):
        return True
    known = isinstance(error, PSAPoseError)
    return not known and isinstance(error, RuntimeError) and bool(_COLLECTIVE.search(str(error)))


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
