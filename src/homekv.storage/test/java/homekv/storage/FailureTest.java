package homekv.storage;

import static homekv.storage.Harness.ROOMY;
import static homekv.storage.Harness.delete;
import static homekv.storage.Harness.number;
import static homekv.storage.Harness.put;
import static homekv.storage.Harness.set;
import static homekv.storage.Harness.value;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.ConcurrentModificationException;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Supplier;
import org.junit.jupiter.api.Test;

/** Commands that fail half-way: S11. */
class FailureTest {
    private static final Bytes A = Bytes.utf8("a");
    private static final Bytes B = Bytes.utf8("b");
    private static final List<Write> WRITES =
            List.of(put(A, value(2)), delete(B), put(Bytes.utf8("c"), value(2)), put(Bytes.utf8("d"), value(2)));

    /** Every place that reads the command's list fails once, with everything that can be thrown. */
    @Test
    void aCommandThatFailsBeforeItIsCommittedLeavesNothingBehind() {
        List<Supplier<Throwable>> failures = List.of(
                () -> new OutOfMemoryError("planted"),
                () -> new StackOverflowError("planted"),
                () -> new InternalError("planted"),
                () -> new ConcurrentModificationException("planted"));
        for (Supplier<Throwable> failure : failures) {
            int failed = 0;
            while (failsAtAccess(failed, failure.get())) {
                failed++;
            }
            // Checking limits, admission, looking for repeated keys, fetching ahead, staging.
            assertEquals(5 * WRITES.size(), failed);
        }
    }

    /** Whether the command failed, and not succeeded because it takes fewer accesses. */
    private static boolean failsAtAccess(int failingAccess, Throwable failure) {
        try (Harness kv = new Harness()) {
            kv.applied(set(put(A, value(1)), put(B, value(1))));
            Counters before = kv.store.counters();
            AtomicInteger accesses = new AtomicInteger();
            List<Write> writes = Harness.list(WRITES.size(), index -> {
                if (accesses.getAndIncrement() == failingAccess) {
                    Harness.<RuntimeException>sneakyThrow(failure);
                }
                return WRITES.get(index);
            });
            boolean failed = false;
            try {
                kv.applied(new Command.Set(writes));
            } catch (Throwable e) {
                assertSame(failure, e);
                failed = true;
                assertEquals(before, kv.store.counters());
                assertEquals(1, number(kv.store.get(A)));
                assertEquals(1, number(kv.store.get(B)));
                assertNull(kv.store.get(Bytes.utf8("c")));
            }
            kv.store.checkInvariants();
            kv.assertNothingHeldButLiveKeys();
            // The store goes on as if nothing had been.
            assertEquals(failed ? 2 : 3, kv.applied(new Command.Set(WRITES)).revision());
            assertEquals(2, number(kv.store.get(A)));
            kv.applied(Harness.del(A, B, Bytes.utf8("c"), Bytes.utf8("d")));
            kv.assertNothingHeldButLiveKeys();
            assertEquals(0, kv.store.counters().heldBytes());
            return failed;
        }
    }

    /**
     * Submits a command that fails half-way through its commit, after the version of the first key has been taken into
     * the account: when everything is made, a command within the turn gives the second key another version, and fails.
     */
    private static AssertionError failInCommit(Harness kv) {
        AtomicInteger accesses = new AtomicInteger();
        Command another = new Command.Set(Harness.list(2, index -> {
            if (accesses.incrementAndGet()
                    == 6) { // After looking for repeated keys, fetching, and staging the first write.
                throw new NoSuchElementException("planted");
            }
            return index == 0 ? put(B, value(4)) : put(A, value(4));
        }));
        kv.whenClockIsRead = () -> {
            if (kv.store.turn.isHeldByCurrentThread()) {
                kv.whenClockIsRead = () -> {};
                assertThrows(NoSuchElementException.class, () -> kv.store.apply(another));
            }
        };
        return assertThrows(AssertionError.class, () -> kv.log.submit(set(put(A, value(3)), put(B, value(3)))));
    }

    /**
     * What is linked above the last published revision is never read, and what lies below it is not dropped for it,
     * whoever sweeps and for whatever reason.
     */
    @Test
    void aStoreThatStopsHalfWayThroughACommandIsReadAsItWasBefore() {
        for (boolean pinned : new boolean[] {false, true}) {
            try (Harness kv = new Harness(ROOMY.with(Limit.MEMORY_BYTES, 10_000))) {
                kv.applied(set(put(A, value(1)), put(B, value(1))));
                Snapshot before = pinned ? kv.store.snapshot() : null;
                kv.applied(set(put(A, value(2)), put(B, value(2))));
                failInCommit(kv);
                try (Snapshot after = kv.store.snapshot()) {
                    assertEquals(2, after.revision());
                    assertEquals(2, number(after.get(A)));
                    assertEquals(2, number(after.get(B)));
                }
                if (pinned) {
                    assertEquals(1, number(before.get(A)));
                    before.close();
                }
                assertThrows(IllegalStateException.class, () -> kv.log.submit(set(put(B, value(4)))));
                assertThrows(IllegalStateException.class, () -> kv.log.submit(Harness.del(A)));
                // So large that there is only room if something is dropped.
                assertThrows(IllegalStateException.class, () -> kv.log.submit(set(put(B, Harness.bytes(9_600)))));
                kv.store.sweep();
                assertEquals(2, kv.store.get(List.of(A, B)).revision());
                assertEquals(2, number(kv.store.get(A)));
                assertEquals(2, number(kv.store.get(B)));
                assertEquals(2, kv.store.counters().sets());
            }
        }
    }

    /** Why it stopped is what it goes on saying, also once it has been closed. */
    @Test
    void aStoreThatHasStoppedSaysWhy() {
        Harness kv = new Harness();
        AssertionError cause = failInCommit(kv);
        for (int i = 0; i < 2; i++) {
            IllegalStateException stopped =
                    assertThrows(IllegalStateException.class, () -> kv.log.submit(set(put(B, value(4)))));
            assertSame(cause, stopped.getCause());
            kv.close();
        }
    }
}
