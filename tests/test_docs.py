"""What the pages say is what the code does: facts stated there are checked here; Sphinx is not needed."""
import doctest
import importlib.util
import inspect
import re
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

import ptyprep
from ptyprep import FramePlan, PtyScan, recipe, registry
from ptyprep.params.declare import walk

DOCS = Path(__file__).parent.parent / "docs"
TUTORIAL = DOCS.parent / "tutorial"
PAGES = sorted(DOCS.glob("*.md"))


def module(name):
    """A script of the docs folder."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def rows(page, first):
    """The cells of the table whose first heading is `first`."""
    lines = (DOCS / page).read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |"))
    table = [line for line in lines[start + 2:start + 2 + next(
        (n for n, line in enumerate(lines[start + 2:]) if not line.startswith("|")), len(lines))]]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def in_code(text):
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.parametrize("name", registry.installed())
def test_every_parameter_of_a_recipe_is_on_its_page(name):
    cls = recipe(name)
    own, everything = module("reference").page(name, cls).split("## All parameters")
    for parameter, par in walk(cls):
        row = next(line for line in everything.splitlines() if line.startswith(f"| `{parameter}` |"))
        assert par.doc.split()[0] in row
    assert set(re.findall(r"^\| `([\w.]+)`", own, re.MULTILINE)) <= dict(walk(cls)).keys()


def test_reference_names_every_recipe(tmp_path):
    module("reference").make(tmp_path / "reference")
    index = (tmp_path / "reference/index.md").read_text()
    for name in registry.installed():
        assert f"[{name}]({name}.md)" in index and (tmp_path / f"reference/{name}.md").exists()


def test_orientation_table_agrees_with_the_plan():
    a = np.arange(15).reshape(3, 5)
    table = rows("conventions.md", "number")
    assert [int(row[0]) for row in table] == list(range(8))
    for number, transpose, flipud, fliplr, expression in table:
        flags = tuple(word == "yes" for word in (transpose, flipud, fliplr))
        for orientation in (int(number), flags):
            plan = FramePlan.make(a.shape, center="geometric", orientation=orientation)
            assert np.array_equal(plan.apply(a[None])[0], eval(in_code(expression)[0], {"a": a}))     # noqa: S307


@pytest.mark.parametrize("flip", (0, 1))
@pytest.mark.parametrize("rebin", (1, 2, 3))
def test_formula_of_the_centre(rebin, flip):
    for c in np.arange(20, 22, 0.23):
        for n in (8, 9):
            b, size = rebin, n * rebin
            middle = b * (n // 2) + (b - 1) / 2
            start = np.floor(c - (b * n - 1 - middle if flip else middle) + 0.5)
            plan = FramePlan.make((60, 60), shape=size, center=(30, c), rebin=b, orientation=flip)
            assert plan.window.cols.start == start
            assert abs(plan.axis[1] - n // 2) * b <= 0.5 + 1e-9


def test_what_a_wrong_sign_does():
    """Conventions: both signs wrong, or frames turned by 180 degrees, fit just as well."""
    from ptyprep_recipes import moonflower
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 20, (4, 2))
    probe, sample = (rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n)) for n in (15, 34))
    frames = moonflower.diffract(probe, sample, corner)
    turned = np.conj(probe[::-1, ::-1]), np.conj(sample[::-1, ::-1])
    assert np.allclose(moonflower.diffract(*turned, 34 - 15 - corner), frames)
    assert np.allclose(moonflower.diffract(probe.conj(), sample.conj(), corner), frames[:, ::-1, ::-1])


def test_hooks_table_names_the_hooks_as_they_are():
    table = {call.partition("(")[0]: call for (call, *_), in ((in_code(row[0]),) for row in
                                                             rows("where_does_my_code_go.md", "hook"))}
    source = inspect.getsource(PtyScan)
    hooks = re.findall(r"    def (\w+)\(", source[source.index("--- hooks"):source.index("--- what a user calls")])
    assert list(table.keys() - set(hooks)) == list(set(hooks) - table.keys()) == []
    for name, call in table.items():
        names = [p for p in inspect.signature(getattr(PtyScan, name)).parameters if p != "self"]
        assert call == f"{name}({', '.join(names)})"


def test_api_page_has_every_public_name():
    page = (DOCS / "api.md").read_text()
    assert [name for name in ptyprep.__all__ if not re.search(rf"\b{name}\b", page)] == []


def tree(heading):
    """{name: (shape, kind of number, type)} of a group in the tree of ptyd.md."""
    lines = (DOCS / "ptyd.md").read_text().partition("```text\n")[2].partition("```")[0].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(heading))
    found = {}
    for line in lines[start + 1:]:
        if not line.startswith("    "):
            break
        name, shape, text = re.match(r"    (\w+) +(\(.*?\)) +(.*)", line).groups()
        found[name] = shape, text.partition(":")[0], text.split()[-1]
    return found


@pytest.mark.parametrize("save", ("append", "link", "merge", "virtual"))
@pytest.mark.parametrize("overflow", (False, True))
def test_ptyd_page_describes_the_file(tmp_path, save, overflow):
    frames = np.ones((5, 6, 6), np.uint16)
    if overflow:
        frames[3, 2, 2] = 65535
    np.save(tmp_path / "frames.npy", frames)

    class Five(PtyScan):
        def open(self):
            return ptyprep.open_frames(tmp_path / "frames.npy")

        def load_positions(self):
            return np.zeros((5, 2))

    scan = Five(shape=(4, 6), center=(3, 3), energy=8, distance=1, psize=1e-4, dfile=tmp_path / "a.ptyd", save=save,
                frames_per_chunk=2, label="five").initialize()
    for _ in scan.batches():
        pass
    with h5py.File(tmp_path / "a.ptyd") as file:
        folder = save in ("link", "virtual")
        per_frame = folder or overflow
        assert sorted(file) == ["chunks", "info", "meta"]
        assert list(file["chunks"]) == (["0"] if save == "merge" else ["0", "1", "2"])
        named = (DOCS / "ptyd.md").read_text().partition("attributes: ")[2].partition("\n")[0].split(", ")
        assert set(file.attrs) == set(named) and re.fullmatch(r"a\.[0-9a-f]{8}", file.attrs["run"])
        for chunk in file["chunks"].values():
            compare(chunk, tree("/chunks/0"), {"M": len(chunk["data"]), "h": 4, "w": 6},
                    () if per_frame else ("weights",))
        compare(file["meta"], tree("/meta"), {"h": 4, "w": 6}, ("weight2d",) if per_frame else ())
        for row in rows("ptyd.md", "in `/info`"):
            group, *leaves = in_code(row[0])
            for name in [group, *leaves]:
                assert name in file["info"] or f"{group.partition('/')[0]}/{name}" in file["info"], name
        run = file.attrs["run"]
        assert file["chunks/0/data"].is_virtual == (save == "virtual")
    folders = [p for p in tmp_path.iterdir() if p.is_dir()]
    assert [p.name for p in folders] == [run] * folder
    ranks = [f"00000{n}.rank0000.h5" for n in range(3)] if save == "virtual" else []
    for path in folders:
        names = sorted(p.name for p in path.iterdir())
        assert names == sorted(["000000.h5", "000001.h5", "000002.h5", "run.json", *ranks])
    with h5py.File(tmp_path / run / ranks[0] if ranks else tmp_path / "a.ptyd") as file:
        check_storage(file if ranks else file["chunks/0"])


def check_storage(group):
    """Compression and checksums as the page says."""
    assert group["data"].chunks == (1, 4, 6) and group["data"].compression == "gzip" and group["data"].shuffle
    for name, dataset in group.items():
        if name in ("data", "weights"):
            sums = [zlib.crc32(dataset.id.read_direct_chunk((i, 0, 0))[1]) for i in range(len(dataset))]
        else:
            sums = zlib.crc32(dataset[()].tobytes())
        assert np.array_equal(dataset.attrs["crc32"], sums) and dataset.attrs["crc32"].dtype == np.uint32, name


def compare(group, told, sizes, absent):
    """A group of a file against what the page says of it."""
    assert set(group) == told.keys() - set(absent)
    for name, dataset in group.items():
        shape, number, kind = told[name]
        assert dataset.shape == eval(shape, dict(sizes)), name       # noqa: S307
        assert dataset.attrs["type"] == kind, name
        if number in ("float64", "int64", "uint8", "bool"):
            assert dataset.dtype == number, name


def blocks():
    return [pytest.param(page, code, id=f"{page.stem}-{i}") for page in PAGES
            for i, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL))]


@pytest.mark.parametrize("page, code", blocks())
def test_python_in_the_pages_runs(page, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(page), "exec"), {"__name__": "page"})        # noqa: S102


@pytest.mark.parametrize("name", ("docstrings", "tutorials"))
def test_examples_in_the_generators(name):
    assert doctest.testmod(module(name)).failed == 0


@pytest.mark.slow
def test_links_lead_somewhere(tmp_path):
    module("figures").make(tmp_path)
    made = {f"figures/{p.name}" for p in tmp_path.iterdir()} | {"reference/index.md"}
    made |= {f"tutorial/{p.stem}.md" for p in TUTORIAL.glob("[0-9]*.py")}
    texts = [(page.parent, page.read_text()) for page in [*PAGES, DOCS / "decisions/index.md"]]
    texts += [(DOCS / "tutorial", script.read_text()) for script in TUTORIAL.glob("[0-9]*.py")]
    for folder, text in texts:
        for target in re.findall(r"\]\(([^)#:\s]+\.(?:md|png))\)", text):
            path = (folder / target).resolve()
            assert path.exists() or str(path.relative_to(DOCS.resolve())) in made, target
    assert {f"figures/{p.name}" for p in tmp_path.iterdir()} == {
        t for _, text in texts for t in re.findall(r"\((figures/\w+\.png)\)", text)}        # none is made for nothing
