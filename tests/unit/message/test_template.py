import time
import tracemalloc
import warnings

import pytest

from mailer.message.problems import RenderProblem, TemplateProblem
from mailer.message.template import CompiledTemplate, Mode, compile_quoted, compile_template
from mailer.message.transfer import close_quoted
from tests.unit.message.test_transfer import decoded


def text(source: str) -> CompiledTemplate:
    return compile_template(source, Mode.TEXT)


def rendered(source: str, mode: Mode = Mode.TEXT, /, **variables: object) -> str:
    return compile_template(source, mode).render(variables)


def test_values_take_their_places() -> None:
    assert rendered("Hello {{ name }}, {{ a.b[1].c }}!", name="Ada", a={"b": [0, {"c": 5}]}) == "Hello Ada, 5!"


@pytest.mark.parametrize(
    ("value", "written"),
    [("x", "x"), (None, ""), (True, "true"), (5, "5"), (5.0, "5"), (5.25, "5.25"), (1e300, "1e+300"), ("", "")],
)
def test_values_are_written_as_json_readers_expect(value: object, written: str) -> None:
    assert rendered("{{ x }}", x=value) == written


@pytest.mark.parametrize("value", [["a"], {"a": 1}])
def test_a_list_or_an_object_is_not_written(value: object) -> None:
    with pytest.raises(RenderProblem, match=r"line 2: .* cannot be written as text"):
        rendered("\n{{ x }}", x=value)


def test_values_are_never_templates() -> None:
    assert rendered("{{ x }}", x="{{ secret }}{% for %}") == "{{ secret }}{% for %}"


def test_html_is_escaped_once() -> None:
    assert rendered("<b>{{ x }}</b>{{ x|e }}{{ '<' }}", Mode.HTML, x="<&\"'>") == (
        "<b>&lt;&amp;&quot;&#x27;&gt;</b>&lt;&amp;&quot;&#x27;&gt;&lt;"
    )
    assert rendered("{{ x|e|upper|replace('A', '<') }}", Mode.HTML, x="a&") == "&lt;&amp;"


@pytest.mark.parametrize("mode", [Mode.TEXT, Mode.HTML])
def test_the_encoded_form_says_the_same_for_every_character(mode: Mode) -> None:
    plain, quoted = compile_template("{{ x }}", mode), compile_quoted("{{ x }}", mode)
    for code in [*range(1, 0x180), 0x2028, 0xFEFF, 0x1F680]:
        if chr(code) == "\r":
            continue
        for value in (chr(code), f"a{chr(code)}b", f"a{chr(code)}"):
            body = close_quoted(quoted.render({"x": value}))
            assert decoded(body) == plain.render({"x": value})
            assert not body.startswith(b".")


def test_text_is_not_escaped_unless_asked() -> None:
    assert rendered("{{ x }} {{ x|e }}", x="<a>") == "<a> &lt;a&gt;"


def test_conditions_and_loops() -> None:
    source = (
        "{% for i in items %}{{ loop.index }}/{{ loop.length }} {{ i }}"
        "{% if not loop.last %}, {% endif %}{% else %}nothing{% endfor %}"
    )
    assert rendered(source, items=["a", "b"]) == "1/2 a, 2/2 b"
    assert rendered(source, items=[]) == "nothing"


def test_a_pointless_test_leaves_nothing_in_the_log() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rendered("{{ 'x' is none }}{{ 5 is defined }}{{ [] is undefined }}") == "falsetruefalse"


def test_an_inner_loop_has_its_own_count() -> None:
    source = "{% for a in x %}{% for b in a %}{{ loop.index0 }}{{ b }}{% endfor %}{{ loop.revindex }};{% endfor %}"
    assert rendered(source, x=[["p", "q"], ["r"]]) == "0p1q2;0r1;"


def test_a_tag_alone_on_its_line_leaves_no_line() -> None:
    source = "a\n  {% if x %}\nb\n{% endif %}  \nc {% if x %}\nd{% endif %}\n{# gone #}\n{%+ if x +%}\n{% endif %}e\n"
    assert rendered(source, x=1) == "a\nb\nc \nd\n\ne\n"


