"""Checks a report with parsers and arithmetic that are not ours.

    python report_check.py page PAGE.html            well-formed, self-contained, labelled, no blank figure
    python report_check.py numbers PAGE.html FILE.h5 ...   CSV files equal what numpy makes of the results

Prints one line a fault; exit code 1 where there is any.
"""

import csv
import io
import re
import sys
import urllib.parse
import xml.etree.ElementTree as xml

faults = []


def fault(text):
    faults.append(text)
    print(text)


def csvs(page):
    found = {}
    for link in page.iter("a"):
        href = link.get("href", "")
        if href.startswith("data:text/csv"):
            text = urllib.parse.unquote(href.split(",", 1)[1])
            found[link.get("download").removesuffix(".csv")] = list(csv.DictReader(io.StringIO(text)))
    return found


def drawn(figure):
    """Shapes that stand for data: not axes, not hover targets."""
    shapes = 0
    for group in figure.iter("g"):
        if "m" in group.get("class", "").split():
            shapes += sum(1 for shape in group if len(shape.get("d", "")) > 8 or shape.tag in ("line", "circle"))
    return shapes + sum(1 for image in figure.iter("image") if len(image.get("href", "")) > 100)


# Machado, Oliveira & Fernandes 2009, full severity, on linear sRGB.
VISION = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}


def times(matrix, vector):
    return [sum(a * b for a, b in zip(row, vector)) for row in matrix]


def linear(colour):
    channels = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]


def lab(rgb):
    to_xyz = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.072175), (0.0193339, 0.119192, 0.9503041))
    xyz = times(to_xyz, [min(max(c, 0), 1) for c in rgb])
    f = [t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (xyz[0] / 0.95047, xyz[1], xyz[2] / 1.08883)]
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


def check_colours(style):
    """Colours of one meaning stay apart (CIE76) in every kind of vision and stand out from the background."""
    light, dark = style.split("@media (prefers-color-scheme: dark)")[:2]
    for theme, css in (("light", light), ("dark", dark)):
        named = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", css))
        luminance = {name: times(((0.2126, 0.7152, 0.0722),), linear(c))[0] for name, c in named.items()}
        for family, least in (("s", 15), ("r", 9)):
            members = [name for name in named if re.fullmatch(family + r"\d", name)]
            if len(members) != 6:
                fault(f"{theme}: {len(members)} colours in family {family}")
            for name in members:
                high, low = sorted((luminance[name], luminance["bg"]), reverse=True)
                if not (high + 0.05) / (low + 0.05) >= 3:
                    fault(f"{theme}: {name} hardly stands out from the background")
            for i, a in enumerate(members):
                for b in members[:i]:
                    for vision, matrix in VISION.items():
                        seen = [lab(times(matrix, linear(named[c]))) for c in (a, b)]
                        apart = sum((x - y) ** 2 for x, y in zip(*seen)) ** 0.5
                        if not apart >= least:
                            fault(f"{theme}: {b} and {a} are alike in {vision} ({apart:.1f})")


def check_page(text):
    try:
        page = xml.fromstring(text.split("\n", 1)[1])
    except xml.ParseError as error:
        return fault(f"not well-formed: {error}")
    ids = [e.get("id") for e in page.iter() if e.get("id")]
    for name in {i for i in ids if ids.count(i) > 1}:
        fault(f"id {name} twice")
    for element in page.iter():
        for name, value in element.attrib.items():
            if name in ("src", "href", "srcset", "action", "data", "poster") and not value.startswith(("data:", "#")):
                fault(f"external: {element.tag} {name}={value[:60]}")
            if name == "href" and value.startswith("#") and value[1:] not in ids:
                fault(f"link to nowhere: {value}")
            if name.startswith("on"):
                fault(f"handler in an attribute: {element.tag} {name}")
    if re.search(r"https?://|url\(|@import|fetch\(|XMLHttpRequest|\bimport\b", text):
        fault("external: an address or a way to fetch one")
    check_colours(page.find("head/style").text)
    figures = list(page.iter("figure"))
    if not figures:
        fault("no figure")
    for figure in figures:
        name = figure.get("id")
        if figure.find("h3") is None or not "".join(figure.find("h3").itertext()).strip():
            fault(f"{name}: no title")
        if figure.find("figcaption") is None:
            fault(f"{name}: no caption")
        panels = [p for p in figure.iter("div") if p.get("class") == "panel"]
        whiskers = [s for s in figure.iter("svg") if s.get("class") == "whisker"]
        for i, panel in enumerate(panels):
            if drawn(panel) == 0:
                fault(f"{name}: panel {i + 1} is blank")
        if not panels and not whiskers:
            fault(f"{name}: no panel")
        if not any(a.get("download") for a in figure.iter("a")) or not list(figure.iter("table")):
            fault(f"{name}: no table or CSV")
    for svg in page.iter("svg"):
        if svg.get("aria-hidden") != "true" and not (svg.get("role") == "img" and svg.get("aria-label")):
            fault("an svg without role or label")
        # A picture's base64 may hold any letters.
        words = (w for e in svg.iter() for w in [e.text or "", *(v for k, v in e.attrib.items() if k != "href")])
        if any("NaN" in word for word in words):
            fault("NaN in a drawing")
    for name, rows in csvs(page).items():
        if not rows:
            fault(f"{name}.csv is empty")


