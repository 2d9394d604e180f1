"""The process that looks after one mount, and unmounts it when its last user has gone.

It lives in the mount's namespace, and keeps a private one alive. It refreshes the lease of the
image, and repairs the mount.
"""

from __future__ import annotations

import ast
import contextlib
import os
import select
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from condainer.cache import leases
from condainer.mount import backends, guard, mount_locks, node_copies, private
from condainer.mount.backends import Busy, State
from condainer.mount.mount_locks import remove_mount_point
from condainer.startup import launch, tool_paths
from condainer.system import files, mount_table, process
from condainer.system.errors import CondainerError

# The pauses between attempts to unmount what is in use without a lock, in seconds.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
# The pause between looks for what the kernel does not tell of, in seconds: the end of a process,
# without pidfd, and the daemon of a mount, if it is not found.
PAUSE = 0.2
# The pause between looks whether others still use the mount point of an ended mount, in seconds.
VISIT = 1.0


@dataclass(frozen=True)
class Duty:
    """What a keeper has to know to look after a mount, and to have it mounted again.

    `image` is the file, of which only the bytes `sha256` are mounted if there is one, and `way`,
    `linger`, `tools` and `copies` are the options. `stem` begins the paths of its lock files, and
    `held` is the locked descriptor of the keeper's own; `lease` is that of the image. A private
    mount has a `notice` with its locked descriptor `announced`, and perhaps a `cover` (see
    private.Place); `others` is the stem of the mount that all our processes see. `staged` is the
    copy on this node that is mounted, if any, and `claimed` the descriptor of our lock on it.
    `below` is that of the directory below a mount that startup.mount makes meanwhile.
    """

    image: str
    address: str
    prefix: str
    way: str
    linger: float
    tools: str
    copies: str
    stem: str
    sha256: str = ""
    held: int = -1
    lease: str = ""
    notice: str = ""
    announced: int = -1
    cover: str = ""
    others: str = ""
    staged: str = ""
    claimed: int = -1
    below: int = -1

    @classmethod
    def given(cls) -> Duty:
        """Return what the command line of this process says, as command() has written it."""
        return cls(**ast.literal_eval(sys.argv[1]))

    def command(self, module: str) -> list[str]:
        """Return the command of a module that gets to know all this."""
        return [*launch.module_command(module), repr(vars(self))]


def ensure(duty: Duty, cache: Path | None) -> None:
    """Make sure that exactly one keeper looks after a mount.

    The caller holds the users' lock, so that a keeper can end only before or after this.
    Parameters: `cache` is that of the image; `held` and `lease` of the duty are filled in.
    """
    held = mount_locks.take(mount_locks.locks_at(duty.stem).keeper, exclusive=True, wait=False)
    if held is None:
        return
    lease = leases.take(cache, duty.address) if cache is not None else None
    try:
        given = replace(duty, held=held, lease=str(lease or ""))
        kept = [number for number in (held, duty.announced, duty.claimed) if number >= 0]
        argv = given.command("condainer.mount.keeper")
        os.waitpid(launch.start_daemon(argv, tool_paths.keeper_environment(duty.tools), kept), 0)
    except OSError:
        if lease is not None:
            leases.end(lease)
        raise
    finally:
        os.close(held)


