"""Where a PostgreSQL catalog is: parsed from a URL, shown without its password. No I/O."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

SCHEMES = frozenset({"postgresql", "postgres"})
OPTIONS = frozenset({
    "application_name", "channel_binding", "host", "options", "passfile", "port", "require_auth",
    "sslcert", "sslcrl", "sslkey", "sslmode", "sslrootcert", "target_session_attrs",
})  # fmt: skip
"""What may follow the question mark. None of these is a secret; libpq's documentation has them."""
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}", re.ASCII)
_NUL = "holds a NUL character, at which libpq stops reading, and goes to its default server"


class DatabaseURL:
    """``postgresql://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE``, as libpq takes it.

    Its `str` and `repr` leave the password out. A class of its own, and no dataclass, so that
    nothing that walks through fields comes upon the password.
    """

    __slots__ = ("_password", "database", "host", "options", "port", "schema", "user")

    def __init__(
        self,
        *,
        user: str | None,
        password: str | None,
        host: str,
        port: int | None,
        database: str,
        options: Mapping[str, str],
        schema: str | None = None,
    ) -> None:
        """Keep what was parsed; ``schema`` is as in `with_schema`."""
        self.user = user
        self._password = password
        self.host = host
        self.port = port
        self.database = database
        self.options = dict(options)
        self.schema = schema

    def __repr__(self) -> str:
        return f"DatabaseURL({str(self)!r})"

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        place = shown or self.options.get("host", "")
        schema = f" (schema {self.schema})" if self.schema else ""
        return f"postgresql://{user}{place}{port}/{self.database}{schema}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DatabaseURL) and self.expose_url() == other.expose_url()

    def __hash__(self) -> int:
        return hash(self.expose_url())

    @property
    def has_password(self) -> bool:
        """Tell whether a password is known."""
        return self._password is not None

    @property
    def hosts(self) -> list[str]:
        """The hosts that may be asked; a folder of Unix sockets is one, too."""
        return self.options.get("host", self.host).split(",")

    def with_password(self, password: str) -> "DatabaseURL":
        """Return the same place with another password.

        Raises:
            ValueError: no password can be like that.

        """
        if "\0" in password:
            raise ValueError(_NUL)
        return self._changed(password=password)

    def with_schema(self, schema: str) -> "DatabaseURL":
        """Return the same database as it is seen from one schema: no other one has tables there.

        Raises:
            ValueError: the name would need quotes.

        """
        if _PLAIN_NAME.fullmatch(schema) is None:
            raise ValueError("a schema is named by 1 to 63 characters of a-z, 0-9 and _")
        return self._changed(schema=schema)

    def _changed(self, *, password: str | None = None, schema: str | None = None) -> "DatabaseURL":
        return DatabaseURL(
            user=self.user,
            password=self._password if password is None else password,
            host=self.host,
            port=self.port,
            database=self.database,
            options=self.options,
            schema=schema or self.schema,
        )

    def expose_url(self) -> str:
        """Return the whole URL, the password included: for another process of ours alone."""
        name = quote(self.user or "", safe="")
        secret = "" if self._password is None else f":{quote(self._password, safe='')}"
        host = f"[{self.host}]" if ":" in self.host else quote(self.host, safe="")
        port = f":{self.port}" if self.port else ""
        login = f"{name}{secret}@" if name or secret else ""
        options = self._all_options()
        query = f"?{urlencode(options)}" if options else ""
        return f"postgresql://{login}{host}{port}/{quote(self.database, safe='')}{query}"

    def expose(self) -> dict[str, str | int]:
        """Return libpq's parameters, the password among them: for the driver alone."""
        found = {
            "user": self.user,
            "password": self._password,
            "host": self.host or None,
            "port": self.port,
            "dbname": self.database,
        }
        known = {name: value for name, value in found.items() if value is not None}
        return known | self._all_options()

    def _all_options(self) -> dict[str, str]:
        if self.schema is None:
            return self.options
        # At the end: of two search paths the server takes the last one.
        given = self.options.get("options", "")
        return self.options | {"options": f"{given} -c search_path={self.schema}".lstrip()}


def parse_database_url(text: str) -> DatabaseURL:
    """Parse a URL.

    Raises:
        ValueError: it is malformed; the text repeats no part that could belong to a password.

    """
    hint = "percent-encode what is special in user and password"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
        options = dict(parse_qsl(parts.query, strict_parsing=True) if parts.query else ())
    except ValueError:
        raise ValueError(f"is malformed: {hint}") from None
    if parts.scheme not in SCHEMES:
        raise ValueError("must begin with postgresql://")
    if "\0" in unquote(text):
        raise ValueError(_NUL)
    if parts.fragment:
        raise ValueError(f"has a part after #: {hint}")
    if "@" in parts.path:
        # Taken for a name, the end of a password that has a "/" would be shown.
        raise ValueError(f"has an @ in the name of the database: {hint}")
    if unknown := options.keys() - OPTIONS:
        allowed = ", ".join(sorted(OPTIONS))
        raise ValueError(f"has {len(unknown)} unknown option(s) after the ?; known are {allowed}")
    database = unquote(parts.path.removeprefix("/"))
    if not database or "/" in database:
        raise ValueError("must name one database: postgresql://user@host:5432/database")
    if not host and "host" not in options:
        raise ValueError("must name a host: there is no default server")
    return DatabaseURL(
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        host=unquote(host),
        port=port,
        database=database,
        options=options,
    )
