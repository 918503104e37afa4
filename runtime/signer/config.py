"""The signer's configuration: a TOML file with the token, the policy, and when to rotate.

    rotate_days = 90

    [token]
    module = "/usr/lib/softhsm/libsofthsm2.so"
    label = "qmk"

    [[allow]]
    users = ["qmkd", 1000]
    keys = ["manifest-*"]
    may = ["sign"]

Without a table `token` everything is software. Without `allow`, root and the signer's own user may
do everything, and others only what is public.
"""

from __future__ import annotations

import os
import pwd
import tomllib
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec
from msgspec import Struct

from runtime.signer.errors import NotAllowed

ROTATE_DAYS = 90


class May(StrEnum):
    """What a rule lets its users do. manage: create, rotate, revoke, back up, restore, unlock."""

    SIGN = "sign"
    UNSEAL = "unseal"
    CERTIFY = "certify"
    MANAGE = "manage"
    AUDIT = "audit"


class ConfigError(ValueError):
    """The configuration cannot be read; the sentence says where."""


class TokenConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """module: the token's library. label: of the token. serial: where two have the same label.

    pin_file: holds the user's PIN; by default the credential `pin` that systemd hands over.
    environment: variables that the library wants to see before it is loaded.
    """

    module: str
    label: str = "qmk"
    serial: str | None = None
    pin_file: str | None = None
    environment: dict[str, str] = {}


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """users: names or uids. keys: names with * and ?. names: those that certificates may hold."""

    users: list[str | int]
    keys: list[str]
    may: list[May]
    names: list[str] = []


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """metrics_file: written every few seconds, for the textfile collector of node_exporter."""

    rotate_days: int = ROTATE_DAYS
    token: TokenConfig | None = None
    allow: list[Rule] | None = None
    metrics_file: str | None = None


def load(path: Path | None) -> Config:
    """The configuration, that of no file at all if None. Raises ConfigError."""
    if path is None:
        return Config()
    try:
        with open(path, "rb") as file:
            return msgspec.convert(tomllib.load(file), Config)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


class Policy:
    """Which user may do what with which key. Names of users are looked up once."""

    def __init__(self, rules: list[Rule] | None) -> None:
        """Raises ConfigError: a user of the rules is unknown here."""
        if rules is None:
            rules = [Rule([0, os.getuid()], ["*"], list(May), ["*"])]
        self._rules = [({_uid(each) for each in rule.users}, rule) for rule in rules]

    def check(self, user: int, what: May, key: str) -> None:
        """Raises NotAllowed."""
        if not any(what in rule.may for rule in self._of(user, key)):
            raise NotAllowed(
                f"The policy does not let uid {user} {what} with {key!r}; `allow` in the signer's "
                "configuration says who may."
            )

    def check_names(self, user: int, key: str, names: list[str]) -> None:
        """Whether a certificate may hold these names. Raises NotAllowed."""
        rules = [rule for rule in self._of(user, key) if May.CERTIFY in rule.may]
        for name in names:
            if not any(fnmatchcase(name, glob) for rule in rules for glob in rule.names):
                raise NotAllowed(
                    f"The policy does not let uid {user} have a certificate for {name!r}; `names` "
                    "of the rule says for which."
                )

    def _of(self, user: int, key: str) -> list[Rule]:
        return [
            rule
            for users, rule in self._rules
            if user in users and any(fnmatchcase(key, glob) for glob in rule.keys)
        ]


def _uid(user: str | int) -> int:
    if isinstance(user, int):
        return user
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise ConfigError(f"`allow` names the user {user!r}, who is unknown here.") from error
