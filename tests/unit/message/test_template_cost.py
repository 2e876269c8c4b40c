"""What a template costs: a hostile one must not keep a service from its other work."""

import time

import pytest

from mailer.message.content import MAX_HEADER_TEMPLATE
from mailer.message.problems import RenderProblem, TemplateProblem
from mailer.message.template import Mode, compile_template

HEAVY = "{% for a in x %}{% if z|FILTERS == 0 %}a{% endif %}{% endfor %}"


@pytest.mark.parametrize(
    "source",
    [
        HEAVY.replace("FILTERS", "replace('z', '" + "é" * 80 + "')|urlencode|title|e|capitalize"),
        HEAVY.replace("FILTERS", "replace('z', '" + "a " * 120 + "')|title"),
        HEAVY.replace("FILTERS", "title|truncate(1)"),
        HEAVY.replace("FILTERS", "replace('z', '')"),
        "{% if z|title == '' %}{% endif %}" * 1000,
        "{% for a in x %}{% if x|join == '' %}{% endif %}{% endfor %}",
    ],
)
def test_text_that_goes_through_filters_again_and_again_ends_early(source: str) -> None:
    template = compile_template(source, Mode.TEXT)
    start = time.process_time()
    with pytest.raises(RenderProblem, match="filters"):
        template.render({"x": [1] * 1400, "z": "z " * 4000})
    assert time.process_time() - start < 3


def test_ordinary_use_of_filters_is_far_from_the_limit() -> None:
    template = compile_template("{% for item in items %}{{ item|title|truncate(40)|e }}{% endfor %}", Mode.HTML)
    assert template.render({"items": ["a winter bread with seeds"] * 500}).count("Winter Bread") == 500


def test_a_template_is_compiled_once_however_often_it_is_asked_for() -> None:
    source = "Hello {{ name|upper }}"
    assert compile_template(source, Mode.TEXT) is compile_template(source, Mode.TEXT)
    assert compile_template(source, Mode.TEXT) is not compile_template(source, Mode.HTML)


@pytest.mark.parametrize(
    ("source", "mode"),
    [
        ("{{ a|upper }}" * 5000, Mode.TEXT),
        ("{% if a %}{% endif %}" * 3000, Mode.HTML),
        ("{{ a }}" * (MAX_HEADER_TEMPLATE // 7), Mode.HEADER),
    ],
)
def test_a_template_with_too_many_tags_is_refused(source: str, mode: Mode) -> None:
    with pytest.raises(TemplateProblem, match=r"^line 1: too many tags"):
        compile_template(source, mode)


def test_a_long_newsletter_is_taken() -> None:
    source = (
        "<tr><td>{{ name|e }}</td><td>{% if price %}{{ price|fixed(2) }}{% else %}free{% endif %}</td></tr>\n" * 400
    )
    assert compile_template(source, Mode.HTML).variables == {"name", "price"}
