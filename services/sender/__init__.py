"""The sender: how each message reaches an SMTP server, and the exact book of what became of it."""
