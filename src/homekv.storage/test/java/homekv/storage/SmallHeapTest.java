package homekv.storage;

import static homekv.storage.Harness.ROOMY;
import static homekv.storage.Harness.await;
import static homekv.storage.Harness.bytes;
import static homekv.storage.Harness.key;
import static homekv.storage.Harness.put;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledForJreRange;
import org.junit.jupiter.api.condition.JRE;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Stores in JVMs of their own with heaps so small that what is not dropped or not accounted for kills them: S6, S7, S11. */
class SmallHeapTest {
    // ---- Flat ----

    /** S6, S13: ten million overwrites of a thousand keys in a heap that has room for a fraction of them. */
    @ParameterizedTest(name = "pinned: {0}, with a history window: {1}")
    @CsvSource({"false, false", "true, false", "true, true"})
    void memoryStaysFlatUnderTenMillionOverwrites(String pinned, String window) throws Exception {
        Harness.child(
                FlatProgram.class,
                List.of("-Xmx64m"),
                "overwrite",
                pinned,
                window,
                Integer.toString(Harness.count(10_000_000, 100_000_000)));
    }

    /** S6, S13 */
    @ParameterizedTest(name = "pinned: {0}, with a history window: {1}")
    @CsvSource({"false, false", "true, false", "false, true"})
    void memoryStaysFlatUnderEndlessDeletingAndCreating(String pinned, String window) throws Exception {
        Harness.child(
                FlatProgram.class,
                List.of("-Xmx64m"),
                "recreate",
                pinned,
                window,
                Integer.toString(Harness.count(2_000_000, 50_000_000)));
    }

    static final class FlatProgram {
        private static final int KEYS = 1_000;

        /** More than what one command leaves for the next ones to drop. */
        private static final long SLACK_BYTES = 64 << 10;

        private FlatProgram() {}

        public static void main(String[] args) {
            boolean recreate = args[0].equals("recreate");
            boolean pinned = Boolean.parseBoolean(args[1]);
            boolean window = Boolean.parseBoolean(args[2]);
            int writes = Integer.parseInt(args[3]);
            Limits limits = Limits.defaults().with(Limit.SNAPSHOT_MILLIS, 1L << 40);
            if (!window) {
                limits = limits.with(Limit.HISTORY_BYTES, 0);
            }
            try (Harness kv = new Harness(limits, true)) {
                List<Bytes> keys = MvccStoreTest.keys(KEYS);
                kv.applied(new Command.Set(
                        keys.stream().map(key -> put(key, number(-1))).toList()));
                Snapshot snapshot = pinned ? kv.store.snapshot() : null;
                kv.applied(new Command.Set(
                        keys.stream().map(key -> put(key, number(0))).toList()));
                kv.applied(new Command.Compact(2));
                kv.store.sweep();
                long held = kv.store.counters().heldBytes();
                long mostHeld = held + limits.historyBytes() + SLACK_BYTES;
                int versionsAKey = pinned ? 2 : 1;
                // Every command writes a few keys, the next ones round the ring.
                int next = 0;
                for (int written = 0; written < writes; ) {
                    int size = 1 + written % 16;
                    List<Write> writesOfOne = new ArrayList<>(size);
                    List<Bytes> deleted = new ArrayList<>(size);
                    for (int i = 0; i < size; i++, written++, next = (next + 1) % KEYS) {
                        writesOfOne.add(put(keys.get(next), number(written)));
                        deleted.add(keys.get(next));
                    }
                    if (recreate) {
                        assertEquals(size, kv.applied(new Command.Del(deleted)).deletedKeys());
                    }
                    kv.applied(new Command.Set(writesOfOne));
                    Counters counters = kv.store.counters();
                    if (window ? counters.heldBytes() > mostHeld : counters.versions() != versionsAKey * KEYS) {
                        throw new AssertionError(counters);
                    }
                }
                if (window) {
                    assertTrue(kv.store.counters().compactRevision() > 2, "the window has never been full");
                    assertTrue(kv.store.counters().heldBytes() > limits.historyBytes() / 2, "the window is used");
                    kv.store.checkInvariants();
                    kv.applied(new Command.Compact(kv.store.revision()));
                    kv.store.sweep();
                    assertEquals(versionsAKey * KEYS, kv.store.counters().versions());
                }
                kv.store.sweep();
                // Where a deleted key leaves nothing behind, each has been put once now; before, it had been put twice.
                boolean putOnce = recreate && !pinned && !window;
                long spare = putOnce ? KEYS * new Footprint(false, 0).spareBytes() : 0;
                assertEquals(held, kv.store.counters().heldBytes() + spare);
                assertEquals(KEYS, kv.store.counters().keys());
                kv.store.checkInvariants();
                if (pinned) {
                    for (Bytes key : keys) {
                        assertEquals(number(-1), snapshot.get(key).value());
                    }
                    snapshot.close();
                }
                kv.assertNothingHeldButLiveKeys();
            }
        }