class Keeper:
    """Looks after one mount until it is gone."""

    def __init__(self, duty: Duty) -> None:
        self.duty = duty
        self.prefix = Path(duty.prefix)
        self.locks = mount_locks.locks_at(duty.stem)
        others = mount_locks.locks_at(duty.others)
        seen = (others.mount, others.users, others.keeper)
        self.others: tuple[Path, ...] = seen if duty.others else ()
        self.tools = Path(duty.tools) if duty.tools else None
        self.refreshed = time.monotonic()
        self.pause = FIRST_PAUSE
        self.busy = self.ended = self.broken = False
        # Set when the mount has been looked at, and repaired if it was dead.
        self.looked = threading.Event()
        self.ready = mount_locks.ready_file(self.prefix, self.locks.users.parent)

    def keep(self) -> None:
        """Unmount when the mount has had no users for `linger` seconds, and end.

        When it was taken away, and has no users, the end is at once.
        """
        if self.duty.below >= 0:
            self._put_stand_ins()
        if self.duty.notice:
            private.write_down(self.locks, os.getpid())
        self._say_ready()
        # Python goes on waiting for a lock after this, and so does it for everything else.
        signal.signal(signal.SIGALRM, lambda *_: self._tend())
        signal.setitimer(signal.ITIMER_REAL, LONGEST_PAUSE)
        threading.Thread(target=self._watch, daemon=True).start()
        pause = FIRST_PAUSE
        while True:
            seen = self._wait_until_unused()
            self._linger()
            users = mount_locks.take(self.locks.users, exclusive=True, wait=False)
            if users is None:
                continue
            try:
                if os.fstat(users).st_mtime_ns != seen:
                    continue
                kept = self._kept()
                if not kept:
                    # Without this file, a shell asks `cnd`, which waits for the lock; earlier
                    # claims are there.
                    self.ready.unlink(missing_ok=True)
                    kept = self._kept()
                if not kept and self._unmounted():
                    self._clean_up()
                    # Before the users' lock, whose next holder must see that we are gone.
                    os.close(self.duty.held)
                    break
                self._say_ready()
            finally:
                os.close(users)
            if kept:
                mount_table.wait_for_change(kept)
            else:
                # A process uses it that closed the lock's descriptor, or never had it.
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        self._outlast_visitors()
        self._remove_copy()

    def _put_stand_ins(self) -> None:
        """Wait until the mount is made, or could not be, and put stand-ins below it."""
        os.close(mount_locks.wait_for(self.locks.mount, exclusive=False))
        if self._state() is State.MOUNTED:
            guard.put(self.duty.below, self.prefix)
        os.close(self.duty.below)

    def _watch(self) -> None:
        """Have the mount looked at as soon as its daemon has gone."""
        main = threading.main_thread().ident
        while main is not None and not self.ended:
            if _until_gone(self.prefix, LONGEST_PAUSE):
                self.looked.clear()
                signal.pthread_kill(main, signal.SIGALRM)
                self.looked.wait()

    def _say_ready(self) -> None:
        # Shells cannot enter a private namespace.
        if not (self.duty.notice or self._is_said()):
            mount_locks.say_ready(self.ready, self.locks)

    def _is_said(self) -> bool:
        with contextlib.suppress(OSError):
            return self.ready.read_bytes().startswith(b"%d " % os.getpid())
        return False

    def _wait_until_unused(self) -> int:
        """Wait until no process holds the users' lock, and return when one last took it."""
        users = mount_locks.wait_for(self.locks.users, exclusive=True)
        try:
            return os.fstat(users).st_mtime_ns
        finally:
            os.close(users)

    def _linger(self) -> None:
        """Keep an unused mount for those who come soon, unless it is taken away meanwhile."""
        end = time.monotonic() + self.duty.linger
        while self._is_mounted() and (left := end - time.monotonic()) > 0:
            mount_table.wait_for_change(min(left, leases.REFRESH))

    def _is_mounted(self) -> bool:
        # The daemon may answer slowly, and new users wait for the lock.
        top = mount_table.mounted_at(self.prefix)
        return top is not None and backends.is_ours(top)

    def _kept(self) -> float:
        """Return for how long to leave a mount that no process holds, in seconds; 0: no longer.

        A shell needs the mount point to stay ours even if its image was unmounted. Nothing tells of
        its end, so that it has to be looked for often.
        """
        if mount_locks.shells(self.locks):
            return LONGEST_PAUSE
        return leases.REFRESH if self._is_mounted() and self.locks.persistent.exists() else 0.0

    def _tend(self) -> None:
        """Refresh the lease when it is time, and repair a mount whose daemon has gone.

        Without a repair, scripts and shells that look for their commands there find those of the
        system.
        """
        if self.busy or self.ended:
            # A repair is running, and looks at the mount again afterwards.
            return
        self.busy = True
        try:
            if self.duty.lease and time.monotonic() - self.refreshed > leases.REFRESH:
                leases.refresh(Path(self.duty.lease))
                self.refreshed = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, self._repaired())
        finally:
            self.busy = False
            self.looked.set()

    def _repaired(self) -> float:
        """Repair the mount if it is dead; return when to look again, in seconds."""
        state = self._state()
        # A failed repair, perhaps of a daemon that was killed too, leaves no mount.
        self.broken = state is State.DEAD or (self.broken and state is State.ABSENT)
        if not self.broken:
            self.pause = FIRST_PAUSE
            return LONGEST_PAUSE
        with contextlib.suppress(CondainerError):
            process.run(self.duty.command("condainer.mount.mount_work"), env=os.environ)
        # Try again soon: the new daemon may be dead too, or another process held the lock.
        self.pause = min(2 * self.pause, LONGEST_PAUSE)
        return self.pause

    def _state(self) -> State:
        """Find out what is at the mount point; HUNG if no process can be started to look."""
        try:
            return backends.examine(self.prefix, self.duty.address)
        except OSError:
            return State.HUNG

    def _unmounted(self) -> bool:
        state = self._state()
        if state is State.HUNG:
            return False
        try:
            if state in (State.MOUNTED, State.DEAD):
                backends.clear(self.prefix, self.tools, lazy=state is State.DEAD)
        except Busy:
            return False
        except CondainerError:
            return self._state() not in (State.MOUNTED, State.DEAD, State.HUNG)
        return True

    def _clean_up(self) -> None:
        for path in (self.locks.persistent, self.locks.verified):
            path.unlink(missing_ok=True)
        self.ended = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self.duty.lease:
            leases.end(Path(self.duty.lease))
        if self.duty.notice:
            self.locks.namespace.unlink(missing_ok=True)
            private.leave(self.prefix, Path(self.duty.cover) if self.duty.cover else None)
            Path(self.duty.notice).unlink(missing_ok=True)
        self._remove_mount_point()

    def _remove_mount_point(self) -> None:
        """Remove the directory, unless the mount that all our processes see is on it.

        A private namespace does not show that mount, which would be detached with its directory.
        """
        with mount_locks.all_taken(self.others) as alone:
            if alone:
                remove_mount_point(self.prefix)

    def _remove_copy(self) -> None:
        """Delete the copy on this node, unless other mounts use it."""
        if self.duty.staged:
            os.close(self.duty.claimed)
            node_copies.remove_at_end(Path(self.duty.staged))

    def _outlast_visitors(self) -> None:
        """Wait until others no longer use the mount point, and remove it: they cannot."""
        paths = (self.locks.mount, *self.others, self.locks.keeper)
        visited = True
        while visited and files.is_private_directory(self.prefix):
            with mount_locks.all_taken(paths) as alone:
                if not alone:
                    # Another process mounts there again, or waits as we do.
                    break
                visited = mount_locks.visitors(self.prefix)
                if not visited:
                    remove_mount_point(self.prefix)
            if visited:
                time.sleep(VISIT)


