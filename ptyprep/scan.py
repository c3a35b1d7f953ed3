"""PtyScan: a scan on its way from raw frames to prepared ones. Subclass it for a beamline; the hooks are few.

The wish is `scan.p` (frozen by `initialize`), the decision is `scan.plan` (made once), the result is `scan.meta`.
"""
import logging
import time
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ptyprep.errors import FrameError, ParameterError, PositionError, RecipeError, SourceError, in_words
from ptyprep.filesystem.raw_files import RawFiles, noting
from ptyprep.hdf5.codec import Encoder
from ptyprep.parallel.mpi import room
from ptyprep.parallel.threads import HookThreads, fair_share, processors
from ptyprep.params import present
from ptyprep.params.convert import Array
from ptyprep.params.declare import Group, Tree, Values, walk
from ptyprep.params.par import Par
from ptyprep.pipeline import doubts, provenance, sample
from ptyprep.pipeline.batch import EOS, WAIT, Meta
from ptyprep.pipeline.loaded import Loaded, unreadable
from ptyprep.pipeline.run import Run
from ptyprep.processing.corrections import LOST, Corrections
from ptyprep.processing.masks import DEAD, DETECTOR, HOT, NEAR_OVERFLOW, NON_FINITE, OVERFLOW, USER
from ptyprep.processing.plan import CENTERS, FramePlan, Window, whole
from ptyprep.processing.positions import checked, refuse_unknown
from ptyprep.processing.selection import Selection
from ptyprep.sinks import SINKS, earlier, refuse
from ptyprep.sources import layout_of
from ptyprep.sources.formats import limits_of
from ptyprep.units import photon_energy_of_electrons
from ptyprep.words.printable import printable
from ptyprep.words.spelling import option

log = logging.getLogger(__name__)

CHUNK_BYTES = 128 << 20     # prepared data in a chunk, unless the user says how many frames
BATCH_BYTES = 32 << 20      # the same where no file is written, for three batches are in memory at once;
BATCH_FRAMES = 16           # but so many frames, if they fit into a chunk: else threads have nothing to do
PAUSE = 0.1                 # seconds between two looks for frames
RECORDED = ("energy", "distance", "psize", "center")       # what load_geometry may know
OF_SOURCES = ("shape", "dtype", "mask", "saturation", "recorded", "missing", "read", "progress", "close")
STATE = {"p", "comm", "source", "positions", "common", "corrections", "notes", "report", "bad", "good", "reasons",
         "lost", "limits", "on_negative", "found_bad", "recorded_center", "recorded_geometry", "center_uncertainty",
         "raw_shape", "raw_dtype", "selection", "threads", "plan", "meta", "sink", "growing", "blanks",
         "save_mode", "raw_files", "hook_threads"}       # what a scan keeps, by name


