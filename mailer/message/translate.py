"""From the parsed template to one plain Python function.

Jinja2 parses; this module writes Python for every node a template may contain and refuses the rest. The
result does what Jinja2's sandbox would do (a property test holds the two side by side) in a third of the
time. Nothing of the author's gets into the code but constants, by `repr`; names become keys of the values:
there is no object to break out of.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import is_
from typing import Final

from jinja2 import nodes

from mailer.message import values
from mailer.message.filters import FILTERS
from mailer.message.grammar import check_arguments, constant, key, keys, measure, path, refused, shown, usable
from mailer.message.problems import RenderProblem, TemplateProblem
from mailer.message.values import Form

MAX_BLOCKS = 10  # blocks inside each other; Python itself stops at 20
MAX_BRANCHES = 100  # elif
_OUTPUTS_PER_CHECK = 100

_COMPARISONS: Final = {
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "lteq": "<=",
    "gt": ">",
    "gteq": ">=",
    "in": "in",
    "notin": "not in",
}
_LOOP: Final = {
    "index": "index_{0}",
    "index0": "(index_{0} - 1)",
    "revindex": "(size_{0} - index_{0} + 1)",
    "revindex0": "(size_{0} - index_{0})",
    "first": "(index_{0} == 1)",
    "last": "(index_{0} == size_{0})",
    "length": "size_{0}",
}

# Filters that take no longer for a long value than for a short one: they need no meter.
_CHEAP: Final = frozenset({"default", "d", "first", "last", "length", "count"})

# What the code may call, besides `write`, which writes one value into the result.
NAMES: Final[Mapping[str, object]] = {
    "MISSING": values.MISSING,
    "Meter": values.Meter,
    "each": values.each,
    "enumerate": enumerate,
    "find": values.find,
    "len": len,
    "member": values.member,
    "parity": values.parity,
    "present": values.present,
    "same": is_,  # Python warns of a constant before `is`
    "whole": values.whole,
    **{f"filter_{name}": function for name, function in FILTERS.items()},
}


@dataclass(frozen=True, slots=True)
class Translation:
    source: str  # defines render(variables) -> str, and check(), which fails if any recipient's rendering would
    lines: tuple[int, ...]  # the template's line for each line of `source`
    required: frozenset[str]
    optional: frozenset[str]  # used only where their absence is provided for
    nested: frozenset[str]  # fields, like person.name, that every rendering reads whatever the values are


@dataclass(frozen=True, slots=True)
class _Scope:
    local: Mapping[str, str] = field(default_factory=dict)  # loop variables and their Python names
    given: frozenset[str] = frozenset()  # variables that a condition around has shown to be there
    certain: bool = True  # no condition or loop around decides whether this is rendered at all
    loop: str = ""  # the number of the innermost loop
    depth: int = 0

    def when(self, test: nodes.Node, *, truth: bool) -> "_Scope":
        return replace(self, given=self.given | shown(test, truth=truth, local=self.local), certain=False)

    def perhaps(self) -> "_Scope":
        return replace(self, certain=False)


def translate(tree: nodes.Template, form: Form) -> Translation:
    """Return the function's source and the names it needs. Raises TemplateProblem."""
    measure(tree)
    return _Translator(form).translate(tree)


