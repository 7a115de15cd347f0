package homekv.storage;

import static homekv.storage.Harness.ROOMY;
import static homekv.storage.Harness.bytes;
import static homekv.storage.Harness.del;
import static homekv.storage.Harness.delete;
import static homekv.storage.Harness.key;
import static homekv.storage.Harness.put;
import static homekv.storage.Harness.set;
import static homekv.storage.Harness.value;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.ref.WeakReference;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

/** What is refused, and that a refusal changes nothing: S9, and the bounds of Limits. */
class AdmissionTest {
    private static final Bytes K = Bytes.utf8("k");

    // ---- Limits of a command ----

    @Test
    void aKeyIsTakenAtItsLimitAndRefusedAboveItAndWhenEmpty() {
        try (Harness kv = new Harness(ROOMY.with(Limit.KEY_BYTES, 10))) {
            kv.applied(set(put(bytes(10), value(1))));
            kv.applied(set(put(bytes(1), value(1))));
            Result.Refused tooLong = new Result.Refused(Limit.KEY_BYTES, 11, 10);
            Result.Refused empty = new Result.Refused(Limit.KEY_BYTES, 0, 10);
            for (Bytes bad : List.of(bytes(11), bytes(0))) {
                Result.Refused expected = bad.length() == 0 ? empty : tooLong;
                assertEquals(expected, kv.refused(set(put(bad, value(1)))));
                assertEquals(expected, kv.refused(set(delete(bad))));
                assertEquals(expected, kv.refused(del(bad)));
                assertEquals(expected, kv.store.limits().checkKeys(List.of(K, bad)));
            }
            assertNull(kv.store.limits().checkKeys(List.of(bytes(1), bytes(10))));
        }
    }

    @Test
    void aValueIsTakenAtItsLimitAndRefusedAboveIt() {
        try (Harness kv = new Harness(ROOMY.with(Limit.VALUE_BYTES, 10))) {
            kv.applied(set(put(K, bytes(10))));
            assertEquals(new Result.Refused(Limit.VALUE_BYTES, 11, 10), kv.refused(set(put(K, bytes(11)))));
            assertEquals(10, kv.store.get(K).value().length());
        }
    }

    /** Repeated keys count each time. */
    @Test
    void asManyKeysAsAllowedAreTakenAndOneMoreIsRefused() {
        try (Harness kv = new Harness(ROOMY.with(Limit.REQUEST_KEYS, 3))) {
            kv.applied(set(put(K, value(1)), delete(key(1)), put(K, value(2))));
            kv.applied(del(K, K, K));
            Result.Refused expected = new Result.Refused(Limit.REQUEST_KEYS, 4, 3);
            assertEquals(expected, kv.refused(set(put(K, value(1)), delete(K), put(K, value(2)), delete(K))));
            assertEquals(expected, kv.refused(del(K, K, K, K)));
            assertEquals(expected, kv.store.limits().checkKeys(List.of(K, K, K, K)));
        }
    }

    /** What is refused for want of memory is the last thing to keep in memory. */
    @Test
    void aCommandThatIsRefusedIsNotKept() {
        try (Harness kv = new Harness(ROOMY.with(Limit.MEMORY_BYTES, 1_000_000))) {
            WeakReference<Command> refused = refuseLarge(kv);
            Harness.await("the command is let go of", () -> {
                System.gc();
                return refused.get() == null;
            });
        }
    }

    private static WeakReference<Command> refuseLarge(Harness kv) {
        Command large = set(put(K, bytes(1_000_000)));
        assertEquals(Limit.MEMORY_BYTES, kv.refused(large).limit());
        return new WeakReference<>(large);
    }

