"""pyproject.toml and constraints.txt against what the code imports and what they say of each other."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OWN = {"mailer", "services"}


def test_everything_that_the_code_imports_is_declared() -> None:
    declared = {
        name(requirement)
        for requirement in PROJECT["dependencies"]
        + PROJECT["optional-dependencies"]["postgres"]
        + PROJECT["optional-dependencies"]["fast"]
        + PROJECT["optional-dependencies"]["s3"]
    }
    providers = packages_distributions()
    undeclared = {
        module
        for module in imported("mailer", "services") - OWN - sys.stdlib_module_names
        if declared.isdisjoint(canonical(provider) for provider in providers.get(module, [module]))
    }
    assert undeclared == set()


def test_every_declared_dependency_has_an_exact_version() -> None:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    pinned = {name(line) for line in constraints()}
    assert {name(requirement) for group in groups for requirement in group} - pinned == set()


def test_constraints_are_exact_versions_and_nothing_else() -> None:
    assert [line for line in constraints() if not re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9.]+", line)] == []


def constraints() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert match is not None
    return canonical(match.group())


def canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def imported(*folders: str) -> set[str]:
    """Return the top-level names of all absolute imports, wherever they stand in a file."""
    return {
        module.partition(".")[0]
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for module in modules(ast.parse(path.read_text(encoding="utf-8")))
    }


def modules(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module
            case _:
                pass
