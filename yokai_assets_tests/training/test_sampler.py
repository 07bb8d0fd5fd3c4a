"""The order of images: deterministic, fair, and continued where it stopped."""

from collections import Counter

import pytest

from yokai_assets.training.sampler import BucketSampler

SIZES = [(4, 4)] * 7 + [(4, 8)] * 3 + [(8, 4)]


def drawn(sampler: BucketSampler, steps: int) -> list[list[int]]:
    return [sampler.next_batch() for _ in range(steps)]


def test_batches_are_full_and_of_one_size() -> None:
    """Images of different sizes cannot be stacked; short batches would weigh their images more."""
    for batch in drawn(BucketSampler(SIZES, 2, 0), 100):
        assert len(batch) == 2
        assert len({SIZES[index] for index in batch}) == 1


@pytest.mark.parametrize("batch_size", [1, 2, 4, 16])
def test_every_image_is_seen_equally_often(batch_size: int) -> None:
    """Rare sizes are neither dropped nor trained more than others."""
    steps = 330
    counts = Counter(index for batch in drawn(BucketSampler(SIZES, batch_size, 0), steps) for index in batch)
    expected = steps * batch_size / len(SIZES)
    assert len(counts) == len(SIZES)
    assert all(abs(count - expected) <= batch_size + 1 for count in counts.values())


def test_the_seed_gives_the_order() -> None:
    """The same seed repeats a training, another one does not."""
    assert drawn(BucketSampler(SIZES, 2, 3), 20) == drawn(BucketSampler(SIZES, 2, 3), 20)
    assert drawn(BucketSampler(SIZES, 2, 3), 20) != drawn(BucketSampler(SIZES, 2, 4), 20)


@pytest.mark.parametrize("stop", [1, 5, 17])
def test_a_position_continues_the_same_order(stop: int) -> None:
    """A resumed run must see the images that the uninterrupted one would have seen."""
    whole = drawn(BucketSampler(SIZES, 2, 0), 30)
    first, second = BucketSampler(SIZES, 2, 0), BucketSampler(SIZES, 2, 0)
    drawn(first, stop)
    second.load_state_dict(first.state_dict())
    assert drawn(second, 30 - stop) == whole[stop:]


def test_a_position_of_other_buckets_is_refused() -> None:
    """A state of another dataset must not silently shift the order."""
    state = BucketSampler([1, 2], 2, 0).state_dict()
    with pytest.raises(ValueError, match="buckets"):
        BucketSampler(SIZES, 2, 0).load_state_dict(state)


def test_no_images_is_an_error() -> None:
    """An endless sampler over nothing would never return."""
    with pytest.raises(ValueError, match="need images"):
        BucketSampler([], 2, 0)