    /** S9 */
    @Test
    void oneBadWriteAmongGoodOnesRefusesAll() {
        try (Harness kv = new Harness(ROOMY.with(Limit.VALUE_BYTES, 10))) {
            kv.applied(set(put(key(1), value(1))));
            for (int bad = 0; bad < 4; bad++) {
                List<Write> writes = new ArrayList<>(
                        List.of(put(key(1), value(2)), delete(key(1)), put(key(2), value(2)), put(key(3), value(2))));
                writes.set(bad, put(key(4), bytes(11)));
                kv.refused(new Command.Set(writes));
                writes.set(bad, put(bytes(0), value(1)));
                kv.refused(new Command.Set(writes));
                writes.set(bad, delete(bytes(0)));
                kv.refused(new Command.Set(writes));
            }
            kv.refused(del(key(1), bytes(0)));
            assertEquals(1, kv.store.get(key(1)).modificationRevision());
            assertEquals(1, kv.store.counters().versions());
            kv.assertNothingHeldButLiveKeys();
        }
    }

    @Test
    void everyLimitCanBeSetWithinItsBoundsAndReadBack() {
        for (Limit limit : Limit.values()) {
            long wanted = 11; // Within the bounds of each, and the default of none.
            Limits changed = ROOMY.with(limit, wanted);
            assertNotEquals(wanted, ROOMY.get(limit));
            for (Limit other : Limit.values()) {
                assertEquals(other == limit ? wanted : ROOMY.get(other), changed.get(other), () -> limit + " " + other);
            }
            for (long value : new long[] {limit.min(), limit.max()}) {
                assertEquals(value, ROOMY.with(limit, value).get(limit));
            }
            for (long value : new long[] {limit.min() - 1, limit.max() + 1, (1L << 60) + 5, Long.MIN_VALUE}) {
                assertThrows(IllegalArgumentException.class, () -> ROOMY.with(limit, value));
            }
        }
        assertEquals(7, ROOMY.with(Limit.KEY_BYTES, 7).withHeapRegionBytes(9).keyBytes());
        assertEquals(9, ROOMY.withHeapRegionBytes(9).with(Limit.KEY_BYTES, 7).heapRegionBytes());
    }

    @Test
    void theDefaultsAreThoseThatAreDocumented() {
        Limits limits = Limits.forHeap(1 << 30);
        assertEquals(64 << 10, limits.keyBytes());
        assertEquals(16 << 20, limits.valueBytes());
        assertEquals(100_000, limits.requestKeys());
        assertEquals(64 << 20, limits.requestBytes());
        assertEquals(64 << 20, limits.responseBytes());
        assertTrue(limits.memoryBytes() > (1 << 30) / 2 && limits.memoryBytes() <= (1 << 30) / 5 * 3L);
        assertTrue(Limits.forHeap(0).memoryBytes() == 0, "a heap too small for anything takes nothing");
        assertNotNull(Limits.defaults());
    }

    // ---- Memory ----

    /** Fills the store with values of one size until it refuses; returns how many keys it took. */
    private static int fill(Harness kv, int valueBytes) {
        int keys = 0;
        while (kv.log.submit(set(put(key(keys), bytes(valueBytes)))) instanceof Result.Applied) {
            keys++;
            assertTrue(kv.store.counters().heldBytes() <= kv.store.limits().memoryBytes());
        }
        return keys;
    }

    /** S9 */
    @Test
    void putsAreRefusedBeforeTheAccountPassesTheLimitAndTakenAgainOnceThereIsRoom() {
        long memoryBytes = 1_000_000;
        try (Harness kv = new Harness(ROOMY.with(Limit.MEMORY_BYTES, memoryBytes))) {
            for (int round = 0; round < 3; round++) {
                int keys = fill(kv, 1_000);
                long held = kv.store.counters().heldBytes();
                long spare = keys * new Footprint(false, 0).spareBytes(); // For putting them again.
                assertTrue(held + spare > memoryBytes - 1_200, "as full as it can be");
                Result.Refused refused = kv.refused(set(put(key(keys), bytes(1_000))));
                assertEquals(Limit.MEMORY_BYTES, refused.limit());
                assertEquals(memoryBytes, refused.allowed());
                assertTrue(refused.actual() > memoryBytes);
                assertNull(kv.store.get(key(keys)));
                assertEquals(1_000, kv.store.get(key(0)).value().length());

                kv.applied(set(put(key(0), bytes(1_000))));
                kv.applied(set(put(key(0), bytes(10)), put(key(1), bytes(1_000))));
                kv.applied(set(put(key(1), bytes(1_900)), delete(key(2))));
                assertEquals(1, kv.applied(del(key(3))).deletedKeys());
                kv.applied(set(put(key(keys), bytes(1_000))));
                assertEquals(
                        keys - 1,
                        kv.applied(new Command.Del(MvccStoreTest.keys(keys + 1)))
                                .deletedKeys());
                assertEquals(0, kv.store.counters().heldBytes());
                kv.store.checkInvariants();
            }
        }
    }

