"""One rank of three fails at a line that it executes, and every rank must hear of it: every line once, on every rank.

usage: python tests/soak/lines.py [SHARE [SEED]]     SHARE of all lines, 1 if it is not given

By hand; neither `make test` nor `.ci/run` does it, but test_failures.py tries a few lines drawn with a seed. Says which
trials hang, or end otherwise than they should, and exits with 1 where there are some.
"""
import json
import random
import sys
import tempfile
from pathlib import Path

from ptyprep.testing import run_on_ranks

HERE = Path(__file__).parent
SCRIPT = HERE.parent / "mpi" / "at_a_line.py"
RANKS = 3
HOW = ("raises", "is odd", "is stopped", "has no memory")
SENDING = "that was while ranks sent each other data"      # nobody can be told then: the job ends


def lines_of(folder):
    """Trials of every line that a rank executes, once for each case and rank that does."""
    job = run_on_ranks(RANKS, SCRIPT, folder, "look", timeout=120)
    assert job.returncode == 0, job.stderr
    for rank in range(RANKS):
        for case, lines in json.loads((folder / f"{rank}.json").read_text()).items():
            for file, number, times in lines:
                yield {"case": case, "rank": rank, "line": [file, number], "time": times}


def drawn(trials, share, seed):
    """Some of the trials, each at one of the times that its line is executed, in one of the ways to fail."""
    draw = random.Random(seed)      # noqa: S311
    once = {}                       # a line is tried in one case on each rank
    for trial in draw.sample(trials, len(trials)):
        once.setdefault((trial["rank"], *trial["line"]), trial)
    some = list(once.values())
    some = some[:share] if isinstance(share, int) else some[:round(share * len(some))]
    return [{**trial, "time": draw.randint(1, trial["time"]), "how": draw.choices(HOW, (5, 1, 2, 2))[0]}
            for trial in some]


def wrong(folder, trials):
    """What went wrong in trials, in words; a job that ended with one goes on with the next."""
    (folder / "trials.json").write_text(json.dumps(trials))
    (folder / "next").write_text("0")
    ended = set()
    while int((folder / "next").read_text()) < len(trials):
        job = run_on_ranks(RANKS, SCRIPT, folder, "try", timeout=120 + 10 * len(trials))
        if job.returncode == 0:
            break
        number = int((folder / "next").read_text()) - 1
        ended.add(number)
        if SENDING not in job.stderr or f"ptyprep: rank {trials[number]['rank']}: " not in job.stderr:
            yield f"{trials[number]}: the job ended with {job.returncode}\n{job.stderr[-6000:]}"
    told = [{number: rest for number, *rest in map(json.loads, _lines(folder / f"told.{rank}.jsonl"))}
            for rank in range(RANKS)]
    for number, trial in enumerate(trials):
        if number not in ended:
            heard, fired = zip(*(of_rank.get(number, ("said nothing", False)) for of_rank in told))
            others = [text for rank, text in enumerate(heard) if rank != trial["rank"]]
            mine = heard[trial["rank"]]
            if any(heard) and not (any(fired) and mine and all(f"rank {trial['rank']}: " in text for text in others)):
                yield f"{trial}: {heard}"


def _lines(path):
    return path.read_text().splitlines() if path.exists() else []


def main(share=1.0, seed=0):
    with tempfile.TemporaryDirectory() as folder:
        trials = drawn(list(lines_of(Path(folder))), float(share), int(seed))
        print(f"{len(trials)} lines")
        found = 0
        for text in wrong(Path(folder), trials):
            print(text, flush=True)
            found += 1
        print(f"{len(trials)} lines tried, {found} of them wrong")
        return found


if __name__ == "__main__":
    sys.exit(bool(main(*sys.argv[1:])))
