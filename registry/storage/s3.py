"""Blobs as objects of S3 (docs/design/storage.md, "S3"). Keys and locks: see the package and ``uploads._leased``.

An upload becomes a multipart upload once it fills a part. Its state after each request is an object of its own, under a
name that is never used again: a writer that has lost its lock changes nothing that the row of the upload names.
"""

from __future__ import annotations

import errno
import functools
import gzip
import hashlib
import io
import json
import logging
import sys
import tempfile
import threading
from contextlib import closing, contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.loaders import JSONFileLoader
from django.conf import settings
from django.core.exceptions import SuspiciousFileOperation
from django.core.files import File
from storages.backends.s3 import S3Storage
from urllib3.exceptions import HTTPError

from registry import tracing

from .contract import Chunks, Full, Missing, Saved, TooLarge, Unanswered
from .silence import Silence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

logger = logging.getLogger(__name__)

MEBIBYTE = 1024 * 1024
BLOCK = 64 * 1024  # each of a hundred transfers holds a few of them
IN_MEMORY = 128 * 1024  # bytes of an upload that wait for a full part; more of them wait in a file
PART = 8 * MEBIBYTE  # S3 takes no smaller parts than 5 MiB, except for the last one
STEADY_PARTS, GROWING_PARTS, LARGEST_PART = 4_000, 2_000, 64 * MEBIBYTE
PARTS = 10_000  # S3 takes no more
MAX_BLOB_SIZE = (STEADY_PARTS + GROWING_PARTS * (2 + 4 + 8)) * PART  # 250 GiB
ADDRESS_SECONDS = 300
OPTIONS = {
    "connect_timeout": 5,
    "read_timeout": 30,  # an S3 may take long to complete a multipart upload
    "retries": {"mode": "standard", "total_max_attempts": 3},  # also after SlowDown, 500, and 200 with an error
    "signature_version": "s3v4",
    "max_pool_connections": 256,
    # S3 compares the SHA-256 of each body, which the signature has. Other checksums are not known to all kinds of S3.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
# One of them is in each answer of S3. The answer to HEAD has no body that tells a missing object from a wrong route.
_REQUEST_IDS = {"x-amz-request-id", "x-amz-id-2", "x-guploader-uploadid"}
HEAD_OPTIONS = {
    "connect_timeout": 2,
    "read_timeout": 5,
    "retries": {"mode": "standard", "total_max_attempts": 2},
}


def part_size(number: int) -> int:
    """Return the size in bytes of a full part. Parts grow, so that PARTS of them have MAX_BLOB_SIZE bytes."""
    doublings = 0 if number <= STEADY_PARTS else (number - STEADY_PARTS - 1) // GROWING_PARTS + 1
    return min(LARGEST_PART, PART << doublings)


class S3BlobStorage(S3Storage):  # type: ignore[misc]  # it has no types
    """Objects below one prefix of a bucket. Raises Unanswered for every answer that is not a success."""

    locks = False
    public_endpoint: str
    presign_from: int | None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        style = "path" if self.endpoint_url else "auto"  # other hosts rarely have a name for each bucket
        self.client_config = Config(s3={"addressing_style": style}, **OPTIONS)
        self._silence = Silence()
        self._creating = threading.Lock()  # a session of boto3 is for one thread at a time

    def get_default_settings(self) -> dict[str, Any]:
        """``presign_from``: blobs of at least so many bytes have an address; None: none has."""
        return {**super().get_default_settings(), "public_endpoint": "", "presign_from": None}

    @functools.cached_property
    def connection(self) -> Any:
        """One for all threads, which boto3's clients allow: each costs megabytes and a tenth of a second."""
        return self._resource(self.endpoint_url)

    @property
    def client(self) -> Any:
        """The client of boto3."""
        return self.connection.meta.client

    @functools.cached_property
    def _head_client(self) -> Any:
        """Asks for heads, for which S3 needs no time: it waits for a few seconds only."""
        return self._resource(self.endpoint_url, **HEAD_OPTIONS).meta.client

    @functools.cached_property
    def _public_client(self) -> Any:
        """Signs addresses for clients. It connects to nothing."""
        return self._resource(self.public_endpoint or self.endpoint_url).meta.client

    @functools.cached_property
    def _session(self) -> Any:
        """One for all clients, so that they share the model of S3."""
        session = self._create_session()
        session._session.get_component("data_loader").file_loader = _Models()
        return session

    def _resource(self, endpoint: str | None, **options: Any) -> Any:
        config = self.client_config.merge(Config(**options))
        with self._creating:
            found = self._session.resource(
                "s3", region_name=self.region_name, endpoint_url=endpoint or None, config=config
            )
        self._silence.watch(found.meta.client)
        if settings.TRACING:
            tracing.watch_s3(found.meta.client)
        return found

    # ── Uploads ──────────────────────────────────────────────────────────────────────────────────────────────────────
    @contextmanager
    def writing(self, upload: UUID, key: str) -> Iterator[_ObjectWriter]:
        """See contract.BlobStorage.writing."""
        with closing(_ObjectWriter(self, upload, key)) as writer:
            yield writer
            writer.forget_former_state()

    def discard(self, upload: UUID, *, keep: str = "") -> None:
        """See contract.BlobStorage.discard."""
        self._abort_all(_published(upload))
        for prefix in (_published(upload), _staged(upload)):
            for key, _ in self._list(prefix):
                if key != keep:
                    self._delete(key)

    def unfinished(self, *, older_than: datetime) -> Iterator[UUID]:
        """See contract.BlobStorage.unfinished."""
        for key, _, began in self._multiparts("blobs/"):
            with suppress(ValueError, IndexError):
                if began < older_than:
                    yield UUID(key.split("/")[2])
        for key, written in self._list("staging/"):
            with suppress(ValueError, IndexError):
                if written < older_than:
                    yield UUID(key.split("/")[1])

    # ── Blobs ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def open(self, name: str, mode: str = "rb") -> File[bytes]:
        """See contract.BlobStorage.open. The first read sends the request."""
        return File(cast("IO[bytes]", _Object(self, name)), name)

    def address(self, key: str, size: int) -> str:
        """See contract.BlobStorage.address."""
        if self.presign_from is None or size < self.presign_from:
            return ""
        parameters = {
            **self.named(key),
            "ResponseContentType": "application/octet-stream",
            "ResponseContentDisposition": "attachment",
        }
        with answers():
            url: str = self._public_client.generate_presigned_url(
                "get_object", Params=parameters, ExpiresIn=ADDRESS_SECONDS
            )
        return url

    def place(self, key: str, path: Path, *, copied: bool = False) -> None:
        """See contract.BlobStorage.place."""
        with self.open(key) as source:
            block = source.read(BLOCK)  # a missing blob leaves no file
            with path.open("xb") as target:
                while block:
                    target.write(block)
                    block = source.read(BLOCK)

    def holds(self, key: str, size: int) -> bool:
        """See contract.BlobStorage.holds."""
        return self.head(key, size).get("ContentLength") == size

    def exists(self, name: str) -> bool:
        """See contract.BlobStorage.exists."""
        return bool(self.head(name))

    def delete(self, name: str) -> None:
        """See contract.BlobStorage.delete."""
        with suppress(ValueError):
            upload = UUID(name.rpartition("/")[2])
            if name == _published(upload):
                self.discard(upload)
                return
        self._delete(name)

    def keys(self, *, older_than: datetime) -> Iterator[str]:
        """See contract.BlobStorage.keys."""
        return (key for key, written in self._list("blobs/") if written < older_than)

    def adopt(self, key: str, chunks: Chunks) -> None:
        """See contract.BlobStorage.adopt."""
        with closing(_ObjectWriter(self, uuid4(), key, is_exact=True)) as writer:
            try:
                writer.append(Saved(), chunks, sys.maxsize, len)
                writer.seal()
            except BaseException:
                writer.abort()
                raise

    def check(self) -> None:
        """See contract.BlobStorage.check."""
        with answers():
            self._head_client.head_bucket(Bucket=self.bucket_name)

    def check_room(self, size: int = 0) -> None:
        """See contract.BlobStorage.check_room. S3 has no end that could be seen."""

    def create_bucket(self) -> bool:
        """Create the bucket. Return False if it exists. Raises Unanswered."""
        with suppress(FileNotFoundError):
            self.check()
            return False
        region = self.client.meta.region_name
        placed = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        with answers():
            self.client.create_bucket(Bucket=self.bucket_name, **placed)
        return True

    # ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def named(self, key: str) -> dict[str, str]:
        """Bucket and key, as parameters. Raises SuspiciousFileOperation for a key outside of the prefix."""
        if key.startswith("/") or ".." in key.split("/"):
            raise SuspiciousFileOperation(f"the key {key!r} leads out of the storage")
        return {"Bucket": self.bucket_name, "Key": f"{self._root}{key}"}

    def head(self, key: str, size: int | None = None) -> dict[str, Any]:
        """Return what S3 knows about an object, nothing if it does not exist. ``size``: the bytes it should have."""
        with suppress(FileNotFoundError), answers():
            answer = dict(self._head_client.head_object(**self.named(key)))
            is_other = size not in {None, _told(answer, "ContentLength")}
            if is_other and list(answer["ResponseMetadata"]["HTTPHeaders"])[-1:] == ["content-length"]:
                raise Unanswered("the answer of S3 may have broken off within its Content-Length")
            return answer
        return {}

    @property
    def _root(self) -> str:
        return f"{self.location.strip('/')}/" if self.location else ""

    def _delete(self, key: str) -> None:
        with suppress(FileNotFoundError), answers():
            self.client.delete_object(**self.named(key))

    def _list(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Yield the keys with a prefix, and when they were written."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket_name, Prefix=self._root + prefix
        )
        with answers():
            for page in pages:
                for found in page.get("Contents", ()):
                    yield found["Key"].removeprefix(self._root), found["LastModified"]

    def _multiparts(self, prefix: str) -> Iterator[tuple[str, str, datetime]]:
        """Yield key, id and begin of the multipart uploads of keys with a prefix."""
        asked = self.client.get_paginator("list_multipart_uploads")
        with answers():
            for page in asked.paginate(Bucket=self.bucket_name, Prefix=self._root + prefix):
                for found in page.get("Uploads", ()):
                    yield found["Key"].removeprefix(self._root), found["UploadId"], found["Initiated"]

    def _abort_all(self, prefix: str) -> None:
        for key, multipart, _ in list(self._multiparts(prefix)):
            self.abort(key, multipart)

    def abort(self, key: str, multipart: str) -> None:
        """End a multipart upload and delete its parts."""
        with suppress(FileNotFoundError), answers():
            self.client.abort_multipart_upload(**self.named(key), UploadId=multipart)


def _published(upload: UUID) -> str:
    return f"blobs/{upload.hex[:2]}/{upload}"


def _staged(upload: UUID) -> str:
    return f"staging/{upload}"


class _Tail:
    """Bytes that S3 does not have yet: a few in memory, more in a file without a name.

    A hundred uploads at once would take a gigabyte of memory. Raises Full when the disk of KCR_DATA_DIR is full.
    """

    def __init__(self) -> None:
        self.file: Any = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(settings.DATA_DIR))  # noqa: SIM115  see close
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        try:
            self.file.write(data)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise Full(str(error)) from error
            raise
        self.size += len(data)

    def whole(self) -> _Blocks:
        """The file, from its begin."""
        self.file.seek(0)
        return _Blocks(self.file)

    def blocks(self) -> Iterator[bytes]:
        """All bytes, in blocks."""
        return iter(self.whole().read, b"")

    def take(self, reader: Any) -> None:
        """Append all that a reader has."""
        while block := reader.read(BLOCK):
            self.write(block)

    def clear(self) -> None:
        """Forget the bytes."""
        self.file.seek(0)
        self.file.truncate()
        self.size = 0


