"""What every store keeps and answers: one suite for SQLite and PostgreSQL."""

import dataclasses
import os
import random
import re
import signal
import threading
import time
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from forks import forks
from galleries import IDENTITY, digest, picture, row
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from written_and_killed import COMMANDS, add_to_two_classes, give_all_commands

from src.errors import UserError
from src.gallery import edit, postgresql, sqlite
from src.gallery.record import Identity
from src.gallery.store import open_store

OTHER = dataclasses.replace(IDENTITY, checkpoint="beef" + 60 * "0", embedding_size=3)


@pytest.fixture
def store(where):
    """A gallery of classes a (1, 2) and b (3)."""
    with open_store(where, create=True) as opened:
        opened.replace(IDENTITY, {"k": 5}, [picture(1), picture(2), picture(3, "b")])
        yield opened


def numbers(store):
    return [(kept.class_name, int(kept.source[9:-4])) for kept in store.iterate()]


def test_a_gallery_holds_what_was_put_in(where):
    put = [picture(number, f"class {number % 7}") for number in range(600)]
    with open_store(where, create=True) as store:
        assert store.identity() is store.calibration() is None
        assert store.check() == ["nothing was built yet"]
        assert store.replace(IDENTITY, {"thresholds": [0.5, None]}, iter(put)) == 600
    with open_store(where) as store:
        assert store.identity() == IDENTITY
        assert store.calibration() == {"thresholds": [0.5, None]}
        kept = list(store.iterate())
        assert [row(one) for one in kept] == [row(one) for one in put]
        assert [one.sha256 for one in kept] == [one.sha256 for one in put]
        assert store.classes() == [(f"class {k}", 86 if k < 5 else 85) for k in range(7)]
        assert [row(one) for one in store.iterate("class 3")] == [row(one) for one in put[3::7]]
        assert store.check() == []


def test_embeddings_are_those_of_the_pictures(store):
    store.add(IDENTITY, [picture(4, "10"), picture(5, "9")])
    kept = list(store.iterate())
    found = store.embeddings()
    assert found.ids.tolist() == [one.id for one in kept]
    assert found.class_names == ("9", "10", "a", "b")
    assert [found.class_names[label] for label in found.labels] == [one.class_name for one in kept]
    np.testing.assert_array_equal(found.embeddings, [one.embedding for one in kept])
    assert (found.ids.dtype, found.labels.dtype) == (np.int64, np.int32)
    assert found.embeddings.dtype == np.float32
    assert found.version == store.version()


def test_an_empty_gallery_answers(where):
    with open_store(where, create=True) as store:
        for _ in range(2):
            found = store.embeddings()
            assert len(found.ids) == len(found.labels) == len(found.embeddings) == 0
            assert store.classes() == list(store.iterate()) == store.pictures([1]) == []
            store.replace(IDENTITY, {}, [])
        assert store.embeddings().embeddings.shape == (0, 8)
        assert store.check() == []


def test_more_pictures_than_a_block(where, monkeypatch):
    monkeypatch.setattr("src.gallery.rows._NARROW_BLOCK", 7)
    with open_store(where, create=True) as store:
        store.replace(IDENTITY, {}, [picture(number) for number in range(30)])
        found = store.embeddings()
    assert len(set(found.ids.tolist())) == 30
    np.testing.assert_array_equal(found.embeddings, [picture(n).embedding for n in range(30)])


def test_the_same_picture_in_the_same_class_is_stored_once(store):
    again, under_another, new, twice = store.add(
        IDENTITY, [picture(1), picture(1, "b"), picture(9, "b"), picture(9, "b")]
    )
    assert (again.is_new, again.also_in) == (False, ())
    assert (under_another.is_new, under_another.also_in) == (True, ("a",))
    assert (new.is_new, new.also_in) == (True, ())
    assert (twice.is_new, twice.id) == (False, new.id)
    assert numbers(store) == [("a", 1), ("a", 2), ("b", 3), ("b", 1), ("b", 9)]
    assert store.pictures([again.id])[0].source == "pictures/1.png"


def test_the_same_picture_is_stored_once_by_replace_too(where):
    put = [picture(number % 300) for number in range(700)]
    with open_store(where, create=True) as store:
        assert store.replace(IDENTITY, {}, put) == 300


