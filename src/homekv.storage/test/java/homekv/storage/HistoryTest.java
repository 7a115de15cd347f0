package homekv.storage;

import static homekv.storage.Harness.ROOMY;
import static homekv.storage.Harness.await;
import static homekv.storage.Harness.bytes;
import static homekv.storage.Harness.del;
import static homekv.storage.Harness.delete;
import static homekv.storage.Harness.key;
import static homekv.storage.Harness.number;
import static homekv.storage.Harness.put;
import static homekv.storage.Harness.set;
import static homekv.storage.Harness.value;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

/** The history window: which revisions can be read, and what bounds them: S4, S6, S13. */
class HistoryTest {
    private static final Bytes K = Bytes.utf8("k");
    private static final long MILLI = 1_000_000;

    /** A window without bounds. */
    private static final Limits ENDLESS =
            ROOMY.with(Limit.HISTORY_BYTES, ROOMY.memoryBytes()).with(Limit.HISTORY_MILLIS, 1L << 40);

    private static void assertOutOfRange(MvccStore store, long revision, long first, long last) {
        List<Runnable> reads = List.of(
                () -> store.read(List.of(K), revision),
                () -> store.snapshot(revision),
                () -> store.history(K, revision, 1));
        for (Runnable read : reads) {
            RevisionOutOfRangeException outOfRange = assertThrows(RevisionOutOfRangeException.class, read::run);
            assertEquals(first, outOfRange.first());
            assertEquals(last, outOfRange.last());
        }
    }

    private static void assertRead(MvccStore store, long revision, long number) {
        assertEquals(number, number(store.read(List.of(K), revision).entries().get(0)));
        try (Snapshot snapshot = store.snapshot(revision)) {
            assertEquals(revision, snapshot.revision());
            assertEquals(number, number(snapshot.get(K)));
        }
    }

    // ---- Bounds ----

    /** S13: the window gives up no more than it has to, and is over its limit by no more than a commit, until a sweep. */
    @Test
    void theWindowIsAsLargeAsAllowedAndNoLarger() {
        try (Harness none = new Harness();
                Harness kv = new Harness(ENDLESS.with(Limit.HISTORY_BYTES, 10_000))) {
            long largestCommit = 0;
            for (int i = 1; i <= 500; i++) {
                Command command = i % 10 == 0
                        ? del(K)
                        : set(put(K, bytes(i % 200)), put(key(i % 7), value(i)), put(key(7), bytes(300)));
                long heldBefore = kv.store.counters().heldBytes();
                none.applied(command);
                kv.applied(command);
                Counters counters = kv.store.counters();
                long windowBytes = counters.heldBytes() - none.store.counters().heldBytes();
                largestCommit = Math.max(largestCommit, counters.heldBytes() - heldBefore);
                assertTrue(windowBytes <= 10_000 + largestCommit, () -> "the window takes " + windowBytes + " bytes");
                if (counters.compactRevision() > 0) {
                    // Less by the last commit that had to leave, and by keys that were deleted and are back.
                    assertTrue(windowBytes > 10_000 - 2 * largestCommit, () -> "only " + windowBytes + " bytes");
                }
                if (i % 7 == 0) {
                    kv.store.sweep();
                    long swept = kv.store.counters().heldBytes()
                            - none.store.counters().heldBytes();
                    assertTrue(swept <= 10_000, () -> "the window takes " + swept + " bytes");
                }
            }
            assertTrue(kv.store.counters().compactRevision() > 400);
            assertTrue(kv.store.counters().compactRevision() < 500);
            kv.store.checkInvariants();
        }
    }

    /** S13: a deleted key stays in the map for the window's sake, and can be what takes most of it. */
    @Test
    void deletedKeysCountTowardsTheWindow() {
        try (Harness kv = new Harness(ENDLESS.with(Limit.HISTORY_BYTES, 100_000))) {
            for (int length = 10_000; length < 10_100; length++) {
                kv.applied(set(put(bytes(length), bytes(0))));
                kv.applied(del(bytes(length)));
                Counters counters = kv.store.counters();
                assertTrue(counters.heldBytes() <= 100_000 + 11_000, counters::toString);
            }
            kv.store.sweep();
            assertTrue(kv.store.counters().heldBytes() <= 100_000);
            assertTrue(kv.store.counters().heldBytes() > 80_000);
        }
    }

