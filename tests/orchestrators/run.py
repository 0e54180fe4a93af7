#!/usr/bin/env python3
"""Runs the workflows of examples/orchestrators against the built gateway, a counting vendor and a counting target.

    run.py                 every flow
    run.py --only plain    these flows (may be repeated)
    run.py --list          the flows and the scenes

Each is run to its end, run again, and killed in the model call, while it waits for a person, in the effect, and
together with the gateway. Whatever happens: one vendor call, one question to a person, one effect, a whole result.
Most also meet a gate that refuses and a person who says no.
HOLDFAST_BIN is the gateway (target/debug/holdfast), HOLDFAST_FLOWS where the flows' Node packages are installed (.cache/flows).
"""

import argparse
import importlib
import sys
import time
import traceback
from pathlib import Path

import frame


def flows():
    names = sorted(path.stem for path in (Path(__file__).parent / "flows").glob("*.py"))
    return {name: importlib.import_module(f"flows.{name}") for name in names}


def play(module, counts):
    with frame.World() as world:
        flow = module.Flow()
        try:
            flow.setup(world)
            for scene in getattr(module, "SCENES", frame.SCENES):
                started = time.monotonic()
                name = f"{module.__name__.split('.')[-1]}: {scene.__name__.replace('_', ' ')}"
                try:
                    scene(world, flow)
                    counts[0] += 1
                    print(f"ok   {name} ({time.monotonic() - started:.1f} s)", flush=True)
                except Exception as error:  # one scene's end is not the others'
                    counts[1] += 1
                    why = error if isinstance(error, frame.Failed) else traceback.format_exc()
                    print(f"FAIL {name}: {why}\n     logs: {world.directory}", flush=True)
        finally:
            flow.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="FLOW")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    known = flows()
    if args.list:
        print("\n".join([*known, "", *(scene.__name__ for scene in frame.SCENES + frame.TURNS)]))
        return 0
    unknown = set(args.only or []) - set(known)
    if unknown:
        parser.error(f"no flow is named {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    counts = [0, 0]
    for name, module in known.items():
        if args.only and name not in args.only:
            continue
        try:
            play(module, counts)
        except Exception:
            counts[1] += 1
            print(f"FAIL {name}: {traceback.format_exc()}", flush=True)
    print(f"{counts[0]} passed, {counts[1]} failed")
    return 1 if counts[1] or not counts[0] else 0


if __name__ == "__main__":
    sys.exit(main())
