"""Objects that are written once: a directory, or a bucket of any server that speaks S3.

An object is never changed. Writing the same bytes again is nothing, writing others is refused.
Credentials of S3 are where its SDK looks for them (environment, its own files), never here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from runtime.attest.errors import Forked, NotThere, Unavailable
from runtime.attest.ledger.tiles import write_durably

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
TIMEOUT_S = 10
TRIES = 2


class Objects(Protocol):
    """url: of the store, without a slash at its end."""

    url: str

    def put(self, name: str, data: bytes) -> str:
        """Write it, durably; where it lies. Raises Forked for other bytes than are there, and
        Unavailable where the store does not take it now."""
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
        path = self.folder / _checked(name)
        try:
            if path.exists():
                if path.read_bytes() != data:
                    raise Forked(f"{path} is there already, and is something else.")
            else:
                write_durably(path, data)
        except OSError as error:
            raise Unavailable(f"{path} cannot be written: {error.strerror}.") from error
        return f"{self.url}/{name}"

    def get(self, name: str) -> bytes:
        path = self.folder / _checked(name)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise NotThere(f"{path} is not there.") from None
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror}.") from error


class Bucket:
    """A bucket, through boto3. Objects are put with `If-None-Match: *`, so that a second writer
    changes nothing even where two keep manifests in one bucket."""

    def __init__(self, where: str) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise Unavailable("S3 needs boto3: pip install 'qmkd[s3]'.") from error
        parts = urlsplit(where)
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if unknown := options.keys() - {"endpoint", "region"}:
            raise Unavailable(f"{where}: {', '.join(sorted(unknown))} is not known of an S3 store.")
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        self.url = f"s3://{self._bucket}" + (f"/{self._prefix}" if self._prefix else "")
        config = Config(
            connect_timeout=TIMEOUT_S,
            read_timeout=TIMEOUT_S,
            retries={"total_max_attempts": TRIES},
            s3={"addressing_style": "path"},
        )
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=options.get("endpoint"),
            region_name=options.get("region", "us-east-1"),
            config=config,
        )

    def put(self, name: str, data: bytes) -> str:
        from botocore.exceptions import BotoCoreError, ClientError

        key = self._key(name)
        try:
            self._client.put_object(Bucket=self._bucket, Key=key, Body=data, IfNoneMatch="*")
        except ClientError as error:
            if _status(error) not in (409, 412):
                raise Unavailable(f"{self.url}/{name} cannot be written: {error}.") from error
            if self.get(name) != data:
                raise Forked(f"{self.url}/{name} is there, and is something else.") from error
        except BotoCoreError as error:
            raise Unavailable(f"{self.url}/{name} cannot be written: {error}.") from error
        return f"{self.url}/{name}"

    def get(self, name: str) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            found = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
            data: bytes = found["Body"].read()
        except ClientError as error:
            if _status(error) == 404:
                raise NotThere(f"{self.url}/{name} is not there.") from error
            raise Unavailable(f"{self.url}/{name} cannot be read: {error}.") from error
        except BotoCoreError as error:
            raise Unavailable(f"{self.url}/{name} cannot be read: {error}.") from error
        return data

    def _key(self, name: str) -> str:
        return os.path.join(self._prefix, _checked(name))


def _checked(name: str) -> str:
    assert NAME.fullmatch(name), f"{name!r} names an object, and nothing above the store"
    return name


def _status(error: Any) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