def test_a_picture_is_its_shape_and_its_pixels():
    image = np.zeros((4, 5, 1), np.uint8)
    turned = picture(1, image=image.reshape(5, 4, 1))
    assert picture(1, image=image).sha256 != turned.sha256


def test_ids_are_never_used_again(where):
    seen = []
    for number in range(4):
        with open_store(where, create=True) as store:
            if number % 2 == 0:
                store.replace(IDENTITY, {}, [picture(1), picture(2)])
            seen += store.embeddings().ids.tolist() if number % 2 == 0 else []
            seen += [added.id for added in store.add(IDENTITY, [picture(10 + number)])]
            assert store.remove_picture(seen[-1]).id == seen[-1]
    assert len(set(seen)) == len(seen)
    assert seen == sorted(seen)


def test_pictures_by_id_are_in_the_order_asked_for(store):
    ids = store.embeddings().ids.tolist()
    asked = [ids[2], 999, ids[0], ids[2]]
    assert [kept.id for kept in store.pictures(asked)] == [ids[2], ids[0], ids[2]]
    assert store.sources(asked) == {
        ids[2]: ("b", "pictures/3.png"),
        ids[0]: ("a", "pictures/1.png"),
    }
    many = list(range(-2000, 2000))
    assert len(store.pictures(many)) == len(store.sources(many)) == 3


def test_removing(store):
    ids = store.embeddings().ids.tolist()
    removed = store.remove_picture(ids[0])
    assert row(removed) == row(picture(1))
    assert store.remove_picture(ids[0]) is None
    assert store.remove_class("a") == 1
    assert store.remove_class("a") == 0
    assert store.classes() == [("b", 1)]
    assert store.embeddings().class_names == ("b",)


def test_moving(store):
    ids = store.embeddings().ids.tolist()
    moved = store.move(ids[2], "c")
    assert (moved.id, moved.class_name) == (ids[2], "c")
    assert store.classes() == [("a", 2), ("c", 1)]
    assert store.move(999, "c") is None
    (twin,) = store.add(IDENTITY, [picture(1, "c")])
    assert store.move(twin.id, "a").id == ids[0]
    assert store.classes() == [("a", 2), ("c", 1)]
    version = store.version()
    assert store.move(ids[0], "a").id == ids[0]
    assert store.version() == version
    assert store.check() == []


def test_class_names_are_kept_in_normal_form(store):
    store.add(
        IDENTITY, [picture(11, " caf\u0065\u0301\u200b\n au  lait"), picture(12, "\x1b[1m\0")]
    )
    names = [name for name, _ in store.classes()]
    assert names == ["\\x1b[1m\\x00", "a", "b", "caf\u00e9 au lait"]
    assert store.remove_class("caf\u0065\u0301 au lait") == 1
    assert len(list(store.iterate("\x1b[1m\0"))) == 1
    for bad in ("", " \u200b", "x" * 201):
        with pytest.raises(UserError, match="class name: found .*; accepted: 1 to 200 characters"):
            store.add(IDENTITY, [picture(13, bad)])
    store.add(IDENTITY, [picture(14, "<img src=x onerror=alert(1)>'; DROP TABLE classes; --")])
    assert store.check() == []


def test_sources_of_any_bytes_can_be_kept(store):
    (added,) = store.add(IDENTITY, [picture(11, source="caf\udce9\0\n.png")])
    assert store.pictures([added.id])[0].source == "caf\\udce9\\x00\\n.png"


def test_a_gallery_belongs_to_one_checkpoint(store):
    other = dataclasses.replace(IDENTITY, checkpoint=64 * "d", step=7)
    with pytest.raises(UserError, match=r"checkpoint c0ffee000000 of tiny .*found dddd.*rebuild"):
        store.add(other, [picture(5)])
    assert len(numbers(store)) == 3
    store.replace(OTHER, {}, [picture(5, identity=OTHER)])
    assert store.embeddings().embeddings.shape == (1, 3)


def test_nothing_is_added_before_a_build(where):
    with (
        open_store(where, create=True) as store,
        pytest.raises(UserError, match=r"an empty gallery; accepted: .*gallery.py build"),
    ):
        store.add(IDENTITY, [picture(5)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": np.zeros((5, 4, 1), np.uint8)},
        {"image": np.zeros((4, 5, 1), np.float32)},
        {"embedding": np.zeros(7, np.float32)},
        {"embedding": np.zeros(8)},
        {"embedding": np.full(8, np.nan, np.float32)},
    ],
)
def test_pictures_that_do_not_fit_are_a_bug(store, wrong):
    with pytest.raises(ValueError, match="image|embedding") as caught:
        store.add(IDENTITY, [picture(5), picture(6, **wrong)])
    assert not isinstance(caught.value, UserError)
    assert len(numbers(store)) == 3


