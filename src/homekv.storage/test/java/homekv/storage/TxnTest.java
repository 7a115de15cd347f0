package homekv.storage;

import static homekv.storage.Harness.ROOMY;
import static homekv.storage.Harness.bytes;
import static homekv.storage.Harness.del;
import static homekv.storage.Harness.key;
import static homekv.storage.Harness.put;
import static homekv.storage.Harness.set;
import static homekv.storage.Harness.value;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.ConcurrentModificationException;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Supplier;
import org.junit.jupiter.api.Test;

/** Transactions: what they see and do, and that one that is refused or fails has done nothing: S5, S9, S11, S12. */
class TxnTest {
    private static final Bytes A = Bytes.utf8("a");
    private static final Bytes B = Bytes.utf8("b");
    private static final Bytes C = Bytes.utf8("c");

    /** A window in which nothing is lost, so that a version too many would be found. */
    private static final Limits LIMITS = ROOMY.with(Limit.HISTORY_BYTES, 1 << 30);

    private static Op.Put putOp(Bytes key, long number) {
        return new Op.Put(key, value(number), 0);
    }

    private static Op.Scan scan(Range range) {
        return new Op.Scan(range, false, 0, false);
    }

    private static Result.Transacted transacted(Harness kv, Txn txn) {
        return assertInstanceOf(Result.Transacted.class, kv.log.submit(txn));
    }

    /** Submits a command that must change nothing whatsoever, not even a chain without versions. */
    private static Result unchanged(Harness kv, Command command) {
        Counters before = kv.store.counters();
        List<LeaseStatus> leases = kv.store.leases();
        Result result = kv.log.submit(command);
        assertEquals(before, kv.store.counters());
        assertEquals(leases, kv.store.leases());
        kv.store.checkInvariants();
        return result;
    }

    // ---- What a transaction does ----

    /** S5 */
    @Test
    void stepsSeeTheStepsBeforeThemAndAllTakeOneRevision() {
        try (Harness kv = new Harness(LIMITS)) {
            kv.applied(set(put(A, value(1)), put(B, value(1))));
            Entry before = kv.store.get(A);
            Entry again = new Entry(A, value(2), 1, 2, 2, 0);
            Entry created = new Entry(B, value(9), 2, 2, 1, 0);
            Entry counted = new Entry(A, value(5), 1, 2, 2, 0);
            assertEquals(
                    new Result.Transacted(
                            2,
                            true,
                            List.of(
                                    new OpResult.Put(before),
                                    new OpResult.Got(again),
                                    new OpResult.Deleted(1, List.of(kv.store.get(B))),
                                    new OpResult.Got(null),
                                    new OpResult.Scanned(List.of(again), 1, false),
                                    new OpResult.Put(null),
                                    new OpResult.Incremented(5),
                                    new OpResult.Scanned(List.of(created, counted), 2, false),
                                    new OpResult.Scanned(List.of(), 2, false),
                                    new OpResult.Scanned(List.of(counted), 1, true))),
                    kv.log.submit(Txn.of(
                            new Op.Put(A, value(2), 0, true),
                            new Op.Get(A),
                            new Op.Delete(Range.key(B), true),
                            new Op.Get(B),
                            scan(Range.all()),
                            new Op.Put(B, value(9), 0, true),
                            new Op.Increment(A, 3),
                            new Op.Scan(Range.all(), true, 0, false),
                            new Op.Scan(Range.all(), true, 1, true),
                            new Op.Scan(Range.all(), false, 1, false))));
            assertEquals(List.of(counted, created), kv.store.get(List.of(A, B)).entries());
            assertEquals(4, kv.store.counters().versions(), "one version a key");
            assertEquals(1, kv.store.counters().txns());
            assertEquals(1, kv.store.counters().sets());
        }
    }

