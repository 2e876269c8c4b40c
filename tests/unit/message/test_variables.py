import pytest

from mailer.message.variables import check_variables


def test_json_is_fine() -> None:
    assert check_variables({"a": 1, "b": [None, True, {"c": "é", "d": 1.5}], "two words": ""}) == []


@pytest.mark.parametrize(
    ("variables", "path"),
    [
        ({"a": "x\0"}, "a"),
        ({"a": {"b": ["\ud800"]}}, "a.b[0]"),
        ({"a": float("nan")}, "a"),
        ({"a": float("inf")}, "a"),
        ({"a": b"bytes"}, "a"),
        ({"a": {1: 2}}, "a.1"),
        ({"a": [[[[[[[[[1]]]]]]]]]}, "a[0][0][0][0][0][0][0][0]"),
        ({"": 1}, "''"),
        ({"a\nb": 1}, r"'a\nb'"),
        ({"a": {"b": [{"c\nd": 1}]}}, r"a.b[0].'c\nd'"),
        ({"a": {"": 1}}, "a.''"),
        ({"a": {"k" * 101: float("nan")}}, f"a.'{'k' * 101}'"),
        ({"\ud800": 1}, r"'\ud800'"),
    ],
)
def test_what_no_template_could_use_is_named(variables: dict[str, object], path: str) -> None:
    [(named, problem)] = check_variables(variables)
    assert named == path
    assert ": " in problem
