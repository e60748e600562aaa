"""What the service is at fault for."""

from .base import ServiceError

DAMAGE_REMEDY = (
    "Give the urn to the operator: 'storage-gateway check --repair' makes a copy again that another"
    " store has right; with no copies left the store is to be restored from a backup."
)


class Draining(ServiceError):
    """The process is shutting down."""

    code = "draining"
    title = "Shutting down"
    retry_after_s = 2


class Busy(ServiceError):
    """As many uploads and downloads as one process takes are under way."""

    code = "busy"
    title = "Too many transfers"
    retry_after_s = 2


class CatalogUnavailable(ServiceError):
    """The catalog cannot be read or written."""

    code = "catalog_unavailable"
    title = "Catalog unavailable"


class BackendUnavailable(ServiceError):
    """A store cannot be reached, or does not answer as itself."""

    code = "backend_unavailable"
    title = "Storage backend unavailable"


class KeyProviderUnavailable(ServiceError):
    """The place that keeps the router's identities does not answer, or refuses."""

    code = "key_provider_unavailable"
    title = "The router's keys are out of reach"
    remedy = (
        "Wait and try again; sealed downloads (Accept: application/age) are answered meanwhile. An"
        " operator looks at the key provider, and at the log for what it said."
    )
    retry_after_s = 5


class PlacementImpossible(ServiceError):
    """A session wants stores, or a quorum of them, that the deployment does not have any more."""

    code = "placement_impossible"
    title = "Wanted stores are not configured"
    remedy = "Have the operator configure what the detail names, or open another session."
    retry_after_s = None


class StorageFull(ServiceError):
    """A store has no room left."""

    code = "storage_full"
    status = 507
    title = "Storage full"
    remedy = "Free or add space on the store; the upload can then be sent again."
    retry_after_s = 60


class IntentLost(ServiceError):
    """The upload was claimed from this process, or its lease ran out, before it could commit."""

    code = "intent_lost"
    title = "Upload was interrupted"
    remedy = "Send the upload again; nothing of this attempt was kept."


class ObjectChanged(ServiceError):
    """The object was erased, or got another head, while it was resealed."""

    code = "object_changed"
    title = "Object changed meanwhile"


class StaleParties(ServiceError):
    """The parties of a session, or their keys, changed while an upload was sealed for them."""

    code = "stale_parties"
    title = "Keys changed meanwhile"
    remedy = "Send the upload again: it is then sealed for the keys that are current."


class CatalogBehind(ServiceError):
    """The catalog is an older one than the stores: nothing may be destroyed on its word."""

    code = "catalog_behind"
    title = "The catalog is an old one"
    remedy = (
        "Run 'storage-gateway passes run rebuild', or stop the gateways and run 'storage-gateway"
        " catalog rebuild': either completes it from the stores."
    )
    retry_after_s = None


class CopiesLate(ServiceError):
    """A record is in the catalog, and its copy is not in as many stores as it must be yet."""

    code = "copies_late"
    title = "Stored, but not safely yet"
    remedy = (
        "Send the request again: if it stands by then, the answer says so and names it; nothing"
        " is stored twice."
    )


class BlobMissing(ServiceError):
    """A store that answers as itself does not have a blob that it should have."""

    code = "blob_missing"
    status = 500
    title = "Stored bytes are missing"
    remedy = DAMAGE_REMEDY
    retry_after_s = None


class BlobCorrupt(ServiceError):
    """Stored bytes do not have the digest that the manifest gives."""

    code = "blob_corrupt"
    status = 500
    title = "Stored bytes are damaged"
    remedy = DAMAGE_REMEDY
    retry_after_s = None
