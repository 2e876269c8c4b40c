import pytest

from mailer.message.variables import check_size, check_variables, missing_variables


def test_missing_names_are_listed_in_order() -> None:
    assert missing_variables({"b", "a", "c"}, {"b": None}) == ["a", "c"]


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
        ({"a": {1: 2}}, "a"),
        ({"a": [[[[[[[[[1]]]]]]]]]}, "a[0][0][0][0][0][0][0][0]"),
        ({"": 1}, "''"),
        ({"a\nb": 1}, r"'a\nb'"),
    ],
)
def test_what_no_template_could_use_is_named(variables: dict[str, object], path: str) -> None:
    [(named, problem)] = check_variables(variables)
    assert named == path
    assert ": " in problem


def test_too_much_is_refused() -> None:
    assert check_size({"a": "é" * 8000}) is None
    assert "at most 16384" in str(check_size({"a": "é" * 8200}))
