package homekv.storage;

import static homekv.storage.Harness.ROOMY;
import static homekv.storage.Harness.bytes;
import static homekv.storage.Harness.del;
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
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;

/** What an open snapshot keeps, and how it ends: S4. */
class SnapshotTest {
    private static final Bytes K = Bytes.utf8("k");

    /** S4 */
    @Test
    void aSnapshotReadsExactlyWhatItSawUnderEndlessWritesAndSweeps() throws Exception {
        Harness.seeded(Harness.count(3, 100), random -> {
            List<Bytes> keys = MvccStoreTest.keys(20);
            try (Harness kv = new Harness()) {
                for (int i = 0; i < 100; i++) {
                    kv.applied(MvccStoreTest.randomCommand(random, keys));
                }
                try (Snapshot snapshot = kv.store.snapshot()) {
                    List<Entry> seen = snapshot.get(keys);
                    for (int i = 0; i < 2_000; i++) {
                        kv.applied(MvccStoreTest.randomCommand(random, keys));
                        if (i % 50 == 0) {
                            kv.store.sweep();
                        }
                        assertEquals(seen, snapshot.get(keys));
                    }
                    kv.applied(new Command.Del(keys));
                    kv.store.sweep();
                    assertEquals(seen, snapshot.get(keys));
                    for (int i = 0; i < keys.size(); i++) {
                        assertEquals(seen.get(i), snapshot.get(keys.get(i)));
                    }
                }
                kv.assertNothingHeldButLiveKeys();
                assertEquals(0, kv.store.counters().versions());
            }
        });
    }

    /** S4: the snapshot of an empty store goes on seeing nothing. */
    @Test
    void aSnapshotDoesNotSeeKeysThatAreCreatedLater() {
        try (Harness kv = new Harness();
                Snapshot empty = kv.store.snapshot()) {
            kv.applied(set(put(K, value(1))));
            kv.applied(set(put(K, value(2))));
            assertEquals(0, empty.revision());
            assertNull(empty.get(K));
        }
    }

    @Test
    void aClosedSnapshotIsNotReadAndClosesAgain() {
        try (Harness kv = new Harness()) {
            Snapshot snapshot = kv.store.snapshot();
            snapshot.close();
            snapshot.close();
            assertThrows(IllegalStateException.class, () -> snapshot.get(K));
            assertThrows(IllegalStateException.class, () -> snapshot.get(List.of(K)));
            assertThrows(IllegalStateException.class, () -> snapshot.get(List.of()));
        }
    }

