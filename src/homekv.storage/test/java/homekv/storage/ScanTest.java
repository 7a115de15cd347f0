package homekv.storage;

import static homekv.storage.Harness.ROOMY;
import static homekv.storage.Harness.del;
import static homekv.storage.Harness.number;
import static homekv.storage.Harness.put;
import static homekv.storage.Harness.set;
import static homekv.storage.Harness.value;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.SplittableRandom;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;

/** Ranges, and walking through them up and down: S1, S4. */
class ScanTest {
    // ---- Ranges ----

    private static Bytes bytes(int... bytes) {
        byte[] array = new byte[bytes.length];
        for (int i = 0; i < bytes.length; i++) {
            array[i] = (byte) bytes[i];
        }
        return Bytes.unsafeWrap(array);
    }

    /** S1: also where the last byte of the prefix has no next one. */
    @Test
    void aPrefixRangeHoldsWhatBeginsWithThePrefixAndNothingElse() throws Exception {
        int[] values = {0, 1, 0x7f, 0x80, 0xfe, 0xff};
        List<Bytes> all = new ArrayList<>(List.of(bytes()));
        for (int first : values) {
            all.add(bytes(first));
            for (int second : values) {
                all.add(bytes(first, second));
                for (int third : values) {
                    all.add(bytes(first, second, third));
                }
            }
        }
        for (Bytes prefix : all) {
            Range range = Range.prefix(prefix);
            assertFalse(range.isEmpty());
            for (Bytes key : all) {
                boolean begins = key.length() >= prefix.length();
                for (int i = 0; begins && i < prefix.length(); i++) {
                    begins = key.unsafeArray()[i] == prefix.unsafeArray()[i];
                }
                assertEquals(begins, range.contains(key), () -> prefix + " " + key);
            }
        }
    }

    @Test
    void aRangeOfOneKeyHoldsThatKeyAlone() {
        Bytes key = bytes(7, 0);
        assertTrue(Range.key(key).contains(key));
        assertTrue(Range.key(key).isKey());
        for (Bytes other : List.of(bytes(), bytes(7), bytes(7, 0, 0), bytes(7, 1), bytes(6, 0xff))) {
            assertFalse(Range.key(key).contains(other));
        }
        assertTrue(new Range(bytes(7), key).isKey(), "there is nothing between them");
        assertFalse(new Range(bytes(), key).isKey());
        assertFalse(Range.all().isKey());
        assertFalse(Range.from(key).isKey());
        assertFalse(new Range(key, bytes(7, 1, 0)).isKey());
        assertFalse(new Range(key, bytes(7, 0, 1)).isKey());
    }

    @Test
    void aRangeThatEndsWhereItBeginsOrBeforeIsEmpty() {
        try (Harness kv = new Harness()) {
            kv.applied(set(put(bytes(1), value(1)), put(bytes(2), value(1)), put(bytes(3), value(1))));
            try (Snapshot snapshot = kv.store.snapshot()) {
                for (Range empty : List.of(
                        new Range(bytes(2), bytes(2)),
                        new Range(bytes(3), bytes(1)),
                        new Range(bytes(), bytes()),
                        new Range(bytes(1), bytes()))) {
                    assertTrue(empty.isEmpty());
                    assertFalse(empty.contains(bytes(2)));
                    assertFalse(snapshot.scan(empty, false).hasNext());
                    assertFalse(snapshot.scan(empty, true).hasNext());
                    assertEquals(0, snapshot.count(empty));
                    assertEquals(
                            new OpResult.Deleted(0, List.of()),
                            ((Result.Transacted) kv.log.submit(Txn.of(new Op.Delete(empty, true))))
                                    .results()
                                    .get(0));
                }
            }
            assertEquals(3, kv.store.counters().keys());
        }
    }

    // ---- Scans ----