        /** Of the same length for every number, so that the bytes held can be compared. */
        private static Bytes number(int number) {
            return Bytes.unsafeWrap(ByteBuffer.allocate(100).putInt(number).array());
        }
    }

    /** S6: what a client keeps of a key keeps neither the versions of the key nor its place in the store. */
    @Test
    void keysThatAreKeptByClientsKeepNoVersions() throws Exception {
        Harness.child(KeptKeysProgram.class, List.of("-Xmx32m"));
    }

    static final class KeptKeysProgram {
        private KeptKeysProgram() {}

        public static void main(String[] args) {
            List<Bytes> kept = new ArrayList<>();
            try (Harness kv = new Harness()) {
                for (int i = 0; i < 1_000; i++) {
                    kv.applied(Harness.set(put(key(i), bytes(100_000))));
                    try (Snapshot snapshot = kv.store.snapshot()) {
                        kept.add(snapshot.scan(Range.all(), i % 2 == 0).next().key());
                    }
                    if (i % 3 == 0) {
                        kv.applied(Harness.set(put(key(i), bytes(100_000))));
                    }
                    kv.applied(Harness.del(key(i)));
                }
                assertEquals(0, kv.store.counters().heldBytes());
            }
            Reference.reachabilityFence(kept);
        }
    }

    // ---- Account ----

    private enum Load {
        SMALL_VALUES,
        LARGE_KEYS,
        LARGE_KEYS_WAITING,
        SMALL_VALUES_WAITING,
        TOMBSTONES,
        ONE_BY_ONE_IN_THE_WINDOW,
        MANY_AT_ONCE_IN_THE_WINDOW,
        VALUES_OVER_HALF_A_REGION,
        VALUES_OVER_A_REGION
    }

    /** S7: what the account says is held is what the heap has grown by, to within twelve per cent. */
    @ParameterizedTest
    @EnumSource(Load.class)
    void theAccountIsWhatTheHeapHolds(Load load) throws Exception {
        account(load, false);
    }

    /** S7 */
    @ParameterizedTest
    @EnumSource(
            value = Load.class,
            names = {"SMALL_VALUES", "SMALL_VALUES_WAITING", "TOMBSTONES", "ONE_BY_ONE_IN_THE_WINDOW"})
    @EnabledForJreRange(min = JRE.JAVA_25, disabledReason = "compact headers are the JVM's from 25 on")
    void theAccountIsWhatTheHeapHoldsWithCompactHeaders(Load load) throws Exception {
        account(load, true);
    }

    private static void account(Load load, boolean compactHeaders) throws Exception {
        List<String> flags =
                new ArrayList<>(List.of("-Xmx700m", "-Xms700m", "-XX:+UseG1GC", "-XX:G1HeapRegionSize=1m"));
        if (compactHeaders) {
            flags.add("-XX:+UseCompactObjectHeaders");
        }
        Harness.child(AccountProgram.class, flags, load.name(), Boolean.toString(compactHeaders));
    }

    static final class AccountProgram {
        private AccountProgram() {}

