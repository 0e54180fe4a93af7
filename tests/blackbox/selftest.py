"""The judge of the harness itself: that it can say every word, and says the bad ones when it must."""

import sys
import zlib

import ask
import cells
import rig

TEXT = "one two three"
RIGHT = ask.Answer(text=f"{TEXT} #sum:{zlib.crc32(TEXT.encode()):08x}", tools=[("record", '{"note":"x"}')])


def answer(**changes):
    whole = {"text": RIGHT.text, "tools": list(RIGHT.tools), "stop": "stop", "ended": True}
    return ask.Answer(**{**whole, **changes})


def a_whole_answer_is_whole():
    assert ask.judge(answer(), RIGHT, "openai") == "whole"
    assert ask.judge(answer(tools=[("record", '{ "note": "x" }')]), RIGHT, "openai") == "whole"


def an_answer_without_an_end_is_silent():
    assert ask.judge(answer(stop=None), RIGHT, "openai") == "silent"
    assert ask.judge(answer(stop="end_turn", ended=False), RIGHT, "anthropic") == "silent"


def a_stop_reason_that_nobody_knows_is_silent():
    assert ask.judge(answer(stop="vendor_novelty"), RIGHT, "openai") == "silent"
    assert ask.judge(answer(stop="pause_turn"), RIGHT, "anthropic") == "silent"


def every_missing_or_doubled_piece_is_half():
    for cut in range(len(RIGHT.text)):
        assert ask.judge(answer(text=RIGHT.text[:cut]), RIGHT, "openai") == "half", cut
    assert ask.judge(answer(text=RIGHT.text + RIGHT.text), RIGHT, "openai") == "half"
    assert ask.judge(answer(tools=[]), RIGHT, "openai") == "half"
    assert ask.judge(answer(tools=[("record", '{"note":"')]), RIGHT, "openai") == "half"
    assert ask.judge(answer(tools=RIGHT.tools * 2), RIGHT, "openai") == "half"


def a_limit_that_is_named_is_told():
    assert ask.judge(answer(text="one two", tools=[], stop="length"), RIGHT, "openai") == "told"
    assert ask.judge(answer(text="one two", tools=[], stop="stop"), RIGHT, "openai") == "half"


def checksums_are_checked():
    assert ask.sealed(RIGHT.text)
    assert not ask.sealed(RIGHT.text[:-1]) and not ask.sealed(TEXT) and not ask.sealed("")


def cell(**changes):
    base = {"spec": "cut-clean:half", "vendor": "openai", "caller": "openai", "stream": True, "kind": "text", "delivery": "guarded",
            "setup": "one", "seed": 1, "verdict": "broken", "lawful": True}
    return cells.Cell(**{**base, **changes})


def breaches_are_found():
    def why(word, shown=False, **changes):
        return cells.breach(cells.Outcome(cell(**changes), word, None, "", shown))

    for bad in ("half", "silent", "hung"):
        assert why(bad)
    assert why("told") is None
    assert why("whole"), "a broken answer must not become whole"
    assert why("told", verdict="whole"), "a false alarm"
    assert why("told", setup="two", shown=True) is None
    assert why("told", setup="two"), "nothing was shown: the second target must have answered"
    assert why("told", setup="two", delivery="whole", shown=True)
    assert why("told", setup="two", spec="status:400", verdict="error") is None
    assert why("whole", setup="two") is None


if __name__ == "__main__":
    sys.exit(rig.suite("harness", [
        a_whole_answer_is_whole, an_answer_without_an_end_is_silent, a_stop_reason_that_nobody_knows_is_silent,
        every_missing_or_doubled_piece_is_half, a_limit_that_is_named_is_told, checksums_are_checked, breaches_are_found]))
