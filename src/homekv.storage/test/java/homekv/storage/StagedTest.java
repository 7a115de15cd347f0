package homekv.storage;

import static homekv.storage.Harness.key;
import static homekv.storage.Harness.put;
import static homekv.storage.Harness.set;
import static homekv.storage.Harness.value;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

/** Commands that are ordered and not committed yet, and stores that are made anew from what was kept of them: S2, S8, S13. */
class StagedTest {
    private static final Limits KEEPING =
            Harness.ROOMY.with(Limit.HISTORY_BYTES, Harness.ROOMY.memoryBytes()).with(Limit.HISTORY_MILLIS, 1L << 40);

    /** A store in whose turn the test always is. */
    private static final class Turn implements AutoCloseable {
        final MvccStore store;

        Turn(Limits limits, AtomicLong nanos) {
            store = new MvccStore(limits, nanos::get, false, 1);
            store.turn.lock();
        }

        Turn(Limits limits) {
            this(limits, new AtomicLong());
        }

        List<Staged> stage(List<? extends Command> commands) {
            List<Staged> group = new ArrayList<>();
            for (Command command : commands) {
                if (!store.fits(command)) {
                    store.commit(group);
                    group.clear();
                }
                Result.Refused refused = store.admit(command);
                group.add(refused != null ? Staged.answer(refused) : store.stage(command));
            }
            return group;
        }

        @Override
        public void close() {
            store.turn.unlock();
            store.checkInvariants();
            store.close();
        }
    }

    @Test
    void whatIsStagedIsSeenByCommandsThatFollowAndByNobodyElse() {
        try (Turn turn = new Turn(KEEPING)) {
            Txn increment = new Txn(List.of(), List.of(new Op.Increment(key(1), 1)), List.of());
            List<Staged> group = turn.stage(List.of(
                    set(put(key(1), value(1))),
                    increment,
                    new Command.Grant(7, 1_000),
                    increment,
                    new Command.Compact(2)));
            Result.Transacted last =
                    assertInstanceOf(Result.Transacted.class, group.get(3).result());
            assertEquals(List.of(new OpResult.Incremented(3)), last.results());
            assertEquals(3, last.revision());
            assertEquals(0, turn.store.revision());
            assertNull(turn.store.get(key(1)));
            assertNull(turn.store.lease(7));
            assertNull(turn.store.keepAlive(7));
            assertEquals(List.of(), turn.store.leases());
            Counters before = turn.store.counters();
            assertEquals(0, before.leases());
            assertEquals(0, before.txns());
            assertEquals(0, before.compactRevision());
            turn.store.commit(group);
            assertEquals(3, Harness.number(turn.store.get(key(1))));
            assertNotNull(turn.store.lease(7));
            assertEquals(2, turn.store.counters().txns());
            assertEquals(2, turn.store.counters().compactRevision());
        }
    }

    @Test
    void aStoppedStoreNeverShowsWhatWasStaged() {
        Turn turn = new Turn(KEEPING);
        turn.store.commit(turn.stage(List.of(set(put(key(1), value(1))))));
        turn.stage(List.of(set(put(key(1), value(2))), new Command.Grant(7, 1_000)));
        turn.store.stop(new Throwable("planted"));
        assertThrows(IllegalStateException.class, () -> turn.store.stage(set(put(key(1), value(3)))));
        turn.store.turn.unlock();
        turn.store.sweep();
        assertEquals(1, Harness.number(turn.store.get(key(1))));
        assertEquals(1, turn.store.revision());
        assertNull(turn.store.lease(7));
        turn.store.close();
    }

    @Test
    void whatIsStagedCountsBeforeItIsInTheAccount() {
        try (Turn turn = new Turn(Harness.ROOMY.with(Limit.MEMORY_BYTES, 10_000))) {
            Command large = set(put(key(1), Harness.bytes(6_000)));
            Command another = set(put(key(2), Harness.bytes(6_000)));
            assertTrue(turn.store.fits(large));
            List<Staged> group = turn.stage(List.of(large));
            assertFalse(turn.store.fits(another));
            assertTrue(turn.store.fits(Harness.del(key(2))));
            turn.store.commit(group);
            assertTrue(turn.store.fits(another));
            assertInstanceOf(Result.Refused.class, turn.store.admit(another));
        }
    }

