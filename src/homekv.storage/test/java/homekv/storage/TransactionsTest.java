package homekv.storage;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;

/** S17: what a transaction has read still holds when it is committed, ranges included. */
class TransactionsTest {
    private static final Bytes A = Bytes.utf8("a");
    private static final Bytes B = Bytes.utf8("b");
    private static final Bytes C = Bytes.utf8("c");
    private static final Bytes RESULT = Bytes.utf8("result");

    private static Transactions transactions(Harness kv, int attempts) {
        return new Transactions(kv.store, kv.log, attempts);
    }

    /** How often a function runs in whose first run somebody else does something before it is committed. */
    private static int attempts(Harness kv, Consumer<Transaction> reads, Command between) {
        AtomicInteger attempts = new AtomicInteger();
        new Transactions(kv.store, kv.log).run(transaction -> {
            reads.accept(transaction);
            if (attempts.incrementAndGet() == 1) {
                kv.log.submit(between);
            }
            transaction.put(RESULT, Harness.value(attempts.get()));
            return null;
        });
        assertEquals(Harness.value(attempts.get()), kv.store.get(RESULT).value());
        return attempts.get();
    }

    private static Harness withABandC() {
        Harness kv = new Harness();
        kv.applied(Harness.set(
                Harness.put(A, Harness.value(1)), Harness.put(B, Harness.value(2)), Harness.put(C, Harness.value(3))));
        return kv;
    }

    @Test
    void aKeyThatWasReadAndThenWrittenDeletedOrCreatedIsAConflict() {
        Bytes absent = Bytes.utf8("absent");
        for (Command between :
                List.of(Command.put(A, Harness.value(1)), Command.delete(A), Command.put(absent, Harness.value(1)))) {
            try (Harness kv = withABandC()) {
                assertEquals(
                        2,
                        attempts(
                                kv,
                                transaction -> {
                                    transaction.get(A);
                                    transaction.get(absent);
                                },
                                between));
            }
        }
    }

    @Test
    void aKeyThatWasDeletedAndCreatedAgainAsItWasIsAConflict() {
        try (Harness kv = withABandC()) {
            assertEquals(
                    2,
                    attempts(
                            kv,
                            transaction -> transaction.get(A),
                            new Txn(
                                    List.of(),
                                    List.of(new Op.Delete(Range.key(A), false), new Op.Put(A, Harness.value(1), 0)),
                                    List.of())));
        }
    }

    @Test
    void whatWasNotReadIsNoConflict() {
        try (Harness kv = withABandC()) {
            assertEquals(1, attempts(kv, transaction -> transaction.get(A), Command.put(B, Harness.value(9))));
            assertEquals(1, attempts(kv, transaction -> transaction.put(A, B), Command.put(A, Harness.value(9))));
        }
    }

    private static void readAll(Iterator<Map.Entry<Bytes, Bytes>> entries) {
        entries.forEachRemaining(entry -> {});
    }

    @Test
    void aRangeThatWasReadAndInWhichAKeyIsWrittenAddedOrDeletedIsAConflict() {
        for (boolean descending : new boolean[] {false, true}) {
            for (Command between : List.of(
                    Command.put(B, Harness.value(1)),
                    Command.delete(B),
                    Command.put(Bytes.utf8("bb"), Harness.value(1)),
                    Harness.set(Harness.delete(B), Harness.put(Bytes.utf8("bb"), Harness.value(1))))) {
                try (Harness kv = withABandC()) {
                    Range range = new Range(A, Bytes.utf8("d"));
                    assertEquals(2, attempts(kv, transaction -> readAll(transaction.scan(range, descending)), between));
                }
            }
            try (Harness kv = withABandC()) {
                Range empty = new Range(Bytes.utf8("x"), Bytes.utf8("z"));
                assertEquals(
                        2,
                        attempts(
                                kv,
                                transaction -> readAll(transaction.scan(empty, descending)),
                                Command.put(Bytes.utf8("y"), Harness.value(1))));
            }
        }
    }

    @Test
    void theRestOfARangeThatWasNotReadIsNoConflict() {
        try (Harness kv = withABandC()) {
            Range range = new Range(A, Bytes.utf8("d"));
            Consumer<Transaction> readsA = transaction ->
                    assertEquals(A, transaction.scan(range, false).next().getKey());
            Consumer<Transaction> readsC = transaction ->
                    assertEquals(C, transaction.scan(range, true).next().getKey());
            // One more than was returned may have been read.
            assertEquals(1, attempts(kv, readsA, Command.put(C, Harness.value(4))));
            assertEquals(1, attempts(kv, readsC, Command.put(A, Harness.value(4))));
            assertEquals(2, attempts(kv, readsA, Command.put(A, Harness.value(5))));
            assertEquals(2, attempts(kv, readsC, Command.put(C, Harness.value(5))));
            assertEquals(1, attempts(kv, transaction -> transaction.scan(range, true), Command.delete(C)));
        }
    }

