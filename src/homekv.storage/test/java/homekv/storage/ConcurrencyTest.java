package homekv.storage;

import static homekv.storage.Harness.ROOMY;
import static homekv.storage.Harness.delete;
import static homekv.storage.Harness.key;
import static homekv.storage.Harness.number;
import static homekv.storage.Harness.put;
import static homekv.storage.Harness.value;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Objects;
import java.util.SplittableRandom;
import java.util.concurrent.Phaser;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;

/** Readers, writers and sweeps at full speed, with values from which a reader can tell what it must see: S2, S4, S6. */
class ConcurrencyTest {
    // ---- Bank ----

    private static final int ACCOUNTS = 20;
    private static final int TELLERS = 2;
    private static final long TOTAL = 100L * ACCOUNTS;

    /** S2, S4: tellers move amounts between accounts, and the sum is the same in every snapshot. */
    @Test
    void theSumOverAllAccountsNeverChangesInAnySnapshot() throws Exception {
        int transfers = Harness.count(20_000, 1_000_000);
        int audits = Harness.count(15_000, 500_000);
        Harness.seeded(1, random -> {
            List<Bytes> accounts = MvccStoreTest.keys(ACCOUNTS);
            try (Harness kv = new Harness(ROOMY, true)) {
                kv.applied(new Command.Set(accounts.stream()
                        .map(account -> put(account, value(100)))
                        .toList()));
                try (Snapshot opening = kv.store.snapshot();
                        Harness.Crew crew = new Harness.Crew()) {
                    for (int teller = 0; teller < TELLERS; teller++) {
                        SplittableRandom own = random.split();
                        int first = teller;
                        crew.start(() -> {
                            for (int i = 0; i < transfers && !crew.failed(); i++) {
                                transfer(kv, own, first);
                            }
                        });
                    }
                    crew.startVirtual(() -> {
                        for (int i = 0; i < audits && !crew.failed(); i++) {
                            assertEquals(TOTAL, sum(kv.store.get(accounts).entries()));
                        }
                    });
                    crew.startVirtual(() -> {
                        for (int i = 0; i < audits && !crew.failed(); i++) {
                            try (Snapshot snapshot = kv.store.snapshot()) {
                                List<Entry> entries = new ArrayList<>();
                                for (Bytes account : accounts) {
                                    entries.add(snapshot.get(account));
                                }
                                assertEquals(TOTAL, sum(entries));
                                assertEquals(entries, snapshot.get(accounts));
                            }
                        }
                    });
                    crew.start(() -> {
                        for (int i = 0; i < audits / 50 && !crew.failed(); i++) {
                            kv.store.sweep();
                            assertEquals(TOTAL, sum(opening.get(accounts)));
                        }
                    });
                }
                kv.assertNothingHeldButLiveKeys();
                assertEquals(TOTAL, sum(kv.store.get(accounts).entries()));
            }
        });
    }

    /** Between two accounts that no other teller touches. One that is empty is deleted. */
    private static void transfer(Harness kv, SplittableRandom random, int teller) {
        int from = random.nextInt(ACCOUNTS / TELLERS) * TELLERS + teller;
        int to = random.nextInt(ACCOUNTS / TELLERS) * TELLERS + teller;
        if (from == to) {
            return;
        }
        List<Entry> entries = kv.store.get(List.of(key(from), key(to))).entries();
        long balance = balance(entries.get(0));
        long amount = random.nextBoolean() ? balance : random.nextLong(balance + 1);
        kv.applied(Harness.set(
                balance == amount ? delete(key(from)) : put(key(from), value(balance - amount)),
                put(key(to), value(balance(entries.get(1)) + amount))));
    }

    private static long balance(Entry entry) {
        return entry == null ? 0 : number(entry);
    }

    private static long sum(List<Entry> entries) {
        return entries.stream().mapToLong(ConcurrencyTest::balance).sum();
    }

    // ---- First versions ----