    /** S5: takes no revision, but is counted. */
    @Test
    void aTransactionThatLeavesEverythingAsItWasTakesNoRevision() {
        try (Harness kv = new Harness(LIMITS)) {
            kv.applied(set(put(A, value(1))));
            kv.applied(set(put(C, value(1))));
            kv.applied(del(C));
            kv.applied(new Command.Grant(1, 10));
            Counters before = kv.store.counters();
            List<Txn> txns = List.of(
                    Txn.of(),
                    Txn.of(new Op.Get(A), scan(Range.all())),
                    Txn.of(new Op.Delete(Range.key(B), true)),
                    Txn.of(new Op.Delete(Range.from(B), true)),
                    Txn.of(putOp(B, 1), new Op.Delete(Range.key(B), false)),
                    Txn.of(new Op.Put(C, value(1), 1), new Op.Delete(Range.prefix(C), true)),
                    new Txn(List.of(Compare.absent(A)), List.of(putOp(A, 2)), List.of(new Op.Get(A))));
            for (Txn txn : txns) {
                assertEquals(3, transacted(kv, txn).revision());
                kv.store.checkInvariants();
            }
            Counters after = kv.store.counters();
            assertEquals(txns.size(), after.txns());
            assertEquals(before.versions(), after.versions());
            assertEquals(before.heldBytes(), after.heldBytes());
            assertEquals(0, kv.store.lease(1).keys());
            assertEquals(List.of(), kv.store.history(B, 0, 10));
            assertEquals(2, kv.store.history(C, 0, 10).size());
            assertEquals(
                    4,
                    transacted(kv, Txn.of(putOp(B, 1), new Op.Delete(Range.key(B), false), putOp(C, 2)))
                            .revision());
            assertEquals(new Entry(C, value(2), 4, 4, 1, 0), kv.store.get(C));
            kv.store.checkInvariants();
        }
    }

    /** S12 */
    @Test
    void aKeyThatIsDeletedAndPutWithinATransactionIsCreatedAgain() {
        try (Harness kv = new Harness(LIMITS)) {
            kv.applied(set(put(A, value(1))));
            kv.applied(set(put(A, value(2))));
            transacted(kv, Txn.of(new Op.Delete(Range.key(A), false), putOp(A, 3), putOp(A, 4)));
            assertEquals(new Entry(A, value(4), 3, 3, 1, 0), kv.store.get(A));
            transacted(kv, Txn.of(putOp(A, 5), putOp(A, 6)));
            assertEquals(new Entry(A, value(6), 3, 4, 2, 0), kv.store.get(A));
        }
    }

    private static boolean holds(Harness kv, Compare... compares) {
        Txn txn = new Txn(List.of(compares), List.of(new Op.Get(A)), List.of());
        Result.Transacted transacted = transacted(kv, txn);
        assertEquals(transacted.succeeded() ? 1 : 0, transacted.results().size());
        return transacted.succeeded();
    }

    private static Compare number(Range range, Compare.Field field, Compare.Operator operator, long number) {
        return new Compare.Number(range, field, operator, number);
    }

    @Test
    void anAbsentKeyHasNoNumbersAndNoValue() {
        try (Harness kv = new Harness()) {
            for (Range absent : List.of(Range.key(A), Range.all(), new Range(B, A))) {
                for (Compare.Field field : Compare.Field.values()) {
                    assertTrue(holds(kv, number(absent, field, Compare.Operator.EQUAL, 0)));
                    assertTrue(holds(kv, number(absent, field, Compare.Operator.LESS, 1)));
                    assertFalse(holds(kv, number(absent, field, Compare.Operator.NOT_EQUAL, 0)));
                    assertFalse(holds(kv, number(absent, field, Compare.Operator.GREATER, 0)));
                }
                for (Compare.Operator operator : Compare.Operator.values()) {
                    assertFalse(holds(kv, new Compare.Value(absent, operator, Bytes.utf8(""))));
                    assertFalse(holds(kv, new Compare.Value(absent, operator, value(1))));
                }
                assertTrue(holds(kv, new Compare.Count(absent, Compare.Operator.EQUAL, 0)));
            }
            assertTrue(holds(kv, Compare.absent(A)));
            assertTrue(holds(kv, Compare.lastWritten(A, 0)));
            assertFalse(holds(kv, Compare.valueIs(A, Bytes.utf8(""))));
        }
    }

    @Test
    void aComparisonOfARangeHoldsOnlyIfItHoldsForEveryLiveKey() {
        try (Harness kv = new Harness()) {
            for (int i = 1; i <= 4; i++) {
                kv.applied(set(put(key(i), value(i))));
            }
            kv.applied(del(key(4)));
            Range all = Range.prefix(Bytes.utf8("key-"));
            Compare.Field modified = Compare.Field.MODIFICATION_REVISION;
            assertTrue(holds(kv, number(all, modified, Compare.Operator.LESS, 4)));
            assertFalse(holds(kv, number(all, modified, Compare.Operator.LESS, 3)));
            assertTrue(holds(kv, number(all, modified, Compare.Operator.GREATER, 0)));
            assertFalse(holds(kv, number(all, modified, Compare.Operator.EQUAL, 2)));
            assertFalse(holds(kv, number(all, modified, Compare.Operator.NOT_EQUAL, 2)));
            assertTrue(holds(kv, number(all, modified, Compare.Operator.NOT_EQUAL, 4)), "it is deleted");
            assertTrue(holds(kv, new Compare.Value(all, Compare.Operator.LESS, value(4))));
            assertFalse(holds(kv, new Compare.Value(all, Compare.Operator.LESS, value(3))));
            assertTrue(holds(kv, new Compare.Count(all, Compare.Operator.EQUAL, 3)));
            assertFalse(holds(kv, new Compare.Count(all, Compare.Operator.EQUAL, 3), Compare.absent(key(1))));
        }
    }