    @Test
    void ofTwoThatReadWhatTheOtherWritesOneRunsAgain() {
        try (Harness kv = withABandC()) {
            // Write skew: each alone leaves one of both at 1; run at the same time, neither may see the other's past.
            AtomicInteger attempts = new AtomicInteger();
            new Transactions(kv.store, kv.log).run(first -> {
                boolean both = first.get(A) != null && first.get(B) != null;
                if (attempts.incrementAndGet() == 1) {
                    new Transactions(kv.store, kv.log).run(second -> {
                        assertTrue(second.get(A) != null && second.get(B) != null);
                        second.delete(B);
                        return null;
                    });
                }
                if (both) {
                    first.delete(A);
                }
                first.put(C, Harness.value(both ? 1 : 0));
                return null;
            });
            assertEquals(2, attempts.get());
            assertEquals(Harness.value(1), kv.store.get(A).value());
            assertEquals(null, kv.store.get(B));
        }
    }

    @Test
    void aTransactionThatConflictsEachTimeChangesNothingAndSaysSo() {
        try (Harness kv = withABandC()) {
            AtomicInteger attempts = new AtomicInteger();
            assertThrows(
                    ConflictException.class,
                    () -> transactions(kv, 5).run(transaction -> {
                        transaction.get(A);
                        kv.applied(Command.put(A, Harness.value(attempts.incrementAndGet())));
                        transaction.put(RESULT, Harness.value(1));
                        return null;
                    }));
            assertEquals(5, attempts.get());
            assertEquals(null, kv.store.get(RESULT));
        }
    }

    @Test
    void aSnapshotThatExpiresIsAConflict() {
        try (Harness kv = withABandC()) {
            AtomicInteger attempts = new AtomicInteger();
            new Transactions(kv.store, kv.log).run(transaction -> {
                if (attempts.incrementAndGet() == 1) {
                    kv.applied(Command.put(A, Harness.value(7)));
                    kv.nanos.addAndGet(1L << 62);
                    kv.store.sweep();
                }
                transaction.put(RESULT, transaction.get(A));
                return null;
            });
            assertEquals(2, attempts.get());
            assertEquals(Harness.value(7), kv.store.get(RESULT).value());
        }
    }

    @Test
    void aRefusalIsHandedOnAndNothingChanges() {
        try (Harness kv = withABandC()) {
            long revision = kv.store.revision();
            TransactionRefusedException refused = assertThrows(
                    TransactionRefusedException.class,
                    () -> new Transactions(kv.store, kv.log).run(transaction -> {
                        transaction.put(A, Harness.value(8));
                        transaction.put(B, Harness.value(8), 4711);
                        return null;
                    }));
            assertEquals(new Result.NoLease(4711), refused.result());
            assertThrows(
                    IllegalArgumentException.class,
                    () -> new Transactions(kv.store, kv.log).run(transaction -> {
                        transaction.put(A, Harness.value(8));
                        throw new IllegalArgumentException("changed its mind");
                    }));
            assertEquals(revision, kv.store.revision());
            assertEquals(0, kv.store.counters().txns());
        }
    }

    @Test
    void aTransactionThatOnlyReadsIsNoCommand() {
        try (Harness kv = withABandC()) {
            assertEquals(Harness.value(1), new Transactions(kv.store, kv.log).run(transaction -> {
                        kv.applied(Command.put(A, Harness.value(9)));
                        return transaction.get(A);
                    }));
            assertEquals(0, kv.store.counters().txns());
        }
    }

    /** Reads of a transaction against a map with the same writes. */
    @Test
    void aTransactionReadsItsOwnWritesOverItsSnapshot() throws Exception {
        Harness.seeded(Harness.count(200, 10_000), random -> {
            try (Harness kv = new Harness()) {
                NavigableMap<Bytes, Bytes> model = new TreeMap<>();
                write(random, 20, (key, value) -> {
                    model.put(key, value);
                    kv.applied(Command.put(key, value));
                });
                new Transactions(kv.store, kv.log).run(transaction -> {
                    for (int i = 0; i < 10; i++) {
                        write(random, 3, (key, value) -> {
                            if (random.nextBoolean()) {
                                model.remove(key);
                                transaction.delete(key);
                            } else {
                                model.put(key, value);
                                transaction.put(key, value);
                            }
                        });
                        assertReadsAs(model, transaction, random);
                    }
                    return null;
                });
                Map<Bytes, Bytes> stored = new TreeMap<>();
                try (Snapshot snapshot = kv.store.snapshot()) {
                    snapshot.scan(Range.all(), false).forEachRemaining(entry -> stored.put(entry.key(), entry.value()));
                }
                assertEquals(model, stored);
            }
        });
    }

