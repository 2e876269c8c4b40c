"""Everything between a template and the finished RFC 5322 bytes.

Pure: no I/O, no clock, no proto type. The scheduler checks (`content`, `variables`), the sender renders
(`mime`).
"""
