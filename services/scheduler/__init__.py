"""The scheduler: what is sent to whom and when, and its hand-over to the sender."""
