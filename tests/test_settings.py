"""Where settings come from, and what is said of a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from mainstem.serve import options
from mainstem.setting_definition import SettingsError
from mainstem.settings import Settings, load, unknown_variables

ROOT = Path(__file__).parent.parent


def write(folder: Path, text: str) -> str:
    path = folder / "mainstem.toml"
    path.write_text(text)
    return str(path)


def test_defaults_hold_where_nothing_is_said() -> None:
    assert load() == Settings()


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, 'data = "file"\nkafka = "127.0.0.1:1"\nnum_partitions = 3\n')
    environ = {"MAINSTEM_DATA": "environment", "MAINSTEM_KAFKA": "127.0.0.1:2"}
    settings = options.load({"data": "flag", "kafka": None}, environ, file)
    assert (settings.data, settings.door_values["kafka"], settings.num_partitions) == (
        "flag",
        "127.0.0.1:2",
        3,
    )


def test_values_are_read_by_type() -> None:
    environ = {
        "MAINSTEM_LOG_JSON": "Yes",
        "MAINSTEM_AUTO_CREATE_TOPICS": "off",
        "MAINSTEM_LOG_SEGMENT_BYTES": "2_000_000",
        "MAINSTEM_ADVERTISE": "",
        "MAINSTEM_DURABILITY": "os",
    }
    settings = load(environ=environ)
    assert settings.log_json is True
    assert settings.auto_create_topics is False
    assert settings.log_segment_bytes == 2_000_000
    assert settings.advertise is None
    assert settings.durability == "os"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"MAINSTEM_DURABILITY": "ram"}, "MAINSTEM_DURABILITY: 'ram' is not one of disk, os"),
        ({"MAINSTEM_NUM_PARTITIONS": "many"}, "MAINSTEM_NUM_PARTITIONS: 'many' is not a whole number"),
        ({"MAINSTEM_NUM_PARTITIONS": "0"}, "MAINSTEM_NUM_PARTITIONS: 0 is less than 1"),
        ({"MAINSTEM_LOG_JSON": "maybe"}, "MAINSTEM_LOG_JSON: 'maybe' is neither true nor false"),
    ],
)
def test_a_bad_value_is_refused_with_its_place(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(environ=environ)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_partition = 1", "unknown setting num_partition in {file}; did you mean num_partitions?"),
        (
            "log.retention.ms = 1",
            "unknown setting log.retention.ms in {file}; did you mean log_retention_ms?",
        ),
        (
            "[auto.create.topics]\nenable = true",
            "unknown setting auto.create.topics.enable in {file}; did you mean auto_create_topics?",
        ),
        ("log-level = 'info'", "unknown setting log-level in {file}; did you mean log_level?"),
        ("colour = 'red'", "unknown setting colour in {file}; docs/SETTINGS.md lists them"),
        ("num_partitions = true", "num_partitions in {file}: True is not a whole number"),
        ("data = 7", "data in {file}: 7 is not text; put it in quotes"),
    ],
)
def test_an_unknown_setting_in_a_file_is_refused_with_the_nearest_name(
    tmp_path: Path, text: str, message: str
) -> None:
    file = write(tmp_path, text)
    with pytest.raises(SettingsError) as refused:
        load(file=file)
    assert str(refused.value) == message.format(file=file)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load(file=str(tmp_path / "none.toml"))
    with pytest.raises(SettingsError, match="is not TOML"):
        load(file=write(tmp_path, "= 1"))


def test_a_misspelt_variable_warns_and_an_unrelated_one_does_not() -> None:
    environ = {
        "MAINSTEM_DATTA": "x",
        "MAINSTEM_SERVICE_HOST": "10.0.0.1",
        "MAINSTEM_AT": "a:1",
        "PATH": "/bin",
    }
    assert list(unknown_variables(environ)) == [
        "environment variable MAINSTEM_DATTA is no setting; did you mean MAINSTEM_DATA?"
    ]


def test_a_setting_of_an_earlier_version_is_refused_with_what_replaces_it(tmp_path: Path) -> None:
    file = write(tmp_path, "no_http = true")
    with pytest.raises(SettingsError) as refused:
        options.load(file=file)
    assert str(refused.value).startswith(f"no_http in {file} was replaced: use --doors kafka")
    with pytest.raises(SettingsError) as refused:
        options.load(environ={"MAINSTEM_NO_HTTP": "1"})
    assert str(refused.value).startswith("MAINSTEM_NO_HTTP was replaced: use --doors kafka")
