package homekv.cli;

import homekv.rpc.HomeKvException;
import homekv.rpc.LoadGenerator;
import homekv.rpc.LoadGenerator.Callers;
import homekv.rpc.LoadGenerator.Keys;
import homekv.rpc.LoadGenerator.Outcome;
import homekv.rpc.LoadGenerator.Plan;
import java.io.IOException;
import java.math.BigDecimal;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.OptionalDouble;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/** Measures a server with a load of the user's choice: reads the plan, makes it, prints what came of it. */
final class Bench {
    static final String HELP = """
            hkvctl bench: measures a server

              hkvctl bench get|set|mixed     gets; sets; 95% gets and 5% sets

              --in-flight N                  how many calls are under way at once; 64
              --connections N                over how many connections; 1
              --keys-per-call N              how many keys each call has; 1
              --read-percent N               how much of mixed are gets; 95
              --for TIME                     how long: 500ms, 10s, 2m; 10s, or until --calls are made
              --calls N                      how many calls, at the most
              --warm-up N                    how many calls before those that are measured; 100000
              --rate N                       begins so many calls a second, whether the ones before have been answered or
                                             not, with --in-flight at the most. A call takes its time from when it was
                                             to begin, so that none is left out for coming while the server stood still
              --gather [virtual|platform]    calls are those of threads that share a client as Java programs do, one for
                                             each in flight: single gets and sets go together in one call where they can

              --key-count N                  of how many keys; 100000
              --value-bytes N                how long their values are; 100
              --zipf [THETA]                 few keys are chosen often: the rth most in proportion to 1/r^THETA, 0.99 by
                                             default; without it, each as often as any other
              --seed N                       makes the calls of a run that printed this seed again
              --prefix P                     what the keys begin with; bench/ by default. Ten digits follow
              --keep                         leaves the keys there at the end
              --overwrite                    takes keys that are there already for its own

              --json                         prints one JSON object instead of lines

            It first sets the keys, whose values are letters, and in the end deletes them; it touches no others. If one of
            them is there already, it does nothing, unless --overwrite is given. Ctrl-C ends it early: it prints what it
            has measured, and deletes the keys.

            calls_per_server_cpu_second is how many calls the server answered for each second that it took of the
            processors: unlike calls_per_second, that tells of the server alone also where it shares its machine with the
            client. The server says what it took to 10 ms; unknown where it is too old to. A latency lasts from the call's
            beginning to its answer, exact to 1%. calls_late were to begin, at a rate, and could not before the end.

            The first call that fails, or is not answered within --timeout, ends the run with that exit code. What was
            measured until then is printed.
            """;

    /** The flags that only this command takes, or that are the same for others, too. */
    static final Map<String, Arguments.Takes> FLAGS = Map.ofEntries(
            Map.entry("--in-flight", Arguments.Takes.VALUE),
            Map.entry("--connections", Arguments.Takes.VALUE),
            Map.entry("--keys-per-call", Arguments.Takes.VALUE),
            Map.entry("--read-percent", Arguments.Takes.VALUE),
            Map.entry("--for", Arguments.Takes.VALUE),
            Map.entry("--calls", Arguments.Takes.VALUE),
            Map.entry("--warm-up", Arguments.Takes.VALUE),
            Map.entry("--rate", Arguments.Takes.VALUE),
            Map.entry("--gather", Arguments.Takes.VALUE_OR_NOTHING),
            Map.entry("--key-count", Arguments.Takes.VALUE),
            Map.entry("--value-bytes", Arguments.Takes.VALUE),
            Map.entry("--zipf", Arguments.Takes.VALUE_OR_NOTHING),
            Map.entry("--seed", Arguments.Takes.VALUE),
            Map.entry("--prefix", Arguments.Takes.VALUE),
            Map.entry("--keep", Arguments.Takes.NOTHING),
            Map.entry("--overwrite", Arguments.Takes.NOTHING),
            Map.entry("--json", Arguments.Takes.NOTHING));

    private static final Pattern THETA = Pattern.compile("0?\\.[0-9]{1,9}");
    private static final String DEFAULT_PREFIX = "bench/";
    private static final Duration SHORTEST = Duration.ofMillis(1);

    private final Hkvctl.Server server;
    private final String what;
    private final Plan plan;
    private final int connections;
    private final boolean keep;
    private final boolean overwrite;
    private final boolean json;
    private final Progress progress;

