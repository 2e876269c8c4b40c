"""The encrypted stream: it comes back as it was written, or not at all."""

import io
import tracemalloc
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from services.backup.sealed_stream import CHUNK_BYTES, OpeningReader, SealingWriter, StreamBroken

KEY, KEY_ID, NAME = b"k" * 32, "0a1b2c3d4e5f", "mailer_20261123T123456Z-0a1b2c3d"
HEADER_BYTES = 54
SEALED_CHUNK = CHUNK_BYTES + 16


def seal(plain: bytes, *, step: int = 100_000) -> bytes:
    target = io.BytesIO()
    writer = SealingWriter(target, key=KEY, key_id=KEY_ID, name=NAME)
    for start in range(0, len(plain), step):
        writer.write(plain[start : start + step])
    writer.finish()
    return target.getvalue()


def unseal(sealed: bytes, *, step: int = 70_000, key: bytes = KEY, key_id: str = KEY_ID, name: str = NAME) -> bytes:
    reader = OpeningReader(io.BytesIO(sealed), key=key, key_id=key_id, name=name)
    parts = []
    while part := reader.read(step):
        parts.append(part)
    return b"".join(parts)


@given(st.binary(max_size=300), st.integers(1, 50), st.integers(1, 50))
def test_whatever_is_written_comes_back(plain: bytes, write_step: int, read_step: int) -> None:
    assert unseal(seal(plain, step=write_step), step=read_step) == plain


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 200_000])
def test_sizes_around_the_edges_of_chunks_come_back(size: int) -> None:
    plain = bytes(range(256)) * (size // 256 + 1)
    assert unseal(seal(plain[:size])) == plain[:size]


def test_the_format_is_the_one_that_is_written_down() -> None:
    sealed = seal(b"a" * CHUNK_BYTES + b"b")
    header, (first, last) = sealed[:HEADER_BYTES], chunks(sealed)
    assert header[:16] == b"mailer snapshot\x01"
    assert header[16:22].hex() == KEY_ID
    derived = HKDF(algorithm=SHA256(), length=32, salt=header[22:54], info=b"mailer snapshot stream").derive(KEY)
    cipher, bound_to = AESGCM(derived), header + NAME.encode()
    assert cipher.decrypt(bytes(11) + b"\x00", first, bound_to) == b"a" * CHUNK_BYTES
    assert cipher.decrypt(bytes(10) + b"\x01\x01", last, bound_to) == b"b"


def test_the_same_content_is_encrypted_differently_each_time() -> None:
    assert seal(b"the same") != seal(b"the same")


@given(st.integers(0, (HEADER_BYTES + 40 + 16) * 8 - 1))
def test_no_flipped_bit_goes_unseen(bit: int) -> None:
    data = bytearray(seal(b"x" * 40))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StreamBroken):
        unseal(bytes(data))


def chunks(sealed: bytes) -> list[bytes]:
    body = sealed[HEADER_BYTES:]
    return [body[start : start + SEALED_CHUNK] for start in range(0, len(body), SEALED_CHUNK)]


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts[:-1],
        lambda parts: parts[:1],
        lambda parts: [],
        lambda parts: parts[1:],
        lambda parts: [parts[1], parts[0], *parts[2:]],
        lambda parts: [parts[0], *parts],
        lambda parts: [*parts, parts[-1]],
        lambda parts: [*parts, b"x"],
        lambda parts: [*parts[:-1], parts[-1][:-1]],
        lambda parts: [*parts[:-1], parts[-1][:3]],
    ],
    ids=[
        "last gone",
        "one left",
        "none left",
        "first gone",
        "swapped",
        "doubled",
        "end doubled",
        "grown",
        "cut",
        "stub",
    ],
)
@pytest.mark.parametrize("size", [3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 10])
def test_a_cut_grown_or_reordered_stream_does_not_open(size: int, change: Callable[[list[bytes]], list[bytes]]) -> None:
    sealed = seal(b"y" * size)
    with pytest.raises(StreamBroken):
        unseal(sealed[:HEADER_BYTES] + b"".join(change(chunks(sealed))))


def test_chunks_of_another_stream_under_the_same_key_do_not_open() -> None:
    one, other = seal(b"1" * 2 * CHUNK_BYTES), seal(b"2" * 2 * CHUNK_BYTES)
    with pytest.raises(StreamBroken):
        unseal(one[:HEADER_BYTES] + chunks(one)[0] + chunks(other)[1])


@pytest.mark.parametrize(
    "how", [{"key": b"K" * 32}, {"key_id": "ffffffffffff"}, {"name": "mailer_20261123T123456Z-ffffffff"}], ids=str
)
def test_another_key_or_another_name_opens_nothing(how: dict[str, str]) -> None:
    with pytest.raises(StreamBroken):
        unseal(seal(b"secret"), **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"", b"(\xb5/\xfd" * 30, b"mailer snapshot\x02" + bytes(60), b"mailer snapshot\x01"])
def test_what_is_no_such_stream_is_said(data: bytes) -> None:
    with pytest.raises(StreamBroken, match="not encrypted in the form"):
        unseal(data)


def test_a_stream_without_its_end_does_not_open() -> None:
    target = io.BytesIO()
    writer = SealingWriter(target, key=KEY, key_id=KEY_ID, name=NAME)
    writer.write(b"z" * (2 * CHUNK_BYTES))
    with pytest.raises(StreamBroken):
        unseal(target.getvalue())


class Endless:
    """Reads as so many zeros, and forgets what is written."""

    def __init__(self, size: int) -> None:
        self.left = size

    def write(self, data: bytes) -> int:
        return len(data)


def test_memory_does_not_grow_with_the_size() -> None:
    tracemalloc.start()
    writer = SealingWriter(Endless(0), key=KEY, key_id=KEY_ID, name=NAME)
    for _ in range(256):
        writer.write(bytes(1 << 18))
    writer.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 << 20
