"""What may be configured, with types, limits and defaults.

Every key is optional but ``ae_title`` and at least one destination. Unknown keys are refused.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from dicom_node.errors import ConfigurationError

ENV_PREFIX = "DICOM_NODE_"
ENV_DELIMITER = "__"

AE_TITLE_LENGTH = 16
"""Longest AE title (PS3.5 section 6.2, VR AE)."""


def _ae_title(value: str) -> str:
    """PS3.5 section 6.2: at most 16 ASCII characters, no backslash, no control, not only spaces."""
    stripped = value.strip(" ")
    printable = all(" " <= letter <= "~" and letter != "\\" for letter in stripped)
    if not stripped or len(stripped) > AE_TITLE_LENGTH or not printable:
        raise ValueError("an AE title has 1 to 16 plain letters, digits or signs and no backslash")
    return stripped


AeTitle = Annotated[str, AfterValidator(_ae_title)]
Host = Annotated[str, Field(min_length=1)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ListenSettings(_Section):
    """Where the receiver listens and how many associations it takes."""

    host: Host = "0.0.0.0"
    port: Port = 11112
    max_associations: Annotated[int, Field(ge=1)] = 25
    max_associations_per_peer: Annotated[int, Field(ge=1)] = 10


class AcceptSettings(_Section):
    """Who may send to the node; an empty ``calling`` list admits every AE title."""

    require_called_ae: bool = True
    calling: tuple[AeTitle, ...] = ()


class PeerSettings(_Section):
    """Another DICOM system that the node may call."""

    name: Annotated[str, Field(min_length=1)]
    ae_title: AeTitle
    host: Host
    port: Port
    storage_commitment: bool = False
    tls: bool = False

    @field_validator("storage_commitment", "tls")
    @classmethod
    def _not_yet(cls, wanted: bool) -> bool:
        if wanted:
            raise ValueError("not available yet, set it to false")
        return wanted


class ModelSettings(_Section):
    """Which denoiser runs; ``steps`` null takes the default of its card."""

    name: Annotated[str, Field(min_length=1)] = "man"
    device: Annotated[str, Field(min_length=1)] = "auto"
    strength: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    steps: Annotated[int, Field(ge=1)] | None = None


class DerivedSettings(_Section):
    """How the derived series is labelled."""

    series_number_offset: Annotated[int, Field(ge=1)] = 1000
    description_suffix: str = " MAN"
    image_type: Literal["PRIMARY", "SECONDARY"] = "PRIMARY"
    equipment: Literal["standard", "keep_scanner"] = "standard"


class RetrySettings(_Section):
    """How often and how patiently a passing fault is tried again."""

    attempts: Annotated[int, Field(ge=1)] = 10
    first_delay_seconds: Annotated[float, Field(ge=0.0)] = 30.0
    longest_delay_seconds: Annotated[float, Field(ge=0.0)] = 3600.0

    def delay_seconds(self, attempt: int) -> float:
        """Pause after a failed attempt (the first is 1): doubled each time, up to the longest."""
        doublings = min(attempt - 1, 30)
        return min(self.first_delay_seconds * 2.0**doublings, self.longest_delay_seconds)


class RetentionSettings(_Section):
    """When finished series leave the disk and how much of it stays free."""

    days: Annotated[float, Field(ge=0.0)] = 3.0
    disk_high_watermark: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    disk_reserve_gib: Annotated[float, Field(ge=0.0)] = 5.0


class WebSettings(_Section):
    """Where the web page listens."""

    host: Host = "127.0.0.1"
    port: Port = 8042


class LoggingSettings(_Section):
    """How log lines look and which are written."""

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(BaseSettings):
    """The whole configuration, checked and immutable.

    Attributes:
        storage: Absolute folder of inbox, outbox, quarantine and reports.
        database: SQLAlchemy URL of the ledger; a SQLite path in it is absolute.
        complete_after_seconds: A series with no new image for so long is complete.
        destinations: Names of the peers that get the derived series.
    """

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        nested_model_default_partial_update=True,
    )

    ae_title: AeTitle
    listen: ListenSettings = ListenSettings()
    accept: AcceptSettings = AcceptSettings()
    storage: Path = Path("var")
    database: str = "sqlite:///var/ledger.db"
    complete_after_seconds: Annotated[float, Field(ge=0.0)] = 60.0
    peers: tuple[PeerSettings, ...] = ()
    destinations: Annotated[tuple[str, ...], Field(min_length=1)]
    model: ModelSettings = ModelSettings()
    derived: DerivedSettings = DerivedSettings()
    retry: RetrySettings = RetrySettings()
    retention: RetentionSettings = RetentionSettings()
    web: WebSettings | None = WebSettings()
    logging: LoggingSettings = LoggingSettings()

    @field_validator("peers")
    @classmethod
    def _names_are_unique(cls, peers: tuple[PeerSettings, ...]) -> tuple[PeerSettings, ...]:
        twice = [name for name, count in Counter(peer.name for peer in peers).items() if count > 1]
        if twice:
            raise ValueError(f"the name {twice[0]!r} stands twice, give each peer its own")
        return peers

    @field_validator("destinations")
    @classmethod
    def _destinations_are_peers(
        cls, destinations: tuple[str, ...], info: ValidationInfo
    ) -> tuple[str, ...]:
        if "peers" not in info.data:  # the peers themselves are wrong and already reported
            return destinations
        known = sorted(peer.name for peer in info.data["peers"])
        unknown = [name for name in destinations if name not in known]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no peer, name one of {known} or add it to peers")
        return destinations

    @property
    def inbox_folder(self) -> Path:
        """Received images, by series."""
        return self.storage / "inbox"

    @property
    def outbox_folder(self) -> Path:
        """Derived images, by job."""
        return self.storage / "outbox"

    @property
    def quarantine_folder(self) -> Path:
        """Images whose bytes contradict an image of the same SOP Instance UID."""
        return self.storage / "quarantine"

    @property
    def reports_folder(self) -> Path:
        """Run reports, one JSON file a job."""
        return self.storage / "reports"

    def peer(self, name: str) -> PeerSettings:
        """The peer of that name.

        Raises:
            ConfigurationError: No peer has this name.
        """
        for peer in self.peers:
            if peer.name == name:
                return peer
        known = ", ".join(sorted(peer.name for peer in self.peers)) or "none"
        raise ConfigurationError(f"peer {name!r} is not in the configuration; known peers: {known}")
