"""Plain Python with the official SDK."""

import frame


class Flow(frame.Script):
    command = [frame.python(), str(frame.EXAMPLES / "plain.py")]
