"""Which provider does which algorithm here, and what to do where none does.

`cryptography` comes first, because its keys are seeds that other tokens and services take as well;
liboqs does what it cannot (SLH-DSA), or what a key was made with there. Nothing is replaced in
silence: a key is used by the provider that made it, or by none.
"""

from __future__ import annotations

from runtime.signer.algorithms import algorithm as row
from runtime.signer.errors import ProviderMissing, UnknownAlgorithm
from runtime.signer.providers.base import Provider
from runtime.signer.providers.oqs import HINT, load
from runtime.signer.providers.software import Software


class Chain:
    """The providers of this process, in the order in which they are asked."""

    def __init__(self) -> None:
        self._providers: dict[str, Provider] = {"cryptography": Software()}
        self.missing: dict[str, str] = {}
        try:
            liboqs = load()
        except ProviderMissing as error:
            self.missing["liboqs"] = str(error)
        else:
            self._providers[liboqs.name] = liboqs

    @property
    def providers(self) -> list[Provider]:
        return list(self._providers.values())

    def of(self, algorithm: str, provider: str | None = None) -> Provider:
        """The first that does it, or the named one.

        Raises UnknownAlgorithm, or ProviderMissing with what to install.
        """
        name = row(algorithm).name
        if provider is None:
            for each in self._providers.values():
                if name in each.algorithms:
                    return each
            raise ProviderMissing(f"Nothing here does {name}: {self.missing.get('liboqs', HINT)}")
        found = self._providers.get(provider)
        if found is None:
            why = self.missing.get(provider)
            if why is None:
                known = ", ".join(self._providers)
                raise UnknownAlgorithm(f"No provider is called {provider[:80]!r}; here: {known}.")
            raise ProviderMissing(why)
        if name not in found.algorithms:
            raise UnknownAlgorithm(f"{provider} does no {name} here.")
        return found
