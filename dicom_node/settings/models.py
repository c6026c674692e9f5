"""Settings of the whole configuration; ``sections`` has its groups of keys.

Every key is optional except ``ae_title`` and ``destinations``. Unknown keys are refused.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from dicom_node.errors import ConfigurationError
from dicom_node.settings.denoising import DerivedSettings, ModelSettings
from dicom_node.settings.guard import GuardSettings
from dicom_node.settings.health import HealthSettings
from dicom_node.settings.sections import (
    AcceptSettings,
    AuditSettings,
    CompletionSettings,
    ListenSettings,
    LoggingSettings,
    NotifySettings,
    OffPeakSettings,
    PeerSettings,
    RetentionSettings,
    RetrySettings,
    TlsSettings,
    WebPeerSettings,
    WebSettings,
)
from dicom_node.settings.values import AeTitle, Seconds

ENV_PREFIX = "DICOM_NODE_"
ENV_DELIMITER = "__"


def _kind_of_peer(value: Any) -> str:
    """Return the kind of a peer: one with a ``url`` speaks DICOMweb."""
    has_url = "url" in value if isinstance(value, dict) else hasattr(value, "url")
    return "web" if has_url else "dicom"


def _need_tls(wanted: bool, info: ValidationInfo) -> None:
    if wanted and info.data.get("tls", "wrong and already reported") is None:
        raise ValueError("TLS needs certificate, key and authorities, give their files under `tls`")


AnyPeer = Annotated[
    Annotated[PeerSettings, Tag("dicom")] | Annotated[WebPeerSettings, Tag("web")],
    Discriminator(_kind_of_peer),
]


class Settings(BaseSettings):
    """The whole configuration, validated and immutable.

    Attributes:
        storage: Absolute path of the folder of inbox, outbox, quarantine and reports.
        storage_access: Read access to the storage folder: the node's own user, or its group too.
        database: SQLAlchemy URL of the ledger; a SQLite path in it is absolute. Reading the
            configuration puts ``ledger.db`` in the storage folder where none is named.
        complete_after_seconds: Time without a new image after which a series is complete.
        destinations: Names of the peers that get the derived series, unless a rule overrides them.
        rules: The rules file; None for none.
    """

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        nested_model_default_partial_update=True,
    )

    ae_title: AeTitle
    tls: TlsSettings | None = None
    listen: ListenSettings = ListenSettings()
    accept: AcceptSettings = AcceptSettings()
    storage: Path = Path("var")
    storage_access: Literal["owner", "group"] = "owner"
    database: str = ""
    complete_after_seconds: Seconds = 60.0
    completion: CompletionSettings = CompletionSettings()
    peers: tuple[AnyPeer, ...] = ()
    destinations: Annotated[tuple[str, ...], Field(min_length=1)]
    rules: Path | None = None
    off_peak: OffPeakSettings = OffPeakSettings()
    model: ModelSettings = ModelSettings()
    derived: DerivedSettings = DerivedSettings()
    guard: GuardSettings = GuardSettings()
    retry: RetrySettings = RetrySettings()
    retention: RetentionSettings = RetentionSettings()
    web: WebSettings | None = WebSettings()
    audit: AuditSettings = AuditSettings()
    notify: NotifySettings = NotifySettings()
    health: HealthSettings = HealthSettings()
    logging: LoggingSettings = LoggingSettings()

    @field_validator("database", mode="before")
    @classmethod
    def _no_database_is_the_default(cls, database: object) -> object:
        return "" if database is None else database

    @field_validator("listen")
    @classmethod
    def _listening_has_its_files(
        cls, listen: ListenSettings, info: ValidationInfo
    ) -> ListenSettings:
        _need_tls(listen.tls, info)
        return listen

    @field_validator("peers")
    @classmethod
    def _peers_have_their_files(
        cls, peers: tuple[AnyPeer, ...], info: ValidationInfo
    ) -> tuple[AnyPeer, ...]:
        _need_tls(any(isinstance(peer, PeerSettings) and peer.tls for peer in peers), info)
        return peers

    @field_validator("peers")
    @classmethod
    def _names_are_unique(cls, peers: tuple[AnyPeer, ...]) -> tuple[AnyPeer, ...]:
        twice = [name for name, count in Counter(peer.name for peer in peers).items() if count > 1]
        if twice:
            raise ValueError(f"the name {twice[0]!r} occurs twice, give each peer its own")
        return peers

    @field_validator("destinations")
    @classmethod
    def _destinations_are_peers(
        cls, destinations: tuple[str, ...], info: ValidationInfo
    ) -> tuple[str, ...]:
        if "peers" not in info.data:  # the peers are wrong themselves, which is reported
            return destinations
        known = sorted(peer.name for peer in info.data["peers"])
        unknown = [name for name in destinations if name not in known]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not a peer, use one of {known} or add it to peers")
        return destinations

    @property
    def inbox_folder(self) -> Path:
        """Folder of received images, by series."""
        return self.storage / "inbox"

    @property
    def outbox_folder(self) -> Path:
        """Folder of derived images, by job."""
        return self.storage / "outbox"

    @property
    def quarantine_folder(self) -> Path:
        """Folder of images that differ from an earlier one of the same SOP Instance UID."""
        return self.storage / "quarantine"

    @property
    def unknown_folder(self) -> Path:
        """Folder of images and results that are in no ledger."""
        return self.storage / "unknown"

    @property
    def reports_folder(self) -> Path:
        """Folder of run reports, one JSON file for each job."""
        return self.storage / "reports"

    @property
    def crashes_folder(self) -> Path:
        """Folder of the crash records of this node's processes."""
        return self.storage / "crashes"

    @property
    def metrics_folder(self) -> Path:
        """Folder of the processes' metrics, by host."""
        return self.storage / "metrics"

    def peer(self, name: str) -> PeerSettings | WebPeerSettings:
        """Return the peer of a name.

        Raises:
            ConfigurationError: No peer has this name.
        """
        for peer in self.peers:
            if peer.name == name:
                return peer
        known = ", ".join(sorted(peer.name for peer in self.peers)) or "none"
        raise ConfigurationError(
            f"Peer {name!r} is not in the configuration: add it to `peers`, or use a known one"
            f" ({known})."
        )

    def dicom_peer(self, name: str) -> PeerSettings:
        """Return the peer of a name, which must speak DIMSE.

        Raises:
            ConfigurationError: No peer has this name, or it speaks DICOMweb.
        """
        peer = self.peer(name)
        if isinstance(peer, PeerSettings):
            return peer
        raise ConfigurationError(f"Peer {name!r} speaks DICOMweb: use one with an AE title.")
