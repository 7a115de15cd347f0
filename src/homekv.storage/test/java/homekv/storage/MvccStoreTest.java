package homekv.storage;

import static homekv.storage.Harness.del;
import static homekv.storage.Harness.delete;
import static homekv.storage.Harness.key;
import static homekv.storage.Harness.number;
import static homekv.storage.Harness.put;
import static homekv.storage.Harness.set;
import static homekv.storage.Harness.value;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.SplittableRandom;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;

/** What a command does and what a read of the present shows: S1, S2, S5, S8, S10, S12, and the counters of S7. */
class MvccStoreTest {
    private static final Bytes A = Bytes.utf8("a");
    private static final Bytes B = Bytes.utf8("b");
    private static final Bytes C = Bytes.utf8("c");

    // ---- S1: order ----

    @Test
    void bytesAreInUnsignedLexicographicOrder() throws Exception {
        Harness.seeded(1, random -> {
            for (int i = 0; i < 20_000; i++) {
                byte[] left = shortBytes(random);
                byte[] right = random.nextInt(4) == 0 ? Arrays.copyOf(left, random.nextInt(4)) : shortBytes(random);
                int expected = unsignedOrder(left, right);
                Bytes leftBytes = Bytes.copyOf(left);
                Bytes rightBytes = Bytes.copyOf(right);
                assertEquals(expected, Integer.signum(leftBytes.compareTo(rightBytes)));
                assertEquals(expected == 0, leftBytes.equals(rightBytes));
                if (expected == 0) {
                    assertEquals(leftBytes.hashCode(), rightBytes.hashCode());
                }
            }
        });
    }