    /** S9: what a range has to delete is known once it has been staged, and counts for those behind it. */
    @Test
    void aRangeThatIsDeletedCountsBeforeItIsInTheAccount() {
        try (Turn turn = new Turn(KEEPING.with(Limit.MEMORY_BYTES, 400_000))) {
            List<Write> writes = new ArrayList<>();
            for (int i = 0; i < 1_000; i++) {
                writes.add(put(key(i), value(i)));
            }
            turn.store.commit(turn.stage(List.of(new Command.Set(writes))));
            try (Snapshot snapshot = turn.store.snapshot()) {
                List<Staged> group = turn.stage(List.of(Txn.of(new Op.Delete(Range.all(), false))));
                for (int i = 0; ; i++) {
                    Command more = set(put(key(2_000 + i), Harness.bytes(1_000)));
                    if (!turn.store.fits(more)) {
                        break;
                    }
                    group.add(turn.store.stage(more));
                }
                turn.store.commit(group);
                assertTrue(turn.store.counters().heldBytes() <= 400_000, turn.store.counters()::toString);
                assertEquals(1, snapshot.revision());
            }
        }
    }

    /** What could not be logged is not staged, and does not count for those that follow it. */
    @Test
    void whatWasTakenBackCountsNoMoreOnceTheGroupHasBeenCommitted() {
        try (Turn turn = new Turn(Harness.ROOMY.with(Limit.MEMORY_BYTES, 10_000))) {
            List<Staged> group = turn.stage(List.of(set(put(key(1), Harness.bytes(6_000)))));
            turn.store.unstage(group.get(0));
            turn.store.commit(List.of());
            Command another = set(put(key(2), Harness.bytes(6_000)));
            assertTrue(turn.store.fits(another));
            assertNull(turn.store.admit(another));
        }
    }

    /** S2: how many keys a lease has is part of what a command changes. */
    @Test
    void theKeysOfALeaseAreCountedOnceTheyAreVisible() {
        try (Turn turn = new Turn(KEEPING)) {
            turn.store.commit(
                    turn.stage(List.of(new Command.Grant(7, 1_000), set(new Write.Put(key(1), value(1), 7)))));
            List<Staged> group = turn.stage(List.of(
                    set(new Write.Put(key(2), value(1), 7), new Write.Put(key(3), value(1), 7)),
                    set(new Write.Delete(key(2))),
                    set(put(key(1), value(2)))));
            assertEquals(1, turn.store.lease(7).keys());
            turn.store.commit(group);
            assertEquals(1, turn.store.lease(7).keys());
            group = turn.stage(List.of(
                    set(new Write.Put(key(4), value(1), 7)),
                    new Command.Revoke(7, 10),
                    new Command.Grant(7, 1_000),
                    set(new Write.Put(key(5), value(1), 7), new Write.Put(key(3), value(1), 7))));
            assertEquals(1, turn.store.lease(7).keys());
            turn.store.commit(group);
            assertEquals(2, turn.store.lease(7).keys());
        }
    }

    /** A lease that is ended by a command of the group takes no more keys from the next one on. */
    @Test
    void leasesAreEndedInTheOrderOfTheGroup() {
        try (Turn turn = new Turn(KEEPING)) {
            List<Staged> group = turn.stage(List.of(
                    new Command.Grant(7, 1_000),
                    set(new Write.Put(key(1), value(1), 7), new Write.Put(key(2), value(1), 7)),
                    set(put(key(1), value(2))),
                    new Command.Revoke(7, 10),
                    new Command.Revoke(7, 10),
                    set(new Write.Put(key(3), value(1), 7))));
            assertEquals(new Result.Applied(3, 1), group.get(3).result());
            assertEquals(new Result.NoLease(7), group.get(4).result());
            assertEquals(new Result.NoLease(7), group.get(5).result());
            turn.store.commit(group);
            assertNull(turn.store.lease(7));
            assertEquals(0, turn.store.counters().leases());
            assertEquals(2, Harness.number(turn.store.get(key(1))));
            assertNull(turn.store.get(key(2)));
        }
    }

