"""Write a stream of unknown length to S3 as one object, in memory that does not grow with it.

boto3's own transfer manager has parts of one size, which ends at about 78 GiB; here the parts grow.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, cast

from tasks.errors import RunbookError, StoreFullError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

FIRST_PART_BYTES: Final = 8 << 20
PARTS_OF_ONE_SIZE: Final = 1000
GROWTH: Final = 1.5
MOST_PARTS: Final = 10_000
# One more is being filled meanwhile: memory is three parts, 24 MiB up to an object of 8 GiB.
PARTS_IN_FLIGHT: Final = 2


def part_bytes(number: int) -> int:
    """Given a part's number, counted from 1, return its size: 10,000 parts make 885 GiB."""
    return int(FIRST_PART_BYTES * GROWTH ** ((number - 1) // PARTS_OF_ONE_SIZE))


class Parts(Iterator[bytearray]):
    """Chunks of any size as the parts of an object, each full but the last; each byte is copied once.

    A part that was sent is given back, and a later one is put where it was. Left to the allocator, what is
    freed between the memory of other threads stays in pieces: 20 MB after a gigabyte.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        """Take the chunks of the whole object; of none there is one empty part."""
        self._returned: SimpleQueue[bytearray] = SimpleQueue()
        self._cut = self._cut_all(chunks)

    def __next__(self) -> bytearray:
        """Return the next part."""
        return next(self._cut)

    def give_back(self, part: bytearray) -> None:
        """Let a part that nobody reads any more be used again; from any thread."""
        self._returned.put(part)

    def _cut_all(self, chunks: Iterable[bytes]) -> Iterator[bytearray]:
        number, filled, part = 1, 0, self._take(1)
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                taken = rest[: len(part) - filled]
                # Assigned to the bytearray itself, it would be copied twice.
                with memoryview(part) as place:
                    place[filled : filled + len(taken)] = taken
                filled += len(taken)
                rest = rest[len(taken) :]
                if filled == len(part):
                    yield part
                    number, filled, part = number + 1, 0, self._take(number + 1)
        if filled or number == 1:
            del part[filled:]
            yield part

    def _take(self, number: int) -> bytearray:
        with contextlib.suppress(Empty):
            if len(part := self._returned.get_nowait()) == part_bytes(number):
                return part
        return bytearray(part_bytes(number))


@dataclass(frozen=True)
class Upload:
    """One object to write. ``attempt`` makes the context in which the vendor's errors become ours."""

    client: "S3Client"
    bucket: str
    key: str
    attempt: Callable[[], contextlib.AbstractContextManager[None]]

    def write(self, chunks: Iterable[bytes]) -> int:
        """Given the chunks, write them as one object and return its bytes; no trace of it if they raise."""
        parts = Parts(chunks)
        first = next(parts)
        if len(first) == FIRST_PART_BYTES:
            return self._write_parts(first, parts)
        with self.attempt():
            self.client.put_object(Bucket=self.bucket, Key=self.key, Body=_as_bytes(first))
        return len(first)

    def _write_parts(self, first: bytearray, others: Parts) -> int:
        with self.attempt():
            answer = self.client.create_multipart_upload(Bucket=self.bucket, Key=self.key)
        upload_id = answer["UploadId"]
        try:
            written, completed = self._send_all(upload_id, first, others)
            with self.attempt():
                self.client.complete_multipart_upload(
                    Bucket=self.bucket,
                    Key=self.key,
                    UploadId=upload_id,
                    MultipartUpload={"Parts": completed},
                )
        except BaseException as error:
            self._abort(upload_id, error)
            raise
        return written

    def _send_all(
        self, upload_id: str, first: bytearray, others: Parts
    ) -> tuple[int, list["CompletedPartTypeDef"]]:
        """Send every part; when this raises none is on its way any more, so that an abort gets them all."""
        written, number = 0, 0
        part: bytearray | None = first
        completed: list[CompletedPartTypeDef] = []
        flying: deque[Future[CompletedPartTypeDef]] = deque()
        with ThreadPoolExecutor(PARTS_IN_FLIGHT, thread_name_prefix="s3-part") as pool:
            while part is not None:
                number, written = number + 1, written + len(part)
                if number > MOST_PARTS:
                    raise StoreFullError(
                        f"{self.key} is too large for one object of S3: split what is saved."
                    )
                if len(flying) == PARTS_IN_FLIGHT:
                    completed.append(flying.popleft().result())
                flying.append(pool.submit(self._send, upload_id, number, part, others.give_back))
                part = next(others, None)
            completed.extend(future.result() for future in flying)
        return written, completed

    def _send(
        self, upload_id: str, number: int, part: bytearray, give_back: Callable[[bytearray], None]
    ) -> "CompletedPartTypeDef":
        with self.attempt():
            answer = self.client.upload_part(
                Bucket=self.bucket, Key=self.key, UploadId=upload_id, PartNumber=number, Body=_as_bytes(part)
            )
        give_back(part)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _abort(self, upload_id: str, error: BaseException) -> None:
        """Throw the parts away; a store that is gone must not hide why we are here."""
        try:
            with self.attempt():
                self.client.abort_multipart_upload(Bucket=self.bucket, Key=self.key, UploadId=upload_id)
        except RunbookError as second:
            error.add_note(f"Its parts stay until discard_unfinished is run: {second}")


def _as_bytes(part: bytearray) -> bytes:
    """Say that it is bytes: botocore sends a bytearray without copying it, only its stubs don't know."""
    return cast("bytes", part)