    /**
     * S4, S13, S14: the value of a key's first version is dropped in place. Whoever reads it at that moment, since it was
     * pinned until then, or in a window that has just moved on, gets the value or is told that it is too late.
     */
    @Test
    void aFirstVersionIsReadAsItWasOrNotAtAll() throws Exception {
        Limits limits = ROOMY.with(Limit.SNAPSHOT_BYTES, 0);
        int rounds = Harness.count(1_500, 100_000);
        int keysARound = 50;
        AtomicInteger whole = new AtomicInteger();
        AtomicInteger late = new AtomicInteger();
        for (int round = 0; round < rounds; round++) {
            List<Bytes> keys = MvccStoreTest.keys(keysARound);
            try (Harness kv = new Harness(round % 2 == 0 ? limits : limits.with(Limit.HISTORY_BYTES, 1_000))) {
                kv.applied(new Command.Set(
                        keys.stream().map(key -> put(key, value(1))).toList()));
                Snapshot snapshot = kv.store.snapshot();
                Watch watch = kv.store.watch(Range.all(), 0, true, true, true);
                Phaser start = new Phaser(4);
                try (Harness.Crew crew = new Harness.Crew()) {
                    crew.start(() -> {
                        start.arriveAndAwaitAdvance();
                        try {
                            while (kv.store.revision() <= keysARound) {
                                try (Snapshot now = kv.store.snapshot()) {
                                    now.differences(snapshot, Range.all()).forEachRemaining(difference -> {
                                        assertEquals(1, number(difference.before()));
                                        assertEquals(2, number(difference.after()));
                                    });
                                }
                                whole.incrementAndGet();
                            }
                        } catch (SnapshotExpiredException e) {
                            late.incrementAndGet();
                        }
                    });
                    crew.start(() -> {
                        start.arriveAndAwaitAdvance();
                        try {
                            while (kv.store.revision() <= keysARound) {
                                assertEquals(
                                        List.of(1L),
                                        read(snapshot).stream().distinct().toList());
                                whole.incrementAndGet();
                            }
                        } catch (SnapshotExpiredException e) {
                            late.incrementAndGet();
                        }
                    });
                    crew.start(() -> {
                        start.arriveAndAwaitAdvance();
                        try {
                            while (watch.revision() <= keysARound) {
                                for (Event event : watch.next(1, 0)) {
                                    Event.Put put = (Event.Put) event;
                                    assertEquals(2, number(put.entry()));
                                    assertEquals(1, number(put.previous()));
                                    whole.incrementAndGet();
                                }
                                for (Bytes key : keys) {
                                    for (Event event : kv.store.history(key, 1, 2)) {
                                        Entry entry = ((Event.Put) event).entry();
                                        assertEquals(entry.version(), number(entry));
                                    }
                                }
                            }
                        } catch (RevisionOutOfRangeException e) {
                            late.incrementAndGet();
                        }
                    });
                    start.arriveAndAwaitAdvance();
                    for (Bytes key : keys) {
                        kv.applied(Harness.set(put(key, value(2))));
                    }
                }
                kv.store.checkInvariants();
            }
        }
        System.out.println("read as they were " + whole + " times, too late " + late + " times");
    }

    // ---- Look-ups ----

    /**
     * S18: keys are looked up and scanned while others come and go around them, so many that the segments of the table are
     * split, joined and made anew, and each life of a key that blinks overwrites the first version of a chain. The command of
     * revision n puts n into key n modulo {@code stays}, and every other time key n modulo {@code stays / 2} of those that
     * blink is put, else deleted: what a revision sees follows from it alone.
     */
    @Test
    void noKeyIsMissedHoweverItsNeighboursComeAndGo() throws Exception {
        for (long historyBytes : new long[] {0, 1 << 20}) {
            Harness.seeded(1, random -> lookUp(ROOMY.with(Limit.HISTORY_BYTES, historyBytes), random));
        }
    }