    @Test
    void aTransactionWithinAnotherSeesTheStepsBeforeIt() {
        try (Harness kv = new Harness()) {
            Txn inner = new Txn(
                    List.of(Compare.valueIs(A, value(1))), List.of(putOp(B, 1)), List.of(putOp(C, 1), new Op.Get(A)));
            assertEquals(
                    List.of(
                            new OpResult.Put(null),
                            new OpResult.Transacted(true, List.of(new OpResult.Put(null))),
                            new OpResult.Incremented(2),
                            new OpResult.Transacted(
                                    false,
                                    List.of(
                                            new OpResult.Put(null),
                                            new OpResult.Got(new Entry(A, value(2), 1, 1, 1, 0))))),
                    transacted(kv, Txn.of(putOp(A, 1), inner, new Op.Increment(A, 1), inner))
                            .results());
            assertEquals(3, kv.store.counters().keys());
        }
    }

    @Test
    void onlyDecimalIntegersOfSixtyFourBitsAreIncremented() {
        try (Harness kv = new Harness()) {
            String[] integers = {"0", "-0", "007", "-9223372036854775808", "9223372036854775806"};
            long[] sums = {1, 1, 8, -9223372036854775807L, Long.MAX_VALUE};
            for (int i = 0; i < integers.length; i++) {
                kv.applied(set(put(A, Bytes.utf8(integers[i]))));
                assertEquals(
                        List.of(new OpResult.Incremented(sums[i])),
                        transacted(kv, Txn.of(new Op.Increment(A, 1))).results());
                assertEquals(Long.toString(sums[i]), kv.store.get(A).value().utf8());
            }
            String[] others = {"", "-", " 1", "1 ", "1.0", "0x1", "1e3", "٣", "９", "9223372036854775807"};
            for (String other : others) {
                kv.applied(set(put(A, Bytes.utf8(other))));
                assertEquals(new Result.NotAnInteger(A), unchanged(kv, Txn.of(new Op.Increment(A, 1))), other);
            }
            kv.applied(set(put(A, Bytes.utf8("1"))));
            assertEquals(new Result.NotAnInteger(A), unchanged(kv, Txn.of(new Op.Increment(A, Long.MAX_VALUE))));
            assertEquals(
                    List.of(new OpResult.Incremented(Long.MIN_VALUE)),
                    transacted(kv, Txn.of(new Op.Increment(B, Long.MIN_VALUE))).results());
        }
    }

    // ---- What is refused ----

    /** S9: whatever has been staged by then, of keys that are there, were there and never were. */
    @Test
    void aTransactionThatIsRefusedMidwayHasDoneNothing() {
        try (Harness kv = new Harness(LIMITS.with(Limit.REQUEST_KEYS, 12).with(Limit.RESPONSE_BYTES, 2_000))) {
            kv.applied(new Command.Grant(1, 1_000));
            kv.applied(new Command.Grant(2, 1_000));
            kv.applied(set(new Write.Put(A, value(1), 1), put(B, bytes(1_500)), put(C, Bytes.utf8("none"))));
            kv.applied(set(put(key(1), value(1))));
            kv.applied(del(key(1)));
            List<Op> staged = List.of(
                    new Op.Put(A, value(2), 2),
                    new Op.Delete(Range.key(B), false),
                    new Op.Put(key(1), value(2), 2),
                    new Op.Put(key(2), value(2), 1),
                    new Op.Increment(key(3), 1),
                    putOp(key(4), 1),
                    new Op.Delete(Range.key(key(4)), false));
            List<Op> refused = List.of(
                    new Op.Increment(C, 1),
                    new Op.Put(key(5), value(1), 3),
                    new Op.Put(A, value(1), 3),
                    new Txn(
                            List.of(Compare.absent(key(9))),
                            List.of(putOp(key(5), 1), new Op.Increment(C, 1)),
                            List.of()),
                    Txn.of(new Op.Put(B, bytes(1_900), 0), new Op.Get(B), new Op.Get(B)),
                    Txn.of(scan(Range.all()), scan(Range.all()), scan(Range.all())));
            List<Result> results = new ArrayList<>();
            for (Op last : refused) {
                List<Op> steps = new ArrayList<>(staged);
                steps.add(last);
                results.add(unchanged(kv, new Txn(List.of(), steps, List.of())));
                results.add(unchanged(kv, new Txn(List.of(Compare.absent(A)), List.of(), steps)));
            }
            List<Class<?>> kinds = List.of(
                    Result.NotAnInteger.class,
                    Result.NoLease.class,
                    Result.NoLease.class,
                    Result.NotAnInteger.class,
                    Result.Refused.class,
                    Result.Refused.class);
            for (int i = 0; i < results.size(); i++) {
                assertInstanceOf(kinds.get(i / 2), results.get(i), results.get(i)::toString);
            }
            // And it is the last step that was refused, not the ones before it.
            assertEquals(
                    4, transacted(kv, new Txn(List.of(), staged, List.of())).revision());
            kv.store.checkInvariants();
        }
    }