def test_a_failure_leaves_everything_as_before(store):
    before, version = digest(store.iterate()), store.version()

    def pictures():
        yield from (picture(number, "new") for number in range(600))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.replace(OTHER, {}, (picture(1, identity=OTHER) for _ in pictures()))
    assert (digest(store.iterate()), store.version()) == (before, version)
    assert store.identity() == IDENTITY
    assert store.check() == []


def test_a_gallery_can_be_rebuilt_from_itself(store):
    store.replace(
        OTHER,
        {},
        (picture(int(kept.source[9:-4]), kept.class_name, OTHER) for kept in store.iterate()),
    )
    assert numbers(store) == [("a", 1), ("a", 2), ("b", 3)]
    assert store.identity() == OTHER


def test_readers_see_the_old_gallery_until_the_new_one_is_whole(store, where):
    before = digest(store.iterate())
    with open_store(where) as reader:

        def pictures():
            for number in range(600):
                if number % 200 == 0:
                    assert digest(reader.iterate()) == before
                    assert len(reader.embeddings().ids) == 3
                yield picture(number, "new")

        store.replace(IDENTITY, {}, pictures())
        assert len(reader.embeddings().ids) == 600


def test_what_is_iterated_is_of_one_version(store, where):
    store.add(IDENTITY, [picture(number) for number in range(100, 800)])
    iterated = store.iterate()
    first = next(iterated)
    with open_store(where) as writer:
        writer.remove_class("b")
        writer.replace(IDENTITY, {}, [picture(7)])
    assert len([first, *iterated]) == 703
    assert numbers(store) == [("a", 7)]


def test_changes_since_a_version(store):
    start = store.version()
    assert start == store.embeddings().version
    ids = store.embeddings().ids.tolist()
    store.add(IDENTITY, [picture(1)])
    assert store.version() == start
    (added,) = store.add(IDENTITY, [picture(8, "c")])
    store.move(ids[1], "c")
    store.remove_class("b")
    changes = store.changes_since(start)
    assert sorted(changes.gone.tolist()) == [ids[1], ids[2], added.id]
    assert changes.added.ids.tolist() == [ids[1], added.id]
    assert changes.added.version == store.version()
    assert len(store.changes_since(store.version()).gone) == 0
    assert store.changes_since(store.version() + 1) is None
    store.replace(IDENTITY, {}, [picture(1)])
    assert store.changes_since(start) is None
    assert len(store.changes_since(store.version()).gone) == 0


def test_old_changes_are_forgotten(store, monkeypatch):
    monkeypatch.setattr(edit, "_KEPT_VERSIONS", 3)
    start = store.version()
    for number in range(4):
        store.add(IDENTITY, [picture(20 + number)])
    assert store.changes_since(start) is None
    assert len(store.changes_since(start + 1).gone) == 3
    with store.reading() as session:
        assert session.execute("SELECT count(*) FROM changes") == [(3,)]


