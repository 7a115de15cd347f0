package homekv.storage;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.AbstractList;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.BooleanSupplier;
import java.util.function.IntFunction;

/** What the tests of the store share: a store with a log and a clock of its own, seeds, threads, child processes. */
final class Harness implements AutoCloseable {
    static final boolean FULL = Boolean.getBoolean("homekv.full");

    /** Long enough that only what hangs reaches it. Being right never depends on it. */
    private static final long HANG_SECONDS = 60;

    /** Room for everything, and no expiry but that which a test asks for; and no history window. */
    static final Limits ROOMY =
            Limits.forHeap(1L << 40).with(Limit.SNAPSHOT_MILLIS, 1L << 40).with(Limit.HISTORY_BYTES, 0);

    final AtomicLong nanos = new AtomicLong();

    /** Runs whenever the store looks at its clock; what it throws, the clock throws. */
    volatile Runnable whenClockIsRead = () -> {};

    final MvccStore store;
    final MemoryCommandLog log;

    /** A store that sweeps only when it is told to. */
    Harness(Limits limits) {
        this(limits, false);
    }

    Harness(Limits limits, boolean sweepInBackground) {
        store = new MvccStore(limits, this::readClock, sweepInBackground);
        log = new MemoryCommandLog(store);
    }

    Harness() {
        this(ROOMY);
    }

    private long readClock() {
        whenClockIsRead.run();
        return nanos.get();
    }

    @Override
    public void close() {
        store.close();
    }

    // ---- Commands ----

    static Bytes key(int number) {
        return Bytes.utf8("key-" + number);
    }

    static Bytes value(long number) {
        return Bytes.utf8(Long.toString(number));
    }

    static Bytes bytes(int length) {
        return Bytes.unsafeWrap(new byte[length]);
    }

    static long number(Entry entry) {
        return Long.parseLong(entry.value().utf8());
    }

    static Write put(Bytes key, Bytes value) {
        return new Write.Put(key, value);
    }

    static Write delete(Bytes key) {
        return new Write.Delete(key);
    }

    static Command.Set set(Write... writes) {
        return new Command.Set(List.of(writes));
    }

    static Command.Del del(Bytes... keys) {
        return new Command.Del(List.of(keys));
    }

    /** A list that computes its elements when they are asked for, so that something can happen or fail just then. */
    static <T> List<T> list(int size, IntFunction<T> elements) {
        return new AbstractList<>() {
            @Override
            public T get(int index) {
                return elements.apply(index);
            }

            @Override
            public int size() {
                return size;
            }
        };
    }

    /** Throws whatever it is given, checked or not. */
    @SuppressWarnings("unchecked")
    static <E extends Throwable> void sneakyThrow(Throwable failure) throws E {
        throw (E) failure;
    }

    /** Submits a command that must be taken. */
    Result.Applied applied(Command command) {
        return assertInstanceOf(Result.Applied.class, log.submit(command));
    }

    /** Submits a command that must be refused, and must have changed and counted nothing (S9). */
    Result.Refused refused(Command command) {
        Counters before = store.counters();
        Result.Refused refused = assertInstanceOf(Result.Refused.class, log.submit(command));
        Counters after = store.counters();
        assertEquals(before.revision(), after.revision());
        assertEquals(before.keys(), after.keys());
        assertEquals(before.keyBytes(), after.keyBytes());
        assertEquals(before.valueBytes(), after.valueBytes());
        assertEquals(before.commands(), after.commands());
        return refused;
    }

    /** No snapshot is open, so a live key holds one version and a deleted one nothing (S6), and the account is right. */
    void assertNothingHeldButLiveKeys() {
        store.sweep();
        store.checkInvariants();
        Counters counters = store.counters();
        assertEquals(counters.keys(), counters.versions(), "S6: versions held with no snapshot open");
    }

    // ---- Seeds ----

    static int count(int sample, int full) {
        return FULL ? full : sample;
    }

    interface Seeded {
        void run(SplittableRandom random) throws Exception;
    }

