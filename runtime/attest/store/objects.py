"""Objects that are written once: a directory, or a bucket of any server that speaks S3.

An object is never changed. Writing the same bytes again is nothing, writing others is refused.
Credentials of S3 are in the environment (`signature.py`), never in a URL or on a command line.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Protocol
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

from runtime.attest.errors import Forked, NotThere, Unavailable
from runtime.attest.ledger.tiles import write_all
from runtime.attest.store import signature

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
TIMEOUT_S = 10
REGION = "us-east-1"
SAID_BYTES_MAX = 4096


class Objects(Protocol):
    """url: of the store, without a slash at its end."""

    url: str

    def put(self, name: str, data: bytes) -> str:
        """Write it, durably; where it lies. Raises Forked for other bytes than are there, and
        Unavailable where the store does not take it now."""
        ...

    def put_all(self, objects: dict[str, bytes]) -> list[str]:
        """The same of several; where each lies, in their order."""
        ...

    def get(self, name: str) -> bytes:
        """Raises NotThere, Unavailable."""
        ...


def open_objects(where: str) -> Objects:
    """A directory, or `s3://bucket/prefix?endpoint=URL&region=NAME`. Raises Unavailable."""
    if where.startswith("s3://"):
        return Bucket(where)
    return Directory(Path(where))


class Directory:
    """Files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.url = f"file://{self.folder}"

    def put(self, name: str, data: bytes) -> str:
        return self.put_all({name: data})[0]

    def put_all(self, objects: dict[str, bytes]) -> list[str]:
        paths = {self.folder / _checked(name): data for name, data in objects.items()}
        fresh: dict[Path, dict[str, bytes]] = {}
        try:
            for path, data in paths.items():
                if not path.exists():
                    fresh.setdefault(path.parent, {})[path.name] = data
                elif path.read_bytes() != data:
                    raise Forked(f"{path} is there already, and is something else.")
            for folder, files in fresh.items():
                write_all(folder, files)
        except OSError as error:
            raise Unavailable(f"{self.folder} cannot be written: {error.strerror}.") from error
        return [f"{self.url}/{name}" for name in objects]

    def get(self, name: str) -> bytes:
        path = self.folder / _checked(name)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise NotThere(f"{path} is not there.") from None
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror}.") from error


class Bucket:
    """A bucket. Objects are put with `If-None-Match: *`, so that a second writer changes nothing
    even where two keep manifests in one bucket."""

    def __init__(self, where: str) -> None:
        parts = urlsplit(where)
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if unknown := options.keys() - {"endpoint", "region"}:
            raise Unavailable(f"{where}: {', '.join(sorted(unknown))} is not known of an S3 store.")
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        self._region = options.get("region", REGION)
        self._endpoint = options.get("endpoint", f"https://s3.{self._region}.amazonaws.com")
        self.url = f"s3://{self._bucket}" + (f"/{self._prefix}" if self._prefix else "")

    def put(self, name: str, data: bytes) -> str:
        status, said = self._call("PUT", name, data, {"if-none-match": "*"})
        if status in (HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED):
            if self.get(name) != data:
                raise Forked(f"{self.url}/{name} is there already, and is something else.")
        elif status != HTTPStatus.OK:
            raise Unavailable(f"{self.url}/{name} cannot be written: {_said(status, said)}.")
        return f"{self.url}/{name}"

    def put_all(self, objects: dict[str, bytes]) -> list[str]:
        return [self.put(name, data) for name, data in objects.items()]

    def get(self, name: str) -> bytes:
        status, data = self._call("GET", name, b"", {})
        if status == HTTPStatus.NOT_FOUND:
            raise NotThere(f"{self.url}/{name} is not there.")
        if status != HTTPStatus.OK:
            raise Unavailable(f"{self.url}/{name} cannot be read: {_said(status, data)}.")
        return data

    def _call(
        self, method: str, name: str, data: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        """Path-style, which all servers know. The digest of a body is signed with the request."""
        path = "/".join(filter(None, ("", self._bucket, self._prefix, _checked(name))))
        url = self._endpoint.rstrip("/") + "/" + path.lstrip("/")
        signed = signature.headers(
            method,
            url,
            headers | {"x-amz-content-sha256": sha256(data).hexdigest()},
            signature.credentials(),
            self._region,
            "s3",
            datetime.now(UTC),
        )
        request = Request(url, data=data if method == "PUT" else None, method=method)
        for header, value in signed.items():
            request.add_header(header, value)
        request.add_header("content-type", "application/json")
        try:
            with urlopen(request, timeout=TIMEOUT_S) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            with error:
                return error.code, error.read(SAID_BYTES_MAX)
        except (OSError, HTTPException) as error:
            raise Unavailable(f"{self.url} does not answer: {error}.") from error


def _checked(name: str) -> str:
    assert NAME.fullmatch(name), f"{name!r} names an object, and nothing above the store"
    return name


def _said(status: int, body: bytes) -> str:
    """The code in an S3 error, which is XML; else the status."""
    found = re.search(rb"<Code>([A-Za-z]+)</Code>", body)
    return f"{status} {found[1].decode()}" if found else str(status)
