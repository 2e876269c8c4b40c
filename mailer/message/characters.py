"""Characters that may not stand where a line of a message is written."""

import re

# C0, DEL, C1 and the two Unicode line ends: everything that any reader may take for the end of a line.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
ENCODED_WORD = re.compile(r"=\?[^?\s]*\?[A-Za-z]\?[^?]*\?=")
SURROGATES = re.compile("[\ud800-\udfff]")