    private interface Writer {
        void write(Bytes key, Bytes value);
    }

    private static void write(SplittableRandom random, int count, Writer writer) {
        for (int i = random.nextInt(count); i >= 0; i--) {
            writer.write(Harness.key(random.nextInt(10, 30)), Harness.value(random.nextInt(1_000)));
        }
    }

    private static void assertReadsAs(
            NavigableMap<Bytes, Bytes> model, Transaction transaction, SplittableRandom random) {
        Bytes key = Harness.key(random.nextInt(10, 30));
        assertEquals(model.get(key), transaction.get(key));
        Range range = new Range(Harness.key(random.nextInt(10, 30)), Harness.key(random.nextInt(10, 30)));
        NavigableMap<Bytes, Bytes> expected =
                range.isEmpty() ? new TreeMap<>() : model.subMap(range.from(), true, range.to(), false);
        List<Map.Entry<Bytes, Bytes>> found = new ArrayList<>();
        boolean descending = random.nextBoolean();
        transaction.scan(range, descending).forEachRemaining(found::add);
        assertEquals(List.copyOf((descending ? expected.descendingMap() : expected).entrySet()), List.copyOf(found));
    }

    /** Serializable under load: money moves between accounts, some of which are opened and closed, and none is lost. */
    @Test
    void theTotalOfABankStaysWhatItIsAtEveryRevision() throws Exception {
        Harness.seeded(Harness.count(2, 50), random -> {
            try (Harness kv = new Harness(
                    Harness.ROOMY.with(Limit.HISTORY_BYTES, 1L << 30).with(Limit.HISTORY_MILLIS, 1L << 40), true)) {
                int total = 1_000;
                kv.applied(Command.put(Harness.key(0), Harness.value(total)));
                long first = kv.store.revision();
                AtomicLong committed = new AtomicLong();
                try (Harness.Crew crew = new Harness.Crew()) {
                    for (int i = 0; i < 64; i++) {
                        SplittableRandom own = random.split();
                        crew.startVirtual(() -> {
                            for (int j = 0; j < 30; j++) {
                                long seed = own.nextLong();
                                new Transactions(kv.store, kv.log, 1_000_000).run(transaction -> {
                                    move(transaction, new SplittableRandom(seed));
                                    return null;
                                });
                                committed.incrementAndGet();
                            }
                        });
                    }
                }
                assertEquals(64 * 30, committed.get());
                for (long revision = first; revision <= kv.store.revision(); revision++) {
                    long sum = 0;
                    try (Snapshot snapshot = kv.store.snapshot(revision)) {
                        Iterator<Entry> entries = snapshot.scan(Range.all(), false);
                        while (entries.hasNext()) {
                            sum += Harness.number(entries.next());
                        }
                    }
                    assertEquals(total, sum, "at revision " + revision);
                }
                kv.store.checkInvariants();
            }
        });
    }

    /** Takes the richest account, found by a scan, and moves a part of it; an empty account is closed. */
    private static void move(Transaction transaction, SplittableRandom random) {
        Bytes richest = null;
        long most = 0;
        Iterator<Map.Entry<Bytes, Bytes>> accounts = transaction.scan(Range.all(), random.nextBoolean());
        while (accounts.hasNext()) {
            Map.Entry<Bytes, Bytes> account = accounts.next();
            long money = Long.parseLong(account.getValue().utf8());
            if (money > most) {
                richest = account.getKey();
                most = money;
            }
        }
        Bytes other = Harness.key(random.nextInt(8));
        if (other.equals(richest)) {
            return;
        }
        long moved = random.nextLong(most) + 1;
        Bytes there = transaction.get(other);
        transaction.put(other, Harness.value((there == null ? 0 : Long.parseLong(there.utf8())) + moved));
        if (moved == most) {
            transaction.delete(richest);
        } else {
            transaction.put(richest, Harness.value(most - moved));
        }
    }

    /** What it takes to find out that a range is as it was does not halve what may be read. */
    @Test
    void aTransactionMayReadARangeOfNearlyAsManyKeysAsACommandMayGoThrough() {
        for (boolean descending : new boolean[] {false, true}) {
            try (Harness kv = new Harness(Harness.ROOMY.with(Limit.REQUEST_KEYS, 100))) {
                kv.applied(new Command.Set(Harness.list(90, i -> Harness.put(Harness.key(i), Harness.value(i)))));
                Range range = Range.prefix(Bytes.utf8("key-"));
                Consumer<Transaction> reads = transaction -> readAll(transaction.scan(range, descending));
                assertEquals(1, attempts(kv, reads, Command.put(A, Harness.value(1))));
                assertEquals(2, attempts(kv, reads, Command.put(Harness.key(0), Harness.value(1))));
                assertEquals(2, attempts(kv, reads, Command.delete(Harness.key(89))));
            }
        }
    }

