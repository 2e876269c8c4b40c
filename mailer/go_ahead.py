"""The word by which a scheduler lets a sender that was started again go on with a run: metadata of GetRun.

Others read runs, too (the command line, the scheduler's own views); they know nothing of what was decided meanwhile.
"""

from collections.abc import Iterable

_KEY = "mailer-go-ahead"

GO_AHEAD = ((_KEY, "1"),)
"""Metadata of a GetRun whose caller knows that the sender has heard every decision about the run."""


def says_go_ahead(metadata: Iterable[tuple[str, str | bytes]] | None) -> bool:
    """Say whether the metadata of a call carries the word."""
    return any(key == _KEY for key, _ in metadata or ())
