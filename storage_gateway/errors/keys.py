"""What is wrong with a key: a stale one, or what somebody wants to do with one."""

from .base import RequestError


class StaleKeyReader(RequestError):
    """The reader holds another version of the key than the object is sealed for."""

    code = "stale_key_reader"
    status = 409
    title = "Sealed for another key version"
    remedy = (
        "Read with the identity of 'sealed_version', or have the object wrapped for"
        " 'current_version' first: POST /v1/jobs."
    )


class StaleKeyWriter(RequestError):
    """The writer sealed to a version of the key that is not accepted any more."""

    code = "stale_key_writer"
    status = 409
    title = "Sealed to an old key version"
    remedy = "Ask for the session, seal to the recipient that it shows now, and send that."


class KeyDisabled(RequestError):
    """The version is disabled or destroyed: nothing is read with it."""

    code = "key_disabled"
    status = 409
    title = "Key disabled"
    remedy = (
        "Read with the identity of 'current_version' once the object was wrapped for it; if the"
        " version was disabled by mistake the operator can bring it back to 'retiring'."
    )


class KeyNotYours(RequestError):
    """The reader says to hold a recipient that the party never had."""

    code = "unknown_key"
    status = 409
    title = "Unknown key"
    remedy = "Use the identity of a version that GET /v1/sessions/{session}/keys shows."


class PartyRemoved(RequestError):
    """The party was removed from the session."""

    code = "party_removed"
    status = 403
    title = "Party removed"
    remedy = "Drop what you have kept of the session; whoever needs it again asks its operator."


class KeyExists(RequestError):
    """The recipient is registered already."""

    code = "key_exists"
    status = 409
    title = "Recipient registered already"
    remedy = "Make a new identity for each version, and register its recipient."


class KeyUnproven(RequestError):
    """The answer does not show that the identity is at hand."""

    code = "key_unproven"
    status = 422
    title = "Possession not proven"
    remedy = "Ask for a challenge, open it with the identity, and send the text as 'answer'."


class KeyStateSkipped(RequestError):
    """The version cannot come into that state from where it is."""

    code = "key_state_skipped"
    status = 409
    title = "Not the next state"
    remedy = "Take one step at a time: active, retiring, disabled, destroyed."


class KeyDwelling(RequestError):
    """The version has not been in its state for long enough."""

    code = "key_dwelling"
    status = 409
    title = "Too soon"
    remedy = "Wait for 'left_s' seconds; a leaked key is disabled at once with 'urgent'."


class KeyInUse(RequestError):
    """Something depends on the version."""

    code = "key_in_use"
    status = 409
    title = "Key in use"
    remedy = "Wrap what depends on it for the active version first: POST /v1/jobs."


class TooManyJobs(RequestError):
    """As many jobs as there may be at a time have not ended, of the session or of all."""

    code = "too_many_jobs"
    status = 409
    title = "Too many jobs"
    remedy = "Wait until one of 'running' has ended, or stop one: DELETE /v1/jobs/{job}."


class NoKeyOfClass(RequestError):
    """Somebody who must be able to open the objects has no key of the class."""

    code = "no_key_of_class"
    status = 409
    title = "No key of this class"
    remedy = (
        "Have each of 'parties' register a key of the class first: POST"
        " /v1/sessions/{session}/keys; the router: POST /v1/admin/keys."
    )
