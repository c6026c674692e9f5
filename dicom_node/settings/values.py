"""Types of single values in ``node.yaml``, each with its limits."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import time
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, GetPydanticSchema
from pydantic_core import core_schema

from dicom_node.description_suffix import check_suffix
from dicom_node.work_order import AUTO
from man_core import MAX_DOSE_GAIN, MIN_DOSE_GAIN

MAX_AE_TITLE_CHARACTERS = 16
"""PS3.5 section 6.2, VR AE."""

GIB = 1 << 30
"""Bytes of one GiB."""

_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")


def check_ae_title(value: str) -> str:
    """Check an AE title (PS3.5 section 6.2): 1 to 16 printable ASCII characters, no backslash."""
    stripped = value.strip(" ")
    printable = all(" " <= letter <= "~" and letter != "\\" for letter in stripped)
    if not stripped or len(stripped) > MAX_AE_TITLE_CHARACTERS or not printable:
        raise ValueError("an AE title has 1 to 16 plain letters, digits or signs and no backslash")
    return stripped


def _web_address(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("a web address begins with https:// or http://")
    try:
        parts = urlsplit(value)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(
            "a web address has a host and a port between 1 and 65535; in a password write %40"
            " for @, %3A for :, %2F for / and %23 for #"
        ) from None
    return value.rstrip("/")


def _service_root(value: str) -> str:
    """Check a DICOMweb service root, which appears in logs and so may hold no secret."""
    address = _web_address(value)
    parts = urlsplit(address)
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "a service root holds no user name and no password, write them as `username` and"
            " `password` (or `token`), best with an environment variable"
        )
    if parts.query or parts.fragment:
        raise ValueError(
            "a service root is a host and a path, such as https://pacs.example/dicom-web"
        )
    return address


def _host_name(value: str) -> str:
    if _HOST_NAME.fullmatch(value) is None:
        raise ValueError(
            "a host name is written without https:// and without port, such as"
            " node.hospital.example"
        )
    return value


def _network(value: object) -> object:
    """Parse an address or network from text; anything else is left to its type's own check."""
    try:
        return ip_network(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(
            "an address or network is written as 192.0.2.10 or 192.0.2.0/24, without bits of a"
            " host behind the network's"
        ) from None


def _hour(value: object) -> object:
    """Refuse a number: YAML reads 19:00 without quotes as 1140."""
    if isinstance(value, int | float):
        raise ValueError('put an hour in quotes, such as "19:00"')
    return value


def _no_boolean(value: object) -> object:
    """Refuse true and false, which pydantic reads as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("a number is expected, not true or false")
    return value


def _auto_or(value: Any, validated: Callable[[Any], Any]) -> Any:
    """Validate anything but the word ``auto``; a union would name its types in every message."""
    return AUTO if value == AUTO else validated(value)


AeTitle = Annotated[str, AfterValidator(check_ae_title)]
Host = Annotated[str, Field(min_length=1)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
HostName = Annotated[str, AfterValidator(_host_name)]
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(min_length=1)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
ServiceRoot = Annotated[str, AfterValidator(_service_root)]
Seconds = Annotated[float, Field(ge=0.0)]
NoiseHu = Annotated[float, Field(ge=1.0, allow_inf_nan=False), BeforeValidator(_no_boolean)]
DoseGain = Annotated[
    float,
    Field(ge=MIN_DOSE_GAIN, le=MAX_DOSE_GAIN, allow_inf_nan=False),
    BeforeValidator(_no_boolean),
]
DoseGainOrAuto = Annotated[
    float | Literal["auto"],
    GetPydanticSchema(
        lambda _, schema_of: core_schema.no_info_wrap_validator_function(
            _auto_or, schema_of(DoseGain)
        )
    ),
]
Hour = Annotated[time, BeforeValidator(_hour)]
Days = Annotated[float, Field(ge=0.0)]
Suffix = Annotated[str, AfterValidator(check_suffix)]
