package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import com.google.protobuf.Empty;
import homekv.rpc.proto.DelRequest;
import homekv.rpc.proto.GetRequest;
import homekv.rpc.proto.HomeKvServiceGrpc;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceBlockingStub;
import homekv.rpc.proto.Metrics;
import homekv.rpc.proto.Record;
import homekv.rpc.proto.SetRequest;
import homekv.storage.CommandLog;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.MemoryCommandLog;
import homekv.storage.MvccStore;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyChannelBuilder;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.SplittableRandom;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Executor;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.BooleanSupplier;
import java.util.function.Function;
import java.util.logging.Handler;
import java.util.logging.Level;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import java.util.logging.SimpleFormatter;
import org.junit.jupiter.api.function.Executable;

/**
 * What the tests of the server share: a server with a store of its own, clients of it, seeds, threads.
 *
 * <p>As long as one is open, every log record from WARNING on and every exception that ends a thread is kept, and
 * closing it fails if there was one that the test had not expected.
 */
final class Harness implements AutoCloseable {
    static final boolean FULL = Boolean.getBoolean("homekv.full");

    /** Long enough that only what hangs reaches it. Being right never depends on it. */
    static final long HANG_SECONDS = Long.getLong("homekv.hang", 60);

    /** Room for everything. */
    static final Limits ROOMY = Limits.forHeap(1L << 40);

    final MvccStore store;
    final HomeKvServer server;
    private final Troubles troubles = Troubles.listen();
    private final List<AutoCloseable> clients = new ArrayList<>();

    Harness(Limits limits) throws IOException {
        this(limits, MemoryCommandLog::new);
    }

    Harness(Limits limits, Function<MvccStore, CommandLog> log) throws IOException {
        this(limits, log, CarriedThreads::of, Thread.ofVirtual().factory());
    }

    /** With threads from {@code threads} for all calls. */
    Harness(Limits limits, Function<MvccStore, CommandLog> log, ThreadFactory threads) throws IOException {
        this(limits, log, loop -> threads, threads);
    }

    Harness(
            Limits limits,
            Function<MvccStore, CommandLog> log,
            Function<Executor, ThreadFactory> briefThreads,
            ThreadFactory threads)
            throws IOException {
        store = new MvccStore(limits);
        server = new HomeKvServer(
                new InetSocketAddress(InetAddress.getLoopbackAddress(), 0),
                store,
                log.apply(store),
                briefThreads,
                threads);
    }

    Harness() throws IOException {
        this(ROOMY);
    }

    @Override
    public void close() throws Exception {
        for (AutoCloseable client : clients) {
            client.close();
        }
        server.close();
        server.awaitStop();
        store.close();
        troubles.close();
    }

    // ---- Clients ----

    int port() {
        return server.address().getPort();
    }

    /** A connection that gRPC makes. */
    ManagedChannel channel() {
        ManagedChannel channel = NettyChannelBuilder.forAddress(server.address())
                .usePlaintext()
                .maxInboundMessageSize(Integer.MAX_VALUE)
                .build();
        clients.add(() -> {
            channel.shutdownNow();
            assertTrue(channel.awaitTermination(HANG_SECONDS, TimeUnit.SECONDS));
        });
        return channel;
    }

    HomeKvServiceBlockingStub stub() {
        return HomeKvServiceGrpc.newBlockingStub(channel());
    }

    /** A connection that says whatever the test wants. */
    RawHttp2 raw() throws IOException {
        RawHttp2 raw = new RawHttp2(server.address());
        clients.add(raw);
        return raw;
    }

    HomeKvClient client() {
        InetSocketAddress address = server.address();
        HomeKvClient client = new HomeKvClient(
                address.getAddress().getHostAddress(), address.getPort(), java.time.Duration.ofSeconds(HANG_SECONDS));
        clients.add(client);
        return client;
    }

    // ---- Messages ----

    static ByteString bytes(String text) {
        return ByteString.copyFromUtf8(text);
    }

    static ByteString bytes(int length) {
        return ByteString.copyFrom(new byte[length]);
    }

    static Record put(String key, ByteString value) {
        return Record.newBuilder().setKey(bytes(key)).setValue(value).build();
    }

    static Record put(String key, String value) {
        return put(key, bytes(value));
    }

    static Record delete(String key) {
        return Record.newBuilder().setKey(bytes(key)).build();
    }

    static SetRequest set(Record... records) {
        return SetRequest.newBuilder().addAllRecords(List.of(records)).build();
    }

    static GetRequest get(String... keys) {
        GetRequest.Builder request = GetRequest.newBuilder();
        for (String key : keys) {
            request.addKeys(bytes(key));
        }
        return request.build();
    }

    static DelRequest del(String... keys) {
        DelRequest.Builder request = DelRequest.newBuilder();
        for (String key : keys) {
            request.addKeys(bytes(key));
        }
        return request.build();
    }

    static Metrics metrics(HomeKvServiceBlockingStub stub) {
        return stub.metrics(Empty.getDefaultInstance()).getMetrics();
    }

    // ---- What must hold ----

    static Status status(Executable call) {
        return assertThrows(StatusRuntimeException.class, call).getStatus();
    }

