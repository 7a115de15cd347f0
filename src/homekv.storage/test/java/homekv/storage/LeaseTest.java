package homekv.storage;

import static homekv.storage.Harness.ROOMY;
import static homekv.storage.Harness.await;
import static homekv.storage.Harness.del;
import static homekv.storage.Harness.key;
import static homekv.storage.Harness.put;
import static homekv.storage.Harness.set;
import static homekv.storage.Harness.value;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;

/** When leases end, and what ends with them: S16. */
class LeaseTest {
    private static final Bytes A = Bytes.utf8("a");
    private static final Bytes B = Bytes.utf8("b");
    private static final long MILLI = 1_000_000;

    private static Write attach(Bytes key, long lease) {
        return new Write.Put(key, value(1), lease);
    }

    private static long keys(Harness kv, long lease) {
        return kv.store.lease(lease).keys();
    }

    // ---- Time ----

    @Test
    void aLeaseDoesNotEndBeforeItsTimeAndEndsAfterIt() {
        try (Harness kv = new Harness()) {
            kv.nanos.set(-7 * MILLI + 1);
            kv.applied(new Command.Grant(1, 10));
            kv.applied(set(attach(A, 1), put(B, value(1))));
            kv.nanos.addAndGet(10 * MILLI);
            kv.store.expireLeases();
            assertEquals(1, kv.store.get(A).lease());
            assertNotNull(kv.store.lease(1));
            kv.nanos.incrementAndGet();
            kv.store.expireLeases();
            assertNull(kv.store.get(A));
            assertNotNull(kv.store.get(B));
            assertNull(kv.store.lease(1));
            assertEquals(2, kv.store.revision());
            assertEquals(0, kv.store.counters().leases());
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** Nobody who renews within the time he is told comes too late. */
    @Test
    void theTimeLeftIsRoundedUpAndZeroOnlyWhenItCannotBeKeptAliveAnyMore() {
        try (Harness kv = new Harness()) {
            kv.applied(new Command.Grant(1, 10));
            assertEquals(new LeaseStatus(1, 10, 10, 0), kv.store.lease(1));
            kv.nanos.set(1);
            assertEquals(10, kv.store.lease(1).leftMillis());
            kv.nanos.set(9 * MILLI);
            assertEquals(1, kv.store.lease(1).leftMillis());
            kv.nanos.set(10 * MILLI - 1);
            assertEquals(1, kv.store.lease(1).leftMillis());
            kv.nanos.set(12 * MILLI);
            assertEquals(1, kv.store.lease(1).leftMillis(), "over, but not noticed yet: it can still be kept alive");
            assertEquals(10, kv.store.keepAlive(1).leftMillis());
            kv.nanos.set(22 * MILLI + 1);
            kv.store.expireLeases();
            assertEquals(null, kv.store.lease(1));
        }
    }

    @Test
    void aLeaseThatIsKeptAliveInItsLastInstantLivesAWholeTimeMore() {
        try (Harness kv = new Harness()) {
            kv.applied(new Command.Grant(1, 10));
            kv.applied(set(attach(A, 1)));
            for (int round = 0; round < 5; round++) {
                kv.nanos.addAndGet(10 * MILLI);
                kv.store.expireLeases();
                assertEquals(new LeaseStatus(1, 10, 10, 1), kv.store.keepAlive(1));
                kv.store.expireLeases();
            }
            assertEquals(1, kv.store.revision(), "keeping alive takes no revision");
            assertNotNull(kv.store.get(A));
            kv.nanos.addAndGet(10 * MILLI + 1);
            kv.store.expireLeases();
            assertNull(kv.store.get(A));
            assertNull(kv.store.keepAlive(1));
        }
    }

    /** The one with the shortest time is not first in line because it was granted last. */
    @Test
    void leasesEndInTheOrderOfTheirTimes() {
        try (Harness kv = new Harness()) {
            int leases = 50;
            for (int i = 0; i < leases; i++) {
                int lease = 1 + i * 37 % leases;
                kv.applied(new Command.Grant(lease, lease));
                kv.applied(set(attach(key(lease), lease)));
            }
            for (int lease = 10; lease <= leases; lease += 10) {
                assertNotNull(kv.store.keepAlive(lease));
            }
            for (int millis = 1; millis <= leases; millis++) {
                kv.nanos.set(millis * MILLI + 1);
                kv.store.expireLeases();
                assertEquals(leases - millis, kv.store.counters().leases());
                assertEquals(leases - millis, kv.store.counters().keys());
                assertNull(kv.store.get(key(millis)));
            }
        }
    }

    /** S16: no call is needed for it, and what ended can be read of no more, and takes no memory. */
    @Test
    void theBackgroundThreadEndsLeasesAndAKeptOneStays() {
        try (Harness kv = new Harness(ROOMY, true)) {
            kv.applied(new Command.Grant(1, 5));
            kv.applied(new Command.Grant(2, 5));
            kv.applied(set(attach(A, 1), attach(B, 2)));
            kv.nanos.set(5 * MILLI);
            assertNotNull(kv.store.keepAlive(2));
            kv.nanos.set(5 * MILLI + 1);
            await("the lease ends", () -> kv.store.lease(1) == null);
            assertNull(kv.store.get(A));
            assertNotNull(kv.store.get(B));
            kv.nanos.set(10 * MILLI + 1);
            await("the other lease ends", () -> kv.store.lease(2) == null);
            await("nothing is held", () -> kv.store.counters().heldBytes() == 0);
        }
    }

    /** S16: the race that matters. Whoever has been told that his lease lives on does not lose it at that moment. */
    @Test
    void aLeaseThatHasBeenKeptAliveWithSuccessIsNotOnItsWayOut() throws Exception {
        int rounds = Harness.count(3_000, 200_000);
        AtomicInteger kept = new AtomicInteger();
        try (Harness kv = new Harness()) {
            for (int round = 1; round <= rounds; round++) {
                long lease = round;
                kv.applied(new Command.Grant(lease, 10));
                kv.applied(set(attach(A, lease)));
                kv.nanos.addAndGet(10 * MILLI + 1);
                try (Harness.Crew crew = new Harness.Crew()) {
                    crew.startVirtual(kv.store::expireLeases);
                    LeaseStatus status = kv.store.keepAlive(lease);
                    kept.addAndGet(status == null ? 0 : 1);
                    if (status != null) {
                        assertEquals(10, status.leftMillis());
                        kv.store.expireLeases();
                        assertNotNull(kv.store.lease(lease));
                        assertEquals(lease, kv.store.get(A).lease());
                    }
                }
                assertEquals(kv.store.get(A) == null, kv.store.lease(lease) == null);
                kv.log.submit(new Command.Revoke(lease, 1));
            }
            assertEquals(0, kv.store.counters().leases());
            kv.assertNothingHeldButLiveKeys();
        }
    }

    // ---- Numbers ----

    @Test
    void aNumberIsTakenAsLongAsItsLeaseIsThereAndFreeAgainAfterwards() {
        try (Harness kv = new Harness(ROOMY.with(Limit.LEASE_MILLIS, 1_000))) {
            Counters before = kv.store.counters();
            assertEquals(new Result.NoLease(5), kv.log.submit(new Command.Revoke(5, 1)));
            assertEquals(new Result.NoLease(5), kv.log.submit(set(put(B, value(1)), attach(A, 5))));
            assertEquals(before, kv.store.counters());
            assertEquals(new Result.Applied(0, 0), kv.applied(new Command.Grant(5, 1_000)));
            assertEquals(new Result.LeaseExists(5), kv.log.submit(new Command.Grant(5, 10)));
            assertEquals(1_000, kv.store.lease(5).ttlMillis());
            assertEquals(new Result.Applied(0, 0), kv.applied(new Command.Revoke(5, 1)));
            assertEquals(
                    before, kv.store.counters(), "a lease takes no revision, is no set or del, and leaves nothing");
            assertEquals(new Result.NoLease(5), kv.log.submit(new Command.Revoke(5, 1)));
            kv.applied(new Command.Grant(5, 10));
            kv.applied(new Command.Grant(Long.MAX_VALUE, 1));
            assertEquals(
                    List.of(5L, Long.MAX_VALUE),
                    kv.store.leases().stream().map(LeaseStatus::id).toList());
            assertEquals(new Result.Refused(Limit.LEASE_MILLIS, 1_001, 1_000), kv.refused(new Command.Grant(6, 1_001)));
            assertEquals(new Result.Refused(Limit.LEASE_MILLIS, 0, 1_000), kv.refused(new Command.Grant(6, 0)));
            assertThrows(IllegalArgumentException.class, () -> new Command.Grant(0, 10));
            assertThrows(IllegalArgumentException.class, () -> new Command.Grant(-1, 10));
            assertThrows(IllegalArgumentException.class, () -> new Command.Revoke(5, 0));
            assertNull(kv.store.keepAlive(6));
        }
    }

    /** A number means one grant of it: whoever comes too late to end the first one leaves the second one alone. */
    @Test
    void theEndOfALeaseIsNotTheEndOfAnotherOneThatHasItsNumberByThen() {
        try (Harness kv = new Harness()) {
            kv.applied(new Command.Grant(1, 10));
            kv.applied(new Command.Revoke(1, 1_000, 1));
            kv.applied(new Command.Grant(1, 10));
            kv.applied(set(attach(A, 1)));
            Counters before = kv.store.counters();
            assertEquals(new Result.NoLease(1), kv.log.submit(new Command.Revoke(1, 1_000, 1)));
            assertEquals(before, kv.store.counters());
            assertEquals(new LeaseStatus(1, 10, 10, 1), kv.store.keepAlive(1));
            kv.applied(new Command.Revoke(1, 1_000, 2));
            assertNull(kv.store.lease(1));
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** S16: somebody else ends the lease and grants the number again, just before it would have been revoked. */
    @Test
    void aNumberThatIsGrantedAgainWhileItsLeaseEndsLives() {
        try (Harness kv = new Harness()) {
            kv.applied(new Command.Grant(1, 10));
            kv.applied(set(attach(A, 1)));
            kv.store.changedThrough(command -> {
                kv.applied(new Command.Revoke(1, 1_000));
                kv.applied(new Command.Grant(1, 10));
                kv.applied(set(attach(B, 1)));
                return kv.log.submit(command);
            });
            kv.nanos.set(10 * MILLI + 1);
            kv.store.expireLeases();
            assertNull(kv.store.get(A));
            assertEquals(new LeaseStatus(1, 10, 10, 1), kv.store.keepAlive(1));
            assertEquals(1, kv.store.get(B).lease());
            assertEquals(new Result.NoLease(1), kv.store.revoke(1), "and so it is where a caller ends it");
            assertEquals(new LeaseStatus(1, 10, 10, 1), kv.store.keepAlive(1));
        }
    }

    /** S9: leases are memory, too. */
    @Test
    void leasesAreRefusedWhenMemoryIsFullAndTakenAgainWhenThereIsRoom() {
        try (Harness kv = new Harness(ROOMY.with(Limit.MEMORY_BYTES, 100_000))) {
            for (int round = 0; round < 3; round++) {
                long granted = 0;
                while (kv.log.submit(new Command.Grant(granted + 1, 10)) instanceof Result.Applied) {
                    granted++;
                    assertTrue(kv.store.counters().heldBytes() <= 100_000);
                }
                assertTrue(granted > 100, "a lease does not take a thousand bytes");
                Result.Refused refused = kv.refused(new Command.Grant(granted + 1, 10));
                assertEquals(Limit.MEMORY_BYTES, refused.limit());
                kv.refused(set(put(A, Harness.bytes(500))));
                kv.nanos.addAndGet(10 * MILLI + 1);
                kv.store.expireLeases();
                assertEquals(0, kv.store.counters().heldBytes());
            }
        }
    }

    // ---- Keys ----

    /** S16: whatever a command makes of a key, it is attached to the lease that its newest version names, and no other. */
    @Test
    void aKeyIsAttachedToTheLeaseOfItsLastWriteAlone() {
        try (Harness kv = new Harness(ROOMY.with(Limit.HISTORY_BYTES, 1 << 20))) {
            kv.applied(new Command.Grant(1, 10));
            kv.applied(new Command.Grant(2, 10));
            List<Command> commands = List.of(
                    set(attach(A, 1)), // Absent before.
                    set(attach(A, 1)), // The same again.
                    set(attach(A, 2)), // Another one.
                    set(put(A, value(1))), // None.
                    set(attach(A, 1), put(A, value(2)), attach(A, 2)), // The last one counts.
                    del(A),
                    Txn.of(new Op.Put(A, value(1), 1)),
                    Txn.of(new Op.Put(A, value(1), 2), new Op.Put(A, value(1), 1)), // Back to the one that it had.
                    Txn.of(new Op.Delete(Range.key(A), false), new Op.Put(A, value(5), 1)), // Created again.
                    Txn.of(new Op.Increment(A, 1)), // Stays.
                    Txn.of(new Op.Put(A, value(1), 2), new Op.Put(A, value(1), 0)),
                    Txn.of(new Op.Put(A, value(1), 2), new Op.Delete(Range.key(A), false)),
                    Txn.of(new Op.Put(A, value(1), 2), new Op.Delete(Range.key(A), false), new Op.Put(A, value(1), 1)));
            long[] expected = {1, 1, 2, 0, 2, 0, 1, 1, 1, 1, 0, 0, 1};
            for (int i = 0; i < expected.length; i++) {
                Result result = kv.log.submit(commands.get(i));
                assertTrue(result instanceof Result.Applied || result instanceof Result.Transacted, result::toString);
                assertEquals(expected[i] == 1 ? 1 : 0, keys(kv, 1), "after " + i);
                assertEquals(expected[i] == 2 ? 1 : 0, keys(kv, 2), "after " + i);
                Entry entry = kv.store.get(A);
                assertEquals(expected[i], entry == null ? 0 : entry.lease(), "after " + i);
                kv.store.checkInvariants();
            }
            kv.nanos.set(10 * MILLI + 1);
            kv.store.expireLeases();
            assertNull(kv.store.get(A));
            kv.store.checkInvariants();
        }
    }

    /** S16: half of the keys are moved away before the end, and stay. */
    @Test
    void onlyKeysThatAreStillAttachedEndWithTheirLease() {
        try (Harness kv = new Harness()) {
            kv.applied(new Command.Grant(1, 10));
            kv.applied(new Command.Grant(2, 20));
            List<Bytes> keys = MvccStoreTest.keys(400);
            kv.applied(new Command.Set(keys.stream().map(key -> attach(key, 1)).toList()));
            kv.applied(new Command.Set(
                    keys.subList(0, 100).stream().map(key -> attach(key, 2)).toList()));
            kv.applied(new Command.Set(keys.subList(100, 200).stream()
                    .map(key -> put(key, value(2)))
                    .toList()));
            kv.applied(new Command.Del(keys.subList(200, 300)));
            assertEquals(100, keys(kv, 1));
            kv.nanos.set(10 * MILLI + 1);
            kv.store.expireLeases();
            assertEquals(200, kv.store.counters().keys());
            assertNotNull(kv.store.get(key(99)));
            assertNotNull(kv.store.get(key(199)));
            assertNull(kv.store.get(key(300)));
            kv.nanos.set(20 * MILLI + 1);
            kv.store.expireLeases();
            assertEquals(100, kv.store.counters().keys());
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** S16: one that is being ended takes no keys, lives no longer and keeps its number, until its last key is gone. */
    @Test
    void aLeaseThatIsRevokedWhileKeysAreLeftIsOverForEverybodyElse() {
        try (Harness kv = new Harness()) {
            kv.applied(new Command.Grant(1, 10));
            for (int i = 0; i < 5; i++) {
                kv.applied(set(attach(key(i), 1)));
            }
            assertEquals(new Result.Applied(6, 2), kv.applied(new Command.Revoke(1, 2)));
            assertNull(kv.store.get(key(0)), "the lowest goes first");
            assertNull(kv.store.get(key(1)));
            assertEquals(new LeaseStatus(1, 10, 0, 3), kv.store.lease(1));
            assertNull(kv.store.keepAlive(1));
            Counters before = kv.store.counters();
            assertEquals(new Result.NoLease(1), kv.log.submit(set(attach(A, 1))));
            assertEquals(new Result.NoLease(1), kv.log.submit(set(attach(key(4), 1))));
            assertEquals(new Result.LeaseExists(1), kv.log.submit(new Command.Grant(1, 10)));
            assertEquals(before, kv.store.counters());
            kv.applied(set(put(key(2), value(2))));
            assertEquals(new Result.Applied(8, 2), kv.applied(new Command.Revoke(1, 100)));
            assertNull(kv.store.lease(1));
            assertEquals(1, kv.store.counters().keys());
            assertEquals(0, kv.store.counters().leases());
            kv.applied(new Command.Grant(1, 10));
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** A lease ends with what it has, also where the first part of it was done by somebody who never came back. */
    @Test
    void whatIsLeftOfAHalfRevokedLeaseEndsWithItsTime() {
        try (Harness kv = new Harness()) {
            kv.applied(new Command.Grant(1, 10));
            kv.applied(set(attach(key(0), 1), attach(key(1), 1), attach(key(2), 1)));
            kv.applied(new Command.Revoke(1, 1));
            kv.nanos.set(10 * MILLI + 1);
            kv.store.expireLeases();
            assertEquals(0, kv.store.counters().keys());
            assertNull(kv.store.lease(1));
        }
    }

    // ---- Many keys ----

    private static final int MANY = 20_000;

    private static void attachMany(Harness kv) {
        attachMany(kv, MANY);
    }

    private static void attachMany(Harness kv, int count) {
        kv.applied(new Command.Grant(1, 10));
        for (int first = 0; first < count; first += 2_000) {
            List<Write> writes = new ArrayList<>();
            for (int i = first; i < Math.min(count, first + 2_000); i++) {
                writes.add(attach(key(i), 1));
            }
            kv.applied(new Command.Set(writes));
        }
        assertEquals(count, keys(kv, 1));
    }

    /** S16: the turn is held for a thousand keys at a time, and each thousand is one revision. */
    @Test
    void aLeaseWithManyKeysEndsAThousandKeysARevision() {
        try (Harness kv = new Harness(ROOMY.with(Limit.HISTORY_BYTES, 1 << 30))) {
            kv.applied(set(put(A, value(1))));
            long held = kv.store.counters().heldBytes();
            attachMany(kv);
            kv.applied(new Command.Compact(kv.store.revision()));
            long revision = kv.store.revision();
            kv.nanos.set(10 * MILLI + 1);
            kv.store.expireLeases();
            assertEquals(revision + MANY / 1_000, kv.store.revision());
            for (int i = 0; i <= MANY / 1_000; i++) {
                try (Snapshot snapshot = kv.store.snapshot(revision + i)) {
                    assertEquals(1 + MANY - 1_000 * i, snapshot.count(Range.all()));
                }
            }
            assertNull(kv.store.lease(1));
            kv.applied(new Command.Compact(kv.store.revision()));
            kv.assertNothingHeldButLiveKeys();
            assertEquals(1, kv.store.counters().keys());
            // What is left beside the one key is its commit, which has gone, too.
            assertTrue(kv.store.counters().heldBytes() <= held);
        }
    }

    @Test
    void revokingALeaseWithManyKeysDeletesThemAllAndSaysHowMany() {
        try (Harness kv = new Harness(ROOMY.with(Limit.HISTORY_BYTES, 1 << 30))) {
            attachMany(kv, 2_500);
            kv.applied(set(put(A, value(1))));
            long revision = kv.store.revision();
            Counters before = kv.store.counters();
            assertEquals(new Result.NoLease(2), kv.store.revoke(2));
            assertEquals(before, kv.store.counters());
            assertEquals(new Result.Applied(revision + 3, 2_500), kv.store.revoke(1));
            assertEquals(revision + 3, kv.store.revision());
            for (int i = 0; i <= 3; i++) {
                try (Snapshot snapshot = kv.store.snapshot(revision + i)) {
                    assertEquals(1 + Math.max(0, 2_500 - 1_000 * i), snapshot.count(Range.all()));
                }
            }
            assertNull(kv.store.lease(1));
            assertEquals(new Result.NoLease(1), kv.store.revoke(1));
            kv.store.checkInvariants();
        }
    }

    /** S16: it says what it has deleted itself, and lets alone what it was not asked for. */
    @Test
    void revokingALeaseWithManyKeysStopsWhereItsNumberIsGrantedAgain() {
        try (Harness kv = new Harness()) {
            attachMany(kv, 2_500);
            AtomicInteger revokes = new AtomicInteger();
            kv.store.changedThrough(command -> {
                if (revokes.incrementAndGet() == 2) {
                    kv.applied(new Command.Revoke(1, 10_000));
                    kv.applied(new Command.Grant(1, 10));
                    kv.applied(set(attach(A, 1), attach(B, 1)));
                }
                return kv.log.submit(command);
            });
            long revision = kv.store.revision();
            assertEquals(new Result.Applied(revision + 1, 1_000), kv.store.revoke(1));
            assertEquals(2, revokes.get());
            assertEquals(new LeaseStatus(1, 10, 10, 2), kv.store.keepAlive(1));
            assertEquals(2, kv.store.counters().keys());
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** S16: commands of others come in between, and see a lease that is over, and its keys less and less. */
    @Test
    void othersHaveTheirTurnWhileALeaseWithManyKeysEnds() {
        try (Harness kv = new Harness()) {
            attachMany(kv);
            AtomicInteger revokes = new AtomicInteger();
            kv.store.changedThrough(command -> {
                assertEquals(new Command.Revoke(1, 1_000, 1), command);
                assertNull(kv.store.keepAlive(1), "on its way out, even before anything has gone");
                Result result = kv.log.submit(command);
                int done = revokes.incrementAndGet();
                assertEquals(
                        1_000, assertInstanceOf(Result.Applied.class, result).deletedKeys());
                if (done < MANY / 1_000) {
                    assertEquals(new LeaseStatus(1, 10, 0, MANY - 1_000L * done), kv.store.lease(1));
                    assertNull(kv.store.keepAlive(1));
                    assertEquals(new Result.NoLease(1), kv.log.submit(set(attach(A, 1))));
                }
                return result;
            });
            kv.nanos.set(10 * MILLI + 1);
            kv.store.expireLeases();
            assertEquals(MANY / 1_000, revokes.get());
            assertEquals(0, kv.store.counters().heldBytes());
            kv.assertNothingHeldButLiveKeys();
        }
    }

    /** S11, S16: a lease whose end has failed half-way is found again, and is over all the while. */
    @Test
    void aLeaseWhoseEndFailsIsEndedTheNextTime() {
        try (Harness kv = new Harness()) {
            attachMany(kv);
            AtomicInteger revokes = new AtomicInteger();
            kv.store.changedThrough(command -> {
                if (revokes.incrementAndGet() % 7 == 0) {
                    throw new OutOfMemoryError("planted");
                }
                return kv.log.submit(command);
            });
            kv.nanos.set(10 * MILLI + 1);
            for (int attempt = 0; attempt < 3; attempt++) {
                assertEquals(MANY - 6_000L * attempt, keys(kv, 1));
                assertThrows(OutOfMemoryError.class, kv.store::expireLeases);
                assertNull(kv.store.keepAlive(1));
            }
            kv.store.expireLeases();
            assertNull(kv.store.lease(1));
            kv.assertNothingHeldButLiveKeys();
            assertEquals(0, kv.store.counters().heldBytes());
        }
    }

    /** S7, S16: what attaching costs is given back with the keys, and so is what a lease costs. */
    @Test
    void theMemoryOfLeasesAndTheirKeysIsGivenBack() {
        try (Harness kv = new Harness()) {
            kv.applied(set(put(A, value(1))));
            kv.applied(set(put(A, value(1)))); // A key that is put again costs more than one that was put once.
            long held = kv.store.counters().heldBytes();
            for (int round = 0; round < 3; round++) {
                for (int i = 1; i <= 100; i++) {
                    kv.applied(new Command.Grant(i, 10));
                    kv.applied(set(attach(key(i), i), attach(key(i + 1), i), attach(B, i)));
                }
                kv.applied(set(put(A, value(1))));
                kv.applied(set(attach(A, 100)));
                assertTrue(kv.store.counters().heldBytes() > held + 100 * 300);
                kv.store.checkInvariants();
                kv.applied(set(put(A, value(1))));
                kv.nanos.addAndGet(10 * MILLI + 1);
                kv.store.expireLeases();
                assertEquals(held, kv.store.counters().heldBytes());
                kv.assertNothingHeldButLiveKeys();
            }
        }
    }

    /** Heap: a child process with little of it. Nothing waits for the time of a lease that has ended before it. */
    @Test
    void leasesThatAreRevokedLongBeforeTheirTimeKeepNothing() throws Exception {
        Harness.child(RevokedEarlyProgram.class, List.of("-Xmx16m"));
    }

    static final class RevokedEarlyProgram {
        public static void main(String[] args) {
            long dayMillis = 24L * 60 * 60 * 1_000;
            try (Harness kv = new Harness()) {
                // Of those that are left in a queue, a hundred bytes each would fill the heap twice.
                for (int i = 1; i <= 300_000; i++) {
                    kv.applied(new Command.Grant(i, dayMillis));
                    if (i % 3 == 0) {
                        kv.applied(set(attach(A, i), attach(B, i)));
                        kv.applied(new Command.Revoke(i, 1));
                        kv.applied(set(put(A, value(1)), put(B, value(1)))); // Its last key leaves it: it is over.
                    } else if (i % 3 == 1) {
                        kv.nanos.incrementAndGet();
                        assertNotNull(kv.store.keepAlive(i));
                        assertEquals(new Result.Applied(kv.store.revision(), 0), kv.store.revoke(i));
                    } else {
                        kv.applied(new Command.Revoke(i, 1));
                    }
                }
                assertEquals(0, kv.store.counters().leases());
            }
        }
    }

    /** S11: closed, nothing ends any more, and nobody is bothered with it. */
    @Test
    void aClosedStoreKeepsWhatItHas() {
        Harness kv = new Harness(ROOMY, true);
        kv.applied(new Command.Grant(1, 5));
        kv.applied(set(attach(A, 1)));
        kv.close();
        kv.nanos.set(5 * MILLI + 1);
        assertThrows(IllegalStateException.class, kv.store::expireLeases);
        assertNotNull(kv.store.get(A));
        assertThrows(IllegalStateException.class, () -> kv.log.submit(new Command.Grant(2, 5)));
    }
}
