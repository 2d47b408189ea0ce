"""This machine: whether DATA_DIR can be written, has room and keeps what it is told to, and how many files may be open.

All of that holds for whoever runs the doctor: for the server only where that is its user. It blocks, so it runs in
threads.
"""

import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from app.edge.accept import SPARE_DESCRIPTORS
from app.ops.doctor.finding import Finding, fail, ok, warn
from app.ops.doctor.own_files import other_user
from app.save.outbox_values import OutboxLimits

SYNCS = 7
SLOW_SYNC_S = 0.05
"""The outbox waits for one at each save that the database does not take, and of these DB_SAVE_TIMEOUT has 40."""
LEAST_FREE, FEW_FREE = OutboxLimits().min_free_bytes, 512 << 20
"""Below the first the outbox takes no more; below the second somebody should look."""
USER = "disk.user"


def look(data_dir: Path, made: Sequence[Path], me: int) -> list[Finding]:
    """Return whether a server of the user `me` can use DATA_DIR, and what servers have `made` there, if it is there."""
    try:
        return list(_room(data_dir, made, me))
    except OSError as exc:
        said = f"DATA_DIR {data_dir} cannot be written ({exc.strerror or type(exc).__name__})"
        return [fail("disk.data_dir", said, "give it to the server's user, or name another")]


def _room(data_dir: Path, made: Sequence[Path], me: int) -> Iterator[Finding]:
    there = next(path for path in (data_dir, *data_dir.absolute().parents) if path.exists())
    if not there.is_dir():
        yield fail("disk.data_dir", f"DATA_DIR: {there} is no folder", "name a folder that the server may write to")
        return
    if other := other_user([path for path in made if path.exists()] or [data_dir], me):
        todo = "run the doctor as the server's user; if it was, give these to that user (chown)"
        yield warn(USER, f"{other}, so that nobody has looked whether the server can write there", todo)
        yield judge_free(shutil.disk_usage(there).free)
        return
    median_s = _sync_time(there)
    where = "" if there == data_dir else f" (it will be made in {there})"
    yield ok("disk.data_dir", f"{data_dir} can be written{where}")
    yield judge_free(shutil.disk_usage(there).free)
    yield judge_sync(median_s)


def _sync_time(folder: Path) -> float:
    """Return the median of some small writes that wait for the disk, in seconds."""
    times = []
    with tempfile.TemporaryFile(dir=folder, prefix=".doctor-") as file:
        for _ in range(SYNCS):
            file.write(bytes(4096))
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def judge_free(free: int) -> Finding:
    """Return whether there is room, in bytes."""
    said = f"{free >> 20} MiB are free"
    if free < LEAST_FREE:
        return fail("disk.free", f"{said}, and the outbox takes nothing below {LEAST_FREE >> 20}", "make room")
    if free < FEW_FREE:
        return warn("disk.free", said, "make room before the outbox needs it")
    return ok("disk.free", said)


def judge_sync(median_s: float) -> Finding:
    """Return whether the disk keeps what it is told to soon enough."""
    said = f"fsync takes {median_s * 1000:.1f} ms (median of {SYNCS})"
    if median_s > SLOW_SYNC_S:
        return warn("disk.sync", said, "use a local disk, or OUTBOX_SYNC=normal where losing power may lose turns")
    return ok("disk.sync", said)


def look_at_descriptors(max_connections: int) -> list[Finding]:
    """Return whether the limit of open files allows for them; the server itself raises the soft one as far as it may.

    It is the limit of who runs the doctor: a service manager may give the server another.
    """
    return [judge_descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[1], max_connections)]


def judge_descriptors(hard: int, max_connections: int) -> Finding:
    """Return whether a hard limit allows for so many connections."""
    needed = max_connections + SPARE_DESCRIPTORS
    if hard == resource.RLIM_INFINITY or hard >= needed:
        shown = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
        return ok("limits.files", f"here {shown} open files allow for MAX_CONNECTIONS={max_connections}")
    said = f"a process here may open {hard} files, and MAX_CONNECTIONS={max_connections} needs {needed}"
    return warn("limits.files", said, f"raise it (ulimit -n {needed}, LimitNOFILE={needed}), or lower MAX_CONNECTIONS")