        public static void main(String[] args) {
            Load wanted = Load.valueOf(args[0]);
            boolean window = wanted == Load.ONE_BY_ONE_IN_THE_WINDOW || wanted == Load.MANY_AT_ONCE_IN_THE_WINDOW;
            Harness kv = new Harness(ROOMY.withHeapRegionBytes(1 << 20)
                    .withCompactHeaders(Boolean.parseBoolean(args[1]))
                    .with(Limit.HISTORY_BYTES, window ? 1 << 30 : 0));
            kv.applied(Harness.set(put(Harness.key(0), bytes(1))));
            kv.applied(Harness.del(Harness.key(0)));
            long before = usedHeapBytes();
            Snapshot snapshot = load(kv, wanted);
            long grownBytes = usedHeapBytes() - before;
            long heldBytes = kv.store.counters().heldBytes();
            kv.store.checkInvariants();
            System.out.println(args[0] + ": the heap has grown by " + grownBytes + ", held are " + heldBytes);
            assertTrue(grownBytes > 20_000_000, "too little to measure");
            assertTrue(Math.abs(grownBytes - heldBytes) < 0.12 * grownBytes, "the account is wrong");
            Reference.reachabilityFence(snapshot);
            Reference.reachabilityFence(kv);
        }

        private static Snapshot load(Harness kv, Load load) {
            return switch (load) {
                case SMALL_VALUES, ONE_BY_ONE_IN_THE_WINDOW -> fill(kv, 300_000, 12, 8);
                case MANY_AT_ONCE_IN_THE_WINDOW -> {
                    for (int i = 0; i < 300_000; i += 3) {
                        kv.applied(Harness.set(
                                put(key(i, 12), bytes(8)),
                                put(key(i + 1, 12), bytes(8)),
                                put(key(i + 2, 12), bytes(8))));
                    }
                    yield kv.store.snapshot();
                }
                case LARGE_KEYS -> fill(kv, 3_000, 20_000, 8);
                case LARGE_KEYS_WAITING -> overwritten(kv, 3_000, 20_000, 8);
                case SMALL_VALUES_WAITING -> overwritten(kv, 100_000, 12, 8);
                case TOMBSTONES -> {
                    Snapshot snapshot = fill(kv, 150_000, 12, 8);
                    for (int i = 0; i < 150_000; i++) {
                        kv.applied(Harness.del(key(i, 12)));
                    }
                    yield snapshot;
                }
                case VALUES_OVER_HALF_A_REGION -> fill(kv, 100, 12, 600_000);
                case VALUES_OVER_A_REGION -> fill(kv, 50, 12, 1_100_000);
            };
        }

        private static Snapshot fill(Harness kv, int keys, int keyBytes, int valueBytes) {
            for (int i = 0; i < keys; i++) {
                kv.applied(Harness.set(put(key(i, keyBytes), bytes(valueBytes))));
            }
            return kv.store.snapshot();
        }

        private static Snapshot overwritten(Harness kv, int keys, int keyBytes, int valueBytes) {
            Snapshot snapshot = fill(kv, keys, keyBytes, valueBytes);
            // With keys of their own, as they come in requests.
            fill(kv, keys, keyBytes, valueBytes).close();
            return snapshot;
        }

        private static Bytes key(int number, int length) {
            return Bytes.unsafeWrap(ByteBuffer.allocate(length).putInt(number).array());
        }

        private static long usedHeapBytes() {
            for (int i = 0; i < 3; i++) {
                System.gc();
            }
            return Runtime.getRuntime().totalMemory() - Runtime.getRuntime().freeMemory();
        }
    }

    /** S9: a store with the default limits, filled by somebody who means it ill, refuses before the heap is exhausted. */
    @ParameterizedTest
    @CsvSource({"96m, 1, 1", "200m, 60000, 1", "200m, 100, 1000", "96m, 20, 400000"})
    void aStoreWithDefaultLimitsRefusesBeforeTheHeapIsExhausted(String heap, String keyBytes, String valueBytes)
            throws Exception {
        Harness.child(FillProgram.class, List.of("-Xmx" + heap, "-XX:+UseSerialGC"), keyBytes, valueBytes);
    }

    static final class FillProgram {
        private FillProgram() {}