def test_lines_are_counted_as_the_author_does() -> None:
    source = "a\r\n{% if x %}\r\nb\r\n{% endif %}\r\n{{ y|nonsense }}"
    with pytest.raises(TemplateProblem, match=r"^line 5: no filter 'nonsense'"):
        text(source)
    with pytest.raises(RenderProblem, match=r"^text, line 5: the variable 'y' is missing"):
        rendered("a\n{% if x %}\nb\n{% endif %}\n{{ y }}", x=1)


def test_raw_text_stays() -> None:
    assert rendered("{% raw %}{{ x }}\n{% if %}\n{% endraw %}") == "{{ x }}\n{% if %}\n"


@pytest.mark.parametrize(
    ("expression", "value", "result"),
    [
        ("x|upper", "straße", "STRASSE"),
        ("x|lower", "ÄB", "äb"),
        ("x|capitalize", "ADA", "Ada"),
        ("x|title", "don't (stop) it-now", "Don't (Stop) It-Now"),
        ("x|trim", "  a ", "a"),
        ("x|length", [1, 2], "2"),
        ("x|count", "abc", "3"),
        ("x|first", ["a", "b"], "a"),
        ("x|last", "xyz", "z"),
        ("x|first|default('none')", [], "none"),
        ("x|join(', ')", ["a", 1, 2.0], "a, 1, 2"),
        ("x|join(', ', attribute='n')", [{"n": "a"}, {"n": "b"}], "a, b"),
        ("x|replace('a', 'b')", "banana", "bbnbnb"),
        ("x|truncate(10)", "the quick brown fox", "the..."),
        ("x|truncate(10, true, '…')", "the quick brown fox", "the quick…"),
        ("x|truncate(100)", "short", "short"),
        ("x|int", "42.9", "42"),
        ("x|int(7)", "many", "7"),
        ("x|round(1)", 3.14, "3.1"),
        ("x|round", "2.5", "2"),
        ("x|fixed(2)", 19.9, "19.90"),
        ("x|urlencode", "a b/ä&=", "a%20b/%C3%A4%26%3D"),
        ("x|date('%d.%m.%Y')", "2026-12-24", "24.12.2026"),
        ("x|default('y')", None, "y"),
        ("x|default('y', true)", "", "y"),
        ("x|d(x)", 0, "0"),
        ("'yes' if x > 3 else 'no'", 4, "yes"),
        ("'a' in x", ["a"], "true"),
        ("'a' not in x", {"a": 1}, "false"),
        ("x ~ '!' ~ 1", "a", "a!1"),
        ("1 < x <= 3", 3, "true"),
        ("x is even", 4, "true"),
        ("x is none", None, "true"),
        ("x and 'b' or 'c'", "", "c"),
        ("x[-1]", [1, 2], "2"),
        ("x['a b']", {"a b": 1}, "1"),
    ],
)
def test_expressions(expression: str, value: object, result: str) -> None:
    assert rendered(f"{{{{ {expression} }}}}", x=value) == result


@pytest.mark.parametrize(
    ("source", "required", "optional"),
    [
        ("{{ a }}{{ b.c }}{{ d[0] }}", "abd", ""),
        ("{{ a|default('x') }}", "", "a"),
        ("{{ a.b.c|default('x') }}", "", "a"),
        ("{{ a|default(b) }}", "b", "a"),
        ("{{ a|upper|default('x') }}", "a", ""),
        ("{{ a|first|default('x') }}", "", "a"),
        ("{% if a is defined %}{{ a }}{% endif %}", "", "a"),
        ("{% if a is defined %}{{ b }}{% endif %}", "b", "a"),
        ("{% if a is defined %}x{% else %}{{ a }}{% endif %}", "a", ""),
        ("{% if a is undefined %}x{% else %}{{ a }}{% endif %}", "", "a"),
        ("{% if a is not defined %}x{% elif a == 3 %}y{% else %}{{ a }}{% endif %}", "", "a"),
        ("{% if a is defined and a > 3 %}{{ a }}{% endif %}", "", "a"),
        ("{% if a is defined or b %}{{ a }}{% endif %}", "ab", ""),
        ("{% if a is undefined or a == 3 %}x{% endif %}", "", "a"),
        ("{% if not (a is undefined or b is undefined) %}{{ a }}{{ b }}{% endif %}", "", "ab"),
        ("{% if a.b is defined %}{{ a.c }}{% endif %}", "", "a"),
        ("{{ a if a is defined else 'x' }}", "", "a"),
        ("{{ 'x' if a is undefined else a }}", "", "a"),
        ("{% if a is defined %}{{ a }}{% endif %}{{ a }}", "a", ""),
        ("{% if a %}{{ b }}{% endif %}", "ab", ""),
        ("{% for a in b %}{{ a }}{{ c }}{% else %}{{ d }}{% endfor %}", "bcd", ""),
        ("{% for a in b %}{% endfor %}{{ a }}", "ab", ""),
        ("{% for a in b|default(c) %}{% endfor %}", "c", "b"),
        ("{% for b in b %}{{ b.x|default('') }}{% endfor %}", "b", ""),
        ("nothing", "", ""),
    ],
)
def test_required_and_optional_variables(source: str, required: str, optional: str) -> None:
    template = text(source)
    assert (template.variables, template.optional) == (frozenset(required), frozenset(optional))
    assert template.is_constant == (not required and not optional)


