"""What may be known of a patient: keyed pseudonyms, and what must never be shown.

Identifiers are needed to keep the images of one patient together, not to know who the
patient is. So they leave the readers as keyed hashes only, and messages name a file by
its path below the folder that was asked for.
"""

import hmac
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_KEY_VARIABLE = "SKMEDIMG_KEY"
# Patient "2" would be found in every text with a 2.
_SHORTEST = 2
_DIGITS = 16

# Attributes of PS3.15, Annex E, Table E.1-1 (Basic Application Level Confidentiality
# Profile) whose value can name a person, a place, a device or a moment. The table has
# more: sequences (what is inside them is walked into), pixels, and characteristics such
# as age, sex and weight, which name nobody by themselves.
_PEOPLE = """
    CameraOwnerName ConsultingPhysicianName ContentCreatorName DistributionName
    HumanPerformerName InterpretationAuthor InterpretationRecorder
    InterpretationTranscriber NameOfPhysiciansReadingStudy
    NamesOfIntendedRecipientsOfResults OperatorsName OrderEnteredBy OtherPatientNames
    PatientBirthName PatientMotherBirthName PatientName PerformingPhysicianName
    PersonName PhysicianApprovingInterpretation PhysiciansOfRecord
    ReferringPhysicianName RequestingPhysician ResponsiblePerson ReviewerName
    ScheduledPerformingPhysicianName TopicAuthor VerifyingObserverName
"""
_NUMBERS = """
    AccessionNumber AdmissionID BarcodeValue ClinicalTrialProtocolID
    ClinicalTrialSeriesID ClinicalTrialSubjectID ClinicalTrialSubjectReadingID
    ClinicalTrialTimePointID ContainerComponentID ContainerIdentifier
    FillerOrderNumberImagingServiceRequest InsurancePlanIdentification
    InterpretationIDIssuer IssuerOfAdmissionID IssuerOfPatientID
    IssuerOfServiceEpisodeID MedicalRecordLocator OtherPatientIDs PatientID
    PerformedProcedureStepID PlacerOrderNumberImagingServiceRequest
    RequestedProcedureID ResultsIDIssuer ServiceEpisodeID SlideIdentifier
    SpecimenAccessionNumber SpecimenIdentifier StudyID StudyIDIssuer
"""
_PLACES = """
    BranchOfService ClinicalTrialCoordinatingCenterName
    ClinicalTrialProtocolEthicsCommitteeName ClinicalTrialProtocolName
    ClinicalTrialSiteID ClinicalTrialSiteName ClinicalTrialSponsorName
    CountryOfResidence CurrentPatientLocation DistributionAddress EthnicGroup
    GPSAreaInformation GPSLatitude GPSLongitude HumanPerformerOrganization
    InstitutionAddress InstitutionName InstitutionalDepartmentName MilitaryRank
    Occupation OrderCallbackPhoneNumber OrderCallbackTelecomInformation
    OrderEntererLocation PatientAddress PatientInstitutionResidence
    PatientReligiousPreference PatientTelecomInformation PatientTelephoneNumbers
    PerformedLocation PersonAddress PersonTelecomInformation PersonTelephoneNumbers
    ReferringPhysicianAddress ReferringPhysicianTelephoneNumbers RegionOfResidence
    RequestedProcedureLocation RequestingService ResponsibleOrganization
    ScheduledPatientInstitutionResidence ScheduledProcedureStepLocation
    ScheduledStudyLocation VerifyingOrganization
"""
_DEVICES = """
    CassetteID DetectorID DeviceSerialNumber GantryID GeneratorID LensSerialNumber
    PerformedStationAETitle PerformedStationName PlateID ScheduledStationAETitle
    ScheduledStationName ScheduledStudyLocationAETitle SourceSerialNumber StationName
    TreatmentMachineName UniqueDeviceIdentifier XRayDetectorID XRaySourceID
"""
_MOMENTS = """
    AcquisitionDate AcquisitionDateTime AdmittingDate ContentDate CurveDate
    EndAcquisitionDateTime FirstTreatmentDate GPSDateStamp InstanceCoercionDateTime
    LastMenstrualDate MostRecentTreatmentDate OverlayDate PatientBirthDate
    PatientBirthTime PerformedProcedureStepEndDate PerformedProcedureStepEndDateTime
    PerformedProcedureStepStartDate PerformedProcedureStepStartDateTime RTPlanDate
    ScheduledProcedureStepEndDate ScheduledProcedureStepStartDate
    ScheduledProcedureStepStartDateTime SeriesDate StartAcquisitionDateTime StudyDate
    TreatmentDate
"""
_WORDS = """
    AcquisitionComments AcquisitionProtocolDescription AdditionalPatientHistory
    AdmittingDiagnosesDescription Allergies ClinicalTrialSeriesDescription
    ClinicalTrialTimePointDescription CommentsOnThePerformedProcedureStep
    ContributionDescription DerivationDescription DischargeDiagnosisDescription
    FrameComments IdentifyingComments ImageComments ImagePresentationComments
    ImagingServiceRequestComments Impressions InterpretationDiagnosisDescription
    InterpretationText LabelText MedicalAlerts ModifiedImageDescription PatientComments
    PatientState PerformedProcedureStepDescription ProtocolName ReasonForStudy
    ReasonForTheImagingServiceRequest ReasonForTheRequestedProcedure ReasonForVisit
    RequestedProcedureComments RequestedProcedureDescription ResultsComments
    ScheduledProcedureStepDescription SeriesDescription ServiceEpisodeDescription
    SpecialNeeds SpecimenDetailedDescription SpecimenShortDescription StudyComments
    StudyDescription TextComments TextString VisitComments
"""
_UIDS = """
    ConcatenationUID DeviceUID DigitalSignatureUID DimensionOrganizationUID
    FrameOfReferenceUID InstanceCreatorUID IrradiationEventUID
    MediaStorageSOPInstanceUID ObservationUID ReferencedFrameOfReferenceUID
    ReferencedSOPInstanceUID RelatedFrameOfReferenceUID SOPInstanceUID
    SeriesInstanceUID SpecimenUID StorageMediaFileSetUID StudyInstanceUID
    SynchronizationFrameOfReferenceUID TrackingUID TransactionUID UID
"""
IDENTIFYING_KEYWORDS = frozenset(
    " ".join((_PEOPLE, _NUMBERS, _PLACES, _DEVICES, _MOMENTS, _WORDS, _UIDS)).split()
)


