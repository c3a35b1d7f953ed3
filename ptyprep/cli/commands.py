"""The command line: `ptyprep prepare`, `recipes`, `params`, `show`."""
import difflib
import json
import logging
import os
import signal
import sys
import time
import tomllib
import traceback
from importlib.util import find_spec
from pathlib import Path

import click
from tqdm import tqdm

from ptyprep import __version__, registry
from ptyprep.cli.show import plan_text, show_text
from ptyprep.errors import ParameterError, PeerError, PtyprepError, SourceError, in_words
from ptyprep.parallel.mpi import room
from ptyprep.params import present
from ptyprep.params.declare import walk
from ptyprep.words.printable import printable
from ptyprep.words.spelling import at_command_line, option

SPECIAL = {"dfile"}         # given by -o instead
PATIENCE = 5                # seconds that a rank waits for rank 0 to say what is wrong


class PrepareCommand(click.Command):
    """`prepare`, whose options are the parameters of the recipe that is named among its arguments."""

    def parse_args(self, ctx, args):
        fixed = [p for p in self.params if not getattr(p, "of_recipe", False)]
        recipe, source = self._words(ctx, fixed, args)
        self.params = fixed
        if recipe is not None:
            ctx.obj = registry.recipe(recipe, source)
            self.params = fixed + [_option(name, par) for name, par in walk(ctx.obj) if name not in SPECIAL]
        return super().parse_args(ctx, args)

    def _words(self, ctx, fixed, args):
        """(RECIPE, SOURCE) among arguments whose options are not known before RECIPE is."""
        if args and not args[0].startswith("-") and args[0] != "auto":
            return args[0], None
        options = {name: par for module in registry.installed() for name, par in walk(registry.recipe(module))}
        self.params = fixed + [_option(name, par) for name, par in options.items() if name not in SPECIAL]
        peek = click.Context(self, parent=ctx.parent, resilient_parsing=True, ignore_unknown_options=True)
        found = self.make_parser(peek).parse_args(list(args))[0]
        return [found[k] if isinstance(found.get(k), str) else None for k in ("recipe", "source")]


def _option(name, par):
    """A click option for one parameter; all are text that the parameter reads, but flags."""
    help = " ".join(filter(None, [par.doc, f"[{par.unit}]" if par.unit else None,
                                  f"One of {', '.join(map(str, par.choices))}." if par.choices else None,
                                  None if par.required or par.default is None else
                                  f"Default {present.display(par.default)}."]))
    names = [f"--{name}/--no-{name}"] if par.kind == "yes/no" else [f"--{name}"]
    kind = {"default": None} if par.kind == "yes/no" else {"metavar": par.kind.upper().replace(" ", "-")}
    made = click.Option([f"of_recipe__{name.replace('.', '__')}", *names], help=help, **kind)
    made.of_recipe, made.dotted = True, name
    return made


class Errors(click.Group):
    """Turns what goes wrong into one message and an exit code: 1 data or parameters, 2 usage."""

    def main(self, *args, **kwargs):
        with at_command_line():
            return self._main(*args, **kwargs)

    def _main(self, *args, **kwargs):
        try:
            return super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.exceptions.Exit as stop:
            sys.exit(stop.exit_code)
        except click.Abort as stop:
            if isinstance(stop.__cause__, EOFError):    # which click takes for the end of the user's input
                _fail(stop.__cause__)
            _say(f"interrupted; finished chunks are kept, {option('resume', True)} continues")
            _end(130)
        except click.UsageError as err:
            if isinstance(err, click.NoSuchOption):     # click's own suggestions come in the order of the alphabet
                options = err.ctx.command.get_params(err.ctx)
                names = [name for option in options for name in (*option.opts, *option.secondary_opts)]
                err.possibilities = difflib.get_close_matches(err.option_name, names, 1, 0.7)
            _give_way()
            err.message = printable(err.message)
            err.show()
            sys.exit(2)
        except BrokenPipeError:
            sys.exit(0)
        except Exception as err:    # noqa: BLE001  a fault of a recipe or of ours: named, and the other ranks freed
            _fail(err)


def _fail(err):
    """End with one message, and the traceback where it was asked for."""
    if "--debug" in sys.argv:
        _echo("".join(traceback.format_exception(err)), err=True)
        _end(1)
    ours = isinstance(err, PtyprepError)
    _say("\n".join([in_words(err, kind=not ours), *getattr(err, "__notes__", []),
                    *([] if ours else ["--debug shows where that happened"])]))
    _end(1)


