"""A scan under way: its plan is made, and one span of scan points after the other becomes a batch, on all ranks."""
import time
from contextlib import nullcontext, suppress
from dataclasses import replace

import numpy as np

from ptyprep.errors import OutputError, ParameterError, RecipeError, SourceError
from ptyprep.filesystem.raw_files import noting
from ptyprep.hdf5.codec import Encoder
from ptyprep.parallel import buffers
from ptyprep.parallel.mpi import share
from ptyprep.pipeline import provenance, rows
from ptyprep.pipeline.batch import EOS, WAIT, Batch, Package, Signal
from ptyprep.pipeline.reader import KeptReader
from ptyprep.processing.corrections import LOST
from ptyprep.processing.masks import Masks, as_text, from_text
from ptyprep.words.spelling import option


class Run:
    """What `PtyScan.auto`, `batches` and `prepare` do.

    scan : `PtyScan`, whose plan is made
    ask : what can be read, see `PtyScan.check`; root calls it
    info : what `/info` of the file is to hold; root calls it
    kept : frames that are prepared so far, an earlier, interrupted run included
    """

    def __init__(self, scan, ask, info):
        self._scan, self._comm, self._ask, self._info = scan, scan.comm, ask, info
        self.kept = self._taken = self._chunk = 0       # frames, scan points and chunks so far
        self._raw, self.raw_files = KeptReader(scan), scan.raw_files
        self._spans_begun = []                          # (range of scan points, their `rows.begin`), two at most
        self._goes_ahead = {}                           # whether a second one is begun, where that was asked
        self._ended = self._closed = False
        self.finished_before = False                    # whether an earlier run has made all of the file
        self._blind, self._unsaved = 0, []      # frames without a good pixel; bad ones that no saved chunk tells of
        self._counted = 0, 0, 0                 # see `Batch.counted`
        self._last = None, None                 # dtype and position of the last frame

    # what a step changes, of the run and of its scan
    CHANGES = ("kept", "_taken", "_chunk", "_ended", "_closed", "_blind", "_unsaved", "_counted", "_last")
    CHANGES_OF_SCAN = ("selection", "meta", "lost", "blanks")

    def go_on(self, before):
        """After what an interrupted run has saved, where that is resumed; nothing is left to do after a finished one.

        before : the fingerprint of that run
        """
        scan = self._scan
        done = scan.sink.ready(lambda before: provenance.fingerprint(scan, before), self._info,
                               Encoder(scan.p.compression))
        scan.note(*done["notes"])
        self._chunk, self.kept, self._taken = done["chunk"], done["frames"], done["points"]
        scan.bad, self._blind, scan.blanks = list(done["bad"]), done["blind"], done["blank"]
        self._counted = done["counted"]
        scan.lost = _lost(scan.lost.shape, done["lost"], done["near"])
        self._last, self._ended = (done["dtype"], done["position"]), scan.blanks > 0
        if done["told"] is not None:
            scan.meta = replace(scan.meta, num_frames=done["told"])
        if done["finished"]:
            self._comm.from_root(self._refuse_more, before)
            scan.meta = replace(scan.meta, num_frames=self.kept)
            self.finished_before = self._ended = True
            scan.note(f"{scan.p.dfile} is finished already: nothing to do")

    def _refuse_more(self, before):
        """Raise OutputError where frames have come since a run has finished that could not know how many there are."""
        taken, selection = provenance.points_of(before), self._scan.selection
        if taken is None or selection.points is not None or selection.count is not None and taken >= selection.count:
            return
        if self._ask(1, selection.extent(range(taken, taken + 1)).start)[0] > 0:
            raise OutputError(f"{self._scan.p.dfile} is finished with {taken} scan points, and now there are more. Set "
                              f"{option('overwrite', True)} to make it again, or name another output")

    def next(self, frames, *, keep, ahead, pause=None, progress=None):
        """`PtyScan.auto`, which may be `ahead`: of the disk by one chunk, and of who takes the frames by another.

        frames : None for the scan's `chunk_frames`
        keep : whether somebody looks at the frames
        pause : seconds between two looks for frames; None to give WAIT where none are there
        progress : called with the number of frames of the batch
        """
        if self.finished_before and not self._closed:
            with self._scan.guarded("closing"):
                self._close()
        if self._closed:
            return EOS
        scan, before = self._scan, self._state()
        try:
            with scan.guarded("preparing frames"):
                while (package := self._next(frames, keep, ahead)) is WAIT and pause is not None:
                    time.sleep(pause)
                    scan.refuse_failed_threads()
                if progress and package not in (WAIT, EOS):
                    progress(len(package.batch.chunk_index))
        except BaseException:
            self.abandon(before)
            raise
        if package is EOS:
            # nobody goes on from here, and the scan is to be gone with its last name
            self._scan = self._ask = self._info = self._raw = None
        return package

    def _next(self, frames, keep, ahead):
        scan = self._scan
        if frames is None:
            frames = scan.chunk_frames
        if frames < 1:
            raise ParameterError(f"auto({frames}): ask for one frame at least")
        while True:
            span = self._spans_begun[0][0] if self._spans_begun else self._begin(frames, keep)
            if isinstance(span, Signal):
                self._raw.close()
                break
            begun = self._spans_begun[0][1]
            if ahead and begun is not None and self._can_go_ahead(keep):
                self._begin(frames, keep, ahead=True)
            batch = self._batch(span, begun, keep, stay=ahead)
            del self._spans_begun[0]
            if not len(batch.chunk_index):
                continue                    # none of its frames can be read
            if scan.sink is not None:
                scan.sink.write(batch, scan.meta.asdict(), self._info, frames, wait=not ahead)
                self._unsaved = []
            self._chunk += 1
            return Package(scan.meta, batch)
        if span is EOS:
            self._finish(frames)
        return span

    def batches(self, frames, pause, *, keep, progress=None):
        """`PtyScan.batches`."""
        try:
            while (package := self.next(frames, keep=keep, ahead=True, pause=pause, progress=progress)) is not EOS:
                yield package.batch
        except GeneratorExit:       # whoever took the batches has had enough
            if not self._closed:
                self.abandon(self._state())
            raise

    def _state(self):
        """How far the run is; what is begun only is not counted."""
        state = {name: getattr(self, name) for name in self.CHANGES}
        if self._spans_begun:
            state |= {"_taken": self._spans_begun[0][0].start, "_ended": False}
        return state, {name: getattr(self._scan, name) for name in self.CHANGES_OF_SCAN}, len(self._scan.bad)

    def _go_back(self, state):
        """To what `_state` was, on every rank, wherever each of them was when one failed."""
        of_run, of_scan, bad = state
        for name, value in of_run.items():
            setattr(self, name, value)
        for name, value in of_scan.items():
            setattr(self._scan, name, value)
        del self._scan.bad[bad:]

    def abandon(self, state):
        """Leave what is under way; whoever asks again gets it again, from that `_state` on."""
        try:
            self._go_back(state)
            self._stop(self._spans_begun)
            self._raw.close()
        finally:
            self._spans_begun.clear()
            buffers.forget()
            if self._scan.sink is not None:
                self._scan.sink.abandon()

    @staticmethod
    def _stop(spans_begun):
        for _, begun in spans_begun:
            if begun is not None:
                begun.stop()

    # --- which frames are next --------------------------------------------------------------------

    def _next_span(self, frames, whole):
        """The next range of scan points (in output order), WAIT or EOS; the same on every rank.

        whole : no fewer than `frames`, but at the end; WAIT where nobody can say how many there are
        """
        scan, selection, start = self._scan, self._scan.selection, self._taken
        if self._ended or selection.count is not None and start >= selection.count:
            return EOS
        stop = start + frames if selection.count is None else min(start + frames, selection.count)
        raw = selection.extent(range(start, stop))
        answer = self._comm.from_root(self._ask_early if whole else self._ask, len(raw), raw.start)
        if answer is None:
            return WAIT
        there, end = answer
        if end and selection.points is not None:
            never = self._never_came(raw.start + there)
            if len(never) and whole:
                return WAIT                     # they are told with the frames that they were among
            self._leave_out(never, raw.start + there)
            selection = scan.selection
            stop = min(stop, selection.count)
            if start >= selection.count:
                return EOS
        ready = min(selection.reached(raw.start + there, start), stop - start)
        last = bool(end) or selection.count is not None and start + ready >= selection.count
        enough = frames if whole or scan.sink is not None else min(frames, scan.p.min_frames)
        if ready <= 0:
            self._ended = bool(end)
            return EOS if end else WAIT
        if ready < enough and not last:
            return WAIT
        return range(start, start + ready)

    def _never_came(self, end):
        """Listed scan points that never came, because the scan ended before `end`."""
        points = self._scan.selection.points[self._taken:]
        return points[points >= end]

    def _leave_out(self, never, end):
        if len(never):
            numbers = rows.numbers(self._scan, np.unique(never)).tolist()
            self._report_bad([(number, f"the scan ended after {end} frames") for number in numbers])
            self._scan.selection = self._scan.selection.without(never)

    def _report_bad(self, frames):
        self._scan.bad += frames
        self._unsaved = self._unsaved + frames

    # --- beginning, and going ahead ---------------------------------------------------------------

    @noting
    def _begin(self, frames, keep, *, ahead=False):
        """The next range of scan points, or a signal. This rank's share of it is under way then, if no hook is between.

        ahead : before it is its turn: only if all of them are there, lest live frames come in small batches; and what
            fails on a rank now is tried again then
        """
        scan, span, begun = self._scan, self._next_span(frames, ahead), None
        if isinstance(span, Signal):
            return span
        try:
            if scan.streams and scan.p.load_parallel not in (None, "common"):
                with suppress(Exception) if ahead else nullcontext():
                    begun = rows.begin(scan, self._raw.reader(), self._points(span), keep=keep)
            if ahead and not all(self._comm.each(begun is not None)):
                self._stop([(span, begun)])
                return WAIT
            self._spans_begun.append((span, begun))
        except BaseException:
            self._stop([(span, begun)])
            raise
        self._taken = span.stop
        return span

    def _ask_early(self, *span):
        with suppress(Exception):
            return self._ask(*span)
        return None

    def _can_go_ahead(self, keep):
        """Whether the next batch is begun before this one is given away; the same on every rank. One thread would only
        take turns with MPI."""
        if keep not in self._goes_ahead:
            mine = self._scan.threads > 1 and self._raw.may_stay(keep)
            self._goes_ahead[keep] = all(self._comm.each(mine))
        return self._goes_ahead[keep]

    def _points(self, span):
        """The scan points of this rank's share of a range."""
        return list(self._scan.selection.raw(self._comm.share(span)))

    # --- a batch ----------------------------------------------------------------------------------

    @noting
    def _batch(self, span, begun, keep, *, stay):
        """Load, correct and cut this rank's share of a span, or take it where it is `begun`, and number what came of
        it.

        stay : whether raw files may stay open until the next one
        """
        scan, dealt = self._scan, None
        if scan.p.load_parallel in (None, "common"):
            dealt = self._comm.deal(lambda: self._load_all(span))
        with self._comm.together(f"preparing scan points {span.start} to {span.stop - 1}"):
            made = begun() if begun is not None else rows.prepare(scan, self._points(span), dealt, keep=keep)
            if not stay or self._raw.is_open and not self._raw.may_stay(keep):
                self._raw.close()
        dtype = made.dtype.str if len(made) else None
        lost = made.lost & ~scan.lost if np.any(made.lost) else np.zeros((), np.uint8)
        lost, near = (as_text(lost & why) for why in LOST.values())
        told = self._comm.each((dtype, made.frame, made.position, made.bad, made.blind, lost, near, made.counted))
        dtypes, frames, positions, bad, blind, lost, near, counted = zip(*told)
        counts = [len(of_rank) for of_rank in frames]
        frames, positions = np.concatenate(frames), np.concatenate(positions)
        found = _lost(scan.lost.shape, lost, near)
        scan.lost = scan.lost | found
        lost, near = (as_text(found & why) for why in LOST.values())
        self._counted = rows.added([self._counted, *counted])
        dtype, *others = sorted(set(dtypes) - {None}) or [made.dtype.str]
        if others:
            raise RecipeError(f"{scan.recipe_name}.correct() returned frames of {np.dtype(dtype)} and of "
                              f"{', '.join(str(np.dtype(d)) for d in others)} in one chunk; expected always the same")
        self._report_bad([one for some in bad for one in some])
        self._blind += sum(blind)
        index, before = self.kept + np.arange(sum(counts)), sum(counts[:self._comm.rank])
        self.kept += sum(counts)
        self._tell_more(len(span))
        if len(positions):
            self._last = np.dtype(dtype), positions[-1]
        return Batch(index=index[before:before + len(made)], frame=made.frame,
                     data=made.data.astype(dtype, copy=False) if keep else None, weight=made.weight if keep else None,
                     position=made.position, chunk=self._chunk, chunk_index=index, chunk_frame=frames,
                     chunk_position=positions, points=span, bad=tuple(self._unsaved), blind=sum(blind),
                     dtype=np.dtype(dtype), packed=made.packed, lost=lost, near=near,
                     counted=rows.added(counted))

    def _load_all(self, span):
        """Root loads for everybody: what each rank's share is made of."""
        spans = [share(span, rank, self._comm.size) for rank in range(self._comm.size)]
        return [rows.load(self._scan, list(self._scan.selection.raw(part))) for part in spans]

    def _tell_more(self, frames):
        """A larger number for those who read along, where nobody knows how many frames come: two chunks before they
        could reach it, so that none takes it for the end, not even a reader that had the file open just before.
        Those who go by the first number end there anyway, so that `finish="blank"` holds to it as long as it can."""
        scan = self._scan
        told = scan.meta.num_frames
        nearly = self.kept + 2 * frames >= told and scan.p.finish == "count"
        if scan.total is None and (nearly or self.kept > told):
            scan.meta = replace(scan.meta, num_frames=2 * (self.kept + frames))
            if scan.sink is not None and scan.sink.grows:
                scan.note(f"readers were told at most {told} frames, and as many may come: now they are told "
                          f"{scan.meta.num_frames}. One that goes by the first number ends there")

    # --- ending -----------------------------------------------------------------------------------

    def _finish(self, frames):
        scan = self._scan
        with self._comm.together("holding raw files against what they were"):
            self.raw_files.compare()        # whoever asks again hears it again
        self._close()
        if self.kept == 0:
            why = f"; the first: {scan.bad[0][1]}" if scan.bad else ""
            raise SourceError(f"{scan.where}not one frame could be prepared{why}")
        if scan.bad:
            scan.note(f"frames that could not be read: {len(scan.bad)}; info/bad_frames lists them")
        if self._blind:
            scan.note(f"frames without one good pixel: {self._blind}")
        scan.note(*self._notes_of_counts())
        if scan.sink is not None:
            if scan.p.finish == "blank" and scan.sink.grows:
                self._fill_up(frames)
            scan.sink.close({**scan.meta.asdict(), "num_frames": self.kept}, self._info,
                            provenance.in_the_end(scan, self._taken))
        scan.hook_threads.leave()
        buffers.forget()

    def _close(self):
        self._closed, scan = True, self._scan
        with self._comm.together("close"):
            with scan.hook_threads.of("close"):
                scan.close()
            if scan.source is not None:
                scan.source.close()
            scan.refuse_failed_threads()

    def _notes_of_counts(self):
        """What was done with counts below 0, and with those next to the detector's mark."""
        scan, (negative, ones, near), limits = self._scan, self._counted, self._scan.limits
        if negative:
            part = negative / (self.kept * np.prod(scan.window.shape))
            done = {"keep": "kept", "zero": "set to 0", "mask": "masked"}[scan.on_negative]
            yield (f"counts below 0: {negative} ({part:.2g} of all); they are {done}. Set "
                   f"{option('negative', 'keep', 'zero', 'mask')}"
                   + ("; all are -1 or -2, which mark bad pixels of a PILATUS" if ones == negative else ""))
        if near:
            masked = limits.most is not None and limits.near > limits.most
            yield (f"counts of {limits.near}, next to the detector's mark {limits.near + 1}: {near}; they are "
                   f"{'masked' if masked else 'kept'}. Set {option('bad_pixels.near_overflow', 'keep', 'mask')}")

    def _fill_up(self, frames):
        """Frames of weight 0 until there are as many as those who read along were told, `frames` in a chunk.

        They are number -1 and repeat the last position, because PtyPy needs one."""
        scan, (dtype, position) = self._scan, self._last
        while (n := min(frames, scan.meta.num_frames - self.kept)) > 0:
            index, mine = self.kept + np.arange(n), self._comm.share(range(n))
            data = np.zeros((len(mine), *scan.plan.shape), dtype)
            masks = Masks([np.zeros(scan.plan.shape, bool)], np.zeros(len(mine), int))
            blank = Batch(index=index[mine.start:mine.stop], frame=np.full(len(mine), -1), data=data,
                          weight=masks.stack(), position=np.tile(position, (len(mine), 1)), chunk=self._chunk,
                          chunk_index=index, chunk_frame=np.full(n, -1), chunk_position=np.tile(position, (n, 1)),
                          points=range(self._taken, self._taken), dtype=np.dtype(dtype),
                          packed=scan.sink.pack(data, masks))
            scan.blanks, self.kept = scan.blanks + n, self.kept + n
            scan.sink.write(blank, scan.meta.asdict(), self._info, frames, wait=False)
            self._chunk += 1
        if scan.blanks:
            scan.note(f"blank frames at the end: {scan.blanks}, of weight 0")


def _lost(shape, overflow, near):
    """Why pixels are lost, uint8 of that shape (`corrections.LOST`), by texts of those that overflowed or came near."""
    return sum(from_text(shape, *texts) * np.uint8(why) for why, texts in zip(LOST.values(), (overflow, near)))
