"""What a reply means: what an SMTP server said, or did not say, becomes a verdict. Pure."""

from services.sender.replies.incident import Event, Incident, Stage
from services.sender.replies.judge import is_named, judge
from services.sender.replies.reply import EnhancedCode, Reply
from services.sender.replies.streaks import Streaks
from services.sender.replies.verdict import Action, Breaker, History, Hold, Scope, Verdict

__all__ = [
    "Action",
    "Breaker",
    "EnhancedCode",
    "Event",
    "History",
    "Hold",
    "Incident",
    "Reply",
    "Scope",
    "Stage",
    "Streaks",
    "Verdict",
    "is_named",
    "judge",
]