def pool_by_point(file):
    """Which models are one point: those of one beta and strength of mixup."""
    found = {}
    for s, place in enumerate(zip(file["mixup_strength"][:], file["beta"][:])):
        found.setdefault(("mixup" if place[0] else "no mixup", repr(float(place[1]))), []).append(s)
    return found


def sets(file):
    """Key of the set, name and group of every attack, in both formats."""
    for attack, group in file["attack"].items():
        key, name = attack.rsplit("-", 1) if "-" in attack and file.attrs["pullback_format"] == 1 else ("", attack)
        yield key, name, group
    for key, further in file.get("further", {}).items():
        for name, group in further["attack"].items():
            yield key, name, group


def below(file, group):
    """Names of the data sets in a group, at any depth."""
    import h5py

    found = []
    if group in file:
        file[group].visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


def check_sweep(tables, file, pools):
    """Relations, the plane and the losses of training, as the file has them; how many rows were compared."""
    import numpy as np

    seen = 0

    def equal(where, found, made):
        nonlocal seen
        seen += 1
        if not (abs(float(found) - made) <= 1e-12 * max(1, abs(made)) or (np.isnan(made) and found == "NaN")):
            fault(f"{where}: page {found}, file {made}")

    for table, statistic, group in (("correlations", "spearman", "correlation"), ("correlations", "kendall", "kendall"),
                                    ("effects", "mean difference", "effect")):
        rows = {row["name"]: row for row in tables.get(f"sweep-{table}", []) if row["statistic"] == statistic}
        names = set(below(file, group))
        if set(rows) != names:
            fault(f"{table}: page has {len(rows)} names, the file {len(names)}")
        for name in names & set(rows):
            for column, made in zip(("value", "lower", "upper"), file[group][name][:]):
                equal(f"{table} {name} {column}", rows[name][column], made)
    for row in tables.get("sweep-within", []):
        models = pools[row["mixup"], repr(float(row["beta"]))]
        group = {"spearman": "within", "kendall": "kendall_within"}[row["statistic"]]
        made = np.median(file[group][row["name"]][:][models], axis=0)
        for column, value in zip(("value", "lower", "upper"), made):
            equal(f"within {row}", row[column], value)
    for row, s in zip(tables.get("sweep-training", []), range(len(file["beta"]))):
        for column, made in [("beta", file["beta"][s]), ("seed", file["seed"][s])] + [
                (name, values[s]) for name, values in file["training"].items()]:
            equal(f"training {s} {column}", row[column], made)
    # The plane, of every set of attacks.
    for table, rows in tables.items():
        if not table.endswith("-trade-off"):
            continue
        key = table.removeprefix("sweep-").removesuffix("trade-off")
        for row in rows:
            models = pools[row["mixup"], repr(float(row["beta"]))]
            if row["attack"]:
                e = int(np.argmin(np.abs(file["eps"][:] - float(row["eps"]))))
                group = {(key, name): group for key, name, group in sets(file)}[key[:-1], row["attack"]]
                values = group[row["measure"]][:][models, e]
            else:
                values = file[f"clean/{row['measure']}"][:][models]
            for column, made in (("median", np.median(values)), ("mean", values.mean()), ("samples", values.size)):
                equal(f"{table} {row}", row[column], made)
    return seen