    private static void lookUp(Limits limits, SplittableRandom random) throws Exception {
        int stays = 64;
        int commands = Harness.count(6_000, 300_000);
        List<Bytes> staying = MvccStoreTest.keys(stays);
        List<Bytes> blinking =
                staying.stream().map(key -> Bytes.utf8("blinks " + key.utf8())).toList();
        try (Harness kv = new Harness(limits, true)) {
            AtomicInteger lookUps = new AtomicInteger();
            try (Harness.Crew crew = new Harness.Crew()) {
                SplittableRandom writers = random.split();
                Thread writer = crew.start(() -> {
                    for (long revision = 1; revision <= commands && !crew.failed(); revision++) {
                        List<Write> writes = new ArrayList<>();
                        writes.add(put(staying.get((int) (revision % stays)), value(revision)));
                        Bytes blinks = blinking.get((int) (revision / 2 % stays));
                        writes.add(revision % 2 == 0 ? put(blinks, value(revision)) : delete(blinks));
                        boolean grows = revision / 600 % 2 == 0;
                        for (int i = 0; i < 20; i++) {
                            Bytes other = Bytes.utf8("other " + writers.nextInt(8_000));
                            writes.add(writers.nextInt(8) == 0 ^ grows ? put(other, value(0)) : delete(other));
                        }
                        assertEquals(
                                revision, kv.applied(new Command.Set(writes)).revision());
                    }
                });
                for (int i = 0; i < 2; i++) {
                    SplittableRandom readers = random.split();
                    crew.start(() -> {
                        while (writer.isAlive() && !crew.failed()) {
                            int k = readers.nextInt(stays);
                            long before = kv.store.revision();
                            Entry entry = kv.store.get(staying.get(k));
                            long oldest = written(k, before, stays);
                            assertTrue(
                                    oldest <= 0 || entry != null && number(entry) >= oldest, "S18: a key that stays");
                            Reading now = kv.store.read(List.of(staying.get(k), blinking.get(k)));
                            assertSeen(k, now.revision(), stays, now.entries());
                            try (Snapshot snapshot = kv.store.snapshot()) {
                                for (int j = 0; j < 20; j++) {
                                    int other = readers.nextInt(stays);
                                    List<Bytes> keys = List.of(staying.get(other), blinking.get(other));
                                    assertSeen(other, snapshot.revision(), stays, snapshot.get(keys));
                                }
                                boolean descending = readers.nextBoolean();
                                assertScanned(snapshot, "key-", staying, descending);
                                assertScanned(snapshot, "blinks", blinking, descending);
                            }
                            lookUps.incrementAndGet();
                        }
                    });
                }
            }
            kv.store.sweep();
            kv.store.checkInvariants();
            assertTrue(lookUps.get() > 0, "nobody has looked");
        }
    }

    /** That a scan finds what look-ups find: all keys with a prefix. */
    private static void assertScanned(Snapshot snapshot, String prefix, List<Bytes> keys, boolean descending) {
        List<Entry> scanned = new ArrayList<>();
        snapshot.scan(Range.prefix(Bytes.utf8(prefix)), descending).forEachRemaining(scanned::add);
        Comparator<Bytes> order = descending ? Comparator.reverseOrder() : Comparator.naturalOrder();
        List<Entry> found = snapshot.get(keys.stream().sorted(order).toList()).stream()
                .filter(Objects::nonNull)
                .toList();
        assertEquals(found, scanned, "S18: a scan");
    }

    /** The last revision up to this one that put a key, or one below 1. */
    private static long written(int k, long revision, int stays) {
        return revision - Math.floorMod(revision - k, stays);
    }

    private static void assertSeen(int k, long revision, int stays, List<Entry> entries) {
        long put = written(k, revision, stays);
        Entry stayed = entries.get(0);
        assertEquals(put <= 0 ? 0 : put, stayed == null ? 0 : number(stayed), "S18: a key that stays");
        // Of its period it is there at the first revision, and not from the next one on.
        long blinked = revision - Math.floorMod(revision - 2 * k, 2 * stays);
        Entry blinking = entries.get(1);
        boolean there = blinked == revision && blinked > 0;
        assertEquals(there ? revision : 0, blinking == null ? 0 : number(blinking), "S18: a key that blinks");
    }