    /** S13: a revision can be read for as long as the window reaches back after the next one took its place. */
    @Test
    void aRevisionIsKeptForTheWholeTimeAndNotLonger() {
        try (Harness kv = new Harness(ENDLESS.with(Limit.HISTORY_MILLIS, 1_000))) {
            for (int i = 1; i <= 5; i++) {
                kv.nanos.set(i * 10 * MILLI);
                kv.applied(set(put(K, value(i))));
            }
            for (int i = 1; i <= 5; i++) {
                kv.nanos.set((i * 10 + 1_000) * MILLI);
                kv.store.sweep();
                assertEquals(i - 1, kv.store.counters().compactRevision());
                assertRead(kv.store, Math.max(1, i - 1), Math.max(1, i - 1));
                kv.nanos.incrementAndGet();
                kv.store.sweep();
                assertEquals(i, kv.store.counters().compactRevision());
                assertOutOfRange(kv.store, i - 1, i, 5);
                assertRead(kv.store, i, i);
            }
            kv.assertNothingHeldButLiveKeys();
        }
    }

    @Test
    void theAgeOfARevisionIsRightWhenTheClockOverflows() {
        try (Harness kv = new Harness(ENDLESS.with(Limit.HISTORY_MILLIS, 10))) {
            kv.nanos.set(Long.MAX_VALUE - 4 * MILLI);
            kv.applied(set(put(K, value(1))));
            kv.nanos.addAndGet(10 * MILLI);
            assertTrue(kv.nanos.get() < 0);
            kv.store.sweep();
            assertEquals(0, kv.store.counters().compactRevision());
            kv.nanos.incrementAndGet();
            kv.store.sweep();
            assertEquals(1, kv.store.counters().compactRevision());
        }
    }

    /** S13: nobody has to write for it. */
    @Test
    void theBackgroundThreadGivesUpWhatIsTooOld() {
        try (Harness kv = new Harness(ENDLESS.with(Limit.HISTORY_MILLIS, 20), true)) {
            for (int round = 1; round <= 3; round++) {
                for (int i = 0; i < 3_000; i++) {
                    kv.applied(set(put(key(i), value(round))));
                }
                kv.applied(new Command.Del(MvccStoreTest.keys(3_000)));
                long revision = kv.store.revision();
                kv.nanos.addAndGet(20 * MILLI + 1);
                await("all that is old has gone", () -> kv.store.counters().heldBytes() == 0);
                assertEquals(revision, kv.store.counters().compactRevision());
                kv.store.checkInvariants();
            }
        }
    }

    /** S9: the window is what is given up first, before snapshots and before a put is refused, and only as far as needed. */
    @Test
    void theWindowGivesWayToPutsAndNoFurtherThanTheyNeed() {
        try (Harness kv = new Harness(ENDLESS.with(Limit.MEMORY_BYTES, 100_000))) {
            kv.applied(set(put(K, bytes(9_000))));
            Snapshot snapshot = kv.store.snapshot();
            for (int i = 0; i < 50; i++) {
                kv.applied(set(put(K, bytes(9_000))));
                assertTrue(kv.store.counters().heldBytes() <= 100_000);
            }
            Counters counters = kv.store.counters();
            assertEquals(51, counters.revision());
            assertTrue(counters.heldBytes() > 80_000, "as full as it can be");
            assertEquals(1, snapshot.get(K).modificationRevision());
            kv.applied(set(put(key(1), bytes(70_000))));
            assertEquals(1, snapshot.get(K).modificationRevision(), "giving up revisions was enough");
            assertTrue(kv.store.counters().heldBytes() <= 100_000);
            snapshot.close();
            kv.applied(set(put(key(2), bytes(15_000))));
            kv.refused(set(put(key(3), bytes(15_000))));
            kv.store.checkInvariants();
        }
    }

