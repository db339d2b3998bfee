"""Starts a program in isolation from KCR: ``python -I -S sandbox.py SPECIFICATION PROGRAM ARGUMENT...``

This program uses the standard library only. It sets limits, isolates itself as the specification says, and executes
the program. The kinds, from the strongest:

    namespaces  a file system of its own: programs and libraries to read, the run's folder to write, nothing else; no
                processes but its own, no /proc, and without ``network`` no network. Started by root it also gets
                another user.
    user        another user, who owns the run's folder. Only root can start it.
    limits      limits alone: the program runs as KCR's user and can read what KCR can read.

The working directory is the run's folder. An error before the program starts is written to standard error; status 125.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import struct
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NoReturn

SYSTEM = ("/bin", "/sbin", "/usr", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache")
NETWORK = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"),
    *("/etc/ssl", "/etc/pki", "/etc/ca-certificates"),
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
FAILED = 125
USERS = range(61_184, 65_520)  # ids that systems keep for services without a name; a run takes one by chance

_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = (
    0x00020000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_KEPT = 2 | 4 | 8 | 1024  # nosuid, nodev, noexec, noatime: a bind mount must not lose them
_MS_RELATIME, _ST_RELATIME = 1 << 21, 4096
_MNT_DETACH = 2
_MOUNT_SETATTR, _MOUNT_ATTR_RDONLY, _AT_FDCWD, _AT_RECURSIVE = 442, 1, -100, 0x8000
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Specification:
    """How to start a program. Paths of ``read_only`` are below ``folder``, which the program may write otherwise.

    ``user``: the id of the user and group to become, 0 to stay. ``hidden``: a folder that the program must not see even
    if it is below what it may read. The limits are in bytes.
    """

    kind: str
    folder: str
    user: int = 0
    network: bool = False
    read_only: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    hidden: str = ""
    file_bytes: int = 0
    data_bytes: int = 0

    def written(self) -> str:
        """The argument for this program."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Specification:
        """Parse the text of ``written``."""
        said = json.loads(text)
        return cls(**{each.name: said[each.name] for each in fields(cls)})


def find(name: str, path: str) -> str | None:
    """The path of a program: beside Python, or in ``path``."""
    return shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), path]))


def end_all(user: int) -> list[str]:
    """The command that ends every process of a user, started by root."""
    code = (
        "import os, signal, sys; user = int(sys.argv[1]); os.setgroups([]);"
        " os.setresgid(user, user, user); os.setresuid(user, user, user); os.kill(-1, signal.SIGKILL)"
    )
    return [sys.executable, "-I", "-S", "-c", code, str(user)]


def give(folder: Path, user: int) -> None:
    """Make the user the owner of the folder's content. Hard links get no new owner, but become readable for all."""
    for root, _folders, names in os.walk(folder):
        os.chown(root, user, user, follow_symlinks=False)
        for name in names:
            path = Path(root, name)
            if path.lstat().st_nlink > 1:
                path.chmod(0o644)
            else:
                os.chown(path, user, user, follow_symlinks=False)


def main() -> NoReturn:
    """Isolate this process, and execute the program."""
    wanted, command = Specification.read(sys.argv[1]), sys.argv[2:]
    os.umask(0o022)  # another user goes through the folders that are made here
    try:
        if wanted.kind == "namespaces":
            _enter_namespaces(wanted, command[0])
        _limit(wanted)
        _drop(wanted)
        os.execv(command[0], command)  # noqa: S606  there is no shell
    except OSError as error:
        sys.stderr.write(f"sandbox: {error}\n")
        sys.stderr.flush()
        os._exit(FAILED)


