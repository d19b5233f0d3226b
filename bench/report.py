"""Results as a Markdown table and as a plot. Same results, same bytes: no dates, no names of machines.

`report.py DIR [README]` writes both again from DIR/results.json; the most important rows also into README, between its two marks."""
import json
import math
import sys
from html import escape
from pathlib import Path

from harness import DAEMON, DRIVE, NATIVE, NULL, OURS, human

COLOURS = {DRIVE: "#2563a8", DAEMON: "#8fb8de", NULL: "#888", "peer": "#b9a58a"}


def ours(row):
    return row["cases"].get(DRIVE) or row["cases"].get(DAEMON) or {}


def best_peer(row):
    peers = {c: e for c, e in row["cases"].items() if c not in OURS and c != "without saving"}
    return min(peers.items(), key=lambda p: p[1]["median"]) if peers else None


def cell(entry, unit):
    if not entry:
        return "–"
    text = human(entry["median"], unit)
    return f"{text} ({entry['ratio']:.2f})" if "ratio" in entry else text


def targets(row):
    """What was promised, as words, and what of it was missed."""
    words, lacking = [], []
    for case in (DRIVE, DAEMON):
        e = row["cases"].get(case, {})
        end = "" if case == DRIVE else " without passthrough"
        if "limit" in e:
            words.append(f"≤ {e['limit']:g} × native{end}")
        if "ceiling" in e:
            words.append(f"≤ {human(e['ceiling'], row['unit'])}{end}")
        if not e.get("reached", True):
            lacking.append("without passthrough" if end else "with passthrough" if DAEMON in row["cases"] else "")
    if len(words) == 2 and words[1] == words[0] + " without passthrough":
        words.pop()
    if "best_peer" in ours(row):
        words.append(f"faster than {ours(row)['best_peer']}")
        if not ours(row)["faster_than_peers"]:
            lacking.append(f"slower than {ours(row)['best_peer']}")
    if lacking and bound_by_fuse(row):
        lacking.append(f"a FUSE file system that does nothing takes {row['cases'][NULL]['ratio']:.1f} ×")
    return ", ".join(words), lacking


def bound_by_fuse(row):
    """Even a daemon that does nothing misses it."""
    limit = row["cases"].get(DRIVE, {}).get("limit")
    return limit and row["cases"].get(NULL, {}).get("ratio", 0) > limit


def missed(results):
    out = [f"{row['title']}: {targets(row)[0]}; is {cell(row['cases'].get(DRIVE), row['unit'])}, without passthrough {cell(row['cases'].get(DAEMON), row['unit'])}"
           for row in results["rows"].values() if targets(row)[1]]
    return out


# What README shows, besides all that missed its target.
HEADLINES = ("mint", "mints", "mount", "ls", "log", "find", "save", "save-fsync", "load-warm", "mmap-warm", "read-cold", "w1", "w1-bytes", "commit-hashed", "walk")


def in_short(results):
    return {**results, "rows": {key: row for key, row in results["rows"].items() if key in HEADLINES or targets(row)[1]}}


def main_table(results):
    yield "| what | native | drive | without passthrough | FUSE that does nothing | best peer | target | reached |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |"
    for row in results["rows"].values():
        unit, cases, peer = row["unit"], row["cases"], best_peer(row)
        wanted, lacking = targets(row)
        reached = "" if not wanted else "yes" if not lacking else f"**no** {', '.join(lacking)}".strip()
        peer = f"{peer[0]} {cell(peer[1], unit)}" if peer else "–"
        yield f"| {row['title']} | {cell(cases.get(NATIVE), unit)} | {cell(cases.get(DRIVE), unit)} | {cell(cases.get(DAEMON), unit)} | {cell(cases.get(NULL), unit)} | {peer} | {wanted} | {reached} |"


def long_table(results):
    yield "| what | where | runs | median | least | most | times native | least | most |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in results["rows"].values():
        title = row["title"]
        for case, e in row["cases"].items():
            ratios = " | ".join(f"{e[k]:.2f}" if k in e else "" for k in ("ratio", "ratio_min", "ratio_max"))
            yield f"| {title} | {case} | {e['runs']} | {human(e['median'], row['unit'])} | {human(e['min'], row['unit'])} | {human(e['max'], row['unit'])} | {ratios} |"
            title = ""


def markdown(results):
    m = results["machine"]
    notes = [f"- {row['title']}: {row['note']}" for row in results["rows"].values() if row["note"]]
    head = f"""# Performance

Made by `scripts/bench --{results['setting']}`; the numbers are in [results.json](results.json). {m['mintfs']}, Linux {m['kernel']}, {m['processors']} processors,
{m['memory_gib']} GiB of memory, {m['file_system']}{'' if m['root'] else ', as an ordinary user'}. Every case of a row ran {results['turns']} times, in turns (a slow peer less often). Shown
is the median; in brackets the median of its ratios to native in the same turn.

![times native](ratios.svg)
"""
    parts = [head, "\n".join(main_table(results)), ""]
    if notes:
        parts += ["\n".join(notes), ""]
    if results["skipped"] or results["failed"]:
        parts += ["Left out:\n" + "\n".join(f"- {w}" for w in results["skipped"] + [f"failed: {f}" for f in results["failed"]]), ""]
    return "\n".join(parts + ["## Spread", "", "\n".join(long_table(results)), ""])


