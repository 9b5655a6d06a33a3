"""Laws of the page: whole in one file, nothing injected, below 2 MB, the same bytes for the same content."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from atomml.errors import FileFormatError, InputError
from atomml.report import Report, Series, line_plot
from atomml.report.markup import embed_json
from atomml.report.page import asset, fit
from atomml.report.sections import Settings, Table

HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><style>*{display:none}",
    "<!--",
    "&lt;b&gt; & ]]>",
    "\x00\x1b[31m\ud800\u2028",
)


class Outline(HTMLParser):
    """Start tags with their attributes, and the text, as a browser's parser sees them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def full_report(text: str = "word") -> Report:
    """A report with every kind of section, ``text`` wherever text may stand."""
    report = Report(text, text)
    report.status(text, False)
    report.warning(text)
    report.summary([(text, 1.5, "K"), (text, text, text)])
    report.settings({text: {text: text}}, units={text: text})
    report.model_card({"name": text, "sha256": text, "elements": ["Li", text]})
    report.text(text, text)
    report.table(text, [text, "energy_eV"], [[text, 1.0]])
    report.table(text, [text, "energy_eV"], [[text, float(i)] for i in range(300)])
    report.plot(
        text, line_plot([Series(text, [0, 1], [1, 2]), Series("b", [0, 1], [2, 3])], text, text, text), text
    )
    report.viewer(text, [bulk("Cu")] * 2, {text: [0.0, 1.0]})
    return report


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_element_and_no_attribute(text: str) -> None:
    """The page's elements are the same whatever the text says: an injection would add one."""
    plain, hostile = Outline(full_report().html()), Outline(full_report(text).html())
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert [set(attributes) for _, attributes in hostile.tags] == [
        set(attributes) for _, attributes in plain.tags
    ]


@pytest.mark.parametrize("text", HOSTILE[:6])
def test_hostile_text_is_still_shown_as_it_is(text: str) -> None:
    assert " ".join(text.split()) in Outline(full_report(text).html()).text


@pytest.mark.parametrize("text", [*HOSTILE, "<!--<script>"])
def test_json_in_the_page_holds_no_markup_and_reads_back(text: str) -> None:
    """With no angle bracket and no ampersand, neither ``</script`` nor ``<!--<script`` can be spelled."""
    embedded = embed_json({text: [text, 1.5, None]})
    assert not set("<>&") & set(embedded)
    assert json.loads(embedded) == {text: [text, 1.5, None]}


def test_every_json_block_survives_hostile_text() -> None:
    html = full_report(HOSTILE[0]).html()
    blocks = re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    assert len(blocks) == 2
    rows, viewer = (json.loads(block) for block in blocks)
    assert rows[299] == [HOSTILE[0], "299.0000"]
    assert viewer["title"] == HOSTILE[0]


