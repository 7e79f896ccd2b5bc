"""Which file system a path lies on, where that can be told."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["NETWORK", "file_system"]

NETWORK = {
    "afs": "AFS",
    "beegfs": "BeeGFS",
    "ceph": "CephFS",
    "cifs": "SMB",
    "fuse.ceph": "CephFS",
    "fuse.glusterfs": "GlusterFS",
    "fuse.sshfs": "sshfs",
    "gpfs": "GPFS",
    "lustre": "Lustre",
    "nfs": "NFS",
    "nfs4": "NFS",
    "smb3": "SMB",
    "smbfs": "SMB",
}
"""File systems that other machines may write to, by the names that the kernel gives them, and what people say."""

MOUNTS = "/proc/self/mountinfo"
"""Where Linux says what is mounted; elsewhere there is no such file, and nothing is known."""


def file_system(path: str | os.PathLike[str]) -> str | None:
    """Return the kind of file system that a path lies on, or would lie on.

    Parameters
    ----------
    path : path-like
        It need not be there yet.

    Returns
    -------
    str or None
        The kernel's name, such as ``"ext4"`` or ``"nfs4"``; None where it cannot be told.
    """
    try:
        table = Path(MOUNTS).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    wanted = Path(os.path.realpath(path))
    found: tuple[int, str] | None = None
    for line in table.splitlines():
        # https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")[0]
        if len(fields) < 5 or not kind:
            continue
        place = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        if (place == wanted or place in wanted.parents) and (found is None or len(place.parts) >= found[0]):
            found = (len(place.parts), kind)  # of two on one place the later covers the earlier
    return None if found is None else found[1]