class _Machine(RuleBasedStateMachine):
    """A store beside a dictionary that does the same."""

    def __init__(self, where):
        super().__init__()
        self.where = where
        self.store = open_store(where, create=True)
        self.store.replace(IDENTITY, {}, [])
        self.model = {}  # id -> (class, number)
        self.mirror = self.store.embeddings()
        self.mirrored = {}

    names = st.sampled_from(["a", "b", "c", "10"])
    pictures = st.lists(st.tuples(names, st.integers(0, 5)), max_size=4)

    def _ids(self):
        return [*self.model, 10**6]

    @rule(rows=pictures)
    def add(self, rows):
        added = self.store.add(IDENTITY, [picture(number, name) for name, number in rows])
        for (name, number), one in zip(rows, added, strict=True):
            assert one.is_new == ((name, number) not in self.model.values())
            others = {n for n, k in self.model.values() if k == number and n != name}
            assert set(one.also_in) == others
            self.model.setdefault(one.id, (name, number))
            assert self.model[one.id] == (name, number)

    @rule(rows=pictures)
    def replace(self, rows):
        old = self.model
        count = self.store.replace(IDENTITY, {}, (picture(number, name) for name, number in rows))
        assert count == len(set(rows))
        ids = self.store.embeddings().ids.tolist()
        self.model = dict(zip(ids, dict.fromkeys(rows), strict=True))
        assert not old.keys() & self.model.keys()

    @rule(name=names)
    def remove_class(self, name):
        removed = [one for one, (other, _) in self.model.items() if other == name]
        assert self.store.remove_class(name) == len(removed)
        for one in removed:
            del self.model[one]

    @rule(data=st.data())
    def remove_picture(self, data):
        one = data.draw(st.sampled_from(self._ids()))
        removed = self.store.remove_picture(one)
        assert (removed is None) == (one not in self.model)
        self.model.pop(one, None)

    @rule(data=st.data(), name=names)
    def move(self, data, name):
        one = data.draw(st.sampled_from(self._ids()))
        moved = self.store.move(one, name)
        if one not in self.model:
            assert moved is None
            return
        number = self.model.pop(one)[1]
        twins = [other for other, row in self.model.items() if row == (name, number)]
        kept = twins[0] if twins else one
        assert (moved.id, moved.class_name) == (kept, name)
        self.model[kept] = (name, number)

    @rule()
    def reopen(self):
        self.store.close()
        self.store = open_store(self.where)

    @invariant()
    def equals_the_model(self):
        expected = [(one, *self.model[one]) for one in sorted(self.model)]
        found = self.store.embeddings()
        names = [found.class_names[label] for label in found.labels]
        assert list(zip(found.ids.tolist(), names, strict=True)) == [e[:2] for e in expected]
        for (_, _, number), embedding in zip(expected, found.embeddings, strict=True):
            np.testing.assert_array_equal(embedding, picture(number).embedding)
        assert dict(self.store.classes()) == {
            name: sum(name == other for _, other, _ in expected) for _, name, _ in expected
        }
        assert digest(self.store.iterate()) == digest(picture(k, name) for _, name, k in expected)

    @invariant()
    def the_changes_lead_to_it(self):
        changes = self.store.changes_since(self.mirror.version)
        found = self.store.embeddings()
        if changes is None:
            self.mirrored = {}
            added = found
        else:
            for gone in changes.gone.tolist():
                self.mirrored.pop(gone, None)
            added = changes.added
        for one, label, vector in zip(*added[:2], added.embeddings, strict=True):
            self.mirrored[int(one)] = (added.class_names[label], vector.tobytes())
        self.mirror = found
        assert self.mirrored == {
            int(one): (found.class_names[label], vector.tobytes())
            for one, label, vector in zip(*found[:2], found.embeddings, strict=True)
        }

    def teardown(self):
        assert self.store.check() == []
        self.store.close()


