package homekv.rpc;

import static homekv.rpc.ListAppend.Anomaly.G0;
import static homekv.rpc.ListAppend.Anomaly.G1A;
import static homekv.rpc.ListAppend.Anomaly.G1B;
import static homekv.rpc.ListAppend.Anomaly.G1C;
import static homekv.rpc.ListAppend.Anomaly.G2;
import static homekv.rpc.ListAppend.Anomaly.G_SINGLE;
import static homekv.rpc.ListAppend.Anomaly.INCOMPATIBLE;
import static homekv.rpc.ListAppend.Anomaly.LOST;
import static homekv.rpc.ListAppend.Anomaly.REAL_TIME;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.rpc.ListAppend.Append;
import homekv.rpc.ListAppend.Outcome;
import homekv.rpc.ListAppend.Read;
import homekv.rpc.ListAppend.Step;
import homekv.rpc.ListAppend.Transaction;
import homekv.storage.Bytes;
import homekv.storage.Compare;
import homekv.storage.ConflictException;
import homekv.storage.Entry;
import homekv.storage.Op;
import homekv.storage.OpResult;
import homekv.storage.Range;
import homekv.storage.Txn;
import homekv.storage.Write;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;

/** S17 over the wire: histories of concurrent clients have no anomaly; and the search for them finds planted ones. */
class SerializabilityTest {
    // ---- The search itself ----

    private static Append append(int key, int value) {
        return new Append(key, value);
    }

    private static Read read(int key, Integer... found) {
        return new Read(key, List.of(found));
    }

    /** All called before any is answered, so that only what they saw orders them. */
    private static Transaction concurrent(Step... steps) {
        return Transaction.committed(0, 10, steps);
    }

    private static Transaction finalRead(Read... reads) {
        return Transaction.committed(20, 30, reads);
    }

    private static void assertFinds(Set<ListAppend.Anomaly> expected, Transaction... history) {
        assertEquals(expected, ListAppend.anomalies(List.of(history)));
    }

    @Test
    void aSerialHistoryHasNoAnomaly() {
        assertFinds(
                Set.of(),
                Transaction.committed(0, 1, append(1, 1), append(2, 1)),
                Transaction.committed(2, 3, read(1, 1), append(1, 2), read(1, 1, 2)),
                Transaction.committed(4, 5, read(1, 1, 2), read(2, 1)));
    }

    @Test
    void writesOverWritesInBothDirectionsAreG0() {
        assertFinds(
                Set.of(G0),
                concurrent(append(1, 1), append(2, 1)),
                concurrent(append(1, 2), append(2, 2)),
                finalRead(read(1, 1, 2), read(2, 2, 1)));
    }

    @Test
    void aReadOfAnAbortedWriteIsG1a() {
        assertFinds(
                Set.of(G1A), new Transaction(0, 10, Outcome.ABORTED, List.of(append(1, 1))), concurrent(read(1, 1)));
    }

    @Test
    void aReadOfAnUnfinishedWriteIsG1b() {
        assertFinds(
                Set.of(G1B, G_SINGLE),
                concurrent(append(1, 1), append(1, 2)),
                concurrent(read(1, 1)),
                finalRead(read(1, 1, 2)));
    }

    @Test
    void twoThatReadEachOthersWritesAreG1c() {
        assertFinds(Set.of(G1C), concurrent(append(1, 1), read(2, 1)), concurrent(append(2, 1), read(1, 1)));
    }

    @Test
    void aReadOfHalfATransactionIsGSingle() {
        assertFinds(
                Set.of(G_SINGLE),
                concurrent(append(1, 1), append(2, 1)),
                concurrent(read(1, 1), read(2)),
                finalRead(read(1, 1), read(2, 1)));
    }

    @Test
    void writeSkewIsG2() {
        assertFinds(
                Set.of(G2),
                concurrent(read(1), append(2, 1)),
                concurrent(read(2), append(1, 1)),
                finalRead(read(1, 1), read(2, 1)));
    }

    @Test
    void aReadOfThePastIsFoundByTheClock() {
        assertFinds(
                Set.of(REAL_TIME),
                Transaction.committed(0, 1, append(1, 1)),
                Transaction.committed(2, 3, read(1)),
                finalRead(read(1, 1)));
    }