    /** All keys that comparisons, scans and deletions go through count together. */
    @Test
    void aTransactionGoesThroughAsManyKeysAsAllowedAndNoMore() {
        try (Harness kv = new Harness(LIMITS.with(Limit.REQUEST_KEYS, 20))) {
            List<Bytes> keys = MvccStoreTest.keys(10);
            kv.applied(
                    new Command.Set(keys.stream().map(key -> put(key, value(1))).toList()));
            Compare ten = number(Range.all(), Compare.Field.VERSION, Compare.Operator.EQUAL, 1);
            Result.Refused refused = new Result.Refused(Limit.REQUEST_KEYS, 21, 20);
            transacted(kv, Txn.of(scan(Range.all()), scan(Range.all())));
            assertEquals(refused, unchanged(kv, Txn.of(scan(Range.all()), scan(Range.all()), new Op.Get(A))));
            Compare others = number(Range.from(Bytes.utf8("")), Compare.Field.VERSION, Compare.Operator.EQUAL, 1);
            Compare first = number(Range.key(keys.get(0)), Compare.Field.VERSION, Compare.Operator.EQUAL, 1);
            assertEquals(
                    refused,
                    unchanged(kv, new Txn(List.of(ten, first, ten), List.of(), List.of())),
                    "one after another");
            transacted(kv, new Txn(List.of(others, ten, ten), List.of(scan(Range.all())), List.of()));
            Op.Scan counting = new Op.Scan(Range.all(), true, 0, true);
            assertEquals(refused, unchanged(kv, Txn.of(counting, counting, counting)));
            assertEquals(
                    refused,
                    unchanged(kv, new Txn(List.of(ten, first), List.of(new Op.Delete(Range.all(), false)), List.of())));
            transacted(kv, new Txn(List.of(ten), List.of(new Op.Delete(Range.all(), false)), List.of()));
            assertEquals(0, kv.store.counters().keys());
        }
    }

    /** S8: a deleted key is in the map as long as a snapshot needs it, which is nothing that the commands say. */
    @Test
    void howFarATransactionMayGoDoesNotDependOnWhatSnapshotsAreOpen() {
        Limits limits = ROOMY.with(Limit.REQUEST_KEYS, 20);
        try (Harness kept = new Harness(limits);
                Harness dropped = new Harness(limits)) {
            Snapshot snapshot = null;
            for (Harness kv : List.of(kept, dropped)) {
                for (int i = 0; i < 60; i++) {
                    kv.applied(set(put(key(i), value(1))));
                }
                snapshot = kv == kept ? kv.store.snapshot() : snapshot;
                for (int i = 0; i < 60; i++) {
                    if (i % 6 != 0) {
                        kv.applied(del(key(i)));
                    }
                }
                kv.store.sweep();
            }
            assertEquals(110, kept.store.counters().versions(), "each deletion and what it deleted");
            assertEquals(10, dropped.store.counters().versions());
            Compare ten = number(Range.all(), Compare.Field.VERSION, Compare.Operator.EQUAL, 1);
            Compare counted = new Compare.Count(Range.from(key(0)), Compare.Operator.EQUAL, 10);
            Op.Scan descending = new Op.Scan(Range.all(), true, 0, false);
            Op.Scan counting = new Op.Scan(Range.all(), false, 0, true);
            Op.Scan first = new Op.Scan(Range.from(key(1)), false, 1, false);
            List<Txn> txns = List.of(
                    Txn.of(scan(Range.all()), descending),
                    Txn.of(counting, counting),
                    Txn.of(first, first, first, first),
                    new Txn(List.of(ten), List.of(scan(Range.all())), List.of()),
                    new Txn(List.of(counted), List.of(counting), List.of()),
                    Txn.of(scan(Range.all()), new Op.Delete(Range.all(), true)));
            for (Txn txn : txns) {
                List<Op> oneMore = new ArrayList<>(txn.then());
                oneMore.addAll(List.of(counting, counting));
                Txn tooMuch = new Txn(txn.compares(), oneMore, List.of());
                boolean deletes = txn.then().get(txn.then().size() - 1) instanceof Op.Delete;
                if (!deletes) {
                    Result.Refused refused = new Result.Refused(Limit.REQUEST_KEYS, 21, 20);
                    assertEquals(refused, unchanged(dropped, tooMuch));
                    assertEquals(refused, unchanged(kept, tooMuch));
                }
                assertEquals(transacted(dropped, txn), transacted(kept, txn));
            }
            assertEquals(0, kept.store.counters().keys());
            snapshot.close();
            kept.assertNothingHeldButLiveKeys();
        }
    }