    /** Few bytes of few values, around the sign bit, so that equal ones and prefixes are frequent. */
    private static byte[] shortBytes(SplittableRandom random) {
        byte[] bytes = new byte[random.nextInt(4)];
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = (byte) (0x7e + random.nextInt(4));
        }
        return bytes;
    }

    private static int unsignedOrder(byte[] left, byte[] right) {
        for (int i = 0; i < left.length && i < right.length; i++) {
            if (left[i] != right[i]) {
                return (left[i] & 0xff) < (right[i] & 0xff) ? -1 : 1;
            }
        }
        return Integer.signum(left.length - right.length);
    }

    @Test
    void everyByteStringIsAKeyOfItsOwn() {
        try (Harness kv = new Harness()) {
            List<Bytes> keys = new ArrayList<>();
            for (int first = 0; first < 256; first++) {
                keys.add(Bytes.copyOf(new byte[] {(byte) first}));
                keys.add(Bytes.copyOf(new byte[] {(byte) first, 0}));
                keys.add(Bytes.copyOf(new byte[] {(byte) first, (byte) 0xff}));
            }
            Collections.shuffle(keys, new Random(1));
            kv.applied(new Command.Set(keys.stream().map(key -> put(key, key)).toList()));
            for (Entry entry : kv.store.get(keys).entries()) {
                assertEquals(entry.key(), entry.value());
            }
            kv.store.checkInvariants();
        }
    }

    /** S1: what goes in and comes out as an array is a copy, unless the caller has said otherwise. */
    @Test
    void neitherAKeyNorAValueChangesWithTheArrayItCameFrom() {
        try (Harness kv = new Harness()) {
            byte[] array = {1, 2, 3};
            Bytes bytes = Bytes.copyOf(array);
            kv.applied(set(put(bytes, bytes)));
            array[0] = 9;
            kv.store.get(bytes).value().toByteArray()[0] = 9;
            Entry entry = kv.store.get(Bytes.copyOf(new byte[] {1, 2, 3}));
            assertArrayEquals(new byte[] {1, 2, 3}, entry.value().toByteArray());
        }
    }

    // ---- S2, S8, S10: publication, the writer's turn, readers ----

    /**
     * S2, S10: the writer stands still, with the turn, at every place where it reads its command, half-way through
     * staging included. It goes on only when a reader has tried everything, who neither waits nor sees a change.
     */
    @Test
    void nothingIsVisibleAndNobodyWaitsWhileTheWriterStopsHalfWay() {
        try (Harness kv = new Harness()) {
            kv.applied(set(put(A, value(1)), put(B, value(1))));
            List<Write> writes = List.of(put(A, value(2)), delete(B), put(C, value(2)));
            AtomicInteger stops = new AtomicInteger();
            kv.applied(new Command.Set(Harness.list(writes.size(), index -> {
                if (kv.store.turn.isHeldByCurrentThread()) {
                    int getsBefore = 3 * stops.getAndIncrement();
                    try (Harness.Crew readers = new Harness.Crew()) {
                        readers.start(() -> readBeforeChange(kv.store, getsBefore));
                    }
                }
                return writes.get(index);
            })));
            assertTrue(stops.get() >= writes.size());
            assertEquals(2, kv.store.counters().revision());
            assertEquals(2, number(kv.store.get(A)));
            assertNull(kv.store.get(B));
            assertEquals(2, number(kv.store.get(C)));
        }
    }

    private static void readBeforeChange(MvccStore store, int getsBefore) {
        Reading reading = store.get(List.of(A, B, C));
        assertEquals(1, reading.revision());
        assertEquals(1, number(reading.entries().get(0)));
        assertEquals(1, number(reading.entries().get(1)));
        assertNull(reading.entries().get(2));
        assertEquals(1, number(store.get(A)));
        assertNull(store.get(C));
        try (Snapshot snapshot = store.snapshot()) {
            assertEquals(1, snapshot.revision());
            assertEquals(1, number(snapshot.get(B)));
            assertEquals(Arrays.asList(null, reading.entries().get(0)), snapshot.get(List.of(C, A)));
        }
        Counters counters = store.counters();
        assertEquals(1, counters.revision());
        assertEquals(2, counters.keys());
        assertEquals(getsBefore + 3, counters.gets());
    }

    /** S2: all keys of a command become visible at once, deletions and creations included. */
    @Test
    void aReaderThatSeesOneKeyOfACommandSeesAll() throws Exception {
        int commands = Harness.count(30_000, 1_000_000);
        List<Bytes> keys = List.of(key(0), key(1), key(2), key(3), key(4), key(5));
        try (Harness kv = new Harness(Harness.ROOMY, true);
                Harness.Crew crew = new Harness.Crew()) {
            AtomicBoolean written = new AtomicBoolean();
            crew.start(() -> {
                for (int n = 1; n <= commands && !crew.failed(); n++) {
                    // Keys 0 to 2 always have the same value; key 3 is there in odd commands, 4 in even ones, 5 in
                    // every third.
                    kv.applied(set(
                            put(keys.get(0), value(n)),
                            n % 2 == 1 ? put(keys.get(3), value(n)) : delete(keys.get(3)),
                            put(keys.get(1), value(n)),
                            n % 2 == 0 ? put(keys.get(4), value(n)) : delete(keys.get(4)),
                            put(keys.get(2), value(n)),
                            n % 3 == 0 ? put(keys.get(5), value(n)) : delete(keys.get(5))));
                }
                written.set(true);
            });
            for (int reader = 0; reader < 2; reader++) {
                crew.start(() -> {
                    boolean last;
                    do {
                        last = written.get() || crew.failed();
                        Reading reading = kv.store.get(keys);
                        long n = reading.revision();
                        assertSeen(reading.entries().get(0), n, n > 0);
                        assertSeen(reading.entries().get(1), n, n > 0);
                        assertSeen(reading.entries().get(2), n, n > 0);
                        assertSeen(reading.entries().get(3), n, n % 2 == 1);
                        assertSeen(reading.entries().get(4), n, n > 0 && n % 2 == 0);
                        assertSeen(reading.entries().get(5), n, n > 0 && n % 3 == 0);
                    } while (!last);
                });
            }
        }
    }

    private static void assertSeen(Entry entry, long revision, boolean there) {
        if (there) {
            assertEquals(revision, number(entry));
        } else {
            assertNull(entry);
        }
    }

    /** The promise of CommandLog.submit: once it has returned, whoever reads sees it, whatever the thread. */
    @Test
    void aCommandThatHasReturnedIsVisibleToEverySnapshotOpenedAfterwards() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY, true);
                Harness.Crew crew = new Harness.Crew()) {
            for (int writer = 0; writer < 3; writer++) {
                Bytes key = key(writer);
                crew.start(() -> {
                    for (int n = 0; n < Harness.count(10_000, 300_000) && !crew.failed(); n++) {
                        long revision = kv.applied(set(put(key, value(n)))).revision();
                        try (Snapshot snapshot = kv.store.snapshot()) {
                            assertEquals(n, number(snapshot.get(key)));
                            assertEquals(revision, snapshot.get(key).modificationRevision());
                        }
                    }
                });
            }
        }
    }

    /** S8 */
    @Test
    void onlyTheThreadThatHasTheTurnAppliesOrAdmits() throws Exception {
        try (Harness kv = new Harness();
                Harness.Crew crew = new Harness.Crew()) {
            Command command = set(put(A, value(1)));
            assertThrows(AssertionError.class, () -> kv.store.apply(command));
            assertThrows(AssertionError.class, () -> kv.store.admit(command));
            kv.store.turn.lock();
            crew.start(() -> assertThrows(AssertionError.class, () -> kv.store.apply(command)))
                    .join();
            kv.store.turn.unlock();
            assertEquals(0, kv.store.counters().revision());
            assertEquals(0, kv.store.counters().commands());
            kv.store.checkInvariants();
        }
    }

    /** S8: what sweeps and snapshots do to the history has no say in what commands make. */
    @Test
    void theSameCommandsInTheSameOrderMakeTheSameStore() throws Exception {
        Harness.seeded(Harness.count(5, 200), random -> {
            List<Bytes> keys = keys(12);
            try (Harness plain = new Harness();
                    Harness disturbed = new Harness()) {
                List<Snapshot> snapshots = new ArrayList<>();
                for (int i = 0; i < 500; i++) {
                    Command command = randomCommand(random, keys);
                    switch (random.nextInt(4)) {
                        case 0 -> snapshots.add(disturbed.store.snapshot());
                        case 1 -> disturbed.store.sweep();
                        case 2 -> {
                            if (!snapshots.isEmpty()) {
                                snapshots
                                        .remove(random.nextInt(snapshots.size()))
                                        .close();
                            }
                        }
                        default -> {}
                    }
                    assertEquals(plain.log.submit(command), disturbed.log.submit(command));
                    assertEquals(plain.store.get(keys), disturbed.store.get(keys));
                }
                snapshots.forEach(Snapshot::close);
                disturbed.assertNothingHeldButLiveKeys();
                plain.assertNothingHeldButLiveKeys();
                assertEquals(withoutHeldBytes(plain.store.counters()), withoutHeldBytes(disturbed.store.counters()));
            }
        });
    }

    /** How many objects a key takes depends on whether it was there as a deleted one when it was put. */
    private static Counters withoutHeldBytes(Counters counters) {
        return new Counters(
                counters.revision(),
                counters.keys(),
                counters.keyBytes(),
                counters.valueBytes(),
                counters.versions(),
                0,
                counters.gets(),
                counters.sets(),
                counters.dels(),
                counters.txns(),
                counters.compactRevision(),
                counters.leases(),
                counters.watches());
    }

    static List<Bytes> keys(int count) {
        List<Bytes> keys = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            keys.add(key(i));
        }
        return keys;
    }

    /** Any command over these keys: empty ones, repeated keys and absent keys included. */
    static Command randomCommand(SplittableRandom random, List<Bytes> keys) {
        int size = random.nextInt(3) == 0 ? random.nextInt(8) : 1;
        if (random.nextInt(3) == 0) {
            List<Bytes> deleted = new ArrayList<>();
            for (int i = 0; i < size; i++) {
                deleted.add(keys.get(random.nextInt(keys.size())));
            }
            return new Command.Del(deleted);
        }
        List<Write> writes = new ArrayList<>();
        for (int i = 0; i < size; i++) {
            Bytes key = keys.get(random.nextInt(keys.size()));
            writes.add(random.nextInt(3) == 0 ? delete(key) : put(key, Harness.bytes(random.nextInt(20))));
        }
        return new Command.Set(writes);
    }

    // ---- S5, S12: revisions and entries ----

    @Test
    void anEmptyStoreIsAtRevisionZeroAndItsFirstChangeIsRevisionOne() {
        try (Harness kv = new Harness()) {
            assertEquals(new Counters(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), kv.store.counters());
            assertEquals(0, kv.store.get(List.of(A)).revision());
            assertEquals(new Result.Applied(1, 0), kv.applied(set(put(A, value(1)))));
            assertEquals(new Entry(A, value(1), 1, 1, 1, 0), kv.store.get(A));
        }
    }

    /** S5 */
    @Test
    void allKeysOfACommandShareTheOneRevisionThatItTakes() {
        try (Harness kv = new Harness()) {
            kv.applied(set(put(A, value(1))));
            assertEquals(new Result.Applied(2, 0), kv.applied(set(put(A, value(2)), put(B, value(2)))));
            assertEquals(new Entry(A, value(2), 1, 2, 2, 0), kv.store.get(A));
            assertEquals(new Entry(B, value(2), 2, 2, 1, 0), kv.store.get(B));
            assertEquals(new Result.Applied(3, 2), kv.applied(del(A, B, C)));
        }
    }

    /** S5: takes no revision, but is counted. */
    @Test
    void aCommandThatChangesNothingTakesNoRevision() {
        try (Harness kv = new Harness()) {
            kv.applied(set(put(A, value(1))));
            assertEquals(new Result.Applied(1, 0), kv.applied(del(B, C)));
            assertEquals(new Result.Applied(1, 0), kv.applied(del()));
            assertEquals(new Result.Applied(1, 0), kv.applied(set()));
            assertEquals(new Result.Applied(1, 0), kv.applied(set(delete(B), delete(C))));
            assertEquals(new Result.Applied(1, 0), kv.applied(set(put(B, value(1)), delete(B))));
            assertEquals(4, kv.store.counters().sets());
            assertEquals(2, kv.store.counters().dels());
            assertEquals(1, kv.store.counters().keys());
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** S5 */
    @Test
    void writingTheSameValueAgainIsAChange() {
        try (Harness kv = new Harness()) {
            kv.applied(set(put(A, value(1))));
            assertEquals(new Result.Applied(2, 0), kv.applied(set(put(A, value(1)))));
            assertEquals(new Entry(A, value(1), 1, 2, 2, 0), kv.store.get(A));
        }
    }

    /** S5: whatever a command does to a key, the key gets one version and its last write counts. */
    @Test
    void theLastWriteOfAKeyInACommandCountsAndMakesOneVersion() {
        try (Harness kv = new Harness();
                Snapshot empty = kv.store.snapshot()) {
            kv.applied(set(put(A, value(1)), put(A, value(2)), put(A, value(3))));
            assertEquals(new Entry(A, value(3), 1, 1, 1, 0), kv.store.get(A));
            assertEquals(new Result.Applied(2, 1), kv.applied(set(put(A, value(4)), delete(A))));
            assertNull(kv.store.get(A));
            kv.applied(set(put(A, value(5))));
            kv.applied(set(delete(A), put(A, value(6))));
            assertEquals(
                    new Entry(A, value(6), 3, 4, 2, 0),
                    kv.store.get(A),
                    "never absent at any revision: not re-created");
            assertEquals(new Result.Applied(5, 1), kv.applied(del(A, A, B, A)));
            assertNull(empty.get(A));
            kv.store.checkInvariants();
        }
    }

    /** S12 */
    @Test
    void aKeyThatIsCreatedAgainStartsAtVersionOneWithANewCreateRevision() {
        for (boolean pinned : new boolean[] {false, true}) {
            try (Harness kv = new Harness()) {
                Snapshot pin = pinned ? kv.store.snapshot() : null;
                kv.applied(set(put(A, value(1))));
                kv.applied(set(put(A, value(2))));
                Snapshot second = pinned ? kv.store.snapshot() : null;
                kv.applied(del(A));
                kv.applied(set(put(B, value(1))));
                kv.applied(set(put(A, value(3))));
                assertEquals(new Entry(A, value(3), 5, 5, 1, 0), kv.store.get(A));
                kv.applied(set(put(A, value(4))));
                assertEquals(new Entry(A, value(4), 5, 6, 2, 0), kv.store.get(A));
                if (pinned) {
                    assertEquals(new Entry(A, value(2), 1, 2, 2, 0), second.get(A));
                    second.close();
                    assertNull(pin.get(A));
                    pin.close();
                }
                kv.assertNothingHeldButLiveKeys();
            }
        }
    }

    @Test
    void anEmptyValueIsAValue() {
        try (Harness kv = new Harness()) {
            kv.applied(set(put(A, Bytes.utf8(""))));
            assertEquals(new Entry(A, Bytes.utf8(""), 1, 1, 1, 0), kv.store.get(A));
            assertEquals(1, kv.store.counters().keys());
            assertEquals(new Result.Applied(2, 1), kv.applied(del(A)));
        }
    }

    @Test
    void aReadingNamesKeysInTheOrderAskedRepeatedOnesTooAndCountsOnce() {
        try (Harness kv = new Harness()) {
            kv.applied(set(put(A, value(1)), put(B, value(2))));
            List<Entry> entries = kv.store.get(List.of(B, C, A, B)).entries();
            assertEquals(
                    Arrays.asList(
                            new Entry(B, value(2), 1, 1, 1, 0),
                            null,
                            new Entry(A, value(1), 1, 1, 1, 0),
                            entries.get(0)),
                    entries);
            assertEquals(List.of(), kv.store.get(List.of()).entries());
            assertEquals(2, kv.store.counters().gets());
            assertEquals(3, kv.store.counters().commands());
        }
    }

    // ---- S7: the counters ----

    /** S7: of commands from many threads none is lost and none counts twice, reads included. */
    @Test
    void countersAreExactUnderConcurrency() throws Exception {
        int writers = 4;
        int rounds = Harness.count(3_000, 100_000);
        AtomicInteger liveKeys = new AtomicInteger();
        AtomicInteger liveValueBytes = new AtomicInteger();
        AtomicInteger changes = new AtomicInteger();
        AtomicInteger dels = new AtomicInteger();
        try (Harness kv = new Harness(Harness.ROOMY, true)) {
            try (Harness.Crew crew = new Harness.Crew()) {
                for (int writer = 0; writer < writers; writer++) {
                    int own = writer;
                    crew.start(() -> {
                        SplittableRandom random = new SplittableRandom(own);
                        int[] valueBytes = new int[50];
                        Arrays.fill(valueBytes, -1);
                        for (int n = 0; n < rounds; n++) {
                            int number = random.nextInt(valueBytes.length);
                            Bytes key = Bytes.utf8("%d-%02d".formatted(own, number));
                            if (random.nextInt(3) == 0) {
                                boolean there = valueBytes[number] >= 0;
                                assertEquals(there ? 1 : 0, kv.applied(del(key)).deletedKeys());
                                changes.addAndGet(there ? 1 : 0);
                                dels.incrementAndGet();
                                valueBytes[number] = -1;
                            } else {
                                valueBytes[number] = random.nextInt(30);
                                kv.applied(set(put(key, Harness.bytes(valueBytes[number]))));
                                changes.incrementAndGet();
                            }
                            kv.store.get(key);
                        }
                        for (int bytes : valueBytes) {
                            liveKeys.addAndGet(bytes < 0 ? 0 : 1);
                            liveValueBytes.addAndGet(Math.max(0, bytes));
                        }
                    });
                }
                crew.start(() -> {
                    while (kv.store.counters().gets() < (long) writers * rounds && !crew.failed()) {
                        Counters counters = kv.store.counters();
                        assertEquals(4 * counters.keys(), counters.keyBytes(), "one moment for all of a revision");
                        assertEquals(0, counters.keys() == 0 ? counters.valueBytes() : 0);
                    }
                });
            }
            kv.assertNothingHeldButLiveKeys();
            Counters counters = kv.store.counters();
            assertEquals(changes.get(), counters.revision());
            assertEquals(liveKeys.get(), counters.keys());
            assertEquals(4 * liveKeys.get(), counters.keyBytes());
            assertEquals(liveValueBytes.get(), counters.valueBytes());
            assertEquals((long) writers * rounds, counters.gets());
            assertEquals(dels.get(), counters.dels());
            assertEquals((long) writers * rounds - dels.get(), counters.sets());
            assertNotEquals(0, counters.heldBytes());
        }
    }

    @Test
    void aClosedStoreTakesNoCommandsAndCanStillBeRead() {
        Harness kv = new Harness(Harness.ROOMY, true);
        kv.applied(set(put(A, value(1))));
        Snapshot snapshot = kv.store.snapshot();
        kv.applied(set(put(A, value(2))));
        kv.close();
        kv.close();
        assertThrows(IllegalStateException.class, () -> kv.log.submit(set(put(A, value(3)))));
        assertThrows(IllegalStateException.class, () -> kv.log.submit(del(A)));
        assertEquals(2, number(kv.store.get(A)));
        assertEquals(1, number(snapshot.get(A)));
        snapshot.close();
        kv.store.checkInvariants();
    }
}
