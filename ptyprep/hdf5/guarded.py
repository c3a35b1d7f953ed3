"""Open HDF5 files that lead only where somebody has looked first.

HDF5 itself opens whatever an external link, a virtual dataset or external storage names: a pipe that nobody writes into
blocks it for ever, and the bytes of any file become numbers. So each group and dataset that is read is of a class of
this module. HDF5 is kept from following external links; they are followed here. A dataset is handed out when the files
that HDF5 opens for it were looked at.

Between the look and HDF5's own opening the file can still be replaced by somebody who may write in its folder.
"""
import glob
import os
import stat
from pathlib import Path

import h5py

from ptyprep.errors import SourceError
from ptyprep.filesystem.raw_files import opening
from ptyprep.hdf5.chunk_index import reason
from ptyprep.words.spelling import option

LINKS = 16              # one after the other that are followed to an object, as many as HDF5 follows
KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
_followed = {}          # {file: {file that it led to: None}} of this process, real paths
_refused = {}           # {real path of a file that must not be opened: (what it was, why)}


def open_hdf5(path, within=None):
    """An HDF5 file to read, unlocked: the detector may be writing it. Keep it open for one read only.

    within : folders that it must not lead out of; None where it may lead anywhere

    Raises SourceError that tells absent, foreign and truncated files apart, and for what is no file.
    """
    path = Path(path)
    if kind := other_kind(path):
        raise SourceError(f"{path}: {kind}; expected an HDF5 file")
    state, why = _refused.get(os.path.realpath(path), (None, "")) if _refused else (None, "")
    if state is not None and state == state_of(path):
        raise SourceError(f"{path}: {why}")
    opening(path)
    try:
        try:
            file = File(path, "r", locking=False)
        except OSError as err:
            if "locking flag" not in str(err):
                raise
            file = File(path, "r")          # this process has it open already, locked
    except OSError as err:
        if not path.exists():
            raise SourceError(f"{path}: no such file") from err
        if path.is_dir():
            raise SourceError(f"{path}: a folder; expected an HDF5 file") from err
        if not is_hdf5(path):
            hint = "; MATLAB writes one with save(..., '-v7.3')" if path.suffix == ".mat" else ""
            raise SourceError(f"{path}: not an HDF5 file ({path.stat().st_size} bytes){hint}") from err
        raise SourceError(f"{path}: truncated or damaged, HDF5 cannot open it: {reason(err)}") from err
    file.within = None if within is None else tuple(map(os.path.realpath, within))
    return file


def refuse(path, why):
    """Let nobody in this process open a file, until it is another: HDF5 would hang, or crash."""
    _refused[os.path.realpath(path)] = state_of(path), why


def state_of(path):
    """What tells a file, by its path or descriptor, from another of its name; None where there is none. The last of it
    is the time of its last change [ns]."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def is_hdf5(path):
    """Whether a file begins with HDF5's signature (at 0, or after a user block)."""
    try:
        if other_kind(path):
            return False
        with open(path, "rb") as file:
            return file.read(8) == b"\x89HDF\r\n\x1a\n" or h5py.is_hdf5(path)
    except OSError:
        return False


def other_kind(path):
    """What there is, in words, where it is neither a file nor a folder: opening it may never end; else None."""
    try:
        return KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
    except (OSError, ValueError):
        return None


def followed_out_of(folders, files):
    """The files outside some folders that links and virtual datasets of these files have led to, step by step, in the
    order in which this process followed them. Real paths."""
    folders, waiting, led = set(map(os.path.realpath, folders)), list(map(os.path.realpath, files)), {}
    for path in waiting:        # grows meanwhile
        new = [target for target in _followed.get(path, ()) if target not in led]
        led.update(dict.fromkeys(new))
        waiting += new
    return [Path(path) for path in led if not any(_is_in(path, folder) for folder in folders)]


def places_of(file, name):
    """Where HDF5 looks for the file of that name that an open file leads to, as far as there is anything: beside it, in
    the folder in which the program runs, beside what its own name is a symbolic link to; of an absolute name first
    there. (`H5F_prefix_open_file` of HDF5; a file that must not lead out of its folder is not looked for elsewhere.)"""
    path, name = Path(file.filename), os.fsdecode(name)
    whole = [name] if os.path.isabs(name) else []
    last = os.path.basename(name) if whole else name
    prefixes = [p for p in os.environ.get("HDF5_EXT_PREFIX", "").split(":") if p]
    folders = [*prefixes, path.parent, ".", os.path.dirname(os.path.realpath(path))]
    if file.within is not None:
        folders = [path.parent, os.path.dirname(os.path.realpath(path))]
    there = [Path(place) for place in [*whole, *(os.path.join(folder, last) for folder in folders)]
             if "\0" not in name and os.path.exists(place)]
    return list(dict.fromkeys(there))


