"""Standardised uptake values of PET.

SUVbw is the activity in a voxel, divided by the injected activity and multiplied by the
body's weight, both activities at one moment. Which moment the voxels are corrected to,
and where a scanner writes it, is the difficult part.
"""

import math
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from skmedimg._dicom_header import item, number, private_value_of, text, texts

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Beyond, what was injected is gone, or a date is wrong.
_MOST_HALF_LIVES = 15
# A time without a date is within a day of the scan; for isotopes that are imaged days
# after the injection that is a guess.
_LONG_LIVED = 12 * 3600
_ENHANCED = "1.2.840.10008.5.1.4.1.1.130"
# Enhanced PET states the dose in MBq, PET slices in Bq. Nobody is given 100 GBq: what
# is more was written in Bq.
_MOST_MBQ = 1e5


class _NotGiven(Exception):
    """What SUV needs is missing; the message says what."""


def suv_of(dataset: "Dataset", mapped: bool = False) -> tuple[float, str, str | None]:
    """Factor from rescaled values to SUVbw.

    Parameters
    ----------
    dataset : pydicom.dataset.Dataset
        Of a PET image.
    mapped : bool, default=False
        Whether a real-world value map made them Bq/ml, whatever Units says.

    Returns
    -------
    factor : float
        1 where SUVbw cannot be computed.
    units : str
        "SUVbw"; else "BQML" or "rescaled".
    why : str or None
        What is missing for SUVbw; names elements, never their values.

    Notes
    -----
    Follows the vendor-neutral pseudo-code of QIBA: attenuation and decay must have been
    corrected for. With DecayCorrection START voxels are corrected to the start of the
    series, unless SeriesTime is later than the acquisition (derived series): then the
    scanner's private element, or the frame's reference time, tells. With ADMIN they are
    corrected to the injection. The residue in the syringe is ignored.
    """
    units = "BQML" if mapped else (text(dataset, "Units") or "").upper()
    try:
        if units == "GML":
            kind = text(dataset, "SUVType") or "BW"
            if kind != "BW":
                raise _NotGiven("values are another SUV than SUVbw (SUVType)")
            return 1.0, "SUVbw", None
        if units == "CNTS":
            factor, activity = _philips(dataset)
            if factor:
                return factor, "SUVbw", None
            return activity * _per_activity(dataset), "SUVbw", None
        if units != "BQML":
            raise _NotGiven("Units is not BQML, CNTS or GML")
        return _per_activity(dataset), "SUVbw", None
    except _NotGiven as error:
        return 1.0, "BQML" if units == "BQML" else "rescaled", str(error)


def _philips(dataset: "Dataset") -> tuple[float, float]:
    """Philips' factors from counts to SUVbw and to Bq/ml; one may be 0."""
    values = []
    for offset in (0x00, 0x09):
        value = private_value_of(dataset, "Philips PET Private Group", 0x7053, offset)
        try:
            factor = float(value)
        except (TypeError, ValueError):
            factor = 0.0
        values.append(factor if math.isfinite(factor) and factor > 0 else 0.0)
    if not any(values):
        raise _NotGiven("Units is CNTS and there is no factor from counts to activity")
    return values[0], values[1]


def _per_activity(dataset: "Dataset") -> float:
    """Factor from Bq/ml to SUVbw (g/ml)."""
    enhanced = text(dataset, "SOPClassUID") == _ENHANCED
    correction = _correction(dataset, enhanced)
    drug = item(dataset, "RadiopharmaceuticalInformationSequence")
    weight = _positive(dataset, "PatientWeight")
    dose = _positive(drug, "RadionuclideTotalDose")
    if enhanced and dose < _MOST_MBQ:
        dose *= 1e6
    half_life = _positive(drug, "RadionuclideHalfLife")
    if correction == "START":
        reference = _reference(dataset, half_life)
        dose *= 2 ** (-_decay_time(dataset, drug, reference, half_life) / half_life)
    return weight * 1000 / dose


def _correction(dataset: "Dataset", enhanced: bool) -> str:
    """What voxels are decay-corrected to; both corrections must have been made."""
    if enhanced:
        for name in ("AttenuationCorrected", "DecayCorrected"):
            if text(dataset, name) != "YES":
                raise _NotGiven(f"{name} is not YES")
        if text(dataset, "DecayCorrectionDateTime") is None:
            raise _NotGiven("DecayCorrectionDateTime is missing")
        return "START"
    corrected = [name.upper() for name in texts(dataset, "CorrectedImage")]
    for name in ("ATTN", "DECY"):
        if name not in corrected:
            raise _NotGiven(f"CorrectedImage has no {name}")
    correction = (text(dataset, "DecayCorrection") or "").upper()
    if correction not in ("START", "ADMIN"):
        raise _NotGiven("DecayCorrection is neither START nor ADMIN")
    return correction


