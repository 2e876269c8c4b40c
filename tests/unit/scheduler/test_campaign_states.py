"""Which action is allowed in which state, as a table that a reader can check."""

import pytest

from services.scheduler.campaign_states import (
    Action,
    CampaignState,
    RunState,
    campaign_state,
    cure,
    going_on,
    is_allowed,
)

S = CampaignState

TABLE = {
    Action.CHANGE: {S.DRAFT, S.SCHEDULED},
    Action.DELETE: {S.DRAFT, S.FINISHED, S.CANCELLED},
    Action.ADD_RECIPIENTS: {S.DRAFT, S.SCHEDULED},
    Action.SCHEDULE: {S.DRAFT, S.SCHEDULED},
    Action.FIRE: {S.SCHEDULED},
    Action.PAUSE: {S.SCHEDULED, S.RUNNING, S.PAUSED},
    Action.RESUME: {S.PAUSED, S.HELD, S.MISSED},
    Action.CANCEL: {S.DRAFT, S.SCHEDULED, S.RUNNING, S.PAUSED, S.HELD, S.MISSED, S.CANCELLED},
    Action.RETRY: {S.RUNNING, S.FINISHED, S.SCHEDULED},
}


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("state", CampaignState)
def test_what_may_be_done_in_which_state(action: Action, state: CampaignState) -> None:
    assert is_allowed(action, state) == (state in TABLE[action])


@pytest.mark.parametrize("state", CampaignState)
def test_every_state_in_the_way_has_a_cure(state: CampaignState) -> None:
    assert len(cure(state)) > 10


@pytest.mark.parametrize(
    ("run", "once", "recurring"),
    [
        (RunState.DISPATCHING, S.RUNNING, S.RUNNING),
        (RunState.SENDING, S.RUNNING, S.RUNNING),
        (RunState.PAUSED, S.PAUSED, S.PAUSED),
        (RunState.HELD, S.HELD, S.HELD),
        (RunState.MISSED, S.MISSED, S.MISSED),
        (RunState.FINISHED, S.FINISHED, S.SCHEDULED),
        (RunState.CANCELLED, S.CANCELLED, S.CANCELLED),
    ],
)
def test_a_campaign_stands_where_its_run_stands(run: RunState, once: CampaignState, recurring: CampaignState) -> None:
    assert campaign_state(run, recurring=False) is once
    assert campaign_state(run, recurring=True) is recurring


def test_a_run_goes_on_where_it_was() -> None:
    assert going_on(handed_over=False) is RunState.DISPATCHING
    assert going_on(handed_over=True) is RunState.SENDING
