"""Twenty defects to plant: each is a mistake that somebody could make here, and the test that is to notice it.

The text stands once in all of `ptyprep` and `recipes`, in whichever file that is: tests/test_defects.py checks that.
Where code is written anew, its defect is, too.
"""
from typing import NamedTuple


class Defect(NamedTuple):
    """A mistake to plant.

    kind : what it breaks
    text, instead : what stands in the code, and what is put there
    tests : those that are to fail then, as pytest takes them
    unseen : whether it was chosen by a reader who had not seen the tests
    """
    name: str
    kind: str
    text: str
    instead: str
    tests: tuple
    unseen: bool = True


DEFECTS = [
    # --- frames and masks -----------------------------------------------------------------------------
    Defect("a flipped axis begins one pixel off", "frames and masks",
           "(size - 1 - middle if flip else middle)",
           "(size - middle if flip else middle)",
           ("tests/test_frame.py::test_a_planted_spot_stands_in_the_middle_of_pixel_N_over_2",)),
    Defect("masks are flipped before they are transposed, frames after", "frames and masks",
           "return self._orient(good)",
           "return self._orient(good.swapaxes(-1, -2)).swapaxes(-1, -2) if self.transpose else self._orient(good)",
           ("tests/test_frame.py::test_a_binned_pixel_is_good_only_if_all_its_parts_are",)),
    Defect("bit 15 of a NeXus mask is no fault", "frames and masks",
           "0xff00, USER",
           "0x7f00, USER",
           ("tests/test_masks.py::test_a_pixel_is_bad_with_any_of_the_sixteen_bits_of_nexus_and_with_no_other",)),
    Defect("masks that differ in the middle of a scan are folded into one", "frames and masks",
           "self._one_mask = self._one_mask and (packed",
           "self._one_mask = (packed",
           ("tests/sinks/test_sinks.py::test_masks_are_folded_into_one_only_when_all_are_equal",)),
    Defect("a pixel that a correction makes NaN is a good 0", "frames and masks",
           "Masks.each(masks.stack() & finite)",
           "masks",
           ("tests/test_scan.py::test_what_a_correction_makes_not_finite_is_masked_and_zero",)),
    # --- positions and units --------------------------------------------------------------------------
    Defect("positions are turned the other way", "positions and units",
           "s * x + c * y, c * x - s * y",
           "c * y - s * x, c * x + s * y",
           ("tests/test_positions.py::test_turns_come_in_the_order_swap_flip_angle",)),
    Defect("frames before the first reading get its position", "positions and units",
           "readings[known, axis]) / count, left=np.nan, right=np.nan",
           "readings[known, axis]) / count, right=np.nan",
           ("tests/test_positions.py::test_frames_beyond_the_readings_of_a_clock_have_no_position",)),
    Defect("micrometres are millimetres where the word is spelt out", "positions and units",
           '"micro": 1e-6',
           '"micro": 1e-3',
           ("tests/test_positions.py::test_lengths_that_are_spelt_out",)),
    Defect("pixel sizes keep their axes where frames are transposed", "positions and units",
           "(float(p) * self.rebin for p in raw)",
           "(float(p) * self.rebin for p in (raw[::-1] if self.transpose else raw))",
           ("tests/test_frame.py::test_pixel_size_grows_with_rebin_and_turns_with_the_frame",)),
    # --- ranks ----------------------------------------------------------------------------------------
    Defect("the ranks' shares leave a remainder to nobody", "ranks",
           "span[n * rank // size: n * (rank + 1) // size]",
           "span[n // size * rank: n // size * (rank + 1)]",
           ("tests/test_mpi.py::test_shares_are_contiguous_and_differ_by_one_at_most",)),
    Defect("places in the output are counted as if all ranks had equal shares", "ranks",
           "sum(counts[:self._comm.rank])",
           "counts[0] * self._comm.rank",
           ("tests/test_scan.py::TestRanks::test_their_places_follow_each_other_whatever_each_has",)),
    Defect("overflows are known of the first rank's frames only", "ranks",
           "_lost(scan.lost.shape, lost, near)",
           "_lost(scan.lost.shape, lost[:1], near[:1])",
           ("tests/test_reasons.py::test_ranks_do_not_matter",)),
    Defect("each rank asks by itself how many frames are there", "ranks",
           "self._comm.from_root(self._ask_early if whole else self._ask, len(raw), raw.start)",
           "(self._ask_early if whole else self._ask)(len(raw), raw.start)",
           ("tests/test_scan.py::TestRanks::test_share_the_hooks_as_load_parallel_says",)),
    # --- crash and resume -----------------------------------------------------------------------------
    Defect("resume believes columns whatever their checksums", "crash and resume",
           "all(found == told for found, told in sums)",
           "len(sums) >= len(COLUMNS)",
           ("tests/sinks/test_sinks.py::test_columns_that_were_not_written_are_not_believed",)),
    Defect("a file is named before it is on the disk", "crash and resume",
           "system.flush(file.fileno())",
           "file.flush()",
           ("tests/test_system.py::test_macos_prepares_the_same_and_flushes_as_often",)),
    Defect("of a part that was tried twice, the first try counts", "crash and resume",
           'log.lines[line["chunk"]] = line',
           'log.lines.setdefault(line["chunk"], line)',
           ("tests/sinks/test_runs.py::test_of_a_part_that_was_tried_twice_the_last_line_counts",)),
    Defect("resume forgets the overflows of all parts but the last", "crash and resume",
           '"lost": [line["lost"] for line in lines]',
           '"lost": [line["lost"] for line in lines[-1:]]',
           ("tests/test_reasons.py::test_an_interruption_forgets_nothing",)),
    # --- sources --------------------------------------------------------------------------------------
    Defect("a missing data file is taken to be as short as the last one", "sources",
           "return first.shape[0]",
           "return found[readable[-1]].shape[0]",
           ("tests/sources/test_dectris.py::test_a_file_missing_in_the_middle_keeps_the_places_of_the_others",)),
    Defect("a pixel of a burst is bad only if it is in all of its frames", "sources",
           "frames.dtype)).all(axis=0)",
           "frames.dtype)).any(axis=0)",
           ("tests/sources/test_gathered.py::test_bursts_add_up_and_keep_marks_masks_and_saturation",)),
    Defect("a chunk that was stored without a filter is decoded by it", "sources",
           "codec.decode(chunk, self.filters, skipped",
           "codec.decode(chunk, self.filters, 0",
           ("tests/sources/test_stored.py::test_filters_that_some_chunks_skipped_are_not_undone",)),
]
