"""Becomes kubectl, with everything else taken away first: a program of its own.

Run by `exec_process` as `python -I -S exec_child.py CAGE ARGUMENTS...`, in a session and folder of
its own; CAGE is JSON, made there. What has to be done between fork and exec is done here and not by
a function in central: central has threads, after whose fork no Python may run. Imports only what
Python brings.

Beside limits, the process gets no new privileges, dies with central, and where the kernel has
Landlock (Linux 5.13; TCP since 6.7) it can read, write and run nothing but kubectl and its folder,
and connect to central's own port only: what slips through the list of flags still finds no file of
central's and no other server. Landlock: Documentation/userspace-api/landlock.rst of Linux.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
RULE_PATH, RULE_PORT = 1, 2
VERSION_FLAG = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_FILE = 1 << 4, 1 << 5, 1 << 7, 1 << 8
REFER, TRUNCATE = 1 << 13, 1 << 14
CONNECT_TCP = 1 << 1
PROGRAM = EXECUTE | READ_FILE
LIBRARIES = EXECUTE | READ_FILE | READ_DIR
OWN = (
    WRITE_FILE | READ_FILE | READ_DIR | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_FILE
    | REFER | TRUNCATE
)  # fmt: skip
RIGHTS_OF_FILES = ((5, 16), (3, 15), (2, 14), (1, 13))
"""Since which version of Landlock there are how many rights of files, newest first."""
SINCE_TCP, SINCE_SCOPES = 4, 6
TCP, SCOPES = 0b11, 0b11
LIBRARY_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
"""For a kubectl that was linked dynamically."""

libc = ctypes.CDLL(None, use_errno=True)


def limit(limits: dict[str, int]) -> None:
    """Set what the process may take; never more than it is allowed already."""
    for name, most in limits.items():
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (value, value))


def tasks() -> int:
    """Tasks of the whole system: RLIMIT_NPROC counts all those of a user, not of a process."""
    return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])


def die_with(parent: int) -> None:
    """Be killed when central is gone."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it went before the call
        os._exit(1)


def landlock_version() -> int:
    """Which Landlock the kernel has; 0 for none."""
    size = ctypes.c_size_t(0)
    version: int = libc.syscall(LANDLOCK_CREATE_RULESET, None, size, VERSION_FLAG)
    return max(version, 0)


def enclose(folder: str, programs: list[str], port: int) -> bool:
    """Give up files and servers; False where the kernel cannot."""
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    version = landlock_version()
    if version < 1:
        return False
    known = next((1 << count) - 1 for since, count in RIGHTS_OF_FILES if version >= since)
    handled = [known]
    handled += [TCP] if version >= SINCE_TCP else []
    handled += [SCOPES] if version >= SINCE_SCOPES else []
    attributes = (ctypes.c_uint64 * len(handled))(*handled)
    ruleset = libc.syscall(
        LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(ctypes.sizeof(attributes)), 0
    )
    check(ruleset)
    allow(ruleset, folder, OWN & known)
    for path in (*programs, *filter(os.path.isdir, LIBRARY_FOLDERS)):
        allow(ruleset, path, LIBRARIES if Path(path).is_dir() else PROGRAM)
    if version >= SINCE_TCP:
        rule = (ctypes.c_uint64 * 2)(CONNECT_TCP, port)
        check(libc.syscall(LANDLOCK_ADD_RULE, ruleset, RULE_PORT, rule, 0))
    check(libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)
    return True


def allow(ruleset: int, path: str, rights: int) -> None:
    """Keep some rights on a file, or on everything in a folder."""
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = rights.to_bytes(8, sys.byteorder) + beneath.to_bytes(4, sys.byteorder)
    check(libc.syscall(LANDLOCK_ADD_RULE, ruleset, RULE_PATH, rule, 0))
    os.close(beneath)


def check(result: int) -> None:
    """Fail with the reason of a system call."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def main() -> None:
    """Limits, then the cage, then kubectl."""
    cage, arguments = json.loads(sys.argv[1]), sys.argv[2:]
    die_with(cage["parent"])
    os.umask(0o077)
    limits = cage["limits"]
    limits["RLIMIT_NPROC"] += tasks()
    limit(limits)
    enclose(str(Path.cwd()), cage["programs"], cage["port"])
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would keep that
    os.execv(cage["programs"][0], ["kubectl", *arguments])  # noqa: S606


if __name__ == "__main__":
    main()
