"""What a run found: each row printed and stored the moment it is known, in a table for people and in lines of JSON."""

import json
import statistics


def row(case, peer, seconds=None, ratio=None, target=None, note=""):
    return dict(case=case, peer=peer, median=statistics.median(seconds) if seconds else None, seconds=seconds, ratio=ratio,
                target=target, note=note)


def text_of(number, form):
    return "" if number is None else format(number, form)


class Journal:
    """Appends to `stem`.txt and `stem`.jsonl: what an earlier or interrupted run stored stays there."""

    def __init__(self, folder, stem, judges):
        folder.mkdir(parents=True, exist_ok=True)
        self.stem, self.judges, self.rows = folder / stem, judges, []
        self.text, self.data = (open(self.stem.with_name(f"{stem}.{kind}"), "a") for kind in ("txt", "jsonl"))

    def say(self, line=""):
        print(line, flush=True)
        print(line, file=self.text, flush=True)

    def note(self, **facts):
        print(json.dumps(facts), file=self.data, flush=True)

    def begin(self, part, seconds):
        self.say(f"--- {part}, at most {seconds:.0f} s")
        self.say(f"{'work':36s} {'by':20s} {'median ms':>11s} {'fastest':>11s} {'ratio':>9s} {'target':>7s}")

    def add(self, r):
        self.rows.append(r)
        self.note(**r)
        ms = [text_of(1e3 * s if s is not None else None, ".3f")
              for s in (r["median"], min(r["seconds"]) if r["seconds"] else None)]
        self.say(f"{r['case']:36s} {r['peer']:20s} {ms[0]:>11s} {ms[1]:>11s} {text_of(r['ratio'], '.2f'):>9s} "
                 f"{text_of(r['target'], 'g'):>7s} {self.verdict(r):10s} {r['note']}".rstrip())

    def verdict(self, r):
        if "FAILED" in r["note"] or "DISAGREES" in r["note"]:
            return "WRONG"
        if r["target"] is None or not self.judges:
            return ""
        if r["ratio"] is None:
            return "NOT JUDGED"
        return "met" if r["ratio"] >= r["target"] else "MISSED"

    def failed(self):
        return any(self.verdict(r) in ("WRONG", "MISSED") for r in self.rows)