    /** Steps and comparisons count, in both branches and within, whether they are carried out or not. */
    @Test
    void aTransactionHasAsManyStepsAsAllowedAndNoMore() {
        try (Harness kv = new Harness(LIMITS.with(Limit.REQUEST_KEYS, 6))) {
            Txn inner = new Txn(List.of(Compare.absent(A)), List.of(putOp(A, 1)), List.of());
            Txn allowed = new Txn(List.of(Compare.absent(B)), List.of(inner, putOp(B, 1)), List.of(new Op.Get(B)));
            transacted(kv, allowed);
            List<Op> oneMore = new ArrayList<>(allowed.otherwise());
            oneMore.add(new Op.Get(A));
            assertEquals(
                    new Result.Refused(Limit.REQUEST_KEYS, 7, 6),
                    unchanged(kv, new Txn(allowed.compares(), allowed.then(), oneMore)));
        }
    }

    @Test
    void aTransactionAnswersAsManyBytesAsAllowedAndNoMore() {
        int entryBytes = 1 + 100 + 32;
        try (Harness kv = new Harness(LIMITS.with(Limit.RESPONSE_BYTES, 3 * entryBytes))) {
            kv.applied(set(put(A, bytes(100)), put(B, bytes(100)), put(C, bytes(100))));
            Op all = scan(Range.all());
            transacted(kv, Txn.of(all));
            transacted(kv, Txn.of(new Op.Get(A), new Op.Put(B, bytes(100), 0, true), new Op.Get(B)));
            Op deletes = new Op.Delete(Range.all(), true);
            Result.Refused refused = new Result.Refused(Limit.RESPONSE_BYTES, 4 * entryBytes, 3 * entryBytes);
            assertEquals(refused, unchanged(kv, Txn.of(all, new Op.Get(A))));
            assertEquals(refused, unchanged(kv, Txn.of(new Op.Get(A), all)));
            assertEquals(refused, unchanged(kv, Txn.of(new Op.Put(A, bytes(100), 0, true), deletes)));
            transacted(kv, Txn.of(new Op.Scan(Range.all(), false, 0, true, false), new Op.Get(A)));
            transacted(kv, Txn.of(new Op.Scan(Range.all(), false, 0, true), all));
            transacted(kv, Txn.of(new Op.Put(A, bytes(100), 0), all));
            transacted(kv, Txn.of(deletes));
            assertEquals(0, kv.store.counters().keys());
        }
    }

    @Test
    void transactionsLieWithinEachOtherAsDeepAsAllowedAndNoDeeper() {
        try (Harness kv = new Harness(LIMITS.with(Limit.TXN_DEPTH, 3))) {
            Txn nested = Txn.of(putOp(A, 1));
            for (int depth = 2; depth <= 3; depth++) {
                nested = Txn.of(nested, nested);
                transacted(kv, nested);
            }
            Result.Refused refused = new Result.Refused(Limit.TXN_DEPTH, 4, 3);
            assertEquals(refused, unchanged(kv, Txn.of(putOp(B, 1), nested)));
            assertEquals(refused, unchanged(kv, new Txn(List.of(), List.of(), List.of(nested))));
        }
    }

