"""The groups of keys in ``node.yaml``, with types, limits and defaults."""

from __future__ import annotations

from datetime import datetime, time
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from dicom_node.backoff import backoff_seconds
from dicom_node.settings.values import (
    GIB,
    AeTitle,
    Days,
    Host,
    HostName,
    Hour,
    Name,
    Port,
    Seconds,
    ServiceRoot,
    Suffix,
    WebAddress,
)


class Section(BaseModel):
    """A group of keys; unknown ones are refused and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ListenSettings(Section):
    """Where the receiver listens and how many associations it takes.

    Attributes:
        max_associations_per_peer: Of one calling title at one address.
        max_associations_per_address: Of all titles at one address; null: see `most_of_address`.
        tls: Take mutual TLS connections only, with the files of ``tls``.
        processes: Receiver processes that share the port.
    """

    host: Host = "0.0.0.0"
    port: Port = 11112
    max_associations: Annotated[int, Field(ge=1)] = 25
    max_associations_per_peer: Annotated[int, Field(ge=1)] = 10
    max_associations_per_address: Annotated[int, Field(ge=1)] | None = None
    tls: bool = False
    processes: Annotated[int, Field(ge=1, le=16)] = 1

    @property
    def most_of_address(self) -> int:
        """How many associations one address gets: what is set, or four fifths of all places.

        A gateway may be the only sender of a site: a single title behind it is held to its own
        limit only.
        """
        if self.max_associations_per_address is not None:
            return self.max_associations_per_address
        return max(self.max_associations_per_peer, -(-self.max_associations * 4 // 5))


class AcceptSettings(Section):
    """Who may send what; an empty ``calling`` or ``hosts`` list admits any.

    Attributes:
        hosts: Addresses and networks such as ``192.0.2.10`` or ``192.0.2.0/24``.
        enhanced_ct: Take Enhanced CT Image Storage too; such images are kept and skipped.
        max_image_mib: Largest data set of one image.
    """

    require_called_ae: bool = True
    calling: tuple[AeTitle, ...] = ()
    hosts: tuple[IPv4Network | IPv6Network, ...] = ()
    enhanced_ct: bool = False
    max_image_mib: Annotated[int, Field(ge=1, le=1 << 20)] = 2048


class PeerSettings(Section):
    """Another DICOM system that the node may call.

    Attributes:
        storage_commitment: A job is DONE only when this peer has committed to every image.
        commitment_seconds: How long to wait for its report before asking again.
        tls: Speak mutual TLS with it, with the files of ``tls``.
    """

    name: Name
    ae_title: AeTitle
    host: Host
    port: Port
    storage_commitment: bool = False
    commitment_seconds: Annotated[float, Field(gt=0.0)] = 300.0
    tls: bool = False


class WebPeerSettings(Section):
    """A DICOMweb server that takes derived series by STOW-RS (PS3.18 section 10.5).

    Attributes:
        url: The service root, such as ``https://pacs.example/dicom-web``.
        token: Sent as a bearer token.
        username: For basic authentication, with ``password``.
        accept_empty_answer: Take an answer 200 without a body for "all stored", against PS3.18.
    """

    name: Name
    url: ServiceRoot
    token: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None
    accept_empty_answer: bool = False


class TlsSettings(Section):
    """This node's certificate and whom it trusts, as PEM files; used for both directions.

    Attributes:
        authorities: Certificates that sign the peers', or the peers' own.
        key_password: Of the key, if it is encrypted.
    """

    certificate: Path
    key: Path
    authorities: Path
    key_password: SecretStr | None = None


class CompletionSettings(Section):
    """What keeps a series waiting longer, or shorter, than ``complete_after_seconds``.

    Attributes:
        gap_after_seconds: A series with a hole is given up after so long without a new image.
        at_most_seconds: A series is complete at this age, even if images keep coming.
    """

    gap_after_seconds: Seconds = 600.0
    at_most_seconds: Annotated[float, Field(gt=0.0)] = 3600.0


class OffPeakSettings(Section):
    """The hours, local time, in which off-peak jobs run; they may span midnight."""

    begin: Hour = time(19)
    end: Hour = time(7)

    def holds_at(self, moment: float) -> bool:
        """Whether a moment, seconds since 1970, lies within the hours; equal ends mean always."""
        clock = datetime.fromtimestamp(moment).time()
        if self.begin < self.end:
            return self.begin <= clock < self.end
        return clock >= self.begin or clock < self.end


class ModelSettings(Section):
    """Which denoiser runs; ``steps`` null takes the default of its card."""

    name: Name = "man"
    device: Annotated[str, Field(min_length=1)] = "auto"
    strength: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    steps: Annotated[int, Field(ge=1)] | None = None


class DerivedSettings(Section):
    """How the derived series is labelled.

    Attributes:
        description_suffix: Ends the Series Description; ``{model}`` and ``{strength}`` are filled.
    """

    series_number_offset: Annotated[int, Field(ge=1)] = 1000
    description_suffix: Suffix = " MAN"
    image_type: Literal["PRIMARY", "SECONDARY"] = "PRIMARY"
    equipment: Literal["standard", "keep_scanner"] = "standard"


class RetrySettings(Section):
    """How often and how patiently a passing fault is tried again.

    Attributes:
        attempts: Of one stage of a job. A peer that is away and a full disk use up none.
    """

    attempts: Annotated[int, Field(ge=1)] = 10
    first_delay_seconds: Seconds = 30.0
    longest_delay_seconds: Seconds = 3600.0

    def delay_seconds(self, attempt: int) -> float:
        """Pause after a failed attempt (the first is 1): doubled each time, up to the longest."""
        return backoff_seconds(attempt, self.first_delay_seconds, self.longest_delay_seconds)


class RetentionSettings(Section):
    """When finished work leaves the disk and how much of it stays free.

    Attributes:
        days: Age at which finished series and their results go.
        quarantine_days: Age at which images in quarantine go.
        report_days: Age at which run reports go.
        disk_high_watermark: Above this share of the disk finished series go before their time.
        disk_reserve_gib: Below this much free disk nothing is received.
    """

    days: Days = 3.0
    quarantine_days: Days = 90.0
    report_days: Days = 365.0
    disk_high_watermark: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    disk_reserve_gib: Annotated[float, Field(ge=0.0)] = 5.0

    @property
    def disk_reserve_bytes(self) -> float:
        """The reserve in bytes."""
        return self.disk_reserve_gib * GIB


class WebSettings(Section):
    """Where status page, metrics and health are served.

    Attributes:
        allowed_hosts: Names beside the machine's own by which browsers and Prometheus call it.
    """

    host: Host = "127.0.0.1"
    port: Port = 8042
    allowed_hosts: tuple[HostName, ...] = ()


class SyslogSettings(Section):
    """A syslog collector (RFC 5424 over UDP, RFC 5426, or TLS, RFC 5425)."""

    host: Host
    port: Port = 514
    transport: Literal["udp", "tls"] = "udp"


class AuditSettings(Section):
    """Where DICOM audit messages go (PS3.15 A.5); nowhere unless one of both is named.

    Attributes:
        patient: What stands for the patient's identifier, which PS3.15 demands in transfers.
    """

    file: Path | None = None
    syslog: SyslogSettings | None = None
    patient: Literal["hashed", "plain"] = "hashed"


class EmailSettings(Section):
    """A mail server and who gets the mail."""

    host: Host
    port: Port = 25
    sender: Name
    recipients: Annotated[tuple[str, ...], Field(min_length=1)]
    starttls: bool = False
    username: str | None = None
    password: SecretStr | None = None


class WebhookSettings(Section):
    """An address that gets a JSON document by HTTP POST."""

    url: WebAddress
    token: SecretStr | None = None


class NotifySettings(Section):
    """Who is told when a job has failed for good."""

    email: EmailSettings | None = None
    webhook: WebhookSettings | None = None


class LoggingSettings(Section):
    """How log lines look and which are written."""

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"
