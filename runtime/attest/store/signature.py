"""AWS Signature Version 4, with which requests to servers that speak S3 are signed.

HMAC-SHA256 over a canonical form of the request, as the "Authenticating Requests" pages of the S3
API reference say. Nothing here sends anything.
"""

from __future__ import annotations

import hmac
import os
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import msgspec

from runtime.attest.errors import Unavailable

ALGORITHM = "AWS4-HMAC-SHA256"


class Credentials(msgspec.Struct, frozen=True):
    """token: of a session, empty for none."""

    key_id: str
    secret: str
    token: str = ""


def credentials() -> Credentials:
    """AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (or the file AWS_SECRET_ACCESS_KEY_FILE, which keeps
    it out of the environment) and AWS_SESSION_TOKEN. Raises Unavailable."""
    key_id = os.environ.get("AWS_ACCESS_KEY_ID", "")
    secret = os.environ.get("AWS_SECRET_ACCESS_KEY", "")
    if file := os.environ.get("AWS_SECRET_ACCESS_KEY_FILE"):
        try:
            secret = Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise Unavailable(f"{file} cannot be read: {error.strerror}.") from error
    if not key_id or not secret:
        raise Unavailable("An S3 store needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    return Credentials(key_id, secret, os.environ.get("AWS_SESSION_TOKEN", ""))


def headers(
    method: str,
    url: str,
    given: dict[str, str],
    who: Credentials,
    region: str,
    service: str,
    at: datetime,
) -> dict[str, str]:
    """The headers to send: those given, in lower case, and what signs them.

    given: with `x-amz-content-sha256`, the digest of the body in hex. at: UTC.
    """
    parts, stamp = urlsplit(url), at.strftime("%Y%m%dT%H%M%SZ")
    sent = given | {"host": parts.netloc, "x-amz-date": stamp}
    if who.token:
        sent["x-amz-security-token"] = who.token
    names = ";".join(sorted(sent))
    query = "&".join(
        f"{quote(name, safe='')}={quote(value, safe='')}"
        for name, value in sorted(parse_qsl(parts.query, keep_blank_values=True))
    )
    canonical = "\n".join(
        (
            method,
            parts.path or "/",
            query,
            *(f"{name}:{sent[name].strip()}" for name in sorted(sent)),
            "",
            names,
            given["x-amz-content-sha256"],
        )
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    digest = sha256(canonical.encode()).hexdigest()
    key = f"AWS4{who.secret}".encode()
    for each in (*scope.split("/"), f"{ALGORITHM}\n{stamp}\n{scope}\n{digest}"):
        key = hmac.digest(key, each.encode(), "sha256")
    told = (
        f"{ALGORITHM} Credential={who.key_id}/{scope},SignedHeaders={names},Signature={key.hex()}"
    )
    return sent | {"authorization": told}
