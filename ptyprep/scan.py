"""PtyScan: a scan on its way from raw frames to prepared ones. Subclass it for a beamline; the hooks are few.

The wish is `scan.p` (frozen by `initialize`), the decision is `scan.plan` (made once), the result is `scan.meta`.
"""
import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ptyprep import faces, provenance, sample, share
from ptyprep.batch import EOS, WAIT, Batch, Meta, Package, Signal
from ptyprep.codec import Encoder
from ptyprep.correct import photon_energy_of_electrons
from ptyprep.errors import FrameError, ParameterError, PeerError, PositionError, RecipeError, SourceError
from ptyprep.frame import CENTERS, FramePlan, Window, whole
from ptyprep.loaded import Loaded, unreadable
from ptyprep.masks import DEAD, DETECTOR, HOT, NON_FINITE, OVERFLOW, USER, as_text, from_text
from ptyprep.mpi import room
from ptyprep.mpi import share as share_of
from ptyprep.params import Array, Group, Par, Tree, Values
from ptyprep.positions import checked, refuse_unknown
from ptyprep.selection import Selection
from ptyprep.sinks import SINKS, interrupted, refuse
from ptyprep.sources import layout_of
from ptyprep.threads import fair_share, processors

log = logging.getLogger(__name__)

CHUNK_BYTES = 128 << 20     # prepared data in a chunk, unless the user says how many frames
BATCH_BYTES = 32 << 20      # the same where no file is written, for three batches are in memory at once;
BATCH_FRAMES = 16           # but so many frames, if they fit into a chunk: else threads have nothing to do
PAUSE = 0.1                 # seconds between two looks for frames
FAR = 0.1                   # metres; positions that spread further are probably in another unit
RECORDED = ("energy", "distance", "psize", "center")       # what load_geometry may know
OF_SOURCES = ("shape", "dtype", "mask", "saturation", "recorded", "missing", "read", "progress", "close")
STATE = {"p", "comm", "source", "positions", "common", "corrections", "notes", "report", "bad", "good", "reasons",
         "lost", "found_bad", "recorded_center", "raw_shape", "raw_dtype", "selection", "threads", "plan", "meta",
         "sink", "growing", "blanks", "save_mode"}       # what a scan keeps, by name


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
    auto_center: bool | None = Par(None, level=0, doc="Find the centre from frames of the whole scan. None: no, but "
                                                      "the message says how where no centre is known.")
    orientation: int | tuple[bool, bool, bool] = Par(
        0, ge=0, le=7, level=0, doc="Turns of the frame: (transpose, flip rows, flip columns) in this order, or the "
                                    "number 4 transpose + 2 flip rows + 1 flip columns.")
    rebin: int = Par(1, unit="pixel", ge=1, le=32, level=0, doc="Join n x n raw pixels; must divide shape.")
    rebin_mode: str = Par("sum", choices=("sum", "mean"), level=2, doc="Add the counts of joined pixels, or average "
                                                                      "them as PtyPy does.")
    energy: float | None = Par(None, unit="keV", gt=0, le=5000, level=0,
                               doc="Photon energy; for electrons their kinetic energy.")
    electron_data: bool | None = Par(None, doc="The frames are of electrons, and energy is their kinetic energy. The "
                                               "file then holds the photon energy of the same wavelength.")
    distance: float | None = Par(None, unit="m", gt=0, le=1000, level=0, doc="Sample to detector.")
    psize: float | tuple[float, float] | None = Par(None, unit="m", gt=0, le=0.01, level=0,
                                                    doc="Pixel size of the raw detector, one number or (y, x).")
    padding: int | tuple[int, int, int, int] | None = Par(
        None, unit="pixel", ge=0, level=2, doc="Rows and columns of weight 0 around the raw frame, one number or (top, "
                                               "bottom, left, right). center still counts from the raw frame's first "
                                               "pixel; its names, and a shape that is not given, mean the padded "
                                               "frame.")
    positions_theory: Array | None = Par(None, unit="m", level=2,
                                         doc="Positions (n, 2), (y, x), used where the recipe has none.")
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
    compression: str = Par("portable", choices=Encoder.choices,
                           doc="Of frames: portable (every HDF5 reader), bslz4 (fast; readers need hdf5plugin) or "
                               "none.")
    overwrite: bool = Par(False, level=0, doc="Replace an existing output.")
    resume: bool = Par(False, doc="Continue an interrupted preparation.")
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
        cls.__doc__ = faces.docstring(cls)

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
        self.reasons = self.lost = None
        self._taken = self._kept = self._chunk = 0      # scan points, frames and chunks so far
        self._spans_begun = []                  # (range of scan points, their `share.begin`), two at most
        self._raw_reader = None, None           # the source's, and how it is closed, while frames are read
        self._goes_ahead = {}                   # whether a second one is begun, where that was asked
        self._ended, self._closed, self.recorded_center, self.found_bad = False, False, None, None
        self._blind, self._unsaved = 0, []       # frames without a good pixel; bad ones that no saved chunk tells of
        self.growing = self.save_mode = None
        self.blanks, self._last = 0, (None, None)        # frames of weight 0 at the end; dtype and position before them
        self._before = {}                       # the fingerprint of the run that is resumed

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
        return self.source.mask if self.source else None

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
                              f"check() or num_frames")
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
        if self.p.dfile is not None:
            self._before = self.comm.from_root(self._refuse_output)
        self.look()
        self._find_bad_pixels()
        self.plan = self.plan_about(sample.axis(self, self._before) if self.finds_center else self.p.center)
        self.common = {k: self._cut_common(v) for k, v in self.common.items()}
        self.lost = np.zeros(self.window.shape, bool)
        self.meta = self._make_meta()
        self._warn()
        if self.p.dfile is not None:
            self._open_sink()
        self.p.freeze()
        with self.comm.together("post_initialize"):
            self.post_initialize()
        return self

    def look(self):
        """The part of `initialize` that reads no frames: parameters, geometry, positions, mask, which scan points."""
        if self.raw_shape is not None:
            raise RecipeError(f"{self.recipe_name}: initialize() was called already; make a new scan")
        self._check_parameters()
        mine = processors()
        self.threads = self.p.threads or fair_share(mine, self.comm.on_node(mine))
        with self.comm.together("opening the raw data"):
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
        self._require()
        self.comm.from_root(self._refuse_missing)
        if self.p.dfile is not None:
            self.growing = provenance.LIVE in self._before or self.comm.from_root(self._still_coming)
            self.save_mode = self.p.save or self._before.get("save") or ("link" if self.growing else "merge")

    def auto(self, frames):
        """The next frames, prepared and saved: a `Package`, WAIT when none are there yet, EOS after the last.

        frames : so many, of all ranks together; always the same where a file is written

        Raises what a hook, a source or the sink raises; on every rank, whichever failed.
        """
        return self._auto(frames, keep=True, ahead=False)

    def _auto(self, frames, *, keep, ahead):
        """`auto`, which may be `ahead`: of the disk by one chunk, and of who takes the frames by another.

        keep : whether somebody looks at the frames
        """
        if self.plan is None:
            raise RecipeError(f"{self.recipe_name}: call initialize() first")
        if frames < 1:
            raise ParameterError(f"auto({frames}): ask for one frame at least")
        try:
            while True:
                span = self._spans_begun[0][0] if self._spans_begun else self._begin(frames, keep)
                if isinstance(span, Signal):
                    break
                begun = self._spans_begun[0][1]
                if ahead and begun is not None and self._can_go_ahead(keep):
                    self._begin_another(frames, keep)
                batch = self._batch(span, begun, keep)
                del self._spans_begun[0]
                if not len(batch.chunk_index):
                    continue                    # none of its frames can be read
                if self.sink is not None:
                    self.sink.write(batch, self.meta.asdict(), self._info, frames, wait=not ahead)
                    self._unsaved = []
                self._chunk += 1
                return Package(self.meta, batch)
            if span is EOS:
                self._finish(frames)
            return span
        except BaseException:
            self._abandon()
            raise

    def batches(self, frames=None, pause=PAUSE):
        """Batches until the end of the scan, waiting where none are there yet. The next is prepared while one is looked
        at and written: what `auto` has given is in the file, of batches all but the last.

        frames : in each batch, of all ranks together; None for `frames_per_chunk`
        pause : seconds between two looks while waiting
        """
        return self._batches(frames, pause, keep=True)

    def prepare(self, frames=None, progress=None):
        """Prepare all frames that are left and save them in `dfile`: the quickest way to a file, and in the memory of
        a few frames, for none is kept after it is compressed.

        frames : in each chunk, of all ranks together; None for `frames_per_chunk`
        progress : called after each chunk with the number of its frames
        """
        if self.p.dfile is None:
            raise ParameterError("prepare() saves frames: set dfile, or take them from batches()")
        for batch in self._batches(frames, PAUSE, keep=False):
            if progress:
                progress(len(batch.chunk_index))

    def _batches(self, frames, pause, *, keep):
        if self.plan is None:
            raise RecipeError(f"{self.recipe_name}: call initialize() first")
        try:
            while (package := self._auto(frames or self.chunk_frames, keep=keep, ahead=True)) is not EOS:
                if package is WAIT:
                    time.sleep(pause)
                else:
                    yield package.batch
        except GeneratorExit:       # whoever took the batches has had enough
            self._abandon()
            raise

    def _abandon(self):
        """Leave what is under way; whoever asks again gets it again."""
        try:
            if self._spans_begun:
                self._taken, self._ended = self._spans_begun[0][0].start, False
            for _, begun in self._spans_begun:
                if begun is not None:
                    begun.stop()
            self._stop_reading()
        finally:
            self._spans_begun.clear()
            if self.sink is not None:
                self.sink.abandon()

    @property
    def corrects(self):
        """Whether the recipe answers `correct`."""
        return type(self).correct is not PtyScan.correct

    @property
    def streams(self):
        """Whether frames go from the source to prepared ones a few at a time: no hook of the recipe is between."""
        return type(self).load is PtyScan.load and not self.corrects and _has_reader(self.source)

    @property
    def total(self):
        """Frames that are planned, None while that is not known."""
        return self.selection.count

    @property
    def frames_done(self):
        """Frames that are prepared so far, an earlier, interrupted run included."""
        return self._kept

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
        """Say before the work that the output must not be made; the fingerprint of the run that is resumed."""
        p = self.p
        refuse(p.dfile, [path for name, path in p.flat().items() if isinstance(path, Path) and name != "dfile"],
               overwrite=p.overwrite, resume=p.resume)
        return interrupted(p.dfile) if p.resume else {}

    def _ask(self, frames, start):
        """What check() says, (scan points, end)."""
        with self._noting(f"while in {self.recipe_name}.check()"):
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
        for note in notes:
            self.notes.append(note)
            if self.comm.is_root:
                log.info(note)

    def _shared(self, hook):
        """What a hook gives, run on root and shared, or on every rank where `load_parallel` says so."""
        def call():
            with self._noting(f"while in {self.recipe_name}.{hook.__name__}()"):
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
        with self.comm.together(f"comparing what {hook}() answered"):
            mine = answer()
        answers = self.comm.each(mine)
        for rank, other in enumerate(answers):
            if other != answers[0]:
                raise RecipeError(f"{self.recipe_name}.{hook}() must answer the same on every rank: rank 0 got "
                                  f"{answers[0]}, rank {rank} {other}")

    @contextmanager
    def _noting(self, where):
        """Add where it happened to what goes wrong, so that a recipe's author finds it."""
        try:
            yield
        except Exception as err:
            err.add_note(where)
            raise

    def _check_parameters(self):
        p = self.p
        if p.name not in (None, self.recipe_name, type(self).__name__):
            raise ParameterError(f"these parameters are for recipe {p.name!r}, this is {self.recipe_name!r}")
        if p.save and p.dfile is None:
            raise ParameterError(f"save={p.save!r} needs dfile, the .ptyd file to write")
        if p.overwrite and p.resume:
            raise ParameterError("overwrite starts again and resume continues: set one of them")
        if p.auto_center and p.given("auto_center") and p.given("center") and p.center is not None:
            raise ParameterError(f"center={p.center} and auto_center were both given: leave out one of them")

    def _record(self, geometry):
        """Take what was recorded, where the user said nothing."""
        odd = geometry.keys() - RECORDED
        if odd:
            raise RecipeError(f"{self.recipe_name}.load_geometry() returned {', '.join(sorted(odd))}; expected any of "
                              f"{', '.join(RECORDED)}")
        for key, value in geometry.items():
            self.p.record(key, value)
        self.recorded_center = geometry.get("center")

    def _load_positions(self):
        found, theory = self._shared(self.load_positions), self.p.positions_theory
        if found is not None and theory is not None:
            self.note("positions_theory is not used: the scan has positions of its own")
        found = theory if found is None else found
        if found is None:
            return None
        found = checked(found)
        known = found[np.isfinite(found).all(axis=1)]
        spread = np.ptp(known, axis=0).max() if len(known) else 0
        if spread > FAR:
            self.note(f"the positions spread over {spread:g} m: are they in metres?")
        if len(known) > 1 and spread == 0:
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
        wanted = Selection.of(p.frames, num_frames=p.num_frames)
        fewest = min(counts.values(), default=None)
        if len(set(counts.values())) > 1 and (wanted.count is None or wanted.reached(fewest) < wanted.count):
            raise PositionError(
                f"{self.where}{counts['frames']} frames but {counts['positions']} positions: which belong together "
                f"cannot be told. "
                + (f"Where the first {fewest} do, set num_frames={fewest}; else mend the positions" if fewest else
                   "Say where the positions are"))
        if fewest is None and points is None:
            return wanted
        selection = Selection.of(p.frames, available=fewest, num_frames=p.num_frames, points=points)
        if p.num_frames and selection.count < p.num_frames:
            self.note(f"{selection.count} frames are there, fewer than num_frames={p.num_frames}")
        if self.positions is not None:
            hint = "; positions.mismatch says what to do without one" if "positions.mismatch" in p.flat() else ""
            refuse_unknown(self.positions, selection.raw(range(selection.count)), hint=hint)
        return selection

    def _find_raw(self):
        """((h, w), kind of number) of a raw frame: from the source, else from the first frame that can be read."""
        if self.source is not None:
            return tuple(self.source.shape[-2:]), self.source.dtype
        tries = 1 if self.p.bad_frames == "raise" else self.selection.count or sample.FRAMES

        def first():
            waiting = False
            while True:
                failure = None
                for point in self.selection.raw(range(tries)):
                    try:
                        frames = Loaded.of(self.load([point]), [point], self.recipe_name).frames
                        return frames.shape[-2:], frames.dtype
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
        return self.comm.from_root(first)

    def _load_weight(self):
        weight = self._shared(self.load_weight)
        self.reasons = np.zeros(self.raw_shape, np.uint8)
        if weight is None:
            return np.ones(self.raw_shape, bool)
        if np.shape(weight) != self.raw_shape:
            raise FrameError(f"{self.where}the mask has shape {np.shape(weight)}, the frames {self.raw_shape}: "
                             f"expected the same")
        good = np.ascontiguousarray(weight) > 0
        bad = np.flatnonzero(~good)         # few
        mask, why = (getattr(self.source, name, None) for name in ("mask", "mask_reasons"))
        reasons = np.full(len(bad), USER, np.uint8)
        if mask is not None:
            theirs = ~(np.ravel(mask)[bad] > 0)
            reasons[theirs] = DETECTOR if why is None else np.ravel(why)[bad[theirs]]
        self.reasons.reshape(-1)[bad] = reasons
        return good

    def _load_corrections(self):
        corrections = self._shared(self.load_corrections)
        if corrections is None:
            return None
        if not callable(corrections) or not hasattr(corrections, "checked"):
            raise RecipeError(f"{self.recipe_name}.load_corrections() returned {type(corrections).__name__}; expected "
                              f"a Corrections, or None")
        count = self.source.shape[0] if self.source is not None else None if self.positions is None else \
            len(self.positions)
        return corrections.checked(self.raw_shape, count)

    def needs(self):
        """[(parameter, what to set)] without which this scan cannot be prepared: they are never invented."""
        p, needs = self.p, []
        for name, example in (("energy", "energy='7.2 keV'"), ("distance", "distance='2.1 m'"),
                              ("psize", "psize='75 um'")):
            if getattr(p, name) is None:
                needs.append((name, example))
        if p.center is None and not self.finds_center:
            needs.append(("center", "center=(row, column) in raw pixels, or auto_center=True"))
        if self.positions is None and type(self).load is PtyScan.load:
            needs.append(("positions", "positions_theory, or answer load_positions()"))
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
                                  f"{frames.stop - 1}, counted from 0); set bad_frames='drop' or 'mask' to prepare the "
                                  f"others")

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
                raise FrameError(f"{err}. It is what the detector recorded: set center, or auto_center=True") from None
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

    def _open_sink(self):
        self.sink = SINKS[self.save_mode](self.p.dfile, self.comm, overwrite=self.p.overwrite, resume=self.p.resume)
        done = self.sink.ready(lambda before: provenance.fingerprint(self, before), self._info,
                               Encoder(self.p.compression))
        self._chunk, self._kept, self._taken = done["chunk"], done["frames"], done["points"]
        self.bad, self._blind, self.blanks = list(done["bad"]), done["blind"], done["blank"]
        self.lost = from_text(self.lost.shape, *done["lost"])
        self._last, self._ended = (done["dtype"], done["position"]), self.blanks > 0
        if done["told"] is not None:
            self.meta = replace(self.meta, num_frames=done["told"])

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

    # --- preparing --------------------------------------------------------------------------------

    def _next(self, frames, whole=False):
        """The next range of scan points (in output order), WAIT or EOS; the same on every rank.

        whole : no fewer than `frames`, but at the end
        """
        count, start = self.selection.count, self._taken
        if self._ended or count is not None and start >= count:
            return EOS
        stop = start + frames if count is None else min(start + frames, count)
        raw = self.selection.extent(range(start, stop))
        there, end = self.comm.from_root(self._ask, len(raw), raw.start)
        if end and self.selection.points is not None:
            never = self._never_came(raw.start + there)
            if len(never) and whole:
                return WAIT                     # they are told with the frames that they were among
            self._leave_out(never, raw.start + there)
            count = self.selection.count
            stop = min(stop, count)
            if start >= count:
                return EOS
        ready = min(self.selection.reached(raw.start + there, start), stop - start)
        last = bool(end) or count is not None and start + ready >= count
        enough = frames if whole or self.sink is not None else min(frames, self.p.min_frames)
        if ready <= 0:
            self._ended = bool(end)
            return EOS if end else WAIT
        if ready < enough and not last:
            return WAIT
        return range(start, start + ready)

    def _never_came(self, end):
        """Listed scan points that never came, because the scan ended before `end`."""
        points = self.selection.points[self._taken:]
        return points[points >= end]

    def _leave_out(self, never, end):
        if len(never):
            numbers = share.numbers(self, np.unique(never)).tolist()
            new = [(number, f"the scan ended after {end} frames") for number in numbers]
            self.bad += new
            self._unsaved += new
            self.selection = self.selection.without(never)

    def _begin(self, frames, keep, *, ahead=False):
        """The next range of scan points, or a signal. This rank's share of it is under way then, if no hook is between.

        ahead : only if all of them are there, lest live frames come in small batches
        """
        span, begun = self._next(frames, ahead), None
        if isinstance(span, Signal):
            return span
        if self.streams and self.p.load_parallel not in (None, "common"):
            try:
                with self.comm.together(f"beginning with scan points {span.start} to {span.stop - 1}"):
                    begun = share.begin(self, self._start_reading(), self._points(span), keep=keep)
            except BaseException:
                if begun is not None:       # another rank could not
                    begun.stop()
                raise
        self._taken = span.stop
        self._spans_begun.append((span, begun))
        return span

    def _begin_another(self, frames, keep):
        """`_begin` before it is its turn; what fails now is tried again then."""
        try:
            self._begin(frames, keep, ahead=True)
        except PeerError as err:
            if err.fatal:
                raise
        except Exception:       # noqa: BLE001, S110
            pass

    def _can_go_ahead(self, keep):
        """Whether the next batch is begun before this one is given away; the same on every rank. One thread would only
        take turns with MPI; and whoever looks at frames may open the same files, which HDF5 refuses while it has them
        open itself."""
        if keep not in self._goes_ahead:
            with self.comm.together("looking how frames are read"):
                opens = (self.corrections is not None and getattr(self.corrections, "reads", True)
                         or hasattr(self.source, "is_open_while_read") and self.source.is_open_while_read())
                mine = self.threads > 1 and not (keep and opens)
            self._goes_ahead[keep] = all(self.comm.each(mine))
        return self._goes_ahead[keep]

    def _start_reading(self):
        """The source's reader. Raw files stay open from one batch to the next where that is begun already."""
        if self._raw_reader[0] is None:
            opened = ExitStack()
            self._raw_reader = opened.enter_context(self.source.reader(self.window)), opened
        return self._raw_reader[0]

    def _stop_reading(self):
        if self._raw_reader[0] is not None:
            self._raw_reader[1].close()
            self._raw_reader = None, None

    def _points(self, span):
        """The scan points of this rank's share of a range."""
        return list(self.selection.raw(self.comm.share(span)))

    def _batch(self, span, begun, keep):
        """Load, correct and cut this rank's share of a span, or take it where it is `begun`, and number what came of
        it."""
        dealt = None
        if self.p.load_parallel in (None, "common"):
            dealt = self.comm.deal(lambda: self._load_all(span))
        with self.comm.together(f"preparing scan points {span.start} to {span.stop - 1}"):
            rows = begun() if begun is not None else share.prepare(self, self._points(span), dealt, keep=keep)
            if len(self._spans_begun) < 2:
                self._stop_reading()
        dtype = rows.dtype.str if len(rows) else None
        lost = rows.lost & ~self.lost
        told = self.comm.each((dtype, rows.frame, rows.position, rows.bad, rows.blind, as_text(lost)))
        dtypes, frames, positions, bad, blind, lost = zip(*told)
        counts = [len(of_rank) for of_rank in frames]
        lost = from_text(self.lost.shape, *lost)
        self.lost |= lost
        dtype, *others = sorted(set(dtypes) - {None}) or [rows.dtype.str]
        if others:
            raise RecipeError(f"{self.recipe_name}.correct() returned frames of {np.dtype(dtype)} and of "
                              f"{', '.join(str(np.dtype(d)) for d in others)} in one chunk; expected always the same")
        new = [one for some in bad for one in some]
        self.bad += new
        self._unsaved += new
        self._blind += sum(blind)
        index, before = self._kept + np.arange(sum(counts)), sum(counts[:self.comm.rank])
        frames, positions = np.concatenate(frames), np.concatenate(positions)
        self._kept += sum(counts)
        self._tell_more(len(span))
        if len(positions):
            self._last = np.dtype(dtype), positions[-1]
        return Batch(index=index[before:before + len(rows)], frame=rows.frame,
                     data=rows.data.astype(dtype, copy=False) if keep or not len(rows) else None, weight=rows.weight,
                     position=rows.position, chunk=self._chunk, chunk_index=index, chunk_frame=frames,
                     chunk_position=positions, points=span, bad=tuple(self._unsaved), blind=sum(blind),
                     dtype=np.dtype(dtype), packed=rows.packed, lost=as_text(lost))

    def _tell_more(self, frames):
        """A larger number for those who read along, where nobody knows how many frames come: one more chunk before
        they could reach it, so that none takes it for the end. Those who go by the first number end there anyway, so
        that `finish="blank"` holds to it as long as it can."""
        told = self.meta.num_frames
        nearly = self._kept + frames >= told and self.p.finish == "count"
        if self.total is None and (nearly or self._kept > told):
            self.meta = replace(self.meta, num_frames=2 * (self._kept + frames))
            if self.sink is not None and self.sink.grows:
                self.note(f"readers were told at most {told} frames, and as many may come: now they are told "
                           f"{self.meta.num_frames}. One that goes by the first number ends there")

    def _load_all(self, span):
        """Root loads for everybody: what each rank's share is made of."""
        spans = [share_of(span, rank, self.comm.size) for rank in range(self.comm.size)]
        return [share.load(self, list(self.selection.raw(part))) for part in spans]

    # --- ending -----------------------------------------------------------------------------------

    def _finish(self, frames):
        if self._closed:
            return
        self._closed = True
        with self.comm.together("close"):
            self.close()
            if self.source is not None:
                self.source.close()
        if self._kept == 0:
            why = f"; the first: {self.bad[0][1]}" if self.bad else ""
            raise SourceError(f"{self.where}not one frame could be prepared{why}")
        if self.bad:
            self.note(f"frames that could not be read: {len(self.bad)}; info/bad_frames lists them")
        if self._blind:
            self.note(f"frames without one good pixel: {self._blind}")
        if self.sink is not None:
            if self.p.finish == "blank" and self.sink.grows:
                self._fill_up(frames)
            self.sink.close({**self.meta.asdict(), "num_frames": self._kept}, self._info)

    def _fill_up(self, frames):
        """Frames of weight 0 until there are as many as those who read along were told, `frames` in a chunk.

        They are number -1 and repeat the last position, because PtyPy needs one."""
        dtype, position = self._last
        while (n := min(frames, self.meta.num_frames - self._kept)) > 0:
            index, mine = self._kept + np.arange(n), self.comm.share(range(n))
            data = np.zeros((len(mine), *self.plan.shape), dtype)
            blank = Batch(index=index[mine.start:mine.stop], frame=np.full(len(mine), -1), data=data,
                          weight=np.zeros(data.shape, bool), position=np.tile(position, (len(mine), 1)),
                          chunk=self._chunk, chunk_index=index, chunk_frame=np.full(n, -1),
                          chunk_position=np.tile(position, (n, 1)), points=range(self._taken, self._taken),
                          dtype=np.dtype(dtype),
                          packed=self.sink.pack(data, np.zeros(data.shape, bool), np.zeros(n, bool)))
            self.blanks, self._kept = self.blanks + n, self._kept + n
            self.sink.write(blank, self.meta.asdict(), self._info, frames, wait=False)
            self._chunk += 1
        if self.blanks:
            self.note(f"blank frames at the end: {self.blanks}, of weight 0")

    def _info(self):
        return provenance.info(self)

    @property
    def mask_reasons(self):
        """Why pixels of prepared frames are not good, bits of `masks.REASONS`, (h, w) uint8: of the whole scan, and
        overflow and what is no number if it was so in any frame so far."""
        reasons = self.reasons.copy()
        lost = self.cut(reasons)
        lost[self.lost & (lost == 0)] = NON_FINITE if self.raw_dtype.kind == "f" else OVERFLOW
        return self.plan.apply_reasons(self.plan.window.cut(reasons))


PtyScan.__doc__ = faces.docstring(PtyScan)


def _has_reader(source):
    """Whether a source's `reader` gives what its `read` does: the one is not older than the other."""
    where = [next((i for i, cls in enumerate(type(source).__mro__) if name in vars(cls)), None)
             for name in ("reader", "read")]
    return None not in where and where[0] <= where[1] and "read" not in vars(source)