    /** Runs the body with so many seeds, or with the one of the system property homekv.seed. A failure names its own. */
    static void seeded(int seeds, Seeded body) throws Exception {
        Long replayed = Long.getLong("homekv.seed");
        long first = replayed != null ? replayed : System.nanoTime();
        for (int i = 0; i < (replayed != null ? 1 : seeds); i++) {
            long seed = first + i;
            try {
                body.run(new SplittableRandom(seed));
            } catch (Exception | Error e) {
                throw new AssertionError("with -Dhomekv.seed=" + seed + ": " + e.getMessage(), e);
            }
        }
    }

    // ---- Threads ----

    interface Body {
        void run() throws Exception;
    }

    /** Threads that are joined when it closes; what one of them throws is thrown there. */
    static final class Crew implements AutoCloseable {
        private final List<Thread> threads = new ArrayList<>();
        private final AtomicReference<Throwable> failure = new AtomicReference<>();

        Thread start(Body body) {
            return start(Thread.ofPlatform().daemon(), body);
        }

        Thread startVirtual(Body body) {
            return start(Thread.ofVirtual(), body);
        }

        private Thread start(Thread.Builder builder, Body body) {
            Thread thread = builder.start(() -> {
                try {
                    body.run();
                } catch (Throwable e) {
                    failure.compareAndSet(null, e);
                }
            });
            threads.add(thread);
            return thread;
        }

        /** Whether a thread has failed, so that others need not go on. */
        boolean failed() {
            return failure.get() != null;
        }

        @Override
        public void close() {
            for (Thread thread : threads) {
                join(thread);
                if (thread.isAlive()) {
                    AssertionError hangs = new AssertionError("a thread hangs");
                    hangs.setStackTrace(thread.getStackTrace());
                    throw hangs;
                }
            }
            if (failed()) {
                throw new AssertionError(failure.get());
            }
        }

        private static void join(Thread thread) {
            try {
                thread.join(TimeUnit.SECONDS.toMillis(HANG_SECONDS));
            } catch (InterruptedException e) {
                throw new AssertionError(e);
            }
        }
    }

    /** Waits for what another thread is going to bring about. */
    static void await(String what, BooleanSupplier condition) {
        long endNanos = System.nanoTime() + TimeUnit.SECONDS.toNanos(HANG_SECONDS);
        while (!condition.getAsBoolean()) {
            assertTrue(System.nanoTime() < endNanos, () -> "never happens: " + what);
            Thread.yield();
        }
    }

    // ---- Child processes ----

    /** Runs a program of the tests in a JVM of its own, on the class path, and fails unless it exits with 0. */
    static void child(Class<?> program, List<String> jvmFlags, String... arguments) throws Exception {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(jvmFlags);
        Set<String> classPath = new LinkedHashSet<>();
        for (String type : List.of(
                MvccStore.class.getName(),
                program.getName(),
                "org.junit.jupiter.api.Assertions",
                "org.junit.platform.commons.JUnitException",
                "org.opentest4j.AssertionFailedError")) {
            classPath.add(root(Class.forName(type)).toString());
        }
        command.addAll(List.of("-cp", String.join(File.pathSeparator, classPath), program.getName()));
        command.addAll(Arrays.asList(arguments));
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        process.getOutputStream().close();
        AtomicReference<String> output = new AtomicReference<>("");
        try (Crew crew = new Crew()) {
            crew.start(() -> output.set(new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8)));
            if (!process.waitFor((FULL ? 50 : 5) * HANG_SECONDS, TimeUnit.SECONDS)) {
                process.destroyForcibly();
            }
        }
        assertEquals(0, process.waitFor(), () -> String.join(" ", command) + "\n" + output.get());
    }

    /** The folder or jar that a class was loaded from, also where the module of the tests is patched into the store's. */
    static Path root(Class<?> type) throws URISyntaxException {
        String resource = "/" + type.getName().replace('.', '/') + ".class";
        String location = type.getResource(resource).toString();
        String root = location.substring(0, location.length() - resource.length());
        return Path.of(new URI(root.startsWith("jar:") ? root.substring("jar:".length(), root.length() - 1) : root));
    }
}