def pseudonym(value: Any, key: bytes | str | None = None) -> str:
    """Keyed hash of an identifier: equal for equal values, and not to be reversed.

    Without the key nobody can find out a patient number by trying all of them, which a
    plain hash would allow.

    Parameters
    ----------
    value : object
        Patient number, UID … White space and NUL around it, DICOM's padding, do not
        count.
    key : bytes or str, default=None
        None takes the environment variable SKMEDIMG_KEY, else a random key that is made
        once and kept in the user's data folder, readable by its owner only.

    Returns
    -------
    str
        Sixteen hexadecimal digits of the HMAC-SHA256; "" where there is no value.

    Raises
    ------
    RuntimeError
        If no key is given and none can be kept.

    References
    ----------
    RFC 2104, "HMAC: Keyed-Hashing for Message Authentication".

    Examples
    --------
    >>> from skmedimg._privacy import pseudonym
    >>> pseudonym("PAT-0042", key="one key") == pseudonym("PAT-0042 ", key="one key")
    True
    >>> pseudonym("PAT-0042", key="one key") == pseudonym("PAT-0042", key="another")
    False
    """
    text = "" if value is None else str(value).strip(" \0\t\r\n")
    if not text:
        return ""
    if key is None:
        source = _SOURCE.get() or key_source()
        key = source.secret or _kept_key(source.file or _key_file())
    secret = key.encode() if isinstance(key, str) else key
    message = text.encode("utf-8", "surrogateescape")
    return hmac.digest(secret, message, "sha256").hex()[:_DIGITS]


@dataclass(frozen=True)
class KeySource:
    """Where the key of a process comes from; for its worker processes only.

    Workers keep the environment they began with, which may be older than the key. To
    be passed in a call, and held by nothing that is saved.

    Attributes
    ----------
    secret : str
        The environment's key, "" where there is none.
    file : Path or None
        Where the key is kept otherwise, and made when one is first needed; None where
        there is no folder for it.
    """

    secret: str = field(repr=False)
    file: Path | None = field(repr=False)


_SOURCE: ContextVar[KeySource | None] = ContextVar("_SOURCE", default=None)


def key_source() -> KeySource:
    """That of this process, as its environment is now."""
    secret = os.environ.get(_KEY_VARIABLE) or ""
    try:
        return KeySource(secret, _key_file())
    except RuntimeError:  # no home: an error only where a key is needed
        return KeySource(secret, None)


@contextmanager
def keyed(source: KeySource) -> Iterator[None]:
    """Make pseudonyms with the key of another process."""
    token = _SOURCE.set(source)
    try:
        yield
    finally:
        _SOURCE.reset(token)