@pytest.mark.parametrize(
    ("source", "nested"),
    [
        ("{{ a }}{{ b.c }}", {"b.c"}),
        ("{{ a.b }}{{ a.b.c }}{{ a['d'] }}{{ a['d e']|upper }}", {"a.b.c", "a.d", "a.d e"}),
        ("{{ a.b[0].c }}{{ d[0].e }}{{ f['g.h'] }}", {"a.b"}),
        ("{{ a.b|default('x') }}{{ a.c|first|d('x') }}{{ a.d is defined }}", set()),
        ("{{ a|default(b.c) }}{{ a.b|upper|default('x') }}", {"b.c", "a.b"}),
        ("{% if a %}{{ a.b }}{% elif b.c %}{{ b.d }}{% else %}{{ b.e }}{% endif %}", set()),
        ("{% if a.b %}{{ a.c }}{% endif %}", {"a.b"}),
        ("{% for a in b.c %}{{ a.d }}{{ e.f }}{% else %}{{ g.h }}{% endfor %}", {"b.c"}),
        ("{{ a.b and c.d }}{{ a.e or c.f }}", {"a.b", "a.e"}),
        ("{{ a.b if c.d else e.f }}", {"c.d"}),
        ("{{ a.b < c.d < e.f }}{{ a.g ~ a.h }}", {"a.b", "c.d", "a.g", "a.h"}),
    ],
)
def test_fields_that_every_rendering_reads(source: str, nested: set[str]) -> None:
    assert text(source).nested == nested


