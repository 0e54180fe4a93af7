"""A shell script with curl and jq."""

import frame


class Flow(frame.Script):
    command = [str(frame.EXAMPLES / "curl.sh")]
