"""What can be wrong with a message, said in one sentence that names the problem and the cure."""


class MessageProblem(ValueError):
    """The input cannot become a message. `str()` of it is fit for the person who wrote the input."""


class AddressProblem(MessageProblem):
    """Not one plain e-mail address."""


class TemplateProblem(MessageProblem):
    """A template that can never be rendered. Its text starts with the line, e.g. `line 3: ...`."""

    def __init__(self, line: int, problem: str) -> None:
        self.line = line or 1  # Jinja2 leaves it out of some nodes
        super().__init__(f"line {self.line}: {problem}")
        self.problem = problem


class RenderProblem(MessageProblem):
    """This recipient's values do not fit the template; other recipients may be fine."""
