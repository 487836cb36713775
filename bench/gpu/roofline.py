#!/usr/bin/env python3
"""Steps of plans under the ceilings of their device, as a picture.

usage: roofline.py OUT.svg CEILINGS.jsonl NAME=PROFILE.json ...

CEILINGS.jsonl is what `gpu_peers.py ceilings` prints, a profile what `cargo wpk bench --json --profile` does, for a plan whose name ends in its
precision. A circle is a step: operations per byte across, what it reaches upwards, its area the share of the plan's time. Steps that move
elements alone lie at the left edge.
"""
import json, math, re, sys

WIDTH, HEIGHT, MARGIN = 900, 560, 60
ACROSS, UP = (0.1, 10_000), (0.001, 2_000)  # operations per byte, TFLOP/s
COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#ff7f0e"]


def place(value, ends, low, high):
    share = math.log(min(max(value, ends[0]), ends[1]) / ends[0]) / math.log(ends[1] / ends[0])
    return low + share * (high - low)


x = lambda v: place(v, ACROSS, MARGIN, WIDTH - MARGIN)
y = lambda v: place(v, UP, HEIGHT - MARGIN, MARGIN)


def ceilings(path):
    """Bytes and operations per second, in GB/s and TFLOP/s by precision."""
    rows = [json.loads(line) for line in open(path)]
    number = lambda start: {r["name"]: float(r["note"].split()[0]) for r in rows if r.get("suite") == "ceiling" and r["name"].startswith(start)}
    return next(iter(number("read and write").values())), {name.split()[-1]: v for name, v in number("matmul").items()}


def main():
    out, peaks, *profiles = sys.argv[1:]
    bandwidth, rates = ceilings(peaks)
    text = lambda at, words, anchor="middle", colour="black": f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
             text((WIDTH / 2, HEIGHT - 12), "operations per byte"), text((MARGIN, MARGIN - 14), "TFLOP/s", "start")]
    for e in range(-1, 5):
        parts.append(text((x(10.0**e), HEIGHT - MARGIN + 18), f"{10.0**e:g}"))
    for e in range(-3, 4):
        parts.append(text((MARGIN - 6, y(10.0**e) + 4), f"{10.0**e:g}", "end"))
    for name, rate in rates.items():
        ridge = rate * 1000 / bandwidth
        points = [(ACROSS[0], ACROSS[0] * bandwidth / 1000), (ridge, rate), (ACROSS[1], rate)]
        parts.append(f'<polyline fill="none" stroke="#888888" points="{" ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)}"/>')
        parts.append(text((WIDTH - MARGIN, y(rate) - 4), f"{name}, {rate:.0f} TFLOP/s", "end", "#888888"))
    parts.append(text((x(0.3), y(0.3 * bandwidth / 1000) - 10), f"{bandwidth:.0f} GB/s", "middle", "#888888"))
    for i, item in enumerate(profiles):
        name, path = item.split("=", 1)
        profile, colour = json.load(open(path))["profile"], COLOURS[i % len(COLOURS)]
        steps, rate = profile["steps"], rates.get(re.search(r"fp32|tf32|fp16|$", name)[0])
        total = sum(s["ns"] for s in steps)
        # What the ceilings alone would leave of the time.
        least = sum(max(s["bytes"] / bandwidth, s["operations"] / (rate or math.inf) / 1000) for s in steps)
        parts.append(text((WIDTH - MARGIN, HEIGHT - MARGIN - 16 * (len(profiles) - i)), f"{name}: {profile['ns'] / 1e6:.3f} ms, {100 * least / profile['ns']:.0f} % of the ceilings", "end", colour))
        for s in steps:
            radius = max(1.5, 60 * math.sqrt(s["ns"] / total / math.pi))
            at = x(s["operations"] / max(s["bytes"], 1)), y(s["operations"] / max(s["ns"], 1) / 1000)
            parts.append(f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius:.1f}" fill="{colour}" fill-opacity="0.25" stroke="{colour}"/>')
    open(out, "w").write("\n".join([*parts, "</svg>"]) + "\n")


main()
