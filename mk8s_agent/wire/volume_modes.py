"""Whether a group that may write is nobody but ourselves: what `fsGroup` makes of volumes.

Kubernetes gives a pod that is not root its volume by a group: folders get the mode g+rwxs, files
g+rw. That group has no member but the pod's own processes, so it lets nobody in. A folder that
group write was given to by hand, for others, looks different: no setgid bit, or somebody else is in
its group.

Asked wherever our files are refused because others could write them.
"""

import grp
import os
import pwd
import stat
from pathlib import Path
from typing import Final

_WRITABLE: Final = stat.S_IWGRP | stat.S_IWOTH


def others_write(folder: os.stat_result) -> bool:
    """Whether somebody else could put or replace files in the folder with these facts."""
    writable = folder.st_mode & _WRITABLE
    if writable == stat.S_IWGRP:
        return not _is_volume(folder)
    return writable != 0


def group_is_ours(path: Path, file: os.stat_result) -> bool:
    """Whether the group of the file at `path` is that of the volume it is kept in, and ours alone.

    Raises:
        OSError: its folder cannot be looked at.
    """
    folder = path.parent.stat()
    return folder.st_gid == file.st_gid and _is_volume(folder)


def _is_volume(folder: os.stat_result) -> bool:
    return bool(folder.st_mode & stat.S_ISGID) and _only_us(folder.st_gid)


def _only_us(group: int) -> bool:
    """Whether we are in the group and, as far as this machine's accounts tell, nobody else is."""
    if group not in {os.getegid(), *os.getgroups()}:
        return False
    user = os.geteuid()
    try:
        members = grp.getgrgid(group).gr_mem
    except KeyError:
        members = []  # `fsGroup` is a number that no account of the image has
    owners = {account.pw_name for account in pwd.getpwall() if account.pw_uid == user}
    if not set(members) <= owners:
        return False
    return all(account.pw_uid == user for account in pwd.getpwall() if account.pw_gid == group)
