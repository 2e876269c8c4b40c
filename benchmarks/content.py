"""What everybody sends here: about 2 KB of text and HTML, with five places that differ from person to person."""

import json
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

from mailer.v1 import sender_pb2

FROM = "news@bakery.example"
VARIABLES = ("name", "city", "order")
SUBJECT = "{{ name }}, your bread of the week"
TEXT = """Hello {{ name }},

this week we bake rye with caraway, a light spelt loaf and the walnut bread that so many of you asked for. Your order
{{ order }} is ready from Thursday on at our shop in {{ city }}. Bring a bag, and come before noon if you can: the
shelves are empty early.

On Saturday the oven is open to visitors. We show how a sourdough is kept alive for years, and there is soup for all.

Whoever wants no more of these letters answers with the word stop.

Your bakers
"""
HTML = """<!DOCTYPE html>
<html>
<body style="font-family: Georgia, serif; color: #332211">
<h1>Hello {{ name }}</h1>
<p>this week we bake <b>rye with caraway</b>, a <b>light spelt loaf</b> and the <b>walnut bread</b> that many asked for.
Your order <b>{{ order }}</b> is ready from Thursday on at our shop in {{ city }}.
Bring a bag, and come before noon if you can: the shelves are empty early.</p>
<p>On Saturday the oven is open to visitors. We show how a sourdough is kept alive for years, and there is soup.</p>
<p style="font-size: small">Whoever wants no more of these letters answers with the word stop.</p>
<p>Your bakers</p>
</body>
</html>
"""

CONTENT = sender_pb2.MessageContent(
    from_address=sender_pb2.Mailbox(address=FROM, display_name="Saltwind Bakery"), subject=SUBJECT, text=TEXT, html=HTML
)


def address_of(number: int) -> str:
    """Return who the message with this number goes to."""
    return f"person.{number}@post{number % 97}.example"


def values_of(number: int) -> dict[str, str]:
    """Return the values that one person's message is filled with."""
    return {"name": f"Person & Co {number}", "city": f"Harbour {number % 89}", "order": f"A-{number:07d}"}


def prebuilt(number: int) -> bytes:
    """Return one person's message as bytes, for those who only transport."""
    values = values_of(number)

    def filled(template: str) -> str:
        for name in VARIABLES:
            template = template.replace("{{ " + name + " }}", values[name])
        return template

    message = EmailMessage(policy=SMTP)
    message["From"] = f"Saltwind Bakery <{FROM}>"
    message["To"] = address_of(number)
    message["Subject"] = filled(SUBJECT)
    message["Message-ID"] = f"<{number}@bakery.example>"
    message["Date"] = "Thu, 26 Nov 2026 09:00:00 +0000"
    message.set_content(filled(TEXT), cte="quoted-printable")
    message.add_alternative(filled(HTML), subtype="html", cte="quoted-printable")
    return message.as_bytes()


def write_templates(path: Path) -> None:
    """Write the templates for programs in other languages."""
    path.write_text(json.dumps({"from": FROM, "subject": SUBJECT, "text": TEXT, "html": HTML}), encoding="utf-8")
