"""Re-read a published set in full: every byte hashed, every document and row decoded."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task

from tasks import application_files, postgresql_dump
from tasks.backup_layout import MANIFEST
from tasks.backup_manifest import format_manifest
from tasks.backup_sets import locate_set
from tasks.errors import DamagedSetError, NotFoundError
from tasks.mongodb_dump import decode_documents, split_documents
from tasks.mongodb_dump_format import read_metadata
from tasks.records.backup import CollectionContent, Manifest, StoredObject
from tasks.records.service import ServiceProfile
from tasks.retrying import retried
from tasks.set_folder import SetFolder, SetLocation
from tasks.streams import GZIP, ZSTD, ByteCounter, Meter, decompress

Findings = tuple[str, ...]


def reread_set(profile: ServiceProfile, manifest: Manifest) -> Findings:
    """Given a published set, re-read every part of it side by side; return all that is wrong."""
    location = locate_set(profile, manifest.set_id)
    submitted: list[tuple[Task[..., Findings], dict[str, Any]]] = [
        (find_strangers, {"manifest": manifest, "location": location}),
        (reread_application, {"manifest": manifest, "location": location}),
    ]
    if manifest.postgresql is not None:
        client_directory = profile.database.client_directory
        parameters = {"manifest": manifest, "client_directory": client_directory, "location": location}
        submitted.append((reread_dump, parameters))
    if manifest.mongodb is not None:
        submitted += [
            (reread_collection, {"content": content, "location": location})
            for content in manifest.mongodb.collections
        ]
    with ThreadPoolTaskRunner[Any](max_workers=profile.backup.width) as runner:
        futures = [runner.submit(reread, parameters) for reread, parameters in submitted]
        return tuple(finding for future in futures for finding in future.result())


@retried
def reread_manifest(manifest: Manifest, location: SetLocation) -> Findings:
    """Given the manifest that this run published, return what is wrong with it in the store."""
    try:
        content = b"".join(SetFolder(location).stream(MANIFEST))
    except NotFoundError:
        return (f"{MANIFEST} is missing from the store.",)
    if content == format_manifest(manifest):
        return ()
    return (f"{MANIFEST}: its bytes in the store are not those that were written.",)


@retried
def find_strangers(manifest: Manifest, location: SetLocation) -> Findings:
    """Given a set, return what lies in its folder and not in its manifest.

    Who restores by hand gives the whole folder to the official tools.
    """
    known = {MANIFEST, *(stored.key for stored in manifest.objects)}
    strangers = sorted(SetFolder(location).keys() - known)
    return tuple(f"{key} lies in the set's folder, but is not in its manifest." for key in strangers)


@retried
def reread_collection(content: CollectionContent, location: SetLocation) -> Findings:
    """Given a saved collection, read it back and decode every document; return what is wrong."""
    folder = SetFolder(location)

    def read_documents(raw: Iterator[bytes]) -> Findings:
        found = decode_documents(split_documents(raw, content.collection), content.collection)
        if (found.documents, found.value) == (content.documents, content.content_hash):
            return ()
        return (f"{content.collection}: the documents are not those that were saved.",)

    def read_description(raw: Iterator[bytes]) -> Findings:
        try:
            found = read_metadata(b"".join(raw))
        except ValueError as error:
            raise DamagedSetError(f"{content.collection}: the metadata does not parse ({error}).") from None
        same = found["collectionName"] == content.collection
        return () if same else (f"{content.collection}: the metadata is {found['collectionName']}'s.",)

    findings = _reread(folder, content.metadata, GZIP, read_description)
    if content.data is not None:
        findings += _reread(folder, content.data, GZIP, read_documents)
    return findings


@retried
def reread_dump(manifest: Manifest, client_directory: Path | None, location: SetLocation) -> Findings:
    """Given a set with a PostgreSQL dump, read it through pg_restore to its end; return what is wrong."""
    if manifest.postgresql is None:
        return ()

    def read_archive(raw: Iterator[bytes]) -> Findings:
        postgresql_dump.read_archive(raw, client_directory)
        return ()

    return _reread(SetFolder(location), manifest.postgresql.dump, ZSTD, read_archive)


@retried
def reread_application(manifest: Manifest, location: SetLocation) -> Findings:
    """Given a set, read every member of the application's archive; return what is wrong."""
    application = manifest.application

    def read_archive(raw: Iterator[bytes]) -> Findings:
        found = application_files.read_archive(raw)
        if (found.files, found.content_hash) == (application.files, application.content_hash):
            return ()
        return (f"{application.archive.key}: the files are not those that were saved.",)

    return _reread(SetFolder(location), application.archive, GZIP, read_archive)


def _reread(
    folder: SetFolder, stored: StoredObject, method: str, read: Callable[[Iterator[bytes]], Findings]
) -> Findings:
    """Read an object once, hashing it as it lies in the store while ``read`` looks at what is in it."""
    packed, raw = Meter(), ByteCounter()
    try:
        stream = packed.watch(folder.stream(stored.key))
        findings = read(raw.watch(decompress(stream, method)))
    except NotFoundError:
        return (f"{stored.key} is missing from the store.",)
    except DamagedSetError as error:
        return (f"{stored.key} is damaged: {str(error).removesuffix('.')}.",)
    if (packed.bytes, packed.sha256) != (stored.bytes, stored.sha256):
        findings = (*findings, f"{stored.key}: its bytes in the store are not those that were written.")
    if raw.bytes != stored.raw_bytes:
        findings = (*findings, f"{stored.key} has {raw.bytes} raw bytes, not {stored.raw_bytes}.")
    return findings
