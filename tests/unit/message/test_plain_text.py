import time

import pytest

from mailer.message.plain_text import plain_text, plain_text_template
from mailer.message.template import Mode, compile_template

PAGE = """<html><head><title>T</title><style>p { color: red }</style></head><body>
<h1>Hello {{ name }}!</h1>
<p>Welcome to   <b>our</b> shop, <a href="https://x.example/u?t={{ token }}&amp;a=1">click here</a>.<br>Bye</p>
{% if items %}
<ul>
  {% for i in items %}
  <li>{{ i.name }} &ndash; {{ i.price }} &euro;</li>
  {% endfor %}
</ul>
{% endif %}
<table><tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr></table>
<div>one</div><div>two</div><!-- <p>gone</p> -->
<a href="mailto:{{ name }}@x.example"><img src="x.png" alt="the logo"></a> 3 < 4
</body></html>"""

SEEN = """Hello <Ada>!

Welcome to our shop, click here (https://x.example/u?t=&x&a=1).
Bye

- Tea – 3 €
- Milk – 1 €

a b
c d

one
two
the logo (<Ada>@x.example) 3 < 4
"""
VALUES = {
    "name": "<Ada>",
    "token": "&x",
    "items": [{"name": "Tea", "price": 3}, {"name": "Milk", "price": 1}],
}


def test_the_translated_template_gives_readable_text() -> None:
    source = plain_text_template(PAGE)
    assert source is not None
    assert compile_template(source, Mode.TEXT).render(VALUES) == SEEN
    assert "Bye\n\na b\n" in compile_template(source, Mode.TEXT).render({**VALUES, "items": []})


def test_the_finished_html_gives_the_same_text() -> None:
    assert plain_text(compile_template(PAGE, Mode.HTML).render(VALUES)) == SEEN


@pytest.mark.parametrize(
    "source",
    [
        "<div {% if x %}class='a'{% endif %}>a</div>",
        "<style>{% if x %}p {}{% endif %}</style>",
        "<a href='{% if x %}a{% else %}b{% endif %}'>{% raw %}{{ y }}{% endraw %}</a>",
        "\ue000 private",
        "&#57344;0&#57345;",
        "{{ x }}&#xe002;{# c #}0&#xe003",
        "&#123;&#123; x }}",
        "{<b>{ x }}</b>",
        "{&percnt; if x %}",
        "{<b>{{ x }}</b>",
    ],
)
def test_tags_that_text_cannot_keep_are_noticed(source: str) -> None:
    assert plain_text_template(source) is None


def test_comments_of_the_template_are_gone() -> None:
    assert plain_text_template("a{# <p>secret</p> #}b") == "ab\n"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", "\n"),
        ("plain", "plain\n"),
        ("1 < 2 <3 << < x<", "1 < 2 <3 << < x<\n"),
        ("a<br>b<br><br>c", "a\nb\n\nc\n"),
        ("<p>a</p><p>b</p>", "a\n\nb\n"),
        ("<ul><li>a<li>b</ul>c", "- a\n- b\n\nc\n"),
        ("a<hr>b", "a\n\n---\n\nb\n"),
        ("<a href='#top'>up</a> <a href=x.html>x.html</a> <a>none</a>", "up x.html none\n"),
        ("<a href='https://x.example'><b></b></a>", "https://x.example\n"),
        ("<a title='a > b' href=\"u\">w</a>", "w (u)\n"),
        ("a<script>if (1 < 2) {}</script>b<SCRIPT>", "ab\n"),
        ("&lt;b&gt; &amp;&nbsp;&#128640;", "<b> & 🚀\n"),
        ("1 < 2 <3 <", "1 < 2 <3 <\n"),
        ("unfinished <b", "unfinished\n"),
        ("<td>a</td><td>b</td>", "a b\n"),
    ],
)
def test_html_becomes_text(html: str, text: str) -> None:
    assert plain_text(html) == text


@pytest.mark.parametrize(
    "piece",
    ["<!--", "<a", "<", "<a x='", "<script>", "<a href=x>w", "<td> ", "{{", "{%", " \n", "<a x='>\"", "&#", "<br>"],
)
def test_no_page_keeps_it_busy(piece: str) -> None:
    start = time.process_time()
    plain_text(piece * (200_000 // len(piece)))
    plain_text_template(piece * (200_000 // len(piece)))
    assert time.process_time() - start < 5
