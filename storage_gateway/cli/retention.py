"""``retention`` and ``session retain``: how long things stay."""

import argparse
import json
from collections.abc import Awaitable, Callable
from typing import Any

from storage_gateway.client import Client
from storage_gateway.retention_client import RetentionClient

from .output import EXIT_OK
from .transfer import talk

Ask = Callable[[RetentionClient], Awaitable[dict[str, Any]]]


def show(options: argparse.Namespace) -> int:
    """Print what is claimed of an object, and what a sweep would do with it now."""
    return _talk("retention show", options, lambda client: client.show(options.urn))


def change(options: argparse.Namespace) -> int:
    """Give an object another lifetime; print what is claimed of it then."""
    return _talk("retention set", options, lambda client: client.set(options.urn, options.lifetime))


def renew(options: argparse.Namespace) -> int:
    """Renew the lease of the token's holder; print what is claimed then."""
    return _talk(
        "retention renew", options, lambda client: client.renew(options.urn, options.duration)
    )


def let_go(options: argparse.Namespace) -> int:
    """Give up the lease of the token's holder; print what is claimed then."""
    return _talk("retention let-go", options, lambda client: client.let_go(options.urn))


def retain(options: argparse.Namespace) -> int:
    """Have a session go over to another policy; print its terms."""

    async def work(options: argparse.Namespace, token: str) -> int:
        async with Client(options.url, token) as client:
            answer = await RetentionClient(client).retain(options.session, options.policy)
        terms = answer["retention"]
        print(
            json.dumps(answer, indent=2) if options.json else f"{terms['policy']} {terms['mode']}"
        )
        return EXIT_OK

    return talk("session retain", options, work)


def _talk(name: str, options: argparse.Namespace, ask: Ask) -> int:
    async def work(options: argparse.Namespace, token: str) -> int:
        async with Client(options.url, token) as client:
            answer = await ask(RetentionClient(client))
        print(json.dumps(answer, indent=2) if options.json else _text_of(answer))
        return EXIT_OK

    return talk(name, options, work)


def _text_of(claims: dict[str, Any]) -> str:
    """Return a line for each thing that is to be known."""
    verdict = claims["verdict"]
    until = f", until {verdict['until']}" if verdict["until"] else ""
    lines = [
        ("policy", f"{claims['policy']} ({claims['mode']})"),
        ("committed", claims["committed"]),
        ("keep until", claims["keep_until"] or "for ever"),
        *(("lease", f"{each['holder']}, until {each['until']}") for each in claims["leases"]),
        ("held", "yes" if claims["held"] else "no"),
        ("expires", claims["expires"] or "never"),
    ]
    if claims["expired"]:
        lines += [("expired", claims["expired"]), ("erased after", claims["erase_after"])]
    lines.append(("a sweep would", f"{verdict['action']} it: {verdict['reason']}{until}"))
    return "\n".join(f"{name:<14}{value}" for name, value in lines)
