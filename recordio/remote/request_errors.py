"""What the errors of requests mean: whether to ask again, and what to tell people, in one line without secrets."""

from __future__ import annotations

import errno
import re
from typing import NamedTuple

_STATUS = re.compile(r"status code:? (\d{3})")
_CODE = re.compile(r"<Code>([\w.-]{1,64})</Code>|\"error(?:_code)?\": ?\"([\w.-]{1,64})\"")
_QUERY = re.compile(r"(https?://[^\s?\"',)]*)\?[^\s\"',)]*")
_PREAMBLE = re.compile(r"^.*? in [\d.]+\w{1,2}s? - |^Generic \w+ error: ", re.DOTALL)
_LONGEST_TEXT = 200
CREDENTIALS_FAILED = "the function of storage={'credentials': ...} has failed"  # obstore passes this on within its own
_OWN_TEXT = re.compile(rf"{re.escape(CREDENTIALS_FAILED)}: [^\n]*")


class RequestError(Exception):
    """A request that has failed.

    Attributes:
        kind: may pass: "throttled", "network", "answer" (it breaks the rules of HTTP, or its length is wrong);
            will not: "missing", "denied", "changed" (another ETag), "exists", "refused", "wrong" (not the bytes that
            were written), "full" (the disk of the cache), "package".
        byte: of the object, where the bytes are wrong.
        reached: whether a server has answered.
    """

    def __init__(self, kind: str, text: str, byte: int | None = None, reached: bool = False) -> None:
        super().__init__(text)
        self.kind = kind
        self.byte = byte
        self.reached = reached


class _Meaning(NamedTuple):
    kind: str
    text: str


_EXPIRED = _Meaning("denied", "the credentials have expired: renew them, or let storage={'credentials': ...} do so")
_REGION = _Meaning("refused", "the bucket lies in another region: name it by storage={'region': ...}")
_BUCKET = _Meaning("refused", "there is no such bucket: check the URL, and storage={'endpoint': ...}")
_DENIED = _Meaning(
    "denied",
    "access is denied: check the credentials and their rights; storage={'anonymous': True} is for public buckets, "
    "{'requester_pays': True} for those whose readers pay",
)
_KEYS = _Meaning("denied", "the store does not accept the access key or its secret: check the credentials")
_RANGES = _Meaning("answer", "the server does not answer with the range that was asked for: datasets need ranges")
_FAILED = _Meaning("network", "the server has failed")
_NO_CREDENTIALS = _Meaning("denied", "no credentials were found, and none are given by this machine's cloud")