    Bench(Arguments arguments, List<String> operands, Progress progress) throws UsageException {
        if (operands.size() != 1 || !List.of("get", "set", "mixed").contains(operands.get(0))) {
            throw new UsageException("write bench get, bench set or bench mixed; bench --help tells the rest");
        }
        this.server = Hkvctl.Server.of(arguments);
        this.progress = progress;
        what = operands.get(0);
        keep = arguments.has("--keep");
        overwrite = arguments.has("--overwrite");
        json = arguments.has("--json");
        connections = number(arguments, "--connections", 1, 1, LoadGenerator.MAX_CONNECTIONS);
        if (!what.equals("mixed") && arguments.has("--read-percent")) {
            throw new UsageException("only bench mixed takes --read-percent");
        }
        Keys keys = new Keys(
                Text.bytes(arguments.value("--prefix").orElse(DEFAULT_PREFIX)),
                number(arguments, "--key-count", 100_000, 1, LoadGenerator.MAX_KEYS),
                number(arguments, "--value-bytes", 100, 0, LoadGenerator.MAX_VALUE_BYTES),
                arguments.has("--zipf") ? theta(arguments.value("--zipf").orElse("0.99")) : 0);
        int readPercent = number(arguments, "--read-percent", 95, 0, 100);
        int keysPerCall = number(arguments, "--keys-per-call", 1, 1, LoadGenerator.MAX_KEYS_PER_CALL);
        int inFlight = number(arguments, "--in-flight", 64, 1, LoadGenerator.MAX_IN_FLIGHT);
        if ((long) inFlight * keysPerCall * keys.valueBytes() > LoadGenerator.MAX_BYTES_IN_FLIGHT) {
            throw new UsageException("--in-flight times --keys-per-call times --value-bytes may be "
                    + LoadGenerator.MAX_BYTES_IN_FLIGHT + " at the most");
        }
        if (arguments.has("--gather") && arguments.has("--rate")) {
            throw new UsageException("bench takes --gather or --rate, not both");
        }
        boolean callsOnly = arguments.has("--calls") && !arguments.has("--for");
        Duration duration = Arguments.time("--for", arguments.value("--for").orElse("10s"), SHORTEST);
        if (duration.compareTo(LoadGenerator.MAX_DURATION) > 0) {
            throw new UsageException("--for takes a day at the most");
        }
        plan = new Plan(
                keys,
                what.equals("get") ? 100 : what.equals("set") ? 0 : readPercent,
                keysPerCall,
                inFlight,
                arguments.has("--rate") ? arguments.number("--rate", 0, 1, LoadGenerator.MAX_CALLS_PER_SECOND) : 0,
                arguments.number("--warm-up", 100_000, 0, LoadGenerator.MAX_CALLS),
                arguments.number("--calls", LoadGenerator.MAX_CALLS, 1, LoadGenerator.MAX_CALLS),
                callsOnly ? LoadGenerator.MAX_DURATION : duration,
                arguments.number("--seed", ThreadLocalRandom.current().nextInt(1_000_000), 0, Long.MAX_VALUE),
                callers(arguments));
    }

    private static int number(Arguments arguments, String flag, int defaultValue, int min, int max)
            throws UsageException {
        return (int) arguments.number(flag, defaultValue, min, max);
    }

    private static double theta(String typed) throws UsageException {
        double theta = THETA.matcher(typed).matches() ? Double.parseDouble(typed) : 0;
        if (theta == 0) {
            throw new UsageException("--zipf takes a number between 0 and 1 such as 0.99, not " + Text.show(typed));
        }
        return theta;
    }

    private static Callers callers(Arguments arguments) throws UsageException {
        if (!arguments.has("--gather")) {
            return Callers.CALLBACKS;
        }
        String threads = arguments.value("--gather").orElse("virtual");
        return switch (threads) {
            case "virtual" -> Callers.GATHERED_VIRTUAL_THREADS;
            case "platform" -> Callers.GATHERED_PLATFORM_THREADS;
            default -> throw new UsageException("--gather takes virtual or platform, not " + Text.show(threads));
        };
    }

    int run(Output out) throws IOException, Commands.FailedException {
        try (LoadGenerator load = new LoadGenerator(server.host(), server.port(), server.timeout(), connections)) {
            String keys = plan.keys().count() + " keys from "
                    + Text.showKey(plan.keys().key(0)) + " on";
            if (!overwrite && load.hasAny(plan.keys())) {
                throw new Commands.FailedException(
                        Program.REFUSED,
                        "some of the " + keys + " are there already; take another --prefix, or let bench --overwrite"
                                + " them" + (keep ? "" : ", and delete them in the end"));
            }
            CountDownLatch done = new CountDownLatch(1);
            Hkvctl.whenInterrupted(() -> {
                load.stop();
                awaitUninterruptibly(done);
            });
            progress.say("bench sets " + keys + (keep ? "" : ", and deletes them in the end"));
            try {
                return run(load, out);
            } catch (Commands.FailedException e) {
                out.flush(); // What was measured stands in front of what then went wrong.
                progress.say("hkvctl: " + e.getMessage()); // Said here, since a process that was told to end ends next.
                return e.exitCode;
            } finally {
                out.flush();
                done.countDown();
            }
        }
    }

