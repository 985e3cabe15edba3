"""Keys: who may connect, what each key may do, and which key this process shows at which endpoint.

With keys every ZeroMQ socket is a CURVE socket (https://rfc.zeromq.org/spec/26/): what travels is encrypted, a node
proves that it is a member, and a client proves which key it has. :mod:`zmqlab.net` applies keys to sockets and keeps
the doors. This module knows files, names and roles, and no socket.

*Roles.* Each key has one :class:`Role`. A role may do all that the roles before it may do.

*Members* share one key pair. It is the one by which clients know a node, so that a node that joins, or moves, is
trusted at once; and a process that has the member's secret can do everything.

*The folder.* A key folder is made with mode 0700 and its files with 0600; a secret that all can read is refused::

    allowed           one line for each key: ROLE NAME PUBLIC-KEY
    NAME.secret       the secret key of NAME, in Z85 (40 characters); a folder has those that its owner may use

A node needs ``allowed`` with all keys and the secret of the member. A client needs the line of the member and its own
secret, which ``zmqlab keys --add`` puts into a folder of its own. A node reads ``allowed`` again when the file has
changed: a new key is let in, and a key whose line is gone is refused with its next frame, also on an open connection.
Secrets are in no log, no ``repr`` and no command line.

*The wallet.* A process may talk to several clusters. It learns once which key to show where (:func:`trust`,
:func:`use`), and :func:`towards` finds it by endpoint when a socket is connected. So few callers hand keys along. A
client that was given keys shows them at the addresses that it has looked up, and at those of members that it has
learned; what other clients show does not change.

Left out on purpose: keys that expire, and a key pair for each member (a list of members' keys would have to be
replicated, and a member is trusted with everything anyway).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, NamedTuple

from zmqlab.endpoints import CLIENT_PORT, PORTS_PER_NODE, parse_endpoint
from zmqlab.errors import SettingsError
from zmqlab.settings import is_node_name, reason_of

ALLOWED = "allowed"
SECRET_SUFFIX = ".secret"
NODE_ADVICE = "`zmqlab keys {}` makes keys"
CLIENT_ADVICE = "`zmqlab keys FOLDER --add NAME`, with the folder of a node, makes FOLDER/NAME for a client"
"""What to do about a folder that can't be read. New keys in a client's folder would be those of another cluster."""
KEY_LENGTH = 40
"""Of a key of 32 bytes in Z85."""
PRIVATE_FOLDER, PRIVATE_FILE, OTHERS = 0o700, 0o600, 0o077
"""Modes of a key folder and of its files, and the umask under which a node writes."""
STRANGERS = 0o007
"""Rights to a secret that other users must not have. Supervisors hand secrets over with rights for a group (systemd by
an access list, which shows as those of the group)."""


class Role(IntEnum):
    """What a key is for. A higher role may do all that a lower one may."""

    WATCHER = 1
    """Hears what nodes publish, and asks for their status."""
    TRADER = 2
    """Opens sessions, sends orders, reads books, trades and the log."""
    OPERATOR = 3
    """Changes the members, hands leadership over, makes links faulty."""
    MEMBER = 4
    """A node: speaks at the peer port."""


class Sender(NamedTuple):
    """Whose frame it is."""

    role: Role
    name: str
    fingerprint: int
    """Eight bytes of a hash of the public key, as an unsigned number; 0: there are no keys."""


ANYONE = Sender(Role.MEMBER, "", 0)
"""The sender of every frame where there are no keys: all is allowed."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """One key pair, and the public key of the nodes that it is shown to. Keys are in Z85."""

    public: str
    secret: str = field(repr=False)
    server: str
    folder: str = field(default="", compare=False)
    """Where the secret was read, for messages; empty: it never was in a file."""
    line: str = field(default="", compare=False)
    """What lets it in, as a line of ``allowed``."""


def make_private(folder: Path) -> None:
    """Make ``folder``, and those above it that are missing, for this user alone. Raises OSError."""
    for each in reversed((folder, *folder.parents)):
        if not each.exists():
            each.mkdir(PRIVATE_FOLDER, exist_ok=True)


def new_private_file(path: Path) -> BinaryIO:
    """Open a file that was not there before, for this user alone, to be written. Raises OSError."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "wb")


