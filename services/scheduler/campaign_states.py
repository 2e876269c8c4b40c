"""Where campaigns and runs stand, and what may happen to them: one table each, and nothing else decides."""

from enum import StrEnum


class CampaignState(StrEnum):
    """Where a campaign stands."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    HELD = "held"
    MISSED = "missed"
    FINISHED = "finished"
    CANCELLED = "cancelled"


class RunState(StrEnum):
    """Where a run stands."""

    DISPATCHING = "dispatching"
    SENDING = "sending"
    PAUSED = "paused"
    HELD = "held"
    MISSED = "missed"
    FINISHED = "finished"
    CANCELLED = "cancelled"


class Action(StrEnum):
    """What somebody, or the scheduler itself, wants to do with a campaign."""

    CHANGE = "changed"
    DELETE = "deleted"
    ADD_RECIPIENTS = "given recipients"
    SCHEDULE = "scheduled"
    FIRE = "started"
    PAUSE = "paused"
    RESUME = "resumed"
    CANCEL = "cancelled"
    RETRY = "retried"


_State = CampaignState

_ALLOWED: dict[Action, frozenset[CampaignState]] = {
    Action.CHANGE: frozenset({_State.DRAFT, _State.SCHEDULED}),
    Action.DELETE: frozenset({_State.DRAFT, _State.FINISHED, _State.CANCELLED}),
    Action.ADD_RECIPIENTS: frozenset({_State.DRAFT, _State.SCHEDULED}),
    Action.SCHEDULE: frozenset({_State.DRAFT, _State.SCHEDULED}),
    Action.FIRE: frozenset({_State.SCHEDULED}),
    Action.PAUSE: frozenset({_State.SCHEDULED, _State.RUNNING, _State.PAUSED}),
    Action.RESUME: frozenset({_State.PAUSED, _State.HELD, _State.MISSED}),
    Action.CANCEL: frozenset(_State) - {_State.FINISHED},
    # SCHEDULED: a recurring campaign between two firings.
    Action.RETRY: frozenset({_State.RUNNING, _State.FINISHED, _State.SCHEDULED}),
}

_CURES: dict[CampaignState, str] = {
    _State.DRAFT: "schedule it first",
    _State.SCHEDULED: "pause or cancel it, or wait until it has run",
    _State.RUNNING: "pause or cancel it, or wait until it is finished",
    _State.PAUSED: "resume or cancel it",
    _State.HELD: "it was restored from a snapshot: resume or cancel it",
    _State.MISSED: "it was due too long ago to start by itself: resume it to send now, or cancel it",
    _State.FINISHED: "it is over: create another one, or retry what failed",
    _State.CANCELLED: "that cannot be undone: create another one",
}

_OF_RUN: dict[RunState, CampaignState] = {
    RunState.DISPATCHING: _State.RUNNING,
    RunState.SENDING: _State.RUNNING,
    RunState.PAUSED: _State.PAUSED,
    RunState.HELD: _State.HELD,
    RunState.MISSED: _State.MISSED,
    RunState.FINISHED: _State.FINISHED,
    RunState.CANCELLED: _State.CANCELLED,
}

AT_WORK = frozenset({RunState.DISPATCHING, RunState.SENDING})
"""Runs that go on by themselves."""

OVER = frozenset({_State.FINISHED, _State.CANCELLED})
"""Campaigns of which nothing more will happen by itself."""


def is_allowed(action: Action, state: CampaignState) -> bool:
    """Say whether this may be done to a campaign in this state."""
    return state in _ALLOWED[action]


def cure(state: CampaignState) -> str:
    """Return what a person can do about a campaign whose state is in the way."""
    return _CURES[state]


def campaign_state(run: RunState, *, recurring: bool) -> CampaignState:
    """Return where a campaign stands whose latest run stands there: a recurring one waits for its next slot."""
    if recurring and run is RunState.FINISHED:
        return _State.SCHEDULED
    return _OF_RUN[run]


def going_on(*, handed_over: bool) -> RunState:
    """Return where a run stands that goes on, by whether the sender has all of it."""
    return RunState.SENDING if handed_over else RunState.DISPATCHING
