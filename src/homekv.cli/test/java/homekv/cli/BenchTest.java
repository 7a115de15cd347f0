package homekv.cli;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.storage.Bytes;
import homekv.storage.Command;
import homekv.storage.CommandLog;
import homekv.storage.Limits;
import homekv.storage.MemoryCommandLog;
import homekv.storage.Result;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.IntConsumer;
import java.util.function.UnaryOperator;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** hkvctl bench against a server in this process: what it prints, which keys it touches, how it ends. */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class BenchTest {
    private static final int REFUSED = 1;
    private static final int UNREACHABLE = 5;

    private static final Limits ROOMY = Limits.forHeap(1L << 40);
    private static final Bytes OTHER = Bytes.utf8("bench/other");

    /** A run that is over soon. */
    private static Harness.Run bench(Harness kv, String... args) {
        List<String> all = new ArrayList<>(List.of("bench", "--calls", "300", "--key-count", "200", "--warm-up", "50"));
        all.addAll(List.of(args));
        return kv.hkvctl(all);
    }

    /** What was printed, by name. */
    private static Map<String, String> lines(Harness.Run run) {
        Map<String, String> lines = new LinkedHashMap<>();
        for (String line : run.out().split("\n")) {
            assertTrue(line.matches("[a-z0-9_]+: [a-z0-9.-]+"), line);
            assertNull(lines.put(line.split(": ")[0], line.split(": ")[1]));
        }
        return lines;
    }

    private static void put(Harness kv, Bytes key) throws IOException {
        new MemoryCommandLog(kv.store).submit(Command.put(key, Bytes.utf8("mine")));
    }

    /** Has every command carried out after {@code before} has been told how many there were with it. */
    private static UnaryOperator<CommandLog> counted(IntConsumer before) {
        AtomicInteger count = new AtomicInteger();
        return log -> new CommandLog() {
            @Override
            public Result submit(Command command) {
                before.accept(count.incrementAndGet());
                return log.submit(command);
            }
        };
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "get",
                "set --connections 4",
                "mixed --read-percent 50 --keys-per-call 10",
                "get --zipf",
                "mixed --zipf 0.5 --in-flight 1",
                "get --rate 1000000",
                "get --gather",
                "set --gather platform --in-flight 16",
                "get --value-bytes 0 --prefix \\xff",
            })
    void eachLoadPrintsWhatItMeasuredAndDeletesItsKeysAndNoOther(String load) throws IOException {
        try (Harness kv = new Harness()) {
            put(kv, OTHER);
            Harness.Run run = bench(kv, load.split(" "));
            assertEquals(0, run.exitCode(), run.err());
            assertTrue(
                    run.err().matches("bench sets 200 keys from \\S+0000000000 on, and deletes them in the end\n"),
                    run.err());
            Map<String, String> lines = lines(run);
            assertEquals(
                    "calls_per_server_cpu_second", lines.keySet().iterator().next());
            assertEquals("300", lines.get("calls"));
            assertEquals("0", lines.get("calls_failed"));
            assertEquals(load.split(" ")[0], lines.get("operation"));
            assertTrue(Double.parseDouble(lines.get("latency_p50_micros")) > 0);
            assertEquals(1, kv.store.counters().keys());
            assertEquals(Bytes.utf8("mine"), kv.value(OTHER));
        }
    }

    @Test
    void aSeedIsPrintedAndMayBeGiven() throws IOException {
        try (Harness kv = new Harness()) {
            assertTrue(lines(bench(kv, "get")).containsKey("seed"));
            assertEquals("77", lines(bench(kv, "get", "--seed", "77")).get("seed"));
        }
    }

    @Test
    void withJsonItPrintsTheSameNamesInOneObject() throws IOException {
        try (Harness kv = new Harness()) {
            String json = bench(kv, "get", "--json").out();
            assertTrue(json.matches("\\{(\"[a-z0-9_]+\":(\"[a-z-]+\"|[0-9.]+|null),?)+\\}\n"), json);
            assertFalse(json.contains(",}"), json);
            List<String> names = new ArrayList<>();
            Matcher name = Pattern.compile("\"([a-z0-9_]+)\":").matcher(json);
            while (name.find()) {
                names.add(name.group(1));
            }
            names.removeAll(List.of("rate", "zipf")); // These have lines only where they are given.
            assertEquals(List.copyOf(lines(bench(kv, "get")).keySet()), names);
        }
    }

    @Test
    void keysThatAreThereAlreadyAreOverwrittenOnlyOnRequest() throws IOException {
        try (Harness kv = new Harness()) {
            Bytes own = Bytes.utf8("bench/0000000150");
            put(kv, own);
            Harness.Run refused = bench(kv, "get");
            refused.failed(REFUSED, "bench/0000000000", "--overwrite", "--prefix");
            assertEquals(1, kv.store.counters().revision());
            assertEquals(0, bench(kv, "get", "--overwrite", "--keep").exitCode());
            assertEquals(200, kv.store.counters().keys());
            assertEquals(100, kv.value(own).length());
            assertEquals(0, bench(kv, "get", "--overwrite").exitCode());
            assertEquals(0, kv.store.counters().keys());
        }
    }

    @Test
    void aServerThatGoesAwayEndsItWithOneLineAfterWhatWasMeasured() throws IOException {
        AtomicReference<Harness> server = new AtomicReference<>();
        try (Harness kv = new Harness(ROOMY, counted(count -> {
            if (count == 100) {
                server.get().server.close();
                // Until the connection has been closed, this call might be answered yet.
                assertDoesNotThrow(server.get().server::awaitStop);
            }
        }))) {
            server.set(kv);
            Harness.Run run = kv.hkvctl(List.of(
                    "bench", "set", "--calls", "300", "--key-count", "200", "--warm-up", "0", "--in-flight", "1"));
            assertEquals(UNREACHABLE, run.exitCode());
            assertTrue(
                    run.err().matches("bench sets [^\n]*\nhkvctl: [^\n]*127.0.0.1:[^\n]*could not be deleted\n"),
                    run.err());
            Map<String, String> lines = lines(run);
            assertEquals("98", lines.get("calls"), "those after the one that sets the keys");
            assertEquals("1", lines.get("calls_failed"));
            assertEquals("unknown", lines.get("server_cpu_seconds"));
        }
    }

    @Test
    void ofAServerOfTheOriginalKindWhatItTookIsUnknown() throws IOException {
        byte[][] absent = new byte[200][];
        Arrays.fill(absent, Http2.field(1, Http2.field(1, "k")));
        byte[] metrics = Http2.field(1, Http2.field(1, 3), Http2.field(2, 0), Http2.field(3, 1));
        try (Http2.Server server = Http2.Server.of((method, request) -> switch (method) {
            case "Get" -> Http2.Answer.of(absent);
            case "Metrics" -> Http2.Answer.of(metrics);
            // Set and Del; and this server reads the name of a method only when it comes for the first time.
            default -> Http2.Answer.of(Http2.field(1, 1));
        })) {
            Harness.Run run = Harness.run(
                    List.of(("bench set -p " + server.port() + " --calls 30 --key-count 200 --warm-up 0").split(" ")));
            assertEquals(0, run.exitCode(), run.err());
            Map<String, String> lines = lines(run);
            assertEquals("30", lines.get("calls"));
            assertEquals("unknown", lines.get("calls_per_server_cpu_second"));
            assertEquals("unknown", lines.get("server_cpu_seconds"));
        }
    }

    /** As Ctrl-C does, SIGTERM ends it from outside. */
    @Test
    void aRunThatIsInterruptedPrintsWhatItMeasuredAndDeletesItsKeys() throws Exception {
        CountDownLatch come = new CountDownLatch(1);
        try (Harness kv = new Harness(ROOMY, counted(count -> {
            if (count == 1_000) {
                come.countDown();
            }
        }))) {
            put(kv, OTHER);
            Harness.Run run = interrupted(kv, come, "--warm-up", "0");
            assertTrue(Long.parseLong(lines(run).get("calls")) >= 800, run.out());
            assertEquals("0", lines(run).get("calls_failed"));
            assertEquals(1, kv.store.counters().keys());
        }
    }

    @Test
    void aRunThatIsInterruptedSaysWhereItCouldNotDeleteItsKeys() throws Exception {
        CountDownLatch come = new CountDownLatch(1);
        AtomicReference<Harness> server = new AtomicReference<>();
        UnaryOperator<CommandLog> goneAtTheFirstDeletion = log -> new CommandLog() {
            @Override
            public Result submit(Command command) {
                come.countDown();
                if (command instanceof Command.Del) {
                    server.get().server.close();
                }
                return log.submit(command);
            }
        };
        try (Harness kv = new Harness(ROOMY, goneAtTheFirstDeletion)) {
            server.set(kv);
            Harness.Run run = interrupted(kv, come, "--warm-up", "0");
            assertTrue(run.err().matches("bench sets [^\n]*\nhkvctl: [^\n]*could not be deleted\n"), run.err());
        }
    }

    @Test
    void aRunThatIsInterruptedWhileItWarmsUpHasMeasuredNothingAndPrintsNothing() throws Exception {
        CountDownLatch come = new CountDownLatch(1);
        try (Harness kv = new Harness(ROOMY, counted(count -> {
            if (count == 1_000) {
                come.countDown();
            }
        }))) {
            assertEquals("", interrupted(kv, come, "--warm-up", "1000000000").out());
            assertEquals(0, kv.store.counters().keys());
        }
    }

    /** A run without an end in a process of its own, which is told to end once {@code come} is at 0. */
    private static Harness.Run interrupted(Harness kv, CountDownLatch come, String... args) throws Exception {
        List<String> all = new ArrayList<>(List.of("bench", "set", "--for", "60m", "--key-count", "1000"));
        all.addAll(List.of("-p", Integer.toString(kv.port())));
        all.addAll(List.of(args));
        List<String> command =
                Harness.java(Hkvctl.class, List.of("-XX:+UseSerialGC", "-Xmx64m"), all.toArray(String[]::new));
        try (Harness.Child child = new Harness.Child("hkvctl", Map.of(), command)) {
            come.await();
            child.terminate();
            Harness.Run run = child.end();
            assertEquals(128 + 15, run.exitCode());
            return run;
        }
    }
}