def new_pair() -> tuple[str, str]:
    """A public key and its secret."""
    import zmq  # the engine knows roles, and must not load sockets for that

    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def public_of(secret: str) -> str:
    """The public key of a secret. Raises ValueError if it is none."""
    import zmq

    try:
        return zmq.curve_public(secret.encode()).decode()
    except zmq.ZMQError as error:
        raise ValueError(str(error)) from None


def fingerprint_of(public: str) -> int:
    """What a session remembers of a key; never 0."""
    return int.from_bytes(blake2b(public.encode(), digest_size=8).digest(), "little") or 1


class Keyring:
    """The keys of one cluster, as far as this process knows them: its allow-list, and some secrets."""

    def __init__(self, allowed: Mapping[str, Sender], secrets: Mapping[str, str], folder: Path | None = None) -> None:
        """
        Args:
            allowed: public key -> whose it is.
            secrets: public key -> secret key.
            folder: where it was read from; ``allowed`` is read again from there.
        """
        self.folder = folder
        self.allowed = dict(allowed)
        self._secrets = dict(secrets)
        self._stamp = self._look()

    def __repr__(self) -> str:
        return f"<Keyring of {', '.join(sender.name for sender in self.allowed.values())}>"

    @classmethod
    def new(cls) -> Keyring:
        """One new key for each role, named after it."""
        pairs = {role: new_pair() for role in reversed(Role)}
        allowed = {pair[0]: _sender(role, role.name.lower(), pair[0]) for role, pair in pairs.items()}
        return cls(allowed, dict(pairs.values()))

    @classmethod
    def read(cls, folder: str | os.PathLike[str], advice: str = NODE_ADVICE) -> Keyring:
        """The keys in ``folder``; ``advice`` is for a person whose folder can't be read.

        Raises:
            SettingsError: there is no such folder, a file is damaged, or others can read a secret.
        """
        path = Path(folder)
        allowed = _read_allowed(path, advice)
        secrets = {}
        for file in sorted(path.glob("*" + SECRET_SUFFIX)):
            secret = _read_secret(file, advice)
            secrets[_public_in(file, secret)] = secret
        return cls(allowed, secrets, path)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the allow-list, and the secrets that are known, into ``folder``, which is made.

        Raises:
            SettingsError: there are keys already, or the folder can't be written.
        """
        path = Path(folder)
        texts = {ALLOWED: "# role name public-key\n" + "".join(map(_line, self.allowed.items()))}
        texts |= {self.allowed[key].name + SECRET_SUFFIX: secret + "\n" for key, secret in self._secrets.items()}
        with contextlib.ExitStack() as undo:
            try:
                make_private(path)
                os.chmod(os.path.join(path, ""), PRIVATE_FOLDER)  # with the slash never the mode of a file
                for name, text in texts.items():
                    _write(path / name, text, undo)
            except FileExistsError:
                raise SettingsError(f"{path} has keys already: choose another folder, or delete them there") from None
            except OSError as error:
                raise SettingsError(
                    f"keys can't be written to {path}: {reason_of(error)}. Name another folder"
                ) from None
            undo.pop_all()

    def credentials(self, *roles: Role) -> Credentials:
        """The key of the first of these roles whose secret is here; without roles, of the most that a client needs.

        Raises:
            SettingsError: there is none, or no line names the member.
        """
        wanted = roles or (Role.OPERATOR, Role.TRADER, Role.WATCHER, Role.MEMBER)
        server = next((public for public, sender in self.allowed.items() if sender.role is Role.MEMBER), "")
        if not server:
            raise SettingsError(f"{self._where} has no line for a member: the nodes can't be recognized without it")
        for role in wanted:
            for public, sender in self.allowed.items():
                if sender.role is role and public in self._secrets:
                    folder = str(self.folder) if self.folder is not None else ""
                    return Credentials(public, self._secrets[public], server, folder, _line((public, sender)).strip())
        names = ", ".join(role.name.lower() for role in wanted)
        advice = "name the nodes' own folder" if roles == (Role.MEMBER,) else "`zmqlab keys --add` makes one"
        raise SettingsError(f"{self._where} has no secret of a key that is {names}: {advice}")

    def only(self, name: str) -> Keyring:
        """What the owner of the key ``name`` needs: the member's line, its own line and its own secret."""
        kept = {key: each for key, each in self.allowed.items() if each.role is Role.MEMBER or each.name == name}
        return Keyring(kept, {key: self._secrets[key] for key in self._secrets if self.allowed[key].name == name})

    def add(self, role: Role, name: str, own: str | os.PathLike[str]) -> None:
        """Make a new key: save what its owner needs in the folder ``own``, and then append its line to ``allowed``.

        In this order a key is let in only when its secret is safe.

        Raises:
            SettingsError: the name is taken or no name, or a file can't be written.
        """
        if not is_node_name(name) or name == ALLOWED or name.endswith(SECRET_SUFFIX):
            raise SettingsError(
                f"{name!r} is no name of a key: use up to 32 letters, digits, . _ - but neither {ALLOWED!r} nor"
                f" a name that ends in {SECRET_SUFFIX!r}"
            )
        if any(sender.name == name for sender in self.allowed.values()):
            raise SettingsError(f"a key is called {name} already: choose another name, or delete its line first")
        public, secret = new_pair()
        sender = _sender(role, name, public)
        Keyring({**self.allowed, public: sender}, {public: secret}).only(name).save(own)
        if self.folder is not None:
            _append(self.folder / ALLOWED, _line((public, sender)))
        self.allowed[public], self._secrets[public] = sender, secret

    def sender(self, public: str) -> Sender | None:
        """Whose key it is; None for a key that is not, or no longer, let in."""
        return self.allowed.get(public)

    def refresh(self) -> None:
        """Read ``allowed`` again if it has changed. A list that can't be read leaves things as they are."""
        stamp = self._look()
        if self.folder is None or stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.allowed = _read_allowed(self.folder)
        except SettingsError:
            return

    def _look(self) -> tuple[int, int, int]:
        try:
            seen = os.stat(self.folder / ALLOWED) if self.folder is not None else None
        except OSError:
            seen = None
        return (seen.st_mtime_ns, seen.st_size, seen.st_ino) if seen else (0, 0, 0)

    @property
    def _where(self) -> str:
        return str(self.folder) if self.folder is not None else "the keyring"


