"""A signer whose public keys are asked for once, so that a manifest is one request to it."""

from __future__ import annotations

from runtime.signer.api import Certificate, CertificateRequest, PublicKey, Sign, Signature


class Remembering:
    """A `Sign` around another. A version's key never changes; which version is active is forgotten
    as soon as another one has signed. What has become of keys since is not for it to say."""

    def __init__(self, signer: Sign) -> None:
        self._signer = signer
        self._several = getattr(signer, "sign_all", None)
        self._known: dict[tuple[str, int | None], PublicKey] = {}

    def sign(self, key: str, message: bytes) -> Signature:
        return self._noted(self._signer.sign(key, message))

    def sign_all(self, requests: list[tuple[str, bytes]]) -> list[Signature]:
        if self._several is None:
            return [self.sign(key, message) for key, message in requests]
        made: list[Signature] = self._several(requests)
        return [self._noted(each) for each in made]

    def public(self, key: str, version: int | None = None) -> PublicKey:
        found = self._known.get((key, version))
        if found is None:
            found = self._known[key, version] = self._signer.public(key, version)
        return found

    def issue(self, request: CertificateRequest) -> Certificate:
        return self._signer.issue(request)

    def _noted(self, made: Signature) -> Signature:
        active = self._known.get((made.key, None))
        if active is not None and active.version != made.version:
            del self._known[made.key, None]
        return made