    /** S9: as of Set, wherever in a transaction they stand. */
    @Test
    void keysAndValuesOfTransactionsHaveTheirLimits() {
        try (Harness kv = new Harness(LIMITS.with(Limit.KEY_BYTES, 10).with(Limit.VALUE_BYTES, 10))) {
            Result.Refused longKey = new Result.Refused(Limit.KEY_BYTES, 11, 10);
            Result.Refused emptyKey = new Result.Refused(Limit.KEY_BYTES, 0, 10);
            Result.Refused longValue = new Result.Refused(Limit.VALUE_BYTES, 11, 10);
            Result.Refused longRange = new Result.Refused(Limit.KEY_BYTES, 12, 10);
            transacted(kv, Txn.of(new Op.Put(bytes(10), bytes(10), 0), new Op.Delete(Range.key(bytes(10)), true)));
            List<Op> bad = List.of(
                    new Op.Get(bytes(11)),
                    new Op.Get(bytes(0)),
                    new Op.Put(bytes(11), value(1), 0),
                    new Op.Put(bytes(0), value(1), 0),
                    new Op.Put(A, bytes(11), 0),
                    new Op.Increment(bytes(11), 1),
                    new Op.Increment(bytes(0), 1),
                    scan(Range.key(bytes(11))),
                    new Op.Delete(Range.from(bytes(12)), false),
                    new Txn(List.of(Compare.absent(bytes(11))), List.of(), List.of()),
                    new Txn(List.of(Compare.valueIs(A, bytes(11))), List.of(), List.of()));
            List<Result> expected = List.of(
                    longKey, emptyKey, longKey, emptyKey, longValue, longKey, emptyKey, longRange, longRange, longRange,
                    longValue);
            for (int i = 0; i < bad.size(); i++) {
                assertEquals(expected.get(i), unchanged(kv, Txn.of(putOp(A, 1), bad.get(i))));
                assertEquals(
                        expected.get(i),
                        unchanged(kv, new Txn(List.of(Compare.absent(B)), List.of(), List.of(Txn.of(bad.get(i))))));
            }
        }
    }

    // ---- Memory ----

    /** Puts values of a thousand bytes until there is no room for one more; returns how many. */
    private static int fill(Harness kv) {
        int keys = 0;
        while (kv.log.submit(set(put(key(keys), bytes(1_000)))) instanceof Result.Applied) {
            keys++;
        }
        return keys;
    }

    /** S9 */
    @Test
    void aFullStoreRefusesWhatWouldMakeItLargerAndTakesWhatWouldNot() {
        try (Harness kv = new Harness(ROOMY.with(Limit.MEMORY_BYTES, 200_000))) {
            int keys = fill(kv);
            Compare there = new Compare.Number(Range.key(key(0)), Compare.Field.VERSION, Compare.Operator.GREATER, 0);
            Op larger = new Op.Put(Bytes.utf8("new"), bytes(1_000), 0);
            Op same = new Op.Put(key(0), bytes(1_000), 0);
            for (Txn refused : List.of(
                    Txn.of(larger),
                    Txn.of(same, larger),
                    Txn.of(Txn.of(same), Txn.of(larger)),
                    new Txn(List.of(there), List.of(larger), List.of()),
                    new Txn(List.of(there), List.of(), List.of(larger)))) {
                Result.Refused result = assertInstanceOf(Result.Refused.class, unchanged(kv, refused));
                assertEquals(Limit.MEMORY_BYTES, result.limit());
            }
            for (Txn taken : List.of(
                    Txn.of(same),
                    Txn.of(new Op.Get(key(1)), Txn.of(same)),
                    new Txn(List.of(there), List.of(same), List.of(same)),
                    new Txn(List.of(there), List.of(same), List.of(new Op.Put(key(1), bytes(900), 0))),
                    Txn.of(new Op.Delete(Range.key(key(0)), false), larger),
                    Txn.of(new Op.Delete(Range.key(key(1)), true), new Op.Get(key(1))),
                    Txn.of(new Op.Delete(Range.all(), false)))) {
                transacted(kv, taken);
                assertTrue(kv.store.counters().heldBytes() <= 200_000);
            }
            assertTrue(keys > 100);
            assertEquals(0, kv.store.counters().heldBytes());
        }
    }

    /**
     * S9, from the side of somebody who means it ill: a branch that is not taken makes no room for the one that is, and
     * one that writes little does not hide how much the other writes.
     */
    @Test
    void noBranchBuysRoomForAnother() {
        Compare never = new Compare.Count(Range.all(), Compare.Operator.LESS, 0);
        Compare always = new Compare.Count(Range.all(), Compare.Operator.GREATER, -1);
        try (Harness kv = new Harness(ROOMY.with(Limit.MEMORY_BYTES, 200_000))) {
            kv.applied(set(put(A, bytes(50_000)), put(B, bytes(1))));
            fill(kv);
            List<Op> shrinks = List.of(putOp(A, 1));
            for (int i = 0; i < 100; i++) {
                List<Op> grows = List.of(new Op.Put(Bytes.utf8("new" + i), bytes(20_000), 0));
                List<Op> same = List.of(new Op.Put(B, bytes(20_000), 0));
                for (Txn txn : List.of(
                        new Txn(List.of(always), grows, shrinks),
                        new Txn(List.of(never), shrinks, grows),
                        new Txn(List.of(always), same, List.of(putOp(B, 1))),
                        new Txn(List.of(never), List.of(putOp(B, 1)), same),
                        Txn.of(new Txn(List.of(never), shrinks, List.of()), grows.get(0)),
                        new Txn(List.of(), grows, shrinks))) {
                    Result.Refused refused = assertInstanceOf(Result.Refused.class, unchanged(kv, txn));
                    assertEquals(Limit.MEMORY_BYTES, refused.limit());
                }
            }
        }
    }

