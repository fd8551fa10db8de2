"""Where the credentials of a store come from when none are given: the environment, boto3's profiles, the cloud.

A cloud's metadata service is asked only on a machine of that cloud: elsewhere the question takes long, and the answer
is a riddle.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from recordio.remote.request_errors import CREDENTIALS_FAILED, RequestError

Environment = Mapping[str, str]

# What a store is reached with. The trainer sends these to the helper, as they are when the store is opened.
PREFIXES = ("AWS_", "GOOGLE_", "GCE_", "AZURE_", "HF_", "HUGGING_FACE_", "MSI_", "IDENTITY_", "SSL_CERT_", "NO_GCE_")
_OTHERS = ("home", "http_proxy", "https_proxy", "all_proxy", "no_proxy")

_S3_KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_GOOGLE_KEYS = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_BEARER_TOKEN",
    "GCE_METADATA_HOST",
)
_AZURE_KEYS = (
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_TOKEN",
    "AZURE_STORAGE_CLIENT_ID",
    "AZURE_STORAGE_USE_EMULATOR",
    "AZURE_CLIENT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_USE_AZURE_CLI",
    "IDENTITY_ENDPOINT",
    "MSI_ENDPOINT",
)
_PROFILE_FRESH = timedelta(minutes=30)  # then boto3 is asked again, which renews what has expired
_WANTED: dict[str, tuple[tuple[str, ...], ...]] = {
    "s3": (("access_key_id", "secret_access_key"),),
    "az": (("access_key",), ("sas_token",), ("token",)),
    "abfs": (("access_key",), ("sas_token",), ("token",)),
    "abfss": (("access_key",), ("sas_token",), ("token",)),
}
_WANTED_OF_OTHERS: tuple[tuple[str, ...], ...] = (("token",),)
_MACHINES = Path("/sys/class/dmi/id")


def environment(every: Environment) -> dict[str, str]:
    """The variables that say how stores are reached."""
    return {key: value for key, value in every.items() if key.startswith(PREFIXES) or key.lower() in _OTHERS}


def credentials_of(scheme: str, found: Mapping[str, Any] | None, error: str | None) -> dict[str, Any]:
    """What a user's function has given, as obstore takes it; `error` if it has failed. Raises RequestError."""
    wanted = _WANTED.get(scheme, _WANTED_OF_OTHERS)
    if found is not None and not any(all(found.get(name) for name in names) for names in wanted):
        error = (
            f"it gives {', '.join(map(repr, found)) or 'nothing'}, expected {' or '.join(map(' and '.join, wanted))}"
        )
    if found is None or error is not None:
        raise RequestError("denied", f"{CREDENTIALS_FAILED}: {error}")
    expires = found.get("expires_at")
    return {**found, "expires_at": None if expires is None else datetime.fromtimestamp(expires, UTC)}


class Profile(NamedTuple):
    """What boto3's profile says: a function that gives credentials, and the region."""

    provider: Callable[[], Awaitable[dict[str, Any]]]
    region: str | None


def s3_profile(given: Environment, home: Path, machines: Path = _MACHINES) -> Profile | None:
    """Of boto3; None if obstore finds credentials by itself. Raises RequestError if nothing has any."""
    if _any_of(_S3_KEYS, given):
        return None
    why = "AWS_ACCESS_KEY_ID is not set, and there is no profile in ~/.aws"
    files = [given.get("AWS_CONFIG_FILE"), given.get("AWS_SHARED_CREDENTIALS_FILE")]
    if given.get("AWS_PROFILE") or any(files) or (home / ".aws").is_dir():
        profile, why = _of_boto3()
        if profile is not None:
            return profile
    if given.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true" and _says(machines, "Amazon EC2"):
        return None
    raise _none("S3", f"{why}; storage={{'anonymous': True}} is for public buckets")


def _of_boto3() -> tuple[Profile | None, str]:
    """The credentials of boto3's profile, or why there are none."""
    try:
        import boto3

        session = boto3.Session()
        found = session.get_credentials()
    except ImportError:
        return None, "the profiles in ~/.aws are read by boto3: pip install boto3"
    except Exception as error:  # noqa: BLE001 - botocore raises errors of many kinds
        return None, f"boto3 says: {error}"
    if found is None:
        return None, "boto3 finds none in ~/.aws"

    async def provide() -> dict[str, Any]:
        import asyncio  # with ssl it takes 10 ms, which every conversion would pay

        keys = await asyncio.to_thread(found.get_frozen_credentials)  # it may ask another server
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": datetime.now(UTC) + _PROFILE_FRESH,
        }

    return Profile(provide, session.region_name), ""


def require_google(given: Environment, home: Path, machines: Path = _MACHINES) -> None:
    """Raises RequestError if there are no credentials for Google's storage."""
    default = home / ".config" / "gcloud" / "application_default_credentials.json"
    on_google = given.get("NO_GCE_CHECK", "").lower() != "true" and _says(machines, "Google")
    if not (_any_of(_GOOGLE_KEYS, given) or default.exists() or on_google):
        raise _none(
            "Google Cloud Storage",
            "GOOGLE_APPLICATION_CREDENTIALS is not set, and `gcloud auth application-default login` was not run; "
            "storage={'anonymous': True} is for public buckets",
        )


def require_azure(given: Environment, machines: Path = _MACHINES) -> None:
    """Raises RequestError if there are no credentials for Azure's storage."""
    if not (_any_of(_AZURE_KEYS, given) or _says(machines, "Microsoft Corporation")):
        raise _none(
            "Azure",
            "none of AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN and AZURE_CLIENT_ID is set; "
            "storage={'anonymous': True} is for public containers",
        )


def hub_token(given: Environment, home: Path) -> str | None:
    """The token for huggingface.co: of HF_TOKEN, or of `hf auth login`."""
    if token := given.get("HF_TOKEN") or given.get("HUGGING_FACE_HUB_TOKEN"):
        return token.strip()
    folder = Path(given.get("HF_HOME") or home / ".cache" / "huggingface")
    with suppress(OSError):
        return Path(given.get("HF_TOKEN_PATH") or folder / "token").read_text("utf-8").strip() or None
    return None


def _any_of(names: tuple[str, ...], given: Environment) -> bool:
    return any(given.get(name) for name in names)


def _says(machines: Path, vendor: str) -> bool:
    """Whether the firmware says that this machine is one of a cloud's."""
    for name in ("sys_vendor", "product_name", "bios_vendor"):
        with suppress(OSError):
            if vendor in (machines / name).read_text("utf-8", "replace"):
                return True
    return False


def _none(store: str, why: str) -> RequestError:
    return RequestError("denied", f"no credentials for {store} were found: {why}")
