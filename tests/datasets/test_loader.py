"""The loader hands out each person once, divides them among ranks, and can stop anywhere."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from psa_pose.datasets import CocoStyleDataset, PoseDataLoader
from psa_pose.datasets.sampling import RankBatches
from psa_pose.errors import DataError
from tests.handmade import coco_content, person_entry, write_dataset


class Keys(Dataset):
    """Gives back what it is asked for, so that a batch says who is in it."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, key):
        return np.array([-1 if value is None else value for value in key])


def train_loader(size, batch_size, **options):
    return PoseDataLoader(Keys(size), batch_size, train=True, **options)


def as_lists(batches):
    """Batches of keys as lists of (epoch, person)."""
    return [[(epoch, person) for person, epoch, _ in batch.tolist()] for batch in batches]


def one_epoch(loader):
    return as_lists(loader)


def stream(loader, batches):
    """The next batches over epochs, as the trainer asks for them: iter() at each epoch's start."""
    taken = []
    while len(taken) < batches:
        taken += as_lists(itertools.islice(iter(loader), batches - len(taken)))
    return taken


def persons_in(batches):
    return [person for batch in batches for _, person in batch]


sizes = st.integers(1, 60)
batch_sizes = st.integers(1, 7)
rank_counts = st.integers(1, 4)


class TestTraining:
    @given(sizes, batch_sizes, st.integers(0, 5))
    def test_each_person_at_most_once_and_only_full_batches(self, size, batch_size, seed):
        if size < batch_size:
            return
        loader = train_loader(size, batch_size, seed=seed)
        for epoch in range(3):
            batches = one_epoch(loader)
            persons = persons_in(batches)
            assert len(batches) == len(loader) == size // batch_size
            assert all(len(batch) == batch_size for batch in batches)
            assert len(set(persons)) == len(persons)
            assert set(persons) <= set(range(size))
            assert {e for batch in batches for e, _ in batch} == {epoch}

    def test_order_differs_between_epochs(self):
        loader = train_loader(40, 4)
        orders = [tuple(persons_in(one_epoch(loader))) for _ in range(5)]
        assert len(set(orders)) == 5

    def test_over_epochs_everyone_has_a_turn(self):
        loader = train_loader(7, 4)  # three are left out of each epoch
        seen = {person for _ in range(10) for person in persons_in(one_epoch(loader))}
        assert seen == set(range(7))

    def test_order_is_the_seed_s(self):
        same = [stream(train_loader(40, 4, seed=3), 25) for _ in range(2)]
        assert same[0] == same[1]
        assert stream(train_loader(40, 4, seed=4), 25) != same[0]

    def test_neighbouring_seeds_do_not_repeat_each_other_s_epochs(self):
        loaders = [train_loader(40, 4, seed=seed) for seed in range(4)]
        orders = [tuple(persons_in(one_epoch(loader))) for loader in loaders for _ in range(4)]
        assert len(set(orders)) == 16

    def test_global_random_state_has_no_say(self):
        torch.manual_seed(0)
        np.random.seed(0)
        first = stream(train_loader(40, 4), 15)
        torch.manual_seed(1)
        np.random.seed(1)
        assert stream(train_loader(40, 4), 15) == first

    def test_workers_hand_out_the_same_batches(self):
        assert stream(train_loader(21, 4, num_workers=2), 12) == stream(train_loader(21, 4), 12)

    @given(sizes, batch_sizes, rank_counts)
    def test_ranks_partition_each_global_batch(self, size, batch_size, ranks):
        if size < batch_size * ranks:
            return
        shares = [stream_of_rank(size, batch_size, rank, ranks, 1) for rank in range(ranks)]
        assert len({len(share) for share in shares}) == 1
        whole = train_loader(size, batch_size * ranks)
        for parts, together in zip(zip(*shares, strict=True), one_epoch(whole), strict=True):
            assert [key for part in parts for key in part] == together

    @pytest.mark.parametrize(('size', 'batch_size', 'ranks'), [(3, 4, 1), (7, 4, 2), (0, 1, 1)])
    def test_a_batch_larger_than_the_dataset_is_refused(self, size, batch_size, ranks):
        with pytest.raises(ValueError, match=f'{batch_size} x {ranks} .* {size} persons'):
            train_loader(size, batch_size, ranks=ranks)

    def test_batch_size_is_checked(self):
        with pytest.raises(ValueError, match='at least 1'):
            train_loader(3, 0)


