"""Integers <-> bytes near their entropy: magnitudes through a range coder, signs and tails as bits.

Each integer belongs to a class of like sizes, and each class has its own table of frequencies. The
coder is rANS (Duda 2013, https://arxiv.org/abs/1311.2540) over many lanes, so that numpy takes a
step of all lanes at once. Whatever the bytes are, decoding takes time and memory in proportion to
the number of integers that the caller expects, and what does not fit raises ValueError.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["CLASSES", "LARGEST", "SYMBOLS", "entropy_bytes", "pack_integers", "unpack_integers"]

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

CLASSES = 64
LARGEST = (1 << 30) - 1
"""Largest magnitude of an integer."""
SYMBOLS = 256
EXACT = 16
"""Magnitudes below it are symbols of their own; above, a symbol is the place of the leading bit
and the three bits after it, and the rest goes as plain bits."""
PRECISION = 14
TOTAL = 1 << PRECISION
LOWEST = 1 << 16
"""A lane's state stays in [LOWEST, LOWEST << 16)."""
STEPS = 4096
"""Most symbols of one lane: a lane costs four bytes."""


def pack_integers(values_N: Integers, classes_N: Bytes) -> tuple[bytes, bytes]:
    """(frequency tables, coded integers). Classes are below CLASSES, magnitudes at most LARGEST."""
    symbols_N, extra_N = _symbols(np.abs(values_N))
    tables = bytearray()
    frequencies = np.zeros((CLASSES + 1, SYMBOLS), np.uint64)
    for number in np.flatnonzero(np.bincount(classes_N, minlength=CLASSES)):
        counts = np.bincount(symbols_N[classes_N == number])
        table = _short(counts)
        tables += bytes([len(table) - 1, *table.tolist()])
        frequencies[number, : len(table)] = _frequencies(table)
    coded = _encode(symbols_N, classes_N, frequencies)
    signs = np.packbits(values_N[values_N != 0] < 0).tobytes()
    return bytes(tables), coded + signs + _pack_tails(symbols_N, extra_N)


def unpack_integers(tables: bytes, coded: bytes, classes_N: Bytes) -> Integers:
    """What `pack_integers` packed; `classes_N` says how many integers of which class."""
    frequencies = np.zeros((CLASSES + 1, SYMBOLS), np.uint64)
    place = 0
    for number in np.flatnonzero(np.bincount(classes_N, minlength=CLASSES)):
        table = (
            np.frombuffer(tables[place + 1 : place + 2 + tables[place]], np.uint8)
            if place < len(tables)
            else np.zeros(0, np.uint8)
        )
        if not table.any() or len(table) != tables[place] + 1:
            raise ValueError("a table of frequencies is cut short")
        frequencies[number, : len(table)] = _frequencies(table)
        place += 1 + len(table)
    if place != len(tables):
        raise ValueError("more tables of frequencies than classes")
    symbols_N, used = _decode(coded, classes_N, frequencies)
    negative = int(np.count_nonzero(symbols_N))
    signs_at, tails_at = used, used + (negative + 7) // 8
    if tails_at > len(coded):
        raise ValueError("the signs are cut short")
    values_N = _magnitudes(symbols_N, coded[tails_at:])
    bits = np.unpackbits(np.frombuffer(coded[signs_at:tails_at], np.uint8), count=negative)
    values_N[values_N != 0] *= 1 - 2 * bits.astype(np.int64)
    return values_N


