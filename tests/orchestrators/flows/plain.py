"""Plain Python with the official SDK."""

import frame

SCENES = frame.SCENES + frame.TURNS


class Flow(frame.Script):
    command = [frame.python(), str(frame.EXAMPLES / "plain.py")]
