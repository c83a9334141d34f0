"""Connects a job to a Ray cluster, or starts a local one; says in one line why it cannot."""

import logging
import os
import secrets
import signal
import socket
import threading
from pathlib import Path

import ray
from ray.exceptions import AuthenticationError

from limo_ray.core.text import first_line
from limo_ray.sampling import ray_data_settings
from limo_ray.sampling.ray_internals import (
    bind_to_loopback,
    silence_abandoned_tasks,
    silence_token_notice,
)

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]  # of the repository: workers import limo_ray from here


def start_ray(*, log_to_driver: bool = True, niceness: int = 15) -> str:
    """Connects to the cluster at $RAY_ADDRESS, or starts a local one on this machine's cores.

    Returns gpu where the cluster has one, else cpu.

    `ray job submit` sets RAY_ADDRESS. A SIGTERM is a KeyboardInterrupt from here on.

    Raises:
        ConnectionError: no cluster is there, or it does not accept our token; one line says which.
    """
    if ray.is_initialized():
        return device()
    address = os.environ.get("RAY_ADDRESS", "")
    if address.startswith("http"):
        raise ConnectionError(
            f"RAY_ADDRESS: {address} is a dashboard, which `ray job submit` talks to; a job "
            "started by hand connects to <host>:6379, or to auto on a machine of the cluster"
        )
    if address and not _answers(address):
        raise ConnectionError(f"RAY_ADDRESS: no Ray cluster answers at {address}")
    # On a cluster Ray's own settings hold: RAY_AUTH_MODE, RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH.
    if not address:
        guard_local_ray()
        os.environ.setdefault("RAY_worker_niceness", str(niceness))
        # workers find this package too when the job was started from another folder
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    silence_abandoned_tasks()
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=log_to_driver,
            logging_level=logging.WARNING,
        )
    except AuthenticationError as error:
        raise ConnectionError(_no_token(error)) from None
    except ConnectionError:
        raise ConnectionError(_refused(address)) from None
    except Exception as error:
        if type(error) is not Exception:  # Ray has no type of its own for a node that is too slow
            raise
        raise ConnectionError(
            f"Ray did not start: {first_line(error)} (a busy machine: try again, or give it more "
            "time with RAY_raylet_start_wait_time_s=150)"
        ) from None
    interrupt_on_sigterm()
    ray_data_settings.configure()
    return device()


def device() -> str:
    """gpu where the Ray cluster has one, else cpu."""
    return "gpu" if ray.cluster_resources().get("GPU", 0) > 0 else "cpu"


def interrupt_on_sigterm() -> None:
    """`ray job stop` and a preempted node send it; in a thread it is left to the main one."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)


def guard_local_ray() -> None:
    """Makes a local Ray refuse everybody else: loopback addresses only, and a fresh token.

    Whoever reaches a Ray server without a token runs code as its user, and by default Ray's servers
    listen on all interfaces. To be called before `ray.init`; what the user set is left alone.
    """
    bind_to_loopback()
    if "RAY_AUTH_MODE" not in os.environ:
        # Left unset, the mode becomes "token" in ray.init; set here, it would come too late for
        # what Ray read when it was imported. Ray then prints a notice that it did so.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        silence_token_notice()
    elif os.environ["RAY_AUTH_MODE"].lower() == "disabled":
        log.warning(
            "RAY_AUTH_MODE=disabled: every user of this machine can run code in this job; unset it"
        )


def _no_token(error: AuthenticationError) -> str:
    if "RAY_AUTH_TOKEN_PATH" in error.message:
        return error.message
    return (
        "RAY_AUTH_MODE: token, but there is no token: set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, "
        "or put it into ~/.ray/auth_token"
    )


def _answers(address: str) -> bool:
    """Whether anything listens there: Ray would try for minutes. True for words such as auto."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or "://" in address:
        return True
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError:
        return False
    return True


def _refused(address: str) -> str:
    """Ray's own words for a wrong token are those for a cluster that is not there."""
    if address == "auto":
        return "RAY_ADDRESS: auto, but there is no Ray on this machine that lets this job in"
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":
        return (
            f"RAY_AUTH_TOKEN: the Ray cluster at {address} refuses this token (of RAY_AUTH_TOKEN, "
            "RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token)"
        )
    return (
        f"RAY_AUTH_MODE: the Ray cluster at {address} does not let this job in: if it asks for a "
        "token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
    )


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt
