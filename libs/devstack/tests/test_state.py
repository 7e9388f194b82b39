"""Tests of the state folder and of the settings that name it."""

import stat
from pathlib import Path

import pytest

from devstack.settings import CLONE, Settings, SettingsError
from devstack.state import (
    Running,
    kept_secrets,
    loaded_games,
    locked,
    read_running,
    remove_state,
    stop_running,
    write_loaded_game,
    write_running,
)


def test_defaults_are_port_8000_and_a_folder_in_the_clone() -> None:
    settings = Settings.from_environment({})
    assert (settings.port, settings.state, settings.url) == (8000, CLONE / ".dugout", None)


@pytest.mark.parametrize("port", ["0", "-1", "65530", "65535", "http", "8000.5", "²"])
def test_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(SettingsError, match="DUGOUT_PORT="):
        Settings.from_environment({"DUGOUT_PORT": port})


def test_secrets_are_made_once_and_nobody_else_reads_them(tmp_path: Path) -> None:
    made = kept_secrets(tmp_path, ("auth",), ("coach",))
    assert kept_secrets(tmp_path, ("auth",), ("coach",)) == made
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert (
        len({*made.role_passwords.values(), *made.client_secrets.values(), made.key_encryption_key, made.erasure_key})
        == 4
    )


def test_new_service_gets_its_secrets_beside_the_kept_ones(tmp_path: Path) -> None:
    before = kept_secrets(tmp_path, ("auth",), ())
    after = kept_secrets(tmp_path, ("auth", "coach"), ("coach",))
    assert after.role_passwords["auth"] == before.role_passwords["auth"]
    assert after.key_encryption_key == before.key_encryption_key
    assert set(after.role_passwords) == {"auth", "coach"}


def test_state_folder_has_one_holder_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(SettingsError, match="in use by process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_running_system_is_found_until_it_ends(tmp_path: Path) -> None:
    with locked(tmp_path):
        write_running(tmp_path, Running("http://127.0.0.1:8000", 5432, {}))
        assert read_running(tmp_path).gateway_url == "http://127.0.0.1:8000"
    with pytest.raises(SettingsError, match="not running here"):
        read_running(tmp_path)


def test_nothing_to_stop_is_said(tmp_path: Path) -> None:
    assert stop_running(tmp_path) is False
    with locked(tmp_path):
        pass
    assert stop_running(tmp_path) is False


def test_loaded_games_are_remembered(tmp_path: Path) -> None:
    assert loaded_games(tmp_path) == {}
    write_loaded_game(tmp_path, "chess", "1")
    write_loaded_game(tmp_path, "wesnoth", "2")
    assert loaded_games(tmp_path) == {"chess": "1", "wesnoth": "2"}


def test_state_in_use_is_not_removed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with locked(state), pytest.raises(SettingsError, match="in use by process"):
        remove_state(state)
    remove_state(state)
    assert not state.exists()
    remove_state(state)
