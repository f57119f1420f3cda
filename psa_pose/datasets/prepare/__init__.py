"""Bringing COCO and MPII into place: archives found, fetched, checked, unpacked, converted."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from psa_pose.datasets.prepare import mpii_official
from psa_pose.datasets.prepare.archives import Archive, curl, digests, unpack, verify, whole_file
from psa_pose.datasets.prepare.download import download
from psa_pose.datasets.prepare.layout import (
    LAYOUTS,
    MPII_JSON,
    MPII_TRUTH,
    OFFICIAL_MAT,
    Inspector,
    Layout,
    Part,
    differences,
)
from psa_pose.errors import DataError, nearest

__all__ = ['LAYOUTS', 'prepare']

MANIFEST = 'manifest.json'
_GIB = 1 << 30


def prepare(
    name: str,
    root: Path,
    *,
    archives: Path | None = None,
    fetch: bool = False,
    check: bool = False,
    unverified: bool = False,
    mirror: str | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Make `root` what the configs expect of a dataset; what is there already stays as it is.

    Sizes and checksums of everything are kept in `root/manifest.json`: a later run, also a
    colleague's on a copy with that file, says where it finds others.

    Args:
        name: 'coco' or 'mpii'.
        root: the dataset's folder.
        archives: folder with archives or loose annotation files; default `root/archives`.
        fetch: download what is missing, to `archives`.
        check: change nothing, only say what is there.
        unverified: take archives whose size or checksum is not the published one.
        mirror: fetch `<mirror>/<archive's name>` instead of the published address.
        say: takes lines for people.

    Raises:
        DataError: something is missing (with the commands that get it) or broken.
    """
    if name not in LAYOUTS:
        raise DataError(f"no dataset '{name}'; {nearest(name, LAYOUTS)}")
    work = _Preparation(LAYOUTS[name], root, archives or root / 'archives', unverified, mirror, say)
    if not check:
        for part in work.layout.parts:
            work.bring(part, fetch)
    work.report(check)
    work.compare_and_record(keep=not check)


