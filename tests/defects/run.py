"""`make defects`: plant each defect of defects.py in a copy of this checkout, and see whether tests notice it.

    python tests/defects/run.py [NUMBER …] [--all] [--tests PATH …]

Its named tests run first; with --all, the whole suite for those that these missed. Exit code 1 where one is missed.
The copy has an environment of its own, whose `python` and `ptyprep` import the copy, in every process that a test
begins; a run whose do not is no run.
"""
import argparse
import ast
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path

from defects import DEFECTS

ROOT = Path(__file__).parents[2]
PACKAGES = {"ptyprep": "ptyprep", "ptyprep_recipes": "recipes"}        # the name of each, and its folder
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "_build", "build")
# the compiled part is in this or that module
ASK = """
import sys, ptyprep, ptyprep_recipes
compiled = [module for name, module in sys.modules.items() if name.startswith("ptyprep.") and name.endswith("._core")]
assert compiled, "build the compiled part first: pip install -e ."
print(*(module.__file__ for module in (ptyprep, ptyprep_recipes, *compiled)), sep="\\n")
"""


def places(text, root=ROOT):
    """The files of the package and of the recipes in which a text stands, each as often as it does."""
    files = [file for folder in PACKAGES.values() for file in sorted((root / folder).rglob("*.py"))]
    return [file for file in files for _ in range(file.read_text().count(text))]


def planted(defect, root=ROOT):
    """(file, its code with the defect). Raises ValueError where the text does not stand exactly once, SyntaxError where
    the code is none any more."""
    found = places(defect.text, root)
    if len(found) != 1:
        raise ValueError(f"{defect.name}: {defect.text!r} stands {len(found)} times in the code, expected once; choose "
                         f"the text in tests/defects/defects.py anew")
    code = found[0].read_text().replace(defect.text, defect.instead)
    ast.parse(code)
    return found[0], code


class Copy:
    """A copy of this checkout in a folder, and an environment that imports it and has all else that this one has."""

    def __init__(self, folder):
        self.folder, self.tree = folder, folder / "tree"
        shutil.copytree(ROOT, self.tree, ignore=NOT_COPIED)
        links, self.bin = folder / "links", folder / "env" / "bin"
        links.mkdir()
        for name, at in PACKAGES.items():
            (links / name).symlink_to(self.tree / at)
        venv.create(folder / "env", symlinks=True)
        site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "env")}))
        (site / "copy.pth").write_text(f"{links}\n{sysconfig.get_path('purelib')}\n")
        here = Path(sys.executable).parent
        for tool in here.iterdir():
            if not (self.bin / tool.name).exists():
                self._take(tool, here)
        self.prove()

    def _take(self, tool, here):
        """A tool of this environment for that one: a script with its own Python, anything else by a link."""
        content = tool.read_bytes()
        if content.startswith(f"#!{here}/python".encode()):
            new = self.bin / tool.name
            new.write_bytes(b"#!" + bytes(self.bin / "python") + b"\n" + content.partition(b"\n")[2])
            new.chmod(0o755)
        else:
            (self.bin / tool.name).symlink_to(tool)

    def prove(self):
        """Raise SystemExit where this Python imports anything but the copy, in it or beside it."""
        for folder in (self.tree, self.folder):
            out = subprocess.run([self.bin / "python", "-c", ASK], cwd=folder, env=self._environment(), text=True,
                                 stdout=subprocess.PIPE, check=True).stdout.split("\n")[:-1]
            if other := [path for path in out if self.tree not in Path(path).resolve().parents]:
                raise SystemExit(f"{other} would be tested, and not the copy in {self.tree}")

    def _environment(self):
        gone = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
        return {**{name: value for name, value in os.environ.items() if name not in gone},
                "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}

    def missed_by(self, defect, tests):
        """What `run` says with the defect."""
        file, code = planted(defect, self.tree)
        sound = file.read_text()
        file.write_text(code)
        try:
            return self.run(tests)
        finally:
            file.write_text(sound)

    def run(self, tests):
        """(whether these tests pass, seconds that they took, the first that failed)."""
        begin = time.perf_counter()
        done = subprocess.run([self.bin / "python", "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
                              cwd=self.tree, env=self._environment(), capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begin
        if done.returncode not in (0, 1):       # 1: tests failed; others: none ran
            raise SystemExit(f"pytest ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr}")
        failed = [line.partition(" ")[2] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return done.returncode == 0, seconds, (failed or [""])[0].partition(" - ")[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("numbers", nargs="*", type=int, help="which defects, from 1 on; all if none is named")
    parser.add_argument("--all", action="store_true", help="the whole suite for those that the named tests miss")
    parser.add_argument("--tests", nargs="+", help="these tests instead of the named ones")
    args = parser.parse_args()
    if odd := [number for number in args.numbers if not 1 <= number <= len(DEFECTS)]:
        parser.error(f"there is no defect {odd[0]}; expected 1 to {len(DEFECTS)}")
    missed = []
    with tempfile.TemporaryDirectory(prefix="defects-") as folder:
        copy = Copy(Path(folder).resolve())
        chosen = {number: DEFECTS[number - 1] for number in args.numbers or range(1, len(DEFECTS) + 1)}
        named = dict.fromkeys(test for defect in chosen.values() for test in defect.tests)
        sound, seconds, failed = copy.run(args.tests or named)
        if not sound:
            raise SystemExit(f"{failed} fails without a defect")
        print(f"   without a defect {seconds:.1f} s", flush=True)
        for number, defect in chosen.items():
            passed, seconds, failed = copy.missed_by(defect, args.tests or defect.tests)
            if passed and args.all:
                passed, more, failed = copy.missed_by(defect, ["-m", "not extras"])
                seconds += more
            missed += [defect.name] * passed
            print(f"{number:2} {'MISSED' if passed else 'caught'} {seconds:6.1f} s  {defect.kind}: {defect.name}"
                  + (f"\n{'':20}{failed}" if failed else ""), flush=True)
    if missed:
        raise SystemExit(f"{len(missed)} missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