def stream_of_rank(size, batch_size, rank, ranks, epochs):
    loader = train_loader(size, batch_size, rank=rank, ranks=ranks)
    return [batch for _ in range(epochs) for batch in one_epoch(loader)]


class TestImages:
    """Persons of one image: one worker's, close in time, never side by side."""

    def images(self, count, seed=0):
        """COCO's habit: 2.7 persons an image, mostly one, sometimes many."""
        sizes = np.random.default_rng(seed).geometric(1 / 2.7, count)
        return np.repeat(np.arange(count), sizes)

    def loader(self, images, batch_size, workers=0, **options):
        return ImageKeys.loader(images, batch_size, workers, **options)

    @pytest.mark.parametrize('workers', [0, 1, 2, 3, 6, 8, 16])
    def test_a_worker_that_keeps_what_comes_again_decodes_most_images_once(self, workers):
        images = self.images(4000)
        batches = list(self.loader(images, 8, workers).batch_sampler)
        kept, decoded = [set() for _ in range(max(workers, 1))], 0
        for number, batch in enumerate(batches):
            mine = kept[number % len(kept)]
            for key in batch:
                image = images[key.person]
                decoded += image not in mine
                mine.discard(image)
                if key.again:
                    mine.add(image)
            assert len(mine) <= 16 // max(workers, 1) * 8 + 8
        assert not any(kept)  # whatever was kept was used
        assert decoded < 1.1 * len(np.unique(images))

    def test_no_two_of_an_image_in_a_batch(self):
        images = np.repeat(np.arange(1000), 3)
        pairs = 0
        for batch in self.loader(images, 16).batch_sampler:
            pairs += 16 - len({images[key.person] for key in batch})
        assert pairs <= 8  # only of images at the end of a lane

    @pytest.mark.parametrize(('persons', 'batch_size'), [(440, 32), (1000, 64), (1000, 128)])
    def test_few_batches_are_no_worse_than_a_plain_shuffle(self, persons, batch_size):
        images = np.repeat(np.arange(persons), np.arange(persons) % 10 + 1)[:persons]
        rng = np.random.default_rng(0)

        def doubles(order: np.ndarray) -> int:
            batches = images[order[: persons // batch_size * batch_size]].reshape(-1, batch_size)
            return sum(batch_size - len(np.unique(batch)) for batch in batches)

        batches = self.loader(images, batch_size).batch_sampler
        found = []
        for batches.epoch in range(10):
            found.append(doubles(batches.order()[0]))
        assert sum(found) <= 1.1 * sum(doubles(rng.permutation(persons)) for _ in found)

    @given(st.lists(st.integers(0, 12), min_size=1, max_size=80), batch_sizes, st.integers(0, 3))
    def test_each_person_once_whatever_the_images(self, images, batch_size, epoch):
        if len(images) < batch_size:
            return
        batches = self.loader(np.array(images), batch_size).batch_sampler
        batches.epoch = epoch
        order, _ = batches.order()
        assert sorted(order.tolist()) == list(range(len(images)))
        handed_out = [key.person for batch in batches for key in batch]
        assert handed_out == order[: len(handed_out)].tolist()

    def test_places_in_an_epoch_are_random(self):
        images = self.images(300)
        loader = self.loader(images, 8)
        places = np.zeros((200, len(images)))
        for epoch in range(len(places)):
            loader.batch_sampler.epoch = epoch
            order, _ = loader.batch_sampler.order()
            places[epoch, order] = np.arange(len(images)) / (len(images) - 1)
        mean = places.mean(0)  # of 200 uniform numbers: 0.5 +- 0.02
        assert abs(mean - 0.5).max() < 5 * 0.02
        assert abs(places.std(0) - 12**-0.5).max() < 0.06

    def test_evaluation_goes_image_by_image(self):
        images = np.array([3, 1, 3, 1, 2, 3])
        loader = self.loader(images, 4, train=False)
        assert [[tuple(key) for key in batch] for batch in loader.batch_sampler] == [
            [(1, None, True), (3, None, False), (4, None, False), (0, None, False)],
            [(2, None, True), (5, None, False)],
        ]


class ImageKeys(Keys):
    """Keys of persons who share images."""

    def __init__(self, images):
        super().__init__(len(images))
        self.image_ids = images

    @classmethod
    def loader(cls, images, batch_size, workers=0, train=True):
        return PoseDataLoader(cls(images), batch_size, train=train, num_workers=workers)


class TestEvaluation:
    @given(sizes, batch_sizes, rank_counts)
    def test_each_person_once_over_all_ranks(self, size, batch_size, ranks):
        size = max(size, ranks)
        shares = []
        for rank in range(ranks):
            loader = PoseDataLoader(Keys(size), batch_size, train=False, rank=rank, ranks=ranks)
            shares.append([batch[:, 0].tolist() for batch in loader])
            assert len(shares[-1]) == len(loader)
        batches = [batch for share in shares for batch in share]
        assert all(len(batch) <= batch_size for batch in batches)
        assert sorted(person for batch in batches for person in batch) == list(range(size))
        counts = [len(share) for share in shares]  # Lightning waits for ever for one without
        assert min(counts) >= 1 and max(counts) - min(counts) <= 1

    @given(sizes, batch_sizes, rank_counts)
    def test_the_same_batches_whatever_the_number_of_ranks(self, size, batch_size, ranks):
        images = np.arange(size + ranks * batch_size) // 3  # a batch for everyone
        alone = list(RankBatches(images, batch_size, 0, 1))
        shared = [b for rank in range(ranks) for b in RankBatches(images, batch_size, rank, ranks)]
        assert shared == alone

    def test_fewer_persons_than_ranks_are_refused(self):
        with pytest.raises(ValueError, match='3 persons cannot be shared by 4 processes'):
            PoseDataLoader(Keys(3), 2, train=False, rank=0, ranks=4)

    def test_in_order_and_every_time_the_same(self):
        loader = PoseDataLoader(Keys(10), 4, train=False)
        for _ in range(2):
            assert [b[:, 0].tolist() for b in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    def test_a_dataset_smaller_than_a_batch(self):
        assert [b[:, 0].tolist() for b in PoseDataLoader(Keys(2), 32, train=False)] == [[0, 1]]


class TestResuming:
    @pytest.mark.parametrize('workers', [0, 2])
    @pytest.mark.parametrize('stop', [1, 3, 5, 8, 10, 13])  # 5 batches an epoch
    def test_goes_on_with_the_very_next_batch(self, workers, stop):
        uninterrupted = stream(train_loader(23, 4, seed=2), 20)
        first = train_loader(23, 4, seed=2, num_workers=workers)
        assert stream(first, stop) == uninterrupted[:stop]
        second = train_loader(23, 4, seed=2, num_workers=workers)
        second.load_state_dict(first.state_dict())
        assert stream(second, 20 - stop) == uninterrupted[stop:]

    def test_the_state_between_batches_counts_what_was_handed_out_not_prefetched(self):
        uninterrupted = stream(train_loader(40, 4), 10)
        loader = train_loader(40, 4, num_workers=2)
        for taken, _ in enumerate(loader, 1):
            resumed = train_loader(40, 4)
            resumed.load_state_dict(loader.state_dict())
            following = stream(resumed, 1)
            if taken < 10:
                assert following == uninterrupted[taken : taken + 1]
            else:
                assert following[0][0][0] == 1  # the next epoch's first

    @given(st.lists(st.integers(1, 7), min_size=1, max_size=6))
    def test_stopped_again_and_again(self, stops):
        uninterrupted = stream(train_loader(23, 4), sum(stops))
        state, taken = train_loader(23, 4).state_dict(), []
        for batches in stops:
            loader = train_loader(23, 4)
            loader.load_state_dict(state)
            taken += stream(loader, batches)
            state = loader.state_dict()
        assert taken == uninterrupted

    def test_a_fresh_loader_s_state_is_the_beginning(self):
        loader = train_loader(23, 4)
        loader.load_state_dict(train_loader(23, 4).state_dict())
        assert stream(loader, 7) == stream(train_loader(23, 4), 7)

    def test_state_at_an_epoch_s_end_is_the_next_one_s_beginning(self):
        loader = train_loader(23, 4)
        one_epoch(loader)
        assert loader.state_dict() == {'epoch': 1, 'samples': 0, 'layout': [8, 4]}
        resumed = train_loader(23, 4)
        resumed.load_state_dict(loader.state_dict())
        assert one_epoch(resumed) == one_epoch(loader)

    def test_state_survives_its_own_loading(self):
        loader = train_loader(23, 4)
        stream(loader, 3)
        resumed = train_loader(23, 4)
        resumed.load_state_dict(loader.state_dict())
        assert resumed.state_dict() == loader.state_dict()

    @pytest.mark.parametrize('stop', [1, 2, 3, 6])
    def test_the_same_global_batch_on_another_number_of_ranks(self, stop):
        uninterrupted = stream(train_loader(26, 8), 9)
        first = train_loader(26, 8)
        stream(first, stop)
        shares = []
        for rank in range(4):
            loader = train_loader(26, 2, rank=rank, ranks=4)
            loader.load_state_dict(first.state_dict())
            shares.append(stream(loader, 9 - stop))
        together = [[k for part in parts for k in part] for parts in zip(*shares, strict=True)]
        assert together == uninterrupted[stop:]

    @given(st.integers(20, 60), batch_sizes, batch_sizes, st.integers(1, 30))
    def test_another_global_batch_goes_on_with_the_very_next_person(
        self, size, before, after, stop
    ):
        first = train_loader(size, before)
        stream(first, stop)
        state = first.state_dict()
        epoch, offset = divmod(stop, size // before)
        whole = train_loader(size, before if offset else after)  # an epoch keeps its layout
        whole.load_state_dict({'epoch': epoch, 'samples': 0})
        order, _ = whole.batch_sampler.order()
        rest = [(epoch, person) for person in order.tolist()[offset * before :]]
        assume(len(rest) >= after)  # else see test_a_rest_smaller_than_the_new_global_batch

        resumed = train_loader(size, after)
        resumed.load_state_dict(state)
        continued = [key for batch in one_epoch(resumed) for key in batch]
        assert continued == rest[: len(rest) // after * after]

    @given(st.integers(20, 60), batch_sizes, batch_sizes, st.integers(1, 30))
    def test_another_global_batch_then_the_epoch_s_end_is_known(self, size, before, after, stop):
        first = train_loader(size, before)
        stream(first, stop)
        resumed = train_loader(size, after)
        resumed.load_state_dict(first.state_dict())
        batches = one_epoch(resumed)
        again = train_loader(size, after)
        again.load_state_dict(resumed.state_dict())
        if batches:
            assert one_epoch(again) == one_epoch(resumed)  # both the next epoch, and whole
            assert resumed.state_dict()['epoch'] == batches[0][0][0] + 2

    def test_an_abandoned_epoch_is_not_gone_on_with(self):
        loader = train_loader(23, 4)
        list(itertools.islice(iter(loader), 2))  # as with limit_train_batches
        assert one_epoch(loader)[0][0][0] == 1

    def test_an_epoch_that_was_declared_over_resumes_with_the_next(self):
        loader = train_loader(40, 4)
        list(itertools.islice(iter(loader), 2))  # as with limit_train_batches
        loader.finish_epoch()
        resumed = train_loader(40, 4)
        resumed.load_state_dict(loader.state_dict())
        assert one_epoch(resumed) == one_epoch(loader)

    def test_a_rest_smaller_than_the_new_global_batch_is_left_out(self):
        first = train_loader(20, 3)
        stream(first, 6)  # 18 of 20 samples
        resumed = train_loader(20, 5)
        resumed.load_state_dict({'epoch': 0, 'samples': 18})
        assert {key[0] for batch in one_epoch(resumed) for key in batch} == {1}


class TestPersons:
    """With real samples: collated, in workers, and errors that arrive."""

    PIPELINE = [{'type': 'LoadImage'}, {'type': 'RandomBBoxTransform'}, {'type': 'TopdownAffine'}]

    def dataset(self, tmp_path, **options):
        persons = [person_entry(i, image_id=i) for i in range(1, 7)]
        path = write_dataset(tmp_path, coco_content(persons))
        return CocoStyleDataset(
            path.name, self.PIPELINE, (24, 32), data_root=str(tmp_path), **options
        )

    @pytest.mark.parametrize('workers', [0, 2])
    def test_batches_are_tensors_of_the_stated_shapes(self, tmp_path, workers):
        loader = PoseDataLoader(self.dataset(tmp_path), 3, train=True, num_workers=workers)
        batch = next(iter(loader))
        assert type(batch).__name__ == 'PoseBatch'
        shapes = {name: (tuple(v.shape), v.dtype) for name, v in batch._asdict().items()}
        assert shapes == {
            'crop': ((3, 32, 24, 3), torch.uint8),
            'keypoints': ((3, 5, 2), torch.float32),
            'visible': ((3, 5), torch.float32),
            'to_image': ((3, 2, 3), torch.float32),
            'person': ((3,), torch.int64),
            'usable': ((3,), torch.bool),
        }

    def test_augmentation_neither_repeats_nor_depends_on_workers(self, tmp_path):
        dataset = self.dataset(tmp_path)
        streams = []
        for workers in (0, 2):
            loader = PoseDataLoader(dataset, 3, train=True, num_workers=workers)
            streams.append([batch for _ in range(3) for batch in loader])
        crops = set()
        for alone, in_workers in zip(*streams, strict=True):
            for a, b in zip(alone, in_workers, strict=True):
                assert torch.equal(a, b)
            crops |= {crop.numpy().tobytes() for crop in alone.crop}
        assert len(crops) == 3 * 6

    @pytest.mark.parametrize('workers', [0, 1])
    def test_an_unreadable_image_stops_with_its_name(self, tmp_path, workers):
        dataset = self.dataset(tmp_path)
        (tmp_path / '4.png').write_bytes(b'no image')
        loader = PoseDataLoader(dataset, 6, train=True, num_workers=workers)
        with pytest.raises(DataError, match=r'4\.png') as caught:
            next(iter(loader))
        assert 'Traceback' not in str(caught.value)  # the command line prints the message alone

    @pytest.mark.filterwarnings('ignore:skipped')
    def test_a_skipped_person_keeps_its_place_in_the_batch(self, tmp_path):
        dataset = self.dataset(tmp_path, on_error='skip')
        (tmp_path / '4.png').write_bytes(b'no image')
        batch = next(iter(PoseDataLoader(dataset, 6, train=True)))
        assert sorted(batch.person.tolist()) == list(range(6))
        assert batch.person[~batch.usable].tolist() == [3]