    /**
     * The same commands one by one, in groups, replayed from what a log would have kept, and from a snapshot file with the
     * records after it: the same answers, and the same store at every revision that can be read.
     */
    @Test
    void groupsAndReplaysMakeTheSameStoreAsOneByOne() throws Exception {
        Harness.seeded(Harness.count(150, 5_000), random -> {
            AtomicLong nanos = new AtomicLong();
            Limits limits = random.nextInt(3) > 0 ? KEEPING : KEEPING.with(Limit.HISTORY_BYTES, random.nextInt(3_000));
            try (Turn single = new Turn(KEEPING, nanos);
                    Turn grouped = new Turn(limits, nanos);
                    Turn replayed = new Turn(KEEPING, nanos)) {
                Commands commands = new Commands(random);
                int cutAfter = random.nextInt(200);
                Saved saved = null;
                List<LogRecord> afterCut = new ArrayList<>();
                for (int done = 0; done < 200; ) {
                    if (saved == null && done >= cutAfter) {
                        saved = new Saved(random, grouped);
                    }
                    List<Command> group = new ArrayList<>();
                    for (int i = random.nextInt(8); i >= 0; i--) {
                        group.add(commands.next(done == 0 ? 0 : single.store.revision()));
                    }
                    done += group.size();
                    List<Staged> staged = grouped.stage(group);
                    assertEquals(group.size(), staged.size());
                    for (int i = 0; i < group.size(); i++) {
                        Result alone = single.store.apply(group.get(i));
                        if (!(group.get(i) instanceof Command.Compact)) { // The windows may differ.
                            assertEquals(alone, staged.get(i).result());
                        }
                        LogRecord record = staged.get(i).record();
                        if (record != null) {
                            replayed.store.replay(record);
                            if (saved != null) {
                                afterCut.add(record);
                            }
                        }
                    }
                    grouped.store.commit(staged);
                    if (saved != null) {
                        saved.goOn();
                    }
                    for (int i = 0; i < 3; i++) {
                        nanos.incrementAndGet();
                    }
                }
                single.store.expireLeases(); // None is due; the queue is in order.
                same(single.store, grouped.store);
                same(single.store, replayed.store);
                if (saved != null) {
                    try (Turn loaded = saved.load(KEEPING, nanos)) {
                        afterCut.forEach(loaded.store::replay);
                        same(single.store, loaded.store);
                        assertEquals(
                                Math.max(saved.compactRevision, lastCompacted(afterCut)),
                                loaded.store.counters().compactRevision());
                        loaded.store.turn.unlock();
                        loaded.store.checkInvariants();
                        loaded.store.turn.lock();
                    }
                }
            }
        });
    }

    private static long lastCompacted(List<LogRecord> records) {
        return records.stream()
                .mapToLong(record -> record instanceof LogRecord.Compacted compacted ? compacted.revision() : 0)
                .max()
                .orElse(0);
    }

    private static void same(MvccStore expected, MvccStore actual) {
        assertEquals(expected.revision(), actual.revision());
        assertEquals(expected.leases(), actual.leases());
        Counters counters = actual.counters();
        assertEquals(expected.counters().keys(), counters.keys());
        assertEquals(expected.counters().valueBytes(), counters.valueBytes());
        long first = Math.max(expected.counters().compactRevision(), counters.compactRevision());
        for (long revision = first; revision <= expected.revision(); revision++) {
            try (Snapshot one = expected.snapshot(revision);
                    Snapshot other = actual.snapshot(revision)) {
                assertEquals(
                        ModelTest.list(one.scan(Range.all(), false)), ModelTest.list(other.scan(Range.all(), false)));
                assertEquals(
                        ModelTest.list(one.scan(Range.all(), true)), ModelTest.list(other.scan(Range.all(), true)));
            }
        }
        for (int i = 0; i < Commands.KEYS; i++) {
            assertEquals(
                    expected.history(key(i), first, Integer.MAX_VALUE),
                    actual.history(key(i), first, Integer.MAX_VALUE));
        }
    }

