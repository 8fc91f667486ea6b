"""Who acts: names that are the same person, and the account that the machine vouches for.

Without an identity provider a name is what somebody typed. What holds: two spellings of a name are one person; each row
of the audit also has the operating system's account and machine, which the command cannot choose; and the row is signed
with the key of the home folder it came from. Whoever wants more gives each person an account, and sets `distinct`.
"""

from __future__ import annotations

import os
import pwd
import socket
import unicodedata
from dataclasses import dataclass
from typing import Final

from fraud_scoring.errors import InvalidInput

LONGEST_NAME: Final = 100
LONGEST_REASON: Final = 1_000
_EXTRA: Final = frozenset(" .,'@_-+()")


@dataclass(frozen=True)
class Person:
    """`name` as it was given, tidied; `account` is user@machine, as the operating system says."""

    name: str
    account: str

    def is_same_as(self, other: Person) -> bool:
        return key_of(self.name) == key_of(other.name)


def key_of(name: str) -> str:
    """What two spellings of one name share: width and composition (NFKC), case, spaces, invisible characters."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    visible = "".join(" " if one.isspace() else one for one in folded if unicodedata.category(one) != "Cf")
    return " ".join(visible.split())


def tidy_name(name: str) -> str:
    """`name` without what cannot be seen; InvalidInput for one that is none, or that could pass for another's."""
    tidy = unicodedata.normalize("NFKC", name)
    tidy = " ".join("".join(one for one in tidy if unicodedata.category(one) != "Cf" or one.isspace()).split())
    if not tidy or len(tidy) > LONGEST_NAME:
        raise InvalidInput(f"a person's name has 1 to {LONGEST_NAME} characters; write who acts, as in --actor ann")
    strange = [one for one in tidy if not (one in _EXTRA or unicodedata.category(one)[0] in "LMN")]
    if strange:
        raise InvalidInput(f"a person's name holds {strange[0]!r}; write letters, digits, spaces and .,'@_-+()")
    scripts = {_script(one) for one in tidy if one.isalpha()}
    if len(scripts) > 1:
        found = " and ".join(sorted(script.capitalize() for script in scripts))
        raise InvalidInput(f"a person's name mixes {found} letters, so that it could look like another's; use one")
    if not scripts:
        raise InvalidInput(f"the name {tidy!r} has no letter; write who acts, as in --actor ann")
    return tidy


def _script(letter: str) -> str:
    """LATIN, CYRILLIC …; the scripts that Japanese and Korean names mix are one."""
    first = unicodedata.name(letter, "?").split()[0]
    return "CJK" if first in ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL") else first


def tidy_reason(reason: str) -> str:
    """A reason of one line; InvalidInput for none."""
    tidy = " ".join(reason.split())
    if not tidy or len(tidy) > LONGEST_REASON:
        raise InvalidInput(
            f"a reason has 1 to {LONGEST_REASON} characters; write why, as in --reason 'better on new cards'"
        )
    return tidy


def account() -> str:
    """The account that runs this process, as the system knows it, and its machine: `ann@host`."""
    return f"{user()}@{socket.gethostname()}"


def user() -> str:
    """The name of this process's account; no variable can change it."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid{number}"  # containers have accounts without a name


def person(name: str | None) -> Person:
    """Who is called `name`, or the account's user."""
    return Person(tidy_name(user() if name is None else name), account())