    /**
     * The call is refused over {@code limit}, in words that name limit, size and flag; nothing has changed, and
     * nothing has been counted.
     */
    void assertRefused(Limit limit, Object size, Executable call) {
        var before = store.counters();
        assertRefusal(limit, size, status(call));
        var after = store.counters();
        assertEquals(before.revision(), after.revision());
        assertEquals(before.keys(), after.keys());
        assertEquals(before.valueBytes(), after.valueBytes());
        assertEquals(before.gets(), after.gets(), "gets counted");
        assertEquals(before.sets(), after.sets(), "sets counted");
        assertEquals(before.dels(), after.dels(), "dels counted");
    }

    void assertRefusal(Limit limit, Object size, Status status) {
        Status.Code code = switch (limit) {
            case KEY_BYTES, VALUE_BYTES, REQUEST_KEYS, TXN_DEPTH, LEASE_MILLIS -> Status.Code.INVALID_ARGUMENT;
            default -> Status.Code.RESOURCE_EXHAUSTED;
        };
        assertEquals(code, status.getCode(), status::toString);
        String words = status.getDescription();
        String flag = "--max-" + limit.name().toLowerCase(java.util.Locale.ROOT).replace('_', '-');
        boolean flagged = limit.compareTo(Limit.MEMORY_BYTES) <= 0; // No flag of homekv sets the others.
        assertEquals(flagged, words.contains(flag), words);
        assertTrue(words.matches(".*\\b" + size + "\\b.*"), () -> words + "\n  does not name the size " + size);
        assertTrue(words.matches(".*\\b" + store.limits().get(limit) + "\\b.*"), words);
        assertNoTrace(words);
    }

    /** Waits until calls under way are charged exactly so much: a call ends for its client before it does for the server. */
    void awaitInFlight(long bytes) {
        await(bytes + " bytes in flight", () -> server.bytesInFlight() == bytes);
    }

    /** Nothing of the server's inside is told to a client. */
    static void assertNoTrace(String words) {
        assertTrue(
                words == null || !words.contains("\n") && !words.contains("at homekv") && !words.contains(".java:"),
                words);
    }

    Troubles troubles() {
        return troubles;
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
            Thread thread = Thread.ofVirtual().start(() -> {
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
        public void close() throws InterruptedException {
            for (Thread thread : threads) {
                while (!failed() && !thread.join(java.time.Duration.ofSeconds(HANG_SECONDS))) {
                    AssertionError hangs = new AssertionError("a thread hangs");
                    hangs.setStackTrace(thread.getStackTrace());
                    throw hangs;
                }
            }
            if (failed()) {
                throw new AssertionError(failure.get());
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

    // ---- Troubles ----

    /**
     * What went to the log from WARNING on, and what ended a thread. Warnings of gRPC's transport are kept apart: it
     * warns of much that a client does to its own calls, and homekv shows its log from SEVERE on.
     */
    static final class Troubles extends Handler {
        private final Queue<String> seen = new ConcurrentLinkedQueue<>();
        private final Queue<String> warnings = new ConcurrentLinkedQueue<>();
        private final Logger root = Logger.getLogger("");
        private final Handler[] handlersBefore = root.getHandlers();
        private final Thread.UncaughtExceptionHandler uncaughtBefore = Thread.getDefaultUncaughtExceptionHandler();

        private Troubles() {}

        static Troubles listen() {
            Troubles troubles = new Troubles();
            for (Handler handler : troubles.handlersBefore) {
                troubles.root.removeHandler(handler);
            }
            troubles.root.addHandler(troubles);
            Thread.setDefaultUncaughtExceptionHandler(
                    (thread, e) -> troubles.seen.add("thread " + thread + " ended by " + withTrace(e)));
            return troubles;
        }

        @Override
        public void publish(LogRecord record) {
            if (record.getLevel().intValue() >= Level.WARNING.intValue()) {
                String logger = String.valueOf(record.getLoggerName());
                boolean ofTransport = record.getLevel().equals(Level.WARNING) && logger.startsWith("io.grpc.netty.");
                (ofTransport ? warnings : seen)
                        .add(record.getLevel() + " " + logger + ": " + new SimpleFormatter().formatMessage(record)
                                + (record.getThrown() == null ? "" : " " + withTrace(record.getThrown())));
            }
        }

        private static String withTrace(Throwable e) {
            StringWriter trace = new StringWriter();
            e.printStackTrace(new PrintWriter(trace));
            return trace.toString();
        }

        /** What was seen up to now, which is forgotten. */
        List<String> take() {
            List<String> taken = List.copyOf(seen);
            seen.removeAll(taken);
            return taken;
        }

        /** Not even a warning of the transport's. */
        void assertNone() {
            assertEquals(List.of(), List.copyOf(seen));
            assertEquals(List.of(), List.copyOf(warnings));
        }

        @Override
        public void flush() {}

        @Override
        public void close() {
            root.removeHandler(this);
            for (Handler handler : handlersBefore) {
                root.addHandler(handler);
            }
            Thread.setDefaultUncaughtExceptionHandler(uncaughtBefore);
            assertEquals(List.of(), take(), "logged, or thrown out of a thread");
        }
    }
}