    /** Nothing that is said to it then would be read or written. */
    @Test
    void aTransactionIsOverWhenItsFunctionHasReturned() {
        try (Harness kv = withABandC()) {
            for (boolean writes : new boolean[] {false, true}) {
                List<Transaction> kept = new ArrayList<>();
                List<Iterator<Map.Entry<Bytes, Bytes>>> scans = new ArrayList<>();
                new Transactions(kv.store, kv.log).run(transaction -> {
                    kept.add(transaction);
                    scans.add(transaction.scan(Range.all(), false));
                    transaction.get(B);
                    if (writes) {
                        transaction.put(A, Harness.value(5));
                    }
                    return null;
                });
                Transaction over = kept.get(0);
                Counters before = kv.store.counters();
                assertThrows(IllegalStateException.class, () -> over.get(A), "its own write");
                assertThrows(IllegalStateException.class, () -> over.get(C));
                assertThrows(IllegalStateException.class, () -> over.scan(Range.all(), true));
                assertThrows(IllegalStateException.class, () -> scans.get(0).hasNext());
                assertThrows(IllegalStateException.class, () -> over.put(A, B));
                assertThrows(IllegalStateException.class, () -> over.put(A, B, 0));
                assertThrows(IllegalStateException.class, () -> over.delete(A));
                assertEquals(before, kv.store.counters());
            }
        }
    }

    /** What the function reads elsewhere, and cannot, is no conflict, and would not be better the next time. */
    @Test
    void aReadOfTheFunctionsOwnThatFailsIsHandedOnAtOnce() {
        try (Harness kv = withABandC();
                Snapshot expired = kv.store.snapshot()) {
            kv.applied(Command.put(A, Harness.value(4)));
            kv.nanos.addAndGet(1L << 62);
            kv.store.sweep();
            AtomicInteger attempts = new AtomicInteger();
            Transactions transactions = new Transactions(kv.store, kv.log);
            RevisionOutOfRangeException outOfRange = assertThrows(
                    RevisionOutOfRangeException.class,
                    () -> transactions.run(transaction -> {
                        attempts.incrementAndGet();
                        transaction.put(A, B);
                        return kv.store.read(List.of(A), 1_000);
                    }));
            assertEquals(kv.store.revision(), outOfRange.last());
            assertEquals(1, attempts.get());
            assertThrows(
                    SnapshotExpiredException.class,
                    () -> transactions.run(transaction -> {
                        attempts.incrementAndGet();
                        transaction.put(A, B);
                        return expired.get(A);
                    }));
            assertEquals(2, attempts.get());
            assertEquals(Harness.value(4), kv.store.get(A).value());
            assertEquals(0, kv.store.counters().txns());
        }
    }

    @Test
    void theTransactionOfAFunctionIsOneCommand() {
        try (Harness kv = withABandC()) {
            new Transactions(kv.store, kv.log).run(transaction -> {
                transaction.put(A, B);
                transaction.put(B, A);
                return null;
            });
            assertEquals(2, kv.store.revision());
            assertEquals(1, kv.store.counters().txns());
            assertInstanceOf(Event.Put.class, kv.store.history(A, 2, 1).get(0));
        }
    }

    @Test
    void aTransactionWhoseFunctionHasFailedIsOverToo() {
        try (Harness kv = withABandC()) {
            List<Transaction> kept = new ArrayList<>();
            assertThrows(
                    IllegalArgumentException.class,
                    () -> new Transactions(kv.store, kv.log).run(transaction -> {
                        kept.add(transaction);
                        throw new IllegalArgumentException("changed its mind");
                    }));
            assertThrows(IllegalStateException.class, () -> kept.get(0).put(A, B));
            assertThrows(IllegalStateException.class, kept.get(0)::revision);
        }
    }

    /** The inner function reads the outer transaction, whose snapshot has expired: it is the outer one that runs again. */
    @Test
    void aStaleReadIsAConflictOfTheTransactionThatWasRead() {
        try (Harness kv = withABandC()) {
            AtomicInteger outerRuns = new AtomicInteger();
            AtomicInteger innerRuns = new AtomicInteger();
            new Transactions(kv.store, kv.log).run(outer -> {
                if (outerRuns.incrementAndGet() == 1) {
                    kv.applied(Command.put(A, Harness.value(7)));
                    kv.nanos.addAndGet(1L << 62);
                    kv.store.sweep();
                }
                new Transactions(kv.store, kv.log).run(inner -> {
                    innerRuns.incrementAndGet();
                    inner.put(RESULT, outer.get(A));
                    return null;
                });
                return null;
            });
            assertEquals(2, outerRuns.get());
            assertEquals(2, innerRuns.get());
            assertEquals(Harness.value(7), kv.store.get(RESULT).value());
        }
    }
}
