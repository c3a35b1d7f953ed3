"""`append`: one file that keeps its chunks, put together from finished parts and renamed into place."""
import h5py

from ptyprep.sinks.disk import publish
from ptyprep.sinks.link import Link


class Append(Link):
    """Save mode `append`: nothing is there under the output's name until all of it is.

    HDF5 cannot grow one file safely: a crash can take finished chunks with it.
    """
    grows = False

    def _show(self, meta, info, tell):
        pass        # no main file before the end

    def _close(self, meta, info):
        finished = self.parts.finished()
        mask = one_mask(finished)
        if mask is not None:
            meta = {**meta, "weight2d": mask}

        made = self.parts.write_main(meta, info, lambda group: self._copy(group, finished, mask is None))
        # a run that died after this line finds its own file when it is resumed
        publish(made, self.output, replace=self.parts.replaces or self.parts.made_output())
        self.parts.remove()
        self.parts.remove_others()

    def _copy(self, group, finished, masks):
        """The chunks of the finished parts, with their masks or without."""
        for number, path in enumerate(finished):
            with h5py.File(path, "r") as part:
                target = group.create_group(str(number))
                target.attrs["type"] = "dict"
                for name in part:
                    if name != "weights" or masks:
                        part.copy(name, target)     # HDF5 copies compressed chunks as they are


def one_mask(parts):
    """The mask (h, w) that all frames of these part files share, or None: equal masks have equal compressed bytes."""
    first = mask = None
    for path in parts:
        with h5py.File(path, "r") as part:
            weights = part["weights"]
            for i in range(len(weights)):
                packed = weights.id.read_direct_chunk((i, 0, 0))[1]
                if first is None:
                    first, mask = packed, weights[i] > 0
                elif packed != first:
                    return None
    return mask
