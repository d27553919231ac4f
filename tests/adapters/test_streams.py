"""Streams: what goes in comes out, what is damaged is said to be, and memory stays flat."""

import gzip
import io
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from hashlib import sha256

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import DamagedSetError, SourceError
from tasks.streams import GZIP, ZSTD, ByteCounter, Meter, compress, decompress, read_ahead

METHODS = pytest.mark.parametrize("method", [GZIP, ZSTD])
CHUNKS = st.lists(st.binary(max_size=300) | st.binary(max_size=3).map(lambda piece: piece * 5000), max_size=8)


def cut(content: bytes, borders: list[int]) -> list[bytes]:
    """Cut the content at the borders, wherever they are."""
    places = sorted({0, len(content), *(border % (len(content) + 1) for border in borders)})
    return [content[start:end] for start, end in itertools.pairwise(places)]


def unpack(packed: bytes, method: str, size: int = 1 << 20) -> bytes:
    chunks = (packed[start : start + size] for start in range(0, len(packed), size))
    return b"".join(decompress(chunks, method))


def pack(raw: bytes, method: str) -> bytes:
    return b"".join(compress([raw], method))


@METHODS
@settings(deadline=None, max_examples=60)
@given(chunks=CHUNKS, borders=st.lists(st.integers(0, 10**6), max_size=12))
def test_what_is_compressed_comes_back_whatever_the_chunks(
    method: str, chunks: list[bytes], borders: list[int]
) -> None:
    packed = b"".join(compress(chunks, method))
    assert b"".join(decompress(cut(packed, borders), method)) == b"".join(chunks)


@settings(deadline=None, max_examples=30)
@given(chunks=CHUNKS)
def test_the_ordinary_tools_read_what_we_compress(chunks: list[bytes]) -> None:
    raw = b"".join(chunks)
    assert gzip.decompress(b"".join(compress(chunks, GZIP))) == raw
    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(b"".join(compress(chunks, ZSTD))))
    assert reader.read() == raw


@METHODS
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_stream_that_is_cut_anywhere_is_damaged(method: str, size: int) -> None:
    packed = pack(b"the same words again and again, " * 60 + bytes(range(256)), method)
    for end in range(len(packed)):
        with pytest.raises(DamagedSetError, match=r"cut short|damaged"):
            unpack(packed[:end], method, size)


@METHODS
def test_a_flipped_bit_is_noticed_or_changes_nothing_of_what_is_read(method: str) -> None:
    raw = b"some words, " * 40 + bytes(range(256))
    packed = pack(raw, method)
    noticed = 0
    for place in range(len(packed)):
        flipped = bytearray(packed)
        flipped[place] ^= 1 << (place % 8)
        try:
            assert unpack(bytes(flipped), method) == raw
        except DamagedSetError:
            noticed += 1
    # The time, the flags and the system in gzip's header change nothing; the manifest's sha256 has them.
    assert noticed >= len(packed) - 10


@METHODS
@pytest.mark.parametrize("size", [1, 5, 1 << 20])
@pytest.mark.parametrize("garbage", [b"\0", b"garbage", b"another"])
def test_a_stream_that_goes_on_after_its_end_is_damaged(method: str, size: int, garbage: bytes) -> None:
    packed = pack(b"words " * 100, method)
    extra = pack(b"more words", method) if garbage == b"another" else garbage
    with pytest.raises(DamagedSetError, match="goes on after its end"):
        unpack(packed + extra, method, size)


@METHODS
def test_nothing_at_all_is_cut_short_and_an_empty_stream_is_empty(method: str) -> None:
    with pytest.raises(DamagedSetError, match="cut short"):
        unpack(b"", method)
    assert unpack(pack(b"", method), method) == b""


@given(chunks=st.lists(st.binary()))
def test_meters_pass_chunks_on_and_count_and_hash_them(chunks: list[bytes]) -> None:
    meter, counter = Meter(), ByteCounter()
    assert list(counter.watch(meter.watch(chunks))) == chunks
    whole = b"".join(chunks)
    assert (meter.bytes, counter.bytes, meter.sha256) == (len(whole), len(whole), sha256(whole).hexdigest())


@given(items=st.lists(st.integers()), depth=st.integers(1, 4))
def test_reading_ahead_keeps_the_order(items: list[int], depth: int) -> None:
    with read_ahead(iter(items), depth) as ahead:
        assert list(ahead) == items


def test_an_error_of_the_producer_arrives_after_the_chunks_before_it() -> None:
    def produce() -> Iterator[int]:
        yield 1
        yield 2
        raise SourceError("the source broke")

    with read_ahead(produce()) as ahead:
        assert (next(ahead), next(ahead)) == (1, 2)
        with pytest.raises(SourceError, match="the source broke"):
            next(ahead)


def test_reading_ahead_runs_no_further_ahead_than_its_depth() -> None:
    produced = []

    def produce() -> Iterator[int]:
        for number in range(100):
            produced.append(number)
            yield number

    with read_ahead(produce(), depth=3) as ahead:
        assert next(ahead) == 0
        time.sleep(0.2)
        # One is with us, three wait, and one is in the producer's hands.
        assert len(produced) == 5


def test_leaving_early_stops_and_closes_the_producer() -> None:
    closed = threading.Event()

    def produce() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.set()

    before = threading.active_count()
    with read_ahead(produce()) as ahead:
        assert next(ahead) == 0
    assert closed.is_set()
    assert threading.active_count() == before


@METHODS
def test_a_chunk_that_was_packed_a_thousandfold_is_not_unpacked_at_once(method: str) -> None:
    packed = b"".join(compress((bytes(1 << 20) for _ in range(150)), method))
    sizes = [len(chunk) for chunk in decompress([packed], method)]
    assert sum(sizes) == 150 << 20
    assert max(sizes) <= 32 << 20


FLAT = """
import resource, sys
from tasks.streams import Meter, compress, decompress, read_ahead
method, block = sys.argv[1], eval(sys.argv[2])
def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
def run(megabytes):
    meter = Meter()
    with read_ahead(block for _ in range(megabytes)) as ahead:
        for _ in meter.watch(decompress(compress(ahead, method), method)):
            pass
    assert meter.bytes == megabytes << 20
run(20)
before = resident()
run(500)
print(resident() - before)
"""


@METHODS
@pytest.mark.parametrize(
    "block", ["bytes(1 << 20)", "bytes(range(256)) * 3072 + __import__('os').urandom(1 << 18)"]
)
def test_the_memory_of_a_stream_does_not_grow_with_it(method: str, block: str) -> None:
    command = [sys.executable, "-c", FLAT, method, block]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout)
    assert grown < 40, f"{grown} MB more for 500 MB of raw data"
