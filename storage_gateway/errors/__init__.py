"""Every error that leaves the gateway: one class, one ``code``, one status, one remedy.

    GatewayError
    |- RequestError ........ the caller must change the request
    |  |- EnvelopeRefused .. a sealed upload that is not acceptable
    |  |- InvalidRequest, InvalidField, InvalidURN, UnsupportedEncoding, NotAcceptable, ...
    |  |- Unauthenticated, TokenExpired, Forbidden
    |  |- NotFound, UnknownSession, UnknownJob, NoSuchHold, ForeignName, Erased
    |  |- SlotBusy, SlotTaken, SessionExists, CIDSuperseded, FileKeyReused
    |  |- StaleKeyReader, StaleKeyWriter, KeyDisabled, KeyNotYours, PartyRemoved
    |  |- KeyExists, KeyUnproven, KeyStateSkipped, KeyDwelling, KeyInUse, NoKeyOfClass, TooManyJobs
    |  |- Held, Retained, Expired, LifetimeTooLong, LifetimeTooShort
    |  |- BlindCustody, NotBlind, PreconditionRequired, GenerationMismatch
    |  |- UnknownReservation, ReservationUsed, ReservationExpired
    |  `- BodyTooLarge, BodyIncomplete, BodyTimeout
    `- ServiceError ........ the service is at fault; Retry-After where trying again helps
       |- Draining, Busy, CatalogUnavailable, BackendUnavailable, IntentLost, StorageFull
       |- StaleParties (StaleReservation), ObjectChanged, PlacementImpossible
       |- KeyProviderUnavailable
       `- BlobMissing, BlobCorrupt, InternalError

``detail`` goes to the caller and to logs: it never holds a key, a token, a header or a payload.
That of a `ServiceError` may name stores, keys in them and objects: strangers are told the title.
"""

from .base import (
    GatewayError,
    InternalError,
    RequestError,
    ServiceError,
)
from .blind import (
    BlindCustody,
    GenerationMismatch,
    HeaderMismatch,
    NotBlind,
    PreconditionRequired,
    ReservationExpired,
    ReservationUsed,
    StaleReservation,
    UnknownReservation,
)
from .envelope import (
    EnvelopeRefused,
    ForeignContext,
    HeaderTooLarge,
    NotForRouter,
    PayloadRefused,
    TooManyStanzas,
    WrongClass,
)
from .keys import (
    KeyDisabled,
    KeyDwelling,
    KeyExists,
    KeyInUse,
    KeyNotYours,
    KeyStateSkipped,
    KeyUnproven,
    NoKeyOfClass,
    PartyRemoved,
    StaleKeyReader,
    StaleKeyWriter,
    TooManyJobs,
)
from .request import (
    BodyIncomplete,
    BodyTimeout,
    BodyTooLarge,
    CIDSuperseded,
    Erased,
    FileKeyReused,
    Forbidden,
    ForeignName,
    InvalidField,
    InvalidRequest,
    InvalidURN,
    MalformedHTTP,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    SessionExists,
    SlotBusy,
    SlotTaken,
    TokenExpired,
    Unauthenticated,
    UnknownJob,
    UnknownSession,
    UnsupportedEncoding,
    UnsupportedMediaType,
)
from .retention import (
    Expired,
    Held,
    LifetimeTooLong,
    LifetimeTooShort,
    NoSuchHold,
    Retained,
)
from .service import (
    BackendUnavailable,
    BlobCorrupt,
    BlobMissing,
    Busy,
    CatalogBehind,
    CatalogUnavailable,
    CopiesLate,
    Draining,
    IntentLost,
    KeyProviderUnavailable,
    ObjectChanged,
    PlacementImpossible,
    StaleParties,
    StorageFull,
)

__all__ = [
    "BackendUnavailable",
    "BlindCustody",
    "BlobCorrupt",
    "BlobMissing",
    "BodyIncomplete",
    "BodyTimeout",
    "BodyTooLarge",
    "Busy",
    "CIDSuperseded",
    "CatalogBehind",
    "CatalogUnavailable",
    "CopiesLate",
    "Draining",
    "EnvelopeRefused",
    "Erased",
    "Expired",
    "FileKeyReused",
    "Forbidden",
    "ForeignContext",
    "ForeignName",
    "GatewayError",
    "GenerationMismatch",
    "HeaderMismatch",
    "HeaderTooLarge",
    "Held",
    "IntentLost",
    "InternalError",
    "InvalidField",
    "InvalidRequest",
    "InvalidURN",
    "KeyDisabled",
    "KeyDwelling",
    "KeyExists",
    "KeyInUse",
    "KeyNotYours",
    "KeyProviderUnavailable",
    "KeyStateSkipped",
    "KeyUnproven",
    "LifetimeTooLong",
    "LifetimeTooShort",
    "MalformedHTTP",
    "MethodNotAllowed",
    "NoKeyOfClass",
    "NoSuchHold",
    "NotAcceptable",
    "NotBlind",
    "NotForRouter",
    "NotFound",
    "ObjectChanged",
    "PartyRemoved",
    "PayloadRefused",
    "PlacementImpossible",
    "PreconditionRequired",
    "RequestError",
    "ReservationExpired",
    "ReservationUsed",
    "Retained",
    "ServiceError",
    "SessionExists",
    "SlotBusy",
    "SlotTaken",
    "StaleKeyReader",
    "StaleKeyWriter",
    "StaleParties",
    "StaleReservation",
    "StorageFull",
    "TokenExpired",
    "TooManyJobs",
    "TooManyStanzas",
    "Unauthenticated",
    "UnknownJob",
    "UnknownReservation",
    "UnknownSession",
    "UnsupportedEncoding",
    "UnsupportedMediaType",
    "WrongClass",
]