    /** A slot that is given back twice would let one snapshot more be open, and take away another one's pin. */
    @Test
    void closingFromTwoThreadsFreesOneSlot() throws Exception {
        Limits limits = ROOMY.with(Limit.OPEN_SNAPSHOTS, 2);
        try (Harness kv = new Harness(limits)) {
            kv.applied(set(put(K, value(0))));
            for (int i = 0; i < Harness.count(300, 10_000); i++) {
                Snapshot kept = kv.store.snapshot();
                Snapshot closed = kv.store.snapshot();
                CountDownLatch together = new CountDownLatch(2);
                try (Harness.Crew crew = new Harness.Crew()) {
                    for (int thread = 0; thread < 2; thread++) {
                        crew.start(() -> {
                            together.countDown();
                            while (together.getCount() > 0) {
                                Thread.onSpinWait();
                            }
                            closed.close();
                        });
                    }
                }
                Snapshot next = kv.store.snapshot();
                assertThrows(IllegalStateException.class, kv.store::snapshot);
                kv.applied(set(put(K, value(i + 1))));
                assertEquals(i, number(kept.get(K)));
                assertEquals(i, number(next.get(K)));
                closed.close();
                assertThrows(IllegalStateException.class, kv.store::snapshot);
                kept.close();
                next.close();
            }
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** Slots beyond the first block, in every block, pin as well as those in it. */
    @Test
    void asManySnapshotsAsAllowedAreOpenAndEachPinsItsOwnRevision() {
        for (int allowed : new int[] {1, 2, 7, 8, 9, 24, 25, 100, 1_000}) {
            try (Harness kv = new Harness(ROOMY.with(Limit.OPEN_SNAPSHOTS, allowed))) {
                List<Snapshot> open = new ArrayList<>();
                for (int round = 0; round < 2; round++) {
                    long before = kv.store.counters().revision();
                    for (int i = 0; i < allowed; i++) {
                        kv.applied(set(put(K, value(before + i))));
                        open.add(kv.store.snapshot());
                    }
                    assertTrue(assertThrows(IllegalStateException.class, kv.store::snapshot)
                            .getMessage()
                            .contains(Integer.toString(allowed)));
                    kv.applied(del(K));
                    kv.store.sweep();
                    kv.store.checkInvariants();
                    assertEquals(allowed + 1, kv.store.counters().versions());
                    for (int i = 0; i < allowed; i++) {
                        assertEquals(before + i, number(open.get(i).get(K)));
                    }
                    // In an order of its own, so that blocks empty unevenly.
                    for (int i = 0; i < allowed; i++) {
                        open.get((int) (i * 7919L % allowed)).close();
                    }
                    open.forEach(Snapshot::close);
                    open.clear();
                    kv.assertNothingHeldButLiveKeys();
                }
            }
        }
    }

    /** The pins in one block do not hide those behind it, and an emptied block does not hide a later one. */
    @Test
    void aSnapshotInALaterBlockPinsWhenAllBeforeItAreClosed() {
        try (Harness kv = new Harness(ROOMY.with(Limit.OPEN_SNAPSHOTS, 1_000))) {
            List<Snapshot> open = new ArrayList<>();
            for (int i = 0; i < 1_000; i++) {
                kv.applied(set(put(K, value(i))));
                open.add(kv.store.snapshot());
            }
            open.subList(0, 999).forEach(Snapshot::close);
            for (int i = 0; i < 10; i++) {
                kv.applied(set(put(K, value(-i))));
                kv.store.sweep();
            }
            assertEquals(999, number(open.get(999).get(K)));
            assertEquals(2, kv.store.counters().versions());
            open.get(999).close();
        }
    }

    // ---- Expiry: a clear error, never a wrong answer ----

    private static void assertExpired(Snapshot snapshot) {
        long revision = snapshot.revision();
        SnapshotExpiredException e = assertThrows(SnapshotExpiredException.class, () -> snapshot.get(K));
        assertTrue(e.getMessage().contains("revision " + revision));
        assertThrows(SnapshotExpiredException.class, () -> snapshot.get(List.of(K)));
        snapshot.close();
        assertThrows(SnapshotExpiredException.class, () -> snapshot.get(K), "closing does not hide why it ended");
    }

    @Test
    void aSnapshotThatIsOpenForLongerThanAllowedExpires() {
        try (Harness kv = new Harness(ROOMY.with(Limit.SNAPSHOT_MILLIS, 1_000))) {
            kv.applied(set(put(K, value(1))));
            Snapshot old = kv.store.snapshot();
            kv.applied(set(put(K, value(2))));
            kv.nanos.set(500_000_000);
            Snapshot young = kv.store.snapshot();
            kv.applied(set(put(K, value(3))));
            kv.nanos.set(1_000_000_000);
            kv.store.sweep();
            assertEquals(1, number(old.get(K)), "exactly as long as allowed");
            kv.nanos.set(1_000_000_001);
            kv.store.sweep();
            assertExpired(old);
            assertEquals(2, number(young.get(K)));
            assertEquals(2, kv.store.counters().versions());
            young.close();
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** The clock of the JVM may start anywhere and pass from the largest long to the smallest. */
    @Test
    void ageIsRightWhenTheClockOverflows() {
        try (Harness kv = new Harness(ROOMY.with(Limit.SNAPSHOT_MILLIS, 1))) {
            kv.nanos.set(Long.MAX_VALUE - 10);
            kv.applied(set(put(K, value(1))));
            Snapshot snapshot = kv.store.snapshot();
            kv.applied(set(put(K, value(2))));
            kv.nanos.set(Long.MIN_VALUE + 10);
            kv.store.sweep();
            assertEquals(1, number(snapshot.get(K)));
            kv.nanos.addAndGet(1_000_000);
            kv.store.sweep();
            assertExpired(snapshot);
        }
    }

    @Test
    void theOlderSnapshotsExpireWhenHistoryGrowsOverItsLimit() {
        long historyBytes = 100_000;
        try (Harness kv = new Harness(ROOMY.with(Limit.SNAPSHOT_BYTES, historyBytes))) {
            kv.applied(set(put(K, bytes(1_000))));
            Snapshot oldest = kv.store.snapshot();
            List<Snapshot> open = new ArrayList<>();
            long live = kv.store.counters().heldBytes();
            int opened = 0;
            while (opened < 300) {
                kv.applied(set(put(K, bytes(1_000))));
                Snapshot snapshot = kv.store.snapshot();
                Entry entry = snapshot.get(K);
                open.add(snapshot);
                opened++;
                assertTrue(
                        kv.store.counters().heldBytes() <= live + historyBytes + 2_000,
                        () -> "history is kept to its limit: " + kv.store.counters());
                // Whichever it is: it answers as before or says that it cannot.
                assertEquals(opened + 1, entry.modificationRevision());
                for (int i = 0; i < open.size(); i++) {
                    try {
                        assertEquals(i + 2, open.get(i).get(K).modificationRevision());
                    } catch (SnapshotExpiredException expired) {
                        assertTrue(i < open.size() - 1, "the newest is not the one to go");
                    }
                }
            }
            assertExpired(oldest);
            open.forEach(Snapshot::close);
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** What nobody keeps any more is no reason to expire the snapshot of somebody who keeps nothing. */
    @Test
    void aSnapshotThatKeepsNothingDoesNotExpireForHistoryThatOnlyWaitsToBeDropped() {
        try (Harness kv = new Harness(ROOMY.with(Limit.SNAPSHOT_BYTES, 100_000))) {
            List<Write> writes = new ArrayList<>();
            for (int i = 0; i < 80; i++) {
                writes.add(put(key(i), bytes(1_000)));
            }
            kv.applied(set(put(K, bytes(50_000))));
            kv.applied(new Command.Set(writes));
            Snapshot first = kv.store.snapshot();
            kv.applied(new Command.Set(writes));
            first.close();
            // The old versions of 80 keys wait for a sweep now, nearly all that is allowed, and nobody needs them.
            Snapshot second = kv.store.snapshot();
            kv.applied(set(put(K, bytes(50_000))));
            assertEquals(1, second.get(K).modificationRevision(), "it keeps half of what is allowed");
        }
    }

    @Test
    void snapshotsExpireWhenNewWritesNeedTheMemory() {
        try (Harness kv = new Harness(ROOMY.with(Limit.MEMORY_BYTES, 200_000))) {
            kv.applied(set(put(K, bytes(50_000))));
            Snapshot first = kv.store.snapshot();
            kv.applied(set(put(K, bytes(50_000))));
            Snapshot second = kv.store.snapshot();
            kv.applied(set(put(K, bytes(50_000))));
            assertEquals(1, first.get(K).modificationRevision());
            assertEquals(2, second.get(K).modificationRevision());
            kv.applied(set(put(key(0), bytes(50_000))));
            assertExpired(first);
            assertEquals(2, second.get(K).modificationRevision(), "no more go than have to");
            kv.applied(set(put(key(1), bytes(50_000))));
            assertExpired(second);
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** S4: each under way while the next one begins, none of them a snapshot that counts. */
    @Test
    void moreBriefReadsThanSnapshotsMayBeOpenAllFindTheirPlace() {
        for (int allowed : new int[] {1, 2, 5}) {
            try (Harness kv = new Harness(ROOMY.with(Limit.OPEN_SNAPSHOTS, allowed))) {
                for (int readsAtOnce : new int[] {allowed + 1, 50, 400}) {
                    readWithin(kv, readsAtOnce);
                    kv.assertNothingHeldButLiveKeys();
                    List<Snapshot> open = new ArrayList<>();
                    for (int i = 0; i < allowed; i++) {
                        open.add(kv.store.snapshot());
                    }
                    assertThrows(IllegalStateException.class, kv.store::snapshot);
                    readWithin(kv, readsAtOnce);
                    open.forEach(Snapshot::close);
                }
            }
        }
    }

    /** Writes, and begins a read in the middle of which all the others run; it sees what was there when it began. */
    private static void readWithin(Harness kv, int readsAtOnce) {
        kv.applied(set(put(K, value(readsAtOnce))));
        // Of a revision, which is pinned; the present is read without a pin at first.
        AtomicInteger accesses = new AtomicInteger();
        Reading reading = kv.store.read(
                Harness.list(2, index -> {
                    // Once, after fetching ahead and the first key.
                    if (accesses.incrementAndGet() == 4 && readsAtOnce > 1) {
                        readWithin(kv, readsAtOnce - 1);
                        kv.store.sweep();
                    }
                    return K;
                }),
                kv.store.revision());
        for (Entry entry : reading.entries()) {
            assertEquals(readsAtOnce, number(entry));
        }
    }

    /** A read of the present is no snapshot of anybody's: it never fails because of those that are open. */
    @Test
    void aReadOfThePresentGoesOnWhateverSnapshotsExpire() {
        try (Harness kv = new Harness(ROOMY.with(Limit.SNAPSHOT_BYTES, 0).with(Limit.SNAPSHOT_MILLIS, 1))) {
            kv.applied(set(put(K, value(1))));
            List<Bytes> expiring = Harness.list(3, index -> {
                // In the middle of the read, and again whenever it is begun anew, somebody writes and sweeps.
                if (index == 1) {
                    kv.nanos.addAndGet(1_000_000_000);
                    kv.applied(set(put(K, value(2))));
                    kv.applied(set(put(K, value(3))));
                    kv.store.sweep();
                }
                return K;
            });
            Reading reading = kv.store.get(expiring);
            for (Entry entry : reading.entries()) {
                assertEquals(reading.revision(), entry.modificationRevision());
            }
            assertEquals(3, number(kv.store.get(K)));
            kv.assertNothingHeldButLiveKeys();
        }
    }
}
