"""`mailer campaign`: what goes to whom, and when."""

from collections.abc import Callable
from typing import Any

from mailer.cli.campaign_control import cancel, pause, remove, resume, retry_failed
from mailer.cli.campaign_create import create, import_recipients, schedule
from mailer.cli.campaign_preview import preview
from mailer.cli.campaign_read import list_campaigns, plan, recipients, runs, show
from mailer.cli.command import Commands
from mailer.cli.watch import watch

commands = Commands("Campaigns: what goes to whom, and when. A campaign is named by its name or id.")

_COMMANDS: dict[str, Callable[..., Any]] = {
    "create": create,
    "import": import_recipients,
    "schedule": schedule,
    "plan": plan,
    "watch": watch,
    "pause": pause,
    "resume": resume,
    "cancel": cancel,
    "retry-failed": retry_failed,
    "list": list_campaigns,
    "show": show,
    "runs": runs,
    "preview": preview,
    "recipients": recipients,
    "remove": remove,
}

for name, function in _COMMANDS.items():
    commands.command(name)(function)
