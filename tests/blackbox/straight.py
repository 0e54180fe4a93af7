"""What the SDKs make of every fault without Holdfast in between.

    straight.py            prints the table
    straight.py --check    a test: the vendors' own clients do hand over half answers in silence here, so the matrix can fail
"""

import asyncio
import sys

import cells
import rig


def outcomes(sim, catalogue):
    """Every fault of the catalogue asked straight."""
    todo = list(cells.cells(catalogue, ("straight",)))
    # A vendor that is silent for ever hangs the client for as long as it likes; that too is an outcome, but one second shows it.
    cells.ask.HUNG_AFTER, kept = 2.5, cells.ask.HUNG_AFTER

    async def work():
        answers = await cells.right_answers(sim.port)
        return await cells.run(sim.port, todo, answers, 64)

    try:
        return asyncio.run(work())
    finally:
        cells.ask.HUNG_AFTER = kept


def main():
    with rig.Sim() as sim:
        found = outcomes(sim, sim.control("GET", "catalogue"))
    tallies = {}
    for outcome in found:
        tallies.setdefault(outcome.cell.spec, cells.Tally()).words[outcome.word] += 1
    for spec, tally in tallies.items():
        print(f"{spec:40} {tally.text()}")
    total = cells.Tally()
    for tally in tallies.values():
        total.words.update(tally.words)
    print(f"{'together':40} {total.text()}")
    if "--check" not in sys.argv:
        return 0

    def words(spec):
        return set(tallies[spec].words)

    def healthy_answers_are_whole():
        assert words("ok") == {"whole"}, words("ok")

    def a_clean_cut_is_silent():
        assert "silent" in words("cut-clean:half"), words("cut-clean:half")

    def cut_tool_arguments_are_half():
        assert "half" in words("tool-args-cut"), words("tool-args-cut")

    def a_stall_hangs():
        assert "hung" in words("stall:3"), words("stall:3")

    def a_reset_is_told():
        streams = {o.word for o in found if o.cell.spec == "cut-rst:after:3" and o.cell.stream}
        assert streams == {"told"}, streams

    def nothing_escapes_the_words():
        assert sum(total.words.values()) == len(found) > 500, total.text()

    return rig.suite("straight", [healthy_answers_are_whole, a_clean_cut_is_silent, cut_tool_arguments_are_half, a_stall_hangs,
                                  a_reset_is_told, nothing_escapes_the_words])


if __name__ == "__main__":
    sys.exit(main())
