"""Settings: what is accepted, what wins, and how errors read."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from dicom_node.errors import ConfigurationError
from dicom_node.settings import Settings, WebPeerSettings, load_settings

SMALLEST = """
ae_title: DENOISE
peers:
  - {name: pacs, ae_title: LOOPPACS, host: 127.0.0.1, port: 4242}
destinations: [pacs]
"""

EVERY_KEY = """
ae_title: DENOISE
tls: null
listen:
  host: 0.0.0.0
  port: 11112
  max_associations: 25
  max_associations_per_peer: 10
  tls: false
  processes: 1
accept: {require_called_ae: true, calling: [LOOPPACS], hosts: [], enhanced_ct: false}
storage: var
storage_access: owner
database: sqlite:///var/ledger.db
complete_after_seconds: 60
completion: {gap_after_seconds: 600, at_most_seconds: 3600}
peers:
  - name: pacs
    ae_title: LOOPPACS
    host: 127.0.0.1
    port: 4242
    storage_commitment: false
    commitment_seconds: 300
    tls: false
destinations: [pacs]
rules: null
off_peak: {begin: "19:00", end: "07:00"}
model: {name: man, device: auto, strength: 1.0, dose_gain: null, steps: null, precision: null,
  target_noise_hu: null, noise_reference: null}
derived:
  series_number_offset: 1000
  description_suffix: " MAN"
  image_type: PRIMARY
  equipment: standard
guard: {action: block, seeds: 0, limits: {}}
retry: {attempts: 10, first_delay_seconds: 30, longest_delay_seconds: 3600}
retention:
  days: 3
  quarantine_days: 90
  report_days: 365
  disk_high_watermark: 0.9
  disk_reserve_gib: 5
web: {host: 127.0.0.1, port: 8042, allowed_hosts: []}
audit: {file: null, syslog: null, patient: hashed}
notify: {email: null, webhook: null}
logging: {format: console, level: info}
"""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DICOM_NODE_LISTEN__PORT", raising=False)


def load(folder: Path, text: str) -> Settings:
    file = folder / "node.yaml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file)


def errors(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text)
    return str(caught.value).splitlines()


def test_the_documented_file_says_the_defaults(tmp_path: Path) -> None:
    full, smallest = load(tmp_path, EVERY_KEY), load(tmp_path, SMALLEST)
    assert full.accept.calling == ("LOOPPACS",)
    assert full.model_copy(update={"accept": smallest.accept}) == smallest


def test_relative_paths_start_at_the_files_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    monkeypatch.chdir(tmp_path / "site")
    settings = load(tmp_path, SMALLEST)
    assert settings.storage == tmp_path / "var"
    assert settings.database == f"sqlite:///{tmp_path}/var/ledger.db"


@pytest.mark.parametrize("named", ["", "database: null\n"])
def test_the_ledger_follows_the_storage_folder(tmp_path: Path, named: str) -> None:
    settings = load(tmp_path, SMALLEST + named + f"storage: {tmp_path}/srv/node")
    assert settings.database == f"sqlite:///{tmp_path}/srv/node/ledger.db"


def test_a_ledger_where_the_default_was_stays_there(tmp_path: Path) -> None:
    """Before, only the folder of the configuration decided."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "ledger.db").touch()
    moved = SMALLEST + f"storage: {tmp_path}/srv"
    assert load(tmp_path, moved).database == f"sqlite:///{tmp_path}/var/ledger.db"
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv" / "ledger.db").touch()
    assert load(tmp_path, moved).database == f"sqlite:///{tmp_path}/srv/ledger.db"


def test_the_environment_wins_and_leaves_its_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DICOM_NODE_LISTEN__PORT", "104")
    settings = load(tmp_path, SMALLEST + "listen: {port: 11113, host: 127.0.0.1}")
    assert (settings.listen.port, settings.listen.host) == (104, "127.0.0.1")


def test_the_environment_alone_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DICOM_NODE_AE_TITLE", "DENOISE")
    monkeypatch.setenv(
        "DICOM_NODE_PEERS", '[{"name": "pacs", "ae_title": "P", "host": "h", "port": 104}]'
    )
    monkeypatch.setenv("DICOM_NODE_DESTINATIONS", '["pacs"]')
    assert load_settings().dicom_peer("pacs").port == 104


def test_variables_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACS_HOST", "pacs.example")
    settings = load(tmp_path, SMALLEST.replace("127.0.0.1", "'${PACS_HOST}'"))
    assert settings.dicom_peer("pacs").host == "pacs.example"


def test_web_may_be_off(tmp_path: Path) -> None:
    assert load(tmp_path, SMALLEST + "web: null").web is None


