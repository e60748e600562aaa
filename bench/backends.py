"""Payloads in a bucket: the gateway against its S3 client alone, rclone crypt, and age in a pipe.

The gateway, its client alone and the commands have one core, each in its turn; the S3 server is on
the other one, where the load generator is. So both the server's share of that core and all that is
used of it are shown: where nothing is left, the server is the limit and not the gateway.
"""

from collections.abc import Iterator

from .figures import Row, Sample, made_up, rate_of
from .kernels import GET_PEERS
from .machine import cores, pinned, require_space
from .plan import Plan
from .s3_commands import AgePiped, Command, RcloneCrypt
from .s3_server import S3Server, on, s3_server
from .s3_sides import Direct, Gateway, S3Side, direct
from .s3_small import measure_small
from .s3_two import measure_two
from .s3_watch import CPU_UNIT, Watched, saturated, shown_shares, walls_of
from .servers import PLAINTEXT, SEALED, GatewayServer, gateway
from .sides import SideMissing

WALL_RATIOS_MIN = {Direct.name: 0.7, RcloneCrypt.name: 1.0}
CPU_RATIOS_MAX = {AgePiped.name: 1.0, RcloneCrypt.name: 1.0}


def rows_of(
    name: str,
    size: int,
    walls: dict[str, Sample],
    sides: dict[str, Watched],
    *,
    judged: bool = True,
) -> list[Row]:
    """Return wall and CPU of the gateway, which comes first, against each peer."""
    (ours_name, ours), *peers = sides.items()
    rates = {side: rate_of(wall, size / 1e6) for side, wall in walls.items()}
    cpus = {side: watched.cpu_per_gib(size) for side, watched in sides.items()}
    rows = [
        Row(
            name,
            "MB/s",
            rates[ours_name],
            peer_name,
            rates[peer_name],
            ratio_min=WALL_RATIOS_MIN.get(peer_name) if judged else None,
            cpu=(cpus[ours_name].median, cpus[peer_name].median),
            cpu_unit=CPU_UNIT,
            saturated=peer_name == Direct.name and saturated(ours),
            beside=shown_shares(ours, peer),
        )
        for peer_name, peer in peers
    ]
    return rows + [
        Row(
            f"{name}, CPU",
            CPU_UNIT,
            cpus[ours_name],
            peer_name,
            cpus[peer_name],
            ratio_max=floor,
        )
        for peer_name, floor in CPU_RATIOS_MAX.items()
        if judged and peer_name in cpus
    ]


def measure(plan: Plan) -> list[Row]:
    """Return large objects both ways, small ones, and two backends behind slow links."""
    require_space(plan.folder, (plan.runs + 3) * plan.transfer_size)
    load_core, server_core = cores()
    with s3_server(plan, "backends") as server:
        if server is None:
            return []
        backend = server.backend()
        with (
            gateway(server_core, plan.folder / "backends", **on(backend)) as ours,
            direct(server, plan.transfer_size) as alone,
            pinned(load_core),
        ):
            return [
                *_large(plan, server, ours, alone),
                *measure_small(plan, server, ours, backend["bucket"], alone),
                *measure_two(plan, server),
            ]


def _large(plan: Plan, server: S3Server, ours: GatewayServer, alone: Direct) -> list[Row]:
    body = made_up(plan.transfer_size)
    one = Gateway(ours, body)
    sides: list[S3Side] = [one, alone, *installed_commands(plan, server, body)]
    name = f"S3 upload {plan.transfer_size >> 20} MiB"
    uploads = {side.name: Watched(server, side.upload, side.forget) for side in sides}
    rows = rows_of(name, len(body), walls_of(plan, name, uploads), uploads)
    for side in sides:
        side.upload()
    for what, accept in (("plaintext", PLAINTEXT), ("sealed", SEALED)):
        judged = accept == PLAINTEXT
        one.accept = accept
        name = f"S3 {what} download {plan.transfer_size >> 20} MiB"
        # Of a sealed download nothing is opened: only what opens nothing does the same.
        compared = sides if judged else sides[:2]
        downloads = {side.name: Watched(server, side.download) for side in compared}
        walls = walls_of(plan, name, downloads)
        rows += rows_of(name, len(body), walls, downloads, judged=judged)
    for side in sides:
        side.forget()
    return rows


def installed_commands(plan: Plan, server: S3Server, body: bytes) -> Iterator[Command]:
    """Yield the peers that are installed; note their versions, and what is missing."""
    plaintext = plan.folder / "plaintext"
    plaintext.write_bytes(body)
    for kind in (RcloneCrypt, AgePiped):
        try:
            command = kind(server, plan.folder, plaintext)
        except SideMissing as error:
            plan.notes.append(f"{kind.name}: NOT MEASURED, {error} (to get it: {GET_PEERS})")
        else:
            plan.notes.append(f"{kind.name}: {command.version}")
            yield command
