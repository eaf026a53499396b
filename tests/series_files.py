"""Makes DICOM series for the tests."""

import random

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from skmedimg._orientation import reorient

MR, CT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
AXIAL = (1, 0, 0, 0, 1, 0)
SPL = np.random.default_rng(0).permutation(4000)[:210].reshape(5, 6, 7).astype("i2")
SPACING = (3.0, 2.0, 0.5)
IDENTITY = {
    "PatientName": "Roe^Jane",
    "PatientID": "HILL-0042",
    "PatientBirthDate": "19660102",
    "InstitutionName": "Hilltop Clinic",
    "ReferringPhysicianName": "Poe^Edgar",
    "AccessionNumber": "ACC7781",
    "StationName": "SCANNER9",
    "StudyDate": "20130717",
    "SeriesDescription": "for Dr Poe",
    "StudyInstanceUID": "1.2.3.77.1",
}


def header(sop_class=MR, syntax=ExplicitVRLittleEndian, **elements):
    """A data set with an identity and nothing else in it."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = sop_class
    dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    defaults = {"SOPClassUID": sop_class, "SOPInstanceUID": generate_uid()}
    defaults |= IDENTITY | {"SeriesInstanceUID": "1.2.3.77.2", "Modality": "MR"}
    for keyword, value in (defaults | elements).items():
        setattr(dataset, keyword, list(value) if isinstance(value, tuple) else value)
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def image(pixels, **elements):
    """A single slice; position and cosines None leave these elements out."""
    geometry = {
        "PixelSpacing": SPACING[1:],
        "ImagePositionPatient": (0, 0, 0),
        "ImageOrientationPatient": AXIAL,
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "SliceThickness": 3,
    }
    elements = {k: v for k, v in (geometry | elements).items() if v is not None}
    dataset = header(**elements)
    fill(dataset, pixels)
    return dataset


def fill(dataset, pixels):
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.PixelData = pixels.astype("<i2").tobytes()


def save(folder, datasets, start=0):
    """Write files whose names say nothing about their order."""
    folder.mkdir(exist_ok=True, parents=True)
    names = random.Random(len(datasets)).sample(range(10_000), len(datasets))
    for name, dataset in zip(names, datasets, strict=True):
        path = folder / f"{start}{name:04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
    return folder


def slices(volume=SPL, code="SPL", **elements):
    """Slices of a volume in SPL, acquired along the axes that `code` says."""
    stored, order = reorient(volume, "SPL", code)
    toward = {"L": (1, 0, 0), "P": (0, 1, 0), "S": (0, 0, 1)}
    toward |= {"R": (-1, 0, 0), "A": (0, -1, 0), "I": (0, 0, -1)}
    directions = np.array([toward[letter] for letter in code])
    steps = directions * np.array([SPACING[k] for k in order])[:, np.newaxis]
    # The corner that (L, P, S) = (-10, 20, 30) has in the volume as it is in SPL.
    corner = np.array([-10.0, 20.0, 30.0])
    ends = np.array([0.5 * 6, 2.0 * 5, 3.0 * 4])
    corner = corner + np.where(directions.sum(0) < 0, ends, 0)
    return [
        image(
            pixels,
            ImagePositionPatient=(corner + i * steps[0]).tolist(),
            ImageOrientationPatient=[*directions[2].tolist(), *directions[1].tolist()],
            PixelSpacing=[SPACING[order[1]], SPACING[order[2]]],
            **elements,
        )
        for i, pixels in enumerate(stored)
    ]


def enhanced(pixels, groups):
    """Multi-frame MR; `groups` has the elements that each frame's macros hold."""
    dataset = header(ENHANCED_MR, NumberOfFrames=len(pixels), ImageType=["DERIVED"])
    fill(dataset, pixels)
    measures = Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(SPACING[1:]), 3
    plane = Dataset()
    plane.ImageOrientationPatient = list(AXIAL)
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [plane]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for z, echo in groups:
        frame, place, times = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [-10, 20, z]
        times.EffectiveEchoTime = float(echo)
        frame.PlanePositionSequence, frame.MREchoSequence = [place], [times]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    return dataset
