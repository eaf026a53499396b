"""Colours of DICOM files: RGB, YBR and palettes."""

import numpy as np
import pytest

from skmedimg._dicom import read_dicom

RAMP = np.arange(24, dtype=np.uint16).reshape(4, 6)
COLOURS = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
YBR = np.array(
    [[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]]
)


def to_ybr(rgb):
    return np.clip(np.rint(rgb @ YBR.T + [0, 128, 128]), 0, 255).astype(np.uint8)


def test_rgb_by_pixel_and_by_plane(write_dicom):
    array, meta = read_dicom(write_dicom(COLOURS))
    assert np.array_equal(array, COLOURS)
    assert (meta.units, meta.mask) == ("displayed", None)
    planes = np.ascontiguousarray(np.moveaxis(COLOURS, -1, 0))
    path = write_dicom(COLOURS, PlanarConfiguration=1, PixelData=planes.tobytes())
    assert np.array_equal(read_dicom(path)[0], COLOURS)
    with pytest.raises(ValueError, match="in colour"):
        read_dicom(path, window=(1, 2))


def test_ybr_full_becomes_rgb_once(write_dicom):
    path = write_dicom(to_ybr(COLOURS), PhotometricInterpretation="YBR_FULL")
    difference = read_dicom(path)[0].astype(int) - COLOURS
    assert np.abs(difference).max() <= 2


def test_ybr_full_422_shares_colours_between_two_pixels(write_dicom):
    grey = COLOURS[..., :1].repeat(3, axis=-1)
    ybr = to_ybr(COLOURS)
    ybr[:, 1::2, 1:] = ybr[:, ::2, 1:]
    packed = np.concatenate(
        [ybr[:, ::2, :1], ybr[:, 1::2, :1], ybr[:, ::2, 1:]], axis=-1
    )
    path = write_dicom(
        grey, PhotometricInterpretation="YBR_FULL_422", PixelData=packed.tobytes()
    )
    full = write_dicom(ybr, name="full.dcm", PhotometricInterpretation="YBR_FULL")
    assert np.array_equal(read_dicom(path)[0], read_dicom(full)[0])
    assert np.array_equal(packed[0, 0], [*ybr[0, :2, 0], *ybr[0, 0, 1:]])


@pytest.mark.parametrize("bits", [8, 16])
def test_palette(write_dicom, bits):
    rng = np.random.default_rng(2)
    tables = rng.integers(0, 256, (3, 20), dtype=np.uint16)
    written = tables << 8 if bits == 16 else tables.astype(np.uint8)
    palette = {}
    for name, table in zip(("Red", "Green", "Blue"), written, strict=True):
        prefix = f"{name}PaletteColorLookupTable"
        palette[f"{prefix}Descriptor"] = [20, 2, bits]
        palette[f"{prefix}Data"] = table.tobytes()
    path = write_dicom(
        RAMP.astype(np.uint8), PhotometricInterpretation="PALETTE COLOR", **palette
    )
    array, _ = read_dicom(path)
    assert array.dtype == np.uint8
    index = np.clip(RAMP.astype(int) - 2, 0, 19)
    assert np.array_equal(array, np.moveaxis(tables[:, index], 0, -1))


def test_segmented_palette(write_dicom):
    # Five listed entries, a line of four steps, and both once more.
    words = [0, 5, 0, 256, 512, 768, 1024, 1, 4, 5120, 2, 2, 0, 0]
    table = [0, 1, 2, 3, 4, 8, 12, 16, 20, 0, 1, 2, 3, 4, 8, 12, 16, 20]
    palette = {}
    for name in ("Red", "Green", "Blue"):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [18, 0, 16]
        data = np.array(words, "<u2").tobytes()
        palette[f"Segmented{name}PaletteColorLookupTableData"] = data
    path = write_dicom(
        RAMP.astype(np.uint8), PhotometricInterpretation="PALETTE COLOR", **palette
    )
    array, _ = read_dicom(path)
    assert array[..., 0].ravel().tolist() == table + [20] * 6
