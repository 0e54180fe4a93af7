"""LangGraph with its SQLite checkpointer."""

import frame

SCENES = frame.SCENES + frame.TURNS


class Flow(frame.Script):
    command = [frame.python(), str(frame.EXAMPLES / "langgraph_flow.py")]

    def env(self):
        return super().env() | {"CHECKPOINTS": str(self.world.directory / "checkpoints.db"), "LANGSMITH_TRACING": "false"}
