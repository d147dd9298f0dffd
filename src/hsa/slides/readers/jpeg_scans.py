"""JPEGs that lack a part which no decoder misses: warnings that Pillow keeps to itself, and scans that never came."""

import simplejpeg

# Markers of ITU-T T.81: start of image, of a progressive frame, of a scan, end of image; restarts and stuffed zeros
# within a scan are data.
PROGRESSIVE, SCAN, END = 0xC2, 0xDA, 0xD9
WITHIN = (0x00, *range(0xD0, 0xD8))
COEFFICIENTS = 64


def damage(data: bytes) -> str:
    """Say what a decoder complains of in a JPEG, or that a progressive one lacks scans; empty if it is whole.

    A progressive picture that was cut between two scans is a legal one: blurred, and without a warning. So all bits of
    all coefficients have to be there.
    """
    try:
        simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError as error:
        return str(error)
    return "some of its progressive scans are missing" if _lacks_scans(data) else ""


def _lacks_scans(data: bytes) -> bool:
    components: list[int] = []
    # Of each component's coefficients, how many of the lowest bits are still to come.
    open_bits: dict[int, list[int]] = {}
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != END:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:  # filling, or a marker without a segment
            at += 1 if marker == 0xFF else 2
            continue
        segment = data[at + 4 : at + 2 + length]
        at += 2 + length
        if marker == PROGRESSIVE:
            components = [segment[6 + 3 * number] for number in range(segment[5])]
            open_bits = {name: [COEFFICIENTS] * COEFFICIENTS for name in components}
        if marker == SCAN:
            count = segment[0]
            first, last, low = segment[1 + 2 * count], segment[2 + 2 * count], segment[3 + 2 * count] & 15
            for name in segment[1 : 1 + 2 * count : 2]:
                if name in open_bits:
                    open_bits[name][first : last + 1] = [low] * (last + 1 - first)
            at = _end_of_scan(data, at)
    return any(any(bits) for bits in open_bits.values())


def _end_of_scan(data: bytes, at: int) -> int:
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            return len(data)
        if data[at + 1] not in WITHIN:
            return at
        at += 2
