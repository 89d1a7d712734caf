"""CRC32C of joined pieces."""

import google_crc32c
import pytest

from ilv_dataset.formats.checksums import combine_crcs

CHECK = 0xE3069283  # of b"123456789"; Source: RFC 3720, B.4, and every table of CRCs


@pytest.mark.parametrize("cut", [0, 1, 5, 9])
def test_combine_crcs_gives_the_known_value_wherever_the_text_is_cut(cut):
    first, second = b"123456789"[:cut], b"123456789"[cut:]
    combined = combine_crcs(google_crc32c.value(first), google_crc32c.value(second), len(second))
    assert combined == CHECK


@pytest.mark.parametrize("num_bytes", [255, 256, 257, 65_535, 65_536, 1_200_345])
def test_combine_crcs_of_a_long_second_piece_is_that_of_both(num_bytes):
    second = bytes(num_bytes)
    combined = combine_crcs(google_crc32c.value(b"head"), google_crc32c.value(second), num_bytes)
    assert combined == google_crc32c.value(b"head" + second)