def entropy_bytes(values_N: Integers, classes_N: Bytes) -> float:
    """About what `pack_integers` will need, in a fraction of its time."""
    symbols_N, _ = _symbols(np.abs(values_N))
    table = np.bincount(classes_N.astype(np.int64) * SYMBOLS + symbols_N)
    used = table[table > 0].astype(np.float64)
    totals = np.bincount(classes_N)
    totals = totals[totals > 0].astype(np.float64)
    bits = (totals * np.log2(totals)).sum() - (used * np.log2(used)).sum()
    tails = (np.maximum(symbols_N.astype(np.int64) - EXACT, -8) // 8 + 1).sum()
    lanes = 4 * _lanes(len(values_N))
    return float(bits + np.count_nonzero(values_N) + tails) / 8 + lanes + 0.8 * len(used)


def _symbols(magnitudes_N: Integers) -> tuple[Bytes, Integers]:
    """Symbol and remainder of each magnitude."""
    exponents = np.frexp(magnitudes_N.astype(np.float64))[1] - 1
    tails = np.maximum(exponents - 3, 0)
    large = EXACT + (tails - 1) * 8 + ((magnitudes_N >> tails) & 7)
    symbols = np.where(magnitudes_N < EXACT, magnitudes_N, large)
    return symbols.astype(np.uint8), magnitudes_N & ((np.int64(1) << tails) - 1)


def _pack_tails(symbols_N: Bytes, extra_N: Integers) -> bytes:
    """The remainders' bits, those of one length after the other."""
    lengths = (symbols_N.astype(np.int64) - EXACT) // 8 + 1
    bits = []
    for length in range(1, int(lengths.max(initial=0)) + 1):
        places = np.arange(length)
        bits.append(((extra_N[lengths == length, None] >> places) & 1).astype(np.uint8).ravel())
    return np.packbits(np.concatenate(bits)).tobytes() if bits else b""


def _magnitudes(symbols_N: Bytes, tails: bytes) -> Integers:
    values_N = symbols_N.astype(np.int64)
    lengths = (values_N - EXACT) // 8 + 1
    if int(lengths.max(initial=0)) > 26:
        raise ValueError("an integer is too large")
    wanted = int(lengths[lengths > 0].sum())
    if len(tails) != (wanted + 7) // 8:
        raise ValueError("the bits after the symbols have another length")
    bits = np.unpackbits(np.frombuffer(tails, np.uint8), count=wanted)
    start = 0
    for length in range(1, int(lengths.max(initial=0)) + 1):
        chosen = lengths == length
        end = start + length * int(chosen.sum())
        extra = bits[start:end].reshape(-1, length).astype(np.int64) << np.arange(length)
        leading = 8 + ((values_N[chosen] - EXACT) & 7)
        values_N[chosen] = (leading << length) + extra.sum(axis=1)
        start = end
    return values_N


def _short(counts: npt.NDArray[np.int64]) -> Bytes:
    """Counts as bytes, 16 steps an octave over 16 octaves; a symbol that occurs is never 0."""
    scaled = counts * ((31 << 15) / counts.max())
    exponents = np.clip(np.frexp(scaled)[1] - 5, 0, 15)
    mantissas = np.clip(np.rint(scaled / 2.0**exponents) - 16, 0, 15)
    codes = np.minimum(exponents * 16 + mantissas, 254) + 1
    return np.where(counts > 0, codes, 0).astype(np.uint8)


def _frequencies(table: Bytes) -> npt.NDArray[np.uint64]:
    """Integer frequencies that sum to TOTAL; every symbol of the table has at least one."""
    codes = table.astype(np.int64) - 1
    weights = np.where(codes >= 0, (16 + (codes & 15)) << np.maximum(codes >> 4, 0), 0)
    parts = np.maximum(weights * TOTAL // weights.sum(), weights > 0)
    parts[int(parts.argmax())] += TOTAL - parts.sum()
    frequencies: npt.NDArray[np.uint64] = parts.astype(np.uint64)
    return frequencies


def _lanes(count: int) -> int:
    return max(1, -(-count // STEPS))


def _grid(values_N: Bytes, fill: int) -> npt.NDArray[np.int64]:
    """As (steps, lanes), filled up at the end."""
    lanes = _lanes(len(values_N))
    grid = np.full(-(-len(values_N) // lanes) * lanes, fill, np.int64)
    grid[: len(values_N)] = values_N
    return grid.reshape(-1, lanes)


def _encode(symbols_N: Bytes, classes_N: Bytes, frequencies: npt.NDArray[np.uint64]) -> bytes:
    # The class after the last holds one symbol, which costs nothing: it fills up the last step.
    frequencies[CLASSES, 0] = TOTAL
    starts = np.cumsum(frequencies, axis=1) - frequencies
    index_TL = _grid(classes_N, CLASSES) * SYMBOLS + _grid(symbols_N, 0)
    state_L = np.full(index_TL.shape[1], LOWEST, np.uint64)
    words: list[npt.NDArray[np.uint16]] = []
    shift, half = np.uint64(32 - PRECISION), np.uint64(16)
    for index_L in index_TL[::-1]:
        frequency_L = frequencies.ravel()[index_L]
        full_L = state_L >= frequency_L << shift
        words.append(state_L[full_L].astype(np.uint16))
        state_L[full_L] >>= half
        quotient_L, rest_L = np.divmod(state_L, frequency_L)
        state_L = (quotient_L << np.uint64(PRECISION)) + rest_L + starts.ravel()[index_L]
    stream = np.concatenate([*words[::-1], np.zeros(0, np.uint16)]).astype("<u2")
    return len(stream).to_bytes(4, "little") + state_L.astype("<u4").tobytes() + stream.tobytes()


def _decode(
    coded: bytes, classes_N: Bytes, frequencies: npt.NDArray[np.uint64]
) -> tuple[Bytes, int]:
    """Symbols, and how many bytes of `coded` they took."""
    frequencies[CLASSES, 0] = TOTAL
    starts = (np.cumsum(frequencies, axis=1) - frequencies).ravel()
    class_TL = _grid(classes_N, CLASSES)
    lanes = class_TL.shape[1]
    count, end = int.from_bytes(coded[:4], "little"), 4 + 4 * lanes
    if len(coded) < end + 2 * count:
        raise ValueError("the coded symbols are cut short")
    state_L = np.frombuffer(coded, "<u4", lanes, 4).astype(np.uint64)
    words = np.frombuffer(coded, "<u2", count, end).astype(np.uint64)
    symbol_of = _lookup(frequencies)
    symbols_TL = np.zeros(class_TL.shape, np.uint8)
    place, half, mask = 0, np.uint64(16), np.uint64(TOTAL - 1)
    for class_L, out_L in zip(class_TL, symbols_TL, strict=True):
        slot_L = state_L & mask
        out_L[:] = symbol_of.ravel()[class_L * TOTAL + slot_L.astype(np.int64)]
        index_L = class_L * SYMBOLS + out_L
        state_L = frequencies.ravel()[index_L] * (state_L >> np.uint64(PRECISION)) + slot_L
        state_L -= starts[index_L]
        empty_L = state_L < LOWEST
        taken = words[place : place + int(np.count_nonzero(empty_L))]
        place += int(np.count_nonzero(empty_L))
        if place > count:
            raise ValueError("the coded symbols are cut short")
        state_L[empty_L] = (state_L[empty_L] << half) | taken
    if place != count or (state_L != LOWEST).any():
        raise ValueError("the coded symbols are damaged")
    return symbols_TL.ravel()[: len(classes_N)], end + 2 * count


def _lookup(frequencies: npt.NDArray[np.uint64]) -> Bytes:
    """Class and slot -> symbol."""
    lookup = np.zeros((CLASSES + 1, TOTAL), np.uint8)
    for number in np.flatnonzero(frequencies.sum(axis=1)):
        symbols = np.arange(SYMBOLS, dtype=np.uint8)
        lookup[number] = np.repeat(symbols, frequencies[number].astype(np.int64))
    return lookup
