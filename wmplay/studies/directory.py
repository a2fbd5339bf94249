"""The directory of a study: what was asked, the manifests, and which run belongs to which arm.

``study.json`` holds every version of the question with its digest, the first one as frozen by the first run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from wmplay.errors import DamagedError, RunError
from wmplay.evaluation.manifest import Manifest
from wmplay.runs.sweep_directory import SweepDirectory
from wmplay.studies.jobs import StudyJob
from wmplay.studies.question import Question, differences, question_of
from wmplay.system.files import explained, unsealed, write_sealed_json
from wmplay.system.locks import claimed
from wmplay.system.reading import read_json

STUDY_FILE = "study.json"
MANIFESTS = "manifests"
JOBS = "jobs"
LOCK = ".lock"
PATIENCE = 5.0  # seconds, against another process that writes


@dataclass(frozen=True)
class Asked:
    """A version of the question."""

    digest: str
    when: str
    question: dict[str, Any]


@dataclass(frozen=True)
class Place:
    """The run of a job.

    Attributes:
        arm, world, seed, ceiling: of the job.
        directory: of its run, within the directory of all jobs.
        question: digest of the question for which it was started first.
    """

    arm: str
    world: str
    seed: int
    ceiling: bool
    directory: str
    question: str

    @property
    def job(self) -> tuple[str, str, int, bool]:
        """The job that it is the run of."""
        return self.arm, self.world, self.seed, self.ceiling


@dataclass(frozen=True)
class Record:
    """The content of ``study.json``."""

    questions: list[Asked] = field(default_factory=list)
    jobs: list[Place] = field(default_factory=list)


class StudyDirectory:
    """The directory of a study."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.jobs = SweepDirectory(path / JOBS)

    @property
    def exists(self) -> bool:
        """True if a study has been run here."""
        return (self.path / STUDY_FILE).exists()

    def record(self) -> Record:
        """Return what was recorded so far.

        Raises:
            RunError: if no study has been run here; DamagedError if the file is damaged.
        """
        file = self.path / STUDY_FILE
        try:
            return msgspec.convert(unsealed(read_json(file, DamagedError), file), Record)
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(
                f"{self.path} is no study", got=self.path, advice="begin it with wmplay study run FILE"
            ) from None
        except msgspec.ValidationError as error:
            raise DamagedError(f"{file} is damaged: {error}", got=file, advice="restore it") from error

    def first(self) -> Question:
        """Return the question as it was frozen by the first run."""
        return self._question(self.record().questions[0])

    def last(self) -> Question:
        """Return the question of the last run."""
        return self._question(self.record().questions[-1])

    def _question(self, asked: Asked) -> Question:
        return question_of(asked.question, str(self.path / STUDY_FILE))

    def freeze(self, asked: Question, jobs: Sequence[StudyJob], *, changed: bool) -> None:
        """Record the question and the jobs before any of them starts.

        Raises:
            RunError: if the question differs from the recorded one, and the change is not ``changed``.
            WriteError: no space, no permission.
        """
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with claimed(self.path / LOCK, PATIENCE) as free:
            if not free:
                raise RunError(f"{self.path} is being written to by another process", advice="try again")
            record = self.record() if self.exists else Record()
            questions = list(record.questions)
            if not questions or questions[-1].digest != asked.digest:
                if questions and not changed:
                    lines = differences(self._question(questions[-1]), asked)
                    raise RunError(
                        f"the question of {self.path} was frozen on {questions[0].when}, and has changed: "
                        f"{'; '.join(lines)}",
                        got=[line.partition(":")[0] for line in lines],
                        advice="put it back, choose another dir=<path>, or go on with changed=true, and the "
                        "report shows the change",
                    )
                when = datetime.now().isoformat(timespec="seconds")
                questions.append(Asked(asked.digest, when, asked.content()))
            known = {place.job: place for place in record.jobs}
            for job in jobs:
                place = Place(job.arm, job.world, job.seed, job.ceiling, job.directory, asked.digest)
                earlier = known.get(place.job)
                if earlier is None or earlier.directory != place.directory:
                    known[place.job] = place
            write_sealed_json(self.path / STUDY_FILE, asdict(Record(questions, list(known.values()))))

    def write_manifests(self, manifests: Mapping[str, Manifest]) -> None:
        """Write the manifest of each world. Raise WriteError."""
        with explained(self.path):
            (self.path / MANIFESTS).mkdir(exist_ok=True)
        for world, manifest in manifests.items():
            write_sealed_json(self._manifest(world), {"name": world, **manifest.content()})

    def manifests(self) -> dict[str, str]:
        """Return {world: the digest of its manifest}."""
        found = {}
        for file in sorted((self.path / MANIFESTS).glob("*.json")):
            content = unsealed(read_json(file, DamagedError), file)
            found[str(content.get("name"))] = str(content.get("digest"))
        return found

    def _manifest(self, world: str) -> Path:
        return self.path / MANIFESTS / f"{re.sub('[^a-zA-Z0-9.-]', '_', world)}.json"