def test_nothing_is_loaded_from_outside() -> None:
    """No attribute that loads or links points out of the page, and its policy forbids it besides."""
    outline = Outline(full_report().html())
    for tag, attributes in outline.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
        assert tag not in ("link", "iframe", "object", "embed", "base", "img")
    html = full_report().html()
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert set(re.findall(r"https?://[^\"'\s<)]*", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_policy_names_exactly_the_scripts_that_the_page_holds() -> None:
    """A browser refuses a script whose digest the policy does not name: ours must match to the byte."""
    html = full_report().html()
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digests = {"sha256-" + base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts}
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert set(re.findall(r"'(sha256-[^']*)'", policy[1])) == digests
    assert len(digests) == 3
    assert policy[1].startswith("default-src 'none'")


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        full_report().write(tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_anchors_differ_and_the_contents_lead_to_each() -> None:
    report = Report("t")
    for title in ("Energy", "Energy", "energy!", "", "Å"):
        report.text(title, "x")
    outline = Outline(report.html())
    anchors = [attributes["id"] for tag, attributes in outline.tags if tag == "section"]
    links = [attributes["href"] for tag, attributes in outline.tags if tag == "a"]
    assert len(set(anchors)) == 5
    assert links == [f"#{anchor}" for anchor in anchors]


def test_numbers_stand_beside_their_units() -> None:
    report = Report("t")
    report.summary([("Temperature", 300.123456, "K"), ("Energy", -1234.56789, "eV"), ("Atoms", 12345, "")])
    report.table("Log", ["step", "fmax_eV_per_A"], [[1, 0.0123456], [2, None]])
    report.settings({"timestep": 0.1 + 0.2, "fix": None}, units={"timestep": "fs", "fix": "Å"})
    text = Outline(report.html()).text
    for words in (
        "300.12 K",
        "-1234.5679 eV",
        "12,345",
        "Largest force eV/Å",
        "0.012346",
        "0.30000000000000004 fs",
    ):
        assert words in text
    assert "– Å" not in text  # nothing has no unit


# ------------------------------------------------------------------ size


def test_a_thousand_frames_of_500_atoms_stay_below_2_mb_and_the_page_says_how_many_are_shown() -> None:
    atoms = bulk("Cu", cubic=True).repeat(5)
    frames = [atoms] * 1000
    report = Report("t")
    report.viewer("Trajectory", frames, {"time_fs": np.arange(1000.0).tolist()})
    html = report.html()
    assert len(html.encode()) < 2_000_000
    assert "150 of 1,000 frames" in html


@pytest.mark.parametrize("n_atoms", [3_000, 19_999])
def test_frames_are_left_out_until_the_page_fits(n_atoms: int) -> None:
    """Each viewer keeps its last frame, whatever has to go; 6 bytes an atom and frame, 8 in base64."""
    rng = np.random.default_rng(1)
    frames = [
        Atoms(numbers=np.full(n_atoms, 29), positions=rng.uniform(0, 60, (n_atoms, 3))) for _ in range(40)
    ]
    report = Report("t")
    report.viewer("First", frames)
    report.viewer("Second", frames[:30])
    html = report.html()
    assert len(html.encode()) < 2_000_000
    viewers = [json.loads(b) for b in re.findall(r'application/json">(.*?)</script>', html)]
    assert [viewer["frameNumbers"][-1] for viewer in viewers] == [39, 29]
    assert 8 * n_atoms * sum(viewer["nFrames"] for viewer in viewers) > 1_000_000  # and not more than needed


def test_a_structure_too_large_to_draw_is_named_instead() -> None:
    report = Report("t")
    report.viewer("Huge", [Atoms(numbers=np.full(50_000, 29), positions=np.zeros((50_000, 3)))])
    html = report.html()
    assert "50,000 atoms are too many" in html
    assert len(html) < 100_000


def test_rows_and_plots_are_left_out_when_frames_are_not_enough() -> None:
    report = Report("t")
    report.table("Long", ["name", "value_eV"], [["x" * 400, float(i)] for i in range(12_000)])
    svg = line_plot([Series("a", np.arange(2000), np.random.default_rng(0).normal(size=2000))], "x", "y")
    for _ in range(100):
        report.plot("Curve", svg)
    html = report.html()
    assert len(html.encode()) < 2_000_000
    shown = re.search(r"The first ([\d,]+) of 12,000 rows", html)
    assert shown is not None
    assert html.count("left out to keep the file small") + html.count("<figure>") == 100


def test_a_table_of_10000_rows_is_whole_and_small() -> None:
    rows = [[f"mp-{i}.cif", -1.234567 * i, 0.001 * i, i % 7] for i in range(10_000)]
    report = Report("t")
    report.table("Screen", ["input", "energy_eV", "fmax_eV_per_A", "n"], rows)
    html = report.html()
    block = re.search(r'application/json">(.*?)</script>', html)
    assert block is not None
    assert len(json.loads(block[1])) == 10_000
    assert html.count("<tr>") == 101  # the heading and what is shown without a script
    assert len(html) < 700_000


def test_fitting_keeps_what_fits() -> None:
    from atomml.report.page import Header

    header = Header("t", "", None, ())
    sections = [Settings("s", {"a": 1}, {}), Table("t", ["a"], [[i] for i in range(50)], 50)]
    assert fit(header, sections, 2_000_000) == sections


# ------------------------------------------------------------------ what is refused


def test_what_does_not_fit_together_is_refused_in_a_sentence() -> None:
    report = Report("t")
    with pytest.raises(InputError, match="row 1 has 1 cells for 2 columns"):
        report.table("T", ["a", "b"], [[1, 2], [3]])
    with pytest.raises(InputError, match="1 time_fs for 2 frames"):
        report.viewer("V", [bulk("Cu")] * 2, {"time_fs": [1.0]})


@pytest.mark.parametrize(
    "svg",
    [
        "<svg",
        "<div/>",
        "<svg><script>1</script></svg>",
        "<svg onload='x()'/>",
        "<svg><image href='https://example.org/a.png'/></svg>",
        "<svg><rect style='fill: url(https://example.org/a)'/></svg>",
        "<svg><a href='#x'>y</a></svg>",
        "<svg><style>*{}</style></svg>",
        "<!DOCTYPE svg [<!ENTITY x 'y'>]><svg/>",
    ],
)
def test_a_plot_that_could_run_or_load_anything_is_refused(svg: str) -> None:
    with pytest.raises(FileFormatError, match="plot"):
        Report("t").plot("P", svg)


def test_a_warning_given_twice_is_shown_once_and_a_flood_of_them_is_counted() -> None:
    report = Report("t")
    for i in range(250):
        report.warning(f"warning number {i}")
        report.warning(f"warning number {i}")
    text = Outline(report.html()).text
    assert text.count("warning number 7 ") <= 1
    assert "and 150 more" in text


def test_scripts_are_ours_short_and_hold_no_address() -> None:
    for name in ("geometry.js", "viewer.js", "page.js"):
        assert len(asset(name).encode()) < 25_000
        assert "http" not in asset(name)
        assert "</script" not in asset(name)