def _key_file() -> Path:
    home = Path.home()
    if sys.platform == "win32":
        folder = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        folder = home / "Library" / "Application Support"
    else:
        folder = os.environ.get("XDG_DATA_HOME") or home / ".local" / "share"
    return Path(folder) / "skmedimg" / "pseudonym.key"


@lru_cache
def _kept_key(path: Path) -> bytes:
    try:
        if not path.exists():
            _make_key(path)
        key = path.read_bytes().strip()
    except OSError as error:
        raise RuntimeError(
            "patient and series numbers are replaced by keyed hashes, and no key can "
            f"be kept in the user's data folder ({error.strerror}): set the "
            f"environment variable {_KEY_VARIABLE} to a secret of your own."
        ) from None
    if len(key) < 32:
        raise RuntimeError(
            f"the key for pseudonyms, {path.name} in the user's data folder, holds "
            f"{len(key)} characters instead of 64: put the right one back, or remove "
            "the file to have another made (pseudonyms change with it)."
        )
    return key


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, draft = tempfile.mkstemp(dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        # Unlike a rename, a link fails where another process was quicker: all use the
        # one key that came first, and nobody ever reads half of it.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(draft)


def relative_to(root: str | os.PathLike[str] | None, path: Any) -> str:
    """Name of a file in messages and tables: its path below `root`, with "/".

    Parameters
    ----------
    root : path or None
        The folder that was asked for.
    path : path
        A file; where it does not lie below `root`, its last part alone is given: the
        folders above may be named after people.

    Returns
    -------
    str
        Path below `root`.

    Examples
    --------
    >>> from skmedimg._privacy import relative_to
    >>> relative_to("/data/trial", "/data/trial/site 1/scan.dcm")
    'site 1/scan.dcm'
    >>> relative_to(None, "/home/someone/scan.dcm")
    'scan.dcm'
    """
    path = Path(path)
    if root is not None and path.is_relative_to(root) and path != Path(root):
        return path.relative_to(root).as_posix()
    return path.name


def identifying_values(dataset: "Dataset") -> dict[str, list[str]]:
    """Values of a DICOM data set that must not be seen outside it, by keyword.

    Parameters
    ----------
    dataset : pydicom.dataset.Dataset
        Sequences are walked into; the file's own header is looked at too.

    Returns
    -------
    dict of str to list of str
        By keyword, the values of `IDENTIFYING_KEYWORDS` and of every other person name;
        those of a single character are left out.
    """
    found: dict[str, list[str]] = {}
    meta: Iterable[Any] = getattr(dataset, "file_meta", None) or ()
    for element in [*meta, *dataset.iterall()]:
        if element.keyword not in IDENTIFYING_KEYWORDS and element.VR != "PN":
            continue
        values = element.value if element.VM > 1 else [element.value]
        for value in values if element.VM else ():
            text = str(value).strip()
            if len(text) >= _SHORTEST:
                found.setdefault(element.keyword or element.name, []).append(text)
    return found


def find_identifying(text: str, dataset: "Dataset") -> list[str]:
    """Keywords of `dataset` whose value stands in `text`; never the value itself.

    Meant for tests and for a last look at what is about to be published.

    Parameters
    ----------
    text : str
        Message, table, model card …
    dataset : pydicom.dataset.Dataset
        Whose identity `text` must not give away.

    Returns
    -------
    list of str
        Keywords, empty if nothing was found. Values are looked for as whole words,
        without regard to case; names also in their parts of three letters and more,
        dates also as 2013-07-17.

    Examples
    --------
    >>> from pydicom.dataset import Dataset
    >>> from skmedimg._privacy import find_identifying
    >>> dataset = Dataset()
    >>> dataset.PatientName = "Roe^Jane"
    >>> find_identifying("cannot read the scan of jane", dataset)
    ['PatientName']
    """
    leaks = []
    for keyword, values in identifying_values(dataset).items():
        words = [word for value in values for word in _spellings(keyword, value)]
        if any(_stands_in(word, text) for word in words):
            leaks.append(keyword)
    return leaks


def _spellings(keyword: str, value: str) -> Iterable[str]:
    yield value
    if keyword not in IDENTIFYING_KEYWORDS or keyword in _PEOPLE.split():
        yield from (part for part in re.split(r"[\W_]+", value) if len(part) > 2)
    if re.fullmatch(r"\d{8}", value) and keyword in _MOMENTS.split():
        yield f"{value[:4]}-{value[4:6]}-{value[6:]}"


def _stands_in(word: str, text: str) -> bool:
    # "02" is in "1.02 mm", but not as a word of its own.
    pattern = rf"(?<![\w.]){re.escape(word)}(?!\w|\.\d)"
    return re.search(pattern, text, re.IGNORECASE) is not None
