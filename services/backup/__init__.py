"""Backup: copies of the whole database, taken and brought back while everything works."""
