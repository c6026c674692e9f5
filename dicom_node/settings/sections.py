"""Settings groups of ``node.yaml``, with types, limits and defaults."""

from __future__ import annotations

from datetime import datetime, time
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
    Network,
    Port,
    Seconds,
    ServiceRoot,
    WebAddress,
)


class Section(BaseModel):
    """A group of keys: immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ListenSettings(Section):
    """Address of the receiver, and limits of its associations.

    Attributes:
        max_associations_per_peer: Limit for one calling AE title at one address.
        max_associations_per_address: Limit for all AE titles at one address; null for the default
            of `address_limit`.
        tls: Accept mutual TLS connections only, with the files of ``tls``.
        processes: Number of receiver processes that share the port.
    """

    host: Host = "0.0.0.0"
    port: Port = 11112
    max_associations: Annotated[int, Field(ge=1)] = 25
    max_associations_per_peer: Annotated[int, Field(ge=1)] = 10
    max_associations_per_address: Annotated[int, Field(ge=1)] | None = None
    tls: bool = False
    processes: Annotated[int, Field(ge=1, le=16)] = 1

    @property
    def address_limit(self) -> int:
        """Maximum number of associations of one address: as set, or four fifths of all.

        A gateway may be the only sender of a site: the default never limits a single AE title
        behind it further than its own limit.
        """
        if self.max_associations_per_address is not None:
            return self.max_associations_per_address
        return max(self.max_associations_per_peer, -(-self.max_associations * 4 // 5))


class AcceptSettings(Section):
    """Senders and objects that are accepted; an empty ``calling`` or ``hosts`` list admits any.

    Attributes:
        hosts: Addresses and networks such as ``192.0.2.10`` or ``192.0.2.0/24``.
        enhanced_ct: Accept Enhanced CT Image Storage too; such images are stored and skipped.
        max_image_mib: Maximum size of one image's data set.
    """

    require_called_ae: bool = True
    calling: tuple[AeTitle, ...] = ()
    hosts: tuple[Network, ...] = ()
    enhanced_ct: bool = False
    max_image_mib: Annotated[int, Field(ge=1, le=1 << 20)] = 2048


class PeerSettings(Section):
    """Another DICOM system that the node may call.

    Attributes:
        storage_commitment: A job is DONE only when this peer has committed to every image.
        commitment_seconds: Time to wait for its report before the request is repeated.
        tls: Use mutual TLS, with the files of ``tls``.
    """

    name: Name
    ae_title: AeTitle
    host: Host
    port: Port
    storage_commitment: bool = False
    commitment_seconds: Annotated[float, Field(gt=0.0)] = 300.0
    tls: bool = False


class WebPeerSettings(Section):
    """A DICOMweb server that receives derived series by STOW-RS (PS3.18 section 10.5).

    Attributes:
        url: The service root, such as ``https://pacs.example/dicom-web``.
        token: Bearer token.
        username: User of basic authentication, with ``password``.
        accept_empty_answer: Treat status 200 without a body as "all stored", against PS3.18.
    """

    name: Name
    url: ServiceRoot
    token: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None
    accept_empty_answer: bool = False


class TlsSettings(Section):
    """This node's certificate and the authorities that it trusts, as PEM files, both ways.

    Attributes:
        authorities: Certificates that sign the peers', or the peers' own.
        key_password: Password of the key, if it is encrypted.
    """

    certificate: Path
    key: Path
    authorities: Path
    key_password: SecretStr | None = None


class CompletionSettings(Section):
    """Exceptions from ``complete_after_seconds``.

    Attributes:
        gap_after_seconds: Time without a new image after which a series with a gap is complete.
        at_most_seconds: Age at which a series is complete, even if images keep arriving.
    """

    gap_after_seconds: Seconds = 600.0
    at_most_seconds: Annotated[float, Field(gt=0.0)] = 3600.0


class OffPeakSettings(Section):
    """Hours in local time in which off-peak jobs run; they may span midnight."""

    begin: Hour = time(19)
    end: Hour = time(7)

    def holds_at(self, moment: float) -> bool:
        """Whether a time, in seconds since 1970, is off-peak; equal ends mean always."""
        clock = datetime.fromtimestamp(moment).time()
        if self.begin < self.end:
            return self.begin <= clock < self.end
        return clock >= self.begin or clock < self.end


class RetrySettings(Section):
    """Attempts and delays after a transient fault.

    Attributes:
        attempts: Maximum attempts of one stage of a job; an unreachable peer or a full disk uses
            up none.
        first_delay_seconds: Delay after the first failed attempt; it doubles with each further one.
        longest_delay_seconds: Maximum delay; an unreachable peer is called every five minutes at
            the latest.
    """

    attempts: Annotated[int, Field(ge=1)] = 10
    first_delay_seconds: Seconds = 30.0
    longest_delay_seconds: Seconds = 3600.0

    def delay_seconds(self, attempt: int) -> float:
        """Return the delay after a failed attempt (the first is 1): doubled up to the maximum."""
        return backoff_seconds(attempt, self.first_delay_seconds, self.longest_delay_seconds)


class RetentionSettings(Section):
    """Retention of finished work, and free disk space.

    Attributes:
        days: Age at which finished series and their results are deleted.
        quarantine_days: Age at which images in quarantine are deleted.
        report_days: Age at which run reports are deleted.
        disk_high_watermark: Used share of the disk above which finished series are deleted early.
        disk_reserve_gib: Free disk space below which nothing is received.
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
    """Address of the status page, the metrics and the health check.

    Attributes:
        allowed_hosts: Host names, besides the machine's own, that browsers and Prometheus use.
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
    """Destinations of DICOM audit messages (PS3.15 A.5); none by default.

    Attributes:
        patient: Form of the patient's identifier, which PS3.15 requires in transfers.
    """

    file: Path | None = None
    syslog: SyslogSettings | None = None
    patient: Literal["hashed", "plain"] = "hashed"


class EmailSettings(Section):
    """A mail server, the sender and the recipients."""

    host: Host
    port: Port = 25
    sender: Name
    recipients: Annotated[tuple[str, ...], Field(min_length=1)]
    starttls: bool = False
    username: str | None = None
    password: SecretStr | None = None


class WebhookSettings(Section):
    """A URL that receives a JSON document by HTTP POST."""

    url: WebAddress
    token: SecretStr | None = None


class NotifySettings(Section):
    """Channels for notifications of failed jobs and problems of the node."""

    email: EmailSettings | None = None
    webhook: WebhookSettings | None = None


class LoggingSettings(Section):
    """Format and level of the log."""

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"
