"""Tests of folders for servers that gave up root."""

import os
import pwd
import stat
from pathlib import Path

import pytest

from devstack import folders
from devstack.folders import may_enter, reachable_binaries, remove_home, server_home, shared_folder, write_private

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture(autouse=True)
def var_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /var/tmp, so that a failing test leaves no litter there."""
    monkeypatch.setattr(folders, "VAR_TMP", tmp_path / "var-tmp")
    (tmp_path / "var-tmp").mkdir()
    return tmp_path / "var-tmp"


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder only we can enter."""
    (tmp_path / "closed").mkdir(mode=0o700)
    return tmp_path / "closed"


def test_home_of_a_server_that_needs_no_other_user_is_where_it_was_asked_for(closed: Path) -> None:
    assert server_home(closed / "postgres", None) == closed / "postgres"


def test_unreachable_home_is_elsewhere_and_linked(closed: Path, var_tmp: Path) -> None:
    home = server_home(closed / "postgres", NOBODY)
    assert home.parent == var_tmp
    assert (closed / "postgres").readlink() == home
    assert stat.S_IMODE(home.stat().st_mode) == 0o711
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert server_home(closed / "postgres", NOBODY) == home


def test_data_elsewhere_do_not_outlive_the_state_folder(closed: Path) -> None:
    home = server_home(closed / "postgres", NOBODY)
    (home / "old").touch()
    assert (server_home(closed / "postgres", NOBODY) / "old").exists()
    (closed / "postgres").unlink()
    assert not (server_home(closed / "postgres", NOBODY) / "old").exists()


def test_removed_home_is_gone_with_its_link(closed: Path) -> None:
    home = server_home(closed / "postgres", NOBODY)
    remove_home(closed / "postgres")
    assert not home.exists()
    assert list(closed.iterdir()) == []


def test_planted_link_is_refused(closed: Path, var_tmp: Path) -> None:
    planted = shared_folder(closed)
    planted.rmdir()
    planted.symlink_to(closed)
    with pytest.raises(PermissionError, match="belongs to someone else"):
        shared_folder(closed)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_folder_of_someone_else_is_refused(closed: Path) -> None:
    os.chown(shared_folder(closed), NOBODY.pw_uid, NOBODY.pw_gid)
    with pytest.raises(PermissionError, match="belongs to someone else"):
        shared_folder(closed)


def test_unreachable_binaries_are_copied_once_with_their_libraries_and_opened(closed: Path) -> None:
    program = closed / "wheel" / "install" / "bin" / "program"
    library = closed / "wheel.libs" / "library.so"
    for file in (program, library):
        file.parent.mkdir(parents=True)
        file.write_text(file.name)
        file.chmod(0o700)
    copy = reachable_binaries(closed / "wheel", "install", NOBODY)
    copied = copy / "bin" / "program"
    assert copied.read_text() == "program"
    assert (copy.parents[1] / "wheel.libs" / "library.so").read_text() == "library.so"
    assert stat.S_IMODE(copied.stat().st_mode) == 0o755
    assert stat.S_IMODE(program.stat().st_mode) == 0o700
    assert reachable_binaries(closed / "wheel", "install", NOBODY) == copy


def test_reachable_means_every_folder_above(tmp_path: Path) -> None:
    assert may_enter(Path("/"), NOBODY)
    assert may_enter(Path("/usr/bin"), NOBODY)
    (tmp_path / "closed" / "open").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    assert not may_enter(tmp_path / "closed" / "open", NOBODY)


def test_private_file_is_private_from_the_start(tmp_path: Path) -> None:
    write_private(tmp_path / "secret", "one", None)
    write_private(tmp_path / "secret", "two", None)
    assert (tmp_path / "secret").read_text() == "two"
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["secret"]