        public static void main(String[] args) {
            int keyBytes = Math.max(4, Integer.parseInt(args[0]));
            int valueBytes = Integer.parseInt(args[1]);
            try (Harness kv = new Harness(Limits.defaults(), true)) {
                List<Snapshot> open = new ArrayList<>();
                int keys = 0;
                Result result = null;
                while (!(result instanceof Result.Refused)) {
                    result = kv.log.submit(Harness.set(put(AccountProgram.key(keys, keyBytes), bytes(valueBytes))));
                    keys++;
                }
                // Now over and over the same, under snapshots, with values that are as large and a little smaller.
                for (int round = 0; round < 3; round++) {
                    open.add(kv.store.snapshot());
                    for (int i = 0; i < keys - 1; i++) {
                        Bytes key = AccountProgram.key(i, keyBytes);
                        kv.applied(Harness.set(put(key, bytes(valueBytes - (valueBytes > 9 ? round : 0)))));
                    }
                }
                open.forEach(Snapshot::close);
                for (int i = 0; i < keys; i++) {
                    kv.applied(Harness.del(AccountProgram.key(i, keyBytes)));
                }
                kv.applied(new Command.Compact(kv.store.revision()));
                kv.assertNothingHeldButLiveKeys();
                assertEquals(0, kv.store.counters().heldBytes());
            }
        }
    }

    // ---- Exhausted ----

    /**
     * S11: the heap runs out again and again, in the middle of commands and sweeps, and nothing is lost by it. The
     * collector is the one that gives out the heap to the last few bytes.
     */
    @ParameterizedTest(name = "with a history window: {0}")
    @ValueSource(booleans = {false, true})
    void aHeapThatIsExhaustedAnywhereLosesNothing(boolean window) throws Exception {
        Harness.child(
                ExhaustedProgram.class,
                List.of("-Xmx16m", "-XX:+UseSerialGC"),
                Integer.toString(Harness.count(window ? 2 : 4, 100)),
                Boolean.toString(window));
    }

    /**
     * Makes a few commands, takes all memory but some bytes, submits them, lets go of the memory, and looks whether
     * those that failed have left nothing and the others everything. The limit lies far above the heap, so that none is
     * refused.
     */
    static final class ExhaustedProgram {
        private static final int GROUPS = 300;
        private static final int KEYS_A_GROUP = 5;
        private static final int COMMANDS_A_ROUND = 8;

        private static final int LEASES = 3;

        private final SplittableRandom random = new SplittableRandom(1);
        private final Harness kv;
        private final Snapshot[] open = new Snapshot[8];
        private final List<List<Bytes>> groups = new ArrayList<>();

        /** What all keys of a group have as their value; 0: they are absent. */
        private final long[] numbers = new long[GROUPS];

        private long lastNumber;
        private int failures;

        private ExhaustedProgram(boolean window) {
            kv = new Harness(window ? ROOMY.with(Limit.HISTORY_BYTES, 1 << 20) : ROOMY, true);
            for (int lease = 1; lease <= LEASES; lease++) {
                kv.applied(new Command.Grant(lease, 1L << 40));
            }
            for (int group = 0; group < GROUPS; group++) {
                List<Bytes> keys = new ArrayList<>();
                for (int i = 0; i < KEYS_A_GROUP; i++) {
                    keys.add(AccountProgram.key(group + GROUPS * i, 8));
                }
                groups.add(keys);
            }
        }

        public static void main(String[] args) {
            ExhaustedProgram program = new ExhaustedProgram(Boolean.parseBoolean(args[1]));
            int rounds = Integer.parseInt(args[0]);
            // Everything is loaded while there is memory for it.
            for (int round = 0; round < 200; round++) {
                program.round(false);
            }
            program.checkSwept();
            for (int round = 0; round < rounds || program.failures < rounds; round++) {
                assertTrue(round < 100 * rounds, "the heap is never exhausted");
                program.round(true);
                if (round % 2 == 1) {
                    program.checkSwept();
                }
            }
            program.checkSwept();
            System.out.println(program.failures + " commands failed");
        }