class _Translator:
    def __init__(self, form: Form) -> None:
        self._form = form
        self._code: list[str] = []
        self._lines: list[int] = []
        self._required: set[str] = set()
        self._optional: set[str] = set()
        self._nested: set[str] = set()
        self._loops = 0
        self._constants: list[tuple[str, int]] = []  # expressions without variables, and their lines

    def translate(self, tree: nodes.Template) -> Translation:
        self._write("def render(variables):", 1)
        outputs = [part for node in tree.body if isinstance(node, nodes.Output) for part in node.nodes]
        if len(outputs) <= _OUTPUTS_PER_CHECK and all(isinstance(node, nodes.Output) for node in tree.body):
            self._straight(outputs)
        else:
            self._write(" out = []", 1)
            self._write(f" meter = Meter({self._form.max_length})", 1)
            self._block(tree.body, _Scope())
            self._write(f' return whole("".join(out), {self._form.max_length})', 1)
        self._write("def check():", 1)
        self._write(f" meter = Meter({self._form.max_length})", 1)
        for code, line in self._constants:
            self._write(f" {code}", line)
        required = frozenset(self._required)
        optional = frozenset(self._optional) - required
        nested = frozenset(self._nested) - {longer.rpartition(".")[0] for longer in self._nested}
        return Translation("\n".join(self._code), tuple(self._lines), required, optional, nested)

    def _write(self, code: str, line: int) -> None:
        self._code.append(code)
        self._lines.append(line)

    def _straight(self, outputs: list[nodes.Expr]) -> None:
        """Write the result of a template without blocks, as most are, in one expression."""
        written = [(self._output(part, _Scope()), part.lineno) for part in outputs]
        if any("meter." in code for code, _ in written):
            self._write(f" meter = Meter({self._form.max_length})", 1)
        self._write(' return whole("".join((', 1)
        for code, line in written:
            self._write(f"  {code},", line)
        self._write(f" )), {self._form.max_length})", 1)

    def _block(self, body: list[nodes.Node], scope: _Scope) -> None:
        """Write statements; outputs that follow each other become one tuple, a line each for the traceback."""
        indent = " " * (scope.depth + 1)
        if scope.depth > MAX_BLOCKS:
            raise TemplateProblem(body[0].lineno if body else 1, "too many nested blocks: make it simpler")
        waiting: list[tuple[str, int]] = []
        for node in body:
            if isinstance(node, nodes.Output):
                waiting += [(self._output(part, scope), part.lineno) for part in node.nodes]
                continue
            self._flush(waiting, indent)
            match node:
                case nodes.If():
                    self._if(node, scope, indent)
                case nodes.For():
                    self._for(node, scope, indent)
                case _:
                    raise refused(node)
        self._flush(waiting, indent)
        self._write(f"{indent}pass", 1)

    def _flush(self, waiting: list[tuple[str, int]], indent: str) -> None:
        for start in range(0, len(waiting), _OUTPUTS_PER_CHECK):
            if start:
                self._write(f"{indent}meter.measure(out)", waiting[start][1])
            self._write(f"{indent}out += (", 1)
            for code, line in waiting[start : start + _OUTPUTS_PER_CHECK]:
                self._write(f"{indent} {code},", line)
            self._write(f"{indent})", 1)
        waiting.clear()

    def _output(self, node: nodes.Expr, scope: _Scope) -> str:
        match node:
            case nodes.TemplateData():
                return repr(self._form.literal(node.data))
            case nodes.Const():
                try:
                    return repr(self._form.value(constant(node)))
                except RenderProblem as problem:
                    raise TemplateProblem(node.lineno, str(problem)) from None
            case _:
                return self._noted(f"write({self._value(node, scope)})", node)

    def _noted(self, code: str, node: nodes.Node) -> str:
        """Return the code; what depends on nobody is tried out once, before anybody is written to."""
        if not isinstance(node, nodes.Name) and node.find(nodes.Name) is None:
            self._constants.append((code, node.lineno))
        return code

    def _if(self, node: nodes.If, scope: _Scope, indent: str) -> None:
        if len(node.elif_) > MAX_BRANCHES:
            raise TemplateProblem(node.lineno, f"more than {MAX_BRANCHES} elif: make it simpler")
        inside = replace(scope, depth=scope.depth + 1)
        for word, branch in [("if", node), *(("elif", other) for other in node.elif_)]:
            self._write(f"{indent}{word} {self._noted(self._value(branch.test, inside), branch.test)}:", branch.lineno)
            self._block(branch.body, inside.when(branch.test, truth=True))
            inside = inside.when(branch.test, truth=False)
        if node.else_:
            self._write(f"{indent}else:", node.lineno)
            self._block(node.else_, inside)

    def _for(self, node: nodes.For, scope: _Scope, indent: str) -> None:
        if node.test is not None or node.recursive:
            raise TemplateProblem(node.lineno, "a loop with a condition or recursion: put an if into the loop")
        if not isinstance(node.target, nodes.Name):
            raise TemplateProblem(node.lineno, "a loop has one variable: write {% for item in items %}")
        if not isinstance(node.iter, nodes.Name | nodes.Getattr | nodes.Getitem | nodes.Filter):
            raise TemplateProblem(node.lineno, "a loop goes over a variable: write {% for item in items %}")
        name = usable(node.target.name, node.target)
        self._loops += 1
        number = str(self._loops)
        weight = sum(map(measure, node.body)) + 1
        items = f"each({self._value(node.iter, scope)}, {path(node.iter)!r})"
        self._write(f"{indent}items_{number} = {items}; size_{number} = len(items_{number})", node.lineno)
        self._write(f"{indent}meter.spend(size_{number} * {weight})", node.lineno)
        self._write(f"{indent}for index_{number}, item_{number} in enumerate(items_{number}, 1):", node.lineno)
        local = {**scope.local, name: f"item_{number}"}
        inside = replace(scope, depth=scope.depth + 1, certain=False)
        self._block(node.body, replace(inside, local=local, loop=number))
        self._write(f"{indent} meter.measure(out)", node.lineno)
        if node.else_:
            self._write(f"{indent}if not items_{number}:", node.lineno)
            self._block(node.else_, inside)

    def _value(self, node: nodes.Node, scope: _Scope) -> str:  # noqa: PLR0911, PLR0912 - a case for each node
        """Return an expression that raises when something is missing."""
        match node:
            case nodes.Const() | nodes.Neg() | nodes.List() | nodes.Tuple():
                return repr(constant(node))
            case nodes.Name():
                return self._name(node, scope)
            case nodes.Getattr(node=nodes.Name(name="loop")) | nodes.Getitem(node=nodes.Name(name="loop")):
                return _loop_value(node, scope)
            case nodes.Getattr() | nodes.Getitem():
                code = f"member({self._value(node.node, scope)}, {key(node)!r}, {path(node)!r})"
                read = keys(node)
                if read and scope.certain and read.partition(".")[0] not in scope.local:
                    self._nested.add(read)
                return code
            case nodes.Filter(name="first" | "last"):
                return f"present({self._filter(node, scope)}, {path(node)!r})"
            case nodes.Filter():
                return self._filter(node, scope)
            case nodes.Test():
                return self._test(node, scope)
            case nodes.Compare():
                scopes = [scope, *[scope.perhaps()] * (len(node.ops) - 1)]  # a < b < c may end at b
                compared = [
                    f"{_COMPARISONS[part.op]} {self._value(part.expr, inside)}"
                    for part, inside in zip(node.ops, scopes, strict=True)
                ]
                return f"({self._value(node.expr, scope)} {' '.join(compared)})"
            case nodes.And() | nodes.Or():
                right = scope.when(node.left, truth=isinstance(node, nodes.And))
                return f"({self._value(node.left, scope)} {node.operator} {self._value(node.right, right)})"
            case nodes.Not():
                return f"(not {self._value(node.node, scope)})"
            case nodes.Concat():
                return f"meter.join(({', '.join(self._value(part, scope) for part in node.nodes)},))"
            case nodes.CondExpr(expr2=None):
                raise TemplateProblem(node.lineno, "an if without else inside {{ }}: add else ''")
            case nodes.CondExpr(expr2=nodes.Expr() as otherwise):
                chosen = self._value(node.expr1, scope.when(node.test, truth=True))
                other = self._value(otherwise, scope.when(node.test, truth=False))
                return f"({chosen} if {self._value(node.test, scope)} else {other})"
            case _:
                raise refused(node)

    def _maybe(self, node: nodes.Node, scope: _Scope) -> str:
        """Return an expression that gives MISSING when something is missing."""
        match node:
            case nodes.Name() if node.name not in scope.local:
                self._optional.add(usable(node.name, node))
                return f"variables.get({node.name!r}, MISSING)"
            case nodes.Getattr(node=nodes.Name(name="loop")) | nodes.Getitem(node=nodes.Name(name="loop")):
                return _loop_value(node, scope)
            case nodes.Getattr() | nodes.Getitem():
                return f"find({self._maybe(node.node, scope)}, {key(node)!r})"
            case nodes.Filter(name="first" | "last"):
                return self._filter(node, scope, maybe=True)
            case _:
                return self._value(node, scope)

    def _name(self, node: nodes.Name, scope: _Scope) -> str:
        name = usable(node.name, node)
        if name in scope.local:
            return scope.local[name]
        (self._optional if name in scope.given else self._required).add(name)
        return f"variables[{name!r}]"

    def _filter(self, node: nodes.Filter, scope: _Scope, *, maybe: bool = False) -> str:
        function = FILTERS.get(node.name)
        if function is None or node.node is None:
            raise TemplateProblem(node.lineno, f"no filter {node.name!r}: there are {', '.join(sorted(FILTERS))}")
        check_arguments(node, function)
        operand = self._maybe if maybe or node.name in {"default", "d"} else self._value
        arguments = [operand(node.node, scope)]
        arguments += [self._value(argument, scope) for argument in node.args]
        arguments += [f"{pair.key}={self._value(pair.value, scope)}" for pair in node.kwargs]
        called = ", ".join(arguments)
        if node.name in _CHEAP:
            return f"filter_{node.name}({called})"
        return f"meter.apply(filter_{node.name}, {called})"

    def _test(self, node: nodes.Test, scope: _Scope) -> str:
        if node.args or node.kwargs or node.dyn_args or node.dyn_kwargs:
            raise TemplateProblem(node.lineno, f"the test {node.name!r} with an argument: compare with == instead")
        match node.name:
            case "defined" | "undefined":
                negated = "not " if node.name == "defined" else ""
                return f"({negated}same({self._maybe(node.node, scope)}, MISSING))"
            case "none":
                return f"same({self._value(node.node, scope)}, None)"
            case "odd" | "even":
                return f"(parity({self._value(node.node, scope)}) == {int(node.name == 'odd')})"
            case _:
                pass
        raise TemplateProblem(node.lineno, f"no test {node.name!r}: there are defined, undefined, none, odd, even")


def _loop_value(node: nodes.Getattr | nodes.Getitem, scope: _Scope) -> str:
    name = key(node)
    if not scope.loop or not isinstance(name, str) or name not in _LOOP:
        known = ", ".join(f"loop.{known}" for known in _LOOP)
        raise TemplateProblem(node.lineno, f"no such value of a loop here: inside a loop there are {known}")
    return _LOOP[name].format(scope.loop)
