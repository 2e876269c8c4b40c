"""Whatever a template and its values are, what comes of them is a text or a problem that names the cure."""

import math

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailer.message.problems import RenderProblem, TemplateProblem
from mailer.message.template import Mode, compile_template

CONSTANTS = st.sampled_from(
    [
        *("'x'", "''", "'nan'", "'1e999'", "'1_0'", "'\\u202e'", "'0001-01-01T00:00:00+14:00'"),
        *("-1", "2.5", "none", "true", "999999999999999", "[]", "[1, 'a']", "[[1], [2]]"),
    ]
)
PATHS = st.sampled_from(["a", "b", "a.b", "a[0]", "b['']", "a[-1].a", "nope", "loop.index", "i"])
FILTERS = st.sampled_from(
    [
        *("upper", "title", "capitalize", "trim", "e", "urlencode", "int", "length", "first", "last", "join", "date"),
        *("round(15)", "round(-1)", "fixed(15)", "date('%j %z%Z')", "replace('', 'é')", "truncate(-5)"),
        *("truncate(0, true, '')", "join(', ', 'a')", "default(b)"),
    ]
)
OPERATORS = st.sampled_from(["==", "<", ">=", "in", "not in", "and", "or", "~"])
TESTS = st.sampled_from(["defined", "none", "odd", "even", "not undefined"])
EXPRESSIONS = st.recursive(
    CONSTANTS | PATHS,
    lambda inner: st.one_of(
        st.builds("({}|{})".format, inner, FILTERS),
        st.builds("({} {} {})".format, inner, OPERATORS, inner),
        st.builds("({} is {})".format, inner, TESTS),
        st.builds("({} if {} else {})".format, inner, inner, inner),
    ),
    max_leaves=4,
)
TEMPLATES = st.one_of(
    st.builds("{{{{ {} }}}}".format, EXPRESSIONS),
    st.builds("{{% if {} %}}{{{{ {} }}}}{{% endif %}}".format, EXPRESSIONS, EXPRESSIONS),
    st.builds("{{% for i in {} %}}{{{{ {} }}}}{{% endfor %}}".format, PATHS, EXPRESSIONS),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from([1e308, -math.inf, math.nan, 2**53, 5e-324, "9" * 5000, "\r\n", "\0", "\ud800", "İ", "2026-12-24"]),
    st.text(max_size=5),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", ""]), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(source=TEMPLATES, mode=st.sampled_from(list(Mode)), variables=st.dictionaries(st.sampled_from("ab"), VALUES))
def test_nothing_but_a_declared_problem_is_raised(source: str, mode: Mode, variables: dict[str, object]) -> None:
    try:
        result = compile_template(source, mode).render(variables)
    except (TemplateProblem, RenderProblem):
        return
    assert isinstance(result, str)