ATTACKS = [
    "{{ ''.__class__ }}",
    "{{ x.__init__ }}",
    "{{ x['__class__'] }}",
    "{{ x.__init__.__globals__['os'].popen('id') }}",
    "{{ x|attr('__class__') }}",
    "{{ x.upper() }}",
    "{{ ''.join(x) }}",
    "{{ '{0.__class__}'.format(x) }}",
    "{{ '%s'|format(x) }}",
    "{{ 'a' * 10**9 }}",
    "{{ x + x }}",
    "{{ x - 1 }}",
    "{{ x / 0 }}",
    "{{ x % 3 }}",
    "{{ x ** 9 }}",
    "{{ -x }}",
    "{{ +x }}",
    "{{ range(10**9) }}",
    "{% for i in range(10**9) %}{% endfor %}",
    "{% for i in 'abc' %}{% endfor %}",
    "{% for i in [1, 2] %}{% endfor %}",
    "{% for a, b in x %}{% endfor %}",
    "{% for a in x if a %}{% endfor %}",
    "{% for a in x recursive %}{{ loop(a) }}{% endfor %}",
    "{% for loop in x %}{% endfor %}",
    "{% for _a in x %}{% endfor %}",
    "{% for a in x %}{{ loop }}{% endfor %}",
    "{% for a in x %}{{ loop.__class__ }}{% endfor %}",
    "{% for a in x %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for a in x %}{{ loop.previtem }}{% endfor %}",
    "{{ loop.index }}",
    "{{ loop|default('x') }}",
    "{% set x = 1 %}",
    "{% set x %}a{% endset %}",
    "{% macro m() %}{{ m() }}{% endmacro %}",
    "{% call x() %}{% endcall %}",
    "{% include '/etc/passwd' %}",
    "{% include x %}",
    "{% import 'x' as y %}",
    "{% from 'x' import y %}",
    "{% extends 'x' %}",
    "{% block b %}{% endblock %}",
    "{% filter upper %}x{% endfilter %}",
    "{% with a = 1 %}{% endwith %}",
    "{% autoescape false %}{{ x }}{% endautoescape %}",
    "{% do x.append(1) %}",
    "{% break %}",
    "{% debug %}",
    "{{ x|safe }}",
    "{{ x|map('upper') }}",
    "{{ x|list }}",
    "{{ x|tojson }}",
    "{{ x|center(1000000000) }}",
    "{{ x|default }}{{ x|truncate(y) }}",
    "{{ x|truncate('a') }}",
    "{{ x|truncate(1, 2, 3, 4, 5) }}",
    "{{ x|truncate(nope=1) }}",
    "{{ x|truncate(*y) }}",
    "{{ x|truncate(**y) }}",
    "{{ x|round(true) }}",
    "{{ x is divisibleby(0) }}",
    "{{ x is sameas(x) }}",
    "{{ x is callable }}",
    "{{ x[1:2] }}",
    "{{ x[y] }}",
    "{{ x[1.5] }}",
    "{{ x[true] }}",
    "{{ {'a': 1} }}",
    "{{ [x] }}",
    "{{ x if y }}",
    "{{ _x }}",
    "{{ " + "x" * 101 + " }}",
    "{{ x." + "y" * 101 + "|default('') }}",
    "{{ self }}{{ self._TemplateReference__context }}",
    "{{ x",
    "{% if x %}",
    "{% nonsense %}",
    "{{ '\\ud800' }}",
    "{{ '\\x00' }}",
    "\0",
    "\ud83d",
    "{{ 1e999 }}",
    "{{ " + "9" * 5000 + " }}",
    "{{ 0x" + "f" * 5000 + " }}",
    "{{ " + "(" * 5000 + "x" + ")" * 5000 + " }}",
    "{{ " + "(" * 60_000,
    "{{ " + "not " * 5000 + "x }}",
    "{{ x" + "|upper" * 100 + " }}",
    "{{ x" + ".a" * 100 + " }}",
    "{{ x" + " or x" * 100 + " }}",
    "{% if x %}" * 50 + "{% endif %}" * 50,
    "{% for a in x %}" * 12 + "{% endfor %}" * 12,
    "{% if x %}" + "{% elif x %}" * 200 + "{% endif %}",
    "{{ x }}" * 30_000,
    "x" * (256 * 1024 + 1),
    "é" * (128 * 1024 + 1),
    "{{ x.__\uff43lass__ }}",
    "{{ \uff58.\uff3f\uff3fclass__ }}",
]