def check_numbers(text, paths):
    import h5py
    import numpy as np

    tables = csvs(xml.fromstring(text.split("\n", 1)[1]))
    expected = {}
    eigen, histogram, points = {}, {}, {}
    for path in paths:
        with h5py.File(path) as file:
            kind, model = file.attrs["kind"], file.attrs["model"].rsplit("/", 1)[-1].removesuffix(".pt")
            metric = file.attrs["metric"]
            if kind == "scores":
                for name, column in file["scores"].items():
                    expected[model, "scores", metric, name, "", ""] = column[:]
                    histogram[model, metric, name] = column[:]
                eigen[model, metric] = file["spectrum/eigenvalues"][:]
            if kind == "attack":
                for name, column in file["clean"].items():
                    if name not in ("images", "recon"):
                        expected[model, "clean", "", name, "", ""] = column[:]
                for attack, group in file["attack"].items():
                    for name, values in group.items():
                        if name not in ("images", "recon"):
                            for eps, row in zip(file["eps"][:], values[:]):
                                expected[model, "attack", metric, name, attack, repr(float(eps))] = row
            if kind == "sweep":
                # Models of one beta and strength of mixup are one point: their samples are pooled.
                def pool(key, values):
                    points[key] = np.concatenate([points.get(key, np.empty(0)), values])

                for s, (beta, mixup) in enumerate(zip(file["beta"][:], file["mixup_strength"][:])):
                    arm = "mixup" if mixup else "no mixup"
                    for name, column in file["scores"].items():
                        pool(("sweep-scores", name, arm, repr(float(beta))), column[s])
                    for e, eps in enumerate(file["eps"][:]):
                        for key, name, group in sets(file):
                            for measure, values in group.items():
                                table = f"sweep-{key}{'-' * bool(key)}damage-step-{measure}"
                                pool((table, name, arm, repr(float(beta)), repr(float(eps))), values[s, e])

    def number(cell):
        return repr(float(cell)) if cell else ""

    def compare(where, row, values):
        finite = values[np.isfinite(values)]
        found = {k: float(row[k]) for k in ("undefined", "mean", "q25", "median", "q75")}
        q = np.quantile(finite, [0.25, 0.5, 0.75])
        made = dict(undefined=len(values) - len(finite), mean=finite.mean(), q25=q[0], median=q[1], q75=q[2])
        for name, value in made.items():
            # Written so that NaN fails.
            if not abs(found[name] - value) <= 1e-12 * max(1, abs(value)):
                fault(f"{where} {name}: page {found[name]}, numpy {value}")

    seen = 0
    for path in paths:
        with h5py.File(path) as file:
            if file.attrs["kind"] == "sweep":
                seen += check_sweep(tables, file, pool_by_point(file))
    if "summary" in tables:
        for row in tables["summary"]:
            key = row["model"], row["part"], row["metric"], row["name"], row["attack"], number(row["eps"])
            if key not in expected:
                fault(f"summary: {key} is in no file")
                continue
            compare(f"summary {key}", row, expected.pop(key))
            seen += 1
        for key in expected:
            fault(f"summary: {key} is missing")
        # A figure a metric.
        every = {}
        for table, rows in tables.items():
            for of in ("spectra-eigenvalues", "scores-histograms"):
                if table.startswith(of):
                    every.setdefault(of, []).extend(rows)
        for row in every["spectra-eigenvalues"]:
            compare(f"spectra {row['model']} {row['i']}", row, eigen[row["model"], row["metric"]][:, int(row["i"]) - 1])
            seen += 1
        for (model, metric, name), values in histogram.items():
            rows = [r for r in every["scores-histograms"] if (r["model"], r["metric"], r["score"]) == (model, metric, name)]
            finite = values[np.isfinite(values)]
            edges = np.array([float(r["bin_low"]) for r in rows] + [float(rows[-1]["bin_high"])])
            edges[0] -= 1e-9 * abs(edges[0])
            edges[-1] += 1e-9 * abs(edges[-1])
            made = np.histogram(finite, edges)[0] / len(finite)
            # A value on an inner edge may fall to either side by rounding.
            gap = np.abs(made - [float(r["share"]) for r in rows]).max()
            total = sum(float(r["share"]) for r in rows)
            if not (gap <= 1.5 / len(finite) and abs(total - 1) < 1e-9):
                fault(f"histogram {model} {metric} {name}: off by {gap}, total {total}")
            seen += 1
    for table, columns in (("sweep-scores", ("score", "mixup", "beta")),
                           ("sweep-damage-step-latent_l2", ("attack", "mixup", "beta", "eps")),
                           ("sweep-unit-damage-step-latent_l2", ("attack", "mixup", "beta", "eps")),
                           ("sweep-unit-damage-step-recon_mse", ("attack", "mixup", "beta", "eps")),
                           ("sweep-damage-step-recon_mse", ("attack", "mixup", "beta", "eps"))):
        for row in tables.get(table, []):
            key = table, *(number(row[c]) if c in ("beta", "eps") else row[c] for c in columns)
            if key not in points:
                fault(f"{table}: {key} is in no file")
                continue
            compare(f"{key}", row, points[key])
            seen += 1
    if seen == 0:
        fault("nothing to compare")
    print(f"{seen} rows compared")


page = open(sys.argv[2], encoding="utf-8").read()
if sys.argv[1] == "page":
    check_page(page)
else:
    check_numbers(page, sys.argv[3:])
sys.exit(1 if faults else 0)
