"""Generated from protos/mailer/v1 by `make protos`; never edited by hand."""
