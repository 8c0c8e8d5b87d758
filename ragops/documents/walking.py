"""List the files of a folder that patterns choose, in a stable order; enter no folder that they do not reach."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ragops.documents.left_out import IsStorable, LeftOut, printable, storable
from ragops.documents.locations import is_junction, relative_inside
from ragops.documents.os_errors import corpus_outage, is_folder, is_outage
from ragops.documents.patterns import Place, Selection
from ragops.errors import UsageError


def walk_folder(
    root: Path,
    include: Sequence[str],
    exclude: Sequence[str] = (),
    *,
    follow_links: bool = False,
    hidden: bool = False,
    left_out: LeftOut | None = None,
    is_storable: IsStorable | None = None,
) -> Iterator[str]:
    """Return the locations of the chosen regular files below `root`, relative to it, POSIX-style, one at a time.

    The order is that of the sorted path components, the same on every system. Hidden files and folders are skipped
    unless they are asked for, and so is everything behind a symbolic link. With `follow_links`, links are followed
    whose target lies inside the root; a file that is reached twice is given once, under its own path if that is
    chosen, too.

    What cannot be taken (a folder that cannot be listed, a name that cannot be stored, a link that leads nowhere)
    is noted in `left_out` while the rest goes on; without it, the first one raises UsageError. So does a root that
    is not a folder or cannot be listed, and a pattern that leads outside. Raises RagopsError for a file system
    that is at fault.
    """
    # Not a generator itself: a wrong root or pattern must fail here, before anything else is prepared.
    if not is_folder(root):
        raise UsageError(
            "the corpus is not a folder",
            where=str(root),
            actual="a file" if root.exists() else "no such file or folder",
            expected="a folder of documents",
            hint="check source.folder in the playbook (RAGOPS_CORPUS) or --folder",
        )
    selection = Selection(include, exclude)
    refused = _Refusing() if left_out is None else left_out
    return iter(_Walk(root, selection, refused, follow_links, hidden, is_storable or storable()))


class _Refusing(LeftOut):
    """Raises instead of counting."""

    def add(self, kind: str, location: str, reason: str) -> None:
        what = {
            "folders": "a folder of the corpus cannot be listed",
            "names": "a file name cannot be stored in the queue",
            "links": "a link of the corpus leads to nothing inside it",
        }[kind]
        raise UsageError(
            what,
            where=printable(location),
            actual=reason,
            hint="correct it, or leave it out: source.exclude in the playbook, --exclude",
        )


@dataclass(slots=True)
class _Folder:
    """A folder that is being listed."""

    above: str
    """Its location with a closing slash."""
    place: Place
    names: Iterator[str]
    folders: set[str]
    links: set[str]
    real: str | None = None
    """For a folder that was reached through a link: its own location with a closing slash."""
    plain: Place | None = None
    """Its place without the link; None if the walk does not come there without it."""


@dataclass(slots=True)
class _Walk:
    root: Path
    selection: Selection
    left_out: LeftOut
    follow_links: bool
    hidden: bool
    is_storable: IsStorable
    _real_root: str = ""
    _linked: set[str] = field(default_factory=set)
    """Files that were given through a link, by their own locations."""
    _entered: set[tuple[str, int]] = field(default_factory=set)
    """Folders that were entered through a link, each with the place that the patterns had there."""

    def __iter__(self) -> Iterator[str]:
        if self.follow_links:
            self._real_root = os.path.realpath(self.root)
        # A stack instead of recursion: a tree may be deeper than Python's recursion limit of 1,000 frames.
        stack = [self._list("", self.selection.root)]
        is_storable = self.is_storable
        while stack:
            folder = stack[-1]
            above, wants, is_linked = folder.above, folder.place.wants, folder.real is not None
            for name in folder.names:
                if name in folder.folders:
                    below = self._enter(folder, name)
                elif name in folder.links:
                    followed = self._follow(folder, name)
                    if isinstance(followed, str):
                        yield followed
                        continue
                    below = followed
                else:
                    if wants(name) and not (is_linked and self._was_given(folder, name)):
                        location = above + name
                        if (reason := is_storable(location)) is None:
                            yield location
                        else:
                            self.left_out.add("names", location, reason)
                    continue
                if below is not None:
                    stack.append(below)
                    break
            else:
                stack.pop()

    def _list(self, above: str, place: Place, real: str | None = None, plain: Place | None = None) -> _Folder:
        """List one folder. Raises OSError."""
        path = self.root / above
        files: list[str] = []
        folders, links = set[str](), set[str]()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith(".") and not self.hidden:
                        continue
                    if entry.is_file(follow_symlinks=False):
                        files.append(name)
                    elif entry.is_symlink() or (os.name == "nt" and is_junction(path / name)):
                        links.add(name)
                    elif entry.is_dir(follow_symlinks=False):
                        folders.add(name)
        except OSError as error:
            if is_outage(error):
                raise corpus_outage(error, folder=self.root, location=printable(above)) from error
            if not above:
                raise UsageError(
                    "the corpus folder cannot be listed",
                    where=str(self.root),
                    actual=error.strerror or str(error),
                    hint="grant this user access to the folder",
                ) from error
            raise
        return _Folder(above, place, iter(sorted([*files, *folders, *links])), folders, links, real, plain)

    def _enter(self, folder: _Folder, name: str) -> _Folder | None:
        place = self.selection.enter(folder.place, name)
        if place is None:
            return None
        if folder.real is None:
            return self._listed(folder.above + name, place)
        plain = folder.plain and self.selection.enter(folder.plain, name)
        return self._listed(folder.above + name, place, f"{folder.real}{name}/", plain)

    def _listed(
        self, location: str, place: Place, real: str | None = None, plain: Place | None = None
    ) -> _Folder | None:
        """Return a folder that is to be walked; None if it was walked already or cannot be listed."""
        if real is not None:
            # Ends every circle of links, and bounds the ways to one folder.
            if (real, id(place)) in self._entered:
                return None
            self._entered.add((real, id(place)))
        try:
            return self._list(f"{location}/", place, real, plain)
        except OSError as error:
            # Dropped in silence, its documents would be missing in the corpus.
            self.left_out.add("folders", location, _reason(error))
            return None

    def _follow(self, folder: _Folder, name: str) -> _Folder | str | None:
        """Return the folder that a link leads to, or the link's own location if it leads to a chosen file."""
        location = folder.above + name
        place = self.selection.enter(folder.place, name)
        wanted = folder.place.wants(name)
        if not wanted and place is None:
            return None
        path = self.root / location
        if not self.follow_links:
            self.left_out.unfollowed += 1
            return None
        try:
            real = os.path.realpath(path, strict=True)
            mode = Path(real).stat().st_mode
        except OSError as error:
            if is_outage(error):
                raise corpus_outage(error, folder=self.root, location=printable(location)) from error
            self.left_out.add("links", location, _reason(error))
            return None
        inside = relative_inside(self._real_root, real)
        if inside is None:
            self.left_out.add("links", location, "leads outside the corpus folder")
            return None
        if stat.S_ISDIR(mode):
            container = folder.above if folder.real is None else folder.real
            if f"/{container}".startswith(f"/{inside}/" if inside else "/"):
                return None  # a folder above the link: what is in it is walked already
            above = f"{inside}/" if inside else ""
            return self._listed(location, place, above, self._plain_place(inside)) if place else None
        if not (stat.S_ISREG(mode) and wanted):
            return None
        parent, _, own = inside.rpartition("/")
        plain = self._plain_place(parent)
        if not self._is_unseen(inside, plain is not None and self._is_plain(plain, inside, own)):
            return None
        if (reason := self.is_storable(location)) is not None:
            self.left_out.add("names", location, reason)
            return None
        return location

    def _was_given(self, folder: _Folder, name: str) -> bool:
        """Return whether a file behind a link is given under its own path, or was through another link."""
        inside = f"{folder.real}{name}"
        return not self._is_unseen(inside, folder.plain is not None and self._is_plain(folder.plain, inside, name))

    def _is_unseen(self, inside: str, is_plain: bool) -> bool:
        if is_plain or inside in self._linked:
            return False
        self._linked.add(inside)
        return True

    def _is_plain(self, place: Place, inside: str, name: str) -> bool:
        """Return whether the walk gives a file under its own path."""
        return place.wants(name) and (self.hidden or not name.startswith(".")) and self.is_storable(inside) is None

    def _plain_place(self, inside: str) -> Place | None:
        """Return the place of a folder that is reached without a link; None if it is not."""
        place: Place | None = self.selection.root
        for part in filter(None, inside.split("/")):
            if place is None or (part.startswith(".") and not self.hidden):
                return None
            place = self.selection.enter(place, part)
        return place


def _reason(error: OSError) -> str:
    if error.errno == errno.ENAMETOOLONG:
        return "its path is longer than this system opens: shorten the names of the folders above it"
    if isinstance(error, FileNotFoundError):
        return "it is gone, or leads to nothing"
    return error.strerror or str(error)