    private static List<Long> read(Snapshot snapshot) {
        List<Long> values = new ArrayList<>();
        snapshot.scan(Range.all(), false).forEachRemaining(entry -> values.add(number(entry)));
        return values;
    }

    // ---- Pins ----

    /*
     * The command of revision n puts n into key 0, and into key i when n is a multiple of its period i + 1; it deletes
     * key i half a period later. So what a snapshot at revision r must see follows from r alone.
     */

    private static final int KEYS = 6;
    private static final List<Bytes> ALL = MvccStoreTest.keys(KEYS);

    private static Command command(long revision) {
        List<Write> writes = new ArrayList<>();
        for (int i = 0; i < KEYS; i++) {
            long phase = revision % (i + 1);
            if (phase == 0) {
                writes.add(put(ALL.get(i), value(revision)));
            } else if (phase == (i + 1) / 2) {
                writes.add(delete(ALL.get(i)));
            }
        }
        return new Command.Set(writes);
    }

    /** Each key is there when half its period has passed, but for the first half of the first one. */
    private static int deletedKeys(long revision) {
        int deletedKeys = 0;
        for (int i = 1; i < KEYS; i++) {
            deletedKeys += revision > i && revision % (i + 1) == (i + 1) / 2 ? 1 : 0;
        }
        return deletedKeys;
    }

    private static Entry expected(int i, long revision) {
        long written = revision - revision % (i + 1);
        if (written == 0 || i > 0 && revision % (i + 1) >= (i + 1) / 2) {
            return null;
        }
        return new Entry(ALL.get(i), value(written), i == 0 ? 1 : written, written, i == 0 ? written : 1, 0);
    }

    private static void assertExact(Snapshot snapshot) {
        long revision = snapshot.revision();
        for (int i = 0; i < KEYS; i++) {
            Entry expected = expected(i, revision);
            Entry actual = snapshot.get(ALL.get(i));
            if (!Objects.equals(expected, actual)) {
                throw new AssertionError("key " + i + " at " + revision + ": " + actual + " and not " + expected);
            }
        }
    }

    /** Whoever has the turn knows which revision is next. */
    private static void applyNext(Harness kv) {
        kv.store.turn.lock();
        try {
            long revision = kv.store.counters().revision() + 1;
            Command command = command(revision);
            assertEquals(null, kv.store.admit(command));
            assertEquals(new Result.Applied(revision, deletedKeys(revision)), kv.store.apply(command));
        } finally {
            kv.store.turn.unlock();
        }
    }