@pytest.mark.parametrize("source", ATTACKS, ids=lambda source: source[:40])
@pytest.mark.parametrize("mode", Mode)
def test_what_is_not_in_the_language_is_refused_quickly(source: str, mode: Mode) -> None:
    start = time.process_time()
    with pytest.raises(TemplateProblem, match=r"(?s)^line \d+: .+: .+"):
        compile_template(source, mode)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("source", "variables"),
    [
        (
            "{% for a in x %}{% for b in x %}{% for c in x %}{{ c }}{% endfor %}{% endfor %}{% endfor %}",
            {"x": [1] * 900},
        ),
        ("{% for a in x %}{{ y }}{% endfor %}", {"x": [1] * 4000, "y": "y" * 16000}),
        ("{% for a in x %}{{ y|upper }}{% endfor %}", {"x": [1] * 4000, "y": "y" * 16000}),
        ("{{ y }}" * 5000, {"y": "y" * 16000}),
        ("{{ y" + "|replace('y', 'yyyyyyyyyy')" * 8 + " }}", {"y": "y" * 100}),
        ("{{ y|replace('', 'zzzzzzzzzzzzzzzzzzzz')|replace('', 'zzzzzzzzzzzzzzz') }}", {"y": "y" * 16000}),
        ("{{ (" + "y~" * 9000 + "y)|length }}", {"y": "y" * 16000}),
        ("{% for a in x %}{{ (y ~ y)|length }}{% endfor %}", {"x": [1] * 4000, "y": "y" * 16000}),
        ("{{ x|join('" + "z" * 1000 + "') }}", {"x": [1] * 5000}),
        (
            "{% for a in x %}{% if y in z %}{% endif %}{% endfor %}" * 100,
            {"x": [1] * 5000, "y": "b", "z": ["a"] * 5000},
        ),
    ],
)
def test_a_bomb_ends_early(source: str, variables: dict[str, object]) -> None:
    start = time.process_time()
    with pytest.raises(RenderProblem):
        text(source).render(variables)
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in x %}{{ y|upper }}{% endfor %}",
        "{{ y|upper }}" * 2000,
        "{{ (" + "y~" * 9000 + "y)|length }}",
    ],
)
def test_a_bomb_does_not_fill_the_memory(source: str) -> None:
    template = text(source)
    tracemalloc.start()
    try:
        with pytest.raises(RenderProblem, match="longer than"):
            template.render({"x": [1] * 2000, "y": "y" * 16_000})
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("source", "variables", "problem"),
    [
        ("{{ a.b }}", {"a": {}}, "a.b is missing"),
        ("{{ a.b }}", {"a": "text"}, "what is before it is a text"),
        ("{{ a.b }}", {"a": None}, "what is before it is null"),
        ("{{ a.keys }}", {"a": {}}, "a.keys is missing"),
        ("{{ a.append }}", {"a": []}, "a.append is missing"),
        ("{{ a.real }}", {"a": 1}, "a.real is missing"),
        ("{{ a[3] }}", {"a": [1]}, "is missing"),
        ("{{ a|first }}", {"a": []}, "gives nothing"),
        ("{% for i in a %}{% endfor %}", {"a": "text"}, "a is a text: a loop needs a list"),
        ("{% for i in a %}{% endfor %}", {"a": {"b": 1}}, "a is an object: a loop needs a list"),
        ("{{ a < b }}", {"a": 1, "b": "x"}, "do not go together"),
        ("{{ a in b }}", {"a": 1, "b": "x"}, "do not go together"),
        ("{{ a is odd }}", {"a": "%999999999d"}, "odd and even need a whole number"),
        ("{{ a|round(16) }}", {"a": 1}, "0 to 15"),
        ("{{ a|fixed }}", {"a": "x"}, "fixed needs a number"),
        ("{{ a|date('%9999d') }}", {"a": "2026-01-01"}, "date knows only"),
        ("{{ a|date }}", {"a": "soon"}, "ISO 8601"),
        ("{{ a }}", {"a": "x\0"}, "NUL"),
        ("{{ a }}", {"a": object()}, "cannot be written"),
        ("{{ a }}", {"a": 10**5000}, "text, line 1"),
    ],
)
def test_values_that_do_not_fit_are_named(source: str, variables: dict[str, object], problem: str) -> None:
    with pytest.raises(RenderProblem, match=problem):
        text(source).render(variables)


@pytest.mark.parametrize("value", ["a\nb", "a\r\nBcc: x@y", "\0", "a\x85", "a\u2028b", "\t"])
def test_a_header_refuses_line_breaks_in_values(value: str) -> None:
    template = compile_template("Hello {{ x }}", Mode.HEADER)
    with pytest.raises(RenderProblem, match="control character"):
        template.render({"x": value})


@pytest.mark.parametrize("source", ["a\nb", "{{ x\n}}", "{{ '\\n' }}", "{{ '\\u2028' }}", "a\x0bb"])
def test_a_header_refuses_line_breaks_in_the_template(source: str) -> None:
    with pytest.raises(TemplateProblem, match="control character"):
        compile_template(source, Mode.HEADER)


def test_objects_of_python_are_out_of_reach() -> None:
    class Secret:
        password = "hunter2"

    with pytest.raises(RenderProblem):
        rendered("{{ x.password }}", x=Secret())