def test_all_errors_are_told_at_once_by_file_key_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DICOM_NODE_RETRY__ATTEMPTS", "none")
    monkeypatch.setenv("DICOM_NODE_LISTN__PORT", "1")
    told = errors(
        tmp_path,
        SMALLEST.replace("[pacs]", "[pax]") + "listen: {prot: 1, port: 99999}\nweb: {ip: 1}",
    )
    assert told == [
        "environment: DICOM_NODE_LISTN__PORT is not a setting (did you mean 'listen'?);"
        " correct or unset it.",
        "node.yaml: 'listen.port' is wrong: input should be less than or equal to 65535;"
        " correct it.",
        "node.yaml: 'listen.prot' is not a known key (did you mean 'port'?); correct or remove it.",
        "node.yaml: 'destinations' is wrong: 'pax' is not a peer, use one of ['pacs'] or add it to"
        " peers.",
        "DICOM_NODE_RETRY__ATTEMPTS: 'retry.attempts' is wrong: input should be a valid integer,"
        " unable to parse string as an integer; correct it.",
        "node.yaml: 'web.ip' is not a known key; correct or remove it.",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'ae_title' is missing; add it."),
        (SMALLEST.replace("DENOISE", "A_TITLE_THAT_IS_TOO_LONG"), "1 to 16 plain letters"),
        (SMALLEST.replace("port: 4242", "port: 4242, tls: true"), "give their files under `tls`"),
        (SMALLEST + "listen: {tls: true}", "give their files under `tls`"),
        (SMALLEST.replace("port: 4242", "prot: 4242"), "'peers.0.prot' is not a known key (did"),
        (SMALLEST + "audit: {syslog: {hots: a}}", "'audit.syslog.hots' is not a known key (did"),
        (SMALLEST.replace("[pacs]", "[]"), "'destinations'"),
        (
            SMALLEST.replace("127.0.0.1", "'${NO_SUCH_VARIABLE}'"),
            "${NO_SUCH_VARIABLE}, which is not",
        ),
        (
            SMALLEST + "guard: {limits: {drift_fad: [1, 2]}}",
            "'drift_fad' is not a check of the guard",
        ),
        (
            SMALLEST + "guard: {limits: {noise: [2, 1]}}",
            "noise needs a limit to flag of at least 0",
        ),
        (SMALLEST + "guard: {seeds: 1}", "one seed has no spread"),
        (
            SMALLEST + "model: {target_noise_hu: true}",
            "'model.target_noise_hu' is wrong: a number is expected, not true or false",
        ),
        (SMALLEST + "off_peak: {begin: 19:00}", "put an hour in quotes"),
        (SMALLEST + "database: mysql://ledger", "that this program cannot use"),
        (SMALLEST + "database: ledger.db", "'database' is not a database URL"),
        (SMALLEST + "database: 'sqlite://'", "'database' needs a file"),
        (SMALLEST + "accept: {hosts: [300.1.1.1]}", "'accept.hosts.0' is wrong: an address or"),
        (SMALLEST + "rules: [a]", "'rules' is wrong: a path in text is expected"),
        ("ae_title: [", "is not valid YAML; line 1, column"),
        ("- a list", "`key: value` lines"),
    ],
)
def test_one_sentence_says_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    told = errors(tmp_path, text)
    assert any(said in line for line in told), told
    assert all(line.startswith("node.yaml: ") and line.endswith(".") for line in told)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ae_title: B\n", "node.yaml: 'ae_title' occurs twice (line 6); keep one."),
        (
            "listen: {port: 1, port: 2}\n",
            "node.yaml: 'listen.port' occurs twice (line 6); keep one.",
        ),
    ],
)
def test_a_repeated_key_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """YAML silently keeps the last."""
    assert said in errors(tmp_path, SMALLEST + text)


def test_two_peers_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = SMALLEST.replace(
        "destinations", "  - {name: pacs, ae_title: B, host: h, port: 104}\ndestinations"
    )
    assert "the name 'pacs' occurs twice" in errors(tmp_path, twice)[0]


def test_a_missing_file_names_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml: cannot be read"):
        load_settings(tmp_path / "nowhere.yaml")


def test_bad_json_in_the_environment_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DICOM_NODE_DESTINATIONS", "[pacs")
    assert errors(tmp_path, SMALLEST)[0].startswith("environment: ")


def test_an_unknown_peer_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"use a known one \(pacs\)"):
        load(tmp_path, SMALLEST).peer("archive")


def test_the_delay_doubles_up_to_the_longest(tmp_path: Path) -> None:
    retry = load(tmp_path, SMALLEST).retry
    assert [retry.delay_seconds(n) for n in (1, 2, 3, 8, 1000)] == [30, 60, 120, 3600, 3600]


def test_a_peer_with_a_url_speaks_dicomweb(tmp_path: Path) -> None:
    web = "peers: [{name: archive, url: 'https://pacs.example/dicom-web/', token: t}]"
    peer = load(tmp_path, f"ae_title: A\n{web}\ndestinations: [archive]").peer("archive")
    assert isinstance(peer, WebPeerSettings)
    assert peer.url == "https://pacs.example/dicom-web"
    assert "token='t'" not in repr(peer)


def test_the_rules_beside_the_file_are_found(tmp_path: Path) -> None:
    assert load(tmp_path, SMALLEST).rules is None
    (tmp_path / "rules.yaml").write_text("rules: []")
    assert load(tmp_path, SMALLEST).rules == tmp_path / "rules.yaml"


def test_a_postgresql_url_gets_the_driver_that_is_installed(tmp_path: Path) -> None:
    settings = load(tmp_path, SMALLEST + "database: postgresql://node:secret@db/ledger")
    assert settings.database == "postgresql+psycopg://node:secret@db/ledger"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://node:hunter2@pacs.example/dicom-web", "holds no user name and no password"),
        ("https://hunter2@pacs.example/dicom-web", "holds no user name and no password"),
        ("https://pacs.example/dicom-web?token=hunter2", "is a host and a path"),
        ("https://pacs.example/dicom-web#hunter2", "is a host and a path"),
    ],
)
def test_the_address_of_a_peer_holds_no_secret(url: str, words: str) -> None:
    """It appears in logs, in the ledger's reasons and on the page."""
    with pytest.raises(ValidationError, match=words):
        WebPeerSettings(name="cloud", url=url)