    @Test
    void whatNoOrderExplainsAndWhatIsMissingAreFound() {
        assertFinds(
                Set.of(INCOMPATIBLE, G_SINGLE),
                concurrent(append(1, 1)),
                concurrent(append(1, 2)),
                concurrent(read(1, 2)),
                concurrent(read(1, 1, 2)));
        assertFinds(Set.of(LOST), concurrent(append(1, 1)), finalRead(read(1)));
        assertFinds(Set.of(INCOMPATIBLE), concurrent(read(1, 7)));
    }

    @Test
    void anUnansweredTransactionMayOrMayNotHaveHappened() {
        Transaction unknown = new Transaction(0, Long.MAX_VALUE, Outcome.UNKNOWN, List.of(append(1, 1)));
        assertFinds(Set.of(), unknown, finalRead(read(1, 1)));
        assertFinds(Set.of(), unknown, finalRead(read(1)));
    }

    // ---- Histories of a server ----

    private static Bytes key(int key) {
        return Bytes.utf8("list-" + key);
    }

    private static List<Integer> list(Bytes value) {
        return value == null
                ? List.of()
                : Arrays.stream(value.utf8().split(",")).map(Integer::valueOf).toList();
    }

    private static List<Integer> list(Entry entry) {
        return list(entry == null ? null : entry.value());
    }

    private static Bytes value(List<Integer> list, int appended) {
        List<String> values = new ArrayList<>();
        list.forEach(value -> values.add(Integer.toString(value)));
        values.add(Integer.toString(appended));
        return Bytes.utf8(String.join(",", values));
    }

    @Test
    void historiesOfConcurrentClientsAreStrictlySerializable() throws Exception {
        Harness.seeded(Harness.count(3, 100), random -> {
            try (Harness kv = new Harness();
                    HomeKvClient first = kv.client();
                    HomeKvClient second = kv.client()) {
                List<Transaction> history = Collections.synchronizedList(new ArrayList<>());
                AtomicInteger values = new AtomicInteger();
                int keys = 2 + random.nextInt(4);
                try (Harness.Crew crew = new Harness.Crew()) {
                    for (int i = 0; i < 8; i++) {
                        SplittableRandom own = random.split();
                        HomeKvClient client = i % 2 == 0 ? first : second;
                        crew.start(() -> {
                            for (int j = 0; j < 25; j++) {
                                history.add(transaction(client, own, keys, values));
                            }
                        });
                    }
                }
                List<Step> all = new ArrayList<>();
                long called = System.nanoTime();
                for (int key = 0; key < keys; key++) {
                    all.add(new Read(
                            key, list(first.get(List.of(key(key))).values().get(0))));
                }
                history.add(new Transaction(called, System.nanoTime(), Outcome.COMMITTED, all));
                assertEquals(Set.of(), ListAppend.anomalies(history));
            }
        });
    }

    private static Transaction transaction(
            HomeKvClient client, SplittableRandom random, int keys, AtomicInteger values) {
        long called = System.nanoTime();
        List<Step> steps = new ArrayList<>();
        Outcome outcome = switch (random.nextInt(3)) {
            case 0 -> readAtOnce(client, random, keys, steps);
            case 1 -> appendIfUnchanged(client, random, keys, values.incrementAndGet(), steps);
            default -> interactive(client, random, keys, values, steps);
        };
        return new Transaction(called, System.nanoTime(), outcome, steps);
    }

    /** Several reads in one call, each another step. */
    private static Outcome readAtOnce(HomeKvClient client, SplittableRandom random, int keys, List<Step> steps) {
        List<Op> ops = new ArrayList<>();
        List<Integer> read = random.ints(3, 0, keys).boxed().toList();
        read.forEach(key -> ops.add(new Op.Get(key(key))));
        HomeKvClient.Transacted transacted = client.transact(new Txn(List.of(), ops, List.of()));
        for (int i = 0; i < read.size(); i++) {
            steps.add(new Read(
                    read.get(i), list(((OpResult.Got) transacted.results().get(i)).entry())));
        }
        return Outcome.COMMITTED;
    }

