"""The contents in use, once per content: checked when they come in, or read where they are stored."""

import hashlib

from mailer.database import Database
from mailer.message.problems import MessageProblem
from mailer.message_wire import read_content
from mailer.v1 import sender_pb2
from mailer.validation import Violations
from services.sender import outbox
from services.sender.shelf import Program, Shelf


class Programs:
    """The programs in use: checked when their content comes in, or read where it is stored."""

    def __init__(self, database: Database) -> None:
        """Take the database that has the contents."""
        self._database = database
        self._shelf = Shelf()

    def check(self, message: sender_pb2.MessageContent, violations: Violations) -> Program | None:
        """Return the program of a content that comes in; None when something is wrong, which is noted then."""
        serialized = message.SerializeToString(deterministic=True)
        content_hash = hashlib.sha256(serialized).hexdigest()
        known = self._shelf.find(content_hash)
        if known is not None:
            return known
        content = read_content(message, violations, field="content")
        if content is None:
            return None
        try:
            return self._shelf.keep(content_hash, serialized, content)
        except MessageProblem as problem:
            violations.add("content", str(problem))
            return None

    async def get(self, content_hash: str) -> Program:
        """Return the program of a stored content. Raises LookupError when there is none."""
        known = self._shelf.find(content_hash)
        if known is not None:
            return known
        return self._shelf.load(content_hash, await self._database.read(outbox.read_content, content_hash))
