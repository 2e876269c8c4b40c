"""The proof of the backup service: killed at every phase while others write, read and send."""
