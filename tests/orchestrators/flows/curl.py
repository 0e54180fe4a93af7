"""A shell script with curl and jq."""

import frame

SCENES = frame.SCENES + frame.TURNS


class Flow(frame.Script):
    command = [str(frame.EXAMPLES / "curl.sh")]