def _sender(role: Role, name: str, public: str) -> Sender:
    return Sender(role, name, fingerprint_of(public))


def _line(item: tuple[str, Sender]) -> str:
    public, sender = item
    return f"{sender.role.name.lower()} {sender.name} {public}\n"


def _write(path: Path, text: str, undo: contextlib.ExitStack) -> None:
    with new_private_file(path) as file:
        undo.callback(path.unlink, missing_ok=True)
        file.write(text.encode())


def _append(path: Path, line: str) -> None:
    """Append a line, also to a file whose last line has no end. Raises SettingsError."""
    try:
        with path.open("a+") as file:
            file.seek(0)
            text = file.read()
            file.write(line if not text or text.endswith("\n") else "\n" + line)
    except OSError as error:
        raise SettingsError(
            f"{path} can't be written: {reason_of(error)}. Make it writable, and append this line: {line.strip()}"
        ) from None


def _read_allowed(folder: Path, advice: str = NODE_ADVICE) -> dict[str, Sender]:
    path = folder / ALLOWED
    allowed: dict[str, Sender] = {}
    for number, line in enumerate(_text_of(path, advice).splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        role = Role.__members__.get(words[0].upper())
        if len(words) != 3 or role is None or not is_node_name(words[1]) or not _is_key(words[2]):
            raise SettingsError(f"{path}, line {number}: write ROLE NAME PUBLIC-KEY, as `zmqlab keys` does")
        allowed[words[2]] = _sender(role, words[1], words[2])
    return allowed


def _is_key(text: str) -> bool:
    """Whether libzmq takes it for a key: 32 bytes in Z85. Public and secret keys look alike."""
    try:
        return bool(public_of(text))
    except ValueError:
        return False


def _read_secret(path: Path, advice: str) -> str:
    text = _text_of(path, advice)
    if path.stat().st_mode & STRANGERS:
        raise SettingsError(f"others can read the secret key in {path}: chmod 600 {path}, or make new keys")
    return text.strip()


def _public_in(path: Path, secret: str) -> str:
    try:
        return public_of(secret)
    except ValueError:
        raise SettingsError(f"{path} holds no secret key of {KEY_LENGTH} characters in Z85") from None


def _text_of(path: Path, advice: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is no text"
        raise SettingsError(f"{path} can't be read: {reason}. {advice.format(path.parent)}") from None


# The wallet.

_known: dict[tuple[str, int], Credentials | None] = {}
"""``(host, port)`` -> what is shown there. None: nothing, although :func:`use` was called."""
_default: list[Credentials] = []
"""At most one: what is shown everywhere else."""


def trust(base_endpoints: Iterable[str], credentials: Credentials | None) -> None:
    """Show this key at all ports of the nodes at these base endpoints from now on; None: they have no keys."""
    for place in _ports_of(base_endpoints):
        _known[place] = credentials


def forget(base_endpoints: Iterable[str]) -> None:
    """Undo :func:`trust`: another process may listen there by now."""
    for place in _ports_of(base_endpoints):
        _known.pop(place, None)


def is_known(base_endpoint: str) -> bool:
    """Whether :func:`trust` named this node, with a key or as one that has none."""
    return parse_endpoint(base_endpoint) in _known


def _ports_of(base_endpoints: Iterable[str]) -> Iterator[tuple[str, int]]:
    for host, port in map(parse_endpoint, base_endpoints):
        yield from ((host, port + offset) for offset in range(PORTS_PER_NODE))


def show_everywhere(credentials: Credentials | None) -> None:
    """Show this key wherever no other was named; None: no key."""
    _default[:] = [credentials] if credentials else []


def use(folder: str | os.PathLike[str] | None) -> None:
    """:func:`show_everywhere` the client's key in ``folder``.

    Raises:
        SettingsError: there is no key for a client in that folder.
    """
    show_everywhere(of_client(folder))


def of_client(folder: str | os.PathLike[str] | None) -> Credentials | None:
    """The key in ``folder`` that a client shows; None without a folder.

    Raises:
        SettingsError: there is no key for a client in that folder.
    """
    return None if folder is None else Keyring.read(folder, CLIENT_ADVICE).credentials()


def trust_clients_ports(client_endpoints: Iterable[str], credentials: Credentials | None) -> None:
    """:func:`trust` the nodes whose client endpoints these are; None: leave it at what is known."""
    if credentials is not None:
        places = (parse_endpoint(endpoint) for endpoint in client_endpoints)
        trust([f"tcp://{host}:{port - CLIENT_PORT}" for host, port in places], credentials)


def towards(endpoint: str) -> Credentials | None:
    """What this process shows at ``tcp://host:port``; None: nothing, the connection is not encrypted."""
    if not _known and not _default:
        return None
    place = parse_endpoint(endpoint)
    return _known[place] if place in _known else next(iter(_default), None)