        private void round(boolean exhausted) {
            int[] group = new int[COMMANDS_A_ROUND];
            long[] number = new long[COMMANDS_A_ROUND];
            Command[] commands = new Command[COMMANDS_A_ROUND];
            Result[] results = new Result[COMMANDS_A_ROUND];
            for (int i = 0; i < COMMANDS_A_ROUND; i++) {
                group[i] = random.nextInt(GROUPS);
                number[i] = random.nextInt(3) == 0 ? 0 : ++lastNumber;
                commands[i] = command(groups.get(group[i]), number[i]);
            }
            int slot = random.nextInt(open.length);
            Object[] ballast = exhausted ? leave(takeAll(), random.nextInt(1 << random.nextInt(14))) : null;
            for (int i = 0; i < COMMANDS_A_ROUND; i++) {
                try {
                    results[i] = kv.log.submit(commands[i]);
                } catch (OutOfMemoryError e) {
                    failures++;
                }
            }
            try {
                if (open[slot] != null) {
                    open[slot].close();
                    open[slot] = null;
                } else {
                    open[slot] = kv.store.snapshot();
                }
                kv.store.sweep();
            } catch (OutOfMemoryError e) {
                // As if it had not been tried; the background sweep is to make it good.
            }
            Reference.reachabilityFence(ballast);
            ballast = null;
            for (int i = 0; i < COMMANDS_A_ROUND; i++) {
                if (results[i] != null) {
                    int deletedKeys = numbers[group[i]] != 0 && number[i] == 0 ? KEYS_A_GROUP : 0;
                    if (results[i] instanceof Result.Applied applied) {
                        assertEquals(deletedKeys, applied.deletedKeys());
                    } else {
                        assertTrue(((Result.Transacted) results[i]).succeeded());
                    }
                    numbers[group[i]] = number[i];
                }
            }
            check();
        }

        private Command command(List<Bytes> keys, long number) {
            boolean transaction = random.nextBoolean();
            if (number == 0) {
                return transaction
                        ? new Txn(
                                List.of(),
                                keys.stream()
                                        .<Op>map(key -> new Op.Delete(Range.key(key), true))
                                        .toList(),
                                List.of())
                        : new Command.Del(keys);
            }
            long lease = random.nextInt(1 + LEASES);
            Bytes value =
                    Bytes.unsafeWrap(ByteBuffer.allocate(100).putLong(number).array());
            return transaction
                    ? new Txn(
                            List.of(new Compare.Count(Range.all(), Compare.Operator.GREATER, -1)),
                            keys.stream()
                                    .<Op>map(key -> new Op.Put(key, value, lease, true))
                                    .toList(),
                            List.of())
                    : new Command.Set(keys.stream()
                            .<Write>map(key -> new Write.Put(key, value, lease))
                            .toList());
        }

        /** Arrays, each with the one before it as its first element, the last ones the smallest. */
        private static Object[] takeAll() {
            Object[] last = null;
            for (int length = 1 << 17; length >= 2; ) {
                try {
                    Object[] next = new Object[length];
                    next[0] = last;
                    last = next;
                } catch (OutOfMemoryError e) {
                    length /= 8;
                }
            }
            return last;
        }

        private static Object[] leave(Object[] last, int bytes) {
            Object[] kept = last;
            for (int left = bytes; kept != null && left > 0; kept = (Object[]) kept[0]) {
                left -= 16 + 4 * kept.length;
            }
            return kept;
        }

        private void check() {
            long keys = 0;
            for (int group = 0; group < GROUPS; group++) {
                for (Entry entry : kv.store.get(groups.get(group)).entries()) {
                    long actual = entry == null
                            ? 0
                            : ByteBuffer.wrap(entry.value().unsafeArray()).getLong();
                    if (actual != numbers[group]) {
                        throw new AssertionError("group " + group + ": " + actual + " and not " + numbers[group]);
                    }
                }
                keys += numbers[group] == 0 ? 0 : KEYS_A_GROUP;
            }
            assertEquals(keys, kv.store.counters().keys());
            kv.store.checkInvariants();
            try (Snapshot snapshot = kv.store.snapshot()) {
                List<Entry> up = ModelTest.list(snapshot.scan(Range.all(), false));
                assertEquals(keys, up.size());
                assertEquals(up.reversed(), ModelTest.list(snapshot.scan(Range.all(), true)));
            }
        }

        private void checkSwept() {
            kv.applied(new Command.Compact(kv.store.revision()));
            for (int slot = 0; slot < open.length; slot++) {
                if (open[slot] != null) {
                    open[slot].close();
                    open[slot] = null;
                }
            }
            await(
                    "the background thread has survived and sweeps",
                    () -> kv.store.counters().versions() == kv.store.counters().keys());
            kv.assertNothingHeldButLiveKeys();
        }
    }
}
