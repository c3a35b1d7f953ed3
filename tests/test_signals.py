"""A rank that is stopped, however that happens, ends the whole job in seconds, and finished chunks stay."""
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ptyprep.testing import launch, messages, mpirun, read_ptyd

pytestmark = pytest.mark.slow

SLOW = '''
import os, time
import numpy as np
from ptyprep import Par, PtyScan

class Slow(PtyScan):
    """Thirty frames, slowly."""
    wait: float = Par(0.0, unit="s", doc="For each frame.")
    def load_geometry(self):
        return {"energy": 7.0, "distance": 2.0, "psize": 75e-6, "center": (8, 8)}
    def load_positions(self):
        return np.arange(60.0).reshape(30, 2) * 1e-7
    def load(self, indices):
        name = f"rank{self.comm.rank}.pid"
        if not os.path.exists(name):
            with open(name + ".tmp", "w") as file:
                file.write(str(os.getpid()))
            os.rename(name + ".tmp", name)
        time.sleep(self.p.wait * len(indices))
        return np.arange(30, dtype="u2")[list(indices), None, None] * np.ones((1, 16, 16), "u2")
'''


@pytest.mark.mpi
@pytest.mark.parametrize("number, who", [
    (signal.SIGTERM, 0), (signal.SIGTERM, 2), (signal.SIGKILL, 1), (signal.SIGINT, 1), (signal.SIGINT, "job"),
    (signal.SIGTERM, "job")])
def test_a_signal_ends_the_job_and_resume_ends_the_scan(tmp_path, number, who):
    assert mpirun(), "make test installs one"
    (tmp_path / "slow.py").write_text(SLOW)
    command = [sys.executable, "-m", "ptyprep", "prepare", "slow.py", "-o", "out.ptyd", "--frames_per_chunk", "3",
               "--wait", "0.1"]
    job = subprocess.Popen(launch(3, *command), cwd=tmp_path, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 40
        while not list(tmp_path.glob("out.*/000002.h5")):
            assert time.monotonic() < deadline and job.poll() is None
            time.sleep(0.05)
        began = time.monotonic()
        os.kill(job.pid if who == "job" else int((tmp_path / f"rank{who}.pid").read_text()), number)
        _, err = job.communicate(timeout=30)
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
            job.communicate()
    assert job.returncode != 0 and time.monotonic() - began < 15
    assert not (tmp_path / "out.ptyd").exists()
    told = messages(err)
    assert "Traceback" not in err and len(told) <= 1, err
    if who in (1, 2) and number != signal.SIGKILL:
        assert f"rank {who}: " in told[0] and ("KeyboardInterrupt" in told[0] or "interrupted" in told[0])
    again = subprocess.run([*command, "--resume"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
                           check=False)
    assert again.returncode == 0, again.stderr
    got = read_ptyd(tmp_path / "out.ptyd")
    assert np.array_equal(got["data"][:, 0, 0], np.arange(30)) and got["frame_ids"].tolist() == list(range(30))
