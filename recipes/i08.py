"""I08 and I08-1 (J08), Diamond Light Source, soft X-ray ptychography: GDA's NeXus files."""
from ptyprep_recipes.i14 import I14

from ptyprep import Group, Par
from ptyprep.errors import SourceError
from ptyprep.hdf5.files import read_numbers, reading, scalar
from ptyprep.words.spelling import option

LINKS = "entry_1/instrument_1/detector_1"       # of the tree after NXcxi_ptycho, which links to GDA's own
DARK, FLAT = ("entry/instrument/darkFieldCollector/darkField", f"{LINKS}/darkfield"), (f"{LINKS}/flatfield",)
STXM = {"_andorrastor": "um", "andor_addetector": "mm"}     # cameras of I08 itself, and the unit of their scans


class I08(I14):
    """A scan of I08-1, also known as J08, or of I08.

    Position = (+SampleY, +SampleX), as interferometers read them, in mm unless the file has a unit; with the rows of
    the frame flipped (orientation 2). The energy is read in eV, and the dark field that GDA collected is subtracted.
    Frames whose sum GDA has as 0 never arrived and are left out.
    Of I08 before 2020 frames are not turned, and the dark field is a scan of its own (dark_scan). In 2015 and 2016 the
    positions were in a file of the STXM (positions.file, <date>/discard/Sample_Image_<date>_<number>.hdf5): +sample_y
    and +sample_x in um.

    Layout: the dump of a scan in nexusformat/definitions pull request 1646, PtychographyTools
    (`scripts/ptychotools.j08_preproc`), nxstacker (`facility/i08_1.py`), and PtyPy (`I08.py`, `diamond_nexus.py`,
    and its tutorials). One script for live scans adds -0.008 keV to the energy, others do not (recorded_energy.offset).
    Not tried on real data of this beamline.
    """
    source_type = None

    orientation = Par(2)

    class intensities(Group):
        """Where the frames are."""
        file = Par(doc="NeXus file of the scan, such as <visit>/nexus/i08-1-5776.nxs.")

    detector = Par(None, doc="Group of the detector, such as andor2 or axis (I08-1), andor_addetector or _andorrastor "
                             "(I08). None: the only one with frames.")

    class motors(Group):
        """The motors of the scan, where positions.slow_key and positions.fast_key are not given."""
        slow = Par(("SampleY", "sample_y", "y"))
        fast = Par(("SampleX", "sample_x", "x"))
        values = Par("readback")

    drop_missing: bool = Par(True, doc="Leave out frames whose sum, as GDA recorded it, is 0: they never arrived.")

    _known = {"energy": {"entry/instrument/pgm_energy/value": ("eV", 1e-3),
                         "entry/instrument/energyFocus/value": ("eV", 1e-3),
                         "entry_1/instrument_1/beam_1/energy": ("eV", 1e-3)},
              "distance": {f"{LINKS}/distance": ("m", 1.0)}}

    def _hints(self):
        return {"distance": f"{option('distance', '0.072 m')} (at I08-1 from 2020 to 2022)",
                "psize": f"{option('psize', '11 um')} (for its sCMOS)"}

    def open(self):
        p = self.p
        with reading(p.intensities.file, "a NeXus file of GDA") as file:
            key = p.intensities.key or self._frames_in(file)
            for name, known, scan in (("darkfield", DARK, p.dark_scan), ("flatfield", FLAT, p.flat_scan)):
                if not (scan or getattr(p, name).file or getattr(p, name).key):
                    p.record(f"{name}.key", next((key for key in known if key in file), None))
            if p.drop_missing and not p.framefilter.file and not p.framefilter.key:
                self._spare_reading(file, f"{key.rpartition('/')[0]}_sum/sum")
        camera = key.split("/")[-2]
        if camera in STXM:
            p.record("orientation", 0)
            p.record("motors.unit", STXM[camera])
            if not p.given("orientation"):
                self.note(f"{p.intensities.file}: frames of {camera} are not turned (orientation 0)")
        return super().open()

    def readings(self, path):
        found = super().readings(path)
        frames = self.source.shape[0]
        if found is None or self.p.outer_index is not None or found[0].size != found[1].size:
            return found
        times, rest = divmod(found[0].size, frames)
        if times < 2 or rest:
            return found
        self.note(f"{path}: {found[0].size} readings for {frames} frames; the first of each {times} is taken")
        return [axis.ravel()[::times] for axis in found]

    def load_geometry(self):
        found = super().load_geometry()
        with reading(self.p.intensities.file, "a NeXus file of GDA") as file:
            sizes = self.quantity("psize", *(scalar(file, f"{LINKS}/{axis}_pixel_size") for axis in "yx"), usual="m")
        if sizes:
            found.setdefault("psize", tuple(sizes))
        return found

    def _spare_reading(self, file, sums):
        """Take the sums of frames as a filter, where some are 0."""
        if sums not in file:
            return
        try:
            missing = int((~(read_numbers(file[sums]) > 0)).sum())
        except SourceError as err:
            self.note(f"{err}: whether frames are missing is not known")
            return
        if missing:
            self.p.record("framefilter.key", sums)
            self.note(f"{file.filename}: {missing} frames whose {sums} is not above 0 are left out")
