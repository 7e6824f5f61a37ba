"""Web processes under trial, with users who write and read the same few tasks at all of them."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.multi.caller import Caller
from tests.support.killed import Killed
from tests.support.processes import Gunicorn
from tests.support.readers import Board, Diary, Place, Task, User, Users
from tests.support.waiting import eventually

_USERS, _PROJECTS, _THREADS = 8, 3, 4
_PATIENCE_S = 60.0
_EVENT = re.compile(r'^taskflow_cache_events_total\{event="(\w+)"\} (\S+)', re.MULTILINE)


class Web(Gunicorn):
    """One process that serves, as `tests.multi.cache_worker` prepares it."""

    app = "tests.multi.cache_worker:app"


class Trial(Killed):
    """Some web processes, their users, and all that these noted.

    Args:
        envs: one for each process.
        planted: which protection is taken out, as `tests.multi.cache_worker` names it.
    """

    def __init__(
        self, envs: Sequence[Mapping[str, str]], folder: Path, *, planted: str = ""
    ) -> None:
        seed = random.SystemRandom().randrange(1_000_000)
        print(f"seed {seed}")
        self.chance, self.diary = random.Random(seed), Diary(folder / "commits")
        own = {"TRIAL_COMMITS": str(folder / "commits"), "TRIAL_PLANTED": planted}
        with ThreadPoolExecutor(len(envs)) as pool:
            starts = [pool.submit(_web, {**env, **own}, folder) for env in envs]
        self.webs = [each.result() for each in starts if each.exception() is None]
        try:
            for each in starts:
                each.result()
            self._let_users_in()
        except BaseException:
            self.kill()
            raise

    def wait_for_reads(self, reads: int) -> None:
        goal = len(self.diary.reads) + reads
        wait_s = _PATIENCE_S + reads / 25
        eventually(lambda: len(self.diary.reads) >= goal, timeout_s=wait_s, what="more reads")

    def end(self) -> None:
        """No more requests; the processes stay."""
        self._users.kill()
        self.me.close()

    def kill(self) -> None:
        for web in self.webs:
            web.kill()

    def any_task(self) -> Task:
        """One that nobody else writes until it is left."""

        def taken() -> Task | None:
            tasks = self.board.of(self.chance.choice(self.board.projects))
            task = self.chance.choice(tasks) if tasks else None
            return task if task and task.take() else None

        task = eventually(taken, timeout_s=_PATIENCE_S, what="a task that nobody writes")
        assert task is not None
        return task

    @contextmanager
    def avoided(self, place: Place) -> Iterator[None]:
        """Nobody goes there any more, who is not there already; in the end, once it answers."""
        places = self.board.places
        self.board.places = tuple(each for each in places if each != place)
        yield
        web = next(each for each in self.webs if each.port == place.port)
        eventually(web.is_live, timeout_s=_PATIENCE_S, what=f"{place.name} to serve again")
        self.board.places = places

    def cache_events(self) -> Counter[str]:
        """What the caches of all processes counted."""
        found = Counter[str]()
        for web in self.webs:
            text = requests.get(f"{web.base_url}/metrics", timeout=20).text
            found.update({event: int(float(n)) for event, n in _EVENT.findall(text)})
        return found

    def _let_users_in(self) -> None:
        caller = Caller.register(self.webs[0].base_url)
        made = [caller.made("/projects", {"name": "P"})["id"] for _ in range(_PROJECTS)]
        places = [Place(f"web-{n}", web.port) for n, web in enumerate(self.webs)]
        self.board = Board(places, made)
        seeds = [self.chance.randrange(1_000_000) for _ in range(1 + _USERS)]
        self.me, *others = (User(caller.token, self.board, self.diary, seed=each) for each in seeds)
        self._users = Users(others)


def _web(env: Mapping[str, str], folder: Path) -> Web:
    return Web.start(env, 1, _THREADS, folder=folder)
