"""What servers say in words, where their codes do not tell enough."""

import re
from datetime import timedelta
from typing import Final

SHORTEST_WAIT: Final = timedelta(seconds=1)
LONGEST_WAIT: Final = timedelta(hours=24)
"""A server that names a longer time is not believed: the message waits this long."""

# An address in a reply is quoted from us: "<spam@example.org>: no such user" says nothing about spam.
_ADDRESS = re.compile(r"<[^>]*>|\S+@\S+")


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


SENDING_LIMIT: Final = _any_of(
    r"\b(?:daily|hourly|monthly)\b.{0,40}\b(?:limit|quota)",
    r"\b(?:sending|submission|outbound|relay(?:ing)?)[ -]?(?:rate )?(?:limit|quota)",
    r"\b(?:message|mail|e-?mail)[ -]?(?:rate |sending )?limit\b",
    r"\b(?:limit|quota)\b.{0,30}\bper[ -](?:second|minute|hour|day)\b",
    r"\bthrottl(?:ed|ing)\b",
    r"\brate[- ]limit",
    r"\b(?:sending|send|sent|messages|mails?|e-?mails?)\b.{0,20}\btoo (?:fast|quickly|often|frequently)\b",
    r"\btoo many (?:messages|mails|e-?mails)\b",
    r"\bslow down\b",
)
"""The account has sent as much as it may, for now."""

TOO_MANY_LOGINS: Final = _any_of(
    r"\btoo many\b.{0,30}\b(?:log-?ins?|auth\w*|sessions?|attempts|connections)\b",
    r"\b(?:log-?in|auth\w*)\b.{0,20}\b(?:rate|limit|throttl)",
)
"""The account logs in too often: more attempts make it worse."""

TOO_MANY_RECIPIENTS: Final = _any_of(r"\btoo many (?:\w+ )?(?:recipients|rcpts?)\b", r"\brecipients? (?:limit|count)\b")
"""This transaction has as many recipients as the server takes."""

GREYLISTED: Final = _any_of(r"\bgr[ea]y-?\s?list")
"""The server wants to see whether we come back."""

MAILBOX_FULL: Final = _any_of(
    r"\b(?:mail)?box\b.{0,20}\bfull\b",
    r"\bover ?-?quota\b",
    r"\bquota\b.{0,20}\b(?:exceeded|exhausted|full)\b",
    r"\bexceed(?:s|ed)?\b.{0,30}\b(?:quota|storage)\b",
)
"""The recipient has to tidy up."""

NO_SUCH_USER: Final = _any_of(
    r"\b(?:user|mailbox|recipient|account|address)\s+(?:is\s+)?(?:unknown|not found|does(?:n't| not) exist)",
    r"\bno such (?:user|mailbox|recipient|address|person|account)\b",
    r"\b(?:unknown|invalid|nonexistent|non-existent) (?:user|mailbox|recipient|local part)\b",
    r"\bno mailbox (?:here )?by that name\b",
)
"""The address does not exist."""

BLOCKED: Final = _any_of(
    r"\bblock(?:ed|list|ing)?\b",
    r"\b(?:black|deny)-?\s?list",
    r"\bspam",
    r"\breputation\b",
    r"\bpolic(?:y|ies)\b",
    r"\bsuspend(?:ed)?\b",
    r"\bbann?ed\b",
    r"\b(?:access|relay(?:ing)?|permission)\b.{0,20}\bdenied\b",
    r"\b(?:not allowed|not permitted|prohibited|unsolicited)\b",
)
"""We are refused, not the recipient."""

ABOUT_SENDER: Final = _any_of(
    r"\bsender (?:address |domain )?(?:is )?(?:rejected|refused|denied|not allowed|unknown|verify failed)",
    r"\bnot (?:allowed|permitted|authori[sz]ed) to send (?:as|from)\b",
    r"\bsend ?as ?denied\b",
)
"""The From address is refused, at whatever command the server says so."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = r"(?P<number>\d{1,9})\s*(?P<unit>s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)\b"
_CUE = r"\b(?:try|retry|again|wait|back|resume|delay(?:ed)?|gr[ea]y-?listed|available|expires?|resets?|later)\b"
_NAMED_TIMES = (
    re.compile(rf"{_CUE}[^.;\d]{{0,40}}(?P<hours>\d{{1,2}}):(?P<minutes>\d\d):(?P<seconds>\d\d)\b", re.IGNORECASE),
    re.compile(rf"{_CUE}[^.;\d]{{0,40}}{_DURATION}", re.IGNORECASE),
    re.compile(rf"{_DURATION}[^.;\d]{{0,20}}\b(?:again|retry|retrying|later)\b", re.IGNORECASE),
    re.compile(r"\bretry-after\s*[:=]?\s*(?P<number>\d{1,9})(?P<unit>)\b", re.IGNORECASE),
)

_WINDOWS = (
    (_any_of(r"\b(?:per|a|each|this)[ -](?:second|minute)\b"), timedelta(minutes=1)),
    # Nobody says when the hour or the day of a quota began; asking once an hour costs one refused message.
    (_any_of(r"\bhour", r"\bda(?:y|ily)\b", r"\b24 ?h"), timedelta(hours=1)),
)
USUAL_REST: Final = timedelta(minutes=5)
"""How long an account rests when the server does not say which window is full."""


def without_addresses(text: str) -> str:
    """Return the server's own words: the text without the addresses it repeats."""
    return _ADDRESS.sub(" ", text)


def named_wait(text: str) -> timedelta | None:
    """Return how long the server asks to wait ("try again in 600 seconds"), within reason, if it does."""
    for pattern in _NAMED_TIMES:
        found = pattern.search(text)
        if found:
            return min(max(timedelta(seconds=_seconds(found)), SHORTEST_WAIT), LONGEST_WAIT)
    return None


def rest_of_window(text: str) -> timedelta:
    """Return how long to leave an account alone whose limit is reached, by the window that the text names."""
    return next((rest for window, rest in _WINDOWS if window.search(text)), USUAL_REST)


def _seconds(found: re.Match[str]) -> int:
    groups = found.groupdict()
    if "hours" in groups:
        return int(groups["hours"]) * 3600 + int(groups["minutes"]) * 60 + int(groups["seconds"])
    return int(groups["number"]) * _UNITS[(groups["unit"] or "s")[0].lower()]
