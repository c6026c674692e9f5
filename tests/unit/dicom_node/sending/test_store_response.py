"""Store Instances Responses: every shape that servers use, and none that is costly to read."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dicom_node.sending.store_response import MAX_DEPTH, StoreResponse, read_response

CT = "1.2.840.10008.5.1.4.1.1.2"
UID = st.from_regex(r"2\.25\.[1-9][0-9]{0,30}", fullmatch=True)
NOTHING = StoreResponse({}, {})

responses = st.tuples(
    st.dictionaries(UID, st.sampled_from(["", CT])),
    st.dictionaries(UID, st.sampled_from([0x0110, 0xA700, 0xC000, 0x0122])),
)


def item(uid: str, **more: tuple[str, Any]) -> dict[str, Any]:
    known = {"00081155": {"vr": "UI", "Value": [uid]}}
    return {**known, **{tag[1:]: {"vr": vr, "Value": [value]} for tag, (vr, value) in more.items()}}


def as_json(stored: dict[str, str], failed: dict[str, int]) -> dict[str, Any]:
    whole = [
        item(uid, _00081150=("UI", kind)) if kind else item(uid) for uid, kind in stored.items()
    ]
    part = [item(uid, _00081197=("US", reason)) for uid, reason in failed.items()]
    return {"00081199": {"vr": "SQ", "Value": whole}, "00081198": {"vr": "SQ", "Value": part}}


def as_xml(document: dict[str, Any]) -> str:
    """A Native DICOM Model of DICOM JSON."""

    def attribute(tag: str, element: dict[str, Any]) -> str:
        values = "".join(
            f'<Item number="{n}">{inside(value)}</Item>'
            if isinstance(value, dict)
            else f'<Value number="{n}">{value}</Value>'
            for n, value in enumerate(element["Value"], 1)
        )
        return f'<DicomAttribute tag="{tag}" vr="{element["vr"]}">{values}</DicomAttribute>'

    def inside(level: dict[str, Any]) -> str:
        return "\n".join(attribute(tag, element) for tag, element in level.items())

    return f"<NativeDicomModel>{inside(document)}</NativeDicomModel>"


@given(responses)
def test_json_and_xml_say_the_same(told: tuple[dict[str, str], dict[str, int]]) -> None:
    stored, failed = told
    expected = StoreResponse({u: k for u, k in stored.items() if u not in failed}, failed)
    document = as_json(stored, failed)
    assert read_response(json.dumps(document).encode()) == expected
    assert read_response(json.dumps([document]).encode()) == expected
    assert read_response(as_xml(document).encode()) == expected


@given(st.one_of(st.binary(), st.text().map(lambda text: b"<" + text.encode())))
def test_no_bytes_are_too_much(body: bytes) -> None:
    assert read_response(body) == NOTHING


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["00081199", "00081198", "00081155", "Value"]), inner)
    ),
)


@given(json_values)
def test_no_document_is_too_odd(document: Any) -> None:
    response = read_response(json.dumps(document).encode())
    assert all(isinstance(uid, str) and uid for uid in response.stored)


def test_deep_nesting_is_nothing() -> None:
    assert read_response(b"[" * 1_000_000) == NOTHING
    assert read_response(b'{"a":' * 1_000_000) == NOTHING
    deep = "<Item>" * MAX_DEPTH + "</Item>" * MAX_DEPTH
    assert read_response(f"<NativeDicomModel>{deep}</NativeDicomModel>".encode()) == NOTHING


def test_entities_and_external_files_are_never_read() -> None:
    stored = as_xml(as_json({"1.2": ""}, {}))
    for declared in ('<!ENTITY a "b">', '<!ENTITY a SYSTEM "file:///etc/passwd">', ""):
        assert read_response(f"<!DOCTYPE x [{declared}]>{stored}".encode()) == NOTHING
    assert read_response(b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/"><x/>') == NOTHING
    assert read_response(stored.encode()).stored == {"1.2": ""}


def test_a_failure_without_a_usable_reason_is_a_failure() -> None:
    for reason in (0, "0", None, "zero", 1e400, {}, 1 << 40, -1, 0xB000):
        document = as_json({}, {"1.2": 0})
        document["00081198"]["Value"][0]["00081197"]["Value"] = [reason]
        assert read_response(json.dumps(document).encode()).failed == {"1.2": 0x0110}, reason
    assert read_response(json.dumps(as_json({}, {"1.2": 272})).encode()).failed == {"1.2": 272}