class _Preparation:
    def __init__(
        self,
        layout: Layout,
        root: Path,
        archives: Path,
        unverified: bool,
        mirror: str | None,
        say: Callable[[str], None],
    ) -> None:
        self.layout, self.root, self.archives = layout, root, archives
        self.unverified, self.mirror, self.say = unverified, mirror, say
        self.inspector = Inspector(layout, root)
        self.manifest = self._read_manifest()
        self.verified: dict[str, Any] = dict(self.manifest.get('archives', {}))

    def bring(self, part: Part, fetch: bool) -> None:
        """Get a part from what is at hand, or from the network where that is wanted."""
        if not self._is_complete(part):
            self._copy_loose(part)
        if part.archive is not None and not self._is_complete(part):
            path = self._find(part.archive)
            if path is None and fetch and not part.optional:
                path = self._download(part.archive)
            if path is not None:
                self._unpack(path, part.archive)
        if part.files == (OFFICIAL_MAT,):
            self._convert_official()

    def report(self, check: bool) -> None:
        """Say what is there.

        Raises:
            DataError: something is missing; with the commands that get it.
        """
        lacking = []
        for part in self.layout.parts:
            missing = self.inspector.missing(part)
            if missing is None and part.optional:
                continue
            if missing is None:
                lacking.append((part, 'listed by annotations that are missing'))
            elif missing[0] and not part.optional:
                names, total = missing
                some = f'{", ".join(names[:3])}{", ..." if len(names) > 3 else ""}'
                lacking.append((part, f'{len(names)} of {total} files missing: {some}'))
            elif missing[0]:
                at = f'; {part.source}' if part.source else ''
                self.say(f'optional  {part.what}: {len(missing[0])} of {missing[1]} not there{at}')
            else:
                self._say_complete(part, missing[1])
        if lacking:
            raise DataError(self._how_to_get(lacking, check))

    def compare_and_record(self, keep: bool) -> None:
        """Compare with the manifest, and write it.

        Raises:
            DataError: the manifest says otherwise.
        """
        found = self.inspector.describe()
        path = self.root / MANIFEST
        changed = differences({k: v for k, v in self.manifest.items() if k != 'archives'}, found)
        if changed:
            lines = '\n  '.join(changed[:20])
            raise DataError(
                f'{self.root} is not what {path} says:\n  {lines}\n'
                'If the change is meant, delete that file and run this again.'
            )
        if keep:
            content = json.dumps({**found, 'archives': self.verified}, indent=1) + '\n'
            with whole_file(path) as file:
                file.write(content.encode())
        if keep or self.manifest:
            self.say(f'manifest  {path}: {"written" if keep else "as recorded"}')
        self.say(f'complete  {self.root}')

    def _is_complete(self, part: Part) -> bool:
        missing = self.inspector.missing(part)
        return missing is not None and not missing[0]

    def _say_complete(self, part: Part, total: int) -> None:
        if part.images is not None:
            size = sum(self.inspector.sizes(part.images.folder).values())
            self.say(f'there     {part.what}: {total} in {part.images.folder}/, {_size(size)}')
            return
        for name in part.files:
            line = f'there     {name}'
            if name.endswith('.json') and name.startswith('annotations/'):
                images, persons = self.inspector.annotations(name)
                line += f': {len(images)} images, {persons} annotations'
                count = persons if self.layout.name == 'mpii' else len(images)
                published = self.layout.published.get(name, count)
                line += '' if count == published else f' (the published file: {published})'
            self.say(line)

    def _how_to_get(self, lacking: list[tuple[Part, str]], check: bool) -> str:
        lines = [f'{self.root} is not complete ({self.layout.page}):']
        for part, why in lacking:
            lines.append(f'  {part.what}: {why}')
            if part.archive is not None:
                if (path := self._find(part.archive)) is not None:
                    lines.append(
                        f'    ({"to be unpacked from" if check else "it is not in"} {path})'
                    )
                else:
                    lines.append(f'    {curl(part.archive.url, self.archives / part.archive.name)}')
        places = f'{shlex.quote(str(self.root))} --archives {shlex.quote(str(self.archives))}'
        tool = f'python tools/prepare_data.py {self.layout.name} {places}'
        lines.append(f'then: {tool}')
        lines.append(f'or, to have it fetch them: {tool} --download')
        return '\n'.join(lines)

    def _find(self, archive: Archive) -> Path | None:
        places = (self.archives / archive.name, self.root / archive.name)
        return next((path for path in places if path.is_file()), None)

    def _copy_loose(self, part: Part) -> None:
        """Take annotation files that lie unpacked among the archives."""
        for name in (*part.files, *(part.images.listed_by if part.images else ())):
            source, target = self.archives / Path(name).name, self.root / name
            if source.is_file() and not target.is_file():
                with whole_file(target) as file, source.open('rb') as content:
                    shutil.copyfileobj(content, file)
                self.say(f'copied    {source} to {target}')

    def _download(self, archive: Archive) -> Path:
        path = self.archives / archive.name
        url = f'{self.mirror.rstrip("/")}/{archive.name}' if self.mirror else archive.url
        self.say(f'fetching  {url}')
        download(url, path)
        return path

    def _unpack(self, path: Path, archive: Archive) -> None:
        self.say(f'checking  {path} ({_size(path.stat().st_size)})')
        self.verified[archive.name] = digests(path) if self.unverified else verify(path, archive)
        self.say(f'unpacking {path}')
        written, kept = unpack(path, self.root, archive.place)
        self.say(f'unpacked  {written} files, {kept} were there already')

    def _convert_official(self) -> None:
        """Where the field's JSON files are not there, make them of the official annotations."""
        source, truth = self.root / OFFICIAL_MAT, self.root / MPII_TRUTH
        train_file, val_file, all_file, test_file = (self.root / name for name in MPII_JSON)
        if not source.is_file() or train_file.is_file() or all_file.is_file():
            return
        train, test = mpii_official.read_official(source)
        self._write(test_file, test)
        parts = mpii_official.split(train, truth) if truth.is_file() else None
        if parts is not None:
            self._write(val_file, parts[1])
            self._write(train_file, parts[0])  # the last: it says that all is done
        else:
            why = 'does not fit' if truth.is_file() else 'is not there'
            self._write(all_file, train)
            self.say(
                f"no split  the field's validation split is not part of {source.name}; it follows "
                f'from {truth.name}, which {why}. {all_file.name} has all persons to train on.'
            )

    def _write(self, path: Path, entries: list[dict[str, Any]]) -> None:
        with whole_file(path) as file:
            file.write((json.dumps(entries) + '\n').encode())
        self.say(f'converted {path}: {len(entries)} persons')

    def _read_manifest(self) -> dict[str, Any]:
        path = self.root / MANIFEST
        try:
            manifest = json.loads(path.read_text()) if path.is_file() else {}
        except ValueError as error:
            raise DataError(f'{path} is not JSON: {error}; delete it to start anew') from None
        if not isinstance(manifest, dict):
            raise DataError(f'{path} is not a JSON object; delete it to start anew')
        if manifest and manifest.get('dataset') != self.layout.name:
            raise DataError(
                f"{path} is of the dataset '{manifest.get('dataset')}', not '{self.layout.name}'"
            )
        return manifest


def _size(count: int) -> str:
    return f'{count / _GIB:.2f} GiB' if count >= _GIB // 10 else f'{count / 2**20:.2f} MiB'