def _positive(dataset: "Dataset | None", keyword: str) -> float:
    value = number(dataset, keyword)
    if value is None or value <= 0:
        raise _NotGiven(f"{keyword} is missing")
    return value


def _reference(dataset: "Dataset", half_life: float) -> datetime:
    """Moment that the voxels are decay-corrected to."""
    stated = _moment(text(dataset, "DecayCorrectionDateTime"), dataset)
    if stated is not None:
        return stated
    series = _joined(dataset, "SeriesDate", "SeriesTime")
    acquired = _joined(dataset, "AcquisitionDate", "AcquisitionTime")
    if acquired is None:
        raise _NotGiven("AcquisitionDate or AcquisitionTime is missing")
    if series is not None and series <= acquired:
        return series
    private = _moment(_ge_scan_time(dataset), dataset)
    if private is not None and private <= acquired:
        return private
    offset, duration = (
        number(dataset, name) for name in ("FrameReferenceTime", "ActualFrameDuration")
    )
    if offset is None or duration is None or duration <= 0:
        raise _NotGiven(
            "SeriesTime is missing or later than AcquisitionTime, and there is no "
            "FrameReferenceTime"
        )
    # Where the frame's activity has its average, counted from the frame's start.
    decay = math.log(2) / half_life
    during = decay * duration / 1000
    average = math.log(during / -math.expm1(-during)) / decay
    return acquired + timedelta(seconds=average - offset / 1000)


def _ge_scan_time(dataset: "Dataset") -> str | None:
    value = private_value_of(dataset, "GEMS_PETD_01", 0x0009, 0x0D)
    if isinstance(value, bytes):
        return value.decode("ascii", "replace").strip(" \0")
    return None if value is None else str(value)


def _decay_time(
    dataset: "Dataset", drug: "Dataset | None", reference: datetime, half_life: float
) -> float:
    """Seconds from the injection to `reference`."""
    start = _moment(text(drug, "RadiopharmaceuticalStartDateTime"), dataset)
    if start is not None:
        seconds = (reference - start).total_seconds()
        if 0 <= seconds <= _MOST_HALF_LIVES * half_life:
            return seconds
    # No date, or one that was changed when the file lost its patient: the time of day.
    clock = _clock(text(drug, "RadiopharmaceuticalStartTime"))
    if clock is None and start is not None:
        clock = start - datetime.combine(start.date(), datetime.min.time())
    if clock is None:
        raise _NotGiven("RadiopharmaceuticalStartTime is missing")
    if half_life > _LONG_LIVED:
        raise _NotGiven("RadiopharmaceuticalStartDateTime is missing or does not fit")
    midnight = datetime.combine(reference.date(), datetime.min.time())
    seconds = (reference - midnight - clock).total_seconds()
    return seconds if seconds >= 0 else seconds + 86400


def _joined(dataset: "Dataset", date: str, time: str) -> datetime | None:
    clock = _clock(text(dataset, time))
    day = re.sub(r"[.\-]", "", text(dataset, date) or "")
    if clock is None or not re.fullmatch(r"\d{8}", day):
        return None
    try:
        return datetime.strptime(day, "%Y%m%d") + clock
    except ValueError:
        return None


def _clock(value: str | None) -> timedelta | None:
    """Time since midnight of a DICOM time, "HHMMSS.FFFFFF" or shorter."""
    digits = (value or "").replace(":", "")
    match = re.fullmatch(r"(\d\d)(\d\d)?(\d\d)?(\.\d{1,6})?", digits)
    if match is None:
        return None
    hours, minutes, seconds, fraction = (float(part or 0) for part in match.groups())
    if hours > 23 or minutes > 59 or seconds > 60:
        return None
    return timedelta(hours=hours, minutes=minutes, seconds=seconds + fraction)


def _moment(value: str | None, dataset: "Dataset") -> datetime | None:
    """Time of a DICOM date and time, on the clock of the file's other times."""
    match = re.fullmatch(r"(\d{8})(\d{2,6}(?:\.\d{1,6})?)([+-]\d{4})?", value or "")
    if match is None:
        return None
    clock = _clock(match[2])
    try:
        day = datetime.strptime(match[1], "%Y%m%d")
    except ValueError:
        return None
    if clock is None:
        return None
    local = text(dataset, "TimezoneOffsetFromUTC")
    own, here = _zone(match[3]), _zone(local)
    shift = here - own if own is not None and here is not None else timedelta()
    return day + clock + shift


def _zone(value: str | None) -> timedelta | None:
    match = re.fullmatch(r"([+-])(\d\d)(\d\d)", value or "")
    if match is None:
        return None
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return -offset if match[1] == "-" else offset