def test_any_order_of_commands(where):
    run_state_machine_as_test(
        lambda: _Machine(where),
        settings=settings(
            max_examples=15,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture(scope="module")
def processes():
    """Runs the functions of `written_and_killed.py` in processes of their own."""
    with forks("written_and_killed", Path(__file__).parent) as started:
        yield started


@pytest.mark.system
def test_a_kill_leaves_the_gallery_as_before_or_as_after(where, processes):
    contents = [state for _, state in COMMANDS]
    states = [digest(state) for state in contents]
    assert len(set(states)) == len(states) - 1  # the last leads back to the first
    with open_store(where, create=True) as store:
        store.replace(IDENTITY, {}, contents[-1])

    rng = random.Random(0)
    places = set()
    for _ in range(50):
        pid, reading = processes.start(give_all_commands, where)
        os.read(reading, 1)  # the first command is done
        time.sleep(rng.random() * 0.03)
        os.kill(pid, signal.SIGKILL)
        assert processes.wait(pid) == -signal.SIGKILL
        num_done = 1
        while more := os.read(reading, 1000):
            num_done += len(more)
        os.close(reading)
        with open_store(where) as store:
            assert store.check() == []
            found = digest(store.iterate())
        # What was done is there. The command under way was done, or was not.
        allowed = {states[(num_done - 1) % len(states)], states[num_done % len(states)]}
        assert found in allowed
        places.add(num_done % len(states))
    assert len(places) > 2, "all kills came during the same commands"


def test_two_writers_at_once(where, processes):
    with open_store(where, create=True) as store:
        store.replace(IDENTITY, {}, [])
    children = [processes.start(add_to_two_classes, where, start) for start in (100, 200)]
    for pid, reading in children:
        assert processes.wait(pid) == 0
        os.close(reading)
    with open_store(where) as store:
        assert store.classes() == [("both", 1), ("class 100", 25), ("class 200", 25)]
        assert store.version() == 51
        assert store.check() == []


def test_a_writer_gives_up_in_the_end(where, monkeypatch):
    for module in (sqlite, postgresql):
        monkeypatch.setattr(module, "BUSY_SECONDS", 1)
    with open_store(where, create=True) as first, open_store(where) as second:
        first.replace(IDENTITY, {}, [picture(1)])

        def pictures():
            yield picture(2)
            with pytest.raises(UserError, match="another program is writing, nothing was changed"):
                second.add(IDENTITY, [picture(3)])

        first.replace(IDENTITY, {}, pictures())
        second.add(IDENTITY, [picture(3)])
        assert numbers(first) == [("a", 2), ("a", 3)]


def test_threads_share_a_store(store):
    failures = []

    def work(start):
        try:
            for number in range(start, start + 10):
                (added,) = store.add(IDENTITY, [picture(number, "threads")])
                assert store.pictures([added.id])[0].source == f"pictures/{number}.png"
                assert added.id in store.embeddings().ids
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(1000 * k,)) for k in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert dict(store.classes())["threads"] == 60


DAMAGES = {
    "UPDATE pictures SET image = (SELECT image FROM pictures WHERE id = 2) WHERE id = 1": "SHA-256",
    "UPDATE pictures SET thumbnail = image WHERE id = 1": "no PNG",
    "UPDATE pictures SET time = 'yesterday' WHERE id = 1": "the time is 'yesterday'",
    "DELETE FROM pictures WHERE id = 1": "missing: source, time, image, thumbnail",
    "UPDATE enrolled SET crc32 = 5 WHERE id = 1": "CRC-32",
    "UPDATE pictures SET image = thumbnail WHERE id = 1": "an image of .* bytes, not 20",
}


@pytest.mark.parametrize("statement", DAMAGES)
def test_damage_is_found(store, statement):
    with store.writing() as session:
        session.execute(statement)
    (problem,) = store.check()
    assert problem.startswith("picture 1: ")
    assert re.search(DAMAGES[statement], problem)


def test_no_damaged_picture_is_answered_with(store):
    with store.writing() as session:
        session.execute("UPDATE enrolled SET crc32 = 5 WHERE id = 1")
        session.execute("UPDATE pictures SET image = thumbnail WHERE id = 2")
    for read in (
        store.embeddings,
        lambda: store.pictures([1]),
        lambda: list(store.iterate()),
        lambda: store.pictures([2]),
        lambda: store.remove_picture(2),
    ):
        with pytest.raises(UserError, match=r"damaged: .*; accepted: a whole gallery"):
            read()
    assert len(store.pictures([3])) == 1


def test_an_unreadable_head_is_damage(store):
    with store.writing() as session:
        session.execute("UPDATE gallery SET identity = '{\"step\": 3'")
    with pytest.raises(UserError, match="damaged: the table gallery cannot be read"):
        store.identity()


def test_a_newer_format_is_refused(store, where):
    with store.writing() as session:
        session.execute("UPDATE gallery SET format = 2")
    with pytest.raises(UserError, match="a gallery of format 2; accepted: format 1"):
        open_store(where)
    with pytest.raises(UserError, match="a gallery of format 2; accepted: format 1"):
        open_store(where, create=True)


def test_a_gallery_must_exist(where):
    with pytest.raises(UserError, match="no gallery; accepted: one that gallery.py build"):
        open_store(where)


def test_other_addresses_are_refused():
    with pytest.raises(UserError, match=r"begins with mysql://; accepted: .*postgresql://"):
        open_store("mysql://localhost/x")


def test_the_identity_survives_as_it_is(where):
    identity = Identity("ab" * 32, 10**9, (224, 224, 3), 1280, "mean_squared", "a name: ü/\u4e2d")
    with open_store(where, create=True) as store:
        store.replace(identity, {}, [])
        assert store.identity() == identity