    /** S9, at random: whatever is submitted, a transaction takes the account over the limit never. */
    @Test
    void whateverTransactionsAreTriedTheAccountStaysWithinTheLimit() throws Exception {
        Harness.seeded(Harness.count(30, 2_000), random -> {
            long memoryBytes = 60_000;
            long[] windows = {0, 10_000, memoryBytes};
            Limits limits = ROOMY.with(Limit.MEMORY_BYTES, memoryBytes)
                    .with(Limit.SNAPSHOT_BYTES, memoryBytes / 4)
                    .with(Limit.HISTORY_BYTES, windows[random.nextInt(windows.length)]);
            try (Harness kv = new Harness(limits)) {
                List<Bytes> keys = MvccStoreTest.keys(20);
                List<Snapshot> open = new ArrayList<>();
                for (int i = 0; i < 600; i++) {
                    if (random.nextInt(10) == 0) {
                        open.add(kv.store.snapshot());
                    }
                    if (!open.isEmpty() && random.nextInt(12) == 0) {
                        open.remove(random.nextInt(open.size())).close();
                    }
                    List<List<Op>> branches = new ArrayList<>();
                    for (int branch = 0; branch < 3; branch++) {
                        List<Op> steps = new ArrayList<>();
                        for (int step = random.nextInt(4); step > 0; step--) {
                            Bytes key = keys.get(random.nextInt(keys.size()));
                            steps.add(
                                    switch (random.nextInt(6)) {
                                        case 0 -> new Op.Delete(Range.key(key), false);
                                        case 1 -> new Op.Increment(Bytes.utf8("n" + random.nextInt(50)), 1);
                                        default -> new Op.Put(key, bytes(random.nextInt(12_000)), 0);
                                    });
                        }
                        branches.add(steps);
                    }
                    Compare compare = Compare.absent(keys.get(random.nextInt(keys.size())));
                    branches.get(0)
                            .add(new Txn(
                                    random.nextBoolean() ? List.of(compare) : List.of(), branches.get(2), List.of()));
                    Counters before = kv.store.counters();
                    if (random.nextBoolean()) {
                        kv.log.submit(new Txn(List.of(compare), branches.get(0), branches.get(1)));
                    } else {
                        kv.log.submit(new Txn(List.of(), branches.get(0), branches.remove(1)));
                    }
                    Counters after = kv.store.counters();
                    // Deletions are never refused, and cost a little as long as somebody reads what they delete.
                    boolean puts = branches.stream().flatMap(List::stream).anyMatch(TxnTest::isPut);
                    assertTrue(
                            !puts || after.heldBytes() <= Math.max(memoryBytes, before.heldBytes()),
                            () -> "from " + before.heldBytes() + " to " + after.heldBytes());
                }
                kv.store.checkInvariants();
                open.forEach(Snapshot::close);
                transacted(kv, Txn.of(new Op.Delete(Range.all(), false)));
                kv.applied(new Command.Compact(kv.store.revision()));
                kv.assertNothingHeldButLiveKeys();
                assertEquals(0, kv.store.counters().heldBytes());
            }
        });
    }

    private static boolean isPut(Op step) {
        return step instanceof Op.Put || step instanceof Op.Increment;
    }

    // ---- What fails ----

    private static final List<Compare> COMPARES = List.of(Compare.absent(C), Compare.valueIs(A, value(1)));
    private static final List<Op> STEPS = List.of(
            new Op.Put(A, value(2), 2),
            new Op.Put(C, value(2), 1),
            new Op.Delete(Range.key(B), true),
            new Op.Put(B, value(3), 2),
            new Op.Increment(key(1), 7),
            new Op.Delete(Range.key(key(1)), false),
            scan(Range.all()));

