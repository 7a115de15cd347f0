package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.rpc.History.Action;
import homekv.rpc.History.Deleted;
import homekv.rpc.History.Found;
import homekv.rpc.History.Operation;
import homekv.rpc.History.Wrote;
import homekv.storage.Bytes;
import homekv.storage.Command;
import homekv.storage.CommandLog;
import homekv.storage.MemoryCommandLog;
import homekv.storage.MvccStore;
import homekv.storage.Result;
import homekv.storage.Write;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** Concurrent clients over real connections see one store that does one command after another (S2, S4, S5). */
class LinearizabilityTest {
    private static final int KEYS = 3;
    private static final int CLIENTS = 5;
    private static final int CONNECTIONS = 3;

    // ---- The checker sees what is wrong ----

    @Test
    void theCheckerAcceptsConcurrentOperationsInAnyOrderThatFits() {
        assertLinearizable(
                true,
                at(0, 10, 1, wrote(0, 1)),
                at(1, 9, 2, wrote(0, 2)),
                at(2, 3, 1, found(0, 1)),
                at(4, 5, 2, found(0, 2)),
                at(20, 21, 3, new Deleted(Set.of(0, 1), 1)),
                at(22, 23, 3, found(0, null)));
    }

    @Test
    void theCheckerSeesAStaleRead() {
        assertLinearizable(false, at(0, 1, 1, wrote(0, 1)), at(2, 3, 2, wrote(0, 2)), at(4, 5, 1, found(0, 1)));
    }

    @Test
    void theCheckerSeesALostUpdate() {
        // The write of 2 was answered, and afterwards nobody ever sees it or what should have followed it.
        assertLinearizable(
                false,
                at(0, 5, 1, wrote(0, 1)),
                at(6, 7, 2, wrote(0, 2)),
                at(8, 9, 3, wrote(1, 3)),
                at(10, 11, 3, found(0, 1)));
        // Two deletions of one key both say that they deleted it.
        assertLinearizable(
                false,
                at(0, 1, 1, wrote(0, 1)),
                at(2, 5, 2, new Deleted(Set.of(0), 1)),
                at(3, 6, 3, new Deleted(Set.of(0), 1)));
    }

    @Test
    void theCheckerSeesATornMultiKeyRead() {
        assertLinearizable(
                false,
                at(0, 1, 1, new Wrote(Map.of(0, 1, 1, 1))),
                at(2, 9, 2, new Wrote(Map.of(0, 2, 1, 2))),
                at(3, 4, 2, new Found(List.of(0, 1), List.of(2, 1))));
    }

    @Test
    void theCheckerSeesReadsThatGoBackWhileAWriteIsUnderWay() {
        assertLinearizable(
                false,
                at(0, 1, 1, wrote(0, 1)),
                at(2, 9, 2, wrote(0, 2)),
                at(3, 4, 2, found(0, 2)),
                at(5, 6, 1, found(0, 1)));
    }

    /** A read of a real history, answered with a value that had been overwritten before it was called. */
    @Test
    void theCheckerSeesAStaleReadPlantedInARealHistory() throws Exception {
        try (Harness kv = new Harness()) {
            List<HomeKvClient> connections = connect(kv);
            int planted = 0;
            for (int round = 0; planted < 10; round++) {
                assertTrue(round < 1_000, "no history has a place for a stale read");
                History stale = withStaleRead(record(connections, new SplittableRandom(round), 12));
                if (stale != null) {
                    assertFalse(stale.isLinearizable(), () -> describe(stale));
                    planted++;
                }
            }
        }
    }