class _Blocks:
    """A file that is read in blocks: boto3 would read 1 MiB at a time to hash it."""

    def __init__(self, file: Any) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int = BLOCK) -> bytes:
        """Up to ``size`` bytes, at most BLOCK; none at the end."""
        block: bytes = self._file.read(min(size, BLOCK))
        return block


class _Models(JSONFileLoader):  # type: ignore[misc]  # it has no types
    """Reads the JSON files of botocore, without the documentation in them: five mebibytes of a process."""

    def load_file(self, file_path: str) -> Any:
        """Return the content of a file, named without its ending; None if there is no file."""
        for ending, opened in ((".json", open), (".json.gz", gzip.open)):
            with suppress(FileNotFoundError), opened(file_path + ending, "rb") as file:
                return json.load(file, object_pairs_hook=_without_documentation)
        return None


def _without_documentation(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: "" if name == "documentation" and isinstance(value, str) else value for name, value in pairs}


class _ObjectWriter:
    """See contract.Writer.

    ``_parts`` has ETag and size of the parts that S3 has, ``_tail`` the bytes after the last one: fewer than fill the
    next part. An upload without a full part has no multipart upload yet, and becomes an object in one request.
    """

    def __init__(self, storage: S3BlobStorage, upload: UUID, key: str, *, is_exact: bool = False) -> None:
        """``key``: that of the object, if ``is_exact``, else the beginning of it."""
        self._storage, self._upload, self._root, self._is_exact = storage, upload, key, is_exact
        self._key = self._multipart = ""
        self._parts: list[tuple[str, int]] = []
        self._tail = _Tail()
        self._from, self._saved = Saved(), Saved()
        self._is_sealed = self._is_own = False

    @property
    def _size(self) -> int:
        return sum(size for _, size in self._parts) + self._tail.size

    def close(self) -> None:
        """Close the file of the tail."""
        self._tail.file.close()

    # ── The state between two requests ───────────────────────────────────────────────────────────────────────────────
    def _load(self, saved: Saved) -> None:
        self._from = self._saved = saved
        if saved.name:
            try:
                with answers():
                    answer = self._storage.client.get_object(**self._state(saved))
                    _told(answer, "ContentLength")
                    found = b""
                    while b"\n" not in found and (block := answer["Body"].read(BLOCK)):
                        found += block
                    line, _, tail = found.partition(b"\n")
                    self._tail.write(tail)
                    self._tail.take(answer["Body"])
            except FileNotFoundError as error:
                raise Missing(f"the upload {self._upload} has no bytes") from error
            state = json.loads(line)
            self._key, self._multipart = state["key"], state["multipart"]
            self._parts = [(etag, size) for etag, size in state["parts"]]
        if self._size != saved.size:
            raise Missing(f"the upload {self._upload} does not have {saved.size} bytes")

    def _state(self, saved: Saved) -> dict[str, str]:
        return self._storage.named(f"{_staged(self._upload)}/{saved.name}")

    def save(self) -> Saved:
        """See contract.Writer.save. The state is one object: a line of JSON, and the bytes after the last part."""
        if self._size != self._from.size:
            saved = Saved(self._size, uuid4().hex)
            line = json.dumps({"key": self._key, "multipart": self._multipart, "parts": self._parts})
            body = _Tail()
            with closing(body.file), answers():
                body.write(f"{line}\n".encode())
                body.take(self._tail.whole())
                self._storage.client.put_object(**self._state(saved), Body=body.whole())
            self._saved = saved
        return self._saved

    def forget_former_state(self) -> None:
        """Delete the state before ``append``: the row does not name it any more. What fails here, ``discard`` does."""
        former = self._from
        if former.name and (self._is_sealed or self._saved != former):
            try:
                with answers():
                    self._storage.client.delete_object(**self._state(former))
            except OSError as error:
                logger.warning("a former state of the upload %s stays for now: %s", self._upload, error)

    # ── Bytes ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def append(self, saved: Saved, chunks: Chunks, limit: int, seen: Callable[[bytes], object]) -> int:
        """See contract.Writer.append."""
        self._load(saved)
        size, was_there = saved.size, bool(self._multipart)
        try:
            for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise TooLarge
                seen(chunk)
                left = memoryview(chunk)
                while left:
                    full = part_size(len(self._parts) + 1)
                    more, left = left[: full - self._tail.size], left[full - self._tail.size :]
                    self._tail.write(more)
                    if self._tail.size == full:
                        self._send_part()
        except BaseException:
            if not was_there:
                self.abort()
            raise
        return size

    def abort(self) -> None:
        """End the multipart upload, if there is one. What fails here, ``discard`` does."""
        if self._multipart:
            with suppress(OSError):
                self._storage.abort(self._key, self._multipart)

    def _send_part(self) -> None:
        """Send the tail. A part that is sent again replaces the part with its number."""
        if not self._multipart:
            self._begin()
        number = len(self._parts) + 1
        if number > PARTS:
            raise TooLarge
        parameters = {**self._storage.named(self._key), "UploadId": self._multipart, "PartNumber": number}
        with _ended_as_missing(), answers():
            answer = self._storage.client.upload_part(**parameters, Body=self._tail.whole())
        self._parts.append((_told(answer, "ETag"), self._tail.size))
        self._tail.clear()

    def _begin(self) -> None:
        self._key = self._new_key()
        with answers():
            answer = self._storage.client.create_multipart_upload(
                **self._storage.named(self._key), ContentType="application/octet-stream"
            )
        self._multipart = _told(answer, "UploadId")

    def _new_key(self) -> str:
        return self._root if self._is_exact else f"{self._root}/{uuid4().hex}"

    # ── The whole object ─────────────────────────────────────────────────────────────────────────────────────────────
    def seal(self) -> bool:
        """See contract.Writer.seal."""
        if not self._is_sealed:
            self._is_own = self._complete() if self._multipart else self._put()
            self._is_sealed = True
        return self._is_own

    def _put(self) -> bool:
        self._key = self._new_key()
        with answers():
            self._storage.client.put_object(
                **self._storage.named(self._key), Body=self._tail.whole(), ContentType="application/octet-stream"
            )
        return True

    def _complete(self) -> bool:
        """Make the object of the parts; True if its ETag is that of these parts.

        The object may be there already: an answer was lost, or the request before this one failed after it. A parallel
        writer may also have made it, of other parts: then the ETag differs.
        """
        try:
            if self._tail.size:
                self._send_part()
            parts = [{"PartNumber": number, "ETag": etag} for number, (etag, _) in enumerate(self._parts, 1)]
            with _ended_as_missing(), answers():
                self._storage.client.complete_multipart_upload(
                    **self._storage.named(self._key), UploadId=self._multipart, MultipartUpload={"Parts": parts}
                )
        except (Missing, OSError) as error:
            logger.warning("the upload %s could not be completed (%s): is its object there?", self._upload, error)
            found = self._storage.head(self._key, self._size)
            if found.get("ContentLength") != self._size:
                raise
        else:
            found = self._storage.head(self._key, self._size)
        if found.get("ContentLength") != self._size:
            raise Missing(f"the upload {self._upload} does not have {self._size} bytes")
        return bool(found.get("ETag") == self._expected_etag())

    def _expected_etag(self) -> str:
        """The MD5 of the parts' MD5s. Where ETags are something else, it differs, and the object is read."""
        own = [_md5(self._tail.blocks())] if self._tail.size else []
        with suppress(ValueError):
            known = [bytes.fromhex(etag.strip('"')) for etag, _ in self._parts]
            every = known + own
            return f'"{_md5(every).hex()}-{len(every)}"'
        return ""

    def read(self) -> Iterator[bytes]:
        """See contract.Writer.read."""
        self.seal()
        left = self._size
        try:
            with self._storage.open(self._key) as file:
                while block := file.read(BLOCK):
                    left -= len(block)
                    yield block
        except FileNotFoundError as error:
            raise Missing(f"the upload {self._upload} has no bytes") from error
        if left:
            raise Missing(f"the upload {self._upload} does not have {self._size} bytes")

    def publish(self) -> str:
        """See contract.Writer.publish. The object has its key already: no row names it before it is verified."""
        self.seal()
        return self._key