class PtyScan(Tree):
    """A ptychography scan: raw frames, positions and geometry in, prepared frames out.

    A recipe answers some of the hooks `open`, `load_geometry`, `load_positions`, `select`, `load_weight`,
    `load_corrections`, `load_common`, `check`, `load`, `correct`; the rest is done here, on one rank or many.
    """

    dfile: Path | None = Par(None, level=0, doc="Output .ptyd file, -o on the command line; none to save nothing.")
    save: str | None = Par(None, choices=tuple(SINKS), level=0,
                           doc="How to save: append and merge make one file at the end, merge with a single chunk; "
                               "link and virtual make files that can be read while they grow, virtual without sending "
                               "frames between ranks. None: merge for a finished scan, link while frames still come.")
    label: str | None = Par(None, doc="Name of the scan, kept in the file.")
    shape: int | tuple[int, int] | None = Par(None, unit="pixel", gt=0, level=0,
                                              doc="Region to keep, (rows, columns) of the raw frame before rebinning; "
                                                  "none for the size of the whole frame.")
    center: str | float | tuple[float, float] | None = Par(
        None, unit="pixel", choices=CENTERS, level=0,
        doc="Optical axis on the raw frame: (row, column) counted from 0, one number for both, or a name: fftshift "
            "is n // 2, geometric (n - 1) / 2, fft 0. None: as the detector recorded it.")
    auto_center: bool | None = Par(None, level=0, doc="Find the centre from frames of the whole scan, with its "
                                                      "uncertainty. Default: off. If no centre is known, the error "
                                                      "message explains how to set it.")
    orientation: int | tuple[bool, bool, bool] | None = Par(
        0, ge=0, le=7, level=0, doc="Turns of the frame: (transpose, flip rows, flip columns) in this order, or the "
                                    "number 4 transpose + 2 flip rows + 1 flip columns. None: as recorded, else 0.")
    rebin: int | None = Par(1, unit="pixel", ge=1, le=32, level=0,
                            doc="Join n x n raw pixels; must divide shape. None: 1.")
    rebin_mode: str = Par("sum", choices=("sum", "mean"), level=2, doc="Add the counts of joined pixels, or average "
                                                                      "them as PtyPy does.")
    energy: float | None = Par(None, unit="keV", gt=0, le=5000, level=0,
                               doc="Photon energy; for electrons their kinetic energy.")
    electron_data: bool | None = Par(None, doc="The frames are of electrons, and energy is their kinetic energy. The "
                                               "file then holds the photon energy of the same wavelength.")
    distance: float | None = Par(None, unit="m", gt=0, le=1000, level=0, doc="Sample to detector.")
    psize: float | tuple[float, float] | None = Par(None, unit="m", gt=0, le=1, level=0,
                                                    doc="Pixel size of the raw detector, one number or (y, x).")
    padding: int | tuple[int, int, int, int] | None = Par(
        None, unit="pixel", ge=0, level=2, doc="Rows and columns of weight 0 around the raw frame, one number or (top, "
                                               "bottom, left, right). center still counts from the raw frame's first "
                                               "pixel; its names, and a shape that is not given, mean the padded "
                                               "frame.")
    positions_theory: Array | None = Par(None, unit="m", level=2,
                                         doc="Positions (n, 2) or (rows, columns, 2), (y, x), instead of those that "
                                             "the recipe would read; as many frames are prepared. Positions that "
                                             "load() returns with frames win.")
    num_frames: int | None = Par(None, unit="frames", gt=0, doc="Prepare at most so many frames.")
    frames: str | None = Par(None, doc="Which scan points: first:last:step, counted from 0, last excluded.")
    frames_per_chunk: int | None = Par(None, unit="frames", gt=0,
                                       doc="Frames in a chunk of the file. None: as many as make 128 MiB, at most 100, "
                                           "and fewer where no file is written.")
    min_frames: int = Par(1, unit="frames", ge=1, level=2,
                          doc="Wait for at least so many frames in all, unless the scan ends.")
    max_frames: int = Par(10_000, unit="frames", gt=0, level=2,
                          doc="While nobody knows how many frames will come, those who read a growing file are told "
                              "this number. More are taken too.")
    finish: str = Par("count", choices=("count", "blank"), level=2,
                      doc="Where fewer frames came than readers of a growing file were told: count writes the true "
                          "number for those who open it from then on; blank adds frames of weight 0 too, for those "
                          "who wait for the number they read first.")
    bad_frames: str = Par("raise", choices=("raise", "drop", "mask"),
                          doc="A frame that cannot be read: stop, leave it out, or keep its place with weight 0. "
                              "None is ever shifted.")
    detector_mask: str = Par("use", choices=("use", "ignore"), level=2,
                             doc="The mask that the detector's file has: use it, and stop where it cannot be read; or "
                                 "ignore it.")
    negative: str = Par("keep", choices=("keep", "zero", "mask"), level=2,
                        doc="What to do with raw counts below 0, which are noise where they are no marks of the "
                            "detector. Where a dark field is subtracted, darkfield.negative says it.")
    compression: str = Par("portable", choices=Encoder.choices,
                           doc="Of frames: portable (every HDF5 reader), bslz4 (fast; readers need hdf5plugin) or "
                               "none.")
    overwrite: bool = Par(False, level=0, doc="Replace an existing output.")
    resume: bool = Par(False, doc="Continue an interrupted preparation; begin where there is none, and do nothing "
                                  "where it is finished with the same parameters.")
    threads: int | None = Par(None, ge=1, doc="Threads of each rank. None: its part of the node's processors, as "
                                               "far as its affinity and control group allow.")
    load_parallel: str | None = Par("data", choices=("data", "common", "all"), level=2,
                                    doc="What every rank loads for itself: data, common (positions, weights and "
                                        "common), all; none: root loads everything and hands it out.")
    name: str | None = Par(None, level=2, doc="Recipe that these parameters are for; checked where given.")
    experimentID: str | None = Par(None, level=2, doc="Name of the experiment, kept in the file.")     # noqa: N815
    version: float = Par(0.1, level=2, doc="Version of the .ptyd format.")

    class bad_pixels(Group):
        """Pixels that frames show to be bad, besides those that the detector knows."""
        find: bool = Par(False, doc="Look for hot and dead pixels in 64 frames spread over the scan.")
        hot: float = Par(10.0, unit="", gt=1, level=2,
                         doc="A pixel is hot that counts so many times as much as its eight neighbours do on the "
                             "median, on average or in its brightest frame.")
        near_overflow: str | None = Par(
            None, choices=("mask", "keep"), level=2,
            doc="What to do with the count 2^n - 2 of a DECTRIS detector with n bits, next to its mark 2^n - 1. None: "
                "mask it for 32 bits, where no detector counts so far; keep it for 8 and 16 bits.")
        dead: float = Par(20.0, unit="", gt=0, level=2,
                          doc="A pixel is dead that never counts, where its neighbours make one expect more than so "
                              "many counts.")

    source_type = None          # the FrameSource class whose files this recipe reads, for recipe "auto"; not inherited
    full_frames = False         # correct() wants whole frames, and the region is cut after it
    WAIT, EOS = WAIT, EOS

    def __init_subclass__(cls, **options):
        taken = [name for name, item in vars(cls).items() if name in STATE and not isinstance(item, Par | type)]
        if taken:
            raise TypeError(f"{cls.__qualname__}.{taken[0]}: a scan keeps its own {taken[0]!r} under that name; choose "
                            f"another")
        ours = {name: base for base in cls.__mro__[1:] if base.__module__.startswith("ptyprep.") for name in vars(base)}
        hidden = [name for name in vars(cls) if name in ours and name.startswith("_") and not name.startswith("__")]
        if hidden and not cls.__module__.startswith("ptyprep."):
            raise TypeError(f"{cls.__qualname__}.{hidden[0]} hides what {ours[hidden[0]].__name__} does under that "
                            f"name; choose another")
        super().__init_subclass__(**options)
        cls.__doc__ = present.docstring(cls)

    def __init__(self, pars=None, /, *, comm=None, **keywords):
        """A scan with these parameters.

        pars : mapping of parameters, nested or with dotted names, or `Values` from `make_values`
        comm : mpi4py communicator; None for all ranks of the launcher
        keywords : parameters too; they win

        Raises ParameterError with all that is wrong.
        """
        if pars is not None and not isinstance(pars, Mapping | Values):
            raise ParameterError(f"{type(self).__name__}({pars!r}): parameters are keywords or a mapping, such as "
                                 f"{type(self).__name__}(shape=256)")
        self.p = pars if isinstance(pars, Values) else self.make_values(("keyword", pars or {}), ("keyword", keywords))
        self.comm = room(comm)
        self.source = self.positions = self.plan = self.meta = self.sink = None
        self.common, self.notes, self.bad, self.report = {}, [], [], {}
        self.good = self.raw_shape = self.selection = self.threads = self.raw_dtype = self.corrections = None
        self.reasons = self.lost = self.limits = self.on_negative = None
        self.recorded_center = self.center_uncertainty = self.found_bad = self.growing = self.save_mode = None
        self.recorded_geometry = {}             # as the user's values are, though these win
        self.raw_files = RawFiles()
        self.blanks = 0                         # frames of weight 0 at the end
        self.hook_threads = HookThreads()
        self._loads_positions = False           # whether the first frame came with its position
        self._before = {}                       # the fingerprint of the run that is resumed
        self._under_way = None                  # the `Run`, once it is initialized

    @classmethod
    def understands(cls, path):
        """Whether this recipe is the one for a file: its source's layout."""
        return vars(cls).get("source_type") is not None and layout_of(path) is cls.source_type

    # --- hooks: a recipe answers some of these -----------------------------------------------------

    def open(self):
        """The source of frames, a `FrameSource`, or None where `load` does it. Every rank, first."""
        return None

    def load_geometry(self):
        """What was recorded of the geometry: a dict with any of energy [keV], distance [m], psize [m] (number or
        (y, x)) and center (row, column); texts with units too. Root, then shared. Default: what the source says."""
        return self.source.recorded if self.source else {}

    def load_common(self):
        """Anything that all frames need: a dict, then `self.common`. Root, then shared."""
        return {}

    def load_positions(self):
        """Positions of the illumination on the object, (n, 2) or (rows, cols, 2), (y, x) [m]. Root, then shared.
        None: they come with `load`."""
        return None

    def select(self):
        """Which raw scan points are wanted, in the order of the output: a list of their numbers, or None for all.
        `frames` and `num_frames` count in it. Root, then shared."""
        return None

    def load_weight(self):
        """Mask (h, w) of raw frames, 0 = ignore; None: all good. Root, then shared. Default: what the source says."""
        return self.source.mask if self.source and self.p.detector_mask == "use" else None

    def load_corrections(self):
        """What is done to raw counts before `correct`: a `Corrections`, or None. Root, then shared."""
        return None

    def check(self, frames, start):
        """(scan points that can be read from `start` on, at most `frames`; whether the scan ends there).
        The second is True, False or None for "cannot tell". Root, then shared."""
        if self.source:
            there, finished = self.source.progress()
            return min(frames, there - start), finished and start + frames >= there
        count = len(self.positions) if self.positions is not None else self.p.num_frames
        if count is None:
            raise RecipeError(f"{self.recipe_name}: the number of frames is not known: give positions, a source, "
                              f"check() or {option('num_frames')}")
        return min(frames, count - start), start + frames >= count

    def load(self, indices):
        """Raw frames of these scan points, never none of them: (n, h, w), or (frames, positions, weights); a dict by
        scan point is stacked. Each rank, its share. Default: the region from the source."""
        if self.source is None:
            raise RecipeError(f"recipe {self.recipe_name!r} has neither open() nor load(): where do frames come from?")
        return self.source.read(indices, self.window)

    def correct(self, raw, weights, common):
        """Corrected frames of the region and their mask: (data, weights). Each rank.

        raw : (n, h, w) region of the raw frames
        weights : bool (n, h, w), False = ignore
        common : `self.common`, its arrays of the detector's size cut to the region
        """
        return raw, weights

    def post_initialize(self):
        """Called at the end of `initialize`, on every rank."""

    def close(self):
        """Called at the end of the scan, on every rank."""

    # --- what a user calls ------------------------------------------------------------------------

    def initialize(self):
        """Look at the scan and decide everything: centre, region, chunks. Reads no more than a sample of frames."""
        try:
            with self.guarded("initialize"):
                self._decide()
        except BaseException:
            self._under_way = None
            raise
        return self

    @noting
    def _decide(self):
        if self.p.dfile is not None:
            self._before = self.comm.from_root(self._refuse_output)
        self._survey()
        self._find_bad_pixels()
        center, self.center_uncertainty = \
            sample.axis(self, self._before) if self.finds_center else (self.p.center, None)
        plan = self.plan_about(center)
        self.note(*doubts.of_light(self, plan.center))
        self.plan = plan
        self.common = {k: self._cut_common(v) for k, v in self.common.items()}
        self.lost = np.zeros(self.window.shape, np.uint8)
        self.meta = self._make_meta()
        self._warn()
        run = Run(self, self._ask, self._info)
        if self.p.dfile is not None:
            self.sink = SINKS[self.save_mode](self.p.dfile, self.comm, overwrite=self.p.overwrite, resume=self.p.resume)
            run.go_on(self._before)
        self._under_way = run
        self.p.freeze()
        with self.comm.together("post_initialize"), self.hook_threads.of("post_initialize"):
            self.post_initialize()

    def look(self):
        """The part of `initialize` that reads no frames: parameters, geometry, positions, mask, which scan points."""
        with self.guarded("look"):
            self._survey()
        self.hook_threads.leave()

    @noting
    def _survey(self):
        if self.raw_shape is not None:
            raise RecipeError(f"{self.recipe_name}: initialize() was called already; make a new scan")
        self._check_parameters()
        mine = processors()
        self.threads = self.p.threads or fair_share(mine, self.comm.on_node(mine))
        with self.comm.together("opening the raw data"):
            with self.hook_threads.of("open"):
                self.source = self.open()
            if self.source is not None:
                if not all(hasattr(self.source, name) for name in OF_SOURCES):
                    raise RecipeError(f"{self.recipe_name}.open() returned {type(self.source).__name__}; expected a "
                                      f"FrameSource, such as open_frames gives, or None")
                self.source.threads = self.threads
        self._agree("open", lambda: self.source and (type(self.source).__name__, self.source.shape[1:],
                                                     str(self.source.dtype), self.source.saturation))
        self.note(*getattr(self.source, "notes", ()))
        self._record(self._shared_mapping(self.load_geometry))
        self.positions = self._load_positions()
        self.common = self._shared_mapping(self.load_common)
        self.selection = self._select()
        self.raw_shape, self.raw_dtype = self._find_raw()
        self.good = self._load_weight()
        self.corrections = self._load_corrections()
        self.limits, self.on_negative = self._count_limits()
        self.note(*self.comm.from_root(lambda: list(self._unused())))
        self._require()
        self.comm.from_root(self._refuse_missing)
        self.note(*self.comm.from_root(lambda: [*doubts.of_geometry(self), *provenance.outside_note(self)]))
        self.raw_files.may_grow = self.comm.from_root(self._note_raw_files)
        if self.p.dfile is not None:
            self.growing = provenance.LIVE in self._before or self.comm.from_root(self._still_coming)
            self.save_mode = self.p.save or self._before.get("save") or ("link" if self.growing else "merge")

    def auto(self, frames):
        """The next frames, prepared and saved: a `Package`, WAIT when none are there yet, EOS after the last.

        frames : so many, of all ranks together; always the same where a file is written

        Raises what a hook, a source or the sink raises; on every rank, whichever failed.
        """
        return self._begun().next(frames, keep=True, ahead=False)

    def batches(self, frames=None, pause=PAUSE):
        """Batches until the end of the scan, waiting where none are there yet. The next is prepared while one is looked
        at and written: what `auto` has given is in the file, of batches all but the last.

        frames : in each batch, of all ranks together; None for `frames_per_chunk`
        pause : seconds between two looks while waiting
        """
        return self._begun().batches(frames or None, pause, keep=True)

    def prepare(self, frames=None, progress=None):
        """Prepare all frames that are left and save them in `dfile`: the quickest way to a file, and in little memory,
        for no frame is kept after it is compressed.

        frames : in each chunk, of all ranks together; None for `frames_per_chunk`
        progress : called after each chunk with the number of its frames
        """
        if self.p.dfile is None:
            raise ParameterError(f"prepare() saves frames: set {option('dfile')}, or take them from batches()")
        for _ in self._begun().batches(frames or None, PAUSE, keep=False, progress=progress):
            pass

    @contextmanager
    def guarded(self, what):
        """A block of what a user calls: what fails in it, anywhere on any rank, is raised on every rank."""
        self.hook_threads.listen()
        try:
            with self.comm.together(what):
                self.refuse_failed_threads()
                yield
                self.refuse_failed_threads()
        except BaseException:
            self.hook_threads.leave()
            raise

    def refuse_failed_threads(self):
        """Raise where a thread that a hook has started has failed: nobody knows what is missing now."""
        for name, hook, err in self.hook_threads.failed:
            raise RecipeError(f"{self.recipe_name}: the thread {name!r}, which {hook}() started, failed: "
                              f"{in_words(err)}") from err

    def _begun(self):
        if self._under_way is None:
            raise RecipeError(f"{self.recipe_name}: call initialize() first")
        return self._under_way

    @property
    def corrects(self):
        """Whether the recipe answers `correct`."""
        return type(self).correct is not PtyScan.correct

    @property
    def from_source(self):
        """Whether frames go from the source to prepared ones with no hook of the recipe between."""
        return type(self).load is PtyScan.load and not self.corrects

    @property
    def streams(self):
        """Whether they do so a few at a time."""
        return self.from_source and _has_reader(self.source)

    @property
    def total(self):
        """Frames that are planned, None while that is not known."""
        return self.selection.count

    @property
    def frames_done(self):
        """Frames that are prepared so far, an earlier, interrupted run included."""
        return self._under_way.kept if self._under_way is not None else 0

    @property
    def was_finished(self):
        """Whether an earlier run has made all of the file, so that `resume` has nothing to do."""
        return self._under_way is not None and self._under_way.finished_before

    @property
    def chunk_frames(self):
        """Frames in each chunk, or batch, but the last: a matter of their size only, as on any number of ranks."""
        if self.p.frames_per_chunk:
            return self.p.frames_per_chunk
        frame = int(np.prod(self.prepared_shape)) * self.counts_dtype.itemsize
        most = CHUNK_BYTES // frame
        if self.p.dfile is None:
            most = min(most, max(BATCH_BYTES // frame, BATCH_FRAMES))
        return int(np.clip(most, 1, 100))

    @property
    def counts_dtype(self):
        """The kind of number of raw counts after the scan's corrections; `correct` may make another."""
        return self.corrections.dtype(self.raw_dtype) if self.corrections else self.raw_dtype

    @property
    def prepared_shape(self):
        """(h, w) of a prepared frame, known before the centre is."""
        return (self.plan or self.plan_about("geometric")).shape

    @property
    def positions_origin(self):
        """Where the positions come from, in words for a plan. A recipe that knows the file says more."""
        if self._loads_positions or self.positions is None:
            return "from load()"
        return "recorded" if self.p.positions_theory is None else "positions_theory"

    @property
    def finds_center(self):
        """Whether the centre is found from frames: asked for, and none given."""
        return bool(self.p.auto_center) and not (self.p.given("center") and self.p.center is not None)

    @property
    def window(self):
        """The raw rows and columns that are read: the region once it is decided, else the whole frame."""
        if self.raw_shape is None:      # load() is asked for the first frame, to learn its shape
            return Window(slice(None), slice(None))
        everything = self.plan is None or self.full_frames and self.corrects
        return whole(self.raw_shape) if everything else self.plan.window

    def cut(self, array):
        """The region of a detector-sized array (..., h, w)."""
        return self.window.cut(array)

    # --- looking ----------------------------------------------------------------------------------

    def _refuse_output(self):
        """Say before the work that the output must not be made; the fingerprint of the run that is resumed, or that is
        finished."""
        p = self.p
        refuse(p.dfile, [path for name, path in p.flat().items() if isinstance(path, Path) and name != "dfile"],
               overwrite=p.overwrite, resume=p.resume)
        return earlier(p.dfile).fingerprint or {} if p.resume else {}

    def _note_raw_files(self):
        """Note those that no reader of ours has opened yet. Whether somebody may still write them: a recipe that
        answers `check` expects that."""
        named = [self.p.flat()[name] for name, par in walk(type(self)) if par.source]
        for path in (*getattr(self.source, "files", ()),
                     *(path for path in named if isinstance(path, Path) and path.is_file())):
            self.raw_files.note(path)
        return type(self).check is not PtyScan.check or self.source is not None and not self.source.progress()[1]

    @noting
    def _ask(self, frames, start):
        """What check() says, (scan points, end)."""
        with self._noting("check"):
            answer = self.check(frames, start)
            try:
                there, end = answer
                return max(int(there), 0), end
            except (TypeError, ValueError):
                raise RecipeError(f"{self.recipe_name}.check({frames}, {start}) returned {answer!r}; expected (scan "
                                  f"points that can be read, whether the scan ends there)") from None

    def there(self, span):
        """How many frames of a range of output places can be read now, from its start on without a gap. Called on all
        ranks."""
        raw = self.selection.extent(span)
        there, _ = self.comm.from_root(self._ask, len(raw), raw.start)
        return min(self.selection.reached(raw.start + there, span.start), len(span))

    def _still_coming(self):
        """Whether there may be more frames later than now."""
        p, count = self.p, self.selection.count
        if count is None:
            return not self._ask(p.max_frames, self.selection.first)[1]
        raw = self.selection.extent(range(count))
        there, end = self._ask(len(raw), raw.start)
        if self.selection.reached(raw.start + there) < count:
            return not end
        if self.selection.points is not None or Selection.of(p.frames, num_frames=p.num_frames).count is not None:
            return False        # no more are asked for
        return self.source is not None and not self.source.progress()[1]

    def note(self, *notes):
        """Tell the user what was noticed; the file keeps it in `info/notes`."""
        for note in (printable(note, lines=False) for note in notes):
            self.notes.append(note)
            if self.comm.is_root:
                log.info(note)

    def _shared(self, hook):
        """What a hook gives, run on root and shared, or on every rank where `load_parallel` says so."""
        def call():
            with self._noting(hook.__name__):
                return hook()
        if self.p.load_parallel not in ("common", "all"):
            return self.comm.from_root(call)
        with self.comm.together(hook.__name__):
            value = call()
        self._agree(hook.__name__, lambda: provenance.digest(value))
        return value

    def _shared_mapping(self, hook):
        value = self._shared(hook)
        if not isinstance(value, Mapping | None):
            raise RecipeError(f"{self.recipe_name}.{hook.__name__}() returned {type(value).__name__}; expected a dict")
        return value or {}

    def _agree(self, hook, answer):
        """Raise where the ranks got different answers: each would go its own way from here."""
        answers = self.comm.each(answer())
        for rank, other in enumerate(answers):
            if other != answers[0]:
                raise RecipeError(f"{self.recipe_name}.{hook}() must answer the same on every rank: rank 0 got "
                                  f"{answers[0]}, rank {rank} {other}")

    @contextmanager
    def _noting(self, hook):
        """Add the hook to what goes wrong in it, so that a recipe's author finds it."""
        try:
            with self.hook_threads.of(hook):
                yield
        except Exception as err:
            err.add_note(f"while in {self.recipe_name}.{hook}()")
            raise

    def _check_parameters(self):
        p = self.p
        if p.name not in (None, self.recipe_name, *(cls.__name__ for cls in type(self).__mro__)):
            raise ParameterError(f"these parameters are for recipe {p.name!r}, this is {self.recipe_name!r}")
        if p.save and p.dfile is None:
            raise ParameterError(f"{option('save', p.save)} needs {option('dfile')}, the .ptyd file to write")
        if p.overwrite and p.resume:
            raise ParameterError(f"{option('overwrite', True)} starts again and {option('resume', True)} continues: "
                                 "set one of them")
        if p.auto_center and p.given("auto_center") and p.given("center") and p.center is not None:
            raise ParameterError(f"{option('center', p.center)} and {option('auto_center', True)} were both given: "
                                 "leave out one of them")

    def _record(self, geometry):
        """Take what was recorded, where the user said nothing."""
        odd = geometry.keys() - RECORDED
        if odd:
            raise RecipeError(f"{self.recipe_name}.load_geometry() returned {', '.join(sorted(odd))}; expected any of "
                              f"{', '.join(RECORDED)}")
        for key, value in geometry.items():
            self.p.record(key, value)
            try:
                self.recorded_geometry[key] = self.tree[key].convert(value)
            except ParameterError:      # the user gave another value, or `record` had raised
                continue
        self.recorded_center = self.recorded_geometry.get("center")

    def _load_positions(self):
        theory = self.p.positions_theory
        if theory is None:
            found = self._shared(self.load_positions)
            if found is None:
                return None
            found = checked(found)
        else:
            found = refuse_unknown(checked(theory, "positions_theory"), what="positions_theory")
            unread = [name for name in self.p.origins() if name.startswith("positions.") and self.p.given(name)
                      and not name.startswith(("positions.bounding_box.", "positions.skip"))]
            if unread:
                self.note(f"{option('positions_theory')} is used as it is: {', '.join(map(option, unread))} change "
                          "nothing")
        known = found[np.isfinite(found).all(axis=1)]
        if len(known) > 1 and not np.ptp(known, axis=0).any():
            self.note(f"all {len(known)} positions are the same")
        return found

    def _select(self):
        """Which scan points there are, and which of them are wanted."""
        p, counts, points = self.p, {}, self._shared(self.select)
        if self.positions is not None:
            counts["positions"] = len(self.positions)
        there, finished = self.comm.from_root(self.source.progress) if self.source is not None else (0, False)
        if finished:
            counts["frames"] = there
        theory = p.positions_theory is not None and counts["positions"] < counts.get("frames", 0)
        if theory:              # it says how many frames are meant
            self.note(f"{option('positions_theory')} has {counts['positions']} positions and the scan {there} frames: "
                      f"the first {counts['positions']} are taken")
            del counts["frames"]
        wanted = Selection.of(p.frames, num_frames=p.num_frames)
        fewest = min(counts.values(), default=None)
        if len(set(counts.values())) > 1 and (wanted.count is None or wanted.reached(fewest) < wanted.count):
            raise PositionError(
                f"{self.where}{counts['frames']} frames but {counts['positions']} positions: which belong together "
                f"cannot be told. "
                + (f"Where the first {fewest} do, set {option('num_frames', fewest)}; else mend the "
                   "positions" if fewest else
                   "Say where the positions are"))
        if fewest is None and points is None:
            return wanted
        selection = Selection.of(p.frames, available=fewest, num_frames=p.num_frames, points=points)
        if p.num_frames and selection.count < p.num_frames:
            self.note(f"{selection.count} frames are there, fewer than {option('num_frames', p.num_frames)}")
        if self.positions is not None:
            hint = "" if "positions.mismatch" not in p.flat() else \
                f"; {option('positions.mismatch')} says what to do without one"
            refuse_unknown(self.positions, selection.raw(range(selection.count)), hint=hint)
        return selection

    def _find_raw(self):
        """((h, w), kind of number) of a raw frame: from the source, else from the first frame that can be read, which
        also shows whether `load` brings positions."""
        if self.source is not None:
            return tuple(self.source.shape[-2:]), self.source.dtype
        tries = 1 if self.p.bad_frames == "raise" else self.selection.count or sample.FRAMES

        def first():
            waiting = False
            while True:
                failure = None
                for point in self.selection.raw(range(tries)):
                    try:
                        with self.hook_threads.of("load"):
                            loaded = Loaded.of(self.load([point]), [point], self.recipe_name)
                        return loaded.frames.shape[-2:], loaded.frames.dtype, loaded.positions is not None
                    except Exception as err:
                        if not unreadable(err):
                            raise
                        failure = failure or err
                there, end = self._ask(1, self.selection.raw(range(1))[0])
                if there or end:
                    raise failure
                if not waiting:
                    self.note("waiting for the first frame")
                waiting = True
                time.sleep(PAUSE)
        shape, dtype, self._loads_positions = self.comm.from_root(first)
        if self._loads_positions and self.p.positions_theory is not None:
            self.note(f"load() brings positions with the frames: they are used instead of {option('positions_theory')}")
        return shape, dtype

    def _load_weight(self):
        weight = self._shared(self.load_weight)
        self.reasons = np.zeros(self.raw_shape, np.uint16)
        problem = getattr(self.source, "mask_problem", None)
        if problem and self.p.detector_mask == "use":
            raise SourceError(f"{problem}. Without it the mask is not known: set {option('detector_mask', 'ignore')} "
                              f"to go on, and {option('mask.file')} to another one")
        if weight is None:
            return np.ones(self.raw_shape, bool)
        if np.shape(weight) != self.raw_shape:
            raise FrameError(f"{self.where}the mask has shape {np.shape(weight)}, the frames {self.raw_shape}: "
                             f"expected the same")
        good = np.ascontiguousarray(weight) > 0
        bad = np.flatnonzero(~good)         # few
        mask, why = (getattr(self.source, name, None) for name in ("mask", "mask_reasons"))
        reasons = np.full(len(bad), USER, np.uint16)
        if mask is not None:
            theirs = ~(np.ravel(mask)[bad] > 0)
            reasons[theirs] = DETECTOR if why is None else np.ravel(why)[bad[theirs]]
        self.reasons.reshape(-1)[bad] = reasons
        return good

    def _unused(self):
        """Sentences about what the source has, or the user gave, and nothing uses."""
        keys = {f"/{value.strip('/')}" for name, value in self.p.flat().items() if name.endswith(".key") and value}
        yield from (said for name, said in getattr(self.source, "waiting", {}).items() if name not in keys)
        if self.on_negative is None and self.p.given("negative"):
            yield (f"{option('negative')} changes nothing, because a dark field is subtracted: "
                   f"{option('darkfield.negative')} says it then")

    def _count_limits(self):
        """(`Limits` of raw counts; what is done with those below 0, None where a dark field is subtracted first)."""
        dark = getattr(self.corrections, "dark", None) is not None      # of an object of the recipe's own, perhaps
        negative = None if dark else self.p.negative
        return limits_of(self.source, self.raw_dtype, near=self.p.bad_pixels.near_overflow, negative=negative), negative

    def _load_corrections(self):
        corrections, masks = self._shared(self.load_corrections), getattr(self.source, "frame_masks", None)
        own = masks is not None and self.p.detector_mask == "use"
        if corrections is None and not own:
            return None
        corrections = Corrections() if corrections is None else corrections
        if not callable(corrections) or not hasattr(corrections, "checked"):
            raise RecipeError(f"{self.recipe_name}.load_corrections() returned {type(corrections).__name__}; expected "
                              f"a Corrections, or None")
        count = self.source.shape[0] if self.source is not None else None if self.positions is None else \
            len(self.positions)
        if own and not isinstance(corrections, Corrections):
            raise RecipeError(f"{self.where}it has a mask for each frame, which only a Corrections can take in: "
                              f"{self.recipe_name}.load_corrections() returned {type(corrections).__name__}. Set "
                              f"{option('detector_mask', 'ignore')} to go on without")
        if own:
            corrections = corrections.also(detector_mask=masks[0], detector_bits=masks[1])
        return corrections.checked(self.raw_shape, count)

    def needs(self):
        """[(parameter, what to set)] without which this scan cannot be prepared: they are never invented."""
        p, needs = self.p, []
        for name, example in (("energy", "7.2 keV"), ("distance", "2.1 m"), ("psize", "75 um")):
            if getattr(p, name) is None:
                needs.append((name, option(name, example)))
        if p.center is None and not self.finds_center:
            needs.append(("center", f"{option('center', words=('row', 'column'))} in raw pixels, or "
                                    f"{option('auto_center', True)}"))
        if self.positions is None and type(self).load is PtyScan.load:
            needs.append(("positions", f"{option('positions_theory')}, or answer load_positions()"))
        return needs

    def _require(self):
        """Name all that is missing, at once."""
        if needs := self.needs():
            names, examples = zip(*needs)
            raise ParameterError(f"{self.where}{', '.join(names)}: neither recorded nor given, and ptyprep does not "
                                 f"guess. Set {'; '.join(examples)}")

    def _refuse_missing(self):
        """Say before the work, not hours into it, that frames are missing."""
        if self.p.bad_frames != "raise" or self.source is None:
            return
        for frames, reason in self.source.missing:
            wanted = self.selection.among(frames)
            if wanted:
                raise SourceError(f"{reason}. Frames that are missing for it: {wanted} ({frames.start} to "
                                  f"{frames.stop - 1}, counted from 0); set {option('bad_frames', 'drop', 'mask')} to "
                                  "prepare the others")

    @property
    def where(self):
        """The first raw file as a message begins, "path: "; empty without one."""
        files = getattr(self.source, "files", None)
        return f"{files[0]}: " if files else ""

    # --- deciding ---------------------------------------------------------------------------------

    def plan_about(self, center):
        p = self.p
        try:
            return FramePlan.make(self.raw_shape, shape=p.shape, center=center, orientation=p.orientation,
                                  rebin=p.rebin, mean=p.rebin_mode == "mean", margin=p.padding or 0)
        except FrameError as err:
            if "center" in str(err) and p.origin("center") == "detector":
                raise FrameError(f"{err}. It is what the detector recorded: set {option('center')}, or "
                                 f"{option('auto_center', True)}") from None
            raise

    def _find_bad_pixels(self):
        """Take out the pixels that a sample of frames shows to be hot or dead."""
        if self.p.bad_pixels.find:
            hot, dead = self.found_bad = sample.bad_pixels(self, self._before)
            self.reasons[hot] |= HOT
            self.reasons[dead] |= DEAD
            self.good = self.good & ~hot & ~dead
            self.report["bad_pixels"] = {"hot": int(hot.sum()), "dead": int(dead.sum())}
            self.note(f"bad pixels found: {hot.sum()} hot, {dead.sum()} dead")

    def _make_meta(self):
        p, plan = self.p, self.plan
        energy = photon_energy_of_electrons(p.energy) if p.electron_data else p.energy
        return Meta(version=p.version, num_frames=self.total or p.max_frames, label=p.label, shape=plan.shape,
                    psize=plan.psize(np.broadcast_to(p.psize, 2)), energy=energy,
                    center=tuple(float(n // 2) for n in plan.shape), distance=p.distance)

    def _warn(self):
        """Say what is right but may not be meant."""
        (top, bottom), (left, right) = self.plan.padding
        if top or bottom or left or right:
            self.note(f"the region reaches beyond the frame by {top} rows above, {bottom} below, {left} columns left, "
                       f"{right} right: weight 0 there")
        masked = 1 - self.plan.window.cut(self.good).mean()
        if masked > 0.5:
            self.note(f"{masked:.1%} of the region is masked: is a mask the wrong way round?")
        if self.p.dfile is not None and len(set(self.plan.shape)) > 1:
            self.note(f"prepared frames of {self.plan.shape[0]} x {self.plan.shape[1]} pixels are not square: PtyPy "
                       f"reads them as {min(self.plan.shape)} x {min(self.plan.shape)}")

    def _cut_common(self, value):
        if isinstance(value, np.ndarray) and value.shape[-2:] == self.raw_shape:
            return self.cut(value)
        return value

    def _info(self):
        return provenance.info(self)

    @property
    def mask_reasons(self):
        """Why pixels of prepared frames are not good, bits of `masks.REASONS`, (h, w) uint16: of the whole scan, and
        overflow and what is no number if it was so in any frame so far."""
        reasons = self.reasons.copy()
        lost, fresh = self.cut(reasons), self.cut(reasons) == 0
        lost[fresh & (self.lost & LOST["overflow"] > 0)] |= NON_FINITE if self.raw_dtype.kind == "f" else OVERFLOW
        lost[fresh & (self.lost & LOST["near overflow"] > 0)] |= NEAR_OVERFLOW
        return self.plan.apply_reasons(self.plan.window.cut(reasons))


PtyScan.__doc__ = present.docstring(PtyScan)


def _has_reader(source):
    """Whether a source's `reader` gives what its `read` does: the one is not older than the other."""
    where = [next((i for i, cls in enumerate(type(source).__mro__) if name in vars(cls)), None)
             for name in ("reader", "read")]
    return None not in where and where[0] <= where[1] and "read" not in vars(source)