_BY_CODE = {
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestExpired": _EXPIRED,
    "RequestTimeTooSkewed": _Meaning("refused", "this machine's clock is wrong by many minutes: set it"),
    "InvalidAccessKeyId": _KEYS,
    "InvalidToken": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
    "AuthenticationFailed": _KEYS,
    "AccessDenied": _DENIED,
    "NoSuchBucket": _BUCKET,
    "ContainerNotFound": _BUCKET,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "InvalidObjectState": _Meaning("refused", "the object is archived: restore it first"),
    "RequestTimeout": _Meaning("network", "the store has waited too long for the request"),
    "SlowDown": _Meaning("throttled", "the store asks for fewer requests"),
    "ServerBusy": _Meaning("throttled", "the store asks for fewer requests"),
    "InvalidRange": _Meaning("wrong", "the object ends before what was asked for: it was cut, or replaced"),
}
_BY_STATUS = {
    301: _REGION,
    307: _REGION,
    400: _Meaning("refused", "the store does not understand the request: check the URL and the storage options"),
    401: _DENIED,
    403: _DENIED,
    404: _Meaning("missing", "there is no such object"),
    408: _Meaning("network", "the store has waited too long for the request"),
    409: _Meaning("exists", "the object is there already, or is being written"),
    410: _Meaning("missing", "there is no such object"),
    412: _Meaning("changed", "the object was replaced"),
    416: _BY_CODE["InvalidRange"],
    425: _Meaning("network", "the store is not ready"),
    429: _Meaning("throttled", "the store asks for fewer requests"),
    503: _Meaning("throttled", "the store asks for fewer requests"),
}
_OF_CONDITIONS = {"AlreadyExistsError": _BY_STATUS[409], "PreconditionError": _BY_STATUS[412]}  # of any status
_BY_NAME = {
    "FileNotFoundError": _BY_STATUS[404],
    "NotFoundError": _BY_STATUS[404],
    "PermissionDeniedError": _DENIED,
    "UnauthenticatedError": _DENIED,
}
# Without a status: by what obstore says. The first that is found counts.
_BY_TEXT = {
    "/latest/api/token": _NO_CREDENTIALS,
    "metadata.google.internal": _NO_CREDENTIALS,
    "169.254.169.254": _NO_CREDENTIALS,
    "redirect without LOCATION": _REGION,
    "UnknownIssuer": _Meaning(
        "refused", "its certificate is signed by an authority unknown here: storage={'root_certificate': ...} adds it"
    ),
    "CaUsedAsEndEntity": _Meaning(
        "refused", "its certificate is that of an authority: storage={'root_certificate': ...} does not help"
    ),
    "invalid peer certificate": _Meaning("refused", "its certificate is not valid"),
    "InvalidContentType": _Meaning("refused", "the server does not speak TLS: is it http://?"),
    "InvalidCertificate": _Meaning("refused", "storage['root_certificate'] is no certificate in PEM"),
    "MissingAccount": _Meaning(
        "refused", "the account is not known: storage={'account': ...} or AZURE_STORAGE_ACCOUNT_NAME names it"
    ),
    "BadScheme": _Meaning("refused", "http:// is not encrypted: storage={'allow_http': True} allows it"),
    "dns error": _Meaning("network", "the name of the host cannot be resolved: check the URL"),
    "ConnectionRefused": _Meaning("network", "the connection is refused: is the server up, are host and port right?"),
    "kind: Timeout": _Meaning("network", "the server does not answer"),
    "ConnectionReset": _Meaning("network", "the connection was reset"),
    "IncompleteBody": _Meaning("network", "the connection was closed within an answer"),
    "IncompleteMessage": _Meaning("network", "the connection was closed"),
    "error sending request": _Meaning("network", "the connection has failed"),
    "body error": _Meaning("network", "the connection has failed within an answer"),
    "NotPartial": _RANGES,
    "RangeNotSupported": _RANGES,
    "UnexpectedRange": _RANGES,
    "NoContentRange": _RANGES,
    "MissingContentLength": _Meaning("answer", "the server does not say how long its answer is"),
}
_LIBRARY_REFUSES = ("NotSupportedError", "UnknownConfigurationKeyError", "InvalidPathError", "ValueError", "TypeError")


def request_error(error: BaseException) -> RequestError:
    """What an error of a request means."""
    text, name = str(error).strip(), type(error).__name__
    if isinstance(error, RequestError):
        return error
    if name == "MissingPackageError":
        return RequestError("package", text)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RequestError("full", error.strerror or text)
    if isinstance(error, TimeoutError):
        return RequestError("network", "the answer comes too slowly")
    return _of_library(text, name)


def _of_library(text: str, name: str) -> RequestError:
    """An error of obstore, which has no status but in its text."""
    if own := _OWN_TEXT.search(text):
        return RequestError("denied", own[0][:_LONGEST_TEXT])
    status, code = _first(_STATUS, text), _first(_CODE, text)
    found = _OF_CONDITIONS.get(name) or _BY_CODE.get(code) or _BY_STATUS.get(int(status or 0)) or _BY_NAME.get(name)
    if found is None and status:
        found = _FAILED if status >= "500" else _Meaning("refused", _plain(text))
    if found is None:
        found = next((meaning for part, meaning in _BY_TEXT.items() if part in text), None)
    if found is None:
        found = _Meaning("refused" if name in _LIBRARY_REFUSES else "network", _plain(text))
    details = " ".join(filter(None, (status, code)))
    return RequestError(found.kind, found.text + (f" ({details})" if details else ""), reached=bool(status))


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return next(filter(None, found.groups()), "") if found else ""


def _plain(text: str) -> str:
    """The one line of obstore's text that says something, without queries, which may hold secrets."""
    line = _PREAMBLE.sub("", _QUERY.sub(r"\1", text.partition("\n")[0])).strip()
    return line[:_LONGEST_TEXT] or "the request has failed"
