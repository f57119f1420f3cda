"""A loader whose workers meet with misfortune: python -m tests.datasets.doomed ROOT WHAT WORKERS.

Prints a JSON object: the error, how long it took, and the processes that were left behind.
"""

import json
import multiprocessing
import os
import signal
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data._utils import pin_memory

from psa_pose.datasets import CocoStyleDataset, PoseDataLoader, workers

PIPELINE = [{'type': 'LoadImage'}, {'type': 'TopdownAffine'}]


class Doomed(CocoStyleDataset):
    """Meets with what `what` says at its third person."""

    what = ''

    def _raw(self, index):
        if index == 2:
            self.doom()
        return super()._raw(index)

    def doom(self):
        name, _, more = self.what.partition(':')
        if name in ('lock', 'half'):  # of the queue that all workers answer by
            queue = local_of_pytorch('data_queue')
            queue._wlock.acquire()
            if name == 'half':
                os.write(queue._writer.fileno(), struct.pack('!i', 1000) + b'the rest is missing')
        if name == 'event':  # that says that all is over: its lock, if it has one
            getattr(local_of_pytorch('done_event'), '_cond', threading.Lock()).acquire()
        if name in ('kill', 'lock', 'half', 'event'):
            number = int(more) if more.isdigit() else getattr(signal, more or 'SIGKILL')
            os.kill(os.getpid(), number)
        if name == 'exit':
            os._exit(int(more))
        if name == 'memory':
            np.empty(10**17)
        if name == 'stop':
            os.kill(os.getpid(), signal.SIGSTOP)
        if name == 'busy':  # in the main process: the worker dies while no batch is waited for
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)


def local_of_pytorch(name: str) -> Any:
    """A variable of the loop in which a worker makes its batches."""
    frame = sys._getframe()
    while name not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals[name]


def pretend_an_accelerator() -> None:
    """As on a GPU, a thread of the main process takes the batches from the workers."""
    torch.accelerator.is_available = lambda: True
    torch.accelerator.current_device_index = lambda: 0
    torch.accelerator.set_device_index = lambda index: None
    pin_memory.pin_memory = lambda data, device: data


def use_up(pages: int) -> None:
    """All shared memory but some pages, and without the look at it before the start."""
    workers.check_shared_memory = lambda loader: None
    with Path('/dev/shm/others').open('wb') as file:
        size = os.statvfs('/dev/shm').f_blocks
        file.write(bytes(4096 * (size - pages)))


def iterate(loader: PoseDataLoader, what: str, seen: list[int]) -> None:
    for batch in loader:
        seen += batch.person.tolist()
        if what == 'busy':
            end = time.monotonic() + 2
            while time.monotonic() < end:
                sum(range(1000))
    if what == 'idle':
        os.kill(loader.workers[1].pid, signal.SIGKILL)
        time.sleep(0.5)  # passes without an error: nothing is being waited for


def main() -> None:
    root, what, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    Doomed.what = what
    dataset = Doomed('annotations.json', PIPELINE, (24, 32), data_root=str(root))
    more = sys.argv[4:]
    timeout = next((float(word) for word in more if word.isdigit()), 600)
    pin = 'pin' in more
    if pin:
        pretend_an_accelerator()
    loader = PoseDataLoader(
        dataset, 2, train='train' in more, num_workers=count, timeout=timeout, pin_memory=pin
    )
    if what.startswith('unchecked:'):
        use_up(int(what.partition(':')[2]))
    start, error, seen = time.monotonic(), None, []

    def run() -> None:
        nonlocal error
        try:
            iterate(loader, what, seen)
            if what == 'idle':
                iterate(loader, '', seen)
        except Exception as caught:
            error = caught

    if 'thread' in more:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    else:
        run()
    if error is None:
        loader._iterator._shutdown_workers()
    report = {
        'type': type(error).__name__,
        'message': str(error),
        'seconds': time.monotonic() - start,
        'batches': len(seen) // 2,
        'left': [child.pid for child in multiprocessing.active_children()],
    }
    print(json.dumps(report))


if __name__ == '__main__':
    main()
