"""The conditions of the table: each looks at an incident and says whether its row is meant."""

import re
from collections.abc import Callable
from functools import lru_cache

from services.sender.replies.incident import Event, Incident
from services.sender.replies.words import without_addresses

Condition = Callable[[Incident], bool]


def event(*which: Event) -> Condition:
    """One of these happened, instead of a reply."""
    return lambda incident: incident.event in which


def code(*patterns: str) -> Condition:
    """The basic code is one of these: "550", or a class, "4xx"."""
    return lambda incident: incident.reply is not None and _matches_any(patterns, str(incident.reply.code))


def enhanced(*patterns: str) -> Condition:
    """The enhanced code, where its class agrees with the basic one, is one of these: "5.1.1", or "5.7.x"."""

    def holds(incident: Incident) -> bool:
        found = incident.reply.enhanced if incident.reply else None
        return found is not None and _matches_any(patterns, str(found))

    return holds


def says(words: re.Pattern[str]) -> Condition:
    """The reply contains such words, not counting the addresses it repeats."""
    return lambda incident: bool(incident.reply and words.search(without_addresses(incident.reply.text)))


def is_silent(incident: Incident) -> bool:
    """Say whether there is no reply at all."""
    return incident.reply is None


def is_bare(incident: Incident) -> bool:
    """Say whether there is no enhanced code that could win over the basic one."""
    return incident.reply is not None and incident.reply.enhanced is None


def any_of(*conditions: Condition) -> Condition:
    """At least one holds."""
    return lambda incident: any(holds(incident) for holds in conditions)


def all_of(*conditions: Condition) -> Condition:
    """All hold."""
    return lambda incident: all(holds(incident) for holds in conditions)


def not_(condition: Condition) -> Condition:
    """It does not hold."""
    return lambda incident: not condition(incident)


def always(_: Incident) -> bool:
    """Say yes: the last row of a stage."""
    return True


def matches(pattern: str, code_text: str) -> bool:
    """Say whether "5xx", "550" or "5.7.x" names this code; an x stands for any digits."""
    return bool(_compiled(pattern.lower()).fullmatch(code_text))


def _matches_any(patterns: tuple[str, ...], code_text: str) -> bool:
    return any(matches(pattern, code_text) for pattern in patterns)


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    digits = r"\d+" if "." in pattern else r"\d"
    return re.compile(re.escape(pattern).replace("x", digits))
