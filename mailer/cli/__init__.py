"""The operator's command `mailer`: a gRPC client like any other.

One noun per file. `root` knows the names of the commands and loads the module of the one that is called, so that
`mailer --help` does not wait for grpc.
"""