BEGIN, END = "<!-- scripts/bench writes from here -->\n", "<!-- to here -->\n"


def into_readme(text, results):
    """What matters most of the table, between the marks; without them the text stays."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not end:
        return text
    m = results["machine"]
    wanted = [row for row in results["rows"].values() if targets(row)[0]]
    lacking = sum(1 for row in wanted if targets(row)[1])
    intro = (f"Linux {m['kernel']}, {m['processors']} processors, {m['file_system']}; medians, in brackets as multiples of native in the same turn. "
             f"{len(wanted) - lacking} of {len(wanted)} rows reach their targets; here are the {lacking} that do not, and some that do:")
    return f"{head}{begin}{intro}\n\n" + "\n".join(main_table(in_short(results))) + f"\n{end}{tail}"


# ---- the plot: a line of dots for each row, on a logarithmic scale of ratios ----

LEFT, WIDTH, LINE, TOP = 450, 420, 26, 64


def plotted(results):
    rows = [r for r in results["rows"].values() if any("ratio" in r["cases"].get(c, {}) for c in (DRIVE, DAEMON))]
    return [r for r in rows if r["unit"] != "B"]


def svg(results):
    rows = plotted(results)
    points = [e["ratio"] for r in rows for c, e in r["cases"].items() if "ratio" in e and (c in OURS or c == (best_peer(r) or [None])[0])]
    low, high = min([0.5] + [p / 1.1 for p in points]), max([4.0] + points) * 1.1

    def x(ratio):
        return LEFT + WIDTH * math.log(max(ratio, low) / low) / math.log(high / low)

    height = TOP + LINE * len(rows) + 16
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 30}" height="{height}" font-family="sans-serif" font-size="12" fill="#333">',
           f'<rect width="{LEFT + WIDTH + 30}" height="{height}" fill="#fff"/>', '<text x="10" y="20" font-size="14">Time, as a multiple of native</text>']
    at = LEFT
    for name, label in ((DRIVE, DRIVE), (DAEMON, DAEMON), (NULL, NULL), ("peer", "best peer")):
        out.append(f'<circle cx="{at}" cy="16" r="5" fill="{COLOURS[name]}"/><text x="{at + 10}" y="20">{label}</text>')
        at += 30 + 7 * len(label)
    out.append(f'<path d="M{at} 9v14" stroke="#c33" stroke-width="2"/><text x="{at + 8}" y="20">target</text>')
    for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500):
        if low <= tick <= high:
            stroke = "#888" if tick == 1 else "#ddd"
            out.append(f'<path d="M{x(tick):.1f} {TOP - 12}V{height - 10}" stroke="{stroke}"/><text x="{x(tick):.1f}" y="{TOP - 18}" text-anchor="middle">{tick:g}</text>')
    for i, row in enumerate(rows):
        y = TOP + LINE * i + 6
        out.append(f'<text x="{LEFT - 14}" y="{y + 4}" text-anchor="end">{escape(row["title"])}</text>')
        out += marks(row, x, y)
    return "\n".join(out + ["</svg>", ""])


def marks(row, x, y):
    peer = best_peer(row)
    if peer and "ratio" in peer[1]:
        yield f'<circle cx="{x(peer[1]["ratio"]):.1f}" cy="{y}" r="5" fill="{COLOURS["peer"]}"><title>{escape(peer[0])} {peer[1]["ratio"]:.2f}</title></circle>'
    for case in (NULL, DAEMON, DRIVE):
        e = row["cases"].get(case, {})
        if case == NULL and "ratio" in e:
            yield f'<circle cx="{x(e["ratio"]):.1f}" cy="{y}" r="4" fill="none" stroke="{COLOURS[NULL]}"><title>{NULL} {e["ratio"]:.2f}</title></circle>'
            continue
        if "limit" in e and (case == DRIVE or e["limit"] != row["cases"].get(DRIVE, {}).get("limit")):
            yield f'<path d="M{x(e["limit"]):.1f} {y - 8}v16" stroke="#c33" stroke-width="2"{"" if case == DRIVE else " stroke-dasharray=" + chr(34) + "2" + chr(34)}/>'
        if "ratio" in e:
            yield f'<path d="M{x(e["ratio_min"]):.1f} {y}H{x(e["ratio_max"]):.1f}" stroke="{COLOURS[case]}"/>'
            yield f'<circle cx="{x(e["ratio"]):.1f}" cy="{y}" r="5" fill="{COLOURS[case]}"><title>{case} {e["ratio"]:.2f}</title></circle>'


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    read = json.loads((folder / "results.json").read_text())
    (folder / "README.md").write_text(markdown(read))
    (folder / "ratios.svg").write_text(svg(read))
    for readme in map(Path, sys.argv[2:3]):
        readme.write_text(into_readme(readme.read_text(), read))