    /** S4, the pin protocol: a snapshot that has just been opened beside a writer that drops what nobody pins. */
    @Test
    void aSnapshotReadsItsRevisionExactlyHoweverItsOpeningMeetsTheWriter() throws Exception {
        int readers = 24;
        int reads = Harness.count(2_500, 100_000);
        // Fewer slots in the first block than readers hold, so that later blocks come and go, too.
        try (Harness kv = new Harness(ROOMY.with(Limit.OPEN_SNAPSHOTS, 4 * readers), true)) {
            AtomicInteger reading = new AtomicInteger(readers);
            try (Harness.Crew crew = new Harness.Crew()) {
                for (int writer = 0; writer < 2; writer++) {
                    crew.start(() -> {
                        while (reading.get() > 0 && !crew.failed()) {
                            applyNext(kv);
                        }
                    });
                }
                for (int reader = 0; reader < readers; reader++) {
                    int held = reader % 3;
                    crew.startVirtual(() -> {
                        try {
                            List<Snapshot> open = new ArrayList<>();
                            for (int i = 0; i < reads && !crew.failed(); i++) {
                                Snapshot snapshot = kv.store.snapshot();
                                assertExact(snapshot);
                                open.add(snapshot);
                                if (i % 16 == 0) {
                                    Thread.yield(); // Others open theirs while this one stays open.
                                }
                                if (open.size() > held) {
                                    Snapshot oldest = open.remove(0);
                                    assertExact(oldest);
                                    oldest.close();
                                }
                            }
                            open.forEach(Snapshot::close);
                        } finally {
                            reading.decrementAndGet();
                        }
                    });
                }
            }
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /**
     * S4, S13: a revision of the past, which a window that is as good as full and somebody who compacts are about to give
     * up. What can be opened reads exactly, for as long as it is open; what cannot is older than what can.
     */
    @Test
    void anOlderRevisionReadsExactlyHoweverItsOpeningMeetsItsEnd() throws Exception {
        int readers = 12;
        int reads = Harness.count(6_000, 200_000);
        AtomicInteger opened = new AtomicInteger();
        Limits limits = ROOMY.with(Limit.HISTORY_BYTES, 1_500).with(Limit.OPEN_SNAPSHOTS, 4 * readers);
        try (Harness kv = new Harness(limits, true)) {
            AtomicInteger reading = new AtomicInteger(readers);
            try (Harness.Crew crew = new Harness.Crew()) {
                crew.start(() -> {
                    SplittableRandom random = new SplittableRandom();
                    while (reading.get() > 0 && !crew.failed()) {
                        for (int i = random.nextInt(10); i >= 0; i--) {
                            applyNext(kv);
                        }
                        kv.log.submit(new Command.Compact(kv.store.revision() - random.nextInt(4)));
                    }
                });
                for (int reader = 0; reader < readers; reader++) {
                    int own = reader;
                    crew.startVirtual(() -> {
                        SplittableRandom random = new SplittableRandom(own);
                        try {
                            for (int i = 0; i < reads && !crew.failed(); i++) {
                                long first = kv.store.counters().compactRevision();
                                // The oldest ones most of all.
                                long revision = Math.min(kv.store.revision(), first + random.nextInt(3));
                                opened.addAndGet(readPast(kv.store, revision) ? 1 : 0);
                            }
                        } finally {
                            reading.decrementAndGet();
                        }
                    });
                }
            }
            kv.applied(new Command.Compact(kv.store.revision()));
            kv.assertNothingHeldButLiveKeys();
        }
        assertEquals(true, opened.get() > reads, "the schedule let hardly any in");
    }

    /** Whether the revision was there. */
    private static boolean readPast(MvccStore store, long revision) {
        try (Snapshot snapshot = store.snapshot(revision)) {
            assertEquals(revision, snapshot.revision());
            assertExact(snapshot);
            if (revision % 8 > 0) {
                return true;
            }
            Thread.yield();
            assertExact(snapshot);
            List<Entry> entries = store.read(ALL, revision).entries();
            List<Event> events = store.history(ALL.get(0), revision, 1);
            for (int i = 0; i < KEYS; i++) {
                assertEquals(expected(i, revision), entries.get(i));
            }
            if (revision > 0) {
                assertEquals(List.of(new Event.Put(expected(0, revision), null)), events);
            }
            return true;
        } catch (RevisionOutOfRangeException e) {
            assertEquals(true, revision < e.first(), e.toString());
            return false;
        }
    }

    /** S4: the store's own reads take the same way. */
    @Test
    void aReadOfThePresentIsExactHoweverItMeetsTheWriter() throws Exception {
        int readers = 4;
        int reads = Harness.count(20_000, 1_000_000);
        try (Harness kv = new Harness(ROOMY)) {
            AtomicInteger reading = new AtomicInteger(readers);
            try (Harness.Crew crew = new Harness.Crew()) {
                crew.start(() -> {
                    while (reading.get() > 0 && !crew.failed()) {
                        applyNext(kv);
                    }
                });
                for (int reader = 0; reader < readers; reader++) {
                    crew.startVirtual(() -> {
                        try {
                            for (int i = 0; i < reads && !crew.failed(); i++) {
                                Reading all = kv.store.get(ALL);
                                for (int k = 0; k < KEYS; k++) {
                                    assertEquals(
                                            expected(k, all.revision()),
                                            all.entries().get(k));
                                }
                                Thread.yield();
                            }
                        } finally {
                            reading.decrementAndGet();
                        }
                    });
                }
            }
            assertEquals((long) readers * reads, kv.store.counters().gets());
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /**
     * S4: snapshots expire while they are opened, read and closed. What they answer is right or an error, and a slot
     * is given back once: never two, which takes away the pin of another snapshot, and never none.
     */
    @Test
    void snapshotsThatExpireWhileTheyAreOpenedAndClosedNeitherAnswerWrongNorLoseSlots() throws Exception {
        int readers = 8;
        int reads = Harness.count(60_000, 500_000);
        int slots = 3 * readers;
        AtomicInteger expired = new AtomicInteger();
        Limits limits = ROOMY.with(Limit.OPEN_SNAPSHOTS, slots).with(Limit.SNAPSHOT_BYTES, 300);
        try (Harness kv = new Harness(limits)) {
            AtomicInteger reading = new AtomicInteger(readers + 1);
            try (Harness.Crew crew = new Harness.Crew()) {
                crew.start(() -> {
                    while (reading.get() > 0 && !crew.failed()) {
                        applyNext(kv);
                    }
                });
                crew.start(() -> {
                    try {
                        for (int i = 0; i < reads && !crew.failed(); i++) {
                            // Never expires, so always exact, unless somebody else gives its slot back.
                            Reading all = kv.store.get(ALL);
                            for (int k = 0; k < KEYS; k++) {
                                assertEquals(
                                        expected(k, all.revision()),
                                        all.entries().get(k));
                            }
                        }
                    } finally {
                        reading.decrementAndGet();
                    }
                });
                for (int reader = 0; reader < readers; reader++) {
                    crew.startVirtual(() -> {
                        try {
                            for (int i = 0; i < reads && !crew.failed(); i++) {
                                try (Snapshot snapshot = kv.store.snapshot()) {
                                    assertExact(snapshot);
                                    assertExact(snapshot);
                                } catch (SnapshotExpiredException e) {
                                    expired.incrementAndGet();
                                }
                            }
                        } finally {
                            reading.decrementAndGet();
                        }
                    });
                }
            }
            List<Snapshot> all = new ArrayList<>();
            for (int i = 0; i < slots; i++) {
                all.add(kv.store.snapshot());
            }
            assertThrows(IllegalStateException.class, kv.store::snapshot);
            all.forEach(Snapshot::close);
            kv.assertNothingHeldButLiveKeys();
            assertEquals(true, expired.get() > 0, "the schedule made none expire");
        }
    }

    /** S4: the same places are wanted by all at once, and the blocks that hold them are made just then. */
    @Test
    void hundredsOfReadsThatBeginAtOnceFindTheirPlaceBeyondWhatSnapshotsMayTake() throws Exception {
        int readers = 300;
        for (int round = 0; round < Harness.count(10, 500); round++) {
            try (Harness kv = new Harness(Harness.ROOMY.with(Limit.OPEN_SNAPSHOTS, 1))) {
                Bytes key = Harness.key(1);
                kv.applied(Command.put(key, Harness.value(1)));
                Phaser together = new Phaser(readers + 1);
                try (Harness.Crew crew = new Harness.Crew()) {
                    for (int i = 0; i < readers; i++) {
                        crew.startVirtual(() -> {
                            try {
                                // Of a revision, which is pinned; the present is read without a pin at first.
                                Reading reading = kv.store.read(
                                        Harness.list(1, index -> {
                                            together.arriveAndAwaitAdvance(); // All of them are under way now.
                                            together.arriveAndAwaitAdvance();
                                            return key;
                                        }),
                                        1);
                                assertEquals(1, Harness.number(reading.entries().get(0)));
                            } finally {
                                together.arriveAndDeregister(); // One that fails holds nobody up.
                            }
                        });
                    }
                    together.arriveAndAwaitAdvance();
                    try {
                        kv.applied(Command.put(key, Harness.value(2)));
                        kv.store.sweep();
                    } finally {
                        together.arriveAndDeregister();
                    }
                }
                assertEquals(2, Harness.number(kv.store.get(key)));
                kv.assertNothingHeldButLiveKeys();
                kv.store.snapshot().close();
            }
        }
    }
}
