"""Who is alive, and why the others ended: threads in every rank, and a few words in the store.

A rank that dies leaves the others in a collective operation: gloo says 'Connection closed by peer',
NCCL says nothing until its timeout. So every rank tells the store, again and again, that it lives
and where it is, and rank 0 watches them all. Once a rank is silent for `patience` seconds, or has
left its last words, the verdict stands in the store, and every other rank ends with it.

Keys, under a prefix: `beat/RANK`, see `Beat`; `alarm`, the error of a rank whose collective failed,
which makes everyone look closer; `verdict` 'status|host, pid|text', the exit status of all, and the
text empty where it was printed already. A '-' stands for nothing.
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
from typing import NoReturn

from torch.distributed import DistStoreError, PrefixStore, Store

from psa_pose.engine.ranks.judge import ABSENT, ALARMED, ENDED, FAILED, Beat, Judge, process_space
from psa_pose.engine.ranks.launch import Launch

INTERVAL = 1.0
"""Seconds between two beats."""


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
        self._space = process_space()
        self._judge = Judge(launch.rank, launch.host, patience, self._space)
        self._silent = self._ended = False
        self._quit: tuple[str, int] | None = None
        self._me = f'{launch.host}, pid {os.getpid()}'
        self._watched = range(launch.ranks if launch.rank == 0 else 1)
        self._beat()
        for rank in self._watched:  # a key that is not there would be waited for
            self._main.compare_set(f'beat/{rank}', '', str(ABSENT))
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
        self._set_ended(self._main)
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
        self._set_ended(self._main)
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
                    if not any(Beat.read(beat.decode()).lives for beat in beats):
                        return
                    time.sleep(0.05)

        thread = threading.Thread(target=wait, daemon=True)  # a call may last for ever
        thread.start()
        thread.join(limit)

    def _beat(self) -> None:
        if self._ended:
            return
        self._beats += 1
        spent = int(time.monotonic() - self._since)
        beat = Beat(self._beats, os.getpid(), self.launch.host, self._where, spent, self._space)
        self._mine.set(f'beat/{self.launch.rank}', str(beat))

    def _set_ended(self, connection: Store) -> None:
        with suppress(RuntimeError):
            connection.set(f'beat/{self.launch.rank}', str(ENDED))

    def _run(self) -> None:
        keys = ['verdict', 'alarm', *(f'beat/{rank}' for rank in self._watched)]
        while not self._stop.wait(INTERVAL):
            before = time.monotonic()
            if before - self._answered > 5 * INTERVAL:  # the whole job slept, or the network did
                self._judge.forget()
            try:
                self._beat()
                verdict, alarm, *beats = [v.decode() for v in self._mine.multi_get(keys)]
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
            if verdict != '-':
                number, who, text = verdict.split('|', 2)
                if who != self._me:
                    self._end(text, int(number))
                continue
            read = [Beat.read(beat) for beat in beats]
            text, dead = self._judge.judge(read, alarm.removeprefix('-'), time.monotonic())
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
                self._set_ended(self._mine)
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


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0] if lines else ""}'[:300]
