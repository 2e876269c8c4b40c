"""The translated function against Jinja2's own sandbox, on templates and values that hypothesis makes up."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st
from jinja2 import StrictUndefined, Undefined, UndefinedError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mailer.message.filters import FILTERS
from mailer.message.problems import MessageProblem, RenderProblem, TemplateProblem
from mailer.message.template import CompiledTemplate, Mode, _checked_source, compile_quoted, compile_template
from mailer.message.transfer import close_quoted
from mailer.message.values import MISSING, PLAIN_HTML, PLAIN_TEXT, each, find
from tests.unit.message.test_transfer import decoded


class Absent(StrictUndefined):
    """Strict, but a field of something missing is missing: `a.b|default('c')` covers the whole path."""


class Oracle(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, its access to values cut down to keys and places, its filters ours."""

    def __init__(self, mode: Mode) -> None:
        finalize = (PLAIN_HTML if mode is Mode.HTML else PLAIN_TEXT).value
        super().__init__(undefined=Absent, keep_trailing_newline=True, finalize=lambda value: finalize(_present(value)))
        self.filters = {name: partial(_apply, name, function) for name, function in FILTERS.items()}
        self.tests["none"] = lambda value: _present(value) is None  # strict here too
        self.filters["each"] = lambda value: each(_present(value), "")
        if mode is Mode.HTML:
            self.filters["e"] = self.filters["escape"] = partial(_apply, "upper", PLAIN_TEXT.value)

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, LoopContext):
            return getattr(obj, argument)
        if isinstance(obj, Undefined):
            return obj
        found = find(obj, argument)
        return self.undefined(obj=obj, name=argument) if found is MISSING else found


def _present(value: object) -> object:
    return str(value) if isinstance(value, Undefined) else value  # StrictUndefined raises


def _apply(name: str, function: Callable[..., object], value: object, *args: object, **kwargs: object) -> object:
    if isinstance(value, Undefined):
        if name not in {"default", "d", "first", "last"}:
            str(value)
        value = MISSING
    args = tuple(_present(argument) for argument in args)
    result = function(value, *args, **kwargs)
    return Absent(name=name) if result is MISSING else result


# Mostly values that fit the templates and sometimes not: a template that fails is compared, too, but says less.
SCALARS = (
    st.sampled_from(["", "x", "Ada B", "<&>", "ü\n.", "3"])
    | st.integers(-3, 3)
    | st.none()
    | st.booleans()
    | st.floats(-9, 9)
)
OBJECTS = st.fixed_dictionaries({"a": SCALARS}, optional={"b": SCALARS, "c": st.lists(SCALARS, max_size=3)})
LISTS = st.lists(OBJECTS, max_size=3)
GOOD = st.fixed_dictionaries({"a": OBJECTS, "b": SCALARS, "items": LISTS}, optional={"c": SCALARS})
VARIABLES = GOOD | GOOD | st.dictionaries(st.sampled_from(["a", "b", "c", "items"]), SCALARS | LISTS | OBJECTS)

NAMES = st.sampled_from(["a", "b", "c", "i"])
CONSTANTS = st.sampled_from(["'x'", "'<'", "''", "0", "1", "2.5", "-1", "true", "none"])
PATHS = st.sampled_from(
    ["a.a", "a.b", "a['a']", "b", "b", "c", "items|length", "items[0].a", "items[-1].a", "i.a", "a.a.a", "a", "nope"]
)
LISTED = st.sampled_from(["items", "items", "a.c", "a.c|default(items)", "b|default(items)", "nope|default(items)"])
LOOP = st.sampled_from(["loop.index", "loop.index0", "loop.first", "loop.last", "loop.length", "loop.revindex"])
FILTERED = st.sampled_from(
    [
        *("upper", "lower", "title", "trim", "e", "urlencode", "int", "round(1)", "length", "first", "last"),
        *("join('-')", "truncate(3)", "replace('x', 'yy')"),
    ]
)
DEFAULTS = st.sampled_from(["default('d')", "default(b)", "d('', true)", "first|default('d')", "last|d(c)"])
TESTS = st.sampled_from(["defined", "undefined", "none", "not defined"])


