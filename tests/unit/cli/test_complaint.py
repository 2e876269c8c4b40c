"""How the command ends when it cannot go on."""

import subprocess
import sys

CODE = "import sys; from mailer.cli.complaint import complain; sys.exit(complain(BrokenPipeError(), as_json=False))"


def test_output_that_nobody_reads_ends_it_as_every_program_of_a_pipeline() -> None:
    ended = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (141, "", "")
