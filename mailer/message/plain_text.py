"""The plain text that goes with an HTML part when the author gave none.

The template itself is translated, once, with its tags kept in place, so that a recipient's text is rendered like
any other. Where tags stand in what plain text leaves out (`<div {% if x %}class="a"{% endif %}>`), that cannot be
done; then each recipient's finished HTML is translated, which is slower and reads the same.

The reader is our own because `html.parser` takes minutes for 256 KiB of `<!--` (quadratic before Python 3.14).
Every step of this one moves forward.
"""

import html
import re
from collections.abc import Iterator

# In a template, {{ }} becomes one private character pair around a number and {% %} another.
_VALUE, _STATEMENT = "\ue000{}\ue001", "\ue002{}\ue003"
_MARK = re.compile("[\ue000\ue002](\\d+)[\ue001\ue003]")
_STATEMENTS = re.compile("(\ue002\\d+\ue003)")
_FORGED = re.compile("\\{[{%#\ue000\ue002]")
_PRIVATE = re.compile("[\ue000-\ue003]")
_RESERVED = re.compile("[\ue000-\ue003]|\\{%[-+]?\\s*raw\\b")
_OPENING = re.compile(r"\{[{%#]")
_CLOSING = {"{{": "}}", "{%": "%}", "{#": "#}"}

_TAG_START = re.compile(r"<(?=/?[A-Za-z]|[!?])")
_TAG_END = re.compile(r"""(?:[^>"']++|"[^"]*"|'[^']*')*+>""")
_TAG_NAME = re.compile(r"</?([A-Za-z][A-Za-z0-9]*)")
_ATTRIBUTE = r"""\s{}\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>"']+))"""
_HREF = re.compile(_ATTRIBUTE.format("href"), re.IGNORECASE)
_ALT = re.compile(_ATTRIBUTE.format("alt"), re.IGNORECASE)

_LEFT_OUT = {name: re.compile(rf"</{name}\b[^>]*>", re.IGNORECASE) for name in ("script", "style", "title", "template")}
_BREAKS = dict.fromkeys(
    ("p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "table", "blockquote", "pre", "hr"), 2
) | dict.fromkeys(("div", "section", "article", "header", "footer", "main", "tr", "dt", "dd", "li", "center"), 1)


def plain_text(source: str) -> str:
    """Return finished HTML as text: paragraphs, `- ` for list items, links as `words (address)`."""
    writer = _Writer()
    for tag, part in _parts(source):
        if tag:
            writer.tag(tag, part)
        elif part:
            writer.words(html.unescape(part))
    return writer.text()


def plain_text_template(source: str) -> str | None:
    """Return a template of HTML as a template of text, or None when its tags cannot all be kept."""
    if _RESERVED.search(source):
        return None
    marked: list[str] = []
    tags: dict[str, int] = {}
    statements: list[int] = []
    at = 0
    while opening := _OPENING.search(source, at):
        end = source.find(_CLOSING[opening[0]], opening.end()) + 2
        if end < opening.end():
            return None
        marked.append(source[at : opening.start()])
        tag, at = source[opening.start() : end], end
        if tag.startswith("{#"):
            continue
        place = tags.setdefault(tag, len(tags))
        if tag.startswith("{%"):
            statements.append(place)
        marked.append((_VALUE if tag.startswith("{{") else _STATEMENT).format(place))
    text = "".join(marked) + source[at:]
    if len(_PRIVATE.findall(html.unescape(text))) != len(_PRIVATE.findall(text)):
        return None  # written as &#57344; they would become marks of nothing
    translated = plain_text(text)
    if _FORGED.search(translated):
        return None  # words that became a tag only by what was taken out between them, or written as &#123;
    if [int(kept[1:-1]) for kept in _STATEMENTS.findall(translated)] != statements:
        return None
    restored = [_keeping_lines(tag) for tag in tags]
    return _MARK.sub(lambda place: restored[int(place[1])], translated)


def _keeping_lines(tag: str) -> str:
    """Keep a tag alone on its line from taking the line with it: the breaks here are all meant."""
    return tag if tag.startswith("{{") or tag[-3] in "-+" else f"{tag[:-2]}+%}}"


def _parts(source: str) -> Iterator[tuple[str, str]]:
    """Yield (name, tag) for tags, with `/` before the name of an end tag, and ("", text) between them."""
    at = 0
    while opening := _TAG_START.search(source, at):
        start = opening.start()
        yield "", source[at:start]
        at = _end_of_tag(source, start)
        name = _TAG_NAME.match(source, start)
        if name:
            tag = name[1].lower()
            if source[start + 1] == "/":
                tag = f"/{tag}"
            yield tag, source[start:at]
            if tag in _LEFT_OUT:
                closing = _LEFT_OUT[tag].search(source, at)
                at = closing.end() if closing else len(source)
    yield "", source[at:]


def _end_of_tag(source: str, start: int) -> int:
    """Return where the text after a tag or comment starts; what is never closed leaves no text."""
    if source.startswith("<!--", start):
        end = source.find("-->", start)
        return end + 3 if end >= 0 else len(source)
    match = _TAG_END.match(source, start)
    end = match.end() if match else source.find(">", start) + 1
    return end or len(source)


class _Writer:
    def __init__(self) -> None:
        self._written: list[str] = []
        self._wanted = 0  # line breaks before whatever comes next
        self._ended = 2  # line breaks that the text ends with
        self._link: tuple[str, int] | None = None  # the open one: address, and where the words for it start

    def text(self) -> str:
        lines = "".join(self._written).split("\n")
        return "\n".join(" ".join(line.split()) for line in lines).strip() + "\n"

    def tag(self, name: str, tag: str) -> None:
        self._wanted = max(self._wanted, _BREAKS.get(name.removeprefix("/"), 0))
        match name:
            case "br":
                self._write("\n")
                self._ended += 1
            case "li":
                self._write("- ")
            case "hr":
                self._write("---")
                self._wanted = 2
            case "td" | "th":
                self.words(" ")
            case "img":
                self.words(_attribute(_ALT, tag))
            case "a":
                self._link = (_attribute(_HREF, tag), len(self._written))
            case "/a" if self._link:
                self._close_link(*self._link)
                self._link = None
            case _:
                pass

    def words(self, text: str) -> None:
        for part in _STATEMENTS.split(text):
            if _STATEMENTS.match(part):
                self._flush()
                self._written.append(part)
                continue
            collapsed = re.sub(r"\s+", " ", part)
            if collapsed and not (collapsed == " " and (self._ended or self._wanted)):
                self._write(collapsed)

    def _close_link(self, address: str, start: int) -> None:
        words = "".join(self._written[start:]).strip()
        if address and address != words and not address.startswith(("#", "javascript:")):
            address = address.removeprefix("mailto:")
            self._write(f" ({address})" if words else address)

    def _write(self, text: str) -> None:
        self._flush()
        self._written.append(text)
        self._ended = 0

    def _flush(self) -> None:
        missing = max(self._wanted - self._ended, 0)
        self._written.append("\n" * missing)
        self._ended += missing
        self._wanted = 0


def _attribute(pattern: re.Pattern[str], tag: str) -> str:
    found = pattern.search(tag)
    return html.unescape(found[1] or found[2] or found[3] or "") if found else ""