    @Test
    void aScanThatIsOverSaysSoAndOneOfAnEndedSnapshotFails() {
        try (Harness kv = new Harness(ROOMY.with(Limit.SNAPSHOT_MILLIS, 10))) {
            kv.applied(set(put(bytes(1), value(1)), put(bytes(2), value(1))));
            Snapshot closed = kv.store.snapshot();
            Snapshot expired = kv.store.snapshot();
            for (boolean descending : new boolean[] {false, true}) {
                Iterator<Entry> scan = closed.scan(Range.all(), descending);
                assertTrue(scan.hasNext());
                assertTrue(scan.hasNext(), "asking twice takes nothing");
                scan.next();
                scan.next();
                assertFalse(scan.hasNext());
                assertThrows(NoSuchElementException.class, scan::next);
            }
            Iterator<Entry> up = closed.scan(Range.all(), false);
            Iterator<Entry> down = expired.scan(Range.all(), true);
            Iterator<Difference> differences = expired.differences(expired, Range.all());
            up.next();
            down.next();
            closed.close();
            kv.applied(set(put(bytes(1), value(2))));
            kv.nanos.set(10_000_001);
            kv.store.sweep();
            assertThrows(IllegalStateException.class, up::next);
            assertThrows(IllegalStateException.class, () -> closed.count(Range.all()));
            assertThrows(SnapshotExpiredException.class, down::hasNext);
            assertThrows(SnapshotExpiredException.class, differences::hasNext);
            assertThrows(SnapshotExpiredException.class, () -> expired.count(Range.all()));
        }
    }

    /** S4: differences are those to the earlier snapshot only as long as that one is open, too. */
    @Test
    void differencesFailOnceTheEarlierSnapshotHasEnded() {
        try (Harness kv = new Harness()) {
            kv.applied(set(put(bytes(1), value(1)), put(bytes(2), value(1))));
            Snapshot earlier = kv.store.snapshot();
            kv.applied(set(put(bytes(1), value(2)), put(bytes(2), value(2))));
            try (Snapshot later = kv.store.snapshot()) {
                Iterator<Difference> differences = later.differences(earlier, Range.all());
                Difference first = differences.next();
                assertEquals(bytes(1), first.key());
                assertEquals(1, number(first.before()));
                assertEquals(2, number(first.after()));
                earlier.close();
                assertThrows(IllegalStateException.class, differences::next);
            }
        }
    }

    // ---- While the store is changed ----

    /** S4: keys come and go before, behind and under a scan that has begun, in every order, and it reads what it should. */
    @Test
    void aScanGoesOnRightWhateverHappensBetweenItsSteps() throws Exception {
        Harness.seeded(Harness.count(400, 40_000), random -> {
            List<Bytes> keys = MvccStoreTest.keys(1 + random.nextInt(25));
            try (Harness kv = new Harness(ROOMY.with(Limit.HISTORY_BYTES, random.nextInt(3) * 500L))) {
                List<Scan> scans = new ArrayList<>();
                for (int step = 0; step < 300; step++) {
                    switch (random.nextInt(10)) {
                        case 0 -> scans.add(new Scan(kv.store.snapshot(), keys, random));
                        case 1 -> kv.store.sweep();
                        case 2, 3, 4 -> kv.applied(MvccStoreTest.randomCommand(random, keys));
                        default -> {
                            if (!scans.isEmpty()) {
                                Scan scan = scans.get(random.nextInt(scans.size()));
                                if (scan.step()) {
                                    scans.remove(scan);
                                }
                            }
                        }
                    }
                }
                for (Scan scan : scans) {
                    while (!scan.step()) {}
                }
                kv.store.checkInvariants();
            }
        });
    }

    /** A scan that is under way, and what it has still to return. */
    private static final class Scan {
        private final Snapshot snapshot;
        private final Iterator<Entry> iterator;
        private final List<Entry> expected;

        Scan(Snapshot snapshot, List<Bytes> keys, SplittableRandom random) {
            this.snapshot = snapshot;
            Bytes from = keys.get(random.nextInt(keys.size()));
            Bytes to = keys.get(random.nextInt(keys.size()));
            Range range = random.nextBoolean() ? Range.all() : new Range(from, random.nextBoolean() ? to : null);
            boolean descending = random.nextInt(3) > 0;
            List<Entry> ascending = new ArrayList<>();
            for (Bytes key : keys.stream().sorted().toList()) {
                Entry entry = snapshot.get(key);
                if (entry != null && range.contains(key)) {
                    ascending.add(entry);
                }
            }
            this.expected = new ArrayList<>(descending ? ascending.reversed() : ascending);
            this.iterator = snapshot.scan(range, descending);
        }

