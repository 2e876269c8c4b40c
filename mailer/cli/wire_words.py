"""Fields and calls of the contract, as the command line calls them: who types options must not be told of fields."""

import re

_OPTIONS = {
    "account_ids": "--account",
    "attachments": "--attach",
    "backup_retention": "--retention",
    "backup_schedule": "--schedule",
    "bcc": "--bcc",
    "ca_certificates": "--ca-certificates",
    "cc": "--cc",
    "cron": "--cron",
    "delays": "--retry-delay",
    "delivery_ids": "ID",
    "drill_schedule": "--drill",
    "expire_after": "--expire-after",
    "failure_count": "--circuit-failures",
    "from_address": "--from",
    "from_addresses": "--from",
    "headers": "--header",
    "host": "--host",
    "html": "--template",
    "keep_within": "--keep-within",
    "local_hostname": "--ehlo",
    "max_connection_count": "--connections",
    "max_lateness": "--max-lateness",
    "max_rest": "--circuit-max-rest",
    "name": "--name",
    "note": "--note",
    "password_env": "--password-env",
    "password_file": "--password-file",
    "policy": "--policy",
    "port": "--port",
    "reason": "--reason",
    "reply_to": "--reply-to",
    "request_id": "--request-id",
    "rest": "--circuit-rest",
    "retry_on": "--retry-on",
    "run_id": "--run",
    "send_time": "--at",
    "snapshot_id": "SNAPSHOT",
    "subject": "--subject",
    "text": "--text",
    "time_zone": "--zone",
    "tls_mode": "--tls",
    "username": "--user",
    "weight": "--weight",
}
# caps.per_second_count is --per-second, retention_policy.keep_daily_count is --keep-daily.
_COUNT = re.compile(r"((?:per|keep)_[a-z]+)_count")
_WORDS = {
    "TLS_MODE_TLS": "--tls tls",
    "TLS_MODE_STARTTLS": "--tls starttls",
    "TLS_MODE_NONE": "--tls none",
    "AddRecipients": "mailer campaign import",
    "ListAccounts": "mailer account list",
    "ListDeliveries": "mailer deliveries",
    "ListSuppressions": "mailer suppression list",
    "ScheduleCampaign": "mailer campaign schedule",
    "an id from List": "latest or an id from mailer backup list",
}
_WORD = re.compile("|".join(rf"\b{word}\b" for word in _WORDS))


def option_of(field: str) -> str:
    """Return the option or argument that fills a field of a request; the field where there is none."""
    for part in re.sub(r"\[\d+\]", "", field).split("."):
        if part in _OPTIONS:
            return _OPTIONS[part]
        if count := _COUNT.fullmatch(part):
            return f"--{count[1].replace('_', '-')}"
    return field


def in_words(text: str) -> str:
    """Return what a service says with commands and options in place of calls and values."""
    return _WORD.sub(lambda found: _WORDS[found[0]], text)