class _Object(io.RawIOBase):
    """An object that is read as a stream, from any position: ``seek`` makes the next read send another request."""

    def __init__(self, storage: S3BlobStorage, key: str) -> None:
        super().__init__()
        self._storage, self._parameters, self._position = storage, storage.named(key), 0
        self._body: Any = None

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset from the begin, or from the position."""
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the size of an object is in its row")
        position = offset + (self._position if whence == io.SEEK_CUR else 0)
        if position != self._position:
            self._end_request()
            self._position = position
        return position

    def read(self, size: int = -1) -> bytes:
        """``size`` bytes, except at the end; all for -1. The bytes are the ones that boto3 has read, not a copy."""
        if size < 0:
            return self.readall()
        with answers():
            if self._body is None and size:
                answer = self._storage.client.get_object(
                    **self._parameters, **({"Range": f"bytes={self._position}-"} if self._position else {})
                )
                for name in ("ContentLength", "ContentRange") if self._position else ("ContentLength",):
                    _told(answer, name)
                self._body = answer["Body"]
            found: bytes = self._body.read(size) if size else b""
        self._position += len(found)
        return found

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, except at the end."""
        view = memoryview(buffer).cast("B")
        found = self.read(len(view))
        view[: len(found)] = found
        return len(found)

    def close(self) -> None:
        """End the request."""
        self._end_request()
        super().close()

    def _end_request(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()


def _md5(blocks: Iterable[bytes]) -> bytes:
    found = hashlib.md5(usedforsecurity=False)
    for block in blocks:
        found.update(block)
    return found.digest()


@contextmanager
def answers() -> Iterator[None]:
    """Translate what boto3 raises: FileNotFoundError, Full, else Unanswered."""
    try:
        yield
    except ClientError as error:
        raise _refusal(error) from error
    except (BotoCoreError, HTTPClientError, HTTPError) as error:
        raise Unanswered(f"S3 does not answer: {error}") from error


def _told(answer: dict[str, Any], name: str) -> Any:
    """Return a field that S3 always sends. Raises Unanswered without it.

    Python takes a head that ends with its connection for a whole one, with the headers that have arrived.
    """
    if name not in answer:
        raise Unanswered(f"the answer of S3 broke off: it has no {name}")
    return answer[name]


def _refusal(error: ClientError) -> OSError | Full:
    code, status = error.response["Error"].get("Code", ""), error.response["ResponseMetadata"].get("HTTPStatusCode")
    words = f"S3 refuses {error.operation_name}: {code}"
    if code == "404" and not _REQUEST_IDS & error.response["ResponseMetadata"].get("HTTPHeaders", {}).keys():
        return Unanswered(f"{words}, and the answer has no mark of S3")  # of a proxy, or the head broke off
    if code in {"NoSuchKey", "NoSuchUpload", "InvalidPart", "404"}:
        return FileNotFoundError(errno.ENOENT, words)
    if status == 507:
        return Full(words)
    return Unanswered(words)


@contextmanager
def _ended_as_missing() -> Iterator[None]:
    """Raise Missing for a multipart upload that was completed or aborted, or has lost a part to another writer."""
    try:
        yield
    except FileNotFoundError as error:
        raise Missing(str(error)) from error