def place_of(file, name):
    """The first of `places_of`; beside the file where there is none."""
    return next(iter(places_of(file, name)), Path(file.filename).parent / os.fsdecode(name))


def look_at(file, place, what):
    """Raise SourceError where an open file leads to what it must not: to what is no file, or out of its folders.

    what : the sentence's subject
    """
    if kind := other_kind(place):
        raise SourceError(f"{file.filename}: {what} leads to {place}, which is {kind}; expected a file")
    real = os.path.realpath(place)
    if file.within is not None and not any(_is_in(real, folder) for folder in file.within):
        raise SourceError(f"{file.filename}: {what} leads out of the folder {file.within[0]}, to {real}; it is not "
                          f"opened. If you trust this file, set {option('follow_links', True)}")
    _followed.setdefault(os.path.realpath(file.filename), {})[real] = None


def _is_in(path, folder):
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _closed():
    """Settings with which HDF5 follows links inside a file, and no external one: it would have to open `<its name>/.`
    as a file."""
    inside, links = h5py.h5p.create(h5py.h5p.FILE_ACCESS), h5py.h5p.create(h5py.h5p.LINK_ACCESS)
    inside.set_fapl_split(b"/.", None, b"/.", None)
    links.set_elink_fapl(inside)
    return links


CLOSED, BESIDE = _closed(), h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
BESIDE.set_efile_prefix(b"${ORIGIN}")       # HDF5 looks for external storage in the folder in which the program runs


class _Node:
    """What groups and datasets have in common; `within` is of `open_hdf5`."""
    within = None
    _lapl = CLOSED          # of h5py: with what its own ways look links up

    @property
    def file(self):
        return _as(File, self, self.id)

    def _wrap(self, oid):
        """The object of an identifier, after a look at what HDF5 opens for it."""
        if isinstance(oid, h5py.h5g.GroupID):
            return _as(Group, self, oid)
        if isinstance(oid, h5py.h5d.DatasetID):
            return _as(Dataset, self, self._looked_at(oid))
        return h5py.Datatype(oid)

    def _looked_at(self, oid):
        plist = oid.get_create_plist()
        if plist.get_layout() == h5py.h5d.VIRTUAL:
            self._look_at_sources(oid, plist)
        elif plist.get_layout() == h5py.h5d.CONTIGUOUS and plist.get_external_count():
            self._look_at_storage(oid, plist)
            name = h5py.h5i.get_name(oid)
            oid._close()        # while it is open, HDF5 opens it in no other way
            return h5py.h5d.open(self.file.id, name, BESIDE)
        return oid

    def _look_at_sources(self, oid, plist):
        """HDF5 opens the sources of a virtual dataset when it is read, and, to tell its shape, those of one that grows
        with them."""
        file, what = self.file, f"virtual dataset {_text(h5py.h5i.get_name(oid))}"
        for i in range(plist.get_virtual_count()):
            name = os.fsencode(plist.get_virtual_filename(i))
            if name == b".":
                continue
            if b"%b" in name:       # numbers of blocks
                name = os.fsdecode(name).replace("%%", "%")
                pattern = os.path.join(glob.escape(os.path.dirname(file.filename) or "."),
                                       "*".join(map(glob.escape, name.split("%b"))))
                places = glob.glob(pattern)
            else:
                places = places_of(file, name)
            for place in places:
                look_at(file, place, what)
            grows = h5py.h5s.UNLIMITED in plist.get_virtual_vspace(i).get_simple_extent_dims(True)
            for place in places[:1] if grows and b"%b" not in os.fsencode(name) else ():
                self._look_into(place, os.fsencode(plist.get_virtual_dsetname(i)), what)

    def _look_into(self, place, name, what):
        try:
            source = open_hdf5(place, self.within)
        except SourceError:
            return          # HDF5 cannot open it either
        with source:
            node = source.get(name)
            elsewhere = node is not None and node.file.filename != source.filename
        if elsewhere:
            raise SourceError(f"{self.file.filename}: {what} grows with {_text(name)} of {place}, which is a link to "
                              f"another file; give that file itself")

    def _look_at_storage(self, oid, plist):
        """Files of external storage lie beside, and are as long as they must be: HDF5 would go on with zeros."""
        file = self.file
        what, rest = f"{file.filename}: {_text(h5py.h5i.get_name(oid))}", oid.get_storage_size()
        folder = os.path.dirname(os.path.realpath(file.filename))
        for i in range(plist.get_external_count()):
            name, offset, size = plist.get_external(i)
            place = os.path.join(folder, os.fsdecode(name))
            if os.path.dirname(os.path.realpath(place)) != folder:
                raise SourceError(f"{what} keeps its numbers in {place}, which is not beside the file; such a file is "
                                  f"not opened")
            if not os.path.isfile(place):
                raise SourceError(f"{what} keeps its numbers in {place}, which is {other_kind(place) or 'not there'}; "
                                  f"expected a file")
            wanted = min(size, rest)
            if os.path.getsize(place) < offset + wanted:
                raise SourceError(f"{what} keeps its numbers in {place}, which has {os.path.getsize(place)} bytes; "
                                  f"expected {offset + wanted}")
            _followed.setdefault(os.path.realpath(file.filename), {})[os.path.realpath(place)] = None
            rest -= wanted


