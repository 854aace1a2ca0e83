"""Classifies what was labelled, and counts."""

import collections
import glob
import json
import re
import subprocess

MODES = ("none", "standard", "catalog")
# Reasons that are told of reads too.
NOTES = {"credentials", "row_security", "explain_analyze", "native_function", "declared_function", "definer_function", "foreign_table"}


def classified(root, place, labels, binary):
    build = "cargo run --quiet --release --package countersign-sql --example classify --"
    command = ([binary] if binary else build.split()) + ["postgres", place + ".rows", place + ".snapshots"]
    asked = "".join(json.dumps({"sql": one["sql"], "snapshot": one["snapshot"]}) + "\n" for one in labels)
    answer = subprocess.run(command, input=asked, text=True, stdout=subprocess.PIPE, cwd=root, check=True)
    return [json.loads(line) for line in answer.stdout.splitlines()]


def lines(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def own_object(said, names):
    """Whether each reason that makes it more than a read is about an object that the script made itself."""
    reasons = [text for code, text in said["reasons"] if code not in NOTES]
    return bool(reasons) and all(any(base in names for base in named(text)) for text in reasons)


def named(text):
    """The names in the words of a reason, without their schema."""
    for name in re.findall(r"`\s*([^`]+?)\s*`", text):
        name = re.sub(r"\(.*", "", name)
        yield from (name.strip('"'), name.rsplit(".", 1)[-1].strip('"'), re.sub("^_", "", name.rsplit(".", 1)[-1]))


def report(root, out, binary, show):
    labels = collections.Counter()
    reads, own, kinds = collections.Counter(), collections.Counter(), collections.defaultdict(collections.Counter)
    unsafe, worse, shown = [], [], []
    for path in sorted(glob.glob(out + "/*.labels")):
        place = path.removesuffix(".labels")
        labelled, snapshots, rows = lines(path), lines(place + ".snapshots"), lines(place + ".rows")
        names = {}
        for one, said in zip(labelled, classified(root, place, labelled, binary), strict=True):
            label, moment = one["label"], one["snapshot"]
            labels[label] += 1
            if label in ("write", "hard"):
                unsafe += [(mode, one) for mode in MODES if said.get(mode, {}).get("effect") == "read"]
            if label != "plain":
                continue
            if moment not in names:
                names = {moment: {rows[number][1] for number in snapshots[moment]["own"]}}
            for mode in MODES:
                if said[mode]["effect"] == "read":
                    reads[mode] += 1
                    continue
                mine = own_object(said[mode], names[moment])
                own[mode] += mine
                reason = next((reason for reason in said[mode]["reasons"] if reason[0] not in NOTES), ["?", "?"])
                kinds[mode][(reason[0], "own" if mine else "other")] += 1
                if mode == show:
                    shown.append(("own" if mine else "other", one, reason[1]))
            if said["none"]["effect"] == "read" and said["catalog"]["effect"] != "read":
                worse.append((one, said["catalog"]["reasons"]))
    plain = labels["plain"]
    print("labels:", dict(labels.most_common()))
    for mode in MODES:
        others = plain - own[mode]
        print(f"{mode}: {reads[mode]} of {plain} plain reads called a read ({100 * reads[mode] / plain:.2f} %); "
              f"{100 * reads[mode] / others:.2f} % of the {others} that no object of the script's own blocks")
        for (code, whose), number in kinds[mode].most_common():
            print(f"    {number:5} {code}, {whose}")
    print(f"blocked by the catalog and not without it: {len(worse)}")
    print("called a read and none:", dict(collections.Counter((mode, one["label"]) for mode, one in unsafe)))
    for mode, one in unsafe:
        if mode == "catalog":
            print(f"    {one['script']}:{one['line']} {one['label']}: {one['sql'][:200]!r} {one['runs']}")
    for one, reasons in worse if show == "worse" else []:
        print(f"    {one['script']}:{one['line']} {one['sql'][:160]!r} {[text for code, text in reasons if code not in NOTES][:2]}")
    for whose, one, reason in shown:
        print(f"    {whose} {one['script']}:{one['line']} {one['sql'][:120]!r}: {reason}")
    return [one for mode, one in unsafe if mode == "catalog"]