def _until_gone(prefix: Path, patience: float) -> bool:
    """Wait for the end of a daemon behind a mount; False if there was none to wait for.

    Parameters: `patience` is how long to wait for a mount, in seconds.
    """
    handles = []
    for pid in _daemons(prefix):
        try:
            handles.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
        except (AttributeError, OSError):
            # Before Linux 5.3, or in an interpreter that was built for an older system.
            while os.path.exists(f"/proc/{pid}"):
                time.sleep(PAUSE)
            return True
    if not handles:
        served = _is_served(prefix)
        mount_table.wait_for_change(min(patience, PAUSE) if served else patience)
        return served
    try:
        poll = select.poll()
        for handle in handles:
            poll.register(handle, select.POLLIN)
        poll.poll()
    finally:
        for handle in handles:
            os.close(handle)
    return True


def _is_served(prefix: Path) -> bool:
    """Tell whether a daemon, and not the kernel, serves what is mounted."""
    top = mount_table.mounted_at(prefix)
    return top is not None and top.kind.startswith("fuse")


def _daemons(prefix: Path) -> list[int]:
    """Return the processes of ours that serve a mount: squashfuse was told where to mount."""
    if not _is_served(prefix):
        return []
    pids, place = [], os.fsencode(prefix)
    for directory in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if not directory.name.isdigit() or directory.stat().st_uid != os.geteuid():
                continue
            words = (directory / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            if b"squashfuse" in os.path.basename(words[0]) and words[-1] == place:
                pids.append(int(directory.name))
    return pids


if __name__ == "__main__":
    Keeper(Duty.given()).keep()