    /** A server that does the keys of a set one after another is found out. */
    @Test
    void theCheckerFindsAServerThatTearsItsWrites() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY, Tearing::new)) {
            List<HomeKvClient> connections = connect(kv);
            boolean found = false;
            for (int round = 0; !found; round++) {
                assertTrue(round < 200, "200 histories of a server that tears its writes look right");
                found = !record(connections, new SplittableRandom(round), 12).isLinearizable();
            }
        }
    }

    /** Applies every write by itself, and lets readers in between. */
    private record Tearing(MvccStore store, CommandLog log) implements CommandLog {
        private static final int PATIENCE_SPINS = 100_000;

        Tearing(MvccStore store) {
            this(store, new MemoryCommandLog(store));
        }

        @Override
        public Result submit(Command command) {
            if (!(command instanceof Command.Set set)) {
                return log.submit(command);
            }
            Result last = null;
            for (Write write : set.writes()) {
                last = log.submit(new Command.Set(List.of(write)));
                long gets = store.counters().gets();
                for (int i = 0; i < PATIENCE_SPINS && store.counters().gets() == gets; i++) {
                    Thread.onSpinWait();
                }
            }
            return last;
        }
    }

    private static void assertLinearizable(boolean expected, Operation... operations) {
        History history = new History(KEYS, List.of(operations));
        assertEquals(expected, history.isLinearizable());
        assertEquals(expected, history.contradiction() == null, history.contradiction());
    }

    private static Operation at(long calledNanos, long answeredNanos, long revision, Action action) {
        return new Operation(calledNanos, answeredNanos, OptionalLong.of(revision), action);
    }

    private static Wrote wrote(int key, int value) {
        return new Wrote(Map.of(key, value));
    }

    private static Found found(int key, Integer value) {
        return new Found(List.of(key), Arrays.asList(value));
    }

    /** The history with one single-key answer replaced by an outdated one, or null if there is no place for it. */
    private static History withStaleRead(History history) {
        List<Operation> operations = history.operations();
        for (int i = 0; i < operations.size(); i++) {
            Operation read = operations.get(i);
            for (Operation old : operations) {
                for (Operation newer : operations) {
                    if (read.action() instanceof Found found
                            && old.action() instanceof Wrote first
                            && newer.action() instanceof Wrote second
                            && old.answeredNanos() < newer.calledNanos()
                            && newer.answeredNanos() < read.calledNanos()) {
                        int key = found.keys().get(0);
                        if (first.values().get(key) != null && second.values().containsKey(key)) {
                            List<Integer> values = new ArrayList<>(found.values());
                            values.set(0, first.values().get(key));
                            List<Operation> changed = new ArrayList<>(operations);
                            changed.set(
                                    i,
                                    new Operation(
                                            read.calledNanos(),
                                            read.answeredNanos(),
                                            read.revision(),
                                            new Found(found.keys(), values)));
                            return new History(KEYS, changed);
                        }
                    }
                }
            }
        }
        return null;
    }

    // ---- The server is right ----

    @Test
    void shortHistoriesAreLinearizable() throws Exception {
        try (Harness kv = new Harness()) {
            List<HomeKvClient> connections = connect(kv);
            Harness.seeded(Harness.count(100, 5_000), random -> {
                History history = record(connections, random, 12);
                assertTrue(history.isLinearizable(), () -> describe(history));
            });
        }
    }

    @Test
    void longHistoriesAreInTheOrderOfTheirRevisions() throws Exception {
        Harness.seeded(Harness.count(3, 100), random -> {
            try (Harness kv = new Harness()) {
                History history = record(connect(kv), random, 2_000);
                assertNull(history.contradiction());
            }
        });
    }

    // ---- Calls that one client gathers ----

    @Test
    void theCheckerSeesPutsThatShareARevisionAndMustNot() {
        assertNull(new History(KEYS, List.of(at(0, 3, 1, wrote(0, 1)), at(1, 2, 1, wrote(1, 2)))).contradiction());
        assertNotNull(new History(KEYS, List.of(at(0, 3, 1, wrote(0, 1)), at(1, 2, 1, wrote(0, 2)))).contradiction());
        assertNotNull(new History(KEYS, List.of(at(0, 3, 1, wrote(0, 1)), at(1, 2, 1, new Wrote(Map.of(1, 2, 2, 3)))))
                .contradiction());
    }

    @Test
    void shortHistoriesOfGatheredCallsAreLinearizable() throws Exception {
        try (Harness kv = new Harness()) {
            List<HomeKvClient> one = List.of(kv.client());
            long carriedOutBefore = kv.store.counters().gets();
            AtomicInteger gets = new AtomicInteger();
            Harness.seeded(Harness.count(150, 10_000), random -> {
                History history = record(one, random, 12, 1);
                assertTrue(history.isLinearizable(), () -> describe(history));
                history.operations().forEach(operation -> gets.addAndGet(operation.action() instanceof Found ? 1 : 0));
            });
            assertTrue(kv.store.counters().gets() - carriedOutBefore < gets.get(), "no calls were gathered");
        }
    }

    @Test
    void longHistoriesOfGatheredCallsAreInTheOrderOfTheirRevisions() throws Exception {
        Harness.seeded(Harness.count(3, 100), random -> {
            try (Harness kv = new Harness()) {
                History history = record(List.of(kv.client()), random, 2_000, 1);
                assertNull(history.contradiction());
            }
        });
    }

    private static String describe(History history) {
        StringBuilder text = new StringBuilder("not linearizable:\n");
        history.operations().forEach(operation -> text.append(operation).append('\n'));
        return text.toString();
    }

    private static List<HomeKvClient> connect(Harness kv) {
        return Stream.generate(kv::client).limit(CONNECTIONS).toList();
    }

    /** Lets clients loose on a store whose keys are absent, and returns what they did and were answered. */
    private static History record(List<HomeKvClient> connections, SplittableRandom random, int operationsPerClient)
            throws Exception {
        return record(connections, random, operationsPerClient, KEYS);
    }

    /** The same with at most so many keys an operation. */
    private static History record(
            List<HomeKvClient> connections, SplittableRandom random, int operationsPerClient, int keysPerOperation)
            throws Exception {
        AtomicInteger lastValue = new AtomicInteger();
        try (ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor()) {
            connections.get(0).del(List.of(key(0), key(1), key(2)));
            List<Future<List<Operation>>> clients = new ArrayList<>();
            for (int i = 0; i < CLIENTS; i++) {
                HomeKvClient client = connections.get(i % connections.size());
                SplittableRandom own = random.split();
                clients.add(threads.submit(() -> play(client, own, lastValue, operationsPerClient, keysPerOperation)));
            }
            List<Operation> operations = new ArrayList<>();
            for (Future<List<Operation>> client : clients) {
                operations.addAll(client.get());
            }
            return new History(KEYS, operations);
        }
    }

    private static List<Operation> play(
            HomeKvClient client, SplittableRandom random, AtomicInteger lastValue, int operations, int keys)
            throws Exception {
        List<Operation> done = new ArrayList<>();
        for (int i = 0; i < operations; i++) {
            done.add(
                    switch (random.nextInt(5)) {
                        case 0, 1 -> set(client, random, lastValue, keys);
                        case 2 -> del(client, random, keys);
                        default -> get(client, random, keys);
                    });
        }
        return done;
    }

    private static Operation set(HomeKvClient client, SplittableRandom random, AtomicInteger lastValue, int keys)
            throws Exception {
        Map<Integer, Integer> values = new HashMap<>();
        for (int key : keys == 1 ? List.<Integer>of() : someKeys(random, keys)) {
            values.put(key, random.nextInt(4) == 0 ? null : lastValue.incrementAndGet());
        }
        values.put(random.nextInt(KEYS), lastValue.incrementAndGet()); // Never deletions only: it takes a revision.
        List<Write> writes = new ArrayList<>();
        values.forEach((key, value) -> writes.add(
                value == null ? new Write.Delete(key(key)) : new Write.Put(key(key), Bytes.utf8(value.toString()))));
        return timed(() -> client.set(writes), written -> written.revision(), written -> new Wrote(values));
    }

    private static Operation del(HomeKvClient client, SplittableRandom random, int most) throws Exception {
        Set<Integer> keys = new TreeSet<>(someKeys(random, most));
        List<Bytes> named = keys.stream().map(LinearizabilityTest::key).toList();
        return timed(
                () -> client.del(named),
                written -> written.revision(),
                written -> new Deleted(keys, written.deleted().getAsLong()));
    }

    private static Operation get(HomeKvClient client, SplittableRandom random, int most) throws Exception {
        List<Integer> keys = someKeys(random, most);
        List<Bytes> named = keys.stream().map(LinearizabilityTest::key).toList();
        return timed(() -> client.get(named), found -> found.revision(), found -> {
            List<Integer> values = new ArrayList<>();
            found.values().forEach(value -> values.add(value == null ? null : Integer.valueOf(value.utf8())));
            return new Found(keys, values);
        });
    }

    private static <T> Operation timed(Callable<T> call, Function<T, OptionalLong> revision, Function<T, Action> action)
            throws Exception {
        long calledNanos = System.nanoTime();
        T answer = call.call();
        long answeredNanos = System.nanoTime();
        return new Operation(calledNanos, answeredNanos, revision.apply(answer), action.apply(answer));
    }

    private static List<Integer> someKeys(SplittableRandom random, int most) {
        List<Integer> keys = new ArrayList<>();
        for (int i = 1 + random.nextInt(most); i > 0; i--) {
            keys.add(random.nextInt(KEYS));
        }
        return keys;
    }

    private static Bytes key(int number) {
        return Bytes.utf8("key-" + number);
    }
}
