"""The cases, one file each. A new one: write its file, name it here, plant its bug in the tests."""

from typing import Any

from storage_gateway.stress.contract import Case

from .backend_flapping import CASE as BACKEND_FLAPPING
from .backend_full import CASE as BACKEND_FULL
from .backend_lies import CASE as BACKEND_LIES
from .backend_outage import CASE as BACKEND_OUTAGE
from .catalog_lost import CASE as CATALOG_LOST
from .catalog_rolled_back import CASE as CATALOG_ROLLED_BACK
from .catalog_stall import CASE as CATALOG_STALL
from .clock_jump import CASE as CLOCK_JUMP
from .clock_leap import CASE as CLOCK_LEAP
from .concurrent_same_session import CASE as CONCURRENT_SAME_SESSION
from .crash_after_commit import CASE as CRASH_AFTER_COMMIT
from .crash_before_commit import CASE as CRASH_BEFORE_COMMIT
from .crash_in_recovery import CASE as CRASH_IN_RECOVERY
from .crash_in_rotation import CASE as CRASH_IN_ROTATION
from .crash_in_sweep import CASE as CRASH_IN_SWEEP
from .crash_mid_upload import CASE as CRASH_MID_UPLOAD
from .deadline_mismatch import CASE as DEADLINE_MISMATCH
from .disabled_key import CASE as DISABLED_KEY
from .duplicate_submit import CASE as DUPLICATE_SUBMIT
from .erase_with_backend_down import CASE as ERASE_WITH_BACKEND_DOWN
from .expired_while_reading import CASE as EXPIRED_WHILE_READING
from .flipped_bit import CASE as FLIPPED_BIT
from .foreign_deployment import CASE as FOREIGN_DEPLOYMENT
from .forged_manifest_copy import CASE as FORGED_MANIFEST_COPY
from .hang_after_headers import CASE as HANG_AFTER_HEADERS
from .hold_against_erase import CASE as HOLD_AGAINST_ERASE
from .huge_object import CASE as HUGE_OBJECT
from .ipfs_gc_race import CASE as IPFS_GC_RACE
from .ipfs_gone import CASE as IPFS_GONE
from .ipfs_shared_cid import CASE as IPFS_SHARED_CID
from .ipfs_slow_pin import CASE as IPFS_SLOW_PIN
from .key_provider_down import CASE as KEY_PROVIDER_DOWN
from .late_copy_after_erase import CASE as LATE_COPY_AFTER_ERASE
from .late_write_after_abort import CASE as LATE_WRITE_AFTER_ABORT
from .lost_acknowledgement import CASE as LOST_ACKNOWLEDGEMENT
from .missing_blob import CASE as MISSING_BLOB
from .orphan_blob import CASE as ORPHAN_BLOB
from .partial_replica import CASE as PARTIAL_REPLICA
from .partial_write import CASE as PARTIAL_WRITE
from .partial_write_recovery import CASE as PARTIAL_WRITE_RECOVERY
from .paused_process import CASE as PAUSED_PROCESS
from .poisoned_header import CASE as POISONED_HEADER
from .queue_spike import CASE as QUEUE_SPIKE
from .repair_under_load import CASE as REPAIR_UNDER_LOAD
from .replica_disagreement import CASE as REPLICA_DISAGREEMENT
from .reseal_under_load import CASE as RESEAL_UNDER_LOAD
from .result_before_object import CASE as RESULT_BEFORE_OBJECT
from .retry_storm import CASE as RETRY_STORM
from .rotation_under_load import CASE as ROTATION_UNDER_LOAD
from .slow_client import CASE as SLOW_CLIENT
from .slow_trickle import CASE as SLOW_TRICKLE
from .stale_key_reader import CASE as STALE_KEY_READER
from .stale_key_writer import CASE as STALE_KEY_WRITER
from .swapped_header import CASE as SWAPPED_HEADER
from .swapped_payload import CASE as SWAPPED_PAYLOAD
from .timeout_read import CASE as TIMEOUT_READ
from .timeout_write import CASE as TIMEOUT_WRITE
from .tiny_objects import CASE as TINY_OBJECTS
from .truncated_blob import CASE as TRUNCATED_BLOB

CASES: dict[str, Case[Any]] = {
    case.name: case
    for case in (
        BACKEND_FLAPPING,
        BACKEND_FULL,
        BACKEND_LIES,
        BACKEND_OUTAGE,
        CATALOG_LOST,
        CATALOG_ROLLED_BACK,
        CATALOG_STALL,
        CLOCK_JUMP,
        CLOCK_LEAP,
        CONCURRENT_SAME_SESSION,
        CRASH_AFTER_COMMIT,
        CRASH_BEFORE_COMMIT,
        CRASH_IN_RECOVERY,
        CRASH_IN_ROTATION,
        CRASH_IN_SWEEP,
        CRASH_MID_UPLOAD,
        DEADLINE_MISMATCH,
        DISABLED_KEY,
        DUPLICATE_SUBMIT,
        ERASE_WITH_BACKEND_DOWN,
        EXPIRED_WHILE_READING,
        FLIPPED_BIT,
        FOREIGN_DEPLOYMENT,
        FORGED_MANIFEST_COPY,
        HANG_AFTER_HEADERS,
        HOLD_AGAINST_ERASE,
        HUGE_OBJECT,
        IPFS_GC_RACE,
        IPFS_GONE,
        IPFS_SHARED_CID,
        IPFS_SLOW_PIN,
        KEY_PROVIDER_DOWN,
        LATE_COPY_AFTER_ERASE,
        LATE_WRITE_AFTER_ABORT,
        LOST_ACKNOWLEDGEMENT,
        MISSING_BLOB,
        ORPHAN_BLOB,
        PARTIAL_REPLICA,
        PARTIAL_WRITE,
        PARTIAL_WRITE_RECOVERY,
        PAUSED_PROCESS,
        POISONED_HEADER,
        QUEUE_SPIKE,
        REPAIR_UNDER_LOAD,
        REPLICA_DISAGREEMENT,
        RESEAL_UNDER_LOAD,
        RESULT_BEFORE_OBJECT,
        RETRY_STORM,
        ROTATION_UNDER_LOAD,
        SLOW_CLIENT,
        SLOW_TRICKLE,
        STALE_KEY_READER,
        STALE_KEY_WRITER,
        SWAPPED_HEADER,
        SWAPPED_PAYLOAD,
        TIMEOUT_READ,
        TIMEOUT_WRITE,
        TINY_OBJECTS,
        TRUNCATED_BLOB,
    )
}
"""By name."""

__all__ = ["CASES"]