        /** Whether it is over. */
        boolean step() {
            if (expected.isEmpty()) {
                assertFalse(iterator.hasNext());
                snapshot.close();
                return true;
            }
            assertEquals(expected.remove(0), iterator.next());
            return false;
        }
    }

    private static final int STABLE = 150;

    private static Bytes stable(int number) {
        return Bytes.utf8("%04d".formatted(10 * number));
    }

    /**
     * S4: both directions read the same in every snapshot, and the keys that are always there, while keys between them are
     * put and deleted, and leave the map.
     */
    @Test
    void aDescendingScanReadsWhatAnAscendingOneReadsWhileKeysComeAndGo() throws Exception {
        int scans = Harness.count(1_500, 100_000);
        int readers = 3;
        Harness.seeded(1, random -> {
            try (Harness kv = new Harness(ROOMY, true)) {
                List<Write> writes = new ArrayList<>();
                for (int i = 0; i < STABLE; i++) {
                    writes.add(put(stable(i), value(i)));
                }
                kv.applied(new Command.Set(writes));
                AtomicInteger running = new AtomicInteger(readers);
                try (Snapshot opening = kv.store.snapshot();
                        Harness.Crew crew = new Harness.Crew()) {
                    List<Entry> openingEntries = ModelTest.list(opening.scan(Range.all(), false));
                    for (int writer = 0; writer < 2; writer++) {
                        SplittableRandom own = random.split();
                        crew.start(() -> {
                            while (running.get() > 0 && !crew.failed()) {
                                // Runs of neighbours, so that whole stretches of links go and come.
                                int first = own.nextInt(10 * STABLE);
                                int length = 1 + own.nextInt(12);
                                boolean delete = own.nextBoolean();
                                List<Write> run = new ArrayList<>();
                                for (int key = first; key < first + length; key++) {
                                    if (key % 10 != 0) {
                                        Bytes bytes = Bytes.utf8("%04d".formatted(key));
                                        run.add(delete ? Harness.delete(bytes) : put(bytes, value(key)));
                                    }
                                }
                                kv.applied(new Command.Set(run));
                            }
                        });
                    }
                    for (int reader = 0; reader < readers; reader++) {
                        SplittableRandom own = random.split();
                        crew.startVirtual(() -> {
                            try {
                                for (int i = 0; i < scans && !crew.failed(); i++) {
                                    int from = own.nextInt(STABLE);
                                    int to = from + own.nextInt(STABLE - from + 1);
                                    try (Snapshot snapshot = kv.store.snapshot()) {
                                        assertBothWays(snapshot, from, to);
                                    }
                                    if (i % 20 == 0) {
                                        assertEquals(
                                                openingEntries.reversed(),
                                                ModelTest.list(opening.scan(Range.all(), true)));
                                    }
                                }
                            } finally {
                                running.decrementAndGet();
                            }
                        });
                    }
                }
                for (int key = 0; key < 10 * STABLE + 12; key++) {
                    if (key % 10 != 0) {
                        kv.applied(del(Bytes.utf8("%04d".formatted(key))));
                    }
                }
                kv.assertNothingHeldButLiveKeys();
                assertEquals(STABLE, kv.store.counters().keys());
            }
        });
    }

    private static void assertBothWays(Snapshot snapshot, int from, int to) {
        Range range = new Range(stable(from), stable(to));
        List<Entry> down = ModelTest.list(snapshot.scan(range, true));
        List<Entry> up = ModelTest.list(snapshot.scan(range, false));
        assertEquals(up.reversed(), down);
        assertEquals(up.size(), snapshot.count(range));
        List<Bytes> stable = up.stream()
                .map(Entry::key)
                .filter(key -> key.utf8().endsWith("0"))
                .toList();
        assertEquals(to - from, stable.size());
        for (int i = from; i < to; i++) {
            assertEquals(stable(i), stable.get(i - from));
        }
        for (Entry entry : up) {
            assertEquals(
                    Long.parseLong(entry.key().utf8()) / (entry.key().utf8().endsWith("0") ? 10 : 1), number(entry));
        }
    }
}
