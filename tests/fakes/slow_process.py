"""`python -m tests.fakes.slow_process`: a service that never gets as far as catching a signal."""

import time

if __name__ == "__main__":
    time.sleep(60)