    /** S9: a command is measured by what it makes of the store, not by what stands in it. */
    @Test
    void repeatedPutsOfAKeyInACommandAreMeasuredOnce() {
        try (Harness kv = new Harness(ROOMY.with(Limit.MEMORY_BYTES, 5_000))) {
            kv.applied(set(put(K, bytes(3_000)), put(K, bytes(4_000)), put(K, bytes(4_500))));
            kv.applied(set(put(K, bytes(9_000)), delete(K)));
            assertNull(kv.store.get(K));
            kv.refused(set(put(K, bytes(3_000)), put(key(1), bytes(3_000))));
            kv.refused(set(put(K, bytes(100)), put(K, bytes(6_000))));
        }
    }

    /** S9: half of a command is never taken, however little of it there is no room for. */
    @Test
    void aCommandThatDoesNotFitWholeIsRefusedWhole() {
        try (Harness kv = new Harness(ROOMY.with(Limit.MEMORY_BYTES, 10_000))) {
            kv.applied(set(put(key(0), bytes(5_000))));
            kv.refused(set(put(key(1), bytes(1_000)), delete(key(9)), put(key(2), bytes(4_000))));
            assertNull(kv.store.get(key(1)));
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** S9: history goes before a put is refused. */
    @Test
    void historyIsDroppedBeforeAnythingIsRefused() {
        try (Harness kv = new Harness(ROOMY.with(Limit.MEMORY_BYTES, 1_000_000))) {
            List<Snapshot> open = new ArrayList<>();
            for (int i = 0; i < 50; i++) {
                kv.applied(set(put(K, bytes(15_000))));
                open.add(kv.store.snapshot());
            }
            kv.applied(set(put(key(1), bytes(900_000))));
            assertTrue(kv.store.counters().heldBytes() <= 1_000_000);
            for (Snapshot snapshot : open) {
                try {
                    assertEquals(snapshot.revision(), snapshot.get(K).modificationRevision());
                } catch (SnapshotExpiredException expected) {
                    assertTrue(snapshot.revision() < 50, "the newest keeps nothing that could be dropped");
                }
            }
            open.forEach(Snapshot::close);
            kv.refused(set(put(key(2), bytes(900_000))));
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** S9: nobody loses a snapshot for a command that will not fit anyway. */
    @Test
    void snapshotsDoNotExpireForACommandThatIsRefusedAllTheSame() {
        try (Harness kv = new Harness(ROOMY.with(Limit.MEMORY_BYTES, 100_000))) {
            kv.applied(set(put(K, bytes(20_000))));
            Snapshot snapshot = kv.store.snapshot();
            kv.applied(set(put(K, bytes(20_000))));
            kv.refused(set(put(key(1), bytes(90_000))));
            assertEquals(1, snapshot.get(K).modificationRevision());
        }
    }

    /** Long keys with little behind them, all deleted again, and kept by something that could do without. */
    private static void fillWithDeletedKeys(Harness kv) {
        for (int i = 0; i < 100; i++) {
            kv.applied(set(put(longKey(i), bytes(1))));
        }
    }

    private static Bytes longKey(int number) {
        return Bytes.utf8("x".repeat(1_000) + number);
    }

    /** S9: the keys themselves are history, too, as soon as they are deleted. */
    @Test
    void deletedKeysThatASnapshotKeepsGoBeforeAPutIsRefused() {
        try (Harness kv = new Harness(ROOMY.with(Limit.MEMORY_BYTES, 200_000))) {
            fillWithDeletedKeys(kv);
            Snapshot snapshot = kv.store.snapshot();
            for (int i = 0; i < 100; i++) {
                kv.applied(del(longKey(i)));
            }
            assertNotNull(snapshot.get(longKey(0)));
            assertTrue(kv.store.counters().heldBytes() > 100_000, "the keys are there");
            kv.applied(set(put(K, bytes(150_000))));
            assertThrows(SnapshotExpiredException.class, () -> snapshot.get(longKey(0)));
            assertTrue(kv.store.counters().heldBytes() <= 200_000);
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** S9 */
    @Test
    void deletedKeysThatTheWindowKeepsGoBeforeAPutIsRefused() {
        Limits limits = ROOMY.with(Limit.MEMORY_BYTES, 200_000).with(Limit.HISTORY_BYTES, 1 << 30);
        try (Harness kv = new Harness(limits.with(Limit.HISTORY_MILLIS, 1L << 40))) {
            fillWithDeletedKeys(kv);
            for (int i = 0; i < 100; i++) {
                kv.applied(del(longKey(i)));
            }
            assertEquals(0, kv.store.counters().compactRevision(), "all of it is kept");
            kv.applied(set(put(K, bytes(150_000))));
            assertTrue(kv.store.counters().compactRevision() > 100);
            assertTrue(kv.store.counters().heldBytes() <= 200_000);
            kv.store.checkInvariants();
            // But no key that is not there any more makes room for one that does not fit.
            kv.refused(set(put(key(1), bytes(100_000))));
        }
    }

    /** S9: nobody loses history for a put that will not fit anyway, since leases take the room, which nobody gives up. */
    @Test
    void nothingIsGivenUpForAPutThatLeasesLeaveNoRoomFor() {
        for (boolean window : new boolean[] {false, true}) {
            Limits limits = ROOMY.with(Limit.MEMORY_BYTES, 100_000).with(Limit.HISTORY_BYTES, window ? 1 << 30 : 0);
            try (Harness kv = new Harness(limits.with(Limit.HISTORY_MILLIS, 1L << 40))) {
                kv.applied(set(put(K, bytes(20_000))));
                Snapshot snapshot = kv.store.snapshot();
                kv.applied(set(put(K, bytes(20_000))));
                long compactRevision = kv.store.counters().compactRevision();
                int leases = 0;
                for (; kv.store.counters().heldBytes() < 80_000; leases++) {
                    kv.applied(new Command.Grant(1 + leases, 10));
                }
                Result.Refused refused = kv.refused(set(put(key(1), bytes(50_000))));
                assertEquals(Limit.MEMORY_BYTES, refused.limit());
                assertEquals(compactRevision, kv.store.counters().compactRevision());
                assertEquals(1, snapshot.get(K).modificationRevision());
                for (int i = 0; i < leases; i++) {
                    kv.applied(new Command.Revoke(1 + i, 1));
                }
                kv.applied(set(put(key(1), bytes(50_000))));
                assertTrue(kv.store.counters().heldBytes() <= 100_000);
                snapshot.close();
                kv.store.checkInvariants();
            }
        }
    }

    /**
     * S9, from the side of somebody who wants to fill the heap: full to the limit, overwrites that make the store no
     * larger are taken for ever, but not on top of what a snapshot keeps of the old values.
     */
    @Test
    void overwritesUnderASnapshotDoNotPushTheAccountPastTheLimit() {
        long memoryBytes = 1_000_000;
        Limits limits = ROOMY.with(Limit.MEMORY_BYTES, memoryBytes).with(Limit.SNAPSHOT_BYTES, memoryBytes);
        try (Harness kv = new Harness(limits)) {
            int keys = fill(kv, 10_000);
            for (int round = 0; round < 3; round++) {
                Snapshot snapshot = kv.store.snapshot();
                for (int i = 0; i < keys; i++) {
                    kv.applied(set(put(key(i), bytes(10_000))));
                    assertTrue(
                            kv.store.counters().heldBytes() <= memoryBytes,
                            () -> kv.store.counters().heldBytes() + " bytes held of " + memoryBytes);
                }
                snapshot.close();
            }
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** S9: what a chain costs because it waits is part of what a put makes the store larger by. */
    @Test
    void aPutThatMakesItsKeyWaitIsMeasuredWithWhatWaitingCosts() {
        // A put is 80 bytes and waiting 64, so one of these limits lies in the 64 bytes between.
        for (long memoryBytes = 100_000; memoryBytes < 100_160; memoryBytes += 16) {
            long allowed = memoryBytes;
            try (Harness kv =
                    new Harness(ROOMY.with(Limit.MEMORY_BYTES, allowed).with(Limit.SNAPSHOT_BYTES, allowed))) {
                List<Bytes> keys = MvccStoreTest.keys(500);
                kv.applied(new Command.Set(
                        keys.stream().map(key -> put(key, bytes(1))).toList()));
                kv.store.snapshot();
                for (Bytes key : keys) {
                    kv.log.submit(set(put(key, bytes(9))));
                    assertTrue(
                            kv.store.counters().heldBytes() <= allowed,
                            () -> kv.store.counters().heldBytes() + " bytes held of " + allowed);
                }
            }
        }
    }

    /** S9, at random: puts never pass the limit, shrinking is never refused, and the store can always be emptied. */
    @Test
    void whateverIsTriedTheAccountStaysWithinTheLimit() throws Exception {
        Harness.seeded(Harness.count(20, 1_000), random -> {
            long memoryBytes = 100_000;
            Limits limits = ROOMY.with(Limit.MEMORY_BYTES, memoryBytes).with(Limit.SNAPSHOT_BYTES, memoryBytes / 4);
            try (Harness kv = new Harness(limits)) {
                List<Snapshot> open = new ArrayList<>();
                for (int i = 0; i < 1_000; i++) {
                    if (random.nextInt(10) == 0) {
                        open.add(kv.store.snapshot());
                    }
                    if (!open.isEmpty() && random.nextInt(12) == 0) {
                        open.remove(random.nextInt(open.size())).close();
                    }
                    Command command = adversarial(random, kv.store);
                    Counters before = kv.store.counters();
                    Result result = kv.log.submit(command);
                    Counters after = kv.store.counters();
                    if (command instanceof Command.Set set && hasPuts(set) && result instanceof Result.Applied) {
                        assertTrue(
                                after.heldBytes() <= Math.max(memoryBytes, before.heldBytes()),
                                () -> "from " + before.heldBytes() + " to " + after.heldBytes());
                    } else if (!(command instanceof Command.Set set && hasPuts(set))) {
                        assertInstanceOf(Result.Applied.class, result);
                    }
                }
                kv.store.checkInvariants();
                open.forEach(Snapshot::close);
                kv.applied(new Command.Del(MvccStoreTest.keys(30)));
                kv.assertNothingHeldButLiveKeys();
                assertEquals(0, kv.store.counters().heldBytes());
            }
        });
    }

    private static boolean hasPuts(Command.Set set) {
        return set.writes().stream().anyMatch(write -> write instanceof Write.Put);
    }

    /** Large puts, exact overwrites of what is there, deletions paired with puts of the same size, plain deletions. */
    private static Command adversarial(SplittableRandom random, MvccStore store) {
        Bytes key = key(random.nextInt(30));
        Bytes other = key(random.nextInt(30));
        Entry entry = store.get(key);
        int size = entry == null ? random.nextInt(10_000) : entry.value().length();
        return switch (random.nextInt(5)) {
            case 0 -> set(put(key, bytes(random.nextInt(20_000))));
            case 1 -> set(put(key, bytes(size)));
            case 2 -> set(delete(key), put(other, bytes(size)));
            case 3 -> set(put(key, bytes(size)), put(other, bytes(random.nextInt(3_000))));
            default -> random.nextInt(4) == 0 ? del(key) : set(put(key, bytes(size)), put(key, bytes(size)));
        };
    }

    /** S9: a store that has stopped says so, full or not. */
    @Test
    void aClosedStoreThatIsFullSaysThatItIsClosed() {
        Harness kv = new Harness(ROOMY.with(Limit.MEMORY_BYTES, 100));
        kv.close();
        assertThrows(IllegalStateException.class, () -> kv.log.submit(set(put(K, bytes(1_000)))));
    }
}
