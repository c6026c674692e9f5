"""The whole configuration; ``sections`` has its groups of keys.

Every key is optional but ``ae_title`` and at least one destination. Unknown keys are refused.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from dicom_node.errors import ConfigurationError
from dicom_node.settings.guard import GuardSettings
from dicom_node.settings.health import HealthSettings
from dicom_node.settings.sections import (
    AcceptSettings,
    AuditSettings,
    CompletionSettings,
    DerivedSettings,
    ListenSettings,
    LoggingSettings,
    ModelSettings,
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
    """Which kind of peer an entry describes: one with a ``url`` speaks DICOMweb."""
    has_url = "url" in value if isinstance(value, dict) else hasattr(value, "url")
    return "web" if has_url else "dicom"


def _need_tls(wanted: bool, info: ValidationInfo) -> None:
    if wanted and info.data.get("tls", "wrong and already reported") is None:
        raise ValueError("TLS needs certificate, key and authorities, name the files under `tls`")


AnyPeer = Annotated[
    Annotated[PeerSettings, Tag("dicom")] | Annotated[WebPeerSettings, Tag("web")],
    Discriminator(_kind_of_peer),
]


class Settings(BaseSettings):
    """The whole configuration, checked and immutable.

    Attributes:
        storage: Absolute folder of inbox, outbox, quarantine and reports.
        storage_access: Who may read what the node writes there: its own user, or the group too.
        database: SQLAlchemy URL of the ledger; a SQLite path in it is absolute. Reading the
            configuration puts ``ledger.db`` in the storage folder where none is named.
        complete_after_seconds: A series with no new image for so long is complete.
        destinations: Names of the peers that get the derived series, where no rule says otherwise.
        rules: The rules file; None when there is none.
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
    def unknown_folder(self) -> Path:
        """Images and results that no ledger knows."""
        return self.storage / "unknown"

    @property
    def reports_folder(self) -> Path:
        """Run reports, one JSON file a job."""
        return self.storage / "reports"

    @property
    def crashes_folder(self) -> Path:
        """How processes of this node ended that did not end by themselves."""
        return self.storage / "crashes"

    @property
    def metrics_folder(self) -> Path:
        """What the processes count, by host."""
        return self.storage / "metrics"

    def peer(self, name: str) -> PeerSettings | WebPeerSettings:
        """The peer of that name.

        Raises:
            ConfigurationError: No peer has this name.
        """
        for peer in self.peers:
            if peer.name == name:
                return peer
        known = ", ".join(sorted(peer.name for peer in self.peers)) or "none"
        raise ConfigurationError(f"peer {name!r} is not in the configuration; known peers: {known}")

    def dicom_peer(self, name: str) -> PeerSettings:
        """The peer of that name, which must speak DIMSE.

        Raises:
            ConfigurationError: No peer has this name, or it speaks DICOMweb.
        """
        peer = self.peer(name)
        if isinstance(peer, PeerSettings):
            return peer
        raise ConfigurationError(f"peer {name!r} speaks DICOMweb: name one with an AE title.")