    /** What a snapshot file would hold, read a few keys at a time while the store goes on. */
    private static final class Saved {
        private final SplittableRandom random;
        private final SnapshotSource source;
        private final List<Bytes> keys = new ArrayList<>();
        private final List<List<SavedVersion>> versions = new ArrayList<>();
        private boolean ended;
        private long compactRevision;

        Saved(SplittableRandom random, Turn turn) {
            this.random = random;
            source = turn.store.cut();
        }

        void goOn() {
            for (int i = random.nextInt(3); i > 0; i--) {
                step();
            }
        }

        private void step() {
            if (ended) {
                return;
            }
            if (!source.next()) {
                ended = true;
                compactRevision = source.compactRevision();
                source.close();
                return;
            }
            keys.add(source.key());
            List<SavedVersion> newestFirst = new ArrayList<>();
            for (int i = 0; i < source.versions(); i++) {
                newestFirst.add(source.version(i));
            }
            versions.add(newestFirst);
        }

        Turn load(Limits limits, AtomicLong nanos) {
            while (!ended) {
                step();
            }
            Turn turn = new Turn(limits, nanos);
            StoreLoader loader = turn.store.loader();
            source.leases().forEach(loader::lease);
            for (int i = 0; i < keys.size(); i++) {
                loader.key(keys.get(i), versions.get(i));
            }
            loader.finish(source.revision(), compactRevision, source.grants());
            return turn;
        }
    }

    private static final class Commands {
        static final int KEYS = 6;

        private final SplittableRandom random;
        private long leases;

        Commands(SplittableRandom random) {
            this.random = random;
        }

        Command next(long revision) {
            return switch (random.nextInt(10)) {
                case 0 -> {
                    boolean again = leases > 0 && random.nextBoolean();
                    yield new Command.Grant(again ? lease() : ++leases, 1L << 40);
                }
                case 1 -> new Command.Revoke(lease(), 1 + random.nextInt(3));
                case 2 -> new Command.Compact(random.nextInt(3) == 0 ? revision : revision / 2);
                case 3 -> Harness.del(key(random.nextInt(KEYS)), key(random.nextInt(KEYS)));
                case 4, 5 ->
                    new Txn(
                            List.of(Compare.absent(key(random.nextInt(KEYS)))),
                            List.of(new Op.Increment(key(random.nextInt(KEYS)), 1), new Op.Delete(range(), false)),
                            List.of(write(), write(), write()));
                default -> {
                    List<Write> writes = new ArrayList<>();
                    for (int i = random.nextInt(4); i >= 0; i--) {
                        Bytes key = key(random.nextInt(KEYS));
                        writes.add(
                                random.nextInt(4) == 0
                                        ? new Write.Delete(key)
                                        : new Write.Put(key, value(random.nextInt(100)), anyLease()));
                    }
                    yield new Command.Set(writes);
                }
            };
        }

        private Op write() {
            Bytes key = key(random.nextInt(KEYS));
            return random.nextInt(3) == 0
                    ? new Op.Delete(Range.key(key), false)
                    : new Op.Put(key, value(random.nextInt(100)), anyLease(), false);
        }

        private Range range() {
            return random.nextBoolean() ? Range.key(key(random.nextInt(KEYS))) : Range.from(key(3));
        }

        private long lease() {
            return leases == 0 ? 1 : Math.max(1, leases - random.nextInt(3));
        }

        private long anyLease() {
            return random.nextInt(3) == 0 ? lease() : 0;
        }
    }
}
