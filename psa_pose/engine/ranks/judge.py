"""From the ranks' beats to who is dead, or keeps the others waiting."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

ALARMED = 10.0
"""Seconds of silence that count as death once a collective has failed; a thread may wait for a
long call of another, say one that parses a file."""
FAILED = 'left alone in a collective operation'
"""Where a rank is whose collective has failed."""
SHOWN = 8
"""Ranks that a message describes."""


class Beat(NamedTuple):
    """What a rank says of itself every second."""

    number: int
    pid: int
    host: str
    where: str
    seconds: int
    """How long it has been there."""
    space: str = ''
    """In which its pid means anything: containers of one host name may have several."""

    @property
    def lives(self) -> bool:
        return self.pid > 0

    def __str__(self) -> str:
        return '|'.join(map(str, self))

    @classmethod
    def read(cls, text: str) -> 'Beat':
        number, pid, host, where, seconds, space = text.split('|')
        return cls(int(number), int(pid), host, where, int(seconds), space)


def process_space() -> str:
    """Of this process, see `Beat`."""
    with suppress(OSError):  # two machines of one name have the same number of a namespace
        boot = Path('/proc/sys/kernel/random/boot_id').read_text().strip()
        return f'{boot} {os.readlink("/proc/self/ns/pid")}'
    return ''


ABSENT = Beat(0, 0, '', 'absent', 0)
ENDED = Beat(0, 0, '', 'ended', 0)


class Judge:
    """What rank 0 makes of all beats, and every other rank of rank 0's.

    Args:
        rank: of this process, which does not judge itself.
        host: of this process.
        patience: seconds of silence after which a rank counts as dead.
        space: of this process, see `Beat`.
    """

    def __init__(self, rank: int, host: str, patience: float, space: str = '') -> None:
        self.rank, self.patience = rank, patience
        self._here = host, space
        self._gone: list[int] = []
        self._seen: dict[int, tuple[Beat, float]] = {}  # and when it last changed
        self._alarmed_at: float | None = None

    def forget(self) -> None:
        """Count silence from now on: this process or the network slept."""
        self._seen.clear()

    def judge(self, beats: Sequence[Beat], alarm: str, now: float) -> tuple[str, list[int]]:
        """Judge the latest beats.

        Args:
            beats: of ranks 0, 1, ...
            alarm: the error of a collective that failed; '' while none has.
            now: seconds.

        Returns:
            What ended the run, '' while nothing did; and which ranks are dead.
        """
        for rank, beat in enumerate(beats):
            if rank not in self._seen or self._seen[rank][0] != beat:
                self._seen[rank] = beat, now
        if alarm and self._alarmed_at is None:
            self._alarmed_at = now
        # At two looks: it may have said that it ends, and ended, after the first.
        gone = [rank for rank, beat in enumerate(beats) if self._is_gone(beat)]
        dead, self._gone = [rank for rank in gone if rank in self._gone], gone
        if dead:
            return f'{_names(dead, beats)} died: killed, or crashed in compiled code', dead
        alarmed = self._alarmed_at is not None and now - self._alarmed_at > ALARMED
        limit = min(ALARMED, self.patience) if alarmed else self.patience
        silence = {
            rank: now - since
            for rank, (beat, since) in self._seen.items()
            if beat.lives and rank != self.rank and now - since >= limit
        }
        if silence:
            have = 'has' if len(silence) == 1 else 'have'
            return (
                f'{_names(list(silence), beats)} {have} not been heard of for '
                f'{max(silence.values()):.0f} s: killed, or the node or its network is gone',
                list(silence),
            )
        if alarmed and self.rank == 0:
            return _waited_for(beats, alarm), []
        return '', []

    def _is_gone(self, beat: Beat) -> bool:
        """Whether it is of a process on this node that is no more."""
        if not beat.lives or (beat.host, beat.space) != self._here:
            return False
        try:
            stat = Path('/proc', str(beat.pid), 'stat').read_text()
        except OSError:
            return Path('/proc/self').exists()
        return stat.rpartition(')')[2].split()[0] in 'ZX'  # nobody has asked for its status yet


def _waited_for(beats: Sequence[Beat], alarm: str) -> str:
    """All ranks live, and some have not come to a collective operation."""
    late = [rank for rank, beat in enumerate(beats) if beat.where != FAILED]
    if not late:
        return f'a collective operation failed on all ranks ({alarm})'
    shown = [
        f'{_name(rank, beats[rank])} is {beats[rank].where}, for {beats[rank].seconds} s'
        for rank in late[:SHOWN]
    ]
    more = f'; and {len(late) - SHOWN} more' if len(late) > SHOWN else ''
    return f'others wait in a collective operation in vain: {"; ".join(shown)}{more} ({alarm})'


def _names(ranks: Sequence[int], beats: Sequence[Beat]) -> str:
    more = f' and {len(ranks) - SHOWN} more' if len(ranks) > SHOWN else ''
    return ', '.join(_name(rank, beats[rank]) for rank in ranks[:SHOWN]) + more


def _name(rank: int, beat: Beat) -> str:
    return f'rank {rank} ({beat.host}, pid {beat.pid})' if beat.lives else f'rank {rank}'
