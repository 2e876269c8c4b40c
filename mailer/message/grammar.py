"""What a template may contain: the parts of the check that need no knowledge of the code to be written."""

import inspect
from collections.abc import Callable, Collection, Mapping

from jinja2 import nodes

from mailer.message.characters import SURROGATES
from mailer.message.problems import TemplateProblem
from mailer.message.variables import MAX_NAME

MAX_DEPTH = 40
MAX_NODES = 20_000
MAX_CONSTANT = 10**15

_ARITHMETIC = "arithmetic is not allowed: calculate the value before and give it as a variable"
_SET = "set is not allowed: give the value as a variable"
_ONE_TEMPLATE = "a template stands alone: write its text here"
_REFUSED: Mapping[type[nodes.Node], str] = {
    nodes.Call: "a call is not allowed: a template only writes values; use a filter, like name|upper",
    nodes.BinExpr: _ARITHMETIC,
    nodes.UnaryExpr: _ARITHMETIC,
    nodes.Slice: "a slice is not allowed: use first, last or truncate",
    nodes.Assign: _SET,
    nodes.AssignBlock: _SET,
    nodes.Dict: "an object cannot be written in a template: give it as a variable",
    nodes.Include: _ONE_TEMPLATE,
    nodes.Import: _ONE_TEMPLATE,
    nodes.FromImport: _ONE_TEMPLATE,
    nodes.Extends: _ONE_TEMPLATE,
    nodes.Block: _ONE_TEMPLATE,
    nodes.Scope: "autoescape is not allowed: values are escaped in html and nowhere else",
    nodes.Macro: "a macro is not allowed: use a loop",
    nodes.CallBlock: "a macro is not allowed: use a loop",
}


def refused(node: nodes.Node) -> TemplateProblem:
    """Return the problem with a node that is not part of the language."""
    for kind, problem in _REFUSED.items():
        if isinstance(node, kind):
            return TemplateProblem(node.lineno, problem)
    return TemplateProblem(
        node.lineno, f"{type(node).__name__.lower()} is not allowed: use values, filters, if and for"
    )


def measure(tree: nodes.Node) -> int:
    """Return the number of nodes; its limit on depth protects whatever recurses later."""
    count = 0
    waiting = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_NODES:
            raise TemplateProblem(node.lineno, "nested too deeply or too long: make the template simpler")
        waiting += [(child, depth + 1) for child in node.iter_child_nodes()]
    return count


def constant(node: nodes.Node) -> object:
    """Return the value of a constant; its `repr` is valid Python."""
    match node:
        case nodes.Neg(node=nodes.Const(value=int() | float() as value)):
            return -value
        case nodes.List() | nodes.Tuple():
            return [constant(item) for item in node.items]
        case nodes.Const(value=str() as value) if SURROGATES.search(value) or "\0" in value:
            raise TemplateProblem(node.lineno, "a NUL or half of a character (a lone surrogate): remove it")
        case nodes.Const(value=int() | float() as value) if not abs(value) <= MAX_CONSTANT:
            raise TemplateProblem(node.lineno, "a number with more than 15 digits: use a smaller one")
        case nodes.Const(value=None | bool() | str() | int() | float() as value):
            return value
        case nodes.Name() | nodes.Getattr() | nodes.Getitem() | nodes.Filter():
            raise TemplateProblem(node.lineno, "only a constant may stand here: write the text or number itself")
        case _:
            raise refused(node)


def key(node: nodes.Getattr | nodes.Getitem) -> str | int:
    """Return what a dotted name or a subscript reads: a key of an object or a place in a list."""
    if isinstance(node, nodes.Getattr):
        return usable(node.attr, node)
    found = constant(node.arg)
    if isinstance(found, bool) or not isinstance(found, (str, int)):
        raise TemplateProblem(node.lineno, "no key or place: write a text or a whole number into the brackets")
    return found if isinstance(found, int) else usable(found, node)


def usable(name: str, node: nodes.Node) -> str:
    """Return the name unless it is one that no template may use."""
    if name.startswith("_"):
        raise TemplateProblem(node.lineno, f"{name!r} starts with an underscore: such names are not available")
    if len(name) > MAX_NAME:
        raise TemplateProblem(
            node.lineno, f"a name longer than {MAX_NAME} characters, which nobody can give: shorten it"
        )
    if name == "loop" and isinstance(node, nodes.Name):
        raise TemplateProblem(
            node.lineno, "loop is not a variable: inside a loop write loop.index, loop.first or loop.last"
        )
    return name


def keys(node: nodes.Node) -> str | None:
    """Return what person.address.city reads as one text with dots; None when a place or an odd key is in it."""
    match node:
        case nodes.Name():
            return node.name
        case nodes.Getattr() | nodes.Getitem():
            before, last = keys(node.node), key(node)
            return f"{before}.{last}" if before and isinstance(last, str) and "." not in last else None
        case _:
            return None


def path(node: nodes.Node) -> str:
    """Return a value's name for people: person.name, items[0], names|first."""
    match node:
        case nodes.Name():
            return node.name
        case nodes.Getattr():
            return f"{path(node.node)}.{node.attr}"
        case nodes.Getitem(arg=nodes.Const(value=found)):
            return f"{path(node.node)}[{found!r}]"
        case nodes.Filter(node=nodes.Node() as filtered):
            return f"{path(filtered)}|{node.name}"
        case _:
            return "the value"


def check_arguments(node: nodes.Filter, function: Callable[..., object]) -> None:
    """Hold the arguments against the filter's signature; those annotated `object` may be any expression."""
    signature = inspect.signature(function)
    try:
        bound = signature.bind(None, *node.args, **{str(pair.key): pair.value for pair in node.kwargs})
    except TypeError:
        bound = None
    if bound is None or node.dyn_args or node.dyn_kwargs:
        names = list(signature.parameters)[1:]
        raise TemplateProblem(node.lineno, f"wrong arguments for {node.name}: it takes ({', '.join(names)})")
    for name, argument in list(bound.arguments.items())[1:]:
        wanted = signature.parameters[name].annotation
        if wanted is not object and type(constant(argument)) is not wanted:
            raise TemplateProblem(node.lineno, f"{node.name}: {name} must be a constant of type {wanted.__name__}")


def shown(test: nodes.Node, *, truth: bool, local: Collection[str]) -> frozenset[str]:
    """Return the variables that are certainly given when the test comes out as `truth`."""
    match test:
        case nodes.Test(name="defined" | "undefined"):
            root = test.node
            while isinstance(root, nodes.Getattr | nodes.Getitem):
                root = root.node
            if truth == (test.name == "defined") and isinstance(root, nodes.Name) and root.name not in local:
                return frozenset({root.name})
        case nodes.Not():
            return shown(test.node, truth=not truth, local=local)
        case nodes.And() | nodes.Or():
            left, right = (shown(side, truth=truth, local=local) for side in (test.left, test.right))
            return left | right if truth == isinstance(test, nodes.And) else left & right
        case _:
            pass
    return frozenset()
