"""What a process remembers: each value for its own time, and never more than a fixed number of values."""

from lastmile.api.remembered import LARGEST, Remembered


def test_value_is_forgotten_after_its_time() -> None:
    now = 0.0
    memory: Remembered[str] = Remembered(lambda: now)
    memory.put(b"a", "short", 1)
    memory.put(b"b", "long", 10)
    now = 1.0
    assert (memory.get(b"a"), memory.get(b"b"), memory.get(b"c")) == (None, "long", None)


def test_oldest_values_are_dropped_beyond_the_limit() -> None:
    memory: Remembered[int] = Remembered()
    for number in range(LARGEST):
        memory.put(number.to_bytes(4), number, 60)
    memory.put((0).to_bytes(4), 0, 60)
    memory.put(b"one more", 1, 60)
    assert (memory.get((0).to_bytes(4)), memory.get((1).to_bytes(4)), memory.get((2).to_bytes(4))) == (0, None, 2)
