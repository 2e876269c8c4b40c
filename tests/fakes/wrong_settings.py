"""`python -m tests.fakes.wrong_settings`: a service that cannot start with its settings."""

import sys

if __name__ == "__main__":
    sys.stderr.write("MAILER_PORT: write a number\n")
    sys.exit(2)
