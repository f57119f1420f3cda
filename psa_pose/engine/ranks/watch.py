"""Who is alive, and why the others ended: threads in every rank, and a few words in the store.

A rank that dies leaves the others in a collective operation: gloo says 'Connection closed by peer',
NCCL says nothing until its timeout. So every rank tells the store, again and again, that it lives
and where it is, and rank 0 watches them all. Once a rank is silent for `patience` seconds, or has
left its last words, the verdict stands in the store, and every other rank ends with it.

Keys, under a prefix: `beat/RANK` 'count|pid|host|where', 'ended' or 'absent'; `alarm` of a rank
whose collective failed, which makes everyone look closer; `verdict` 'status|host, pid|text', the
exit status of all, and the text empty where it was printed already.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from torch.distributed import DistStoreError, PrefixStore, Store

from psa_pose.engine.ranks.launch import Launch

INTERVAL = 1.0
"""Seconds between two beats."""
ALARMED = 10.0
"""Seconds of silence that count as death once a collective has failed; a thread may wait for a
long call of another, say one that parses a file."""
ENDED, ABSENT = b'ended', b'absent'
FAILED = 'left alone in a collective operation'


def end_all(store: Store, launch: Launch) -> None:
    """Let all ranks end without a word; for a process that is none of them and says why."""
    _tell(PrefixStore('watch', store), launch, 1, '')


class Watch:
    """The beats of this rank, and what became of the others.

    Args:
        launch: this process.
        store: of the run; the watch has a connection of its own to it.
        patience: seconds of silence after which a rank counts as dead.
    """

    def __init__(self, launch: Launch, store: Store, patience: float) -> None:
        self.launch, self.patience = launch, patience
        # Connections are used by one thread at a time, and one may be stuck in a long wait.
        self._mine = PrefixStore('watch', store.clone())
        self._main = PrefixStore('watch', store.clone())
        for connection in (self._mine, self._main):
            connection.set_timeout(timedelta(seconds=max(patience, 2 * INTERVAL)))
        self._where, self._since = 'starting', time.monotonic()
        self._beats = 0
        self._ending = threading.Lock()
        self._stop = threading.Event()
        self._seen: dict[int, tuple[bytes, float]] = {}
        self._alarmed_at: float | None = None
        self._silent = self._ended = False
        self._quit: tuple[str, int] | None = None
        self._me = f'{launch.host}, pid {os.getpid()}'
        self._watched = range(launch.ranks if launch.rank == 0 else 1)
        self._beat()
        for rank in self._watched:  # a key that is not there would be waited for
            self._main.compare_set(f'beat/{rank}', '', ABSENT.decode())
        for key in ('verdict', 'alarm'):
            self._main.compare_set(key, '', '-')
        self._answered = time.monotonic()
        self._threads = [
            threading.Thread(target=run, name=f'watch of ranks: {run.__name__}', daemon=True)
            for run in (self._run, self._guard)
        ]
        for thread in self._threads:
            thread.start()

    def at(self, where: str) -> None:
        """Note what this rank does, for others to read if it hangs there."""
        self._where, self._since = where, time.monotonic()

    def last_words(self, text: str, *, said: bool = False) -> bool:
        """Tell the others why this rank ends; whether it is the first to do so.

        Args:
            text: the cause.
            said: it is printed here, and the others are to end without a word.
        """
        self._silent = True  # it says itself what there is to say
        try:
            return _tell(self._main, self.launch, 1, '' if said else f'{self.launch} {text}')
        except RuntimeError:  # the store is gone, and its rank has a cause of its own
            return True

    def quit(self, text: str, status: int) -> bool:
        """End all ranks soon; for signal handlers, which must not wait for a connection.

        Returns:
            Whether this is the first call.
        """
        first, self._silent = self._quit is None, True
        self._quit = text, status
        return first

    def exit(self, status: int = 1, *, dead: Sequence[int] = ()) -> NoReturn:
        """End this process now, once the others had time to read why.

        No destructor may wait for a rank that is gone. Others could not read a store that is this
        process', and a launcher that sees a rank end stops them before they can say why.

        Args:
            status: of the process.
            dead: ranks that are not waited for.
        """
        self._ended = True
        with suppress(RuntimeError):
            self._main.set(f'beat/{self.launch.rank}', ENDED.decode())
        self._linger(5 * INTERVAL, dead)
        _exit(status)

    def explain(self, error: BaseException) -> NoReturn:
        """End this rank, whose collective failed, as soon as it is known why."""
        # A launcher that sees one rank end stops the others before they can say why.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.at(FAILED)
        with suppress(RuntimeError):  # the thread will say that the store is gone
            self._main.compare_set('alarm', '-', _first_line(error))
        self._stop.wait(self.patience + 3 * ALARMED)
        self._end(f'{_first_line(error)}; no rank told why')

    def leave(self) -> None:
        """This rank has done its work; rank 0, whose process may keep the store, leaves last."""
        self._stop.set()
        self._threads[0].join(self.patience)
        with suppress(RuntimeError):
            self._main.set(f'beat/{self.launch.rank}', ENDED.decode())
        if self.launch.rank == 0:
            self._linger(self.patience)

    def _linger(self, limit: float, dead: Sequence[int] = ()) -> None:
        """Wait for the watched others to end, `limit` seconds at most."""
        others = [r for r in self._watched if r != self.launch.rank and r not in dead]
        end = time.monotonic() + limit

        def wait() -> None:
            with suppress(RuntimeError):
                while others and time.monotonic() < end:
                    beats = self._main.multi_get([f'beat/{rank}' for rank in others])
                    if all(beat in (ENDED, ABSENT) for beat in beats):
                        return
                    time.sleep(0.05)

        thread = threading.Thread(target=wait, daemon=True)  # a call may last for ever
        thread.start()
        thread.join(limit)

    def _beat(self) -> None:
        if self._ended:
            return
        spent = time.monotonic() - self._since
        self._beats += 1
        self._mine.set(
            f'beat/{self.launch.rank}',
            f'{self._beats}|{os.getpid()}|{self.launch.host}|{self._where}, for {spent:.0f} s',
        )

    def _run(self) -> None:
        keys = ['verdict', 'alarm', *(f'beat/{rank}' for rank in self._watched)]
        while not self._stop.wait(INTERVAL):
            before = time.monotonic()
            if before - self._answered > 5 * INTERVAL:  # the whole job slept, or the network did
                self._seen.clear()
            try:
                self._beat()
                verdict, alarm, *beats = self._mine.multi_get(keys)
            except DistStoreError:  # an answer that came late
                continue
            except RuntimeError as error:
                if not self._stop.is_set():
                    self._end(self._store_gone(_first_line(error)))
                return
            self._answered = time.monotonic()
            if self._quit:
                text, status = self._quit
                _tell(self._mine, self.launch, status, f'{self.launch} {text}')
                self._end('', status)
            if verdict != b'-':
                number, who, text = verdict.decode().split('|', 2)
                if who != self._me:
                    self._end(text, int(number))
                continue
            text, dead = self._judge(alarm, beats, time.monotonic())
            if text:
                if self.launch.rank == 0:
                    _tell(self._mine, self.launch, 1, text)
                self._end(text, dead=dead)

    def _guard(self) -> None:
        """No call of the store keeps its time limit when the other side is silent."""
        looked = time.monotonic()
        while not self._stop.wait(INTERVAL):
            now = time.monotonic()
            if now - looked > 5 * INTERVAL:  # this process slept itself
                self._answered = now
            looked = now
            if now - self._answered > self.patience:
                self._end(self._store_gone(f'for {now - self._answered:.0f} s'), reachable=False)

    def _judge(self, alarm: bytes, beats: Sequence[bytes], now: float) -> tuple[str, list[int]]:
        """What ended the run, '' if nothing did, and which ranks are dead."""
        for rank, beat in enumerate(beats):
            if rank not in self._seen or self._seen[rank][0] != beat:
                self._seen[rank] = beat, now
        if alarm != b'-':
            self._alarmed_at = self._alarmed_at or now
            dead = [rank for rank, beat in enumerate(beats) if self._died_here(beat)]
            if dead:
                names = ', '.join(_name(rank, beats[rank]) for rank in dead)
                return f'{names} died: killed, or crashed in compiled code', dead
        alarmed = self._alarmed_at is not None and now - self._alarmed_at > ALARMED
        limit = min(ALARMED, self.patience) if alarmed else self.patience
        silent = {
            rank: now - seen
            for rank, (beat, seen) in self._seen.items()
            if beat not in (ENDED, ABSENT) and now - seen >= limit and rank != self.launch.rank
        }
        if silent:
            longest = max(silent.values())
            names = ', '.join(_name(rank, self._seen[rank][0]) for rank in silent)
            return (
                f'{names} {"has" if len(silent) == 1 else "have"} not been heard of for '
                f'{longest:.0f} s: killed, or the node or its network is gone',
                list(silent),
            )
        if alarmed and self.launch.rank == 0:
            return _who_keeps_others_waiting(beats, alarm.decode()), []
        return '', []

    def _died_here(self, beat: bytes) -> bool:
        """Whether it is of a process on this node that is no more."""
        if beat in (ENDED, ABSENT):
            return False
        _, pid, host, _ = beat.decode().split('|', 3)
        if host != self.launch.host:
            return False
        try:
            stat = Path('/proc', pid, 'stat').read_text()
        except OSError:
            return Path('/proc/self').exists()
        return stat.rpartition(')')[2].split()[0] in 'ZX'

    def _store_gone(self, how: str) -> str:
        keeper = 'rank 0' if self.launch.serves else "torchrun's rendezvous"
        return (
            f'there is no answer from {keeper} at {self.launch.address}:{self.launch.port}: its '
            f'process, its node or the network is gone ({how})'
        )

    def _end(
        self, cause: str, status: int = 1, *, dead: Sequence[int] = (), reachable: bool = True
    ) -> NoReturn:
        """The main thread may be stuck in a collective for good: end without it."""
        with self._ending:  # one message, whichever thread comes first
            if reachable:
                with suppress(RuntimeError):
                    self._mine.set(f'beat/{self.launch.rank}', ENDED.decode())
            if cause and not self._silent:
                sys.stdout.flush()
                os.write(2, f'error: {self.launch} ended, since {cause}\n'.encode())
            if reachable and self.launch.rank == 0:
                self.exit(status, dead=dead)
            _exit(status)


def _tell(connection: Store, launch: Launch, status: int, text: str) -> bool:
    verdict = f'{status}|{launch.host}, pid {os.getpid()}|{text}'
    return connection.compare_set('verdict', '-', verdict) == verdict.encode()


def _exit(status: int) -> NoReturn:
    for child in multiprocessing.active_children():  # they hold copies of the connections
        child.kill()
    os._exit(status)


def _name(rank: int, beat: bytes) -> str:
    if beat in (ENDED, ABSENT):
        return f'rank {rank}'
    _, pid, host, _ = beat.decode().split('|', 3)
    return f'rank {rank} ({host}, pid {pid})'


def _where(beat: bytes) -> str:
    if beat in (ENDED, ABSENT):
        return 'has ended' if beat == ENDED else 'is absent'
    return f'is {beat.decode().split("|", 3)[3]}'


def _who_keeps_others_waiting(beats: Sequence[bytes], alarm: str) -> str:
    """All ranks live, and some were left alone in a collective operation."""
    late = [rank for rank, beat in enumerate(beats) if FAILED.encode() not in beat]
    if not late:
        return f'a collective operation failed on all ranks ({alarm})'
    shown = '; '.join(f'{_name(rank, beats[rank])} {_where(beats[rank])}' for rank in late[:8])
    more = f'; and {len(late) - 8} more' if len(late) > 8 else ''
    return f'others wait in a collective operation in vain: {shown}{more} ({alarm})'


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0] if lines else ""}'[:300]