    /** S5, S13: no commit is kept of what has left the window, however many keys it had and few the next ones have. */
    @Test
    void aLargeCommitLeavesTheWindowALittleWithEachSmallOneAfterIt() {
        try (Harness kv = new Harness(ENDLESS.with(Limit.HISTORY_BYTES, 200))) {
            List<Bytes> keys = MvccStoreTest.keys(1_000);
            List<Write> writes = keys.stream().map(key -> put(key, value(1))).toList();
            kv.applied(new Command.Set(writes));
            kv.applied(new Command.Set(writes));
            kv.applied(new Command.Del(keys));
            Snapshot snapshot = kv.store.snapshot(kv.store.counters().compactRevision());
            for (int i = 0; i < 1_000; i++) {
                kv.applied(set(put(K, value(1))));
                kv.store.checkInvariants();
            }
            snapshot.close();
            kv.applied(set(put(K, value(1))));
            kv.applied(set(put(K, value(1))));
            assertTrue(
                    kv.store.counters().versions() < 20,
                    () -> kv.store.counters().toString());
            kv.applied(new Command.Compact(kv.store.revision()));
            kv.assertNothingHeldButLiveKeys();
        }
    }

    // ---- Compaction ----

    /** S13 */
    @Test
    void compactingGivesUpExactlyWhatItSays() {
        try (Harness kv = new Harness(ENDLESS)) {
            for (int i = 1; i <= 10; i++) {
                kv.applied(set(put(K, value(i)), i % 2 == 0 ? delete(key(1)) : put(key(1), value(i))));
            }
            assertEquals(20, kv.store.counters().versions());
            Counters before = kv.store.counters();
            assertEquals(new Result.Applied(10, 0), kv.applied(new Command.Compact(5)));
            kv.store.sweep();
            kv.store.checkInvariants();
            Counters after = kv.store.counters();
            assertEquals(before.commands(), after.commands());
            assertEquals(5, after.compactRevision());
            assertEquals(12, after.versions());
            for (int i = 1; i <= 10; i++) {
                if (i < 5) {
                    assertOutOfRange(kv.store, i, 5, 10);
                } else {
                    assertRead(kv.store, i, i);
                    Entry other = kv.store.read(List.of(key(1)), i).entries().get(0);
                    assertEquals(i % 2 == 0 ? null : new Entry(key(1), value(i), i, i, 1, 0), other);
                    assertEquals(11 - i, kv.store.history(K, i, 100).size());
                }
            }
            assertOutOfRange(kv.store, 11, 5, 10);
            assertOutOfRange(kv.store, -1, 5, 10);
            assertEquals(new Result.OutOfRange(4, 5, 10), kv.log.submit(new Command.Compact(4)));
            assertEquals(new Result.OutOfRange(11, 5, 10), kv.log.submit(new Command.Compact(11)));
            assertEquals(after, kv.store.counters());
            kv.applied(new Command.Compact(5));
            kv.applied(new Command.Compact(10));
            kv.assertNothingHeldButLiveKeys();
            assertRead(kv.store, 10, 10);
        }
    }

