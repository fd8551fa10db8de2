"""What failures of requests mean, by the text of obstore's errors, and what people read of them."""

from __future__ import annotations

import errno

import pytest

from recordio import MissingPackageError
from recordio.remote.request_errors import CREDENTIALS_FAILED, request_error


class GenericError(Exception):
    """As obstore's is called."""


def answer(status: int, body: str = "") -> GenericError:
    url = "http://127.0.0.1:9000/bucket/key?X-Amz-Signature=secret"
    text = f"Generic S3 error: Error performing GET {url} in 3.3ms - Server returned non-2xx status code: {status} W"
    return GenericError(f'{text}: {body}\n\nDebug source:\nGeneric {{\n store: "S3",\n uri: {url}\n}}')


def code(name: str) -> str:
    return f"<Error><Code>{name}</Code><Message>of AKIAKEY</Message></Error>"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (answer(500), "network", "server has failed (500)"),
        (answer(503, code("SlowDown")), "throttled", "(503 SlowDown)"),
        (answer(429), "throttled", "fewer requests (429)"),
        (answer(400, code("RequestTimeout")), "network", "waited too long"),
        (answer(400, code("ExpiredToken")), "denied", "credentials have expired"),
        (answer(403, code("RequestTimeTooSkewed")), "refused", "clock"),
        (answer(403, code("AccessDenied")), "denied", "'requester_pays': True"),
        (answer(403), "denied", "'anonymous': True"),
        (answer(404, code("NoSuchBucket")), "refused", "no such bucket"),
        (answer(404), "missing", "no such object"),
        (answer(301, code("PermanentRedirect")), "refused", "storage={'region': ...}"),
        (answer(412), "changed", "replaced"),
        (answer(416, code("InvalidRange")), "wrong", "cut, or replaced"),
        (answer(418), "refused", "418"),
        (GenericError("tcp connect error\nOs { kind: ConnectionRefused }"), "network", "connection is refused"),
        (GenericError("x\ndns error"), "network", "name of the host"),
        (GenericError("x\nInvalidCertificate(UnknownIssuer)"), "refused", "storage={'root_certificate': ...}"),
        (GenericError("Error performing PUT http://169.254.169.254/latest/api/token"), "denied", "no credentials"),
        (GenericError(f"x: {CREDENTIALS_FAILED}: KeyError: 'vault'\n"), "denied", "KeyError: 'vault'"),
        (FileNotFoundError("Object at location k not found"), "missing", "no such object"),
        (OSError(errno.ENOSPC, "No space left on device"), "full", "No space left"),
        (TimeoutError(), "network", "too slowly"),
        (MissingPackageError("pip install it"), "package", "pip install it"),
        (GenericError("Generic S3 error: something new\nmore"), "network", "something new"),
    ],
)
def test_meaning(error: BaseException, kind: str, words: str) -> None:
    found = request_error(error)
    assert found.kind == kind
    assert words in str(found)
    assert "\n" not in str(found)
    assert "secret" not in str(found)
    assert "AKIAKEY" not in str(found)


class PreconditionError(Exception):
    """As obstore's is called."""


def test_a_condition_that_fails_is_told_by_name() -> None:
    """S3 answers 404 where an object is to be replaced that is not there."""
    assert request_error(PreconditionError(str(answer(404, code("NoSuchKey"))))).kind == "changed"


def test_whether_a_server_was_reached() -> None:
    assert request_error(answer(500)).reached
    assert not request_error(GenericError("dns error")).reached