class Group(_Node, h5py.Group):
    """A group whose members are looked at before HDF5 opens anything for them."""

    def __getitem__(self, name):
        if not isinstance(name, str | bytes):       # a reference, which leads nowhere but into its file
            return self._wrap(super().__getitem__(name).id)
        return self._find(self._e(name), LINKS)

    def get(self, name, default=None, getclass=False, getlink=False, **keywords):
        try:
            if not getlink:
                node = self[name]
                kinds = h5py.Group, h5py.Dataset, h5py.Datatype
                return next(kind for kind in kinds if isinstance(node, kind)) if getclass else node
            holder, last = self._holder(name)
            return default if last is None else super(Group, holder).get(last, default, getclass, True)
        except KeyError:
            return default

    def __contains__(self, name):
        try:
            return self._holder(name)[1] is not None
        except KeyError:
            return False

    def _holder(self, name):
        """(group, name in it) of a link, whatever it leads to; the name is None where there is none."""
        name = self._e(name)
        folder, _, last = name.rstrip(b"/").rpartition(b"/")
        holder = self._find(folder, LINKS) if folder else self.file if name.startswith(b"/") else self
        if not last or last == b".":
            return holder, "."
        there = isinstance(holder, h5py.Group) and holder.id.links.exists(last)
        return holder, last if there else None

    def _find(self, path, left):
        """The object at a path (bytes), over at most so many links. Raises KeyError where there is none."""
        try:
            found = h5py.h5o.open(self.id, path, lapl=CLOSED)
        except (KeyError, OSError, RuntimeError, SystemError, ValueError) as err:
            node = self._by_links(path, left)       # it may be in another file
            if node is None:
                raise err if isinstance(err, KeyError) else KeyError(f"{_text(path)}: {reason(err)}") from err
            return node
        return self._wrap(found)

    def _by_links(self, path, left):
        """The same link by link, and over external ones; None where there is none."""
        at, names = self.file if path.startswith(b"/") else self, [n for n in path.split(b"/") if n not in (b"", b".")]
        while names and left:
            name, *names = names
            links = at.id.links if isinstance(at, h5py.Group) else None
            if links is None or not links.exists(name):
                return None
            kind = links.get_info(name).type
            if kind == h5py.h5l.TYPE_SOFT:
                return at._by_links(b"/".join([links.get_val(name), *names]), left - 1)
            if kind == h5py.h5l.TYPE_EXTERNAL:
                file, target = links.get_val(name)
                file = at._follow(name, file)
                return None if file is None else file._by_links(b"/".join([b"", target, *names]), left - 1)
            at = at._wrap(h5py.h5o.open(at.id, name, lapl=CLOSED))
        return at if left else None

    def _follow(self, name, target):
        """The file that an external link leads to, open; None where it is not there or cannot be opened."""
        file = self.file
        places = places_of(file, target)
        if not places:
            return None
        look_at(file, places[0], f"link {_text(name)} in {self.name}")
        try:
            return open_hdf5(places[0], self.within)
        except SourceError:
            return None


class File(Group, h5py.File):
    """An open file; see `open_hdf5`."""


class Dataset(_Node, h5py.Dataset):
    """A dataset; what HDF5 opens for it was looked at."""


def _as(kind, node, oid):
    made = kind(oid)
    made.within = node.within
    return made


def _text(name):
    return name.decode(errors="replace")
