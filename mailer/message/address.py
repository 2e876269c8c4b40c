"""One e-mail address: what we accept, how it is written on the wire, and when two are the same mailbox."""

import re
import unicodedata
from typing import NamedTuple

import idna

from mailer.message.characters import CONTROLS, ENCODED_WORD, SURROGATES
from mailer.message.problems import AddressProblem

MAX_LOCAL_OCTETS = 64  # RFC 5321 4.5.3.1.1
MAX_ADDRESS_OCTETS = 254  # RFC 5321 4.5.3.1.3: a path of 256 with its angle brackets
MAX_DISPLAY_NAME = 200

# Nearly every address there is, and already canonical: atoms without =, labels in lower case without two hyphens.
_PLAIN_ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/?^_`{|}~-]++(?:\.[A-Za-z0-9!#$%&'*+/?^_`{|}~-]++)*+"
    r"@(?:[a-z0-9]++(?:-[a-z0-9]++)*+\.)++[a-z]++"
)
_PLAIN_LENGTH = 64  # with so few characters no part is too long

_ATEXT = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_ASCII_ADDRESS = re.compile(
    r"(?=[^@]{1,64}@.{1,253}\Z)(?=.{3,254}\Z)"
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*"
    r"(?!\d+\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?",
)


class Address(NamedTuple):
    """A mailbox and the name shown for it.

    The constructor checks nothing, so that a whole message can be checked at once and every problem reported;
    `parse_address` gives one that is checked and canonical.
    """

    address: str
    display_name: str = ""

    def canonical(self) -> "Address":
        """Return it as `parse_address` does, itself when it is plain. Raises AddressProblem."""
        address, name = self
        if (
            len(address) <= _PLAIN_LENGTH
            and _PLAIN_ADDRESS.fullmatch(address)
            and not (name and check_display_name(name))
        ):
            return self
        return parse_address(address, name)

    @property
    def key(self) -> str:
        """Equal for two spellings of one mailbox (see `mailbox_key`)."""
        return mailbox_key(self.address)

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]

    @property
    def needs_smtputf8(self) -> bool:
        """True when only a server that offers SMTPUTF8 (RFC 6531) can take it: a non-ASCII local part."""
        return not self.address.isascii() and not self.address.rpartition("@")[0].isascii()


def parse_address(text: str, display_name: str = "") -> Address:
    """Return the canonical address: the domain as lower-case A-labels, the local part as written (in NFC).

    Exactly one plain addr-spec is accepted, and a name only as `display_name`. Raises AddressProblem.
    """
    if display_name:
        problem = check_display_name(display_name)
        if problem:
            raise AddressProblem(problem)
    if len(text) <= _PLAIN_LENGTH and _PLAIN_ADDRESS.fullmatch(text):
        return Address(text, display_name)
    return Address(_canonical(text), display_name)


def check_address(text: str) -> str | None:
    """Return what is wrong with the address and how to cure it, or None."""
    try:
        parse_address(text)
    except AddressProblem as problem:
        return str(problem)
    return None


def check_display_name(name: str) -> str | None:
    """Return what is wrong with the name shown beside an address and how to cure it, or None."""
    if name.isascii() and name.isprintable() and "=?" not in name and len(name) <= MAX_DISPLAY_NAME:
        return None
    if CONTROLS.search(name):
        return "the name contains a line break or another control character: remove it"
    if ENCODED_WORD.search(name):
        return "the name contains an encoded word (=?...?=): write the characters themselves"
    if SURROGATES.search(name):
        return "the name contains half of a character (a lone surrogate): send valid UTF-8"
    if len(name) > MAX_DISPLAY_NAME:
        return f"the name is longer than {MAX_DISPLAY_NAME} characters: shorten it"
    return None


def mailbox_key(address: str) -> str:
    """Return the text by which duplicates are found: upper and lower case never make two mailboxes.

    RFC 5321 lets a server tell `Ada@` from `ada@`, but none that matters does, and a second copy for a person
    listed twice is the worse mistake.
    """
    if address.isascii():
        return address.lower()
    local, _, domain = address.rpartition("@")
    try:
        domain = _domain(domain)
    except AddressProblem:
        domain = domain.casefold()
    return f"{unicodedata.normalize('NFC', local).casefold()}@{domain}"