    /** Reads, and in a second call appends if nobody else has meanwhile. */
    private static Outcome appendIfUnchanged(
            HomeKvClient client, SplittableRandom random, int keys, int appended, List<Step> steps) {
        int key = random.nextInt(keys);
        Bytes before = client.get(List.of(key(key))).values().get(0);
        Compare unchanged = before == null ? Compare.absent(key(key)) : Compare.valueIs(key(key), before);
        HomeKvClient.Transacted transacted = client.transact(new Txn(
                List.of(unchanged), List.of(new Op.Put(key(key), value(list(before), appended), 0, false)), List.of()));
        if (transacted.succeeded()) {
            steps.add(new Read(key, list(before)));
        }
        steps.add(new Append(key, appended));
        return transacted.succeeded() ? Outcome.COMMITTED : Outcome.ABORTED;
    }

    private static Outcome interactive(
            HomeKvClient client, SplittableRandom random, int keys, AtomicInteger values, List<Step> steps) {
        long seed = random.nextLong();
        try {
            client.transact(transaction -> {
                SplittableRandom own = new SplittableRandom(seed);
                steps.clear(); // What an attempt did that is followed by another has not happened.
                for (int i = 1 + own.nextInt(4); i > 0; i--) {
                    int key = own.nextInt(keys);
                    List<Integer> found =
                            list(own.nextBoolean() ? transaction.get(key(key)) : scanned(transaction, key));
                    steps.add(new Read(key, found));
                    if (own.nextInt(3) > 0) {
                        int appended = values.incrementAndGet();
                        transaction.put(key(key), value(found, appended));
                        steps.add(new Append(key, appended));
                    }
                }
                return null;
            });
            return Outcome.COMMITTED;
        } catch (ConflictException conflict) {
            return Outcome.ABORTED;
        }
    }

    private static Bytes scanned(homekv.storage.Transaction transaction, int key) {
        var found = transaction.scan(Range.key(key(key)), false);
        return found.hasNext() ? found.next().getValue() : null;
    }

    // ---- A bank ----

    /** 64 clients move money between accounts, in one call or in several, and none is lost or made at any revision. */
    @Test
    void theTotalOfABankIsTheSameAtEveryRevision() throws Exception {
        Harness.seeded(Harness.count(1, 20), random -> {
            int accounts = 16;
            long total = accounts * 100L;
            try (Harness kv = new Harness()) {
                HomeKvClient first = kv.client();
                List<Write> opening = new ArrayList<>();
                for (int i = 0; i < accounts; i++) {
                    opening.add(new Write.Put(key(i), Bytes.utf8("100")));
                }
                long from = first.set(opening).revision().getAsLong();
                List<HomeKvClient> clients = List.of(first, kv.client(), kv.client(), kv.client());
                try (Harness.Crew crew = new Harness.Crew()) {
                    for (int i = 0; i < 64; i++) {
                        HomeKvClient client = clients.get(i % clients.size());
                        SplittableRandom own = random.split();
                        crew.start(() -> {
                            for (int j = 0; j < 10; j++) {
                                move(client, key(own.nextInt(accounts)), key(own.nextInt(accounts)), own);
                                assertEquals(total, sum(client.scan(ScanOptions.of(Range.all()))));
                            }
                        });
                    }
                }
                long last = kv.store.revision();
                assertTrue(last > from + 64, "hardly any money was moved");
                for (long revision = from; revision <= last; revision++) {
                    assertEquals(
                            total, sum(first.scan(ScanOptions.of(Range.all()).at(revision))), "revision " + revision);
                }
            }
        });
    }

    private static long sum(ReadStream<Entry> accounts) {
        long sum = 0;
        try (accounts) {
            while (accounts.hasNext()) {
                sum += Long.parseLong(accounts.next().value().utf8());
            }
        }
        return sum;
    }

    private static void move(HomeKvClient client, Bytes from, Bytes to, SplittableRandom random) {
        long amount = random.nextInt(1, 50);
        if (random.nextBoolean()) {
            client.transact(new Txn(
                    List.of(), List.of(new Op.Increment(from, -amount), new Op.Increment(to, amount)), List.of()));
            return;
        }
        try {
            client.transact(transaction -> {
                long left = Long.parseLong(transaction.get(from).utf8()) - amount;
                transaction.put(from, Bytes.utf8(Long.toString(left)));
                long there = Long.parseLong(transaction.get(to).utf8()) + amount;
                transaction.put(to, Bytes.utf8(Long.toString(there)));
                return null;
            });
        } catch (ConflictException conflict) {
            // Others were faster each time, and nothing has been moved.
        }
    }
}