    /** S4, S6: what open snapshots see stays, and what they alone see goes when they close. */
    @Test
    void compactingTakesNothingThatAnOpenSnapshotSees() {
        try (Harness kv = new Harness(ENDLESS)) {
            for (int i = 1; i <= 100; i++) {
                kv.applied(i % 10 == 9 ? del(K) : set(put(K, value(i))));
            }
            List<Snapshot> open = new ArrayList<>();
            for (int i = 0; i <= 100; i += 3) {
                open.add(kv.store.snapshot(i));
            }
            for (int compactTo : new int[] {50, 99, 100}) {
                kv.applied(new Command.Compact(compactTo));
                kv.store.sweep();
                kv.store.checkInvariants();
                for (Snapshot snapshot : open) {
                    long revision = snapshot.revision();
                    if (revision == 0 || revision % 10 == 9) {
                        assertNull(snapshot.get(K));
                    } else {
                        assertEquals(revision, number(snapshot.get(K)));
                    }
                }
            }
            open.forEach(Snapshot::close);
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** S13: the readings of an older revision pin it, too, though there are other ways to keep it. */
    @Test
    void asManySnapshotsOfOlderRevisionsAsAllowedAreOpen() {
        try (Harness kv = new Harness(ENDLESS.with(Limit.OPEN_SNAPSHOTS, 3))) {
            kv.applied(set(put(K, value(1))));
            kv.applied(set(put(K, value(2))));
            for (int round = 0; round < 3; round++) {
                try (Snapshot first = kv.store.snapshot(1);
                        Snapshot second = kv.store.snapshot(1);
                        Snapshot third = kv.store.snapshot(0)) {
                    assertThrows(IllegalStateException.class, () -> kv.store.snapshot(1));
                    assertOutOfRange(kv.store, 3, 0, 2);
                    assertRead(kv, 1);
                    assertEquals(1, number(first.get(K)));
                    assertEquals(1, number(second.get(K)));
                    assertNull(third.get(K));
                }
            }
        }
    }

    private static void assertRead(Harness kv, long revision) {
        assertEquals(
                revision, number(kv.store.read(List.of(K), revision).entries().get(0)));
    }

    /** S13: what a key has been, of which the oldest are wanted first, however long its chain is. */
    @Test
    void theHistoryOfAKeyBeginsWithWhatItWasAndEndsWhereItIsTold() {
        try (Harness kv = new Harness(ENDLESS)) {
            for (int i = 1; i <= 200; i++) {
                kv.applied(i % 5 == 0 ? del(K) : set(put(K, value(i))));
            }
            assertEquals(200, kv.store.history(K, 0, Integer.MAX_VALUE).size());
            assertEquals(
                    new Event.Put(new Entry(K, value(6), 6, 6, 1, 0), null),
                    kv.store.history(K, 6, 1).get(0));
            assertEquals(
                    List.of(
                            new Event.Put(new Entry(K, value(9), 6, 9, 4, 0), null),
                            new Event.Delete(K, 10, null),
                            new Event.Put(new Entry(K, value(11), 11, 11, 1, 0), null)),
                    kv.store.history(K, 9, 3));
            assertEquals(
                    List.of(new Event.Put(new Entry(K, value(11), 11, 11, 1, 0), null)), kv.store.history(K, 10, 1));
            assertEquals(List.of(), kv.store.history(K, 200, 5));
            assertEquals(List.of(), kv.store.history(key(1), 0, 5));
            assertThrows(IllegalArgumentException.class, () -> kv.store.history(K, 0, 0));
        }
    }

    // ---- Concurrency ----

    /** S13: what is given up while it is being walked through is not left out in silence. */
    @Test
    void theHistoryOfAKeyIsWholeOrRefusedWhileItIsCompacted() throws Exception {
        int versions = Harness.count(20_000, 500_000);
        AtomicInteger whole = new AtomicInteger();
        try (Harness kv = new Harness(ENDLESS);
                Harness.Crew crew = new Harness.Crew()) {
            for (int i = 1; i <= versions; i++) {
                kv.applied(set(put(K, value(i))));
            }
            kv.applied(new Command.Compact(1));
            for (int reader = 0; reader < 2; reader++) {
                crew.start(() -> {
                    long from;
                    do {
                        from = kv.store.counters().compactRevision();
                        try {
                            List<Event> events = kv.store.history(K, from, Integer.MAX_VALUE);
                            // No more than so many are looked for at a time, the oldest.
                            assertEquals(Math.min(1 << 16, versions - from + 1), events.size());
                            assertEquals(from, events.get(0).revision());
                            whole.incrementAndGet();
                        } catch (RevisionOutOfRangeException e) {
                            assertTrue(from < e.first());
                        }
                    } while (from < versions && !crew.failed());
                });
            }
            crew.start(() -> {
                for (int revision = 2; revision <= versions && !crew.failed(); revision++) {
                    if (revision % 3 == 0 || revision == versions) {
                        kv.applied(new Command.Compact(revision));
                    }
                }
            });
        }
        assertTrue(whole.get() > 0);
    }

    /** So many revisions apart, so that readers find kept ones on any machine. */
    private static final int COMPACTED_EVERY = 50;

    private static final int ACCOUNTS = 16;
    private static final long TOTAL = 100L * ACCOUNTS;

    /**
     * S4, S13: amounts move between accounts, old revisions leave the window for its size and its age and because
     * somebody compacts, and every revision that can be read has the same sum as when it was new, and the same entries.
     */
    @Test
    void everyKeptRevisionReadsAsItDidWhenItWasNew() throws Exception {
        int transfers = Harness.count(20_000, 1_000_000);
        int readers = 3;
        int reads = Harness.count(8_000, 400_000);
        AtomicLong kept = new AtomicLong();
        Harness.seeded(1, random -> {
            List<Bytes> accounts = MvccStoreTest.keys(ACCOUNTS);
            Limits limits = ENDLESS.with(Limit.HISTORY_BYTES, 60_000).with(Limit.HISTORY_MILLIS, 1_000);
            try (Harness kv = new Harness(limits, true)) {
                kv.applied(new Command.Set(accounts.stream()
                        .map(account -> put(account, value(100)))
                        .toList()));
                ConcurrentSkipListMap<Long, List<Entry>> whenNew = new ConcurrentSkipListMap<>();
                AtomicInteger running = new AtomicInteger(readers);
                try (Snapshot opening = kv.store.snapshot();
                        Harness.Crew crew = new Harness.Crew()) {
                    List<Entry> openingEntries = opening.get(accounts);
                    SplittableRandom teller = random.split();
                    crew.start(() -> {
                        for (int i = 0; (i < transfers || running.get() > 0) && !crew.failed(); i++) {
                            transfer(kv, teller);
                            kv.nanos.addAndGet(MILLI);
                            Reading now = kv.store.read(accounts);
                            whenNew.put(now.revision(), now.entries());
                            whenNew.headMap(kv.store.counters().compactRevision())
                                    .clear();
                        }
                    });
                    SplittableRandom compactor = random.split();
                    crew.start(() -> {
                        for (long next = 0; running.get() > 0 && !crew.failed(); ) {
                            long revision = kv.store.revision();
                            if (revision >= next) {
                                kv.log.submit(new Command.Compact(revision - compactor.nextInt(150)));
                                next = revision + COMPACTED_EVERY;
                            }
                            Thread.yield();
                        }
                    });
                    for (int reader = 0; reader < readers; reader++) {
                        SplittableRandom own = random.split();
                        crew.startVirtual(() -> {
                            try {
                                for (int i = 0; i < reads && !crew.failed(); i++) {
                                    kept.addAndGet(readSomeRevision(kv.store, own, accounts, whenNew) ? 1 : 0);
                                    if (i % 100 == 0) {
                                        assertEquals(openingEntries, opening.get(accounts));
                                    }
                                    Thread.yield();
                                }
                            } finally {
                                running.decrementAndGet();
                            }
                        });
                    }
                }
                kv.applied(new Command.Compact(kv.store.revision()));
                kv.assertNothingHeldButLiveKeys();
            }
        });
        assertTrue(kept.get() > reads / 10, () -> "of " + readers * reads + " only " + kept + " were in time");
    }

    private static void transfer(Harness kv, SplittableRandom random) {
        Bytes from = key(random.nextInt(ACCOUNTS));
        Bytes to = key(random.nextInt(ACCOUNTS));
        Entry entry = kv.store.get(from);
        if (from.equals(to) || entry == null) {
            return;
        }
        long amount = random.nextInt(3) == 0 ? number(entry) : random.nextLong(number(entry) + 1);
        kv.log.submit(Txn.of(
                amount == number(entry) ? new Op.Delete(Range.key(from), false) : new Op.Increment(from, -amount),
                new Op.Increment(to, amount)));
    }

    /** Whether it could still be read. */
    private static boolean readSomeRevision(
            MvccStore store, SplittableRandom random, List<Bytes> accounts, Map<Long, List<Entry>> whenNew) {
        long first = Math.max(1, store.counters().compactRevision());
        long revision = random.nextLong(first, store.revision() + 1);
        List<Entry> expected = whenNew.get(revision);
        try (Snapshot snapshot = store.snapshot(revision)) {
            List<Entry> entries = snapshot.get(accounts);
            assertEquals(TOTAL, sum(entries));
            assertEquals(TOTAL, sum(ModelTest.list(snapshot.scan(Range.all(), random.nextBoolean()))));
            if (expected != null) {
                assertEquals(expected, entries);
            }
            Thread.yield(); // The window moves on meanwhile; what the snapshot sees stays.
            assertEquals(entries, snapshot.get(accounts));
            int account = random.nextInt(ACCOUNTS);
            List<Event> events = store.history(accounts.get(account), revision, 1);
            if (entries.get(account) != null) {
                assertEquals(List.of(new Event.Put(entries.get(account), null)), events);
            } else {
                assertTrue(events.isEmpty() || events.get(0).revision() > revision);
            }
            return true;
        } catch (RevisionOutOfRangeException e) {
            assertTrue(revision < e.first(), e::toString);
            assertTrue(e.first() <= store.counters().compactRevision());
            return false;
        }
    }

    private static long sum(List<Entry> entries) {
        return entries.stream()
                .mapToLong(entry -> entry == null ? 0 : number(entry))
                .sum();
    }
}
