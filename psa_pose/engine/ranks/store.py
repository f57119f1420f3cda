"""Where the ranks of a run meet: a key-value store, rank 0's or torchrun's."""

import socket
import threading
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore

from psa_pose.engine.ranks.launch import Launch
from psa_pose.errors import LaunchError


def shared_store(launch: Launch, timeout: float) -> Store:
    """Connect to it; rank 0 makes it, where torchrun has not.

    Args:
        launch: this process.
        timeout: seconds to wait for rank 0.

    Raises:
        LaunchError: the port is taken, or nobody answers there.
    """
    made: list[TCPStore] = []
    errors: list[Exception] = []

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
            errors.append(error)

    # A server that is somebody else's may never answer, and then there is no time limit.
    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    thread.join(timeout + 5)
    if made:
        # torchrun's own store outlives its processes; one of rank 0's is new at each attempt, which
        # agents that were started at different times count differently.
        return made[0] if launch.serves else PrefixStore(f'psa_pose/{launch.attempt}', made[0])
    where, why = f'{launch.address}:{launch.port}', str(errors[0]) if errors else ''
    if 'EADDRINUSE' in why:
        raise LaunchError(
            f'{where} is in use, by another run perhaps: choose another port (torchrun '
            '--master-port, or MASTER_PORT)'
        )
    if not errors and _listens(launch):
        raise LaunchError(f'{launch}: what listens at {where} is not rank 0 of this run')
    why = why.partition('\n')[0] or 'nothing listens there'
    raise LaunchError(f'{launch}: rank 0 was not reached at {where} within {timeout} s ({why})')


def _listens(launch: Launch) -> bool:
    try:
        socket.create_connection((launch.address, launch.port), 2).close()
    except OSError:
        return False
    return True