def expressions(*, in_loop: bool) -> st.SearchStrategy[str]:
    """Jinja2 fails late where a path leads nowhere, and writes None in `~`: so some operands are filtered first."""
    atoms = PATHS | CONSTANTS | LOOP if in_loop else PATHS | CONSTANTS
    return st.recursive(
        atoms | st.builds("({}|{})".format, PATHS, DEFAULTS) | st.builds("({} is {})".format, PATHS, TESTS),
        lambda inner: st.one_of(
            st.builds("({}|{})".format, inner, FILTERED),
            st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or", "==", "!="]), inner),
            st.builds("({}|int {} {}|int)".format, inner, st.sampled_from(["<", ">=", "<="]), inner),
            st.builds("({}|trim {} {}|trim)".format, inner, st.sampled_from(["in", "not in", "~"]), inner),
            st.builds("(not {})".format, inner),
            st.builds("({} if {} else {})".format, inner, inner, inner),
        ),
        max_leaves=3,
    )


LITERALS = st.sampled_from(["text ", "\n", ".\n", "<b>", "=", "ü", "a\n{# c #}\n", "  "])


def bodies(*, in_loop: bool, depth: int = 2) -> st.SearchStrategy[str]:
    expression = expressions(in_loop=in_loop)
    parts = LITERALS | st.builds("{{{{ {} }}}}".format, expression)
    if depth:
        inner = bodies(in_loop=in_loop, depth=depth - 1)
        looped = bodies(in_loop=True, depth=depth - 1)
        parts |= st.builds("{{% if {} %}}{}{{% endif %}}".format, expression, inner)
        parts |= st.builds(
            "{{% if {} %}}{}{{% elif {} %}}{}{{% else %}}\n{}{{% endif %}}".format,
            *(expression, inner, expression, inner, inner),
        )
        parts |= st.builds("{{% for {} in {}EACH %}}{}{{% endfor %}}".format, NAMES, LISTED, looped)
        parts |= st.builds(
            "{{% for {} in {}EACH %}}{}{{% else %}}{}{{% endfor %}}".format, NAMES, LISTED, looped, inner
        )
    return st.lists(parts, max_size=3).map("".join)


FAILED = "failed"


def compiled(source: str, mode: Mode) -> CompiledTemplate:
    try:
        return compile_template(source, mode)
    except TemplateProblem:
        reject()  # a part that fails for everybody, which Jinja2 sees only when it comes to it


def by_jinja(source: str, mode: Mode, variables: dict[str, object]) -> str:
    try:
        return Oracle(mode).from_string(source).render(variables)
    except (UndefinedError, MessageProblem, TypeError, ValueError, ArithmeticError):
        return FAILED


@pytest.mark.parametrize("mode", [Mode.TEXT, Mode.HTML])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(source=bodies(in_loop=False), variables=VARIABLES)
@example(source="{{ (a.b if (c is defined) else 'x')|first }}", variables={"c": 1, "a": {"b": ["<"]}})
def test_the_function_does_what_the_sandbox_does(source: str, mode: Mode, variables: dict[str, object]) -> None:
    source, reference = source.replace("EACH", ""), source.replace("EACH", "|each")  # only lists are looped over
    reference = _checked_source(reference, mode)  # our rule for tags alone on a line, not Jinja2's
    template = compiled(source, mode)
    try:
        result = template.render(variables)
    except RenderProblem:
        result = FAILED
    assert result == by_jinja(reference, mode, variables)
    if result != FAILED:
        quoted = compile_quoted(source, mode).render(variables)
        assert decoded(close_quoted(quoted)) == result


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(source=bodies(in_loop=False), variables=VARIABLES)
def test_with_its_required_variables_nothing_is_missing(source: str, variables: dict[str, object]) -> None:
    template = compiled(source.replace("EACH", ""), Mode.TEXT)
    given_values = {name: value for name, value in variables.items() if name in template.variables}
    given_values |= {name: "x" for name in template.variables if name not in variables}
    assert "the variable" not in problem_of(template, given_values)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(source=bodies(in_loop=False), variables=VARIABLES)
@example(source="{{ a.a }}", variables={"a": "x"})
def test_only_fields_that_no_rendering_can_do_without_are_required(source: str, variables: dict[str, object]) -> None:
    template = compiled(source.replace("EACH", ""), Mode.TEXT)
    if any(field(variables, path) is MISSING for path in template.nested):
        with pytest.raises(RenderProblem):
            template.render(variables)


def field(value: object, path: str) -> object:
    for key in path.split("."):
        value = find(value, key)
    return value


def problem_of(template: CompiledTemplate, variables: dict[str, object]) -> str:
    try:
        template.render(variables)
    except RenderProblem as problem:
        return str(problem)
    return ""