# options are named as parameters are, and those who write a hyphen for an underscore are understood, in all commands
@click.group(cls=Errors, context_settings={"help_option_names": ["-h", "--help"],
                                           "token_normalize_func": lambda name: name.replace("-", "_")})
@click.version_option(__version__, prog_name="ptyprep")
@click.pass_context
def main(ctx):
    """Ptychography data preparation: from raw scans to .ptyd files."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Notes("note: %(message)s"))
    prepares = ctx.invoked_subcommand == "prepare"
    logging.basicConfig(level=logging.INFO if prepares else logging.WARNING, handlers=[handler])
    logging.captureWarnings(True)


@main.command(cls=PrepareCommand, context_settings={"max_content_width": 100})
@click.argument("recipe")
@click.argument("source", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False),
              help="The .ptyd file to write. Default: named after SOURCE, in the current folder.")
@click.option("--config", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="TOML file with parameters; `ptyprep params RECIPE --toml` writes one. Options win over it.")
@click.option("--plan", is_flag=True, help="Say what would be read and written, and stop.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def prepare(ctx, recipe, source, output, config, plan, debug, **options):
    """Prepare a scan: RECIPE SOURCE -o OUT.ptyd.

    RECIPE is a name (see `ptyprep recipes`), auto, module:Class or ./file.py:Class. SOURCE fills the recipe's file
    parameter. Every parameter of the recipe is an option: `ptyprep prepare RECIPE --help` lists them.
    """
    cls = ctx.obj
    given = {p.dotted: options[p.name] for p in ctx.command.params
             if getattr(p, "of_recipe", False) and options[p.name] is not None}
    from_file = _config(config)
    if source is not None:
        name = registry.source_parameter(cls)
        if name is None:
            raise click.UsageError(f"recipe {cls.recipe_name!r} reads no file, but SOURCE {source!r} was given")
        if name in given:
            raise click.UsageError(f"SOURCE {source!r} and {option(name, given[name])} were both given: leave out one")
        given[name] = source
    if output is not None:
        given["dfile"] = output
    elif "dfile" not in from_file:
        given["dfile"] = Path(_default_output(cls, source))
    scan = cls(cls.make_values(("config file", from_file), ("command line", given)))
    if plan:
        scan.look()
        if scan.comm.is_root:
            _echo(plan_text(scan))
        return
    before = signal.signal(signal.SIGTERM, _terminated)     # as Ctrl-C: finished chunks are kept, others are told
    try:
        scan.initialize()
        _run(scan)
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(number, frame):
    raise KeyboardInterrupt(f"terminated by signal {number}")


def _run(scan):
    """Prepare to the end, with a progress bar where somebody looks."""
    root, began = scan.comm.is_root, time.monotonic()
    done = scan.frames_done
    with tqdm(total=scan.total, initial=done, unit=" frames", disable=None if root else True, file=sys.stderr,
              desc=printable(scan.recipe_name), leave=False) as bar:
        scan.prepare(progress=bar.update)
    if root and scan.was_finished:
        click.echo(f"{scan.p.dfile} is finished already: nothing to do")
    elif root:
        seconds = time.monotonic() - began
        n = scan.frames_done
        h, w = scan.meta.shape
        _echo(f"{scan.p.dfile}: {n} frames of {h} x {w} pixels in {seconds:.1f} s "
                   f"({(n - done) / max(seconds, 1e-9):.0f} frames/s)")


@main.command()
def recipes():
    """List the installed recipes."""
    rows = []
    for name in registry.installed():
        try:
            cls = registry.recipe(name)
            rows.append((name, cls.__doc__.strip().splitlines()[0]))
        except Exception as err:    # noqa: BLE001  one broken recipe must not hide the others
            rows.append((name, f"cannot be loaded: {type(err).__name__}: {err}"))
    width = max((len(name) for name, _ in rows), default=0)
    for name, doc in rows:
        _echo(f"{name:{width}}  {doc}")


@main.command()
@click.argument("recipe")
@click.option("--toml", "face", flag_value="toml", help="A commented template for --config.")
@click.option("--schema", "face", flag_value="schema", help="JSON Schema.")
@click.option("--level", type=click.IntRange(0, 2), default=2, show_default=True,
              help="Up to basic (0), normal (1) or expert (2) parameters.")
def params(recipe, face, level):
    """Show the parameters of RECIPE."""
    cls = registry.recipe(recipe)
    if face == "schema":
        _echo(json.dumps(present.json_schema(cls), indent=1))
    else:
        _echo((present.toml_template if face == "toml" else present.tree_text)(cls, level))


def _how_to_open(command):
    """The options of all commands that read prepared files."""
    for name, help in (("--follow_links", "Open what it leads to outside its folder, too."),
                       ("--trusted", "Do without the first look by another process, which names a damaged file that "
                                     "makes HDF5 hang or crash; it takes 0.2 s.")):
        command = click.option(name, is_flag=True, help=help)(command)
    return command


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@_how_to_open
def show(file, **how):
    """Say what is in FILE, raw or prepared."""
    _echo(show_text(file, **how))


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@_how_to_open
def verify(file, **how):
    """Check that the prepared FILE is whole: structure, links, checksums, positions, geometry."""
    from ptyprep.ptyd.verify import problems
    found = list(problems(file, **how))
    if found:
        raise SourceError(f"{file}: {len(found)} problems\n" + "\n".join(f"- {printable(what, lines=False)}"
                                                                        for what in found))
    _echo(f"{file}: whole")


@main.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@_how_to_open
def merge(source, out, overwrite, **how):
    """Make one portable file OUT with a single chunk of the prepared SOURCE, ours or PtyPy's."""
    from ptyprep.ptyd.repair import merge
    _tell(out, merge(source, out, overwrite=overwrite, **how))


