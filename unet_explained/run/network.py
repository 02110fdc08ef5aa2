"""The hub's cache and the hub: what is needed of a repository, or an error that says why not."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..json_file import read_json
from .files import Lacking, Needs, Search, names_in

PROBE_SECONDS = 1.2  # how long a connection may take before we say that there is no network
ANSWER_SECONDS = 60  # how long a hub that took the connection may think about an answer
SIGN_SECONDS = 2  # of waiting, then twice that and so on, at which we say that we wait


def fetch(hub_id: str, needs: Needs, search: Search) -> Path:
    """The folder of a repository, from the cache if that holds what is needed, else from the hub.

    Raises FileNotFoundError with what is missing, and ValueError for what needs refuses.
    """
    try:
        found = _from_cache(hub_id, needs, search)
        return found if isinstance(found, Path) else _from_hub(hub_id, needs, search, found)
    except ValueError as error:
        raise ValueError(f"{hub_id}: {error}") from error


def _from_cache(hub_id: str, needs: Needs, search: Search) -> Path | str:
    """The folder in the cache; or, in words, that it is not there or what it lacks."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(search.cache_dir or HF_HUB_CACHE).expanduser()
    absent = f"not in the cache {cache}"
    # Its library takes half a second to import: not for a repository that was never there.
    if not (cache / "--".join(["models", *hub_id.split("/")])).is_dir():
        return absent

    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        whole = snapshot_download(
            hub_id, revision=search.revision, cache_dir=cache, local_files_only=True,
            allow_patterns=[],  # the folder as it is: we see ourselves what it lacks
        )  # fmt: skip
        folder = Path(whole) / (search.subfolder or "")
        _needed(needs, names_in(folder), lambda name: read_json(folder / name), search)
    except LocalEntryNotFoundError:
        return absent
    except Lacking as lack:
        return f"not whole in the cache {cache} ({lack})"
    return folder


def _needed(needs: Needs, names: list[str], read, search: Search) -> list[str]:
    wanted = needs(names, read, search)
    if missing := [name for name in wanted if name not in names]:
        raise Lacking(f"{', '.join(missing[:3])} missing")
    return wanted


def _from_hub(hub_id: str, needs: Needs, search: Search, cached: str) -> Path:
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE

    looked = f"{hub_id!r} is no folder or file in {Path.cwd()} and is {cached}"
    for asked, why in (
        (search.local_files_only, "local_files_only"),
        (HF_HUB_OFFLINE, "HF_HUB_OFFLINE"),
    ):
        if asked:
            raise FileNotFoundError(
                f"{looked}; the hub was not asked, because {why} is set. Leave it out where there "
                "is network, or pass a folder"
            )
    connected = _connecting(ENDPOINT)  # while the library is imported

    from huggingface_hub.errors import HTTPError

    repository = _Repository(hub_id, search)
    try:
        connected()
        wanted = _needed(needs, repository.names(), repository.read, search)
        return [repository.get(name).parents[name.count("/")] for name in wanted][-1]
    except (OSError, HTTPError, JSONDecodeError) as error:
        raise FileNotFoundError(
            f"{looked}, and {ENDPOINT} did not give it. {_why(error, repository, ENDPOINT)}"
        ) from error


class _Repository:
    """One repository of the hub; `asked` is what it was last asked for."""

    def __init__(self, hub_id: str, search: Search):
        self.hub_id, self.search, self.asked = hub_id, search, "a connection"

    def names(self) -> list[str]:
        """Of all its files, as seen from the subfolder."""
        from huggingface_hub import HfApi

        self.asked = "the list of its files"
        with _signs_of_life(f"{self.hub_id}, {self.asked}"):
            info = HfApi().model_info(
                self.hub_id, revision=self.search.revision, token=self.search.token,
                timeout=ANSWER_SECONDS,
            )  # fmt: skip
        names = [file.rfilename for file in info.siblings or ()]
        top = f"{self.search.subfolder}/" if self.search.subfolder else ""
        return [name.removeprefix(top) for name in names if name.startswith(top)]

    def get(self, name: str) -> Path:
        """A file, in the cache."""
        from huggingface_hub import hf_hub_download

        self.asked = name
        search = self.search
        with _signs_of_life(f"{self.hub_id}, {name}"):
            file = hf_hub_download(
                self.hub_id, name, subfolder=search.subfolder, revision=search.revision,
                cache_dir=search.cache_dir, token=search.token, etag_timeout=ANSWER_SECONDS,
            )  # fmt: skip
        return Path(file)

    def read(self, name: str) -> dict:
        return read_json(self.get(name))


def _why(error: Exception, repository: _Repository, endpoint: str) -> str:
    """What is missing, and what to do next."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # which it hides behind advice on the cache
    hub_id, revision = repository.hub_id, repository.search.revision
    status = getattr(getattr(error, "response", None), "status_code", None)
    sign_in = "pass token=, set HF_TOKEN or type `hf auth login`"
    if isinstance(error, Lacking):
        return f"The hub has it, but {error}: name another repository, subfolder or variant"
    if isinstance(error, errors.GatedRepoError):
        return f"Its licence must be accepted first, at {endpoint}/{hub_id}; then {sign_in}"
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"It has no revision {revision!r}: see {endpoint}/{hub_id}/tree/main for those it has"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"There is no repository of that name, or it is private: check the name, or {sign_in}"
        )
    if status == 401:
        return f"It wants a token and got none, or one that is not valid (401): {sign_in}"
    if status == 403:
        return f"Your token may not read it (403): {sign_in}, one that may"
    said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
    if repository.asked == "a connection":
        return (
            f"No connection ({said}): check the network, or download it where there is one and "
            "pass its folder; the bundled model needs none"
        )
    return (
        f"It failed to give {repository.asked} ({said}): try again; files that are whole are kept"
    )


def _connecting(endpoint: str) -> Callable[[], None]:
    """Starts to connect to the hub, or to the proxy before it, and gives the function that waits.

    Which raises OSError if there is no connection within PROBE_SECONDS.
    """
    host, port = _first_stop(endpoint)
    trouble: list[OSError] = [TimeoutError(f"none to {host}:{port} within {PROBE_SECONDS} s")]

    async def connect():
        _, writer = await asyncio.open_connection(host, port, happy_eyeballs_delay=0.25)
        writer.close()

    def probe():
        try:
            asyncio.run(connect())
            trouble.clear()
        except OSError as error:
            trouble[:] = [error]

    # A thread of its own: looking up a host's name can hang longer than any timeout given.
    thread, end = threading.Thread(target=probe, daemon=True), time.monotonic() + PROBE_SECONDS
    thread.start()

    def wait():
        thread.join(max(end - time.monotonic(), 0.1))
        if trouble:
            raise trouble[0]

    return wait


def _first_stop(endpoint: str) -> tuple[str, int]:
    """Host and port that a request to the hub goes to first."""
    url = urlsplit(endpoint)
    if not proxy_bypass(url.hostname or ""):
        proxies = getproxies()
        proxy = proxies.get(url.scheme) or proxies.get("all")
        url = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else url
    return url.hostname or "", url.port or (443 if url.scheme == "https" else 80)


@contextmanager
def _signs_of_life(what: str) -> Iterator[None]:
    """A line on stderr now and then while the hub is waited for."""
    done, started = threading.Event(), time.monotonic()

    def tell():
        pause = SIGN_SECONDS
        while not done.wait(pause):
            waited = time.monotonic() - started
            print(f"waiting for the hub: {what} ({waited:.0f} s)", file=sys.stderr, flush=True)
            pause *= 2

    threading.Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        done.set()
