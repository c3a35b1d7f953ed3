"""A simulated far-field scan whose object and probe are known: to learn on, and to test a reconstruction with."""

import numpy as np

from ptyprep import Par, PtyScan
from ptyprep.errors import ParameterError
from ptyprep.units import HC
from ptyprep.words.spelling import option

DIAMETER = 0.4                      # of the probe, as a fraction of the window


class Moonflower(PtyScan):
    """Diffraction of a known object in a known, defocused probe.

    All follows from the parameters: a frame is the same on any rank and in any order. Positions lie on object
    pixels of wavelength x distance / (side of the raw frame x psize)."""

    num_frames = Par(100)
    shape = Par(128)
    center = Par("fftshift")
    energy = Par(6.2)
    distance = Par(7.19)
    psize = Par(172e-6)
    detector: int | None = Par(None, gt=0, unit="pixel",
                                doc="Side of the simulated detector. None: as shape, else 128.")
    model: str = Par("round", choices=("round", "raster"), doc="Pattern of the scan points.")
    density: float = Par(0.2, gt=0, le=1, unit="", doc="Scan step, as a fraction of the probe's diameter.")
    photons: float = Par(1e8, gt=0, unit="", doc="Photons in a frame, on the average of the scan.")
    add_poisson_noise: bool = Par(True, doc="Whether counts scatter as photons do; else they are rounded.")
    seed: int = Par(0, ge=0, doc="Seed of the object and of the noise.")

    def load_common(self):
        if self.p.positions_theory is not None:
            raise ParameterError(f"{option('positions_theory')}: frames are simulated at positions of their own, which "
                                 "`model` and `density` make; leave it out")
        # As one item: an array of the frame's size, which the probe is, would be cut to the region.
        return {"truth": self.truth()}

    def load_positions(self):
        return self._steps() * self._pixel()

    def load(self, indices):
        truth = self.common["truth"]
        mean = diffract(truth["probe"], truth["object"], truth["origin"] + self._steps()[indices])
        if self.p.add_poisson_noise:
            mean = [np.random.default_rng([self.p.seed, i]).poisson(frame) for i, frame in zip(indices, mean)]
        return np.round(mean).astype(np.uint32)

    def truth(self):
        """What a reconstruction of uncropped, unbinned frames should find: a dict of object (H, W) complex, probe
        (h, w) complex with its power in photons, pixel (2,) [m], and origin (2,), the object pixel under the
        probe's first pixel at position (0, 0)."""
        steps, side = self._steps(), self._side()
        origin = -steps.min(axis=0)
        object = make_object(tuple(steps.max(axis=0) + origin + side), self.p.seed)
        probe = make_probe(side)
        seen = np.vdot(illumination(probe, origin + steps, object.shape), abs(object) ** 2) / len(steps)
        return {"object": object, "probe": probe * np.sqrt(self.p.photons / seen),
                "pixel": self._pixel(), "origin": origin}

    def _side(self):
        return int(self.p.detector or np.max(self.p.shape or 128))

    def _pixel(self):
        wavelength = HC * 1e-10 / self.p.energy
        return wavelength * self.p.distance / (self._side() * np.broadcast_to(self.p.psize, 2))

    def _steps(self):
        return scan_positions(self.p.num_frames or 100, self.p.density * DIAMETER * self._side(), self.p.model)


def make_probe(side):
    """The beam of an uneven, aberrated round lens, so far out of focus that it is about `DIAMETER` of the window
    wide: (side, side) complex128, of power 1, its middle at side // 2."""
    y, x = np.mgrid[:side, :side] - side // 2
    radius = side / 6                                        # of the lens, in detector pixels
    r, angle = np.hypot(y, x) / radius, np.arctan2(y, x)
    edge = 1 / (1 + np.exp(np.clip(2 * radius * (r - 1), None, 700)))
    uneven = 1 + 0.3 * r * np.cos(angle - 1) + 0.2 * np.cos(5 * r)
    # The phase p(k) of detector pixel k sends light to p'(k) side / 2 pi, here DIAMETER side / 2 at the edge.
    defocus = np.pi / 2 * DIAMETER * radius * r**2
    aberration = 1.5 * r**2 * np.cos(2 * angle - 0.7) + r**3 * np.cos(angle)
    probe = _fourier(edge * uneven * np.exp(1j * (defocus + aberration)))
    return probe / np.linalg.norm(probe)


def make_object(shape, seed=0):
    """Smooth random transmission, `shape` complex128: features at three scales, amplitude 0.6 to 1, phase -2 to
    2 rad. It resembles none of its flips, turns and conjugates."""
    random = np.random.default_rng([seed, 2**32 - 1])     # a stream that no frame's noise has
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])

    def landscape():
        total = 0
        for width in (2, 5, 12):    # pixels
            blur = np.exp(-2 * (np.pi * width) ** 2 * (fy**2 + fx**2))
            layer = np.fft.ifft2(np.fft.fft2(random.standard_normal(shape)) * blur).real
            total = total + (layer - layer.mean()) / layer.std()
        return np.tanh(total / total.std())

    return (0.8 + 0.2 * landscape()) * np.exp(2j * landscape())


def scan_positions(num_frames, step, model="round"):
    """Scan points about (0, 0), on object pixels.

    step : float [object pixel]
        Distance of neighbours.
    model : "round" or "raster"
        Rings of 1, 5, 10, 15 ... points from the middle outwards, or the rows of a square.

    Returns positions, (num_frames, 2) int64, (y, x).

    >>> scan_positions(4, 10, "raster").tolist()
    [[-5, -5], [-5, 5], [5, -5], [5, 5]]
    """
    count = np.arange(num_frames)
    if model == "raster":
        columns = int(np.ceil(np.sqrt(num_frames)))
        points = np.stack(np.divmod(count, columns), axis=-1) - (columns - 1) / 2
    else:
        ring = np.ceil((np.sqrt(1 + 1.6 * count) - 1) / 2)        # 1 + 5/2 ring (ring + 1) points up to its end
        angle = 2 * np.pi * (count - 1) / np.maximum(5 * ring, 1)
        points = ring[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    return np.round(points * step).astype(np.int64)


def illumination(probe, corner, shape):
    """Photons on each object pixel, `shape` float64: |probe|² added with its first pixel at every corner."""
    h, w = probe.shape
    total = np.zeros(shape)
    for y, x in corner:
        total[y:y + h, x:x + w] += abs(probe) ** 2
    return total


def diffract(probe, object, corner):
    """Far-field intensity behind object[y:y + h, x:x + w] for each (y, x) of corner: (n, h, w) float64, its sum
    that of the exit wave, zero frequency at (h // 2, w // 2)."""
    h, w = probe.shape
    return np.stack([abs(_fourier(probe * object[y:y + h, x:x + w])) ** 2 for y, x in corner])


def _fourier(wave):
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(wave), norm="ortho"))
