package homekv.storage;

import static homekv.storage.Harness.ROOMY;
import static homekv.storage.Harness.await;
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

import java.lang.ref.WeakReference;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import org.junit.jupiter.api.Test;

/** What is kept, what is dropped, and the account of it: S3, S6, S7. */
class ReclaimerTest {
    private static final Bytes K = Bytes.utf8("k");

    /** S6 */
    @Test
    void withNoSnapshotOpenALiveKeyHoldsOneVersionAndADeletedOneNothing() {
        try (Harness kv = new Harness()) {
            for (int round = 0; round < 5; round++) {
                for (int i = 0; i < 100; i++) {
                    kv.applied(set(put(key(i), value(round))));
                    kv.store.checkInvariants();
                    assertEquals(kv.store.counters().keys(), kv.store.counters().versions());
                }
                for (int i = 0; i < 50; i++) {
                    kv.applied(del(key(i)));
                    kv.store.checkInvariants();
                    assertEquals(kv.store.counters().keys(), kv.store.counters().versions());
                }
            }
            kv.applied(new Command.Del(MvccStoreTest.keys(100)));
            assertEquals(0, kv.store.counters().versions());
            assertEquals(0, kv.store.counters().heldBytes());
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** S6: a snapshot keeps what it reads and nothing of what was written after it, and no sweep is needed for that. */
    @Test
    void aPinnedSnapshotKeepsOneVersionAKeyUnderEndlessOverwrites() {
        try (Harness kv = new Harness()) {
            kv.applied(set(put(key(0), value(0)), put(key(1), value(0))));
            try (Snapshot pinned = kv.store.snapshot()) {
                kv.applied(set(put(key(0), value(1)), put(key(1), value(1))));
                long held = kv.store.counters().heldBytes();
                for (int i = 0; i < 10_000; i++) {
                    kv.applied(set(put(key(i % 2), value(i % 10))));
                    assertEquals(4, kv.store.counters().versions());
                    assertEquals(held, kv.store.counters().heldBytes());
                }
                for (int i = 0; i < 1_000; i++) {
                    kv.applied(del(key(0)));
                    assertEquals(4, kv.store.counters().versions(), "a tombstone above what is pinned");
                    kv.applied(set(put(key(0), value(1))));
                    assertEquals(4, kv.store.counters().versions(), "nobody needs the tombstone in between");
                    assertEquals(held, kv.store.counters().heldBytes());
                }
                assertEquals(0, number(pinned.get(key(0))));
                kv.store.checkInvariants();
            }
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** S6, S7: what has been dropped is nobody's, also where a scan that has yet to come to it is never gone on with. */
    @Test
    void aScanThatIsLeftAloneKeepsNothingThatHasBeenDropped() {
        try (Harness kv = new Harness()) {
            List<WeakReference<byte[]>> values = new ArrayList<>();
            for (int i = 0; i < 100; i++) {
                kv.applied(set(put(key(i), value(0))));
                Bytes last = bytes(1_000);
                kv.applied(set(put(key(i), last)));
                values.add(new WeakReference<>(last.unsafeArray()));
            }
            Snapshot snapshot = kv.store.snapshot();
            Iterator<Entry> scan = snapshot.scan(Range.all(), false);
            for (int i = 0; i < 20; i++) {
                scan.next();
            }
            snapshot.close();
            kv.applied(new Command.Del(MvccStoreTest.keys(100)));
            kv.store.sweep();
            assertEquals(0, kv.store.counters().heldBytes());
            await("all values are let go of", () -> {
                System.gc();
                return values.stream().allMatch(value -> value.get() == null);
            });
            assertThrows(IllegalStateException.class, scan::next);
        }
    }

    /** S6: commands on other keys take away what waits, so that waiting cannot build up when nobody sweeps. */
    @Test
    void commandsReclaimOtherKeysThatWait() {
        try (Harness kv = new Harness()) {
            List<Bytes> keys = MvccStoreTest.keys(1_000);
            kv.applied(
                    new Command.Set(keys.stream().map(key -> put(key, value(1))).toList()));
            Snapshot snapshot = kv.store.snapshot();
            kv.applied(new Command.Del(keys.subList(0, 500)));
            kv.applied(new Command.Set(keys.subList(500, 1_000).stream()
                    .map(key -> put(key, value(2)))
                    .toList()));
            assertEquals(2_000, kv.store.counters().versions());
            snapshot.close();
            for (int i = 0; i < 500; i++) {
                kv.applied(set(put(K, value(i))));
            }
            assertEquals(501, kv.store.counters().versions());
            assertEquals(501, kv.store.counters().keys());
            kv.store.checkInvariants();
        }
    }

    /** S6: after the last snapshot has ended, keys that nobody touches again are reclaimed by the thread for that. */
    @Test
    void theBackgroundSweepReclaimsWhatNobodyTouchesAgain() throws Exception {
        try (Harness kv = new Harness(ROOMY, true)) {
            for (int round = 0; round < 3; round++) {
                List<Bytes> keys = MvccStoreTest.keys(5_000);
                kv.applied(new Command.Set(
                        keys.stream().map(key -> put(key, value(1))).toList()));
                Snapshot snapshot = kv.store.snapshot();
                kv.applied(new Command.Set(
                        keys.stream().map(key -> put(key, value(2))).toList()));
                kv.applied(new Command.Del(keys.subList(0, 2_500)));
                assertEquals(10_000, kv.store.counters().versions());
                snapshot.close();
                await("the sweep", () -> kv.store.counters().versions() == 2_500);
                kv.store.checkInvariants();
            }
        }
    }

    /** S6: the thread also ends snapshots that have been open for too long, and what they kept goes. */
    @Test
    void theBackgroundSweepExpiresSnapshotsThatAreOpenForTooLong() {
        try (Harness kv = new Harness(ROOMY.with(Limit.SNAPSHOT_MILLIS, 1_000), true)) {
            kv.applied(set(put(K, value(1))));
            Snapshot forgotten = kv.store.snapshot();
            kv.applied(set(put(K, value(2))));
            assertEquals(1, number(forgotten.get(K)));
            kv.nanos.set(1_000_000_001);
            await("the sweep", () -> kv.store.counters().versions() == 1);
            assertThrows(SnapshotExpiredException.class, () -> forgotten.get(K));
        }
    }

    /** S6: sweeps take turns, so there are more chains here than are looked at in one of them. */
    @Test
    void aSweepLooksAtEveryWaitingChain() {
        try (Harness kv = new Harness()) {
            List<Bytes> keys = MvccStoreTest.keys(3_500);
            kv.applied(
                    new Command.Set(keys.stream().map(key -> put(key, value(1))).toList()));
            Snapshot first = kv.store.snapshot();
            kv.applied(
                    new Command.Set(keys.stream().map(key -> put(key, value(2))).toList()));
            Snapshot second = kv.store.snapshot();
            kv.applied(new Command.Del(keys));
            assertEquals(10_500, kv.store.counters().versions());
            first.close();
            kv.store.sweep();
            assertEquals(7_000, kv.store.counters().versions());
            assertEquals(2, number(second.get(key(3_000))));
            second.close();
            kv.store.sweep();
            assertEquals(0, kv.store.counters().versions());
            assertEquals(0, kv.store.counters().heldBytes());
        }
    }

    /** S4, S6: the chain of a key that is deleted and created again while it is pinned keeps all of its lives apart. */
    @Test
    void everyLifeOfAKeyIsReadWhereItIsPinned() {
        try (Harness kv = new Harness()) {
            List<Snapshot> alive = new ArrayList<>();
            List<Snapshot> dead = new ArrayList<>();
            for (int life = 0; life < 50; life++) {
                kv.applied(set(put(K, value(life))));
                alive.add(kv.store.snapshot());
                kv.applied(del(K));
                dead.add(kv.store.snapshot());
            }
            kv.store.sweep();
            assertEquals(100, kv.store.counters().versions());
            for (int life = 0; life < 50; life++) {
                Entry entry = alive.get(life).get(K);
                assertEquals(life, number(entry));
                assertEquals(2 * life + 1, entry.createRevision());
                assertEquals(1, entry.version());
                assertNull(dead.get(life).get(K));
            }
            for (int life = 0; life < 50; life += 2) {
                alive.get(life).close();
                dead.get(49 - life).close();
            }
            kv.store.sweep();
            kv.store.checkInvariants();
            for (int life = 1; life < 50; life += 2) {
                assertEquals(life, number(alive.get(life).get(K)));
                assertNull(dead.get(49 - life).get(K));
                alive.get(life).close();
                dead.get(49 - life).close();
            }
            kv.assertNothingHeldButLiveKeys();
            assertEquals(0, kv.store.counters().heldBytes());
        }
    }

    /** S7: what is put and taken away again leaves the account where it was, whatever the sizes. */
    @Test
    void theAccountReturnsToWhereItWas() throws Exception {
        Harness.seeded(Harness.count(20, 500), random -> {
            try (Harness kv = new Harness(ROOMY.withHeapRegionBytes(1 << 12))) {
                kv.applied(set(put(K, bytes(100))));
                long held = kv.store.counters().heldBytes();
                List<Snapshot> open = new ArrayList<>();
                for (int i = 0; i < 100; i++) {
                    Bytes key = bytes(1 + random.nextInt(20) * random.nextInt(200));
                    kv.applied(random.nextInt(4) == 0 ? del(key) : set(put(key, bytes(random.nextInt(6_000)))));
                    if (random.nextInt(5) == 0) {
                        open.add(kv.store.snapshot());
                    }
                    kv.store.checkInvariants();
                }
                for (int length = 1; length <= 20 * 200; length++) {
                    kv.applied(del(bytes(length)));
                }
                open.forEach(Snapshot::close);
                kv.assertNothingHeldButLiveKeys();
                assertEquals(held, kv.store.counters().heldBytes());
            }
        });
    }
}