    private int run(LoadGenerator load, Output out) throws IOException, Commands.FailedException {
        HomeKvException failure = null;
        try {
            if (load.fill(plan.keys())) {
                Outcome outcome = load.run(plan);
                if (outcome.calls() + outcome.failedCalls() > 0) { // Else it was interrupted while it warmed up.
                    print(outcome, out);
                }
                failure = outcome.failure();
            }
        } catch (HomeKvException e) {
            failure = e;
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new Commands.FailedException(Program.REFUSED, "interrupted; the keys are still there");
        }
        String left = "";
        if (!keep) {
            try {
                load.clear(plan.keys());
            } catch (HomeKvException e) {
                failure = failure != null ? failure : e;
                left = "; the keys could not be deleted";
            }
        }
        if (failure != null) {
            throw new Commands.FailedException(Hkvctl.exitCode(failure), Text.oneLine(failure.getMessage()) + left);
        }
        return Program.DONE;
    }

    private static void awaitUninterruptibly(CountDownLatch done) {
        try {
            done.await();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt(); // Nobody interrupts the thread of a shutdown hook.
        }
    }

    // ---- What is printed ----

    private void print(Outcome outcome, Output out) throws IOException {
        Map<String, Object> lines = new LinkedHashMap<>();
        lines.put("calls_per_server_cpu_second", rounded(outcome.callsPerServerCpuSecond()));
        lines.put("calls_per_second", Math.round(outcome.callsPerSecond()));
        lines.put("keys_per_second", Math.round(outcome.keysPerSecond()));
        lines.put("latency_p50_micros", micros(outcome.latencies().percentileNanos(50)));
        lines.put("latency_p90_micros", micros(outcome.latencies().percentileNanos(90)));
        lines.put("latency_p99_micros", micros(outcome.latencies().percentileNanos(99)));
        lines.put("latency_p99_9_micros", micros(outcome.latencies().percentileNanos(99.9)));
        lines.put("latency_max_micros", micros(outcome.latencies().maxNanos()));
        lines.put("calls", outcome.calls());
        lines.put("calls_failed", outcome.failedCalls());
        lines.put("calls_late", outcome.lateCalls());
        lines.put("seconds", BigDecimal.valueOf(outcome.nanos() / 1_000_000, 3));
        lines.put(
                "server_cpu_seconds",
                outcome.serverCpuMicros().isPresent()
                        ? BigDecimal.valueOf(outcome.serverCpuMicros().getAsLong() / 10_000, 2)
                        : null);
        lines.put("client_cpu_seconds", BigDecimal.valueOf(outcome.clientCpuMicros() / 10_000, 2));
        lines.put("operation", what);
        lines.put("read_percent", plan.readPercent());
        lines.put("keys_per_call", plan.keysPerCall());
        lines.put("in_flight", plan.inFlight());
        lines.put("connections", connections);
        lines.put("rate", plan.callsPerSecond() == 0 ? null : plan.callsPerSecond());
        lines.put("callers", plan.callers().name().toLowerCase(Locale.ROOT).replace('_', '-'));
        lines.put("key_count", plan.keys().count());
        lines.put("key_bytes", plan.keys().keyBytes());
        lines.put("value_bytes", plan.keys().valueBytes());
        lines.put("zipf", plan.keys().zipfTheta() == 0 ? null : plan.keys().zipfTheta());
        lines.put("seed", plan.seed());
        if (json) {
            out.line(lines.entrySet().stream()
                    .map(line -> '"' + line.getKey() + "\":" + inJson(line.getValue()))
                    .collect(Collectors.joining(",", "{", "}")));
            return;
        }
        for (Map.Entry<String, Object> line : lines.entrySet()) {
            boolean unknown = line.getValue() == null;
            if (!unknown || line.getKey().contains("server_cpu")) {
                out.line(line.getKey() + ": " + (unknown ? "unknown" : line.getValue()));
            }
        }
    }

    /** A number, a word of ours or null. */
    private static String inJson(Object value) {
        return value instanceof String word ? '"' + word + '"' : String.valueOf(value);
    }

    private static Object rounded(OptionalDouble number) {
        return number.isPresent() ? Math.round(number.getAsDouble()) : null;
    }

    private static BigDecimal micros(long nanos) {
        return BigDecimal.valueOf((nanos + 50) / 100, 1);
    }
}