@main.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--parts", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Folder with the parts, where they are not beside SOURCE any more.")
@click.option("--links", is_flag=True, help="Link to the parts in that folder instead of copying them.")
@click.option("--drop", is_flag=True, help="Leave out frames, and whole chunks, that cannot be read.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@_how_to_open
def repair(source, out, parts, links, drop, overwrite, **how):
    """Make a whole file OUT of what can be read of the prepared SOURCE, which stays as it is."""
    from ptyprep.ptyd.repair import merge, relink
    if links and (drop or parts is None):
        raise click.UsageError("--links needs --parts, and all of them: it cannot drop chunks")
    _tell(out, relink(source, out, parts=parts, overwrite=overwrite, **how) if links else
          merge(source, out, parts=parts, drop=drop, overwrite=overwrite, **how))


@main.command("new-recipe")
@click.argument("name")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to write. Default: a folder of that name here.")
def new_recipe(name, folder):
    """Write the skeleton of a new recipe NAME: it, a tiny scan in its layout, tests that pass, and a README."""
    from ptyprep.cli.skeleton import write_skeleton
    paths = write_skeleton(name, folder)
    for path in paths:
        _echo(path)
    needs = "" if find_spec("pytest") else "python -m pip install pytest && "
    _say(f"try it with: {needs}cd {paths[0].parent} && python -m pytest")


def _tell(out, notes):
    for note in notes:
        _say(printable(note, lines=False))
    _echo(f"{out}: written")


def _config(path):
    """{dotted name: value} of a TOML file."""
    if path is None:
        return {}
    try:
        return _flat(tomllib.loads(path.read_text("utf-8")))
    except OSError as err:
        raise ParameterError(f"{path}: cannot be read: {err.strerror}; expected a TOML file with parameters") from err
    except ValueError as err:
        raise ParameterError(f"{path}: not TOML: {err}") from err
    except RecursionError:
        raise ParameterError(f"{path}: too many tables or lists inside each other; expected parameters as `ptyprep "
                             f"params RECIPE --toml` writes them") from None


def _flat(table, prefix=""):
    flat = {}
    for key, value in table.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def _default_output(cls, source):
    stem = Path(source).resolve().stem if source else cls.recipe_name
    out = f"{stem.removesuffix('_master')}.ptyd"
    return f"{Path(out).stem}_prepared.ptyd" if source and Path(out).resolve() == Path(source).resolve() else out


def _give_way():
    """Let rank 0 speak, for what fails there fails everywhere, and the launcher ends all ranks when the first one
    leaves. Where rank 0 is well, this rank speaks for itself after a while. MPI may not have been started."""
    if _rank() != "0":
        time.sleep(PATIENCE)


def _rank():
    """Of the launcher, which is known without MPI."""
    return next((os.environ[k] for k in ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID") if k in os.environ), "0")


def _say(text):
    _give_way()
    _echo(f"ptyprep: {text if _rank() == '0' else f'rank {_rank()}: {text}'}", err=True)


def _echo(text, err=False):
    """Everything that is printed goes through here, and notes through `_Notes`."""
    click.echo(printable(text), err=err)


class _Notes(logging.Formatter):
    """What is logged, as a terminal may show it."""

    def format(self, record):
        return printable(super().format(record))


def _end(code):
    """Leave, and take the other ranks along: they may be waiting for this one."""
    sys.stderr.flush()
    if "mpi4py.MPI" in sys.modules:     # else the launcher ends them
        try:
            room().abort(code)
        except PeerError:
            pass
    sys.exit(code)
