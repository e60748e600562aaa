"""What must hold when all is quiet: after every crash, recovery, and the late-write horizon."""

from storage_gateway.backends.disk import Disk
from storage_gateway.verify import Checker
from tests.workers import MARKER, PAYLOADS, SESSION

from .processes import ROUTER, Process, StepCatalog, start_process, whole
from .scripts import recover_late
from .world import Attempt, World


def settle_down(world: World, name: str = "last") -> None:
    """Let one more process start, recover, and see the horizon pass."""
    start_process(world, name).run(recover_late)


def violations(world: World) -> list[str]:
    """Return what does not hold, each in a sentence."""
    found = [
        f"{rows} {table} are left"
        for table in ("intents", "graves")
        if (rows := len(world.rows(f"SELECT * FROM {table}")))  # noqa: S608
    ]
    found += _orphans(world) + _too_few(world)
    checker = Checker(
        catalog=StepCatalog(world, lambda _step: None),
        shelves={name: Disk(name, root, world.fs) for name, root in world.roots.items()},
        identities=[ROUTER],
        payloads=PAYLOADS,
        marker=MARKER,
    )
    found += [f"check: {f.kind} {f.where}: {f.detail}" for f in checker.run().findings]
    inspector = start_process(world, "inspector")
    slots: dict[str, list[Attempt]] = {}
    for key, attempt in world.attempts.items():
        slots.setdefault(attempt.task_id, []).append(attempt)
        if attempt.wronged:
            found.append(f"{key} was refused with {attempt.refused} for no reason")
        if attempt.refused is not None and attempt.object_id is not None:
            found.append(f"{key} was told two things")
    for task_id, attempts in slots.items():
        found += _slot(inspector, task_id, attempts)
    found += [f"not looked at: {error}" for error in inspector.loop.unseen]
    return found


def _orphans(world: World) -> list[str]:
    committed = {row[0] for row in world.rows("SELECT payload_id FROM objects WHERE head NOT NULL")}
    stored = {name for folder in world.payload_folders() for name, _, _ in world.fs.scan(folder)}
    return [f"{name} is stored and nothing names it" for name in sorted(stored - committed)]


def _too_few(world: World) -> list[str]:
    """Each segment of an object must be recorded in as many stores as the quorum asks for.

    That it is there, where it is recorded, is what `check` looks at.
    """
    placed = world.rows(
        "SELECT s.payload_id, s.segment, count(p.backend) FROM segments s"
        " JOIN objects o ON o.payload_id = s.payload_id AND o.head NOT NULL"
        " LEFT JOIN placements p ON p.payload_id = s.payload_id AND p.segment = s.segment"
        " AND p.state = 'placed' GROUP BY s.payload_id, s.segment"
    )
    wanted = max(1, world.write_quorum)
    return [
        f"segment {segment} of {payload_id} is in {count} stores"
        for payload_id, segment, count in placed
        if int(str(count)) < wanted
    ]


def _slot(inspector: Process, task_id: str, attempts: list[Attempt]) -> list[str]:
    """A slot is free, or holds exactly one whole object; the answered one if one was answered."""
    world = inspector.world
    rows = world.rows(
        "SELECT object_id, state FROM objects WHERE session_id = :s AND task_id = :t",
        s=SESSION,
        t=task_id,
    )
    answered = [attempt for attempt in attempts if attempt.object_id is not None]
    if len(rows) > 1 or len(answered) > 1:
        return [f"slot {task_id} holds {len(rows)} objects, {len(answered)} were answered"]
    if not rows:
        if {attempt.refused for attempt in attempts} <= {"slot_busy", "slot_taken"}:
            return [f"slot {task_id} was refused to everybody"]
        taken = world.rows(
            "SELECT * FROM slots WHERE session_id = :s AND task_id = :t", s=SESSION, t=task_id
        )
        return [f"the object of {task_id} is lost"] * len(answered) + [
            f"slot {task_id} is taken by nothing"
        ] * len(taken)
    ((object_id, state),) = rows
    if answered and object_id != answered[0].object_id:
        return [f"slot {task_id} holds another object than was answered"]
    if state != "committed":
        return _erased(task_id, str(state), answered)
    if answered and answered[0].erase_answered:
        return [f"the erased object of {task_id} is back"]
    try:
        content = inspector.loop.run_until_complete(
            whole(inspector.reads.plaintext(str(object_id)))
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, the object is not readable
        return [f"the object of {task_id} is not readable: {error!r}"]
    if content not in {attempt.content for attempt in answered or attempts}:
        return [f"the object of {task_id} is not what was uploaded"]
    return []


def _erased(task_id: str, state: str, answered: list[Attempt]) -> list[str]:
    if not any(attempt.erase_asked for attempt in answered):
        return [f"the object of {task_id} was erased unasked"]
    return [] if state == "erased" else [f"the object of {task_id} is still {state}"]
