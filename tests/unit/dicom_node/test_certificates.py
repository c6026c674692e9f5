"""Certificates: dates are read from PEM files as tools write them."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.certificates import Office

from dicom_node.certificates import read_certificates
from dicom_node.errors import ConfigurationError


def test_text_around_certificates_is_skipped(tmp_path: Path) -> None:
    ends = datetime.now(UTC) + timedelta(days=100)
    tls = Office(tmp_path).good(ends=ends)
    pem = tls.certificate.read_bytes().replace(b"\n", b"\r\n")
    tls.certificate.write_bytes("Bag Attributes: Größe\n".encode("latin-1") + pem + b"\nend\n")
    own = [one for one in read_certificates(tls) if one.role == "certificate"]
    assert [one.ends_at for one in own] == [pytest.approx(ends.timestamp(), abs=1.0)]


def test_a_certificate_of_an_impossible_version_is_refused(tmp_path: Path) -> None:
    tls = Office(tmp_path).good()
    der = ssl.PEM_cert_to_DER_cert(tls.authorities.read_text(encoding="ascii"))
    version_3, version_2 = b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01"
    pem = ssl.DER_cert_to_PEM_cert(der.replace(version_3, version_2, 1))
    tls.authorities.write_text(pem, encoding="ascii")
    with pytest.raises(ConfigurationError, match="no readable certificate"):
        read_certificates(tls)


@pytest.mark.parametrize("content", [b"", b"no certificate\n", b"\xff\x00"])
def test_a_file_without_certificate_is_refused(tmp_path: Path, content: bytes) -> None:
    tls = Office(tmp_path).good()
    tls.certificate.write_bytes(content)
    with pytest.raises(ConfigurationError, match="no readable certificate"):
        read_certificates(tls)
