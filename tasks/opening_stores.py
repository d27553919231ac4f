"""From a service's backup destination to the store that holds its sets."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from tasks.credentials import resolve
from tasks.object_store import ObjectStore
from tasks.object_store_directory import DirectoryStore
from tasks.object_store_s3 import S3Store
from tasks.records.service import Destination


def open_store(destination: Destination) -> ObjectStore:
    """Given a destination, return its store; the keys are read here and kept nowhere else.

    Raise ``ConfigurationError`` if a reference names nothing or the endpoint is no URL, ``AccessDeniedError``
    if a secret's file may not be read, ``UnreachableError`` if a local folder is missing.
    """
    url = urlsplit(destination.url)
    if url.scheme == "file":
        return DirectoryStore(Path(unquote(url.path)))
    return S3Store(
        url.netloc,
        unquote(url.path),
        endpoint_url=destination.endpoint_url,
        region=destination.region,
        access_key_id=_resolved(destination.access_key_id),
        secret_access_key=_resolved(destination.secret_access_key),
        checksums=destination.checksums,
    )


def _resolved(reference: str | None) -> str | None:
    return None if reference is None else resolve(reference)