def _canonical(text: str) -> str:
    if "=?" not in text and "xn--" not in text.lower() and _ASCII_ADDRESS.fullmatch(text):
        local, _, domain = text.rpartition("@")
        return f"{local}@{domain.lower()}"
    _refuse_more_than_an_address(text)
    local, _, domain = text.rpartition("@")
    address = f"{_local_part(local)}@{_domain(domain)}"
    if len(address.encode()) > MAX_ADDRESS_OCTETS:
        raise AddressProblem(f"longer than {MAX_ADDRESS_OCTETS} octets, no server takes it: check for a mistake")
    return address


def _refuse_more_than_an_address(text: str) -> None:  # noqa: PLR0912 - one for each mistake
    if not text.strip():
        raise AddressProblem("the address is empty: write one like ada@example.com")
    if CONTROLS.search(text):
        raise AddressProblem("contains a line break or another control character: remove it")
    if len(text) > 4 * MAX_ADDRESS_OCTETS:
        raise AddressProblem(f"longer than {MAX_ADDRESS_OCTETS} octets, no server takes it: check for a mistake")
    if ENCODED_WORD.search(text):
        raise AddressProblem("contains an encoded word (=?...?=): write the address itself")
    if text.startswith("@"):
        raise AddressProblem("a source route or a missing name before the @: write the mailbox, like ada@example.com")
    if text.count("@") > 1 and re.search(r"[,;\s]", text):
        raise AddressProblem("two addresses in one field: put each into a recipient of its own")
    if "<" in text or ">" in text:
        raise AddressProblem("angle brackets: write only the address here, and the name into display_name")
    if "(" in text or ")" in text:
        raise AddressProblem("a comment in parentheses: write only the address")
    if '"' in text or "\\" in text:
        raise AddressProblem("a quoted local part: use an address that needs no quotes")
    if "," in text or ";" in text:
        raise AddressProblem("a comma or semicolon: put one address into the field and nothing else")
    if any(character.isspace() for character in text):
        raise AddressProblem("contains a space: remove it")
    if "@" not in text:
        raise AddressProblem("no @: write an address like ada@example.com")
    if text.count("@") > 1:
        raise AddressProblem("more than one @: write one address like ada@example.com")


def _local_part(local: str) -> str:
    local = unicodedata.normalize("NFC", local)
    if len(local.encode(errors="replace")) > MAX_LOCAL_OCTETS:
        raise AddressProblem(
            f"more than {MAX_LOCAL_OCTETS} octets before the @, no server takes it: check for a mistake"
        )
    if local.startswith(".") or local.endswith(".") or ".." in local:
        raise AddressProblem("a dot at the start, at the end or doubled before the @: remove it")
    for character in local:
        if character != "." and not _ATEXT.match(character) and not _is_utf8_atext(character):
            raise AddressProblem(f"{character!a} is not allowed before the @: check for a mistake")
    return local


def _is_utf8_atext(character: str) -> bool:
    """Say whether a non-ASCII character is harmless: visible, and no look-alike of @ , ; : < >."""
    if character.isascii() or unicodedata.category(character)[0] in "CZ":
        return False
    plain = unicodedata.normalize("NFKC", character)
    return all(not part.isascii() or part == "." or _ATEXT.match(part) for part in plain)


def _domain(domain: str) -> str:
    if domain.startswith("["):
        raise AddressProblem("an address literal in brackets: write a domain name")
    if not domain.isascii() or "xn--" in domain.lower():
        try:
            domain = idna.encode(domain, uts46=True, std3_rules=True).decode()
        except UnicodeError as error:
            raise AddressProblem(
                f"the domain is not a valid international name ({error}): check for a mistake"
            ) from None
    domain = domain.lower()
    labels = domain.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressProblem(
            "the domain is not letters, digits and hyphens with single dots between: check for a mistake"
        )
    if labels[-1].isdigit():
        raise AddressProblem("the domain ends in a number: write a domain name, not an IP address")
    return domain