def _limit(wanted: Specification) -> None:
    for limit, value in (
        (resource.RLIMIT_FSIZE, wanted.file_bytes),
        (resource.RLIMIT_DATA, wanted.data_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        if value or limit == resource.RLIMIT_CORE:
            resource.setrlimit(limit, (value, value))


def _drop(wanted: Specification) -> None:
    """Give up every privilege, now and for programs that are executed; end with the parent process."""
    if os.geteuid() == 0:
        for capability in range(64):
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # numbers that the kernel does not know fail
    if wanted.user:
        os.setgroups([])
        os.setresgid(wanted.user, wanted.user, wanted.user)
        os.setresuid(wanted.user, wanted.user, wanted.user)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    _check(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "a signal at the parent's death")


# ── Namespaces ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _enter_namespaces(wanted: Specification, program: str) -> None:
    """Leave the machine's file system, processes and network. Returns in the process that is to become the program."""
    user, group = os.geteuid(), os.getegid()
    flags = _CLONE_NEWNS | _CLONE_NEWIPC | _CLONE_NEWPID | (0 if wanted.network else _CLONE_NEWNET)
    _check(_libc.unshare(flags if user == 0 else flags | _CLONE_NEWUSER), "namespaces")
    if user:  # root inside the namespace is the same ordinary user outside
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    root = Path(wanted.folder, ".root")
    root.mkdir()
    _mount("tmpfs", str(root), "tmpfs", 0, "mode=0755,size=1m")
    for shown in (*SYSTEM, program, *(NETWORK if wanted.network else ())):
        _show(root, shown)
    for device in DEVICES:
        _show(root, device, is_read_only=False)
    empty = [root]
    if wanted.hidden and (inside := Path(f"{root}{wanted.hidden}")).is_dir():
        _mount("tmpfs", str(inside), "tmpfs", 0, "mode=0755,size=1m")
        empty.append(inside)
    for shown in wanted.readable:
        _show(root, shown)
    folder = _show(root, wanted.folder, is_read_only=False)
    for name in wanted.read_only:
        _bind(str(Path(wanted.folder, name)), str(folder / name), is_read_only=True)
    for path in empty:
        _mount("none", str(path), "", _MS_BIND | _MS_REMOUNT | _MS_RDONLY)
    os.chdir(root)
    _check(_libc.pivot_root(b".", b"."), "a root of its own")
    _check(_libc.umount2(b".", _MNT_DETACH), "the former root")
    os.chdir(wanted.folder)
    _fork()


def _fork() -> None:
    """Go on as the first process of the new namespace; the parent ends as this one does."""
    if (child := os.fork()) == 0:
        return
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)  # and the child follows
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _show(root: Path, path: str, *, is_read_only: bool = True) -> Path:
    """Let a file or folder of the machine be at the same path below the root; a link stays a link. Absent: nothing."""
    source, target = Path(path), Path(f"{root}{path}")
    if target.exists() or target.is_symlink() or not source.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink() and not path.startswith("/etc/"):  # /lib -> usr/lib
        target.symlink_to(source.readlink())
        return target
    if source.is_dir():
        target.mkdir()
    else:
        target.touch()
    _bind(str(source.resolve()), str(target), is_read_only=is_read_only)
    return target


def _bind(source: str, target: str, *, is_read_only: bool) -> None:
    _mount(source, target, "", _MS_BIND | (_MS_REC if is_read_only else 0))
    if not is_read_only:
        return
    attributes = struct.pack("QQQQ", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    call = (_MOUNT_SETATTR, _AT_FDCWD, target.encode(), _AT_RECURSIVE, attributes, len(attributes))
    if _libc.syscall(*call) != 0:  # a kernel before 5.12: what is mounted below the target stays as it is
        found = os.statvfs(target).f_flag
        kept = found & _KEPT | (_MS_RELATIME if found & _ST_RELATIME else 0)
        _mount("none", target, "", _MS_BIND | _MS_REMOUNT | _MS_RDONLY | kept)


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    arguments = (
        source.encode(),
        target.encode(),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _check(_libc.mount(*arguments), f"mount {target}")


def _check(result: int, what: str) -> None:
    """Raises OSError when a call to the system failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
