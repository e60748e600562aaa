"""Goal: what S3 answers is told apart by what can be done about it. Method: answers as servers give
them, and answers that no server should give.
"""

import pytest

from storage_gateway.backends import BlobInfo
from storage_gateway.backends.s3_answers import (
    ContentRange,
    FaultKind,
    MalformedAnswer,
    ObjectVersion,
    Page,
    Unfinished,
    UnfinishedPage,
    Versioning,
    error_code,
    fault_of,
    read_content_range,
    read_object_lock,
    read_page,
    read_unfinished_page,
    read_version_page,
    read_versioning,
    read_versions,
)

LISTING = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>{}</ListBucketResult>"""
ENTRY = "<Contents><Key>{}</Key><ETag>x</ETag><Size>{}</Size></Contents>"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (507, "", FaultKind.FULL),
        (507, "XMinioStorageFull", FaultKind.FULL),
        (403, "QuotaExceeded", FaultKind.FULL),
        (500, "InternalError", FaultKind.TRANSIENT),
        (502, "", FaultKind.TRANSIENT),
        (503, "SlowDown", FaultKind.TRANSIENT),
        (504, "", FaultKind.TRANSIENT),
        (429, "", FaultKind.TRANSIENT),
        (409, "OperationAborted", FaultKind.TRANSIENT),
        (400, "RequestTimeout", FaultKind.TRANSIENT),
        (400, "XAmzContentSHA256Mismatch", FaultKind.TRANSIENT),
        (400, "ExpiredToken", FaultKind.PERMANENT),
        (403, "AccessDenied", FaultKind.PERMANENT),
        (403, "InvalidAccessKeyId", FaultKind.PERMANENT),
        (403, "RequestTimeTooSkewed", FaultKind.PERMANENT),
        (403, "SignatureDoesNotMatch", FaultKind.PERMANENT),
        (404, "NoSuchBucket", FaultKind.PERMANENT),
        (404, "", FaultKind.PERMANENT),
        (301, "PermanentRedirect", FaultKind.PERMANENT),
        (412, "PreconditionFailed", FaultKind.PERMANENT),
        (501, "NotImplemented", FaultKind.PERMANENT),
    ],
)
def test_faults_are_told_apart(status: int, code: str, kind: FaultKind) -> None:
    fault = fault_of(status, code)

    assert kind is fault.kind
    assert kind is FaultKind.FULL or f"{status} {code}".strip() in fault.text


def test_a_code_is_found_and_nothing_else_is_taken_for_one() -> None:
    document = (
        b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code><Message>secret</Message></Error>"
    )

    assert "NoSuchKey" == error_code(document)
    for body in (b"", b"<html>404</html>", b"<Code></Code>", b"<Code>a b</Code>", b"NoSuchKey"):
        assert not error_code(body)


def test_ranges_are_read() -> None:
    assert ContentRange(5, 10, 20) == read_content_range("bytes 5-9/20")
    assert ContentRange(20, 20, 20) == read_content_range("bytes */20")


@pytest.mark.parametrize("text", ["", "bytes 5-9/*", "bytes 5-9", "5-9/20", "bytes -9/20"])
def test_other_ranges_are_refused(text: str) -> None:
    with pytest.raises(MalformedAnswer):
        read_content_range(text)


def test_a_listing_is_read() -> None:
    entries = ENTRY.format("a/b", 3) + ENTRY.format("a/%C3%A9+%2B%25", 0)
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t=</NextContinuationToken>"

    assert Page((), None) == read_page(LISTING.format("").encode())
    page = read_page(LISTING.format(entries + more).encode())
    assert Page((BlobInfo("a/b", 3), BlobInfo("a/é +%", 0)), "t=") == page
    assert page == read_page(LISTING.format(entries + more).replace("xmlns", "x").encode())


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html><body>listing</body></html>",
        "<!DOCTYPE x [<!ENTITY a 'a'>]><ListBucketResult>&a;</ListBucketResult>",
        LISTING.format("<IsTruncated>true</IsTruncated>"),
        LISTING.format("<Contents><Size>1</Size></Contents>"),
        LISTING.format("<Contents><Key>a</Key></Contents>"),
        LISTING.format(ENTRY.format("a", -1)),
        LISTING.format("")[:-5],
    ],
)
def test_what_is_no_listing_is_refused(body: str) -> None:
    with pytest.raises(MalformedAnswer):
        read_page(body.encode())


NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


@pytest.mark.parametrize("namespace", ["", NAMESPACE])
@pytest.mark.parametrize(
    ("inside", "versioning"),
    [
        ("", Versioning.OFF),
        ("<Status/>", Versioning.OFF),
        ("<Status>Suspended</Status>", Versioning.SUSPENDED),
        ("<Status>Enabled</Status><MfaDelete>Disabled</MfaDelete>", Versioning.ON),
    ],
)
def test_a_state_of_versioning_is_read(namespace: str, inside: str, versioning: Versioning) -> None:
    document = f"<VersioningConfiguration{namespace}>{inside}</VersioningConfiguration>"

    assert versioning is read_versioning(document.encode())


def test_a_state_of_object_lock_is_read() -> None:
    document = f"<ObjectLockConfiguration{NAMESPACE}>{{}}</ObjectLockConfiguration>"
    enabled = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"

    assert read_object_lock(document.format(enabled).encode())
    assert not read_object_lock(document.format("").encode())


def test_versions_are_read() -> None:
    document = f"<ListVersionsResult{NAMESPACE}>{{}}</ListVersionsResult>"
    entry = "<{0}><Key>a/%2B</Key><VersionId>{1}</VersionId></{0}>"
    entries = entry.format("DeleteMarker", "2") + entry.format("Version", "null")

    assert () == read_versions(document.format("").encode())
    assert {ObjectVersion("a/+", "2", True), ObjectVersion("a/+", "null", False)} == set(
        read_versions(document.format(entries).encode())
    )
    for broken in (
        "<Version><Key>a</Key></Version>",
        "<Version><VersionId>1</VersionId></Version>",
    ):
        with pytest.raises(MalformedAnswer):
            read_versions(document.format(broken).encode())


def test_a_version_says_whether_it_is_read_and_what_it_is_like() -> None:
    document = f"<ListVersionsResult{NAMESPACE}>{{}}</ListVersionsResult>"
    entry = (
        "<Version><Key>a</Key><VersionId>1</VersionId><IsLatest>true</IsLatest>"
        "<ETag>&quot;x&quot;</ETag><Size>3</Size></Version>"
    )

    (version,) = read_versions(document.format(entry).encode())

    assert ObjectVersion("a", "1", is_marker=False, is_latest=True, tag='"x"/3') == version


@pytest.mark.parametrize(
    ("inside", "after"),
    [
        ("", None),
        ("<IsTruncated>false</IsTruncated><NextKeyMarker>a</NextKeyMarker>", None),
        ("<IsTruncated>true</IsTruncated><NextKeyMarker>a%2B</NextKeyMarker>", ("a+", "")),
        (
            (
                "<IsTruncated>true</IsTruncated><NextKeyMarker>a</NextKeyMarker>"
                "<NextVersionIdMarker>7</NextVersionIdMarker>"
                "<NextUploadIdMarker>7</NextUploadIdMarker>"
            ),
            ("a", "7"),
        ),
    ],
)
def test_pages_say_where_the_next_one_begins(inside: str, after: tuple[str, str] | None) -> None:
    versions = f"<ListVersionsResult{NAMESPACE}>{inside}</ListVersionsResult>"
    uploads = f"<ListMultipartUploadsResult{NAMESPACE}>{inside}</ListMultipartUploadsResult>"

    assert after == read_version_page(versions.encode()).after
    assert after == read_unfinished_page(uploads.encode()).after


def test_uploads_in_parts_are_read() -> None:
    document = f"<ListMultipartUploadsResult{NAMESPACE}>{{}}</ListMultipartUploadsResult>"
    entry = "<Upload><Key>a/%2B</Key><UploadId>7</UploadId></Upload>"

    page = read_unfinished_page(document.format(entry).encode())

    assert UnfinishedPage((Unfinished("a/+", "7"),), None) == page
    for broken in (
        "<Upload><Key>a</Key></Upload>",
        "<Upload><UploadId>7</UploadId></Upload>",
        "<IsTruncated>true</IsTruncated>",
    ):
        with pytest.raises(MalformedAnswer):
            read_unfinished_page(document.format(broken).encode())


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html/>",
        LISTING.format(""),
        "<!DOCTYPE x><VersioningConfiguration/>",
        "<VersioningConfiguration><Status>Perhaps</Status></VersioningConfiguration>",
    ],
)
def test_what_is_no_state_is_refused(body: str) -> None:
    for read in (read_versioning, read_object_lock, read_versions, read_unfinished_page):
        with pytest.raises(MalformedAnswer):
            read(body.encode())