    /** S11: every place that reads one of the command's lists, or the clock, fails once, with everything there is. */
    @Test
    void aTransactionThatFailsAnywhereLeavesNothingBehind() {
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
            // Checking limits, admission, carrying out; and the clock.
            assertTrue(failed > 2 * COMPARES.size() + 3 * 2 * STEPS.size(), "only " + failed);
        }
    }

    private static boolean failsAtAccess(int failingAccess, Throwable failure) {
        try (Harness kv = new Harness(LIMITS)) {
            kv.applied(new Command.Grant(1, 1_000));
            kv.applied(new Command.Grant(2, 1_000));
            kv.applied(set(new Write.Put(A, value(1), 1), new Write.Put(B, value(1), 2)));
            Counters before = kv.store.counters();
            List<LeaseStatus> leases = kv.store.leases();
            List<Entry> entries = kv.store.read(List.of(A, B, C, key(1))).entries();
            AtomicInteger accesses = new AtomicInteger();
            Runnable access = () -> {
                if (accesses.getAndIncrement() == failingAccess) {
                    Harness.<RuntimeException>sneakyThrow(failure);
                }
            };
            Txn within = new Txn(failing(COMPARES, access), List.of(), failing(STEPS, access));
            kv.whenClockIsRead = () -> {
                if (kv.store.turn.isHeldByCurrentThread()) {
                    access.run();
                }
            };
            boolean failed = false;
            try {
                transacted(kv, new Txn(failing(COMPARES, access), failing(plus(STEPS, within), access), List.of()));
            } catch (Throwable e) {
                assertSame(failure, e);
                failed = true;
                assertEquals(before, kv.store.counters());
                assertEquals(leases, kv.store.leases());
                assertEquals(entries, kv.store.read(List.of(A, B, C, key(1))).entries());
            }
            kv.whenClockIsRead = () -> {};
            kv.store.checkInvariants();
            kv.store.sweep();
            kv.store.checkInvariants();
            // The store goes on as if nothing had been.
            assertEquals(failed ? 2 : 3, kv.applied(del(A, B)).revision());
            kv.applied(del(C));
            kv.applied(new Command.Revoke(1, 10));
            kv.applied(new Command.Revoke(2, 10));
            kv.applied(new Command.Compact(kv.store.revision()));
            kv.assertNothingHeldButLiveKeys();
            assertEquals(0, kv.store.counters().heldBytes());
            return failed;
        }
    }

    private static <T> List<T> failing(List<T> list, Runnable access) {
        return Harness.list(list.size(), index -> {
            access.run();
            return list.get(index);
        });
    }

    private static List<Op> plus(List<Op> steps, Op last) {
        List<Op> all = new ArrayList<>(steps);
        all.add(last);
        return all;
    }

    /** S2, S10: a transaction that has written and stands still shows nothing to others, and holds up no reader. */
    @Test
    void nothingOfATransactionIsVisibleWhileItStandsStill() {
        try (Harness kv = new Harness(LIMITS)) {
            kv.applied(set(put(A, value(1)), put(B, value(1))));
            List<Op> steps = List.of(putOp(A, 2), new Op.Delete(Range.key(B), false), putOp(C, 2), new Op.Get(A));
            List<Entry> before = kv.store.read(List.of(A, B, C)).entries();
            assertNull(before.get(2));
            AtomicInteger stops = new AtomicInteger();
            transacted(
                    kv,
                    new Txn(
                            List.of(),
                            failing(steps, () -> {
                                if (kv.store.turn.isHeldByCurrentThread()) {
                                    stops.incrementAndGet();
                                    try (Harness.Crew readers = new Harness.Crew()) {
                                        readers.start(() -> {
                                            assertEquals(new Reading(1, before), kv.store.read(List.of(A, B, C)));
                                            try (Snapshot snapshot = kv.store.snapshot()) {
                                                assertEquals(
                                                        before.subList(0, 2),
                                                        ModelTest.list(snapshot.scan(Range.all(), false)));
                                                assertEquals(
                                                        before.subList(0, 2).reversed(),
                                                        ModelTest.list(snapshot.scan(Range.all(), true)));
                                                assertEquals(2, snapshot.count(Range.all()));
                                            }
                                            assertEquals(
                                                    1,
                                                    kv.store.history(A, 0, 10).size());
                                            assertEquals(
                                                    0,
                                                    kv.store.history(C, 0, 10).size());
                                        });
                                    }
                                }
                            }),
                            List.of()));
            assertTrue(stops.get() >= steps.size());
            assertEquals(
                    Arrays.asList(new Entry(A, value(2), 1, 2, 2, 0), null, new Entry(C, value(2), 2, 2, 1, 0)),
                    kv.store.read(List.of(A, B, C)).entries());
        }
    }
}
