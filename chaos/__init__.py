"""The proof of the books: real processes killed at every instant that matters, and an SMTP server as the judge."""
